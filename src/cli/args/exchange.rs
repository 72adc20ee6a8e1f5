//! Arguments of `import` and `export`.

use super::values::{size, taps, word};
use crate::data::pixels::Normalise;
use crate::weights::Project;
use crate::weights::exchange::ExportFormat;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `import`.
#[derive(Args)]
pub struct ImportArgs {
    /// A folder of transformers or timm, a .pth, .pkl or .safetensors file, or DALL-E's files in a folder.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Folder for model.safetensors and config.json.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Whose files they are [default: found by their content].
    #[arg(long, value_name = "PROJECT", value_parser = word::<Project>(Project::WORDS))]
    pub format: Option<Project>,
    /// Pixels of an image where the files do not say: HEIGHT,WIDTH or one side.
    #[arg(long, value_name = "H,W", value_parser = size)]
    pub image_size: Option<(usize, usize)>,
    /// Attention heads where the files do not say.
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Mean and deviation of the views [default: as the files say, else half].
    #[arg(long, value_parser = word::<Normalise>(Normalise::WORDS))]
    pub normalise: Option<Normalise>,
    /// Blocks behind which the four levels of a segmenter are read, as 4,6,8,12 [default: as the files say].
    #[arg(long, value_name = "A,B,C,D", value_parser = taps)]
    pub taps: Option<[usize; 4]>,
}

/// Arguments of `export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The model: a run folder, a file, or another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// Whose files are written.
    #[arg(long, value_parser = word::<ExportFormat>(ExportFormat::WORDS))]
    pub format: ExportFormat,
    /// Folder for them.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
