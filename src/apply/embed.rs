//! `beit embed` and `beit tokenize`: what an encoder or a tokenizer makes of images, as one array, with the list of
//! the images beside it.

use super::array_file::{ArrayElement, ArrayFile, ArrayFormat};
use super::frozen::{Tokenizer, views};
use super::hard_codes::mapped;
use super::opened::OpenedEncoder;
use super::stream::{ImageStream, Passage, Streamed};
use crate::data::Image;
use crate::data::augment::eval_views;
use crate::data::class_view::eval_view;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::real::Float;
use crate::run::PendingFile;
use crate::shown;
use crate::tensor::{Master, Tensor};
use crate::words::words;
use std::path::{Path, PathBuf};

words! {
    /// What of a block's output the features of an image are.
    FeatureKind {
        /// The class token.
        Class = "class",
        /// The mean of the patch tokens.
        Mean = "mean",
        /// Every patch token, row by row.
        Patches = "patches",
    }
}

/// Where an array of images goes.
#[derive(Clone, Copy, Debug)]
pub struct ArrayTask<'a> {
    /// A folder, which is there.
    pub folder: &'a Path,
    /// The form of the array.
    pub format: ArrayFormat,
    /// How the images are gone through.
    pub passage: Passage,
}

/// An array that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenArray {
    /// Its file.
    pub path: PathBuf,
    /// Its extents, the number of images first.
    pub shape: Vec<usize>,
    /// Images that could not be read.
    pub unreadable: usize,
}

/// An array and the lists of images beside it.
struct ArrayOfImages<'a, T> {
    folder: &'a Path,
    array: ArrayFile<T>,
    paths: PendingFile,
    unreadable: Option<PendingFile>,
    skipped: usize,
}

impl<'a, T: ArrayElement> ArrayOfImages<'a, T> {
    fn create(task: &ArrayTask<'a>, name: &str, row: &[usize]) -> Result<Self> {
        let folder = task.folder;
        let array = ArrayFile::create(folder, name, task.format, row)?;
        let paths = PendingFile::create(&folder.join("paths.txt"))?;
        Ok(Self { folder, array, paths, unreadable: None, skipped: 0 })
    }

    /// Lists the images of a chunk and hands out what was made of those that can be read.
    fn list<V>(&mut self, chunk: Vec<Streamed<V>>) -> Result<Vec<V>> {
        let mut views = Vec::with_capacity(chunk.len());
        for Streamed { name, made } in chunk {
            let name = shown::line(&name);
            match made {
                Ok(view) => {
                    views.push(view);
                    self.paths.append(format!("{name}\n").as_bytes())?;
                }
                Err(reason) => {
                    if self.unreadable.is_none() {
                        let path = self.folder.join("unreadable.txt");
                        self.unreadable = Some(PendingFile::create(&path)?);
                    }
                    self.skipped += 1;
                    let line = format!("{name}: {}\n", shown::line(&reason));
                    self.unreadable.as_mut().expect("created").append(line.as_bytes())?;
                }
            }
        }
        Ok(views)
    }

    /// Goes through the images and adds `rows` of what `view` makes of them.
    fn fill<V: Send>(
        mut self,
        images: &ImageStream,
        passage: &Passage,
        view: impl Fn(&Image) -> V + Sync,
        rows: impl Fn(Vec<V>) -> Vec<T>,
    ) -> Result<WrittenArray> {
        let unread = images.pass(passage, view, |chunk| {
            let views = self.list(chunk)?;
            if views.is_empty() { Ok(()) } else { self.array.push(&rows(views)) }
        })?;
        unread.check(1.0, images.images())?; // all
        let shape = self.array.shape();
        self.paths.finish()?;
        self.unreadable.map_or(Ok(()), PendingFile::finish)?;
        Ok(WrittenArray { path: self.array.finish()?, shape, unreadable: self.skipped })
    }
}

/// The block of this number, counted from 1 as in the table of a probe; the last where there is none.
pub fn block_of<B: Backend>(encoder: &OpenedEncoder<B>, block: Option<usize>) -> Result<usize> {
    let depth = encoder.sizes().depth;
    match block.unwrap_or(depth) {
        block if (1..=depth).contains(&block) => Ok(block),
        block => Err(Error::config(format!("--block {block}: the model has blocks 1 to {depth}"))),
    }
}

/// Writes the array `features`, `[images,C]`, or `[images,Np,C]` of patches: a block's output, without norm.
pub fn embed<B: Backend>(
    bk: &B,
    opened: &OpenedEncoder<B>,
    images: &ImageStream,
    (block, kind): (usize, FeatureKind),
    task: &ArrayTask,
) -> Result<WrittenArray> {
    let (sizes, views) = (opened.sizes(), opened.views());
    let ((h, w), c) = (sizes.image, sizes.width);
    let row = match kind {
        FeatureKind::Class | FeatureKind::Mean => vec![c],
        FeatureKind::Patches => vec![sizes.patches(), c],
    };
    let rows = |views: Vec<Vec<f32>>| {
        let images = Tensor::from_f32(bk, views.concat(), &[views.len(), h, w, 3]);
        let (ctx, input) = (Ctx::new(bk, &opened.w), EncoderInput::of(&images));
        let stream = opened.encoder().features(ctx, &input, &[block]).taps;
        features_of(bk, &stream[0], kind)
    };
    let array = ArrayOfImages::<f32>::create(task, "features", &row)?;
    array.fill(images, &task.passage, |image| eval_view(&views, image), rows)
}

/// Features of a stream `[B,N,C]`.
pub(super) fn features_of<B: Backend>(bk: &B, stream: &Master<B>, kind: FeatureKind) -> Vec<f32> {
    if kind == FeatureKind::Mean {
        return Float::into_f32s(bk.mean_pool_forward(stream).to_vec(bk));
    }
    let (n, c) = (stream.shape()[1], stream.cols());
    let part = if kind == FeatureKind::Class { 0..c } else { c..n * c };
    let all = Float::into_f32s(stream.to_vec(bk));
    all.chunks_exact(n * c).flat_map(|image| image[part.clone()].iter().copied()).collect()
}

/// Writes the array `tokens`, `[images,h,w]`: of the largest central boxes with the aspect of the tokenizer's images,
/// in 16 bits where these are enough for its vocabulary.
pub fn tokenize<B: Backend>(
    bk: &B,
    tokenizer: &Tokenizer<B>,
    images: &ImageStream,
    task: &ArrayTask,
) -> Result<WrittenArray> {
    let (config, normalise) = (&tokenizer.dvae.config, Normalise::Half);
    let augment = views(config.image, config.image, normalise);
    let row = [config.grid().0, config.grid().1];
    let view = |image: &Image| eval_views(&augment, image).tokens;
    let tokens = |images: Vec<Image>| {
        let x = bk.to_elem(&mapped(bk, &images), 1.0);
        tokenizer.tokens(bk, &x).to_vec(bk)
    };
    if config.vocab > 1 << 16 {
        let array = ArrayOfImages::<u32>::create(task, "tokens", &row)?;
        return array.fill(images, &task.passage, view, tokens);
    }
    let array = ArrayOfImages::<u16>::create(task, "tokens", &row)?;
    let narrow = |images| tokens(images).into_iter().map(|token| token as u16).collect();
    array.fill(images, &task.passage, view, narrow)
}
