//! Memory and disk of a run, forecast before its first step.
//!
//! Weights, gradients and moments follow from the layout. What a sample takes is measured: the gradients
//! of one sample and of two are made, and the device counts the bytes of its buffers.

use crate::config::{Common, Recipe, RunConfig};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::machine::{advise, free_disk, in_words};
use crate::ops::Backend;
use crate::params::{Layout, arena_len, compact_len};
use crate::run::note;
use crate::train::carried::Carried;
use crate::train::cut::micro_batch;
use crate::train::length::Length;
use crate::train::task::{At, Part, Task};
use std::path::Path;

/// Share of the free memory that a run plans with where nobody set the number of micro-batches.
const SHARE: f64 = 0.8;

/// Share by which a pool of buffers may grow beyond what is in use at once.
const IDLE: f64 = 1.25;

/// Bytes of the samples of a micro-batch that is never cut, where the host computes: it then takes seconds on
/// few cores too, and between two of them the run can be stopped.
const UNBROKEN: f64 = 4e9;

/// Candidates that are tried for a sample to measure on.
const TRIES: usize = 64;

/// Bytes of weights, gradients, moments and running average on the device.
pub(super) fn fixed<B: Backend>(layout: &Layout, ema: bool) -> u64 {
    let master = (4 + u64::from(ema)) * size_of::<B::Master>() as u64;
    let narrow = size_of::<B::Elem>() != size_of::<B::Master>();
    let elem = if narrow { (1 + u64::from(ema)) * size_of::<B::Elem>() as u64 } else { 0 };
    (master + elem) * arena_len(layout) as u64
}

/// Bytes of the copies that a checkpoint is written from, where the device is the host: weights, moments and
/// running average as they are stored, and two buffers on the way there.
fn saving<B: Backend>(layout: &Layout, ema: bool) -> f64 {
    if B::ASYNCHRONOUS {
        return 0.0;
    }
    ((5 + usize::from(ema)) * size_of::<f32>() * compact_len(layout)) as f64
}

/// Refuses a model whose weights alone do not fit.
pub(super) fn check_fixed<B: Backend>(bk: &B, layout: &Layout, ema: bool) -> Result<()> {
    let needed = fixed::<B>(layout, ema);
    match bk.free_bytes() {
        Some(free) if needed > free => Err(Error::config(format!(
            "weights, gradients and optimizer take {}, and {} are free; choose a smaller width or depth{}",
            in_words(needed),
            in_words(free),
            if ema { ", or leave out the running average with --set ema=0" } else { "" }
        ))),
        _ => Ok(()),
    }
}

/// Refuses a run whose checkpoints do not fit on the disk.
pub(super) fn check_disk(layout: &Layout, ema: bool, out: &Path) -> Result<()> {
    // Two checkpoints are kept while a third is written, each with weights and moments; the model comes last.
    let copies = 3 * (3 + u64::from(ema)) + 1;
    let needed = copies * 4 * compact_len(layout) as u64;
    match free_disk(out) {
        Some(free) if needed > free => Err(Error::config(format!(
            "the checkpoints take {}, and {} are free where {} is; free space there or give another --out",
            in_words(needed),
            in_words(free),
            out.display()
        ))),
        _ => Ok(()),
    }
}

/// What the samples of a step take, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PerSample {
    /// Activations of each sample whose gradients are under way.
    activations: f64,
    /// What every part takes besides.
    part: f64,
    /// One more buffer of gradients.
    gradients: f64,
    /// One sample that waits for its step.
    waiting: f64,
}

impl PerSample {
    /// Measures on the first items of the data; nothing where the device does not count or no sample of
    /// them has a loss. Gradients are cleared.
    pub(super) fn measure<B: Backend, T: Task<B>>(
        bk: &B,
        task: &T,
        carried: &mut Carried<B, T>,
        data: &impl Dataset<Item = <T::Data as Dataset>::Item>,
        length: Length,
    ) -> Option<Self> {
        bk.peak_bytes()?;
        let sample = task.sampler();
        let at = At { step: 0, length };
        let (w, g, extra) = (&carried.state.w, &mut carried.state.g, &carried.extra);
        let mut peak = |count: usize, item: usize| {
            let samples: Option<Vec<_>> =
                (0..count).map(|_| data.item(item).ok().map(|item| sample(item, 0))).collect();
            let samples = task.collate(samples?, at);
            let waiting = samples.iter().map(|s| task.bytes(s)).sum::<usize>() / count;
            let part = Part {
                samples: &samples,
                range: 0..count,
                whole: count,
                stream: 0,
                scale: 1.0 / task.terms(&samples, at).ok()? as f64,
                at,
            };
            bk.forget_peak();
            let before = bk.peak_bytes()?;
            let seen = task.gradients(bk, w, extra, &part, g);
            bk.synchronize();
            seen?;
            Some((bk.peak_bytes()?.saturating_sub(before) as f64, waiting as f64))
        };
        let found = (0..data.len().min(TRIES)).find_map(|i| Some((peak(1, i)?, peak(2, i)?)));
        carried.state.g.clear(bk);
        let ((one, _), (two, waiting)) = found?;
        let activations = (two - one).max(0.0);
        Some(Self {
            activations,
            part: (one - activations).max(0.0),
            gradients: (arena_len(task.layout()) * size_of::<B::Master>()) as f64,
            waiting,
        })
    }

    /// Bytes of a micro-batch of so many samples, beyond weights and one buffer of gradients.
    fn micro_batch<B: Backend, T: Task<B>>(&self, bk: &B, samples: usize) -> f64 {
        let at_once = if T::WHOLE { (1, samples, 0) } else { bk.at_once(samples) };
        let (parts, samples, gradients) = at_once;
        IDLE * (parts as f64 * self.part + samples as f64 * self.activations)
            + gradients as f64 * self.gradients
    }

    /// Micro-batches of a step: those that are set, if they fit into what is free, else as few as do. Says what
    /// they take.
    pub(super) fn micros<B: Backend, T: Task<B>>(
        &self,
        bk: &B,
        task: &T,
        common: &Common,
        recipe: &Recipe,
    ) -> Result<usize> {
        let batch = common.batch;
        let has = |name: &str| T::Config::KEYS.iter().any(|key| key.name == name);
        let size = if has("image_size") { "image_size" } else { "length" };
        let (cuts, raise) =
            if has("accumulate") { (true, " raise accumulate,") } else { (false, "") };
        let Some(free) = bk.free_bytes() else { return Ok(recipe.accumulate.max(1)) };
        // The batch under way and the one that is made ahead.
        let waiting = 2.0 * batch as f64 * self.waiting;
        let at_once = |micros: usize| {
            let largest = (0..micros).map(|n| micro_batch(batch, micros, n).len()).max();
            self.micro_batch::<B, T>(bk, largest.unwrap_or(1))
        };
        let besides = waiting + saving::<B>(task.layout(), recipe.ema > 0.0);
        let needed = |micros: usize| besides + at_once(micros);
        let room = |share: f64| {
            let room = share * free as f64;
            let cut = T::WHOLE && !B::ASYNCHRONOUS && recipe.accumulate == 0;
            if cut { room.min((besides + UNBROKEN).max(needed(batch))) } else { room }
        };
        let fits = |share: f64| {
            let mut counts = (1..=batch.min(64)).chain((65..=batch).step_by(16)).chain([batch]);
            counts.find(|&micros| needed(micros) <= room(share))
        };
        let words = |bytes: f64| in_words(bytes as u64);
        let too_much = |micros: usize, hint: String| {
            Err(Error::config(format!(
                "a step takes about {} besides the weights, {} of them for the {} {} that are computed at \
                 once, and {} are free; {hint}",
                words(needed(micros)),
                words(at_once(micros)),
                batch.div_ceil(micros),
                T::Data::ITEMS,
                in_words(free)
            )))
        };
        advise(format!(
            "a step was expected to take {} besides the weights; lower batch or {size},{raise} or \
             (pretrain) give --set recompute=true",
            words(needed(recipe.accumulate.max(1)))
        ));
        let say = |micros: usize| {
            let fixed = in_words(fixed::<B>(task.layout(), recipe.ema > 0.0));
            let parts = if micros == 1 { "one part".into() } else { format!("{micros} parts") };
            note(&format!(
                "memory: about {} for a step in {parts}, {fixed} for weights and optimizer; {} are free",
                words(needed(micros)),
                in_words(free)
            ));
            Ok(micros)
        };
        match (recipe.accumulate, fits(SHARE)) {
            (0, Some(micros)) => say(micros),
            (0, None) => too_much(
                batch,
                format!(
                    "lower batch or {size}, or choose a smaller preset; pretrain has --set recompute=true"
                ),
            ),
            (set, _) if needed(set) <= free as f64 => say(set),
            (set, Some(micros)) if cuts => {
                too_much(set, format!("--set accumulate={micros} fits, and so does leaving it out"))
            }
            (set, _) => too_much(set, format!("lower batch or {size}, or choose a smaller preset")),
        }
    }
}
