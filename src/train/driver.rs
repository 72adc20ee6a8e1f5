//! The loop that both kinds of training share: order of the data, steps, metrics, checkpoints,
//! interruption. What a step computes is a [`Task`].
//!
//! Every step is a function of (settings, step number, state), and a checkpoint holds the whole
//! state. A run that was killed and resumed therefore ends with the same bytes as one that was not.

use crate::config::RunConfig;
use crate::data::{Image, Loader, LoaderConfig, Source, Split};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::ops::adamw::{AdamW, Segment};
use crate::optim::state::State;
use crate::params::{Layout, initial_values};
use crate::real::Float;
use crate::run::{Opened, Progress, RunDir, interrupted, note};
use crate::storage::Later;
use crate::weights::{Slice, View};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Settings that every kind of training has.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Where the images come from.
    pub data: String,
    /// Number that every random choice follows from.
    pub seed: u64,
    /// Passes over the images.
    pub epochs: usize,
    /// Images of an optimizer step.
    pub batch: usize,
    /// Coefficient of the running average of the weights; 0 keeps none.
    pub ema: f64,
    /// Largest share of unreadable images.
    pub max_bad: f64,
    /// Steps between checkpoints; 0 is one per epoch.
    pub checkpoint_every: usize,
    /// Steps between lines of metrics.
    pub log_every: usize,
}

/// Where a run is.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Optimizer steps done before this one.
    pub step: u64,
    /// Steps of an epoch.
    pub per_epoch: u64,
    /// Steps of the run.
    pub total: u64,
}

/// What a step computes.
pub trait Task<B: Backend>: Sync {
    /// One sample as the loader's threads make it.
    type Sample: Send + 'static;
    /// Sums since the last line of metrics; part of a checkpoint.
    type Window: Default + Serialize + DeserializeOwned;
    /// What a step saw, on its way to the host.
    type Seen;

    /// What to train.
    fn layout(&self) -> &Layout;
    /// Checksums of what the run reads besides its images, by the setting that says where it is.
    fn inputs(&self) -> Vec<(&'static str, u32)> {
        Vec::new()
    }
    /// What the loader's threads do with image number `index` in an epoch: a function of its
    /// arguments and the settings alone.
    fn sampler(&self) -> impl Fn(&Image, u32, usize) -> Self::Sample + Send + Sync + 'static;
    /// Adds the gradients of one optimizer step to `state.g`. Waits for nothing.
    fn gradients(
        &self,
        bk: &B,
        state: &mut State<B>,
        samples: &[Self::Sample],
        at: At,
    ) -> Result<Self::Seen>;
    /// Adds what a step saw to `window`; false where its loss is not finite.
    fn absorb(&self, seen: Self::Seen, window: &mut Self::Window) -> bool;
    /// Name of the first tensor that is not finite when the step is computed again.
    fn diagnose(&self, bk: &B, state: &State<B>, samples: &[Self::Sample], at: At) -> String;
    /// Learning rate and decay of one step.
    fn optimizer(&self, at: At) -> (Vec<Segment>, AdamW);
    /// A line of metrics from the sums (and, where it must look closer, the last batch), and the
    /// words beside the progress bar.
    fn metrics(
        &self,
        bk: &B,
        state: &State<B>,
        samples: &[Self::Sample],
        window: &Self::Window,
        at: At,
    ) -> (Vec<(&'static str, f64)>, String);
}

/// A step that was given to the device and not yet looked at.
struct InFlight<B: Backend, T: Task<B>> {
    at: At,
    samples: Vec<T::Sample>,
    seen: T::Seen,
    norm: Later<B::Master>,
}

/// Adds what a step saw to `window`, or says why it cannot go on.
fn absorb<B: Backend, T: Task<B>>(
    (bk, task, state): (&B, &T, &State<B>),
    samples: &[T::Sample],
    seen: T::Seen,
    at: At,
    window: &mut T::Window,
) -> Result<()> {
    if task.absorb(seen, window) {
        return Ok(());
    }
    let (step, place) = (at.step + 1, task.diagnose(bk, state, samples, at));
    Err(Error::Training(format!(
        "step {step}: the loss is not finite; the first tensor that is not finite is {place}. \
         Nothing of this step was saved: lower lr and start again"
    )))
}

/// Waits for a step; its samples and the norm of its gradient.
fn settle<B: Backend, T: Task<B>>(
    bk: &B,
    task: &T,
    state: &mut State<B>,
    step: InFlight<B, T>,
    window: &mut T::Window,
) -> Result<(Vec<T::Sample>, f64)> {
    let InFlight { at, samples, seen, norm } = step;
    absorb((bk, task, state), &samples, seen, at, window)?;
    let norm = norm.wait()[0].to_f64();
    if !norm.is_finite() {
        // Its gradients are cleared and its weights are not changed: make them again to name one.
        state.g.clear(bk);
        task.gradients(bk, state, &samples, at)?;
        return Err(state.not_finite(bk, at.step + 1));
    }
    Ok((samples, norm))
}

/// Seconds that the loop waited, and for what.
#[derive(Default)]
struct Waits {
    images: f64,
    device: f64,
}

impl Waits {
    fn timed<R>(seconds: &mut f64, f: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = f();
        *seconds += start.elapsed().as_secs_f64();
        result
    }

    /// Which of the two a run waits for.
    fn say(&self) {
        let binds = if self.images > self.device { "images bind" } else { "device binds" };
        note(&format!(
            "waited {:.1} s for images and {:.1} s for the device: the {binds}",
            self.images, self.device
        ));
    }
}

/// What a checkpoint holds besides tensors.
#[derive(Serialize, Deserialize)]
struct Kept<W> {
    inputs: BTreeMap<String, u32>,
    window: W,
}

/// A run whose steps are all done; what is left is to evaluate, save the model and finish the folder.
pub struct Trained<B: Backend> {
    /// The folder, still locked.
    pub run: RunDir,
    /// Weights and moments after the last step.
    pub state: State<B>,
    /// The images it was trained on.
    pub source: Source,
}

/// Runs all steps of `task` in `out`; `None` where the folder holds a finished run already.
pub fn train<B: Backend, T: Task<B>, C: RunConfig>(
    bk: &B,
    task: &T,
    config: &C,
    pace: &Pace,
    out: &Path,
    resume: bool,
) -> Result<Option<Trained<B>>> {
    let source = Source::open(&pace.data, Split::Train, pace.seed)?;
    let per_epoch = source.len() / pace.batch;
    if per_epoch == 0 {
        return Err(Error::config(format!(
            "batch {} is larger than the {} images of {}; lower batch",
            pace.batch,
            source.len(),
            pace.data
        )));
    }
    let total = (per_epoch * pace.epochs) as u64;
    let (mut run, checkpoint) = match RunDir::open(out, resume, config, |line| note(&line))? {
        Opened::Finished => return Ok(None),
        Opened::Fresh(run) => (run, None),
        Opened::Resume(run, checkpoint) => (run, Some(checkpoint)),
    };
    let mut inputs = BTreeMap::from([("data".to_owned(), source.checksum())]);
    inputs.extend(task.inputs().into_iter().map(|(key, sum)| (key.to_owned(), sum)));
    let layout = task.layout();
    let mut state = State::new(bk, layout, &initial_values(layout, pace.seed), pace.ema);
    let mut window = T::Window::default();
    if let Some(checkpoint) = checkpoint {
        let kept: Kept<T::Window> = run.state(&checkpoint)?;
        if let Some((key, _)) = inputs.iter().find(|(key, sum)| kept.inputs.get(*key) != Some(sum))
        {
            return Err(Error::config(format!(
                "cannot resume: what {key} names is no longer what {} was started with; restore it, \
                 or start again in another folder",
                out.display()
            )));
        }
        window = kept.window;
        state.restore(bk, checkpoint.step, |name| Ok(checkpoint.tensors.f32s(name)?.1))?;
        note(&format!("resuming {} at step {} of {total}", out.display(), checkpoint.step));
    }
    let every = match pace.checkpoint_every {
        0 => per_epoch as u64,
        n => n as u64,
    };
    let source = Arc::new(source);
    let mut loader = Loader::new(
        source.clone(),
        LoaderConfig {
            epoch: (state.step / per_epoch as u64) as u32,
            step: (state.step % per_epoch as u64) as usize,
            max_bad: pace.max_bad,
            ..LoaderConfig::new(pace.batch, pace.seed)
        },
        task.sampler(),
    )?;
    let mut progress = Progress::new(C::KIND, total, state.step, "steps");
    let mut named = BTreeSet::new();
    let (mut flight, mut waits) = (None::<InFlight<B, T>>, Waits::default());
    while state.step < total {
        let batch = Waits::timed(&mut waits.images, || loader.next_batch())?;
        for (&index, reason) in loader.bad_images() {
            if named.insert(index) {
                progress.note(&format!("skipped: {reason}"));
            }
        }
        let at = At { step: state.step, per_epoch: per_epoch as u64, total };
        let mut samples = batch.items;
        let seen = task.gradients(bk, &mut state, &samples, at)?;
        let (segments, adamw) = task.optimizer(at);
        let done = at.step + 1;
        let (log, stop) =
            (done.is_multiple_of(pace.log_every as u64) || done == total, interrupted());
        let keep = done.is_multiple_of(every) || done == total || stop;
        let mut norm = f64::NAN;
        if B::ASYNCHRONOUS {
            // The device is at this step while the next one is prepared.
            let norm_later = state.update_later(bk, &segments, &adamw);
            let this = InFlight { at, samples, seen, norm: norm_later };
            let mut settle = |step| {
                Waits::timed(&mut waits.device, || settle(bk, task, &mut state, step, &mut window))
            };
            if let Some(last) = flight.replace(this) {
                settle(last)?;
            }
            samples = Vec::new();
            if log || keep {
                (samples, norm) = settle(flight.take().expect("just put there"))?;
            }
        } else {
            absorb((bk, task, &state), &samples, seen, at, &mut window)?;
            norm = state.update(bk, &segments, &adamw)?;
        }
        let mut words = String::new();
        if log {
            let (mut line, text) = task.metrics(bk, &state, &samples, &window, at);
            line.extend([("lr", adamw.lr), ("grad_norm", norm)]);
            run.log(done, &line)?;
            (window, words) = (T::Window::default(), text);
        }
        progress.advance(1, &words);
        if keep {
            let kept = Kept { inputs, window };
            save(bk, &mut run, &state, &kept)?;
            Kept { inputs, window } = kept;
        }
        if stop && done < total {
            progress.finish();
            return Err(Error::Interrupted(format!(
                "stopped after step {done} of {total}, everything is saved; continue with the \
                 same command and --resume"
            )));
        }
    }
    progress.finish();
    if B::ASYNCHRONOUS {
        waits.say();
    }
    if !named.is_empty() {
        note(&format!("{} unreadable images were skipped", named.len()));
    }
    drop(loader);
    let source = Arc::into_inner(source).expect("the loader has ended");
    Ok(Some(Trained { run, state, source }))
}

fn save<B: Backend>(
    bk: &B,
    run: &mut RunDir,
    state: &State<B>,
    kept: &impl Serialize,
) -> Result<()> {
    let buffers = state.to_host(bk);
    let views: Vec<View> = buffers
        .iter()
        .map(|(name, values)| View {
            name: name.to_string(),
            shape: vec![values.len()],
            values: Slice::F32(values),
        })
        .collect();
    run.save(state.step, kept, &views)
}
