//! DINO's student as a case.

use super::*;
use crate::models::config::{EncoderConfig, encoder_flops};
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};

/// A student at one size: its outputs, or the loss against targets.
pub struct DinoCase {
    instance: &'static str,
    config: DinoConfig,
    /// Size of the views, which may not be that of the model.
    view: (usize, usize),
    loss: bool,
}

impl DinoCase {
    const VIEWS: usize = 3;
    const TEMPERATURE: f64 = 0.5;
    /// Scale of the loss of a case: anything but 1.
    const SCALE: f64 = 0.3;
}

impl Case for DinoCase {
    fn name(&self) -> String {
        format!("model_dino/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let layout = Dino::new(&crate::cpu::Cpu::<f64>::new(), &self.config).layout;
        let (n, (h, w), k) = (Self::VIEWS, self.view, self.config.outputs);
        let inputs = Inputs::new(&self.name()).params(&layout, 0.5).elem("images", &[n, h, w, 3]);
        if !self.loss {
            return inputs;
        }
        // Of one teacher's view or of two.
        let target = |i: usize| ((i % 5 + 1) * (1 + i / k % 2)) as f64 / (3 * k) as f64;
        inputs.push("targets", &[n, k], (0..n * k).map(target).collect(), Kind::Master, false)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (model, images) = (Dino::new(bk, &self.config), io.elem("images"));
        let input = EncoderInput::of(&images);
        let (s, cache) = model.forward(Ctx::new(bk, &io.w), &input);
        let ds = if self.loss {
            let targets = io.master("targets");
            let targets = (&targets, Self::TEMPERATURE);
            let losses = model.loss(bk, &s, targets, 0.0).0;
            io.output_sums(bk, &[(Self::SCALE, &losses.rows)]);
            io.wants_backward()
                .then(|| model.loss(bk, &s, targets, Self::SCALE * io.upstream_scalar(0)).1)
        } else {
            io.output(bk, &s);
            io.wants_backward().then(|| io.upstream(bk, 0))
        };
        if let Some(ds) = ds {
            let dx = model.backward(&mut io.grad_of(bk), &input, cache, &ds, true);
            io.grad(bk, "images", &dx.expect("asked for"));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    /// What is divided by its length may be short.
    fn amplifies(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let encoder = EncoderConfig { image: self.view, ..self.config.encoder.clone() };
        let flops = Self::VIEWS as f64 * encoder_flops(&encoder);
        Cost::of_model(flops, self.config.parameters() as f64)
    }
}

/// With lengths and without, views of another size, the loss.
pub fn cases<V: Visitor>(v: &mut V) {
    let lengths = DinoConfig::test();
    let unit = DinoConfig { lengths: false, ..DinoConfig::test() };
    let (p, own) = (lengths.encoder.patch, lengths.encoder.image);
    for (instance, config, view, loss) in [
        ("lengths", &lengths, own, false),
        ("unit", &unit, own, false),
        ("other_size", &lengths, (p, 2 * p), false),
        ("loss", &lengths, own, true),
    ] {
        v.visit(DinoCase { instance, config: config.clone(), view, loss });
    }
}
