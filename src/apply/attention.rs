//! `beit attention`: where each head of a block looks from one patch (`visualize_attention.py`).

use super::frozen::views;
use super::opened::OpenedEncoder;
use crate::data::augment::eval_view;
use crate::data::decode::{DecodeOptions, decode};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::report::picture::Picture;
use crate::run::work_begins;
use crate::tensor::Tensor;
use std::path::Path;

/// What is drawn.
pub struct AttentionMap<'a> {
    /// Run folder or file of the encoder.
    pub model: &'a Path,
    /// The image.
    pub image: &'a Path,
    /// Row and column of the patch that looks, from 0.
    pub patch: (usize, usize),
    /// Block, from 0; the last one where `None`.
    pub layer: Option<usize>,
    /// Mean and deviation of the view; where `None`, those that the model was
    /// trained with.
    pub normalise: Option<Normalise>,
}

/// Attention rows of one patch: `[H][Gh·Gw]`, the class token's column dropped, not renormalised.
pub struct AttentionRows {
    /// One map per head.
    pub heads: Vec<Vec<f64>>,
    /// The grid.
    pub grid: (usize, usize),
    /// The pixels the model saw, `[Ih,Iw,3]` in 0..1.
    pub pixels: Vec<f32>,
    /// Side of a patch in pixels.
    pub patch: usize,
}

/// Runs the model on the image at its own size, nothing masked.
pub fn attention_rows<B: Backend>(bk: &B, map: &AttentionMap) -> Result<AttentionRows> {
    let opened = OpenedEncoder::open(bk, map.model)?;
    let config = opened.sizes();
    let (grid, (ih, iw), n) = (config.grid(), config.image, config.tokens());
    let (row, col) = map.patch;
    if row >= grid.0 || col >= grid.1 {
        return Err(Error::config(format!(
            "--patch {row},{col} is outside the {}x{} grid (rows and columns count from 0)",
            grid.0, grid.1
        )));
    }
    let layer = map.layer.unwrap_or(config.depth - 1);
    if layer >= config.depth {
        return Err(Error::config(format!(
            "--layer {layer}: the model has blocks 0 to {}",
            config.depth - 1
        )));
    }
    let image = decode(map.image, &DecodeOptions::default())?;
    work_begins();
    let augment = views((ih, iw), (ih, iw), map.normalise.unwrap_or(opened.normalise));
    let view = eval_view(&augment, &image);
    let show = |p: &[f32]| [0, 1, 2].map(|c| p[c] * augment.std[c] + augment.mean[c]);
    let pixels = view.chunks_exact(3).flat_map(show).collect();
    let images = Tensor::from_f32(bk, view, &[1, ih, iw, 3]);
    let (ctx, input) = (Ctx::new(bk, &opened.w), EncoderInput::of(&images));
    let probs = opened.encoder().attention_probs(ctx, &input, &[layer])[0].to_f64(bk); // [1,H,N,N]
    let query = 1 + row * grid.1 + col;
    let heads = probs
        .chunks_exact(n * n)
        .map(|head| head[query * n + 1..(query + 1) * n].to_vec())
        .collect();
    Ok(AttentionRows { heads, grid, pixels, patch: config.patch })
}

/// The image with the patch framed, and one map per head, each scaled from its least to its
/// greatest value.
pub fn attention_picture<B: Backend>(bk: &B, map: &AttentionMap) -> Result<Picture> {
    let rows = attention_rows(bk, map)?;
    let (gh, gw) = rows.grid;
    let (ih, iw) = (gh * rows.patch, gw * rows.patch);
    let zoom = (192 / ih.max(1)).max(1);
    let mut image = Picture::from_unit(&rows.pixels, ih, iw).enlarge(zoom);
    let side = rows.patch * zoom;
    image.frame(map.patch.0 * side, map.patch.1 * side, side, side, [255, 40, 40]);
    let mut tiles = vec![image];
    for values in &rows.heads {
        tiles.push(Picture::from_map(values, gh, gw).enlarge_to(ih * zoom, iw * zoom));
    }
    Ok(Picture::grid(&tiles, 4))
}
