//! A case through the checker, and what only a case promises: a gradient is added, not assigned; a sum's
//! order does not depend on the threads; parameters and inputs stay as they are.

use super::subject::{Done, Run, Start, still};
use crate::ops::case::Inputs;
use crate::rng::{Philox, Purpose};
use beit_check::double::Double;
use beit_check::gradients::{self, Report, Settings, Variable, check_exactly, check_with};
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
    let placed = |inputs: &Inputs, values: &[Vec<f64>]| placed(inputs, &slots, values);
    let at = |values: &[Vec<f64>]| placed(inputs, values);
    let forward = |values: &[Vec<f64>]| run(&Start::forward(&at(values))).outputs.concat();
    let shapes: Vec<usize> = run(&Start::forward(inputs)).outputs.iter().map(Vec::len).collect();
    let backward = |values: &[Vec<f64>], upstream: &[f64]| {
        let done = run(&Start::backward(&at(values), &split(upstream, &shapes)));
        variables.iter().map(|v| done.gradients.get(&v.name).cloned().unwrap_or_default()).collect()
    };
    let settings = settings.unwrap_or_else(|| Settings::for_tensors(variables.len()));
    let mut report = check_with(&settings, name, &variables, &forward, &backward);
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
    let measured = report.noise().to_vec();
    let noise = |t: usize| largest(measured.get(t).map_or(&[][..], |noise| noise));
    report.faults.extend(case_faults(inputs, run, &variables, &noise, &shapes, pools));
    report
}

/// Values of all variables laid over inputs.
fn placed(inputs: &Inputs, slots: &[Slot], values: &[Vec<f64>]) -> Inputs {
    let mut inputs = inputs.clone();
    for (slot, values) in slots.iter().zip(values) {
        slot.of(&mut inputs).copy_from_slice(values);
    }
    inputs
}

/// A case that is too large for differences: its gradient beside exact derivatives, and what a case
/// promises. `bounds` are what rounding can do to each gradient, by name.
pub(super) fn check_large(
    name: &str,
    inputs: &Inputs,
    (run, dual): (&Run, &Run),
    bounds: &BTreeMap<String, Vec<f64>>,
    on_threads: bool,
) -> Report {
    let pools = if on_threads { pools() } else { &[] };
    let mut report = Report::new(name);
    let (variables, slots) = variables(inputs);
    report.tensors = variables.iter().map(|v| v.name.clone()).collect();
    report.exact_alone = true;
    let shapes: Vec<usize> = run(&Start::forward(inputs)).outputs.iter().map(Vec::len).collect();
    let backward = |upstream: &[f64]| -> Vec<Vec<f64>> {
        let done = run(&Start::backward(inputs, &split(upstream, &shapes)));
        variables.iter().map(|v| done.gradients.get(&v.name).cloned().unwrap_or_default()).collect()
    };
    let at_rest = still(inputs);
    let slopes = |velocities: &[Vec<f64>]| {
        dual(&Start::paired(inputs, &placed(&at_rest, &slots, velocities))).seconds.concat()
    };
    let precise = gradients::Precise { slopes: &slopes, double: None };
    check_exactly(&mut report, &variables, shapes.iter().sum(), &backward, precise);
    let upstream = upstream(&shapes);
    let gradients = backward(&upstream.concat());
    for (v, g) in variables.iter().zip(&gradients) {
        if g.len() != v.values.len() {
            report.faults.push(format!(
                "gradient of {} has {} elements, the tensor {}",
                v.name,
                g.len(),
                v.values.len()
            ));
        }
        if largest(g) == 0.0 {
            report.all_zero.push(v.name.clone());
        }
    }
    let noise = |t: usize| {
        bounds.get(&variables[t].name).map_or(0.0, |bounds| 0.5 * f64::EPSILON * largest(bounds))
    };
    report.faults.extend(case_faults(inputs, run, &variables, &noise, &shapes, pools));
    report
}

/// Gradients of outputs of these lengths, many different ones.
fn upstream(shapes: &[usize]) -> Vec<Vec<f64>> {
    let one = |i: usize| ((i * 37 % 64) as f64 - 31.5) / 16.0;
    shapes.iter().map(|&n| (0..n).map(one).collect()).collect()
}

/// What a gradient, by name, says of a direction: ⟨gradient, v⟩, and what the exact derivative is there.
pub(super) struct Along {
    /// How fast each variable moves, by name.
    pub direction: BTreeMap<String, Vec<f64>>,
    /// ⟨u, J v⟩ from dual numbers.
    pub exact: f64,
    /// Σ |uᵢ (J v)ᵢ|.
    pub scale: f64,
}

/// The exact derivative along random signs, each divided by its gradient, as far as that is above a
/// thousandth of its tensor's largest.
pub(super) fn along_levelled(
    inputs: &Inputs,
    dual: &Run,
    upstream: &[Vec<f64>],
    gradients: &BTreeMap<String, Vec<f64>>,
) -> Along {
    let (variables, slots) = variables(inputs);
    let mut rng = Philox::new(0x5eed, Purpose::Check, 6, 0);
    let mut levelled = |g: &Vec<f64>| -> Vec<f64> {
        let most = largest(g);
        let least = if most > 0.0 { 1e-3 * most } else { 1.0 };
        let mut sign = || if rng.integer(1) == 0 { 1.0 } else { -1.0 };
        g.iter().map(|g| sign() / g.abs().max(least)).collect()
    };
    let zeros = |v: &Variable| vec![0.0; v.values.len()];
    let v: Vec<Vec<f64>> = (variables.iter())
        .map(|v| gradients.get(&v.name).map_or_else(|| zeros(v), &mut levelled))
        .collect();
    let slopes = dual(&Start::paired(inputs, &placed(&still(inputs), &slots, &v))).seconds;
    let terms = slopes.iter().flatten().zip(upstream.iter().flatten()).map(|(s, u)| s * u);
    let (exact, scale) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
    let direction = variables.into_iter().map(|v| v.name).zip(v).collect();
    Along { direction, exact, scale }
}

/// What only a case promises: rules about parameters, their gradients and threads. `noise` is the round-off
/// of the gradient of each variable, `shapes` the lengths of the outputs.
fn case_faults(
    inputs: &Inputs,
    run: &Run,
    variables: &[Variable],
    noise: &dyn Fn(usize) -> f64,
    shapes: &[usize],
    pools: &[(rayon::ThreadPool, usize)],
) -> Vec<String> {
    let (mut faults, upstream) = (Vec::new(), upstream(shapes));
    let plain = run(&Start::forward(inputs));
    let both = Start::backward(inputs, &upstream);
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
    let noise = |name: &str| variables.iter().position(|v| v.name == name).map_or(0.0, noise);
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
        // From each of two threads, whichever of more.
        let from_all = || pool.broadcast(|_| run(&both));
        let from_one = || vec![pool.install(|| run(&both))];
        for there in if *threads == 2 { from_all() } else { from_one() } {
            if !same_bits(&there.outputs.concat(), &once.outputs.concat()) {
                faults.push(format!("outputs differ on {threads} thread(s)"));
            }
            for name in differing(&named(&once), &named(&there)) {
                faults.push(format!("gradient of {name} differs on {threads} thread(s)"));
            }
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
    let parameters = inputs.learnt().map(|p| {
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
