//! Arguments of the commands that make pictures and pages.

use super::values::{pair, part, shown_size, word};
use crate::apply::embed::FeatureKind;
use crate::apply::pages::attention::ShownSize;
use crate::config::Place;
use crate::data::pixels::Normalise;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `attention`.
#[derive(Args)]
pub struct AttentionArgs {
    /// The encoder: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// The image; for pages also several, each of which gets a page of its own: X-1.html, X-2.html, ...
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub image: Vec<PathBuf>,
    /// Row and column of the patch that looks, counted from 0; a picture needs it, a page begins there
    /// [default: the middle].
    #[arg(long, value_name = "ROW,COL", value_parser = pair)]
    pub patch: Option<(usize, usize)>,
    /// Block, counted from 0; for a page also several, as in 0,5,11 [default: the last; for a page all].
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub layer: Vec<usize>,
    /// For pages: show the image to the encoder at another size, whose sides are whole patches: HEIGHT,WIDTH, or
    /// the short side, where the long one follows the image [default: the encoder's own size].
    #[arg(long, value_name = "SIZE", value_parser = shown_size)]
    pub image_size: Option<ShownSize>,
    /// Mean and deviation of the view [default: those of the model's pretraining].
    #[arg(long, value_parser = word::<Normalise>(Normalise::WORDS))]
    pub normalise: Option<Normalise>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// The picture (.png), or the page (.html).
    #[arg(long, value_name = "FILE.png|FILE.html")]
    pub out: PathBuf,
}

/// Arguments of `reconstruct`.
#[derive(Args)]
pub struct ReconstructArgs {
    /// The tokenizer: a run folder or file, also another project's.
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
    /// Shares of the patches that are hidden, each with columns of its own, as in 0.2,0.4,0.6,0.8
    /// [default: 0.4].
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = part)]
    pub ratios: Vec<f64>,
    /// Seed of the masks.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Mean and deviation of the encoder's view [default: those of its pretraining].
    #[arg(long, value_parser = word::<Normalise>(Normalise::WORDS))]
    pub normalise: Option<Normalise>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// The picture (.png), or a page with a line about each (.html).
    #[arg(long, value_name = "FILE.png|FILE.html")]
    pub out: PathBuf,
}

/// Arguments of `atlas`.
#[derive(Args)]
pub struct AtlasArgs {
    /// The tokenizer: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub tokenizer: PathBuf,
    /// Images.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Images whose codes are counted, at most, spread over the source.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Threads; 0 is one per core. Never changes what is shown.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// The page.
    #[arg(long, value_name = "FILE.html")]
    pub out: PathBuf,
}

/// Arguments of `map`.
#[derive(Args)]
pub struct MapArgs {
    /// The encoder: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// Images; folders of a folder are classes, which colour the marks.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Images, at most, spread over the source.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=4000))]
    pub images: u32,
    /// Block whose output is taken, counted from 1 as in the table of a probe [default: the last].
    #[arg(long, value_name = "N")]
    pub block: Option<usize>,
    /// What stands for an image: the class token, or the mean of the patches.
    #[arg(long, default_value = "mean", value_parser = word::<FeatureKind>(&["mean", "class"]))]
    pub what: FeatureKind,
    /// Mean and deviation of the views [default: those of the model's pretraining].
    #[arg(long, value_parser = word::<Normalise>(Normalise::WORDS))]
    pub normalise: Option<Normalise>,
    /// Threads; 0 is one per core. Never changes what is shown.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// The page.
    #[arg(long, value_name = "FILE.html")]
    pub out: PathBuf,
}
