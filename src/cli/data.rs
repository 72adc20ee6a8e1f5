//! `beit data`: what a source of images holds.

use crate::config::{Preset, PretrainRun, RunConfig, TokenizerRun, TrainConfig};
use crate::data::loader::{BadImages, check_bad};
use crate::data::subset::held_out;
use crate::data::survey::Survey;
use crate::data::{Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::run::write_json;
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
    /// Images that are trained on; the others are measured on. 0 where they do not make up a step.
    trained: usize,
    steps: usize,
    /// Passes over the images.
    passes: f64,
}

impl RunLength {
    fn of<C: TrainConfig>(preset: Preset, images: usize) -> Self {
        let config = C::preset(preset);
        let (batch, steps) = (config.common().batch, config.recipe().steps);
        let trained = if images < batch { 0 } else { images - held_out(images, batch) };
        let passes = if trained == 0 { 0.0 } else { steps as f64 / (trained / batch) as f64 };
        Self { command: C::KIND, preset, batch, trained, steps, passes }
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
    let source = Source::open(&args.source, &SourceOptions::new(Split::Train, 0))?;
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
        "  {:<16} {:<7} {:>6} {:>8} {:>8} {:>8}",
        "",
        "preset",
        "batch",
        "trained",
        "steps",
        "passes"
    );
    runs.iter().for_each(|run| say_run(run, survey.listed));
    if let Some(path) = &args.json {
        let report = DataReport { source: &args.source, survey: &survey, runs: &runs };
        write_json(path, &report)?;
    }
    verdict(args, &survey, &runs)
}

fn say_run(run: &RunLength, images: usize) {
    let RunLength { command, preset, batch, trained, steps, passes } = run;
    let preset = format!("{preset:?}").to_lowercase();
    let short = match trained {
        0 => format!("  too few: give --batch, at most {images}"),
        _ => String::new(),
    };
    say!("  {command:<16} {preset:<7} {batch:>6} {trained:>8} {steps:>8} {passes:>8.1}{short}");
}

/// Success, or the error with which a run would stop.
fn verdict(args: &CheckArgs, survey: &Survey, runs: &[RunLength]) -> Result<ExitCode> {
    let reasons = survey.unreadable.iter().map(|(_, reason)| reason.clone());
    let bad: BadImages = reasons.enumerate().collect();
    check_bad(&bad, TokenizerRun::preset(Preset::Tiny).common.max_bad, survey.listed)?;
    match runs.iter().find(|run| args.preset.is_some() && run.trained == 0) {
        Some(RunLength { command, batch, .. }) => Err(Error::config(format!(
            "{}: {} images are too few for a step of {command}, which takes {batch}; give it --batch {} \
             or fewer, or more images",
            args.source, survey.listed, survey.listed
        ))),
        None => Ok(ExitCode::SUCCESS),
    }
}
