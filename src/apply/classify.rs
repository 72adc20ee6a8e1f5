//! What a classifier says of labelled images: a [`Judgement`] of each, and figures over them.

mod evaluation;
mod figures;
mod page;

pub use evaluation::{EvaluationSummary, evaluate};
pub use figures::{CalibrationBin, ClassResult, ClassifierFigures, Confusion, wilson};
pub use page::{add_figures, add_mistakes, mistakes};

use crate::data::loader::{BadImages, map_items};
use crate::data::{Dataset, Image, Labelled};
use crate::error::Result;
use crate::models::classifier::Classifier;
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::params::{Ctx, Params};
use crate::run::{Progress, is_news, not_interrupted, note};
use crate::tensor::Tensor;

/// Images that are shown to a model together.
const TOGETHER: usize = 64;
/// The k of top-k beside top-1.
pub const TOP: usize = 5;

/// What a classifier says of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Number of the image in the data.
    pub image: usize,
    /// Its class.
    pub label: u32,
    /// The class with the highest probability, the lowest of equals.
    pub predicted: u32,
    /// That probability.
    pub confidence: f64,
    /// Classes that come before the label by probability, lower numbers first among equals.
    pub before: usize,
    /// −ln of the label's probability, in nats.
    pub nll: f64,
    /// Σ (p − one-hot)².
    pub brier: f64,
}

impl Judgement {
    /// From the logits of the image.
    #[track_caller]
    pub fn of(image: usize, label: u32, logits: &[f32]) -> Self {
        let p = probabilities(logits);
        let own = p[label as usize];
        let (predicted, confidence) = (0..).zip(&p).fold(
            (0, f64::NEG_INFINITY),
            |best: (u32, f64), (class, &p)| {
                if p > best.1 { (class, p) } else { best }
            },
        );
        let logit = |class: u32| logits[class as usize];
        let ahead = |class: u32| {
            let (other, this) = (logit(class), logit(label));
            other > this || (other == this && class < label)
        };
        let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        let from_largest = |x: f32| f64::from(x) - f64::from(largest);
        let log_sum = logits.iter().map(|&x| from_largest(x).exp()).sum::<f64>().ln();
        Self {
            image,
            label,
            predicted,
            confidence,
            before: (0..logits.len() as u32).filter(|&class| ahead(class)).count(),
            nll: log_sum - from_largest(logit(label)),
            brier: p.iter().map(|p| p * p).sum::<f64>() - 2.0 * own + 1.0,
        }
    }

    /// Whether the classifier is right.
    pub fn right(&self) -> bool {
        self.predicted == self.label
    }
}

/// Softmax of logits, in f64.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    let from_largest = |x: f32| f64::from(x) - f64::from(largest);
    let exp: Vec<f64> = logits.iter().map(|&x| from_largest(x).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|x| x / sum).collect()
}

/// Logits of views `[Ih,Iw,3]`, one row for each.
pub fn logits_of<B: Backend>(
    bk: &B,
    model: &Classifier<B>,
    w: &Params<B>,
    views: Vec<Vec<f32>>,
) -> Vec<Vec<f32>> {
    let ((h, wide), b) = (model.config.encoder.image, views.len());
    let images = Tensor::from_f32(bk, views.concat(), &[b, h, wide, 3]);
    let logits = model.logits(Ctx::new(bk, w), &EncoderInput::of(&images)).to_f64(bk);
    let classes = model.config.classes.len();
    logits.chunks_exact(classes).map(|row| row.iter().map(|&x| x as f32).collect()).collect()
}

/// Judgements of the images of `data`, which are labelled as the model numbers classes, and those that cannot be
/// read. `view` makes what the model sees. An interruption is an error.
pub fn judge<B: Backend, D: Dataset<Item = Labelled>>(
    bk: &B,
    (model, w): (&Classifier<B>, &Params<B>),
    data: &D,
    view: impl Fn(&Image) -> Vec<f32> + Sync,
    what: &str,
) -> Result<(Vec<Judgement>, BadImages)> {
    let (mut found, mut bad) = (Vec::with_capacity(data.len()), BadImages::new());
    let all: Vec<usize> = (0..data.len()).collect();
    let mut progress = Progress::new(what, data.len() as u64, 0, "images");
    for chunk in all.chunks(TOGETHER) {
        not_interrupted()?;
        let make = |item: Labelled| (item.label, view(&item.image));
        let (loaded, unread) = map_items(data, chunk, make);
        let lines = unread.values().map(|reason| format!("skipped: {reason}"));
        lines.filter(|line| is_news(line)).for_each(|line| note(&line));
        bad.extend(unread);
        let (mut about, mut views) = (Vec::new(), Vec::new());
        for (image, (label, view)) in loaded {
            about.push((image, label.expect("a labelled source")));
            views.push(view);
        }
        if !views.is_empty() {
            let logits = logits_of(bk, model, w, views);
            let each = about.into_iter().zip(&logits);
            found.extend(each.map(|((image, label), row)| Judgement::of(image, label, row)));
        }
        progress.advance(chunk.len() as u64, "");
    }
    progress.finish();
    Ok((found, bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_ranks_equals_by_number() {
        let j = Judgement::of(7, 2, &[1.0, 3.0, 3.0, -1.0]);
        assert_eq!((j.predicted, j.before, j.right()), (1, 1, false));
        assert_eq!(Judgement::of(7, 1, &[1.0, 3.0, 3.0, -1.0]).before, 0);
        let p = probabilities(&[1.0, 3.0, 3.0, -1.0]);
        assert!((j.nll + p[2].ln()).abs() < 1e-12 && (j.confidence - p[1]).abs() < 1e-15);
        let brier: f64 =
            p.iter().enumerate().map(|(i, p)| (p - f64::from(u8::from(i == 2))).powi(2)).sum();
        assert!((j.brier - brier).abs() < 1e-12);
    }
}
