//! The steps of a run: gradients, update, metrics, validation, checkpoints, and what happens when
//! something is not finite, the disk is full or somebody wants the process to end.

mod mishaps;

use crate::config::{Common, Recipe, RunConfig};
use crate::data::{Dataset, Loader, LoaderConfig, Subset};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::ops::adamw::AdamW;
use crate::optim::scaled_segments;
use crate::params::Params;
use crate::real::Float;
use crate::run::{Progress, RunDir, interrupted, is_news, note};
use crate::storage::Later;
use crate::train::carried::Carried;
use crate::train::cut::{BatchCut, micro_batch};
use crate::train::length::Length;
use crate::train::task::{At, Schedules, Task};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// A step whose gradients are under way.
struct Computed<B: Backend, T: Task<B>> {
    at: At,
    samples: Vec<T::Sample>,
    cuts: Vec<BatchCut>,
    seen: Vec<T::Seen>, // by cut
}

/// A step that was given to the device and not yet looked at.
struct InFlight<B: Backend, T: Task<B>> {
    step: Computed<B, T>,
    norm: Later<B::Master>,
}

/// A step that was looked at: its batch and the norm of its gradient; nothing where it was skipped.
type Settled<S> = Option<(Vec<S>, f64)>;

/// What waits for the device, and how long the loop has waited, and for what.
struct Pipeline<B: Backend, T: Task<B>> {
    flight: Option<InFlight<B, T>>,
    items: f64,
    device: f64,
}

impl<B: Backend, T: Task<B>> Pipeline<B, T> {
    /// Which of the two a run waits for.
    fn say(&self) {
        let items = T::Data::ITEMS;
        let binds =
            if self.items > self.device { format!("{items} bind") } else { "device binds".into() };
        note(&format!(
            "waited {:.1} s for {items} and {:.1} s for the device: the {binds}",
            self.items, self.device
        ));
    }
}

/// Runs `f` and adds the seconds that it took.
fn timed<R>(seconds: &mut f64, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    *seconds += start.elapsed().as_secs_f64();
    result
}

/// Why the steps do not go on.
enum Halt {
    /// Too many steps in a row were not finite; which, and where it shows first.
    Broken(String),
    /// Everything else.
    Error(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A run between its first and its last step.
pub(super) struct Loop<'a, B: Backend, T: Task<B>> {
    pub(super) bk: &'a B,
    pub(super) task: &'a T,
    pub(super) common: &'a Common,
    pub(super) recipe: &'a Recipe,
    pub(super) length: Length,
    pub(super) schedules: Schedules,
    /// What is trained on.
    pub(super) data: Arc<Subset<T::Data>>,
    /// What is kept out of training.
    pub(super) held: Option<&'a Subset<T::Data>>,
    /// Weights of step 0, in the layout's order.
    pub(super) initial: &'a dyn Fn() -> Result<Vec<f32>>,
    pub(super) carried: Carried<B, T>,
    /// Items that could not be read, and why.
    pub(super) bad: BTreeMap<usize, String>,
}

impl<B: Backend, T: Task<B>> Loop<'_, B, T> {
    /// All steps that are left.
    pub(super) fn steps(&mut self, run: &mut RunDir) -> Result<()> {
        loop {
            match self.until_it_breaks(run) {
                Ok(()) => break,
                Err(Halt::Broken(why)) => self.go_back(run, &why)?,
                Err(Halt::Error(error)) => return Err(error),
            }
        }
        if !self.bad.is_empty() {
            note(&format!("{} unreadable {} were skipped", self.bad.len(), T::Data::ITEMS));
        }
        Ok(())
    }

    fn until_it_breaks(&mut self, run: &mut RunDir) -> Result<(), Halt> {
        let total = self.length.total;
        let mut loader = self.loader()?;
        let mut progress = Progress::new(T::Config::KIND, total, self.carried.state.step, "steps");
        let mut pipeline = Pipeline { flight: None, items: 0.0, device: 0.0 };
        let checkpoint_every = self.length.every(self.recipe.checkpoint_every);
        let validate_every = self.length.every(self.recipe.validate_every);
        if self.carried.validation_due {
            self.validate(run)?;
        }
        while self.carried.state.step < total {
            let batch = timed(&mut pipeline.items, || loader.next_batch())?;
            for (&index, reason) in loader.bad_images() {
                let line = format!("skipped: {reason}");
                if self.bad.insert(index, reason.clone()).is_none() && is_news(&line) {
                    progress.note(&line);
                }
            }
            let at = At { step: self.carried.state.step, length: self.length };
            let done = at.step + 1;
            let due = |every: u64| done.is_multiple_of(every) || done == total;
            let (log, keep) = (due(self.recipe.log_every as u64), due(checkpoint_every));
            let validate = self.held.is_some() && due(validate_every);
            let Some(step) = self.compute(batch.items, at)? else {
                progress.finish();
                return self.stop(run, pipeline.flight.take());
            };
            let settled = self.update(step, log || keep || validate, &mut pipeline)?;
            let words = match settled {
                Some((samples, norm)) if log => self.log(run, &samples, norm, at)?,
                _ => String::new(),
            };
            if validate {
                self.validate(run)?;
            }
            progress.advance(1, &words);
            if keep {
                self.save(run)?;
            }
        }
        progress.finish();
        if B::ASYNCHRONOUS {
            pipeline.say();
        }
        Ok(())
    }

    fn loader(&self) -> Result<Loader<T::Sample>> {
        let (step, per_epoch) = (self.carried.state.step, self.length.per_epoch);
        let threads = match self.recipe.loader_threads {
            0 => rayon::current_num_threads(),
            set => set,
        };
        let config = LoaderConfig {
            epoch: (step / per_epoch) as u32,
            step: (step % per_epoch) as usize,
            max_bad: self.common.max_bad,
            threads,
            repeats: self.task.repeats(),
            ..LoaderConfig::new(self.common.batch, self.common.seed)
        };
        Loader::new(self.data.clone(), config, self.task.sampler())
    }

    /// What the optimizer does in a step. Each time that the run went back, it halves the learning rate.
    fn adamw(&self, at: At) -> AdamW {
        AdamW {
            lr: self.schedules.lr.at(at.step) * 0.5f64.powi(self.carried.retreats as i32),
            beta1: self.recipe.beta1,
            beta2: self.recipe.beta2,
            eps: self.recipe.eps,
            step: at.step + 1,
            max_norm: (self.recipe.clip > 0.0).then_some(self.recipe.clip),
        }
    }

    /// Gradients of a step from what the loader made; nothing where somebody wants the process to end.
    fn compute(&mut self, samples: Vec<T::Sample>, at: At) -> Result<Option<Computed<B, T>>> {
        let samples = self.task.collate(samples, at);
        let mut g = std::mem::replace(&mut self.carried.state.g, Params::empty(self.bk));
        let made = self.gradients(&samples, at, &mut g);
        self.carried.state.g = g;
        let (cuts, seen): (_, Vec<_>) = made?.into_iter().unzip();
        if interrupted() {
            return Ok(None);
        }
        self.task.keep(self.bk, &mut self.carried.extra, &seen);
        Ok(Some(Computed { at, samples, cuts, seen }))
    }

    /// Changes the weights by the gradients of a step. Where `wait`, or where the device makes nobody
    /// wait, what became of it.
    fn update(
        &mut self,
        step: Computed<B, T>,
        wait: bool,
        pipeline: &mut Pipeline<B, T>,
    ) -> Result<Settled<T::Sample>, Halt> {
        let at = step.at;
        let decay = self.schedules.weight_decay.at(at.step);
        let segments = scaled_segments(self.task.layout(), decay, |name| self.task.lr_scale(name));
        let adamw = self.adamw(at);
        if !B::ASYNCHRONOUS {
            let (samples, broken) = self.absorb(step)?;
            let settled = match broken {
                Some(place) => {
                    self.carried.state.skip(self.bk);
                    Err(place)
                }
                None => self.carried.state.update(self.bk, &segments, &adamw),
            };
            self.after_step(at);
            return match settled {
                Ok(norm) => Ok(self.good(samples, norm)),
                Err(place) => self.skipped(at, &place).map(|()| None),
            };
        }
        // The device is at the gradients of this step. The one before must be judged with the weights that
        // it began with, so before they change again.
        if let Some(last) = pipeline.flight.take() {
            timed(&mut pipeline.device, || self.settle(last))?;
        }
        let norm = self.carried.state.update_later(self.bk, &segments, &adamw);
        self.after_step(at);
        let flight = InFlight { step, norm };
        if wait {
            return timed(&mut pipeline.device, || self.settle(flight));
        }
        pipeline.flight = Some(flight);
        Ok(None)
    }

    fn after_step(&mut self, at: At) {
        self.task.after_step(self.bk, &mut self.carried.state, &mut self.carried.extra, at);
    }

    fn good(&mut self, samples: Vec<T::Sample>, norm: f64) -> Settled<T::Sample> {
        self.carried.skipped_in_a_row = 0;
        Some((samples, norm))
    }

    /// Adds the gradients of a step to `g`, part by part, and returns what each part saw. Once somebody
    /// wants the process to end, what is left of it is left out.
    fn gradients(
        &self,
        samples: &[T::Sample],
        at: At,
        g: &mut Params<B>,
    ) -> Result<Vec<(BatchCut, T::Seen)>> {
        let Carried { state, extra, .. } = &self.carried;
        let (bk, task, w) = (self.bk, self.task, &state.w);
        let terms = task.terms(samples, at)?;
        let (micros, mut all) = (self.micros(), Vec::new());
        for number in 0..micros {
            let micro = micro_batch(samples.len(), micros, number).len();
            let compute = |range: Range<usize>, g: &mut _| {
                if interrupted() {
                    return None;
                }
                let cut = BatchCut { number, range };
                let part = cut.part(samples, micros, terms, at);
                task.gradients(bk, w, extra, &part, g).map(|seen| (cut, seen))
            };
            if T::WHOLE {
                all.extend(compute(0..micro, g));
            } else {
                all.extend(bk.in_parts(micro, g, compute).into_iter().flatten());
            }
        }
        Ok(all)
    }

    /// Micro-batches of a step.
    fn micros(&self) -> usize {
        self.carried.micros.unwrap_or(1)
    }

    /// Adds what a step saw to the sums and returns its batch, and the place where it is not finite, if
    /// that is so: then the sums stay as they were.
    fn absorb(&mut self, step: Computed<B, T>) -> Result<(Vec<T::Sample>, Option<String>)> {
        let Computed { at, samples, cuts, seen } = step;
        let before = self.carried.window.clone();
        for (cut, seen) in cuts.iter().zip(seen) {
            if self.task.absorb(seen, &mut self.carried.window) {
                continue;
            }
            self.carried.window = before;
            let Carried { state, extra, .. } = &self.carried;
            let terms = self.task.terms(&samples, at)?;
            let part = cut.part(&samples, self.micros(), terms, at);
            let place = self.task.diagnose(self.bk, &state.w, extra, &part);
            return Ok((samples, Some(place)));
        }
        Ok((samples, None))
    }

    /// Waits for a step and says what became of it.
    fn settle(
        &mut self,
        InFlight { step, norm }: InFlight<B, T>,
    ) -> Result<Settled<T::Sample>, Halt> {
        let (at, norm) = (step.at, norm.wait()[0].to_f64());
        let (samples, broken) = self.absorb(step)?;
        match (broken, norm.is_finite()) {
            (None, true) => Ok(self.good(samples, norm)),
            // Gradients of a loss that is not finite went into the weights.
            (Some(place), true) => Err(Halt::Broken(format!(
                "the loss of step {} is not finite; the first tensor is {place}",
                at.step + 1
            ))),
            (Some(place), false) => self.skipped(at, &place).map(|()| None),
            (None, false) => {
                // Made again, beside those of the next step, to name one.
                let mut g = Params::zeros(self.bk, self.task.layout());
                self.gradients(&samples, at, &mut g)?;
                self.skipped(at, &g.first_non_finite(self.bk)).map(|()| None)
            }
        }
    }

    /// What the weights are worth on what is kept out of training. Where somebody wants the process to end
    /// meanwhile, it is left to the run that is resumed.
    fn validate(&mut self, run: &mut RunDir) -> Result<()> {
        let Some(held) = self.held else { return Ok(()) };
        self.carried.validation_due = true;
        match self.carried.validate(self.bk, self.task, held, run) {
            Err(Error::Interrupted(_)) => {
                self.save(run)?;
                Err(self.stopped())
            }
            other => {
                self.carried.validation_due = false;
                other
            }
        }
    }

    /// Writes a line of metrics and clears their sums; the words beside the progress bar.
    fn log(
        &mut self,
        run: &mut RunDir,
        samples: &[T::Sample],
        norm: f64,
        at: At,
    ) -> Result<String> {
        let first = &samples[micro_batch(samples.len(), self.micros(), 0)];
        let Carried { state, window, .. } = &self.carried;
        let (mut line, words) = self.task.metrics(self.bk, state, first, window, at);
        line.extend([("lr", self.adamw(at).lr), ("grad_norm", norm)]);
        if self.carried.skipped > 0 {
            line.push(("skipped", self.carried.skipped as f64));
        }
        let loss = line.iter().find(|(name, _)| *name == "loss").map(|(_, x)| *x);
        if let Some(loss) = loss
            && let Some(usual) = self.carried.trend.spike(loss)
        {
            note(&format!(
                "step {}: the loss is {loss:.3}, of late it was {usual:.3}",
                at.step + 1
            ));
            line.push(("spike", 1.0));
        }
        match run.log(at.step + 1, &line) {
            // A line of metrics is not worth a run.
            Err(error) if error.is_disk_full() => {
                let text = format!("{error}; lines of metrics are lost until there is space");
                Some(&text).filter(|text| is_news(text)).into_iter().for_each(|text| note(text));
            }
            other => other?,
        }
        self.carried.window = T::Window::default();
        Ok(words)
    }
}
