//! Recorded random draws, handed out again.

use crate::fixture::Fixture;
use beit::data::geometry::Draws;

/// The draws of one sample. A draw of another kind, beyond its range or past the end is a failure.
pub struct Replay {
    draws: std::vec::IntoIter<(f64, f64)>,
}

impl Replay {
    /// All recordings under these tensor names, one per pair of neighbouring offsets.
    pub fn all(fx: &Fixture, values: &str, kinds: &str, offsets: &str) -> Vec<Self> {
        let (values, kinds) = (fx.f64(values), fx.f64(kinds));
        let one = |range: &[f64]| {
            let range = range[0] as usize..range[1] as usize;
            let draws = kinds[range.clone()].iter().copied().zip(values[range].iter().copied());
            Self { draws: draws.collect::<Vec<_>>().into_iter() }
        };
        fx.f64(offsets).windows(2).map(one).collect()
    }

    /// Draws that nobody asked for.
    pub fn left(&self) -> usize {
        self.draws.len()
    }

    fn next(&mut self, kind: f64) -> f64 {
        let (got, value) = self.draws.next().expect("more draws than were recorded");
        assert_eq!(got, kind, "a draw of the other kind was recorded here");
        value
    }
}

impl Draws for Replay {
    fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        let value = self.next(0.0);
        let range = lo.min(hi) - 1e-12..=lo.max(hi) + 1e-12;
        assert!(range.contains(&value), "{value} was recorded, {lo}..{hi} asked for");
        value
    }

    fn integer(&mut self, max: usize) -> usize {
        let value = self.next(1.0);
        assert!(value <= max as f64, "{value} was recorded, at most {max} asked for");
        value as usize
    }
}
