//! An ablation: every row from one set of settings, stopped and gone on with.

use beit::config::Layers;
use beit::cpu::Cpu;
use beit::train::ablate::{Ablation, AblationMeasure, AblationSummary, ROWS, chosen};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn layers(set: &str) -> Layers {
    let set = set.split_whitespace().map(String::from).collect();
    let flags = vec![("preset", "tiny".into()), ("threads", 1.into()), ("device", "cpu".into())];
    Layers { file: None, set, flags }
}

/// Rows on a handful of scenes, each of a few steps of the smallest models.
fn ablation(rows: &[&str], measure: AblationMeasure, out: &Path) -> Ablation {
    let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
    Ablation {
        rows: chosen(&rows).unwrap(),
        seeds: vec![0, 1],
        measure,
        data: "synthetic:24".into(),
        train: "synthetic:24".into(),
        test: "synthetic:12".into(),
        tokenizer: None,
        pretrain: layers(
            "image_size=8 patch_size=2 width=8 depth=2 heads=2 vocab=4 steps=2 batch=4 warmup_steps=1 \
             masked_patches=6 mask_min_block=2",
        ),
        finetune: layers("steps=2 batch=4 lr=1e-2"),
        probe: layers("epochs=2 batch=4"),
        tokenizer_run: layers(
            "image_size=8 width=4 init_width=4 vocab=4 blocks=1 groups=2 steps=2 batch=4",
        ),
        out: out.to_path_buf(),
    }
}

fn run(ablation: &Ablation) -> beit::Result<(AblationSummary, usize)> {
    let mut seen = 0;
    let mut say = |_: &AblationSummary| {
        seen += 1;
        Ok(())
    };
    let summary = ablation.run(&Cpu::<f32>::new(), &mut say)?;
    Ok((summary, seen))
}

/// Accuracies by row and seed.
fn accuracies(summary: &AblationSummary) -> Vec<Vec<f64>> {
    let of = |line: &beit::train::ablate::AblationLine| {
        line.cells.iter().map(|cell| cell.accuracy).collect()
    };
    summary.lines.iter().map(of).collect()
}

fn results(out: &Path) -> Vec<PathBuf> {
    let seeds = ["seed0", "seed1"].map(|seed| out.join(seed));
    let rows = seeds.iter().flat_map(|seed| std::fs::read_dir(seed).unwrap().flatten());
    rows.map(|row| row.path().join("result.json")).collect()
}

#[test]
fn what_is_finished_is_read_and_the_rest_is_run() {
    let folder = TempDir::new().unwrap();
    let rows = ["beit", "random-masks", "no-pretraining"];
    let all = ablation(&rows, AblationMeasure::Finetune, folder.path());
    let (first, seen) = run(&all).unwrap();
    assert_eq!(seen, 6);
    assert_eq!(accuracies(&first).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
    // Without a result a row is made from its runs again, which are finished.
    let results = results(folder.path());
    assert_eq!(results.len(), 6);
    std::fs::remove_file(&results[0]).unwrap();
    let kept = std::fs::read(&results[1]).unwrap();
    let (second, _) = run(&all).unwrap();
    assert_eq!(accuracies(&first), accuracies(&second));
    assert_eq!(kept, std::fs::read(&results[1]).unwrap());
    // Other settings are no reason to read what was made with these.
    let other = Ablation { test: "synthetic:16".into(), ..all };
    let error = run(&other).unwrap_err().to_string();
    assert!(error.contains("made with other settings"), "{error}");
    let page = first.page().html();
    assert!(rows.iter().all(|row| page.contains(row)), "{page}");
}

#[test]
fn rows_can_be_probed() {
    let folder = TempDir::new().unwrap();
    let all = ablation(&["beit", "no-pretraining"], AblationMeasure::Probe, folder.path());
    let (summary, _) = run(&all).unwrap();
    let all = accuracies(&summary).concat();
    assert!(all.len() == 4 && all.iter().all(|x| (0.0..=1.0).contains(x)), "{all:?}");
}

/// Every row's settings are settings that there are, and another run than the first's.
#[test]
fn every_row_is_a_run_of_its_own() {
    let folder = TempDir::new().unwrap();
    ablation(&[], AblationMeasure::Finetune, folder.path()).check().unwrap();
    assert!(ROWS.iter().skip(1).all(|row| !row.changes.is_empty() || !row.pretrained));
    let error = chosen(&["bert".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("--rows bert") && error.contains("random-masks"), "{error}");
}
