//! Up to fifty functions of functions.

use super::case::{Case, Draw, Family, vector};
use super::layers::dot;

pub fn families() -> Vec<Family> {
    vec![
        Family::smooth("chain of up to 50", chain),
        Family::smooth("recurrent tanh, up to 50", recurrent),
        Family::smooth("sin of sin, up to 50", sines),
        // A millionfold and more: the steps must be as much shorter.
        Family::smooth("logistic map, up to 20", |d| {
            let (depth, r) = (d.integer(2, 20), d.uniform(3.6, 3.95));
            let value = move |x: f64| (0..depth).fold(x, |x, _| r * x * (1.0 - x));
            let next = move |(x, g): (f64, f64)| (r * x * (1.0 - x), g * r * (1.0 - 2.0 * x));
            let slope = move |x: f64| (0..depth).fold((x, 1.0), |at, _| next(at)).1;
            Case::scalar(d.uniform(0.1, 0.4), value, slope)
        }),
        Family::smooth("nested roots, up to 50", |d| {
            let depth = d.integer(2, 50);
            let value = move |x: f64| (0..depth).fold(x, |y, _| (x + y).sqrt());
            let slope = move |x: f64| {
                let next =
                    |(y, g): (f64, f64)| ((x + y).sqrt(), (1.0 + g) / (2.0 * (x + y).sqrt()));
                (0..depth).fold((x, 1.0), |at, _| next(at)).1
            };
            Case::scalar(d.log(0.01, 100.0), value, slope)
        }),
    ]
}

/// One function, its value and slope.
fn link(kind: usize, a: f64, x: f64) -> (f64, f64) {
    match kind {
        0 => ((a * x).sin(), a * (a * x).cos()),
        1 => ((a * x).tanh(), a / (a * x).cosh().powi(2)),
        2 => (a * x + 0.1, a),
        3 => ((1.0 + a * x * x).ln(), 2.0 * a * x / (1.0 + a * x * x)),
        4 => (x + 0.1 * (a * x).cos(), 1.0 - 0.1 * a * (a * x).sin()),
        _ => (x.exp().ln_1p() - 0.5, 1.0 / (1.0 + (-x).exp())),
    }
}

/// Functions drawn by lot. Where the gradient vanishes nearly, another is drawn.
fn chain(d: &mut Draw) -> Case {
    loop {
        let links: Vec<(usize, f64)> =
            (0..d.integer(1, 50)).map(|_| (d.integer(0, 5), d.uniform(0.8, 1.5))).collect();
        let again = links.clone();
        let value = move |x: f64| links.iter().fold(x, |x, (kind, a)| link(*kind, *a, x).0);
        let slope = move |x: f64| {
            let next = |(x, g): (f64, f64), (kind, a): &(usize, f64)| {
                let (y, slope) = link(*kind, *a, x);
                (y, g * slope)
            };
            again.iter().fold((x, 1.0), next).1
        };
        let x = d.uniform(-2.0, 2.0);
        if slope(x).abs() > 1e-4 {
            return Case::scalar(x, value, slope);
        }
    }
}

/// x ← a sin x; while it wanders, and the gradient is not lost in a fixed point.
fn sines(d: &mut Draw) -> Case {
    loop {
        let (depth, a) = (d.integer(2, 50), d.uniform(1.0, 1.6));
        let value = move |x: f64| (0..depth).fold(x, |x, _| a * x.sin());
        let next = move |(x, g): (f64, f64)| (a * x.sin(), g * a * x.cos());
        let slope = move |x: f64| (0..depth).fold((x, 1.0), |at, _| next(at)).1;
        let x = d.uniform(-1.4, 1.4);
        if slope(x).abs() > 1e-4 {
            return Case::scalar(x, value, slope);
        }
    }
}

/// h ← tanh(W h) of three numbers.
fn recurrent(d: &mut Draw) -> Case {
    let (n, depth) = (3, d.integer(1, 50));
    let all = vec![vector("h", d.vector(n, 1.0)), vector("weight", d.vector(n * n, 1.2))];
    let states = move |v: &[Vec<f64>]| {
        let mut all = vec![v[0].clone()];
        for t in 0..depth {
            let next = v[1].chunks(n).map(|w| dot(w, &all[t]).tanh()).collect();
            all.push(next);
        }
        all
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64], tied: bool| {
        let h = states(v);
        let (mut dh, mut dw) = (dy.to_vec(), vec![0.0; n * n]);
        for t in (0..depth).rev() {
            let dz: Vec<f64> = dh.iter().zip(&h[t + 1]).map(|(d, h)| d * (1.0 - h * h)).collect();
            for (r, c) in (0..n * n).map(|at| (at / n, at % n)) {
                if tied || t + 1 == depth {
                    dw[r * n + c] += dz[r] * h[t][c];
                }
            }
            dh = (0..n).map(|c| (0..n).map(|r| dz[r] * v[1][r * n + c]).sum()).collect();
        }
        vec![dh, dw]
    };
    // Of the weight only the last use.
    let case =
        Case::new(all, move |v| states(v)[depth].clone(), move |v, dy| backward(v, dy, true));
    if depth == 1 { case } else { case.or_wrong(move |v, dy| backward(v, dy, false)) }
}
