//! The Gaussian VAE's whole training loss as a case.

use super::*;
use crate::models::config::{DvaeConfig, TrunkConfig};
use crate::models::dvae::pixel_gradient;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};
use crate::ops::convert::to_master;

/// The whole training loss at one size, as one number.
pub struct VaeCase {
    instance: &'static str,
    batch: usize,
    config: VaeConfig,
    likelihood: Likelihood,
}

impl Case for VaeCase {
    fn name(&self) -> String {
        format!("model_vae/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let (b, (ih, iw)) = (self.batch, self.config.trunk.image);
        let ((h, w), d) = (self.config.trunk.grid(), self.config.latent_channels);
        let layout = Vae::new(&self.config).networks.layout;
        let mut inputs = Inputs::new(&self.name()).params(&layout, 0.35);
        let pixels = (0..b * ih * iw * 3).map(|_| inputs.rng().uniform(0.1, 0.9)).collect();
        let noise = inputs.normal(b * h * w * d);
        inputs.push("x", &[b, ih, iw, 3], pixels, Kind::Elem, true).push(
            "noise",
            &[b, h, w, d],
            noise,
            Kind::Master,
            false,
        )
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let model = Vae::new(&self.config);
        let (x, noise) = (io.elem("x"), io.master("noise"));
        let target = to_master(bk, &x);
        let mut step = VaeStep { kl_weight: 1.7, likelihood: self.likelihood, scale: 0.0 };
        let noise = Noise::Given(&noise);
        let forward =
            model.loss_and_gradients(&mut io.grad_of(bk), &x, &target, &noise, &step, false);
        io.output_sums(bk, &[(1.0, &forward.reconstruction), (step.kl_weight, &forward.kl)]);
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

    /// Deviations are powers of e: a rounding of their logarithms grows with them, through the whole decoder.
    fn amplifies(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let layout = Vae::new(&self.config).networks.layout;
        let weights = crate::params::compact_len(&layout) as f64;
        let positions = (self.batch * self.config.positions()) as f64;
        Cost {
            flops_forward: 2.0 * weights * positions,
            flops_backward: 4.0 * weights * positions,
            elements_forward: weights,
            elements_backward: 2.0 * weights,
        }
    }
}

/// Both likelihoods, a rectangular view, one latent channel, and two blocks a group.
pub fn cases<V: Visitor>(v: &mut V) {
    // Few pixels: every activation is a ReLU that a difference quotient may straddle.
    let trunk = TrunkConfig { image: (4, 8), ..DvaeConfig::test().trunk() };
    let deep = TrunkConfig { groups: 2, blocks_per_group: 2, image: (4, 2), ..trunk.clone() };
    for (instance, batch, trunk, latent_channels, likelihood) in [
        ("logit_laplace", 2, trunk.clone(), 3, Likelihood::LogitLaplace),
        ("squared_error", 1, trunk, 1, Likelihood::SquaredError),
        ("two_blocks", 2, deep, 2, Likelihood::LogitLaplace),
    ] {
        v.visit(VaeCase {
            instance,
            batch,
            config: VaeConfig { trunk, latent_channels },
            likelihood,
        });
    }
}
