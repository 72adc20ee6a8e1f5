//! Where a device keeps numbers.
//!
//! A device has two precisions. `Elem` is for operands of matrix products and activations inside a
//! branch; `Master` is for parameters and their gradients, optimizer state, the residual stream and
//! its gradient, statistics and losses. On `Cpu<f64>` and `Cpu<f32>` they are the same type; on a
//! bf16 backend `Elem` is bf16 and `Master` is f32. The type of a tensor says which it is, so code
//! that mixes them up does not compile.

use crate::real::{Element, Float, Real};
use std::ops::Range;

/// Numbers on their way to the host.
pub struct Later<T>(Box<dyn FnOnce() -> Vec<T> + Send>);

impl<T: Element> Later<T> {
    /// What `wait` does.
    pub fn new(wait: impl FnOnce() -> Vec<T> + Send + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// The numbers, when they have arrived.
    pub fn wait(self) -> Vec<T> {
        (self.0)()
    }
}

/// Buffers of a device.
pub trait Storage: Clone + Send + Sync + Sized + 'static {
    /// Operands of matrix products, activations inside a branch.
    type Elem: Float;
    /// Everything that is summed up over many steps or terms.
    type Master: Real;
    /// `n` elements on the device.
    type Buf<T: Element>: Send + Sync;

    /// Whether ops return before their work is done. The training loop then prepares a step while the
    /// device is at the one before.
    const ASYNCHRONOUS: bool = false;

    /// Device and precision in words, as in `the CPU in f32`.
    fn describe(&self) -> String;
    /// Moves host memory to the device.
    fn upload<T: Element>(&self, host: Vec<T>) -> Self::Buf<T>;
    /// Copies pieces of host memory, one after the other, to the device, each straight to where the device
    /// takes it from.
    fn upload_pieces<T: Element>(&self, pieces: &[&[T]]) -> Self::Buf<T> {
        self.upload(pieces.concat())
    }
    /// Copies device memory to the host; waits for work in flight.
    fn download<T: Element>(&self, buf: &Self::Buf<T>) -> Vec<T>;
    /// Sends a copy of the buffer as it is after all work given so far; does not wait.
    fn read_later<T: Element>(&self, buf: &Self::Buf<T>) -> Later<T> {
        let host = self.download(buf);
        Later::new(|| host)
    }
    /// `n` zeros.
    fn zeros<T: Element>(&self, n: usize) -> Self::Buf<T>;
    /// A second buffer with the same content.
    fn copy<T: Element>(&self, buf: &Self::Buf<T>) -> Self::Buf<T>;
    /// Sets every element to zero.
    fn clear<T: Element>(&self, buf: &mut Self::Buf<T>);
    /// Sets the elements of `range` to zero.
    fn clear_range<T: Element>(&self, buf: &mut Self::Buf<T>, range: Range<usize>);
    /// Number of elements.
    fn len<T: Element>(&self, buf: &Self::Buf<T>) -> usize;
    /// The parameters rounded to `Elem` for matrix products; `None` where the types are the same.
    fn narrow_copy(&self, master: &Self::Buf<Self::Master>) -> Option<Self::Buf<Self::Elem>>;
    /// Waits until all work given to the device is done.
    fn synchronize(&self);
    /// The most bytes that buffers have held at once since [`Storage::forget_peak`], where it is counted.
    fn peak_bytes(&self) -> Option<usize> {
        None
    }
    /// Counts the peak from what buffers hold now.
    fn forget_peak(&self) {}
    /// Bytes that buffers may still take, where it is known.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}
