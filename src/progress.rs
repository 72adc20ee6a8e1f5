//! Progress with rate and time left: a bar on a terminal, plain lines elsewhere.

use crate::shown;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writes a line to standard error, made safe for a terminal. Nobody may be reading there: that is no
/// reason to stop, as `eprintln!` would.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", shown::line(line));
}

/// Whether this program has not asked the same about this line before: an unreadable image is met in every
/// epoch, in evaluation and by pictures, which know nothing of each other, and is named once.
pub fn is_news(line: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned())
}

/// Lines that wait for work to begin.
static WAITING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps a line that matters to who waits, and to nobody where the work never begins: it is written by
/// [`work_begins`].
pub fn note_with_work(line: String) {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Writes the lines that waited for this. Progress does so by itself; other work when all its inputs are
/// there.
pub fn work_begins() {
    let lines = std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner));
    lines.iter().for_each(|line| note(line));
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
    figures: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Work of `total` units of which `done` are behind us (a resumed run), as in
    /// `Progress::new("pretrain", 1000, 0, "steps")`.
    pub fn new(what: &str, total: u64, done: u64, unit: &'static str) -> Self {
        work_begins();
        let terminal = std::io::stderr().is_terminal().then(ProgressDrawTarget::stderr);
        Self::on(terminal, what, total, done, unit)
    }

    /// A bar where there is a terminal to draw it on, plain lines elsewhere.
    fn on(
        terminal: Option<ProgressDrawTarget>,
        what: &str,
        total: u64,
        done: u64,
        unit: &'static str,
    ) -> Self {
        let bar = terminal.map(|terminal| {
            // Units per second come from `per_sec`, time left from `eta`; `msg` holds the figures.
            let template = "{prefix} {wide_bar} {pos}/{len} {per_sec} {eta} left {msg}";
            let style = ProgressStyle::with_template(template).expect("the template is legal");
            let bar = ProgressBar::with_draw_target(Some(total), terminal);
            let bar = bar.with_style(style).with_prefix(what.to_owned());
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        let (now, what, figures) = (Instant::now(), what.to_owned(), String::new());
        let (started, last_line) = (now, now);
        Self { what, unit, total, first: done, done, started, last_line, figures, bar }
    }

    /// Another `count` units are done; `figures` say how it goes, as in `loss 5.21`, and stay until there
    /// are others: empty ones change nothing.
    pub fn advance(&mut self, count: u64, figures: &str) {
        self.done += count;
        if !figures.is_empty() {
            figures.clone_into(&mut self.figures);
        }
        if let Some(bar) = &self.bar {
            if !figures.is_empty() {
                bar.set_message(self.figures.clone());
            }
            bar.inc(count);
        } else if self.last_line.elapsed() >= PLAIN_EVERY || self.done == self.total {
            self.last_line = Instant::now();
            note(&self.line(self.started.elapsed()));
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

    fn line(&self, elapsed: Duration) -> String {
        let rate = (self.done - self.first) as f64 / elapsed.as_secs_f64().max(1e-9);
        let left = Duration::from_secs_f64(
            (self.total - self.done.min(self.total)) as f64 / rate.max(1e-9),
        );
        let Self { what, unit, total, done, figures, .. } = self;
        let left = HumanDuration(left);
        let comma = if figures.is_empty() { "" } else { ", " };
        format!("{what}: {done}/{total} {unit}, {rate:.1} {unit}/s, {left} left{comma}{figures}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal that keeps the last text written to it.
    #[derive(Clone, Debug, Default)]
    struct LastText(Arc<Mutex<String>>);

    impl TermLike for LastText {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            if !text.trim().is_empty() {
                text.clone_into(&mut self.0.lock().expect("a text"));
            }
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_keep_the_last_figures() {
        let mut progress = Progress::on(None, "pretrain", 100, 10, "steps");
        let ten = Duration::from_secs(10);
        progress.advance(10, "");
        let none_yet = "pretrain: 20/100 steps, 1.0 steps/s, 80 seconds left";
        assert_eq!(progress.line(ten), none_yet);
        progress.advance(5, "loss 5.00");
        progress.advance(5, "");
        let line = "pretrain: 30/100 steps, 2.0 steps/s, 35 seconds left, loss 5.00";
        assert_eq!(progress.line(ten), line);
    }

    #[test]
    fn the_bar_keeps_the_last_figures() {
        let terminal = LastText::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut progress = Progress::on(Some(target), "pretrain", 100, 0, "steps");
        let mut frame = |figures: &str| {
            progress.advance(1, figures);
            progress.bar.as_ref().expect("a bar").force_draw();
            terminal.0.lock().expect("a text").clone()
        };
        assert!(!frame("").contains("loss"));
        for step in 1..30 {
            let figures = if step % 10 == 1 { format!("loss {step}") } else { String::new() };
            let (frame, shown) = (frame(&figures), format!("loss {}", (step - 1) / 10 * 10 + 1));
            assert!(frame.contains(&shown), "step {step}: no {shown} in {frame}");
            assert!(frame.contains(&format!("{}/100", step + 1)), "{frame}");
        }
    }
}
