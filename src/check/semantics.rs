//! What forward and backward promise beside their numbers.
//!
//! A comparison of one backward pass with differences sees one gradient once. Mistakes that show
//! only in the second pass (a buffer that was not cleared, a gradient assigned where it should be
//! added, a sum whose order depends on the threads) need these checks, which cost a few runs each.

use super::gradients::{Report, Variable, check};
use crate::case::{Case, Inputs, Io};
use crate::cpu::Cpu;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Factor by which the upstream gradient is multiplied to see whether backward is linear in it: a
/// power of two, so that a linear backward scales to the bit, and large, so that clipping shows.
const FACTOR: f64 = -1024.0;

/// Two results that should be equal but for the order of their sums: so close, relative to the
/// largest gradient of the tensor...
const CLOSE: f64 = 1e-12;
/// ... or to the largest of all, for tensors whose gradient is nothing but round-off.
const CLOSE_OVERALL: f64 = 64.0 * f64::EPSILON;

/// Checks a function over arrays: gradients present and of the right length, outputs finite, the
/// same bits at every call, backward linear in the upstream gradient.
pub(super) fn of_function(
    variables: &[Variable],
    values: &[Vec<f64>],
    outputs: &[f64],
    upstream: &[f64],
    gradients: &[Vec<f64>],
    forward: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    backward: impl Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>>,
) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(i) = outputs.iter().position(|y| !y.is_finite()) {
        faults.push(format!("output element {i} is {}", outputs[i]));
    }
    if gradients.len() != variables.len() {
        let (got, want) = (gradients.len(), variables.len());
        faults.push(format!("backward returned {got} gradients for {want} variables"));
    }
    for (v, g) in variables.iter().zip(gradients) {
        match g.len() {
            n if n == v.values.len() => {}
            0 => faults.push(format!("backward returned no gradient for {}", v.name)),
            n => faults.push(format!(
                "gradient of {} has {n} elements, the tensor {}",
                v.name,
                v.values.len()
            )),
        }
    }
    let named = |all: &[Vec<f64>]| -> Vec<Named> {
        variables.iter().zip(all).map(|(v, g)| (v.name.clone(), g.clone())).collect()
    };
    if !same_bits(&forward(values), outputs) {
        faults.push("forward gives other outputs when it is run again".into());
    }
    if !variables.is_empty() {
        let again = backward(values, upstream);
        for name in differing(&named(gradients), &named(&again)) {
            faults.push(format!("gradient of {name} is another when backward is run again"));
        }
        let scaled: Vec<f64> = upstream.iter().map(|u| FACTOR * u).collect();
        for name in not_times(&named(gradients), &named(&backward(values, &scaled)), FACTOR) {
            faults.push(format!(
                "gradient of {name} is not linear in the upstream gradient: {FACTOR} times the \
                 one does not give {FACTOR} times the other"
            ));
        }
    }
    faults
}

/// See [`super::gradients::check_case`].
pub(super) fn check_case<C: Case>(case: &C) -> Report {
    let inputs = case.inputs();
    if inputs.forward_only {
        let mut report = Report::new(&case.name());
        report.faults = forward_only_faults(case, &inputs);
        return report;
    }
    let (variables, slots) = variables(&inputs);
    let at = |values: &[Vec<f64>]| {
        let mut inputs = inputs.clone();
        for (slot, values) in slots.iter().zip(values) {
            slot.of(&mut inputs).copy_from_slice(values);
        }
        inputs
    };
    let forward = |values: &[Vec<f64>]| run(case, &at(values), None, None).outputs.concat();
    let shapes: Vec<usize> = run(case, &inputs, None, None).outputs.iter().map(Vec::len).collect();
    let backward = |values: &[Vec<f64>], upstream: &[f64]| {
        let done = run(case, &at(values), Some(split(upstream, &shapes)), None);
        variables.iter().map(|v| done.gradients.get(&v.name).cloned().unwrap_or_default()).collect()
    };
    let mut report = check(&case.name(), &variables, forward, backward);
    let upstream: Vec<Vec<f64>> = shapes
        .iter()
        .map(|&n| (0..n).map(|i| ((i * 37 % 64) as f64 - 31.5) / 16.0).collect())
        .collect();
    report.faults.extend(case_faults(case, &inputs, &variables, &upstream));
    report
}

/// What only a case promises: rules about parameters, their gradients and threads.
fn case_faults<C: Case>(
    case: &C,
    inputs: &Inputs,
    variables: &[Variable],
    upstream: &[Vec<f64>],
) -> Vec<String> {
    let mut faults = Vec::new();
    let plain = run(case, inputs, None, None);
    let once = run(case, inputs, Some(upstream.to_vec()), None);
    if !same_bits(&plain.outputs.concat(), &once.outputs.concat()) {
        faults.push("forward gives other outputs when backward is asked for".into());
    }
    if plain.arena.iter().any(|&g| g != 0.0) {
        faults.push("forward writes to the parameter gradients".into());
    }
    if !same_bits(&once.weights, &inputs.values) {
        faults.push("the parameters are not what they were before the run".into());
    }
    for name in once.gradients.keys().filter(|n| variables.iter().all(|v| v.name != **n)) {
        faults.push(format!("backward returned a gradient for {name}, which has none"));
    }
    let again = run(case, inputs, Some(upstream.to_vec()), Some(&once.arena));
    let parameters = |done: &Done| -> Vec<Named> {
        let layout = inputs.layout.iter();
        layout.map(|p| (p.name.to_string(), done.arena[p.range.clone()].to_vec())).collect()
    };
    for name in not_times(&parameters(&once), &parameters(&again), 2.0) {
        faults.push(format!("backward does not add to the gradient of {name}"));
    }
    for name in inputs.tensors.iter().filter(|t| t.differentiable).map(|t| &t.name) {
        if let (Some(a), Some(b)) = (once.gradients.get(name), again.gradients.get(name))
            && !same_bits(a, b)
        {
            faults.push(format!("gradient of {name} depends on earlier parameter gradients"));
        }
    }
    let named = |done: &Done| -> Vec<Named> { done.gradients.clone().into_iter().collect() };
    for (pool, threads) in pools() {
        let there = pool.install(|| run(case, inputs, Some(upstream.to_vec()), None));
        if !same_bits(&there.outputs.concat(), &once.outputs.concat()) {
            faults.push(format!("outputs differ on {threads} thread(s)"));
        }
        for name in differing(&named(&once), &named(&there)) {
            faults.push(format!("gradient of {name} differs on {threads} thread(s)"));
        }
    }
    faults
}

/// Finite outputs, the same bits again and on any number of threads.
fn forward_only_faults<C: Case>(case: &C, inputs: &Inputs) -> Vec<String> {
    let mut faults = Vec::new();
    let outputs = run(case, inputs, None, None).outputs.concat();
    if let Some(y) = outputs.iter().find(|y| !y.is_finite()) {
        faults.push(format!("an output is {y}"));
    }
    for (pool, threads) in pools() {
        let there = pool.install(|| run(case, inputs, None, None).outputs.concat());
        if !same_bits(&there, &outputs) {
            faults.push(format!("outputs differ on {threads} thread(s)"));
        }
    }
    faults
}

/// Pools of one and of three threads; the third has no processor of its own on a small machine.
fn pools() -> &'static [(rayon::ThreadPool, usize)] {
    static POOLS: OnceLock<Vec<(rayon::ThreadPool, usize)>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let build = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
        [1, 3].map(|n| (build(n), n)).into()
    })
}

/// Where a variable's values lie in the inputs of a case.
enum Slot {
    Input(usize),
    Param(std::ops::Range<usize>),
}

impl Slot {
    fn of<'a>(&self, inputs: &'a mut Inputs) -> &'a mut [f64] {
        match self {
            Self::Input(i) => &mut inputs.tensors[*i].values,
            Self::Param(range) => &mut inputs.values[range.clone()],
        }
    }
}

fn variables(inputs: &Inputs) -> (Vec<Variable>, Vec<Slot>) {
    let tensors = inputs.tensors.iter().enumerate().filter(|(_, t)| t.differentiable);
    let tensors =
        tensors.map(|(i, t)| (Variable::new(&t.name, &t.shape, t.values.clone()), Slot::Input(i)));
    let parameters = inputs.layout.iter().map(|p| {
        let values = inputs.values[p.range.clone()].to_vec();
        (Variable::new(&p.name, &p.shape, values), Slot::Param(p.range.clone()))
    });
    tensors.chain(parameters).unzip()
}

/// An array and what it belongs to.
type Named = (String, Vec<f64>);

/// What a run left behind.
struct Done {
    outputs: Vec<Vec<f64>>,
    /// Gradients of inputs and parameters by name.
    gradients: BTreeMap<String, Vec<f64>>,
    /// Gradients of all parameters as they lie in the buffer.
    arena: Vec<f64>,
    weights: Vec<f64>,
}

/// Runs the case, with a backward pass where there is `upstream`, adding to gradients `earlier`.
fn run<C: Case>(
    case: &C,
    inputs: &Inputs,
    upstream: Option<Vec<Vec<f64>>>,
    earlier: Option<&[f64]>,
) -> Done {
    let bk = Cpu::<f64>::new();
    let mut io = Io::new(&bk, inputs);
    if let Some(upstream) = upstream {
        io = io.with_upstream(upstream);
    }
    if let Some(earlier) = earlier {
        io.g.master.copy_from_slice(earlier);
    }
    case.run(&bk, &mut io);
    let mut gradients = io.grads;
    for p in inputs.layout.iter() {
        gradients.insert(p.name.to_string(), io.g.get(p).to_vec());
    }
    Done {
        outputs: io.outputs,
        gradients,
        arena: io.g.master.to_vec(),
        weights: io.w.master.to_vec(),
    }
}

fn split(all: &[f64], lengths: &[usize]) -> Vec<Vec<f64>> {
    let mut rest = all;
    let mut parts = Vec::with_capacity(lengths.len());
    for &n in lengths {
        let (head, tail) = rest.split_at(n);
        parts.push(head.to_vec());
        rest = tail;
    }
    parts
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Names whose arrays differ in any bit.
fn differing(a: &[Named], b: &[Named]) -> Vec<String> {
    let pairs = a.iter().zip(b);
    pairs.filter(|(a, b)| !same_bits(&a.1, &b.1)).map(|(a, _)| a.0.clone()).collect()
}

/// Names for which `b` is not `factor` times `a`, up to the order of sums.
fn not_times(a: &[Named], b: &[Named], factor: f64) -> Vec<String> {
    let largest = |x: &[f64]| x.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let overall = a.iter().map(|(_, x)| largest(x)).fold(0.0, f64::max);
    let mut names = Vec::new();
    for ((name, a), (_, b)) in a.iter().zip(b) {
        let close = factor.abs() * (CLOSE * largest(a)).max(CLOSE_OVERALL * overall);
        // Written so that a NaN is not close.
        let agree = a.iter().zip(b).all(|(a, b)| (factor * a - b).abs() <= close);
        if a.len() != b.len() || !agree {
            names.push(name.clone());
        }
    }
    names
}
