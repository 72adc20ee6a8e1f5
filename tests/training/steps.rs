//! The loop on the toy task.

use super::toy::{self, BROKEN, FRAGILE, LOADERS, Outcome, WATCHED, settings, settings_of};
use beit::config::TokenizerRun;
use beit::cpu::Cpu;
use beit::error::Result;
use beit::weights::TensorFile;
use std::path::Path;
use tempfile::TempDir;

fn run(config: &TokenizerRun, out: &Path, resume: bool) -> Result<Option<Outcome>> {
    toy::run(&Cpu::<f32>::new(), config, out, resume)
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

/// Steps and values of one key of the metrics.
fn points(out: &Path, name: &str) -> Vec<(f64, f64)> {
    let curves = beit::run::read_curves(&out.join("metrics.jsonl"), |line| panic!("{line}"));
    curves.into_iter().find(|curve| curve.name == name).map_or(Vec::new(), |curve| curve.points)
}

fn skipped(out: &Path) -> Vec<f64> {
    points(out, "skipped").into_iter().map(|(_, count)| count).collect()
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
fn sums_know_nothing_of_a_skipped_step() {
    let folder = TempDir::new().unwrap();
    let pulls = |log_every: usize| {
        let mut config = settings_of(BROKEN, 1, 0);
        config.recipe.log_every = log_every;
        let out = folder.path().join(log_every.to_string());
        run(&config, &out, false).unwrap();
        points(&out, "pull")
    };
    let (each, third) = (pulls(1), pulls(3));
    let steps: Vec<f64> = each.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
    assert_eq!(third.len(), 4);
    for (end, sum) in third {
        let own = each.iter().filter(|(step, _)| (end - 3.0 < *step) && (*step <= end));
        let want: f64 = own.map(|(_, pull)| pull).sum();
        // NaN must not pass.
        assert!((sum - want).abs() < 1e-9, "steps up to {end}: {sum}, in single steps {want}");
    }
}

#[test]
fn too_many_of_them_end_the_run_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let text = run(&settings_of(BROKEN, 0, 2), &out, false).unwrap_err().to_string();
    let place = "step 5 is not finite; the first tensor is number 1 of micro-batch 9 at w ";
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
    let usual = folder.path().join("usual");
    run(&settings(), &usual, false).unwrap();
    let (lr, usual) = (points(&out, "lr"), points(&usual, "lr"));
    let steps: Vec<f64> = lr.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [3.0, 6.0, 9.0, 12.0], "no step appears twice");
    // It went back from step 8 to step 6, once for each halving.
    let halvings: Vec<f64> =
        lr.iter().zip(&usual).map(|((_, lr), (_, usual))| (usual / lr).log2()).collect();
    let times = halvings[3];
    assert!(times >= 1.0 && times.fract() == 0.0, "{halvings:?}");
    assert_eq!(halvings, [0.0, 0.0, times, times]);
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
