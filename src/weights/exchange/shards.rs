//! The tensors of a model that lie in one file or, with an index, in several.

use super::folder::{named, weights_of};
use super::json;
use crate::error::{Error, Result};
use crate::shown;
use crate::weights::TensorFile;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Names under which a folder has its model, the first that is there: one file, or the index of several.
const MODELS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Most files of one model.
const MOST: usize = 1000;

/// The files of `path`, a folder, one of its files, or their index.
pub(super) fn of_model(path: &Path) -> Result<Vec<TensorFile>> {
    let file = if path.is_dir() { in_folder(path)? } else { path.to_path_buf() };
    if file.extension().is_some_and(|end| end == "json") {
        return indexed(&file);
    }
    Ok(vec![TensorFile::read_any(&file)?])
}

fn in_folder(folder: &Path) -> Result<PathBuf> {
    let file = MODELS.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    if let Some(file) = file {
        return Ok(file);
    }
    let others = match &weights_of(folder)?[..] {
        [] => String::new(),
        others => format!("; if it is {}, give the file", named(others)),
    };
    let text = format!("holds no weights: none of {}{others}", MODELS.join(", "));
    Err(Error::format(folder, text))
}

/// The files that an index names, and in each the tensors that it says.
fn indexed(index: &Path) -> Result<Vec<TensorFile>> {
    let fields = json::read(index)?;
    let wrong = |text: String| Error::format(index, text);
    let Some(Value::Object(map)) = fields.get("weight_map") else {
        return Err(wrong("has no weight_map, an object of tensors and files".to_owned()));
    };
    let mut places: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let name = shown::name(tensor);
        let file = file.as_str().ok_or_else(|| wrong(format!("tensor {name}: no file's name")))?;
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            let file = shown::name(file);
            return Err(wrong(format!("tensor {name}: {file} is not a file beside the index")));
        }
        places.entry(file).or_default().insert(tensor);
    }
    if places.is_empty() || places.len() > MOST {
        return Err(wrong(format!("names {} files, want 1 to {MOST}", places.len())));
    }
    let open = |(file, tensors): (&str, BTreeSet<&str>)| {
        let read = TensorFile::read_any(&index.with_file_name(file))?;
        let there: BTreeSet<&str> = read.tensors().keys().map(String::as_str).collect();
        match tensors.symmetric_difference(&there).next() {
            None => Ok(read),
            Some(tensor) => {
                let who = if there.contains(tensor) { "only it" } else { "only the index" };
                let (tensor, file) = (shown::name(tensor), shown::name(file));
                Err(wrong(format!("{file} does not fit: {who} has tensor {tensor}")))
            }
        }
    };
    places.into_iter().map(open).collect()
}
