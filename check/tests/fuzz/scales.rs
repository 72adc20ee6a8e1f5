//! Numbers of very different size in one tensor or one function, and tiny and huge ones.

use super::case::{Case, Draw, Family, vector};

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("ln(1+x^2), 1e8 apart", |d| {
            Case::each(apart(d, 1e-4, 1e4), |_, x| (x * x).ln_1p(), |_, x| 2.0 * x / (1.0 + x * x))
        }),
        Family::hard("sin(x), 1e8 apart", |d| {
            Case::each(apart(d, 1e-4, 1e4), |_, x| x.sin(), |_, x| x.cos())
        }),
        Family::hard("units 1e8 apart", |d| {
            // Each element in a unit of its own: x = s z, y = sin z.
            let units: Vec<f64> = (0..6).map(|_| d.log(1e-4, 1e4)).collect();
            let x = units.iter().map(|s| s * d.uniform(-1.4, 1.4)).collect();
            let again = units.clone();
            let value = move |i: usize, x: f64| (x / units[i]).sin();
            Case::each(x, value, move |i, x| (x / again[i]).cos() / again[i])
        }),
        Family::hard("sum of squares, 1e8 apart", |d| {
            let backward =
                |v: &[Vec<f64>], dy: &[f64]| vec![v[0].iter().map(|x| 2.0 * x * dy[0]).collect()];
            let forward = |v: &[Vec<f64>]| vec![v[0].iter().map(|x| x * x).sum()];
            Case::new(vec![vector("x", apart(d, 1e-4, 1e4))], forward, backward)
        }),
        Family::hard("two tensors, 1e8 apart", two_tensors),
        Family::hard("1/x, 1e8 apart", |d| {
            Case::each(apart(d, 1e-4, 1e4), |_, x| 1.0 / x, |_, x| -1.0 / x / x)
        }),
        Family::hard("denormal outputs", |d| {
            let slope = |x: f64| (x - 720.0).exp();
            Case::scalar(d.uniform(-3.0, 3.0), slope, slope)
        }),
        Family::hard("denormal gradient", |d| {
            let s = d.log(1e-314, 1e-308);
            Case::scalar(d.log(0.1, 3.0), move |x| s * x * x, move |x| 2.0 * s * x)
        }),
        Family::hard("huge outputs", |d| {
            let s = d.log(1e100, 1e250);
            Case::scalar(d.uniform(-1.4, 1.4), move |x| s * x.sin(), move |x| s * x.cos())
        }),
        Family::hard("tiny or huge inputs", |d| {
            let s = if d.chance(0.5) { d.log(1e-150, 1e-8) } else { d.log(1e8, 1e150) };
            let slope = move |_, x: f64| (x / s).cos() / s;
            let x = d.vector(3, 1.4).iter().map(|x| s * x).collect();
            Case::each(x, move |_, x| (x / s).sin(), slope)
        }),
    ]
}

/// Three to eight values, the largest and the smallest as far apart as said.
fn apart(d: &mut Draw, lo: f64, hi: f64) -> Vec<f64> {
    let n = d.integer(3, 8);
    let mut x: Vec<f64> = (0..n).map(|_| d.log(lo, hi) * d.sign()).collect();
    (x[0], x[1]) = (lo * d.uniform(1.0, 2.0), hi * d.uniform(0.5, 1.0));
    x
}

/// e^a · b beside ε sin(s) · t, in two outputs or in one.
fn two_tensors(d: &mut Draw) -> Case {
    let (tiny, shared) = (d.log(1e-8, 1.0), d.chance(0.5));
    let all = vec![vector("x", d.vector(2, 1.0)), vector("s", d.vector(2, 1.0))];
    let forward = move |v: &[Vec<f64>]| {
        let (large, small) = (v[0][0].exp() * v[0][1], tiny * v[1][0].sin() * v[1][1]);
        if shared { vec![large + small] } else { vec![large, small] }
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        let (x, s, last) = (&v[0], &v[1], tiny * dy[dy.len() - 1]);
        vec![
            vec![dy[0] * x[0].exp() * x[1], dy[0] * x[0].exp()],
            vec![last * s[0].cos() * s[1], last * s[0].sin()],
        ]
    };
    Case::new(all, forward, backward)
}
