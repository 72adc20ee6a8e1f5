//! Smooth functions of one number, well conditioned.

use super::case::{Case, Draw, Family};
use libm::erf;
use std::f64::consts::{PI, SQRT_2};

/// √(2/π)
const ROOT: f64 = 0.797_884_560_802_865_4;

pub fn families() -> Vec<Family> {
    vec![
        Family::smooth("exp(px)", |d| {
            let p = d.uniform(0.3, 5.0);
            Case::scalar(d.uniform(-3.0, 3.0), move |x| (p * x).exp(), move |x| p * (p * x).exp())
        }),
        Family::smooth("tanh(k(x-c))", |d| {
            let (x, k) = (d.uniform(-3.0, 3.0), d.log(1.0, 100.0));
            let c = x + d.uniform(-4.0, 4.0) / k;
            let slope = move |x: f64| k / (k * (x - c)).cosh().powi(2);
            Case::scalar(x, move |x| (k * (x - c)).tanh(), slope)
        }),
        Family::smooth("x^p", |d| {
            let p = d.uniform(0.3, 5.0);
            let x = d.log(1e-4, 1e2);
            Case::scalar(x, move |x| x.powf(p), move |x| p * x.powf(p - 1.0))
        }),
        Family::smooth("ln x", |d| Case::scalar(d.log(1e-4, 1e2), f64::ln, |x| 1.0 / x)),
        Family::smooth("1/x", |d| Case::scalar(d.log(1e-4, 1e2), |x| 1.0 / x, |x| -1.0 / x / x)),
        Family::smooth("rational", rational),
        Family::smooth("gelu, tanh", |d| Case::scalar(d.uniform(-3.0, 3.0), gelu, gelu_slope)),
        Family::smooth("gelu, erf", |d| {
            let cdf = |x: f64| 0.5 * (1.0 + erf(x / SQRT_2));
            let slope = move |x: f64| cdf(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
            Case::scalar(d.uniform(-3.0, 3.0), move |x| x * cdf(x), slope)
        }),
        Family::smooth("softplus", |d| {
            let b = d.log(1.0, 20.0);
            let x = d.uniform(-8.0, 8.0) / b;
            let slope = move |x: f64| 1.0 / (1.0 + (-b * x).exp());
            Case::scalar(x, move |x| (b * x).exp().ln_1p() / b, slope)
        }),
        Family::smooth("cos(x)/x", |d| {
            let slope = |x: f64| -x.sin() / x - x.cos() / x / x;
            Case::scalar(d.log(1e-4, 1e2), |x| x.cos() / x, slope)
        }),
        Family::smooth("swish", |d| {
            let s = |x: f64| 1.0 / (1.0 + (-x).exp());
            let slope = move |x: f64| s(x) + x * s(x) * s(-x);
            Case::scalar(d.uniform(-6.0, 6.0), move |x| x * s(x), slope)
        }),
        Family::smooth("polynomial", |d| {
            let c = d.vector(6, 1.0);
            let powers = c.clone();
            let slope = move |x: f64| (1..6).rev().fold(0.0, |s, i| s * x + i as f64 * c[i]);
            let value = move |x: f64| powers.iter().rev().fold(0.0, |s, c| s * x + c);
            Case::scalar(d.uniform(-2.0, 2.0), value, slope)
        }),
        Family::smooth("sqrt(1+kx^2)", |d| {
            let k = d.log(0.1, 100.0);
            let root = move |x: f64| (1.0 + k * x * x).sqrt();
            Case::scalar(d.uniform(-3.0, 3.0), root, move |x| k * x / root(x))
        }),
        Family::smooth("x ln x", |d| {
            Case::scalar(d.log(1e-4, 1e2), |x| x * x.ln(), |x| 1.0 + x.ln())
        }),
        Family::smooth("atan(kx)", |d| {
            let k = d.log(0.1, 10.0);
            let slope = move |x: f64| k / (1.0 + k * k * x * x);
            Case::scalar(d.uniform(-3.0, 3.0), move |x| (k * x).atan(), slope)
        }),
    ]
}

fn rational(d: &mut Draw) -> Case {
    let (a, b, c) = (d.uniform(-1.0, 1.0), d.uniform(-1.0, 1.0), d.log(0.1, 10.0));
    let value = move |x: f64| (a + b * x) / (1.0 + c * x * x);
    let slope = move |x: f64| {
        let q = 1.0 + c * x * x;
        (b * q - (a + b * x) * 2.0 * c * x) / (q * q)
    };
    Case::scalar(d.uniform(-3.0, 3.0), value, slope)
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + (ROOT * (x + 0.044_715 * x * x * x)).tanh())
}

fn gelu_slope(x: f64) -> f64 {
    let t = (ROOT * (x + 0.044_715 * x * x * x)).tanh();
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ROOT * (1.0 + 3.0 * 0.044_715 * x * x)
}
