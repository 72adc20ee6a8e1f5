//! How a student follows its teacher, and whether the two have collapsed.

use crate::train::summary::ViewFigures;
use serde::{Deserialize, Serialize};

/// Share of ln K below which outputs are one and above which they are all the same.
const COLLAPSED: f64 = 0.02;

/// Figures of a student and its teacher on two views of each image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DinoFigures {
    /// Mean cross-entropy of the student's view against the teacher's other view, in nats.
    pub loss: f64,
    /// Mean entropy of what the teacher says of a view, in nats: ln K where it says nothing.
    pub entropy: f64,
    /// Entropy of what the teacher says on the average over all views, in nats: 0 where it says the same of all.
    pub outputs_entropy: f64,
    /// Outputs K.
    pub outputs: usize,
    /// What has collapsed, where that is so.
    pub collapse: Option<String>,
    /// Images that were looked at.
    pub images: usize,
}

/// What [`DinoFigures`] are made of.
pub(super) struct DinoSums {
    loss: f64,
    entropy: f64,
    mean: Vec<f64>,
    views: usize,
}

impl DinoSums {
    /// Of no view, with K outputs.
    pub fn new(outputs: usize) -> Self {
        Self { loss: 0.0, entropy: 0.0, mean: vec![0.0; outputs], views: 0 }
    }

    /// Adds losses and entropies, one for each view, and distributions `[..,K]`.
    pub fn add(&mut self, losses: &[f64], entropies: &[f64], q: &[f64]) {
        self.loss += losses.iter().sum::<f64>();
        self.entropy += entropies.iter().sum::<f64>();
        self.views += entropies.len();
        for row in q.chunks_exact(self.mean.len()) {
            self.mean.iter_mut().zip(row).for_each(|(sum, q)| *sum += q);
        }
    }

    /// The means; nothing where there is no view.
    pub fn figures(&self) -> Option<DinoFigures> {
        let n = self.views as f64;
        if self.views == 0 {
            return None;
        }
        let shares = self.mean.iter().map(|sum| sum / n);
        let outputs_entropy = shares.map(|p| if p > 0.0 { -p * p.ln() } else { 0.0 }).sum();
        let (loss, entropy, outputs) = (self.loss / n, self.entropy / n, self.mean.len());
        let collapse = collapse(entropy, outputs_entropy, (outputs as f64).ln());
        // Two views of each image.
        Some(DinoFigures {
            loss,
            entropy,
            outputs_entropy,
            outputs,
            collapse,
            images: self.views / 2,
        })
    }
}

/// The two ways of saying the same of every image (arXiv 2104.14294, §5.3).
fn collapse(entropy: f64, outputs_entropy: f64, most: f64) -> Option<String> {
    if outputs_entropy < COLLAPSED * most {
        return Some(
            "collapsed: the teacher gives one output for every image; lower center_momentum or raise \
             teacher_temperature"
                .into(),
        );
    }
    (entropy > (1.0 - COLLAPSED) * most).then(|| {
        "collapsed: the teacher gives all outputs alike for every image; lower teacher_temperature or train longer"
            .into()
    })
}

impl ViewFigures for DinoFigures {
    const METHOD: &'static str = "DINO";

    fn images(&self) -> usize {
        self.images
    }

    fn collapse(&self) -> Option<&str> {
        self.collapse.as_deref()
    }

    fn in_words(&self) -> Vec<[String; 3]> {
        let most = (self.outputs as f64).ln();
        let row = |name: &str, value: f64, unit: &str| {
            [name.to_owned(), format!("{value:.3}"), unit.to_owned()]
        };
        vec![
            row("loss", self.loss, " nats"),
            row("teacher's entropy", self.entropy, &format!(" of {most:.3} nats")),
            row("entropy of outputs", self.outputs_entropy, &format!(" of {most:.3} nats")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of K = 4 outputs, what each of four images gets.
    fn figures(rows: &[[f64; 4]]) -> DinoFigures {
        let mut sums = DinoSums::new(4);
        for row in rows {
            let entropy = row.iter().map(|p| if *p > 0.0 { -p * p.ln() } else { 0.0 }).sum();
            sums.add(&[1.5], &[entropy], row);
        }
        sums.figures().expect("views")
    }

    #[test]
    fn both_kinds_of_collapse_are_said_and_nothing_else() {
        let one = figures(&[[1.0, 0.0, 0.0, 0.0]; 4]);
        assert!(one.collapse.expect("collapsed").contains("one output"));
        let all = figures(&[[0.25; 4]; 4]);
        assert!(all.collapse.expect("collapsed").contains("all outputs alike"));
        let sharp: Vec<[f64; 4]> =
            (0..4).map(|i| std::array::from_fn(|k| f64::from(u8::from(i == k)))).collect();
        let good = figures(&sharp);
        assert_eq!((good.collapse, good.entropy, good.loss), (None, 0.0, 1.5));
        assert!((good.outputs_entropy - 4f64.ln()).abs() < 1e-12);
        assert!(DinoSums::new(4).figures().is_none());
    }
}
