//! Jumps beside the point, and tables.

use super::case::{Case, Draw, Family};

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("x floor(kx)", |d| {
            let k = d.log(1.0, 100.0);
            Case::scalar(between(d, k), move |x| x * (k * x).floor(), move |x| (k * x).floor())
        }),
        Family::hard("quantised + sin", |d| {
            let (x, k) = (between(d, 256.0) + 0.5 / 256.0, 256.0);
            Case::scalar(x, move |x| (k * x).round() / k + x.sin(), f64::cos)
        }),
        Family::hard("x - floor(x)", |d| Case::scalar(between(d, 1.0), |x| x - x.floor(), |_| 1.0)),
        Family::hard("smooth + rare step", |d| {
            let (x, a) = (d.uniform(-3.0, 3.0), d.log(1e-6, 10.0));
            let c = x + d.log(1e-7, 1.0) * d.sign();
            Case::scalar(x, move |x| x.exp() + if x > c { a } else { 0.0 }, f64::exp)
        }),
        Family::hard("linear table of sin", |d| {
            let k = d.log(4.0, 1000.0);
            let knot = move |i: f64| (i / k).sin();
            let value = move |x: f64| {
                let low = (x * k).floor();
                knot(low) + (x * k - low) * (knot(low + 1.0) - knot(low))
            };
            let slope = move |x: f64| {
                let low = (x * k).floor();
                k * (knot(low + 1.0) - knot(low))
            };
            Case::scalar(between(d, k), value, slope)
        }),
    ]
}

/// A point at which kx is no nearer than 1e-6 to an integer.
fn between(d: &mut Draw, k: f64) -> f64 {
    let whole = d.uniform(-3.0 * k, 3.0 * k).floor();
    let part = d.log(1e-6, 0.5);
    (whole + if d.chance(0.5) { part } else { 1.0 - part }) / k
}
