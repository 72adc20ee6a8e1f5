//! Case 07: index tables, gather and its gradient, resizing of tables and embeddings.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::layers::position::{
    TableResize, geometric_coordinates, resize_bias_table, resize_pos_embed,
};
use beit::ops::rel_pos_bias::{RelPosBiasOp, RelPosIndex, relative_position_index};
use beit::params::{Decay, Init, Params, Registry};
use beit::real::Real;
use beit::tensor::Tensor;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "07_relpos";

/// One trial per index table, gather per precision, and one per way of resizing.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let fx = match Fixture::open(dir, CASE) {
        Ok(fx) => Arc::new(fx),
        Err(missing) => return vec![Trial::test(format!("{CASE}::files"), || Err(missing))],
    };
    type Check = Box<dyn Fn(&Fixture) -> Result<(), Failed> + Send>;
    let mut checks: Vec<(String, Check)> = vec![
        ("gather::f64".into(), Box::new(gather::<f64>)),
        ("gather::f32".into(), Box::new(gather::<f32>)),
        ("geometric_x".into(), Box::new(coordinates)),
        ("pos_embed".into(), Box::new(pos_embed)),
    ];
    for (name, method) in [
        ("original", TableResize::Geometric),
        ("bilinear", TableResize::Bilinear),
        ("bicubic", TableResize::Bicubic),
    ] {
        checks.push((format!("resize_{name}"), Box::new(move |fx| resize(fx, name, method))));
    }
    for name in fx.names().filter(|n| n.starts_with("index/")) {
        let label = name.replace('/', "_");
        checks.push((label, Box::new(move |fx| index(fx, &name))));
    }
    let trial = |(name, check): (String, Check)| {
        let fx = fx.clone();
        Trial::test(format!("{CASE}::{name}"), move || check(&fx))
    };
    checks.into_iter().map(trial).collect()
}

fn int(v: &Value) -> usize {
    v.as_u64().expect("a whole number") as usize
}

/// Grids before and after, and heads.
fn sizes(fx: &Fixture) -> ((usize, usize), (usize, usize), usize) {
    let c = &fx.json["config"];
    let (from, to) = (int(&c["resize_from"]), int(&c["resize_to"]));
    ((from, from), (to, to), int(&c["heads"]))
}

/// `index/HxW`
fn index(fx: &Fixture, name: &str) -> Result<(), Failed> {
    let (h, w) = name["index/".len()..].split_once('x').expect("HxW");
    let grid = (h.parse().expect("H"), w.parse().expect("W"));
    let got: Vec<f64> = relative_position_index(grid).into_iter().map(f64::from).collect();
    fx.compare_exact(name, &got)
}

fn gather<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let bk = Cpu::<T>::new();
    let window = &fx.json["gather_window"];
    let index = RelPosIndex::new(&bk, (int(&window[0]), int(&window[1])));
    let mut registry = Registry::new();
    let shape = fx.shape("gather/table");
    let table = registry.add("table", &shape, Decay::No, Init::Constant(0.0));
    let layout = registry.finish();
    let w = Params::from_host(&bk, &layout, &fx.f64("gather/table"));
    let mut g = Params::zeros(&bk, &layout);
    let bias = bk.rel_pos_bias_forward(&w, &table, None, &index);
    fx.compare::<T>("gather/bias", &bias.to_f64(&bk))?;
    let upstream = Tensor::from_f64(&bk, &fx.f64("gather/weight"), &fx.shape("gather/weight"));
    bk.rel_pos_bias_backward(&table, &index, &upstream, &mut g, None);
    let got: Vec<f64> = g.to_host(&bk).into_iter().map(|x| x.to_f64()).collect();
    fx.compare::<T>("gather/grad_table", &got[table.range.clone()])
}

fn coordinates(fx: &Fixture) -> Result<(), Failed> {
    let (from, to, _) = sizes(fx);
    let got = geometric_coordinates(2 * from.0 - 1, 2 * to.0 - 1);
    fx.compare::<f64>("resize/geometric_x", &got)
}

fn resize(fx: &Fixture, name: &str, method: TableResize) -> Result<(), Failed> {
    let (from, to, heads) = sizes(fx);
    let got = resize_bias_table(&fx.f64("resize/table"), heads, from, to, method)?;
    fx.compare::<f64>(&format!("resize/{name}"), &got)
}

fn pos_embed(fx: &Fixture) -> Result<(), Failed> {
    let (from, to, _) = sizes(fx);
    let width = fx.shape("pos_embed/in")[2];
    let got = resize_pos_embed(&fx.f64("pos_embed/in"), width, from, to);
    fx.compare::<f64>("pos_embed/out", &got)
}
