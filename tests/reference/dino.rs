//! Case 16, `dino/*`, `head/*` and the schedules: DINO's loss and its gradient, the centre, the projection head.

use crate::fixture::{Fixture, Precision};
use beit::config::{DinoRun, Preset, RunConfig};
use beit::cpu::Cpu;
use beit::models::config::{DinoConfig, EncoderConfig};
use beit::models::dino::{Dino, DinoHead};
use beit::ops::self_distillation::SelfDistillationOp;
use beit::params::{Ctx, Grad, Params, Registry, arena_len};
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

const CASE: &str = "16_baselines";

/// Two trials per precision, and the schedules.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let [a, b, c, d, e] = [(); 5].map(|()| dir.to_path_buf());
    vec![
        Trial::test(format!("{CASE}::dino::f64"), move || loss::<f64>(&a)),
        Trial::test(format!("{CASE}::dino::f32"), move || loss::<f32>(&b)),
        Trial::test(format!("{CASE}::head::f64"), move || head::<f64>(&c)),
        Trial::test(format!("{CASE}::head::f32"), move || head::<f32>(&d)),
        Trial::test(format!("{CASE}::schedule::dino"), move || schedules(&e)),
    ]
}

/// Rows by view and image (the file's order) as rows by image and view, or the other way round.
fn turned(rows: &[f64], [views, images, k]: [usize; 3]) -> Vec<f64> {
    let of = |image: usize, view: usize| &rows[(view * images + image) * k..][..k];
    (0..images).flat_map(|i| (0..views).flat_map(move |v| of(i, v).to_vec())).collect()
}

fn loss<T: Real + Precision>(dir: &Path) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let config = &fx.json["config"];
    let size = |key: &str| config[key].as_u64().expect("a number") as usize;
    let real = |key: &str| config[key].as_f64().expect("a number");
    let ([b, k, views], teacher) = ([size("B"), size("K"), size("ncrops")], 2);
    let model = Dino::new(&bk, &DinoConfig { outputs: k, ..DinoConfig::test() });
    let t = turned(&fx.f64("dino/in/teacher"), [teacher, b, k]);
    let t = Master::<Cpu<T>>::from_f64(&bk, &t, &[b, teacher, k]);
    let center = Master::<Cpu<T>>::from_f64(&bk, &fx.f64("dino/in/center"), &[k]);
    let s = turned(&fx.f64("dino/in/student"), [views, b, k]);
    let s = Tensor::<Cpu<T>>::from_f64(&bk, &s, &[b * views, k]);
    let (q, _) = bk.teacher_distributions(&t, &center, real("teacher_temp"));
    let targets = bk.teacher_targets(&q, 0..views).reshape(&[b * views, k]);
    let scale = 1.0 / (b * teacher * (views - 1)) as f64;
    let (losses, ds) = model.loss(&bk, &s, (&targets, real("student_temp")), scale);
    let sum: f64 = losses.rows.to_f64(&bk).iter().sum();
    fx.compare_loss::<T>("dino/out/loss", scale * sum)?;
    fx.compare::<T>("dino/grad/student", &turned(&ds.to_f64(&bk), [b, views, k]))?;
    let momentum = real("center_momentum");
    let moved = bk.follow_center(&center, &t, momentum, (1.0 - momentum) / t.rows() as f64);
    fx.compare::<T>("dino/out/center", &moved.to_f64(&bk))
}

fn head<T: Real + Precision>(dir: &Path) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let [hidden, width] = fx.shape("head/param/w0")[..] else { return Err("w0 has 2 axes".into()) };
    let [outputs, bottleneck] = fx.shape("head/param/weight_v")[..] else {
        return Err("weight_v has 2 axes".into());
    };
    let encoder = EncoderConfig::test().with_width(width);
    let config = DinoConfig { encoder, hidden, bottleneck, outputs, lengths: true };
    let mut reg = Registry::new();
    let head = DinoHead::new(&mut reg, &config);
    let layout = reg.finish();
    let stored = |name: &str| match name.strip_prefix("head.").expect("a name of the head") {
        "mlp.0.weight" => "w0",
        "mlp.0.bias" => "b0",
        "mlp.2.weight" => "w1",
        "mlp.2.bias" => "b1",
        "mlp.4.weight" => "w2",
        "mlp.4.bias" => "b2",
        "last_layer.weight_v" => "weight_v",
        "last_layer.weight_g" => "weight_g",
        other => panic!("no tensor for {other}"),
    };
    let mut values = vec![0.0; arena_len(&layout)];
    for p in layout.iter() {
        values[p.range.clone()]
            .copy_from_slice(&fx.f64(&format!("head/param/{}", stored(&p.name))));
    }
    let w = Params::from_host(&bk, &layout, &values);
    let tensor = |name: &str| Tensor::<Cpu<T>>::from_f64(&bk, &fx.f64(name), &fx.shape(name));
    let (y, cache) = head.forward(Ctx::new(&bk, &w), tensor("head/in/x"));
    fx.compare::<T>("head/out/y", &y.to_f64(&bk))?;
    let mut g = Params::zeros(&bk, &layout);
    let grad = &mut Grad::new(Ctx::new(&bk, &w), &mut g);
    let dx = head.backward(grad, cache, &tensor("head/in/upstream"));
    fx.compare::<T>("head/grad/x", &dx.to_f64(&bk))?;
    let all: Vec<f64> = g.to_host(&bk).iter().map(|x| x.to_f64()).collect();
    for p in layout.iter() {
        fx.compare::<T>(&format!("head/grad/{}", stored(&p.name)), &all[p.range.clone()])?;
    }
    Ok(())
}

fn schedules(dir: &Path) -> Result<(), Failed> {
    let fx = Fixture::open(dir, CASE)?;
    let steps = fx.shape("schedule/dino_momentum")[0] as u64;
    let config = DinoRun {
        momentum: 0.996,
        teacher_temperature_start: 0.04,
        teacher_temperature: 0.07,
        teacher_warmup_steps: 8,
        ..DinoRun::preset(Preset::Tiny)
    };
    let momentum = config.teacher_momentum(steps);
    let momenta: Vec<f64> = (0..steps).map(|step| momentum.at(step)).collect();
    fx.compare::<f64>("schedule/dino_momentum", &momenta)?;
    let temperatures: Vec<f64> =
        (0..steps).map(|step| config.teacher_temperature_at(step)).collect();
    fx.compare::<f64>("schedule/dino_teacher_temp", &temperatures)
}
