//! 2×2 max pooling with stride 2: `y[b,i,j,c]` = max over (u,v) in {0,1}² of `x[b,2i+u,2j+v,c]`.
//!
//! Shapes: x `[B,H,W,C]` -> y and the choice 2u+v `[B,⌊H/2⌋,⌊W/2⌋,C]`. Ties take the first in
//! row-major order. An odd last row or column is dropped.
//!
//! Backward: dx is dy at the chosen place, 0 elsewhere. Kept for backward: the choice. Source:
//! `dall_e/encoder.py`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Threshold, Visitor};
use crate::storage::Storage;
use crate::tensor::{Ids, Master};

/// Max pooling and its gradient.
pub trait MaxPoolOp: Storage {
    /// x `[B,H,W,C]` -> (y, choice) `[B,⌊H/2⌋,⌊W/2⌋,C]`.
    fn max_pool_forward(&self, x: &Master<Self>) -> (Master<Self>, Ids<Self>);
    /// dy -> dx of the shape that x had.
    fn max_pool_backward(
        &self,
        choice: &Ids<Self>,
        dy: &Master<Self>,
        shape: &[usize],
    ) -> Master<Self>;
}

#[track_caller]
fn halved(op: &str, shape: &[usize]) -> [usize; 4] {
    let &[b, h, w, c] = shape else { panic!("{op}: x is {shape:?}, expected [B,H,W,C]") };
    [b, h / 2, w / 2, c]
}

impl<T: Scalar> MaxPoolOp for Cpu<T> {
    #[track_caller]
    fn max_pool_forward(&self, x: &Master<Self>) -> (Master<Self>, Ids<Self>) {
        let shape = halved("max_pool", x.shape());
        let ([_, h, w, c], width) = (shape, x.shape()[2]);
        let (mut y, mut choice) = (self.unset(&shape), Ids::zeros(self, &shape));
        if y.is_empty() {
            return (y, choice);
        }
        let full = x.shape()[1];
        let x = x.slice();
        y.slice_mut()
            .par_chunks_mut(w * c)
            .zip(choice.slice_mut().par_chunks_mut(w * c))
            .enumerate()
            .for_each(|(row, (y, choice))| {
                let top = (row / h * full + row % h * 2) * width * c;
                for j in 0..w {
                    for k in 0..c {
                        let at = |u: usize, v: usize| x[top + (u * width + 2 * j + v) * c + k];
                        let (mut best, mut place) = (at(0, 0), 0);
                        for p in 1..4 {
                            let value = at(p / 2, p % 2);
                            if value > best {
                                (best, place) = (value, p as u32);
                            }
                        }
                        (y[j * c + k], choice[j * c + k]) = (best, place);
                    }
                }
            });
        (y, choice)
    }

    #[track_caller]
    fn max_pool_backward(
        &self,
        choice: &Ids<Self>,
        dy: &Master<Self>,
        shape: &[usize],
    ) -> Master<Self> {
        let [_, h, w, c] = halved("max_pool_backward", shape);
        dy.expect_shape("max_pool_backward", "dy", choice.shape());
        let (full, width) = (shape[1], shape[2]);
        let mut dx = Master::zeros(self, shape);
        if dx.is_empty() {
            return dx;
        }
        let (choice, dy) = (choice.slice(), dy.slice());
        // One image at a time: its two rows per output row belong to one task.
        dx.slice_mut().par_chunks_mut(full * width * c).enumerate().for_each(|(b, dx)| {
            for i in 0..h {
                for j in 0..w {
                    for k in 0..c {
                        let from = ((b * h + i) * w + j) * c + k;
                        let place = choice[from] as usize;
                        let to = ((2 * i + place / 2) * width + 2 * j + place % 2) * c + k;
                        dx[to] = dy[from];
                    }
                }
            }
        });
        dx
    }
}

/// The op at one size.
pub struct MaxPoolCase {
    instance: &'static str,
    shape: [usize; 4],
}

impl Case for MaxPoolCase {
    fn name(&self) -> String {
        format!("max_pool/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.name());
        let n = self.shape.iter().product::<usize>();
        // A shuffled ladder: any two values differ by at least 0.1, far more than the step.
        let mut x: Vec<f64> = (0..n).map(|i| 0.1 * (i as f64 - n as f64 / 2.0)).collect();
        for i in (1..n).rev() {
            let j = inputs.rng().integer(i);
            x.swap(i, j);
        }
        inputs.push("x", &self.shape, x, Kind::Master, true)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.master("x");
        let (y, choice) = bk.max_pool_forward(&x);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            io.grad(bk, "x", &bk.max_pool_backward(&choice, &dy, x.shape()));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::new("batch", 3, self.shape[0])]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: n,
            flops_backward: n / 4.0,
            elements_forward: 1.5 * n,
            elements_backward: 1.5 * n,
        }
    }
}

/// Smallest, odd sides, tiny's, a batch of each kind of grid.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("small", [1, 2, 2, 1]),
        ("odd", [2, 5, 7, 3]),
        ("tiny", [2, 16, 16, 8]),
        ("tall", [4, 9, 5, 2]),
        ("batch", [11, 4, 6, 2]),
    ] {
        v.visit(MaxPoolCase { instance, shape });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(MaxPoolCase { instance: "empty", shape: [0, 2, 2, 1] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(MaxPoolCase { instance: "4x112x112x256", shape: [4, 112, 112, 256] });
}
