//! Recorded random draws, handed out again.

use crate::fixture::Fixture;
use beit::data::geometry::Draws;
use serde_json::Value;

/// The law of a draw.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Law {
    Uniform,
    Integer,
    Normal,
    Beta,
}

/// The draws of one sample. A draw of another kind, beyond its range or past the end is a failure.
pub struct Replay {
    draws: std::vec::IntoIter<(Law, f64)>,
}

impl Replay {
    fn new(draws: Vec<(Law, f64)>) -> Self {
        Self { draws: draws.into_iter() }
    }

    /// All recordings under these tensor names, one per pair of neighbouring offsets.
    pub fn all(fx: &Fixture, values: &str, kinds: &str, offsets: &str) -> Vec<Self> {
        let (values, kinds) = (fx.f64(values), fx.f64(kinds));
        let law = |kind: f64| if kind == 0.0 { Law::Uniform } else { Law::Integer };
        let one = |range: &[f64]| {
            let range = range[0] as usize..range[1] as usize;
            let kinds = kinds[range.clone()].iter().map(|&kind| law(kind));
            Self::new(kinds.zip(values[range].iter().copied()).collect())
        };
        fx.f64(offsets).windows(2).map(one).collect()
    }

    /// A list of pairs (kind, number or numbers), as in the cases of fine-tuning.
    pub fn listed(list: &Value) -> Self {
        let mut draws = Vec::new();
        for pair in list.as_array().expect("draws") {
            let law = match pair[0].as_str().expect("a kind") {
                "uniform" | "uniform01" | "uniform01s" | "flip" => Law::Uniform,
                "integer" | "integer_below" | "crop" | "ops" | "index" => Law::Integer,
                "gauss" => Law::Normal,
                "beta" | "betas" => Law::Beta,
                other => panic!("unknown draw {other}"),
            };
            let numbers = pair[1].as_array().map_or(std::slice::from_ref(&pair[1]), Vec::as_slice);
            draws.extend(numbers.iter().map(|x| (law, x.as_f64().expect("a number"))));
        }
        Self::new(draws)
    }

    /// Integers from elsewhere than 0: `start` of the n-th one is where it was drawn from.
    pub fn integers_from(self, start: impl Fn(usize) -> f64) -> Self {
        let mut n = 0;
        let shifted = |(law, value): (Law, f64)| {
            let by = if law == Law::Integer { start(n) } else { 0.0 };
            n += usize::from(law == Law::Integer);
            (law, value - by)
        };
        Self::new(self.draws.map(shifted).collect())
    }

    /// Noise `[C,h,w]` after all else, in the order of `[h,w,C]`.
    pub fn then_noise(self, fx: &Fixture, name: &str) -> Self {
        let (noise, shape) = (fx.f64(name), fx.shape(name));
        let noise = Fixture::to_nhwc(&noise, &[&[1], &shape[..]].concat());
        Self::new(self.draws.chain(noise.into_iter().map(|x| (Law::Normal, x))).collect())
    }

    /// Draws that nobody asked for.
    pub fn left(&self) -> usize {
        self.draws.len()
    }

    fn next(&mut self, law: Law) -> f64 {
        let (got, value) = self.draws.next().expect("more draws than were recorded");
        assert_eq!(got, law, "a draw of another law was recorded here");
        value
    }
}

impl Draws for Replay {
    fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        let value = self.next(Law::Uniform);
        let range = lo.min(hi) - 1e-12..=lo.max(hi) + 1e-12;
        assert!(range.contains(&value), "{value} was recorded, {lo}..{hi} asked for");
        value
    }

    fn integer(&mut self, max: usize) -> usize {
        let value = self.next(Law::Integer);
        assert!(
            (0.0..=max as f64).contains(&value),
            "{value} was recorded, at most {max} asked for"
        );
        value as usize
    }

    fn normal(&mut self, _: f64, _: f64) -> f64 {
        self.next(Law::Normal)
    }

    fn beta(&mut self, _: f64) -> f64 {
        self.next(Law::Beta)
    }
}
