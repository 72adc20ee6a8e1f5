//! `beit bench`: times as tables and JSON.

#[cfg(feature = "cuda")]
use crate::bench::device::Row;
use crate::bench::{data, ops, step};
use crate::cli::args::{BenchCommand, DeviceArgs, StepArgs};
use crate::cli::device::Chosen;
#[cfg(feature = "cuda")]
use crate::cli::device::on_device;
use crate::cli::on_threads;
use crate::config::Preset;
use crate::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::cuda::Cuda;
use crate::error::{Error, Result};
use crate::models::config::{BeitConfig, DvaeConfig};
use crate::run::write_atomic;
use serde::Serialize;
use std::path::Path;

/// Runs one kind of timing.
pub fn bench(command: &BenchCommand) -> Result<()> {
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
            write_json(json.as_deref(), &rows)
        }
        BenchCommand::Step(args) => step_command(args),
        BenchCommand::Device(args) => device_command(args),
        BenchCommand::Data { data: source, preset, rate, json } => {
            let result = data::run(source, sizes(preset)?, *rate)?;
            say!("{}", result.table());
            write_json(json.as_deref(), &result)
        }
    }
}

/// Encoder, tokenizer and masked patches of a preset.
fn sizes(preset: &str) -> Result<(BeitConfig, DvaeConfig, usize)> {
    Ok(match preset.parse::<Preset>()? {
        Preset::Tiny => (BeitConfig::tiny(), DvaeConfig::tiny(), 25),
        Preset::Small => (BeitConfig::small(), DvaeConfig::small(), 25),
        Preset::Base => (BeitConfig::base_patch16_224(), DvaeConfig::dalle(), 75),
        Preset::Large => (BeitConfig::large_patch16_224(), DvaeConfig::dalle(), 75),
    })
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
    let chosen = Chosen::open(&args.device, &args.precision)?;
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
    let chosen = Chosen::open("cuda", &args.precision)?;
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
