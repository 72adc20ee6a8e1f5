//! `beit bench`: times as tables and JSON.

use crate::bench::ceilings::best_sgemm;
use crate::bench::columns::Columns;
use crate::bench::ops::{self, OpTime, OpsResult, Selection, under_the_roofs};
use crate::bench::report::tables::{digits, time};
use crate::bench::report::{self, sizes};
use crate::bench::{data, step};
use crate::cli::args::{BenchCommand, OpsArgs, ReportArgs, StepArgs};
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::config::{Place, PrecisionChoice};
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::run::{claim, write_atomic, write_json};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// Runs one kind of timing.
pub fn bench(command: &BenchCommand) -> Result<ExitCode> {
    let done = Ok(ExitCode::SUCCESS);
    match command {
        BenchCommand::Ops(args) => ops_command(args).and(done),
        BenchCommand::Step(args) => step_command(args).and(done),
        BenchCommand::Report(args) => report_command(args),
        BenchCommand::Data { data: source, preset, rate, json } => {
            let result = data::run(source, sizes(preset)?, *rate)?;
            say!("{}", result.table());
            write_where(json.as_deref(), &result).and(done)
        }
    }
}

fn ops_command(args: &OpsArgs) -> Result<()> {
    let config = args.preset.as_deref().map(sizes).transpose()?.map(|(config, ..)| config);
    let batch = args.batch.map(|n| n as usize);
    let (filter, at) = (args.filter.as_deref(), config.as_ref().zip(batch));
    let selection = Selection { filter, at };
    let chosen = Chosen::open(args.device, args.precision)?;
    let column = chosen.column();
    let mut rows = on_device!(chosen, bk => ops::run(&bk, &column, selection));
    #[cfg(feature = "cuda")]
    if let Chosen::CudaBf16(device) = &chosen {
        rows.extend(ops::tanh_gelu(&crate::cuda::Cuda::on(device)?, &column, selection));
    }
    if rows.is_empty() {
        let filter = filter.unwrap_or_default();
        return Err(Error::config(format!("no case's name contains {filter}")));
    }
    let ceilings = chosen.ceilings()?;
    under_the_roofs(rows.iter_mut(), &ceilings);
    chosen.warn_if_emulated();
    let (device, emulated, preset) =
        (chosen.describe(), chosen.is_emulated(), args.preset.as_deref());
    match at {
        Some((_, batch)) => say!("{} at batch {batch} on {device}", preset.unwrap_or_default()),
        None => say!("on {device}"),
    }
    for c in &ceilings {
        say!("{} {}: {} {}", c.name, c.shape, digits(c.best), c.unit);
    }
    let columns = ["case", "pass", "time (interval)", "runs", "GFLOP/s", "GB/s"];
    let [case, pass, median, runs, gflops, gbps] = columns;
    say!("{case:<44} {pass:<8} {median:>28} {runs:>5} {gflops:>8} {gbps:>8}  of the roof");
    rows.iter().for_each(say_op);
    write_where(
        args.json.as_deref(),
        &OpsResult { device, emulated, preset, batch, ceilings, rows },
    )
}

fn say_op(row: &OpTime) {
    let OpTime { case, direction, timing, of_roof, bound, .. } = row;
    let median = timing.as_ref().map(time).unwrap_or_default();
    let runs = timing.as_ref().map_or(0, |t| t.count);
    let [gflops, gbps, share] =
        [row.gflops(), row.gbps(), *of_roof].map(|x| x.map(digits).unwrap_or_default());
    let bound = bound.as_deref().unwrap_or_default();
    say!(
        "{case:<44} {direction:<8} {median:>28} {runs:>5} {gflops:>8} {gbps:>8}  {share} of {bound}"
    );
}

/// The report in three forms. The status is 1 where `--against` found something slower or broken.
fn report_command(args: &ReportArgs) -> Result<ExitCode> {
    let columns = columns(args.device)?;
    let plan = report::Plan::new(args.quick, &columns);
    // What cannot be compared is said before minutes are spent.
    let machine = report::Machine::this(&columns);
    let old = args.against.as_deref().map(|old| report::against::read(old, &machine, &plan));
    let old = old.transpose()?;
    let peers = args.peer.as_deref().map(|peer| report::peer::read(peer, &plan));
    let peers = peers.transpose()?.unwrap_or_default();
    let _lock = claim(&args.out)?;
    let report = report::measure(plan, &columns, peers, old.as_ref())?;
    let mut command = format!("beit bench report --out {}", args.out.display());
    for (name, file) in [("against", &args.against), ("peer", &args.peer)] {
        if let Some(file) = file {
            command += &format!(" --{name} {}", file.display());
        }
    }
    if args.quick {
        command += " --quick";
    }
    let page = report::page(&report, &command);
    let file = |name: &str| args.out.join(name);
    write_json(&file("report.json"), &report)?;
    write_atomic(&file("report.md"), page.markdown().as_bytes())?;
    page.write(&file("report.html"))?;
    say!("report: {}", file("report.html").display());
    let struck = report.ops.iter().map(|r| (&r.case, &r.column, &r.accuracy));
    let steps = report.steps.iter().map(|r| (&r.preset, &r.column, &r.accuracy));
    for (what, column, a) in struck.chain(steps).filter(|(.., a)| !a.holds()) {
        let (error, allowed, tensor) = (a.error, a.allowed, &a.tensor);
        say!("struck out: {what} in {column}, {tensor}: error {error:.1e}, allowed {allowed:.1e}");
    }
    let failed: Vec<_> = report.changes.iter().filter(|c| c.fails()).collect();
    for c in &failed {
        let (what, old, new) = (&c.what, 1e3 * c.old.median_s, 1e3 * c.new.median_s);
        say!("{:?}: {what}, {old:.3} ms before, {new:.3} ms now", c.verdict);
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The CPU and what `place` allows.
fn columns(place: Place) -> Result<Columns> {
    let ordinal = match place {
        Place::Cpu => return Ok(Columns::cpu_only("--device cpu")),
        Place::Auto => 0,
        Place::Cuda(ordinal) => ordinal,
    };
    match Chosen::open(Place::Cuda(ordinal), PrecisionChoice::F32) {
        #[cfg(feature = "cuda")]
        Ok(Chosen::CudaF32(device)) => Ok(Columns::with(device)),
        Ok(_) => unreachable!("a GPU in f32 was asked for"),
        Err(why) if place == Place::Auto => Ok(Columns::cpu_only(why.to_string())),
        Err(why) => Err(why),
    }
}

fn step_command(args: &StepArgs) -> Result<()> {
    let (config, dvae, masked) = sizes(&args.preset)?;
    let bench = step::StepBench {
        config,
        masked,
        batch: args.batch as usize,
        steps: args.steps as usize,
        recompute: args.recompute,
        tokenizer: args.tokenizer.then_some(dvae),
    };
    let chosen = Chosen::open(args.device, args.precision)?;
    let r = on_threads(args.threads, || match &chosen {
        Chosen::Cpu => {
            let sgemm = best_sgemm(&bench.config, bench.batch, bench.masked);
            step::run(&Cpu::<f32>::new(), &bench, sgemm)
        }
        #[cfg(feature = "cuda")]
        _ => on_device!(chosen, bk => step::run(&bk, &bench, chosen.matmul_gflops()?)),
    })?;
    chosen.warn_if_emulated();
    let (name, device) = (&args.preset, chosen.describe());
    say!("{name} at batch {} on {device}, {} threads", r.batch, r.threads);
    say!("  parameters      {:>10}", r.params);
    say!(
        "  step            {:>10.1} ms (from {:.1} to {:.1})",
        r.step_ms,
        r.step_ms_range[0],
        r.step_ms_range[1]
    );
    for (name, ms) in &r.sections_ms {
        say!("    {name:<17} {ms:>6.1} ms");
    }
    say!("  images/s        {:>10.2}", r.images_per_s);
    say!("  GFLOP/s         {:>10.1}", r.gflops);
    say!("  of best matmul  {:>10.2} ({:.1} GFLOP/s)", r.fraction_of_matmul, r.matmul_gflops);
    if let Some(peak) = r.peak_mem_mib {
        say!("  peak memory     {peak:>10.0} MiB of the host");
    }
    let peak_device_mib = chosen.peak_mib();
    if let Some(peak) = peak_device_mib {
        say!("                  {peak:>10.0} MiB of the GPU");
    }
    #[derive(Serialize)]
    struct LabelledResult<'a> {
        device: String,
        emulated: bool,
        peak_device_mib: Option<f64>,
        preset: &'a str,
        #[serde(flatten)]
        result: &'a step::StepResult,
    }
    let (device, emulated) = (chosen.describe(), chosen.is_emulated());
    let preset = args.preset.as_str();
    let labelled = LabelledResult { device, emulated, peak_device_mib, preset, result: &r };
    write_where(args.json.as_deref(), &labelled)
}

fn write_where(path: Option<&Path>, value: &impl Serialize) -> Result<()> {
    path.map_or(Ok(()), |path| write_json(path, value))
}
