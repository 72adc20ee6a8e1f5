//! Gradients against finite differences: whether they agree, and how well that could be seen.
//!
//! This is the check that anybody's closures can go through ([`super::gradients()`] takes them over named
//! ndarrays). A forward that runs on any scalar is also compared with exact derivatives
//! ([`super::exact`]), which see far smaller errors.
//!
//! For outputs y(x) and a *random* upstream gradient u, the checked function is L = Σ u·y (never a
//! plain sum: under a sum, softmax has no gradient at all). Its derivative along a direction comes from
//! central differences of order 2, 4, 6 and 8 on a ladder of halving steps ([`super::ladder`]), starting
//! at an eighth of the tensor's size; the ladder is climbed down until the answer is clear. The
//! outputs are subtracted one by one, before they are weighted and summed: those that do not move
//! contribute exactly nothing, so the round-off of a difference is that of the outputs that do move.
//!
//! **What is moved.** Every element of a small tensor by itself. Of a larger one the elements with
//! the largest and the smallest gradient, a seeded sample, and all elements at once along
//! [`Settings::projections`] random directions of length 1, in which each element has a random sign and
//! a length inverse to its gradient, so that a row with small gradients weighs as much as one with
//! large ones.
//!
//! **What a projection can miss.** Let backward be wrong by eᵢ in element i, and the bound of the
//! comparison be b. Turning the sign of the element with the largest |eᵢvᵢ| changes Σ eᵢvᵢ by twice
//! that number, so if it is above b at most one of the two signs hides the fault: whatever the fault
//! is, k independent projections miss it with a probability of at most 2⁻ᵏ; a fault in one element only is
//! never missed. What stays below the bound is missed: an error e, relative, in one of n elements shows
//! as about e/n of the scale. A projection that fails is halved down to the element.
//!
//! **Verdicts.** A comparison has a bound of its own: the truncation error of the differences, plus the
//! round-off of function and gradient, *measured* by tables of differences at tiny steps; eight deviations
//! of it count.
//! * |analytic − numeric| above the bound, and above what a kink that was not seen could be: **fail**;
//! * below it, and the bound is at most [`Settings::resolution`] of the scale: **pass**. The scale is
//!   the largest of both numbers, of the magnitudes that add up to the difference, of a thousandth of
//!   the tensor's and a millionth of the largest of all gradients: what is left of larger numbers by
//!   cancellation is judged on their scale;
//! * else **inconclusive**, with a [`Cause`]. Where the cause is a kink, the point is drawn anew, up to
//!   three times, and the report says how often.
//!
//! ```
//! use beit_check::gradients::{Variable, check};
//!
//! // Softplus, an activation of one's own: y = ln(1 + eˣ), dx = dy / (1 + e⁻ˣ).
//! let x = Variable::new("x", &[3], vec![-1.5, 0.2, 2.0]);
//! let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.exp().ln_1p()).collect();
//! let backward = |v: &[Vec<f64>], dy: &[f64]| {
//!     vec![v[0].iter().zip(dy).map(|(x, dy)| dy / (1.0 + (-x).exp())).collect()]
//! };
//! assert!(check("softplus", std::slice::from_ref(&x), forward, backward).passed());
//!
//! // The sign in the exponent forgotten:
//! let wrong = |v: &[Vec<f64>], dy: &[f64]| {
//!     vec![v[0].iter().zip(dy).map(|(x, dy)| dy / (1.0 + x.exp())).collect()]
//! };
//! let report = check("softplus", &[x], forward, wrong);
//! assert!(!report.passed());
//! println!("{report}"); // softplus: x[2]: analytic ..., numeric ... ± ...
//! ```

use super::certificate;
use super::exact::{self, Slopes};
use super::problem::Problem;
pub use super::report::{Comparison, Report};
pub use super::variable::{Backward, Forward, Settings, Variable};
pub use super::verdict::{Cause, Location, Verdict};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Checks a function of one's own.
///
/// `forward` maps the variables' values, in order, to all outputs in one array; `backward` maps the
/// values and the gradient with respect to the outputs to one gradient per variable, in order.
/// Both must be functions of their arguments alone; that, too, is checked.
pub fn check(
    name: &str,
    variables: &[Variable],
    forward: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    backward: impl Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>>,
) -> Report {
    check_with(&Settings::for_tensors(variables.len()), name, variables, &forward, &backward)
}

/// [`check`] with other settings.
pub fn check_with(
    settings: &Settings,
    name: &str,
    variables: &[Variable],
    forward: &Forward,
    backward: &Backward,
) -> Report {
    let mut report = Report::new(name);
    report.settings = Some(*settings);
    report.tensors = variables.iter().map(|v| v.name.clone()).collect();
    report.limit = settings.coarsest.max(settings.resolution);
    let whole = |v: &&Variable| v.values.iter().all(|x| x.fract() == 0.0);
    report.whole = variables.iter().filter(whole).map(|v| v.name.clone()).collect();
    if variables.iter().any(|v| v.values.len() > settings.dense) {
        report.miss_probability = 0.5f64.powi(settings.projections as i32);
    }
    if variables.is_empty() {
        report.faults.push("there is nothing to differentiate".into());
        return report;
    }
    let values: Vec<Vec<f64>> = variables.iter().map(|v| v.values.clone()).collect();
    let outputs = match caught(|| forward(&values)) {
        Ok(outputs) => outputs.len(),
        Err(text) => {
            report.faults.push(format!("forward panicked: {text}"));
            return report;
        }
    };
    let (panicked, other) = (RefCell::new(None), Cell::new(None));
    let forward = |values: &[Vec<f64>]| match caught(|| forward(values)) {
        Ok(now) if now.len() == outputs => now,
        Ok(now) => {
            other.set(Some(now.len()));
            vec![f64::NAN; outputs]
        }
        // Beside the point it may be outside of its domain.
        Err(_) => vec![f64::NAN; outputs],
    };
    let backward = |values: &[Vec<f64>], upstream: &[f64]| {
        caught(|| backward(values, upstream)).unwrap_or_else(|text| {
            panicked.replace(Some(text));
            values.iter().map(|v| vec![f64::NAN; v.len()]).collect()
        })
    };
    let mut problem = Problem::new(settings, variables, &forward, &backward);
    let at_the_point = panicked.take();
    if let Some(text) = at_the_point {
        report.faults.push(format!("backward panicked: {text}"));
        return report;
    }
    report.faults.extend(problem.faults());
    if report.faults.is_empty() {
        report.largest.clone_from(&problem.at.largest);
        problem.compare_all(&mut report);
    }
    if let Some(now) = other.take() {
        report.faults.push(format!("forward returns {now} outputs, before {outputs}"));
    }
    report.noise = problem.gradient_noise;
    report.resolve();
    report
}

/// The result, or the text of a panic.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("no text").into()
    })
}

/// What a forward gives on numbers with two parts.
#[derive(Clone, Copy)]
pub struct Precise<'a> {
    /// On dual numbers ([`super::exact`]).
    pub slopes: &'a Slopes<'a>,
    /// In double-double ([`super::certificate`]).
    pub double: Option<&'a certificate::Doubles<'a>>,
}

/// Adds to `report` what exact derivatives say of the gradients that `backward` returns from that of all
/// `outputs`.
pub fn check_exactly(
    report: &mut Report,
    variables: &[Variable],
    outputs: usize,
    backward: &exact::Gradients,
    precise: Precise,
) {
    let Precise { slopes, double } = precise;
    let noise = std::mem::take(&mut report.noise);
    let found = exact::compare(variables, outputs, backward, slopes, double, &noise);
    report.noise = noise;
    report.exact = found.projections;
    if report.seen.is_empty() {
        report.seen.clone_from(&found.seen);
        report.largest = found.largest;
    }
    for (seen, exact) in report.seen.iter_mut().flatten().zip(found.seen.iter().flatten()) {
        *seen = seen.min(*exact);
    }
    report.resolve();
    report.miss_probability = report.miss_probability.min(exact::MISS_PROBABILITY);
    report.certificate =
        precise.double.and_then(|double| certificate::certify(variables, precise.slopes, double));
}
