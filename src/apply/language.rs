//! What a masked language model says of hidden bytes, beside what counts of bytes say.

mod counts;
mod fill;

pub use counts::ByteCounts;
pub use fill::{Blank, FilledText, Marked, fill, readable};

use super::frozen::{load_all, spread};
use crate::data::Dataset;
use crate::data::text::{HiddenPiece, Piece};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::models::bert::{Bert, TextBatch};
use crate::models::config::BertConfig;
use crate::ops::Backend;
use crate::ops::cross_entropy::Target;
use crate::params::{Ctx, Params};
use crate::run::not_interrupted;
use crate::tensor::Ids;
use crate::weights::{load_model, load_weights};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Pieces that figures are measured on.
const EVALUATED: usize = 1024;

/// A language model with its weights.
pub struct OpenedBert<B: Backend> {
    /// The model.
    pub model: Bert<B>,
    /// Its weights.
    pub w: Params<B>,
}

impl<B: Backend> OpenedBert<B> {
    /// Reads `RUN|FILE`.
    pub fn open(bk: &B, path: &Path) -> Result<Self> {
        let file = load_model(path)?;
        let model = Bert::new(bk, file.sizes::<BertConfig>()?);
        let w = load_weights(bk, &file, &model.layout)?;
        Ok(Self { model, w })
    }
}

/// How well the chosen bytes of a text are predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextFigures {
    /// Chosen bytes whose most probable byte is the right one, over all chosen ones.
    pub masked_accuracy: f64,
    /// Mean cross-entropy of the chosen bytes in nats.
    pub loss: f64,
    /// exp of the loss: among so many equally likely bytes it would be a guess.
    pub perplexity: f64,
    /// Chosen bytes.
    pub bytes: usize,
}

/// Sums over chosen bytes.
#[derive(Default)]
struct TextSums {
    loss: f64,
    correct: usize,
    bytes: usize,
}

impl TextSums {
    fn add(&mut self, loss: f64, correct: bool) {
        self.loss += loss;
        self.correct += usize::from(correct);
        self.bytes += 1;
    }

    fn figures(&self) -> TextFigures {
        let n = self.bytes.max(1) as f64;
        let (loss, masked_accuracy) = (self.loss / n, self.correct as f64 / n);
        TextFigures { masked_accuracy, loss, perplexity: loss.exp(), bytes: self.bytes }
    }
}

/// What a model is shown of some pieces, and the bytes `[M]` of the chosen places.
pub fn text_batch<B: Backend>(
    bk: &B,
    model: &Bert<B>,
    samples: &[HiddenPiece],
) -> (TextBatch<B>, Ids<B>) {
    let n = model.config.length();
    let symbols = samples.iter().flat_map(|sample| sample.shown.iter().copied()).collect();
    // The class token stands before the bytes of its piece.
    let of_piece = |(i, sample): (usize, &HiddenPiece)| {
        let start = (i * (n + 1) + 1) as u32;
        sample.chosen.iter().map(move |place| start + place).collect::<Vec<_>>()
    };
    let rows: Vec<u32> = samples.iter().enumerate().flat_map(of_piece).collect();
    let answers = samples.iter().flat_map(HiddenPiece::answers).map(u32::from).collect();
    let count = rows.len();
    let rows = Ids::from_vec(bk, rows, &[count]);
    let images = model.images(bk, symbols, n);
    (TextBatch { images, rows, keep: None }, Ids::from_vec(bk, answers, &[count]))
}

/// At most 1024 pieces of a text with bytes hidden as no training step hides them.
pub fn evaluated(data: &impl Dataset<Item = Piece>, seed: u64) -> Vec<HiddenPiece> {
    // No training epoch has such a number.
    load_all(data, &spread(data, EVALUATED), |piece| piece.hide_in(seed, u32::MAX))
}

/// How well a model predicts the chosen bytes. [`Error::Interrupted`] once somebody wants the process to end.
pub fn measure<B: Backend>(
    bk: &B,
    model: &Bert<B>,
    w: &Params<B>,
    samples: &[HiddenPiece],
) -> Result<TextFigures> {
    let mut sums = TextSums::default();
    for chunk in samples.chunks(32) {
        not_interrupted()?;
        let (batch, answers) = text_batch(bk, model, chunk);
        if answers.is_empty() {
            continue;
        }
        let logits = model.logits(Ctx::new(bk, w), &batch);
        let target = Target::Hard { labels: &answers, ignore: None };
        let losses = bk.cross_entropy_forward(&logits, &target);
        let said = losses.argmax.to_vec(bk).into_iter().zip(answers.to_vec(bk));
        for (loss, (said, right)) in losses.rows.to_f64(bk).into_iter().zip(said) {
            sums.add(loss, said == right);
        }
    }
    Ok(sums.figures())
}

/// The same of what counts say of the same places, from what is shown to the model there and in the two places before.
pub fn measure_counts(counts: &ByteCounts, samples: &[HiddenPiece]) -> TextFigures {
    let mut sums = TextSums::default();
    for sample in samples {
        let seen = |place: usize| u8::try_from(sample.shown[place]).ok();
        for (&place, right) in sample.chosen.iter().zip(sample.answers()) {
            let place = place as usize;
            let before = [2, 1].map(|back| seen(place.checked_sub(back)?));
            let p = counts.given(before, seen(place));
            let best = (0..p.len()).rev().max_by(|&a, &b| p[a].total_cmp(&p[b]));
            sums.add(-p[usize::from(right)].ln(), best == Some(usize::from(right)));
        }
    }
    sums.figures()
}
