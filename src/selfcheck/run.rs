//! `beit gradcheck`: all cases of the crate, as a table.

use super::cases::{AnyCase, chosen};
use super::control::{self, Control};
use super::workers::each_in_turn;
use crate::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::cuda::Device;
use crate::error::{Error, Result, panic_text};
use crate::storage::Storage;
use beit_check::pages::accepted;
use beit_check::report::{Report, Verdict};
use beit_check::{certificate, exact};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "cuda")]
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

/// Widest line of the table.
pub const WIDTH: usize = 100;
/// Failures listed below the line of a case; the JSON has all of them.
const LISTED: usize = 8;

/// What [`gradcheck`] found.
#[derive(Debug)]
pub struct Summary {
    /// One report per case, in the order of the table.
    pub reports: Vec<Report>,
    /// Whether the checker noticed planted faults; not asked where it judged a GPU.
    pub control: Option<Control>,
    /// What computed the functions.
    pub device: String,
}

impl Summary {
    /// Whether all cases passed, or are inconclusive because of a kink alone, and all planted faults
    /// were caught.
    pub fn passed(&self) -> bool {
        let caught = self.control.as_ref().is_none_or(Control::passed);
        caught && self.reports.iter().all(accepted)
    }

    /// Comparisons with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.reports.iter().map(|r| r.count(verdict)).sum()
    }

    /// Number of comparisons of an analytic with a numeric derivative.
    pub fn comparisons(&self) -> usize {
        self.reports.iter().map(|r| r.comparisons.len()).sum()
    }

    /// The report with the largest error.
    pub fn worst(&self) -> Option<&Report> {
        let error = |r: &&Report| r.worst().map_or(-1.0, |c| c.error);
        self.reports.iter().max_by(|a, b| error(a).total_cmp(&error(b)))
    }
}

/// Checks all cases whose name contains `filter`, several at a time, and writes one line per case to
/// `out` in the crate's order; with `curves` the reports have what a V-curve is drawn of. Then plants faults in some of them and writes how many were caught. An
/// error where no case matches; whether all passed is in the summary.
pub fn gradcheck(filter: Option<&str>, curves: bool, out: &mut dyn Write) -> Result<Summary> {
    let entries = chosen(filter)?;
    let device = Cpu::<f64>::new().describe();
    let mut summary = judge(&entries, &|case: &AnyCase| case.gradients(curves), device, out)?;
    let control = control::plant(&entries, &AnyCase::check);
    print(out, &[control.score()])?;
    print(out, &control.survivors().iter().flat_map(|line| wrap(line)).collect::<Vec<_>>())?;
    summary.control = Some(control);
    Ok(summary)
}

/// The same for the CUDA path in f64, against differences of its own forward.
#[cfg(feature = "cuda")]
pub fn gradcheck_cuda(
    device: &Arc<Device>,
    filter: Option<&str>,
    out: &mut dyn Write,
) -> Result<Summary> {
    let gradients = |case: &AnyCase| {
        case.cuda_gradients(device).unwrap_or_else(|e| {
            let mut report = Report::new(&case.name);
            report.faults.push(e.to_string());
            report
        })
    };
    judge(&chosen(filter)?, &gradients, format!("{} in f64", device.describe()), out)
}

fn print(out: &mut dyn Write, lines: &[String]) -> Result<()> {
    let write = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    write.and_then(|()| out.flush()).map_err(Error::io("cannot write", "the table"))
}

fn judge(
    entries: &[AnyCase],
    gradients: &(dyn Fn(&AnyCase) -> Report + Sync),
    device: String,
    out: &mut dyn Write,
) -> Result<Summary> {
    let columns = ["tensors", "checks", "worst", "exact", "slope"];
    print(&mut *out, &[row("", "case", &columns, "at")])?;
    let mut reports = Vec::with_capacity(entries.len());
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        scope.spawn(move || {
            let sender = sender;
            // In order, so that the table grows from the top.
            each_in_turn(entries.len(), |i| {
                // The receiver is gone only where the table could not be written.
                let _ = sender.send((i, guarded(&entries[i], gradients)));
            });
        });
        let mut waiting = BTreeMap::new();
        for (i, report) in receiver {
            waiting.insert(i, report);
            while let Some(report) = waiting.remove(&reports.len()) {
                print(&mut *out, &lines(&report))?;
                reports.push(report);
            }
        }
        Ok(())
    })?;
    let summary = Summary { reports, control: None, device };
    print(out, &closing(&summary))?;
    Ok(summary)
}

/// A case that panics fails; the others go on.
fn guarded(entry: &AnyCase, gradients: &dyn Fn(&AnyCase) -> Report) -> Report {
    let start = Instant::now();
    let mut report = caught(entry, gradients);
    report.seconds = start.elapsed().as_secs_f64();
    report
}

fn caught(entry: &AnyCase, gradients: &dyn Fn(&AnyCase) -> Report) -> Report {
    catch_unwind(AssertUnwindSafe(|| gradients(entry))).unwrap_or_else(|panic| {
        let text = panic_text(&*panic).unwrap_or_else(|| "no message".into());
        let mut report = Report::new(&entry.name);
        report.faults.push(format!("panicked: {text}"));
        report
    })
}

/// `numbers` are tensors, checks, worst error, worst disagreement with exact derivatives, and the power of
/// the step with which the remainder of the first-order expansion falls.
fn row(status: &str, case: &str, numbers: &[&str; 5], at: &str) -> String {
    let ([tensors, checks, worst, exact, slope], case) = (numbers, shorten(case, 31));
    let (numbers, at) = (format!("{worst:>8} {exact:>8} {slope:>5}"), shorten(at, 23));
    format!("{status:4} {case:31} {tensors:>7} {checks:>6} {numbers}  {at}").trim_end().into()
}

fn shorten(text: &str, width: usize) -> String {
    let n = text.chars().count();
    if n <= width {
        return text.into();
    }
    // The end says more: `...attn.rel_pos_bias_table [3, 1]`.
    std::iter::once('…').chain(text.chars().skip(n - width + 1)).collect()
}

/// The line of one case; below it, why it failed.
fn lines(report: &Report) -> Vec<String> {
    let (tensors, checks) = (report.tensors.len(), report.comparisons.len());
    let (worst, mut at) = match report.worst() {
        Some(c) => (format!("{:.1e}", c.error), format!("{}{}", c.tensor, c.place)),
        None if report.exact_alone => ("-".into(), "exact alone".into()),
        None if report.passed() => ("-".into(), "forward only".into()),
        None => ("-".into(), String::new()),
    };
    if !report.all_zero.is_empty() {
        at += &format!("; all zero: {}", report.all_zero.join(" "));
    }
    let (tensors, checks) = (tensors.to_string(), checks.to_string());
    let exact = report.worst_exact().map_or("-".into(), |error| format!("{error:.1e}"));
    // A straight line has no remainder.
    let slope = report.taylor.as_ref().and_then(|t| t.slope);
    let slope = slope.map_or("-".into(), |slope| format!("{slope:.2}"));
    let numbers = [&*tensors, &checks, &worst, &exact, &slope];
    let mut lines = vec![row(report.verdict().word(), &report.case, &numbers, &at)];
    lines.extend(report.failures(LISTED).iter().flat_map(|f| wrap(f)));
    lines
}

/// Breaks a line between words, indented under its case.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::from("    ")];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("never empty");
        if last.chars().count() + 1 + word.chars().count() > WIDTH && !last.trim().is_empty() {
            lines.push(format!("       {word}"));
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines
}

fn closing(summary: &Summary) -> Vec<String> {
    let of = |verdict: Verdict| -> Vec<&str> {
        let with = summary.reports.iter().filter(|r| r.verdict() == verdict);
        with.map(|r| r.case.as_str()).collect()
    };
    let mut lines = Vec::new();
    for (what, verdict) in [("failed", Verdict::Fail), ("inconclusive", Verdict::Inconclusive)] {
        let cases = of(verdict);
        if !cases.is_empty() {
            lines.extend(wrap(&format!("{what}: {}", cases.join(", "))));
        }
    }
    let tensors: usize = summary.reports.iter().map(|r| r.tensors.len()).sum();
    let (checks, cases) = (summary.comparisons(), summary.reports.len());
    let [pass, open, fail] =
        [Verdict::Pass, Verdict::Inconclusive, Verdict::Fail].map(|v| summary.count(v));
    lines.push(format!(
        "{checks} checks of {tensors} tensors in {cases} cases: {pass} pass, {fail} fail, {open} \
         inconclusive"
    ));
    let redrawn = summary.reports.iter().flat_map(|r| &r.comparisons);
    let redrawn = redrawn.filter(|c| c.redrawn > 0).count();
    lines.push(format!("{redrawn} of them at a point drawn anew because of a kink"));
    let missed = summary.reports.iter().map(|r| r.miss_probability).fold(0.0, f64::max);
    lines.push(format!(
        "a fault of several elements above the bounds of its projections is missed with p <= {missed:.1e}"
    ));
    if let Some((report, c)) = summary.worst().and_then(|r| Some((r, r.worst()?))) {
        lines.extend(wrap(&format!(
            "worst relative error {:.1e}: {}, {}{}",
            c.error, report.case, c.tensor, c.place
        )));
    }
    let exact = summary.reports.iter().filter_map(|r| Some((r.worst_exact()?, &r.case)));
    if let Some((error, case)) = exact.max_by(|a, b| a.0.total_cmp(&b.0)) {
        let limit = exact::LIMIT;
        lines.extend(wrap(&format!(
            "worst disagreement with an exact derivative {error:.1e}: {case} (limit {limit:e})"
        )));
    }
    let alone = summary.reports.iter().filter(|r| r.exact_alone).count();
    if alone > 0 {
        lines.extend(wrap(&format!(
            "{alone} cases are too large for differences: exact derivatives stand alone"
        )));
    }
    let single = summary.reports.iter().filter_map(|r| Some((r.f32_of_bound?, &r.case)));
    if let Some((share, case)) = single.max_by(|a, b| a.0.total_cmp(&b.0)) {
        lines.extend(wrap(&format!(
            "f32 is off by at most {share:.2} of what rounding can do: {case}"
        )));
    }
    let certified = summary.reports.iter().filter_map(|r| Some((r.certificate?, &r.case)));
    let uncertain = certified.max_by(|a, b| a.0.uncertainty.total_cmp(&b.0.uncertainty));
    if let Some((certificate, case)) = uncertain {
        let limit = certificate::LIMIT;
        lines.extend(wrap(&format!(
            "least certain difference in double-double {:.1e}: {case} (limit {limit:e})",
            certificate.uncertainty
        )));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_listed_under_the_case() {
        let mut report = Report::new("op/case");
        report.faults.push("x ".repeat(90) + "and more");
        let lines = lines(&report);
        assert!(lines[0].starts_with("FAIL op/case"), "{lines:?}");
        assert!(lines.len() >= 3 && lines.iter().all(|l| l.chars().count() <= WIDTH), "{lines:?}");
    }
}
