//! Rows of length one: y = x / ‖x‖.
//!
//! Shapes: x and y `[..,D]`. A row of ‖x‖ ≤ 1e-12 is divided by 1e-12.
//!
//! Backward, from ∂y_i/∂x_j = (δ_ij − y_i y_j) / ‖x‖:
//! * dx = (dy − y ⟨y, dy⟩) / ‖x‖, orthogonal to x; of a row that is divided by 1e-12, dy / 1e-12
//!
//! Kept for backward: x. Source: the features that MoCo v3 (arXiv 2104.02057) and DINO (arXiv 2104.14294) compare;
//! ε is that of `torch.nn.functional.normalize`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::real::Real;
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::Master;

/// What shorter rows are divided by.
const EPS: f64 = 1e-12;

/// Rows of unit length and their gradient.
pub trait UnitRowsOp: Storage {
    /// x `[..,D]` -> y `[..,D]`.
    fn unit_rows_forward(&self, x: &Master<Self>) -> Master<Self>;
    /// dy `[..,D]` -> dx `[..,D]`.
    fn unit_rows_backward(&self, x: &Master<Self>, dy: &Master<Self>) -> Master<Self>;
}

/// 1 / max(‖x‖, ε), and whether it is ‖x‖.
fn inverse_length<T: Real>(x: &[T]) -> (T, bool) {
    let (length, eps) = (simd::dot(x, x).sqrt(), T::from_f64(EPS));
    if length > eps { (T::ONE / length, true) } else { (T::ONE / eps, false) }
}

simd_fn! {
    /// y = factor x
    fn scaled<T>(y: &mut [T], x: &[T], factor: T) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = factor * x;
        }
    }
}

simd_fn! {
    /// dx = factor (dy − along x)
    fn across<T>(dx: &mut [T], x: &[T], dy: &[T], factor: T, along: T) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = factor * (dy - along * x);
        }
    }
}

impl<T: Scalar> UnitRowsOp for Cpu<T> {
    fn unit_rows_forward(&self, x: &Master<Self>) -> Master<Self> {
        let (mut y, d) = (self.unset(x.shape()), x.cols());
        let step = rows_per_task(d) * d;
        let pieces = y.slice_mut().par_chunks_mut(step).zip(x.slice().par_chunks(step));
        pieces.for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                scaled(y, x, inverse_length(x).0);
            }
        });
        y
    }

    #[track_caller]
    fn unit_rows_backward(&self, x: &Master<Self>, dy: &Master<Self>) -> Master<Self> {
        dy.expect_shape("unit_rows_backward", "dy", x.shape());
        let (mut dx, d) = (self.unset(x.shape()), x.cols());
        let step = rows_per_task(d) * d;
        let inputs = x.slice().par_chunks(step).zip(dy.slice().par_chunks(step));
        dx.slice_mut().par_chunks_mut(step).zip(inputs).for_each(|(dx, (x, dy))| {
            let rows = dx.chunks_exact_mut(d).zip(x.chunks_exact(d).zip(dy.chunks_exact(d)));
            for (dx, (x, dy)) in rows {
                let (inverse, own) = inverse_length(x);
                let along =
                    if own { inverse * inverse * simd::dot(x, dy) } else { T::Master::ZERO };
                across(dx, x, dy, inverse, along);
            }
        });
        dx
    }
}

/// The op at one size.
pub struct UnitRowsCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for UnitRowsCase {
    fn name(&self) -> String {
        format!("unit_rows/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).master("x", self.shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.master("x");
        io.output(bk, &bk.unit_rows_forward(&x));
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            io.grad(bk, "x", &bk.unit_rows_backward(&x, &dy));
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let (d, rows) = self.shape.split_last().expect("rows");
        vec![Threshold::rows_per_task(rows.iter().product(), *d), Threshold::lanes(*d)]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 3.0 * n,
            flops_backward: 7.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// Two numbers, odd, several rows, beyond the lanes, several tasks.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("two", &[1, 2][..]),
        ("odd", &[2, 3, 5]),
        ("rows", &[7, 3]),
        ("lane_and_one", &[3, 17]),
        ("lanes", &[2, 61]),
    ] {
        v.visit(UnitRowsCase { instance, shape });
    }
    // Three rows of 5003 numbers are a task.
    for (instance, shape) in [("task_and_one", &[4, 5003][..]), ("many_tasks", &[5, 2, 5003])] {
        v.visit(Large(UnitRowsCase { instance, shape }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(UnitRowsCase { instance: "empty", shape: &[0, 3] });
}

/// The keys of a batch of MoCo v3.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(UnitRowsCase { instance: "4096x256", shape: &[4096, 256] });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_no_length_are_divided_by_epsilon() {
        let bk = Cpu::<f64>::new();
        let x = Master::<Cpu<f64>>::from_vec(&bk, vec![0.0, 0.0, 3e-13, 4e-13, 3.0, 4.0], &[3, 2]);
        let close = |got: Vec<f64>, want: [f64; 6]| {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs()), "{got:?}");
        };
        close(bk.unit_rows_forward(&x).to_vec(&bk), [0.0, 0.0, 0.3, 0.4, 0.6, 0.8]);
        let dy = Master::<Cpu<f64>>::from_vec(&bk, vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &[3, 2]);
        let dx = bk.unit_rows_backward(&x, &dy);
        close(dx.to_vec(&bk), [1e12, 0.0, 1e12, 0.0, 0.128, -0.096]);
    }
}
