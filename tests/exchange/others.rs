//! The half of `round_trips.py` that is ours: models of other libraries, read, run and written again.

use beit::cpu::Cpu;
use beit::models::beit::{MaskedBatch, MaskedImageModel};
use beit::models::classifier::Classifier;
use beit::models::config::{BeitConfig, ClassifierConfig, DvaeConfig, SegmenterConfig};
use beit::models::dvae::Dvae;
use beit::models::encoder::EncoderInput;
use beit::models::kind::ModelConfig;
use beit::models::segmenter::Segmenter;
use beit::ops::Backend;
use beit::params::Ctx;
use beit::real::Real;
use beit::tensor::{Ids, Tensor};
use beit::weights::exchange::{ExportFormat, export};
use beit::weights::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[test]
fn for_other_programs() {
    let Some(folder) = std::env::var_os("BEIT_EXCHANGE") else {
        println!("skipped: BEIT_EXCHANGE names no folder of tests/exchange/round_trips.py");
        return;
    };
    let cases = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let cases: Vec<PathBuf> = cases.filter(|path| path.join("case.safetensors").exists()).collect();
    assert!(!cases.is_empty(), "no case");
    for case in cases {
        one(&case);
    }
}

/// Writes what the model of a case gives, and the model in every format that has its kind.
fn one(case: &Path) {
    let path = ["model", "model.pth", "model.safetensors"].map(|name| case.join(name));
    let path = path.iter().find(|path| path.exists()).expect("a model");
    let stored = TensorFile::read(&case.join("case.safetensors")).unwrap();
    let (shape, images) = stored.f32s("images").unwrap();
    // Of a file that does not say which of two rectangles its images are.
    let stated = Stated {
        image: (!path.is_dir()).then(|| (shape[2], shape[3])),
        heads: stored.u8s("heads").ok().map(|(_, heads)| usize::from(heads[0])),
        ..Stated::default()
    };
    let model = load_model_as(path, &stated).unwrap();
    let mask = stored.u8s("mask").map(|(_, mask)| mask).unwrap_or_default();
    let input = Inputs { shape, images, mask };
    let (single, tokens) = output::<f32>(&model, &input);
    let (double, _) = output::<f64>(&model, &input);
    let single: Vec<f32> = single.1.into_iter().map(|x| x as f32).collect();
    let mut views = vec![
        View::new("f32", &double.0, Slice::F32(&single)),
        View::new("f64", &double.0, Slice::F64(&double.1)),
    ];
    if let Some((shape, tokens)) = &tokens {
        views.push(View::new("tokens", shape, Slice::U32(tokens)));
    }
    std::fs::write(case.join("ours.safetensors"), encode(&views, &BTreeMap::new())).unwrap();
    for word in ExportFormat::WORDS {
        let folder = case.join(word);
        std::fs::create_dir_all(&folder).unwrap();
        let format: ExportFormat = word.parse().unwrap();
        let Err(refused) = export(&model, format, &folder) else { continue };
        std::fs::remove_dir_all(&folder).unwrap();
        let text = refused.to_string();
        let known = match (&model.config, format) {
            (ModelConfig::Dvae(_), format) => {
                !matches!(format, ExportFormat::Dalle | ExportFormat::Onnx)
            }
            (_, ExportFormat::Dalle) => true,
            (ModelConfig::Segmenter(_), ExportFormat::Timm | ExportFormat::Onnx) => true,
            (ModelConfig::Segmenter(sizes), ExportFormat::Unilm) if sizes.taps[0] == 0 => true,
            _ => ["layer_norm_eps", "on a grid that is no square"]
                .iter()
                .any(|words| text.contains(words)),
        };
        assert!(known, "{}: {word}: {text}", case.display());
    }
}

/// What a model is shown.
struct Inputs {
    shape: Vec<usize>,
    images: Vec<f32>,
    mask: Vec<u8>,
}

/// Shape and values.
type Numbers = (Vec<usize>, Vec<f64>);
/// Shape and tokens, of a tokenizer.
type Tokens = Option<(Vec<usize>, Vec<u32>)>;

/// `[b,h,w,k]` as `[b,k,h,w]`.
fn channels_first(values: &[f64], [_, h, w, k]: [usize; 4]) -> Vec<f64> {
    let at = |i: usize| (i / (k * h * w) * h * w + i % (h * w)) * k + i / (h * w) % k;
    (0..values.len()).map(|i| values[at(i)]).collect()
}

/// Logits in the shape of the library's, and tokens of a tokenizer.
fn output<T: Real>(model: &Model, input: &Inputs) -> (Numbers, Tokens)
where
    Cpu<T>: Backend,
{
    let bk = Cpu::<T>::new();
    let [b, c, h, w] = input.shape[..] else { panic!("{:?}", input.shape) };
    let at = |i: usize| (i / (c * h * w) * c + i % c) * h * w + i / c % (h * w);
    let images: Vec<f64> = (0..b * c * h * w).map(|i| f64::from(input.images[at(i)])).collect();
    let images = Tensor::from_f64(&bk, &images, &[b, h, w, c]);
    match &model.config {
        ModelConfig::Classifier(_) => {
            let net = Classifier::new(&bk, model.sizes::<ClassifierConfig>().unwrap());
            let weights = load_weights(&bk, model, &net.layout).unwrap();
            let logits = net.logits(Ctx::new(&bk, &weights), &EncoderInput::of(&images));
            ((logits.shape().to_vec(), logits.to_f64(&bk)), None)
        }
        ModelConfig::Beit(_) => {
            let net = MaskedImageModel::new(&bk, model.sizes::<BeitConfig>().unwrap());
            let weights = load_weights(&bk, model, &net.layout).unwrap();
            let np = net.config.encoder.patches();
            let rows = (0..b * np).map(|i| (i / np * (np + 1) + 1 + i % np) as u32).collect();
            let mask = input.mask.iter().map(|m| u32::from(*m)).collect();
            let batch = MaskedBatch {
                images,
                mask: Ids::from_vec(&bk, mask, &[b, np]),
                rows: Ids::from_vec(&bk, rows, &[b * np]),
                keep: None,
            };
            let logits = net.logits(Ctx::new(&bk, &weights), &batch);
            ((vec![b, np, net.config.outputs()], logits.to_f64(&bk)), None)
        }
        ModelConfig::Segmenter(_) => {
            let net = Segmenter::new(&bk, model.sizes::<SegmenterConfig>().unwrap());
            let weights = load_weights(&bk, model, &net.layout).unwrap();
            let logits = net.logits(Ctx::new(&bk, &weights), &images);
            let [b, h, w, k] = logits.shape()[..] else { panic!("{:?}", logits.shape()) };
            ((vec![b, k, h, w], channels_first(&logits.to_f64(&bk), [b, h, w, k])), None)
        }
        ModelConfig::Bert(_) | ModelConfig::Encoder(_) | ModelConfig::Vae(_) => {
            unreachable!("none is among the models")
        }
        ModelConfig::Dvae(_) => {
            let net = Dvae::new(model.sizes::<DvaeConfig>().unwrap());
            let weights = load_weights(&bk, model, &net.layout).unwrap();
            let ctx = Ctx::new(&bk, &weights);
            let (logits, _) = net.encode(ctx, &images);
            let [b, h, w, k] = logits.shape()[..] else { panic!("{:?}", logits.shape()) };
            let values = channels_first(&logits.to_f64(&bk), [b, h, w, k]);
            let tokens = net.tokens(ctx, &images).to_vec(&bk);
            ((vec![b, k, h, w], values), Some((vec![b, h, w], tokens)))
        }
    }
}
