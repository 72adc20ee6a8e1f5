//! Whose files a model is from, and what a person says about them.

use super::import_plan::ImportPlan;
use crate::data::pixels::Normalise;
use crate::words::words;

words! {
    /// Whose files they are.
    Project {
        /// This project's.
        Own = "beit",
        /// Hugging Face's port.
        HuggingFace = "hf",
        /// The original, `microsoft/unilm`.
        Unilm = "unilm",
        /// timm, whose names are the original's.
        Timm = "timm",
        /// The tokenizer of `openai/DALL-E`.
        Dalle = "dalle",
    }
}

/// What a person says about files that do not say it themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stated {
    /// Whose files they are.
    pub project: Option<Project>,
    /// Height and width of the images, in pixels.
    pub image: Option<(usize, usize)>,
    /// Attention heads.
    pub heads: Option<usize>,
    /// Mean and deviation of the views.
    pub normalise: Option<Normalise>,
    /// Where the levels of a segmenter are read ([`SegmenterConfig::taps`](crate::models::config::SegmenterConfig)).
    pub taps: Option<[usize; 4]>,
}

/// Where a model of another project is from.
#[derive(Debug)]
pub struct Origin {
    /// Whose files they are.
    pub project: Project,
    /// What became of every tensor.
    pub plan: ImportPlan,
    /// What was taken from elsewhere than the tensors, or assumed.
    pub notes: Vec<String>,
}
