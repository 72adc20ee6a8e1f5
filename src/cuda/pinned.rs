//! Page-locked memory, which the GPU reads and writes by itself.

use super::fault::{fail, lock, text};
use cudarc::driver::{CudaEvent, CudaStream, result};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

/// Page-locked memory.
pub(super) struct Pinned {
    start: *mut c_void,
    bytes: usize,
}

// SAFETY: plain memory, owned by whoever holds this.
unsafe impl Send for Pinned {}

impl Pinned {
    /// The first `n` elements.
    pub(super) fn slice<E: bytemuck::Pod>(&mut self, n: usize) -> &mut [E] {
        assert!(n * size_of::<E>() <= self.bytes, "page-locked memory is too small");
        // SAFETY: inside the allocation, which is aligned to a page; E is plain data, and every bit
        // pattern that was there before is a value of it.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), n) }
    }
}

/// The second stream and the page-locked memory of a device.
pub(super) struct Transfers {
    pub(super) stream: Arc<CudaStream>,
    pub(super) free: Mutex<Vec<Pinned>>,
    /// Uploads that may still be read.
    pub(super) uploads: Mutex<VecDeque<(Pinned, CudaEvent)>>,
}

impl Transfers {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, free: Mutex::default(), uploads: Mutex::default() }
    }

    /// At least `bytes` of page-locked memory.
    pub(super) fn pinned(&self, bytes: usize) -> Pinned {
        let mut free = lock(&self.free);
        let fits = free.iter().enumerate().filter(|(_, p)| p.bytes >= bytes);
        if let Some((i, _)) = fits.min_by_key(|(_, p)| p.bytes) {
            return free.swap_remove(i);
        }
        let bytes = bytes.next_power_of_two().max(4096);
        // SAFETY: freed in `drop`. Flags 0: memory that the CPU reads fast.
        let start = unsafe { result::malloc_host(bytes, 0) };
        let start = start.unwrap_or_else(|e| fail("page-locked memory", text(&e)));
        // SAFETY: just allocated; zeroed so that it holds values of any plain type.
        unsafe { start.cast::<u8>().write_bytes(0, bytes) };
        Pinned { start, bytes }
    }

    /// Takes back the memory of uploads that are done, and waits while `most` or more are not.
    pub(super) fn reclaim(&self, most: usize) {
        let mut uploads = lock(&self.uploads);
        while let Some((_, event)) = uploads.front() {
            if uploads.len() < most && !event.is_complete() {
                break;
            }
            event.synchronize().unwrap_or_else(|e| fail("copy to the GPU", text(&e)));
            let (pinned, _) = uploads.pop_front().expect("looked at");
            lock(&self.free).push(pinned);
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // Errors have nowhere to go.
        if self.stream.context().bind_to_thread().is_ok() {
            let _ = self.stream.synchronize();
            let uploads = lock(&self.uploads).drain(..).map(|(pinned, _)| pinned).collect();
            for all in [std::mem::take(&mut *lock(&self.free)), uploads] {
                for pinned in all {
                    // SAFETY: allocated in `pinned`, and nothing under way names it.
                    let _ = unsafe { result::free_host(pinned.start) };
                }
            }
        }
    }
}
