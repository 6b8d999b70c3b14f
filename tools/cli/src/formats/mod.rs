//! Files that hold values: one module per format, chosen by the file's ending.

pub mod image;
pub mod json;
pub mod npy;
pub mod npz;
pub mod pb;
pub mod raw;
pub mod safetensors;
pub mod text;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rinfer::Model;

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

/// Writes a whole file, or nothing.
pub fn write(path: &Path, bytes: &[u8], overwrite: bool) -> Result<()> {
    let mut part = Part::create(path, overwrite)?;
    part.write_all(bytes).or_fail(Code::Run, path.display())?;
    part.finish().map(drop)
}

/// A file being written under another name: what is cut off leaves no half a file behind.
pub struct Part<'a> {
    path: &'a Path,
    part: PathBuf,
    file: File,
}

impl<'a> Part<'a> {
    /// Begins to write; `Err` if the file exists and may not be replaced.
    pub fn create(path: &'a Path, overwrite: bool) -> Result<Part<'a>> {
        if !overwrite && path.exists() {
            let text = format!("{} exists; --overwrite replaces it", path.display());
            return Err(Failure::usage(text));
        }
        let mut part = path.as_os_str().to_os_string();
        part.push(format!(".part{}", std::process::id()));
        let part = PathBuf::from(part);
        let file = File::create(&part).or_fail(Code::Run, path.display())?;
        Ok(Part { path, part, file })
    }

    /// Gives the file its name; how many bytes it has.
    pub fn finish(self) -> Result<u64> {
        let named = self.file.metadata().and_then(|meta| {
            std::fs::rename(&self.part, self.path)?;
            Ok(meta.len())
        });
        named.or_fail(Code::Run, self.path.display())
    }
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Part<'_> {
    /// Removes what was not finished; after [`Part::finish`] there is nothing of this name.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.part);
    }
}

/// Above this the weights go into a file of their own: protobuf ends at 2 GiB.
const LARGE: usize = 2000 << 20;

/// Writes a model made from the file `from`, and `OUT.data` beside it if it is large; the bytes of
/// both.
pub fn write_model(model: &Model, from: &Path, output: &Path, overwrite: bool) -> Result<usize> {
    let failed = |e| Failure::load(from, e);
    if model.weight_bytes() <= LARGE {
        let bytes = model.to_onnx().map_err(failed)?;
        write(output, &bytes, overwrite)?;
        return Ok(bytes.len());
    }
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let location = format!("{name}.data");
    let beside = output.with_file_name(&location);
    let mut file = Part::create(&beside, overwrite)?;
    let bytes = model.to_onnx_external(&location, &mut file).map_err(failed)?;
    let data = file.finish()?;
    write(output, &bytes, overwrite)?;
    Ok(bytes.len() + data as usize)
}

/// The part of a file's name after its last dot, in lower case.
pub fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}
