//! What a run carries from step to step, and its way through a checkpoint.

use crate::data::Subset;
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::optim::state::State;
use crate::params::{Params, compact, expand, initial_values};
use crate::real::Float;
use crate::run::{Checkpoint, RunDir};
use crate::train::task::{Extra, Task, Validation};
use crate::weights::{Slice, View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Prefix of what a task carries along, in a checkpoint.
const EXTRA: &str = "extra.";
/// The best weights so far, in a checkpoint.
const BEST: &str = "best";

/// What a checkpoint holds besides tensors.
#[derive(Serialize, Deserialize)]
struct TrainerState<W> {
    inputs: BTreeMap<String, u32>,
    window: W,
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
    inputs: BTreeMap<String, u32>,
}

impl<B: Backend, T: Task<B>> Carried<B, T> {
    /// The start of a run on data with these checksums, by the setting that says where it is.
    pub(super) fn new(bk: &B, task: &T, data: &[(&'static str, u32)], seed: u64, ema: f64) -> Self {
        let layout = task.layout();
        let state = State::new(bk, layout, &initial_values(layout, seed), ema);
        let all = data.iter().copied().chain(task.inputs());
        let inputs = all.map(|(key, sum)| (key.to_owned(), sum)).collect();
        let extra = task.extra(bk, &state.w);
        Self { state, extra, window: T::Window::default(), best: None, inputs }
    }

    /// Continues where a checkpoint was written, if what the run reads is still the same.
    pub(super) fn restore(&mut self, bk: &B, run: &RunDir, saved: &Checkpoint) -> Result<()> {
        let kept: TrainerState<T::Window> = run.state(saved)?;
        let other = |(key, sum): &(&String, &u32)| kept.inputs.get(*key) != Some(*sum);
        if let Some((key, _)) = self.inputs.iter().find(other) {
            return Err(Error::config(format!(
                "cannot resume: what {key} names is no longer what {} was started with; restore it, \
                 or start again in another folder",
                run.path().display()
            )));
        }
        let find = |name: &str| Ok(saved.tensors.f32s(name)?.1);
        self.window = kept.window;
        self.state.restore(bk, saved.step, find)?;
        self.extra.restore(bk, &|name| find(&format!("{EXTRA}{name}")))?;
        self.best = kept.score.map(|score| Ok::<_, Error>((score, find(BEST)?))).transpose()?;
        Ok(())
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
            score: self.best.as_ref().map(|best| best.0),
        };
        run.save(self.state.step, &kept, &views)?;
        self.window = kept.window;
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
        let Validation { figures, score } = task.validate(bk, w, &self.extra, data);
        run.log(self.state.step, &figures)?;
        let Some(score) = score else { return Ok(()) };
        if self.best.as_ref().is_none_or(|best| score > best.0) {
            let values = compact(&w.layout, &w.to_host(bk)).into_iter();
            self.best = Some((score, values.map(|x| x.to_f64() as f32).collect()));
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
