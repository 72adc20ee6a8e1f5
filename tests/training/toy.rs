//! The loop on a task small enough to be computed by hand, which uses everything a task may say.

use beit::config::{Preset, RunConfig, TokenizerRun};
use beit::cpu::Cpu;
use beit::data::pixels::Normalise;
use beit::data::{Dataset, Split, Subset};
use beit::error::{Error, Result};
use beit::models::config::DvaeConfig;
use beit::models::kind::ModelConfig;
use beit::optim::state::State;
use beit::params::{Decay, Init, Layout, Params, Registry};
use beit::report::page::Page;
use beit::run::Begin;
use beit::train::driver::train;
use beit::train::length::Length;
use beit::train::task::{At, Extra, Part, Schedules, Task, Trained, Validation};
use beit::weights::TensorFile;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use tempfile::TempDir;

type Bk = Cpu<f32>;

/// With this seed, a number of the fifth step is not finite.
const BROKEN: u64 = 13;
/// With this seed, the loss of the eighth step is not finite where the weight has gone too far by then.
const FRAGILE: u64 = 14;

/// With this seed, the threads that make samples are written down.
const WATCHED: u64 = 15;
static LOADERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Numbers with labels; one of them cannot be read.
struct Numbers;

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
struct Memory {
    teacher: f32,
    queue: Vec<f32>,
}

impl Extra<Bk> for Memory {
    fn to_host(&self, _: &Bk) -> Vec<(String, Vec<f32>)> {
        vec![("teacher".into(), vec![self.teacher]), ("queue".into(), self.queue.clone())]
    }

    fn restore(&mut self, _: &Bk, find: &dyn Fn(&str) -> Result<Vec<f32>>) -> Result<()> {
        (self.teacher, self.queue) = (find("teacher")?[0], find("queue")?);
        Ok(())
    }
}

/// One weight w that is drawn to the mean of the numbers, of its teacher and of the queue.
struct Toy {
    config: TokenizerRun,
    layout: Layout,
}

#[derive(Debug, PartialEq, Serialize)]
struct Outcome {
    w: f32,
    teacher: f32,
    steps: u64,
}

impl Task<Bk> for Toy {
    type Config = TokenizerRun;
    type Data = Numbers;
    type Sample = (f32, bool);
    type Seen = f32;
    type Window = f64;
    type Extra = Memory;
    type Summary = Outcome;

    const FEWEST: u64 = 1;

    fn new(_: &Bk, config: &TokenizerRun) -> Result<Self> {
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

    fn extra(&self, _: &Bk, _: &Params<Bk>) -> Memory {
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
        _: &Bk,
        w: &Params<Bk>,
        extra: &Memory,
        part: &Part<(f32, bool)>,
        g: &mut Params<Bk>,
    ) -> Option<f32> {
        // One or two samples where the memory of a step is measured.
        assert_eq!(part.samples.len(), part.range.len());
        assert!([1, 2, 8].contains(&part.whole));
        let pull = extra.teacher + extra.queue.iter().sum::<f32>();
        if (self.config.common.seed, part.at.step) == (FRAGILE, 7) && w.master[0] > 0.55 {
            return Some(f32::NAN);
        }
        let sum: f32 = part.samples.iter().map(|(x, _)| w.master[0] - x + 0.01 * pull).sum();
        g.master[0] += sum * part.scale as f32;
        Some(sum)
    }

    fn keep(&self, _: &Bk, extra: &mut Memory, seen: &[f32]) {
        let sum: f32 = seen.iter().sum();
        if sum.is_finite() {
            extra.queue.rotate_left(1);
            extra.queue[1] = sum;
        }
    }

    fn after_step(&self, _: &Bk, state: &State<Bk>, extra: &mut Memory) {
        extra.teacher = 0.9 * extra.teacher + 0.1 * state.w.master[0];
    }

    fn absorb(&self, seen: f32, window: &mut f64) -> bool {
        *window += f64::from(seen);
        seen.is_finite()
    }

    fn diagnose(&self, _: &Bk, _: &Params<Bk>, _: &Memory, part: &Part<(f32, bool)>) -> String {
        let place = part.samples.iter().position(|(x, _)| x.is_nan());
        let place = place.map_or("the loss".to_owned(), |place| format!("number {place}"));
        format!("{place} of micro-batch {}", part.stream)
    }

    fn schedules(&self, length: Length) -> Schedules {
        Schedules::cosines(&self.config, 0, 0.0, length)
    }

    fn metrics(
        &self,
        _: &Bk,
        _: &State<Bk>,
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
        _: &Bk,
        w: &Params<Bk>,
        extra: &Memory,
        data: &Subset<Numbers>,
    ) -> Result<Validation> {
        assert_eq!(data.len(), 32);
        let score = Some(-f64::from((w.master[0] - 0.3).abs()));
        Ok(Validation { figures: vec![("teacher", f64::from(extra.teacher))], score })
    }

    fn evaluate(&self, _: &Bk, trained: &Trained<Bk, Self>) -> Result<Outcome> {
        assert!(trained.held_out && trained.data.len() == 32);
        let (w, teacher) = (trained.w.master[0], trained.extra.teacher);
        Ok(Outcome { w, teacher, steps: trained.steps })
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        (ModelConfig::Dvae(DvaeConfig::test()), None)
    }

    fn page(&self, summary: &Outcome) -> Page {
        Page::new("Toy").text(&format!("w is {}", summary.w))
    }
}

fn settings() -> TokenizerRun {
    let mut config = TokenizerRun::preset(Preset::Tiny);
    (config.common.epochs, config.common.batch, config.common.lr) = (6, 16, 0.1);
    (config.common.max_bad, config.recipe.accumulate) = (0.1, 2);
    (config.recipe.ema, config.recipe.log_every) = (0.0, 3);
    (config.recipe.val, config.recipe.validate_every) = ("others".into(), 2);
    config.recipe.checkpoint_every = 2;
    config
}

fn run(config: &TokenizerRun, out: &Path, resume: bool) -> Result<Option<Outcome>> {
    train::<Bk, Toy>(&Bk::new(), config, out, &Begin { resume, ..Begin::default() })
}

fn weight(out: &Path) -> f32 {
    TensorFile::read(&out.join("model.safetensors")).unwrap().f32s("w").unwrap().1[0]
}

#[test]
fn a_run_ends_with_its_best_weights_and_carries_the_rest_through_checkpoints() {
    let folder = TempDir::new().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let outcome = run(&settings(), &whole, false).unwrap().unwrap();
    assert_eq!(outcome.steps, 12);
    let lines = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    assert_eq!(lines.matches("\"teacher\"").count(), 6, "one validation in two steps: {lines}");
    assert_eq!(lines.matches("\"pull\"").count(), 4, "{lines}");
    let checkpoint = whole.join("checkpoints/step-0000000012.safetensors");
    let last = TensorFile::read(&checkpoint).unwrap();
    let of = |name: &str| last.f32s(name).unwrap().1;
    assert_eq!(of("extra.teacher"), [outcome.teacher]);
    assert_eq!(of("extra.queue").len(), 2);
    // The weight went past 0.3, so the last one is not the best.
    assert_eq!(of("best"), [outcome.w]);
    assert!(of("weights")[0] > outcome.w + 0.1, "{:?} {outcome:?}", of("weights"));
    assert!((outcome.w - 0.3).abs() < 0.1, "{outcome:?}");
    assert_eq!(weight(&whole), outcome.w);
    // Cut back to the checkpoint before the last and continued.
    run(&settings(), &cut, false).unwrap();
    std::fs::remove_file(cut.join("summary.json")).unwrap();
    std::fs::remove_file(cut.join("checkpoints/step-0000000012.safetensors")).unwrap();
    assert_eq!(run(&settings(), &cut, true).unwrap().unwrap(), outcome);
    assert_eq!(std::fs::read_to_string(cut.join("metrics.jsonl")).unwrap(), lines);
    assert!(run(&settings(), &cut, true).unwrap().is_none(), "the run is finished");
}

fn settings_of(seed: u64, skip_steps: usize, retreats: usize) -> TokenizerRun {
    let mut config = settings();
    config.common.seed = seed;
    (config.recipe.skip_steps, config.recipe.retreats) = (skip_steps, retreats);
    config
}

fn skipped(out: &Path) -> Vec<f64> {
    let curves = beit::run::read_curves(&out.join("metrics.jsonl"), |line| panic!("{line}"));
    let own = curves.into_iter().find(|curve| curve.name == "skipped");
    own.map_or(Vec::new(), |curve| curve.points.into_iter().map(|(_, y)| y).collect())
}

#[test]
fn a_step_that_is_not_finite_is_skipped_and_counted() {
    let folder = TempDir::new().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let config = settings_of(BROKEN, 1, 0);
    let outcome = run(&config, &whole, false).unwrap().unwrap();
    assert_eq!(outcome.steps, 12);
    assert!(outcome.w.is_finite());
    // Lines of the steps 6, 9 and 12; step 5 is not finite.
    assert_eq!(skipped(&whole), [1.0; 3]);
    // Resumed from a checkpoint behind it.
    run(&config, &cut, false).unwrap();
    std::fs::remove_file(cut.join("summary.json")).unwrap();
    std::fs::remove_file(cut.join("checkpoints/step-0000000012.safetensors")).unwrap();
    assert_eq!(run(&config, &cut, true).unwrap().unwrap(), outcome);
    assert_eq!(skipped(&cut), [1.0; 3]);
}

#[test]
fn too_many_of_them_end_the_run_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let text = run(&settings_of(BROKEN, 0, 2), &out, false).unwrap_err().to_string();
    let place = "step 5 is not finite; the first tensor is number 1 of micro-batch 9";
    assert!(text.starts_with(place), "{text}");
    assert!(text.contains("went back 2 times"), "{text}");
    // An eighth of 0.1.
    assert!(text.contains("--resume --allow-change lr --set lr=1.25e-2"), "{text}");
    // The checkpoint before it is there.
    assert!(out.join("checkpoints/step-0000000004.safetensors").exists());
}

#[test]
fn a_run_goes_back_with_half_the_learning_rate() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    assert!(run(&settings_of(FRAGILE, 0, 0), &out, false).is_err());
    let out = folder.path().join("again");
    let outcome = run(&settings_of(FRAGILE, 0, 9), &out, false).unwrap().unwrap();
    assert_eq!(outcome.steps, 12);
    let curves = beit::run::read_curves(&out.join("metrics.jsonl"), |line| panic!("{line}"));
    let lr = &curves.iter().find(|curve| curve.name == "lr").unwrap().points;
    let steps: Vec<f64> = lr.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [3.0, 6.0, 9.0, 12.0], "no step appears twice");
    let cosine = settings().common.lr * 0.5;
    assert!(lr[2].1 < cosine, "the learning rate of step 9 is {}", lr[2].1);
}

#[test]
fn samples_are_made_on_as_many_threads_as_are_set_and_do_not_depend_on_it() {
    let folder = TempDir::new().unwrap();
    let of = |threads: usize| {
        LOADERS.lock().unwrap().clear();
        let mut config = settings_of(WATCHED, 0, 0);
        config.recipe.loader_threads = threads;
        let out = folder.path().join(threads.to_string());
        let outcome = run(&config, &out, false).unwrap().unwrap();
        (outcome, LOADERS.lock().unwrap().len())
    };
    let (one, three) = (of(1), of(3));
    assert_eq!((one.1, three.1), (1, 3));
    assert_eq!(one.0, three.0);
    // 0 is as many as there are cores for the run.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    assert_eq!(pool.install(|| of(0)), (one.0, 2));
}
