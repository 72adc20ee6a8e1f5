//! `beit bench`: times as tables and JSON.

use crate::bench::{data, ops, step};
use crate::cli::args::{BenchCommand, StepArgs};
use crate::cli::on_threads;
use crate::config::Preset;
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
        BenchCommand::Data { data: source, preset, json } => {
            let result = data::run(source, sizes(preset)?)?;
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
    let r = on_threads(args.threads, || step::run(&bench))?;
    say!(
        "{} at batch {}, {} threads, f32: {} parameters",
        args.preset,
        r.batch,
        r.threads,
        r.params
    );
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
    say!(
        "  of best sgemm   {:>10.2} ({:.1} GFLOP/s at this model's shapes)",
        r.fraction_of_sgemm,
        r.sgemm_gflops
    );
    if let Some(peak) = r.peak_mem_mib {
        say!("  peak memory     {peak:>10.0} MiB");
    }
    write_json(args.json.as_deref(), &r)
}

fn write_json(path: Option<&Path>, value: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(value).expect("plain numbers and names");
    write_atomic(path, format!("{text}\n").as_bytes())
}
