//! The configuration beside the weights, and whose it says they are.

use super::json;
use crate::error::Result;
use crate::weights::{Project, pth};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// `config.json` in the folder that a path means, or lies in.
#[derive(Debug, Default)]
pub(in crate::weights) struct BesideWeights {
    /// Where it is, or would be.
    pub(super) config: PathBuf,
    /// What it says; nothing where there is none.
    pub(super) fields: Map<String, Value>,
    /// Whose model it is about. Where that is nobody, the weights have to say it.
    pub(in crate::weights) whose: Option<Project>,
}

impl BesideWeights {
    /// Reads it; `stated` is whose a person says the files are. A PyTorch checkpoint is what it is, whatever lies
    /// beside it, unless that is about a BEiT.
    pub(in crate::weights) fn of(path: &Path, stated: Option<Project>) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let config = folder.join("config.json");
        let whose = stated.filter(|project| *project == Project::Own);
        if whose.is_some() || !config.is_file() {
            return Ok(Self { config, whose, ..Self::default() });
        }
        let weights = if path.is_dir() { &path.join("model.safetensors") } else { path };
        let checkpoint = pth::is_at(weights);
        let own = stated.is_none() && !checkpoint && weights.is_file();
        let fields = match json::read(&config) {
            Ok(fields) => fields,
            // Whoever reads our own says what is wrong with it.
            Err(_) if own || checkpoint => Map::new(),
            Err(e) => return Err(e),
        };
        let wants = |one: Project| stated.is_none_or(|project| project == one);
        let kind = fields.get("model_type");
        let whose = if wants(Project::HuggingFace)
            && kind.is_some_and(|kind| path.is_dir() || kind == "beit")
        {
            Some(Project::HuggingFace)
        } else if wants(Project::Timm) && fields.contains_key("architecture") {
            Some(Project::Timm)
        } else {
            (own && kind.is_none()).then_some(Project::Own)
        };
        Ok(Self { config, fields, whose })
    }
}
