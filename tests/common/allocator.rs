//! The system allocator, counted by a test.

#![allow(unsafe_code)] // an allocator is unsafe

use std::alloc::{GlobalAlloc, Layout, System};

/// Calls the function with every piece, its size, and 1 after it was allocated or -1 before it is freed.
pub struct Counting(pub fn(piece: *mut u8, size: usize, sign: isize));

// SAFETY: the system allocator does all the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        let piece = unsafe { System.alloc(layout) };
        (self.0)(piece, layout.size(), 1);
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        (self.0)(piece, layout.size(), -1);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.dealloc(piece, layout) }
    }
}
