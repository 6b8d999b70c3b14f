//! Files that hold values: one module per format, chosen by the file's ending.

pub mod image;
pub mod json;
pub mod npy;
pub mod npz;
pub mod pb;
pub mod raw;
pub mod safetensors;
pub mod text;

use std::path::Path;

use crate::failure::{Code, Failure, OrFail, Result};

/// The most bytes of a file of values: what fits comfortably into memory.
const MAX_BYTES: u64 = 16 << 30;

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let meta = std::fs::metadata(path).or_fail(Code::Usage, path.display())?;
    if !meta.is_file() {
        return Err(Failure::usage(format!("{}: not a regular file", path.display())));
    }
    if meta.len() > MAX_BYTES {
        let text = format!("{}: {} bytes, the limit is {MAX_BYTES}", path.display(), meta.len());
        return Err(Failure::new(Code::Limit, text));
    }
    std::fs::read(path).or_fail(Code::Usage, path.display())
}

/// Writes a whole file, or nothing: what is cut off leaves no half a file behind.
pub fn write(path: &Path, bytes: &[u8], overwrite: bool) -> Result<()> {
    if !overwrite && path.exists() {
        let text = format!("{} exists; --overwrite replaces it", path.display());
        return Err(Failure::usage(text));
    }
    let mut part = path.as_os_str().to_os_string();
    part.push(format!(".part{}", std::process::id()));
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.or_fail(Code::Run, path.display())
}

/// The part of a file's name after its last dot, in lower case.
pub fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}
