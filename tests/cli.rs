//! The program as its users meet it: every command once on models small enough for a test, and what
//! it says to input that cannot be used: one clear line, a status that is not 0, nothing lost.
//!
//! Own harness, so that each command and each mistake is a test with its own name.

#[path = "cli/ablations.rs"]
mod ablations;
#[path = "cli/bound.rs"]
mod bound;
#[path = "cli/examples.rs"]
mod examples;
#[path = "cli/exchange.rs"]
mod exchange;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/pages.rs"]
mod pages;
#[path = "cli/uses.rs"]
mod uses;

use beit::config::{Preset, PretrainRun, RunConfig};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// A command line with its words separated by spaces, run in the folder of the models.
type Line = &'static str;

const TOKENIZER: Line = "train-tokenizer --data synthetic:32 --epochs 1 --batch 16 --set width=8 \
                         --set init_width=8 --set vocab=32";
const ENCODER: Line = "pretrain --data synthetic:32 --tokenizer tokenizer --epochs 1 --batch 16 \
                       --set width=32 --set depth=2 --set heads=2 --set vocab=32";
const BERT: Line = "bert --data book.txt --steps 2 --batch 8 --set length=24 --set width=16 --set depth=1 \
                    --set heads=2";
const CLASSIFIER: Line = "finetune --model beit --train synthetic:40 --steps 2 --batch 8";
const SEGMENTER: Line = "segment-train --model beit --train synthetic:24 --steps 2 --batch 4 \
                         --set channels=8 --set auxiliary=4 --set short_side=32";
/// Makes the training of a segmenter short.
const SMALL_SEGMENTER: Line = " --steps 2 --batch 4 --set channels=8 --set auxiliary=4";

/// Commands that work, and the files they leave.
const WORKS: &[(&str, Line, &[&str])] = &[
    (
        "probe",
        "probe --model beit --train synthetic:40 --test synthetic:20 --out probe --epochs 2",
        &["probe/summary.json", "probe/report.html"],
    ),
    (
        "probe_random",
        "probe --model random --train synthetic:40 --test synthetic:20 --epochs 2",
        &[],
    ),
    (
        "attention",
        "attention --model beit --image images/square.png --patch 1,2 --out a.png",
        &["a.png"],
    ),
    (
        "probe_of_a_classifier",
        "probe --model classifier --train synthetic:40 --test synthetic:20 --epochs 2",
        &[],
    ),
    (
        "attention_of_a_classifier",
        "attention --model classifier --image images/square.png --patch 1,2 --out ac.png",
        &["ac.png"],
    ),
    (
        "reconstruct_tokens",
        "reconstruct --tokenizer tokenizer --data images --out r1.png",
        &["r1.png"],
    ),
    (
        "reconstruct_masked",
        "reconstruct --tokenizer tokenizer --model beit/model.safetensors --data synthetic:4 --out \
         r2.png",
        &["r2.png"],
    ),
    (
        "cifar_training_files_only",
        "train-tokenizer --data cifar --epochs 1 --batch 16 --set width=8 --set init_width=8 --set \
         vocab=32 --out cifar_run",
        &["cifar_run/summary.json"],
    ),
    (
        "segment",
        "segment --model segmenter images/square.png synthetic:3 --ratios 1,1.5 --flip --out seg",
        &[
            "seg/masks/square.png",
            "seg/overlays/synthetic-3-2.png",
            "seg/images.txt",
            "seg/report.html",
        ],
    ),
    (
        "evaluate_a_segmenter",
        "evaluate --model segmenter --data synthetic:6 --json es.json --out es",
        &["es.json", "es/summary.json", "es/report.html"],
    ),
    (
        "segment_train_from_a_segmenter",
        "segment-train --model segmenter --train synthetic:16 --steps 1 --batch 4 --set channels=8 \
         --set auxiliary=4 --out seg2",
        &["seg2/model.safetensors"],
    ),
    (
        "finetune_from_a_segmenter",
        "finetune --model segmenter --train synthetic:20 --steps 1 --batch 4 --out seg3",
        &["seg3/model.safetensors"],
    ),
    ("info_bert", "info bert", &[]),
    (
        "bert",
        "bert --data texts --val book.txt --steps 2 --batch 8 --set length=4 --set width=8 --set heads=2 --out bert2",
        &["bert2/summary.json", "bert2/report.html", "bert2/model.safetensors"],
    ),
    ("bert_settings", "bert --print-config --set length=64", &[]),
    ("info_segmenter", "info segmenter", &[]),
    ("gradcheck", "gradcheck layer_norm --json g.json", &["g.json"]),
    (
        "gradcheck_page",
        "gradcheck relu --out g",
        &["g/index.html", "g/junit.xml", "g/gradcheck.json", "g/curves/relu.odd.html"],
    ),
    ("bench_ops", "bench ops relu --json bo.json", &["bo.json"]),
    (
        "bench_ops_of_an_encoder",
        "bench ops gelu --preset tiny --batch 1 --json be.json",
        &["be.json"],
    ),
    ("bench_step", "bench step --preset tiny --batch 2 --json bs.json", &["bs.json"]),
    ("bench_data", "bench data --data synthetic:40 --json bd.json", &["bd.json"]),
    ("data_check", "data check images --json dc.json", &["dc.json"]),
    ("data_check_cifar", "data check cifar --preset tiny --json dcc.json", &["dcc.json"]),
    ("data_check_scenes", "data check synthetic:40 --preset small", &[]),
    ("info_run", "info beit", &[]),
    ("info_file", "info tokenizer/model.safetensors", &[]),
    ("help", "pretrain --help", &[]),
    ("presets", "presets", &[]),
    ("completions_bash", "completions bash", &[]),
    ("completions_zsh", "completions zsh", &[]),
    ("completions_fish", "completions fish", &[]),
    ("completions_elvish", "completions elvish", &[]),
    ("completions_powershell", "completions powershell", &[]),
];

/// Command lines that cannot work, and what the answer must name.
const FAILS: &[(&str, Line, &str)] = &[
    ("empty_folder", "train-tokenizer --data empty --out new", "empty: no images"),
    (
        "segmenter_at_a_size",
        "evaluate --model segmenter --data synthetic:6 --image-size 64",
        "--image-size is for classifiers",
    ),
    (
        "classifier_through_windows",
        "evaluate --model classifier --data synthetic:6 --flip",
        "are for segmenters",
    ),
    (
        "windows_with_gaps",
        "evaluate --model segmenter --data synthetic:6 --stride 33",
        "stride 33 leaves gaps between windows of 32x32",
    ),
    ("no_such_text", "bert --data nowhere --out new", "nowhere"),
    ("text_is_short", "bert --data book.txt --set length=4096 --out new", "set a lower length"),
    ("text_has_no_batch", "bert --data book.txt --batch 4096 --out new", "pieces of book.txt"),
    (
        "text_has_no_image_size",
        "bert --data book.txt --set image_size=32 --out new",
        "unknown key image_size",
    ),
    (
        "text_is_always_compared",
        "bert --data book.txt --verify-data --out new",
        "unknown key verify_data",
    ),
    ("nothing_hidden", "fill --model bert whale", "no byte of the text is hidden"),
    (
        "hidden_text_is_long",
        "fill --model bert a_whale_of_a_text_that_is_long",
        "the model sees 24 at once",
    ),
    ("filled_by_an_encoder", "fill --model beit wh_le", "is an encoder, want a language model"),
    (
        "features_of_a_text",
        "embed --model bert --data images --out new",
        "is a language model, want an encoder",
    ),
    ("segment_by_a_classifier", "segment --model classifier synthetic:3 --out new", "a segmenter"),
    ("predict_by_a_segmenter", "predict --model segmenter synthetic:3", "is a segmenter"),
    ("images_without_masks", "segment-train --model beit --train images --out new", "masks"),
    (
        "segmenter_exported",
        "export --model segmenter --format timm --out new",
        "timm has no segmenters",
    ),
    ("no_such_data", "train-tokenizer --data nowhere --out new", "nowhere"),
    ("no_such_scenes", "train-tokenizer --data synthetic:0 --out new", "synthetic:0"),
    ("too_many_scenes", "train-tokenizer --data synthetic:4294967295 --out new", "10000000"),
    (
        "probe_into_a_run",
        "probe --model beit --train synthetic:9 --test synthetic:9 --out beit",
        "beit is not empty",
    ),
    ("probe_of_broken_images", "probe --model random --train classes --test classes", "max_bad"),
    (
        "probe_of_nothing_readable",
        "probe --model random --train classes --test classes --set max_bad=1",
        "none of 2 images can be read",
    ),
    ("broken_images", "train-tokenizer --data broken --out new", "broken"),
    (
        "tokenizer_grid_differs",
        "pretrain --data synthetic:32 --tokenizer tokenizer --out new --set vocab=32 --set \
         patch_size=8 --set masked_patches=4",
        "tokenizer",
    ),
    (
        "tokenizer_vocabulary_differs",
        "pretrain --data synthetic:32 --tokenizer tokenizer --out new --set vocab=64",
        "vocab=32",
    ),
    ("no_such_tokenizer", "pretrain --data synthetic:32 --tokenizer nowhere --out new", "nowhere"),
    ("tokenizer_is_encoder", "reconstruct --tokenizer beit --data images --out x.png", "encoder"),
    ("encoder_is_tokenizer", "info tokenizer/config.json", "config.json"),
    (
        "misspelt_key",
        "pretrain --data synthetic:32 --tokenizer tokenizer --out new --set masked_patchs=9",
        "did you mean masked_patches?",
    ),
    (
        "size_not_divisible",
        "pretrain --data synthetic:32 --tokenizer tokenizer --out new --set image_size=30",
        "image_size 30x30 is not divisible by patch_size 4",
    ),
    ("lr_nan", "train-tokenizer --data synthetic:32 --out new --set lr=nan", "lr = nan"),
    ("batch_0", "train-tokenizer --data synthetic:32 --out new --batch 0", "batch = 0"),
    ("unknown_preset", "train-tokenizer --data synthetic:32 --out new --preset bass", "base"),
    ("unknown_preset_of_bench", "bench step --preset bass --batch 2", "base"),
    ("output_is_a_file", "train-tokenizer --data synthetic:32 --out file", "file is a file"),
    ("output_is_not_writable", "train-tokenizer --data synthetic:32 --out file/new", "file/new"),
    ("output_is_not_empty", "train-tokenizer --data synthetic:32 --out beit", "--resume"),
    (
        "picture_is_not_writable",
        "reconstruct --tokenizer tokenizer --data images --out no/x.png",
        "no/x.png",
    ),
    ("picture_is_no_png", "reconstruct --tokenizer tokenizer --data images --out x.gif", ".png"),
    ("no_such_image", "attention --model beit --image no.png --patch 1,1 --out x.png", "no.png"),
    ("image_is_empty", "attention --model beit --image file --patch 1,1 --out x.png", "file"),
    (
        "patch_outside",
        "attention --model beit --image images/square.png --patch 8,0 --out x.png",
        "8x8 grid",
    ),
    (
        "patch_is_no_pair",
        "attention --model beit --image images/square.png --patch 8 --out x.png",
        "ROW,COL",
    ),
    (
        "picture_of_two_images",
        "attention --model beit --image images/square.png images/other.png --patch 1,1 --out x.png",
        "ends in .html",
    ),
    (
        "picture_without_a_patch",
        "attention --model beit --image images/square.png --out x.png",
        "--patch",
    ),
    (
        "page_of_half_a_patch",
        "attention --model beit --image images/square.png --image-size 32,30 --out x.html",
        "image_size 32x30 is not divisible by patch_size 4",
    ),
    (
        "page_of_no_such_block",
        "attention --model beit --image images/square.png --layer 0,2 --out x.html",
        "--layer 2: the model has blocks 0 to 1",
    ),
    (
        "page_that_is_too_large",
        "attention --model beit --image images/square.png --image-size 176 --out x.html",
        "choose at most",
    ),
    (
        "size_is_none",
        "attention --model beit --image images/square.png --image-size a --out x.html",
        "480,640",
    ),
    ("atlas_is_no_page", "atlas --tokenizer tokenizer --data images --out x.png", ".html"),
    (
        "map_of_no_such_block",
        "map --model beit --data images --block 3 --out x.html",
        "blocks 1 to 2",
    ),
    (
        "map_of_broken_images",
        "map --model beit --data classes --out x.html",
        "none of 2 images can be read",
    ),
    (
        "ratios_without_a_model",
        "reconstruct --tokenizer tokenizer --data images --ratios 0.5 --out x.png",
        "--model",
    ),
    (
        "ratio_of_all",
        "reconstruct --tokenizer tokenizer --model beit --data images --ratios 0.5,1 --out x.png",
        "below 1",
    ),
    ("no_model", "info empty", "empty"),
    (
        "probe_classes_differ",
        "probe --model beit --train left --test right --out new",
        "train and test have different classes: only train has \"a\"; only test has \"d\", \"e\"; \
         --common-classes probes with the 2 that both have",
    ),
    (
        "probe_classes_have_nothing_in_common",
        "probe --model beit --train synthetic:9 --test right --common-classes",
        "at least two classes",
    ),
    ("no_such_shell", "completions tcsh", "tcsh"),
    ("print_config_checks", "pretrain --print-config --set lr=nan", "lr = nan"),
    ("no_data_given", "train-tokenizer --out new", "--data"),
    ("unlabelled", "probe --model beit --train images --test images", "images"),
    ("no_such_check", "gradcheck no_such_op", "no_such_op"),
    (
        "unknown_device",
        "pretrain --data synthetic:32 --tokenizer tokenizer --out new --device tpu",
        "tpu",
    ),
];

/// Makes a file from a good one and its header.
type Spoil = fn(Vec<u8>, &Value) -> Vec<u8>;

/// What is done to a good file to make it unusable.
const HOSTILE: &[(&str, Spoil)] = &[
    ("empty", |_, _| Vec::new()),
    ("cut", |file, _| file[..file.len() / 2].to_vec()),
    ("no_json", |mut file, _| {
        file[8..40].fill(b'x');
        file
    }),
    ("header_of_4_eib", |mut file, _| {
        file[..8].copy_from_slice(&(1u64 << 62).to_le_bytes());
        file
    }),
    ("deep", |_, _| [&200_000u64.to_le_bytes()[..], &b"[".repeat(200_000)].concat()),
    ("not_finite", |mut file, _| {
        let last = file.len() - 4;
        file[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        file
    }),
    ("offsets", |file, h| with(file, h, "data_offsets", json!([0, 1u64 << 60]))),
    ("negative", |file, h| with(file, h, "data_offsets", json!([-1, 5]))),
    ("shape", |file, h| with(file, h, "shape", json!([1u64 << 40, 1u64 << 40]))),
    ("dtype", |file, h| with(file, h, "dtype", json!("Q7"))),
];

/// The file with one entry of a tensor's header replaced.
fn with(file: Vec<u8>, header: &Value, key: &str, value: Value) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header = header.clone();
    header["cls_token"][key] = value;
    let text = header.to_string();
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &file[8 + length..]].concat()
}

/// The folder of a tokenizer, an encoder, and what else the command lines name.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let dir = TempDir::new().unwrap();
            let path = dir.path();
            for new in ["empty", "images", "broken"] {
                std::fs::create_dir(path.join(new)).unwrap();
            }
            std::fs::write(path.join("file"), "").unwrap();
            let book = "the white whale swam round the ship, and round it swam again.\n".repeat(20);
            std::fs::write(path.join("book.txt"), &book).unwrap();
            std::fs::create_dir_all(path.join("texts/more")).unwrap();
            std::fs::write(path.join("texts/more/book.md"), book).unwrap();
            std::fs::write(path.join("texts/none.bin"), [0; 64]).unwrap();
            for class in ["a", "b"] {
                std::fs::create_dir_all(path.join("classes").join(class)).unwrap();
                std::fs::write(path.join("classes").join(class).join("x.png"), "no image").unwrap();
            }
            std::fs::create_dir(path.join("cifar")).unwrap();
            let records: Vec<u8> =
                (0..32 * 3073).map(|i| if i % 3073 == 0 { 3 } else { i as u8 }).collect();
            std::fs::write(path.join("cifar/data_batch_1.bin"), records).unwrap();
            for i in 0..9 {
                std::fs::write(path.join(format!("broken/{i}.jpg")), b"\xff\xd8\xff cut").unwrap();
            }
            let pixels = (0..40 * 48 * 3).map(|i| (i * 7 % 251) as u8).collect();
            let image = image::RgbImage::from_raw(48, 40, pixels).unwrap();
            image.save(path.join("images/square.png")).unwrap();
            image.save(path.join("images/other.png")).unwrap();
            for class in ["left/a", "left/b", "left/c", "right/b", "right/c", "right/d", "right/e"]
            {
                std::fs::create_dir_all(path.join(class)).unwrap();
                for name in ["1.png", "2.png"] {
                    image.save(path.join(class).join(name)).unwrap();
                }
            }
            for (line, out) in [
                (TOKENIZER, "tokenizer"),
                (ENCODER, "beit"),
                (CLASSIFIER, "classifier"),
                (SEGMENTER, "segmenter"),
                (BERT, "bert"),
            ] {
                let output = beit(path, &format!("{line} --out {out}")).output().unwrap();
                assert!(output.status.success(), "{line}: {}", text(&output));
            }
            exchange::prepare(path);
            dir
        })
        .path()
}

fn beit(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beit"));
    command.args(line.split_whitespace()).current_dir(folder).env("RUST_BACKTRACE", "0");
    command
}

/// What is said about the device when work on it begins.
const DEVICE: &str = "computing on";

/// Mistakes that show when work has begun.
const AT_WORK: &[&str] = &["broken", "max_bad", "none of 2 images can be read", "no/x.png", ".png"];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn works(line: &str, files: &[&str]) -> Result<(), Failed> {
    let output = beit(folder(), line).output()?;
    let said = text(&output);
    if !output.status.success() {
        return Err(format!("{}: {said}", output.status).into());
    }
    if output.stdout.is_empty() {
        return Err("prints nothing".into());
    }
    if said.matches(DEVICE).count() > 1 {
        return Err(format!("names the device more than once: {said}").into());
    }
    match files.iter().find(|f| folder().join(f).metadata().map_or(0, |m| m.len()) == 0) {
        Some(file) => Err(format!("{file} is missing or empty; {said}").into()),
        None => Ok(()),
    }
}

/// Status 1 or 2 (a panic has 101, an abort none), at most six lines, the culprit named, no file new.
fn fails(line: &str, named: &str) -> Result<(), Failed> {
    let output = beit(folder(), line).output()?;
    let said = text(&output);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if !matches!(output.status.code(), Some(1 | 2)) {
        return Err(format!("{}: {said}", output.status).into());
    }
    if said.lines().count() > 6 || !complaint.contains(named) {
        return Err(format!("want {named} named within six lines, got: {said}").into());
    }
    if said.contains(DEVICE) && !AT_WORK.contains(&named) {
        return Err(format!("names the device before another mistake: {said}").into());
    }
    match ["new", "x.png", "x.gif", "x.html"].iter().find(|f| folder().join(f).exists()) {
        Some(file) => Err(format!("{file} is left behind").into()),
        None => Ok(()),
    }
}

fn hostile(name: &str, change: Spoil) -> Result<(), Failed> {
    let good = folder().join("beit");
    let bad: PathBuf = folder().join(format!("hostile_{name}"));
    std::fs::create_dir(&bad)?;
    std::fs::copy(good.join("config.json"), bad.join("config.json"))?;
    let file = std::fs::read(good.join("model.safetensors"))?;
    let length = u64::from_le_bytes(file[..8].try_into()?) as usize;
    let header = serde_json::from_slice(&file[8..8 + length])?;
    std::fs::write(bad.join("model.safetensors"), change(file, &header))?;
    for command in ["info", "probe --train synthetic:20 --test synthetic:20 --model"] {
        for path in [format!("hostile_{name}"), format!("hostile_{name}/model.safetensors")] {
            fails(&format!("{command} {path}"), "model.safetensors")?;
        }
    }
    Ok(())
}

/// The classes that both sides have are probed by name, and the others are named once.
fn common_classes() -> Result<(), Failed> {
    let line =
        "probe --model beit --train left --test right --common-classes --epochs 2 --out common";
    let output = beit(folder(), line).output()?;
    let said = text(&output);
    let left_out = "left out: only train has \"a\"; only test has \"d\", \"e\"\n";
    if !output.status.success() || said.matches(left_out).count() != 1 {
        return Err(format!("{}: {said}", output.status).into());
    }
    let summary = std::fs::read_to_string(folder().join("common/summary.json"))?;
    let summary: Value = serde_json::from_str(&summary)?;
    if summary["classes"] != json!(["b", "c"]) || summary["images"] != json!([4, 4]) {
        return Err(format!("{summary}").into());
    }
    Ok(())
}

/// What `--print-config` prints is a file for `--config` that says the same again, and nothing is started.
fn print_config() -> Result<(), Failed> {
    for command in ["train-tokenizer", "pretrain", "probe"] {
        let print =
            |more: &str| beit(folder(), &format!("{command} --print-config {more}")).output();
        let first = print("--preset base --set weight_decay=0.25 --seed 7")?;
        let file = folder().join(format!("{command}.toml"));
        std::fs::write(&file, &first.stdout)?;
        let again = print(&format!("--config {command}.toml"))?;
        let said = text(&first);
        for want in ["preset = \"base\"", "weight_decay = 0.25", "seed = 7", "device = \"auto\""] {
            if !said.contains(want) {
                return Err(format!("{command}: no {want} in {said}").into());
            }
        }
        if !first.status.success() || first.stdout != again.stdout || !first.stderr.is_empty() {
            return Err(format!("{command}: {said} and then {}", text(&again)).into());
        }
    }
    Ok(())
}

/// The version, and in a clone the commit.
fn version() -> Result<(), Failed> {
    let said = text(&beit(folder(), "--version").output()?);
    let version = concat!("beit ", env!("CARGO_PKG_VERSION"));
    let rest = said.trim().strip_prefix(version).ok_or_else(|| said.clone())?;
    let commit = rest.trim().trim_start_matches('(').trim_end_matches(')');
    let commit = commit.trim_end_matches("-dirty");
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists();
    let legal = commit.len() >= 12 && commit.chars().all(|c| c.is_ascii_hexdigit());
    if clone && !legal { Err(said.into()) } else { Ok(()) }
}

/// A run folder belongs to the process that writes to it, and to nobody once that has gone.
fn in_use() -> Result<(), Failed> {
    let line = TOKENIZER.replace("synthetic:32", "synthetic:3200") + " --out used";
    let mut owner = beit(folder(), &line).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    while !folder().join("used/metrics.jsonl").exists() {
        if let Some(status) = owner.try_wait()? {
            return Err(format!("the owner ended early: {status}").into());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let refused = fails(&(line + " --resume"), "used");
    owner.kill()?;
    owner.wait()?;
    refused
}

/// An unreadable image is named once, though training and evaluation both come by it, and what is no image
/// is counted.
fn bad_image_named_once() -> Result<(), Failed> {
    let photos = folder().join("one_bad");
    std::fs::create_dir(&photos)?;
    for i in 0..20 {
        std::fs::copy(folder().join("images/square.png"), photos.join(format!("{i:02}.png")))?;
    }
    std::fs::write(photos.join("03.png"), "cut")?;
    std::fs::write(photos.join("notes.txt"), "a text")?;
    let line = TOKENIZER.replace("synthetic:32", "one_bad").replace("--epochs 1", "--epochs 2");
    let output = beit(folder(), &format!("{line} --out one_bad_run")).output()?;
    let said = text(&output);
    let named = said.lines().filter(|line| line.contains("03.png")).count();
    if !output.status.success() || named != 1 || !said.contains("one_bad: left out 1 .txt\n") {
        return Err(format!("{}, named {named} times: {said}", output.status).into());
    }
    Ok(())
}

/// A source that would stop a run is described all the same, and the status says so.
fn data_check_refuses() -> Result<(), Failed> {
    for (line, named) in [
        ("data check broken", "9 of 9 images cannot be read"),
        ("data check images --preset tiny --json few.json", "images: 2 images are too few"),
    ] {
        let output = beit(folder(), line).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let (table, status) = (String::from_utf8_lossy(&output.stdout), output.status.code());
        if status != Some(1) || !complaint.contains(named) || !table.contains("are listed") {
            return Err(format!("{line}: {status:?}, want {named}: {}", text(&output)).into());
        }
    }
    let report: Value = serde_json::from_slice(&std::fs::read(folder().join("few.json"))?)?;
    let run = json!({ "command": "pretrain", "preset": "tiny", "batch": 32, "trained": 0,
                      "steps": PretrainRun::preset(Preset::Tiny).recipe.steps, "passes": 0.0 });
    assert_eq!((&report["listed"], &report["formats"]), (&json!(2), &json!({ "PNG": 2 })));
    assert_eq!(
        (&report["runs"][1], report["duplicates"].as_array().map(Vec::len)),
        (&run, Some(1))
    );
    Ok(())
}

fn main() {
    let mut trials = Vec::new();
    for &(name, line, files) in WORKS {
        trials.push(Trial::test(format!("works/{name}"), move || works(line, files)));
    }
    for &(name, line, named) in FAILS {
        trials.push(Trial::test(format!("fails/{name}"), move || fails(line, named)));
    }
    for &(name, change) in HOSTILE {
        trials.push(Trial::test(format!("fails/hostile_{name}"), move || hostile(name, change)));
    }
    trials.push(Trial::test("works/bad_image_named_once", bad_image_named_once));
    trials.push(Trial::test("fails/data_check", data_check_refuses));
    trials.push(Trial::test("fails/run_folder_in_use", in_use));
    trials.push(Trial::test("works/probe_common_classes", common_classes));
    trials.push(Trial::test("works/print_config", print_config));
    trials.push(Trial::test("works/version", version));
    trials.extend(ablations::trials());
    trials.extend(bound::trials());
    trials.extend(live::trials());
    trials.extend(examples::trials());
    trials.extend(pages::trials());
    trials.extend(uses::trials());
    trials.extend(exchange::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
