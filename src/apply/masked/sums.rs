//! What the evaluation images showed, batch by batch.

use super::figures::{PixelFigures, TokenFigures};
use crate::config::LossOver;
use std::collections::BTreeMap;

/// Sums over the patches that the loss is over, whose tokens are predicted.
#[derive(Default)]
pub(super) struct TokenSums {
    /// Cross-entropy in nats.
    loss: f64,
    /// Patches whose token was predicted.
    correct: usize,
    /// Masked patches, and those of them whose token was predicted.
    masked: (usize, usize),
    labels: Vec<u32>,
}

impl TokenSums {
    /// Adds some patches, `masked` or not.
    pub(super) fn add(&mut self, losses: &[f64], argmax: &[u32], labels: &[u32], masked: &[bool]) {
        self.loss += losses.iter().sum::<f64>();
        for ((a, b), &masked) in argmax.iter().zip(labels).zip(masked) {
            self.correct += usize::from(a == b);
            self.masked.0 += usize::from(masked);
            self.masked.1 += usize::from(masked && a == b);
        }
        self.labels.extend(labels);
    }

    pub(super) fn figures(&self, over: LossOver, vocab: usize) -> TokenFigures {
        let count = self.labels.len().max(1) as f64;
        let mut counts = BTreeMap::<u32, u64>::new();
        self.labels.iter().for_each(|&l| *counts.entry(l).or_default() += 1);
        let (masked, correct) = self.masked;
        let share = || correct as f64 / masked.max(1) as f64;
        TokenFigures {
            masked_accuracy: (masked > 0 || over == LossOver::Masked).then(share),
            patch_accuracy: (over == LossOver::All).then(|| self.correct as f64 / count),
            majority_accuracy: counts.into_values().max().unwrap_or(0) as f64 / count,
            chance: 1.0 / vocab as f64,
            loss: self.loss / count,
        }
    }
}

/// Sums over the patches that the loss is over, whose pixels are predicted.
#[derive(Default)]
pub(super) struct PixelSums {
    patches: usize,
    /// Squares of what predictions are off.
    squares: f64,
    /// The same of pixels in 0..1.
    unit_squares: f64,
    /// Of each value of a patch the targets and their squares.
    targets: Vec<(f64, f64)>,
}

impl PixelSums {
    /// Adds patches of `3 P²` values each; `std` is that of the view, channel by channel.
    pub(super) fn add(&mut self, predicted: &[f64], targets: &[f64], std: [f32; 3], values: usize) {
        self.patches += targets.len() / values;
        self.targets.resize(values, (0.0, 0.0));
        for (predicted, targets) in predicted.chunks_exact(values).zip(targets.chunks_exact(values))
        {
            for (i, (p, t)) in predicted.iter().zip(targets).enumerate() {
                let (off, std) = (p - t, f64::from(std[i / (values / 3)]));
                self.squares += off * off;
                self.unit_squares += off * std * (off * std);
                self.targets[i].0 += t;
                self.targets[i].1 += t * t;
            }
        }
    }

    /// `plain`: whether the values are those of the view.
    pub(super) fn figures(&self, plain: bool) -> PixelFigures {
        let patches = self.patches.max(1) as f64;
        let count = patches * self.targets.len().max(1) as f64;
        let spread = |&(sum, squares): &(f64, f64)| squares - sum * sum / patches;
        PixelFigures {
            loss: self.squares / count,
            constant_loss: self.targets.iter().map(spread).sum::<f64>().max(0.0) / count,
            psnr_db: plain.then(|| -10.0 * (self.unit_squares / count).log10()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_figures_are_those_of_the_formulas() {
        let mut sums = PixelSums::default();
        let targets = [[1.0, 2.0, 3.0], [3.0, 2.0, -1.0]];
        let predicted = [[1.5, 2.0, 2.0], [3.0, 1.0, -1.0]];
        for (p, t) in predicted.iter().zip(&targets) {
            sums.add(p, t, [0.5, 0.25, 0.125], 3);
        }
        let seen = sums.figures(true);
        assert_eq!(seen.loss, (0.25 + 1.0 + 1.0) / 6.0);
        // The constant patch is (2, 2, 1).
        assert_eq!(seen.constant_loss, (1.0 + 1.0 + 4.0 + 4.0) / 6.0);
        let unit: f64 = (0.0625 + 1.0 / 64.0 + 1.0 / 16.0) / 6.0;
        assert!((seen.psnr_db.unwrap() + 10.0 * unit.log10()).abs() < 1e-12);
        assert_eq!(sums.figures(false).psnr_db, None);
    }

    #[test]
    fn masked_patches_have_an_accuracy_of_their_own() {
        let mut sums = TokenSums::default();
        sums.add(&[1.0, 2.0, 3.0], &[7, 1, 2], &[7, 2, 2], &[false, true, true]);
        let all = sums.figures(LossOver::All, 8);
        assert_eq!((all.masked_accuracy, all.patch_accuracy), (Some(0.5), Some(2.0 / 3.0)));
        assert_eq!((all.loss, all.chance, all.majority_accuracy), (2.0, 0.125, 2.0 / 3.0));
        let mut whole = TokenSums::default();
        whole.add(&[1.0], &[7], &[7], &[false]);
        assert_eq!(whole.figures(LossOver::All, 8).masked_accuracy, None);
        assert_eq!(TokenSums::default().figures(LossOver::Masked, 8).masked_accuracy, Some(0.0));
    }
}
