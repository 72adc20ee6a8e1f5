//! Signals. SIGINT (Ctrl-C), SIGTERM and SIGHUP: the first asks the loops to save and end, the second ends at
//! once.

use crate::error::{Error, Result};
use crate::progress::note;
#[cfg(unix)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signal that came first; 0 while there was none.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// Takes over the signals; called once, by the program.
pub fn install_interrupt() -> Result<()> {
    let first = |signal| {
        if ASKED.swap(signal, Ordering::SeqCst) != 0 {
            std::process::exit(128 + signal);
        }
        note(""); // Ends the line that a terminal has put ^C on.
        note("saving and ending; once more to end at once");
    };
    listen(first).map_err(|e| Error::config(format!("cannot handle signals: {e}")))
}

#[cfg(unix)]
fn listen(mut first: impl FnMut(i32) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let wait = move || signals.forever().for_each(&mut first);
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(|_| ())
}

/// Other systems say that the user wants to stop, and no number.
#[cfg(not(unix))]
fn listen(mut first: impl FnMut(i32) + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(move || first(2)).map_err(std::io::Error::other)
}

/// True once somebody wants the process to end; loops look between micro-batches.
pub fn interrupted() -> bool {
    ASKED.load(Ordering::SeqCst) != 0
}

/// An error once somebody wants the process to end.
pub fn not_interrupted() -> Result<()> {
    if !interrupted() {
        return Ok(());
    }
    Err(Error::Interrupted(
        "stopped while measuring; every step is saved: continue with the same command and --resume"
            .into(),
    ))
}

/// Status of a process that was interrupted, as shells report it: 128 and the signal's number.
pub fn interrupt_status() -> u8 {
    128 + ASKED.load(Ordering::SeqCst) as u8
}

/// Makes exceeding a file-size limit (`ulimit -f`) an error of the write, like a full disk, where the
/// system would end the process; called first thing, by the program.
pub fn survive_file_limit() -> Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(libc::SIGXFSZ, std::sync::Arc::new(AtomicBool::new(false)))
        .map_err(|e| Error::config(format!("cannot handle SIGXFSZ: {e}")))?;
    Ok(())
}
