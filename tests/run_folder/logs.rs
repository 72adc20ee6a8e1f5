//! Logs are not state: whatever became of them, a run goes on from its newest checkpoint and ends.

use super::{open, records, save, settings};
use beit::run::{Begin, Opened, RunDir, read_curves};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(super) const TESTS: &[(&str, fn())] = &[
    ("logs/any_length_of_a_log_resumes", any_length),
    ("logs/any_flipped_byte_of_a_log_resumes", any_flipped_byte),
    ("logs/lines_that_are_not_json_are_counted_once", unreadable_lines),
    ("logs/lost_while_the_run_is_under_way", lost_under_way),
];

/// Length of the first record of events.
const VERSION: usize = 8 + 4 + 24 + 4;

const LOGS: [&str; 2] = ["metrics.jsonl", "events.out.tfevents.0.beit"];

/// A run that was killed after step 3, with its newest checkpoint at step 2.
fn killed() -> TempDir {
    let folder = TempDir::new().unwrap();
    let Opened::Fresh(mut run) = open(folder.path(), false).unwrap() else { panic!("not fresh") };
    for step in 1..=3 {
        run.log(step, &[("loss", step as f64), ("lr", 0.1)]).unwrap();
        if step == 2 {
            save(&mut run, step).unwrap();
        }
    }
    folder
}

/// Resumes, logs the steps that are left, and returns what was said; events are readable to the end.
fn go_on(folder: &Path) -> Vec<String> {
    let mut said = Vec::new();
    let opened =
        RunDir::open(folder, &Begin::resume(), &settings(), |line| said.push(line)).unwrap();
    let Opened::Resume(mut run, checkpoint) = opened else { panic!("{opened:?}") };
    assert_eq!(checkpoint.step, 2);
    for step in 3..=4 {
        run.log(step, &[("loss", 0.25), ("lr", 0.1)]).unwrap();
    }
    let curves = read_curves(&folder.join(LOGS[0]), |_| ());
    let steps: Vec<f64> = curves.iter().flat_map(|c| &c.points).map(|p| p.0).collect();
    for step in [3.0, 4.0] {
        let count = steps.iter().filter(|other| **other == step).count();
        assert_eq!(count, 2, "step {step} in {steps:?}");
    }
    let events = std::fs::read(folder.join(LOGS[1])).unwrap();
    assert!((3..=5).contains(&records(&events)), "{}", records(&events));
    said
}

/// Every way to spoil each log, with the log before and after it.
fn each_spoiled(
    spoil: impl Fn(&[u8], usize) -> Vec<u8>,
    mut then: impl FnMut(&Path, &[u8], &[u8]),
) {
    let original = killed();
    let saved = LOGS.map(|name| std::fs::read(original.path().join(name)).unwrap());
    let restore = || {
        for (name, bytes) in LOGS.iter().zip(&saved) {
            std::fs::write(original.path().join(name), bytes).unwrap();
        }
    };
    for (name, bytes) in LOGS.iter().zip(&saved) {
        for at in 0..bytes.len() {
            let spoiled = spoil(bytes, at);
            restore();
            std::fs::write(original.path().join(name), &spoiled).unwrap();
            then(original.path(), bytes, &spoiled);
        }
    }
    restore();
    assert!(go_on(original.path()).is_empty(), "an undamaged run has nothing to say");
}

fn any_length() {
    each_spoiled(
        |bytes, length| bytes[..length].to_vec(),
        |folder, whole, cut| {
            let said = go_on(folder);
            let first = if whole[0] == b'{' { 0 } else { VERSION };
            let saved = first + (whole.len() - first) / 3 * 2;
            assert_eq!(said.len(), usize::from(cut.len() < saved), "{} bytes: {said:?}", cut.len());
            assert!(said.iter().all(|line| line.contains("the run goes on")), "{said:?}");
        },
    );
    for name in LOGS {
        let folder = killed();
        std::fs::remove_file(folder.path().join(name)).unwrap();
        assert!(go_on(folder.path())[0].contains(name));
    }
}

fn any_flipped_byte() {
    each_spoiled(
        |bytes, at| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << (at * 5 % 8);
            bytes
        },
        |folder, _, _| assert!(go_on(folder).len() <= 1),
    );
}

fn unreadable_lines() {
    let folder = killed();
    let path = folder.path().join(LOGS[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    let said = go_on(folder.path());
    assert!(said.len() == 1 && said[0].contains("1 damaged entries"), "{said:?}");
    let mut said = Vec::new();
    let curves = read_curves(&path, |line| said.push(line));
    assert_eq!(curves[0].points, [(2.0, 2.0), (3.0, 0.25), (4.0, 0.25)]);
    assert!(said.len() == 1 && said[0].ends_with("skipped as they are not JSON: 1"), "{said:?}");
    assert!(std::fs::read(&path).unwrap().contains(&0xff), "left to be mended by hand");
}

fn lost_under_way() {
    let folder = TempDir::new().unwrap();
    let Opened::Fresh(mut run) = open(folder.path(), false).unwrap() else { panic!("not fresh") };
    for name in LOGS.map(PathBuf::from) {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    run.log(1, &[("loss", 1.0)]).unwrap();
    save(&mut run, 1).unwrap();
    assert!(run.curves().is_empty());
    run.finish(&()).unwrap();
}
