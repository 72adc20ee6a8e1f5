//! `beit bench`: times as tables and JSON.

#[cfg(feature = "cuda")]
use crate::bench::device::Row;
use crate::bench::report::{self, sizes};
use crate::bench::{data, ops, step};
use crate::cli::args::{BenchCommand, DeviceArgs, ReportArgs, StepArgs};
use crate::cli::device::Chosen;
#[cfg(feature = "cuda")]
use crate::cli::device::on_device;
use crate::cli::on_threads;
use crate::config::Place;
use crate::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::cuda::Cuda;
use crate::error::{Error, Result};
use crate::run::{claim, write_atomic};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// Runs one kind of timing.
pub fn bench(command: &BenchCommand) -> Result<ExitCode> {
    let done = Ok(ExitCode::SUCCESS);
    match command {
        BenchCommand::Ops { filter, json } => {
            let rows = ops::run(filter.as_deref(), 0.2);
            if rows.is_empty() {
                let filter = filter.as_deref().unwrap_or_default();
                return Err(Error::config(format!("no case's name contains {filter}")));
            }
            say!(
                "{:<36} {:>12} {:>12} {:>9} {:>9} {:>8}",
                "case, f32",
                "forward µs",
                "backward µs",
                "GFLOP/s",
                "GFLOP/s",
                "GB/s"
            );
            for r in &rows {
                say!(
                    "{:<36} {:>12.1} {:>12.1} {:>9.2} {:>9.2} {:>8.2}",
                    r.case,
                    r.forward_us,
                    r.backward_us,
                    r.forward_gflops,
                    r.backward_gflops,
                    r.forward_gbps
                );
            }
            write_json(json.as_deref(), &rows).and(done)
        }
        BenchCommand::Step(args) => step_command(args).and(done),
        BenchCommand::Report(args) => report_command(args),
        BenchCommand::Device(args) => device_command(args).and(done),
        BenchCommand::Data { data: source, preset, rate, json } => {
            let result = data::run(source, sizes(preset)?, *rate)?;
            say!("{}", result.table());
            write_json(json.as_deref(), &result).and(done)
        }
    }
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
    write_json(Some(&file("report.json")), &report)?;
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
fn columns(place: Place) -> Result<report::Columns> {
    let ordinal = match place {
        Place::Cpu => return Ok(report::Columns::cpu_only("--device cpu")),
        Place::Auto => 0,
        Place::Cuda(ordinal) => ordinal,
    };
    match Chosen::open(Place::Cuda(ordinal), "f32") {
        #[cfg(feature = "cuda")]
        Ok(Chosen::CudaF32(device)) => Ok(report::Columns::with(device)),
        Ok(_) => unreachable!("a GPU in f32 was asked for"),
        Err(why) if place == Place::Auto => Ok(report::Columns::cpu_only(why.to_string())),
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
        tokenizer: args.tokenizer.then_some(dvae),
    };
    let chosen = Chosen::open(args.device, &args.precision)?;
    let r = on_threads(args.threads, || match &chosen {
        Chosen::Cpu => {
            let sgemm = step::best_sgemm(&bench.config, bench.batch, bench.masked);
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
    struct Labelled<'a> {
        device: String,
        emulated: bool,
        peak_device_mib: Option<f64>,
        preset: &'a str,
        #[serde(flatten)]
        result: &'a step::StepResult,
    }
    let (device, emulated) = (chosen.describe(), chosen.is_emulated());
    let preset = args.preset.as_str();
    let labelled = Labelled { device, emulated, peak_device_mib, preset, result: &r };
    write_json(args.json.as_deref(), &labelled)
}

#[cfg(feature = "cuda")]
fn device_command(args: &DeviceArgs) -> Result<()> {
    use crate::bench::device;
    let (config, _, _) = sizes(&args.preset)?;
    let chosen = Chosen::open(Place::Cuda(0), &args.precision)?;
    let (batch, budget) = (args.batch as usize, if chosen.is_emulated() { 0.0 } else { 0.2 });
    let only = args.only.as_deref();
    let r = match &chosen {
        Chosen::CudaF32(d) => device::run(&Cuda::<f32>::on(d)?, &config, batch, only, budget),
        Chosen::CudaBf16(d) => {
            device::run(&Cuda::<half::bf16>::on(d)?, &config, batch, only, budget)
        }
        Chosen::Cpu => unreachable!("a GPU was asked for"),
    };
    chosen.warn_if_emulated();
    say!("{} at batch {} on {} in {}", args.preset, args.batch, r.device, r.precision);
    say!("matmul {:.1} TFLOP/s, copy {:.0} GB/s", r.matmul_tflops, r.copy_gbps);
    say!("{:<30} {:>10} {:>9} {:>9}  of the ceiling", "op", "µs", "TFLOP/s", "GB/s");
    for row in &r.rows {
        let Row { op, us, tflops, gbps, fraction, ceiling, .. } = row;
        say!("{op:<30} {us:>10.1} {tflops:>9.2} {gbps:>9.1}  {fraction:.2} of {ceiling}");
    }
    #[derive(Serialize)]
    struct Labelled<'a> {
        preset: &'a str,
        #[serde(flatten)]
        result: &'a device::Result,
    }
    write_json(args.json.as_deref(), &Labelled { preset: &args.preset, result: &r })
}

#[cfg(not(feature = "cuda"))]
fn device_command(_: &DeviceArgs) -> Result<()> {
    Err(Error::Device("this beit was built without its feature `cuda`".into()))
}

fn write_json(path: Option<&Path>, value: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(value).expect("plain numbers and names");
    write_atomic(path, format!("{text}\n").as_bytes())
}
