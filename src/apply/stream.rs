//! Images that are shown to a model once, one after the other, however many there are.
//!
//! A chunk of them is decoded while the model sees the chunk before: two chunks of views are in memory at a
//! time, and no image is kept.

use crate::data::loader::{allowed_bad, enough_max_bad, map_items};
use crate::data::{Dataset, Image, Labelled, Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::run::{Progress, interrupted, is_news, note, work_begins};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Reasons that an error gives.
const NAMED: usize = 3;

/// Images of files and sources, in the order in which they are given.
pub struct ImageStream {
    parts: Vec<StreamPart>,
}

/// A source, or files that were given one by one.
struct StreamPart {
    /// The source as it was given; empty for files.
    spec: String,
    source: Source,
}

/// An image of a stream.
pub struct Streamed<T> {
    /// Its path, or the source and its number there.
    pub name: String,
    /// What was made of it, or why it cannot be read.
    pub made: Result<T, String>,
}

/// How a stream is gone through.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// Images that are shown to the model together.
    pub batch: usize,
    /// The share of unreadable images above which it is not gone on with, where there is one.
    pub max_bad: Option<f64>,
    /// What progress is shown as, where it is shown.
    pub progress: Option<&'static str>,
}

impl ImageStream {
    /// Lists images: files, folders, CIFAR's files, `synthetic[:COUNT]`. Of a source that has two parts, those to
    /// measure on.
    pub fn open(given: &[PathBuf]) -> Result<Self> {
        let mut parts: Vec<StreamPart> = Vec::new();
        let mut files: Vec<PathBuf> = Vec::new();
        let take = |files: &mut Vec<PathBuf>, parts: &mut Vec<StreamPart>| {
            if !files.is_empty() {
                let source = Source::files(std::mem::take(files)).uncached();
                parts.push(StreamPart { spec: String::new(), source });
            }
        };
        for path in given {
            if is_image_file(path)? {
                files.push(path.clone());
                continue;
            }
            take(&mut files, &mut parts);
            let spec = path.to_str().ok_or_else(|| {
                Error::format(path, "the name is not UTF-8; give the folder above it, or rename it")
            })?;
            let source = Source::open_aloud(spec, &SourceOptions::new(Split::Test, 0))?;
            parts.push(StreamPart { spec: spec.to_owned(), source: source.uncached() });
        }
        take(&mut files, &mut parts);
        Ok(Self { parts })
    }

    /// Number of images, readable or not.
    pub fn images(&self) -> usize {
        self.parts.iter().map(|part| part.source.len()).sum()
    }

    /// Hands all images to `each`, chunk by chunk, in their order, and what `make` makes of those that can be read.
    /// Those that cannot are named on standard error and returned. An interruption is an error.
    pub fn pass<T: Send>(
        &self,
        how: &Passage,
        make: impl Fn(&Image) -> T + Sync,
        mut each: impl FnMut(Vec<Streamed<T>>) -> Result<()>,
    ) -> Result<Failures> {
        let images = self.images();
        work_begins();
        let progress = |what| Progress::new(what, images as u64, 0, "images");
        let mut progress = how.progress.map(progress);
        let mut failures = Failures::default();
        let mut chunks = self.parts.iter().flat_map(|part| part.chunks(how.batch));
        let mut next = chunks.next().map(|chunk| chunk.load(&make));
        while let Some(chunk) = next.take() {
            if interrupted() {
                return Err(Error::Interrupted(
                    "stopped; give the same command to begin anew".into(),
                ));
            }
            let count = chunk.len() as u64;
            for Streamed { name, made } in &chunk {
                if let Err(reason) = made {
                    failures.add(format!("{name}: {reason}"), progress.as_ref());
                }
            }
            how.max_bad.map_or(Ok(()), |max_bad| failures.check(max_bad, images))?;
            let ahead = chunks.next();
            let (loaded, done) = beside(|| ahead.map(|chunk| chunk.load(&make)), || each(chunk));
            done?;
            next = loaded;
            if let Some(progress) = &mut progress {
                progress.advance(count, "");
            }
        }
        progress.into_iter().for_each(Progress::finish);
        Ok(failures)
    }
}

/// Whether a path is that of one image, and not a source.
fn is_image_file(path: &Path) -> Result<bool> {
    let text = path.as_os_str().as_encoded_bytes();
    if text == b"synthetic" || text.starts_with(b"synthetic:") {
        return Ok(false);
    }
    let about = std::fs::metadata(path).map_err(Error::io(
        "cannot open the images (a file, a folder, a CIFAR file, or synthetic)",
        path,
    ))?;
    Ok(!about.is_dir() && path.extension().is_none_or(|ending| ending != "bin"))
}

/// Some images of a part.
struct StreamChunk<'a> {
    part: &'a StreamPart,
    range: Range<usize>,
}

impl StreamPart {
    fn chunks(&self, batch: usize) -> impl Iterator<Item = StreamChunk<'_>> {
        let (len, batch) = (self.source.len(), batch.max(1));
        let chunk = move |start| StreamChunk { part: self, range: start..(start + batch).min(len) };
        (0..len).step_by(batch).map(chunk)
    }

    fn name(&self, i: usize) -> String {
        let name = self.source.name(i);
        match (self.spec.as_str(), self.source.path(i)) {
            ("", _) => name,
            (spec, Some(_)) => format!("{}/{name}", spec.trim_end_matches('/')),
            (spec, None) => format!("{spec}#{i}"),
        }
    }
}

impl StreamChunk<'_> {
    fn load<T: Send>(self, make: &(impl Fn(&Image) -> T + Sync)) -> Vec<Streamed<T>> {
        let Self { part, range } = self;
        let indices: Vec<usize> = range.collect();
        let (good, mut bad) = map_items(&part.source, &indices, |item: Labelled| make(&item.image));
        let mut good = good.into_iter().peekable();
        let mut one = |i: usize| {
            let name = part.name(i);
            let made = match good.next_if(|(found, _)| *found == i) {
                Some((_, made)) => Ok(made),
                None => Err(alone(bad.remove(&i).expect("readable or not"), &name)),
            };
            Streamed { name, made }
        };
        indices.iter().map(|&i| one(i)).collect()
    }
}

/// A reason without the name of the image in front of it.
fn alone(reason: String, name: &str) -> String {
    let rest = reason.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
    rest.map(str::to_owned).unwrap_or(reason)
}

/// Both results; the first comes from other threads of the pool where there are any.
fn beside<A: Send, R>(ahead: impl FnOnce() -> A + Send, here: impl FnOnce() -> R) -> (A, R) {
    let mut made = None;
    let result = rayon::in_place_scope(|scope| {
        scope.spawn(|_| made = Some(ahead()));
        here()
    });
    (made.expect("the scope has ended"), result)
}

/// Images that cannot be read.
#[derive(Debug, Default)]
pub struct Failures {
    count: usize,
    first: Vec<String>,
}

impl Failures {
    /// One more, which is named on standard error.
    fn add(&mut self, reason: String, progress: Option<&Progress>) {
        let line = format!("skipped: {reason}");
        match progress {
            _ if !is_news(&line) => {}
            Some(progress) => progress.note(&line),
            None => note(&line),
        }
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(reason);
        }
    }

    /// Those with these reasons.
    pub fn of<'a>(reasons: impl Iterator<Item = &'a String>) -> Self {
        let mut all = Self::default();
        for reason in reasons {
            all.count += 1;
            if all.first.len() < NAMED {
                all.first.push(reason.clone());
            }
        }
        all
    }

    /// An error where they are all of so many images, or a larger share than `--max-bad` allows.
    pub fn check(&self, max_bad: f64, images: usize) -> Result<()> {
        let Self { count, first } = self;
        let more = if *count > first.len() { "; ..." } else { "" };
        let reasons = first.join("; ") + more;
        if *count == images {
            return Err(Error::config(format!("none of {images} images can be read: {reasons}")));
        }
        if *count <= allowed_bad(max_bad, images) {
            return Ok(());
        }
        Err(Error::config(format!(
            "{count} of {images} images cannot be read, more than --max-bad {max_bad} allows; repair or remove \
             them, or give --max-bad {}: {reasons}",
            enough_max_bad(*count, images)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: Passage = Passage { batch: 4, max_bad: Some(0.5), progress: None };

    fn seen(stream: &ImageStream, how: &Passage) -> Result<Vec<(String, Option<usize>)>> {
        let mut all = Vec::new();
        stream.pass(
            how,
            |image| image.width,
            |chunk| {
                assert!(chunk.len() <= how.batch);
                all.extend(chunk.into_iter().map(|image| (image.name, image.made.ok())));
                Ok(())
            },
        )?;
        Ok(all)
    }

    #[test]
    fn the_order_is_that_of_the_arguments_for_any_batch_and_threads() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("photos")).unwrap();
        for (name, width) in [("photos/b.png", 5), ("photos/a.png", 6), ("z.png", 7), ("y.png", 8)]
        {
            image::RgbImage::new(width, 3).save(path(name)).unwrap();
        }
        std::fs::write(path("photos/c.png"), "no image").unwrap();
        let given =
            [path("z.png"), path("photos"), "synthetic:6".into(), path("y.png"), path("z.png")];
        let stream = ImageStream::open(&given).unwrap();
        assert_eq!(stream.images(), 12);
        let at = |name: &str| path(name).to_str().unwrap().to_owned();
        let mut want = vec![(at("z.png"), Some(7)), (at("photos/a.png"), Some(6))];
        want.extend([(at("photos/b.png"), Some(5)), (at("photos/c.png"), None)]);
        want.extend((0..6).map(|i| (format!("synthetic:6#{i}"), Some(64))));
        want.extend([(at("y.png"), Some(8)), (at("z.png"), Some(7))]);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for batch in [1, 4, 100] {
                let how = Passage { batch, ..HOW };
                assert_eq!(pool.install(|| seen(&stream, &how)).unwrap(), want);
            }
        }
        assert!(seen(&stream, &Passage { max_bad: Some(0.0), ..HOW }).is_err());
    }

    #[test]
    fn too_many_unreadable_images_are_an_error() {
        let reasons: Vec<String> = (0..5).map(|i| format!("{i}.png: cut")).collect();
        let fails = |count: usize, max_bad: f64, images: usize| {
            let all = Failures::of(reasons[..count].iter());
            all.check(max_bad, images).map_err(|e| e.to_string())
        };
        assert_eq!(fails(0, 0.0, 9), Ok(()));
        assert_eq!(fails(1, 0.01, 9), Ok(()));
        assert_eq!(fails(1, 1.0, 1), Err("none of 1 images can be read: 0.png: cut".into()));
        assert_eq!(
            fails(5, 0.01, 100),
            Err("5 of 100 images cannot be read, more than --max-bad 0.01 allows; repair or remove them, or give \
                 --max-bad 0.05: 0.png: cut; 1.png: cut; 2.png: cut; ..."
                .into())
        );
    }

    #[test]
    fn what_is_no_source_is_named() {
        let error = ImageStream::open(&["nowhere.png".into()]).err().unwrap().to_string();
        assert!(
            error.contains("cannot open the images") && error.contains("nowhere.png"),
            "{error}"
        );
    }
}
