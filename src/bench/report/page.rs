//! A report as a page.

use super::charts;
use super::content::{BenchReport, Change, ChangeVerdict, StepRow};
use super::tables::{
    allowed, by_section, claim, digits, error, images, mib, name, op_errors, op_times, runs,
    side_by_side, time, timed,
};
use crate::report::page::{Cell, Page, Table};

/// The whole page.
pub fn page(report: &BenchReport, command: &str) -> Page {
    let page = Page::new("beit bench report").with_contents();
    let page = about(page, report, command);
    let page = ceilings(page, report);
    let page = ops(page, report);
    let page = steps(page, report);
    let page = scaling(page, report);
    let page = sweep(page, report);
    let page = peers(page, report);
    changes(page, report)
}

fn about(page: Page, report: &BenchReport, command: &str) -> Page {
    let m = &report.machine;
    let row = |name: &str, value: String| [name.to_string(), value];
    let gpu = match (&m.device, &m.no_device) {
        (Some(device), _) => device.clone(),
        (None, why) => format!("none: {}", why.as_deref().unwrap_or("not looked for")),
    };
    let page = page.section("What was measured, and how").code(command).table(
        Table::new(&["", ""], 2).rows([
            row("beit", report.beit.clone()),
            row("processor", format!("{}, {} threads", m.cpu, m.threads)),
            row("vector instructions", m.vectors.clone()),
            row("system", m.system.clone()),
            row("GPU", gpu),
            row("took", format!("{:.0} s", report.seconds)),
            row(
                "other programs",
                match report.other_programs {
                    Some(cores) => format!("used {} cores meanwhile, on average", digits(cores)),
                    None => "not known".into(),
                },
            ),
        ]),
    );
    let busy = report.other_programs.is_some_and(|cores| cores > 0.1 * m.threads as f64);
    let remarks = [
        (
            busy,
            "Other programs had more than a tenth of this machine: its times say less about this program \
             than their intervals suggest.",
        ),
        (
            report.plan.quick,
            "This is the quick form: shapes for checks and few runs. It shows that everything works; \
             its times say little.",
        ),
        (
            m.emulated,
            "The GPU is the emulator of the tests. Its errors count; it has no times, and none are shown.",
        ),
    ];
    let remarks = remarks.into_iter().filter(|(applies, _)| *applies);
    let page = remarks.fold(page, |page, (_, text)| page.text(text));
    page.list(&RULES.map(String::from))
}

/// What makes the figures comparable.
const RULES: [&str; 9] = [
    "Same inputs: every column gets the same numbers, which bf16 holds exactly, from a seed.",
    "Same precision within a column: f32 means f32 in every product (no TF32); bf16 means bf16 operands \
     with f32 sums, and f32 parameters and optimizer.",
    "Same work: forward, loss, backward, clipping and AdamW of the same model, PyTorch's too.",
    "Warm-up: one run of an op and two steps before the timed ones.",
    "The device is waited for before the clock is read, at both ends. One wait and one launch are part \
     of every time on a GPU.",
    "Outliers are kept. A time is the median; the interval in brackets holds the true median with at least \
     95 % (order statistics, as far as runs are independent), or with what is said where there are fewer \
     than 6 runs.",
    "Errors: against f64 on the same inputs, relative to the tensor's largest number. Where an error is \
     above its bound, the row is struck out and counts for nothing.",
    "No speed-up without both absolute times beside it.",
    "Rates are of counted work: operations of the formula, bytes of every tensor read and written once. \
     Above the roof of memory, the data came from a cache.",
];

fn ceilings(page: Page, report: &BenchReport) -> Page {
    let mut table = Table::new(
        &["ceiling", "column", "threads", "size", "best", "median", "runs", "coverage"],
        2,
    );
    for c in &report.ceilings {
        let rate = |t: f64| digits(1e-9 * c.work / t);
        let t = &c.timing;
        table = table.row([
            c.name.clone().into(),
            c.column.clone().into(),
            c.threads.map_or("".into(), |n| n.to_string()).into(),
            c.shape.clone().into(),
            format!("{} {}", digits(c.best), c.unit).into(),
            {
                let [lo, hi] = [t.interval_s[1], t.interval_s[0]].map(rate);
                format!("{} ({lo} to {hi}) {}", rate(t.median_s), c.unit).into()
            },
            t.count.to_string().into(),
            format!("{:.3}", t.coverage).into(),
        ]);
    }
    page.section("Ceilings")
        .text(
            "What this machine reaches on a plain matrix product and on a pass over memory (a = b + s c: \
             two arrays read, one written), before everything else and once more at the end. The best run on all \
             threads is the roof of the ops.",
        )
        .table(table)
}

fn ops(page: Page, report: &BenchReport) -> Page {
    let mut page = page.section("Ops");
    for column in &report.plan.columns {
        let rows = || report.ops.iter().filter(|r| r.column == *column);
        page = page.subsection(column);
        if rows().all(|r| r.timing.is_none()) {
            page = page.table(op_errors(rows()));
            continue;
        }
        page = page
            .chart(&charts::roofline(report, column))
            .chart(&charts::of_roof(report, column))
            .table(op_times(rows()));
    }
    if report.plan.columns.len() < 2 {
        return page;
    }
    page.subsection("Side by side").table(side_by_side(report))
}

fn steps(page: Page, report: &BenchReport) -> Page {
    let mut table = Table::new(
        &[
            "preset",
            "column",
            "batch",
            "parameters",
            "step (interval)",
            "runs",
            "images/s",
            "MFU",
            "error",
            "allowed",
            "MiB predicted",
            "MiB measured",
            "ratio",
        ],
        2,
    );
    for r in &report.steps {
        let ratio = r.measured_bytes.map(|m| digits(r.predicted_bytes / m));
        table = table.row([
            name(&r.preset, &r.accuracy),
            name(&r.column, &r.accuracy),
            r.batch.to_string().into(),
            r.params.to_string().into(),
            timed(&r.timing, &r.accuracy),
            runs(&r.timing),
            claim(images(r), &r.accuracy),
            claim(r.mfu.map(digits), &r.accuracy),
            error(&r.accuracy).into(),
            allowed(&r.accuracy),
            mib(r.predicted_bytes).into(),
            r.measured_bytes.map(mib).unwrap_or_default().into(),
            ratio.unwrap_or_default().into(),
        ]);
    }
    let sections = by_section(&report.steps);
    let page = page
        .section("Training steps")
        .text(
            "A step goes from images on the host to updated weights: copies, forward, loss, backward, \
             clipping, AdamW. MFU is the work of its matrix products over what the best product would do \
             in that time. The error is that of the first step's loss and gradients. Memory is that of \
             tensors; the prediction is computed from the sizes before the step (its formula is in \
             src/bench/report/memory.rs).",
        )
        .table(table)
        .chart(&charts::memory(report));
    if sections.is_empty() {
        return page;
    }
    let gpu = report.plan.columns.len() > 1 && !report.machine.emulated;
    let page = page
        .subsection("By section")
        .text(
            "Data is the making of both views and the masks of a batch from decoded images, on all threads; \
             training does it ahead. The tokenizer turns the batch into tokens. Both are timed by \
             themselves and not part of the step above. Idle are threads that did not run while parts of \
             the batch did: they waited for each other, or other programs had their cores.",
        )
        .chart(&charts::sections(report))
        .table(sections);
    if gpu {
        page.text(
            "On the GPU the sections are of further steps with a wait after each of them; what the GPU \
             itself idles cannot be seen from here, so it has no such section.",
        )
    } else {
        page
    }
}

fn scaling(page: Page, report: &BenchReport) -> Page {
    let mut table =
        Table::new(&["work", "threads", "time (interval)", "runs", "speed over one thread"], 1);
    for (name, runs) in charts::scaled(report) {
        for (threads, t) in &runs {
            let one = runs.first().filter(|(threads, _)| *threads == 1).map(|(_, t)| t.median_s);
            table = table.row([
                name.clone().into(),
                threads.to_string().into(),
                time(t).into(),
                t.count.to_string().into(),
                one.map(|one| digits(one / t.median_s)).unwrap_or_default().into(),
            ]);
        }
    }
    page.section("Thread scaling").chart(&charts::scaling(report)).table(table)
}

fn sweep(page: Page, report: &BenchReport) -> Page {
    let columns: Vec<&String> = report
        .plan
        .columns
        .iter()
        .filter(|c| report.sweep.iter().any(|r| r.column == **c))
        .collect();
    let mut names = vec!["batch".to_string()];
    names.extend(columns.iter().flat_map(|c| [format!("{c}, step (interval)"), "images/s".into()]));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut table = Table::new(&names, 0);
    for &batch in &report.plan.batches {
        let mut cells: Vec<Cell> = vec![batch.to_string().into()];
        for column in &columns {
            let row = report.sweep.iter().find(|r| r.column == **column && r.batch == batch);
            let t = row.map(|r| &r.timing);
            cells.push(t.map(time).unwrap_or_default().into());
            cells.push(t.map(|t| digits(batch as f64 / t.median_s)).unwrap_or_default().into());
        }
        table = table.row(cells);
    }
    let page = page.section("Batch size").chart(&charts::sweep(report)).table(table);
    match crossover(report) {
        Some(text) => page.text(&text),
        None => page,
    }
}

/// From which batch size on a GPU is faster than the CPU, its interval wholly below the CPU's.
fn crossover(report: &BenchReport) -> Option<String> {
    let gpu =
        report.plan.columns.iter().find(|c| {
            **c != report.plan.columns[0] && report.sweep.iter().any(|r| r.column == **c)
        })?;
    let of = |column: &str, batch: usize| {
        report.sweep.iter().find(|r| r.column == column && r.batch == batch).map(|r| &r.timing)
    };
    let cpu = &report.plan.columns[0];
    let faster = report.plan.batches.iter().find(|&&batch| {
        let both = of(gpu, batch).zip(of(cpu, batch));
        both.is_some_and(|(gpu, cpu)| gpu.interval_s[1] < cpu.interval_s[0])
    });
    Some(match faster {
        Some(batch) => format!("{gpu} is faster than {cpu} from batch {batch} on."),
        None => format!("{gpu} is at none of these batch sizes faster than {cpu}."),
    })
}

fn peers(page: Page, report: &BenchReport) -> Page {
    if report.peers.is_empty() {
        return page;
    }
    let mut table = Table::new(
        &[
            "preset",
            "column",
            "batch",
            "beit (interval)",
            "runs",
            "images/s",
            "PyTorch (interval)",
            "runs",
            "images/s",
            "beit over PyTorch",
            "beit, MiB of tensors",
            "PyTorch, MiB",
        ],
        2,
    );
    for peer in &report.peers {
        let same = |r: &&StepRow| {
            (&r.preset, r.batch, &r.column) == (&peer.preset, peer.batch, &peer.column)
        };
        let Some(row) = report.steps.iter().find(same) else { continue };
        let ratio = row.timing.as_ref().map(|t| digits(peer.timing.median_s / t.median_s));
        let compiled = if peer.compiled { ", compiled" } else { "" };
        table = table.row([
            name(&row.preset, &row.accuracy),
            name(&row.column, &row.accuracy),
            row.batch.to_string().into(),
            timed(&row.timing, &row.accuracy),
            runs(&row.timing),
            claim(images(row), &row.accuracy),
            format!("{}, {}{compiled}", time(&peer.timing), peer.version).into(),
            peer.timing.count.to_string().into(),
            digits(peer.batch as f64 / peer.timing.median_s).into(),
            claim(ratio, &row.accuracy),
            row.measured_bytes.map(mib).unwrap_or_default().into(),
            digits(peer.peak_mib).into(),
        ]);
    }
    page.section("PyTorch")
        .text(
            "The times of benches/peers/torch_step.py, as they were given. They were measured in another \
             process at another time: on a shared machine, run both alternately before believing a small \
             difference. On a CPU PyTorch's memory is that of the whole process, on a GPU that of tensors. \
             On a GPU its images lie there before the step; ours are copied in it.",
        )
        .table(table)
}

fn changes(page: Page, report: &BenchReport) -> Page {
    if report.changes.is_empty() {
        return page;
    }
    let count = |v| report.changes.iter().filter(|c| c.verdict == v).count();
    let all = report.changes.len();
    let mut table = Table::new(&["what", "verdict", "before", "now", "now over before"], 2);
    let told = report.changes.iter().filter(|c| c.verdict != ChangeVerdict::Same);
    for c in told.chain(report.changes.iter().filter(|c| c.verdict == ChangeVerdict::Same)) {
        table = table.row([
            c.what.clone().into(),
            verdict(c).into(),
            time(&c.old).into(),
            time(&c.new).into(),
            if c.verdict == ChangeVerdict::Broken { "".into() } else { digits(c.ratio()).into() },
        ]);
    }
    page.section("Changes")
        .text(&format!(
            "Of {all} figures {} are slower, {} faster and {} broken: their intervals do not overlap, or the \
             error is above its bound now. By chance alone about 3 of 1,000 would be called slower.",
            count(ChangeVerdict::Slower),
            count(ChangeVerdict::Faster),
            count(ChangeVerdict::Broken),
        ))
        .table(table)
}

fn verdict(c: &Change) -> &'static str {
    match c.verdict {
        ChangeVerdict::Faster => "faster",
        ChangeVerdict::Same => "within the intervals",
        ChangeVerdict::Slower => "slower",
        ChangeVerdict::Broken => "broken",
    }
}
