//! Run folders of every version of the format, and of one that is not there yet.

use super::{fresh, message, save, settings};
use beit::config::FORMAT;
use beit::run::{Begin, Opened, RunDir};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub(super) const TESTS: &[(&str, fn())] = &[
    ("versions/a_run_of_each_version_is_resumed_to_its_end", each_version),
    ("versions/a_missing_setting_has_its_default", missing_setting),
    ("versions/fields_of_a_newer_version_are_named", newer_version),
    ("versions/every_file_says_its_version", every_file),
];

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => assert!(std::fs::copy(from, to).unwrap() > 0),
        }
    }
}

/// Folders of `tests/fixtures/versions`, one a version.
fn versions() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/versions");
    let entries = std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn each_version() {
    let mut runs = 0;
    for version in versions() {
        let folder = TempDir::new().unwrap();
        copy(&version, folder.path());
        for (command, run) in [("train-tokenizer", "run-tokenizer"), ("pretrain", "run-pretrain")] {
            let config = format!("{run}/config.toml");
            let text = std::fs::read_to_string(folder.path().join(&config)).unwrap();
            let find = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap();
            let value = |key: &str| find(key).split('"').nth(1).unwrap().to_owned();
            let mut beit = Command::new(env!("CARGO_BIN_EXE_beit"));
            beit.current_dir(folder.path()).args([command, "--config", &config, "--out", run]);
            beit.args(["--resume", "--data", &value("data = ")]);
            if command == "pretrain" {
                beit.args(["--tokenizer", &value("tokenizer = ")]);
            }
            let output = beit.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{} {run}: {said}", version.display());
            assert!(said.contains("at step 6 of 8"), "{} {run}: {said}", version.display());
            assert!(folder.path().join(run).join("model.safetensors").exists());
            runs += 1;
        }
    }
    assert!(runs >= 2, "{runs} runs");
}

/// Replaces a line of `config.toml`, or takes it out.
fn edit(folder: &Path, key: &str, line: &str) {
    let path = folder.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let start = text.find(&format!("\n{key} = ")).unwrap() + 1;
    let end = start + text[start..].find('\n').unwrap() + 1;
    std::fs::write(&path, [&text[..start], line, &text[end..]].concat()).unwrap();
}

fn resume(folder: &Path) -> (beit::Result<Opened>, String) {
    let mut said = Vec::new();
    let opened = RunDir::open(folder, &Begin::resume(), &settings(), |line| said.push(line));
    (opened, said.join("\n"))
}

fn missing_setting() {
    let folder = TempDir::new().unwrap();
    save(&mut fresh(folder.path()), 1).unwrap();
    edit(folder.path(), "jitter", "");
    edit(folder.path(), "format", "");
    let (opened, said) = resume(folder.path());
    assert!(matches!(opened.unwrap(), Opened::Resume(..)) && said.is_empty(), "{said}");
}

fn newer_version() {
    let folder = TempDir::new().unwrap();
    save(&mut fresh(folder.path()), 1).unwrap();
    let newer = FORMAT + 1;
    edit(folder.path(), "format", &format!("format = {newer}\n"));
    let (opened, said) = resume(folder.path());
    assert!(matches!(opened.unwrap(), Opened::Resume(..)));
    assert!(
        said.contains(&format!("newer version (format {newer}, this one knows up to {FORMAT})"))
    );
    assert!(said.ends_with("does not know: none"), "{said}");
    edit(folder.path(), "format", &format!("format = {newer}\nwhirl = 3\n"));
    let (opened, said) = resume(folder.path());
    assert!(said.ends_with("does not know: whirl"), "{said}");
    let text = message(opened);
    assert!(
        text.contains("whirl was 3 and is now not set") && text.contains("--allow-change whirl ")
    );
    let allowed = ["whirl".to_owned()];
    RunDir::open(
        folder.path(),
        &Begin { resume: true, allow: allowed.to_vec() },
        &settings(),
        |_| (),
    )
    .unwrap();
    edit(folder.path(), "format", "format = \"two\"\n");
    assert!(message(resume(folder.path()).0).contains("format = \"two\" is not usable"));
}

fn every_file() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    save(&mut run, 1).unwrap();
    run.finish(&json!({ "loss": 1.5 })).unwrap();
    let text = std::fs::read_to_string(folder.path().join("config.toml")).unwrap();
    assert!(text.contains(&format!("\nformat = {FORMAT}\n")), "{text}");
    let summary = std::fs::read(folder.path().join("summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(summary, json!({ "format": FORMAT, "loss": 1.5 }));
    let checkpoint = super::checkpoint_file(folder.path(), 1);
    let checkpoint = beit::weights::TensorFile::read(&checkpoint).unwrap();
    let state: Value = serde_json::from_str(&checkpoint.metadata()["state"]).unwrap();
    assert_eq!(state["format"], FORMAT);
    assert!(state["program"].as_str().unwrap().starts_with("beit 0."), "{state}");
    assert_eq!(state["settings"]["data"], "synthetic:8");
    // They change no weight: a checkpoint's bytes do not depend on them.
    assert!(state["settings"].get("threads").is_none());
}
