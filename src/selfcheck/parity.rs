//! A case on one backend against the same case on another, and against itself on other numbers of
//! threads.

use super::cases::AnyCase;
use super::semantics::{Along, along_levelled};
use super::subject::{Done, Run, Start, rounded, still};
use crate::ops::case::{Inputs, Rounding};
use crate::rng::{Philox, Purpose};
use beit_check::exact;
use beit_check::promises::largest;
use half::bf16;
use rand_distr::{Distribution, StandardNormal};
use rayon::ThreadPoolBuilder;
use serde::Serialize;
use std::collections::BTreeMap;

/// Half a unit in the last place of bf16, relative: what one rounding may cost.
const ROUNDING_BF16: f64 = 1.0 / 512.0;
/// A device is judged relative to the tensor's largest number, or to this where all are smaller: what is
/// left of larger numbers by cancellation.
const FLOOR: f64 = 0.01;

/// How much farther from f64 a device may be in f32 than the CPU is, whose sums have another order...
const TIMES_CPU: f64 = 3.0;
/// ... and the units in the last place of the tensor's largest number that it may always be off.
const ULPS: f64 = 8.0;

/// Named tensors, widened.
pub type Results = Vec<(String, Vec<f64>)>;

/// Outputs and all gradients for these inputs and a seeded random upstream gradient.
pub fn results(run: &Run, inputs: &Inputs) -> Results {
    let done = run(&Start::backward(inputs, &upstream(run, inputs)));
    named(done.outputs, done.gradients)
}

/// The same tensors with the bounds on their rounding, in units of the unit roundoff.
fn bounds(case: &AnyCase, inputs: &Inputs) -> Results {
    let done = bounded(case, inputs);
    named(done.seconds, done.gradient_seconds)
}

/// A run whose second parts are the bounds on the rounding of outputs and gradients.
pub(super) fn bounded(case: &AnyCase, inputs: &Inputs) -> Done {
    let (run, at_rest) = (&*case.cpu_bounded, still(inputs));
    let upstream = upstream(run, inputs);
    let start = Start::backward(inputs, &upstream);
    run(&Start { seconds: Some(&at_rest), ..start })
}

fn upstream(run: &Run, inputs: &Inputs) -> Vec<Vec<f64>> {
    let outputs = run(&Start::forward(inputs)).outputs;
    let mut rng = Philox::new(0x5eed, Purpose::Check, 2, 0);
    // Numbers that every precision holds exactly.
    let mut draw = |n: usize| -> Vec<f64> {
        let one = |rng: &mut Philox| -> f32 { StandardNormal.sample(rng) };
        (0..n).map(|_| bf16::from_f32(one(&mut rng)).to_f64()).collect()
    };
    outputs.iter().map(|y| draw(y.len())).collect()
}

fn named(outputs: Vec<Vec<f64>>, gradients: BTreeMap<String, Vec<f64>>) -> Results {
    let outputs = outputs.into_iter().enumerate().map(|(i, y)| (format!("output {i}"), y));
    let gradients = gradients.into_iter();
    outputs.chain(gradients.map(|(name, dx)| (format!("gradient of {name}"), dx))).collect()
}

/// How far the numbers of one direction are off.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Distance {
    /// Largest error, relative to the largest number of its tensor (at least 0.01).
    pub error: f64,
    /// The largest share of what it may be off that a number is off; above 1 is a fault.
    pub of_bound: f64,
    /// Largest error in units in the last place, for an element-wise op.
    pub ulps: Option<f64>,
}

/// How far one run is from another.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Distances {
    /// Of the outputs.
    pub forward: Distance,
    /// Of the gradients.
    pub backward: Distance,
    /// The first number that is farther off than it may be, in words.
    pub fault: Option<String>,
}

impl Distances {
    /// The fault, if there is one.
    pub fn ok(self) -> Result<(), String> {
        self.fault.map_or(Ok(()), Err)
    }
}

/// What is compared, in which precision, and the unit in the last place of 1 of that.
struct Judge<'a> {
    case: &'a AnyCase,
    label: &'a str,
    epsilon: f64,
}

impl Judge<'_> {
    /// Compares every number of `got` with `want`; number i of tensor t may be off by
    /// `allowed(want, t, i)`.
    fn compare(
        &self,
        got: &Results,
        want: &Results,
        allowed: impl Fn(&[f64], usize, usize) -> f64,
    ) -> Distances {
        let label = self.label;
        let mut all = Distances::default();
        let names =
            |r: &Results| r.iter().map(|(name, x)| (name.clone(), x.len())).collect::<Vec<_>>();
        if names(got) != names(want) {
            all.fault = Some(format!("{label} returns {:?}, f64 {:?}", names(got), names(want)));
            return all;
        }
        for (t, ((name, got), (_, want))) in got.iter().zip(want).enumerate() {
            let size = largest(want).max(FLOOR);
            let side =
                if name.starts_with("output") { &mut all.forward } else { &mut all.backward };
            for (i, (got, wanted)) in got.iter().zip(want).enumerate() {
                let (error, allowed) = ((got - wanted).abs(), allowed(want, t, i));
                side.error = side.error.max(error / size);
                if error > 0.0 {
                    side.of_bound = side.of_bound.max(error / allowed);
                }
                if self.case.rounding == Rounding::Single {
                    let place = self.epsilon * wanted.abs().log2().floor().exp2();
                    let ulps = if error > 0.0 { error / place } else { 0.0 };
                    side.ulps = Some(side.ulps.unwrap_or(0.0).max(ulps));
                }
                // NaN must not pass.
                let within = error <= allowed;
                if !within && all.fault.is_none() {
                    all.fault = Some(format!(
                        "{name}[{i}]: {label} {got:e}, f64 {wanted:e}, error {error:.1e}, allowed \
                         {allowed:.1e}"
                    ));
                }
            }
        }
        all
    }
}

/// What rounding to f32 can do to a number whose roundings are bounded by `bound` units of roundoff. The
/// result is rounded once more where it was computed in a wider precision; numbers too small for f32 may
/// become 0, whatever they are multiplied with after that.
fn certain_f32(bound: f64, number: f64) -> f64 {
    let units = 0.5 * f64::from(f32::EPSILON) * (bound + number.abs());
    units.max(f64::from(f32::MIN_POSITIVE / f32::EPSILON))
}

/// CPU f32: each number within what rounding can do to it ([`beit_check::bounded`]), and the gradient
/// along one direction within the same of the exact derivative.
pub fn check_f32(case: &AnyCase) -> Distances {
    let inputs = rounded::<f32>(case.inputs());
    let upstream = upstream(&*case.cpu_f64, &inputs);
    let start = Start::backward(&inputs, &upstream);
    let at_rest = still(&inputs);
    let [got, want] = [&case.cpu_f32, &case.cpu_f64].map(|run| run(&start));
    let bounds = (case.cpu_bounded)(&Start { seconds: Some(&at_rest), ..start });
    let along = (!inputs.forward_only)
        .then(|| along_levelled(&inputs, &*case.cpu_dual, &upstream, &got.gradients));
    let share = along.map(|along| of_bound(&along, &got.gradients, &bounds.gradient_seconds));
    let bounds = named(bounds.seconds, bounds.gradient_seconds);
    let judge = Judge { case, label: "f32", epsilon: f64::from(f32::EPSILON) };
    let (got, want) = (named(got.outputs, got.gradients), named(want.outputs, want.gradients));
    let mut all = judge.compare(&got, &want, |want, t, i| certain_f32(bounds[t].1[i], want[i]));
    if let Some(share) = share {
        all.backward.of_bound = all.backward.of_bound.max(share);
        // NaN must not pass.
        let within = share <= 1.0;
        if !within && all.fault.is_none() {
            all.fault = Some(format!(
                "f32: along a direction off by {share:.1e} of what rounding can do to the exact derivative"
            ));
        }
    }
    all
}

/// The share of what rounding can do that ⟨gradient, v⟩ is away from the exact derivative.
fn of_bound(
    along: &Along,
    gradients: &BTreeMap<String, Vec<f64>>,
    bounds: &BTreeMap<String, Vec<f64>>,
) -> f64 {
    let (mut sum, mut allowed) = (0.0, exact::LIMIT * along.scale);
    for (name, v) in &along.direction {
        let Some((gradient, bounds)) = gradients.get(name).zip(bounds.get(name)) else {
            return f64::NAN;
        };
        for ((v, g), bound) in v.iter().zip(gradient).zip(bounds) {
            sum += g * v;
            allowed += (certain_f32(*bound, *g) + exact::LIMIT * g.abs()) * v.abs();
        }
    }
    let off = (sum - along.exact).abs();
    if off == 0.0 { 0.0 } else { off / allowed }
}

/// `run`, a device in f64, within what rounding can do to either, number by number ([`beit_check::bounded`]).
pub fn check_device_f64(case: &AnyCase, run: &Run) -> Distances {
    let inputs = case.inputs();
    let (want, bounds) = (results(&*case.cpu_f64, &inputs), bounds(case, &inputs));
    let judge = Judge { case, label: "CUDA f64", epsilon: f64::EPSILON };
    // Half an ε is the unit; the CPU may be off as far, to the other side.
    judge.compare(&results(run, &inputs), &want, |want, t, i| {
        f64::EPSILON * (bounds[t].1[i] + want[i].abs())
    })
}

/// `run`, a device in f32: each number within what rounding can do to it ([`beit_check::bounded`]), and no farther
/// from CPU f64 than three times what CPU f32 is at most in its tensor, plus 8 ulp of the tensor's
/// largest number (at least 0.01, below which it is cancellation that is seen). The first
/// knows each number, the second is sharper where it counts the worst case of thousands of roundings; a large
/// case has the first alone, and so has one that amplifies roundings.
pub fn check_device_f32(case: &AnyCase, run: &Run) -> Distances {
    let inputs = rounded::<f32>(case.inputs());
    let [cpu, want] = [&case.cpu_f32, &case.cpu_f64].map(|run| results(&**run, &inputs));
    let (bounds, epsilon) = (bounds(case, &inputs), f64::from(f32::EPSILON));
    let judge = Judge { case, label: "CUDA f32", epsilon };
    let seen = |t: usize| {
        let (cpu, want): (&[f64], &[f64]) = (&cpu[t].1, &want[t].1);
        let of_cpu = cpu.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        TIMES_CPU * of_cpu + ULPS * epsilon * largest(want).max(FLOOR)
    };
    // Of a large case the CPU's sums of thousands of terms may by chance be off by nothing.
    let unseen = case.large || case.amplifies;
    let seen = |t: usize| if unseen { f64::INFINITY } else { seen(t) };
    let seen: Vec<f64> = (0..want.len()).map(seen).collect();
    judge.compare(&results(run, &inputs), &want, |want, t, i| {
        certain_f32(bounds[t].1[i], want[i]).min(seen[t])
    })
}

/// CPU bf16 as [`check_device_bf16`] judges a device.
pub fn check_bf16(case: &AnyCase) -> Distances {
    within_roundings(case, "CPU bf16", &*case.cpu_bf16)
}

/// `run`, a device in bf16, within a few roundings of CPU f64 on inputs that bf16 holds
/// ([`Rounding::bf16`](crate::ops::case::Rounding::bf16)), relative to the tensor's largest number (at
/// least 0.01); of a case that amplifies roundings, within what they can do to each number, where that is more.
pub fn check_device_bf16(case: &AnyCase, run: &Run) -> Distances {
    within_roundings(case, "CUDA bf16", run)
}

fn within_roundings(case: &AnyCase, label: &str, run: &Run) -> Distances {
    let inputs = rounded::<bf16>(case.inputs());
    let want = results(&*case.cpu_f64, &inputs);
    let limit = |want: &[f64]| ROUNDING_BF16 * case.rounding.bf16() * largest(want).max(FLOOR);
    let limits: Vec<f64> = want.iter().map(|(_, want)| limit(want)).collect();
    // What a rounding to bf16 in the place of each can do.
    let bounds = case.amplifies.then(|| bounds(case, &inputs));
    let bound = |t: usize, i: usize| bounds.as_ref().map_or(0.0, |all| ROUNDING_BF16 * all[t].1[i]);
    let judge = Judge { case, label, epsilon: 2.0 * ROUNDING_BF16 };
    judge.compare(&results(run, &inputs), &want, |_, t, i| limits[t].max(bound(t, i)))
}

/// CPU f32: the same bits on 1, 2 and 3 threads.
pub fn check_threads(case: &AnyCase) -> Result<(), String> {
    let inputs = rounded::<f32>(case.inputs());
    let on = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| results(&*case.cpu_f32, &inputs))
    };
    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let one = on(1);
    for threads in [2, 3] {
        for ((name, got), (_, want)) in on(threads).iter().zip(&one) {
            if bits(got) != bits(want) {
                return Err(format!("{name}: other bits on {threads} threads than on 1"));
            }
        }
    }
    Ok(())
}
