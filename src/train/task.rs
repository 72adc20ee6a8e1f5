//! What one kind of training says to the loop: a [`Task`].

use crate::config::TrainConfig;
use crate::data::pixels::Normalise;
use crate::data::{Dataset, Split, Subset};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::optim::state::State;
use crate::optim::{Cosine, Rate};
use crate::params::{Layout, Params};
use crate::report::page::Page;
use crate::report::picture::Picture;
use crate::train::length::Length;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// Where a run is.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Optimizer steps done before this one.
    pub step: u64,
    /// How long the run is.
    pub length: Length,
}

/// Learning rate and weight decay, step by step.
#[derive(Clone, Copy, Debug)]
pub struct Schedules {
    /// Learning rate.
    pub lr: Rate,
    /// Weight decay of the parameters that declare it.
    pub weight_decay: Cosine,
}

impl Schedules {
    /// A warm-up of `warmup` steps, at most a tenth of the run, and a cosine from `lr` to `min_lr`; a cosine from `weight_decay` to
    /// `decay_end`.
    pub fn cosines(
        config: &impl TrainConfig,
        warmup: u64,
        decay_end: f64,
        Length { total, .. }: Length,
    ) -> Self {
        let (common, min_lr) = (config.common(), config.recipe().min_lr);
        // A short run would end inside the warm-up of a long one.
        let warmup = warmup.min(total / 10);
        let decay = common.weight_decay;
        Self {
            lr: Rate::Cosine(Cosine { base: common.lr, end: min_lr, start: 0.0, warmup, total }),
            weight_decay: Cosine { base: decay, end: decay_end, start: 0.0, warmup: 0, total },
        }
    }
}

/// Samples whose gradients are computed together: a micro-batch or a piece of one.
pub struct Part<'a, S> {
    /// The samples.
    pub samples: &'a [S],
    /// Their places in the micro-batch.
    pub range: Range<usize>,
    /// Samples of the micro-batch.
    pub whole: usize,
    /// Number of the micro-batch in the run, which its random choices follow from.
    pub stream: u64,
    /// 1 / terms of the loss of the whole optimizer step.
    pub scale: f64,
    /// Where the run is.
    pub at: At,
}

/// What a task carries through a run besides weights and moments: a teacher, statistics, a queue.
pub trait Extra<B: Backend>: Sync {
    /// Its numbers by name, for a checkpoint.
    fn to_host(&self, bk: &B) -> Vec<(String, Vec<f32>)>;
    /// The inverse of [`Extra::to_host`]; `find` returns numbers by name.
    fn restore(&mut self, bk: &B, find: &dyn Fn(&str) -> Result<Vec<f32>>) -> Result<()>;
}

impl<B: Backend> Extra<B> for () {
    fn to_host(&self, _: &B) -> Vec<(String, Vec<f32>)> {
        Vec::new()
    }

    fn restore(&mut self, _: &B, _: &dyn Fn(&str) -> Result<Vec<f32>>) -> Result<()> {
        Ok(())
    }
}

/// What the weights do on images that are not trained on.
pub struct Validation {
    /// Figures for the log.
    pub figures: Vec<(&'static str, f64)>,
    /// How good the weights are, where the run is to end with the best of them and not with the last.
    pub score: Option<f64>,
}

/// A run whose steps are all done.
pub struct Trained<'a, B: Backend, T: Task<B>> {
    /// The weights to evaluate and to save.
    pub w: &'a Params<B>,
    /// What the task carried along.
    pub extra: &'a T::Extra,
    /// What to measure on: what was kept out of training, else what it was trained on.
    pub data: &'a Subset<T::Data>,
    /// Whether that was kept out of training.
    pub held_out: bool,
    /// Optimizer steps.
    pub steps: u64,
    /// Items that could not be read.
    pub unreadable: usize,
    /// When this process began.
    pub started: Instant,
}

/// What a step computes, and what is made of the outcome. The loop does everything else.
pub trait Task<B: Backend>: Sync + Sized {
    /// Settings of the run.
    type Config: TrainConfig;
    /// What it is trained on.
    type Data: Dataset;
    /// One sample as the loader's threads make it.
    type Sample: Send + Sync + 'static;
    /// What a part saw, on its way to the host.
    type Seen: Send;
    /// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
    type Window: Clone + Default + Serialize + DeserializeOwned;
    /// What it carries from step to step besides weights and moments; `()` where there is nothing.
    type Extra: Extra<B>;
    /// What a finished run reports; goes to `summary.json`.
    type Summary: Serialize;

    /// Whether a micro-batch is never cut: where a term of the loss looks at all of it.
    const WHOLE: bool = false;
    /// Optimizer steps below which nothing is learnt that is worth a look, whatever the settings.
    const FEWEST: u64;

    /// Builds the model and reads what else a run needs, except its data.
    fn new(bk: &B, config: &Self::Config) -> Result<Self>;
    /// What to train.
    fn layout(&self) -> &Layout;
    /// Opens a source of data.
    fn open(&self, source: &str, split: Split) -> Result<Self::Data>;
    /// Checksums of what the run reads besides its data, by the setting that says where it is.
    fn inputs(&self) -> Vec<(&'static str, u32)> {
        Vec::new()
    }
    /// Weights of step 0, where they are not the random ones.
    fn start(&self, random: Vec<f32>) -> Result<Vec<f32>> {
        Ok(random)
    }
    /// Factor on the learning rate of a parameter.
    fn lr_scale(&self, _parameter: &str) -> f64 {
        1.0
    }
    /// What is carried along, at the start.
    fn extra(&self, bk: &B, w: &Params<B>) -> Self::Extra;
    /// What the loader's threads make of an item in an epoch: a function of its arguments and the
    /// settings alone.
    fn sampler(
        &self,
    ) -> impl Fn(<Self::Data as Dataset>::Item, u32) -> Self::Sample + Send + Sync + 'static;
    /// Samples in a row that are made of one item, each as in another epoch.
    fn repeats(&self) -> usize {
        1
    }
    /// Bytes of a sample that waits for its step.
    fn bytes(&self, sample: &Self::Sample) -> usize;
    /// The batch of a step from its samples: room to mix them. Random choices follow from `at`.
    fn collate(&self, samples: Vec<Self::Sample>, _at: At) -> Vec<Self::Sample> {
        samples
    }
    /// Terms of the loss of a step, above 0.
    fn terms(&self, samples: &[Self::Sample], at: At) -> Result<usize>;
    /// Adds the gradients of a part to `g`; nothing where it has no term. Waits for nothing.
    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        extra: &Self::Extra,
        part: &Part<Self::Sample>,
        g: &mut Params<B>,
    ) -> Option<Self::Seen>;
    /// Takes into `extra` what the parts of a step leave there, before the weights change and before anybody
    /// knows whether the step is finite: what is not must be left out.
    fn keep(&self, _bk: &B, _extra: &mut Self::Extra, _seen: &[Self::Seen]) {}
    /// What follows the weights of a step that is done, as a teacher does, and the statistics among them.
    fn after_step(&self, _bk: &B, _state: &mut State<B>, _extra: &mut Self::Extra, _at: At) {}
    /// The weights that a run ends with, of the parameters of [`Task::model`], where these are not those that are
    /// trained.
    fn result(&self, _bk: &B, _w: &Params<B>, _extra: &Self::Extra) -> Option<Params<B>> {
        None
    }
    /// Adds what a part saw to `window`; false where its loss is not finite.
    fn absorb(&self, seen: Self::Seen, window: &mut Self::Window) -> bool;
    /// Name of the first tensor that is not finite when a part is computed again.
    fn diagnose(
        &self,
        bk: &B,
        w: &Params<B>,
        extra: &Self::Extra,
        part: &Part<Self::Sample>,
    ) -> String;
    /// Learning rate and decay of a run.
    fn schedules(&self, length: Length) -> Schedules;
    /// A line of metrics from the sums (and, where it must look closer, the last step's first
    /// micro-batch), and the words beside the progress bar.
    fn metrics(
        &self,
        bk: &B,
        state: &State<B>,
        samples: &[Self::Sample],
        window: &Self::Window,
        at: At,
    ) -> (Vec<(&'static str, f64)>, String);
    /// What the weights are worth on data that is kept out of training; [`Error::Interrupted`] once somebody
    /// wants the process to end.
    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        extra: &Self::Extra,
        data: &Subset<Self::Data>,
    ) -> Result<Validation>;
    /// The figures of the trained weights.
    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<Self::Summary>;
    /// What the weights are saved as, and how the views of an encoder were normalised.
    fn model(&self) -> (ModelConfig, Option<Normalise>);
    /// Title and figures of the report.
    fn page(&self, summary: &Self::Summary) -> Page;
    /// Pictures of the report under their captions; the model lies in `out`.
    fn pictures(&self, _bk: &B, _out: &Path) -> Result<Vec<(&'static str, Picture)>> {
        Ok(Vec::new())
    }
}
