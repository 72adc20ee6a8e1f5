//! Images with the class of each of their pixels: ADE20K, folders of images and masks, or drawn scenes.

mod classes;
mod listing;
mod mask;

pub(crate) use classes::{ade20k, numbered, palette};

use super::dataset::Dataset;
use super::decode::{DecodeOptions, decode, decode_mask};
use super::folder::shown;
use super::image::Image;
use super::labels::Labels;
use super::source::{CACHE_BYTES, SCENE_SIDE, SourceOptions, contents_of, scene_count};
use super::split::Split;
use super::synthetic::Scenes;
use crate::error::{Error, Result};
use crate::models::config::SegmentClass;
use crate::progress::{is_news, note};
use listing::PairFiles;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// An image and its labels, of one size.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The image.
    pub image: Arc<Image>,
    /// The class of each of its pixels.
    pub labels: Arc<Labels>,
    /// Its number in the source.
    pub index: usize,
}

enum PairsKind {
    Files(Box<PairFiles>),
    Scenes(Scenes),
}

/// What is kept of a pair.
type KeptPair = (Arc<Image>, Arc<Labels>);

/// A numbered list of images with their labels.
pub struct Pairs {
    kind: PairsKind,
    decode: DecodeOptions,
    classes: Vec<SegmentClass>,
    len: usize,
    /// Decoded pairs; empty where none is kept.
    cache: Vec<OnceLock<KeptPair>>,
}

impl Pairs {
    /// Opens `synthetic[:COUNT]`, ADE20K's folder, or a folder with images and masks.
    ///
    /// ADE20K's has `images` and `annotations`, each with `training` and `validation` inside, of which the split
    /// chooses; 0 in a mask is ignored, and 1 to 150 are the classes. Any other folder has `images` and `masks`,
    /// with `train` or `training` and `val` or `validation` inside, or without these whatever the split. The
    /// mask of `images/a/b.jpg` is `masks/a/b.png`.
    ///
    /// The pixels of a mask are the numbers of the classes, grey or indices of a palette, whose colours say
    /// nothing; 255 is ignored. With a `classes.txt` beside the two folders they may be colours instead. It
    /// has a line `R G B NAME` for each class, in the order of their numbers, and `- R G B` for a colour that is
    /// ignored. Without it classes are called by their numbers, up to the largest in the masks of both splits,
    /// which are all read for that.
    pub fn open(spec: &str, options: &SourceOptions) -> Result<Self> {
        let SourceOptions { split, seed, decode } = *options;
        if let Some(count) = scene_count(spec)? {
            return Ok(Self::synthetic(count, SCENE_SIDE, split, seed));
        }
        let (files, classes) = PairFiles::open(Path::new(spec), split, &decode)?;
        let len = files.masks.len();
        Ok(Self { decode, ..Self::of(PairsKind::Files(Box::new(files)), classes, len) })
    }

    /// [`open`](Self::open), and says on standard error what was left out.
    pub fn open_aloud(spec: &str, options: &SourceOptions) -> Result<Self> {
        let pairs = Self::open(spec, options)?;
        pairs.remarks().iter().filter(|line| is_news(line)).for_each(|line| note(line));
        Ok(pairs)
    }

    /// Drawn scenes of any size: the background is class 0, the shapes follow.
    pub fn synthetic(count: usize, side: usize, split: Split, seed: u64) -> Self {
        let scenes = Scenes { count, side, split, seed };
        let names = Scenes::pixel_classes().into_iter().enumerate();
        let class = |(i, name)| SegmentClass { name, colour: classes::palette(i) };
        Self::of(PairsKind::Scenes(scenes), names.map(class).collect(), count)
    }

    fn of(kind: PairsKind, classes: Vec<SegmentClass>, len: usize) -> Self {
        let cache = (0..len).map(|_| OnceLock::new()).collect();
        Self { kind, decode: DecodeOptions::default(), classes, len, cache }
    }

    /// The same, every pair decoded anew each time: for going through it once.
    pub fn uncached(self) -> Self {
        Self { cache: Vec::new(), ..self }
    }

    /// The classes, in the order of the labels.
    pub fn classes(&self) -> &[SegmentClass] {
        &self.classes
    }

    /// What to call pair `i` in a message.
    pub fn name(&self, i: usize) -> String {
        match &self.kind {
            PairsKind::Files(files) => shown(files.images.files[i].path.as_os_str()),
            PairsKind::Scenes(_) => format!("scene {i}"),
        }
    }

    /// What was left out, and how classes without names are called, a line each.
    pub fn remarks(&self) -> &[String] {
        match &self.kind {
            PairsKind::Files(files) => &files.remarks,
            PairsKind::Scenes(_) => &[],
        }
    }

    fn make(&self, i: usize) -> Result<KeptPair> {
        let (image, labels) = match &self.kind {
            PairsKind::Files(files) => read(files, i, &self.decode)?,
            PairsKind::Scenes(scenes) => scenes.draw_pair(i),
        };
        Ok((Arc::new(image), Arc::new(labels)))
    }

    /// Pair `i`, from memory if it was kept there.
    fn load(&self, i: usize) -> Result<KeptPair> {
        let place = self.cache.get(i);
        if let Some(kept) = place.and_then(OnceLock::get) {
            return Ok(kept.clone());
        }
        let made = self.make(i)?;
        // As in `Source::load`: what is kept fits if a source full of its like would.
        let bytes = made.0.pixels.len() + made.1.values.len();
        let fits = bytes.saturating_mul(self.len) <= CACHE_BYTES;
        let _ = place.filter(|_| fits).map(|place| place.set(made.clone()));
        Ok(made)
    }
}

/// Reads pair `i`; an error names both of its files.
fn read(files: &PairFiles, i: usize, options: &DecodeOptions) -> Result<(Image, Labels)> {
    let (path, mask) = (files.image(i), &files.masks[i]);
    let called = shown(mask.as_os_str());
    if let Some(fault) = &files.images.files[i].fault {
        return Err(Error::format(path, format!("{fault}; its mask is {called}")));
    }
    let image = decode(&path, options)
        .map_err(|error| Error::config(format!("{error}; its mask is {called}")))?;
    if !mask.exists() {
        return Err(Error::format(path, format!("there is no mask {called}")));
    }
    let pixels = decode_mask(mask, options)
        .map_err(|error| Error::format(&path, format!("its mask is unreadable: {error}")))?;
    let labels = files.rule.labels(pixels);
    let labels =
        labels.map_err(|reason| Error::format(&path, format!("its mask {called} {reason}")))?;
    if (labels.height, labels.width) != (image.height, image.width) {
        let sizes = format!(
            "{}x{} (height x width), but its mask {called} is {}x{}",
            image.height, image.width, labels.height, labels.width
        );
        return Err(Error::format(path, sizes));
    }
    Ok((image, labels))
}

impl Dataset for Pairs {
    type Item = Pair;

    fn len(&self) -> usize {
        self.len
    }

    /// By the number of pairs and the names of images and masks.
    fn checksum(&self) -> u32 {
        let count = crc32c::crc32c(&(self.len as u64).to_le_bytes());
        let PairsKind::Files(files) = &self.kind else { return count };
        let names = files.images.files.iter().zip(&files.masks).flat_map(|(listed, mask)| {
            let stem = mask.file_name().unwrap_or_default();
            [listed.path.as_os_str(), stem]
        });
        names.fold(count, |sum, name| {
            crc32c::crc32c_append(crc32c::crc32c_append(sum, name.as_encoded_bytes()), b"\0")
        })
    }

    /// As in [`Source`](super::source::Source), of images and of masks, and by the classes.
    fn contents(&self, all: bool) -> u32 {
        let PairsKind::Files(files) = &self.kind else { return self.checksum() };
        let images = contents_of(self.len, all, |i| files.image(i));
        let masks = contents_of(self.len, all, |i| files.masks[i].clone());
        self.classes.iter().fold(images ^ masks.rotate_left(1), |sum, class| {
            crc32c::crc32c_append(crc32c::crc32c_append(sum, class.name.as_bytes()), &class.colour)
        })
    }

    fn item(&self, index: usize) -> Result<Pair> {
        let (image, labels) = self.load(index)?;
        Ok(Pair { image, labels, index })
    }
}
