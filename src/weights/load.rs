//! A model in whichever files it lies.

use super::exchange::read_foreign;
use super::model::{Model, load_own, locate_model};
use super::{Project, Stated, pth};
use crate::error::{Error, Result};
use crate::progress::note;
use std::path::Path;

/// Reads the model that `RUN|FILE` means: a run folder or file of this program, or the files of another project
/// that [`exchange`](super::exchange) knows. What a newer version of this program wrote and this one does not
/// understand is named on standard error, and so is what other files do not say and was assumed.
pub fn load_model(path: &Path) -> Result<Model> {
    let model = load_model_as(path, &Stated::default())?;
    for line in model.origin.iter().flat_map(|origin| &origin.notes) {
        note(&format!("{}: {line}", path.display()));
    }
    Ok(model)
}

/// The same of files of which a person says more than they do.
pub fn load_model_as(path: &Path, stated: &Stated) -> Result<Model> {
    if !path.exists() {
        return Err(Error::config(format!("{}: no such run folder or file", path.display())));
    }
    let foreign = match stated.project {
        Some(Project::Own) => None,
        None if is_own(path) => None,
        _ => read_foreign(path, stated)?,
    };
    if let Some(model) = foreign {
        return Ok(model);
    }
    match stated.project {
        None | Some(Project::Own) => load_own(path),
        Some(project) => Err(Error::format(path, format!("holds no model of {project}"))),
    }
}

/// Whether there is a configuration beside the weights that says it is this program's, or nothing of itself.
fn is_own(path: &Path) -> bool {
    let Ok((weights, config)) = locate_model(path) else { return false };
    if pth::is_at(&weights) {
        return false;
    }
    let text = std::fs::read(config).unwrap_or_default();
    let fields: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&text).ok();
    let foreign = ["model_type", "architecture"];
    fields.is_none_or(|fields| !foreign.iter().any(|key| fields.contains_key(*key)))
}
