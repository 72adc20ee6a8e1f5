//! The tokenizer's whole training loss as a case.

use super::*;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};
use crate::ops::convert::to_master;

/// The whole training loss at one size, as one number.
pub struct DvaeCase {
    instance: &'static str,
    batch: usize,
    config: DvaeConfig,
    likelihood: Likelihood,
}

impl Case for DvaeCase {
    fn name(&self) -> String {
        format!("model_dvae/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let (b, (ih, iw), (h, w)) = (self.batch, self.config.image, self.config.grid());
        let k = self.config.vocab;
        let mut inputs = Inputs::new(&self.name()).params(&Dvae::new(&self.config).layout, 0.35);
        let pixels = (0..b * ih * iw * 3).map(|_| inputs.rng().uniform(0.1, 0.9)).collect();
        let noise = inputs.normal(b * h * w * k);
        inputs.push("x", &[b, ih, iw, 3], pixels, Kind::Elem, true).push(
            "noise",
            &[b, h, w, k],
            noise,
            Kind::Master,
            false,
        )
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let model = Dvae::new(&self.config);
        let (x, noise) = (io.elem("x"), io.master("noise"));
        let target = to_master(bk, &x);
        let mut step = DvaeStep {
            temperature: 0.8,
            kl_weight: 1.7,
            usage_weight: 0.6,
            straight_through: false,
            likelihood: self.likelihood,
            scale: 0.0,
        };
        let noise = Noise::Given(&noise);
        let forward =
            model.loss_and_gradients(&mut io.grad_of(bk), &x, &target, &noise, &step, false);
        let positions = forward.kl.len() as f64;
        let loss = [
            (1.0, &forward.reconstruction),
            (step.kl_weight, &forward.kl),
            (step.usage_weight * positions, &forward.unused),
        ];
        io.output_sums(bk, &loss);
        if io.wants_backward() {
            step.scale = io.upstream_scalar(0);
            let losses =
                model.loss_and_gradients(&mut io.grad_of(bk), &x, &target, &noise, &step, true);
            let dx = pixel_gradient(bk, losses.dx, (&target, &losses.out), step.scale);
            io.grad(bk, "x", &dx);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let weights = crate::params::compact_len(&Dvae::new(&self.config).layout) as f64;
        let positions = (self.batch * self.config.tokens()) as f64;
        Cost {
            flops_forward: 2.0 * weights * positions,
            flops_backward: 4.0 * weights * positions,
            elements_forward: weights,
            elements_backward: 2.0 * weights,
        }
    }
}

/// The gradient of the pixels as operand and as target together, of losses that were asked for it.
pub(in crate::models) fn pixel_gradient<B: Backend>(
    bk: &B,
    dx: Option<(Tensor<B>, Option<Master<B>>)>,
    (target, out): (&Master<B>, &Master<B>),
    scale: f64,
) -> Master<B> {
    let (through_encoder, through_target) = dx.expect("asked for");
    let mut dx = to_master(bk, &through_encoder);
    match through_target {
        Some(dtarget) => bk.add(&mut dx, &dtarget),
        // The squared error's gradient of its target is the negative of the output's.
        None => {
            let dout = bk.mse_backward(target, out, -scale).to_f64(bk);
            let own: Vec<f64> = dout.chunks(6).flat_map(|p| [p[0], p[1], p[2]]).collect();
            bk.add(&mut dx, &Master::from_f64(bk, &own, target.shape()));
        }
    }
    dx
}

/// Both likelihoods, a rectangular view, and two blocks a group.
pub fn cases<V: Visitor>(v: &mut V) {
    // Few pixels: every activation is a ReLU that a difference quotient may straddle.
    let test = DvaeConfig { image: (4, 8), ..DvaeConfig::test() };
    let deep = DvaeConfig { groups: 2, blocks_per_group: 2, image: (4, 2), ..test.clone() };
    for (instance, batch, config, likelihood) in [
        ("logit_laplace", 2, test.clone(), Likelihood::LogitLaplace),
        ("squared_error", 1, test, Likelihood::SquaredError),
        ("two_blocks", 2, deep, Likelihood::LogitLaplace),
    ] {
        v.visit(DvaeCase { instance, batch, config, likelihood });
    }
}
