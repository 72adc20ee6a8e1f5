//! Case 15: models of transformers, timm, the original and DALL-E as files: what each gives.

use crate::fixture::{Fixture, Precision};
use beit::apply::frozen::Tokenizer;
use beit::cpu::Cpu;
use beit::models::beit::{MaskedBatch, MaskedImageModel};
use beit::models::classifier::Classifier;
use beit::models::config::{BeitConfig, ClassifierConfig, SegmenterConfig};
use beit::models::encoder::EncoderInput;
use beit::models::segmenter::Segmenter;
use beit::params::Ctx;
use beit::real::Real;
use beit::tensor::{Ids, Tensor};
use beit::weights::{Project, Stated, load_model, load_model_as, load_weights};
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};

const CASE: &str = "15_weights";

/// Files, whose they are, and tensors that are left out: the indices of grids.
const CLASSIFIERS: [(&str, Project, usize); 6] = [
    ("hf_cls", Project::HuggingFace, 0),
    ("timm_cls.safetensors", Project::Unilm, 0),
    ("timm_cls.pth", Project::Unilm, 0),
    ("unilm_cls_bare.pth", Project::Unilm, 4),
    ("unilm_cls_module.pth", Project::Unilm, 4),
    ("unilm_cls_f16.pth", Project::Unilm, 4),
];

const SEGMENTERS: [(&str, Project, usize); 2] =
    [("hf_seg", Project::HuggingFace, 0), ("unilm_seg.pth", Project::Unilm, 4)];

const MASKED: [(&str, Project, usize); 4] = [
    ("hf_mim", Project::HuggingFace, 0),
    ("unilm_mim.pth", Project::Unilm, 1),
    ("unilm_mim_legacy.pth", Project::Unilm, 1),
    ("unilm_mim_with_args.pth", Project::Unilm, 1),
];

/// One trial per file and precision; of a file that is not in the folder, one that is ignored.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, run: fn(&Path, &str) -> Result<(), Failed>, precision: &str| {
        let (dir, file) = (dir.to_path_buf(), name.to_owned());
        let there = dir.join(CASE).join(name).exists();
        let trial = Trial::test(format!("{CASE}/{name}::{precision}"), move || run(&dir, &file));
        trials.push(trial.with_ignored_flag(!there));
    };
    for (file, ..) in CLASSIFIERS {
        add(file, classifier::<f64>, "f64");
        add(file, classifier::<f32>, "f32");
    }
    for (file, ..) in MASKED {
        add(file, masked::<f64>, "f64");
        add(file, masked::<f32>, "f32");
    }
    for (file, ..) in SEGMENTERS {
        add(file, segmenter::<f64>, "f64");
        add(file, segmenter::<f32>, "f32");
    }
    add("dalle_tiny_encoder.pkl", dalle, "tokens");
    trials
}

fn at(dir: &Path, file: &str) -> PathBuf {
    dir.join(CASE).join(file)
}

/// What the plan says of a file is what the table says.
fn judge_plan(
    model: &beit::weights::Model,
    (file, project, indices): (&str, Project, usize),
) -> Result<(), Failed> {
    let origin = model.origin.as_ref().ok_or("no origin")?;
    let ignored = &origin.plan.ignored;
    let all = ignored.iter().all(|(name, why)| {
        name.ends_with("relative_position_index") && why.starts_with("the index of the grid")
    });
    if origin.project != project || ignored.len() != indices || !all {
        return Err(format!("{file}: {}, left out {ignored:?}", origin.project).into());
    }
    if origin.plan.taken.len() != model.tensors.shapes().len() {
        return Err(format!("{file}: {} tensors are explained", origin.plan.taken.len()).into());
    }
    Ok(())
}

fn pixels<T: Real>(fx: &Fixture, bk: &Cpu<T>) -> Tensor<Cpu<T>> {
    let shape = fx.shape("in/pixels");
    let values = Fixture::to_nhwc(&fx.f64("in/pixels"), &shape);
    Tensor::from_f64(bk, &values, &[shape[0], shape[2], shape[3], 3])
}

/// The stored logits of the precision. Those of a file in half precision are of rounded weights: 2^-11 of each.
fn judge<T: Precision>(fx: &Fixture, file: &str, name: &str, got: &[f64]) -> Result<(), Failed> {
    let name = if T::NAME == "f64" { format!("{name}64") } else { name.to_owned() };
    if !file.contains("f16") {
        return fx.compare::<T>(&name, got);
    }
    let largest = fx.f64(&name).iter().fold(0.0f64, |m, x| m.max(x.abs()));
    fx.compare_within(&name, got, 2e-3 * largest)
}

fn classifier<T: Real + Precision>(dir: &Path, file: &str) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let read = load_model(&at(dir, file))?;
    let row = CLASSIFIERS.into_iter().find(|row| row.0 == file).expect("a row of the table");
    judge_plan(&read, row)?;
    let model = Classifier::new(&bk, read.sizes::<ClassifierConfig>()?);
    let w = load_weights(&bk, &read, &model.layout)?;
    let images = pixels(&fx, &bk);
    let logits = model.logits(Ctx::new(&bk, &w), &EncoderInput::of(&images));
    judge::<T>(&fx, file, "out/cls/logits", &logits.to_f64(&bk))
}

/// Both have the weights of one model, which transformers computed: the levels are read where it reads them.
fn segmenter<T: Real + Precision>(dir: &Path, file: &str) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let taps = file.ends_with(".pth").then_some([0, 1, 2, 3]);
    let read = load_model_as(&at(dir, file), &Stated { taps, ..Stated::default() })?;
    let row = SEGMENTERS.into_iter().find(|row| row.0 == file).expect("a row of the table");
    judge_plan(&read, row)?;
    let sizes = read.sizes::<SegmenterConfig>()?;
    assert_eq!((sizes.taps, sizes.encoder.depth, sizes.auxiliary), ([0, 1, 2, 3], 4, 10));
    let model = Segmenter::new(&bk, sizes);
    let w = load_weights(&bk, &read, &model.layout)?;
    let logits = model.logits(Ctx::new(&bk, &w), &pixels(&fx, &bk));
    let stored = fx.shape("out/seg/logits");
    judge::<T>(&fx, file, "out/seg/logits", &Fixture::to_nchw(&logits.to_f64(&bk), &stored))
}

fn masked<T: Real + Precision>(dir: &Path, file: &str) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let read = load_model(&at(dir, file))?;
    let row = MASKED.into_iter().find(|row| row.0 == file).expect("a row of the table");
    judge_plan(&read, row)?;
    let model = MaskedImageModel::new(&bk, read.sizes::<BeitConfig>()?);
    let w = load_weights(&bk, &read, &model.layout)?;
    let mask = fx.f64("in/bool_masked_pos");
    let (b, np) = (fx.shape("in/bool_masked_pos")[0], fx.shape("in/bool_masked_pos")[1]);
    let rows = (0..b).flat_map(|i| (1..=np).map(move |j| (i * (np + 1) + j) as u32)).collect();
    let batch = MaskedBatch {
        images: pixels(&fx, &bk),
        mask: Ids::from_vec(&bk, mask.iter().map(|&m| m as u32).collect(), &[b, np]),
        rows: Ids::from_vec(&bk, rows, &[b * np]),
        keep: None,
    };
    let logits = model.logits(Ctx::new(&bk, &w), &batch);
    judge::<T>(&fx, file, "out/mim/logits", &logits.to_f64(&bk))
}

/// The folder's two modules as a tokenizer: logits, and every token.
fn dalle(dir: &Path, _: &str) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<f32>::new());
    let folder = tempfile::tempdir()?;
    for (from, to) in [
        ("dalle_tiny_encoder.pkl", "encoder.pkl"),
        ("dalle_tiny_decoder_legacy.pkl", "decoder.pkl"),
    ] {
        std::fs::copy(at(dir, from), folder.path().join(to))?;
    }
    let tokenizer = Tokenizer::load(&bk, folder.path())?;
    let shape = fx.shape("dalle/in/image");
    let image = Fixture::to_nhwc(&fx.f64("dalle/in/image"), &shape);
    let x = Tensor::from_f64(&bk, &image, &[shape[0], shape[2], shape[3], 3]);
    let stored = fx.shape("dalle/out/encoder");
    let (logits, _) = tokenizer.dvae.encode(Ctx::new(&bk, &tokenizer.w), &x);
    let logits = Fixture::to_nchw(&logits.to_f64(&bk), &stored);
    fx.compare::<f32>("dalle/out/encoder", &logits)?;
    let theirs = Fixture::to_nhwc(&fx.f64("dalle/out/encoder"), &stored);
    let largest = |row: &[f64]| {
        let first = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
        (0..row.len()).fold(0, first) as u32
    };
    let want: Vec<u32> = theirs.chunks(stored[1]).map(largest).collect();
    let got = tokenizer.tokens(&bk, &x).to_vec(&bk);
    if got == want { Ok(()) } else { Err(format!("tokens {got:?}, stored {want:?}").into()) }
}
