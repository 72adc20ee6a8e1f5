//! `changes.jsonl`: which settings of a run were changed on the way, and at which step.

use crate::atomic::layer::Growing;
use crate::atomic::layer::sync_entry;
use crate::config::{Changed, FREE_KEYS, same_run};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use toml::Table;

fn file(folder: &Path) -> PathBuf {
    folder.join("changes.jsonl")
}

/// Adds these changes, made at a step.
pub(super) fn record(folder: &Path, step: u64, changes: &[Changed]) -> Result<()> {
    let mut file = Growing::open(file(folder))?;
    for Changed { key, was, now } in changes {
        let line = json!({ "step": step, "key": key, "was": was, "now": now });
        file.append(format!("{line}\n").as_bytes())?;
    }
    file.sync()?;
    sync_entry(file.path())
}

/// Refuses a `config.toml` that is not what the checkpoint of a step was written under, but for recorded
/// changes.
pub(super) fn refuse_edited(
    folder: &Path,
    (step, mut then): (u64, Table),
    saved: &Table,
    allowed: &[String],
) -> Result<()> {
    if then.is_empty() {
        return Ok(()); // written by a version that did not keep them
    }
    let text = std::fs::read_to_string(file(folder)).unwrap_or_default();
    for line in text.lines() {
        // A line that a crash cut short belongs to a change that was not made.
        let Ok(line) = serde_json::from_str::<Map<String, Value>>(line) else { continue };
        let later = line.get("step").and_then(Value::as_u64).is_some_and(|s| s >= step);
        let (Some(key), true) = (line.get("key").and_then(Value::as_str), later) else { continue };
        match line.get("now").map(|now| toml::Value::try_from(now.clone())) {
            Some(Ok(now)) => _ = then.insert(key.to_owned(), now),
            _ => _ = then.remove(key),
        }
    }
    let mut now = saved.clone();
    now.retain(|key, _| !FREE_KEYS.contains(&key) && then.contains_key(key));
    then.retain(|key, _| now.contains_key(key));
    same_run(&then, &now, allowed).map(|_| ()).map_err(|e| {
        let path = folder.join("config.toml");
        Error::format(path, format!("was edited since the last checkpoint: {e}"))
    })
}
