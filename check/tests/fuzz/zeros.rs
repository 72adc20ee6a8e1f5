//! Gradients that are zero, and arrays without elements.

use super::case::{Case, Family, vector};
use super::layers::softmax;

pub fn families() -> Vec<Family> {
    vec![
        Family::hard("round", |d| {
            let n = d.integer(1, 5);
            let x = (0..n).map(|_| d.integer(0, 6) as f64 - 3.0 + d.uniform(-0.45, 0.45));
            Case::each(x.collect(), |_, x| x.round(), |_, _| 0.0).only_wrong(|_, _| 1.0)
        }),
        Family::hard("sum of a softmax", |d| {
            let n = d.integer(2, 8);
            let forward = |v: &[Vec<f64>]| vec![softmax(&v[0]).iter().sum()];
            Case::new(vec![vector("x", d.vector(n, 3.0))], forward, |v, _| {
                vec![vec![0.0; v[0].len()]]
            })
        }),
        Family::hard("unused variable", |d| {
            let all = vec![vector("x", d.vector(3, 1.4)), vector("unused", d.vector(2, 1.0))];
            let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
            Case::new(all, forward, |v, dy| {
                let slope = v[0].iter().zip(dy).map(|(x, d)| d * x.cos()).collect();
                vec![slope, vec![0.0; 2]]
            })
            .or_wrong(|v, dy| {
                let slope = v[0].iter().zip(dy).map(|(x, d)| d * x.cos()).collect();
                vec![slope, vec![dy[0], 0.0]]
            })
        }),
        Family::hard("mean of a normalised row", |d| {
            let n = d.integer(3, 8);
            let forward = |v: &[Vec<f64>]| {
                let n = v[0].len() as f64;
                let mean = v[0].iter().sum::<f64>() / n;
                let length = v[0].iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt();
                vec![v[0].iter().map(|x| (x - mean) / length).sum::<f64>() / n]
            };
            Case::new(vec![vector("x", d.vector(n, 2.0))], forward, |v, _| {
                vec![vec![0.0; v[0].len()]]
            })
        }),
        Family::hard("no elements", |_| {
            let forward = |_: &[Vec<f64>]| Vec::new();
            let case = Case::new(vec![vector("x", Vec::new())], forward, |_, _| vec![Vec::new()]);
            case.or_wrong(|_, _| vec![vec![1.0]]).only_own()
        }),
        Family::hard("one tensor without elements", |d| {
            let all = vec![vector("empty", Vec::new()), vector("x", d.vector(2, 1.4))];
            let slopes = |v: &[Vec<f64>], dy: &[f64]| {
                vec![Vec::new(), v[1].iter().zip(dy).map(|(x, d)| d * x.cos()).collect()]
            };
            Case::new(all, |v| v[1].iter().map(|x| x.sin()).collect(), slopes)
        }),
    ]
}
