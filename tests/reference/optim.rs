//! Case 06: AdamW with clipping over five steps, cosine schedules, layer-wise learning rates.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::ops::adamw::{AdamW, AdamWOp, Moments, Segment, Update};
use beit::ops::global_norm::GlobalNormOp;
use beit::optim::{Cosine, layer_id, layer_scale};
use beit::params::{Decay, Init, Layout, Params, Registry, arena_len, expand};
use beit::real::Real;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "06_optim";

/// The trajectory in both precisions, one trial per schedule and per decay.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let fx = match Fixture::open(dir, CASE) {
        Ok(fx) => Arc::new(fx),
        Err(missing) => return vec![Trial::test(format!("{CASE}::files"), || Err(missing))],
    };
    let [a, b] = [fx.clone(), fx.clone()];
    let mut trials = vec![
        Trial::test(format!("{CASE}::adamw::f64"), move || adamw::<f64>(&a)),
        Trial::test(format!("{CASE}::adamw::f32"), move || adamw::<f32>(&b)),
    ];
    for i in 0..fx.json["cosine_schedules"].as_array().expect("schedules").len() {
        let fx = fx.clone();
        trials.push(Trial::test(format!("{CASE}::schedule_{i}"), move || schedule(&fx, i)));
    }
    for decay in fx.json["layer_decay"].as_object().expect("layer_decay").keys() {
        let (fx, decay) = (fx.clone(), decay.clone());
        let name = format!("{CASE}::layer_decay_{decay}");
        trials.push(Trial::test(name, move || layer_decay(&fx, &decay)));
    }
    trials
}

fn names(json: &Value) -> Vec<&str> {
    json.as_array().expect("a list").iter().map(|n| n.as_str().expect("a name")).collect()
}

fn adamw<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let bk = Cpu::<T>::new();
    let config = &fx.json["config"];
    let number = |v: &Value| v.as_f64().expect("a number");
    let order = names(&fx.json["adamw_order"]);
    let mut registry = Registry::new();
    for name in &order {
        let shape = fx.shape(&format!("adamw/param/0/{name}"));
        registry.add(*name, &shape, Decay::No, Init::Constant(0.0));
    }
    let layout = registry.finish();
    let read = |what: &str, step: usize| {
        let values = order.iter().flat_map(|n| fx.f64(&format!("adamw/{what}/{step}/{n}")));
        let arena = expand(&layout, &values.collect::<Vec<_>>());
        Params::<Cpu<T>>::from_host(&bk, &layout, &arena)
    };
    let check = |what: &str, step: usize, have: &Params<Cpu<T>>| -> Result<(), Failed> {
        let have = have.to_host(&bk);
        layout.iter().try_for_each(|p| {
            let have: Vec<f64> = have[p.range.clone()].iter().map(|x| x.to_f64()).collect();
            fx.compare::<T>(&format!("adamw/{what}/{step}/{}", p.name), &have)
        })
    };
    let (lr, wd) = (fx.f64("adamw/lr"), fx.f64("adamw/wd"));
    let norms = fx.f64("adamw/grad_norm");
    let mut w = read("param", 0);
    let (mut moments, all) = (Moments::zeros(&bk, &layout), 0..arena_len(&layout));
    for (t, want) in norms.iter().enumerate() {
        let g = read("grad", t);
        let norm = bk.global_norm(&g, all.clone());
        let got = norm.to_f64(&bk)[0];
        if (got - want).abs() > T::RELATIVE * want {
            return Err(format!("step {t}: norm {got}, stored {want}").into());
        }
        // The learning rates of the case differ by tensor: they are the segments' scales here.
        let segments = segments(&layout, t, &lr, &wd);
        let adamw = AdamW {
            lr: 1.0,
            beta1: number(&config["betas"][0]),
            beta2: number(&config["betas"][1]),
            eps: number(&config["eps"]),
            step: t as u64 + 1,
            max_norm: Some(number(&config["clip_norm"])),
        };
        let update = Update { adamw, segments: &segments, norm: Some(&norm), range: all.clone() };
        bk.adamw_update(&mut w, &mut moments, &g, &update);
        check("param", t + 1, &w)?;
        check("m", t + 1, &moments.m)?;
        check("v", t + 1, &moments.v)?;
    }
    Ok(())
}

fn segments(layout: &Layout, step: usize, lr: &[f64], wd: &[f64]) -> Vec<Segment> {
    let n = layout.iter().count();
    let at = |(i, end): (usize, usize)| Segment {
        end,
        lr_scale: lr[step * n + i],
        decay: wd[step * n + i],
    };
    layout.iter().map(|p| p.range.end).enumerate().map(at).collect()
}

fn schedule(fx: &Fixture, i: usize) -> Result<(), Failed> {
    let c = &fx.json["cosine_schedules"][i];
    let number = |key: &str| c[key].as_f64().unwrap_or_else(|| panic!("{key}"));
    let warmup = match number("warmup_steps") {
        steps if steps > 0.0 => steps,
        _ => number("warmup_epochs") * number("iters_per_epoch"),
    };
    let cosine = Cosine {
        base: number("base"),
        end: number("final"),
        start: number("start"),
        warmup: warmup as u64,
        total: (number("epochs") * number("iters_per_epoch")) as u64,
    };
    let got: Vec<f64> = (0..cosine.total).map(|step| cosine.at(step)).collect();
    fx.compare::<f64>(&format!("schedule/{i}"), &got)
}

/// Layer number and scale of every parameter of the original models.
fn layer_decay(fx: &Fixture, decay: &str) -> Result<(), Failed> {
    let rate: f64 = decay.parse().expect("a number");
    let of = &fx.json["layer_decay"][decay];
    let depth = of["scales_by_layer_id"].as_array().expect("scales").len() - 2;
    let parameters = of["parameters"].as_object().expect("parameters");
    for (name, row) in parameters {
        let (_, name) = name.split_once(':').expect("model:name");
        let id = layer_id(name, depth);
        let (want_id, want) = (row[0].as_u64().expect("id"), row[1].as_f64().expect("scale"));
        let scale = layer_scale(rate, depth, id);
        if id as u64 != want_id || (scale - want).abs() > 1e-12 * want {
            return Err(format!("{name}: {id} and {scale}, stored {want_id} and {want}").into());
        }
    }
    Ok(())
}
