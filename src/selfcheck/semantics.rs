//! A case through the checker, and what only a case promises: a gradient is added, not assigned; a sum's
//! order does not depend on the threads; parameters and inputs stay as they are.

use super::subject::{Done, Run, Start, still};
use crate::ops::case::Inputs;
use beit_check::double::Double;
use beit_check::gradients::{self, Report, Settings, Variable, check_exactly, check_with_noise};
use beit_check::promises::{NamedValues, differing, largest, not_times, same_bits};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The same case on numbers with two parts.
#[derive(Clone, Copy)]
pub(super) struct OnPairs<'a> {
    /// On dual numbers.
    pub dual: &'a Run<'a>,
    /// In double-double.
    pub double: Option<&'a Run<'a>>,
}

/// See [`super::check_case`]. `precise` are other judges, where there are any; `on_threads` is
/// whether the device has threads to try.
pub(super) fn check_case(
    name: &str,
    inputs: &Inputs,
    run: &Run,
    precise: Option<OnPairs>,
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
    if let Some(OnPairs { dual, double }) = precise {
        let at_rest = still(inputs);
        let paired = &|run: &Run, seconds: &[Vec<f64>]| {
            run(&Start::paired(inputs, &placed(&at_rest, seconds)))
        };
        let slopes = |velocities: &[Vec<f64>]| paired(dual, velocities).seconds.concat();
        let values: Vec<_> = variables.iter().map(|v| v.values.clone()).collect();
        let outputs = shapes.iter().sum();
        let backward_here = |upstream: &[f64]| backward(&values, upstream);
        let double = double.map(|double| {
            move |displacements: &[Vec<f64>]| -> Vec<Double> {
                let done = paired(double, displacements);
                let pairs = done.outputs.concat().into_iter().zip(done.seconds.concat());
                pairs.map(|(high, low)| Double::new(high, low)).collect()
            }
        });
        let double = double.as_ref().map(|double| double as _);
        let precise = gradients::Precise { slopes: &slopes, double };
        check_exactly(&mut report, &variables, outputs, &backward_here, precise);
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
    let parameters = |done: &Done| -> Vec<NamedValues> {
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
    let named = |done: &Done| -> Vec<NamedValues> { done.gradients.clone().into_iter().collect() };
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
