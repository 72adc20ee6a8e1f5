//! Negative control: faults put between right cases and the checker, in every run.
//!
//! A checker that passes everything looks like one whose subjects are all right. So `beit gradcheck` also
//! damages what right backwards return, one gradient at a time, as people's mistakes would, and runs the
//! whole check again: differences, exact derivatives, promises. All must be rejected. No op has a switch
//! for this; the fault sits around the run.
//!
//! The cases are the smallest of each op, layer and model that has at least 20 numbers to differentiate, so
//! that rows can be swapped. Up to eight tensors each is damaged in every way; of more, each fault gets
//! one, spread evenly. A fault that changes nothing beyond round-off (a factor on a gradient of zeros, a
//! transposed vector) is not one and is not counted.

use super::cases::AnyCase;
use super::subject::{Done, Run, Start};
use super::workers::each_in_turn;
use crate::ops::case::Inputs;
use beit_check::promises::{CLOSE_OVERALL, largest};
use beit_check::report::{Report, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Fewest differentiable numbers of a case that is damaged.
const LEAST: usize = 20;
/// Most tensors of a case that are all damaged in every way.
const FEW: usize = 8;

/// A mistake in a backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The gradient is negated.
    Sign,
    /// The gradient is too large by a millionth.
    Factor,
    /// The last row stays 0.
    DroppedRow,
    /// The sum leaves out the term of the last output element.
    DroppedTerm,
    /// The last two axes are swapped where the gradient is written.
    Transposed,
    /// Every element lands one place too far.
    OffByOne,
    /// What the pass before left in the buffer is still there.
    Stale,
    /// A parameter's gradient is written over what was there instead of added to it.
    Assigned,
}

/// All of them.
pub const FAULTS: [Fault; 8] = [
    Fault::Sign,
    Fault::Factor,
    Fault::DroppedRow,
    Fault::DroppedTerm,
    Fault::Transposed,
    Fault::OffByOne,
    Fault::Stale,
    Fault::Assigned,
];

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The checker rejected it.
    Caught,
    /// The checker passed it.
    Survived,
    /// It changes nothing beyond round-off.
    Equivalent,
}

/// One fault in one gradient.
#[derive(Clone, Debug, Serialize)]
pub struct Mutant {
    /// `op/instance`.
    pub case: String,
    /// The input or parameter whose gradient is damaged.
    pub tensor: String,
    /// How.
    pub fault: Fault,
    /// Whether it was noticed.
    pub outcome: Outcome,
}

/// What became of all faults.
#[derive(Clone, Debug, Serialize)]
pub struct Control {
    /// One entry per fault, in the order of the cases.
    pub mutants: Vec<Mutant>,
}

impl Control {
    /// How many ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.mutants.iter().filter(|m| m.outcome == outcome).count()
    }

    /// Whether every fault that changes something was caught.
    pub fn passed(&self) -> bool {
        self.count(Outcome::Survived) == 0
    }

    /// The share of faults caught, in words.
    pub fn score(&self) -> String {
        let [caught, survived, equivalent] =
            [Outcome::Caught, Outcome::Survived, Outcome::Equivalent].map(|o| self.count(o));
        let planted = caught + survived;
        if planted == 0 {
            return "mutation score: none (no case here is large enough to damage)".into();
        }
        // Rounded down: 100 means all.
        format!(
            "mutation score: {} % ({caught} of {planted} planted faults caught, {equivalent} more \
             change nothing)",
            100 * caught / planted
        )
    }

    /// A line for each fault that was not noticed.
    pub fn survivors(&self) -> Vec<String> {
        let survivors = self.mutants.iter().filter(|m| m.outcome == Outcome::Survived);
        let line = |m: &Mutant| {
            format!("survived: {:?} in the gradient of {} of {}", m.fault, m.tensor, m.case)
        };
        survivors.map(line).collect()
    }
}

/// Plants faults in cases out of `entries`; `judge` is the checker: it gets a case and what runs it.
pub fn plant(
    entries: &[AnyCase],
    judge: &(dyn Fn(&AnyCase, &Inputs, &Run) -> Report + Sync),
) -> Control {
    let chosen = smallest(entries);
    let planned: Vec<_> = chosen.iter().flat_map(|(case, inputs)| plan(case, inputs)).collect();
    let mutants = Mutex::new(Vec::new());
    each_in_turn(planned.len(), |i| {
        let (case, inputs, tensor, fault) = &planned[i];
        let outcome = if equivalent(case, inputs, tensor, *fault) {
            Outcome::Equivalent
        } else {
            let stale = Mutex::default();
            let run = |start: &Start| damaged(case, start, tensor, *fault, &stale);
            match judge(case, inputs, &run).verdict() {
                Verdict::Fail => Outcome::Caught,
                Verdict::Pass | Verdict::Inconclusive => Outcome::Survived,
            }
        };
        let (case, tensor) = (case.name.clone(), tensor.clone());
        let mutant = Mutant { case, tensor, fault: *fault, outcome };
        mutants.lock().unwrap_or_else(PoisonError::into_inner).push((i, mutant));
    });
    let mut mutants = mutants.into_inner().unwrap_or_else(PoisonError::into_inner);
    mutants.sort_by_key(|(i, _)| *i);
    Control { mutants: mutants.into_iter().map(|(_, mutant)| mutant).collect() }
}

/// Names of what has a gradient, and how many numbers that is.
fn tensors(inputs: &Inputs) -> (Vec<String>, usize) {
    let own = inputs.tensors.iter().filter(|t| t.differentiable);
    let own = own.map(|t| (t.name.clone(), t.values.len()));
    let parameters = inputs.learnt().map(|p| (p.name.to_string(), p.len()));
    let (names, sizes): (_, Vec<_>) = own.chain(parameters).unzip();
    (names, sizes.iter().sum())
}

/// The smallest case of each subject that is large enough, in the order of the subjects.
fn smallest(entries: &[AnyCase]) -> Vec<(&AnyCase, Inputs)> {
    let mut best: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (i, case) in entries.iter().enumerate() {
        let inputs = case.inputs();
        let size = tensors(&inputs).1;
        if size < LEAST || inputs.forward_only || case.large {
            continue;
        }
        let subject = case.name.split('/').next().unwrap_or_default();
        let entry = best.entry(subject).or_insert((size, i));
        *entry = (*entry).min((size, i));
    }
    let mut chosen: Vec<usize> = best.into_values().map(|(_, i)| i).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|i| (&entries[i], entries[i].inputs())).collect()
}

type Damage<'a> = (&'a AnyCase, &'a Inputs, String, Fault);

/// Which gradient is damaged how.
fn plan<'a>(case: &'a AnyCase, inputs: &'a Inputs) -> Vec<Damage<'a>> {
    let names = tensors(inputs).0;
    let mut all = Vec::new();
    for (i, fault) in FAULTS.into_iter().enumerate() {
        let parameter = |name: &String| inputs.layout.iter().any(|p| *p.name == **name);
        // Only parameters' gradients are added to.
        let open: Vec<_> =
            names.iter().filter(|n| fault != Fault::Assigned || parameter(n)).collect();
        if names.len() <= FEW {
            all.extend(open.into_iter().map(|name| (case, inputs, name.clone(), fault)));
        } else if let Some(name) = open.get(i * open.len() / FAULTS.len()) {
            all.push((case, inputs, (*name).clone(), fault));
        }
    }
    all
}

/// What the pass before returned, where the fault is a stale buffer.
pub type Earlier = Mutex<Option<Vec<f64>>>;

/// A right run with one gradient damaged.
pub fn damaged(case: &AnyCase, start: &Start, tensor: &str, fault: Fault, stale: &Earlier) -> Done {
    let right = &*case.cpu_f64;
    let mut done = right(start);
    let Some(upstream) = start.upstream else { return done };
    let gradient = |start: &Start| right(start).gradients.remove(tensor).unwrap_or_default();
    // Of this pass alone, whatever was there before.
    let mut own = gradient(&Start { earlier: None, ..*start });
    let range = start.inputs.layout.iter().find(|p| *p.name == *tensor).map(|p| p.range.clone());
    let shape = shape(start.inputs, tensor);
    let cols = shape.last().copied().unwrap_or(1);
    let n = own.len();
    match fault {
        Fault::Sign => own.iter_mut().for_each(|g| *g = -*g),
        Fault::Factor => own.iter_mut().for_each(|g| *g *= 1.0 + 1e-6),
        Fault::DroppedRow => own[n.saturating_sub(cols)..].fill(0.0),
        Fault::DroppedTerm => {
            let mut upstream = upstream.to_vec();
            if let Some(last) = upstream.last_mut().and_then(|u| u.last_mut()) {
                *last = 0.0;
            }
            own = gradient(&Start::backward(start.inputs, &upstream));
        }
        Fault::Transposed if shape.len() > 1 => {
            let rows = shape[shape.len() - 2];
            let matrices = own.chunks(rows * cols);
            own = matrices
                .flat_map(|m| (0..m.len()).map(|k| m[k % rows * cols + k / rows]))
                .collect();
        }
        Fault::OffByOne => own.rotate_right(n.min(1)),
        Fault::Stale => {
            let now = own.clone();
            let before = stale.lock().expect("no run panics").replace(now);
            own.iter_mut().zip(before.unwrap_or_default()).for_each(|(g, old)| *g += old);
        }
        Fault::Transposed | Fault::Assigned => {}
    }
    if let Some(range) = range {
        if let Some(earlier) = start.earlier.filter(|_| fault != Fault::Assigned) {
            own.iter_mut().zip(&earlier[range.clone()]).for_each(|(g, old)| *g += old);
        }
        done.arena[range].copy_from_slice(&own);
    }
    done.gradients.insert(tensor.into(), own);
    done
}

fn shape(inputs: &Inputs, tensor: &str) -> Vec<usize> {
    let own = inputs.tensors.iter().find(|t| t.name == tensor).map(|t| t.shape.clone());
    let parameter = || inputs.layout.iter().find(|p| *p.name == *tensor).map(|p| p.shape.to_vec());
    own.or_else(parameter).unwrap_or_default()
}

/// Whether the damaged run gives the same gradient up to round-off: for a random upstream gradient, added
/// to that of an earlier pass, and in a second run.
fn equivalent(case: &AnyCase, inputs: &Inputs, tensor: &str, fault: Fault) -> bool {
    let outputs = (case.cpu_f64)(&Start::forward(inputs)).outputs;
    let wave = |i: usize| (1.0 + i as f64).sin();
    let upstream: Vec<Vec<f64>> =
        outputs.iter().map(|y| (0..y.len()).map(wave).collect()).collect();
    let start = Start::backward(inputs, &upstream);
    let earlier = (case.cpu_f64)(&start).arena;
    let start = Start { earlier: Some(&earlier), ..start };
    let right = (case.cpu_f64)(&start).gradients;
    let overall = right.values().map(|g| largest(g)).fold(0.0, f64::max);
    let stale = Mutex::default();
    (0..2).all(|_| {
        let wrong = damaged(case, &start, tensor, fault, &stale).gradients;
        let pairs = wrong[tensor].iter().zip(&right[tensor]);
        let off = pairs.fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        off <= CLOSE_OVERALL * overall
    })
}
