//! When `--resume` may continue a run.

use crate::error::{Error, Result};
use toml::{Table, Value};

/// Keys that may differ between a run and its continuation: none of them changes a weight.
pub const FREE_KEYS: &[&str] =
    &["threads", "loader_threads", "checkpoint_every", "log_every", "recompute", "disk_full"];

/// Refuses to continue under other settings, naming the first key that differs and both values.
pub fn same_run(saved: &Table, now: &Table) -> Result<()> {
    let keys = now.keys().chain(saved.keys().filter(|key| !now.contains_key(*key)));
    for key in keys.filter(|key| !FREE_KEYS.contains(&key.as_str())) {
        if saved.get(key) != now.get(key) {
            let show = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
            return Err(Error::config(format!(
                "cannot resume: {key} was {} and is now {}; give the original command line again \
                 (only {} may differ)",
                show(saved.get(key)),
                show(now.get(key)),
                FREE_KEYS.join(", ")
            )));
        }
    }
    Ok(())
}
