//! A report against an earlier one of the same machine.
//!
//! Something got *slower* where its new interval lies wholly above the old one, and *faster* where it
//! lies wholly below; where they overlap, chance explains the difference. With two 95 % intervals a row
//! that did not change is called slower 3 times in 1,000 by chance alone, as far as runs are
//! independent; a machine whose other load has changed makes everything slower, which shows in
//! the ceilings. A result whose error is above its bound in either report is compared with nothing, and
//! counts as *broken* where only the new one is wrong.

use super::content::{BenchReport, Change, ChangeVerdict, FORMAT, Machine, Plan};
use crate::bench::Timing;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads an earlier report and refuses one that cannot be compared.
pub fn read(path: &Path, machine: &Machine, plan: &Plan) -> Result<BenchReport> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let wrong = |why: String| Error::format(path, why);
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_str(&text)
        .map_err(|e| wrong(format!("not the report.json of `beit bench report`: {e}")))?;
    if head.format != FORMAT {
        return Err(wrong(format!("its format is {}, this program's {FORMAT}", head.format)));
    }
    let old: BenchReport = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let differs = [
        differs("processor", &old.machine.cpu, &machine.cpu),
        differs("threads", &old.machine.threads, &machine.threads),
        differs("vector instructions", &old.machine.vectors, &machine.vectors),
        differs("system", &old.machine.system, &machine.system),
        differs("GPU", &old.machine.device, &machine.device),
        differs("columns", &old.plan.columns, &plan.columns),
        differs("size (--quick)", &old.plan.quick, &plan.quick),
        differs("ops", &old.plan.ops, &plan.ops),
        differs("steps", &old.plan.steps, &plan.steps),
        differs("whole plan", &old.plan, plan),
    ];
    match differs.into_iter().flatten().next() {
        Some(why) => Err(wrong(format!("cannot be compared: {why}"))),
        None => Ok(old),
    }
}

fn differs<T: PartialEq + std::fmt::Debug>(what: &str, old: &T, new: &T) -> Option<String> {
    (old != new).then(|| format!("its {what}: {old:?}; here: {new:?}"))
}

/// A figure and whether its result is right.
type Figure<'a> = (String, &'a Timing, bool);

fn figures(report: &BenchReport) -> Vec<Figure<'_>> {
    let mut all: Vec<Figure> = Vec::new();
    for c in &report.ceilings {
        let threads = c.threads.map_or(String::new(), |n| format!(" on {n} threads"));
        all.push((format!("{} {}{threads}, {}", c.column, c.name, c.shape), &c.timing, true));
    }
    for r in &report.ops {
        let Some(timing) = &r.timing else { continue };
        let what = format!("{} {} {}", r.column, r.case, r.direction);
        all.push((what, timing, r.accuracy.holds()));
    }
    for r in &report.steps {
        let Some(timing) = &r.timing else { continue };
        let what = format!("{} step {} at {}", r.column, r.preset, r.batch);
        all.push((what, timing, r.accuracy.holds()));
    }
    for r in &report.scaling {
        let (preset, batch, threads) = (&r.preset, r.batch, r.threads);
        all.push((format!("step {preset} at {batch} on {threads} threads"), &r.timing, true));
    }
    for r in &report.sweep {
        let what = format!("{} step {} at {} (sweep)", r.column, r.preset, r.batch);
        all.push((what, &r.timing, true));
    }
    all
}

/// Every figure that both reports have, in the order of the new one.
pub fn changes(old: &BenchReport, new: &BenchReport) -> Vec<Change> {
    let before: BTreeMap<_, _> =
        figures(old).into_iter().map(|(what, timing, right)| (what, (timing, right))).collect();
    let found = figures(new).into_iter().filter_map(|(what, new, right)| {
        let &(old, was_right) = before.get(&what)?;
        let verdict = match (was_right, right) {
            (false, _) => return None,
            (true, false) => ChangeVerdict::Broken,
            _ if new.interval_s[0] > old.interval_s[1] => ChangeVerdict::Slower,
            _ if new.interval_s[1] < old.interval_s[0] => ChangeVerdict::Faster,
            _ => ChangeVerdict::Same,
        };
        Some(Change { what, old: old.clone(), new: new.clone(), verdict })
    });
    found.collect()
}
