//! Linear layer and GELU on CUDA: `cuda/linear_gelu.cu` after the product.

use super::LinearGeluOp;
use crate::cuda::{Cuda, Grid, Precision, args, plain, transposed};
use crate::ops::gelu::GeluOp;
use crate::ops::linear::{Linear, LinearOp};
use crate::params::Params;
use crate::tensor::Tensor;

impl<T: Precision> LinearGeluOp for Cuda<T> {
    #[track_caller]
    fn linear_gelu_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
    ) -> (Tensor<Self>, Tensor<Self>) {
        let (shape, bias) = (p.output_shape("linear_gelu", x), p.expect_bias("linear_gelu"));
        let (mut a, y) = (self.unset(&shape), self.unset(&shape));
        let (n, o) = (y.len(), bias.len());
        let factors = (plain(x.start()), transposed(w.elem_at(&p.weight)));
        self.gemm((x.rows(), x.cols(), o), 1.0, factors.0, factors.1, 0.0, a.start());
        let arguments = args![&mut a, w.at(bias), &y, n, o];
        self.launch("linear_gelu_forward", Grid::each(n), arguments);
        (y, a)
    }

    #[track_caller]
    fn linear_gelu_backward(
        &self,
        x: &Tensor<Self>,
        a: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
        dy: Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        dy.expect_shape("linear_gelu_backward", "dy", a.shape());
        let da = self.gelu_backward(a, dy);
        self.linear_backward(x, w, p, &da, g)
    }
}
