//! The figures of the bound and what each of them is.

use super::terms::BoundTerms;
use serde::Serialize;
use std::collections::BTreeMap;
use std::f64::consts::LN_2;

/// Sizes that figures are relative to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BoundSizes {
    /// Sub-pixels of the tokenizer's view, D.
    pub dimensions: usize,
    /// Tokens of an image, N.
    pub positions: usize,
    /// Codes, K.
    pub vocab: usize,
}

/// The mean of a figure over images, and its standard error, which one image does not have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BoundFigure {
    /// Nats per image.
    pub nats: f64,
    /// Its standard error over images.
    pub nats_error: Option<f64>,
    /// Bits per sub-pixel.
    pub bits_per_dim: f64,
    /// Its standard error over images.
    pub bits_per_dim_error: Option<f64>,
}

/// What kind of quantity a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FigureKind {
    /// Logarithm of a probability, or a difference of two: more is better; its bits are those it costs.
    Likelihood,
    /// Divergence, or a difference of two: its bits have its own sign.
    Divergence,
}

/// A figure's definition.
pub(super) struct Definition {
    /// Its key in JSON.
    pub(super) key: &'static str,
    /// Its name in tables.
    pub(super) name: &'static str,
    pub(super) kind: FigureKind,
    /// Its value for an image, in nats.
    pub(super) of: fn(&BoundTerms, &BoundSizes) -> f64,
    /// In words.
    pub(super) text: &'static str,
}

use FigureKind::{Divergence, Likelihood};

impl BoundTerms {
    /// The bound with the uniform prior.
    pub(super) fn uniform(&self) -> f64 {
        self.hard - self.uniform_all
    }

    /// The bound with the second stage's prior on masked positions, the uniform one on the others.
    fn masked(&self) -> f64 {
        self.hard - (self.uniform_all - self.uniform_masked + self.prior_masked)
    }

    /// The bound with the second stage's prior everywhere.
    pub(super) fn all(&self) -> f64 {
        self.hard - self.prior_all
    }
}

impl BoundSizes {
    /// N ln K
    fn uniform_surprise(&self) -> f64 {
        self.positions as f64 * (self.vocab as f64).ln()
    }

    /// Bits per sub-pixel of a figure in nats.
    pub(super) fn bits(&self, kind: FigureKind, nats: f64) -> f64 {
        let bits = nats / (self.dimensions as f64 * LN_2);
        if kind == Likelihood { -bits } else { bits }
    }
}

/// ln p(x|z) in its forms.
pub(super) const RECONSTRUCTION: &[Definition] = &[
    Definition {
        key: "reconstruction_hard",
        name: "hard codes",
        kind: Likelihood,
        of: |t, _| t.hard,
        text: "E_q[ln p(x|z)]: codes drawn from q(z|x) by the Gumbel-max rule, one-hot; the probability of the \
               bytes themselves, by exact masses",
    },
    Definition {
        key: "reconstruction_relaxed",
        name: "relaxed codes",
        kind: Likelihood,
        of: |t, _| t.relaxed,
        text: "the same with softmax((logits + noise) / τ) in place of the one-hot codes, from the same noise: what \
               training saw",
    },
    Definition {
        key: "relaxed_minus_hard",
        name: "relaxed minus hard",
        kind: Likelihood,
        of: |t, _| t.relaxed - t.hard,
        text: "what the decoder reads out of mixtures of codes and loses with codes; 0 where τ is low enough",
    },
    Definition {
        key: "reconstruction_density",
        name: "hard codes, density",
        kind: Likelihood,
        of: |t, _| t.density,
        text: "hard codes with the density of the logit-Laplace at each byte times 0.8/255, the width of its \
               interval: an approximation that may exceed 1, shown beside the exact masses",
    },
    Definition {
        key: "reconstruction_point",
        name: "most likely codes",
        kind: Likelihood,
        of: |t, _| t.point,
        text: "ln p(x|ẑ) of ẑ = argmax q(z|x), the tokens that the encoder is trained on; exact masses",
    },
];

/// Divergences of q from the priors.
pub(super) const DIVERGENCES: &[Definition] = &[
    Definition {
        key: "kl_uniform_all",
        name: "uniform, all positions",
        kind: Divergence,
        of: |t, _| t.uniform_all,
        text: "KL(q ‖ uniform) = Σ_i Σ_k q_ik (ln q_ik + ln K) over all N positions",
    },
    Definition {
        key: "kl_prior_all",
        name: "second stage, all positions",
        kind: Divergence,
        of: |t, _| t.prior_all,
        text: "KL(q ‖ p_θ(·|x̃)) = Σ_i Σ_k q_ik (ln q_ik − ln p_ik) over all N positions: at every patch, masked \
               or not, p_i is the softmax of the encoder's head at that patch, all of one pass over the masked \
               image x̃. Pretraining asks the head about masked patches alone, so at the others it says what it \
               happens to; and it asks for ẑ, not for q, so where q is broad p_θ may be further from it than 1/K is",
    },
    Definition {
        key: "kl_uniform_masked",
        name: "uniform, masked positions",
        kind: Divergence,
        of: |t, _| t.uniform_masked,
        text: "the first of these, over the masked positions alone",
    },
    Definition {
        key: "kl_prior_masked",
        name: "second stage, masked positions",
        kind: Divergence,
        of: |t, _| t.prior_masked,
        text: "the second, over the masked positions alone",
    },
];

/// Lower bounds, and what the second stage adds to them.
pub(super) const BOUNDS: &[Definition] = &[
    Definition {
        key: "bound_uniform",
        name: "uniform prior",
        kind: Likelihood,
        of: |t, _| t.uniform(),
        text: "hard codes − KL(q ‖ uniform): the first stage by itself, a bound on ln p(x)",
    },
    Definition {
        key: "bound_relaxed",
        name: "uniform prior, relaxed codes",
        kind: Likelihood,
        of: |t, _| t.relaxed - t.uniform_all,
        text: "relaxed codes − KL(q ‖ uniform): what training maximised where β was 1; not a bound",
    },
    Definition {
        key: "bound_masked",
        name: "second stage where masked",
        kind: Likelihood,
        of: |t, _| t.masked(),
        text: "hard codes − KL with p_θ on the masked positions and the uniform prior on the others: the second \
               stage where it was trained, a bound on ln p(x|x̃)",
    },
    Definition {
        key: "bound_all",
        name: "second stage everywhere",
        kind: Likelihood,
        of: |t, _| t.all(),
        text: "hard codes − KL(q ‖ p_θ(·|x̃)) over all positions: both stages, a bound on ln p(x|x̃) (BEiT, eq. 2)",
    },
    Definition {
        key: "gain_masked",
        name: "gain where masked",
        kind: Divergence,
        of: |t, _| t.uniform_masked - t.prior_masked,
        text: "KL(q ‖ uniform) − KL(q ‖ p_θ) over the masked positions: what the second stage adds to the bound",
    },
    Definition {
        key: "gain_all",
        name: "gain everywhere",
        kind: Divergence,
        of: |t, _| t.uniform_all - t.prior_all,
        text: "the same over all positions",
    },
    Definition {
        key: "point_uniform",
        name: "one point, uniform prior",
        kind: Likelihood,
        of: |t, s| t.point - s.uniform_surprise(),
        text: "ln p(x|ẑ) − N ln K: the bound with all of q on the most likely codes",
    },
    Definition {
        key: "point_all",
        name: "one point, second stage",
        kind: Likelihood,
        of: |t, _| t.point - t.surprise,
        text: "ln p(x|ẑ) + ln p_θ(ẑ|x̃) over all positions (BEiT, eq. 3): what the second stage \
               is trained to raise, if at masked positions only",
    },
];

/// All figures, by key.
pub(super) fn figures(
    terms: &[BoundTerms],
    sizes: &BoundSizes,
) -> BTreeMap<&'static str, BoundFigure> {
    let all = [RECONSTRUCTION, DIVERGENCES, BOUNDS].into_iter().flatten();
    all.map(|d| (d.key, figure(d, terms, sizes))).collect()
}

fn figure(definition: &Definition, terms: &[BoundTerms], sizes: &BoundSizes) -> BoundFigure {
    let values: Vec<f64> = terms.iter().map(|t| (definition.of)(t, sizes)).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    let error = (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
    BoundFigure {
        nats: mean,
        nats_error: error,
        bits_per_dim: sizes.bits(definition.kind, mean),
        bits_per_dim_error: error.map(|e| sizes.bits(Divergence, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_errors_are_those_of_the_images() {
        let image = |hard: f64, prior_all: f64| BoundTerms {
            hard,
            prior_all,
            uniform_all: 20.0,
            uniform_masked: 8.0,
            prior_masked: 5.0,
            ..BoundTerms::default()
        };
        let sizes = BoundSizes { dimensions: 12, positions: 4, vocab: 3 };
        let found = figures(&[image(-30.0, 10.0), image(-34.0, 12.0), image(-38.0, 14.0)], &sizes);
        let bit = 12.0 * LN_2;
        for (key, nats, error, bits) in [
            ("reconstruction_hard", -34.0, 4.0 / 3f64.sqrt(), 34.0 / bit),
            ("kl_prior_all", 12.0, 2.0 / 3f64.sqrt(), 12.0 / bit),
            ("bound_uniform", -54.0, 4.0 / 3f64.sqrt(), 54.0 / bit),
            ("bound_masked", -51.0, 4.0 / 3f64.sqrt(), 51.0 / bit),
            ("bound_all", -46.0, 6.0 / 3f64.sqrt(), 46.0 / bit),
            ("gain_masked", 3.0, 0.0, 3.0 / bit),
            ("gain_all", 8.0, 2.0 / 3f64.sqrt(), 8.0 / bit),
            ("point_uniform", -4.0 * 3f64.ln(), 0.0, 4.0 * 3f64.ln() / bit),
        ] {
            let got = found[key];
            let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
            assert!(near(got.nats, nats) && near(got.bits_per_dim, bits), "{key}: {got:?}");
            assert!(near(got.nats_error.unwrap(), error), "{key}: {got:?}");
            assert!(near(got.bits_per_dim_error.unwrap(), error / bit), "{key}: {got:?}");
        }
        assert_eq!(figures(&[image(-1.0, 1.0)], &sizes)["bound_all"].nats_error, None);
    }
}
