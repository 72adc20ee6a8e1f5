//! Functions that do all they do in a narrow place.

use super::case::{Case, Family};

pub fn families() -> Vec<Family> {
    vec![
        Family::smooth("bump", |d| {
            let (x, k) = (d.uniform(-3.0, 3.0), d.log(1.0, 1e4));
            gauss(x, k, x + d.uniform(-3.0, 3.0) / k)
        }),
        // Far on the flank, down to where nothing is left.
        Family::hard("bump, far flank", |d| {
            let (x, k) = (d.uniform(-3.0, 3.0), d.log(10.0, 1e4));
            gauss(x, k, x + d.uniform(3.0, 40.0) * d.sign() / k)
        }),
        Family::smooth("resonance", |d| {
            let (x, k) = (d.uniform(-3.0, 3.0), d.log(1.0, 1e4));
            let c = x + d.uniform(-5.0, 5.0) / k;
            let z = move |x: f64| k * (x - c);
            let slope = move |x: f64| -2.0 * k * z(x) / (1.0 + z(x).powi(2)).powi(2);
            Case::scalar(x, move |x| 1.0 / (1.0 + z(x).powi(2)), slope)
        }),
        Family::smooth("steep sigmoid", |d| {
            let (x, k) = (d.uniform(-3.0, 3.0), d.log(10.0, 1e5));
            let c = x + d.uniform(-5.0, 5.0) / k;
            let s = move |x: f64| 1.0 / (1.0 + (-k * (x - c)).exp());
            let slope = move |x: f64| k * s(x) / (1.0 + (k * (x - c)).exp());
            Case::scalar(x, s, slope)
        }),
        // Where it is flat a wrong slope has nothing but round-off against it.
        Family::hard("steep sigmoid, flat part", |d| {
            let (x, k) = (d.uniform(-3.0, 3.0), d.log(10.0, 1e5));
            let c = x + d.uniform(5.0, 100.0) * d.sign() / k;
            let s = move |x: f64| 1.0 / (1.0 + (-k * (x - c)).exp());
            let slope = move |x: f64| k * s(x) / (1.0 + (k * (x - c)).exp());
            Case::scalar(x, s, slope)
        }),
        Family::smooth("bump on a sine", |d| {
            let (x, k, a) = (d.uniform(-3.0, 3.0), d.log(10.0, 1e4), d.log(1e-4, 1.0));
            let c = x + d.uniform(-6.0, 6.0) / k;
            let bump = move |x: f64| a * (-(k * (x - c)).powi(2)).exp();
            let slope = move |x: f64| x.cos() - 2.0 * k * k * (x - c) * bump(x);
            Case::scalar(x, move |x| x.sin() + bump(x), slope)
        }),
    ]
}

fn gauss(x: f64, k: f64, c: f64) -> Case {
    let bump = move |x: f64| (-(k * (x - c)).powi(2)).exp();
    Case::scalar(x, bump, move |x| -2.0 * k * k * (x - c) * bump(x))
}
