//! What is judged: a case on some backend, with the types of both forgotten.
//!
//! Only [`run`] is compiled for each case and each backend; whoever judges works on plain numbers.

use crate::ops::Backend;
use crate::ops::case::{Case, Inputs, Io, Kind};
use crate::real::Float;
use std::collections::BTreeMap;

/// What a run starts from.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// Inputs and parameters.
    pub inputs: &'a Inputs,
    /// Gradients of the outputs; without them there is no backward pass.
    pub upstream: Option<&'a [Vec<f64>]>,
    /// What the parameter gradients hold before; zeros where `None`.
    pub earlier: Option<&'a [f64]>,
    /// Second parts of inputs and parameters, laid out like them: rates at which they change for a
    /// backend of dual numbers, displacements for one of double-double.
    pub seconds: Option<&'a Inputs>,
}

impl<'a> Start<'a> {
    /// A forward pass.
    pub fn forward(inputs: &'a Inputs) -> Self {
        Self { inputs, upstream: None, earlier: None, seconds: None }
    }

    /// Both passes.
    pub fn backward(inputs: &'a Inputs, upstream: &'a [Vec<f64>]) -> Self {
        Self { upstream: Some(upstream), ..Self::forward(inputs) }
    }

    /// A forward pass on dual numbers or double-double.
    pub fn paired(inputs: &'a Inputs, seconds: &'a Inputs) -> Self {
        Self { seconds: Some(seconds), ..Self::forward(inputs) }
    }
}

/// What a run left behind, widened.
pub struct Done {
    /// Outputs in order.
    pub outputs: Vec<Vec<f64>>,
    /// Second parts of the outputs; empty where the inputs had none.
    pub seconds: Vec<Vec<f64>>,
    /// Gradients of inputs and parameters by name.
    pub gradients: BTreeMap<String, Vec<f64>>,
    /// Their second parts; empty where the inputs had none.
    pub gradient_seconds: BTreeMap<String, Vec<f64>>,
    /// Gradients of all parameters as they lie in the buffer.
    pub arena: Vec<f64>,
    /// The parameters after the run.
    pub weights: Vec<f64>,
}

/// A case on a backend.
pub type Run<'a> = dyn Fn(&Start) -> Done + Sync + 'a;

/// Runs `case` once on `bk`.
pub fn run<B: Backend, C: Case>(bk: &B, case: &C, start: &Start) -> Done {
    let mut io = match start.seconds {
        None => Io::new(bk, start.inputs),
        Some(seconds) => Io::paired(bk, start.inputs, seconds),
    };
    if let Some(upstream) = start.upstream {
        io = io.with_upstream(upstream.to_vec());
    }
    if let Some(earlier) = start.earlier {
        io.g.master = bk.upload(earlier.iter().map(|&x| B::Master::from_f64(x)).collect());
    }
    case.run(bk, &mut io);
    finish(bk, io, start.inputs, start.seconds.is_some())
}

fn finish<B: Backend>(bk: &B, io: Io<B>, inputs: &Inputs, paired: bool) -> Done {
    let widen = |all: Vec<B::Master>| all.into_iter().map(Float::to_f64).collect::<Vec<f64>>();
    let (arena, weights) = (widen(io.g.to_host(bk)), widen(io.w.to_host(bk)));
    let (mut gradients, mut gradient_seconds) = (io.grads, io.grad_seconds);
    let seconds: Vec<f64> = io.g.to_host(bk).into_iter().map(Float::second).collect();
    for p in inputs.learnt() {
        gradients.insert(p.name.to_string(), arena[p.range.clone()].to_vec());
        if paired {
            gradient_seconds.insert(p.name.to_string(), seconds[p.range.clone()].to_vec());
        }
    }
    let (outputs, seconds) = (io.outputs, io.seconds);
    Done { outputs, seconds, gradients, gradient_seconds, arena, weights }
}

/// Inputs that each precision starts from alike: rounded to `T`, ids left alone.
pub fn rounded<T: Float>(mut inputs: Inputs) -> Inputs {
    let tensors = inputs.tensors.iter_mut().filter(|t| t.kind != Kind::Ids);
    for x in tensors.flat_map(|t| &mut t.values).chain(&mut inputs.values) {
        *x = T::from_f64(*x).to_f64();
    }
    inputs
}

/// Inputs of the same layout that do not move.
pub(super) fn still(inputs: &Inputs) -> Inputs {
    let mut still = inputs.clone();
    still.tensors.iter_mut().for_each(|t| t.values.fill(0.0));
    still.values.fill(0.0);
    still
}
