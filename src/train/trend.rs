//! The loss of late, so that one that stands out is noticed.

use serde::{Deserialize, Serialize};

/// Lines of metrics that the trend looks back on, about.
const MEMORY: u32 = 20;
/// Lines before anything can stand out.
const FEWEST: u32 = 10;
/// Mean deviations from the mean that stand out.
const DEVIATIONS: f64 = 8.0;

/// Running mean of the loss and of its distance from that mean.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Trend {
    mean: f64,
    deviation: f64,
    lines: u32,
}

impl Trend {
    /// Takes in a loss; the mean before it, where it stands out above.
    pub(super) fn spike(&mut self, loss: f64) -> Option<f64> {
        let usual = self.mean;
        let far = loss - usual > DEVIATIONS * self.deviation;
        let spike = self.lines >= FEWEST && far && self.deviation > 0.0;
        self.lines = self.lines.saturating_add(1);
        let rate = 1.0 / f64::from(self.lines.min(MEMORY));
        self.deviation += rate * ((loss - usual).abs() - self.deviation);
        self.mean += rate * (loss - usual);
        spike.then_some(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_stands_out_and_noise_does_not() {
        let mut trend = Trend::default();
        for i in 0..200 {
            let loss = 5.0 - 0.01 * f64::from(i) + 0.1 * f64::from(i * 7 % 11) / 11.0;
            assert_eq!(trend.spike(loss), None, "line {i}");
        }
        assert!(trend.spike(6.0).is_some_and(|usual| (2.9..3.5).contains(&usual)));
        assert_eq!(trend.spike(3.1), None);
    }
}
