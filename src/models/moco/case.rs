//! MoCo v3's encoder and heads as a case.

use super::*;
use crate::models::config::encoder_flops;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};

/// The queries at one size, or the loss against keys.
pub struct MocoCase {
    instance: &'static str,
    loss: bool,
}

impl MocoCase {
    const BATCH: usize = 5;
    const TEMPERATURE: f64 = 0.4;
    /// Scale of the loss of a case: anything but 1.
    const SCALE: f64 = 0.3;
}

impl Case for MocoCase {
    fn name(&self) -> String {
        format!("model_moco/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let config = MocoConfig::test();
        let layout = Moco::new(&crate::cpu::Cpu::<f64>::new(), &config).layout;
        let (b, (h, w), d) = (Self::BATCH, config.encoder.image, config.outputs);
        let inputs = Inputs::new(&self.name()).params(&layout, 0.5).elem("images", &[b, h, w, 3]);
        if !self.loss {
            return inputs;
        }
        let key = |i: usize| if (i / d + i % d).is_multiple_of(3) { 0.8 } else { -0.3 };
        inputs.push("keys", &[b, d], (0..b * d).map(key).collect(), Kind::Master, false)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (model, images) = (Moco::new(bk, &MocoConfig::test()), io.elem("images"));
        let input = EncoderInput::of(&images);
        let (q, cache) = model.forward(Ctx::new(bk, &io.w), &input);
        let dq = if self.loss {
            let keys = io.master("keys");
            let keys = (&keys, Self::TEMPERATURE);
            let losses = model.loss(bk, &q, keys, 0.0).0;
            io.output_sums(bk, &[(2.0 * Self::TEMPERATURE * Self::SCALE, &losses.rows)]);
            io.wants_backward()
                .then(|| model.loss(bk, &q, keys, Self::SCALE * io.upstream_scalar(0)).1)
        } else {
            io.output(bk, &q);
            io.wants_backward().then(|| io.upstream(bk, 0))
        };
        if let Some(dq) = dq {
            let dx = model.backward(&mut io.grad_of(bk), &input, cache, &dq, true).0;
            io.grad(bk, "images", &dx.expect("asked for"));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    /// Batch norms of five rows.
    fn amplifies(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let config = MocoConfig::test();
        let flops = Self::BATCH as f64 * encoder_flops(&config.encoder);
        Cost::of_model(flops, config.parameters() as f64)
    }
}

/// The queries, and the loss.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, loss) in [("queries", false), ("loss", true)] {
        v.visit(MocoCase { instance, loss });
    }
}
