//! The program's allocator: mimalloc for small blocks, the system's own for large ones.
//!
//! mimalloc keeps blocks of one size class together, up to 512 KiB in pages of 4 MiB, for each thread. Payloads have
//! any size, so a page that still holds one of them keeps 4 MiB resident: a host that used 300 MiB had 1.5 GiB
//! resident after ten minutes of messages and sleeping states of random sizes. A large block is therefore a mapping
//! of its own, which the kernel takes back when the block is freed. It costs a call of the kernel and a fault for
//! each page, which is less than the guest's own copy of a payload of this size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;

use mimalloc::MiMalloc;

/// Bytes from which a block is large. mimalloc's pages for smaller blocks have 512 KiB.
const LARGE: usize = 64 << 10;

/// Mappings that large blocks may take, a quarter of what Linux gives a process: instances need the rest. Further
/// large blocks share the system allocator's heap.
#[cfg(target_env = "gnu")]
const MAPPINGS_MAX: i32 = 16 << 10;

/// To be set as the `#[global_allocator]`. Call [`Allocator::set_up`] first thing in `main`.
pub struct Allocator;

impl Allocator {
    /// Makes glibc give each large block a mapping of its own. Other systems' libraries do so by themselves.
    pub fn set_up() {
        #[cfg(target_env = "gnu")]
        for (option, value) in [(libc::M_MMAP_THRESHOLD, LARGE as i32), (libc::M_MMAP_MAX, MAPPINGS_MAX)] {
            // SAFETY: `mallopt` takes two numbers, and glibc locks what it changes.
            #[allow(unsafe_code)]
            let taken = unsafe { libc::mallopt(option, value) };
            debug_assert_eq!(taken, 1);
        }
    }
}

/// Whether the system's allocator has a block of this size. Callers hand in a block's layout whenever they use the
/// block, so the same one is always found again.
fn is_large(bytes: usize) -> bool {
    bytes >= LARGE
}

// SAFETY: each block is made, resized and freed by one of two allocators that keep this contract, and its size alone
// says by which (`is_large`). `realloc` between the two makes the new block first, copies what both have room for,
// and frees the old one only if there is a new one.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { if is_large(layout.size()) { System.alloc(layout) } else { MiMalloc.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { if is_large(layout.size()) { System.alloc_zeroed(layout) } else { MiMalloc.alloc_zeroed(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { if is_large(layout.size()) { System.dealloc(block, layout) } else { MiMalloc.dealloc(block, layout) } }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; a new size is the caller's to keep within what a layout may have.
        unsafe {
            match (is_large(layout.size()), is_large(size)) {
                (true, true) => System.realloc(block, layout, size),
                (false, false) => MiMalloc.realloc(block, layout, size),
                _ => {
                    let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                    if moved.is_null() {
                        return null_mut();
                    }
                    block.copy_to_nonoverlapping(moved, size.min(layout.size()));
                    self.dealloc(block, layout);
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block that grows and shrinks over the bound, by each of the four ways.
    #[test]
    #[allow(unsafe_code)]
    fn what_a_block_holds_moves_with_it() {
        let sizes = [1, 100, LARGE - 1, LARGE, LARGE + 1, 8 * LARGE, LARGE, LARGE - 1, 64];
        for align in [1, 16, 4096] {
            let layout = |size| Layout::from_size_align(size, align).expect("a small power of two");
            // SAFETY: each block is used within its size and freed once, by its own layout.
            unsafe {
                let mut block = Allocator.alloc_zeroed(layout(sizes[0]));
                assert_eq!(block.read(), 0);
                block.write(7);
                for pair in sizes.windows(2) {
                    block = Allocator.realloc(block, layout(pair[0]), pair[1]);
                    assert!(!block.is_null());
                    assert_eq!(block.align_offset(align), 0);
                    assert_eq!(block.read(), 7);
                    block.add(pair[1] - 1).write(7);
                    block.write(7);
                }
                Allocator.dealloc(block, layout(sizes[sizes.len() - 1]));
            }
        }
    }
}
