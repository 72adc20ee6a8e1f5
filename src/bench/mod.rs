//! Timing of ops, of whole training steps and of the data pipeline.
//!
//! Every rate stands beside what the same process reached on a plain matrix product or copy at the
//! same sizes, because absolute numbers say nothing on a shared machine.

pub mod data;
#[cfg(feature = "cuda")]
pub mod device;
pub mod ops;
pub mod step;

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
}

/// Largest resident size of this process so far in MiB, where the system tells it.
pub fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}
