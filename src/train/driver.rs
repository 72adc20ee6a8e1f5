//! A run from its settings to its report: what it reads, the folder it is kept in, its steps, and what is
//! made of the weights in the end. What a step computes is a [`Task`].
//!
//! Every step is a function of (settings, step number, state), and a checkpoint holds the whole
//! state. A run that was killed and resumed therefore ends with the same bytes as one that was not.

use crate::config::{Recipe, TrainConfig, document};
use crate::data::{Dataset, Split, Subset};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::params::initial_values;
use crate::report::about::About;
use crate::run::{Begin, Checkpoint, Opened, RunDir, note};
use crate::train::carried::{CONTENTS, Carried};
use crate::train::length::Length;
use crate::train::memory::{self, PerSample};
use crate::train::steps::Loop;
use crate::train::task::{Task, Trained};
use crate::weights::save_weights;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Trains in `out`; `None` where the folder holds a finished run.
pub fn train<B: Backend, T: Task<B>>(
    bk: &B,
    config: &T::Config,
    out: &Path,
    begin: &Begin,
) -> Result<Option<T::Summary>> {
    let started = Instant::now();
    if begin.resume && RunDir::is_finished(out, config, &begin.allow)? {
        return Ok(None);
    }
    let task = T::new(bk, config)?;
    let (data, held) = sources(&task, config)?;
    let items = (data.len(), T::Data::ITEMS);
    let length = Length::of(config, items)?;
    let (common, recipe) = (config.common(), config.recipe());
    let mut inputs = checksums("data", &*data, recipe.verify_data).to_vec();
    if let Some(held) = held.as_ref().filter(|_| recipe.val != Recipe::AUTO) {
        inputs.extend(checksums("val", held, recipe.verify_data));
    }
    let initial = || task.start(initial_values(task.layout(), common.seed));
    let start = || {
        memory::check_fixed(bk, task.layout(), recipe.ema > 0.0)?;
        Ok(Carried::new(bk, &task, &inputs, &initial()?, recipe.ema))
    };
    let fit = |carried: &mut Carried<B, T>| -> Result<()> {
        let measured = PerSample::measure(bk, &task, carried, &*data, length);
        let micros = measured.map(|m| m.micros(bk, &task, common, recipe)).transpose()?;
        carried.micros = Some(micros.unwrap_or(recipe.accumulate.max(1)));
        Ok(())
    };
    // What cannot fit leaves no folder behind.
    let mut ready = None;
    if RunDir::is_new(out, begin)? {
        let mut carried = start()?;
        fit(&mut carried)?;
        memory::check_disk(task.layout(), recipe.ema > 0.0, out)?;
        ready = Some(carried);
    }
    let (mut run, checkpoint) = match RunDir::open(out, begin, config, |line| note(&line))? {
        Opened::Finished => return Ok(None),
        Opened::Fresh(run) => (run, None),
        Opened::Resume(run, checkpoint) => (run, Some(checkpoint)),
    };
    let mut carried = ready.map_or_else(start, Ok)?;
    match checkpoint {
        Some(checkpoint) => {
            continue_from(bk, &mut carried, &run, &checkpoint, (length, common.batch))?
        }
        None => note(&length.plan(common.batch, items, held.as_ref().map(Dataset::len))),
    }
    if carried.micros.is_none() {
        fit(&mut carried)?;
    }
    run.accept_changes()?;
    let short = length.short(T::FEWEST);
    short.iter().for_each(|line| note(line));
    let schedules = task.schedules(length);
    let (held, trained_on) = (held.as_ref(), data.len());
    let mut all = Loop {
        bk,
        task: &task,
        common,
        recipe,
        length,
        schedules,
        data: data.clone(),
        held,
        initial: &initial,
        carried,
        bad: BTreeMap::new(),
    };
    all.steps(&mut run)?;
    let (state, extra) = (&all.carried.state, &all.carried.extra);
    let best = all.carried.best_weights(bk);
    let w = best.as_ref().unwrap_or_else(|| state.best());
    let (held_out, data) = (held.is_some(), held.unwrap_or(&data));
    let unreadable: Vec<String> = all.bad.values().cloned().collect();
    let about = About {
        device: bk.describe(),
        data: recipe.data.clone(),
        images: images(trained_on, held.map(Dataset::len)),
        unreadable: unreadable.clone(),
        steps: Some(state.step),
        settings: document(config)?,
        ..About::this_process()
    };
    let (steps, unreadable) = (state.step, unreadable.len());
    let trained = Trained { w, extra, data, held_out, steps, unreadable, started };
    finish(bk, &task, run, &trained, short, about).map(Some)
}

/// Takes up a run where a checkpoint was written.
fn continue_from<B: Backend, T: Task<B>>(
    bk: &B,
    carried: &mut Carried<B, T>,
    run: &RunDir,
    checkpoint: &Checkpoint,
    (Length { total, .. }, batch): (Length, usize),
) -> Result<()> {
    carried.restore(bk, run, checkpoint)?;
    let (step, out) = (carried.state.step, run.path().display());
    if step > total {
        return Err(Error::config(format!(
            "{out} is at step {step} already; {total} steps are fewer"
        )));
    }
    if run.changed("lr") {
        carried.retreats = 0;
    }
    if run.changed("batch") || run.changed("accumulate") {
        carried.micros = None;
    }
    carried.check_micros(checkpoint, batch)?;
    note(&format!("resuming {out} at step {step} of {total}"));
    Ok(())
}

/// What tells the data that `setting` names from other data.
fn checksums(setting: &str, data: &impl Dataset, all: bool) -> [(String, u32); 2] {
    let contents = data.contents(all);
    [(setting.to_owned(), data.checksum()), (format!("{CONTENTS}{setting}"), contents)]
}

/// How many images a run saw, in words.
fn images(trained: usize, held_out: Option<usize>) -> String {
    let held = held_out.map_or(String::new(), |count| format!(", {count} others to measure on"));
    format!("{trained} to train on{held}")
}

/// What is trained on, and what is kept out of training to measure on.
pub(super) type Sources<D> = (Arc<Subset<D>>, Option<Subset<D>>);

/// Opens the data of a run.
pub(super) fn sources<B: Backend, T: Task<B>>(
    task: &T,
    config: &T::Config,
) -> Result<Sources<T::Data>> {
    let Recipe { data, val, .. } = config.recipe();
    let all = Arc::new(task.open(data, Split::Train)?);
    let (train, held) = match val.as_str() {
        Recipe::AUTO => Subset::hold_out(all, config.common().batch),
        Recipe::NONE => (Subset::whole(all), None),
        source => {
            let held = Arc::new(task.open(source, Split::Test)?);
            (Subset::whole(all), Some(Subset::whole(held)))
        }
    };
    Ok((Arc::new(train), held))
}

/// Evaluates the weights, saves and shows them, and marks the run as finished.
fn finish<B: Backend, T: Task<B>>(
    bk: &B,
    task: &T,
    mut run: RunDir,
    trained: &Trained<B, T>,
    short: Option<String>,
    about: About,
) -> Result<T::Summary> {
    let summary = task.evaluate(bk, trained)?;
    let (model, normalise) = task.model();
    let result = task.result(bk, trained.w, trained.extra);
    save_weights(bk, run.path(), &model, normalise, result.as_ref().unwrap_or(trained.w))?;
    let page = short.iter().fold(task.page(&summary), |page, line| page.text(line));
    let mut page = page.section("Training").curves(&run.curves());
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
