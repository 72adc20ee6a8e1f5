//! What the driver and the kernels say when something is wrong.

use crate::error::DeviceFault;
use cudarc::driver::DriverError;
use std::sync::{Mutex, PoisonError};

/// Stops: a device failed inside an op, where there is nothing to return an error to.
#[track_caller]
pub(super) fn fail(what: &str, error: impl std::fmt::Display) -> ! {
    DeviceFault { text: format!("{what}: {error}") }.panic()
}

/// Panics where kernels reported a wrong id in this word (`report_fault` in `cuda/prelude.cuh`).
#[track_caller]
pub(super) fn check_fault(word: u64) {
    let (code, place, value) = (word >> 56, word >> 32 & 0xff_ffff, word as u32);
    match code {
        0 => {}
        1 => fail("gather_rows", format!("row {value} is asked for, x has {place}")),
        _ => fail("cross_entropy", format!("label {value} of row {place} is beyond the classes")),
    }
}

/// The driver's name and text of an error.
pub(super) fn text(error: &DriverError) -> String {
    let name = error.error_name().ok().map(|s| s.to_string_lossy().into_owned());
    let text = error.error_string().ok().map(|s| s.to_string_lossy().into_owned());
    let code = format!("{:?}", error.0);
    format!("{} ({})", text.unwrap_or_else(|| "no text".into()), name.unwrap_or(code))
}

/// Locks; a panic elsewhere is no reason to stop.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is valid after a panic: maps and a handle.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
