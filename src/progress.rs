//! Progress with rate and time left: a bar on a terminal, plain lines elsewhere.

use crate::shown;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writes a line to standard error, made safe for a terminal. Nobody may be reading there: that is no reason to stop, as
/// `eprintln!` would.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", shown::line(line));
}

/// Whether this program has not asked the same about this line before: an unreadable image is met in every
/// epoch, in evaluation and by pictures, which know nothing of each other, and is named once.
pub fn is_news(line: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned())
}

/// Whether this program has not asked the same about this line before: an unreadable image is met in every
/// epoch, in evaluation and by pictures, which know nothing of each other, and is named once.
pub fn is_news(line: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned())
}

/// Seconds between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The progress of one piece of work, written to standard error.
#[derive(Debug)]
pub struct Progress {
    what: String,
    unit: &'static str,
    total: u64,
    first: u64,
    done: u64,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Work of `total` units of which `done` are behind us (a resumed run), as in
    /// `Progress::new("pretrain", 1000, 0, "steps")`.
    pub fn new(what: &str, total: u64, done: u64, unit: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            // Units per second come from `per_sec`, time left from `eta`; `msg` holds the loss.
            let template = "{prefix} {wide_bar} {pos}/{len} {per_sec} {eta} left {msg}";
            let style = ProgressStyle::with_template(template).expect("the template is legal");
            let bar = ProgressBar::new(total).with_style(style).with_prefix(what.to_owned());
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        let what = what.to_owned();
        Self { what, unit, total, first: done, done, started: now, last_line: now, bar }
    }

    /// Another `count` units are done; `message` says how it goes, as in `loss 5.21`.
    pub fn advance(&mut self, count: u64, message: &str) {
        self.done += count;
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_owned());
            bar.inc(count);
        } else if self.last_line.elapsed() >= PLAIN_EVERY || self.done == self.total {
            self.last_line = Instant::now();
            note(&self.line(self.started.elapsed(), message));
        }
    }

    /// Writes a line of its own without tearing the bar.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, elapsed: Duration, message: &str) -> String {
        let rate = (self.done - self.first) as f64 / elapsed.as_secs_f64().max(1e-9);
        let left = Duration::from_secs_f64(
            (self.total - self.done.min(self.total)) as f64 / rate.max(1e-9),
        );
        let Self { what, unit, total, done, .. } = self;
        let left = HumanDuration(left);
        format!("{what}: {done}/{total} {unit}, {rate:.1} {unit}/s, {left} left, {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_line() {
        let mut progress = Progress::new("pretrain", 100, 10, "steps");
        progress.done = 30;
        let line = progress.line(Duration::from_secs(10), "loss 5.00");
        assert_eq!(line, "pretrain: 30/100 steps, 2.0 steps/s, 35 seconds left, loss 5.00");
    }
}
