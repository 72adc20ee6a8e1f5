//! What becomes of a run when a step is not finite, when somebody wants the process to end, and when the disk
//! is full.

use super::{Halt, InFlight, Loop};
use crate::config::DiskFull;
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::run::{RunDir, interrupted, note};
use crate::train::task::{At, Task};
use std::time::{Duration, Instant};

/// Between two tries to write to a full disk.
const AGAIN: Duration = Duration::from_secs(20);

impl<B: Backend, T: Task<B>> Loop<'_, B, T> {
    /// Counts a step that is not finite, at first in `place`, and changed no weight.
    pub(super) fn skipped(&mut self, at: At, place: &str) -> Result<(), Halt> {
        self.carried.skipped += 1;
        self.carried.skipped_in_a_row += 1;
        let what = format!("step {} is not finite; the first tensor is {place}", at.step + 1);
        if self.carried.skipped_in_a_row as usize > self.recipe.skip_steps {
            return Err(Halt::Broken(what));
        }
        note(&format!("{what}; skipped"));
        Ok(())
    }

    /// Goes back to the last checkpoint, or to the start, with half the learning rate.
    pub(super) fn go_back(&mut self, run: &mut RunDir, why: &str) -> Result<()> {
        let (times, skipped) = (self.carried.retreats + 1, self.carried.skipped);
        if times as usize > self.recipe.retreats {
            return Err(Error::Training(format!(
                "{why}. {}Everything up to the last checkpoint is saved; go on from there with the same \
                 command and --resume --allow-change lr --set lr={:e}",
                match self.carried.retreats {
                    0 => String::new(),
                    n => format!(
                        "The run went back {n} times and halved the learning rate each time. "
                    ),
                },
                self.common.lr * 0.5f64.powi(times as i32)
            )));
        }
        // Of a step that was under way.
        self.carried.state.g.clear(self.bk);
        match run.back(|line| note(&line))? {
            Some(checkpoint) => self.carried.restore(self.bk, run, &checkpoint)?,
            None => {
                self.carried.start_again(self.bk, self.task, &(self.initial)()?, self.recipe.ema)
            }
        }
        (self.carried.retreats, self.carried.skipped) = (times, skipped);
        self.carried.skipped_in_a_row = 0;
        note(&format!(
            "{why}; back to step {}, with the learning rate times {}",
            self.carried.state.step,
            0.5f64.powi(times as i32)
        ));
        Ok(())
    }

    /// Drops the step under way and saves the one before.
    pub(super) fn stop(
        &mut self,
        run: &mut RunDir,
        flight: Option<InFlight<B, T>>,
    ) -> Result<(), Halt> {
        self.carried.state.g.clear(self.bk);
        flight.map(|last| self.settle(last)).transpose()?;
        self.save(run)?;
        Err(self.stopped().into())
    }

    pub(super) fn stopped(&self) -> Error {
        Error::Interrupted(format!(
            "stopped after step {} of {}, everything is saved; continue with the same command and \
             --resume",
            self.carried.state.step, self.length.total
        ))
    }

    /// Saves a checkpoint unless it is there; what a full disk means is a setting.
    pub(super) fn save(&mut self, run: &mut RunDir) -> Result<()> {
        if self.carried.is_saved() {
            return Ok(());
        }
        loop {
            let error = match self.carried.save(self.bk, run) {
                Err(error) if error.is_disk_full() => error,
                other => return other,
            };
            let advice = format!(
                "{error}. The checkpoint of step {} could not be written, those before it are kept; free \
                 space there",
                self.carried.state.step
            );
            if self.recipe.disk_full == DiskFull::Stop {
                let hint = "and go on with the same command and --resume";
                return Err(Error::Training(format!("{advice} {hint}")));
            }
            note(&format!("{advice}; trying again every {} s", AGAIN.as_secs()));
            let begun = Instant::now();
            while begun.elapsed() < AGAIN {
                if interrupted() {
                    return Err(Error::Interrupted(advice));
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}
