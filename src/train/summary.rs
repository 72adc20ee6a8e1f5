//! What finished runs report: the figures of `summary.json`, as a page too.

use crate::apply::classify::{ClassifierFigures, add_figures, add_mistakes};
use crate::apply::hard_codes::HardCodes;
use crate::apply::latents::LatentFigures;
use crate::apply::masked::{PatchEvaluation, PatchFigures};
use crate::apply::segment::{SegmentExample, SegmentFigures, add_examples, add_segment_figures};
use crate::models::config::SegmentClass;
use crate::ops::Backend;
use crate::report::page::{Page, Table};
use crate::report::picture::Picture;
use crate::train::task::{Task, Trained};
use serde::{Deserialize, Serialize};

/// What a finished run of `train-tokenizer` reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenizerSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// Peak signal-to-noise ratio in dB of the mean squared error over all evaluation images, from
    /// hard codes (argmax, no noise).
    pub psnr_db: f64,
    /// Tokens that occur, as a share of the vocabulary.
    pub codebook_usage: f64,
    /// exp of the entropy of the tokens' frequencies.
    pub codebook_perplexity: f64,
    /// Mean KL to the uniform prior per position, in nats.
    pub kl: f64,
    /// Negative log-likelihood per sub-pixel from hard codes, in nats.
    pub nll: f64,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Images that were evaluated.
    pub images: usize,
    /// Whether these were kept out of training.
    pub held_out: bool,
    /// Images that could not be read while training.
    pub unreadable: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

impl TokenizerSummary {
    /// The figures of `hard` at the end of a run.
    pub(super) fn new<B: Backend, T: Task<B>>(
        trained: &Trained<B, T>,
        hard: &HardCodes,
        vocab: usize,
    ) -> Self {
        Self {
            steps: trained.steps,
            psnr_db: hard.psnr_db(),
            codebook_usage: hard.usage(),
            codebook_perplexity: hard.perplexity(),
            kl: hard.kl / hard.positions(),
            nll: hard.nll / hard.sub_pixels,
            vocab,
            images: hard.images,
            held_out: trained.held_out,
            unreadable: trained.unreadable,
            seconds: trained.started.elapsed().as_secs_f64(),
        }
    }

    /// Title and figures of the report.
    pub(super) fn page(&self) -> Page {
        let (perplexity, vocab) = (self.codebook_perplexity, self.vocab);
        let row = |name: &str, value: String| [name.to_string(), value];
        Page::new("Tokenizer").section(&measured("Hard codes", self.images, self.held_out)).table(
            Table::new(&["figure", "value"], 1).rows([
                row("PSNR", format!("{:.2} dB", self.psnr_db)),
                row("codebook perplexity", format!("{perplexity:.1} of {vocab}")),
                row("codebook usage", format!("{:.3}", self.codebook_usage)),
                row("KL per position", format!("{:.3} nats", self.kl)),
            ]),
        )
    }
}

/// What a finished run of `train-tokenizer --kind vae` reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VaeSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// Peak signal-to-noise ratio in dB of the mean squared error over all evaluation images, from decoded means.
    pub psnr_db: f64,
    /// Mean KL to the standard normal prior per position, in nats.
    pub kl: f64,
    /// The same of each latent channel.
    pub channel_kl: Vec<f64>,
    /// Share of the channels whose mean KL is below 0.01 nat: collapse of the posterior.
    pub silent_channels: f64,
    /// The evidence lower bound in bits per sub-pixel, from drawn latents; nothing where squared errors were
    /// trained on.
    pub bits_per_dim: Option<f64>,
    /// Images that were evaluated.
    pub images: usize,
    /// Whether these were kept out of training.
    pub held_out: bool,
    /// Images that could not be read while training.
    pub unreadable: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

impl VaeSummary {
    /// The figures of `seen` at the end of a run.
    pub(super) fn new<B: Backend, T: Task<B>>(
        trained: &Trained<B, T>,
        seen: &LatentFigures,
        bits_per_dim: Option<f64>,
    ) -> Self {
        Self {
            steps: trained.steps,
            psnr_db: seen.psnr_db(),
            kl: seen.kl(),
            channel_kl: seen.channel_kl(),
            silent_channels: seen.silent(),
            bits_per_dim,
            images: seen.images,
            held_out: trained.held_out,
            unreadable: trained.unreadable,
            seconds: trained.started.elapsed().as_secs_f64(),
        }
    }

    /// What the figures are, each with its value.
    pub fn in_words(&self) -> Vec<[String; 2]> {
        let row = |name: &str, value: String| [name.to_string(), value];
        let d = self.channel_kl.len();
        let silent = (self.silent_channels * d as f64).round();
        let mut rows = vec![
            row("PSNR", format!("{:.2} dB", self.psnr_db)),
            row("KL per position", format!("{:.3} nats", self.kl)),
            row("silent channels", format!("{silent} of {d}")),
        ];
        rows.extend(self.bits_per_dim.map(|bits| row("bits per dimension", format!("{bits:.3}"))));
        rows
    }

    /// What to do where channels say nothing.
    pub fn collapse(&self) -> Option<String> {
        let d = self.channel_kl.len();
        let silent = (self.silent_channels * d as f64).round();
        (silent > 0.0).then(|| {
            format!(
                "The posterior has collapsed in {silent} of {d} latent channels: their mean KL is below 0.01 nat, so \
                 that they say nothing. A lower kl_weight, a longer kl_warmup or fewer latent_channels may help."
            )
        })
    }

    /// Title and figures of the report.
    pub(super) fn page(&self) -> Page {
        let page = Page::new("Gaussian VAE")
            .section(&measured("Latents", self.images, self.held_out))
            .table(Table::new(&["figure", "value"], 1).rows(self.in_words()));
        self.collapse().iter().fold(page, |page, line| page.text(line))
    }
}

/// What a finished run of `pretrain` reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PretrainSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// How well patches of the evaluation images are predicted.
    #[serde(flatten)]
    pub figures: PatchFigures,
    /// Images that were evaluated.
    pub images: usize,
    /// Whether these were kept out of training.
    pub held_out: bool,
    /// Images that could not be read while training.
    pub unreadable: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

impl PretrainSummary {
    /// The figures of `seen` at the end of a run.
    pub(super) fn new<B: Backend, T: Task<B>>(
        trained: &Trained<B, T>,
        seen: PatchEvaluation,
    ) -> Self {
        Self {
            steps: trained.steps,
            figures: seen.figures,
            images: seen.images,
            held_out: trained.held_out,
            unreadable: trained.unreadable,
            seconds: trained.started.elapsed().as_secs_f64(),
        }
    }

    /// Title and figures of the report.
    pub(super) fn page(&self) -> Page {
        Page::new("Pretraining").section(&measured("Figures", self.images, self.held_out)).table(
            Table::new(&["figure", "value"], 1).rows(
                self.figures
                    .in_words(4)
                    .into_iter()
                    .map(|[name, value, unit]| [name, value + &unit]),
            ),
        )
    }
}

/// Figures of a method that compares views of images.
pub trait ViewFigures {
    /// What the method is called.
    const METHOD: &'static str;
    /// Images that were looked at.
    fn images(&self) -> usize;
    /// Names, values and units.
    fn in_words(&self) -> Vec<[String; 3]>;
    /// What has collapsed, where that is so.
    fn collapse(&self) -> Option<&str>;
}

/// What a finished run of `dino` or `mocov3` reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ViewsSummary<F> {
    /// Optimizer steps.
    pub steps: u64,
    /// What the views say of each other.
    #[serde(flatten)]
    pub figures: F,
    /// Whether the images that were measured on were kept out of training.
    pub held_out: bool,
    /// Images that could not be read while training.
    pub unreadable: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

impl<F: ViewFigures> ViewsSummary<F> {
    /// The figures at the end of a run.
    pub(super) fn new<B: Backend, T: Task<B>>(trained: &Trained<B, T>, figures: F) -> Self {
        Self {
            steps: trained.steps,
            figures,
            held_out: trained.held_out,
            unreadable: trained.unreadable,
            seconds: trained.started.elapsed().as_secs_f64(),
        }
    }

    /// Title and figures of the report.
    pub(super) fn page(&self) -> Page {
        let of =
            if self.held_out { "images that were kept out of training" } else { "training images" };
        let heading = format!("Two views of each of {} {of}", self.figures.images());
        let rows = self.figures.in_words().into_iter();
        let rows = rows.map(|[name, value, unit]| [name, value + &unit]);
        let page = Page::new(F::METHOD).section(&heading);
        let page = page.table(Table::new(&["figure", "value"], 1).rows(rows));
        self.figures.collapse().into_iter().fold(page, Page::text)
    }
}

/// What a finished run of `finetune` reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FinetuneSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// What the run started from, as it was given.
    pub model: String,
    /// What the weights are worth.
    pub figures: ClassifierFigures,
    /// The most confident mistakes, a line about each.
    pub mistakes: Vec<String>,
    /// Their images, in rows of four.
    #[serde(skip)]
    pub pictures: Option<Picture>,
    /// Whether the images that were measured on were kept out of training.
    pub held_out: bool,
    /// Images that could not be read while training.
    pub unreadable: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

impl FinetuneSummary {
    /// The figures at the end of a run.
    pub(super) fn new<B: Backend, T: Task<B>>(
        trained: &Trained<B, T>,
        model: &str,
        figures: ClassifierFigures,
        (mistakes, pictures): (Vec<String>, Option<Picture>),
    ) -> Self {
        Self {
            steps: trained.steps,
            model: model.to_owned(),
            figures,
            mistakes,
            pictures,
            held_out: trained.held_out,
            unreadable: trained.unreadable,
            seconds: trained.started.elapsed().as_secs_f64(),
        }
    }

    /// Title and figures of the report.
    pub(super) fn page(&self) -> Page {
        let heading = measured("Figures", self.figures.images, self.held_out);
        let chosen = "The weights are those of the validation that was right most often, so on the images that they \
                      were chosen by the figures are a little too good; `beit evaluate` measures on others.";
        let page = Page::new("Fine-tuning").section(&heading);
        let page = if self.held_out { page.text(chosen) } else { page };
        let page = add_figures(page, &self.figures);
        add_mistakes(page, &self.mistakes, self.pictures.as_ref())
    }
}

/// What a finished run of `segment-train` reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SegmentSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// What the run started from, as it was given.
    pub model: String,
    /// What the weights are worth.
    pub figures: SegmentFigures,
    /// Some images with labels and predictions.
    #[serde(skip)]
    pub examples: Vec<SegmentExample>,
    /// The classes with their colours.
    pub classes: Vec<SegmentClass>,
    /// Whether the images that were measured on were kept out of training.
    pub held_out: bool,
    /// Images that could not be read while training.
    pub unreadable: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

impl SegmentSummary {
    /// The figures at the end of a run.
    pub(super) fn new<B: Backend, T: Task<B>>(
        trained: &Trained<B, T>,
        model: &str,
        figures: SegmentFigures,
        (examples, classes): (Vec<SegmentExample>, &[SegmentClass]),
    ) -> Self {
        Self {
            steps: trained.steps,
            model: model.to_owned(),
            figures,
            examples,
            classes: classes.to_vec(),
            held_out: trained.held_out,
            unreadable: trained.unreadable,
            seconds: trained.started.elapsed().as_secs_f64(),
        }
    }

    /// Title and figures of the report.
    pub(super) fn page(&self) -> Page {
        let of =
            if self.held_out { "images that were kept out of training" } else { "training images" };
        let heading = format!("Figures on {} {of}", self.figures.images);
        let chosen = "The weights are those of the validation whose mean IoU was highest, so on the images that they \
                      were chosen by the figures are a little too good; `beit evaluate` measures on others.";
        let page = Page::new("Segmentation").section(&heading);
        let page = if self.held_out { page.text(chosen) } else { page };
        add_examples(add_segment_figures(page, &self.figures), &self.examples, &self.classes)
    }
}

/// What figures were measured on.
fn measured(what: &str, images: usize, held_out: bool) -> String {
    let which = if held_out { "images that were kept out of training" } else { "training images" };
    format!("{what} on the central crops of {images} {which}")
}
