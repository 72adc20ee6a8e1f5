//! Weights for others to use: `model.safetensors` with its `config.json`.
//!
//! The bytes of `model.safetensors` depend on weights and sizes alone: no date, no setting of the run.
//! Its metadata has checksums of itself and one of what `config.json` says (not of how it is spaced), so
//! that one of the two cannot change without the other.

mod fields;

use super::file::TensorFile;
use super::info::{Dtype, TensorInfo};
use super::origin::Origin;
use super::safetensors::{
    ByteSink, View, hex, refuse_non_finite, stream_tensors, with_checksums, write_tensors,
};
use super::tensors::ModelTensors;
use crate::atomic::{write_atomic, write_atomic_with};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::kind::{ModelConfig, ModelKind};
use crate::progress::note;
use fields::{EDITED, Fields, Understood, VERSION};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// Key of the metadata with the version of the two files.
const VERSION_KEY: &str = "beit_version";

/// Key of the metadata with the checksum of `config.json`.
const CONFIG_SUM: &str = "crc32c_config";

/// A model's sizes and the file with its weights.
#[derive(Debug)]
pub struct Model {
    /// Sizes.
    pub config: ModelConfig,
    /// Mean and deviation of the views that an encoder was trained with.
    pub normalise: Option<Normalise>,
    /// Weights.
    pub tensors: ModelTensors,
    /// What the checksums said.
    pub checksums: Checksums,
    /// What only a newer version of this program understands: fields of the configuration, keys of the
    /// metadata. Empty for files of this version and older ones, where an unknown field is an error.
    pub left_out: Vec<String>,
    /// Where it is from, where that is another project.
    pub origin: Option<Origin>,
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
    let path = folder.join(CONFIG);
    let fields = Fields::of(&path, config, normalise);
    write_atomic(&path, fields.text().as_bytes())?;
    let metadata = with_checksums(tensors, &metadata(&fields));
    write_atomic_with(&folder.join(WEIGHTS), |file| write_tensors(file, tensors, &metadata))
}

/// Writes the model that was read from other files as [`save_model`] writes one, tensor by tensor.
pub(super) fn save_read(folder: &Path, model: &Model) -> Result<()> {
    let path = folder.join(CONFIG);
    let fields = Fields::of(&path, &model.config, model.normalise);
    write_atomic(&path, fields.text().as_bytes())?;
    let metadata = metadata(&fields);
    let mut bytes = |name: &str, to: ByteSink| model.tensors.f32_bytes(name, to);
    let shapes = model.tensors.shapes().into_iter();
    let tensors = shapes.map(|(name, shape)| (name, (Dtype::F32, shape))).collect();
    stream_tensors(&folder.join(WEIGHTS), &tensors, &metadata, true, &mut bytes)
}

fn metadata(fields: &Fields) -> BTreeMap<String, String> {
    let metadata = [
        ("format", "pt".to_owned()),
        (VERSION_KEY, VERSION.to_string()),
        (CONFIG_SUM, hex(fields.sum())),
    ];
    metadata.map(|(key, text)| (key.to_owned(), text)).into()
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
        return Err(Error::format(
            &weights,
            format!(
                "has no {CONFIG} beside it, and its tensors are those of no model that needs none"
            ),
        ));
    }
    Ok((weights, config))
}

/// Reads a model of this program. What a newer version wrote and this one does not understand is named on standard
/// error.
///
/// The sizes are believed only when the file has that many values: whoever builds the model next
/// allocates what they say.
pub(super) fn load_own(path: &Path) -> Result<Model> {
    let (weights, config_path) = locate_model(path)?;
    let tensors = TensorFile::read(&weights)?;
    let fields = Fields::read(&config_path)?;
    let checksums = compared(&fields, &config_path, &tensors)?;
    let Understood { config, normalise, mut left_out } = fields.understood()?;
    left_out.extend(unknown_metadata(&tensors));
    let promised = config.promised().map_err(|e| Error::format(&config_path, e.to_string()))?;
    let real = |info: &&TensorInfo| info.dtype.is_some_and(|dtype| dtype.is_real());
    let found: u64 = tensors.tensors().values().filter(real).map(|t| t.elements() as u64).sum();
    if found < promised {
        let text = format!("holds {found} values, its {CONFIG} describes a model of {promised}");
        return Err(Error::format(&weights, text));
    }
    if !left_out.is_empty() {
        note(&format!(
            "{}: of a newer version of this program, which also knows: {}; left out here",
            config_path.display(),
            left_out.join(", ")
        ));
    }
    let (tensors, origin) = (ModelTensors::of(tensors), None);
    Ok(Model { config, normalise, tensors, checksums, left_out, origin })
}

/// Keys of the metadata that a newer version added.
fn unknown_metadata(tensors: &TensorFile) -> Vec<String> {
    let metadata = tensors.metadata();
    let version = metadata.get(VERSION_KEY).and_then(|text| text.parse::<u64>().ok());
    let known = |key: &str| ["format", VERSION_KEY].contains(&key) || key.starts_with("crc32c_");
    let newer = version.is_some_and(|version| version > VERSION);
    metadata.keys().filter(|key| newer && !known(key)).cloned().collect()
}

/// Compares a configuration with the checksum that its weights keep of it.
fn compared(fields: &Fields, path: &Path, tensors: &TensorFile) -> Result<Checksums> {
    let edited = fields.edited()?;
    match tensors.metadata().get(CONFIG_SUM) {
        _ if !tensors.verified() => Ok(Checksums::Missing),
        None => Ok(Checksums::Missing),
        Some(_) if edited => Ok(Checksums::Edited),
        Some(sum) if *sum == hex(fields.sum()) => Ok(Checksums::Fit),
        Some(_) => Err(Error::format(
            path,
            format!(
                "is not the one that {WEIGHTS} was written with: damaged, another model's, or edited. \
                 Take it from a copy; if the edit is meant, add \"{EDITED}\": true to it"
            ),
        )),
    }
}
