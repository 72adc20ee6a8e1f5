//! Kinks beside the point, as near as 1e-7.

use super::case::{Case, Draw, Family, vector};

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("relu", |d| {
            let (x, c, k) = near(d);
            let slope = move |x: f64| if x > c { k } else { 0.0 };
            Case::scalar(x, move |x| (k * (x - c)).max(0.0), slope)
        }),
        Family::hard("leaky relu", |d| {
            let (x, c, _) = near(d);
            let slope = move |x: f64| if x > c { 1.0 } else { 0.01 };
            Case::scalar(x, move |x| slope(x) * (x - c), slope)
                .or_wrong(move |v, dy| vec![vec![dy[0] * if v[0][0] > c { 0.01 } else { 1.0 }]])
        }),
        Family::hard("abs(x-c)", |d| {
            let (x, c, _) = near(d);
            let slope = move |x: f64| (x - c).signum();
            Case::scalar(x, move |x| (x - c).abs(), slope)
        }),
        Family::hard("max(x^2, c^2)", |d| {
            let (x, c, _) = near(d);
            let slope = move |x: f64| if x.abs() > c.abs() { 2.0 * x } else { 0.0 };
            Case::scalar(x, move |x| (x * x).max(c * c), slope)
        }),
        Family::hard("huber", huber),
        Family::hard("hard sigmoid", |d| {
            let (x, c, _) = near(d);
            let side = if d.chance(0.5) { 3.0 } else { -3.0 };
            let z = move |x: f64| (x - c + side) / 6.0 + 0.5;
            let inside = move |x: f64| z(x) > 0.0 && z(x) < 1.0;
            let slope = move |x: f64| if inside(x) { 1.0 / 6.0 } else { 0.0 };
            Case::scalar(x, move |x| z(x).clamp(0.0, 1.0), slope)
        }),
        Family::hard("20 relu pieces", |d| {
            let (x, c, _) = near(d);
            let z = move |x: f64, i: usize| x - c - 0.37 * i as f64 + 3.0;
            let value = move |x: f64| (0..20).map(|i| z(x, i).max(0.0) * (i as f64).cos()).sum();
            let on = move |x: f64, i: usize| if z(x, i) > 0.0 { 1.0 } else { 0.0 };
            let slope = move |x: f64| (0..20).map(|i| on(x, i) * (i as f64).cos()).sum();
            Case::scalar(x, value, slope)
        }),
        Family::hard("abs(x-c)^1.5", |d| {
            let (x, c, _) = near(d);
            let slope = move |x: f64| 1.5 * (x - c).abs().sqrt() * (x - c).signum();
            Case::scalar(x, move |x| (x - c).abs().powf(1.5), slope)
        }),
        Family::hard("exp(x) + w abs(x-c)", |d| {
            let (x, c, _) = near(d);
            let w = d.log(1e-6, 1e-2);
            let slope = move |x: f64| x.exp() + w * (x - c).signum();
            Case::scalar(x, move |x| x.exp() + w * (x - c).abs(), slope)
                .or_wrong(move |v, dy| vec![vec![dy[0] * v[0][0].exp()]])
        }),
        Family::hard("cubic pieces", |d| {
            let (x, c, _) = near(d);
            let cubic = move |x: f64| (x - c).powi(2) * (x - c).abs();
            Case::scalar(x, cubic, move |x| 3.0 * (x - c) * (x - c).abs())
        }),
        Family::hard("max of near ties", max_of_near_ties),
        Family::hard("relu layer", relu_layer),
        Family::hard("sqrt near 0", |d| {
            let x = d.log(1e-12, 1.0);
            Case::scalar(x, f64::sqrt, |x| 0.5 / x.sqrt())
        }),
    ]
}

/// A point, a kink nearby, and a slope.
fn near(d: &mut Draw) -> (f64, f64, f64) {
    let x = d.uniform(-3.0, 3.0);
    (x, x + d.log(1e-7, 1.0) * d.sign(), d.log(1.0, 100.0))
}

/// With the point near the end of the parabola.
fn huber(d: &mut Draw) -> Case {
    let (x, kink, _) = near(d);
    let c = kink - 0.1 * d.sign();
    let value = move |x: f64| {
        let d = (x - c).abs();
        if d < 0.1 { 0.5 * d * d } else { 0.1 * (d - 0.05) }
    };
    Case::scalar(x, value, move |x| (x - c).clamp(-0.1, 0.1))
}

fn largest(x: &[f64]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

fn max_of_near_ties(d: &mut Draw) -> Case {
    let mut x = d.vector(5, 2.0);
    let (first, gap) = (largest(&x), d.log(1e-6, 1e-1));
    let second = (first + d.integer(1, 4)) % 5;
    x[second] = x[first] - gap;
    let one = |v: &[Vec<f64>], dy: &[f64], near: f64| {
        let most = v[0][largest(&v[0])];
        vec![v[0].iter().map(|x| if *x >= most - near { dy[0] } else { 0.0 }).collect()]
    };
    let forward = |v: &[Vec<f64>]| vec![v[0][largest(&v[0])]];
    // What is close counts as the largest, too.
    Case::new(vec![vector("x", x)], forward, move |v, dy| one(v, dy, 0.0))
        .or_wrong(move |v, dy| one(v, dy, 1.1 * gap))
}

/// relu(Wx) of 8 x 6, kinks where they fall.
fn relu_layer(d: &mut Draw) -> Case {
    let (i, o) = (6, 8);
    let all = vec![vector("x", d.vector(i, 1.0)), vector("weight", d.vector(i * o, 1.0))];
    let hidden = move |v: &[Vec<f64>]| -> Vec<f64> {
        v[1].chunks(i).map(|w| super::layers::dot(w, &v[0])).collect()
    };
    let backward = move |v: &[Vec<f64>], dy: &[f64]| {
        let on = |(d, z): (&f64, f64)| if z > 0.0 { *d } else { 0.0 };
        let dz: Vec<f64> = dy.iter().zip(hidden(v)).map(on).collect();
        let dx = (0..i).map(|j| (0..o).map(|r| dz[r] * v[1][r * i + j]).sum()).collect();
        vec![dx, dz.iter().flat_map(|d| v[0].iter().map(move |x| d * x)).collect()]
    };
    Case::new(all, move |v| hidden(v).iter().map(|z| z.max(0.0)).collect(), backward)
}
