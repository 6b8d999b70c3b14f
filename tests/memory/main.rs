//! What runs take in memory, held against what was planned; and memory that cannot be had. All of
//! it counts what the whole process does, so this is a process of its own, and one test.

mod models;
mod refused;
#[cfg(target_os = "linux")]
mod resident;
mod scratch;

use std::process::Command;

/// glibc keeps what is freed for a while, unless its environment says otherwise; and kernels that
/// are not optimized need more of the stack than a test's thread has.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "16384"),
    ("MALLOC_TRIM_THRESHOLD_", "16384"),
    ("RUST_MIN_STACK", "33554432"),
];

#[test]
fn memory() {
    if ENVIRONMENT.iter().any(|(name, _)| std::env::var_os(name).is_none()) {
        let mut again = Command::new(std::env::current_exe().unwrap());
        let status = again.args(["--exact", "memory", "--nocapture"]).envs(ENVIRONMENT).status();
        return assert!(status.unwrap().success(), "see above");
    }
    #[cfg(target_os = "linux")]
    {
        resident::a_run_takes_what_is_planned();
        resident::sessions_leave_nothing_behind();
    }
    scratch::no_kernel_takes_more_than_it_says();
    scratch::the_limit_is_exact();
    refused::every_request_can_be_refused();
}
