//! Files as bytes: mapped where the feature `mmap` is on, read otherwise; and external data below
//! a model's folder, never outside of it.
//!
//! A mapped file must not be truncated while it is in use: the system then ends the process that
//! touches the lost part. Load with `mmap(false)` where somebody else may write to the file.
#![cfg_attr(feature = "mmap", allow(unsafe_code))]

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rinfer_graph::onnx::ExternalData;
use rinfer_graph::{Kind, Reason, invalid};

/// A mapping that weights point into.
#[derive(Clone)]
pub(crate) struct Mapping {
    #[cfg(all(feature = "mmap", unix))]
    map: Arc<memmap2::Mmap>,
}

impl Mapping {
    /// Tells the system that the pages read so far need not stay in memory: what is read again
    /// comes from the file again.
    pub fn release(&self) {
        #[cfg(all(feature = "mmap", unix))]
        // SAFETY: the mapping is private, read-only and backed by a file that was never written
        // through it, so dropped pages come back with the same content.
        unsafe {
            let _ = self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed);
        }
    }
}

/// A file's bytes, and its mapping if it is mapped.
pub(crate) fn open(path: &Path, map: bool) -> std::io::Result<(Bytes, Option<Mapping>)> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    from_file(file, map)
}

#[cfg(all(feature = "mmap", unix))]
fn from_file(file: File, map: bool) -> std::io::Result<(Bytes, Option<Mapping>)> {
    if !map || file.metadata()?.len() == 0 {
        return read(file);
    }
    struct Owner(Arc<memmap2::Mmap>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    // SAFETY: the mapping is private and read-only. That the file is not changed underneath is
    // what the caller promises by choosing to map it (see the module's documentation).
    let map = Arc::new(unsafe { memmap2::Mmap::map(&file)? });
    Ok((Bytes::from_owner(Owner(map.clone())), Some(Mapping { map })))
}

#[cfg(not(all(feature = "mmap", unix)))]
fn from_file(file: File, _map: bool) -> std::io::Result<(Bytes, Option<Mapping>)> {
    read(file)
}

fn read(mut file: File) -> std::io::Result<(Bytes, Option<Mapping>)> {
    let len = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(std::io::Error::other)?;
    file.read_to_end(&mut data)?;
    Ok((Bytes::from(data), None))
}

/// External data below a folder. Each file is opened once.
pub(crate) struct Folder {
    root: PathBuf,
    map: bool,
    files: Mutex<HashMap<String, Bytes>>,
    pub mappings: Mutex<Vec<Mapping>>,
}

impl Folder {
    pub fn new(root: &Path, map: bool) -> Folder {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        Folder { root: root.into(), map, files: Mutex::default(), mappings: Mutex::default() }
    }

    /// Opens a file below the root; no link on the way, neither symbolic nor hard.
    fn open(&self, location: &str) -> Result<Bytes, Reason> {
        let bad = |what: &str| invalid!("external data {location:?}: {what}");
        let mut path = self.root.clone();
        for part in location.split('/').filter(|part| *part != ".") {
            path.push(part);
            let meta = std::fs::symlink_metadata(&path).map_err(|e| bad(&e.to_string()))?;
            if meta.is_symlink() {
                return Err(bad("a symbolic link"));
            }
        }
        let meta = std::fs::symlink_metadata(&path).map_err(|e| bad(&e.to_string()))?;
        if !meta.is_file() {
            return Err(bad("not a regular file"));
        }
        let file = open_no_follow(&path).map_err(|e| bad(&e.to_string()))?;
        let meta = file.metadata().map_err(|e| bad(&e.to_string()))?;
        if !meta.is_file() {
            return Err(bad("not a regular file"));
        }
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&meta) != 1 {
            return Err(bad("a file with more than one name"));
        }
        let (bytes, mapping) = from_file(file, self.map).map_err(|e| bad(&e.to_string()))?;
        self.mappings.lock().unwrap_or_else(|e| e.into_inner()).extend(mapping);
        Ok(bytes)
    }
}

#[cfg(unix)]
fn open_no_follow(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // A link that takes the file's place after it was looked at is not followed, a pipe does not
    // block. Values of Linux and of the BSDs (macOS among them).
    const NOFOLLOW: i32 =
        if cfg!(any(target_os = "linux", target_os = "android")) { 0x20000 } else { 0x100 };
    const NONBLOCK: i32 =
        if cfg!(any(target_os = "linux", target_os = "android")) { 0x800 } else { 0x4 };
    let arm = cfg!(any(target_arch = "aarch64", target_arch = "arm")) && cfg!(target_os = "linux");
    let nofollow = if arm { 0x8000 } else { NOFOLLOW };
    std::fs::OpenOptions::new().read(true).custom_flags(nofollow | NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open_no_follow(path: &Path) -> std::io::Result<File> {
    File::open(path)
}

impl ExternalData for Folder {
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Bytes, Reason> {
        let known = self.files.lock().unwrap_or_else(|e| e.into_inner()).get(location).cloned();
        let bytes = match known {
            Some(bytes) => bytes,
            None => {
                let bytes = self.open(location)?;
                let mut files = self.files.lock().unwrap_or_else(|e| e.into_inner());
                files.entry(location.to_string()).or_insert(bytes).clone()
            }
        };
        let size = bytes.len() as u64;
        let end = length.map_or(Some(size), |n| offset.checked_add(n));
        match end {
            Some(end) if offset <= end && end <= size => {
                Ok(bytes.slice(offset as usize..end as usize))
            }
            _ => Err(Reason::new(
                Kind::Invalid,
                format!(
                    "external data {location:?} has {size} bytes, {length:?} at {offset} are asked for"
                ),
            )),
        }
    }
}
