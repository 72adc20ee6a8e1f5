//! Waves with up to 20,000 radians in a unit.

use super::case::{Case, Draw, Family, vector};
use super::layers::dot;

pub fn families() -> Vec<Family> {
    vec![
        Family::smooth("sin(kx+b)", |d| {
            let (k, b) = (d.log(1.0, 2e4), d.uniform(0.0, 6.3));
            let slope = move |x: f64| k * (k * x + b).cos();
            Case::scalar(d.uniform(-3.0, 3.0), move |x| (k * x + b).sin(), slope)
        }),
        Family::smooth("sin(kx), round k", |d| {
            let k = [100.0, 1000.0, 1024.0, 4096.0, 1e4, 2e4][d.integer(0, 5)];
            let slope = move |x: f64| k * (k * x).cos();
            Case::scalar(d.uniform(0.1, 2.0), move |x| (k * x).sin(), slope)
        }),
        Family::smooth("sin(wx) of 64", |d| {
            let w = d.log(30.0, 3000.0);
            Case::each(d.vector(64, 1.0), move |_, x| (w * x).sin(), move |_, x| w * (w * x).cos())
        }),
        Family::smooth("siren layer", siren),
        Family::smooth("chirp", |d| {
            let k = d.log(1.0, 2e3);
            let slope = move |x: f64| 2.0 * k * x * (k * x * x).cos();
            Case::scalar(d.uniform(0.3, 3.0), move |x| (k * x * x).sin(), slope)
        }),
        Family::smooth("exp(-x) sin(kx)", |d| {
            let k = d.log(1.0, 2e4);
            let slope = move |x: f64| (-x).exp() * (k * (k * x).cos() - (k * x).sin());
            Case::scalar(d.uniform(-1.0, 3.0), move |x| (-x).exp() * (k * x).sin(), slope)
        }),
        Family::smooth("waves in octaves", |d| {
            let (octaves, b) = (d.integer(2, 14), d.uniform(0.0, 6.3));
            let k = |i: usize| f64::from(1 << i);
            let value = move |x: f64| (0..octaves).map(|i| (k(i) * x + b).sin() / k(i)).sum();
            let slope = move |x: f64| (0..octaves).map(|i| (k(i) * x + b).cos()).sum();
            Case::scalar(d.uniform(-3.0, 3.0), value, slope)
        }),
        Family::smooth("x + ripple", |d| {
            let (k, a) = (d.log(10.0, 2e4), d.log(1e-6, 1e-1));
            let slope = move |x: f64| 1.0 + a * k * (k * x).cos();
            Case::scalar(d.uniform(-3.0, 3.0), move |x| x + a * (k * x).sin(), slope)
        }),
    ]
}

/// sin(ω (Wx + b))
fn siren(d: &mut Draw) -> Case {
    let (i, o, omega) = (3, 4, d.log(30.0, 3000.0));
    let (x, w, b) = (d.vector(i, 1.0), d.vector(i * o, 1.0), d.vector(o, 1.0));
    let all = vec![vector("x", x), vector("weight", w), vector("bias", b)];
    let angles = move |v: &[Vec<f64>]| -> Vec<f64> {
        let rows = v[1].chunks(i).zip(&v[2]);
        rows.map(|(w, b)| omega * (dot(w, &v[0]) + b)).collect()
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        let dz: Vec<f64> = dy.iter().zip(angles(v)).map(|(d, z)| d * omega * z.cos()).collect();
        let dx = (0..i).map(|j| (0..o).map(|r| dz[r] * v[1][r * i + j]).sum()).collect();
        let dw = dz.iter().flat_map(|d| v[0].iter().map(move |x| d * x)).collect();
        vec![dx, dw, dz]
    };
    Case::new(all, move |v| angles(v).iter().map(|z| z.sin()).collect(), backward)
        // ω is forgotten.
        .or_wrong(move |v, dy| {
            let dz: Vec<f64> = dy.iter().zip(angles(v)).map(|(d, z)| d * z.cos()).collect();
            let dx = (0..i).map(|j| (0..o).map(|r| dz[r] * v[1][r * i + j]).sum()).collect();
            vec![dx, dz.iter().flat_map(|d| v[0].iter().map(move |x| d * x)).collect(), dz]
        })
}
