//! Files that nothing beside them says anything of: what they are, and which of a folder's files is the model.

use super::folder::{name_of, named, weights_of};
use super::{dalle, names, original};
use crate::error::{Error, Result};
use crate::weights::{Project, TensorFile};
use std::path::Path;

/// What the tensors of files are found to be.
pub(super) enum ByContent {
    /// The tokenizer's parts.
    Dalle(Vec<TensorFile>),
    /// A model under the original's names, and how it was chosen where there was a choice.
    Original(TensorFile, Option<String>),
    /// Nothing that could be one of either.
    Nothing,
}

/// Looks into a file, or those of a folder, for what `wants` says may be there; `stated` is true where a person said
/// so.
pub(super) fn by_content(
    path: &Path,
    wants: impl Fn(Project) -> bool,
    stated: bool,
) -> Result<ByContent> {
    let paths = if path.is_dir() { weights_of(path)? } else { vec![path.to_path_buf()] };
    let (mut files, mut refused) = (Vec::new(), Vec::new());
    for file in &paths {
        match TensorFile::read_any(file) {
            Ok(read) => files.push(read),
            Err(e) => refused.push(e),
        }
    }
    if wants(Project::Dalle) && files.iter().any(dalle::is_part) {
        return refused.into_iter().next().map_or(Ok(ByContent::Dalle(files)), Err);
    }
    let theirs = |name: &String| names::name_in_files(name).starts_with("beit.encoder.layer.");
    if !stated && files.iter().any(|file| file.tensors().keys().any(theirs)) {
        let text = "has tensors under the names of transformers and no config.json of it: give the folder that has both";
        return Err(Error::format(path, text));
    }
    let original = wants(Project::Unilm) || wants(Project::Timm);
    let mut models: Vec<TensorFile> =
        files.into_iter().filter(|file| original && original::is_model(file)).collect();
    match (models.len(), refused.len()) {
        (1, _) => {
            let file = models.remove(0);
            let chosen =
                format!("{}, the only model among {} files", name_of(file.path()), paths.len());
            Ok(ByContent::Original(file, (paths.len() > 1).then_some(chosen)))
        }
        (0, 1) if paths.len() == 1 => Err(refused.remove(0)),
        // Of a project that was named, whoever asked says that it is not there.
        (0, 0) if stated => Ok(ByContent::Nothing),
        (0, _) if paths.is_empty() || !path.is_dir() => Ok(ByContent::Nothing),
        (0, _) => {
            let why = refused.first().map_or(String::new(), |e| format!(" ({e})"));
            let text =
                format!("has no model of a kind that is known here in {}{why}", named(&paths));
            Err(Error::format(path, text))
        }
        _ => {
            let models: Vec<_> = models.iter().map(TensorFile::path).collect();
            let text = format!("holds several models: give one of {}", named(&models));
            Err(Error::format(path, text))
        }
    }
}
