//! Timing of ops ([`ops`]), of whole training steps ([`step`]) and of the data pipeline ([`data`]).
//!
//! Every rate stands beside what the same process reached on a plain matrix product or copy at the
//! same sizes, because absolute numbers say nothing on a shared machine.

pub mod ceilings;
pub mod columns;
pub mod data;
mod encoder;
pub mod ops;
pub mod report;
pub mod step;

use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Times of repeated runs in seconds, sorted.
#[derive(Clone, Debug)]
pub struct Times(Vec<f64>);

impl Times {
    /// Sorts the measured seconds. There must be at least one.
    pub fn new(mut seconds: Vec<f64>) -> Self {
        assert!(!seconds.is_empty(), "bench: nothing was timed");
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// Runs `f` once unmeasured, then until `budget` seconds are used, at least `least` times.
    pub fn measure(least: usize, budget: f64, mut f: impl FnMut()) -> Self {
        f();
        let start = Instant::now();
        let mut seconds = Vec::new();
        while seconds.len() < least || start.elapsed().as_secs_f64() < budget {
            let t = Instant::now();
            f();
            seconds.push(t.elapsed().as_secs_f64());
        }
        Self::new(seconds)
    }

    /// Middle value (mean of the two middle ones).
    pub fn median(&self) -> f64 {
        let n = self.0.len();
        (self.0[(n - 1) / 2] + self.0[n / 2]) / 2.0
    }

    /// Shortest.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// Longest.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The same where a run was so many calls.
    pub fn per_call(mut self, calls: usize) -> Self {
        self.0.iter_mut().for_each(|t| *t /= calls as f64);
        self
    }

    /// These runs and others of the same work.
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        Self::new(self.0)
    }

    /// Median, interval, count and ends.
    pub fn timing(&self) -> Timing {
        let (from, coverage) = median_interval(self.count());
        Timing {
            median_s: self.median(),
            interval_s: [self.0[from], self.0[self.count() - 1 - from]],
            coverage,
            count: self.count(),
            range_s: [self.min(), self.max()],
        }
    }
}

/// Repeated runs in five figures. None of the runs is left out, however long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds of the middle run.
    pub median_s: f64,
    /// The interval that holds the median of all runs there could be, with probability `coverage`.
    pub interval_s: [f64; 2],
    /// At least 0.95 from six runs on; what the whole range covers where there are fewer.
    pub coverage: f64,
    /// Timed runs.
    pub count: usize,
    /// Shortest and longest.
    pub range_s: [f64; 2],
}

/// Fewest runs whose range holds the median with probability 0.95.
pub const FEWEST: usize = 6;

/// How many runs lie outside the interval at each end, and the interval's coverage.
///
/// Of n independent runs, the number that are shorter than the true median is binomial with p = 1/2,
/// whatever the distribution of the times. So the j-th shortest and the j-th longest enclose it with
/// probability 1 − 2 P(fewer than j shorter ones); j is the largest for which that is 0.95 or more.
/// (David and Nagaraja, Order Statistics, 2003, section 7.1.)
fn median_interval(n: usize) -> (usize, f64) {
    // 2 P(at most j shorter ones), summed up term by term; by logarithms, as 2⁻ⁿ underflows.
    let mut term = std::f64::consts::LN_2 * (1.0 - n as f64);
    let (mut tail, mut found) = (0.0, (0, 1.0 - term.exp()));
    for j in 0..n.div_ceil(2) {
        tail += term.exp();
        if 1.0 - tail < 0.95 {
            break;
        }
        found = (j, 1.0 - tail);
        term += ((n - j) as f64 / (j + 1) as f64).ln();
    }
    found
}

/// Largest resident size of this process so far in MiB, where the system tells it.
pub fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

/// Seconds that the processor has given to all threads of this process, where the system tells it.
pub fn processor_seconds() -> Option<f64> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let mut nanoseconds = 0.0;
    for thread in threads {
        // A thread that has ended meanwhile has no file any more.
        let Ok(text) = std::fs::read_to_string(thread.ok()?.path().join("schedstat")) else {
            continue;
        };
        nanoseconds += text.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(1e-9 * nanoseconds)
}

/// Seconds that all processors together were busy since the machine started, with any program, where the
/// system tells it.
pub fn machine_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields = text.lines().next()?.split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.map_while(|t| t.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal, in hundredths of a second (proc(5)).
    let busy = [0, 1, 2, 5, 6, 7].iter().map(|&i| ticks.get(i).copied().unwrap_or(0.0));
    Some(0.01 * busy.sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    #[test]
    fn intervals_of_the_table() {
        // Coverage from the binomial distribution: 1 - 2 (C(n,0) + ... + C(n,j)) / 2^n.
        for (n, outside, coverage) in [
            (1, 0, 0.0),
            (5, 0, 0.9375),
            (6, 0, 0.96875),
            (8, 0, 0.992_187_5),
            (9, 1, 0.960_937_5),
            (20, 5, 0.958_610_534_667_968_8),
        ] {
            let (from, covers) = median_interval(n);
            assert_eq!(from, outside, "{n} runs");
            assert!((covers - coverage).abs() < 1e-12, "{n} runs: {covers}");
        }
    }

    #[test]
    fn a_thousand_runs_do_not_underflow() {
        let (from, coverage) = median_interval(2000);
        assert!(
            (940..960).contains(&from) && (0.95..0.96).contains(&coverage),
            "{from} {coverage}"
        );
    }

    #[test]
    fn intervals_hold_the_median_as_often_as_they_say() {
        // Squares of uniform numbers are as lopsided as times are; their median is 1/4.
        let mut rng = Philox::new(0, Purpose::Bench, 0, 0);
        for n in [6, 9, 20] {
            let mut held = 0;
            for _ in 0..4000 {
                let t = Times::new((0..n).map(|_| rng.unit().powi(2)).collect()).timing();
                held += i32::from(t.interval_s[0] <= 0.25 && 0.25 <= t.interval_s[1]);
            }
            let (share, says) = (f64::from(held) / 4000.0, median_interval(n).1);
            // Four standard deviations of a share of 4000.
            let room = 4.0 * (says * (1.0 - says) / 4000.0).sqrt();
            assert!((share - says).abs() < room, "{n} runs: {share} of {says}");
        }
    }

    #[test]
    fn no_run_is_left_out() {
        let t = Times::new(vec![1.0, 1.0, 1.0, 1.0, 1.0, 50.0]).timing();
        assert_eq!(
            (t.median_s, t.interval_s, t.range_s, t.count),
            (1.0, [1.0, 50.0], [1.0, 50.0], 6)
        );
    }
}
