//! What was measured of an encoder's predictions, under the names of `summary.json` and of the log.

use serde::{Deserialize, Serialize};

/// The figures of either target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PatchFigures {
    /// Of visual tokens.
    Tokens(TokenFigures),
    /// Of pixels.
    Pixels(PixelFigures),
}

/// How well tokens are predicted, over the patches that the loss is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenFigures {
    /// Masked patches whose token was predicted, over all masked patches; nothing where none is masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked_accuracy: Option<f64>,
    /// The same over all patches, where the loss is over all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_accuracy: Option<f64>,
    /// Share of the most frequent token among the targets: what a constant guess would reach.
    pub majority_accuracy: f64,
    /// 1 / vocabulary.
    pub chance: f64,
    /// Mean cross-entropy of the targets in nats.
    pub loss: f64,
}

/// How well pixels are predicted, over the patches that the loss is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelFigures {
    /// Mean squared error of the values as they are predicted: normalised like the encoder's view, and patch by
    /// patch where the target is.
    pub loss: f64,
    /// The least loss of one patch that is predicted always: what a constant guess would reach.
    pub constant_loss: f64,
    /// Peak signal-to-noise ratio in dB of the predicted patches in 0..1; nothing where mean and deviation of a
    /// patch are not predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr_db: Option<f64>,
}

impl PatchFigures {
    /// Names and values for a line of validation.
    pub fn logged(&self) -> Vec<(&'static str, f64)> {
        let some = |name, value: Option<f64>| value.map(|value| (name, value));
        let (loss, others) = match self {
            Self::Tokens(t) => (
                t.loss,
                [
                    some("val_masked_accuracy", t.masked_accuracy),
                    some("val_patch_accuracy", t.patch_accuracy),
                    Some(("val_majority_accuracy", t.majority_accuracy)),
                ],
            ),
            Self::Pixels(p) => (
                p.loss,
                [
                    Some(("val_constant_loss", p.constant_loss)),
                    some("val_psnr_db", p.psnr_db),
                    None,
                ],
            ),
        };
        std::iter::once(("val_loss", loss)).chain(others.into_iter().flatten()).collect()
    }

    /// What was predicted, in words.
    pub fn of(&self) -> &'static str {
        match self {
            Self::Tokens(TokenFigures { patch_accuracy: None, .. }) => "masked patches",
            Self::Tokens(_) => "all patches",
            Self::Pixels(_) => "pixels",
        }
    }

    /// Names, values with `digits` after the point, and units.
    pub fn in_words(&self, digits: usize) -> Vec<[String; 3]> {
        let unit = |name: &str, value: f64, unit: &str| {
            [name.to_string(), format!("{value:.digits$}"), unit.to_string()]
        };
        let row = |name: &str, value: f64| unit(name, value, "");
        let some = |name: &str, value: Option<f64>| value.map(|value| row(name, value));
        match self {
            Self::Tokens(t) => some("masked accuracy", t.masked_accuracy)
                .into_iter()
                .chain(some("accuracy, all", t.patch_accuracy))
                .chain([
                    row("most frequent token", t.majority_accuracy),
                    row("chance", t.chance),
                    unit("loss", t.loss, " nats"),
                ])
                .collect(),
            Self::Pixels(p) => {
                [row("squared error", p.loss), row("constant guess", p.constant_loss)]
                    .into_iter()
                    .chain(p.psnr_db.map(|db| unit("PSNR", db, " dB")))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_back_from_their_text_under_the_names_of_older_summaries() {
        let tokens = PatchFigures::Tokens(TokenFigures {
            masked_accuracy: Some(0.5),
            patch_accuracy: None,
            majority_accuracy: 0.25,
            chance: 0.125,
            loss: 2.0,
        });
        let text = serde_json::to_string(&tokens).unwrap();
        let older = r#"{"masked_accuracy":0.5,"majority_accuracy":0.25,"chance":0.125,"loss":2.0}"#;
        assert_eq!(text, older);
        let pixels =
            PatchFigures::Pixels(PixelFigures { loss: 1.0, constant_loss: 2.0, psnr_db: None });
        for figures in [tokens, pixels] {
            let text = serde_json::to_string(&figures).unwrap();
            assert_eq!(serde_json::from_str::<PatchFigures>(&text).unwrap(), figures);
        }
    }
}
