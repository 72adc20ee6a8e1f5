//! Weight normalisation of a linear layer: W_o = g_o v_o / ‖v_o‖, row by row.
//!
//! Shapes: v and W `[O,I]`, g `[O,1]`; without g all rows have length one.
//!
//! Backward. With v̂ = v / ‖v‖, from ∂v̂_i/∂v_j = (δ_ij − v̂_i v̂_j) / ‖v‖:
//! * dv += g (dW − v̂ ⟨v̂, dW⟩) / ‖v‖, orthogonal to v: a step never makes v shorter
//! * dg += ⟨v̂, dW⟩
//!
//! Kept for backward: nothing but the parameters. Source: arXiv 1602.07868, eqs. 2 and 3; without g it is the last
//! layer of DINO (arXiv 2104.14294, `norm_last_layer` of `vision_transformer.py`).

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::real::Real;
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::Master;

/// Parameters of a normalised weight.
#[derive(Clone, Debug)]
pub struct WeightNorm {
    /// v `[O,I]`, decayed.
    pub direction: Param,
    /// g `[O,1]`, not decayed, starts at 1.
    pub gain: Option<Param>,
}

impl WeightNorm {
    /// `name.weight_v` and, where lengths are learnt, `name.weight_g`.
    pub fn new(
        reg: &mut Registry,
        name: &str,
        [output, input]: [usize; 2],
        gain: bool,
        init: Init,
    ) -> Self {
        let direction = reg.add(format!("{name}.weight_v"), &[output, input], Decay::Yes, init);
        let one = Init::Constant(1.0);
        let gain = gain.then(|| reg.add(format!("{name}.weight_g"), &[output, 1], Decay::No, one));
        Self { direction, gain }
    }

    /// `[O,I]`. Panics where g does not fit v.
    #[track_caller]
    fn expect_shape(&self, op: &str) -> [usize; 2] {
        let [output, input] = self.direction.shape[..] else {
            panic!("{op}: {} is {:?}, expected 2 axes", self.direction.name, self.direction.shape)
        };
        if let Some(gain) = &self.gain {
            gain.expect_shape(op, &[output, 1]);
        }
        [output, input]
    }
}

/// Weight normalisation and its gradients.
pub trait WeightNormOp: Storage {
    /// -> W `[O,I]`.
    fn weight_norm_forward(&self, w: &Params<Self>, p: &WeightNorm) -> Master<Self>;
    /// Adds dv and dg to `g`, from dW `[O,I]`.
    fn weight_norm_backward(
        &self,
        w: &Params<Self>,
        p: &WeightNorm,
        dmade: &Master<Self>,
        g: &mut Params<Self>,
    );
}

simd_fn! {
    /// y = factor x
    fn times<T>(y: &mut [T], x: &[T], factor: T) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = factor * x;
        }
    }
}

simd_fn! {
    /// dv += factor (dw − along v)
    fn add_across<T>(dv: &mut [T], v: &[T], dw: &[T], factor: T, along: T) {
        for ((dv, &v), &dw) in dv.iter_mut().zip(v).zip(dw) {
            *dv += factor * (dw - along * v);
        }
    }
}

impl<T: Scalar> WeightNormOp for Cpu<T> {
    #[track_caller]
    fn weight_norm_forward(&self, w: &Params<Self>, p: &WeightNorm) -> Master<Self> {
        let [rows, d] = p.expect_shape("weight_norm");
        let (mut made, step) = (self.unset(&[rows, d]), rows_per_task(d));
        let (v, gain) = (w.get(&p.direction), p.gain.as_ref().map(|gain| w.get(gain)));
        let pieces = made.slice_mut().par_chunks_mut(step * d).zip(v.par_chunks(step * d));
        pieces.enumerate().for_each(|(piece, (made, v))| {
            for (i, (made, v)) in made.chunks_exact_mut(d).zip(v.chunks_exact(d)).enumerate() {
                let length = gain.map_or(T::Master::ONE, |gain| gain[piece * step + i]);
                times(made, v, length / simd::dot(v, v).sqrt());
            }
        });
        made
    }

    #[track_caller]
    fn weight_norm_backward(
        &self,
        w: &Params<Self>,
        p: &WeightNorm,
        dmade: &Master<Self>,
        g: &mut Params<Self>,
    ) {
        let [rows, d] = p.expect_shape("weight_norm_backward");
        dmade.expect_shape("weight_norm_backward", "dw", &[rows, d]);
        let (v, gain) = (w.get(&p.direction), p.gain.as_ref().map(|gain| w.get(gain)));
        let (mut dots, step): (Master<Self>, _) = (self.unset(&[rows]), rows_per_task(d));
        let inputs = v.par_chunks(step * d).zip(dmade.slice().par_chunks(step * d));
        let outputs = g.get_mut(&p.direction).par_chunks_mut(step * d);
        let outputs = outputs.zip(dots.slice_mut().par_chunks_mut(step));
        outputs.zip(inputs).enumerate().for_each(|(piece, ((dv, dots), (v, dw)))| {
            let rows = dv.chunks_exact_mut(d).zip(v.chunks_exact(d).zip(dw.chunks_exact(d)));
            for (i, ((dv, (v, dw)), dot)) in rows.zip(dots).enumerate() {
                let length = gain.map_or(T::Master::ONE, |gain| gain[piece * step + i]);
                let inverse = T::Master::ONE / simd::dot(v, v).sqrt();
                *dot = inverse * simd::dot(v, dw);
                add_across(dv, v, dw, length * inverse, *dot * inverse);
            }
        });
        if let Some(gain) = &p.gain {
            simd::add_assign(g.get_mut(gain), dots.slice());
        }
    }
}

/// The op at one size.
pub struct WeightNormCase {
    instance: &'static str,
    shape: [usize; 2],
    gain: bool,
}

impl Case for WeightNormCase {
    fn name(&self) -> String {
        format!("weight_norm/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let inputs = Inputs::new(&self.name()).param("v", &self.shape);
        if self.gain { inputs.param("g", &[self.shape[0], 1]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let p = WeightNorm { direction: io.param("v"), gain: self.gain.then(|| io.param("g")) };
        io.output(bk, &bk.weight_norm_forward(&io.w, &p));
        if io.wants_backward() {
            let dmade: Master<B> = io.upstream(bk, 0);
            bk.weight_norm_backward(&io.w, &p, &dmade, &mut io.g);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let [rows, d] = self.shape;
        vec![Threshold::rows_per_task(rows, d), Threshold::lanes(d)]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 3.0 * n,
            flops_backward: 8.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 4.0 * n,
        }
    }
}

/// Two numbers, odd, with lengths, beyond the lanes, several tasks.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, gain) in [
        ("two", [1, 2], false),
        ("odd", [5, 3], false),
        ("gain", [7, 3], true),
        ("lane_and_one", [3, 17], true),
        ("lanes", [2, 61], false),
    ] {
        v.visit(WeightNormCase { instance, shape, gain });
    }
    // Three rows of 5003 numbers are a task.
    for (instance, shape, gain) in
        [("task_and_one", [4, 5003], true), ("many_tasks", [10, 5003], false)]
    {
        v.visit(Large(WeightNormCase { instance, shape, gain }));
    }
}

/// No rows.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(WeightNormCase { instance: "empty", shape: [0, 3], gain: true });
}

/// The last layer of the published DINO head.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(WeightNormCase { instance: "65536x256", shape: [65536, 256], gain: false });
}
