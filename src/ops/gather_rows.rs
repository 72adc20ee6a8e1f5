//! Picks rows: `y[m] = x[rows[m]]`.
//!
//! Shapes: x `[..,C]` with all leading axes taken as one, rows `[M]`, y `[M,C]`. The masked-image
//! head needs the rows of masked patches only, about 38 % of them: its matrix has 8192 columns, so
//! the rows are picked before it, not after.
//!
//! Backward. Each y_m is a copy of a row; rows that were not picked get 0:
//! * `dx[r]` = Σ over m with `rows[m] = r` of `dy[m]`
//!
//! Kept for backward: nothing but rows (an input) and the shape of x. Source: BEiT
//! `modeling_pretrain.py`, forward (`x[bool_masked_pos]`).

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Threshold, Visitor};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};

/// Picks rows, and the gradient.
pub trait GatherRowsOp: Storage {
    /// x `[..,C]`, rows `[M]` -> y `[M,C]`.
    fn gather_rows_forward(&self, x: &Tensor<Self>, rows: &Ids<Self>) -> Tensor<Self>;

    /// Ids x `[..]` taken as one row of numbers, places `[M]` -> `x[places[m]]` `[M]`.
    fn gather_ids(&self, x: &Ids<Self>, places: &Ids<Self>) -> Ids<Self>;

    /// dy `[M,C]` -> dx of `shape`.
    fn gather_rows_backward(
        &self,
        rows: &Ids<Self>,
        dy: &Tensor<Self>,
        shape: &[usize],
    ) -> Tensor<Self>;
}

/// Row `row` of `rows`, checked.
#[track_caller]
fn range(op: &str, row: u32, rows: usize, c: usize) -> std::ops::Range<usize> {
    let row = row as usize;
    assert!(row < rows, "{op}: row {row} is asked for, x has {rows}");
    row * c..(row + 1) * c
}

impl<T: Scalar> GatherRowsOp for Cpu<T> {
    #[track_caller]
    fn gather_rows_forward(&self, x: &Tensor<Self>, rows: &Ids<Self>) -> Tensor<Self> {
        let c = x.cols();
        let mut y = self.unset(&[rows.len(), c]);
        for (y, &row) in y.slice_mut().chunks_exact_mut(c).zip(rows.slice()) {
            y.copy_from_slice(&x.slice()[range("gather_rows", row, x.rows(), c)]);
        }
        y
    }

    #[track_caller]
    fn gather_ids(&self, x: &Ids<Self>, places: &Ids<Self>) -> Ids<Self> {
        let pick = |&place: &u32| x.slice()[range("gather_ids", place, x.len(), 1).start];
        Ids::from_vec(self, places.slice().iter().map(pick).collect(), &[places.len()])
    }

    #[track_caller]
    fn gather_rows_backward(
        &self,
        rows: &Ids<Self>,
        dy: &Tensor<Self>,
        shape: &[usize],
    ) -> Tensor<Self> {
        let mut dx: Master<Self> = Master::zeros(self, shape);
        let (c, count) = (dx.cols(), dx.rows());
        dy.expect_shape("gather_rows_backward", "dy", &[rows.len(), c]);
        // A row may be picked twice, so the sums are taken in order on one thread.
        for (&row, dy) in rows.slice().iter().zip(dy.wide().chunks_exact(c)) {
            let range = range("gather_rows_backward", row, count, c);
            simd::add_assign(&mut dx.slice_mut()[range], dy);
        }
        self.narrow(dx)
    }
}

/// The op at one size.
pub struct GatherRowsCase {
    instance: &'static str,
    shape: &'static [usize],
    rows: usize,
}

impl Case for GatherRowsCase {
    fn name(&self) -> String {
        format!("gather_rows/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let count = self.shape[..self.shape.len() - 1].iter().product::<usize>();
        // Steps of 7, so that some rows are left out and, with many rows, some are met twice.
        let rows = (0..self.rows).map(|m| (m * 7 % count) as u32).collect();
        Inputs::new(&self.name()).elem("x", self.shape).ids("rows", &[self.rows], rows)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, rows) = (io.elem("x"), io.ids("rows"));
        let y = bk.gather_rows_forward(&x, &rows);
        io.output(bk, &y);
        // Ids have no gradient; the last picked first.
        let backwards: Vec<u32> = (0..self.rows as u32).rev().collect();
        let picked = bk.gather_ids(&rows, &Ids::from_vec(bk, backwards, &[self.rows]));
        assert!(picked.to_vec(bk).iter().eq(rows.to_vec(bk).iter().rev()), "gather_ids");
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = bk.gather_rows_backward(&rows, &dy, self.shape);
            io.grad(bk, "x", &dx);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let count = self.shape[..self.shape.len() - 1].iter().product::<usize>();
        // Only where rows are met twice.
        vec![Threshold::new("picked", 10, if self.rows > count { self.rows } else { 0 })]
    }

    fn cost(&self) -> Cost {
        let c = self.shape[self.shape.len() - 1];
        let (all, picked) = (self.shape.iter().product::<usize>(), self.rows * c);
        Cost {
            flops_forward: 0.0,
            flops_backward: picked as f64,
            elements_forward: 2.0 * picked as f64,
            elements_backward: (all + picked) as f64,
        }
    }
}

/// Smallest, odd, every row and some twice, no row at all, the masked rows of the tiny preset, every row
/// up to twice and many times.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, rows) in [
        ("one", &[1, 1][..], 1),
        ("odd", &[3, 5, 7], 4),
        ("twice", &[2, 3], 5),
        ("none", &[2, 3], 0),
        ("tiny", &[2, 65, 128], 48),
        ("eleven", &[4, 2, 3], 11),
        ("many", &[5, 2, 3], 63),
    ] {
        v.visit(GatherRowsCase { instance, shape, rows });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(GatherRowsCase { instance: "empty", shape: &[0, 3], rows: 0 });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(GatherRowsCase { instance: "64x197x768_4800", shape: &[64, 197, 768], rows: 4800 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "gather_rows: row 6 is asked for, x has 6")]
    fn a_row_that_is_not_there() {
        let bk = Cpu::<f32>::new();
        let rows = Ids::from_vec(&bk, vec![5, 6], &[2]);
        bk.gather_rows_forward(&Tensor::zeros(&bk, &[2, 3, 4]), &rows);
    }
}
