//! The classifier as a case.

use super::*;
use crate::models::config::{EncoderConfig, encoder_flops};
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};

/// A whole classifier at one size.
pub struct ClassifierCase {
    instance: &'static str,
    config: ClassifierConfig,
    /// Size of the images, which may not be that of the model.
    image: (usize, usize),
}

impl ClassifierCase {
    const BATCH: usize = 3;

    fn build<B: Backend>(&self, bk: &B) -> Classifier<B> {
        Classifier::new(bk, &self.config)
    }
}

impl Case for ClassifierCase {
    fn name(&self) -> String {
        format!("model_classifier/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let layout = self.build(&crate::cpu::Cpu::<f64>::new()).layout;
        let (b, depth, (h, w)) = (Self::BATCH, self.config.encoder.depth, self.image);
        let keep = (0..2 * depth * b).map(|i| if i % 4 == 1 { 0.0 } else { 1.25 }).collect();
        let inputs = Inputs::new(&self.name()).params(&layout, 0.3).elem("images", &[b, h, w, 3]);
        inputs.push("keep", &[2 * depth, b], keep, Kind::Master, false)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let model = self.build(bk);
        let (images, keep) = (io.elem("images"), io.master("keep").to_f64(bk));
        let mut keep = keep.chunks(Self::BATCH);
        let mut next = || keep.next().map(|k| Master::from_f64(bk, k, &[Self::BATCH]));
        let keep = (0..self.config.encoder.depth).map(|_| [next(), next()]).collect();
        let input = EncoderInput { keep: Some(&keep), ..EncoderInput::of(&images) };
        let (logits, cache) = model.forward(Ctx::new(bk, &io.w), &input);
        io.output(bk, &logits);
        if io.wants_backward() {
            let dlogits = io.upstream(bk, 0);
            let dx = model.backward(&mut io.grad_of(bk), &input, cache, &dlogits, true);
            io.grad(bk, "images", &dx.expect("asked for"));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let encoder = EncoderConfig { image: self.image, ..self.config.encoder.clone() };
        let flops = Self::BATCH as f64 * encoder_flops(&encoder);
        let elements = self.config.parameters() as f64;
        Cost::of_model(flops, elements)
    }
}

/// Both poolings, with a table in each block and with absolute positions; a larger, rectangular image.
pub fn cases<V: Visitor>(v: &mut V) {
    let mean = ClassifierConfig::test();
    let plain = EncoderConfig {
        rel_pos_bias: false,
        abs_pos: true,
        layer_scale: 0.0,
        ..mean.encoder.clone()
    };
    let class =
        ClassifierConfig { encoder: plain, pooling: Pooling::Class, ..ClassifierConfig::test() };
    let (p, image) = (mean.encoder.patch, mean.encoder.image);
    for (instance, config, image) in
        [("mean", &mean, image), ("class", &class, image), ("other_size", &mean, (3 * p, 4 * p))]
    {
        v.visit(ClassifierCase { instance, config: config.clone(), image });
    }
}
