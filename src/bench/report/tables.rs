//! The tables of the page and what their cells look like.

use super::charts;
use super::content::{Accuracy, BenchReport, OpRow, StepRow};
use crate::bench::Timing;
use crate::report::page::{Cell, Table};
use std::collections::BTreeMap;

/// A unit in which a time has few digits, and how many of it make a second.
fn unit(t: f64) -> (&'static str, f64) {
    match t {
        t if t < 1e-3 => ("µs", 1e6),
        t if t < 1.0 => ("ms", 1e3),
        _ => ("s", 1.0),
    }
}

/// Three digits.
pub fn digits(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.01 => format!("{v:.2}"),
        v => format!("{v:.1e}"),
    }
}

/// Median and interval.
pub fn time(t: &Timing) -> String {
    let (unit, scale) = unit(t.median_s);
    let [median, lo, hi] =
        [t.median_s, t.interval_s[0], t.interval_s[1]].map(|t| digits(scale * t));
    format!("{median} ({lo} to {hi}) {unit}")
}

/// Bytes in MiB.
pub fn mib(bytes: f64) -> String {
    digits(bytes / (1 << 20) as f64)
}

/// An error in two digits.
pub fn error(a: &Accuracy) -> String {
    if a.error == 0.0 { "0".into() } else { format!("{:.1e}", a.error) }
}

/// Text that is struck out where the result is wrong.
pub fn valid(text: String, a: &Accuracy) -> Cell {
    if a.holds() {
        return text.into();
    }
    let (error, allowed, tensor) = (a.error, a.allowed, &a.tensor);
    Cell::struck(text, format!("{tensor}: error {error:.1e}, allowed {allowed:.1e}"))
}

/// Median and interval of what was timed, struck out where the result is wrong.
pub fn timed(timing: &Option<Timing>, a: &Accuracy) -> Cell {
    valid(timing.as_ref().map(time).unwrap_or_default(), a)
}

/// How many runs a time is of.
pub fn runs(timing: &Option<Timing>) -> Cell {
    timing.as_ref().map_or(Cell::default(), |t| t.count.to_string().into())
}

/// The bound of an error.
pub fn allowed(a: &Accuracy) -> Cell {
    format!("{:.1e}", a.allowed).into()
}

/// The name of a row, struck out with it.
pub fn name(text: &str, a: &Accuracy) -> Cell {
    if a.holds() { text.into() } else { Cell::struck(text, "") }
}

/// The same for what would be a claim: nothing where the result is wrong.
pub fn claim(text: Option<String>, a: &Accuracy) -> Cell {
    text.filter(|_| a.holds()).unwrap_or_default().into()
}

/// Images per second.
pub fn images(row: &StepRow) -> Option<String> {
    row.timing.as_ref().map(|t| digits(row.batch as f64 / t.median_s))
}

/// Everything about one column.
pub fn op_times<'a>(rows: impl Iterator<Item = &'a OpRow>) -> Table {
    let table = Table::new(
        &[
            "op",
            "pass",
            "time (interval)",
            "runs",
            "GFLOP",
            "MB",
            "FLOP/byte",
            "GFLOP/s",
            "GB/s",
            "of roof",
            "bound",
            "error",
            "allowed",
        ],
        2,
    );
    rows.fold(table, |table, r| {
        let rate = |x: Option<f64>| claim(x.map(digits), &r.accuracy);
        table.row([
            name(&r.case, &r.accuracy),
            name(&r.direction, &r.accuracy),
            timed(&r.timing, &r.accuracy),
            runs(&r.timing),
            digits(1e-9 * r.flops).into(),
            digits(1e-6 * r.bytes).into(),
            digits(r.intensity()).into(),
            rate(r.gflops()),
            rate(r.gbps()),
            rate(r.of_roof),
            r.bound.clone().unwrap_or_default().into(),
            error(&r.accuracy).into(),
            allowed(&r.accuracy),
        ])
    })
}

/// Where times mean nothing.
pub fn op_errors<'a>(rows: impl Iterator<Item = &'a OpRow>) -> Table {
    let table = Table::new(&["op", "pass", "worst tensor", "error", "allowed"], 3);
    rows.fold(table, |table, r| {
        table.row([
            name(&r.case, &r.accuracy),
            name(&r.direction, &r.accuracy),
            r.accuracy.tensor.clone().into(),
            valid(error(&r.accuracy), &r.accuracy),
            allowed(&r.accuracy),
        ])
    })
}

/// Time and error of every column, and how much faster than the CPU, where both results are right.
pub fn side_by_side(report: &BenchReport) -> Table {
    let columns = &report.plan.columns;
    let mut names = vec!["op".to_string(), "pass".into()];
    names.extend(columns.iter().flat_map(|c| [c.clone(), "error".into()]));
    names.extend(columns[1..].iter().map(|c| format!("{c} over CPU f32")));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut table = Table::new(&names, 2);
    let mut by_op: BTreeMap<(usize, &str), Vec<&OpRow>> = BTreeMap::new();
    for row in &report.ops {
        let place = report.plan.ops.iter().position(|name| *name == row.case).unwrap_or(0);
        // Forward before backward.
        let direction = if row.direction == "forward" { "a" } else { "b" };
        by_op.entry((place, direction)).or_default().push(row);
    }
    for rows in by_op.values() {
        let cpu = rows[0];
        let of = |column: &String| rows.iter().find(|r| r.column == *column);
        let mut cells: Vec<Cell> = vec![cpu.case.clone().into(), cpu.direction.clone().into()];
        for column in columns {
            match of(column) {
                Some(r) => {
                    cells.extend([timed(&r.timing, &r.accuracy), error(&r.accuracy).into()]);
                }
                None => cells.extend([Cell::default(), Cell::default()]),
            }
        }
        for column in &columns[1..] {
            let ratio = of(column).filter(|r| r.accuracy.holds() && cpu.accuracy.holds());
            let ratio = ratio
                .and_then(|r| Some(cpu.timing.as_ref()?.median_s / r.timing.as_ref()?.median_s));
            cells.push(ratio.map(|x| format!("{}x", digits(x))).unwrap_or_default().into());
        }
        table = table.row(cells);
    }
    table
}

/// A row per section, a column per step.
pub fn by_section(steps: &[StepRow]) -> Table {
    let timed: Vec<_> = steps.iter().filter(|r| !r.sections.is_empty()).collect();
    let labels = timed.iter().map(|r| r.label());
    let head: Vec<String> = std::iter::once("section".into()).chain(labels).collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let names = charts::section_names(steps);
    names.iter().fold(Table::new(&head, 1), |table, name| {
        let cell = |r: &&StepRow| -> Cell {
            let found = r.sections.iter().find(|s| s.name == *name);
            found.map(|s| time(&s.timing)).unwrap_or_default().into()
        };
        let name: Cell = name.as_str().into();
        table.row(std::iter::once(name).chain(timed.iter().map(cell)))
    })
}
