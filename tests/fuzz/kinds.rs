//! The kinds of files: how many are changed, how, and how they are read.

use crate::fixtures::fixture;
use crate::mutate::{
    mutated, mutated_checkpoint, mutated_pickle, mutated_tensors, mutated_zip, seal_png,
    seal_records,
};
use crate::seeds::{self, PICTURE, RUN, Seed, TOKENIZER, WEIGHTS};
use beit::bench::report::{against, peer};
use beit::config::{Layers, PretrainRun, RunConfig, TokenizerRun};
use beit::cpu::Cpu;
use beit::data::decode::{DecodeOptions, Orientation, decode};
use beit::data::{Dataset, Source, SourceOptions, Split};
use beit::params::initial_values;
use beit::rng::Philox;
use beit::run::{Begin, Opened, RunDir, write_checkpoint};
use beit::weights::{Slice, TensorFile, View, load_model, start_from};
use serde_json::Value;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

/// One kind of file.
pub struct FuzzKind {
    pub name: &'static str,
    /// How many are changed.
    pub inputs: usize,
    pub seeds: fn(&Path) -> Vec<Seed>,
    /// A content made of two.
    pub mutate: fn(&[u8], &[u8], &mut Philox) -> Vec<u8>,
    /// Reads what is in a folder; true if it could be read.
    pub read: fn(&Path, usize) -> bool,
    /// Megabytes that reading may take.
    pub megabytes: fn(usize) -> usize,
    /// Whether a decoder may panic inside.
    pub decodes: bool,
}

type Seeds = fn(&Path) -> Vec<Seed>;
type Read = fn(&Path, usize) -> bool;
type Mutate = fn(&[u8], &[u8], &mut Philox) -> Vec<u8>;

const fn kind(
    name: &'static str,
    inputs: usize,
    seeds: Seeds,
    mutate: Mutate,
    read: Read,
) -> FuzzKind {
    FuzzKind { name, inputs, seeds, mutate, read, megabytes: small, decodes: false }
}

const fn picture(name: &'static str, inputs: usize, seeds: Seeds, mutate: Mutate) -> FuzzKind {
    FuzzKind { megabytes: budget, decodes: true, ..kind(name, inputs, seeds, mutate, read_picture) }
}

/// All kinds.
pub const KINDS: &[FuzzKind] = &[
    picture("jpeg", 360, seeds::jpegs, binary),
    picture("png", 220, seeds::pngs, png),
    picture("webp", 140, seeds::webps, binary),
    picture("bmp", 70, seeds::bmps, binary),
    picture("gif", 70, seeds::gifs, binary),
    picture("tiff", 120, seeds::tiffs, binary),
    picture("pnm", 60, seeds::pnms, text),
    kind("cifar_records", 60, seeds::cifar_records, binary, read_all),
    kind("cifar_names", 20, seeds::cifar_names, text, read_all),
    kind("model.safetensors", 200, seeds::weights, mutated_tensors, info),
    kind("zip.pth", 160, seeds::zip_checkpoints, mutated_zip, read_weights),
    kind("legacy.pth", 80, seeds::legacy_checkpoints, mutated_pickle, read_weights),
    kind("config.json", 140, seeds::model_configs, text, info),
    kind("hf_config.json", 100, seeds::foreign_configs, text, read_foreign),
    kind("index.json", 60, seeds::indices, text, read_foreign),
    kind("checkpoint", 120, seeds::checkpoints, mutated_checkpoint, go_on),
    kind("config.toml", 80, seeds::run_settings, text, resume),
    kind("metrics.jsonl", 60, seeds::metrics, text, resume),
    kind("events", 60, seeds::events, records, resume),
    kind("changes.jsonl", 60, seeds::changes, text, resume),
    kind("summary.json", 40, seeds::summary, text, info),
    kind("--config", 80, seeds::settings, text, print_config),
    kind("report.json", 20, seeds::bench_reports, text, compare),
    kind("peer.jsonl", 20, seeds::peers, text, compare),
];

/// What a file may do, each once, with a right one before and after it.
pub const PLANTED: FuzzKind = kind("planted", 11, seeds::planted, binary, misbehave);

fn misbehave(_: &Path, index: usize) -> bool {
    let filled = |bytes| black_box(vec![1u8; bytes]).len() == bytes;
    match index {
        1 => panic!("planted"),
        3 => std::thread::spawn(|| panic!("planted")).join().is_err(),
        5 => filled(100 << 20),
        7 => std::process::abort(),
        9 => filled(2 << 30),
        _ => true,
    }
}

fn binary(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    mutated(seed, other, false, random)
}

fn text(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    mutated(seed, other, true, random)
}

/// Most with checksums that fit, without which nothing behind them is looked at.
fn png(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    let mut bytes = binary(seed, other, random);
    if random.integer(3) > 0 {
        seal_png(&mut bytes);
    }
    bytes
}

fn records(seed: &[u8], other: &[u8], random: &mut Philox) -> Vec<u8> {
    let mut bytes = binary(seed, other, random);
    if random.integer(1) > 0 {
        seal_records(&mut bytes);
    }
    bytes
}

fn small(_: usize) -> usize {
    64
}

/// Megabytes of memory for decoding.
const BUDGETS: [usize; 3] = [4, 32, 256];

fn budget(index: usize) -> usize {
    BUDGETS[index % BUDGETS.len()]
}

fn read_picture(folder: &Path, index: usize) -> bool {
    let orientation = [Orientation::Upright, Orientation::Stored][index % 2];
    let options = DecodeOptions { memory: budget(index), orientation };
    let source = SourceOptions { decode: options, ..SourceOptions::new(Split::Train, 0) };
    match Source::open(folder.to_str().expect("a name"), &source) {
        Ok(source) => source.load(0).is_ok(),
        // The first bytes are no image's, which decoding notices by itself.
        Err(_) => decode(&folder.join(PICTURE), &options).is_ok(),
    }
}

fn read_all(folder: &Path, _: usize) -> bool {
    let options = SourceOptions::new(Split::Train, 0);
    let Ok(source) = Source::open(folder.to_str().expect("a name"), &options) else { return false };
    (0..source.len()).all(|i| source.item(i).is_ok())
}

/// The program in this process.
fn beit(arguments: &[&str]) -> bool {
    let arguments = ["beit"].iter().chain(arguments).map(Into::into);
    beit::cli::main(arguments) == ExitCode::SUCCESS
}

/// What `beit info` reads, and what begins a run from the same file.
fn info(folder: &Path, _: usize) -> bool {
    let model = folder.join(RUN);
    let own = load_model(&fixture("versions/1/beit")).unwrap().config;
    let layout = own.layout(&Cpu::<f32>::new());
    let initial = initial_values(&layout, 0);
    let started = start_from(&model, &layout, initial).is_ok();
    beit(&["info", model.to_str().expect("a name")]) || started
}

/// A file of weights and all its tensors.
fn read_weights(folder: &Path, _: usize) -> bool {
    let Ok(file) = TensorFile::read_any(&folder.join(WEIGHTS)) else { return false };
    for (name, info) in file.tensors() {
        let read =
            [file.f64s(name).map(|read| read.1.len()), file.i64s(name).map(|read| read.1.len())];
        assert!(read.into_iter().flatten().all(|length| length == info.elements()));
    }
    true
}

/// A folder of transformers, and all tensors of its model.
fn read_foreign(folder: &Path, _: usize) -> bool {
    let Ok(model) = load_model(&folder.join(RUN)) else { return false };
    model.tensors.shapes().keys().all(|name| model.tensors.f32s(name).is_ok())
}

/// Resumes a run and makes its last steps, most times with a checkpoint whose checksum fits.
fn go_on(folder: &Path, index: usize) -> bool {
    let run = folder.join(RUN);
    if !index.is_multiple_of(4) {
        seal_checkpoints(&run.join("checkpoints"));
    }
    let text = std::fs::read_to_string(run.join("config.toml")).expect("of a seed");
    let data = text.lines().find_map(|line| line.strip_prefix("data = ")).expect("of a seed");
    let [out, tokenizer] = [RUN, TOKENIZER].map(|name| folder.join(name));
    let [out, tokenizer] = [&out, &tokenizer].map(|path| path.to_str().expect("a name"));
    let common = ["--resume", "--data", data.trim_matches('"'), "--out", out];
    match folder.join(TOKENIZER).exists() {
        false => beit(&[&["train-tokenizer"], &common[..]].concat()),
        true => beit(&[&["pretrain", "--tokenizer", tokenizer], &common[..]].concat()),
    }
}

fn seal_checkpoints(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("of a seed") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let step = name.strip_prefix("step-").and_then(|step| step.parse().ok()).expect("a step");
        let Ok(file) = TensorFile::read(&path) else { continue };
        let state = file.metadata().get("state").and_then(|s| serde_json::from_str(s).ok());
        let Some::<Value>(state) = state else { continue };
        let values: Vec<_> =
            file.tensors().keys().filter_map(|name| Some((name, file.f32s(name).ok()?))).collect();
        let views = values
            .iter()
            .map(|(name, (shape, values))| View::new(name.as_str(), shape, Slice::F32(values)));
        write_checkpoint(folder, step, &state, &views.collect::<Vec<_>>()).expect("finite values");
    }
}

/// Opens the folder of a run that is to go on.
fn resume(folder: &Path, _: usize) -> bool {
    let run = folder.join(RUN);
    match folder.join(TOKENIZER).exists() {
        false => opened::<TokenizerRun>(&run),
        true => opened::<PretrainRun>(&run),
    }
}

fn opened<C: RunConfig>(run: &Path) -> bool {
    let Ok(config) = Layers::default().resolve_in::<C>(run) else { return false };
    match RunDir::open(run, &Begin::resume(), &config, |_| ()) {
        Ok(Opened::Resume(mut run, checkpoint)) => {
            run.curves();
            run.state::<Value>(&checkpoint).is_ok() && run.log(9, &[("loss", 1.0)]).is_ok()
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

fn print_config(folder: &Path, _: usize) -> bool {
    ["train-tokenizer", "pretrain", "probe"].iter().any(|command| {
        let file = folder.join(format!("{command}.toml"));
        let path = file.to_str().expect("a name");
        file.exists() && beit(&[command, "--config", path, "--print-config"])
    })
}

/// The files that `beit bench report` compares with.
fn compare(folder: &Path, _: usize) -> bool {
    let (machine, plan) = seeds::plan();
    against::read(&folder.join("report.json"), &machine, &plan).is_ok()
        || peer::read(&folder.join("peer.jsonl"), &plan).is_ok()
}
