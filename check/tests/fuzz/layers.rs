//! Layers over small arrays.

use super::case::{Case, Draw, Family, vector};

pub fn families() -> Vec<Family> {
    vec![
        Family::smooth("softmax", |d| softmax_of(d.integer(2, 8), d)),
        Family::smooth("softmax over 150", |d| softmax_of(150, d)),
        Family::smooth("layer norm", layer_norm),
        Family::smooth("attention", attention),
        Family::smooth("product", product),
        Family::smooth("linear, tanh", linear_tanh),
        Family::smooth("cross entropy", cross_entropy),
        Family::smooth("mean of squares", mean_of_squares),
        Family::smooth("cosine similarity", cosine),
        Family::smooth("bilinear", |d| {
            let n = d.integer(1, 8);
            let all = vec![vector("x", d.vector(n, 2.0)), vector("y", d.vector(n, 2.0))];
            let times = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect();
            Case::new(
                all,
                move |v| times(&v[0], &v[1]),
                move |v, dy| vec![times(dy, &v[1]), times(dy, &v[0])],
            )
        }),
    ]
}

pub fn softmax(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::MIN, f64::max);
    let all: Vec<f64> = x.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = all.iter().sum();
    all.iter().map(|e| e / sum).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// dx of y = softmax(x)
fn softmax_back(y: &[f64], dy: &[f64]) -> Vec<f64> {
    let mean = dot(y, dy);
    y.iter().zip(dy).map(|(y, d)| y * (d - mean)).collect()
}

fn softmax_of(n: usize, d: &mut Draw) -> Case {
    let x = d.vector(n, 3.0);
    let right = |v: &[Vec<f64>], dy: &[f64]| vec![softmax_back(&softmax(&v[0]), dy)];
    Case::new(vec![vector("x", x)], |v| softmax(&v[0]), right)
        // The mean is forgotten.
        .or_wrong(|v, dy| vec![softmax(&v[0]).iter().zip(dy).map(|(y, d)| y * d).collect()])
}

/// Normalised values and 1/deviation.
fn normalised(x: &[f64]) -> (Vec<f64>, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let rstd = 1.0 / (variance + 1e-5).sqrt();
    (x.iter().map(|x| (x - mean) * rstd).collect(), rstd)
}

fn layer_norm(d: &mut Draw) -> Case {
    let n = d.integer(3, 8);
    let (weight, bias) = (d.vector(n, 1.5), d.vector(n, 1.0));
    let x = d.vector(n, 2.0);
    let back = |v: &[Vec<f64>], dy: &[f64], with_mean: f64| {
        let (h, rstd) = normalised(&v[0]);
        let dh: Vec<f64> = dy.iter().zip(&v[1]).map(|(d, w)| d * w).collect();
        let n = h.len() as f64;
        let (mean, along) = (with_mean * dh.iter().sum::<f64>() / n, dot(&dh, &h) / n);
        let dx = dh.iter().zip(&h).map(|(d, h)| (d - mean - h * along) * rstd).collect();
        vec![dx, dy.iter().zip(&h).map(|(d, h)| d * h).collect(), dy.to_vec()]
    };
    let forward = |v: &[Vec<f64>]| {
        let h = normalised(&v[0]).0;
        h.iter().zip(v[1].iter().zip(&v[2])).map(|(h, (w, b))| h * w + b).collect()
    };
    let all = vec![vector("x", x), vector("weight", weight), vector("bias", bias)];
    Case::new(all, forward, move |v, dy| back(v, dy, 1.0)).or_wrong(move |v, dy| back(v, dy, 0.0))
}

/// Tokens, and width of each.
const N: usize = 3;
const C: usize = 2;

/// Probabilities of every token over all.
fn probs(q: &[f64], k: &[f64]) -> Vec<Vec<f64>> {
    let scale = 1.0 / (C as f64).sqrt();
    let row = |q: &[f64]| softmax(&k.chunks(C).map(|k| scale * dot(q, k)).collect::<Vec<_>>());
    q.chunks(C).map(row).collect()
}

fn attention(d: &mut Draw) -> Case {
    let all = ["q", "k", "v"].map(|name| vector(name, d.vector(N * C, 1.5)));
    let forward = |v: &[Vec<f64>]| {
        let p = probs(&v[0], &v[1]);
        let one = |i: usize, c: usize| (0..N).map(|j| p[i][j] * v[2][j * C + c]).sum();
        (0..N * C).map(|at| one(at / C, at % C)).collect()
    };
    let back = |v: &[Vec<f64>], dy: &[f64], scale: f64| {
        let p = probs(&v[0], &v[1]);
        let mut all = vec![vec![0.0; N * C]; 3];
        for i in 0..N {
            let dy = &dy[i * C..(i + 1) * C];
            let dp: Vec<f64> = v[2].chunks(C).map(|row| dot(dy, row)).collect();
            let ds = softmax_back(&p[i], &dp);
            for (j, c) in (0..N * C).map(|at| (at / C, at % C)) {
                all[0][i * C + c] += scale * ds[j] * v[1][j * C + c];
                all[1][j * C + c] += ds[j] * v[0][i * C + c] / (C as f64).sqrt();
                all[2][j * C + c] += p[i][j] * dy[c];
            }
        }
        all
    };
    let scale = 1.0 / (C as f64).sqrt();
    // The scale twice.
    Case::new(all.into(), forward, move |v, dy| back(v, dy, scale))
        .or_wrong(move |v, dy| back(v, dy, scale * scale))
}

fn product(d: &mut Draw) -> Case {
    let n = d.integer(2, 6);
    let x = (0..n).map(|_| d.log(0.1, 3.0) * d.sign()).collect();
    let others = |x: &[f64], i: usize| -> f64 {
        x.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, x)| x).product()
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        vec![(0..v[0].len()).map(|i| dy[0] * others(&v[0], i)).collect()]
    };
    Case::new(vec![vector("x", x)], |v| vec![v[0].iter().product()], backward)
}

fn linear_tanh(d: &mut Draw) -> Case {
    let (i, o) = (d.integer(1, 5), d.integer(1, 5));
    let (x, w, b) = (d.vector(i, 1.0), d.vector(i * o, 0.7), d.vector(o, 0.5));
    let all = vec![vector("x", x), vector("weight", w), vector("bias", b)];
    let forward = |v: &[Vec<f64>]| -> Vec<f64> {
        let rows = v[1].chunks(v[0].len()).zip(&v[2]);
        rows.map(|(w, b)| (dot(w, &v[0]) + b).tanh()).collect()
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        let y = forward(v);
        let dz: Vec<f64> = dy.iter().zip(&y).map(|(d, y)| d * (1.0 - y * y)).collect();
        let n = v[0].len();
        let dx = (0..n).map(|j| (0..dz.len()).map(|r| dz[r] * v[1][r * n + j]).sum()).collect();
        let dw = dz.iter().flat_map(|d| v[0].iter().map(move |x| d * x)).collect();
        vec![dx, dw, dz]
    };
    Case::new(all, forward, backward)
}

fn cross_entropy(d: &mut Draw) -> Case {
    let n = d.integer(2, 10);
    let target = d.integer(0, n - 1);
    let forward = move |v: &[Vec<f64>]| {
        let most = v[0].iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = v[0].iter().map(|z| (z - most).exp()).sum();
        vec![most + sum.ln() - v[0][target]]
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        let mut p = softmax(&v[0]);
        // p − 1 without cancellation
        let rest: f64 = p.iter().enumerate().filter(|(i, _)| *i != target).map(|(_, p)| p).sum();
        p[target] = -rest;
        vec![p.iter().map(|p| p * dy[0]).collect()]
    };
    Case::new(vec![vector("z", d.vector(n, 3.0))], forward, backward)
        .or_wrong(move |v, dy| vec![softmax(&v[0]).iter().map(|p| p * dy[0]).collect()])
}

fn mean_of_squares(d: &mut Draw) -> Case {
    let n = d.integer(1, 200);
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        let n = v[0].len() as f64;
        vec![v[0].iter().map(|x| 2.0 * x / n * dy[0]).collect()]
    };
    let forward = |v: &[Vec<f64>]| vec![dot(&v[0], &v[0]) / v[0].len() as f64];
    Case::new(vec![vector("x", d.vector(n, 2.0))], forward, backward)
}

fn cosine(d: &mut Draw) -> Case {
    let n = d.integer(2, 6);
    let all = vec![vector("a", d.vector(n, 2.0)), vector("b", d.vector(n, 2.0))];
    let length = |x: &[f64]| dot(x, x).sqrt();
    let similar = move |v: &[Vec<f64>]| dot(&v[0], &v[1]) / (length(&v[0]) * length(&v[1]));
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        let s = similar(v);
        let one = |a: &[f64], b: &[f64]| -> Vec<f64> {
            let (la, lb) = (length(a), length(b));
            a.iter().zip(b).map(|(a, b)| dy[0] * (b / lb - s * a / la) / la).collect()
        };
        vec![one(&v[0], &v[1]), one(&v[1], &v[0])]
    };
    Case::new(all, move |v| vec![similar(v)], backward)
}
