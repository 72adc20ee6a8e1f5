//! The loss of a head over pixels: squared error, in place of cross-entropy over tokens.

use crate::ops::Backend;
use crate::tensor::{Master, Tensor};

/// What a head over pixels is off: per row of `predicted` `[M,V]` the sum of the squares, `[M]`.
pub fn squared_errors<B: Backend>(bk: &B, predicted: &Tensor<B>, targets: &Master<B>) -> Master<B> {
    bk.mse_forward(targets, &widened(bk, predicted))
}

/// The same, and the gradient of `scale` times their sum with respect to `predicted`.
///
/// The mean over the values of the patches that count, MAE's loss, has scale 1 / (3 P² |M|).
pub fn squared_errors_backward<B: Backend>(
    bk: &B,
    predicted: Tensor<B>,
    targets: &Master<B>,
    scale: f64,
) -> (Master<B>, Tensor<B>) {
    let predicted = widened(bk, &predicted);
    let errors = bk.mse_forward(targets, &predicted);
    (errors, bk.to_elem(&bk.mse_backward(targets, &predicted, scale), 1.0))
}

/// The error is computed in master precision.
fn widened<B: Backend>(bk: &B, x: &Tensor<B>) -> Master<B> {
    let mut wide = Master::zeros(bk, x.shape());
    bk.accumulate(&mut wide, x);
    wide
}
