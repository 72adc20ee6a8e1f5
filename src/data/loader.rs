//! Samples made ahead of the training loop, in an order that depends on nothing but the seed.
//!
//! An epoch has `len / batch` steps, counted from the images that are listed, readable or not.
//! Slot `p` of epoch `e` shows image `order(seed, e)[p]`. If that one cannot be read, the slot shows
//! the next readable one of the order instead, so the number of steps and the place of every other
//! image stay what they were. All of this is a function of (seed, epoch, slot) and the files, hence
//! the same for any number of threads and after any resume. With repeated augmentation (arXiv 1901.09335, `samplers.py` of
//! DeiT), R slots in a row show the image `order(seed, e)[p / R]`, each as the sample function makes it in another epoch,
//! `e·R + p mod R`: an epoch has as many steps as before, of R times fewer images.
//!
//! Thread `t` of `T` makes the slots `t, t + T, t + 2T, ...` and hands them over through a bounded
//! channel of its own; the consumer takes them in turn. That keeps the order without sorting and
//! bounds the memory by the prefetch.

use super::dataset::Dataset;
use crate::error::{Error, Result};
use crate::rng::{Philox, Purpose};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// What a [`Loader`] needs to know.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Samples of a batch.
    pub batch: usize,
    /// Number that the order follows from.
    pub seed: u64,
    /// Threads in the background; at least 1.
    pub threads: usize,
    /// Samples made ahead, all threads together.
    pub prefetch: usize,
    /// Largest share of listed images that may be unreadable.
    pub max_bad: f64,
    /// Epoch of the first batch.
    pub epoch: u32,
    /// Step within that epoch of the first batch.
    pub step: usize,
    /// Slots in a row that show one image, each made anew; at least 1.
    pub repeats: usize,
}

impl LoaderConfig {
    /// One thread, one batch ahead, at most 1 % unreadable, from the start.
    pub fn new(batch: usize, seed: u64) -> Self {
        Self {
            batch,
            seed,
            threads: 1,
            prefetch: batch,
            max_bad: 0.01,
            epoch: 0,
            step: 0,
            repeats: 1,
        }
    }
}

/// Consecutive samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T> {
    /// Epoch, from 0.
    pub epoch: u32,
    /// Step within the epoch, from 0.
    pub step: usize,
    /// The image behind each item, as the source numbers them.
    pub indices: Vec<usize>,
    /// What the sample function made.
    pub items: Vec<T>,
}

/// Images that could not be read, with the reason, by their number in the source.
pub type BadImages = BTreeMap<usize, String>;

/// One slot's sample, and the images that had to be passed over for it.
struct Made<T> {
    sample: Option<(usize, T)>,
    bad: Vec<(usize, String)>,
}

/// An endless sequence of batches, made by background threads.
pub struct Loader<T> {
    cfg: LoaderConfig,
    images: usize,
    /// Slots handed out since epoch 0.
    slot: u64,
    channels: Vec<Receiver<Made<T>>>,
    next_channel: usize,
    workers: Vec<JoinHandle<()>>,
    bad: BadImages,
}

/// The images of an epoch in the order in which they are shown.
pub fn epoch_order(len: usize, seed: u64, epoch: u32) -> Vec<u32> {
    shuffled(len, &mut Philox::new(seed, Purpose::Order, epoch, 0))
}

/// The numbers below `len` in random order.
pub fn shuffled(len: usize, rng: &mut Philox) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..len).rev() {
        order.swap(i, rng.integer(i));
    }
    order
}

/// Unreadable images that are put up with: one of a few images too, unless `max_bad` is 0.
pub(crate) fn allowed_bad(max_bad: f64, len: usize) -> usize {
    // 0.29 * 100 is 28.999999999999996.
    let share = (max_bad * len as f64 + 1e-9) as usize;
    share.max(usize::from(max_bad > 0.0))
}

/// The least round `max_bad` that puts up with so many unreadable images.
pub(crate) fn enough_max_bad(bad: usize, len: usize) -> f64 {
    const ROUND: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
    ROUND.into_iter().find(|&max_bad| allowed_bad(max_bad, len) >= bad).unwrap_or(1.0)
}

/// An error once there are more unreadable images than `max_bad` allows.
pub fn check_bad(bad: &BadImages, max_bad: f64, len: usize) -> Result<()> {
    if bad.len() <= allowed_bad(max_bad, len) {
        return Ok(());
    }
    let some: Vec<&str> = bad.values().take(3).map(String::as_str).collect();
    Err(Error::config(format!(
        "{} of {len} images cannot be read, more than max_bad = {max_bad} allows; repair or remove \
         them (`beit data check` finds all), or give --set max_bad={}: {}{}",
        bad.len(),
        enough_max_bad(bad.len(), len),
        some.join("; "),
        if bad.len() > some.len() { "; ..." } else { "" }
    )))
}

impl<T: Send + 'static> Loader<T> {
    /// Starts the threads. `sample(item, epoch)` must be a function of its arguments alone; random
    /// choices come from a [`Philox`] numbered by the epoch and the item.
    pub fn new<D, F>(source: Arc<D>, cfg: LoaderConfig, sample: F) -> Result<Self>
    where
        D: Dataset,
        F: Fn(D::Item, u32) -> T + Send + Sync + 'static,
    {
        let images = source.len();
        if cfg.batch == 0 || cfg.batch > images {
            return Err(Error::config(format!(
                "batch is {}, but there are {images} images; a batch needs 1 to {images}",
                cfg.batch
            )));
        }
        if !(0.0..=1.0).contains(&cfg.max_bad) {
            return Err(Error::config(format!("max_bad is {}, not a share in 0..1", cfg.max_bad)));
        }
        let threads = cfg.threads.max(1);
        let per_epoch = images / cfg.batch * cfg.batch;
        let repeats = cfg.repeats.max(1);
        let slot = u64::from(cfg.epoch) * per_epoch as u64 + (cfg.step * cfg.batch) as u64;
        let sample = Arc::new(sample);
        let mut channels = Vec::with_capacity(threads);
        let mut workers = Vec::with_capacity(threads);
        for t in 0..threads {
            let (sender, receiver) = sync_channel(cfg.prefetch.div_ceil(threads).max(1));
            let (source, sample) = (source.clone(), sample.clone());
            let (first_epoch, seed, tries) =
                (cfg.epoch, cfg.seed, allowed_bad(cfg.max_bad, images) + 1);
            let work = move || {
                let mut order = (first_epoch, epoch_order(images, seed, first_epoch));
                for slot in (slot + t as u64..).step_by(threads) {
                    let epoch = (slot / per_epoch as u64) as u32;
                    if order.0 != epoch {
                        order = (epoch, epoch_order(images, seed, epoch));
                    }
                    let position = (slot % per_epoch as u64) as usize;
                    let (place, repeat) = (position / repeats, (position % repeats) as u32);
                    let candidates = order.1.iter().cycle().skip(place).take(tries.min(images));
                    let drawn = epoch * repeats as u32 + repeat;
                    let made = make(&*source, candidates, |item| sample(item, drawn));
                    if sender.send(made).is_err() {
                        return; // the loader was dropped
                    }
                }
            };
            let worker = std::thread::Builder::new().name(format!("loader-{t}")).spawn(work);
            workers.push(worker.map_err(Error::io("cannot start a thread for", "the loader"))?);
            channels.push(receiver);
        }
        Ok(Self { cfg, images, slot, channels, next_channel: 0, workers, bad: BadImages::new() })
    }

    /// Steps of an epoch. What is left over of a last batch is not shown; every epoch leaves other
    /// images over.
    pub fn steps_per_epoch(&self) -> usize {
        self.images / self.cfg.batch
    }

    /// The next batch, waiting for it if need be.
    pub fn next_batch(&mut self) -> Result<Batch<T>> {
        let step = self.slot / self.cfg.batch as u64;
        let per_epoch = self.steps_per_epoch() as u64;
        let mut batch = Batch {
            epoch: (step / per_epoch) as u32,
            step: (step % per_epoch) as usize,
            indices: Vec::with_capacity(self.cfg.batch),
            items: Vec::with_capacity(self.cfg.batch),
        };
        for _ in 0..self.cfg.batch {
            let Made { sample, bad } = self.receive();
            self.bad.extend(bad);
            // A slot without a sample has seen more bad images than are allowed.
            check_bad(&self.bad, self.cfg.max_bad, self.images)?;
            let (index, item) = sample.ok_or_else(|| {
                let reason = self.bad.values().next().map_or("", String::as_str);
                Error::config(format!("none of {} images can be read: {reason}", self.images))
            })?;
            batch.indices.push(index);
            batch.items.push(item);
        }
        self.slot += self.cfg.batch as u64;
        Ok(batch)
    }

    fn receive(&mut self) -> Made<T> {
        let channel = self.next_channel;
        self.next_channel = (channel + 1) % self.channels.len();
        match self.channels[channel].recv() {
            Ok(made) => made,
            // Only a panic in the sample function ends a thread that is listened to.
            Err(_) => match self.workers.swap_remove(channel).join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a loader thread ended while it was listened to"),
            },
        }
    }

    /// The unreadable images met so far.
    pub fn bad_images(&self) -> &BadImages {
        &self.bad
    }
}

/// The sample of the first readable candidate.
fn make<'a, D: Dataset, T>(
    source: &D,
    candidates: impl Iterator<Item = &'a u32>,
    sample: impl Fn(D::Item) -> T,
) -> Made<T> {
    let mut bad = Vec::new();
    for &index in candidates {
        let index = index as usize;
        match source.item(index) {
            Ok(item) => return Made { sample: Some((index, sample(item))), bad },
            Err(error) => bad.push((index, error.to_string())),
        }
    }
    Made { sample: None, bad }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.channels.clear(); // the threads notice when they next hand something over
        for worker in self.workers.drain(..) {
            // A panic was either passed on by `receive` or concerns a sample nobody asked for.
            let _ = worker.join();
        }
    }
}

/// `f(item)` of every readable item of `indices`, in that order, in parallel, and the unreadable ones.
pub fn map_items<D: Dataset, T: Send>(
    source: &D,
    indices: &[usize],
    f: impl Fn(D::Item) -> T + Sync,
) -> (Vec<(usize, T)>, BadImages) {
    let each = |&i: &usize| match source.item(i) {
        Ok(item) => Ok((i, f(item))),
        Err(error) => Err((i, error.to_string())),
    };
    let all: Vec<_> = indices.par_iter().map(each).collect();
    let (mut good, mut bad) = (Vec::with_capacity(all.len()), BadImages::new());
    for one in all {
        match one {
            Ok(item) => good.push(item),
            Err((i, reason)) => _ = bad.insert(i, reason),
        }
    }
    (good, bad)
}
