//! `beit ablate`

use crate::cli::args::AblateArgs;
use crate::cli::commands::print_report;
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::config::{Layers, PrecisionChoice, Preset};
use crate::error::Result;
use crate::report::about::About;
use crate::run::{claim, install_interrupt, write_json};
use crate::train::ablate::{Ablation, AblationMeasure, AblationSummary, chosen as rows};
use std::time::Instant;
use toml::Value;

/// Runs what is not finished, prints the table, writes the report after every run.
pub fn ablate(args: &AblateArgs) -> Result<()> {
    let started = Instant::now();
    args.preset.parse::<Preset>()?;
    let rows = rows(&args.rows)?;
    let chosen = Chosen::open(args.device, PrecisionChoice::Auto)?;
    let layers = |steps: Option<i64>, set: &[String]| {
        let mut flags: Vec<(&'static str, Value)> = vec![
            ("preset", args.preset.clone().into()),
            ("threads", (args.threads as i64).into()),
            ("device", chosen.place().to_string().into()),
            ("precision", chosen.precision().word().into()),
        ];
        flags.extend(steps.map(|steps| ("steps", steps.into())));
        Layers { file: None, set: set.to_vec(), flags }
    };
    let measured = |measure: AblationMeasure| {
        if args.measure == measure { args.measure_set.as_slice() } else { &[] }
    };
    let ablation = Ablation {
        rows,
        seeds: (0..args.seeds).collect(),
        measure: args.measure,
        data: args.data.clone(),
        train: args.train.clone().unwrap_or_else(|| args.data.clone()),
        test: args.test.clone(),
        tokenizer: args.tokenizer.clone(),
        pretrain: layers(args.steps, &args.set),
        finetune: layers(args.finetune_steps, measured(AblationMeasure::Finetune)),
        probe: layers(None, measured(AblationMeasure::Probe)),
        tokenizer_run: layers(None, &[]),
        out: args.out.clone(),
    };
    ablation.check()?;
    install_interrupt()?;
    let _lock = claim(&args.out)?;
    let mut write = |summary: &AblationSummary| -> Result<()> {
        write_json(&args.out.join("ablation.json"), summary)?;
        let about = About {
            device: chosen.describe(),
            data: summary.sources.join(", "),
            seconds: started.elapsed().as_secs_f64(),
            ..About::this_process()
        };
        summary.page().about(&about).write(&args.out.join("report.html"))
    };
    let summary =
        on_threads(args.threads, || on_device!(chosen, bk => ablation.run(&bk, &mut write)))?;
    summary.lines_of_text().iter().for_each(|line| say!("{line}"));
    print_report(&args.out);
    Ok(())
}
