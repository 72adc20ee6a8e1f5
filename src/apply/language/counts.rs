//! Counts of bytes, pairs and triples, and what they say of a byte: the baseline of a masked language model.
//!
//! With q₀ = 1/256, q₁ the frequencies of bytes, q₂ those after one byte and q₃ those after two,
//! ```text
//! p(c) = Σ_j λ_j q_j(c), j = 0..k + 1, where k of the bytes before are seen
//! ```
//! and q_j = q_{j−1} where its context was never met. The weights λ, three sets for k = 0, 1, 2, are fitted by
//! expectation and maximisation on the last tenth of the text with counts of the rest; then all of it is counted.
//!
//! What it sees: of the places before, what a model is shown there, which now and then is a random byte. From a hidden
//! byte on it sees no further back. It sees nothing behind the place, which a model does. What is shown in the place
//! itself it takes as a model may: a byte that is to be predicted and stands there is right as often as it is random,
//! p(c) ∝ p(c) (\[c shown\] + 1/256).

use crate::data::Dataset;
use crate::data::text::Piece;
use crate::error::Result;
use std::collections::HashMap;

/// Bytes.
const V: usize = 256;
/// Rounds of fitting.
const ROUNDS: usize = 50;
/// Bytes that weights are fitted on, at most.
const FITTED: usize = 1 << 18;

/// What was met how often.
#[derive(Default)]
struct Met {
    bytes: Vec<u64>,     // [V]
    pairs: Vec<u64>,     // [V,V], the first byte, the second
    after_one: Vec<u64>, // [V], pairs by their first byte
    triples: HashMap<[u8; 3], u64>,
    after_two: HashMap<[u8; 2], u64>, // triples by their first two bytes
}

/// Interpolated counts of a text.
pub struct ByteCounts {
    met: Met,
    /// λ by the number of bytes before that are seen.
    weights: [[f64; 4]; 3],
}

impl Met {
    fn new() -> Self {
        let (bytes, pairs, after_one) = (vec![0; V], vec![0; V * V], vec![0; V]);
        Self { bytes, pairs, after_one, ..Self::default() }
    }

    fn add(&mut self, text: &[u8]) {
        text.iter().for_each(|&c| self.bytes[usize::from(c)] += 1);
        for pair in text.windows(2) {
            let [b, c] = [pair[0], pair[1]].map(usize::from);
            self.pairs[b * V + c] += 1;
            self.after_one[b] += 1;
        }
        for [a, b, c] in triples(text) {
            *self.triples.entry([a, b, c]).or_default() += 1;
            *self.after_two.entry([a, b]).or_default() += 1;
        }
    }

    /// q₀ to q₃ of `c` after these bytes; from the first that is not seen on, those of fewer.
    fn levels(&self, before: [Option<u8>; 2], c: u8) -> [f64; 4] {
        let share = |count: u64, of: u64, else_: f64| {
            if of == 0 { else_ } else { count as f64 / of as f64 }
        };
        let (q0, at) = (1.0 / V as f64, usize::from(c));
        let q1 = share(self.bytes[at], self.bytes.iter().sum(), q0);
        let [Some(b), a] = [before[1], before[0]] else { return [q0, q1, q1, q1] };
        let row = usize::from(b);
        let q2 = share(self.pairs[row * V + at], self.after_one[row], q1);
        let Some(a) = a else { return [q0, q1, q2, q2] };
        let met = |count: Option<&u64>| count.copied().unwrap_or(0);
        let q3 = share(met(self.triples.get(&[a, b, c])), met(self.after_two.get(&[a, b])), q2);
        [q0, q1, q2, q3]
    }
}

/// Each three bytes in a row.
fn triples(text: &[u8]) -> impl Iterator<Item = [u8; 3]> {
    text.windows(3).map(|three| [three[0], three[1], three[2]])
}

/// Weights of the first so many levels that make these numbers most likely.
fn fitted(levels: &[[f64; 4]], used: usize) -> [f64; 4] {
    let mut weights = [0.0; 4];
    weights[..used].fill(1.0 / used as f64);
    for _ in 0..ROUNDS {
        let mut shares = [0.0; 4];
        for q in levels {
            let parts: [f64; 4] = std::array::from_fn(|j| weights[j] * q[j]);
            let sum: f64 = parts.iter().sum();
            shares.iter_mut().zip(parts).for_each(|(share, part)| *share += part / sum);
        }
        let all: f64 = shares.iter().sum();
        if all == 0.0 {
            break; // nothing to fit on
        }
        weights = shares.map(|share| share / all);
    }
    weights
}

impl ByteCounts {
    /// Counts a text, and fits the weights.
    pub fn of(text: &impl Dataset<Item = Piece>) -> Result<Self> {
        let (count, mut met) = (text.len(), Met::new());
        let kept = count.div_ceil(10).min(count - 1);
        for i in 0..count - kept {
            met.add(&text.item(i)?.bytes);
        }
        let mut levels: [Vec<[f64; 4]>; 3] = Default::default();
        for i in count - kept..count {
            let bytes = text.item(i)?.bytes;
            if levels[0].len() >= FITTED {
                break;
            }
            for [a, b, c] in triples(&bytes) {
                let seen = [[None, None], [None, Some(b)], [Some(a), Some(b)]];
                levels.iter_mut().zip(seen).for_each(|(all, seen)| all.push(met.levels(seen, c)));
            }
        }
        let weights = [0, 1, 2].map(|seen| fitted(&levels[seen], seen + 2));
        for i in count - kept..count {
            met.add(&text.item(i)?.bytes);
        }
        Ok(Self { met, weights })
    }

    /// Entropy in nats of the frequencies of single bytes.
    pub fn entropy(&self) -> f64 {
        let all: u64 = self.met.bytes.iter().sum();
        let shares = self.met.bytes.iter().map(|&count| count as f64 / all as f64);
        shares.map(|p| if p > 0.0 { -p * p.ln() } else { 0.0 }).sum()
    }

    /// Probabilities `[256]` of a byte that is to be predicted, from what is seen of the two before it, the nearer one
    /// last, and of the place itself.
    pub fn given(&self, before: [Option<u8>; 2], shown: Option<u8>) -> Vec<f64> {
        let seen = match before {
            [_, None] => 0,
            [None, Some(_)] => 1,
            [Some(_), Some(_)] => 2,
        };
        let prior = |c: u8| {
            let levels = self.met.levels(before, c);
            self.weights[seen].iter().zip(levels).map(|(w, q)| w * q).sum::<f64>()
        };
        let likelihood =
            |c: u8| shown.map_or(1.0, |shown| f64::from(u8::from(shown == c)) + 1.0 / V as f64);
        let mut p: Vec<f64> = (0..=u8::MAX).map(|c| prior(c) * likelihood(c)).collect();
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Text;

    fn counts(text: &[u8], length: usize) -> ByteCounts {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let text = Text::open(&file.path().display().to_string(), length).expect("a text");
        ByteCounts::of(&text).expect("counted")
    }

    #[test]
    fn what_follows_two_bytes_is_known_and_what_is_shown_counts() {
        // After `ab` c, after `bb` d: one byte before does not tell.
        let counts = counts(&b"abcbbd".repeat(200), 60);
        let sees = |before, shown| counts.given(before, shown);
        for (before, shown) in [
            ([None, None], None),
            ([Some(b'a'), None], Some(7)),
            ([None, Some(b'b')], None),
            ([Some(b'z'), Some(b'z')], None),
        ] {
            let p = sees(before, shown);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|p| *p > 0.0));
        }
        assert!(sees([Some(b'a'), Some(b'b')], None)[usize::from(b'c')] > 0.99);
        assert!(sees([Some(b'b'), Some(b'b')], None)[usize::from(b'd')] > 0.99);
        let one = sees([None, Some(b'b')], None);
        assert!((one[usize::from(b'c')] - 1.0 / 3.0).abs() < 0.01, "{}", one[usize::from(b'c')]);
        // Half of the bytes are b.
        let none = sees([Some(b'a'), None], None);
        assert!((none[usize::from(b'b')] - 0.5).abs() < 0.01);
        // A byte with p = 1/6 that stands there: p · 257 / (p · 256 + 1).
        let shown = sees([None, None], Some(b'd'))[usize::from(b'd')];
        let p = sees([None, None], None)[usize::from(b'd')];
        assert!((shown - p * 257.0 / (p * 256.0 + 1.0)).abs() < 1e-12);
        let share = |p: f64| -p * p.ln();
        let entropy = share(0.5) + 3.0 * share(1.0 / 6.0);
        assert!((counts.entropy() - entropy).abs() < 1e-12);
    }

    #[test]
    fn weights_are_the_most_likely_ones() {
        // Two levels that are right in a quarter and in three quarters of the places.
        let levels: Vec<[f64; 4]> = (0..400)
            .map(|i| if i % 4 == 0 { [1.0, 0.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0, 0.0] })
            .collect();
        let weights = fitted(&levels, 2);
        assert!((weights[0] - 0.25).abs() < 1e-12 && (weights[1] - 0.75).abs() < 1e-12);
        assert_eq!(fitted(&[], 2), [0.5, 0.5, 0.0, 0.0]);
        // A text of one piece has nothing to fit on.
        assert!(counts(b"aaaa", 4).given([None, None], None)[usize::from(b'a')] > 0.5);
    }
}
