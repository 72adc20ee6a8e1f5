//! What the checker says of a function with its right gradient, and with a wrong one.

use super::case::{Case, Draw, Family, Fault, Pullback};
use beit_check::gradients::check;
use beit_check::report::{Report, Verdict};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The verdict of one check.
pub struct Judged {
    pub verdict: Verdict,
    /// Whether the fault was larger than what the report says it sees.
    pub above: bool,
    /// What the report says, and what the fault was.
    pub text: String,
}

/// A backward that is not right.
type Wrong<'a> = Box<dyn Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>> + 'a>;

/// Right and wrong gradient at the point, for the upstream of the first call.
#[derive(Default)]
struct Seen {
    right: Vec<Vec<f64>>,
    wrong: Vec<Vec<f64>>,
}

/// Whether the report says that it would have seen this fault.
fn is_above(report: &Report, seen: &Seen) -> bool {
    seen.right.iter().zip(&seen.wrong).enumerate().any(|(t, (right, wrong))| {
        right.len() != wrong.len()
            || (0..right.len()).any(|i| {
                let off = (wrong[i] - right[i]).abs();
                off > report.visible(t, i) || off.is_nan()
            })
    })
}

fn judge(
    case: &Case,
    backward: impl Fn(&[Vec<f64>], &[f64]) -> Vec<Vec<f64>>,
) -> Result<Report, String> {
    let run = || check("f", &case.variables, &case.forward, backward);
    catch_unwind(AssertUnwindSafe(run)).map_err(|e| {
        let text = e.downcast_ref::<String>().cloned();
        let text = text.or_else(|| e.downcast_ref::<&str>().map(ToString::to_string));
        format!("panic: {}", text.unwrap_or_default())
    })
}

/// The first lines of a report.
fn shortened(report: &Report) -> String {
    let text = report.to_string();
    let point = text.lines().skip(1).take(2).map(str::trim).collect::<Vec<_>>();
    if point.is_empty() { text } else { point.join("; ") }
}

/// Checks the right gradient. A panic counts as a failure.
pub fn right(case: &Case) -> Judged {
    match judge(case, &case.backward) {
        Ok(report) => Judged {
            verdict: report.verdict(),
            above: false,
            text: format!("x = {}; {}", point(case), shortened(&report)),
        },
        Err(text) => Judged { verdict: Verdict::Fail, above: false, text },
    }
}

/// The first values of each variable.
fn point(case: &Case) -> String {
    let short = |v: &Vec<f64>| format!("{:?}", &v[..v.len().min(4)]);
    let all = case.variables.iter().map(|v| short(&v.values));
    all.collect::<Vec<_>>().join(" ")
}

/// Checks a wrong gradient; none where nothing of it is wrong.
pub fn wrong(family: &Family, mut draw: Draw) -> Option<Judged> {
    let case = (family.make)(&mut draw);
    let (fault, name) = fault(&case, &mut draw)?;
    let seen = RefCell::new(Seen::default());
    let start: Vec<Vec<f64>> = case.variables.iter().map(|v| v.values.clone()).collect();
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        let wrong = fault(v, dy);
        let mut seen = seen.borrow_mut();
        if seen.wrong.is_empty() && v == start {
            *seen = Seen { right: (case.backward)(v, dy), wrong: wrong.clone() };
        }
        wrong
    };
    let report = match judge(&case, backward) {
        Ok(report) => report,
        // A panic is no pass, but no answer either.
        Err(text) => return Some(Judged { verdict: Verdict::Inconclusive, above: false, text }),
    };
    let seen = seen.borrow();
    // Of the last digit of a denormal number a small part is none.
    if seen.wrong == seen.right {
        return None;
    }
    let above = is_above(&report, &seen);
    let text = format!("{name}; x = {}; {}", point(&case), shortened(&report));
    Some(Judged { verdict: report.verdict(), above, text })
}

/// A wrong backward of the case, and what is wrong in it.
fn fault<'a>(case: &'a Case, draw: &mut Draw) -> Option<(Wrong<'a>, String)> {
    let own = |wrong: &'a Pullback| Some((Box::new(wrong) as Wrong, "own mistake".into()));
    match &case.fault {
        Fault::Only(wrong) => own(wrong),
        Fault::Also(wrong) if draw.chance(0.5) => own(wrong),
        _ => element(case, draw),
    }
}

/// One element is off by a factor; where all are 0 one is not.
fn element<'a>(case: &'a Case, draw: &mut Draw) -> Option<(Wrong<'a>, String)> {
    let values: Vec<Vec<f64>> = case.variables.iter().map(|v| v.values.clone()).collect();
    let outputs = (case.forward)(&values).len();
    let upstream = draw.vector(outputs, 1.0);
    let gradients = (case.backward)(&values, &upstream);
    let places = gradients.iter().enumerate().flat_map(|(t, g)| (0..g.len()).map(move |i| (t, i)));
    let all: Vec<(usize, usize)> = places.collect();
    let moving = |&(t, i): &(usize, usize)| gradients[t][i] != 0.0 && gradients[t][i].is_finite();
    let some: Vec<(usize, usize)> = all.iter().copied().filter(moving).collect();
    let size = draw.log(1e-7, 1.0) * draw.sign();
    let places = if some.is_empty() { &all } else { &some };
    let (t, i) = *places.get(draw.integer(0, places.len().max(1) - 1))?;
    if some.is_empty() {
        let add = move |v: &[Vec<f64>], dy: &[f64]| {
            let mut all = (case.backward)(v, dy);
            all[t][i] += size * dy.iter().sum::<f64>();
            all
        };
        return Some((Box::new(add), format!("[{t}][{i}] is {size:.1e}, should be 0")));
    }
    let factor = match draw.integer(0, 9) {
        0 => -1.0,
        1 => 0.0,
        _ => 1.0 + size,
    };
    let scale = move |v: &[Vec<f64>], dy: &[f64]| {
        let mut all = (case.backward)(v, dy);
        all[t][i] *= factor;
        all
    };
    Some((Box::new(scale), format!("[{t}][{i}] is off by {:.1e}", factor - 1.0)))
}
