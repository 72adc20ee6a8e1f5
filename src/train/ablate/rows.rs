//! The rows of the table.

use crate::config::PretrainRun;
use crate::error::{Error, Result};
use crate::words::words;

words! {
    /// What a row is measured by.
    AblationMeasure {
        /// Accuracy on the test images after fine-tuning.
        Finetune = "finetune",
        /// The best block's linear probe on the test images.
        Probe = "probe",
    }
}

/// One row.
#[derive(Debug)]
pub struct AblationRow {
    /// What it is called in `--rows` and in folders.
    pub name: &'static str,
    /// What differs from the first row.
    pub what: &'static str,
    /// Accuracy on ImageNet-1k in the paper's table 4, in percent, where it has the row.
    pub paper: Option<f64>,
    /// What differs in pretraining.
    pub changes: &'static [AblationChange],
    /// Settings of fine-tuning that go with it.
    pub finetune: &'static [&'static str],
    /// Whether there is any pretraining.
    pub pretrained: bool,
}

/// A setting of pretraining.
#[derive(Debug)]
pub enum AblationChange {
    /// As after `--set`.
    Set(&'static str),
    /// This share of the patches is hidden.
    Masked(f64),
}

impl AblationChange {
    /// As after `--set`, where the run is otherwise `usual`.
    pub fn setting(&self, usual: &PretrainRun) -> String {
        match self {
            Self::Set(text) => (*text).to_owned(),
            Self::Masked(share) => {
                let patches = usual.beit().encoder.patches() as f64;
                format!("masked_patches={}", (share * patches).round().max(1.0))
            }
        }
    }
}

use AblationChange::{Masked, Set};

const USUAL: AblationRow = AblationRow {
    name: "beit",
    what: "as BEiT does it",
    paper: Some(82.86),
    changes: &[],
    finetune: &[],
    pretrained: true,
};

/// All rows: those of the paper's table 4 first.
pub const ROWS: &[AblationRow] = &[
    USUAL,
    AblationRow {
        name: "random-masks",
        what: "single patches hidden, not blocks",
        paper: Some(82.77),
        changes: &[Set("masking=random")],
        ..USUAL
    },
    AblationRow {
        name: "pixels",
        what: "pixels as targets, not tokens",
        paper: Some(81.04),
        changes: &[Set("target=pixels")],
        ..USUAL
    },
    AblationRow {
        name: "random-masks-pixels",
        what: "single patches hidden and pixels as targets",
        paper: Some(80.50),
        changes: &[Set("masking=random"), Set("target=pixels")],
        ..USUAL
    },
    AblationRow {
        name: "recover-all",
        what: "tokens of all patches predicted, not of the hidden ones alone",
        paper: Some(82.59),
        changes: &[Set("loss_over=all")],
        ..USUAL
    },
    AblationRow {
        name: "recover-all-unmasked",
        what: "nothing hidden, tokens of all patches predicted",
        paper: Some(81.67),
        changes: &[Set("masking=none"), Set("loss_over=all")],
        ..USUAL
    },
    AblationRow {
        name: "no-pretraining",
        what: "fine-tuned from random weights",
        paper: None,
        finetune: &["layer_decay=1"],
        pretrained: false,
        ..USUAL
    },
    AblationRow {
        name: "normalised-pixels",
        what: "pixels as targets, each patch normalised",
        paper: None,
        changes: &[Set("target=normalised_pixels")],
        ..USUAL
    },
    AblationRow {
        name: "absolute-positions",
        what: "learned absolute positions, no relative ones",
        paper: None,
        changes: &[Set("rel_pos=none"), Set("abs_pos=true")],
        ..USUAL
    },
    AblationRow {
        name: "no-layer-scale",
        what: "branches without a scale",
        paper: None,
        changes: &[Set("layer_scale=0")],
        ..USUAL
    },
    AblationRow {
        name: "random-patch",
        what: "a random patch of the batch in place of the mask token",
        paper: None,
        changes: &[Set("replace=random_patch")],
        ..USUAL
    },
    AblationRow {
        name: "mask-20",
        what: "20 % of the patches hidden",
        paper: None,
        changes: &[Masked(0.2)],
        ..USUAL
    },
    AblationRow {
        name: "mask-60",
        what: "60 % of the patches hidden",
        paper: None,
        changes: &[Masked(0.6)],
        ..USUAL
    },
    AblationRow {
        name: "mask-80",
        what: "80 % of the patches hidden",
        paper: None,
        changes: &[Masked(0.8)],
        ..USUAL
    },
];

impl AblationRow {
    /// Whether its pretraining predicts tokens.
    pub(super) fn needs_tokenizer(&self) -> bool {
        let pixels =
            |change: &AblationChange| matches!(change, Set(text) if text.starts_with("target="));
        self.pretrained && !self.changes.iter().any(pixels)
    }
}

/// The rows of these names, in the order of [`ROWS`]; all where no name is given.
pub fn chosen(names: &[String]) -> Result<Vec<&'static AblationRow>> {
    for name in names {
        if !ROWS.iter().any(|row| row.name == name) {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            return Err(Error::config(format!(
                "--rows {name}: there are the rows {}",
                known.join(", ")
            )));
        }
    }
    let wanted = |row: &&AblationRow| names.is_empty() || names.iter().any(|name| name == row.name);
    Ok(ROWS.iter().filter(wanted).collect())
}
