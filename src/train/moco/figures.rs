//! How well views are told apart, and whether all have become alike.

use crate::train::summary::ViewFigures;
use serde::{Deserialize, Serialize};

/// Mean similarity of different images from which on they count as alike.
const ALIKE: f64 = 0.95;

/// Figures of queries and keys of two views of each image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MocoFigures {
    /// Mean loss of both views together, by the first, among as many images as were compared.
    pub loss: f64,
    /// How often the most similar key is that of the same image.
    pub accuracy: f64,
    /// What chance gives of that.
    pub chance: f64,
    /// Mean cosine of query and key of one image.
    pub same: f64,
    /// Mean cosine of query and key of different images.
    pub others: f64,
    /// What has collapsed, where that is so.
    pub collapse: Option<String>,
    /// Images that were looked at.
    pub images: usize,
}

/// What [`MocoFigures`] are made of.
#[derive(Default)]
pub(super) struct MocoSums {
    loss: f64,
    correct: usize,
    images: usize,
    batches: usize,
    same: f64,
    others: f64,
    pairs: f64,
}

impl MocoSums {
    /// Adds losses of the views and which key was most similar to each.
    pub fn add(&mut self, losses: &[f64], best: &[u32]) {
        self.loss += losses.iter().sum::<f64>();
        self.correct += best.iter().enumerate().filter(|(i, best)| **best as usize == *i).count();
        self.images += losses.len();
        self.batches += 1;
    }

    /// Adds the cosines of `n` queries and keys `[n,D]` of unit length.
    pub fn compare(&mut self, queries: &[f64], keys: &[f64], n: usize) {
        let d = queries.len() / n;
        for (i, q) in queries.chunks_exact(d).enumerate() {
            for (j, k) in keys.chunks_exact(d).enumerate() {
                let cosine: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                *(if i == j { &mut self.same } else { &mut self.others }) += cosine;
            }
        }
        self.pairs += (n * (n - 1)) as f64;
    }

    /// The means; nothing where there is no image.
    pub fn figures(&self, temperature: f64) -> Option<MocoFigures> {
        if self.images == 0 {
            return None;
        }
        let n = self.images as f64;
        let others = self.others / self.pairs;
        let collapse = (others > ALIKE).then(|| {
            "collapsed: the queries of all images are alike; lower lr or raise temperature"
                .to_owned()
        });
        Some(MocoFigures {
            loss: 4.0 * temperature * self.loss / n,
            accuracy: self.correct as f64 / n,
            chance: self.batches as f64 / n,
            same: self.same / n,
            others,
            collapse,
            images: self.images,
        })
    }
}

impl ViewFigures for MocoFigures {
    const METHOD: &'static str = "MoCo v3";

    fn images(&self) -> usize {
        self.images
    }

    fn collapse(&self) -> Option<&str> {
        self.collapse.as_deref()
    }

    fn in_words(&self) -> Vec<[String; 3]> {
        let row = |name: &str, value: f64, unit: &str| {
            [name.to_owned(), format!("{value:.3}"), unit.to_owned()]
        };
        vec![
            row("loss", self.loss, ""),
            row("right key", self.accuracy, &format!(" (chance {:.3})", self.chance)),
            row("cosine, same image", self.same, ""),
            row("cosine, others", self.others, ""),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_is_said_and_nothing_else() {
        let mut alike = MocoSums::default();
        alike.add(&[2.0; 3], &[0; 3]);
        alike.compare(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 3);
        let seen = alike.figures(0.2).expect("images");
        assert!(seen.collapse.expect("collapsed").contains("alike"));
        assert!(
            (seen.accuracy - 1.0 / 3.0).abs() < 1e-15 && (seen.chance - 1.0 / 3.0).abs() < 1e-15
        );
        assert!((seen.loss - 1.6).abs() < 1e-12);
        let mut apart = MocoSums::default();
        apart.add(&[0.5; 2], &[0, 1]);
        apart.compare(&[1.0, 0.0, 0.0, 1.0], &[1.0, 0.0, 0.0, 1.0], 2);
        let seen = apart.figures(0.2).expect("images");
        assert_eq!((seen.collapse, seen.same, seen.others, seen.accuracy), (None, 1.0, 0.0, 1.0));
        assert!(MocoSums::default().figures(0.2).is_none());
    }
}
