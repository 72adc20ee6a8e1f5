//! Arguments of the commands that have settings.

use crate::config::{Layers, RunConfig};
use crate::error::Result;
use crate::run::Begin;
use clap::Args;
use std::path::PathBuf;
use toml::Value;

/// What commands with settings share.
#[derive(Args)]
pub struct SettingsArgs {
    /// Sizes and starting values: tiny, small, base or large [default: tiny].
    #[arg(long)]
    preset: Option<String>,
    /// Settings from a TOML file; see config.toml of any run for all keys.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// One setting; may be repeated, as in --set lr=0.001 --set masking=random.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Passes over the data.
    #[arg(long)]
    epochs: Option<i64>,
    /// Images of one optimizer step.
    #[arg(long)]
    batch: Option<i64>,
    /// Number that every random choice follows from [default: 0].
    #[arg(long)]
    seed: Option<i64>,
    /// Threads; 0 is one per core. Never changes a result.
    #[arg(long)]
    threads: Option<i64>,
    /// Where to compute: auto (the first GPU where it can be used, else the CPU), cpu, cuda or cuda:N
    /// [default: auto].
    #[arg(long)]
    device: Option<String>,
    /// Print what config.toml would hold, and stop.
    #[arg(long)]
    pub print_config: bool,
}

impl SettingsArgs {
    /// The layers of settings, with those of the command's own flags that are given on top.
    pub fn layers(&self, own: &[(&'static str, Option<&str>)]) -> Layers {
        let mut flags: Vec<(&'static str, Value)> = Vec::new();
        let texts = [("preset", &self.preset), ("device", &self.device)];
        flags.extend(texts.into_iter().filter_map(|(k, v)| Some((k, v.clone()?.into()))));
        let numbers = [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("seed", self.seed),
            ("threads", self.threads),
        ];
        flags.extend(numbers.into_iter().filter_map(|(k, v)| Some((k, v?.into()))));
        flags.extend(own.iter().filter_map(|&(k, v)| Some((k, Value::from(v?)))));
        Layers { file: self.config.clone(), set: self.set.clone(), flags }
    }
}

/// Arguments of `train-tokenizer`.
#[derive(Args)]
pub struct TrainArgs {
    /// Images: a folder, a CIFAR-10/100 binary file or folder, or synthetic[:COUNT].
    #[arg(long, value_name = "SRC", required_unless_present_any = ["print_config", "resume"])]
    pub data: Option<String>,
    /// Images to measure on while training, as for --data, or none [default: some of --data].
    #[arg(long, value_name = "SRC")]
    val: Option<String>,
    /// Read all images at the start, so that a resumed run knows them again by all their bytes.
    #[arg(long)]
    verify_data: bool,
    /// Optimizer steps of the run [default: the preset's].
    #[arg(long, conflicts_with = "epochs")]
    steps: Option<i64>,
    /// Weights to start from: a run folder or a .safetensors file.
    #[arg(long, value_name = "RUN|FILE")]
    init: Option<String>,
    /// Folder of the run.
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    pub out: Option<PathBuf>,
    /// Continue the run in --out: what is not given is as it was. With more --steps or --epochs a finished
    /// run becomes longer.
    #[arg(long)]
    pub resume: bool,
    /// Settings that may differ from those that the run was started with, as in --allow-change lr,batch.
    #[arg(long, value_name = "KEYS", value_delimiter = ',', requires = "resume")]
    allow_change: Vec<String>,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

impl TrainArgs {
    /// The settings of the run, with those of the command's own flags that are given.
    pub fn resolve<C: RunConfig>(&self, own: &[(&'static str, Option<&str>)]) -> Result<C> {
        let texts = [("data", &self.data), ("val", &self.val), ("init", &self.init)];
        let own: Vec<_> =
            texts.iter().map(|(k, v)| (*k, v.as_deref())).chain(own.iter().copied()).collect();
        let mut layers = self.settings.layers(&own);
        layers.flags.extend(self.steps.map(|steps| ("steps", steps.into())));
        layers.flags.extend(self.verify_data.then(|| ("verify_data", true.into())));
        match &self.out {
            Some(out) if self.resume => layers.resolve_in(out),
            _ => layers.resolve(),
        }
    }

    /// How the run takes its folder.
    pub fn begin(&self) -> Begin {
        Begin { resume: self.resume, allow: self.allow_change.clone() }
    }
}

/// Arguments of `pretrain`.
#[derive(Args)]
pub struct PretrainArgs {
    /// The tokenizer: a run folder or a .safetensors file with its config.json beside it.
    #[arg(long, value_name = "RUN|FILE", required_unless_present_any = ["print_config", "resume"])]
    pub tokenizer: Option<String>,
    /// Everything else.
    #[command(flatten)]
    pub train: TrainArgs,
}

/// Arguments of `probe`.
#[derive(Args)]
pub struct ProbeArgs {
    /// The encoder: a run folder, a .safetensors file, or random.
    #[arg(long, value_name = "RUN|FILE|random", required_unless_present = "print_config")]
    pub model: Option<String>,
    /// Labelled images to fit on.
    #[arg(long, value_name = "SRC", required_unless_present = "print_config")]
    pub train: Option<String>,
    /// Labelled images to measure on.
    #[arg(long, value_name = "SRC", required_unless_present = "print_config")]
    pub test: Option<String>,
    /// Probe with the classes that both have, by name, and leave out the images of the others.
    #[arg(long)]
    pub common_classes: bool,
    /// Folder for summary.json and report.html.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}
