//! Case 05: both networks of the tokenizer with the relaxed and the straight-through code, the ELBO
//! loss, and every gradient.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::models::config::DvaeConfig;
use beit::models::dvae::{Dvae, DvaeStep, Likelihood, pixels};
use beit::ops::convert::ConvertOp;
use beit::ops::gumbel_softmax::{GumbelSoftmaxOp, Noise};
use beit::ops::kl_uniform::KlUniformOp;
use beit::ops::logit_laplace::LogitLaplaceOp;
use beit::params::{Ctx, Grad, Params};
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use beit::weights::ORIGINAL;
use libtest_mimic::{Failed, Trial};
use std::path::Path;

const CASE: &str = "05_dvae";

/// One trial per kind of code and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (kind, straight_through) in [("soft", false), ("hard", true)] {
        let at = dir.to_path_buf();
        let name = format!("{CASE}::{kind}::f64");
        trials.push(Trial::test(name, move || run::<f64>(&at, kind, straight_through)));
        let at = dir.to_path_buf();
        let name = format!("{CASE}::{kind}::f32");
        trials.push(Trial::test(name, move || run::<f32>(&at, kind, straight_through)));
    }
    trials
}

fn run<T: Real + Precision>(dir: &Path, kind: &str, straight_through: bool) -> Result<(), Failed> {
    let fx = Fixture::open(dir, CASE)?;
    let bk = Cpu::<T>::new();
    let c = &fx.json["config"];
    let int = |key: &str| c[key].as_u64().unwrap_or_else(|| panic!("config.{key}")) as usize;
    let groups = (1..).take_while(|g| {
        fx.has(&format!("param/encoder.blocks.group_{g}.block_1.res_path.conv_1.w"))
    });
    let shape = fx.shape("in/x");
    let (b, side) = (shape[0], (shape[2], shape[3]));
    let config = DvaeConfig {
        width: int("n_hid"),
        init_width: int("n_init"),
        groups: groups.count(),
        blocks_per_group: int("n_blk_per_group"),
        vocab: int("vocab"),
        image: side,
    };
    let model = Dvae::new(&config);
    let values = Fixture::values(&model.layout, |name| fx.f64(&format!("param/{name}")))?;
    let w = Params::from_host(&bk, &model.layout, &values);
    let mut g = Params::zeros(&bk, &model.layout);

    let mapped = Fixture::to_nhwc(&fx.f64("in/x"), &shape);
    let image = [b, side.0, side.1, 3];
    let x = Tensor::<Cpu<T>>::from_f64(&bk, &mapped, &image);
    let target = Master::<Cpu<T>>::from_f64(&bk, &mapped, &image);
    let codes = fx.shape("in/gumbel_noise"); // [B,K,h,w]
    let grid = [b, codes[2], codes[3], codes[1]];
    let noise = Fixture::to_nhwc(&fx.f64("in/gumbel_noise"), &codes);
    let noise = Master::<Cpu<T>>::from_f64(&bk, &noise, &grid);
    let noise = Noise::Given(&noise);
    let (tau, beta) =
        (c["tau"].as_f64().expect("tau"), c["kl_weight"].as_f64().expect("kl_weight"));
    let scale = 1.0 / (b * 3 * side.0 * side.1) as f64;
    let nchw = |values: Vec<f64>, like: &[usize]| Fixture::to_nchw(&values, like);
    let at = |name: &str| format!("{kind}/{name}");

    // Forward, step by step.
    let (logits, encoder) = model.encode(Ctx::new(&bk, &w), &x);
    fx.compare::<T>("out/encoder_logits", &nchw(logits.to_f64(&bk), &codes))?;
    let tokens: Vec<f64> = bk.argmax(&logits).to_vec(&bk).into_iter().map(f64::from).collect();
    fx.compare_exact("out/tokens", &tokens)?;
    let (z, y) = bk.gumbel_softmax_forward(&logits, &noise, tau, straight_through);
    fx.compare::<T>(&at("out/y"), &nchw(y.to_f64(&bk), &codes))?;
    if straight_through {
        let rows = z.to_f64(&bk);
        let exact = rows.chunks(codes[1]).all(|row| {
            row.iter().filter(|&&v| v == 1.0).count() == 1
                && row.iter().filter(|&&v| v == 0.0).count() == codes[1] - 1
        });
        if !exact {
            return Err("the straight-through code is not exactly one-hot".into());
        }
    }
    let (out, decoder) = model.decode(Ctx::new(&bk, &w), &z);
    let six = fx.shape(&at("out/decoder"));
    fx.compare::<T>(&at("out/decoder"), &nchw(out.to_f64(&bk), &six))?;
    let nll = bk.logit_laplace_forward(&target, &out).to_f64(&bk).iter().sum::<f64>();
    let kl = bk.kl_uniform_forward(&logits).to_f64(&bk).iter().sum::<f64>();
    fx.compare_loss::<T>(&at("out/nll_mean"), nll * scale)?;
    let positions = (b * codes[2] * codes[3]) as f64;
    fx.compare_loss::<T>(&at("out/kl_mean_per_position"), kl / positions)?;
    fx.compare_loss::<T>(&at("out/loss"), (nll + beta * kl) * scale)?;

    // Backward, step by step.
    let (dout, _) = bk.logit_laplace_backward(&target, &out, scale);
    fx.compare::<T>(&at("grad_out/decoder_out"), &nchw(dout.to_f64(&bk), &six))?;
    let dz = model.decode_backward(&mut Grad::new(Ctx::new(&bk, &w), &mut g), &z, decoder, &dout);
    let mut dlogits = bk.gumbel_softmax_backward(&y, &dz, tau);
    // The noise is added to the logits, so its gradient is theirs without the KL.
    fx.compare::<T>(&at("grad_in/gumbel_noise"), &nchw(dlogits.to_f64(&bk), &codes))?;
    bk.add(&mut dlogits, &bk.kl_uniform_backward(&logits, beta * scale));
    fx.compare::<T>(&at("grad_out/encoder_logits"), &nchw(dlogits.to_f64(&bk), &codes))?;
    model.encode_backward(&mut Grad::new(Ctx::new(&bk, &w), &mut g), &x, encoder, &dlogits, true);
    compare_gradients::<T>(&fx, kind, &model, &g.to_host(&bk))?;

    // The same in one call, as training does it, with the gradient of the image.
    g.clear(&bk);
    let step = DvaeStep {
        temperature: tau,
        kl_weight: beta,
        usage_weight: 0.0,
        straight_through,
        likelihood: Likelihood::LogitLaplace,
        scale,
    };
    let grad = &mut Grad::new(Ctx::new(&bk, &w), &mut g);
    let losses = model.loss_and_gradients(grad, &x, &target, &noise, &step, true);
    compare_gradients::<T>(&fx, kind, &model, &g.to_host(&bk))?;
    let (through_encoder, through_target) = losses.dx.expect("asked for");
    let encoder_only = through_encoder.to_f64(&bk);
    fx.compare::<T>(&at("grad_in/x_encoder_only"), &nchw(encoder_only.clone(), &shape))?;
    let whole = through_target.expect("logit-Laplace").to_f64(&bk);
    let whole = whole.iter().zip(&encoder_only).map(|(a, b)| a + b).collect();
    fx.compare::<T>(&at("grad_in/x"), &nchw(whole, &shape))?;

    // Reconstruction from hard tokens.
    let hard = model.one_hot(&bk, &bk.argmax(&logits));
    let (out, _) = model.decode(Ctx::new(&bk, &w), &hard);
    let out = out.to_f64(&bk);
    fx.compare::<T>("out/decoder_from_tokens", &nchw(out.clone(), &six))?;
    fx.compare::<T>("out/reconstruction_from_tokens", &nchw(pixels(&out), &shape))
}

fn compare_gradients<T: Real + Precision>(
    fx: &Fixture,
    kind: &str,
    model: &Dvae,
    g: &[T],
) -> Result<(), Failed> {
    let mut seen = 0;
    for p in model.layout.iter() {
        for e in ORIGINAL.entries(p) {
            let own = &g[p.range.clone()];
            let got: Vec<f64> = e.gather(own).into_iter().map(|x| x.to_f64()).collect();
            fx.compare::<T>(&format!("{kind}/grad/{}", e.name), &got)?;
            seen += 1;
        }
    }
    let prefix = format!("{kind}/grad/");
    let stored = fx.names().filter(|n| n.starts_with(&prefix)).count();
    if seen != stored {
        return Err(format!("{seen} of the file's {stored} gradients were compared").into());
    }
    Ok(())
}
