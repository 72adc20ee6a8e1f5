//! The masked image model as a case.

use super::*;
use crate::models::config::{EncoderConfig, PixelValues};
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};
use crate::tensor::Master;

/// The whole masked-image model at one size.
pub struct BeitCase {
    instance: &'static str,
    batch: usize,
    config: BeitConfig,
}

impl Case for BeitCase {
    fn name(&self) -> String {
        format!("model_beit/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let model = MaskedImageModel::new(&crate::cpu::Cpu::<f64>::new(), &self.config);
        let (b, np, (ih, iw)) =
            (self.batch, self.config.encoder.patches(), self.config.encoder.image);
        let mut inputs = Inputs::new(&self.name()).params(&model.layout, 0.3);
        let mask: Vec<bool> = (0..b * np).map(|_| inputs.rng().unit() < 0.45).collect();
        let rows = masked_rows(&mask, np);
        let p = 0.3;
        let keep: Vec<f64> = (0..2 * self.config.encoder.depth * b)
            .map(|_| if inputs.rng().unit() < p { 0.0 } else { 1.0 / (1.0 - p) })
            .collect();
        let mask = mask.into_iter().map(u32::from).collect();
        inputs
            .elem("images", &[b, ih, iw, 3])
            .ids("mask", &[b, np], mask)
            .ids("rows", &[rows.len()], rows)
            .push("keep", &[2 * self.config.encoder.depth, b], keep, Kind::Master, false)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let model = MaskedImageModel::new(bk, &self.config);
        let keep = io.master("keep").to_f64(bk);
        let mut keep = keep.chunks(self.batch);
        let mut next = || keep.next().map(|k| Master::from_f64(bk, k, &[self.batch]));
        let keep = Some((0..self.config.encoder.depth).map(|_| [next(), next()]).collect());
        let batch = MaskedBatch {
            images: io.elem("images"),
            mask: io.ids("mask"),
            rows: io.ids("rows"),
            keep,
        };
        let (logits, cache) = model.forward(Ctx::new(bk, &io.w), &batch);
        io.output(bk, &logits);
        if io.wants_backward() {
            let dlogits = io.upstream(bk, 0);
            let dx = model.backward(&mut io.grad_of(bk), &batch, cache, dlogits, true);
            io.grad(bk, "images", &dx.expect("asked for"));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let flops =
            self.batch as f64 * forward_flops(&self.config, self.config.encoder.patches() * 2 / 5);
        let elements = crate::params::compact_len(
            &MaskedImageModel::new(&crate::cpu::Cpu::<f32>::new(), &self.config).layout,
        ) as f64;
        Cost::of_model(flops, elements)
    }
}

/// The shared table, own tables with absolute positions, the plain ViT of the paper, and a head over pixels.
pub fn cases<V: Visitor>(v: &mut V) {
    let test = EncoderConfig::test();
    let own = EncoderConfig {
        shared_rel_pos_bias: false,
        rel_pos_bias: true,
        abs_pos: true,
        ..test.clone()
    };
    let plain = EncoderConfig {
        shared_rel_pos_bias: false,
        abs_pos: true,
        layer_scale: 0.0,
        depth: 1,
        ..test.clone()
    };
    for (instance, batch, config) in
        [("shared_table", 2, test), ("own_tables", 2, own), ("plain", 3, plain)]
    {
        let config = config.with_vocab(11);
        v.visit(BeitCase { instance, batch, config });
    }
    let config =
        EncoderConfig { depth: 1, ..EncoderConfig::test() }.with_pixels(PixelValues::Plain);
    v.visit(BeitCase { instance: "pixels", batch: 2, config });
}
