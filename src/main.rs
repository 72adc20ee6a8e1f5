//! The program `beit`: see `beit --help`.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;

/// The system's allocator. Where it has nothing left, the program says what to do about it, before the
/// runtime ends the process with a line that says nothing of that.
struct SayWhatToLower;

// SAFETY: every call is the system allocator's, with the caller's arguments.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for SayWhatToLower {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        said(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        said(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        said(unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

fn said(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        beit::machine::out_of_memory();
    }
    memory
}

#[global_allocator]
static ALLOCATOR: SayWhatToLower = SayWhatToLower;

fn main() -> ExitCode {
    beit::cli::main(std::env::args_os())
}
