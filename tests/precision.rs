//! Two precisions: `Cpu<bf16>`, whose `Elem` is bf16 and whose `Master` is f32. Matrix products read the
//! rounded copy of the parameters, activations are bf16, and the residual stream, statistics and
//! parameter gradients are f32 and are never rounded to bf16 on their way.

use beit::cpu::Cpu;
use beit::ops::case::{Inputs, Io};
use beit::ops::layer_norm::{LayerNormOp, Norm};
use beit::ops::linear::{Linear, LinearOp};
use beit::ops::linear_gelu::LinearGeluOp;
use beit::params::compact;
use beit::rng::{Philox, Purpose};
use beit::tensor::{Master, Tensor};
use half::bf16;
use rand_distr::{Distribution, StandardNormal};

/// Half the distance from 1 to the next bf16: the largest relative error of one rounding.
const UNIT: f64 = 1.0 / 256.0 / 2.0;

type Bf16 = Cpu<bf16>;

// The runs of the ops' cases, each asking for exactly one trait.

fn linear<B: LinearOp>(bk: &B, io: &mut Io<B>) {
    let x = io.elem("x");
    let p = Linear { weight: io.param("weight"), bias: Some(io.param("bias")) };
    let y: Tensor<B> = bk.linear_forward(&x, &io.w, &p);
    io.output(bk, &y);
    let dy: Tensor<B> = io.upstream(bk, 0);
    let dx: Tensor<B> = bk.linear_backward(&x, &io.w, &p, &dy, &mut io.g);
    io.grad(bk, "x", &dx);
}

fn linear_gelu<B: LinearGeluOp>(bk: &B, io: &mut Io<B>) {
    let x = io.elem("x");
    let p = Linear { weight: io.param("weight"), bias: Some(io.param("bias")) };
    let (y, a): (Tensor<B>, Tensor<B>) = bk.linear_gelu_forward(&x, &io.w, &p);
    io.output(bk, &y);
    let dy: Tensor<B> = io.upstream(bk, 0);
    let dx = bk.linear_gelu_backward(&x, &a, &io.w, &p, dy, &mut io.g);
    io.grad(bk, "x", &dx);
}

fn layer_norm<B: LayerNormOp>(bk: &B, io: &mut Io<B>) {
    let x = io.master("x");
    let norm = Norm { weight: io.param("weight"), bias: io.param("bias"), eps: 1e-6 };
    let (y, stats): (Tensor<B>, _) = bk.layer_norm_forward(&x, &io.w, &norm);
    let mean: &Master<B> = &stats.mean;
    io.output(bk, &y);
    io.output(bk, mean);
    let dy: Tensor<B> = io.upstream(bk, 0);
    let dx: Master<B> = bk.layer_norm_backward(&x, &stats, &io.w, &norm, &dy, &mut io.g);
    io.grad(bk, "x", &dx);
}

/// ‖a − b‖ / ‖b‖
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// Distances of what `Cpu<bf16>` computes from what `Cpu<f64>` computes, by name.
fn distances(
    inputs: &Inputs,
    upstream: Vec<Vec<f64>>,
    narrow: fn(&Bf16, &mut Io<Bf16>),
    judge: fn(&Cpu<f64>, &mut Io<Cpu<f64>>),
) -> Vec<(String, f64)> {
    let (bk, b64) = (Bf16::new(), Cpu::<f64>::new());
    let mut io = Io::new(&bk, inputs).with_upstream(upstream.clone());
    assert!(io.w.elem.is_some(), "the parameters have a bf16 copy");
    narrow(&bk, &mut io);
    let mut io64 = Io::new(&b64, inputs).with_upstream(upstream);
    judge(&b64, &mut io64);
    let g: Vec<f64> = io.g.to_host(&bk).into_iter().map(f64::from).collect();
    let rounded = |x: &f64| f64::from(bf16::from_f64(*x)) == *x;
    assert!(!g.iter().all(rounded), "parameter gradients were rounded to bf16");
    let outputs = io.outputs.iter().zip(&io64.outputs).enumerate();
    let outputs = outputs.map(|(i, (a, b))| (format!("output {i}"), distance(a, b)));
    let grads = io.grads.iter().map(|(name, a)| (name.clone(), distance(a, &io64.grads[name])));
    let params = inputs.layout.iter().map(|p| {
        let range = p.range.clone();
        (p.name.to_string(), distance(&g[range.clone()], &io64.g.master[range]))
    });
    outputs.chain(grads).chain(params).collect()
}

fn normal(n: usize) -> Vec<f64> {
    let mut rng = Philox::new(5, Purpose::Check, 3, 0);
    (0..n).map(|_| StandardNormal.sample(&mut rng)).collect()
}

/// Operands, result and upstream gradient are each rounded once: four roundings at most, in norm.
#[track_caller]
fn expect_bf16_rounding(distances: Vec<(String, f64)>) {
    for (name, distance) in &distances {
        assert!(*distance <= 4.0 * UNIT, "{name} is off by {distance:e}");
    }
    let rounds = distances.iter().any(|(_, d)| *d >= UNIT / 10.0);
    assert!(rounds, "nothing was rounded to bf16: {distances:?}");
}

#[test]
fn linear_in_bf16_with_f32_masters() {
    let inputs = Inputs::new("mixed/linear")
        .elem("x", &[40, 24])
        .param("weight", &[17, 24])
        .param("bias", &[17]);
    expect_bf16_rounding(distances(&inputs, vec![normal(40 * 17)], linear, linear));
}

#[test]
fn linear_gelu_in_bf16_with_f32_masters() {
    let inputs = Inputs::new("mixed/linear_gelu")
        .elem("x", &[40, 24])
        .param("weight", &[17, 24])
        .param("bias", &[17]);
    expect_bf16_rounding(distances(&inputs, vec![normal(40 * 17)], linear_gelu, linear_gelu));
}

#[test]
fn layer_norm_in_bf16_with_f32_masters() {
    let inputs = Inputs::new("mixed/layer_norm")
        .master("x", &[9, 5, 33])
        .param("weight", &[33])
        .param("bias", &[33]);
    let found = distances(&inputs, vec![normal(9 * 5 * 33)], layer_norm, layer_norm);
    let mean = found.iter().find(|(name, _)| name == "output 1").expect("the mean").1;
    assert!(mean <= 1e-6, "the statistics are f32, not bf16: off by {mean:e}");
    expect_bf16_rounding(found);
}

/// The reason for f32 gradients: a sum of ones in bf16 stops at 256.
#[test]
fn gradients_accumulate_in_master_precision() {
    let mut inputs = Inputs::new("mixed/accumulate").param("weight", &[1, 1]).param("bias", &[1]);
    inputs = inputs.push("x", &[1, 1], vec![1.0], beit::ops::case::Kind::Elem, true);
    let bk = Bf16::new();
    let mut io = Io::new(&bk, &inputs);
    let x = io.elem("x");
    let p = Linear { weight: io.param("weight"), bias: Some(io.param("bias")) };
    let dy: Tensor<Bf16> = Tensor::from_f64(&bk, &[1.0], &[1, 1]);
    for _ in 0..1000 {
        bk.linear_backward(&x, &io.w, &p, &dy, &mut io.g);
    }
    assert_eq!(compact(&io.g.layout, &io.g.to_host(&bk)), [1000.0, 1000.0]);
    let in_bf16 = (0..1000).fold(bf16::ZERO, |sum, _| sum + bf16::ONE);
    assert_eq!(in_bf16.to_f32(), 256.0);
}
