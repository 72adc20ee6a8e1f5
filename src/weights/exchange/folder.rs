//! What lies in a folder, and which folder of a cache is meant.

use crate::error::{Error, Result};
use crate::shown;
use std::path::{Path, PathBuf};

/// Endings of the files that weights lie in.
const ENDINGS: [&str; 5] = ["pkl", "pth", "pt", "bin", "safetensors"];

/// Most names in one message.
const NAMED: usize = 6;

/// The files of a folder that weights may lie in, in the order of their names.
pub(super) fn weights_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let weights = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        path.is_file() && end.is_some_and(|end| ENDINGS.contains(&end))
    };
    Ok(entries(folder)?.into_iter().filter(weights).collect())
}

/// In the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()
    });
    let mut entries = read.map_err(Error::io("cannot read", folder))?;
    entries.sort();
    Ok(entries)
}

pub(super) fn name_of(path: &Path) -> String {
    shown::name(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// The names of files of one folder, as far as a line has room.
pub(super) fn named(paths: &[impl AsRef<Path>]) -> String {
    let some: Vec<String> = paths.iter().take(NAMED).map(|path| name_of(path.as_ref())).collect();
    let more = paths.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    some.join(", ") + &rest
}

/// The folder of the model in a cache of the hub of Hugging Face (`models--ORGANISATION--NAME`), where one is meant, with
/// how it was chosen: the only snapshot, or the one of the branch main. Any other path is itself.
pub(in crate::weights) fn snapshot_of(path: &Path) -> Result<(PathBuf, Option<String>)> {
    if !path.is_dir() {
        return Ok((path.to_path_buf(), None));
    }
    let folders = |folder: &Path| -> Result<Vec<PathBuf>> {
        Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
    };
    let snapshots = path.join("snapshots");
    if path.join("config.json").exists() || !snapshots.is_dir() {
        let of_hub = |path: &&PathBuf| {
            name_of(path).starts_with("models--") && path.join("snapshots").is_dir()
        };
        let inside = folders(path)?;
        let models: Vec<&PathBuf> = inside.iter().filter(of_hub).collect();
        if models.is_empty() {
            return Ok((path.to_path_buf(), None));
        }
        let text = format!("is a cache of models of Hugging Face: give one of {}", named(&models));
        return Err(Error::format(path, text));
    }
    let all = folders(&snapshots)?;
    let main = std::fs::read_to_string(path.join("refs").join("main")).ok();
    let main = main.and_then(|commit| {
        all.iter().find(|folder| folder.file_name() == Some(commit.trim().as_ref()))
    });
    match (&all[..], main) {
        ([one], _) => Ok((one.clone(), Some(format!("snapshot {}, the only one", name_of(one))))),
        (_, Some(one)) => {
            Ok((one.clone(), Some(format!("snapshot {}, of refs/main", name_of(one)))))
        }
        ([], _) => {
            let text = "is a cache of Hugging Face without a snapshot: download the model again";
            Err(Error::format(path, text))
        }
        _ => {
            let text = format!("holds several snapshots: give one of {}", named(&all));
            Err(Error::format(&snapshots, text))
        }
    }
}
