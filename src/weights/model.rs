//! Weights for others to use: `model.safetensors` with its `config.json`.
//!
//! The bytes of `model.safetensors` depend on the weights alone: no date, no setting of the run.

use super::safetensors::{TensorFile, TensorInfo, View, refuse_non_finite, write_tensors};
use crate::atomic::{write_atomic, write_atomic_with};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::kind::{ModelConfig, ModelKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const NORMALISE: &str = "normalise";

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
    let text = format!("{:#}\n", Value::Object(fields));
    write_atomic(&folder.join(CONFIG), text.as_bytes())?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_atomic_with(&folder.join(WEIGHTS), |file| write_tensors(file, tensors, &metadata))
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
    let (config, normalise) = read_config(&config_path)?;
    let promised = config.promised().map_err(|e| Error::format(&config_path, e.to_string()))?;
    let real = |info: &&TensorInfo| info.dtype.is_some_and(|dtype| dtype.is_real());
    let found: u64 = tensors.tensors().values().filter(real).map(|t| t.elements() as u64).sum();
    if found < promised {
        let text = format!("holds {found} values, its {CONFIG} describes a model of {promised}");
        return Err(Error::format(&weights, text));
    }
    Ok(Model { config, normalise, tensors })
}

fn read_config(path: &Path) -> Result<(ModelConfig, Option<Normalise>)> {
    let length = std::fs::metadata(path).map_err(Error::io("cannot read", path))?.len();
    if length > MAX_CONFIG {
        return Err(Error::format(
            path,
            format!("{length} bytes are too many for a configuration"),
        ));
    }
    let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
    let wrong = |e: serde_json::Error| {
        // The reason quotes the file.
        let reason: String = e.to_string().chars().take(200).flat_map(char::escape_debug).collect();
        Error::format(path, format!("not a model configuration: {reason}"))
    };
    let mut fields: Map<String, Value> = serde_json::from_slice(&bytes).map_err(wrong)?;
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
    let config = serde_json::from_value(Value::Object(fields)).map_err(wrong)?;
    Ok((config, normalise))
}
