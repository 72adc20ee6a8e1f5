//! A task small enough to be computed by hand, which uses everything a task may say.

use beit::config::{Preset, RunConfig, TokenizerRun};
use beit::data::pixels::Normalise;
use beit::data::{Dataset, Split, Subset};
use beit::error::{Error, Result};
use beit::models::config::DvaeConfig;
use beit::models::kind::ModelConfig;
use beit::ops::Backend;
use beit::optim::state::State;
use beit::params::{Decay, Init, Layout, Params, Registry};
use beit::real::Float;
use beit::report::page::Page;
use beit::run::Begin;
use beit::train::driver::train;
use beit::train::length::Length;
use beit::train::task::{At, Extra, Part, Schedules, Task, Trained, Validation};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

/// With this seed, a number of the fifth step is not finite.
pub const BROKEN: u64 = 13;
/// With this seed, the loss of the eighth step is not finite where the weight has gone too far by then.
pub const FRAGILE: u64 = 14;

/// With this seed, the threads that make samples are written down.
pub const WATCHED: u64 = 15;
pub static LOADERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Numbers with labels; one of them cannot be read.
pub struct Numbers;

impl Dataset for Numbers {
    type Item = (f32, bool);

    fn len(&self) -> usize {
        32
    }

    fn checksum(&self) -> u32 {
        7
    }

    fn item(&self, i: usize) -> Result<(f32, bool)> {
        if i == 5 {
            return Err(Error::config("number 5 is lost"));
        }
        Ok((1.0 + i as f32 / 32.0, i.is_multiple_of(2)))
    }
}

/// Carried along: a slow copy of the weight, and the sums of the last parts.
pub struct Memory {
    teacher: f32,
    queue: Vec<f32>,
}

impl<B: Backend> Extra<B> for Memory {
    fn to_host(&self, _: &B) -> Vec<(String, Vec<f32>)> {
        vec![("teacher".into(), vec![self.teacher]), ("queue".into(), self.queue.clone())]
    }

    fn restore(&mut self, _: &B, find: &dyn Fn(&str) -> Result<Vec<f32>>) -> Result<()> {
        (self.teacher, self.queue) = (find("teacher")?[0], find("queue")?);
        Ok(())
    }
}

/// One weight w that is drawn to the mean of the numbers, of its teacher and of the queue.
pub struct Toy {
    config: TokenizerRun,
    layout: Layout,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Outcome {
    pub w: f32,
    pub teacher: f32,
    pub steps: u64,
}

/// The weight.
fn weight<B: Backend>(bk: &B, w: &Params<B>) -> f32 {
    w.to_host(bk)[0].to_f64() as f32
}

impl<B: Backend> Task<B> for Toy {
    type Config = TokenizerRun;
    type Data = Numbers;
    type Sample = (f32, bool);
    type Seen = f32;
    type Window = f64;
    type Extra = Memory;
    type Summary = Outcome;

    const FEWEST: u64 = 1;

    fn new(_: &B, config: &TokenizerRun) -> Result<Self> {
        let mut registry = Registry::new();
        registry.add("w", &[1], Decay::No, Init::Constant(0.0));
        Ok(Self { config: config.clone(), layout: registry.finish() })
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn open(&self, _: &str, _: Split) -> Result<Numbers> {
        Ok(Numbers)
    }

    fn extra(&self, _: &B, _: &Params<B>) -> Memory {
        Memory { teacher: 0.0, queue: vec![0.0; 2] }
    }

    fn sampler(&self) -> impl Fn((f32, bool), u32) -> (f32, bool) + Send + Sync + 'static {
        let seed = self.config.common.seed;
        move |(x, label), epoch| {
            if seed == WATCHED {
                let name = std::thread::current().name().map(str::to_owned);
                LOADERS.lock().unwrap().extend(name.filter(|name| name.starts_with("loader")));
            }
            (x + epoch as f32, label)
        }
    }

    fn bytes(&self, sample: &(f32, bool)) -> usize {
        size_of_val(sample)
    }

    /// Every number becomes its mean with the next one.
    fn collate(&self, samples: Vec<(f32, bool)>, at: At) -> Vec<(f32, bool)> {
        assert!(at.step < at.length.total);
        let next = samples.iter().cycle().skip(1);
        let mut mixed: Vec<_> =
            samples.iter().zip(next).map(|(a, b)| ((a.0 + b.0) / 2.0, a.1)).collect();
        if (self.config.common.seed, at.step) == (BROKEN, 4) {
            mixed[9].0 = f32::NAN;
        }
        mixed
    }

    fn terms(&self, samples: &[(f32, bool)], _: At) -> Result<usize> {
        Ok(samples.len())
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        extra: &Memory,
        part: &Part<(f32, bool)>,
        g: &mut Params<B>,
    ) -> Option<f32> {
        // One or two samples where the memory of a step is measured.
        assert_eq!(part.samples.len(), part.range.len());
        assert!([1, 2, 8].contains(&part.whole));
        let pull = extra.teacher + extra.queue.iter().sum::<f32>();
        let w = weight(bk, w);
        if (self.config.common.seed, part.at.step) == (FRAGILE, 7) && w > 0.55 {
            return Some(f32::NAN);
        }
        let sum: f32 = part.samples.iter().map(|(x, _)| w - x + 0.01 * pull).sum();
        let mut own = Float::into_f32s(g.to_host(bk));
        own[0] += sum * part.scale as f32;
        g.master = bk.upload(Float::from_f32s(own));
        Some(sum)
    }

    fn keep(&self, _: &B, extra: &mut Memory, seen: &[f32]) {
        let sum: f32 = seen.iter().sum();
        if sum.is_finite() {
            extra.queue.rotate_left(1);
            extra.queue[1] = sum;
        }
    }

    fn after_step(&self, bk: &B, state: &mut State<B>, extra: &mut Memory, _: At) {
        extra.teacher = 0.9 * extra.teacher + 0.1 * weight(bk, &state.w);
    }

    fn absorb(&self, seen: f32, window: &mut f64) -> bool {
        *window += f64::from(seen);
        seen.is_finite()
    }

    fn diagnose(&self, bk: &B, w: &Params<B>, _: &Memory, part: &Part<(f32, bool)>) -> String {
        let place = part.samples.iter().position(|(x, _)| x.is_nan());
        let place = place.map_or("the loss".to_owned(), |place| format!("number {place}"));
        format!("{place} of micro-batch {} at w {:.2}", part.stream, weight(bk, w))
    }

    fn schedules(&self, length: Length) -> Schedules {
        Schedules::cosines(&self.config, 0, 0.0, length)
    }

    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        samples: &[(f32, bool)],
        window: &f64,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        assert_eq!(samples.len(), 8);
        (vec![("pull", *window)], String::new())
    }

    /// The weight should be 0.3.
    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        extra: &Memory,
        data: &Subset<Numbers>,
    ) -> Result<Validation> {
        assert_eq!(data.len(), 32);
        let score = Some(-f64::from((weight(bk, w) - 0.3).abs()));
        Ok(Validation { figures: vec![("teacher", f64::from(extra.teacher))], score })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<Outcome> {
        assert!(trained.held_out && trained.data.len() == 32);
        let (w, teacher) = (weight(bk, trained.w), trained.extra.teacher);
        Ok(Outcome { w, teacher, steps: trained.steps })
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        (ModelConfig::Dvae(DvaeConfig::test()), None)
    }

    fn page(&self, summary: &Outcome) -> Page {
        Page::new("Toy").text(&format!("w is {}", summary.w))
    }
}

/// Twelve steps in two micro-batches; a line of metrics in three, checkpoint and validation in two.
pub fn settings() -> TokenizerRun {
    let mut config = TokenizerRun::preset(Preset::Tiny);
    (config.common.epochs, config.common.batch, config.common.lr) = (6, 16, 0.1);
    (config.common.max_bad, config.recipe.accumulate) = (0.1, 2);
    (config.recipe.ema, config.recipe.log_every) = (0.0, 3);
    (config.recipe.val, config.recipe.validate_every) = ("others".into(), 2);
    config.recipe.checkpoint_every = 2;
    config
}

/// The same with another seed, with so many steps that may be skipped and ways back.
pub fn settings_of(seed: u64, skip_steps: usize, retreats: usize) -> TokenizerRun {
    let mut config = settings();
    config.common.seed = seed;
    (config.recipe.skip_steps, config.recipe.retreats) = (skip_steps, retreats);
    config
}

pub fn run<B: Backend>(
    bk: &B,
    config: &TokenizerRun,
    out: &Path,
    resume: bool,
) -> Result<Option<Outcome>> {
    train::<B, Toy>(bk, config, out, &Begin { resume, ..Begin::default() })
}
