//! The pictures of the page.

use super::content::{BenchReport, OpRow, StepRow};
use crate::bench::Timing;
use crate::bench::columns::CPU;
use beit_check::plot::{Axis, Bar, Bars, Guide, Plot, Point};

/// Rates of work over a time, with the interval the other way round.
fn rate(work: f64, t: &Timing) -> (f64, [f64; 2]) {
    (work / t.median_s, [work / t.interval_s[1], work / t.interval_s[0]])
}

/// GFLOP/s over operations per byte, under the roofs.
pub fn roofline(report: &BenchReport, column: &str) -> String {
    let roof = crate::bench::ceilings::Roofs::of(&report.ceilings).get(column);
    let Some(roof) = roof else { return String::new() };
    let right = |r: &&OpRow| r.column == column && r.accuracy.holds() && r.flops > 0.0;
    let points = |direction: &str| -> Vec<Point> {
        let rows = report.ops.iter().filter(right).filter(|r| r.direction == direction);
        let point = |r: &OpRow| {
            let (y, interval) = rate(1e-9 * r.flops, r.timing.as_ref()?);
            Some(Point { x: r.intensity(), y, interval: Some(interval), label: r.case.clone() })
        };
        rows.filter_map(point).collect()
    };
    let (forward, backward) = (points("forward"), points("backward"));
    let all = || forward.iter().chain(&backward).map(|p| p.x);
    let ridge = roof.compute / roof.memory;
    let (least, most) = (all().fold(ridge, f64::min) / 1.5, all().fold(ridge, f64::max) * 2.0);
    let path = |memory: f64, compute: f64| {
        Guide::Path(vec![
            (least, memory * least),
            (compute / memory, compute),
            (most.max(compute / memory), compute),
        ])
    };
    let mut plot = Plot::new(
        &format!("Roofline, {column}"),
        Axis::log("operations per byte that must be moved"),
        Axis::log("GFLOP/s"),
    )
    .describe(
        "Each mark is an op in one direction; the dashed lines are what the machine reaches. Left of the \
         bend memory binds, right of it the arithmetic.",
    )
    .points("forward", &forward)
    .points("backward", &backward)
    .guide("all threads", path(roof.memory, roof.compute));
    // The roof of one thread, where it is another: the best of all shapes, as above.
    let one = |name: &str| {
        let found = report.ceilings.iter().filter(|c| c.name == name && c.threads == Some(1));
        found.map(|c| c.best).reduce(f64::max)
    };
    if let (true, Some(compute), Some(memory)) = (column == CPU.name, one("sgemm"), one("triad"))
        && compute < 0.9 * roof.compute
    {
        plot = plot.guide("one thread", path(memory, compute));
    }
    plot.svg()
}

/// Share of the roof, op by op.
pub fn of_roof(report: &BenchReport, column: &str) -> String {
    let title = format!("Share of the roof, {column}");
    let mut bars = Bars::new(&title, "measured rate over the roof", &["forward", "backward"])
        .describe("1 is what the machine reaches on a plain product or pass over memory.")
        .line_at(1.0);
    for case in &report.plan.ops {
        let of = |direction: &str| {
            let mut rows =
                report.ops.iter().filter(|r| r.column == column && r.direction == direction);
            let row = rows.find(|r| r.case == *case && r.accuracy.holds())?;
            let (share, t) = (row.of_roof?, row.timing.as_ref()?);
            let ends = t.interval_s.map(|s| share * t.median_s / s);
            Some(Bar { value: share, interval: Some([ends[1], ends[0]]) })
        };
        let both = vec![of("forward"), of("backward")];
        if both.iter().any(Option::is_some) {
            bars = bars.group(case, both);
        }
    }
    bars.svg()
}

/// Names of the sections of all steps, in order.
pub fn section_names(steps: &[StepRow]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for section in steps.iter().flat_map(|s| &s.sections) {
        if !names.contains(&section.name) {
            names.push(section.name.clone());
        }
    }
    names
}

/// Where the time of a step goes, in per cent.
pub fn sections(report: &BenchReport) -> String {
    let names = section_names(&report.steps);
    let short: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bars = Bars::new("Where the time goes", "% of data, tokenizer and step", &short)
        .stacked()
        .describe("Median of each section over the sum of these medians.");
    for row in report.steps.iter().filter(|r| !r.sections.is_empty()) {
        let sum = row.sections.iter().map(|s| s.timing.median_s).sum::<f64>();
        let of = |name: &String| {
            let section = row.sections.iter().find(|s| s.name == *name)?;
            Some(Bar::from(100.0 * section.timing.median_s / sum))
        };
        bars = bars.group(&row.label(), names.iter().map(of).collect());
    }
    bars.svg()
}

/// Predicted and measured memory.
pub fn memory(report: &BenchReport) -> String {
    let mib = |bytes: f64| Bar::from(bytes / (1 << 20) as f64);
    let mut bars = Bars::new("Memory of a step", "MiB of tensors", &["predicted", "measured"]);
    for row in &report.steps {
        let both = vec![Some(mib(row.predicted_bytes)), row.measured_bytes.map(mib)];
        bars = bars.group(&row.label(), both);
    }
    bars.svg()
}

/// Speed on n threads over that on one, by what ran.
pub fn scaled(report: &BenchReport) -> Vec<(String, Vec<(usize, Timing)>)> {
    let mut all: Vec<(String, Vec<(usize, Timing)>)> = Vec::new();
    let mut add = |name: String, threads: usize, timing: &Timing| match all
        .iter_mut()
        .find(|(n, _)| *n == name)
    {
        Some((_, runs)) => runs.push((threads, timing.clone())),
        None => all.push((name, vec![(threads, timing.clone())])),
    };
    for name in ["sgemm", "triad"] {
        // Only runs of the same size say anything about threads.
        let runs: Vec<_> = report.ceilings.iter().filter(|c| c.name == name).collect();
        for c in runs.iter().filter(|c| c.shape == runs[0].shape) {
            add(format!("{name} {}", c.shape), c.threads.unwrap_or(1), &c.timing);
        }
    }
    for row in &report.scaling {
        add(format!("step {} at {}", row.preset, row.batch), row.threads, &row.timing);
    }
    all
}

/// The plot of [`scaled`].
pub fn scaling(report: &BenchReport) -> String {
    let most = report.machine.threads as f64;
    if most < 2.0 {
        return String::new();
    }
    let mut plot = Plot::new(
        "Thread scaling",
        Axis::linear("threads"),
        Axis::linear("speed over one thread"),
    )
    .describe("Median of one thread over the median of n; the bars are the interval of the latter.")
    .guide("in proportion", Guide::Path(vec![(1.0, 1.0), (most, most)]));
    for (name, runs) in scaled(report) {
        let Some((1, one)) = runs.first() else { continue };
        let points = runs.iter().map(|(threads, t)| {
            let (y, interval) = rate(one.median_s, t);
            Point { x: *threads as f64, y, interval: Some(interval), label: String::new() }
        });
        plot = plot.line(&name, &points.collect::<Vec<_>>());
    }
    plot.svg()
}

/// Images per second over the batch size.
pub fn sweep(report: &BenchReport) -> String {
    let title = format!("Batch size, {}", report.plan.swept);
    let mut plot = Plot::new(&title, Axis::log("images of a step"), Axis::log("images/s"));
    for column in &report.plan.columns {
        let rows = report.sweep.iter().filter(|r| r.column == *column);
        let points: Vec<Point> = rows
            .map(|r| {
                let (y, interval) = rate(r.batch as f64, &r.timing);
                Point { x: r.batch as f64, y, interval: Some(interval), label: String::new() }
            })
            .collect();
        if !points.is_empty() {
            plot = plot.line(column, &points);
        }
    }
    plot.svg()
}
