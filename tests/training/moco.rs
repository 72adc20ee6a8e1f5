//! MoCo v3 through the program: any interruption changes no byte, a batch is never cut, and what is left is an
//! encoder that the other commands take.

use super::{finish, kill_and_compare, program};
use beit::weights::load_model;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const MOCO: &[&str] = &[
    "--data=synthetic:24",
    "--epochs=3",
    "--batch=8",
    "--set=image_size=8",
    "--set=patch_size=2",
    "--set=width=8",
    "--set=depth=2",
    "--set=heads=2",
    "--set=head_hidden=8",
    "--set=head_outputs=4",
    "--set=log_every=1",
    "--set=checkpoint_every=2",
];

fn summary(run: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn kill_resume_and_threads_change_no_byte_of_moco() {
    let folder = TempDir::new().unwrap();
    let kills = kill_and_compare("mocov3", MOCO, folder.path(), 5);
    assert!(kills > 0, "nothing was killed: the test shows nothing");
    let run = folder.path().join("alone");
    let of = |key: &str| summary(&run)[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    assert!(of("loss") > 0.0 && of("accuracy") >= 0.0 && of("others") <= 1.0 + 1e-6);
    let probe = ["--train=synthetic:24", "--test=synthetic:16"];
    let done = Command::new(env!("CARGO_BIN_EXE_beit"))
        .args(["probe", "--model"])
        .arg(&run)
        .args(probe)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_batch_is_not_cut() {
    let folder = TempDir::new().unwrap();
    for (setting, want) in [
        ("--set=accumulate=2", "accumulate"),
        ("--batch=1", "has no other image to tell a view from; give --batch 2 or more"),
    ] {
        let run = folder.path().join("run");
        let key = setting.split('=').next().expect("a key");
        let others: Vec<&str> =
            MOCO.iter().copied().filter(|s| key == "--set" || !s.starts_with(key)).collect();
        let done = program("mocov3", &others, &run, &[setting]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(want), "{setting}: {said}");
        assert!(!run.exists());
    }
}

#[test]
fn the_patch_embedding_stays_as_it_starts_unless_it_is_let_go() {
    let folder = TempDir::new().unwrap();
    let settings: Vec<&str> =
        MOCO.iter().copied().filter(|setting| !setting.starts_with("--epochs")).collect();
    let left = |frozen: &str, steps: &str, tensor: &str| {
        let run = folder.path().join(format!("{frozen}{steps}"));
        if !run.exists() {
            finish(program("mocov3", &settings, &run, &[frozen, steps]));
        }
        load_model(&run).unwrap().tensors.f32s(tensor).unwrap().1
    };
    let [frozen, free] = ["true", "false"].map(|on| format!("--set=freeze_patch_embed={on}"));
    let embedding = "patch_embed.proj.weight";
    let [one, four] = ["--steps=1", "--steps=4"];
    assert_eq!(left(&frozen, one, embedding), left(&frozen, four, embedding));
    assert_ne!(left(&free, one, embedding), left(&free, four, embedding));
    let above = "blocks.0.mlp.fc1.weight";
    assert_ne!(left(&frozen, one, above), left(&frozen, four, above));
}
