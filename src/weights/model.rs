//! Weights for others to use: `model.safetensors` with its `config.json`.
//!
//! The bytes of `model.safetensors` depend on weights and sizes alone: no date, no setting of the run.
//! Its metadata has checksums of itself and one of what `config.json` says (not of how it is spaced), so
//! that one of the two cannot change without the other.

use super::safetensors::{
    TensorFile, TensorInfo, View, hex, refuse_non_finite, with_checksums, write_tensors,
};
use crate::atomic::{write_atomic, write_atomic_with};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::kind::{ModelConfig, ModelKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const NORMALISE: &str = "normalise";

/// Key of `config.json` with which a person says that the change was meant.
const EDITED: &str = "edited";

/// Key of the metadata with the checksum of `config.json`.
const CONFIG_SUM: &str = "crc32c_config";

/// Longest `config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;

/// A model's sizes and the file with its weights.
#[derive(Debug)]
pub struct Model {
    /// Sizes.
    pub config: ModelConfig,
    /// Mean and deviation of the views that an encoder was trained with.
    pub normalise: Option<Normalise>,
    /// Weights.
    pub tensors: TensorFile,
    /// What the checksums said.
    pub checksums: Checksums,
}

/// What the checksums of a model said; a model that does not fit them is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Somebody else's file, or an older one.
    Missing,
    /// Weights and configuration are as they were written.
    Fit,
    /// The weights are, and the configuration says of itself that a person changed it.
    Edited,
}

impl fmt::Display for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no checksum",
            Self::Fit => "checksums fit",
            Self::Edited => "checksums of the weights fit, config.json was edited",
        })
    }
}

impl Model {
    /// The sizes of a model of kind `M`, or an error that says what the file holds instead.
    pub fn sizes<M: ModelKind>(&self) -> Result<&M> {
        self.config.sizes().map_err(|text| Error::format(self.tensors.path(), text))
    }
}

/// Writes `model.safetensors` and `config.json` into `folder`; refuses non-finite weights. An encoder
/// says with `normalise` how its views were normalised.
pub fn save_model(
    folder: &Path,
    config: &ModelConfig,
    normalise: Option<Normalise>,
    tensors: &[View],
) -> Result<()> {
    refuse_non_finite("model", tensors)?;
    let mut fields = Map::from_iter([("format".to_owned(), Value::from("beit"))]);
    match serde_json::to_value(config) {
        Ok(Value::Object(sizes)) => fields.extend(sizes),
        other => unreachable!("sizes are a JSON object: {other:?}"),
    }
    fields.extend(normalise.map(|n| (NORMALISE.to_owned(), Value::from(n.word()))));
    let sum = config_sum(&fields);
    let text = format!("{:#}\n", Value::Object(fields));
    write_atomic(&folder.join(CONFIG), text.as_bytes())?;
    let metadata = [("format", "pt".to_owned()), (CONFIG_SUM, sum)];
    let metadata = metadata.map(|(key, text)| (key.to_owned(), text)).into();
    let metadata = with_checksums(tensors, &metadata);
    write_atomic_with(&folder.join(WEIGHTS), |file| write_tensors(file, tensors, &metadata))
}

/// Checksum of what a configuration says, in whichever order.
fn config_sum(fields: &Map<String, Value>) -> String {
    let sorted: BTreeMap<&String, &Value> =
        fields.iter().filter(|(key, _)| *key != EDITED).collect();
    let text = serde_json::to_string(&sorted).expect("JSON can be written");
    hex(crc32c::crc32c(text.as_bytes()))
}

/// The weights and the configuration that `RUN|FILE` on the command line means.
pub fn locate_model(path: &Path) -> Result<(PathBuf, PathBuf)> {
    if !path.exists() {
        return Err(Error::config(format!("{}: no such run folder or file", path.display())));
    }
    let weights = if path.is_dir() { path.join(WEIGHTS) } else { path.to_path_buf() };
    if !weights.exists() {
        let text = format!("holds no {WEIGHTS}: not a run folder, or its run is not finished");
        return Err(Error::format(path, text));
    }
    let config = weights.with_file_name(CONFIG);
    if !config.exists() {
        return Err(Error::format(&weights, format!("has no {CONFIG} beside it")));
    }
    Ok((weights, config))
}

/// Reads the model that `RUN|FILE` means.
///
/// The sizes are believed only when the file has that many values: whoever builds the model next
/// allocates what they say.
pub fn load_model(path: &Path) -> Result<Model> {
    let (weights, config_path) = locate_model(path)?;
    let tensors = TensorFile::read(&weights)?;
    let fields = read_fields(&config_path)?;
    let checksums = compared(&fields, &config_path, &tensors)?;
    let (config, normalise) = read_config(fields, &config_path)?;
    let promised = config.promised().map_err(|e| Error::format(&config_path, e.to_string()))?;
    let real = |info: &&TensorInfo| info.dtype.is_some_and(|dtype| dtype.is_real());
    let found: u64 = tensors.tensors().values().filter(real).map(|t| t.elements() as u64).sum();
    if found < promised {
        let text = format!("holds {found} values, its {CONFIG} describes a model of {promised}");
        return Err(Error::format(&weights, text));
    }
    Ok(Model { config, normalise, tensors, checksums })
}

/// Compares a configuration with the checksum that its weights keep of it.
fn compared(fields: &Map<String, Value>, path: &Path, tensors: &TensorFile) -> Result<Checksums> {
    let stored = tensors.metadata().get(CONFIG_SUM);
    let edited = fields.get(EDITED).and_then(Value::as_bool) == Some(true);
    match stored {
        _ if !tensors.verified() => Ok(Checksums::Missing),
        Some(_) if edited => Ok(Checksums::Edited),
        Some(sum) if *sum == config_sum(fields) => Ok(Checksums::Fit),
        None => Ok(Checksums::Missing),
        Some(_) => Err(Error::format(
            path,
            format!(
                "is not the one that {WEIGHTS} was written with: damaged, another model's, or edited. \
                 Take it from a copy; if the edit is meant, add \"{EDITED}\": true to it"
            ),
        )),
    }
}

/// A reason that quotes a file, for a message.
fn not_a_configuration(path: &Path) -> impl Fn(serde_json::Error) -> Error {
    move |e| {
        let reason: String = e.to_string().chars().take(200).flat_map(char::escape_debug).collect();
        Error::format(path, format!("not a model configuration: {reason}"))
    }
}

fn read_fields(path: &Path) -> Result<Map<String, Value>> {
    let length = std::fs::metadata(path).map_err(Error::io("cannot read", path))?.len();
    if length > MAX_CONFIG {
        return Err(Error::format(
            path,
            format!("{length} bytes are too many for a configuration"),
        ));
    }
    let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
    serde_json::from_slice(&bytes).map_err(not_a_configuration(path))
}

fn read_config(
    mut fields: Map<String, Value>,
    path: &Path,
) -> Result<(ModelConfig, Option<Normalise>)> {
    if let Some(other) = fields.remove(EDITED).filter(|edited| !edited.is_boolean()) {
        return Err(Error::format(path, format!("{EDITED} is {other}, want true or false")));
    }
    if fields.remove("format").as_ref().and_then(Value::as_str) != Some("beit") {
        return Err(Error::format(path, "not a model configuration: want \"format\": \"beit\""));
    }
    let normalise = match fields.remove(NORMALISE) {
        None => None,
        Some(value) => Some(Normalise::deserialize(&value).map_err(|_| {
            let words = Normalise::WORDS.join(" or ");
            Error::format(path, format!("{NORMALISE} is {value}, want {words}"))
        })?),
    };
    let config =
        serde_json::from_value(Value::Object(fields)).map_err(not_a_configuration(path))?;
    Ok((config, normalise))
}
