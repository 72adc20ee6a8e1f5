//! The only loop: order of the data, micro-batches and their parts, steps, metrics, checkpoints,
//! interruption, validation, and what is made of the weights in the end. What a step computes is a
//! [`Task`].
//!
//! Every step is a function of (settings, step number, state), and a checkpoint holds the whole
//! state. A run that was killed and resumed therefore ends with the same bytes as one that was not.

use crate::config::{Common, Recipe, RunConfig, TrainConfig, document};
use crate::data::{Dataset, Loader, LoaderConfig};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::ops::adamw::AdamW;
use crate::optim::segments;
use crate::optim::state::State;
use crate::real::Float;
use crate::report::about::About;
use crate::run::{Opened, Progress, RunDir, interrupted, note};
use crate::storage::Later;
use crate::train::carried::Carried;
use crate::train::cut::BatchCut;
use crate::train::task::{At, Length, Schedules, Task, Trained};
use crate::weights::save_weights;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Trains in `out`; `None` where the folder holds a finished run.
pub fn train<B: Backend, T: Task<B>>(
    bk: &B,
    config: &T::Config,
    out: &Path,
    resume: bool,
) -> Result<Option<T::Summary>> {
    let started = Instant::now();
    if resume && RunDir::is_finished(out, config)? {
        return Ok(None);
    }
    let task = T::new(bk, config)?;
    let data = Arc::new(task.data()?);
    let length = length(config, data.len())?;
    let (mut run, checkpoint) = match RunDir::open(out, resume, config, |line| note(&line))? {
        Opened::Finished => return Ok(None),
        Opened::Fresh(run) => (run, None),
        Opened::Resume(run, checkpoint) => (run, Some(checkpoint)),
    };
    let (common, recipe) = (config.common(), config.recipe());
    let mut carried = Carried::new(bk, &task, data.checksum(), common.seed, recipe.ema);
    if let Some(checkpoint) = checkpoint {
        carried.restore(bk, &run, &checkpoint)?;
        let (step, total) = (carried.state.step, length.total);
        note(&format!("resuming {} at step {step} of {total}", out.display()));
    }
    let schedules = task.schedules(length);
    let mut all = Loop { bk, task: &task, common, recipe, length, schedules, carried };
    all.steps(&mut run, data.clone())?;
    let (state, extra) = (&all.carried.state, &all.carried.extra);
    let best = all.carried.best_weights(bk);
    let w = best.as_ref().unwrap_or_else(|| state.best());
    let trained = Trained { w, extra, data: &*data, steps: state.step, started };
    let about = About {
        device: bk.describe(),
        data: recipe.data.clone(),
        images: data.len().to_string(),
        steps: Some(state.step),
        settings: document(config)?,
        ..About::this_process()
    };
    finish(bk, &task, run, &trained, about).map(Some)
}

/// Steps of a run on so many items.
fn length(config: &impl TrainConfig, items: usize) -> Result<Length> {
    let (common, data) = (config.common(), &config.recipe().data);
    let (batch, per_epoch) = (common.batch, items / common.batch);
    if per_epoch == 0 {
        return Err(Error::config(format!(
            "batch {batch} is larger than the {items} images of {data}; lower batch"
        )));
    }
    Ok(Length { per_epoch: per_epoch as u64, total: (per_epoch * common.epochs) as u64 })
}

/// Evaluates the weights, saves and shows them, and marks the run as finished.
fn finish<B: Backend, T: Task<B>>(
    bk: &B,
    task: &T,
    mut run: RunDir,
    trained: &Trained<B, T>,
    about: About,
) -> Result<T::Summary> {
    let summary = task.evaluate(bk, trained)?;
    let (model, normalise) = task.model();
    save_weights(bk, run.path(), &model, normalise, trained.w)?;
    let mut page = task.page(&summary).section("Training").curves(&run.curves()?);
    for (caption, picture) in task.pictures(bk, run.path())? {
        let (height, width) = picture.size();
        run.picture(trained.steps, caption, (width, height), &picture.png())?;
        page = page.section(caption).picture(caption, &picture);
    }
    let about = About { seconds: trained.started.elapsed().as_secs_f64(), ..about };
    page.about(&about).write(&run.path().join("report.html"))?;
    run.finish(&summary)?;
    Ok(summary)
}

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

/// What waits for the device, and how long the loop has waited, and for what.
struct Pipeline<B: Backend, T: Task<B>> {
    flight: Option<InFlight<B, T>>,
    images: f64,
    device: f64,
}

impl<B: Backend, T: Task<B>> Pipeline<B, T> {
    /// Which of the two a run waits for.
    fn say(&self) {
        let binds = if self.images > self.device { "images bind" } else { "device binds" };
        note(&format!(
            "waited {:.1} s for images and {:.1} s for the device: the {binds}",
            self.images, self.device
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

/// A run between its first and its last step.
struct Loop<'a, B: Backend, T: Task<B>> {
    bk: &'a B,
    task: &'a T,
    common: &'a Common,
    recipe: &'a Recipe,
    length: Length,
    schedules: Schedules,
    carried: Carried<B, T>,
}

impl<B: Backend, T: Task<B>> Loop<'_, B, T> {
    /// All steps that are left.
    fn steps(&mut self, run: &mut RunDir, data: Arc<T::Data>) -> Result<()> {
        let Length { per_epoch, total } = self.length;
        let mut loader = self.loader(data)?;
        let done = self.carried.state.step;
        let mut progress = Progress::new(T::Config::KIND, total, done, "steps");
        let mut named = BTreeSet::new();
        let mut pipeline = Pipeline { flight: None, images: 0.0, device: 0.0 };
        let every = match self.recipe.checkpoint_every {
            0 => per_epoch,
            n => n as u64,
        };
        while self.carried.state.step < total {
            let batch = timed(&mut pipeline.images, || loader.next_batch())?;
            for (&index, reason) in loader.bad_images() {
                if named.insert(index) {
                    progress.note(&format!("skipped: {reason}"));
                }
            }
            let at = At { step: self.carried.state.step, length: self.length };
            let done = at.step + 1;
            let log = done.is_multiple_of(self.recipe.log_every as u64) || done == total;
            let step = self.compute(batch.items, at)?;
            let stop = interrupted();
            let keep = done.is_multiple_of(every) || done == total || stop;
            let (samples, norm) = self.update(step, log || keep, &mut pipeline)?;
            let words = if log { self.log(run, &samples, norm, at)? } else { String::new() };
            if done.is_multiple_of(per_epoch) {
                self.carried.validate(self.bk, self.task, run)?;
            }
            progress.advance(1, &words);
            if keep {
                self.carried.save(self.bk, run)?;
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
            pipeline.say();
        }
        if !named.is_empty() {
            note(&format!("{} unreadable images were skipped", named.len()));
        }
        Ok(())
    }

    fn loader(&self, data: Arc<T::Data>) -> Result<Loader<T::Sample>> {
        let (step, per_epoch) = (self.carried.state.step, self.length.per_epoch);
        let config = LoaderConfig {
            epoch: (step / per_epoch) as u32,
            step: (step % per_epoch) as usize,
            max_bad: self.common.max_bad,
            ..LoaderConfig::new(self.common.batch, self.common.seed)
        };
        Loader::new(data, config, self.task.sampler())
    }

    /// What the optimizer does in a step.
    fn adamw(&self, at: At) -> AdamW {
        AdamW {
            lr: self.schedules.lr.at(at.step),
            beta1: self.recipe.beta1,
            beta2: self.recipe.beta2,
            eps: self.recipe.eps,
            step: at.step + 1,
            max_norm: (self.recipe.clip > 0.0).then_some(self.recipe.clip),
        }
    }

    /// Gradients of a step from what the loader made.
    fn compute(&mut self, samples: Vec<T::Sample>, at: At) -> Result<Computed<B, T>> {
        let samples = self.task.collate(samples, at);
        let (cuts, seen): (_, Vec<_>) = self.gradients(&samples, at)?.into_iter().unzip();
        self.task.keep(self.bk, &mut self.carried.extra, &seen);
        Ok(Computed { at, samples, cuts, seen })
    }

    /// Changes the weights by the gradients of a step. Where `wait`, or where the device makes nobody
    /// wait, its batch and the norm of its gradient.
    fn update(
        &mut self,
        step: Computed<B, T>,
        wait: bool,
        pipeline: &mut Pipeline<B, T>,
    ) -> Result<(Vec<T::Sample>, f64)> {
        let at = step.at;
        let decay = self.schedules.weight_decay.at(at.step);
        let (segments, adamw) = (segments(self.task.layout(), decay), self.adamw(at));
        if !B::ASYNCHRONOUS {
            let samples = self.absorb(step)?;
            let norm = self.carried.state.update(self.bk, &segments, &adamw)?;
            self.after_step();
            return Ok((samples, norm));
        }
        // The device is at this step while the next one is prepared.
        let norm = self.carried.state.update_later(self.bk, &segments, &adamw);
        self.after_step();
        let mut settle = |flight| timed(&mut pipeline.device, || self.settle(flight));
        if let Some(last) = pipeline.flight.replace(InFlight { step, norm }) {
            settle(last)?;
        }
        if !wait {
            return Ok((Vec::new(), f64::NAN));
        }
        settle(pipeline.flight.take().expect("just put there"))
    }

    fn after_step(&mut self) {
        self.task.after_step(self.bk, &self.carried.state, &mut self.carried.extra);
    }

    /// Adds the gradients of a step, part by part, and returns what each part saw.
    fn gradients(&mut self, samples: &[T::Sample], at: At) -> Result<Vec<(BatchCut, T::Seen)>> {
        let (bk, task, extra) = (self.bk, self.task, &self.carried.extra);
        let terms = task.terms(samples, at)?;
        let micros = self.recipe.accumulate;
        let (micro, mut all) = (samples.len() / micros, Vec::new());
        for number in 0..micros {
            let State { w, g, .. } = &mut self.carried.state;
            let compute = |range: Range<usize>, g: &mut _| {
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

    /// Adds what a step saw to the sums and returns its batch, or says why it cannot go on.
    fn absorb(&mut self, step: Computed<B, T>) -> Result<Vec<T::Sample>> {
        let Computed { at, samples, cuts, seen } = step;
        for (cut, seen) in cuts.iter().zip(seen) {
            if self.task.absorb(seen, &mut self.carried.window) {
                continue;
            }
            let (w, extra) = (&self.carried.state.w, &self.carried.extra);
            let terms = self.task.terms(&samples, at)?;
            let part = cut.part(&samples, self.recipe.accumulate, terms, at);
            let place = self.task.diagnose(self.bk, w, extra, &part);
            return Err(Error::Training(format!(
                "step {}: the loss is not finite; the first tensor that is not finite is {place}. \
                 Nothing of this step was saved: lower lr and start again",
                at.step + 1
            )));
        }
        Ok(samples)
    }

    /// Waits for a step; its batch and the norm of its gradient.
    fn settle(&mut self, InFlight { step, norm }: InFlight<B, T>) -> Result<(Vec<T::Sample>, f64)> {
        let at = step.at;
        let samples = self.absorb(step)?;
        let norm = norm.wait()[0].to_f64();
        if !norm.is_finite() {
            // Its gradients are cleared and its weights are not changed: make them again to name one.
            self.carried.state.g.clear(self.bk);
            self.gradients(&samples, at)?;
            return Err(self.carried.state.not_finite(self.bk, at.step + 1));
        }
        Ok((samples, norm))
    }

    /// Writes a line of metrics and clears their sums; the words beside the progress bar.
    fn log(
        &mut self,
        run: &mut RunDir,
        samples: &[T::Sample],
        norm: f64,
        at: At,
    ) -> Result<String> {
        let Carried { state, window, .. } = &self.carried;
        let (mut line, words) = self.task.metrics(self.bk, state, samples, window, at);
        line.extend([("lr", self.schedules.lr.at(at.step)), ("grad_norm", norm)]);
        run.log(at.step + 1, &line)?;
        self.carried.window = T::Window::default();
        Ok(words)
    }
}
