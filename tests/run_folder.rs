//! Run folders and their files under kills, damage and misuse.
//!
//! Own harness, because some tests start this program again as a process that can be killed.

#[path = "run_folder/absurd.rs"]
mod absurd;
#[path = "run_folder/foreign.rs"]
mod foreign;
#[path = "run_folder/kills.rs"]
mod kills;
#[path = "run_folder/logs.rs"]
mod logs;
#[path = "run_folder/versions.rs"]
mod versions;

use beit::config::{Preset, PretrainRun, RunConfig};
use beit::data::pixels::Normalise;
use beit::models::config::{BeitConfig, DvaeConfig};
use beit::models::kind::ModelConfig;
use beit::rng::{Philox, Purpose};
use beit::run::*;
use beit::weights::*;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Set for the process that is to be killed: the folder it writes to.
const CHILD: &str = "BEIT_TEST_RUN_FOLDER";

fn main() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return train_forever(Path::new(&folder));
    }
    let tests: Vec<(&str, fn())> = vec![
        ("kill/fifty_kills_lose_nothing", fifty_kills_lose_nothing),
        ("lock/held_by_a_process_and_gone_with_it", lock_is_gone_with_its_process),
        ("open/not_empty_is_refused", not_empty_is_refused),
        ("open/file_is_refused", file_is_refused),
        ("open/resume_without_checkpoint_starts_over", resume_without_checkpoint),
        ("open/other_settings_are_named", other_settings_are_named),
        ("open/finished_run_says_so", finished_run),
        ("checkpoint/damaged_newest_is_skipped", damaged_newest),
        ("checkpoint/all_damaged_is_an_error", all_damaged),
        ("checkpoint/two_are_kept_and_numbers_come_back", two_are_kept),
        ("checkpoint/non_finite_is_refused", non_finite_checkpoint),
        ("metrics/resume_leaves_no_duplicates", no_duplicates),
        ("safetensors/independent_reader_agrees", independent_reader),
        ("safetensors/half_precision_and_doubles", half_precision),
        ("safetensors/hostile_files", hostile_files),
        ("safetensors/two_thousand_mutations", mutations),
        ("model/pair_round_trip", model_pair),
        ("model/unusable_pairs", unusable_pairs),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            std::panic::catch_unwind(test).map_err(|_| Failed::from("see the message above"))
        })
    };
    let others =
        [logs::TESTS, foreign::TESTS, versions::TESTS, absurd::TESTS, kills::TESTS].concat();
    let trials = tests.into_iter().chain(others).map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn settings() -> PretrainRun {
    let mut config = PretrainRun::preset(Preset::Tiny);
    config.recipe.data = "synthetic:8".into();
    config
}

fn begin(resume: bool) -> Begin {
    Begin { resume, ..Begin::default() }
}

fn open(folder: &Path, resume: bool) -> beit::Result<Opened> {
    RunDir::open(folder, &begin(resume), &settings(), |line| eprintln!("{line}"))
}

fn fresh(folder: &Path) -> RunDir {
    match open(folder, false).unwrap() {
        Opened::Fresh(run) => run,
        other => panic!("want a fresh run, got {other:?}"),
    }
}

fn resumed(folder: &Path) -> (RunDir, Checkpoint) {
    match open(folder, true).unwrap() {
        Opened::Resume(run, checkpoint) => (run, *checkpoint),
        other => panic!("want a resumed run, got {other:?}"),
    }
}

/// The error of something that must fail, in one line.
fn message<T>(result: beit::Result<T>) -> String {
    let text = result.err().expect("must fail").to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}

/// Weights of a step: 100 kB that no other step has.
fn weights(step: u64) -> Vec<f32> {
    let mut random = Philox::new(step, Purpose::Check, 0, 0);
    (0..25_000).map(|_| random.unit() as f32).collect()
}

fn save(run: &mut RunDir, step: u64) -> beit::Result<()> {
    let (w, m) = (weights(step), [step as f64 / 3.0]);
    let tensors =
        [View::new("w", &[w.len()], Slice::F32(&w)), View::new("m", &[1], Slice::F64(&m))];
    run.save(step, &json!({ "epoch": step / 10 }), &tensors)
}

/// The process to be killed: a loop of steps, each saved and then announced.
fn train_forever(folder: &Path) {
    let (mut run, mut step) = match open(folder, true).unwrap() {
        Opened::Fresh(run) => (run, 0),
        Opened::Resume(run, checkpoint) => (run, checkpoint.step),
        Opened::Finished => return,
    };
    println!("opened");
    loop {
        step += 1;
        run.log(step, &[("loss", 1.0 / step as f64)]).unwrap();
        save(&mut run, step).unwrap();
        println!("{step}");
    }
}

fn spawn(folder: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "opened");
    (child, output)
}

fn fifty_kills_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let mut random = Philox::new(1, Purpose::Check, 1, 0);
    let mut last = 0;
    for kill in 0..50 {
        let (mut child, mut output) = spawn(folder.path());
        std::thread::sleep(Duration::from_micros(random.integer(40_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let announced = text.lines().last().map_or(last, |line| line.parse().unwrap());
        match open(folder.path(), true).unwrap() {
            Opened::Fresh(_) => assert_eq!(announced, 0, "kill {kill}: steps are lost"),
            Opened::Resume(run, checkpoint) => {
                // The step that was being saved may or may not be there.
                let step = checkpoint.step;
                assert!(step == announced || step == announced + 1, "kill {kill}: {step}");
                assert_eq!(checkpoint.tensors.f32s("w").unwrap().1, weights(step));
                let points = &run.curves()[0].points;
                let steps: Vec<u64> = points.iter().map(|p| p.0 as u64).collect();
                assert_eq!(steps, (1..=step).collect::<Vec<_>>(), "kill {kill}");
                last = step;
            }
            Opened::Finished => panic!("kill {kill}: not finished"),
        }
    }
    assert!(last > 10, "only {last} steps were saved between 50 kills");
}

fn lock_is_gone_with_its_process() {
    let folder = TempDir::new().unwrap();
    let (mut child, _output) = spawn(folder.path());
    for resume in [true, false] {
        assert!(message(open(folder.path(), resume)).ends_with("is in use by another process"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    open(folder.path(), true).unwrap();
}

fn not_empty_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(fresh(folder.path()));
    assert!(message(open(folder.path(), false)).contains("give --resume"));
    // A folder of other things is refused either way and nothing is put into it.
    let other = TempDir::new().unwrap();
    std::fs::write(other.path().join("holiday.jpg"), "x").unwrap();
    for resume in [true, false] {
        assert!(message(open(other.path(), resume)).contains("it holds other files"));
    }
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}

fn file_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("out");
    std::fs::write(&file, "x").unwrap();
    assert!(message(open(&file, false)).ends_with("is a file; --out needs a folder"));
    assert!(message(open(&file.join("below"), false)).contains("cannot"));
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}

fn resume_without_checkpoint() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("a/b");
    for _ in 0..2 {
        let mut said = Vec::new();
        let opened =
            RunDir::open(&missing, &Begin::resume(), &settings(), |line| said.push(line)).unwrap();
        assert!(matches!(opened, Opened::Fresh(_)));
        assert_eq!(said.len(), 1);
        assert!(said[0].ends_with("holds no checkpoint: the run starts at step 0"), "{said:?}");
    }
}

fn other_settings_are_named() {
    let folder = TempDir::new().unwrap();
    drop(fresh(folder.path()));
    let open = |config: PretrainRun| RunDir::open(folder.path(), &Begin::resume(), &config, |_| ());
    let mut config = settings();
    let was = std::mem::replace(&mut config.common.lr, 0.25);
    let text = message(open(config));
    assert!(text.starts_with(&format!("cannot resume: lr was {was} and is now 0.25")), "{text}");
    let text = message(open(PretrainRun { mask_max_block: Some(9), ..settings() }));
    assert!(text.starts_with("cannot resume: mask_max_block was not set and is now 9"), "{text}");
    let mut free = settings();
    (free.common.threads, free.recipe.checkpoint_every, free.recipe.log_every) = (7, 3, 2);
    assert!(matches!(open(free).unwrap(), Opened::Fresh(_)));
    let other = beit::config::TokenizerRun::preset(Preset::Tiny);
    let text = message(RunDir::open(folder.path(), &Begin::resume(), &other, |_| ()));
    assert!(text.ends_with(r#"settings of "pretrain", not of "train-tokenizer""#), "{text}");
}

fn finished_run() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    save(&mut run, 1).unwrap();
    save_model(folder.path(), &ModelConfig::Beit(BeitConfig::test()), None, &[]).unwrap();
    run.finish(&json!({ "loss": 1.5 })).unwrap();
    assert!(matches!(open(folder.path(), true).unwrap(), Opened::Finished));
    assert!(RunDir::is_finished(folder.path(), &settings(), &[]).unwrap());
    // Without its model there is something to do, or nothing to do it with.
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert!(!RunDir::is_finished(folder.path(), &settings(), &[]).unwrap());
    let mut said = Vec::new();
    let opened =
        RunDir::open(folder.path(), &Begin::resume(), &settings(), |line| said.push(line)).unwrap();
    assert!(matches!(opened, Opened::Resume(..)));
    assert!(said[0].ends_with("holds no model; it is made again from step 1"), "{said:?}");
    drop(opened);
    std::fs::remove_file(checkpoint_file(folder.path(), 1)).unwrap();
    let text = message(open(folder.path(), true));
    assert!(text.contains("marked as finished but holds no model, and no checkpoint"), "{text}");
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn checkpoint_file(folder: &Path, step: u64) -> std::path::PathBuf {
    folder.join(format!("checkpoints/step-{step:010}.safetensors"))
}

fn damaged_newest() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    (1..=3).for_each(|step| save(&mut run, step).unwrap());
    drop(run);
    damage(&checkpoint_file(folder.path(), 3));
    let mut notes = Vec::new();
    let opened =
        RunDir::open(folder.path(), &Begin::resume(), &settings(), |line| notes.push(line))
            .unwrap();
    assert!(matches!(&opened, Opened::Resume(_, checkpoint) if checkpoint.step == 2));
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("step-0000000003.safetensors: damaged"), "{}", notes[0]);
}

fn all_damaged() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    (1..=2).for_each(|step| save(&mut run, step).unwrap());
    drop(run);
    damage(&checkpoint_file(folder.path(), 1));
    std::fs::write(checkpoint_file(folder.path(), 2), "").unwrap();
    let text = message(open(folder.path(), true));
    assert!(text.contains("none of the 2 checkpoints is usable"), "{text}");
}

fn two_are_kept() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    (1..=5).for_each(|step| save(&mut run, step).unwrap());
    drop(run);
    assert_eq!(std::fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 2);
    let (run, checkpoint) = resumed(folder.path());
    assert_eq!(checkpoint.step, 5);
    assert_eq!(run.state::<Value>(&checkpoint).unwrap(), json!({ "epoch": 0 }));
    assert_eq!(checkpoint.tensors.f64s("m").unwrap().1, [5.0 / 3.0]);
}

fn non_finite_checkpoint() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    save(&mut run, 1).unwrap();
    let bad = [1.0, f32::NAN];
    let tensors = [View::new("blocks.0.norm1.weight", &[2], Slice::F32(&bad))];
    let text = message(run.save(2, &(), &tensors));
    assert!(text.contains("blocks.0.norm1.weight is not finite at index 1"), "{text}");
    let text =
        message(save_model(folder.path(), &ModelConfig::Beit(BeitConfig::test()), None, &tensors));
    assert!(text.contains("blocks.0.norm1.weight"), "{text}");
    assert!(!folder.path().join("model.safetensors").exists());
    drop(run);
    assert_eq!(resumed(folder.path()).1.step, 1);
}

fn no_duplicates() {
    let folder = TempDir::new().unwrap();
    let mut run = fresh(folder.path());
    for step in 1..=7 {
        run.log(step, &[("loss", 1.0), ("lr", 0.1)]).unwrap();
        if step == 4 {
            save(&mut run, step).unwrap();
        }
    }
    drop(run);
    let (mut run, checkpoint) = resumed(folder.path());
    for step in checkpoint.step + 1..=7 {
        run.log(step, &[("loss", 2.0), ("lr", 0.1)]).unwrap();
    }
    let curves = run.curves();
    assert_eq!(curves.len(), 2);
    let values: Vec<f64> = curves[0].points.iter().map(|p| p.1).collect();
    assert_eq!(values, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    let events = std::fs::read(folder.path().join("events.out.tfevents.0.beit")).unwrap();
    assert_eq!(records(&events), 1 + 7);
}

/// Number of TFRecord frames; panics when they do not end with the file.
fn records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes = &bytes[8 + 4 + length + 4..];
        count += 1;
    }
    count
}

fn sample() -> Vec<u8> {
    let (a, b) = ([1.0f32, -2.5, 3.0, 0.5, 9.0, -1.0], [0.1f64, 7.0]);
    let tensors = [
        View::new("a.weight", &[2, 3], Slice::F32(&a)),
        View::new("b", &[2], Slice::F64(&b)),
        View::new("ids", &[3], Slice::U32(&[4, 5, 6])),
        View::new("mask", &[1, 2], Slice::U8(&[0, 1])),
    ];
    encode(&tensors, &BTreeMap::from([("state".into(), "{}".into()), ("x".into(), "y".into())]))
}

fn independent_reader() {
    let bytes = sample();
    assert_eq!(bytes, sample(), "the same tensors give the same bytes");
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 4);
    assert_eq!(theirs.tensor("a.weight").unwrap().shape(), [2, 3]);
    assert_eq!(theirs.tensor("b").unwrap().data()[..8], 0.1f64.to_le_bytes());
    assert_eq!(theirs.tensor("mask").unwrap().data(), [0, 1]);
}

fn read_bytes(bytes: &[u8]) -> beit::Result<TensorFile> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    TensorFile::read(&path)
}

fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn half_precision() {
    // 1.5 is 0x3e00 in half precision and 0x3fc0 in bfloat16.
    let header = r#"{"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
        "b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},
        "i":{"dtype":"I64","shape":[1],"data_offsets":[4,12]},
        "e":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[12,14]}}"#;
    let file = read_bytes(&file_of(header, &[0, 0x3e, 0xc0, 0x3f, 1, 0, 0, 0, 0, 0, 0, 0, 9, 9]));
    let file = file.unwrap();
    assert_eq!(file.f32s("h").unwrap(), (vec![1], vec![1.5]));
    assert_eq!(file.f64s("b").unwrap(), (vec![1], vec![1.5]));
    assert!(message(file.f32s("i")).contains("tensor i is I64"));
    assert!(message(file.f32s("e")).contains("tensor e is of an unknown type"));
    assert!(message(file.f32s("none")).ends_with("tensor none is missing"));
}

fn hostile_files() {
    let one = |shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "0 bytes long"),
        (vec![1, 2, 3], "3 bytes long"),
        (u64::MAX.to_le_bytes().to_vec(), "its header claims"),
        ([&99u64.to_le_bytes()[..], b"{}"].concat(), "its header claims 99 bytes, 2 follow"),
        (file_of("not json", &[]), "its header is not JSON"),
        (file_of(&"[".repeat(10_000), &[]), "its header is not JSON"),
        (file_of("[]", &[]), "its header is not JSON"),
        (file_of(r#"{"t":3}"#, &[]), "tensor t: unusable header entry"),
        (file_of(&one("[-1]", "[0,4]"), &[0; 4]), "tensor t: unusable header entry"),
        (file_of(&one("[2]", "[0,8]"), &[0; 4]), "tensor t: bytes 0 to 8 do not lie"),
        (file_of(&one("[1]", "[4,0]"), &[0; 4]), "tensor t: bytes 4 to 0 do not lie"),
        (file_of(&one("[3]", "[0,4]"), &[0; 4]), "tensor t: shape [3] of F32"),
        (file_of(&one("[4294967296,4294967296]", "[0,4]"), &[0; 4]), "is absurd"),
        (file_of(&one("[4611686018427387904]", "[0,0]"), &[]), "tensor t: shape"),
        (file_of(&one("[1]", "[0,4]"), &[0; 8]), "the tensors take 4 bytes, the file holds 8"),
        (file_of(r#"{"__metadata__":{"a":1}}"#, &[]), "__metadata__"),
        (
            file_of(
                r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                "u":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                &[0; 8],
            ),
            "tensor u: starts at byte 0, want 4",
        ),
        (
            file_of(
                r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                "t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "tensor t: there are two tensors of this name",
        ),
        (
            file_of(r#"{"__metadata__":{"a":"1","a":"2"}}"#, &[]),
            "__metadata__ is not a map of texts (a is there twice",
        ),
        (file_of(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]), "it is there twice"),
        (file_of(&one("[1]", "[0,4]").replace("F32", "F33"), &[0; 4]), "unknown variant `F33`"),
        (file_of(&" ".repeat(2 << 20), &[]), "its header claims 2097152 bytes, at most 1048576"),
    ];
    for (bytes, want) in cases {
        let text = message(read_bytes(&bytes));
        assert!(text.contains(want), "want {want:?} in {text:?}");
    }
    let bad = read_bytes(&file_of(&one("[1]", "[0,4]"), &f32::INFINITY.to_le_bytes())).unwrap();
    assert!(message(bad.f32s("t")).contains("tensor t holds a non-finite value at index 0"));
    assert!(message(TensorFile::read(Path::new("/"))).contains("is a folder"));
}

fn mutations() {
    let original = sample();
    let mut random = Philox::new(2, Purpose::Check, 0, 0);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("m.safetensors");
    let mut accepted = 0;
    for _ in 0..2_000 {
        let mut bytes = original.clone();
        for _ in 0..=random.integer(3) {
            let at = random.integer(bytes.len() - 1);
            match random.integer(3) {
                0 => bytes[at] ^= 1 << random.integer(7),
                1 => bytes[at] = b"0123456789{}[],:\" "[random.integer(17)],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.integer(255) as u8),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match TensorFile::read(&path) {
            Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
            Ok(file) => {
                accepted += 1;
                for name in file.tensors().keys() {
                    // Any outcome but a panic is right: the values may have become anything.
                    let _ = (file.f32s(name), file.f64s(name), file.u32s(name), file.u8s(name));
                }
            }
        }
    }
    assert!((1..2_000).contains(&accepted), "{accepted} accepted: the mutations are no test");
}

fn model_pair() {
    let folder = TempDir::new().unwrap();
    let config = ModelConfig::Dvae(DvaeConfig::test());
    let values = vec![0.5; DvaeConfig::test().parameters() as usize];
    let tensors = [View::new("w", &[values.len()], Slice::F32(&values))];
    save_model(folder.path(), &config, None, &tensors).unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("model.safetensors")] {
        let model = load_model(&path).unwrap();
        assert_eq!(model.config, config);
        assert_eq!(model.sizes::<DvaeConfig>().unwrap(), &DvaeConfig::test());
        assert!(message(model.sizes::<BeitConfig>()).ends_with("is a tokenizer, want an encoder"));
    }
    let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert!(
        text.starts_with("{\n  \"format\": \"beit\",\n  \"version\": 2,\n  \"kind\": \"dvae\","),
        "{text}"
    );
    assert_eq!(load_model(folder.path()).unwrap().normalise, None);
    save_model(folder.path(), &config, Some(Normalise::Imagenet), &tensors).unwrap();
    assert_eq!(load_model(folder.path()).unwrap().normalise, Some(Normalise::Imagenet));
}

fn unusable_pairs() {
    let folder = TempDir::new().unwrap();
    let (weights, config) =
        (folder.path().join("model.safetensors"), folder.path().join("config.json"));
    assert!(message(load_model(&folder.path().join("none"))).contains("no such run folder"));
    assert!(message(load_model(folder.path())).contains("holds no model.safetensors"));
    std::fs::write(&weights, sample()).unwrap();
    assert!(message(load_model(&weights)).contains("has no config.json beside it"));
    let full = json!({ "format": "beit", "kind": "dvae", "width": 4, "init_width": 3, "groups": 3,
        "blocks_per_group": 1, "vocab": 11, "image": [8, 12] });
    let with = |key: &str, value: Value| {
        let mut changed = full.clone();
        changed[key] = value;
        changed.to_string()
    };
    let cases = [
        ("{".to_owned(), "not a model configuration"),
        ("{}".to_owned(), r#"want "format": "beit""#),
        (with("kind", json!("gan")), "unknown variant `gan`"),
        (with("wide", json!(3)), "unknown field `wide`"),
        (with("width", json!(16384)), "model of"),
        (with("normalise", json!("max")), "normalise is \"max\", want half or imagenet"),
        (with("two\nlines", json!(3)), r"unknown field `two\nlines`"),
        (with("version", json!("2")), "version is \"2\", want a number"),
        (with("edited", json!(3)), "edited is 3, want true or false"),
        (with("groups", json!(0)), "groups = 0 is out of range"),
        (with("width", json!(-1)), "not a model configuration"),
        (full.to_string(), "its config.json describes a model of"),
    ];
    for (text, want) in cases {
        std::fs::write(&config, text).unwrap();
        let text = message(load_model(folder.path()));
        assert!(text.contains(want), "want {want:?} in {text:?}");
    }
}
