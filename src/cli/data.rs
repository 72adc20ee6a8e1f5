//! `beit data`: what a source of images holds.

use crate::config::{Common, Preset, PretrainRun, RunConfig, TokenizerRun, TrainConfig};
use crate::data::loader::{BadImages, check_bad};
use crate::data::survey::Survey;
use crate::data::{Source, Split};
use crate::error::{Error, Result};
use crate::run::write_atomic;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be asked about data.
#[derive(Subcommand)]
pub enum DataCommand {
    /// Read every image of a source once and say what it holds and which presets it is enough for.
    #[command(
        after_help = "Examples:\n  beit data check photos/\n  beit data check photos/ --preset \
                            small --json check.json\n\nThe status is 1 where a run would stop: more \
                            unreadable images than max_bad allows by default, or, with --preset, fewer \
                            images than a step takes."
    )]
    Check(CheckArgs),
}

/// Arguments of `data check`.
#[derive(Args)]
pub struct CheckArgs {
    /// Images: a folder, a CIFAR-10/100 binary file or folder, or synthetic[:COUNT].
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Only this preset: tiny, small, base or large [default: all].
    #[arg(long)]
    pub preset: Option<String>,
    /// Everything as JSON, all names included.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What a command would make of the images with a preset.
#[derive(Serialize)]
struct RunLength {
    command: &'static str,
    preset: Preset,
    batch: usize,
    steps_per_epoch: usize,
    epochs: usize,
    steps: usize,
}

impl RunLength {
    fn of<C: TrainConfig>(preset: Preset, images: usize) -> Self {
        let config = C::preset(preset);
        let Common { batch, epochs, .. } = *config.common();
        let steps_per_epoch = images / batch;
        let steps = steps_per_epoch * epochs;
        Self { command: C::KIND, preset, batch, steps_per_epoch, epochs, steps }
    }
}

/// What is written to `--json`.
#[derive(Serialize)]
struct DataReport<'a> {
    source: &'a str,
    #[serde(flatten)]
    survey: &'a Survey,
    runs: &'a [RunLength],
}

/// Runs one of the commands.
pub fn data(command: &DataCommand) -> Result<ExitCode> {
    let DataCommand::Check(args) = command;
    let presets = match &args.preset {
        Some(name) => vec![name.parse()?],
        None => Preset::NAMES.iter().map(|name| name.parse()).collect::<Result<Vec<Preset>>>()?,
    };
    let source = Source::open(&args.source, Split::Train, 0)?;
    let survey = Survey::of(&source);
    let both = |preset: Preset| {
        let images = survey.listed;
        [
            RunLength::of::<TokenizerRun>(preset, images),
            RunLength::of::<PretrainRun>(preset, images),
        ]
    };
    let runs: Vec<RunLength> = presets.into_iter().flat_map(both).collect();
    say!("{}", args.source);
    survey.lines().iter().for_each(|line| say!("  {line}"));
    say!(
        "  {:<16} {:<7} {:>6} {:>12} {:>7} {:>8}",
        "",
        "preset",
        "batch",
        "steps/epoch",
        "epochs",
        "steps"
    );
    runs.iter().for_each(|run| say_run(run, survey.listed));
    if let Some(path) = &args.json {
        let report = DataReport { source: &args.source, survey: &survey, runs: &runs };
        let text = serde_json::to_string_pretty(&report).expect("plain numbers and names");
        write_atomic(path, format!("{text}\n").as_bytes())?;
    }
    verdict(args, &survey, &runs)
}

fn say_run(run: &RunLength, images: usize) {
    let RunLength { command, preset, batch, steps_per_epoch, epochs, steps } = run;
    let preset = format!("{preset:?}").to_lowercase();
    let short = match steps {
        0 => format!("  too few: give --batch, at most {images}"),
        _ => String::new(),
    };
    say!(
        "  {command:<16} {preset:<7} {batch:>6} {steps_per_epoch:>12} {epochs:>7} {steps:>8}{short}"
    );
}

/// Success, or the error with which a run would stop.
fn verdict(args: &CheckArgs, survey: &Survey, runs: &[RunLength]) -> Result<ExitCode> {
    let reasons = survey.unreadable.iter().map(|(_, reason)| reason.clone());
    let bad: BadImages = reasons.enumerate().collect();
    check_bad(&bad, TokenizerRun::preset(Preset::Tiny).common.max_bad, survey.listed)?;
    match runs.iter().find(|run| args.preset.is_some() && run.steps == 0) {
        Some(RunLength { command, batch, .. }) => Err(Error::config(format!(
            "{}: {} images are too few for a step of {command}, which takes {batch}; give it --batch {} \
             or fewer, or more images",
            args.source, survey.listed, survey.listed
        ))),
        None => Ok(ExitCode::SUCCESS),
    }
}
