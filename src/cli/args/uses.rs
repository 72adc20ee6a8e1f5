//! Arguments of the commands that show images to a finished model.

use super::values::{ratio, share, size, word};
use crate::apply::array_file::ArrayFormat;
use crate::apply::embed::FeatureKind;
use crate::apply::predict::RowFormat;
use crate::config::Place;
use clap::Args;
use std::path::PathBuf;

/// What these commands share.
#[derive(Args)]
pub struct UseArgs {
    /// Largest share of the images that may be unreadable (one always may, unless it is 0); all never may.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    pub max_bad: f64,
    /// Threads; 0 is one per core. Never changes a result.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
}

/// What those of them that stream share.
#[derive(Args)]
pub struct StreamArgs {
    /// Images that the model sees together.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// Everything else.
    #[command(flatten)]
    pub common: UseArgs,
}

/// Arguments of `predict`.
#[derive(Args)]
pub struct PredictArgs {
    /// The classifier: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// Images: files, folders, CIFAR-10/100 binary files or folders, synthetic[:COUNT], in any mixture.
    #[arg(value_name = "IMAGE|SRC", required = true)]
    pub images: Vec<PathBuf>,
    /// Classes of each image, the most probable first; all where there are fewer.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// How a row is written: table, csv or jsonl.
    #[arg(long, default_value = "table", value_parser = word::<RowFormat>(RowFormat::WORDS))]
    pub format: RowFormat,
    /// Height and width of the view in pixels, as in 96,128, or one side; tables of positions are resized [default:
    /// the model's own].
    #[arg(long, value_name = "H,W", value_parser = size)]
    pub image_size: Option<(usize, usize)>,
    /// The rows' file [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Everything else.
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// What the commands that write an array share.
#[derive(Args)]
pub struct ArrayArgs {
    /// Images: a folder, a CIFAR-10/100 binary file or folder, or synthetic[:COUNT].
    #[arg(long, value_name = "SRC")]
    pub data: PathBuf,
    /// The array's file: npy or safetensors.
    #[arg(long, default_value = "npy", value_parser = word::<ArrayFormat>(ArrayFormat::WORDS))]
    pub format: ArrayFormat,
    /// A new or empty folder for the array and paths.txt, a line for each of its images.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Everything else.
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// Arguments of `embed`.
#[derive(Args)]
pub struct EmbedArgs {
    /// The encoder, of a pretraining or a classifier: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// Block whose output is taken, counted from 1 as in the table of a probe [default: the last].
    #[arg(long, value_name = "N")]
    pub block: Option<usize>,
    /// Features of an image: the class token, the mean of the patches, or all patches.
    #[arg(long, default_value = "mean", value_parser = word::<FeatureKind>(FeatureKind::WORDS))]
    pub what: FeatureKind,
    /// Everything else.
    #[command(flatten)]
    pub array: ArrayArgs,
}

/// Arguments of `tokenize`.
#[derive(Args)]
pub struct TokenizeArgs {
    /// The tokenizer: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub tokenizer: PathBuf,
    /// Everything else.
    #[command(flatten)]
    pub array: ArrayArgs,
}

/// Arguments of `segment`.
#[derive(Args)]
pub struct SegmentArgs {
    /// The segmenter: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// Images: files, folders, CIFAR-10/100 binary files or folders, synthetic[:COUNT], in any mixture.
    #[arg(value_name = "IMAGE|SRC", required = true)]
    pub images: Vec<PathBuf>,
    /// How images are looked at.
    #[command(flatten)]
    pub windows: WindowArgs,
    /// A new or empty folder for masks/, overlays/, images.txt and report.html.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Everything else.
    #[command(flatten)]
    pub common: UseArgs,
}

/// How a segmenter looks at images that are larger than its own.
#[derive(Args)]
pub struct WindowArgs {
    /// Pixels from one of a segmenter's windows to the next; 0 is two thirds of a window.
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub stride: usize,
    /// Scales at which a segmenter looks at an image; what it says is averaged, as with 0.75,1,1.25.
    #[arg(long, value_name = "RATIO,...", value_delimiter = ',', default_value = "1", value_parser = ratio)]
    pub ratios: Vec<f64>,
    /// Have a segmenter look at each image mirrored, too.
    #[arg(long)]
    pub flip: bool,
}

impl WindowArgs {
    /// As a page says them.
    pub fn in_words(&self) -> String {
        format!("stride = {}\nratios = {:?}\nflip = {}\n", self.stride, self.ratios, self.flip)
    }

    /// Whether none was given.
    pub fn is_default(&self) -> bool {
        self.stride == 0 && self.ratios == [1.0] && !self.flip
    }
}

/// Arguments of `evaluate`.
#[derive(Args)]
pub struct EvaluateArgs {
    /// The classifier or segmenter: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// Labelled images: of a classifier a folder with a folder per class, a CIFAR-10/100 binary file or
    /// folder, or synthetic[:COUNT]; of a segmenter what segment-train takes.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Height and width of a classifier's view in pixels, as in 96,128, or one side; tables of positions are resized
    /// [default: the model's own].
    #[arg(long, value_name = "H,W", value_parser = size)]
    pub image_size: Option<(usize, usize)>,
    /// How a segmenter looks at images.
    #[command(flatten)]
    pub windows: WindowArgs,
    /// Every figure as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folder for summary.json, the same, and report.html.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Everything else.
    #[command(flatten)]
    pub common: UseArgs,
}
