//! The checker's double-double numbers against an independent crate of arbitrary precision.

use beit::check::double::Double;
use beit::cpu::Cpu;
use beit::ops::layer_norm::{LayerNormOp, Norm};
use beit::params::{Decay, Init, Params, Registry, expand};
use beit::real::{Float, Real};
use beit::rng::{Philox, Purpose};
use beit::tensor::Tensor;
use dashu_float::FBig;
use dashu_float::round::mode::HalfEven;
use rand_distr::{Distribution, StandardNormal};

type Big = FBig<HalfEven, 2>;

/// Bits of the reference: eight doubles.
const BITS: usize = 424;

/// 2⁻¹⁰⁶
const UNIT: f64 = f64::EPSILON * f64::EPSILON / 4.0;

fn big(x: f64) -> Big {
    Big::try_from(x).expect("finite").with_precision(BITS).value()
}

fn wide(x: Double) -> Big {
    big(x.to_f64()) + big(x.low())
}

/// Distance from `want`, relative to it.
fn error(ours: Double, want: &Big) -> f64 {
    let off = (wide(ours) - want) / want;
    off.to_f64().value().abs()
}

/// Numbers of both signs and several sizes with all digits of a double-double in use.
fn numbers() -> Vec<Double> {
    let third = Double::ONE / Double::from_f64(3.0);
    let mut all = Vec::new();
    for i in 0..60 {
        let size = [0.003, 0.4, 1.0, 7.0, 120.0][i % 5];
        all.push(Double::from_f64(size * ((i * i) as f64).sin()) * third);
    }
    all
}

#[test]
fn arithmetic_agrees_with_dashu() {
    let all = numbers();
    let (mut worst, mut cancelled) = ([0.0f64; 3], 0.0f64);
    for &a in &all {
        for &b in all.iter().filter(|b| b.to_f64() != 0.0) {
            let (x, y) = (wide(a), wide(b));
            // Sums may cancel: judged on the scale of their terms.
            let scale = a.to_f64().abs() + b.to_f64().abs();
            let off = (wide(a + b) - (&x + &y)).to_f64().value().abs() / scale;
            cancelled = cancelled.max(off);
            if a.to_f64() != 0.0 {
                worst[0] = worst[0].max(error(a * b, &(&x * &y)));
                worst[1] = worst[1].max(error(a / b, &(&x / &y)));
            }
            worst[2] = worst[2].max(error(Real::sqrt(b * b), &(wide(b * b).sqrt())));
        }
    }
    let units = [worst[0], worst[1], worst[2], cancelled].map(|e| e / UNIT);
    assert!(units.iter().all(|&u| u <= 4.0), "*, /, sqrt, + in units of 2^-106: {units:?}");
}

#[test]
fn functions_agree_with_dashu() {
    let two_over_root_pi = big(2.0) / pi().sqrt();
    let mut worst = [0.0f64; 3];
    for x in numbers().into_iter().filter(|x| x.to_f64() != 0.0) {
        let wide_x = wide(x);
        let size = x.to_f64().abs();
        worst[0] = worst[0].max(error(Real::exp(x), &wide_x.exp()) / (1.0 + size));
        let squared = x * x;
        worst[1] = worst[1].max(error(Real::ln(squared), &wide(squared).ln()));
        // Near 1 the logarithm is small and must keep its digits.
        let near = Double::ONE + x * Double::from_f64(1e-3);
        worst[1] = worst[1].max(error(Real::ln(near), &wide(near).ln()));
        if size < 8.0 {
            // The alternating series: other terms than the crate's, at a precision that bears it.
            let (mut term, mut sum, square) = (wide_x.clone(), wide_x.clone(), &wide_x * &wide_x);
            for n in 1..400 {
                term = -term * &square / big(f64::from(n));
                sum += &term / big(f64::from(2 * n + 1));
            }
            let want = sum * &two_over_root_pi;
            worst[2] = worst[2].max(error(Real::erf(x), &want) / (1.0 + size * size));
        }
    }
    let units = worst.map(|e| e / UNIT);
    assert!(units.iter().all(|&u| u <= 4.0), "exp, ln, erf in units of 2^-106: {units:?}");
}

#[test]
fn ends_of_the_range() {
    let of = Double::from_f64;
    assert_eq!(Real::exp(of(0.0)), Double::ONE);
    assert_eq!(Real::exp(of(-800.0)), Double::ZERO);
    assert_eq!(Real::exp(of(710.0)).to_f64(), f64::INFINITY);
    assert!(Real::exp(of(709.5)).to_f64().is_finite());
    assert_eq!(Real::ln(Double::ONE), Double::ZERO);
    assert_eq!(Real::ln(Double::ZERO).to_f64(), f64::NEG_INFINITY);
    assert!(Real::ln(of(-1.0)).to_f64().is_nan() && Real::sqrt(of(-1.0)).to_f64().is_nan());
    assert_eq!(Real::sqrt(Double::ZERO), Double::ZERO);
    assert_eq!((Double::ONE / Double::ZERO).to_f64(), f64::INFINITY);
    assert_eq!(Real::erf(Double::ZERO), Double::ZERO);
    assert_eq!(Real::erf(of(-9.0)).to_f64(), -1.0);
    assert!(Real::erf(of(f64::NAN)).to_f64().is_nan());
    assert!(Double::new(1.0, 1e-20) > Double::ONE && Double::new(1.0, -1e-20) < Double::ONE);
}

/// Machin: π/4 = 4 arctan 1/5 − arctan 1/239.
fn pi() -> Big {
    let arctan = |n: f64| {
        let (mut power, mut sum, square) = (big(1.0) / big(n), big(0.0), big(n * n));
        for k in 0..320 {
            sum += &power / big(f64::from(2 * k + 1));
            power = -power / &square;
        }
        sum
    };
    big(4.0) * (big(4.0) * arctan(5.0) - arctan(239.0))
}

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
