//! Models of every kind with seeded numbers, and what they make of seeded images.

use super::run::Value;
use crate::cpu::Cpu;
use crate::data::Image;
use crate::data::pixels::PixelMap;
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::models::classifier::Classifier;
use crate::models::config::{ClassifierConfig, DvaeConfig, EncoderConfig, PixelValues, Pooling};
use crate::models::dvae::Dvae;
use crate::models::encoder::{Encoder, EncoderInput};
use crate::models::kind::ModelConfig;
use crate::ops::mean_pool::MeanPoolOp;
use crate::params::{Ctx, Layout, Params, arena_len};
use crate::rng::{Philox, Purpose};
use crate::tensor::Tensor;
use crate::weights::ORIGINAL;
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use std::collections::BTreeMap;

/// A model.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) config: ModelConfig,
    /// Small enough for a graph that is run naively.
    pub(super) small: bool,
    /// As its file holds them: shape and values.
    pub(super) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    layout: Layout,
    values: Vec<f32>,
}

/// Every part and every switch.
pub(super) fn samples() -> Vec<Sample> {
    let test = EncoderConfig::test();
    let plain = EncoderConfig { shared_rel_pos_bias: false, ..test.clone() };
    let mut all = Vec::new();
    let mut add = |name, config| all.push(Sample::new(name, config));
    for (name, encoder) in [
        ("encoder_shared_table", test.clone()),
        ("encoder_without_layer_scale", EncoderConfig { layer_scale: 0.0, ..test.clone() }),
        ("encoder_absolute_positions", EncoderConfig { abs_pos: true, ..plain.clone() }),
        ("encoder_without_positions", plain.clone()),
        ("encoder_tall", EncoderConfig { image: (12, 3), rel_pos_bias: true, ..plain.clone() }),
    ] {
        add(name, ModelConfig::Beit(encoder.with_vocab(11)));
    }
    add("encoder_over_pixels", ModelConfig::Beit(test.clone().with_pixels(PixelValues::Plain)));
    let classifier = ClassifierConfig::test();
    let class = ClassifierConfig { pooling: Pooling::Class, ..classifier.clone() };
    let of = |encoder| ClassifierConfig { encoder, ..classifier.clone() };
    let both = EncoderConfig { abs_pos: true, ..test.clone() };
    let odd =
        EncoderConfig { mlp_width: 13, heads: 3, layer_norm_eps: 1e-2, ..test }.with_width(12);
    let odd = EncoderConfig { mlp_width: 13, ..odd };
    let one = EncoderConfig { image: (3, 3), depth: 1, rel_pos_bias: true, ..plain };
    for (name, config) in [
        ("classifier_table_per_block", classifier.clone()),
        ("classifier_class_token", class),
        ("classifier_table_and_positions", of(both)),
        ("classifier_odd_widths", of(odd)),
        ("classifier_one_patch", of(one)),
        ("classifier_tiny", of(EncoderConfig::tiny())),
    ] {
        add(name, ModelConfig::Classifier(config));
    }
    let dvae = DvaeConfig::test();
    for (name, config) in [
        ("tokenizer", dvae.clone()),
        ("tokenizer_one_group", DvaeConfig { groups: 1, image: (5, 3), ..dvae.clone() }),
        ("tokenizer_two_blocks", DvaeConfig { groups: 2, blocks_per_group: 2, ..dvae }),
        ("tokenizer_tiny", DvaeConfig::tiny()),
    ] {
        add(name, ModelConfig::Dvae(config));
    }
    all
}

impl Sample {
    pub(super) fn new(name: &'static str, config: ModelConfig) -> Self {
        let layout = config.layout(&Cpu::<f32>::new());
        let values = numbers(arena_len(&layout), 1);
        let tensors = ORIGINAL.export(&layout, &values).into_iter();
        let tensors = tensors.map(|(name, shape, values)| (name, (shape, values))).collect();
        Self { name, config, small: !name.ends_with("tiny"), tensors, layout, values }
    }

    /// A tensor of its file.
    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>> {
        let found = self.tensors.get(name).map(|(_, values)| values.clone());
        found.ok_or_else(|| Error::config(format!("{}: no tensor {name}", self.name)))
    }

    /// Images as a graph reads them, and what the model makes of them, by the names of a graph's outputs.
    pub(super) fn run(&self, batch: usize) -> (ArrayD<f32>, BTreeMap<String, Value>) {
        let bk = Cpu::<f32>::new();
        let w = Params::from_host(&bk, &self.layout, &self.values);
        let ctx = Ctx::new(&bk, &w);
        match &self.config {
            ModelConfig::Beit(sizes) => {
                let model = MaskedImageModel::new(&bk, sizes);
                let x = numbers(batch * pixels(sizes.encoder.image), 2);
                let outputs = features(ctx, &model.encoder, &sizes.encoder, &x);
                (channels_first(&x, batch, sizes.encoder.image), outputs)
            }
            ModelConfig::Classifier(sizes) => {
                let (model, image) = (Classifier::new(&bk, sizes), sizes.encoder.image);
                let x = numbers(batch * pixels(image), 2);
                let mut outputs = features(ctx, &model.encoder, &sizes.encoder, &x);
                let images = images(&bk, &x, image);
                let logits = model.logits(ctx, &EncoderInput::of(&images));
                outputs.insert("logits".to_owned(), value(logits.shape(), logits.to_vec(&bk)));
                (channels_first(&x, batch, image), outputs)
            }
            ModelConfig::Bert(_)
            | ModelConfig::Encoder(_)
            | ModelConfig::Segmenter(_)
            | ModelConfig::Vae(_) => {
                unreachable!("none is among the samples")
            }
            ModelConfig::Dvae(sizes) => {
                let (x, mapped) = byte_images(batch, sizes.image);
                let tokens = Dvae::new(sizes).tokens(ctx, &images(&bk, &mapped, sizes.image));
                let whole = tokens.to_vec(&bk).into_iter().map(i64::from).collect();
                let whole = ArrayD::from_shape_vec(IxDyn(tokens.shape()), whole).unwrap();
                let outputs = [("tokens".to_owned(), Value::Whole(whole))].into();
                (channels_first(&x, batch, sizes.image), outputs)
            }
        }
    }

    /// Images as a graph reads them, and a tokenizer's logits `[B,K,h,w]`.
    pub(super) fn token_logits(&self, batch: usize) -> Option<(ArrayD<f32>, Value)> {
        let ModelConfig::Dvae(sizes) = &self.config else { return None };
        let bk = Cpu::<f32>::new();
        let w = Params::from_host(&bk, &self.layout, &self.values);
        let (x, mapped) = byte_images(batch, sizes.image);
        let dvae = Dvae::new(sizes);
        let logits = dvae.encode(Ctx::new(&bk, &w), &images(&bk, &mapped, sizes.image)).0;
        let logits = ArrayD::from_shape_vec(IxDyn(logits.shape()), logits.to_vec(&bk)).unwrap();
        let logits = logits.permuted_axes(IxDyn(&[0, 3, 1, 2]));
        Some((channels_first(&x, batch, sizes.image), Value::Real(logits)))
    }
}

/// Images of bytes, from 0 to 1 and as a tokenizer maps them.
fn byte_images(batch: usize, (h, w): (usize, usize)) -> (Vec<f32>, Vec<f32>) {
    let random = numbers(batch * pixels((h, w)), 2);
    let bytes: Vec<u8> = random.iter().map(|x| (x * 127.0 + 128.0) as u8).collect();
    let x = bytes.iter().map(|&x| f32::from(x) / 255.0).collect();
    (x, PixelMap::map_pixels().apply(&Image::new(batch * h, w, bytes)))
}

/// As `beit embed` shows the last block.
fn features(
    ctx: Ctx<Cpu<f32>>,
    encoder: &Encoder<Cpu<f32>>,
    sizes: &EncoderConfig,
    x: &[f32],
) -> BTreeMap<String, Value> {
    let (bk, images) = (ctx.bk, images(ctx.bk, x, sizes.image));
    let stream = encoder.features(ctx, &EncoderInput::of(&images), &[sizes.depth]).taps.remove(0);
    let mean = bk.mean_pool_forward(&stream);
    let both = [("last_hidden_state", &stream), ("pooled", &mean)];
    both.map(|(name, x)| (name.to_owned(), value(x.shape(), x.to_vec(bk)))).into()
}

fn pixels((h, w): (usize, usize)) -> usize {
    h * w * 3
}

fn images(bk: &Cpu<f32>, x: &[f32], (h, w): (usize, usize)) -> Tensor<Cpu<f32>> {
    Tensor::from_f32(bk, x.to_vec(), &[x.len() / pixels((h, w)), h, w, 3])
}

fn channels_first(x: &[f32], batch: usize, (h, w): (usize, usize)) -> ArrayD<f32> {
    let x = ArrayViewD::from_shape(IxDyn(&[batch, h, w, 3]), x).unwrap();
    x.permuted_axes(IxDyn(&[0, 3, 1, 2])).as_standard_layout().into_owned()
}

fn value(shape: &[usize], values: Vec<f32>) -> Value {
    Value::Real(ArrayD::from_shape_vec(IxDyn(shape), values).unwrap())
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    (0..n).map(|_| rng.uniform(-1.0, 1.0) as f32).collect()
}
