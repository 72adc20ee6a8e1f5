//! Models of other projects, read as ours and written as theirs.
//!
//! A reader finds out whose files they are and how large the model is; then every tensor of ours is looked for under
//! their name, and every one of theirs is used or left out for a reason ([`ImportPlan`](super::ImportPlan)). One that nobody can explain
//! is an error. From there on the model is one of ours: whatever takes a model takes these files.
//!
//! | project | files | sizes are from |
//! | --- | --- | --- |
//! | Hugging Face's port | `config.json`, safetensors or `.bin`, one or several with an index | `config.json` |
//! | the original (unilm) and timm | `.pth` or safetensors | the tensors' shapes, timm's `config.json` |
//! | DALL-E | a file of the encoder and one of the decoder, or both in one | the tensors' shapes |

mod dalle;
mod export;
mod found;
mod hugging_face;
mod json;
mod names;
mod original;
mod shards;
mod timm;

pub use export::{ExportFormat, export, refuse_export, save_imported};

use super::import_plan::{TheirNames, There, translated};
use super::model::{Checksums, Model};
use super::tensors::ModelTensors;
use super::{Origin, Project, Stated, TensorFile};
use crate::error::{Error, Result};
use crate::models::kind::ModelConfig;
use crate::shown;
use found::FoundModel;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The model in files of another project; nothing where they are none of those that are known.
pub(super) fn read_foreign(path: &Path, stated: &Stated) -> Result<Option<Model>> {
    let Some(mut found) = found(path, stated)? else { return Ok(None) };
    if let (Some(normalise), false) = (stated.normalise, found.project == Project::Dalle) {
        found.normalise = Some(normalise);
    }
    let FoundModel { project, config, normalise, files, notes } = found;
    config.promised().map_err(|e| Error::format(path, e.to_string()))?;
    let theirs = |own: &str| theirs(project, &config, own);
    let wrong = |text| Error::format(path, text);
    let there = names_of(project, &files).map_err(wrong)?;
    let (places, plan) = translated(&config, &files, &there, theirs).map_err(wrong)?;
    let tensors = ModelTensors::at(path, files, places);
    let origin = Some(Origin { project, plan, notes });
    let (checksums, left_out) = (Checksums::Missing, Vec::new());
    Ok(Some(Model { config, normalise, tensors, checksums, left_out, origin }))
}

/// What `project` calls the tensor that is called `own` here, and what it makes of it.
fn theirs(project: Project, config: &ModelConfig, own: &str) -> Option<TheirNames> {
    match project {
        Project::HuggingFace => Some(TheirNames {
            parts: names::hugging_face(config, own)?,
            regrid: hugging_face::regrid(config, own),
        }),
        _ => Some(TheirNames { parts: vec![own.to_owned()], regrid: None }),
    }
}

/// The tensors of the files by the names that [`theirs`] gives.
fn names_of(project: Project, files: &[TensorFile]) -> Result<There, String> {
    let mut there = BTreeMap::new();
    let all = || files.iter().flat_map(|file| file.tensors().keys());
    let wrapped =
        project != Project::Dalle && all().all(|name| name.starts_with(original::WRAPPED));
    for (i, file) in files.iter().enumerate() {
        for stored in file.tensors().keys() {
            let name = match project {
                Project::HuggingFace => names::name_in_files(stored),
                Project::Dalle => format!("{}{stored}", dalle::prefix(file)),
                _ if wrapped => stored[original::WRAPPED.len()..].to_owned(),
                _ => stored.clone(),
            };
            if there.insert(name, (i, stored.clone())).is_some() {
                return Err(format!("tensor {} is there twice", shown::name(stored)));
            }
        }
    }
    Ok(there)
}

/// Whether a configuration is of transformers, and, where it is beside a file, of a BEiT.
fn is_theirs(path: &Path, fields: &Map<String, Value>) -> bool {
    let kind = fields.get("model_type");
    kind.is_some_and(|kind| path.is_dir() || kind == "beit")
}

fn found(path: &Path, stated: &Stated) -> Result<Option<FoundModel>> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let config = folder.join("config.json");
    let fields = if config.is_file() { Some(json::read(&config)?) } else { None };
    let wants = |one: Project| stated.project.is_none_or(|project| project == one);
    match &fields {
        Some(fields) if is_theirs(path, fields) && wants(Project::HuggingFace) => {
            return hugging_face::read(path, &config, fields, stated).map(Some);
        }
        Some(fields) if fields.contains_key("architecture") && wants(Project::Timm) => {
            let timm = Some((&*config, fields));
            return original::read(path, shards::of_model(path)?, timm, stated).map(Some);
        }
        _ if stated.project == Some(Project::HuggingFace) => {
            let text = "is no folder of transformers: want a config.json with model_type in it";
            return Err(Error::format(path, text));
        }
        _ => {}
    }
    let files: Vec<PathBuf> =
        if path.is_dir() { dalle::files_of(path)? } else { vec![path.to_path_buf()] };
    let files = files.iter().map(|file| TensorFile::read_any(file)).collect::<Result<Vec<_>>>()?;
    if wants(Project::Dalle) && files.iter().any(dalle::is_part) {
        return dalle::read(path, files, stated).map(Some);
    }
    let theirs = |name: &String| names::name_in_files(name).starts_with("beit.encoder.layer.");
    if stated.project.is_none() && files.iter().any(|file| file.tensors().keys().any(theirs)) {
        let text = "has tensors under the names of transformers and no config.json of it: give the folder that has both";
        return Err(Error::format(path, text));
    }
    let original = wants(Project::Unilm) || wants(Project::Timm);
    if original && files.len() == 1 && files.iter().all(original::is_model) {
        return original::read(path, files, None, stated).map(Some);
    }
    Ok(None)
}
