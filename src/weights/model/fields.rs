//! What `config.json` says, as this version of the program understands it.
//!
//! Versions of a model's two files:
//!
//! | version | what |
//! | --- | --- |
//! | 1 | no field `version`, no checksums |
//! | 2 | `version`, `beit_version` in the metadata; checksums; `mlp_width` where 1 has its quotient `mlp_ratio` |
//!
//! A file of an older version is brought to this one by [`Fields::read`]. Of a newer one, what is not
//! understood is left out and named; what this version cannot do without is an error.

use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::kind::ModelConfig;
use crate::shown;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The version that is written.
pub(super) const VERSION: u64 = 2;

const FORMAT: (&str, &str) = ("format", "beit");
const NORMALISE: &str = "normalise";
const VERSION_KEY: &str = "version";

/// Key of `config.json` with which a person says that the change was meant.
pub(super) const EDITED: &str = "edited";

/// Longest `config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;

/// The fields of a `config.json`.
pub(super) struct Fields {
    path: PathBuf,
    fields: Map<String, Value>,
}

/// A configuration that was understood.
pub(super) struct Understood {
    pub(super) config: ModelConfig,
    pub(super) normalise: Option<Normalise>,
    /// Fields of a newer version that were left out.
    pub(super) left_out: Vec<String>,
}

impl Fields {
    /// The fields that are written.
    pub(super) fn of(path: &Path, config: &ModelConfig, normalise: Option<Normalise>) -> Self {
        let version = (VERSION_KEY.to_owned(), Value::from(VERSION));
        let mut fields = Map::from_iter([(FORMAT.0.to_owned(), Value::from(FORMAT.1)), version]);
        match serde_json::to_value(config) {
            Ok(Value::Object(sizes)) => fields.extend(sizes),
            other => unreachable!("sizes are a JSON object: {other:?}"),
        }
        fields.extend(normalise.map(|n| (NORMALISE.to_owned(), Value::from(n.word()))));
        Self { path: path.to_path_buf(), fields }
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        format!("{:#}\n", Value::Object(self.fields.clone()))
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).map_err(Error::io("cannot read", path))?.len();
        if length > MAX_CONFIG {
            return Err(Error::format(
                path,
                format!("{length} bytes are too many for a configuration"),
            ));
        }
        let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
        let path = path.to_path_buf();
        match serde_json::from_slice(&bytes) {
            Ok(fields) => Ok(Self { path, fields }),
            Err(e) => Err(not_a_configuration(&path, &e)),
        }
    }

    /// Checksum of what the fields say, in whichever order and spacing.
    pub(super) fn sum(&self) -> u32 {
        let sorted: BTreeMap<&String, &Value> =
            self.fields.iter().filter(|(key, _)| *key != EDITED).collect();
        let text = serde_json::to_string(&sorted).expect("JSON can be written");
        crc32c::crc32c(text.as_bytes())
    }

    /// True where the file says that a person changed it.
    pub(super) fn edited(&self) -> Result<bool> {
        match self.fields.get(EDITED) {
            None => Ok(false),
            Some(Value::Bool(edited)) => Ok(*edited),
            Some(other) => Err(self.wrong(format!("{EDITED} is {other}, want true or false"))),
        }
    }

    /// What the fields mean.
    pub(super) fn understood(mut self) -> Result<Understood> {
        self.fields.remove(EDITED);
        if self.fields.remove(FORMAT.0).as_ref().and_then(Value::as_str) != Some(FORMAT.1) {
            return Err(self.wrong("not a model configuration: want \"format\": \"beit\""));
        }
        let version = match self.fields.remove(VERSION_KEY) {
            None => 1,
            Some(value) => match value.as_u64() {
                Some(version) if version > 0 => version,
                _ => return Err(self.wrong(format!("{VERSION_KEY} is {value}, want a number"))),
            },
        };
        let normalise = match self.fields.remove(NORMALISE) {
            None => None,
            Some(value) => Some(Normalise::deserialize(&value).map_err(|_| {
                let words = Normalise::WORDS.join(" or ");
                self.wrong(format!("{NORMALISE} is {value}, want {words}"))
            })?),
        };
        if version == 1 {
            self.upgrade_from_1()?;
        }
        let left_out = self.leave_out();
        if let Some(field) = left_out.first().filter(|_| version <= VERSION) {
            let field = shown::name(field);
            return Err(self.wrong(format!("not a model configuration: unknown field `{field}`")));
        }
        let config = serde_json::from_value(Value::Object(self.fields)).map_err(|e| {
            let error = not_a_configuration(&self.path, &e);
            if version <= VERSION {
                return error;
            }
            let newer = format!("version {version} of these files, this program knows {VERSION}");
            Error::format(&self.path, format!("{newer}: use a newer program ({e})"))
        })?;
        Ok(Understood { config, normalise, left_out })
    }

    /// An encoder's `mlp_ratio`, a whole number, becomes `mlp_width`.
    fn upgrade_from_1(&mut self) -> Result<()> {
        let Some(ratio) = self.fields.remove("mlp_ratio") else { return Ok(()) };
        let width = self.fields.get("width").and_then(Value::as_u64);
        let product = ratio.as_u64().zip(width).and_then(|(ratio, width)| ratio.checked_mul(width));
        let Some(product) = product else {
            return Err(self.wrong(format!("mlp_ratio is {ratio}, want a whole number")));
        };
        self.fields.insert("mlp_width".to_owned(), Value::from(product));
        Ok(())
    }

    /// Removes the fields that this version does not know.
    fn leave_out(&mut self) -> Vec<String> {
        let kind = self.fields.get("kind").and_then(Value::as_str);
        let Some(known) = kind.and_then(ModelConfig::fields_of) else {
            return Vec::new(); // The kind itself is not known, which is said of it.
        };
        let unknown = self.fields.keys().filter(|key| !known.contains(*key)).cloned();
        let unknown: Vec<String> = unknown.collect();
        unknown.iter().for_each(|key| _ = self.fields.remove(key));
        unknown
    }

    fn wrong(&self, text: impl Into<String>) -> Error {
        Error::format(&self.path, text)
    }
}

/// The reason quotes the file.
fn not_a_configuration(path: &Path, e: &serde_json::Error) -> Error {
    let reason = shown::name(&e.to_string());
    Error::format(path, format!("not a model configuration: {reason}"))
}
