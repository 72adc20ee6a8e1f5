//! DINO through the program: any interruption changes no byte, collapse is said, and what is left is an encoder that
//! the other commands take.

use super::{finish, kill_and_compare, model, program};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const DINO: &[&str] = &[
    "--data=synthetic:24",
    "--epochs=3",
    "--batch=8",
    "--set=image_size=8",
    "--set=local_size=4",
    "--set=local_views=2",
    "--set=patch_size=2",
    "--set=width=8",
    "--set=depth=2",
    "--set=heads=2",
    "--set=head_hidden=8",
    "--set=head_bottleneck=4",
    "--set=head_outputs=12",
    "--set=teacher_warmup_steps=4",
    "--set=log_every=1",
    "--set=checkpoint_every=2",
];

fn summary(run: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap()
}

fn beit(args: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_beit")).args(args).output().unwrap();
    let all = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&all).into_owned())
}

#[test]
fn kill_resume_and_threads_change_no_byte_of_dino() {
    let folder = TempDir::new().unwrap();
    let kills = kill_and_compare("dino", DINO, folder.path(), 5);
    assert!(kills > 0, "nothing was killed: the test shows nothing");
    let run = folder.path().join("alone");
    let of = |key: &str| summary(&run)[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    let most = 12f64.ln();
    assert!(of("loss") > 0.0 && of("entropy") <= most && of("outputs_entropy") <= most + 1e-6);
    // What is left is an encoder.
    let (path, out) = (run.to_str().unwrap(), folder.path().join("out"));
    let out = out.to_str().unwrap();
    let (done, said) = beit(&["info", path]);
    assert!(done && said.contains("encoder without a head"), "{said}");
    let sources = ["--train=synthetic:24", "--test=synthetic:16"];
    let (done, said) = beit(&[&["probe", "--model", path], &sources[..]].concat());
    assert!(done, "{said}");
    let steps = ["--train=synthetic:24", "--batch=8", "--epochs=1", "--out", out];
    let (done, said) = beit(&[&["finetune", "--model", path], &steps[..]].concat());
    assert!(done && said.contains("starting from"), "{said}");
    let refused = folder.path().join("refused");
    for format in ["hf", "unilm", "timm", "dalle", "onnx"] {
        let out = refused.to_str().unwrap();
        let (done, said) = beit(&["export", "--model", path, "--format", format, "--out", out]);
        assert!(!done && said.contains("is an encoder without a head"), "{format}: {said}");
    }
    assert!(!refused.exists());
}

#[test]
fn a_teacher_that_says_nothing_is_said_to_have_collapsed() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let hot = ["--set=teacher_temperature=10", "--set=teacher_temperature_start=10"];
    let done = finish(program("dino", DINO, &run, &hot));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("collapsed: the teacher gives all outputs alike"), "{said}");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("collapsed: the teacher gives all outputs alike"));
    assert!(summary(&run)["collapse"].is_string());
}

/// A teacher that keeps all of its weights is what it was at the start, however long the student learns.
#[test]
fn what_is_left_is_the_teacher() {
    let folder = TempDir::new().unwrap();
    let settings: Vec<&str> =
        DINO.iter().copied().filter(|setting| !setting.starts_with("--epochs")).collect();
    let left = |momentum: &str, steps: &str| {
        let run = folder.path().join(format!("{momentum}{steps}"));
        finish(program("dino", &settings, &run, &[momentum, steps]));
        model(&run)
    };
    let [still, moved] = ["--set=momentum=1", "--set=momentum=0.5"];
    assert_eq!(left(still, "--steps=1"), left(still, "--steps=4"));
    assert_ne!(left(moved, "--steps=1"), left(moved, "--steps=4"));
}
