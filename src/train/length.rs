//! How long a run is.

use crate::config::TrainConfig;
use crate::error::{Error, Result};

/// Fewest steps between two validations or checkpoints that nobody set: epochs of a few images end
/// every moment.
const APART: u64 = 50;

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Steps of an epoch.
    pub per_epoch: u64,
    /// Steps of the run.
    pub total: u64,
}

impl Length {
    /// The length of a run on so many items of this name: `epochs` passes over them, or `steps` where that is 0.
    pub fn of(config: &impl TrainConfig, (items, name): (usize, &str)) -> Result<Self> {
        let (common, recipe) = (config.common(), config.recipe());
        let (batch, per_epoch) = (common.batch, (items / common.batch) as u64);
        if per_epoch == 0 {
            return Err(Error::config(format!(
                "batch {batch} is larger than the {items} {name} of {}; give --batch {items} or less",
                recipe.data
            )));
        }
        let total = match common.epochs as u64 {
            0 => recipe.steps as u64,
            epochs => per_epoch * epochs,
        };
        Ok(Self { per_epoch, total })
    }

    /// Steps between two events that a setting is about: its value, or an epoch where that is 0.
    pub(super) fn every(self, setting: usize) -> u64 {
        match setting as u64 {
            0 => self.per_epoch * APART.div_ceil(self.per_epoch),
            steps => steps,
        }
    }

    /// What a run is going to do with so many items of this name.
    pub(super) fn plan(
        self,
        batch: usize,
        (items, name): (usize, &str),
        held_out: Option<usize>,
    ) -> String {
        let passes = self.total as f64 / self.per_epoch as f64;
        let held = match held_out {
            Some(count) => format!("{count} others are measured on"),
            None => "none are kept out of training to measure on".to_owned(),
        };
        let Self { total, .. } = self;
        format!("{total} steps of {batch} {name}: {passes:.1} passes over {items} {name}; {held}")
    }

    /// What is to be said about a run of fewer steps than anything is learnt in.
    pub(super) fn short(self, fewest: u64) -> Option<String> {
        (self.total < fewest).then(|| {
            format!(
                "This run is too short to learn anything: {} steps. --set steps={fewest} is the least \
                 that shows something, and the preset's own length is better",
                self.total
            )
        })
    }
}
