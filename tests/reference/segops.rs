//! Case 14: the operators of a segmentation head, each alone, with every gradient.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::layers::deconv::Deconv;
use beit::ops::batch_norm::BatchNorm;
use beit::ops::conv2d::Conv;
use beit::ops::dropout2d::Dropout2dOp;
use beit::ops::relu::ReluOp;
use beit::ops::resize::PlaneMap;
use beit::params::{Ctx, Grad, Init, Layout, Param, Params, Registry, arena_len};
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use beit::weights::ORIGINAL;
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "14_segops";

/// One trial per operator and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let fx = match Fixture::open(dir, CASE) {
        Ok(fx) => Arc::new(fx),
        Err(missing) => return vec![Trial::test(format!("{CASE}::files"), || Err(missing))],
    };
    [of::<f64>(&fx), of::<f32>(&fx)].into_iter().flatten().collect()
}

fn of<T: Real + Precision>(fx: &Arc<Fixture>) -> Vec<Trial> {
    type Check = fn(&Fixture) -> Result<(), Failed>;
    let checks: [(&str, Check); 7] = [
        ("bn_train", bn_train::<T>),
        ("bn_eval", bn_eval::<T>),
        ("bilinear", bilinear::<T>),
        ("pool", pool::<T>),
        ("deconv", deconv::<T>),
        ("convbnrelu", convbnrelu::<T>),
        ("dropout2d", dropout2d::<T>),
    ];
    let trial = |(name, check): (&str, Check)| {
        let fx = fx.clone();
        Trial::test(format!("{CASE}::{name}::{}", T::NAME), move || check(&fx))
    };
    checks.into_iter().map(trial).collect()
}

type X<T> = Tensor<Cpu<T>>;

/// A stored `[B,C,H,W]` with channels last.
fn plane<T: Real>(fx: &Fixture, bk: &Cpu<T>, name: &str) -> X<T> {
    let shape = fx.shape(name);
    let values = Fixture::to_nhwc(&fx.f64(name), &shape);
    Tensor::from_f64(bk, &values, &[shape[0], shape[2], shape[3], shape[1]])
}

/// Compares with a stored `[B,C,H,W]`.
fn same<T: Real + Precision>(
    fx: &Fixture,
    bk: &Cpu<T>,
    name: &str,
    got: &X<T>,
) -> Result<(), Failed> {
    fx.compare::<T>(name, &Fixture::to_nchw(&got.to_f64(bk), &fx.shape(name)))
}

/// Weights of which some are stored, as files have them, under other names.
fn weights<T: Real>(
    fx: &Fixture,
    bk: &Cpu<T>,
    layout: &Layout,
    stored: &[(&Param, String)],
) -> Params<Cpu<T>> {
    let mut values = vec![0.0; arena_len(layout)];
    for (param, name) in stored {
        let entries = ORIGINAL.entries(param);
        assert_eq!(entries[0].shape, fx.shape(name), "{name}");
        entries[0].scatter(&fx.f64(name), &mut values[param.range.clone()]);
    }
    Params::from_host(bk, layout, &values)
}

/// Compares a parameter's numbers, or its gradient, as files have them.
fn same_param<T: Real + Precision>(
    fx: &Fixture,
    name: &str,
    param: &Param,
    all: &[T],
) -> Result<(), Failed> {
    let own: Vec<f64> = all[param.range.clone()].iter().map(|x| x.to_f64()).collect();
    fx.compare::<T>(name, &ORIGINAL.entries(param)[0].gather(&own))
}

fn bn_train<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    batch_norm::<T>(fx, "bn/train", true)
}

fn bn_eval<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    batch_norm::<T>(fx, "bn/eval", false)
}

fn batch_norm<T: Real + Precision>(fx: &Fixture, kind: &str, train: bool) -> Result<(), Failed> {
    let (bk, mut reg) = (Cpu::<T>::new(), Registry::new());
    let at = |name: &str| format!("{kind}/{name}");
    let x = plane(fx, &bk, &at("in/x"));
    let norm = BatchNorm::new(&mut reg, "bn", x.cols());
    let layout = reg.finish();
    let stored = [
        (&norm.weight, at("in/weight")),
        (&norm.bias, at("in/bias")),
        (&norm.mean, at("in/running_mean")),
        (&norm.var, at("in/running_var")),
    ];
    let mut w = weights(fx, &bk, &layout, &stored);
    let (y, stats) = norm.forward(Ctx::new(&bk, &w), &x, train);
    same(fx, &bk, &at("out/y"), &y)?;
    let mut g = Params::zeros(&bk, &layout);
    let dy = plane(fx, &bk, &at("in/upstream"));
    let dx = norm.backward(&mut Grad::new(Ctx::new(&bk, &w), &mut g), &x, &stats, &dy);
    same(fx, &bk, &at("grad/x"), &dx)?;
    let g = g.to_host(&bk);
    same_param::<T>(fx, &at("grad/weight"), &norm.weight, &g)?;
    same_param::<T>(fx, &at("grad/bias"), &norm.bias, &g)?;
    if train {
        norm.follow(&bk, &stats, &mut w);
        let w = w.to_host(&bk);
        same_param::<T>(fx, &at("out/running_mean"), &norm.mean, &w)?;
        same_param::<T>(fx, &at("out/running_var"), &norm.var, &w)?;
    }
    Ok(())
}

/// [`PlaneMap::bilinear`] or [`PlaneMap::average`].
type MakeMap<T> = fn(&Cpu<T>, (usize, usize), (usize, usize)) -> PlaneMap<Cpu<T>>;

/// A whole map there and back.
fn mapped<T: Real + Precision>(
    fx: &Fixture,
    kind: &str,
    x: &str,
    make: MakeMap<T>,
) -> Result<(), Failed> {
    let (bk, at) = (Cpu::<T>::new(), |name: &str| format!("{kind}/{name}"));
    let (x, dy) = (plane(fx, &bk, x), plane(fx, &bk, &at("in/upstream")));
    let side = |x: &X<T>| (x.shape()[1], x.shape()[2]);
    let map = make(&bk, side(&x), side(&dy));
    same(fx, &bk, &at("out/y"), &map.forward(&bk, &x))?;
    same(fx, &bk, &at("grad/x"), &map.backward(&bk, &dy))
}

/// The kinds below `prefix` that have a result.
fn kinds(fx: &Fixture, prefix: &str) -> Vec<String> {
    let names = fx.names().filter(|name| name.starts_with(prefix));
    names.filter_map(|name| name.strip_suffix("/out/y").map(String::from)).collect()
}

fn bilinear<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let kinds = kinds(fx, "bilinear/");
    assert_eq!(kinds.len(), 6);
    kinds
        .iter()
        .try_for_each(|kind| mapped::<T>(fx, kind, &format!("{kind}/in/x"), PlaneMap::bilinear))
}

fn pool<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let kinds = kinds(fx, "pool/");
    assert_eq!(kinds.len(), 12);
    kinds.iter().try_for_each(|kind| {
        let (sides, _) = kind.rsplit_once('/').expect("pool/SIDES/BINS");
        mapped::<T>(fx, kind, &format!("{sides}/in/x"), PlaneMap::average)
    })
}

fn deconv<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let (bk, mut reg) = (Cpu::<T>::new(), Registry::new());
    let x = plane(fx, &bk, "deconv/in/x");
    let layer = Deconv::new(&mut reg, "deconv", x.cols(), fx.shape("deconv/in/bias")[0]);
    let (layout, weight) = (reg.finish(), &layer.weight.weight);
    let stored = [(weight, "deconv/in/weight".into()), (&layer.bias, "deconv/in/bias".into())];
    let w = weights(fx, &bk, &layout, &stored);
    let mut g = Params::zeros(&bk, &layout);
    let ctx = Ctx::new(&bk, &w);
    same(fx, &bk, "deconv/out/y", &layer.forward(ctx, &x))?;
    let dy = plane(fx, &bk, "deconv/in/upstream");
    let dx = layer.backward(&mut Grad::new(ctx, &mut g), &x, &dy);
    same(fx, &bk, "deconv/grad/x", &dx)?;
    let g = g.to_host(&bk);
    same_param::<T>(fx, "deconv/grad/weight", weight, &g)?;
    same_param::<T>(fx, "deconv/grad/bias", &layer.bias, &g)
}

fn convbnrelu<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let (bk, mut reg) = (Cpu::<T>::new(), Registry::new());
    let x = plane(fx, &bk, "convbnrelu/in/x");
    let channels = (x.cols(), fx.shape("convbnrelu/in/weight")[0]);
    let conv = Conv::without_bias(&mut reg, "conv.weight", channels, 3, Init::Constant(0.0));
    let norm = BatchNorm::new(&mut reg, "bn", channels.1);
    let layout = reg.finish();
    let named = [(&conv.weight, "conv"), (&norm.weight, "weight"), (&norm.bias, "bias")];
    let stored = named.map(|(param, name)| (param, format!("convbnrelu/in/{name}")));
    let w = weights(fx, &bk, &layout, &stored);
    let mut g = Params::zeros(&bk, &layout);
    let ctx = Ctx::new(&bk, &w);
    let h = conv.forward(ctx, &x);
    let (a, stats) = norm.forward(ctx, &h, true);
    same(fx, &bk, "convbnrelu/out/y", &bk.relu_forward(&a))?;
    let grad = &mut Grad::new(ctx, &mut g);
    let da = bk.relu_backward(&a, &plane(fx, &bk, "convbnrelu/in/upstream"));
    let dh = norm.backward(grad, &h, &stats, &da);
    let dx = conv.backward(grad, &x, &dh);
    same(fx, &bk, "convbnrelu/grad/x", &dx)?;
    let g = g.to_host(&bk);
    named.into_iter().try_for_each(|(param, name)| {
        same_param::<T>(fx, &format!("convbnrelu/grad/{name}"), param, &g)
    })
}

fn dropout2d<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let bk = Cpu::<T>::new();
    let x = plane(fx, &bk, "dropout2d/in/x");
    let keep: Vec<f64> = fx.f64("dropout2d/in/keep").iter().map(|keep| keep / 0.9).collect();
    let keep = Master::from_f64(&bk, &keep, &fx.shape("dropout2d/in/keep"));
    same(fx, &bk, "dropout2d/out/y", &bk.dropout2d(&x, &keep))
}
