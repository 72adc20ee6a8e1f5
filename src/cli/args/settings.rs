//! Arguments of the commands that have settings.

use super::values::word;
use crate::config::{
    BertRun, FinetuneRun, Freeze, Layers, PretrainRun, RunConfig, SegmentRun, TokenizerKind,
};
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

/// What commands that train in a folder of a run share.
#[derive(Args)]
pub struct RunArgs {
    /// Images to measure on while training, like those to train on, or none [default: some of those to
    /// train on].
    #[arg(long, value_name = "SRC")]
    val: Option<String>,
    /// Read all images at the start, so that a resumed run knows them again by all their bytes.
    #[arg(long)]
    verify_data: bool,
    /// Optimizer steps of the run [default: the preset's].
    #[arg(long, conflicts_with = "epochs")]
    steps: Option<i64>,
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

impl RunArgs {
    /// The settings of the run, with those of the command's own flags that are given.
    fn resolve<C: RunConfig>(&self, own: &[(&'static str, Option<&str>)]) -> Result<C> {
        let own: Vec<_> = own.iter().copied().chain([("val", self.val.as_deref())]).collect();
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

/// Arguments of runs that are trained on images from their own start.
#[derive(Args)]
pub struct TrainArgs {
    /// Images: a folder, a CIFAR-10/100 binary file or folder, or synthetic[:COUNT].
    #[arg(long, value_name = "SRC", required_unless_present_any = ["print_config", "resume"])]
    data: Option<String>,
    /// Weights to start from: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    init: Option<String>,
    /// Everything else.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `train-tokenizer`.
#[derive(Args)]
pub struct TokenizerArgs {
    /// What is trained: dvae, the tokenizer, or vae, a Gaussian VAE with the same networks, which has no tokens.
    #[arg(long, value_name = "KIND", default_value = "dvae", value_parser = word::<TokenizerKind>(TokenizerKind::WORDS))]
    pub kind: TokenizerKind,
    /// Everything else.
    #[command(flatten)]
    pub train: TrainArgs,
}

impl TrainArgs {
    /// The settings of the run.
    pub fn resolve<C: RunConfig>(&self) -> Result<C> {
        self.run.resolve(&[("data", self.data.as_deref()), ("init", self.init.as_deref())])
    }
}

/// Arguments of `pretrain`.
#[derive(Args)]
pub struct PretrainArgs {
    /// The tokenizer: a run folder or file, also another project's. Not needed with --set
    /// target=pixels or normalised_pixels.
    #[arg(long, value_name = "RUN|FILE")]
    tokenizer: Option<String>,
    /// Everything else.
    #[command(flatten)]
    pub train: TrainArgs,
}

impl PretrainArgs {
    /// The settings of the run.
    pub fn resolve(&self) -> Result<PretrainRun> {
        let TrainArgs { data, init, run } = &self.train;
        run.resolve(&[
            ("data", data.as_deref()),
            ("init", init.as_deref()),
            ("tokenizer", self.tokenizer.as_deref()),
        ])
    }
}

/// Arguments of `dino` and `mocov3`.
#[derive(Args)]
pub struct ViewsArgs {
    /// Images: a folder, a CIFAR-10/100 binary file or folder, or synthetic[:COUNT].
    #[arg(long, value_name = "SRC", required_unless_present_any = ["print_config", "resume"])]
    data: Option<String>,
    /// Everything else.
    #[command(flatten)]
    pub run: RunArgs,
}

impl ViewsArgs {
    /// The settings of the run.
    pub fn resolve<C: RunConfig>(&self) -> Result<C> {
        self.run.resolve(&[("data", self.data.as_deref())])
    }
}

/// Arguments of `bert`.
#[derive(Args)]
#[command(
    mut_arg("val", |arg| arg.value_name("TEXT").help(
        "Text to measure on while training, like that to train on, or none [default: some pieces of that to train on]"
    )),
    mut_arg("batch", |arg| arg.help("Pieces of one optimizer step")),
    mut_arg("verify_data", |arg| arg.hide(true)), // All bytes of a text are read, and compared.
    mut_arg("set", |arg| arg.help("One setting; may be repeated, as in --set lr=0.001 --set length=64")),
)]
pub struct BertArgs {
    /// The text: a file, or a folder of files, in any encoding.
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["print_config", "resume"])]
    data: Option<String>,
    /// Everything else.
    #[command(flatten)]
    pub run: RunArgs,
}

impl BertArgs {
    /// The settings of the run.
    pub fn resolve(&self) -> Result<BertRun> {
        self.run.resolve(&[("data", self.data.as_deref())])
    }
}

/// Arguments of `finetune`.
#[derive(Args)]
pub struct FinetuneArgs {
    /// What to start from: a run folder or file, also another project's of an encoder or a classifier, or scratch.
    #[arg(long, value_name = "RUN|FILE|scratch", required_unless_present_any = ["print_config", "resume"])]
    model: Option<String>,
    /// Labelled images: a folder with a folder per class, a CIFAR-10/100 binary file or folder, or
    /// synthetic[:COUNT].
    #[arg(long, value_name = "SRC", required_unless_present_any = ["print_config", "resume"])]
    train: Option<String>,
    /// What is not trained: none or encoder, which trains the head alone [default: none].
    #[arg(long, value_name = "WHAT", value_parser = word::<Freeze>(Freeze::WORDS))]
    freeze: Option<Freeze>,
    /// Everything else.
    #[command(flatten)]
    pub run: RunArgs,
}

impl FinetuneArgs {
    /// The settings of the run.
    pub fn resolve(&self) -> Result<FinetuneRun> {
        self.run.resolve(&[
            ("model", self.model.as_deref()),
            ("data", self.train.as_deref()),
            ("freeze", self.freeze.map(Freeze::word)),
        ])
    }
}

/// Arguments of `segment-train`.
#[derive(Args)]
pub struct SegmentTrainArgs {
    /// What to start from: a run folder or file, also another project's, of an encoder, a classifier or a
    /// segmenter, or scratch.
    #[arg(long, value_name = "RUN|FILE|scratch", required_unless_present_any = ["print_config", "resume"])]
    model: Option<String>,
    /// Images with masks: a folder like ADE20K's, a folder with images/ and masks/, or synthetic[:COUNT].
    #[arg(long, value_name = "SRC", required_unless_present_any = ["print_config", "resume"])]
    train: Option<String>,
    /// Everything else.
    #[command(flatten)]
    pub run: RunArgs,
}

impl SegmentTrainArgs {
    /// The settings of the run.
    pub fn resolve(&self) -> Result<SegmentRun> {
        self.run.resolve(&[("model", self.model.as_deref()), ("data", self.train.as_deref())])
    }
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
