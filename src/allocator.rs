//! How much memory is in use, and what the C library does with freed memory.

use peak_alloc::PeakAlloc;

/// Counts the bytes in use, and the most there have been.
#[global_allocator]
pub static MEMORY: PeakAlloc = PeakAlloc;

/// Keeps freed memory for the next step: by default glibc gives large blocks back to the system, and every step pays for
/// having the same pages cleared again. What will be used comes in large pages where Linux allows that to whoever asks.
/// Elsewhere nothing is changed.
///
/// Whoever sets `MALLOC_TRIM_THRESHOLD_` has chosen for themselves, and none of this is done.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_TRIM_THRESHOLD_").is_none() {
        // SAFETY: mallopt takes two numbers, may be called at any time, and ignores what it does not know.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
        ask_for_large_pages();
    }
}

/// Reserves addresses for half of the machine's memory, asks for large pages there, and gives them to the allocator. No
/// memory is taken before it is used (unless the system promises no more than it has: then half of the memory is
/// promised to this process).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn ask_for_large_pages() {
    // SAFETY: the range that is named lies in a block that is this function's until it is freed; advice changes no values,
    // and a system that cannot follow it says so and does nothing.
    unsafe {
        let (pages, size) = (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE));
        let (Ok(pages), Ok(size)) = (usize::try_from(pages), usize::try_from(size)) else { return };
        let length = pages / 2 * size;
        let block = libc::malloc(length);
        if !block.is_null() {
            let skipped = block.align_offset(size);
            libc::madvise(block.wrapping_byte_add(skipped), length.saturating_sub(skipped), libc::MADV_HUGEPAGE);
            libc::free(block);
        }
    }
}
