//! Global allocator: counts memory in use, aligns large blocks to cache lines, and keeps freed memory for reuse.

use std::alloc::{GlobalAlloc, Layout};

use peak_alloc::PeakAlloc;

/// Allocator that counts the bytes in use and their peak.
pub static MEMORY: PeakAlloc = PeakAlloc;

/// Alignment of large blocks in bytes: a cache line, which is also the longest vector.
const LINE: usize = 64;
/// Size in bytes from which blocks are aligned.
const SMALLEST_ALIGNED: usize = 1024;

/// Global allocator of the command: the system's, which counts the bytes in use.
///
/// Large blocks are aligned to cache lines, because a vector that straddles two lines takes two accesses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

impl Allocator {
    /// Layout of a block with room for alignment, or `None` if the block is not aligned.
    fn padded(layout: Layout) -> Option<Layout> {
        let aligned = layout.size() >= SMALLEST_ALIGNED && layout.align() <= align_of::<*mut u8>();
        let size = layout.size().checked_add(LINE).filter(|_| aligned)?;
        Layout::from_size_align(size, align_of::<*mut u8>()).ok()
    }
}

// SAFETY: every block comes from `MEMORY` and is returned to it unchanged. An aligned pointer lies within its block,
// whose address is stored right before it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(whole) = Self::padded(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { MEMORY.alloc(layout) };
        };
        // SAFETY: the block is `LINE` bytes longer than requested and aligned to a pointer, so that 8 to 64 bytes of it
        // precede the aligned address.
        unsafe {
            let block = MEMORY.alloc(whole);
            if block.is_null() {
                return block;
            }
            let aligned = block.add(LINE - block.addr() % LINE);
            aligned.cast::<*mut u8>().sub(1).write(block);
            aligned
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; the address of a padded block is stored before its aligned pointer.
        unsafe {
            match Self::padded(layout) {
                None => MEMORY.dealloc(pointer, layout),
                Some(whole) => MEMORY.dealloc(pointer.cast::<*mut u8>().sub(1).read(), whole),
            }
        }
    }
}

/// Keeps freed memory for the next step.
///
/// By default, glibc returns large blocks to the system, and every step pays for clearing the same pages again. On
/// Linux, the heap also uses huge pages if the system allows them on request. Other systems are left as they are.
///
/// If `MALLOC_TRIM_THRESHOLD_` is set, this does nothing: the user has chosen other settings.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_TRIM_THRESHOLD_").is_none() {
        // SAFETY: mallopt takes two numbers, may be called at any time, and ignores unknown parameters.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
        advise_huge_pages();
    }
}

/// Reserves address space for half of the machine's memory, requests huge pages for it, and gives it to the allocator.
///
/// No memory is used before it is touched, except on systems without overcommit, where half of the memory is reserved
/// for this process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn advise_huge_pages() {
    // SAFETY: the advised range lies in a block that belongs to this function until it is freed. Advice changes no
    // values, and a system that cannot follow it only returns an error.
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

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    #[test]
    fn large_blocks_are_aligned_and_keep_their_content() {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for size in (SMALLEST_ALIGNED - 3..SMALLEST_ALIGNED + 3).chain([4096, 100_001, 1 << 20]) {
            let mut values = Vec::<u8>::with_capacity(size);
            assert!(size < SMALLEST_ALIGNED || values.as_ptr().addr().is_multiple_of(LINE), "{size}");
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
        // Blocks with a larger alignment than a cache line are passed through.
        assert!(Allocator::padded(Layout::from_size_align(8192, 4096).unwrap()).is_none());
    }
}
