//! What others put into a run folder: it is neither followed nor removed.

use super::{checkpoint_file, fresh, message, open, save};
use beit::run::{Opened, write_atomic};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub(super) const TESTS: &[(&str, fn())] = &[
    ("foreign/hidden_files_of_the_user_stay", hidden_files_stay),
    ("foreign/leftovers_of_both_versions_go", leftovers_go),
    ("foreign/planted_links_are_not_followed", planted_links),
    ("foreign/no_temporary_name_is_foreseen", unforeseen_names),
    ("foreign/an_old_checkpoint_that_stays_is_no_error", old_checkpoint_stays),
    ("lock/deleting_it_lets_nobody_in", deleted_lock),
    ("limit/a_file_size_limit_is_an_error_like_a_full_disk", file_size_limit),
];

fn hidden_files_stay() {
    let folder = TempDir::new().unwrap();
    let notes = [".notes.tmp", ".beit-notes.tmp", ".me.toml.12.tmp"];
    for name in notes {
        let path = folder.path().join(name);
        std::fs::write(&path, "mine").unwrap();
        for resume in [false, true] {
            assert!(message(open(folder.path(), resume)).contains("is not empty"), "{name}");
        }
        assert!(message(beit::run::claim(folder.path())).contains("is not empty"), "{name}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        std::fs::remove_file(&path).unwrap();
    }
    drop(fresh(folder.path()));
    for name in notes {
        std::fs::write(folder.path().join(name), "mine").unwrap();
        std::fs::write(folder.path().join("checkpoints").join(name), "mine").unwrap();
    }
    open(folder.path(), true).unwrap();
    for name in notes {
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), b"mine");
        assert_eq!(std::fs::read(folder.path().join("checkpoints").join(name)).unwrap(), b"mine");
    }
}

fn leftovers_go() {
    let folder = TempDir::new().unwrap();
    for name in [".beit-abcdefgh01234567.tmp", ".config.toml.4711.tmp"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    drop(fresh(folder.path()));
    let checkpoints = folder.path().join("checkpoints");
    std::fs::write(checkpoints.join(".step-0000000007.safetensors.99.tmp"), "").unwrap();
    open(folder.path(), true).unwrap();
    assert_eq!(std::fs::read_dir(checkpoints).unwrap().count(), 0);
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let events = "events.out.tfevents.0.beit";
    assert_eq!(names, [".lock", "checkpoints", "config.toml", events, "metrics.jsonl"]);
}

#[cfg(unix)]
fn link(target: &Path, name: &Path) {
    std::os::unix::fs::symlink(target, name).unwrap();
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) {}

fn planted_links() {
    if !cfg!(unix) {
        return;
    }
    for name in [".lock", "metrics.jsonl", "events.out.tfevents.0.beit", "checkpoints"] {
        let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        drop(fresh(folder.path()));
        let (place, victim) = (folder.path().join(name), outside.path().join("victim"));
        if name == "checkpoints" {
            std::fs::remove_dir(&place).unwrap();
            std::fs::create_dir(&victim).unwrap();
            std::fs::write(victim.join(".step-0000000001.safetensors.1.tmp"), "mine").unwrap();
        } else {
            std::fs::remove_file(&place).unwrap();
            std::fs::write(&victim, "mine").unwrap();
        }
        link(&victim, &place);
        let text = message(open(folder.path(), true));
        assert!(text.contains(name) && text.contains("move it away"), "{text}");
        assert!(std::fs::symlink_metadata(&place).unwrap().is_symlink());
        match name {
            "checkpoints" => assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1),
            _ => assert_eq!(std::fs::read(&victim).unwrap(), b"mine"),
        }
        // A link to nothing creates nothing.
        std::fs::remove_file(&place).unwrap();
        link(&outside.path().join("new"), &place);
        message(open(folder.path(), true));
        assert!(!outside.path().join("new").exists());
    }
    // While a run is under way.
    let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut run = fresh(folder.path());
    std::fs::remove_dir(folder.path().join("checkpoints")).unwrap();
    link(outside.path(), &folder.path().join("checkpoints"));
    assert!(message(save(&mut run, 1)).contains("move it away"));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

fn unforeseen_names() {
    let folder = TempDir::new().unwrap();
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    link(&victim, &folder.path().join(format!(".x.png.{}.tmp", std::process::id())));
    // The name itself is replaced, not followed.
    link(&victim, &folder.path().join("x.png"));
    write_atomic(&folder.path().join("x.png"), b"ours").unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
    let about = std::fs::symlink_metadata(folder.path().join("x.png")).unwrap();
    assert!(about.is_file());
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let plain = std::fs::metadata(plain).unwrap();
    assert_eq!(
        about.permissions(),
        plain.permissions(),
        "as any other file, not the owner's alone"
    );
}

fn old_checkpoint_stays() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    // No file: it cannot be removed as one.
    std::fs::create_dir(checkpoint_file(folder.path(), 1)).unwrap();
    for step in 2..=4 {
        save(&mut run, step).unwrap();
    }
    let steps = [1, 2, 3, 4].map(|step| checkpoint_file(folder.path(), step).exists());
    assert_eq!(steps, [true, false, true, true]);
}

fn deleted_lock() {
    if !cfg!(unix) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = fresh(folder.path());
    std::fs::remove_file(folder.path().join(".lock")).unwrap();
    for resume in [true, false] {
        assert!(message(open(folder.path(), resume)).ends_with("is in use by another process"));
    }
    drop(run);
    assert!(matches!(open(folder.path(), true).unwrap(), Opened::Fresh(_)));
}

fn file_size_limit() {
    if !cfg!(unix) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let beit = |limit: &str, more: &[&str]| {
        let output = Command::new("sh")
            .args(["-c", &format!("{limit} exec \"$@\""), "sh", env!("CARGO_BIN_EXE_beit")])
            .args("train-tokenizer --data synthetic:8 --batch 4 --epochs 1 --device cpu".split(' '))
            .args(
                "width=4 init_width=4 vocab=4 blocks=1 groups=2 image_size=8"
                    .split(' ')
                    .flat_map(|s| ["--set", s]),
            )
            .arg("--out")
            .arg(folder.path())
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // 8 KiB: settings and logs fit, a checkpoint does not.
    let (status, text) = beit("ulimit -f 16;", &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("cannot write") && text.contains("too large"), "{text}");
    let (status, text) = beit("", &["--resume"]);
    assert_eq!(status, Some(0), "{text}");
}
