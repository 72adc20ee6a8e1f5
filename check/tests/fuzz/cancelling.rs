//! Forwards that lose digits on the way; the gradients are written so that they do not.

use super::case::{Case, Draw, Family, vector};
use super::layers::softmax;

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("tanh written with exp", |d| {
            let value = |x: f64| (x.exp() - (-x).exp()) / (x.exp() + (-x).exp());
            Case::scalar(d.uniform(-18.0, 18.0), value, |x| 1.0 / x.cosh().powi(2))
        }),
        Family::hard("E[x^2] - m^2", variance),
        Family::hard("1 - cos x", |d| {
            Case::scalar(d.log(1e-5, 1.0) * d.sign(), |x| 1.0 - x.cos(), f64::sin)
        }),
        Family::hard("exp(x) - 1", |d| {
            Case::scalar(d.log(1e-8, 1.0) * d.sign(), |x| x.exp() - 1.0, f64::exp)
        }),
        Family::hard("ln(1+x)", |d| {
            Case::scalar(d.log(1e-8, 1.0), |x| (1.0 + x).ln(), |x| 1.0 / (1.0 + x))
        }),
        Family::hard("sqrt(x+1) - sqrt(x)", |d| {
            let slope = |x: f64| {
                let (a, b) = ((x + 1.0).sqrt(), x.sqrt());
                -0.5 / (a * b * (a + b))
            };
            Case::scalar(d.log(1.0, 1e8), |x| (x + 1.0).sqrt() - x.sqrt(), slope)
        }),
        Family::hard("smaller root of a quadratic", |d| {
            // x² + bx + c = 0 by the school formula; dx/db = −x/(2x + b)
            let c = d.uniform(0.1, 2.0);
            let root = move |b: f64| (-b + (b * b - 4.0 * c).sqrt()) / 2.0;
            let stable = move |b: f64| -2.0 * c / (b + (b * b - 4.0 * c).sqrt());
            let slope = move |b: f64| -stable(b) / (2.0 * stable(b) + b);
            Case::scalar(d.log(4.0, 1e6), root, slope)
        }),
        Family::hard("ln sum exp, large offset", |d| {
            let (n, offset) = (d.integer(2, 6), d.uniform(0.0, 600.0));
            let x = d.vector(n, 3.0).iter().map(|x| x + offset).collect();
            let forward = |v: &[Vec<f64>]| vec![v[0].iter().map(|x| x.exp()).sum::<f64>().ln()];
            let backward = |v: &[Vec<f64>], dy: &[f64]| {
                vec![softmax(&v[0]).iter().map(|p| p * dy[0]).collect()]
            };
            Case::new(vec![vector("x", x)], forward, backward)
        }),
        Family::hard("large offset + x^2", |d| {
            let c = d.log(1.0, 1e13);
            Case::scalar(d.uniform(-2.0, 2.0), move |x| c + x * x, |x| 2.0 * x)
        }),
    ]
}

/// Variance as a difference of two large numbers.
fn variance(d: &mut Draw) -> Case {
    let (n, offset) = (d.integer(3, 8), d.log(1.0, 3e3));
    let x = d.vector(n, 1.0).iter().map(|x| x + offset).collect();
    let forward = |v: &[Vec<f64>]| {
        let n = v[0].len() as f64;
        let mean = v[0].iter().sum::<f64>() / n;
        vec![v[0].iter().map(|x| x * x).sum::<f64>() / n - mean * mean]
    };
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        let n = v[0].len() as f64;
        let mean = v[0].iter().sum::<f64>() / n;
        vec![v[0].iter().map(|x| 2.0 * (x - mean) / n * dy[0]).collect()]
    };
    Case::new(vec![vector("x", x)], forward, backward)
}
