//! Functions that compute in f32, forward, backward or both.

use super::case::{Case, Draw, Family, vector};

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("f32 tanh", |d| {
            let n = d.integer(1, 6);
            let value = |_, x: f64| f64::from((x as f32).tanh());
            let slope = |_, x: f64| {
                let h = (x as f32).tanh();
                f64::from(1.0 - h * h)
            };
            Case::each(d.vector(n, 2.0), value, slope)
        }),
        Family::hard("f32 linear, relu", linear_relu),
        Family::hard("f32 layer norm", layer_norm),
        Family::hard("f32 backward only", |d| {
            let n = d.integer(1, 6);
            Case::each(d.vector(n, 1.4), |_, x| x.sin(), |_, x| f64::from((x as f32).cos()))
        }),
        Family::hard("f32 forward only", |d| {
            let n = d.integer(1, 6);
            Case::each(d.vector(n, 1.4), |_, x| f64::from((x as f32).sin()), |_, x| x.cos())
        }),
    ]
}

fn single(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

fn double(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// relu(Wx) of 5 x 10
fn linear_relu(d: &mut Draw) -> Case {
    let (i, o) = (10, 5);
    let all = vec![vector("x", d.vector(i, 1.0)), vector("weight", d.vector(i * o, 1.0))];
    let hidden = move |v: &[Vec<f64>]| -> Vec<f32> {
        let x = single(&v[0]);
        single(&v[1]).chunks(i).map(|w| dot(w, &x)).collect()
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        let (x, w) = (single(&v[0]), single(&v[1]));
        let on = |(d, z): (f32, f32)| if z > 0.0 { d } else { 0.0 };
        let dz: Vec<f32> = single(dy).into_iter().zip(hidden(v)).map(on).collect();
        let dx: Vec<f32> = (0..i).map(|j| (0..o).map(|r| dz[r] * w[r * i + j]).sum()).collect();
        let dw: Vec<f32> = dz.iter().flat_map(|d| x.iter().map(move |x| d * x)).collect();
        vec![double(&dx), double(&dw)]
    };
    let relu = move |v: &[Vec<f64>]| hidden(v).iter().map(|z| f64::from(z.max(0.0))).collect();
    Case::new(all, relu, backward)
}

fn normalised(x: &[f64]) -> (Vec<f32>, f32) {
    let x = single(x);
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
    let rstd = 1.0 / (variance + 1e-5).sqrt();
    (x.iter().map(|x| (x - mean) * rstd).collect(), rstd)
}

fn layer_norm(d: &mut Draw) -> Case {
    let n = d.integer(3, 8);
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        let ((h, rstd), dy) = (normalised(&v[0]), single(dy));
        let n = h.len() as f32;
        let (mean, along) = (dy.iter().sum::<f32>() / n, dot(&dy, &h) / n);
        let dx: Vec<f32> = dy.iter().zip(&h).map(|(d, h)| (d - mean - h * along) * rstd).collect();
        vec![double(&dx)]
    };
    Case::new(vec![vector("x", d.vector(n, 2.0))], |v| double(&normalised(&v[0]).0), backward)
}
