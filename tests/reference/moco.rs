//! Case 16, `moco/*`, `proj/*` and the schedule: MoCo v3's loss and its gradient, the projector.

use crate::fixture::{Fixture, Precision};
use beit::config::{MocoRun, Preset, RunConfig};
use beit::cpu::Cpu;
use beit::layers::norm_mlp::NormMlp;
use beit::models::config::MocoConfig;
use beit::models::moco::Moco;
use beit::ops::unit_rows::UnitRowsOp;
use beit::params::{Ctx, Grad, Params, Registry, arena_len};
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

const CASE: &str = "16_baselines";

/// Two trials per precision, and the schedule.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let [a, b, c, d, e] = [(); 5].map(|()| dir.to_path_buf());
    vec![
        Trial::test(format!("{CASE}::moco::f64"), move || loss::<f64>(&a)),
        Trial::test(format!("{CASE}::moco::f32"), move || loss::<f32>(&b)),
        Trial::test(format!("{CASE}::proj::f64"), move || projector::<f64>(&c)),
        Trial::test(format!("{CASE}::proj::f32"), move || projector::<f32>(&d)),
        Trial::test(format!("{CASE}::schedule::moco"), move || schedule(&e)),
    ]
}

fn loss<T: Real + Precision>(dir: &Path) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let temperature = fx.json["config"]["moco_T"].as_f64().expect("a number");
    let shape = fx.shape("moco/in/q1");
    let model = Moco::new(&bk, &MocoConfig { outputs: shape[1], ..MocoConfig::test() });
    let (n, mut total) = (shape[0] as f64, 0.0);
    for (q, k) in [("q1", "k2"), ("q2", "k1")] {
        let keys = fx.f64(&format!("moco/in/{k}"));
        let keys = bk.unit_rows_forward(&Master::<Cpu<T>>::from_f64(&bk, &keys, &shape));
        let queries = fx.f64(&format!("moco/in/{q}"));
        let queries = Tensor::<Cpu<T>>::from_f64(&bk, &queries, &shape);
        let (losses, dq) = model.loss(&bk, &queries, (&keys, temperature), 1.0 / n);
        total += 2.0 * temperature * losses.rows.to_f64(&bk).iter().sum::<f64>() / n;
        fx.compare::<T>(&format!("moco/grad/{q}"), &dq.to_f64(&bk))?;
    }
    fx.compare_loss::<T>("moco/out/loss", total)
}

fn projector<T: Real + Precision>(dir: &Path) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let of = |i: usize| fx.shape(&format!("proj/param/w{i}"));
    let widths = [of(0)[1], of(0)[0], of(1)[0], of(2)[0]];
    let mut reg = Registry::new();
    let mlp = NormMlp::new(&bk, &mut reg, "p", &widths);
    let layout = reg.finish();
    let stored = |name: &str| match name {
        "p.0.weight" => Some("w0"),
        "p.1.weight" => Some("g0"),
        "p.1.bias" => Some("b0"),
        "p.3.weight" => Some("w1"),
        "p.4.weight" => Some("g1"),
        "p.4.bias" => Some("b1"),
        "p.6.weight" => Some("w2"),
        _ => None, // statistics
    };
    let mut values = vec![0.0; arena_len(&layout)];
    for p in layout.iter() {
        if let Some(name) = stored(&p.name) {
            values[p.range.clone()].copy_from_slice(&fx.f64(&format!("proj/param/{name}")));
        }
    }
    let w = Params::from_host(&bk, &layout, &values);
    let tensor = |name: &str| Tensor::<Cpu<T>>::from_f64(&bk, &fx.f64(name), &fx.shape(name));
    let (y, cache) = mlp.forward(Ctx::new(&bk, &w), tensor("proj/in/x"));
    fx.compare::<T>("proj/out/y", &y.to_f64(&bk))?;
    let mut g = Params::zeros(&bk, &layout);
    let grad = &mut Grad::new(Ctx::new(&bk, &w), &mut g);
    let (dx, seen) = mlp.backward(grad, cache, &tensor("proj/in/upstream"));
    assert_eq!(seen.len(), 2, "two norms have statistics");
    fx.compare::<T>("proj/grad/x", &dx.to_f64(&bk))?;
    let all: Vec<f64> = g.to_host(&bk).iter().map(|x| x.to_f64()).collect();
    let compared = layout.iter().filter_map(|p| stored(&p.name).map(|name| (p, name)));
    let mut count = 0;
    for (p, name) in compared {
        fx.compare::<T>(&format!("proj/grad/{name}"), &all[p.range.clone()])?;
        count += 1;
    }
    assert_eq!(count, 7, "gradients of three layers and two norms");
    Ok(())
}

fn schedule(dir: &Path) -> Result<(), Failed> {
    let fx = Fixture::open(dir, CASE)?;
    let steps = fx.shape("schedule/moco_momentum")[0] as u64;
    let config = MocoRun { momentum: 0.99, ..MocoRun::preset(Preset::Tiny) };
    let momentum = config.momentum(steps);
    let momenta: Vec<f64> = (0..steps).map(|step| momentum.at(step)).collect();
    fx.compare::<f64>("schedule/moco_momentum", &momenta)
}
