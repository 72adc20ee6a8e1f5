//! Ctrl-C: the first one asks the loop to finish its step and save, the second ends at once.

use crate::error::{Error, Result};
use crate::progress::note;
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit status of a process that was interrupted, as shells report it.
const STATUS: i32 = 130;

/// Takes over Ctrl-C, SIGTERM and SIGHUP; called once, by the program.
pub fn install_interrupt() -> Result<()> {
    let handler = || {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(STATUS);
        }
        note(""); // Ends the line that a terminal has put ^C on.
        note("finishing this step and saving; once more to end at once");
    };
    ctrlc::set_handler(handler).map_err(|e| Error::config(format!("cannot handle Ctrl-C: {e}")))
}

/// True once the user has asked to stop; loops look after every step.
pub fn interrupted() -> bool {
    ASKED.load(Ordering::SeqCst)
}
