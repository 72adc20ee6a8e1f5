//! The ops' own forwards in the checker's double-double numbers, which `check/tests/double.rs` holds to
//! another crate's.

use beit::check::double::Double;
use beit::cpu::Cpu;
use beit::ops::layer_norm::{LayerNormOp, Norm};
use beit::params::{Decay, Init, Params, Registry, expand};
use beit::real::Float;
use beit::rng::{Philox, Purpose};
use beit::tensor::Tensor;
use rand_distr::{Distribution, StandardNormal};

/// Difference quotients of the ops' own forwards in double-double against backward in f64: the quotient
/// is good to 1e-20, so what is left is the rounding of backward.
#[test]
fn backward_agrees_with_differences_in_double_double() {
    let mut draw = Philox::new(11, Purpose::Check, 4, 0);
    let mut normal =
        |n: usize| -> Vec<f64> { (0..n).map(|_| StandardNormal.sample(&mut draw)).collect() };
    let (rows, cols) = (4, 9);
    let mut registry = Registry::new();
    let weight = registry.add("weight", &[cols], Decay::Yes, Init::Constant(0.0));
    let bias = registry.add("bias", &[cols], Decay::No, Init::Constant(0.0));
    let layout = registry.finish();
    let (x, w, u) = (normal(rows * cols), normal(2 * cols), normal(rows * cols));
    let w = expand(&layout, &w);

    let bk = Cpu::<f64>::new();
    let (tensor, params) =
        (Tensor::from_vec(&bk, x.clone(), &[rows, cols]), Params::from_host(&bk, &layout, &w));
    let norm = Norm { weight, bias, eps: 1e-6 };
    let (_, stats) = bk.layer_norm_forward(&tensor, &params, &norm);
    let (dy, mut g) =
        (Tensor::from_vec(&bk, u.clone(), &[rows, cols]), Params::zeros(&bk, &layout));
    let dx = bk.layer_norm_backward(&tensor, &stats, &params, &norm, &dy, &mut g);

    let wide = Cpu::<Double>::new();
    let params = Params::from_host(&wide, &layout, &w);
    let of = Double::from_f64;
    for i in 0..rows * cols {
        let loss = |h: f64| -> Double {
            let mut moved: Vec<Double> = x.iter().map(|&x| of(x)).collect();
            moved[i] += of(h);
            let moved = Tensor::from_vec(&wide, moved, &[rows, cols]);
            let (y, _) = wide.layer_norm_forward(&moved, &params, &norm);
            y.slice().iter().zip(&u).map(|(&y, &u)| y * of(u)).sum()
        };
        // Six points: the truncation is h⁶/140 of the seventh derivative, 1e-26 or less; the round-off
        // 1e-31/h.
        let h = f64::EPSILON.sqrt() * 1e3;
        let [one, two, three] = [1.0, 2.0, 3.0].map(|k| loss(k * h) - loss(-k * h));
        let quotient = (of(45.0) * one - of(9.0) * two + three) / of(60.0 * h);
        let error = (quotient.to_f64() - dx.slice()[i]).abs();
        let scale = dx.slice().iter().fold(0.0f64, |m, g| m.max(g.abs()));
        assert!(error <= 8.0 * f64::EPSILON * scale, "{i}: {quotient:?} {}", dx.slice()[i]);
    }
}
