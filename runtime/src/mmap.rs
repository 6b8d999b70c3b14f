//! Files as bytes: mapped where the feature `mmap` is on, read otherwise; and external data below
//! a model's folder, never outside of it.
//!
//! A mapped file that is truncated while it is in use does not end the process: the part that is
//! gone reads as zeros, and the load or run that may have seen them is an error
//! ([`Mapping::is_lost`]). What a writer changes in place without shortening the file is not
//! noticed: load with `mmap(false)` where strangers may write to the file.
#![cfg_attr(feature = "mmap", allow(unsafe_code))]

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
#[cfg(all(feature = "mmap", unix))]
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use rinfer_graph::onnx::ExternalData;
use rinfer_graph::{Kind, Reason, invalid};

/// A mapping that weights point into.
#[derive(Clone)]
pub(crate) struct Mapping {
    #[cfg(all(feature = "mmap", unix))]
    map: Arc<Watched>,
}

/// A mapped file, and the place where it is noted that a part of it is gone.
#[cfg(all(feature = "mmap", unix))]
struct Watched {
    watch: Option<lost::Watch>,
    map: memmap2::Mmap,
    file: File,
}

impl Mapping {
    /// Tells the system that the pages read so far need not stay in memory: what is read again
    /// comes from the file again.
    pub fn release(&self) {
        #[cfg(all(feature = "mmap", unix))]
        // SAFETY: the mapping is private, read-only and backed by a file that was never written
        // through it, so dropped pages come back with the same content.
        unsafe {
            let _ = self.map.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed);
        }
    }

    /// Whether the file became shorter than it was when it was mapped: what was read since may be
    /// zeros.
    pub fn is_lost(&self) -> bool {
        #[cfg(all(feature = "mmap", unix))]
        {
            let gone = self.map.watch.as_ref().is_some_and(lost::Watch::is_lost);
            let shorter = |meta: std::fs::Metadata| meta.len() < self.map.map.len() as u64;
            gone || self.map.file.metadata().is_ok_and(shorter)
        }
        #[cfg(not(all(feature = "mmap", unix)))]
        false
    }
}

/// A file's bytes, and its mapping if it is mapped.
///
/// A file of more than `limit` bytes is not read; that it has too many is for the caller to find
/// out again.
pub(crate) fn open(
    path: &Path,
    map: bool,
    limit: usize,
) -> std::io::Result<(Bytes, Option<Mapping>)> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    // Mapping costs nothing, and the importer says what is wrong with a file that is too long.
    from_file(file, map || meta.len() > limit as u64)
}

#[cfg(all(feature = "mmap", unix))]
fn from_file(file: File, map: bool) -> std::io::Result<(Bytes, Option<Mapping>)> {
    if !map || file.metadata()?.len() == 0 {
        return read(file);
    }
    struct Owner(Arc<Watched>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0.map
        }
    }
    // SAFETY: the mapping is private and read-only. That the file is not changed underneath is
    // what the caller promises by choosing to map it (see the module's documentation).
    let map = unsafe { memmap2::Mmap::map(&file)? };
    let watch = lost::Watch::new(&map);
    let map = Arc::new(Watched { watch, map, file });
    Ok((Bytes::from_owner(Owner(map.clone())), Some(Mapping { map })))
}

/// Parts of mapped files that are gone.
///
/// Touching a page past the end of its file raises SIGBUS. The handler puts zeros where the rest
/// of the mapping was, notes that, and lets the reader go on; what is not ours goes to whoever
/// handled the signal before.
#[cfg(all(feature = "mmap", unix))]
mod lost {
    use std::ffi::{c_int, c_void};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

    /// A watched range of addresses; `end` 0 while it is not in use. The handler may look at any
    /// time, so a slot is filled with `end` last and emptied with `end` first.
    struct Slot {
        taken: AtomicBool,
        start: AtomicUsize,
        end: AtomicUsize,
        lost: AtomicBool,
    }

    impl Slot {
        const fn empty() -> Slot {
            Slot {
                taken: AtomicBool::new(false),
                start: AtomicUsize::new(0),
                end: AtomicUsize::new(0),
                lost: AtomicBool::new(false),
            }
        }
    }

    /// More files than one process maps.
    static SLOTS: [Slot; 1024] = [const { Slot::empty() }; 1024];
    static PAGE: AtomicUsize = AtomicUsize::new(4096);
    static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

    /// A range that is watched for as long as this lives; it must be dropped before the range is
    /// unmapped.
    pub struct Watch(usize);

    impl Watch {
        /// Watches mapped bytes; `None` if there is no room, or no handler can be had.
        pub fn new(map: &[u8]) -> Option<Watch> {
            install()?;
            let free =
                |slot: &Slot| slot.taken.compare_exchange(false, true, AcqRel, Relaxed).is_ok();
            let at = SLOTS.iter().position(free)?;
            let slot = &SLOTS[at];
            let start = map.as_ptr() as usize;
            slot.lost.store(false, Relaxed);
            slot.start.store(start, Relaxed);
            let end = (start + map.len()).next_multiple_of(PAGE.load(Relaxed));
            slot.end.store(end, Release);
            Some(Watch(at))
        }

        /// Whether a part was touched that is gone.
        pub fn is_lost(&self) -> bool {
            SLOTS[self.0].lost.load(Relaxed)
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            SLOTS[self.0].end.store(0, Release);
            SLOTS[self.0].taken.store(false, Release);
        }
    }

    /// Installs the handler, once.
    fn install() -> Option<()> {
        static DONE: OnceLock<bool> = OnceLock::new();
        let done = *DONE.get_or_init(|| {
            // SAFETY: a plain query of the system.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            PAGE.store(usize::try_from(page).unwrap_or(4096), Relaxed);
            // SAFETY: all zeros is a valid `sigaction`; the calls get valid pointers; the handler
            // does nothing but load and store atomics, map, and call what was there before.
            unsafe {
                let mut before: libc::sigaction = std::mem::zeroed();
                if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) != 0 {
                    return false;
                }
                let _ = BEFORE.set(before);
                let mut ours: libc::sigaction = std::mem::zeroed();
                ours.sa_sigaction = on_bus_error as *const () as usize;
                ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut()) == 0
            }
        });
        done.then_some(())
    }

    extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the system hands a valid `siginfo_t` to a handler with SA_SIGINFO.
        let address = unsafe { (*info).si_addr() } as usize;
        for slot in &SLOTS {
            let end = slot.end.load(Acquire);
            if end == 0 || address < slot.start.load(Relaxed) || address >= end {
                continue;
            }
            let page = address & !(PAGE.load(Relaxed) - 1);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            // SAFETY: the pages from `page` to `end` belong to a mapping that is watched and so
            // still alive; nothing but shared slices of bytes points into it, and those may read
            // zeros as well as anything.
            let made = unsafe {
                libc::mmap(page as *mut c_void, end - page, libc::PROT_READ, flags, -1, 0)
            };
            if made != libc::MAP_FAILED {
                return slot.lost.store(true, Relaxed);
            }
        }
        // SAFETY: as in `install`; the handler before is called as it asked to be.
        unsafe {
            match BEFORE.get() {
                Some(b) if b.sa_sigaction != libc::SIG_DFL && b.sa_sigaction != libc::SIG_IGN => {
                    if b.sa_flags & libc::SA_SIGINFO != 0 {
                        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                        std::mem::transmute::<usize, Handler>(b.sa_sigaction)(
                            signal, info, context,
                        );
                    } else {
                        type Handler = extern "C" fn(c_int);
                        std::mem::transmute::<usize, Handler>(b.sa_sigaction)(signal);
                    }
                }
                // The access is tried again, and ends the process as it would have.
                _ => drop(libc::signal(signal, libc::SIG_DFL)),
            }
        }
    }
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
