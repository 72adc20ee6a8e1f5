//! Copies between host and device that nobody waits for.
//!
//! Both ways go through page-locked memory, which the GPU reads and writes by itself; ordinary memory
//! would make the caller wait. Large uploads have a stream of their own, so that the images of a step
//! travel while the step before is computed; the working stream waits for them on the device.

use super::device::{Device, DeviceBuffer};
use super::fault::{check_fault, fail, lock, text};
use super::pinned::Pinned;
use crate::real::Element;
use crate::storage::Later;
use cudarc::driver::{CudaEvent, result};
use std::sync::Arc;

/// Bytes from which on an upload takes the second stream.
const LARGE: usize = 1 << 20;
/// Large uploads under way at one time; the next waits for the first of them.
const UPLOADS: usize = 4;

/// A copy of pieces of host memory, one after the other, on the device, large or small.
#[track_caller]
pub(super) fn upload<E: Element>(device: &Arc<Device>, pieces: &[&[E]]) -> DeviceBuffer<E> {
    let numbers = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let bytes = numbers * size_of::<E>();
    if bytes < LARGE {
        return DeviceBuffer::upload(device, &pieces.concat());
    }
    let transfers = device.transfers();
    transfers.reclaim(UPLOADS);
    let mut pinned = transfers.pinned(bytes);
    let staged = pinned.slice(numbers);
    let mut left = &mut *staged;
    for piece in pieces {
        let (own, rest) = left.split_at_mut(piece.len());
        own.copy_from_slice(piece);
        left = rest;
    }
    let buffer = DeviceBuffer::unset_on(device, &transfers.stream, numbers);
    // SAFETY: both are `bytes` long; the staging memory is kept until the event has come.
    let copied = unsafe {
        result::memcpy_htod_async(buffer.address(), staged, transfers.stream.cu_stream())
    };
    let event = copied.and_then(|()| transfers.stream.record_event(None));
    let event = event.and_then(|event| device.stream().wait(&event).map(|()| event));
    let event = event.unwrap_or_else(|e| fail("copy to the GPU", text(&e)));
    lock(&transfers.uploads).push_back((pinned, event));
    buffer
}

/// Numbers on their way to the host.
struct Coming {
    device: Arc<Device>,
    pinned: Option<Pinned>,
    event: CudaEvent,
}

impl Drop for Coming {
    fn drop(&mut self) {
        // After a failure the memory is lost, not reused: something may still write to it.
        if let Some(pinned) = self.pinned.take()
            && self.event.synchronize().is_ok()
        {
            lock(&self.device.transfers().free).push(pinned);
        }
    }
}

/// Sends a copy of the buffer, and the word that kernels report faults in, to the host.
#[track_caller]
pub(super) fn read_later<E: Element>(device: &Arc<Device>, buffer: &DeviceBuffer<E>) -> Later<E> {
    let (n, words) = (buffer.len(), (buffer.len() * size_of::<E>()).div_ceil(8));
    device.bind();
    let mut pinned = device.transfers().pinned(8 * words + 8);
    let stream = device.stream();
    // SAFETY: each destination is as long as its source and read only after the event.
    let copied = unsafe {
        let fault = result::memcpy_dtoh_async(
            &mut pinned.slice::<u64>(words + 1)[words..],
            device.fault_address(),
            stream.cu_stream(),
        );
        let own = pinned.slice::<E>(n);
        fault.and_then(|()| match n {
            0 => Ok(()),
            _ => result::memcpy_dtoh_async(own, buffer.address(), stream.cu_stream()),
        })
    };
    let event = copied.and_then(|()| stream.record_event(None));
    let event = event.unwrap_or_else(|e| fail("copy from the GPU", text(&e)));
    let mut coming = Coming { device: device.clone(), pinned: Some(pinned), event };
    Later::new(move || {
        coming.event.synchronize().unwrap_or_else(|e| fail("a kernel", text(&e)));
        let pinned = coming.pinned.as_mut().expect("taken when dropped");
        check_fault(pinned.slice::<u64>(words + 1)[words]);
        pinned.slice(n).to_vec()
    })
}
