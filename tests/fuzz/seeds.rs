//! Files that are right, from which those that are not are made.

#[path = "../fixtures/jpeg_layouts.rs"]
mod jpeg_layouts;

use crate::fixtures::{Kind, fixture, kinds, zip_of};
use beit::bench::columns::Columns;
use beit::bench::report::{BenchReport, FORMAT, Machine, Plan};
use beit::config::{Preset, PretrainRun, ProbeRun, RunConfig, TokenizerRun, document};
use beit::data::decode::{DecodeOptions, decode_bytes};
use beit::models::config::BeitConfig;
use beit::weights::{Slice, TensorFile, View, encode};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Name of a picture; no ending says what is in it.
pub const PICTURE: &str = "picture";
/// Folder of a run.
pub const RUN: &str = "run";
/// The tokenizer of a run that needs one.
pub const TOKENIZER: &str = "tokenizer";
/// Name of a file of weights.
pub const WEIGHTS: &str = "weights";
/// Steps of [`made_run`], and that of the checkpoint from which it is resumed.
const STEPS: (u64, u64) = (4, 3);

/// One file, and what lies beside it.
pub struct Seed {
    pub content: Vec<u8>,
    place: String,
    beside: Vec<(String, Vec<u8>)>,
}

impl Seed {
    fn new(place: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), place: place.into(), beside: Vec::new() }
    }

    /// One of these files.
    fn among(files: &[(String, Vec<u8>)], place: &str) -> Self {
        let (mut own, beside): (Vec<_>, Vec<_>) =
            files.iter().cloned().partition(|(name, _)| name == place);
        let (place, content) = own.pop().unwrap_or_else(|| panic!("no {place}"));
        Self { content, place, beside }
    }

    /// Lays it out in `folder`, with another content.
    pub fn write(&self, folder: &Path, content: &[u8]) {
        let all = self.beside.iter().map(|(name, bytes)| (name, &bytes[..]));
        for (name, bytes) in all.chain([(&self.place, content)]) {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// A finished run with a checkpoint before its last step.
pub fn made_run() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut beit = Command::new(env!("CARGO_BIN_EXE_beit"));
    beit.args("train-tokenizer --data synthetic:8 --batch 2 --device cpu --threads 1".split(' '));
    let settings = format!(
        "steps={} checkpoint_every={} log_every=1 width=4 init_width=4 vocab=4 blocks=1 groups=2 image_size=8",
        STEPS.0, STEPS.1
    );
    settings.split(' ').for_each(|setting| _ = beit.args(["--set", setting]));
    let output = beit.arg("--out").arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// All files below a folder, named as in a folder `prefix`.
fn files(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}/{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => all.extend(files(&path, &name)),
            false => all.push((name, std::fs::read(path).unwrap())),
        }
    }
    all
}

/// The run as it was before its last step, and those of the first version of these files.
fn unfinished(run: &Path) -> [Vec<(String, Vec<u8>)>; 3] {
    let mut own = files(run, RUN);
    let last = format!("{RUN}/checkpoints/step-{:010}.safetensors", STEPS.0);
    let made = ["summary.json", "model.safetensors", "config.json", "report.html"];
    own.retain(|(name, _)| *name != last && !made.iter().any(|made| name.ends_with(made)));
    let mut pretrain = files(&fixture("versions/1/run-pretrain"), RUN);
    pretrain.extend(files(&fixture("versions/1/tokenizer"), TOKENIZER));
    [own, files(&fixture("versions/1/run-tokenizer"), RUN), pretrain]
}

fn of_run(run: &Path, place: impl Fn(&str) -> bool) -> Vec<Seed> {
    let of = |files: &Vec<(String, Vec<u8>)>| {
        let names: Vec<&String> = files.iter().map(|f| &f.0).filter(|name| place(name)).collect();
        names.into_iter().map(|name| Seed::among(files, name)).collect::<Vec<_>>()
    };
    unfinished(run).iter().flat_map(of).collect()
}

pub fn checkpoints(run: &Path) -> Vec<Seed> {
    of_run(run, |name| name.contains("/step-"))
}

pub fn run_settings(run: &Path) -> Vec<Seed> {
    of_run(run, |name| name.ends_with("config.toml"))
}

pub fn metrics(run: &Path) -> Vec<Seed> {
    of_run(run, |name| name.ends_with("metrics.jsonl"))
}

pub fn events(run: &Path) -> Vec<Seed> {
    of_run(run, |name| name.contains("tfevents"))
}

pub fn changes(run: &Path) -> Vec<Seed> {
    let line = |key: &str, now: f64| json!({ "step": STEPS.1, "key": key, "was": 0.5, "now": now });
    let text = [("lr", 0.002), ("clip", 1.0)].map(|(key, now)| format!("{}\n", line(key, now)));
    let text = text.concat();
    let [beside, ..] = unfinished(run);
    let place = format!("{RUN}/changes.jsonl");
    vec![Seed { beside, ..Seed::new(place, text) }]
}

/// Nobody reads it.
pub fn planted(_: &Path) -> Vec<Seed> {
    vec![Seed::new("nothing", "nothing")]
}

pub fn summary(run: &Path) -> Vec<Seed> {
    vec![Seed::among(&files(run, RUN), &format!("{RUN}/summary.json"))]
}

/// Models of both versions of their files, the first without checksums.
fn models(place: &str) -> Vec<Seed> {
    let of = |name: &str| Seed::among(&files(&fixture(&format!("versions/{name}")), RUN), place);
    ["1/beit", "1/dvae", "1/tokenizer", "2/beit", "2/dvae"].map(of).into()
}

pub fn weights(_: &Path) -> Vec<Seed> {
    models(&format!("{RUN}/model.safetensors"))
}

pub fn model_configs(_: &Path) -> Vec<Seed> {
    models(&format!("{RUN}/config.json"))
}

fn stored_weights(names: &[&str]) -> Vec<Seed> {
    let stored = |name: &&str| std::fs::read(fixture(&format!("15_weights/{name}"))).unwrap();
    names.iter().map(|name| Seed::new(WEIGHTS, stored(name))).collect()
}

/// Checkpoints of PyTorch, and the module of a linear map as it writes whole modules.
pub fn zip_checkpoints(_: &Path) -> Vec<Seed> {
    let mut all = stored_weights(&[
        "hostile/ok_opaque_namespace.pth",
        "hostile/ok_transposed.pth",
        "odd_tensors.pth",
        "unilm_mim_with_args.pth",
    ]);
    let text =
        |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let numbers = [b"((", &text("storage")[..], b"ctorch\nFloatStorage\n", &text("0")].concat();
    let numbers =
        [&numbers, &text("cpu")[..], b"K\x06tQK\x01K\x02K\x02\x86K\x02K\x01\x86\x89"].concat();
    let tensor = [b"ctorch._utils\n_rebuild_tensor_v2\n", &numbers[..], b"}tR"].concat();
    let fields =
        [b"}(", &text("n_in")[..], b"K\x02", &text("_buffers"), b"}", &text("_modules")].concat();
    let fields =
        [&fields, &b"}"[..], &text("_parameters"), b"}", &text("w"), &tensor, b"su"].concat();
    let pickle = [b"\x80\x02cdall_e.utils\nConv2d\n)\x81", &fields[..], b"b."].concat();
    let entries: [(&str, &[u8]); 2] = [("m/data.pkl", &pickle), ("m/data/0", &[0; 24])];
    all.push(Seed::new(WEIGHTS, zip_of(&entries)));
    all
}

pub fn legacy_checkpoints(_: &Path) -> Vec<Seed> {
    stored_weights(&["odd_tensors_legacy.pth", "odd_tensors_legacy.pth", "unilm_mim_legacy.pth"])
}

/// Files of settings for three commands, whose names they have.
pub fn settings(_: &Path) -> Vec<Seed> {
    fn of<C: RunConfig>() -> Seed {
        let text = document(&C::preset(Preset::Tiny)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Seed::new(format!("{}.toml", C::KIND), lines.collect::<Vec<_>>().join("\n"))
    }
    vec![of::<TokenizerRun>(), of::<PretrainRun>(), of::<ProbeRun>()]
}

/// Pictures of [`kinds`] whose name begins so.
fn pictures(kind: &str) -> Vec<Seed> {
    let all = kinds().into_iter().filter(|file| file.name.starts_with(kind));
    let seed = |file: Kind| {
        assert_eq!(file.pixels.len(), 3 * file.width * file.height, "{}", file.name);
        Seed::new(PICTURE, file.file)
    };
    all.map(seed).collect()
}

/// Baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK, every sampling.
pub fn jpegs(_: &Path) -> Vec<Seed> {
    let packed = image::open(fixture("jpeg_layouts.png")).unwrap().into_luma8().into_raw();
    let layouts = jpeg_layouts::layouts(&packed).into_iter().step_by(3);
    let options = DecodeOptions::default();
    // Some layouts are refused.
    let layouts = layouts.filter(|(.., file)| decode_bytes(file, Path::new("x"), &options).is_ok());
    let layouts = layouts.map(|(_, _, file)| Seed::new(PICTURE, file));
    layouts.chain(pictures("JPEG")).collect()
}

/// With all that Pillow writes: 16 bits a sample in colour, a colour profile.
pub fn pngs(_: &Path) -> Vec<Seed> {
    let pixels: Vec<u8> = (0..9 * 14 * 6).map(|i| (i * i / 7) as u8).collect();
    let made = |colours: ExtendedColorType, bytes: usize, profile: bool| {
        let mut file = Vec::new();
        let mut encoder = PngEncoder::new(&mut file);
        if profile {
            encoder.set_icc_profile(vec![7; 500]).unwrap();
        }
        encoder.write_image(&pixels[..9 * 14 * bytes], 9, 14, colours).unwrap();
        Seed::new(PICTURE, file)
    };
    let mut all = pictures("PNG");
    all.push(made(ExtendedColorType::Rgb16, 6, false));
    all.push(made(ExtendedColorType::Rgb8, 3, true));
    all
}

/// Lossy, lossless and, of two frames, moving.
pub fn webps(_: &Path) -> Vec<Seed> {
    let mut all: Vec<_> = pictures("WebP").into_iter().chain(pictures("WEBP")).collect();
    let still = &all[0].content;
    let at = still.windows(4).position(|name| name == b"VP8L").expect("a lossless one");
    let length = u32::from_le_bytes(still[at + 4..at + 8].try_into().unwrap()) as usize;
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let length = (content.len() as u32).to_le_bytes();
        [name, &length[..], content, &[0][..content.len() % 2]].concat()
    };
    // Width and height less one, then a duration.
    let frame = [&[0; 6][..], &[13, 0, 0, 8, 0, 0], &[9, 0, 0, 0]].concat();
    let frame = chunk(b"ANMF", &[frame, chunk(b"VP8L", &still[at + 8..at + 8 + length])].concat());
    let extended = chunk(b"VP8X", &[2, 0, 0, 0, 13, 0, 0, 8, 0, 0]);
    let animation = chunk(b"ANIM", &[0; 6]);
    let content = [&b"WEBP"[..], &extended, &animation, &frame, &frame].concat();
    all.push(Seed::new(PICTURE, chunk(b"RIFF", &content)));
    all
}

pub fn bmps(_: &Path) -> Vec<Seed> {
    pictures("BMP")
}

pub fn gifs(_: &Path) -> Vec<Seed> {
    pictures("GIF")
}

pub fn tiffs(_: &Path) -> Vec<Seed> {
    pictures("TIFF")
}

pub fn pnms(_: &Path) -> Vec<Seed> {
    ["PPM", "PGM", "PBM"].into_iter().flat_map(pictures).collect()
}

/// Records of both data sets and the names of their classes.
fn cifar_files() -> [[(String, Vec<u8>); 2]; 2] {
    let of = |records: &str, labels: usize, names: &str, classes: usize| {
        let record = labels + 3 * 32 * 32;
        let byte = |i: usize| if i % record < labels { i % 7 } else { i * i / 31 };
        let bytes = (0..6 * record).map(|i| byte(i) as u8).collect();
        let text: String = (0..classes).map(|class| format!("class_{class}\n")).collect();
        [(records.to_owned(), bytes), (names.to_owned(), text.into_bytes())]
    };
    [
        of("data_batch_1.bin", 1, "batches.meta.txt", 10),
        of("train.bin", 2, "fine_label_names.txt", 100),
    ]
}

pub fn cifar_records(_: &Path) -> Vec<Seed> {
    cifar_files().map(|files| Seed::among(&files, &files[0].0)).into()
}

pub fn cifar_names(_: &Path) -> Vec<Seed> {
    cifar_files().map(|files| Seed::among(&files, &files[1].0)).into()
}

/// What `beit bench report` measures here.
pub fn plan() -> (Machine, Plan) {
    let columns = Columns::cpu_only("no device is asked for");
    (Machine::this(&columns), Plan::new(true, &columns))
}

pub fn bench_reports(_: &Path) -> Vec<Seed> {
    let (machine, plan) = plan();
    let report = BenchReport {
        format: FORMAT,
        beit: String::new(),
        machine,
        plan,
        ceilings: Vec::new(),
        ops: Vec::new(),
        steps: Vec::new(),
        scaling: Vec::new(),
        sweep: Vec::new(),
        peers: Vec::new(),
        changes: Vec::new(),
        seconds: 1.5,
        other_programs: None,
    };
    vec![Seed::new("report.json", serde_json::to_string_pretty(&report).unwrap())]
}

pub fn peers(_: &Path) -> Vec<Seed> {
    let (_, plan) = plan();
    let lines = plan.steps.iter().map(|(preset, batch)| {
        let line = json!({
            "torch": "2.7", "config": preset, "device": "cpu", "dtype": "float32", "compile": false,
            "batch": batch, "params": BeitConfig::tiny().parameters(), "threads": plan.threads.last(),
            "steps_ms": [1.5, 2.5, 3.5, 1.0, 2.0, 3.0], "peak_mem_mb": 12.5,
        });
        format!("{line}\n")
    });
    vec![Seed::new("peer.jsonl", lines.collect::<String>())]
}

/// Configurations of models of transformers, with their weights.
pub fn foreign_configs(_: &Path) -> Vec<Seed> {
    let folder = |name| files(&fixture(&format!("15_weights/{name}")), RUN);
    let seed = |name| Seed::among(&folder(name), &format!("{RUN}/config.json"));
    vec![seed("hf_cls"), seed("hf_mim")]
}

/// Indices of a model in two files, of which one has but a few tensors.
pub fn indices(_: &Path) -> Vec<Seed> {
    let mut all = files(&fixture("15_weights/hf_mim"), RUN);
    let weights = format!("{RUN}/model.safetensors");
    let whole = TensorFile::read(&fixture("15_weights/hf_mim/model.safetensors")).unwrap();
    all.retain(|(name, _)| *name != weights);
    let mut map = serde_json::Map::new();
    for (file, first) in [("a.safetensors", true), ("b.safetensors", false)] {
        let names: Vec<&String> = match first {
            true => whole.tensors().keys().take(3).collect(),
            false => whole.tensors().keys().skip(3).collect(),
        };
        let values: Vec<_> = names.iter().map(|name| (name, whole.f32s(name).unwrap())).collect();
        let views = values
            .iter()
            .map(|(name, (shape, values))| View::new(name.as_str(), shape, Slice::F32(values)));
        let bytes = encode(&views.collect::<Vec<_>>(), &BTreeMap::new());
        map.extend(names.iter().map(|name| ((*name).clone(), json!(file))));
        all.push((format!("{RUN}/{file}"), bytes));
    }
    let place = format!("{RUN}/model.safetensors.index.json");
    all.push((place.clone(), json!({ "weight_map": map }).to_string().into_bytes()));
    vec![Seed::among(&all, &place)]
}
