//! A directory of images: which files, in which order, of which class, and what is not among them.

use super::file::{format_in, has_known_ending, special};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What to give where there are none.
pub(super) const NO_IMAGES_HELP: &str = "give a folder with .jpg, .png, .webp, .bmp, .tif, .gif or \
                                         .ppm files, CIFAR's binary version, or synthetic";

/// Folders inside folders that are followed.
const MAX_DEPTH: usize = 24;

/// Files of one unknown ending whose content is looked at; where none of so many is an image, the rest
/// is not opened.
const LOOKED_AT: usize = 1000;

/// Names that a line gives before it says how many more there are.
pub(super) const NAMED: usize = 8;

/// One thing below a directory.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Path below the root.
    pub path: PathBuf,
    /// Number of the first folder below the root; a file directly in the root has none.
    pub class: Option<u32>,
    /// Why it can never be read, where that shows without opening it.
    pub fault: Option<String>,
}

/// The images below a directory, sorted by path, with classes from the first folder level.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub root: PathBuf,
    pub files: Vec<Listed>,
    pub classes: Vec<String>,
    /// Files that are no images, by ending.
    pub left_out: BTreeMap<String, usize>,
    /// First folders without an image.
    pub without_images: Vec<String>,
}

impl Folder {
    pub fn open(root: &Path) -> Result<Self> {
        let real = root.canonicalize().map_err(Error::io("cannot list", root))?;
        let mut found = Listing::default();
        let entries = names(root).map_err(Error::io("cannot list", root))?;
        found.collect(root, Path::new(""), entries, &mut vec![real]);
        let left_out = found.look_into_unknown(root);
        found.images.sort();
        let mut classes: Vec<&OsStr> = found.images.iter().filter_map(|p| class_of(p)).collect();
        classes.dedup();
        let class = |path: &Path| {
            class_of(path).and_then(|c| classes.binary_search(&c).ok()).map(|i| i as u32)
        };
        let empty = found.top.iter().filter(|top| classes.binary_search(&top.as_os_str()).is_err());
        let without_images = empty.map(|name| shown(name)).collect();
        let image = |path: &PathBuf| Listed { path: path.clone(), class: class(path), fault: None };
        let mut files: Vec<Listed> = found.images.iter().map(image).collect();
        files.extend(found.faults.iter().map(|(path, fault)| Listed {
            class: class(path),
            path: path.clone(),
            fault: Some(fault.clone()),
        }));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let classes = classes.into_iter().map(shown).collect();
        let folder = Self { root: root.to_path_buf(), files, classes, left_out, without_images };
        if found.images.is_empty() { Err(folder.nothing()) } else { Ok(folder) }
    }

    /// These files, in this order, without classes.
    pub fn of_files(files: Vec<PathBuf>) -> Self {
        let listed = |path| Listed { path, class: None, fault: None };
        Self {
            root: PathBuf::new(),
            files: files.into_iter().map(listed).collect(),
            classes: Vec::new(),
            left_out: BTreeMap::new(),
            without_images: Vec::new(),
        }
    }

    /// The error of a folder without images.
    fn nothing(&self) -> Error {
        let fault = self.files.first().and_then(|listed| {
            Some(format!("; {} {}", shown(listed.path.as_os_str()), listed.fault.as_ref()?))
        });
        let left_out = self.endings().map(|endings| format!("; there are {endings}"));
        let (fault, left_out) = (fault.unwrap_or_default(), left_out.unwrap_or_default());
        Error::format(&self.root, format!("no images; {NO_IMAGES_HELP}{left_out}{fault}"))
    }

    /// What was left out, in one line; none if nothing was.
    pub fn remark(&self) -> Option<String> {
        let left_out = self.endings().map(|endings| format!("left out {endings}"));
        let empty = (!self.without_images.is_empty()).then(|| {
            format!("no image in the class folders {}", few(self.without_images.iter().cloned()))
        });
        let parts: Vec<String> = left_out.into_iter().chain(empty).collect();
        let root = shown(self.root.as_os_str());
        (!parts.is_empty()).then(|| format!("{root}: {}", parts.join("; ")))
    }

    /// `4 .txt, 1 without ending`: most frequent first.
    fn endings(&self) -> Option<String> {
        let mut counts: Vec<_> = self.left_out.iter().collect();
        counts.sort_by_key(|(ending, count)| (usize::MAX - **count, *ending));
        let one = |(ending, count): (&String, &usize)| match ending.as_str() {
            "" => format!("{count} without ending"),
            ending => format!("{count} .{ending}"),
        };
        (!counts.is_empty()).then(|| few(counts.into_iter().map(one)))
    }
}

/// The first few of the words, and how many more there are.
pub(super) fn few(words: impl ExactSizeIterator<Item = String>) -> String {
    let more = words.len().saturating_sub(NAMED);
    let said = words.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{said} and {more} more") } else { said }
}

/// A name as text; bytes that are not UTF-8 are written as `\x8C`, so that names that differ stay apart.
pub(super) fn shown(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02X}"));
    }
    text
}

/// The first folder below the root.
fn class_of(path: &Path) -> Option<&OsStr> {
    let mut parts = path.components();
    let first = parts.next()?;
    parts.next()?;
    Some(first.as_os_str())
}

/// The names in a folder that do not start with a dot: those are other programs' notes about files, with
/// the same endings.
fn names(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let mut names = entries.collect::<std::io::Result<Vec<_>>>()?;
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    Ok(names)
}

/// What a walk has come across.
#[derive(Default)]
struct Listing {
    images: Vec<PathBuf>,
    /// What can never be read, and why.
    faults: Vec<(PathBuf, String)>,
    /// Files whose ending says nothing.
    unknown: Vec<PathBuf>,
    /// First folders below the root.
    top: BTreeSet<OsString>,
}

impl Listing {
    /// Adds what is in `root/below` and in its folders. `above` holds the real paths of the folders that
    /// led here, this one last.
    fn collect(
        &mut self,
        root: &Path,
        below: &Path,
        names: Vec<OsString>,
        above: &mut Vec<PathBuf>,
    ) {
        for name in names {
            let path = below.join(&name);
            // Follows links.
            let kind = match std::fs::metadata(root.join(&path)) {
                Ok(about) => about.file_type(),
                Err(error) if has_known_ending(&path) => {
                    self.faults.push((path, format!("cannot be read: {error}")));
                    continue;
                }
                Err(_) => {
                    self.unknown.push(path);
                    continue;
                }
            };
            if kind.is_dir() {
                if above.len() == 1 {
                    self.top.insert(name);
                }
                self.enter(root, path, above);
            } else if !kind.is_file() {
                self.faults.push((path, format!("is {}, not a file", special(kind))));
            } else if has_known_ending(&path) {
                self.images.push(path);
            } else {
                self.unknown.push(path);
            }
        }
    }

    fn enter(&mut self, root: &Path, below: PathBuf, above: &mut Vec<PathBuf>) {
        let folder = root.join(&below);
        let listed = folder.canonicalize().and_then(|real| Ok((real, names(&folder)?)));
        let fault = match listed {
            Err(error) => format!("cannot be listed: {error}"),
            // A link to a folder that holds one of those that led here would come here again.
            Ok((real, _)) if above.iter().any(|folder| folder.starts_with(&real)) => {
                "is a link to a folder above".to_owned()
            }
            Ok(_) if above.len() > MAX_DEPTH => {
                format!("lies more than {MAX_DEPTH} folders deep")
            }
            Ok((real, names)) => {
                above.push(real);
                self.collect(root, &below, names, above);
                above.pop();
                return;
            }
        };
        self.faults.push((below, fault));
    }

    /// Takes those of the files with unknown endings whose content is an image, and counts the others.
    fn look_into_unknown(&mut self, root: &Path) -> BTreeMap<String, usize> {
        self.unknown.sort();
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        let mut with_images = BTreeSet::new();
        for path in std::mem::take(&mut self.unknown) {
            let ending = shown(path.extension().unwrap_or_default()).to_lowercase();
            let others = left_out.get(&ending).copied().unwrap_or(0);
            let look = others < LOOKED_AT || with_images.contains(&ending);
            if look && format_in(&root.join(&path)).is_some() {
                self.images.push(path);
                with_images.insert(ending);
            } else {
                *left_out.entry(ending).or_default() += 1;
            }
        }
        left_out
    }
}
