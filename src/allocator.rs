//! How much memory is in use, where it begins, and what the C library does with freed memory.

use std::alloc::{GlobalAlloc, Layout};

use peak_alloc::PeakAlloc;

/// Counts the bytes in use, and the most there have been.
pub static MEMORY: PeakAlloc = PeakAlloc;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: Aligned = Aligned;

/// A line of the cache, in bytes: the length of the longest vectors.
const LINE: usize = 64;
/// Smaller blocks are left where they fall.
const LEAST: usize = 1024;

/// [`MEMORY`], whose larger blocks begin with a line of the cache: a vector that lies across two lines is read and written
/// twice.
struct Aligned;

impl Aligned {
    /// The layout of a block with room to begin at the next line, or none if the block stays where it is.
    fn moved(layout: Layout) -> Option<Layout> {
        let moves = layout.size() >= LEAST && layout.align() <= align_of::<*mut u8>();
        let size = layout.size().checked_add(LINE).filter(|_| moves)?;
        Layout::from_size_align(size, align_of::<*mut u8>()).ok()
    }
}

// SAFETY: blocks come from `MEMORY` and go back to it as they came; one that is moved lies within its block, whose place is
// written before it.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(whole) = Self::moved(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { MEMORY.alloc(layout) };
        };
        // SAFETY: the block has `LINE` bytes more than are asked for, and begins at a pointer's alignment: from 8 to 64 of them
        // lie before the place.
        unsafe {
            let block = MEMORY.alloc(whole);
            if block.is_null() {
                return block;
            }
            let place = block.add(LINE - block.addr() % LINE);
            place.cast::<*mut u8>().sub(1).write(block);
            place
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; what was moved has its block's place before it.
        unsafe {
            match Self::moved(layout) {
                None => MEMORY.dealloc(place, layout),
                Some(whole) => MEMORY.dealloc(place.cast::<*mut u8>().sub(1).read(), whole),
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_blocks_begin_with_a_line_and_keep_what_is_in_them() {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for size in (LEAST - 3..LEAST + 3).chain([4096, 100_001, 1 << 20]) {
            let mut values = Vec::<u8>::with_capacity(size);
            assert!(size < LEAST || values.as_ptr().addr().is_multiple_of(LINE), "{size}");
            values.extend((0..size).map(|k| k as u8));
            values.reserve_exact(3 * size);
            assert!(values.as_ptr().addr().is_multiple_of(LINE), "{size}");
            values.shrink_to_fit();
            kept.push(values);
        }
        for values in kept {
            assert!(values.iter().enumerate().all(|(k, &value)| value == k as u8), "{}", values.len());
        }
        let zeros = vec![0u64; 5000];
        assert!(zeros.as_ptr().addr().is_multiple_of(LINE) && zeros.iter().all(|&value| value == 0));
        // Blocks of more than a line's alignment are left to the system.
        assert!(Aligned::moved(Layout::from_size_align(8192, 4096).unwrap()).is_none());
    }
}
