//! Kinks at the very point: claims between the one-sided slopes are a choice, those beyond are wrong.

use super::case::{Case, Draw, Family, vector};

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("abs at 0", |d| {
            let claim = [-1.0, 0.0, 1.0, d.uniform(-1.0, 1.0)][d.integer(0, 3)];
            at_zero(d, f64::abs, [-1.0, 1.0], claim)
        }),
        Family::hard("relu at 0", |d| {
            let claim = [0.0, 0.0, 1.0, 0.5, d.uniform(0.0, 1.0)][d.integer(0, 4)];
            at_zero(d, |x| x.max(0.0), [0.0, 1.0], claim)
        }),
        Family::hard("exp(x) + w abs(x) at 0", |d| {
            let w = d.log(1e-4, 1.0);
            let claim = d.uniform(-1.0, 1.0) * w;
            let beyond = d.sign() * w * (1.0 + d.log(0.1, 10.0));
            let slope = move |x: f64| x.exp() + if x == 0.0 { beyond } else { w * x.signum() };
            smooth_and_kink(w, 1.0 + claim).only_wrong(move |_, x| slope(x))
        }),
        Family::hard("clamp at its bounds", |d| {
            let claim = [0.0, 0.5, 1.0][d.integer(0, 2)];
            let slope = |claim: f64| {
                move |_: usize, x: f64| match x {
                    0.0 | 1.0 => claim,
                    x if x > 0.0 && x < 1.0 => 1.0,
                    _ => 0.0,
                }
            };
            let x = vec![0.0, 1.0, d.uniform(0.1, 0.9), d.uniform(1.1, 3.0), d.uniform(-2.0, -0.1)];
            let wrong = [1.0 + d.log(1e-3, 10.0), -d.log(1e-3, 10.0)][d.integer(0, 1)];
            Case::each(x, |_, x| x.clamp(0.0, 1.0), slope(claim)).only_wrong(slope(wrong))
        }),
        Family::hard("max with ties", max_with_ties),
        Family::hard("relu, half exact zeros", |d| {
            let n = d.integer(4, 200);
            let x: Vec<f64> = (0..n).map(|_| d.uniform(-2.0, 2.0).max(0.0)).collect();
            let slope = |claim: f64| move |_: usize, x: f64| if x > 0.0 { 1.0 } else { claim };
            let wrong = [-d.log(0.01, 10.0), 1.0 + d.log(0.01, 10.0)][d.integer(0, 1)];
            let has_zero = x.contains(&0.0);
            let case = Case::each(x, |_, x| x.max(0.0), slope(0.0));
            if has_zero { case.only_wrong(slope(wrong)) } else { case }
        }),
    ]
}

/// A function with a kink at 0, two slopes, and straight elsewhere; a claim at 0, and one that is beyond.
fn at_zero(d: &mut Draw, f: fn(f64) -> f64, sides: [f64; 2], claim: f64) -> Case {
    let n = d.integer(1, 4);
    let mut x: Vec<f64> = (0..n).map(|_| d.log(0.1, 3.0) * d.sign()).collect();
    x[d.integer(0, n - 1)] = 0.0;
    let beyond = d.log(0.01, 100.0);
    let wrong = if d.chance(0.5) { sides[1] + beyond } else { sides[0] - beyond };
    let slope = move |claim: f64| {
        move |_: usize, x: f64| match x {
            0.0 => claim,
            x if x > 0.0 => sides[1],
            _ => sides[0],
        }
    };
    Case::each(x, move |_, x| f(x), slope(claim)).only_wrong(slope(wrong))
}

fn smooth_and_kink(w: f64, claim: f64) -> Case {
    let slope = move |x: f64| if x == 0.0 { claim } else { x.exp() + w * x.signum() };
    Case::scalar(0.0, move |x| x.exp() + w * x.abs(), slope)
}

/// Two to five values, some of which are the largest. Weights of the tied ones that add up to 1 are a choice.
fn max_with_ties(d: &mut Draw) -> Case {
    let n = d.integer(2, 5);
    let ties = d.integer(2, n);
    let most = d.uniform(0.5, 2.0);
    let x: Vec<f64> =
        (0..n).map(|i| if i < ties { most } else { most - d.uniform(0.3, 2.0) }).collect();
    let mut share = vec![0.0; n];
    if d.chance(0.5) {
        share[d.integer(0, ties - 1)] = 1.0;
    } else {
        share[..ties].fill(1.0 / ties as f64);
    }
    let back = move |v: &[Vec<f64>], dy: &[f64], share: &[f64]| {
        let most = v[0].iter().copied().fold(f64::MIN, f64::max);
        let tied = v[0].iter().filter(|x| **x == most).count();
        // Elsewhere than here no two are tied.
        let one = |(x, s): (&f64, &f64)| match *x == most {
            true if tied == ties => s * dy[0],
            true => dy[0] / tied as f64,
            false => 0.0,
        };
        vec![v[0].iter().zip(share).map(one).collect()]
    };
    let forward = |v: &[Vec<f64>]| vec![v[0].iter().copied().fold(f64::MIN, f64::max)];
    // The whole gradient to every tied one.
    Case::new(vec![vector("x", x)], forward, move |v, dy| back(v, dy, &share))
        .or_wrong(move |v, dy| back(v, dy, &vec![1.0; v[0].len()]))
        .only_own()
}
