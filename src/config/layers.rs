//! Laying settings over each other: preset, file, `--set`, flags.

use super::other_names::key_suggestion;
use super::{FORMAT, Key, Preset, RunConfig};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Not a setting: says which command a file of settings belongs to.
const COMMAND: &str = "command";
/// Not a setting: the version of the file.
const VERSION: &str = "format";

/// What the command line says about a run's settings, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// `--config FILE.toml`.
    pub file: Option<PathBuf>,
    /// `--set key=value`, in the order given.
    pub set: Vec<String>,
    /// Dedicated flags (`--epochs 3`, `--preset tiny`), which win over everything else.
    pub flags: Vec<(&'static str, Value)>,
}

impl Layers {
    /// The resolved settings, checked key by key and as a whole. Without any preset, `tiny`.
    pub fn resolve<C: RunConfig>(&self) -> Result<C> {
        self.resolve_over(None)
    }

    /// The same over other starting values than the preset's.
    pub(super) fn resolve_over<C: RunConfig>(&self, saved: Option<Table>) -> Result<C> {
        let mut given = Table::new();
        if let Some(path) = &self.file {
            for (name, value) in read_versioned::<C>(path)?.1 {
                let key = find::<C>(&name).map_err(|e| Error::format(path, e.to_string()))?;
                let value = key.check(value).map_err(|e| Error::format(path, e.to_string()))?;
                given.insert(name, value);
            }
        }
        for text in &self.set {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Error::config(format!("--set {text}: want key=value, as in --set lr=0.001"))
            })?;
            let key = find::<C>(name.trim())?;
            given.insert(key.name.to_owned(), key.parse(value.trim())?);
        }
        for (name, value) in &self.flags {
            given.insert((*name).to_owned(), find::<C>(name)?.check(value.clone())?);
        }
        let preset = given.get("preset").or_else(|| saved.as_ref()?.get("preset"));
        let preset = match preset.and_then(Value::as_str) {
            Some(name) => name.parse()?,
            None => Preset::Tiny,
        };
        let full = whole_table(&C::preset(preset))?;
        let is_key = |name: &str| C::KEYS.iter().any(|key| key.name == name);
        let mut table = saved.unwrap_or_else(|| full.clone());
        table.retain(|name, _| is_key(name));
        table.extend(given);
        // What the command has no key for stays as the preset has it.
        table.extend(full.into_iter().filter(|(name, _)| !is_key(name)));
        let config: C = table.try_into().map_err(|e| Error::config(first_line(e.message())))?;
        config.validate()?;
        Ok(config)
    }
}

/// The settings as the flat table that a run folder stores and compares, in the order of the keys.
pub(crate) fn to_table<C: RunConfig>(config: &C) -> Result<Table> {
    let mut table = whole_table(config)?;
    Ok(C::KEYS.iter().filter_map(|key| table.remove_entry(key.name)).collect())
}

/// The same with the shared settings that the command has no key for, in no order.
fn whole_table<C: RunConfig>(config: &C) -> Result<Table> {
    Table::try_from(config).map_err(|e| Error::config(format!("settings are not TOML: {e}")))
}

/// `config.toml` as text: every key under the comment that explains it.
pub fn document<C: RunConfig>(config: &C) -> Result<String> {
    let table = to_table(config)?;
    let mut text =
        format!("# The command that these settings belong to.\n{COMMAND} = \"{}\"\n", C::KIND);
    text += &format!("\n# Version of the format of this folder.\n{VERSION} = {FORMAT}\n");
    for key in C::KEYS {
        text.push('\n');
        for line in key.doc.trim_end().lines() {
            text += &format!("#{}{line}\n", if line.starts_with(' ') { "" } else { " " });
        }
        match table.get(key.name) {
            Some(value) => text += &format!("{} = {value}\n", key.name),
            None => text += &format!("# {} is not set\n", key.name),
        }
    }
    Ok(text)
}

/// Reads a flat TOML file of settings, which may say for which command it was written, and the version of
/// its format.
pub(super) fn read_versioned<C: RunConfig>(path: &Path) -> Result<(i64, Table)> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let mut table: Table = toml::from_str(&text)
        .map_err(|e| Error::format(path, format!("not TOML: {}", first_line(e.message()))))?;
    let format = match table.remove(VERSION) {
        None => 1,
        Some(Value::Integer(format)) if format > 0 => format,
        Some(other) => {
            let text = format!("{VERSION} = {other} is not usable: want a whole number above 0");
            return Err(Error::format(path, text));
        }
    };
    match table.remove(COMMAND) {
        None => Ok((format, table)),
        Some(Value::String(kind)) if kind == C::KIND => Ok((format, table)),
        Some(kind) => {
            let text = format!("settings of {kind}, not of \"{}\"", C::KIND);
            Err(Error::format(path, text))
        }
    }
}

fn find<C: RunConfig>(name: &str) -> Result<&'static Key> {
    C::KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
        let names: Vec<&str> = C::KEYS.iter().map(|key| key.name).collect();
        let near = key_suggestion(name, &names);
        Error::config(format!("unknown key {name} for {}{near}", C::KIND))
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("unreadable")
}
