//! The linear layer on CUDA: products of cuBLAS, and sums over rows by `cuda/common.cu`.

use super::{Linear, LinearOp};
use crate::cuda::{Cuda, Precision, plain, transposed};
use crate::params::Params;
use crate::tensor::Tensor;

impl<T: Precision> LinearOp for Cuda<T> {
    #[track_caller]
    fn linear_forward(&self, x: &Tensor<Self>, w: &Params<Self>, p: &Linear) -> Tensor<Self> {
        let y = self.unset(&p.output_shape("linear", x));
        let sizes = (x.rows(), x.cols(), p.weight.shape[0]);
        match &p.bias {
            Some(bias) => self.gemm_bias(sizes, x.start(), w, (&p.weight, bias), y.start()),
            None => {
                let weight = transposed(w.elem_at(&p.weight));
                self.gemm(sizes, 1.0, plain(x.start()), weight, 0.0, y.start());
            }
        }
        y
    }

    #[track_caller]
    fn linear_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        dy.expect_shape("linear_backward", "dy", &p.output_shape("linear_backward", x));
        let (r, i, o) = (x.rows(), x.cols(), p.weight.shape[0]);
        let (dx, dy) = (self.unset(x.shape()), dy.start());
        if r == 0 {
            return dx;
        }
        // y = x Wᵀ + b   =>   db += column sums of dy, dW += dyᵀ x, dx = dy W
        if let Some(bias) = &p.bias {
            self.add_column_sums(dy, (r, o), g.at(bias));
        }
        self.gemm((o, r, i), 1.0, transposed(dy), plain(x.start()), 1.0, g.at(&p.weight));
        self.gemm((r, o, i), 1.0, plain(dy), plain(w.elem_at(&p.weight)), 0.0, dx.start());
        dx
    }
}
