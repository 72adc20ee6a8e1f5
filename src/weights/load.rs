//! A model in whichever files it lies.

use super::exchange::{BesideWeights, read_foreign, snapshot_of};
use super::model::{Model, load_own};
use super::{Project, Stated};
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
    let (path, chosen) = snapshot_of(path)?;
    let beside = BesideWeights::of(&path, stated.project)?;
    if beside.whose == Some(Project::Own) {
        return load_own(&path);
    }
    if let Some(mut model) = read_foreign(&path, &beside, stated)? {
        model.origin.iter_mut().for_each(|origin| origin.notes.extend(chosen.clone()));
        return Ok(model);
    }
    match stated.project {
        None => load_own(&path),
        Some(project) => Err(Error::format(&path, format!("holds no model of {project}"))),
    }
}
