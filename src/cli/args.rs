//! What can be said on the command line.

use crate::cli::data::DataCommand;
use crate::config::{Layers, Place, PrecisionChoice};
use crate::data::pixels::Normalise;
use crate::error::Error;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;
use toml::Value;

/// BEiT, BERT pre-training of image transformers: tokenizer, masked image modelling, probe and
/// pictures, every forward and backward written by hand.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// The whole road on built-in images: tokenizer, pretraining, probe, report. About 4 minutes.
    #[command(after_help = "Example:\n  beit demo --out runs/demo")]
    Demo(DemoArgs),
    /// Train a visual tokenizer (discrete VAE) on a source of images.
    #[command(after_help = "Example:\n  beit train-tokenizer --data photos/ --out runs/tokenizer")]
    TrainTokenizer(TrainArgs),
    /// Pretrain a BEiT by predicting the tokens of masked patches.
    #[command(after_help = "Example:\n  beit pretrain --data photos/ --tokenizer runs/tokenizer \
                            --out runs/beit")]
    Pretrain(PretrainArgs),
    /// Read the classes off a frozen encoder: linear probe on every block, and k-NN.
    #[command(
        after_help = "Examples:\n  beit probe --model runs/beit --train photos/train --test \
                            photos/test\n  beit probe --model random --preset tiny --train \
                            synthetic:2000 --test synthetic:500"
    )]
    Probe(ProbeArgs),
    /// Draw where each head of a block looks from one patch.
    #[command(after_help = "Example:\n  beit attention --model runs/beit --image cat.jpg --patch \
                            3,4 --out cat.png")]
    Attention(AttentionArgs),
    /// Draw original, masked image, decoded tokens and decoded predictions side by side.
    #[command(after_help = "Example:\n  beit reconstruct --tokenizer runs/tokenizer --model \
                            runs/beit --data photos/ --out grid.png")]
    Reconstruct(ReconstructArgs),
    /// Check every hand-written gradient against differences and exact derivatives in f64.
    #[command(after_help = "Examples:\n  beit gradcheck\n  beit gradcheck attention --json \
                            a.json\n  beit gradcheck --device cuda --parity")]
    Gradcheck(GradcheckArgs),
    /// Time ops, training steps or the data pipeline.
    #[command(subcommand, after_help = "Example:\n  beit bench step --preset tiny --batch 64")]
    Bench(BenchCommand),
    /// Say what a source of images holds, before a run.
    #[command(subcommand, after_help = "Example:\n  beit data check photos/")]
    Data(DataCommand),
    /// Say what a run folder or a weight file holds.
    #[command(after_help = "Example:\n  beit info runs/beit")]
    Info(InfoArgs),
}

/// Arguments of `demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// Folder of the run.
    #[arg(long, default_value = "runs/demo")]
    pub out: PathBuf,
    /// Continue a demo that was stopped.
    #[arg(long)]
    pub resume: bool,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
}

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
}

impl SettingsArgs {
    /// The layers of settings, with the command's own flags on top.
    pub fn layers(&self, own: &[(&'static str, &str)]) -> Layers {
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
        flags.extend(own.iter().map(|(k, v)| (*k, Value::from(*v))));
        Layers { file: self.config.clone(), set: self.set.clone(), flags }
    }
}

/// Arguments of `train-tokenizer`.
#[derive(Args)]
pub struct TrainArgs {
    /// Images: a folder, a CIFAR-10/100 binary file or folder, or synthetic[:COUNT].
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Continue the run in --out; give the original command line again.
    #[arg(long)]
    pub resume: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Arguments of `pretrain`.
#[derive(Args)]
pub struct PretrainArgs {
    /// The tokenizer: a run folder or a .safetensors file with its config.json beside it.
    #[arg(long, value_name = "RUN|FILE")]
    pub tokenizer: String,
    /// Everything else.
    #[command(flatten)]
    pub train: TrainArgs,
}

/// Arguments of `probe`.
#[derive(Args)]
pub struct ProbeArgs {
    /// The encoder: a run folder, a .safetensors file, or random.
    #[arg(long, value_name = "RUN|FILE|random")]
    pub model: String,
    /// Labelled images to fit on.
    #[arg(long, value_name = "SRC")]
    pub train: String,
    /// Labelled images to measure on.
    #[arg(long, value_name = "SRC")]
    pub test: String,
    /// Folder for summary.json and report.html.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Arguments of `attention`.
#[derive(Args)]
pub struct AttentionArgs {
    /// The encoder: a run folder or a .safetensors file.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// The image.
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Row and column of the patch that looks, counted from 0.
    #[arg(long, value_name = "ROW,COL", value_parser = pair)]
    pub patch: (usize, usize),
    /// Block, counted from 0 [default: the last].
    #[arg(long)]
    pub layer: Option<usize>,
    /// Mean and deviation of the view [default: those of the model's pretraining].
    #[arg(long, value_parser = word::<Normalise>(Normalise::WORDS))]
    pub normalise: Option<Normalise>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// The picture.
    #[arg(long, value_name = "FILE.png")]
    pub out: PathBuf,
}

/// Arguments of `reconstruct`.
#[derive(Args)]
pub struct ReconstructArgs {
    /// The tokenizer: a run folder or a .safetensors file.
    #[arg(long, value_name = "RUN|FILE")]
    pub tokenizer: PathBuf,
    /// An encoder, to predict the tokens of the masked patches.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: Option<PathBuf>,
    /// Images.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Rows of the picture.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub images: u16,
    /// Seed of the masks.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Mean and deviation of the encoder's view [default: those of its pretraining].
    #[arg(long, value_parser = word::<Normalise>(Normalise::WORDS))]
    pub normalise: Option<Normalise>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// The picture.
    #[arg(long, value_name = "FILE.png")]
    pub out: PathBuf,
}

/// Arguments of `gradcheck`.
#[derive(Args)]
pub struct GradcheckArgs {
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// Every comparison as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folder for a page with a V-curve of every tensor, all numbers as JSON, and a JUnit file.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Whose gradients: those of the CPU, or of a GPU, as in cuda:1.
    #[arg(long, default_value = "cpu", value_parser = cpu_or_gpu)]
    pub device: Place,
    /// With --device cuda: instead of differences, compare f64, f32 and bf16 with the CPU in f64.
    #[arg(long)]
    pub parity: bool,
    /// With --parity: also how often this tokenizer gives the same token in bf16 and in f32.
    #[arg(long, value_name = "RUN|FILE", requires_all = ["parity", "data"])]
    pub tokenizer: Option<PathBuf>,
    /// Images for --tokenizer.
    #[arg(long, value_name = "SRC", requires = "tokenizer")]
    pub data: Option<String>,
}

/// The kinds of timing.
#[derive(Subcommand)]
pub enum BenchCommand {
    /// Every case of ops, layers and models, or the ops at the sizes of an encoder, forward and backward
    /// apart, against a matrix product and a pass over memory.
    #[command(
        after_help = "Examples:\n  beit bench ops attention\n  beit bench ops --device cuda --preset \
                            base --batch 256"
    )]
    Ops(OpsArgs),
    /// Whole pretraining steps on data in memory.
    #[command(after_help = "Example:\n  beit bench step --preset base --batch 8")]
    Step(StepArgs),
    /// Ceilings, ops, training steps, scaling and batch sizes as JSON, Markdown and HTML. About 4 minutes.
    #[command(
        after_help = "Examples:\n  beit bench report --out runs/report\n  beit bench report --out \
                            runs/new --against runs/report/report.json\n\nDIR gets report.json, report.md \
                            and report.html, which opens in any browser and needs no network. With \
                            --against the status is 1 where a figure's new interval lies wholly above \
                            its old one, or where an error is above its bound that was not."
    )]
    Report(ReportArgs),
    /// Images per second of each stage of the data pipeline, and how many cores a device needs.
    #[command(after_help = "Example:\n  beit bench data --data photos/ --rate 2500")]
    Data {
        /// Images.
        #[arg(long, value_name = "SRC")]
        data: String,
        /// Views of this preset.
        #[arg(long, default_value = "base")]
        preset: String,
        /// Images per second that a device trains on (`beit bench step` measures it).
        #[arg(long, value_name = "IMAGES/S", value_parser = rate)]
        rate: Option<f64>,
        /// Results as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// Arguments of `bench ops`.
#[derive(Args)]
pub struct OpsArgs {
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// The ops at the sizes of this encoder: tiny, small, base or large.
    #[arg(long, requires = "batch")]
    pub preset: Option<String>,
    /// Images, with --preset.
    #[arg(long, requires = "preset", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Where to compute: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = cpu_or_gpu)]
    pub device: Place,
    /// On a GPU: bf16 or f32.
    #[arg(long, default_value = "auto", value_parser = word::<PrecisionChoice>(PrecisionChoice::WORDS))]
    pub precision: PrecisionChoice,
    /// Results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `bench step`.
#[derive(Args)]
pub struct StepArgs {
    /// tiny, small, base or large.
    #[arg(long, default_value = "tiny")]
    pub preset: String,
    /// Images of a step.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Timed steps; two more warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Compute each block again in backward, for less memory.
    #[arg(long)]
    pub recompute: bool,
    /// Also turn the images into tokens in every step, with the preset's tokenizer.
    #[arg(long)]
    pub tokenizer: bool,
    /// Where to compute: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = cpu_or_gpu)]
    pub device: Place,
    /// On a GPU: bf16 or f32.
    #[arg(long, default_value = "auto", value_parser = word::<PrecisionChoice>(PrecisionChoice::WORDS))]
    pub precision: PrecisionChoice,
    /// Results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `bench report`.
#[derive(Args)]
pub struct ReportArgs {
    /// A new or empty folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// An earlier report.json of this machine: show what changed, and fail where something is slower.
    #[arg(long, value_name = "OLD.json")]
    pub against: Option<PathBuf>,
    /// Lines that benches/peers/torch_step.py printed on this machine, to be shown beside our steps.
    #[arg(long, value_name = "FILE")]
    pub peer: Option<PathBuf>,
    /// Small shapes and few runs: seconds instead of minutes, to see that everything works.
    #[arg(long)]
    pub quick: bool,
    /// Whether to measure a GPU too, and which: auto, cpu, cuda or cuda:N. auto does where one can be used.
    #[arg(long, default_value = "auto")]
    pub device: Place,
}

/// Arguments of `info`.
#[derive(Args)]
pub struct InfoArgs {
    /// A run folder or a .safetensors file.
    #[arg(value_name = "RUN|FILE")]
    pub path: PathBuf,
}

fn cpu_or_gpu(text: &str) -> Result<Place, String> {
    let place = text.parse().map_err(|e: crate::Error| e.to_string())?;
    if place == Place::Auto { Err("want cpu, cuda or cuda:N".into()) } else { Ok(place) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|r: &f64| r.is_finite() && *r > 0.0);
    rate.ok_or_else(|| format!("want a number above 0, not {text}"))
}

fn pair(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once(',')
        .and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    parts.ok_or_else(|| format!("want ROW,COL, as in 3,4, not {text}"))
}

/// One of `words`, each of which a `T` has.
fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}
