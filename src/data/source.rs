//! Where images come from: a directory, CIFAR's binary files, or drawn scenes.

use super::cifar::Cifar;
use super::dataset::{Dataset, Labelled};
use super::decode::{DecodeOptions, decode};
use super::folder::{Folder, Listed, NO_IMAGES_HELP, shown};
use super::image::Image;
pub use super::split::Split;
use super::synthetic::Scenes;
use crate::error::{Error, Result};
use crate::progress::{is_news, note};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Decoded images are kept in memory if the whole source then takes at most this many bytes.
pub(super) const CACHE_BYTES: usize = 512 << 20;
/// Files whose contents tell a folder from another with files of the same names and sizes.
const COMPARED: usize = 64;
/// Scenes of `synthetic` when no count is given.
pub const DEFAULT_SCENES: usize = 5_000;
/// Most scenes of `synthetic`: beyond it, the order of an epoch alone takes hundreds of megabytes.
const MOST_SCENES: usize = 10_000_000;
/// Side of the scenes of `synthetic` in pixels.
pub const SCENE_SIDE: usize = 64;

enum SourceKind {
    Folder(Folder),
    Cifar(Cifar),
    Scenes(Scenes),
}

/// How a source is opened.
#[derive(Clone, Copy, Debug)]
pub struct SourceOptions {
    /// Which part of a source that has two.
    pub split: Split,
    /// Number that drawn scenes follow from.
    pub seed: u64,
    /// How its files become images.
    pub decode: DecodeOptions,
}

impl SourceOptions {
    /// Images are decoded as by default.
    pub fn new(split: Split, seed: u64) -> Self {
        Self { split, seed, decode: DecodeOptions::default() }
    }
}

/// A numbered list of images.
pub struct Source {
    kind: SourceKind,
    decode: DecodeOptions,
    classes: Vec<String>,
    len: usize,
    /// Decoded images; empty where none is kept.
    cache: Vec<OnceLock<Arc<Image>>>,
}

impl Source {
    /// Opens `synthetic[:COUNT]`, a CIFAR file or folder, or a directory of images.
    ///
    /// A directory is searched with all its folders; files are sorted by path; the first folder
    /// level names the classes, and files directly in the directory have none. Files are images by
    /// their endings, and where an ending is unknown by their first bytes. What can never be read (a
    /// FIFO, a device, a folder that cannot be listed or that is a link to one above) is an unreadable
    /// image. Files that are none are left out: see [`remark`](Self::remark).
    pub fn open(spec: &str, options: &SourceOptions) -> Result<Self> {
        let SourceOptions { split, seed, decode } = *options;
        if let Some(count) = scene_count(spec)? {
            return Ok(Self::synthetic(count, SCENE_SIDE, split, seed));
        }
        let path = Path::new(spec);
        let about = std::fs::metadata(path).map_err(Error::io(
            "cannot open the images (a folder, a CIFAR file, or synthetic)",
            path,
        ))?;
        let files = if about.is_dir() {
            Cifar::files_in(path, split)
        } else if path.extension().is_some_and(|ending| ending == "bin") {
            vec![path.to_path_buf()]
        } else {
            return Err(Error::format(path, format!("not a folder; {NO_IMAGES_HELP}")));
        };
        let kind = if files.is_empty() {
            SourceKind::Folder(Folder::open(path)?)
        } else {
            SourceKind::Cifar(Cifar::open(&files)?)
        };
        Ok(Self { decode, ..Self::of(kind) })
    }

    /// [`open`](Self::open), and says on standard error what was left out.
    pub fn open_aloud(spec: &str, options: &SourceOptions) -> Result<Self> {
        let source = Self::open(spec, options)?;
        source.remark().iter().filter(|line| is_news(line)).for_each(|line| note(line));
        Ok(source)
    }

    /// These files, in this order, without classes; what is no image is an unreadable one.
    pub fn files(files: Vec<PathBuf>) -> Self {
        Self::of(SourceKind::Folder(Folder::of_files(files)))
    }

    /// The same, every image decoded anew each time: for going through it once.
    pub fn uncached(self) -> Self {
        Self { cache: Vec::new(), ..self }
    }

    /// Drawn scenes of any size.
    pub fn synthetic(count: usize, side: usize, split: Split, seed: u64) -> Self {
        Self::of(SourceKind::Scenes(Scenes { count, side, split, seed }))
    }

    fn of(kind: SourceKind) -> Self {
        let (len, classes) = match &kind {
            SourceKind::Folder(folder) => (folder.files.len(), folder.classes.clone()),
            SourceKind::Cifar(cifar) => (cifar.len(), cifar.classes.clone()),
            SourceKind::Scenes(scenes) => (scenes.count, Scenes::class_names()),
        };
        Self {
            kind,
            decode: DecodeOptions::default(),
            classes,
            len,
            cache: (0..len).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Which files of a folder are no images, by ending, and which class folders hold none, in one line;
    /// none where there is nothing to say.
    pub fn remark(&self) -> Option<String> {
        match &self.kind {
            SourceKind::Folder(folder) => folder.remark(),
            SourceKind::Cifar(_) | SourceKind::Scenes(_) => None,
        }
    }

    /// Files that are no images, by ending, and class folders that hold none.
    pub fn ignored(&self) -> (BTreeMap<String, usize>, Vec<String>) {
        match &self.kind {
            SourceKind::Folder(folder) => (folder.left_out.clone(), folder.without_images.clone()),
            SourceKind::Cifar(_) | SourceKind::Scenes(_) => Default::default(),
        }
    }

    /// Names of the classes; empty if nothing is labelled.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Class of image `i`.
    pub fn label(&self, i: usize) -> Option<u32> {
        match &self.kind {
            SourceKind::Folder(folder) => folder.files[i].class,
            SourceKind::Cifar(cifar) => Some(cifar.label(i)),
            SourceKind::Scenes(scenes) => Some(scenes.label(i)),
        }
    }

    /// What to call image `i` in a message.
    pub fn name(&self, i: usize) -> String {
        match &self.kind {
            SourceKind::Folder(folder) => shown(folder.files[i].path.as_os_str()),
            SourceKind::Cifar(_) => format!("record {i}"),
            SourceKind::Scenes(_) => format!("scene {i}"),
        }
    }

    /// The file of image `i`, if it has one of its own.
    pub fn path(&self, i: usize) -> Option<PathBuf> {
        match &self.kind {
            SourceKind::Folder(folder) => Some(folder.root.join(&folder.files[i].path)),
            SourceKind::Cifar(_) | SourceKind::Scenes(_) => None,
        }
    }

    /// Image `i`, from memory if it was kept there.
    pub fn load(&self, i: usize) -> Result<Arc<Image>> {
        let place = self.cache.get(i);
        if let Some(image) = place.and_then(OnceLock::get) {
            return Ok(image.clone());
        }
        let image = Arc::new(self.make(i)?);
        // An image is kept if a source full of its like would fit, so the sum of what is kept fits
        // without a count of it. CIFAR lies in memory anyway.
        let fits = image.pixels.len().saturating_mul(self.len()) <= CACHE_BYTES;
        let place = place.filter(|_| fits && !matches!(self.kind, SourceKind::Cifar(_)));
        // Losing the race to another thread is harmless: both made the same image.
        let _ = place.map(|place| place.set(image.clone()));
        Ok(image)
    }

    fn make(&self, i: usize) -> Result<Image> {
        match &self.kind {
            SourceKind::Folder(folder) => {
                let Listed { path, fault, .. } = &folder.files[i];
                let path = folder.root.join(path);
                match fault {
                    Some(fault) => Err(Error::format(path, fault)),
                    None => decode(&path, &self.decode),
                }
            }
            SourceKind::Cifar(cifar) => Ok(cifar.image(i)),
            SourceKind::Scenes(scenes) => Ok(scenes.draw(i)),
        }
    }
}

impl Dataset for Source {
    type Item = Labelled;

    fn len(&self) -> usize {
        self.len
    }

    /// By the number of images, by the names of a folder's files, by all bytes of CIFAR's.
    fn checksum(&self) -> u32 {
        let count = crc32c::crc32c(&(self.len() as u64).to_le_bytes());
        match &self.kind {
            SourceKind::Folder(folder) => folder.files.iter().fold(count, |sum, listed| {
                let sum = crc32c::crc32c_append(sum, listed.path.as_os_str().as_encoded_bytes());
                crc32c::crc32c_append(sum, b"\0")
            }),
            SourceKind::Cifar(cifar) => cifar.checksum(count),
            SourceKind::Scenes(_) => count,
        }
    }

    /// By the sizes of all files and the contents of 64 that are spread over the list, or of all. What cannot be
    /// read counts as empty.
    fn contents(&self, all: bool) -> u32 {
        let SourceKind::Folder(folder) = &self.kind else { return self.checksum() };
        contents_of(folder.files.len(), all, |i| folder.root.join(&folder.files[i].path))
    }

    fn item(&self, index: usize) -> Result<Labelled> {
        Ok(Labelled { image: self.load(index)?, label: self.label(index), index })
    }
}

/// Checksum of `files` files by the sizes of all and the contents of 64 that are spread over them, or of all.
pub(super) fn contents_of(files: usize, all: bool, path: impl Fn(usize) -> PathBuf + Sync) -> u32 {
    let read = if all { files } else { files.min(COMPARED) };
    let every = files.div_ceil(read);
    let sums: Vec<u32> = (0..files)
        .into_par_iter()
        .map(|i| {
            let path = path(i);
            let file = || std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
            let size = file().map_or(0, |about| about.len());
            let sum = crc32c::crc32c(&size.to_le_bytes());
            if i % every == 0 { content_sum(&path, sum) } else { sum }
        })
        .collect();
    sums.iter().fold(0, |all, sum| crc32c::crc32c_append(all, &sum.to_le_bytes()))
}

/// Checksum of a file's bytes behind `sum`; of those before the first that cannot be read.
fn content_sum(path: &Path, mut sum: u32) -> u32 {
    if !path.is_file() {
        return sum;
    }
    let Ok(mut file) = std::fs::File::open(path) else { return sum };
    let mut chunk = vec![0; 1 << 16];
    while let Ok(count @ 1..) = file.read(&mut chunk) {
        sum = crc32c::crc32c_append(sum, &chunk[..count]);
    }
    sum
}

/// The count in `synthetic[:COUNT]`, or none if `spec` is something else.
pub(super) fn scene_count(spec: &str) -> Result<Option<usize>> {
    if spec == "synthetic" {
        return Ok(Some(DEFAULT_SCENES));
    }
    let Some(count) = spec.strip_prefix("synthetic:") else { return Ok(None) };
    match count.parse::<usize>() {
        Ok(count) if (1..=MOST_SCENES).contains(&count) => Ok(Some(count)),
        _ => Err(Error::config(format!(
            "{spec}: COUNT of synthetic:COUNT must be a whole number between 1 and {MOST_SCENES} (more \
             come from another seed)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_kept_unless_they_are_not_to_be() {
        let source = || Source::synthetic(3, 16, Split::Train, 0);
        let holders = |source: &Source| {
            let image = source.load(1).unwrap();
            assert_eq!(*image, *source.load(1).unwrap());
            Arc::strong_count(&image)
        };
        assert_eq!((holders(&source()), holders(&source().uncached())), (2, 1));
        assert_eq!(source().uncached().len(), 3);
    }
}
