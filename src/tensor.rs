//! Tensors: an owned, contiguous, row-major buffer on a backend and a shape known at run time.
//!
//! There are no views, strides, broadcasting rules or operators. An op opens what it needs inside
//! itself; what a tensor means (`[B,N,C]`, `[B,H,W,C]`, ...) is said where it is made.

use crate::real::{Element, Float};
use crate::storage::{Later, Storage};

/// `[d0, d1, ...]`, row-major, of `T` on backend `B`. Without a second parameter it holds the
/// backend's `Elem`: operands of matrix products and activations inside a branch.
pub struct Tensor<B: Storage, T: Element = <B as Storage>::Elem> {
    buf: B::Buf<T>,
    shape: Vec<usize>,
}

/// A tensor in master precision: residual stream and its gradient, statistics, probabilities,
/// losses. (In bf16 a residual stream would swallow branches scaled by 1e-5 whole.)
pub type Master<B> = Tensor<B, <B as Storage>::Master>;

/// Token ids, masked positions, pooling choices, class labels.
pub type Ids<B> = Tensor<B, u32>;

/// Pixels.
pub type Bytes<B> = Tensor<B, u8>;

impl<B: Storage, T: Element> Tensor<B, T> {
    /// A tensor over `buf`. Panics where the shape does not hold its length.
    #[track_caller]
    pub fn new(bk: &B, buf: B::Buf<T>, shape: &[usize]) -> Self {
        let (len, want) = (bk.len(&buf), shape.iter().product::<usize>());
        assert_eq!(len, want, "tensor: buffer has {len} elements, shape {shape:?} has {want}");
        Self { buf, shape: shape.to_vec() }
    }

    /// Copies `host`, row-major, to the backend.
    #[track_caller]
    pub fn from_vec(bk: &B, host: Vec<T>, shape: &[usize]) -> Self {
        Self::new(bk, bk.upload(host), shape)
    }

    /// Copies these pieces, one after the other, to the backend.
    #[track_caller]
    pub fn from_pieces(bk: &B, pieces: &[&[T]], shape: &[usize]) -> Self {
        Self::new(bk, bk.upload_pieces(pieces), shape)
    }

    /// All elements zero.
    pub fn zeros(bk: &B, shape: &[usize]) -> Self {
        Self { buf: bk.zeros(shape.iter().product()), shape: shape.to_vec() }
    }

    /// Copies the elements to the host, row-major.
    pub fn to_vec(&self, bk: &B) -> Vec<T> {
        bk.download(&self.buf)
    }

    /// The elements on their way to the host, row-major; does not wait.
    pub fn read_later(&self, bk: &B) -> Later<T> {
        bk.read_later(&self.buf)
    }

    /// A second tensor with the same content.
    pub fn duplicate(&self, bk: &B) -> Self {
        Self { buf: bk.copy(&self.buf), shape: self.shape.clone() }
    }

    /// `[d0, d1, ...]`.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the last axis (1 for a scalar).
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows when all axes but the last are taken as one.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product()
    }

    /// The same elements under another shape of the same size.
    #[track_caller]
    pub fn reshape(mut self, shape: &[usize]) -> Self {
        let (have, want) = (self.len(), shape.iter().product::<usize>());
        assert_eq!(have, want, "reshape: {:?} does not fit {shape:?}", self.shape);
        self.shape = shape.to_vec();
        self
    }

    /// The buffer behind it, for implementations of ops.
    pub fn buf(&self) -> &B::Buf<T> {
        &self.buf
    }

    /// The buffer behind it, for implementations of ops.
    pub fn buf_mut(&mut self) -> &mut B::Buf<T> {
        &mut self.buf
    }

    /// The buffer and the shape, for implementations of ops.
    pub fn into_parts(self) -> (B::Buf<T>, Vec<usize>) {
        (self.buf, self.shape)
    }

    /// Panics with op, argument, shape got and shape wanted unless the shapes agree.
    #[track_caller]
    pub fn expect_shape(&self, op: &str, argument: &str, want: &[usize]) {
        assert!(self.shape == want, "{op}: {argument} is {:?}, expected {want:?}", self.shape);
    }

    /// Panics unless the tensor has `rank` axes.
    #[track_caller]
    pub fn expect_rank(&self, op: &str, argument: &str, rank: usize) {
        assert!(
            self.shape.len() == rank,
            "{op}: {argument} is {:?}, expected {rank} axes",
            self.shape
        );
    }
}

impl<B: Storage, T: Float> Tensor<B, T> {
    /// Copies numbers given as f64, each rounded to `T`.
    #[track_caller]
    pub fn from_f64(bk: &B, host: &[f64], shape: &[usize]) -> Self {
        Self::from_vec(bk, host.iter().map(|&x| T::from_f64(x)).collect(), shape)
    }

    /// Copies numbers given as f32, each rounded or widened to `T`.
    #[track_caller]
    pub fn from_f32(bk: &B, host: &[f32], shape: &[usize]) -> Self {
        Self::from_vec(bk, host.iter().map(|&x| T::from_f64(f64::from(x))).collect(), shape)
    }

    /// Copies the elements to the host, widened to f64.
    pub fn to_f64(&self, bk: &B) -> Vec<f64> {
        self.to_vec(bk).into_iter().map(Float::to_f64).collect()
    }
}
