//! Checkpoints that are whole and say what no run comes to.

use super::{checkpoint_file, versions};
use beit::run::write_checkpoint;
use beit::weights::{Slice, TensorFile, View};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub(super) const TESTS: &[(&str, fn())] =
    &[("checkpoint/counts_that_no_run_comes_to_are_refused", absurd_counts)];

/// Puts another value into the trainer's state of the checkpoint of a step, whose checksum then fits.
fn change(folder: &Path, step: u64, place: &str, value: &Value) {
    let path = checkpoint_file(folder, step);
    let file = TensorFile::read(&path).unwrap();
    let mut state: Value = serde_json::from_str(&file.metadata()["state"]).unwrap();
    let (above, key) = place.rsplit_once('/').unwrap();
    state.pointer_mut(&format!("/trainer{above}")).unwrap()[key] = value.clone();
    let tensors: Vec<_> =
        file.tensors().keys().map(|name| (name, file.f32s(name).unwrap())).collect();
    let views = tensors.iter().map(|(name, (shape, x))| View::new(*name, shape, Slice::F32(x)));
    write_checkpoint(&folder.join("checkpoints"), step, &state, &views.collect::<Vec<_>>())
        .unwrap();
}

fn absurd_counts() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/versions/1/run-tokenizer");
    let resumed = |place: &str, value: &Value| {
        let folder = TempDir::new().unwrap();
        versions::copy(&run, folder.path());
        change(folder.path(), 6, place, value);
        let mut beit = Command::new(env!("CARGO_BIN_EXE_beit"));
        beit.args("train-tokenizer --resume --data synthetic:16 --out".split(' '))
            .arg(folder.path());
        let output = beit.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (place, value, want) in [
        ("/micros", json!(0), "0 micro-batches of a batch of 4"),
        ("/micros", json!(5), "5 micro-batches of a batch of 4"),
        ("/micros", json!(1u64 << 32), "4294967296 micro-batches of a batch of 4"),
        ("/window/images", json!(u64::MAX), "counts more than any run"),
        ("/window/counts", json!([1, u64::MAX, 1, 1]), "counts more than any run"),
        ("/skipped", json!(u64::MAX), "counts more than any run"),
        ("/skipped_in_a_row", json!(u32::MAX), "counts more than any run"),
        ("/retreats", json!(u32::MAX), "counts more than any run"),
    ] {
        let (status, said) = resumed(place, &value);
        assert_eq!(status, Some(1), "{place} = {value}: {said}");
        let named = said.contains("step-0000000006.safetensors: damaged or made by hand");
        assert!(named && said.contains(want), "{place} = {value}: {said}");
    }
    for (place, value) in [("/micros", json!(4)), ("/window/counts", json!([1, 2, 3, 4]))] {
        let (status, said) = resumed(place, &value);
        assert_eq!(status, Some(0), "{place} = {value}: {said}");
    }
}
