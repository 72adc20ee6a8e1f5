//! What a run carries from step to step, and its way through a checkpoint.

use crate::data::Subset;
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::optim::state::State;
use crate::params::{Params, compact, expand};
use crate::real::Float;
use crate::run::{Checkpoint, RunDir};
use crate::train::task::{Extra, Task, Validation};
use crate::train::trend::Trend;
use crate::weights::{Slice, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Prefix of what a task carries along, in a checkpoint.
const EXTRA: &str = "extra.";
/// Prefix of the checksums of what is in the files that a setting names.
pub(super) const CONTENTS: &str = "contents of ";
/// Most that anything in a state may have counted to: what a run adds still fits.
const MOST: u64 = 1 << 53;
/// The same for what is counted in 32 bits.
const MOST_IN_A_ROW: u32 = 1 << 30;

/// Whether all counts of a state are such that a run may come to.
fn counted(state: &Value) -> bool {
    match state {
        Value::Number(number) => number.as_u64().is_none_or(|count| count <= MOST),
        Value::Array(values) => values.iter().all(counted),
        Value::Object(fields) => fields.values().all(counted),
        _ => true,
    }
}

/// The best weights so far, in a checkpoint.
const BEST: &str = "best";

/// What a checkpoint holds besides tensors.
#[derive(Serialize, Deserialize)]
struct TrainerState<W> {
    inputs: BTreeMap<String, u32>,
    window: W,
    /// Nothing in checkpoints of runs whose settings say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    micros: Option<usize>,
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    skipped_in_a_row: u32,
    #[serde(default)]
    retreats: u32,
    #[serde(default)]
    trend: Trend,
    #[serde(default)]
    validation_due: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

/// Everything that a step depends on besides settings and samples.
pub(super) struct Carried<B: Backend, T: Task<B>> {
    /// Weights and moments.
    pub(super) state: State<B>,
    /// What the task carries along.
    pub(super) extra: T::Extra,
    /// Sums since the last line of metrics.
    pub(super) window: T::Window,
    /// Highest score of a validation and the weights that had it, without the arena's gaps.
    best: Option<(f64, Vec<f32>)>,
    /// Micro-batches of a step, once they are chosen.
    pub(super) micros: Option<usize>,
    /// Steps that were not finite and changed no weight.
    pub(super) skipped: u64,
    /// Those of them that came last, one after the other.
    pub(super) skipped_in_a_row: u32,
    /// Times that the run went back to a checkpoint with half the learning rate.
    pub(super) retreats: u32,
    /// The loss of late.
    pub(super) trend: Trend,
    /// Whether a validation of this step is still to come.
    pub(super) validation_due: bool,
    /// Step of the checkpoint that was written or read last.
    saved: Option<u64>,
    inputs: BTreeMap<String, u32>,
}

impl<B: Backend, T: Task<B>> Carried<B, T> {
    /// The start of a run on data with these checksums, by the setting that says where it is.
    pub(super) fn new(bk: &B, task: &T, data: &[(String, u32)], initial: &[f32], ema: f64) -> Self {
        let state = State::new(bk, task.layout(), initial, ema);
        let own = task.inputs().into_iter().map(|(key, sum)| (key.to_owned(), sum));
        let inputs = data.iter().cloned().chain(own).collect();
        let extra = task.extra(bk, &state.w);
        Self {
            state,
            extra,
            window: T::Window::default(),
            best: None,
            micros: None,
            skipped: 0,
            skipped_in_a_row: 0,
            retreats: 0,
            trend: Trend::default(),
            validation_due: false,
            saved: None,
            inputs,
        }
    }

    /// Back to step 0 with these weights.
    pub(super) fn start_again(&mut self, bk: &B, task: &T, initial: &[f32], ema: f64) {
        self.state = State::new(bk, task.layout(), initial, ema);
        self.extra = task.extra(bk, &self.state.w);
        (self.window, self.trend, self.best) = (T::Window::default(), Trend::default(), None);
        (self.validation_due, self.saved) = (false, None);
    }

    /// Whether the checkpoint of this step is the last one, so that nothing is new.
    pub(super) fn is_saved(&self) -> bool {
        self.state.step == 0 || self.saved == Some(self.state.step)
    }

    /// Continues where a checkpoint was written, if what the run reads is still the same.
    pub(super) fn restore(&mut self, bk: &B, run: &RunDir, saved: &Checkpoint) -> Result<()> {
        let kept: TrainerState<T::Window> = run.state(saved)?;
        // Older versions knew no contents; a setting that was changed on purpose names something else.
        let other = |(key, sum): &(&String, &u32)| {
            let setting = key.strip_prefix(CONTENTS).unwrap_or(key);
            !run.changed(setting) && kept.inputs.get(*key).is_some_and(|kept| kept != *sum)
        };
        // A list that is another one says more than that its files are.
        let all = || self.inputs.iter().filter(other);
        let listed = all().find(|(key, _)| !key.starts_with(CONTENTS));
        if let Some((key, _)) = listed.or_else(|| all().next()) {
            let what = match key.strip_prefix(CONTENTS) {
                Some(setting) => {
                    format!("the files that {setting} names have other contents than those")
                }
                None => format!("what {key} names is no longer what"),
            };
            return Err(Error::config(format!(
                "cannot resume: {what} {} was started with; restore it, or start again in another folder",
                run.path().display()
            )));
        }
        let in_a_row = kept.retreats.max(kept.skipped_in_a_row) <= MOST_IN_A_ROW;
        if !in_a_row || !counted(&run.state(saved)?) {
            let text = "damaged or made by hand: its state counts more than any run does";
            return Err(Error::format(saved.tensors.path(), text));
        }
        let find = |name: &str| Ok(saved.tensors.f32s(name)?.1);
        (self.window, self.micros) = (kept.window, kept.micros);
        (self.skipped, self.skipped_in_a_row) = (kept.skipped, kept.skipped_in_a_row);
        (self.retreats, self.trend) = (kept.retreats, kept.trend);
        self.validation_due = kept.validation_due;
        self.saved = Some(saved.step);
        self.state.restore(bk, saved.step, find)?;
        self.extra.restore(bk, &|name| find(&format!("{EXTRA}{name}")))?;
        self.best = kept.score.map(|score| Ok::<_, Error>((score, find(BEST)?))).transpose()?;
        Ok(())
    }

    /// Refuses a number of micro-batches that a batch cannot have.
    pub(super) fn check_micros(&self, saved: &Checkpoint, batch: usize) -> Result<()> {
        match self.micros {
            Some(micros) if !(1..=batch).contains(&micros) => Err(Error::format(
                saved.tensors.path(),
                format!("damaged or made by hand: {micros} micro-batches of a batch of {batch}"),
            )),
            _ => Ok(()),
        }
    }

    /// Writes a checkpoint.
    pub(super) fn save(&mut self, bk: &B, run: &mut RunDir) -> Result<()> {
        let state = self.state.to_host(bk);
        let extra = self.extra.to_host(bk);
        let best = self.best.iter().map(|(_, values)| (BEST.to_owned(), values));
        let state_of = state.iter().map(|(name, values)| (name.to_string(), values));
        let extra_of = extra.iter().map(|(name, values)| (format!("{EXTRA}{name}"), values));
        let all = state_of.chain(extra_of).chain(best);
        let views: Vec<View> = all
            .map(|(name, values)| View {
                name,
                shape: vec![values.len()],
                values: Slice::F32(values),
            })
            .collect();
        let kept = TrainerState {
            inputs: self.inputs.clone(),
            window: std::mem::take(&mut self.window),
            micros: self.micros,
            skipped: self.skipped,
            skipped_in_a_row: self.skipped_in_a_row,
            retreats: self.retreats,
            trend: self.trend,
            validation_due: self.validation_due,
            score: self.best.as_ref().map(|best| best.0),
        };
        let written = run.save(self.state.step, &kept, &views);
        self.window = kept.window;
        written?;
        self.saved = Some(self.state.step);
        Ok(())
    }

    /// Logs what the weights are worth on `data`, and keeps them where they are worth more than any before.
    pub(super) fn validate(
        &mut self,
        bk: &B,
        task: &T,
        data: &Subset<T::Data>,
        run: &mut RunDir,
    ) -> Result<()> {
        let w = self.state.best();
        let Validation { figures, score } = task.validate(bk, w, &self.extra, data)?;
        run.log(self.state.step, &figures)?;
        let Some(score) = score else { return Ok(()) };
        if self.best.as_ref().is_none_or(|best| score > best.0) {
            let values = compact(&w.layout, &w.to_host(bk));
            self.best = Some((score, Float::into_f32s(values)));
        }
        Ok(())
    }

    /// The weights of the best validation, if there was any.
    pub(super) fn best_weights(&self, bk: &B) -> Option<Params<B>> {
        let (_, values) = self.best.as_ref()?;
        let layout = &self.state.w.layout;
        Some(Params::from_host(bk, layout, &expand(layout, values)))
    }
}
