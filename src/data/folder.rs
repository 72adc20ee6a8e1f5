//! A directory of images: which files, in which order, of which class.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// What to give where there are none.
pub(super) const NO_IMAGES_HELP: &str =
    "give a folder with .jpg, .jpeg, .png or .webp files, CIFAR's binary version, or synthetic";

/// Folders inside folders that are followed; a link to itself would never end.
const MAX_DEPTH: usize = 24;

/// The images below a directory, sorted by path, with classes from the first folder level.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub root: PathBuf,
    /// Path below the root, and class; a file directly in the root has none.
    pub files: Vec<(PathBuf, Option<u32>)>,
    pub classes: Vec<String>,
}

impl Folder {
    pub fn open(root: &Path) -> Result<Self> {
        let mut found = Vec::new();
        collect(root, Path::new(""), 0, &mut found)?;
        if found.is_empty() {
            return Err(Error::format(root, format!("no images; {NO_IMAGES_HELP}")));
        }
        found.sort();
        let mut classes: Vec<String> = found.iter().filter_map(|path| class_of(path)).collect();
        classes.dedup();
        let label = |path: &PathBuf| {
            class_of(path).and_then(|c| classes.iter().position(|x| *x == c)).map(|i| i as u32)
        };
        let labels: Vec<_> = found.iter().map(label).collect();
        let files = found.into_iter().zip(labels).collect();
        Ok(Self { root: root.to_path_buf(), files, classes })
    }
}

/// The first folder below the root.
fn class_of(path: &Path) -> Option<String> {
    let mut parts = path.components();
    let first = parts.next()?;
    parts.next()?;
    Some(first.as_os_str().to_string_lossy().into_owned())
}

/// Adds the images of `root/below` and of its folders. Names that start with a dot are left out:
/// they are other programs' notes about files, with the same endings.
fn collect(root: &Path, below: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    if depth > MAX_DEPTH {
        return Err(Error::format(
            &folder,
            format!("more than {MAX_DEPTH} folders deep; is there a link to a folder above?"),
        ));
    }
    let cannot = || Error::io("cannot list", &folder);
    for entry in std::fs::read_dir(&folder).map_err(cannot())? {
        let entry = entry.map_err(cannot())?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = below.join(name);
        // Follows links; a dangling one is neither a folder nor, here, worth stopping for.
        if entry.path().is_dir() {
            collect(root, &path, depth + 1, found)?;
        } else if is_image(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ["jpg", "jpeg", "png", "webp"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}
