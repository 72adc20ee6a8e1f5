//! What a source holds: every image is read once.

use super::dataset::Dataset;
use super::file::format_in;
use super::folder::{NAMED, few};
use super::source::Source;
use crate::progress::Progress;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bounds of the histogram of short sides, in pixels.
const SIDES: [usize; 7] = [0, 32, 64, 128, 224, 448, 896];

/// What a source holds.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// Images that are listed, readable or not: those that an epoch is counted from.
    pub listed: usize,
    /// Images that can be read.
    pub readable: usize,
    /// Readable images by the format of their content.
    pub formats: BTreeMap<String, usize>,
    /// Readable images by their shorter side: the bucket's least side in pixels, and how many.
    pub short_sides: Vec<(usize, usize)>,
    /// Height and width of the readable images with the shortest and the longest short side.
    pub extremes: Option<[(usize, usize); 2]>,
    /// Classes and their readable images.
    pub classes: Vec<(String, usize)>,
    /// Readable images without a class.
    pub without_class: usize,
    /// Images that cannot be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// Files that are no images, by ending.
    pub left_out: BTreeMap<String, usize>,
    /// Class folders without a file that is listed.
    pub classes_without_images: Vec<String>,
    /// Images with the same pixels, group by group.
    pub duplicates: Vec<Vec<String>>,
}

/// What is remembered of an image.
struct SeenImage {
    format: String,
    size: (usize, usize),
    pixels: u64,
}

fn look(source: &Source, i: usize) -> Result<SeenImage, String> {
    let image = source.load(i).map_err(|error| error.to_string())?;
    let size = (image.height, image.width);
    let mut hasher = DefaultHasher::new();
    (size, &image.pixels).hash(&mut hasher);
    let format = match source.path(i) {
        Some(path) => {
            format_in(&path).map_or("unknown".into(), |f| format!("{f:?}").to_uppercase())
        }
        None => "not files".to_owned(),
    };
    Ok(SeenImage { format, size, pixels: hasher.finish() })
}

impl Survey {
    /// Reads every image of a source.
    pub fn of(source: &Source) -> Self {
        let (left_out, classes_without_images) = source.ignored();
        let mut survey = Self {
            listed: source.len(),
            readable: 0,
            formats: BTreeMap::new(),
            short_sides: SIDES.map(|side| (side, 0)).to_vec(),
            extremes: None,
            classes: source.classes().iter().map(|name| (name.clone(), 0)).collect(),
            without_class: 0,
            unreadable: Vec::new(),
            left_out,
            classes_without_images,
            duplicates: Vec::new(),
        };
        let mut same: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut progress = Progress::new("data check", source.len() as u64, 0, "images");
        let indices: Vec<usize> = (0..source.len()).collect();
        for chunk in indices.chunks(256) {
            let seen: Vec<_> = chunk.par_iter().map(|&i| look(source, i)).collect();
            for (&i, seen) in chunk.iter().zip(seen) {
                match seen {
                    Ok(seen) => {
                        same.entry(seen.pixels).or_default().push(i);
                        survey.add(&seen, source.label(i));
                    }
                    Err(reason) => survey.unreadable.push((source.name(i), reason)),
                }
            }
            progress.advance(chunk.len() as u64, "");
        }
        progress.finish();
        let mut groups: Vec<_> = same.into_values().filter(|group| group.len() > 1).collect();
        groups.sort();
        let names = |group: Vec<usize>| group.into_iter().map(|i| source.name(i)).collect();
        survey.duplicates = groups.into_iter().map(names).collect();
        survey
    }

    fn add(&mut self, seen: &SeenImage, class: Option<u32>) {
        let short = |(height, width): (usize, usize)| height.min(width);
        let side = short(seen.size);
        self.readable += 1;
        *self.formats.entry(seen.format.clone()).or_default() += 1;
        self.short_sides[SIDES.partition_point(|&least| least <= side) - 1].1 += 1;
        match class {
            Some(class) => self.classes[class as usize].1 += 1,
            None => self.without_class += 1,
        }
        let [least, most] = self.extremes.get_or_insert([seen.size; 2]);
        if side < short(*least) {
            *least = seen.size;
        }
        if side > short(*most) {
            *most = seen.size;
        }
    }

    /// The survey as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let Self { listed, readable, .. } = self;
        let mut lines = vec![format!("{listed} images are listed, {readable} can be read")];
        let counts = |counts: &BTreeMap<String, usize>| {
            counts.iter().map(|(what, count)| format!("{count} {what}")).collect()
        };
        add(&mut lines, "formats", counts(&self.formats));
        let sides = self.short_sides.iter().enumerate().filter(|(_, (_, count))| *count > 0);
        let bucket = |(i, (least, count)): (usize, &(usize, usize))| match SIDES.get(i + 1) {
            Some(next) => format!("{count} of {least} to {} px", next - 1),
            None => format!("{count} of {least} px or more"),
        };
        add(&mut lines, "shorter side", sides.map(bucket).collect());
        if let Some([(h, w), (height, width)]) = self.extremes {
            lines.push(format!(
                "smallest and largest: {h}x{w} and {height}x{width} (height x width)"
            ));
        }
        let class = |(name, count): &(String, usize)| format!("{count} {name}");
        let classes = self.classes.iter().map(class).collect();
        add(&mut lines, &format!("classes ({})", self.classes.len()), classes);
        if self.without_class > 0 && !self.classes.is_empty() {
            lines.push(format!("without a class: {}", self.without_class));
        }
        add(&mut lines, "class folders without an image", self.classes_without_images.clone());
        let ending = |(ending, count): (&String, &usize)| match ending.as_str() {
            "" => format!("{count} without ending"),
            ending => format!("{count} .{ending}"),
        };
        add(&mut lines, "left out, no images", self.left_out.iter().map(ending).collect());
        let copies: usize = self.duplicates.iter().map(|group| group.len() - 1).sum();
        let groups = self.duplicates.iter().map(|group| group[..2].join(" = ")).collect();
        add(&mut lines, &format!("copies of other images ({copies})"), groups);
        let bad = self.unreadable.len();
        lines.extend(
            self.unreadable.iter().take(NAMED).map(|(_, why)| format!("unreadable: {why}")),
        );
        if bad > NAMED {
            lines.push(format!("and {} more unreadable images", bad - NAMED));
        }
        lines
    }
}

/// Adds `what: a, b, c` unless there is nothing to say.
fn add(lines: &mut Vec<String>, what: &str, words: Vec<String>) {
    if !words.is_empty() {
        lines.push(format!("{what}: {}", few(words.into_iter())));
    }
}
