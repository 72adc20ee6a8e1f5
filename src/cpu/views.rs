//! Tensors and parameters as slices and matrices: as they are held, and as they are computed with.

use crate::cpu::Cpu;
use crate::cpu::scalar::Scalar;
use crate::params::{Param, Params};
use crate::real::{Element, Real};
use crate::tensor::Tensor;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, CowArray, Ix2};
use std::borrow::Cow;

impl<T: Scalar, E: Element> Tensor<Cpu<T>, E> {
    /// All elements, row-major.
    pub fn slice(&self) -> &[E] {
        self.buf()
    }

    /// All elements, row-major.
    pub fn slice_mut(&mut self) -> &mut [E] {
        self.buf_mut()
    }

    /// `[rows, cols]`, with all axes but the last taken as one.
    pub fn matrix(&self) -> ArrayView2<'_, E> {
        ArrayView2::from_shape((self.rows(), self.cols()), self.buf()).expect("contiguous")
    }

    /// `[rows, cols]`, with all axes but the last taken as one.
    pub fn matrix_mut(&mut self) -> ArrayViewMut2<'_, E> {
        let shape = (self.rows(), self.cols());
        ArrayViewMut2::from_shape(shape, self.buf_mut()).expect("contiguous")
    }
}

impl<T: Scalar> Tensor<Cpu<T>> {
    /// All elements as numbers to compute with, row-major.
    pub fn wide(&self) -> Cow<'_, [T::Master]> {
        T::wide(self.buf())
    }

    /// [`Tensor::wide`] as `[rows, cols]`, with all axes but the last taken as one.
    pub fn wide_matrix(&self) -> CowArray<'_, T::Master, Ix2> {
        as_matrix(self.wide(), (self.rows(), self.cols()))
    }
}

impl<T: Scalar> Params<Cpu<T>> {
    /// The numbers of one parameter.
    pub fn get(&self, param: &Param) -> &[T::Master] {
        &self.master[param.range.clone()]
    }

    /// The numbers of one parameter.
    pub fn get_mut(&mut self, param: &Param) -> &mut [T::Master] {
        &mut self.master[param.range.clone()]
    }

    /// One parameter as `[d0, the rest]`.
    pub fn matrix_mut(&mut self, param: &Param) -> ArrayViewMut2<'_, T::Master> {
        let rows = param.shape[0];
        let shape = (rows, param.len() / rows.max(1));
        ArrayViewMut2::from_shape(shape, self.get_mut(param)).expect("fits")
    }

    /// One parameter as products read it: from the copy in `Elem` where there is one.
    pub fn operand(&self, param: &Param) -> Cow<'_, [T::Master]> {
        match &self.elem {
            Some(copy) => T::wide(&copy[param.range.clone()]),
            None => Cow::Borrowed(self.get(param)),
        }
    }

    /// [`Params::operand`] as `[d0, the rest]`.
    pub fn operand_matrix(&self, param: &Param) -> CowArray<'_, T::Master, Ix2> {
        let rows = param.shape[0];
        as_matrix(self.operand(param), (rows, param.len() / rows.max(1)))
    }
}

impl<T: Scalar> Tensor<Cpu<T>, T::Master> {
    /// Numbers of the stream as products read them, rounded to `Elem`: `[rows, cols]`.
    pub fn operand_matrix(&self) -> CowArray<'_, T::Master, Ix2> {
        as_matrix(T::rounded(self.buf()), (self.rows(), self.cols()))
    }
}

/// Numbers as a matrix of this shape.
fn as_matrix<M: Real>(numbers: Cow<'_, [M]>, shape: (usize, usize)) -> CowArray<'_, M, Ix2> {
    match numbers {
        Cow::Borrowed(x) => ArrayView2::from_shape(shape, x).expect("fits").into(),
        Cow::Owned(x) => Array2::from_shape_vec(shape, x).expect("fits").into(),
    }
}
