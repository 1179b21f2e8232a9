//! How much memory is in use, and what the C library does with freed memory.

use peak_alloc::PeakAlloc;

/// Counts the bytes in use, and the most there have been.
#[global_allocator]
pub static MEMORY: PeakAlloc = PeakAlloc;

/// Keeps freed memory for the next step: by default glibc gives large blocks back to the system, and every step pays for
/// having the same pages cleared again. Elsewhere nothing is changed.
///
/// Whoever sets `MALLOC_TRIM_THRESHOLD_` has chosen for themselves.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_TRIM_THRESHOLD_").is_none() {
        // SAFETY: mallopt takes two numbers, may be called at any time, and ignores what it does not know.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
    }
}
