//! The files of a folder of pairs: which image has which mask, and what the masks' pixels stand for.

use super::classes::{ClassList, ade20k, numbered};
use super::mask::MaskRule;
use crate::data::decode::{DecodeOptions, Mask, decode_mask};
use crate::data::folder::{Folder, few, shown};
use crate::data::labels::Labels;
use crate::data::split::Split;
use crate::error::{Error, Result};
use crate::models::config::SegmentClass;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What to give where there are no pairs.
const HELP: &str = "give a folder with images/ and masks/ (PNG files of the same names), each with train/ and val/ \
                    inside or without; ADE20K's folder with images/ and annotations/; or synthetic[:COUNT]";

/// Names that the folder of a split may have.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 2] = ["val", "validation"];

/// Images with the masks that belong to them.
#[derive(Debug)]
pub(super) struct PairFiles {
    /// The images.
    pub images: Folder,
    /// Where the mask of each image is, or should be.
    pub masks: Vec<PathBuf>,
    /// What the pixels of masks stand for.
    pub rule: MaskRule,
    /// What is worth saying of them.
    pub remarks: Vec<String>,
}

impl PairFiles {
    /// The pairs of a folder, and their classes.
    pub fn open(
        root: &Path,
        split: Split,
        decode: &DecodeOptions,
    ) -> Result<(Self, Vec<SegmentClass>)> {
        let kind = FolderKind::of(root)?;
        let (images, folder) = kind.part(root, split)?;
        let images = Folder::open(&images)?;
        let found = Folder::open(&folder)?;
        let mut remarks: Vec<String> = images.remark().into_iter().collect();
        let masks = mask_paths(&images, &found);
        let lonely = without_image(&found, &masks);
        if lonely.len() == pngs(&found).count() {
            return Err(Error::format(
                root,
                format!(
                    "none of {} images in {} has a mask in {}; the mask of a/b.jpg is a/b.png there",
                    images.files.len(),
                    shown(images.root.as_os_str()),
                    shown(folder.as_os_str())
                ),
            ));
        }
        if !lonely.is_empty() {
            let names = few(lonely.iter().map(|path| shown(path.as_os_str())));
            let folder = shown(folder.as_os_str());
            remarks.push(format!("{folder}: {} masks without an image: {names}", lonely.len()));
        }
        let (rule, classes) = match kind {
            FolderKind::Ade20k => {
                let classes = ade20k();
                (MaskRule::Reduced(classes.len()), classes)
            }
            FolderKind::Listed(path) => listed(&path)?,
            FolderKind::Numbered => {
                let classes = numbered(count_classes(&root.join("masks"), decode)?);
                remarks.push(format!(
                    "{}: the masks have {} classes, which are called by their numbers; a classes.txt with a line \
                     R G B NAME for each names them",
                    shown(root.as_os_str()),
                    classes.len()
                ));
                (MaskRule::Indices(classes.len()), classes)
            }
        };
        Ok((Self { images, masks, rule, remarks }, classes))
    }

    /// The file of image `i`.
    pub fn image(&self, i: usize) -> PathBuf {
        self.images.root.join(&self.images.files[i].path)
    }
}

/// How a folder keeps its masks.
enum FolderKind {
    /// In `annotations`, with 0 for everything else.
    Ade20k,
    /// In `masks`, as this file says.
    Listed(PathBuf),
    /// In `masks`, by number.
    Numbered,
}

impl FolderKind {
    fn of(root: &Path) -> Result<Self> {
        let has = |name: &str| root.join(name).is_dir();
        let list = root.join("classes.txt");
        let wrong = if !has("images") {
            HELP
        } else if has("annotations") && (has("masks") || list.exists()) {
            "annotations/ is ADE20K's, and masks/ and classes.txt are of other data: keep one of the two"
        } else if has("annotations") {
            return Ok(Self::Ade20k);
        } else if !has("masks") {
            HELP
        } else if list.exists() {
            return Ok(Self::Listed(list));
        } else {
            return Ok(Self::Numbered);
        };
        Err(Error::format(root, format!("no pairs of images and masks; {wrong}")))
    }

    /// The folders of the images and of the masks of a split.
    fn part(&self, root: &Path, split: Split) -> Result<(PathBuf, PathBuf)> {
        let (images, masks) = match self {
            Self::Ade20k => (root.join("images"), root.join("annotations")),
            Self::Listed(_) | Self::Numbered => (root.join("images"), root.join("masks")),
        };
        let there = |names: [&'static str; 2]| -> Vec<&str> {
            names.into_iter().filter(|name| images.join(name).is_dir()).collect()
        };
        let own = match split {
            Split::Train => TRAIN,
            Split::Test => TEST,
        };
        let wrong = match there(own)[..] {
            [name] => return Ok((images.join(name), masks.join(name))),
            [first, second, ..] => format!("has both {first}/ and {second}/; keep one of them"),
            [] if there(TRAIN).is_empty() && there(TEST).is_empty() => match self {
                Self::Listed(_) | Self::Numbered => return Ok((images, masks)),
                Self::Ade20k => "has neither training/ nor validation/, as ADE20K's has; masks of \
                                 other data belong into masks/ in place of annotations/"
                    .to_owned(),
            },
            [] => format!("has neither {}/ nor {}/, but the other split", own[0], own[1]),
        };
        Err(Error::format(images, wrong))
    }
}

/// The PNG files among those found.
fn pngs(found: &Folder) -> impl Iterator<Item = &Path> {
    let is_png = |path: &&Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
    found.files.iter().map(|listed| &*listed.path).filter(is_png)
}

/// Where the mask of each image is, or should be.
fn mask_paths(images: &Folder, found: &Folder) -> Vec<PathBuf> {
    let by_stem: BTreeMap<PathBuf, &Path> =
        pngs(found).map(|path| (path.with_extension(""), path)).collect();
    let mask = |path: &Path| match by_stem.get(&path.with_extension("")) {
        Some(mask) => found.root.join(mask),
        None => found.root.join(path.with_extension("png")),
    };
    images.files.iter().map(|listed| mask(&listed.path)).collect()
}

/// The masks that no image has.
fn without_image(found: &Folder, masks: &[PathBuf]) -> Vec<PathBuf> {
    let used: BTreeSet<&PathBuf> = masks.iter().collect();
    let lonely = |path: &&Path| !used.contains(&found.root.join(path));
    pngs(found).filter(lonely).map(Path::to_path_buf).collect()
}

/// What a `classes.txt` says.
fn listed(path: &Path) -> Result<(MaskRule, Vec<SegmentClass>)> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let list = ClassList::parse(&text).map_err(|reason| Error::format(path, reason))?;
    let rule = MaskRule::listed(&list).map_err(|reason| Error::format(path, reason))?;
    Ok((rule, list.classes))
}

/// One more than the largest index in the masks of all splits. Masks that cannot be read are left to whoever wants
/// their pixels.
fn count_classes(masks: &Path, decode: &DecodeOptions) -> Result<usize> {
    let all = Folder::open(masks)?;
    let paths: Vec<&Path> = pngs(&all).collect();
    let largest = |path: &&Path| match decode_mask(&all.root.join(path), decode) {
        Ok(Mask::Indices(labels)) => {
            labels.values.into_iter().filter(|&v| v != Labels::IGNORED).max()
        }
        Ok(Mask::Colours(_)) | Err(_) => None,
    };
    match paths.par_iter().filter_map(largest).max() {
        Some(most) => Ok(usize::from(most) + 1),
        None => Err(Error::format(
            masks,
            format!(
                "none of {} masks is a PNG of class numbers (grey or with a palette); for masks in colours put a \
                 classes.txt with a line R G B NAME for each class beside images/ and masks/",
                paths.len()
            ),
        )),
    }
}
