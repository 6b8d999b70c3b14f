//! What this machine can give: no session plans with more memory than that.
//!
//! memory = min(RAM, the control group's limit, half of the limit on address space)
//!
//! Threads' stacks and the allocator's own books take address space too: a session that took all
//! of it would end the process where an error could have been told.

use std::path::Path;

use rinfer_graph::Limits;

/// What is left of the address space for values. Where pointers have 32 bits all of it would not
/// leave room for anything else.
const SPACE: usize = usize::MAX / 8 * 7;

/// Bytes that the values of one session may take at most; most of the
/// address space where nothing is known.
pub(crate) fn memory() -> usize {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let ram = mem_total(&read("/proc/meminfo"));
    let group = read("/sys/fs/cgroup/memory.max").trim().parse().ok();
    let space = address_space(&read("/proc/self/limits")).map(|bytes: usize| bytes / 2);
    [ram, group, space].into_iter().flatten().min().unwrap_or(SPACE)
}

/// Limits of which none promises more memory than there is.
pub(crate) fn bounded(limits: Limits) -> Limits {
    Limits { memory: limits.memory.min(memory()), ..limits }
}

/// `MemTotal:       24684892 kB`
fn mem_total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// `Max address space         6442450944           6442450944           bytes`
fn address_space(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tables_are_understood() {
        assert_eq!(mem_total("MemTotal:  24684892 kB\nMemFree: 1 kB\n"), Some(24684892 << 10));
        let limits =
            |value| format!("Max data size  7 7 bytes\nMax address space {value} 9 bytes\n");
        assert_eq!(address_space(&limits("6442450944")), Some(6442450944));
        assert_eq!(address_space(&limits("unlimited")), None);
        assert_eq!((mem_total(""), address_space("")), (None, None));
    }

    #[test]
    fn some_memory_is_left() {
        assert!(memory() > 1 << 20);
    }
}
