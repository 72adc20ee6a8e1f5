//! A parameter seen through a matrix: y = M x, for tables and positions made to fit another grid.
//!
//! Shapes: M `[R',R]`, x a parameter of R C numbers, y `[R',C]`. M is a constant: interpolation is
//! linear in what is interpolated.
//!
//! Backward, from y_rc = Σ_k M_rk x_kc:
//! * dx_kc += Σ_r M_rk dy_rc, so dx += Mᵀ dy
//!
//! Kept for backward: nothing. Source: BEiT `run_class_finetuning.py`, where it is done once, when
//! weights are loaded, and has no gradient.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, gemm};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Visitor};
use crate::params::{Param, Params};
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::Master;
use ndarray::{ArrayView2, ArrayViewMut2};

/// y = M x and its gradient.
pub trait ResampleOp: Storage {
    /// M `[R',R]`, x of R C numbers -> y `[R',C]`.
    fn resample_forward(&self, map: &Master<Self>, w: &Params<Self>, x: &Param) -> Master<Self>;

    /// dy `[R',C]`; adds dx to `g`.
    fn resample_backward(
        &self,
        map: &Master<Self>,
        dy: &Master<Self>,
        x: &Param,
        g: &mut Params<Self>,
    );
}

/// C. Panics unless x has a whole number of columns for the columns of M.
#[track_caller]
pub fn columns<B: Storage>(op: &str, map: &Master<B>, x: &Param) -> usize {
    map.expect_rank(op, "map", 2);
    let rows = map.cols();
    assert!(
        rows > 0 && x.len().is_multiple_of(rows),
        "{op}: map is {:?}, parameter {} is {:?}, expected a multiple of {rows} numbers",
        map.shape(),
        x.name,
        x.shape
    );
    x.len() / rows
}

impl<T: Scalar> ResampleOp for Cpu<T> {
    #[track_caller]
    fn resample_forward(&self, map: &Master<Self>, w: &Params<Self>, x: &Param) -> Master<Self> {
        let c = columns("resample", map, x);
        let mut y: Master<Self> = self.unset(&[map.rows(), c]);
        let x = ArrayView2::from_shape((map.cols(), c), w.get(x)).expect("checked at entry");
        gemm(T::Master::ONE, map.matrix(), x, T::Master::ZERO, y.matrix_mut());
        y
    }

    #[track_caller]
    fn resample_backward(
        &self,
        map: &Master<Self>,
        dy: &Master<Self>,
        x: &Param,
        g: &mut Params<Self>,
    ) {
        let c = columns("resample_backward", map, x);
        dy.expect_shape("resample_backward", "dy", &[map.rows(), c]);
        let dx = ArrayViewMut2::from_shape((map.cols(), c), g.get_mut(x));
        // y = M x   =>   dx += Mᵀ dy
        gemm(
            T::Master::ONE,
            map.matrix().t(),
            dy.matrix(),
            T::Master::ONE,
            dx.expect("checked at entry"),
        );
    }
}

/// The op at one size.
pub struct ResampleCase {
    instance: &'static str,
    map: [usize; 2],
    columns: usize,
}

impl Case for ResampleCase {
    fn name(&self) -> String {
        format!("resample/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.name());
        let map = inputs.normal(self.map.iter().product());
        inputs
            .push("map", &self.map, map, Kind::Master, false)
            .param("x", &[1, self.map[1], self.columns])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (map, x) = (io.master("map"), io.param("x"));
        let y = bk.resample_forward(&map, &io.w, &x);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            bk.resample_backward(&map, &dy, &x, &mut io.g);
        }
    }

    fn cost(&self) -> Cost {
        let [to, from, c] = [self.map[0], self.map[1], self.columns].map(|n| n as f64);
        let elements = to * from + (to + from) * c;
        Cost {
            flops_forward: 2.0 * to * from * c,
            flops_backward: 2.0 * to * from * c,
            elements_forward: elements,
            elements_backward: elements,
        }
    }
}

/// Smallest, odd, larger and smaller, the table of the tiny preset on a grid of 6 x 6.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, map, columns) in [
        ("one", [1, 1], 1),
        ("odd", [7, 5], 3),
        ("smaller", [3, 11], 2),
        ("no_rows", [0, 4], 3),
        ("tiny", [124, 228], 4),
    ] {
        v.visit(ResampleCase { instance, map, columns });
    }
}

/// No columns.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(ResampleCase { instance: "empty", map: [3, 2], columns: 0 });
}

/// The bias table of BEiT-B from 224 to 384 pixels.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(ResampleCase { instance: "2212x732x12", map: [2212, 732], columns: 12 });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Decay, Init, Registry};

    #[test]
    fn every_column_is_mapped() {
        let (bk, mut reg) = (Cpu::<f64>::new(), Registry::new());
        let x = reg.add("x", &[1, 2, 3], Decay::Yes, Init::Constant(0.0));
        let w = Params::from_host(&bk, &reg.finish(), &[1.0, 10.0, 100.0, 2.0, 20.0, 200.0]);
        let map = Master::from_f64(&bk, &[1.0, 1.0, 3.0, -1.0], &[2, 2]);
        let y = bk.resample_forward(&map, &w, &x);
        assert_eq!(y.shape(), [2, 3]);
        assert_eq!(y.to_f64(&bk), [3.0, 30.0, 300.0, 1.0, 10.0, 100.0]);
    }
}
