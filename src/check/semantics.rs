//! What forward and backward promise beside their numbers.
//!
//! A comparison of one backward pass with differences sees one gradient once. Mistakes that show
//! only in the second pass (a buffer that was not cleared, a gradient assigned where it should be
//! added, a sum whose order depends on the threads) need these checks, which cost a few runs each.

use super::double::Double;
use super::gradients::{Backward, Forward, Place, Report, Settings, Variable, check_with_noise};
use super::subject::{Done, Run, Start};
use super::{certificate, exact};
use crate::ops::case::Inputs;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Factor by which the upstream gradient is multiplied to see whether backward is linear in it: a
/// power of two, so that a linear backward scales to the bit, and large, so that clipping shows.
const FACTOR: f64 = -1024.0;

/// Two results that should be equal but for the order of their sums: so close, relative to the
/// largest gradient of the tensor...
const CLOSE: f64 = 1e-12;
/// ... or to the largest of all, for tensors whose gradient is nothing but round-off.
pub(super) const CLOSE_OVERALL: f64 = 64.0 * f64::EPSILON;

/// Gradients present and of the right length, outputs finite.
pub(super) fn of_results(
    variables: &[Variable],
    outputs: &[f64],
    gradients: &[Vec<f64>],
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
        let bad = g.iter().position(|g| !g.is_finite());
        if let Some(i) = bad.filter(|_| g.len() == v.values.len()) {
            let place = Place::Element(v.index(i));
            faults.push(format!("gradient of {}{place} is {}", v.name, g[i]));
        }
    }
    faults
}

/// Checks a function over arrays: the same bits at every call, backward linear in the upstream
/// gradient. `noise` is the deviation of the round-off of each gradient.
#[allow(clippy::too_many_arguments)]
pub(super) fn of_function(
    variables: &[Variable],
    values: &[Vec<f64>],
    outputs: &[f64],
    upstream: &[f64],
    gradients: &[Vec<f64>],
    noise: &[Vec<f64>],
    forward: &Forward,
    backward: &Backward,
) -> Vec<String> {
    let mut faults = Vec::new();
    let named = |all: &[Vec<f64>]| -> Vec<Named> {
        variables.iter().zip(all).map(|(v, g)| (v.name.clone(), g.clone())).collect()
    };
    if !same_bits(&forward(values), outputs) {
        faults.push("forward gives other outputs when it is run again".into());
    }
    let again = backward(values, upstream);
    for name in differing(&named(gradients), &named(&again)) {
        faults.push(format!("gradient of {name} is another when backward is run again"));
    }
    let scaled: Vec<f64> = upstream.iter().map(|u| FACTOR * u).collect();
    let scaled = named(&backward(values, &scaled));
    let position = |name: &str| variables.iter().position(|v| v.name == name);
    let noise = |name: &str| position(name).map_or(0.0, |i| largest(&noise[i]));
    for name in not_times(&named(gradients), &scaled, FACTOR, &noise) {
        faults.push(format!(
            "gradient of {name} is not linear in the upstream gradient: {FACTOR} times the \
             one does not give {FACTOR} times the other"
        ));
    }
    faults
}

/// The same case on numbers with two parts.
#[derive(Clone, Copy)]
pub(super) struct Precise<'a> {
    /// On dual numbers.
    pub dual: &'a Run<'a>,
    /// In double-double.
    pub double: Option<&'a Run<'a>>,
}

/// See [`super::gradients::check_case`]. `precise` are other judges, where there are any; `on_threads` is
/// whether the device has threads to try.
pub(super) fn check_case(
    name: &str,
    inputs: &Inputs,
    run: &Run,
    precise: Option<Precise>,
    settings: Option<Settings>,
    on_threads: bool,
) -> Report {
    let pools = if on_threads { pools() } else { &[] };
    if inputs.forward_only {
        let mut report = Report::new(name);
        report.faults = forward_only_faults(inputs, run, pools);
        return report;
    }
    let (variables, slots) = variables(inputs);
    let placed = |inputs: &Inputs, values: &[Vec<f64>]| {
        let mut inputs = inputs.clone();
        for (slot, values) in slots.iter().zip(values) {
            slot.of(&mut inputs).copy_from_slice(values);
        }
        inputs
    };
    let at = |values: &[Vec<f64>]| placed(inputs, values);
    let forward = |values: &[Vec<f64>]| run(&Start::forward(&at(values))).outputs.concat();
    let shapes: Vec<usize> = run(&Start::forward(inputs)).outputs.iter().map(Vec::len).collect();
    let backward = |values: &[Vec<f64>], upstream: &[f64]| {
        let done = run(&Start::backward(&at(values), &split(upstream, &shapes)));
        variables.iter().map(|v| done.gradients.get(&v.name).cloned().unwrap_or_default()).collect()
    };
    let settings = settings.unwrap_or_else(|| Settings::for_tensors(variables.len()));
    let (mut report, noise) = check_with_noise(&settings, name, &variables, &forward, &backward);
    if let Some(Precise { dual, double }) = precise {
        let at_rest = still(inputs);
        let paired = |run: &Run, seconds: &[Vec<f64>]| {
            run(&Start::paired(inputs, &placed(&at_rest, seconds)))
        };
        let slopes = |velocities: &[Vec<f64>]| paired(dual, velocities).seconds.concat();
        let values: Vec<_> = variables.iter().map(|v| v.values.clone()).collect();
        let outputs = shapes.iter().sum();
        let gradients = |upstream: &[f64]| backward(&values, upstream);
        report.exact = exact::compare(&variables, outputs, &gradients, &slopes);
        report.miss_probability = report.miss_probability.min(exact::MISS_PROBABILITY);
        if let Some(double) = double {
            let precise = |displacements: &[Vec<f64>]| {
                let done = paired(double, displacements);
                let pairs = done.outputs.concat().into_iter().zip(done.seconds.concat());
                pairs.map(|(high, low)| Double::new(high, low)).collect()
            };
            report.certificate = certificate::certify(&variables, &slopes, &precise);
        }
    }
    let upstream: Vec<Vec<f64>> = shapes
        .iter()
        .map(|&n| (0..n).map(|i| ((i * 37 % 64) as f64 - 31.5) / 16.0).collect())
        .collect();
    report.faults.extend(case_faults(inputs, run, &variables, &noise, &upstream, pools));
    report
}

/// What only a case promises: rules about parameters, their gradients and threads.
fn case_faults(
    inputs: &Inputs,
    run: &Run,
    variables: &[Variable],
    noise: &[Vec<f64>],
    upstream: &[Vec<f64>],
    pools: &[(rayon::ThreadPool, usize)],
) -> Vec<String> {
    let mut faults = Vec::new();
    let plain = run(&Start::forward(inputs));
    let both = Start::backward(inputs, upstream);
    let once = run(&both);
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
    let again = run(&Start { earlier: Some(&once.arena), ..both });
    let parameters = |done: &Done| -> Vec<Named> {
        let layout = inputs.layout.iter();
        layout.map(|p| (p.name.to_string(), done.arena[p.range.clone()].to_vec())).collect()
    };
    let noise: BTreeMap<&str, &[f64]> =
        variables.iter().zip(noise).map(|(v, noise)| (&*v.name, &**noise)).collect();
    let noise = |name: &str| noise.get(name).map_or(0.0, |noise| largest(noise));
    for name in not_times(&parameters(&once), &parameters(&again), 2.0, &noise) {
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
    for (pool, threads) in pools {
        let there = pool.install(|| run(&both));
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
fn forward_only_faults(
    inputs: &Inputs,
    run: &Run,
    pools: &[(rayon::ThreadPool, usize)],
) -> Vec<String> {
    let mut faults = Vec::new();
    let outputs = run(&Start::forward(inputs)).outputs.concat();
    if let Some(y) = outputs.iter().find(|y| !y.is_finite()) {
        faults.push(format!("an output is {y}"));
    }
    for (pool, threads) in pools {
        let there = pool.install(|| run(&Start::forward(inputs)).outputs.concat());
        if !same_bits(&there, &outputs) {
            faults.push(format!("outputs differ on {threads} thread(s)"));
        }
    }
    faults
}

/// Pools of 1, 2 and 4 threads; on a small machine some have no processor of their own.
fn pools() -> &'static [(rayon::ThreadPool, usize)] {
    static POOLS: OnceLock<Vec<(rayon::ThreadPool, usize)>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let build = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
        [1, 2, 4].map(|n| (build(n), n)).into()
    })
}

/// Inputs of the same layout that do not move.
pub(super) fn still(inputs: &Inputs) -> Inputs {
    let mut still = inputs.clone();
    still.tensors.iter_mut().for_each(|t| t.values.fill(0.0));
    still.values.fill(0.0);
    still
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

/// The largest magnitude.
pub(super) fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, x| m.max(x.abs()))
}

/// Names for which `b` is not `factor` times `a`, up to the order of sums; `noise` is the deviation of
/// the round-off of each.
fn not_times(a: &[Named], b: &[Named], factor: f64, noise: &dyn Fn(&str) -> f64) -> Vec<String> {
    let overall = a.iter().map(|(_, x)| largest(x)).fold(0.0, f64::max);
    let mut names = Vec::new();
    for ((name, a), (_, b)) in a.iter().zip(b) {
        let close = (CLOSE * largest(a)).max(CLOSE_OVERALL * overall).max(64.0 * noise(name));
        let close = factor.abs() * close;
        // Written so that a NaN is not close.
        let agree = a.iter().zip(b).all(|(a, b)| (factor * a - b).abs() <= close);
        if a.len() != b.len() || !agree {
            names.push(name.clone());
        }
    }
    names
}
