//! The encoder as a case: several heads' worth of gradients, on the grid it was made for and on others.

use super::*;
use crate::models::config::encoder_flops;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};
use crate::params::Layout;

/// The encoder at one size, read at some taps.
pub struct EncoderCase {
    instance: &'static str,
    config: EncoderConfig,
    /// Size of the images, which may not be that of the model.
    image: (usize, usize),
    taps: &'static [usize],
    norm: bool,
    masked: bool,
    recompute: bool,
}

impl EncoderCase {
    const BATCH: usize = 2;

    fn build<B: Backend>(&self, bk: &B) -> (Encoder<B>, Layout) {
        let mut reg = Registry::new();
        let parts = EncoderParts { mask_token: self.masked, norm: self.norm };
        let mut encoder = Encoder::new(bk, &mut reg, &self.config, parts);
        encoder.recompute = self.recompute;
        (encoder, reg.finish())
    }

    fn patches(&self) -> usize {
        (self.image.0 / self.config.patch) * (self.image.1 / self.config.patch)
    }
}

impl Case for EncoderCase {
    fn name(&self) -> String {
        format!("model_encoder/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let layout = self.build(&crate::cpu::Cpu::<f64>::new()).1;
        let (b, (h, w), np) = (Self::BATCH, self.image, self.patches());
        let keep = (0..2 * self.config.depth * b).map(|i| if i % 3 == 1 { 0.0 } else { 1.25 });
        let keep = keep.collect();
        let inputs = Inputs::new(&self.name()).params(&layout, 0.3).elem("images", &[b, h, w, 3]);
        let shape = [2 * self.config.depth, b];
        let inputs = inputs.push("keep", &shape, keep, Kind::Master, false);
        if !self.masked {
            return inputs;
        }
        inputs.ids("mask", &[b, np], (0..b * np).map(|i| u32::from(i % 3 == 0)).collect())
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (encoder, _) = self.build(bk);
        let (images, keep) = (io.elem("images"), io.master("keep").to_f64(bk));
        let mask = self.masked.then(|| io.ids("mask"));
        let mut keep = keep.chunks(Self::BATCH);
        let mut next = || keep.next().map(|k| Master::from_f64(bk, k, &[Self::BATCH]));
        let keep: DropPath<B> = (0..self.config.depth).map(|_| [next(), next()]).collect();
        let input = EncoderInput { images: &images, mask: mask.as_ref(), keep: Some(&keep) };
        let (features, cache) = encoder.forward(Ctx::new(bk, &io.w), &input, self.taps);
        let Features { y, taps } = features;
        for s in &taps {
            io.output(bk, s);
        }
        if let Some(y) = &y {
            io.output(bk, y);
        }
        if io.wants_backward() {
            let given = self.taps.iter().enumerate().map(|(i, &l)| (l, io.upstream(bk, i)));
            let given = given.collect();
            let dy = y.is_some().then(|| io.upstream(bk, taps.len()));
            let upstream = FeatureGradients { dy, taps: given };
            let dx = encoder.backward(&mut io.grad_of(bk), &input, cache, upstream, true);
            io.grad(bk, "images", &dx.expect("asked for"));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let config = EncoderConfig { image: self.image, ..self.config.clone() };
        let flops = Self::BATCH as f64 * encoder_flops(&config);
        let elements = config.parameters() as f64;
        Cost::of_model(flops, elements)
    }
}

/// Taps with and without a final norm; a larger and a smaller grid, rectangular, with every kind of
/// table; blocks computed again.
pub fn cases<V: Visitor>(v: &mut V) {
    let test = EncoderConfig::test();
    let own = EncoderConfig {
        shared_rel_pos_bias: false,
        rel_pos_bias: true,
        abs_pos: true,
        ..test.clone()
    };
    let (p, image) = (test.patch, test.image);
    let (wide, small) = ((3 * p, 5 * p), (2 * p, p));
    // Large enough for tables to be resized geometrically.
    let own_3x4 = EncoderConfig { image: (3 * p, 4 * p), ..own.clone() };
    // An MLP whose width is no multiple of the encoder's, as some projects have.
    let uneven = EncoderConfig { depth: 1, mlp_width: 136, ..test.clone().with_width(40) };
    for (instance, config, image, taps, norm, masked, recompute) in [
        ("taps", &test, image, &[0, 1, 2][..], true, true, false),
        ("no_norm", &own, image, &[1, 2], false, false, false),
        ("uneven_mlp", &uneven, image, &[1], true, false, false),
        ("wide_grid", &test, wide, &[], true, true, false),
        ("small_grid", &own_3x4, small, &[0, 2], true, false, false),
        ("recompute", &own_3x4, wide, &[1], true, true, true),
    ] {
        let config = config.clone();
        v.visit(EncoderCase { instance, config, image, taps, norm, masked, recompute });
    }
}
