//! BERT on bytes through the program: any interruption changes no byte, a text is learnt, what counts say of it is what
//! they must, and its model is taken by what it is for and by nothing else.

use super::{finish, kill_and_compare, program};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const BERT: &[&str] = &[
    "--batch=16",
    "--set=length=16",
    "--set=width=16",
    "--set=depth=1",
    "--set=heads=2",
    "--set=warmup_steps=10",
    "--set=checkpoint_every=2",
    "--set=log_every=1",
];

/// A sentence again and again; pieces begin anywhere in it.
fn text(folder: &Path) -> PathBuf {
    let path = folder.join("text.txt");
    std::fs::write(&path, "the cat sat on the mat.\n".repeat(400)).unwrap();
    path
}

fn summary(run: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap()
}

fn beit(args: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_beit")).args(args).output().unwrap();
    let all = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&all).into_owned())
}

#[test]
fn kill_resume_and_threads_change_no_byte_of_bert() {
    let folder = TempDir::new().unwrap();
    let data = format!("--data={}", text(folder.path()).display());
    let settings: Vec<&str> = BERT.iter().copied().chain([data.as_str(), "--steps=24"]).collect();
    let kills = kill_and_compare("bert", &settings, folder.path(), 5);
    assert!(kills > 0, "nothing was killed: the test shows nothing");
    let run = folder.path().join("alone");
    let path = run.to_str().unwrap();
    let (done, said) = beit(&["info", path]);
    assert!(done && said.contains("language model over bytes"), "{said}");
    // Another text is not gone on with.
    let changed = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    std::fs::write(folder.path().join("text.txt"), changed.replacen("mat", "m4t", 1)).unwrap();
    let mut more = program("bert", &settings, &run, &["--resume", "--steps=26"]);
    let done = more.output().unwrap();
    assert!(!done.status.success(), "another text is gone on with");
    // It is no encoder of images.
    let out = folder.path().join("refused");
    let out = out.to_str().unwrap();
    let images = ["--train=synthetic:24", "--test=synthetic:16"];
    let (done, said) = beit(&[&["probe", "--model", path], &images[..]].concat());
    assert!(!done && said.contains("is a language model, want an encoder"), "{said}");
    let (done, said) =
        beit(&["finetune", "--model", path, "--train=synthetic:24", "--batch=8", "--out", out]);
    assert!(!done && said.contains("is a language model, want an encoder"), "{said}");
    for format in ["hf", "unilm", "timm", "dalle", "onnx"] {
        let (done, said) = beit(&["export", "--model", path, "--format", format, "--out", out]);
        assert!(!done && said.contains("is a language model over bytes"), "{format}: {said}");
    }
    assert!(!Path::new(out).exists());
}

#[test]
fn a_text_is_learnt_and_filled() {
    let folder = TempDir::new().unwrap();
    let data = format!("--data={}", text(folder.path()).display());
    let run = folder.path().join("run");
    let more = [data.as_str(), "--steps=300", "--set=lr=0.02", "--set=checkpoint_every=1000"];
    let done = finish(program("bert", BERT, &run, &more));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("trigrams") && said.contains("masked accuracy"), "{said}");
    let all = summary(&run);
    let of = |value: &serde_json::Value, key: &str| {
        value[key].as_f64().unwrap_or_else(|| panic!("no {key}"))
    };
    let (loss, trigram, unigram) =
        (of(&all, "loss"), of(&all["trigram"], "loss"), of(&all, "unigram_entropy"));
    assert!(loss < trigram && trigram < 0.5 * unigram, "{all}");
    assert!(unigram < of(&all, "uniform") && of(&all, "masked_accuracy") > 0.7, "{all}");
    assert!((of(&all, "perplexity") - loss.exp()).abs() < 1e-9);
    assert!(all["held_out"].as_bool().unwrap() && all["completions"].as_array().unwrap().len() > 1);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("Filled texts") && page.contains("█") && page.contains("trigrams"));
    // A whole piece, and less than one.
    for (hidden, filled) in [("cat _at on the m", "cat sat on the m"), ("he c_t sat", "he cat sat")]
    {
        let (done, said) = beit(&["fill", "--model", run.to_str().unwrap(), hidden]);
        assert!(done && said.lines().next() == Some(filled), "{hidden}: {said}");
        assert_eq!(said.matches("  byte ").count(), hidden.matches('_').count(), "{said}");
    }
}
