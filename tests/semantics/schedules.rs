//! Rates, temperature and weights of a run, step by step, against formulas.

use super::plain::{cosine_table, half_cosine};
use beit::config::{Preset, PretrainRun, RunConfig, TokenizerRun};
use beit::cpu::Cpu;
use beit::optim;
use beit::optim::Cosine;
use beit::run::Begin;
use beit::train::driver::train;
use beit::train::length::Length;
use beit::train::task::{Schedules, Task};
use beit::train::tokenizer::TokenizerTraining;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

type Bk = Cpu<f32>;

#[track_caller]
fn near(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-12 * want.abs().max(1e-3), "{what}: {got}, expected {want}");
}

#[test]
fn a_cosine_is_the_table_of_the_original() {
    for (base, end, warmup, total) in [
        (1.5e-3, 1e-5, 6, 50),
        (0.1, 0.0, 0, 9),
        (1.0, 0.5, 1, 4),
        (2.0, 2.0, 2, 1001),
        (3e-3, 0.0, 100, 1000),
    ] {
        let cosine = Cosine { base, end, start: 0.0, warmup, total };
        let table = cosine_table(base, end, warmup, total);
        assert_eq!(table.len() as u64, total);
        for (step, want) in (0..).zip(table) {
            near(&format!("step {step} of {total}"), cosine.at(step), want);
        }
    }
}

#[test]
fn a_half_cosine_is_the_formula_and_stays_at_its_end() {
    for (from, to, end) in [(1.0, 0.0625, 100.0), (0.0, 6.6, 7.0), (0.2, 0.2, 3.0)] {
        for step in 0..=120 {
            let (got, t) = (optim::half_cosine(from, to, end, f64::from(step)), f64::from(step));
            near(&format!("step {step}"), got, half_cosine(from, to, t, end));
        }
    }
}

#[test]
fn a_warm_up_is_a_tenth_of_the_run_at_most_and_decay_has_none() {
    let mut config = PretrainRun::preset(Preset::Tiny);
    (config.common.lr, config.recipe.min_lr, config.common.weight_decay) = (0.02, 0.001, 0.3);
    for (asked, total, warmup) in
        [(7, 200, 7), (20, 200, 20), (21, 200, 20), (500, 99, 9), (3, 9, 0)]
    {
        let made = Schedules::cosines(&config, asked, 0.05, Length { per_epoch: 10, total });
        let (lr, decay) =
            (cosine_table(0.02, 0.001, warmup, total), cosine_table(0.3, 0.05, 0, total));
        for step in 0..total {
            let what = format!("step {step} of {total}");
            near(&what, made.lr.at(step), lr[step as usize]);
            near(&what, made.weight_decay.at(step), decay[step as usize]);
        }
    }
}

fn tokenizer(kl: (f64, f64), shares: (f64, f64)) -> TokenizerRun {
    let mut config = TokenizerRun::preset(Preset::Tiny);
    (config.common.epochs, config.common.batch, config.common.lr) = (0, 2, 1e-3);
    let c = &mut config.coding;
    (c.width, c.init_width, c.groups, c.blocks, config.vocab) = (4, 3, 2, 1, 11);
    (config.coding.kl_weight, config.kl_weight_end) = kl;
    (config.coding.kl_warmup, config.temperature_fraction) = shares;
    (config.temperature_start, config.temperature_end) = (1.5, 0.25);
    let recipe = &mut config.recipe;
    (recipe.data, recipe.val, recipe.steps) = ("synthetic:6".into(), "none".into(), 25);
    (recipe.log_every, recipe.checkpoint_every, recipe.warmup_steps) = (1, 10, 50);
    (recipe.min_lr, recipe.loader_threads) = (1e-4, 1);
    config.coding.image_size = (8, 4).into();
    config
}

fn lines(run: &Path) -> String {
    std::fs::read_to_string(run.join("metrics.jsonl")).unwrap()
}

#[test]
fn a_tokenizer_is_annealed_by_the_formulas_resumed_and_not() {
    let folder = TempDir::new().unwrap();
    for (i, (kl, shares)) in
        [((2.0, 0.5), (0.2, 0.6)), ((0.3, 0.3), (0.0, 1.0)), ((1.0, 0.0), (0.1, 0.4))]
            .into_iter()
            .enumerate()
    {
        let (config, run) = (tokenizer(kl, shares), folder.path().join(i.to_string()));
        let go = |begin: &Begin| train::<Bk, TokenizerTraining>(&Bk::new(), &config, &run, begin);
        go(&Begin::default()).unwrap().unwrap();
        let (all, total) = (lines(&run), 25.0);
        // The warm-up asked for is longer than a tenth of the run.
        let lr = cosine_table(1e-3, 1e-4, 2, 25);
        let mut count = 0;
        for line in all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let step = line["step"].as_u64().unwrap() - 1;
            let (t, rise, cool) = (step as f64, shares.0 * total, shares.1 * total);
            let (what, number) =
                (format!("run {i}, step {step}"), |key: &str| line[key].as_f64().unwrap());
            let beta = if t < rise {
                half_cosine(0.0, kl.0, t, rise)
            } else if t < cool {
                kl.0
            } else {
                half_cosine(kl.0, kl.1, t - cool, total - cool)
            };
            near(&what, number("kl_weight"), beta);
            near(&what, number("temperature"), half_cosine(1.5, 0.25, t, cool));
            near(&what, number("lr"), lr[step as usize]);
            count += 1;
        }
        assert_eq!(count, 25);
        std::fs::remove_file(run.join("summary.json")).unwrap();
        std::fs::remove_file(run.join("checkpoints/step-0000000025.safetensors")).unwrap();
        go(&Begin::resume()).unwrap().unwrap();
        assert_eq!(lines(&run), all);
    }
}

#[test]
fn the_schedules_of_a_tokenizer_end_with_its_run() {
    let config = tokenizer((1.0, 1.0), (0.0, 0.5));
    let task = TokenizerTraining::new(&Bk::new(), &config).unwrap();
    let made = Task::<Bk>::schedules(&task, Length { per_epoch: 3, total: 1000 });
    let lr = cosine_table(1e-3, 1e-4, 50, 1000);
    (0..1000).for_each(|step| near("lr", made.lr.at(step), lr[step as usize]));
    (0..1000).for_each(|step| assert_eq!(made.weight_decay.at(step), config.common.weight_decay));
}
