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

mod beside;
mod content;
mod dalle;
mod export;
mod folder;
mod found;
mod hugging_face;
mod json;
mod names;
mod original;
mod segmenters;
mod shapes;
mod shards;
mod timm;
mod written;

pub(super) use beside::BesideWeights;
pub use export::{ExportFormat, export, refuse_export, save_imported};
pub(super) use folder::snapshot_of;

use super::import_plan::{TheirNames, There, translated};
use super::model::{Checksums, Model};
use super::tensors::ModelTensors;
use super::{Origin, Project, Stated, TensorFile};
use crate::error::{Error, Result};
use crate::models::kind::ModelConfig;
use crate::shown;
use content::{ByContent, by_content};
use found::FoundModel;
use std::collections::BTreeMap;
use std::path::Path;

/// The model in files of another project; nothing where they are none of those that are known.
pub(super) fn read_foreign(
    path: &Path,
    beside: &BesideWeights,
    stated: &Stated,
) -> Result<Option<Model>> {
    let Some(mut found) = found(path, beside, stated)? else { return Ok(None) };
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
        _ => Some(TheirNames { parts: vec![names::original(config, own)], regrid: None }),
    }
}

/// The tensors of the files by the names that [`theirs`] gives.
fn names_of(project: Project, files: &[TensorFile]) -> Result<There, String> {
    let mut there = BTreeMap::new();
    let all = || files.iter().flat_map(|file| file.tensors().keys());
    let wrapped = project != Project::Dalle && all().all(|name| name.starts_with(shapes::WRAPPED));
    for (i, file) in files.iter().enumerate() {
        for stored in file.tensors().keys() {
            let name = match project {
                Project::HuggingFace => names::name_in_files(stored),
                Project::Dalle => format!("{}{stored}", dalle::prefix(file)),
                _ if wrapped => stored[shapes::WRAPPED.len()..].to_owned(),
                _ => stored.clone(),
            };
            if there.insert(name, (i, stored.clone())).is_some() {
                return Err(format!("tensor {} is there twice", shown::name(stored)));
            }
        }
    }
    Ok(there)
}

fn found(path: &Path, beside: &BesideWeights, stated: &Stated) -> Result<Option<FoundModel>> {
    let BesideWeights { config, fields, whose } = beside;
    match whose {
        Some(Project::HuggingFace) => {
            return hugging_face::read(path, config, fields, stated).map(Some);
        }
        Some(Project::Timm) => {
            let timm = Some((&**config, fields));
            return original::read(path, shards::of_model(path)?, timm, stated).map(Some);
        }
        _ if stated.project == Some(Project::HuggingFace) => {
            let text = "is no folder of transformers: want a config.json with model_type in it";
            return Err(Error::format(path, text));
        }
        _ => {}
    }
    let wants = |one: Project| stated.project.is_none_or(|project| project == one);
    match by_content(path, wants, stated.project.is_some())? {
        ByContent::Dalle(files) => dalle::read(path, files, stated).map(Some),
        ByContent::Original(file, chosen) => {
            let mut found = original::read(path, vec![file], None, stated)?;
            found.notes.extend(chosen);
            Ok(Some(found))
        }
        ByContent::Nothing => Ok(None),
    }
}
