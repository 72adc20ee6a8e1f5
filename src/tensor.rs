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

    /// Numbers given as f32, each rounded or widened to `T`; where `T` is f32 they are moved.
    #[track_caller]
    pub fn from_f32(bk: &B, host: Vec<f32>, shape: &[usize]) -> Self {
        Self::from_vec(bk, T::from_f32s(host), shape)
    }

    /// Copies the elements to the host, widened to f64.
    pub fn to_f64(&self, bk: &B) -> Vec<f64> {
        self.to_vec(bk).into_iter().map(Float::to_f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use half::bf16;

    #[test]
    fn f32_numbers_are_moved_to_a_backend_of_their_type() {
        let numbers: Vec<f32> = (0..7u8).map(f32::from).collect();
        let (place, bk) = (numbers.as_ptr(), Cpu::<f32>::new());
        let x = Tensor::from_f32(&bk, numbers, &[7]);
        assert_eq!(x.buf().as_ptr(), place);
        let numbers = x.to_vec(&bk);
        let place = numbers.as_ptr();
        let numbers = f32::into_f32s(numbers);
        assert_eq!(numbers.as_ptr(), place);
    }

    #[test]
    fn other_types_round_f32_as_they_round_f64() {
        let numbers: Vec<f32> = (0..1 << 18).map(|i| f32::from_bits(i * 16_381)).collect();
        let numbers: Vec<f32> = numbers.into_iter().filter(|x| !x.is_nan()).collect();
        let wide: Vec<f64> = numbers.iter().map(|&x| f64::from(x)).collect();
        let (f64s, bf16s) = (Cpu::<f64>::new(), Cpu::<bf16>::new());
        let shape = [numbers.len()];
        let x = Tensor::from_f32(&f64s, numbers.clone(), &shape).to_vec(&f64s);
        assert_eq!(x, wide);
        assert_eq!(f64::into_f32s(x), numbers);
        let x: Tensor<Cpu<bf16>> = Tensor::from_f32(&bf16s, numbers, &shape);
        let x = x.to_vec(&bf16s);
        assert_eq!(x, Tensor::<Cpu<bf16>>::from_f64(&bf16s, &wide, &shape).to_vec(&bf16s));
        let back: Vec<f32> = x.iter().map(|x| x.to_f64() as f32).collect();
        assert_eq!(bf16::into_f32s(x), back);
    }
}
