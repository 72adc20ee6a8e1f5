//! The linear layer on CUDA: products of cuBLAS, and sums over rows by `cuda/common.cu`.

use super::{LinearOp, output_shape};
use crate::cuda::{Cuda, Precision, plain, transposed};
use crate::params::{Param, Params};
use crate::tensor::Tensor;

impl<T: Precision> LinearOp for Cuda<T> {
    #[track_caller]
    fn linear_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        weight: &Param,
        bias: Option<&Param>,
    ) -> Tensor<Self> {
        let y = self.unset(&output_shape("linear", x, weight, bias));
        let sizes = (x.rows(), x.cols(), weight.shape[0]);
        match bias {
            Some(bias) => self.gemm_bias(sizes, x.start(), w, (weight, bias), y.start()),
            None => {
                let weight = transposed(w.elem_at(weight));
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
        weight: &Param,
        bias: Option<&Param>,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        dy.expect_shape("linear_backward", "dy", &output_shape("linear_backward", x, weight, bias));
        let (r, i, o) = (x.rows(), x.cols(), weight.shape[0]);
        let (dx, dy) = (self.unset(x.shape()), dy.start());
        if r == 0 {
            return dx;
        }
        // y = x Wᵀ + b   =>   db += column sums of dy, dW += dyᵀ x, dx = dy W
        if let Some(bias) = bias {
            self.add_column_sums(dy, (r, o), g.at(bias));
        }
        self.gemm((o, r, i), 1.0, transposed(dy), plain(x.start()), 1.0, g.at(weight));
        self.gemm((r, o, i), 1.0, plain(dy), plain(w.elem_at(weight)), 0.0, dx.start());
        dx
    }
}
