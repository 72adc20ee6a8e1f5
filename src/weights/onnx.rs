//! Models as ONNX files, for programs that run such graphs and know nothing of this one.
//!
//! | model | input | outputs |
//! | --- | --- | --- |
//! | classifier | `pixel_values` f32 `[batch,3,Ih,Iw]`, normalised | `logits` f32 `[batch,K]`, and those of the next line |
//! | encoder | the same | `last_hidden_state` f32 `[batch,N,C]`, `pooled` f32 `[batch,C]` |
//! | tokenizer | `pixels` f32 `[batch,3,H,W]` in 0..1 | `tokens` i64 `[batch,h,w]` |
//!
//! `last_hidden_state` is what the last block puts out, without a norm, the class token first; `pooled` is the mean
//! of its patch tokens. An encoder's head and final norm, its mask token and a tokenizer's decoder are left out.
//!
//! The metadata say `format` (beit), `kind`, `image_size` (height, width), `patch_size`, of an encoder or classifier
//! `mean` and `std` where they are known, of a classifier the names of its `classes`, of a tokenizer its `vocab`.
//! Lists are JSON.
//!
//! The operators are those of opset 17. Initializers have the names that tensors have in a model's file, and where
//! they are not the same, another: `.transposed` for what `MatMul` reads. The weights are read and written one by
//! one, so that the largest of them is in memory twice and no other.

mod encoder;
mod graph;
mod proto;
mod tokenizer;
mod write;

#[cfg(test)]
mod tests;

use crate::atomic::PendingFile;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::config::EncoderConfig;
use crate::models::kind::ModelConfig;
use graph::Graph;
use serde::Serialize;
use std::path::Path;
use write::OnnxFile;

/// Writes the ONNX file of a model. `read` gives a tensor by its name in the model's own file, as that file holds it;
/// one of another length or with a number that is not finite is refused, and so is a model beyond the 2 GiB of such
/// files. An encoder says with `normalise` how its views were normalised.
pub fn save_onnx(
    path: &Path,
    config: &ModelConfig,
    normalise: Option<Normalise>,
    read: &dyn Fn(&str) -> Result<Vec<f32>>,
) -> Result<()> {
    let onnx = OnnxFile::new(graph_of(config)?, &metadata(config, normalise))?;
    let mut file = PendingFile::create(path)?;
    onnx.write(&mut |bytes| file.append(bytes), read)?;
    file.finish()
}

fn graph_of(config: &ModelConfig) -> Result<Graph> {
    match config {
        ModelConfig::Beit(sizes) => Ok(encoder::features(sizes)),
        ModelConfig::Classifier(sizes) => Ok(encoder::classifier(sizes)),
        ModelConfig::Dvae(sizes) => Ok(tokenizer::tokens(sizes)),
        ModelConfig::Encoder(_) => {
            Err(Error::config("encoders without a head have no ONNX form here"))
        }
        ModelConfig::Segmenter(_) => Err(Error::config("segmenters have no ONNX form here")),
        ModelConfig::Bert(_) => Err(Error::config("language models have no ONNX form here")),
        ModelConfig::Vae(_) => Err(Error::config("a Gaussian VAE has no ONNX form here")),
    }
}

/// What the file says of the model.
fn metadata(config: &ModelConfig, normalise: Option<Normalise>) -> Vec<(&'static str, String)> {
    let encoder = |sizes: &EncoderConfig| {
        let ((h, w), patch) = (sizes.image, sizes.patch);
        vec![("image_size", list(&[h, w])), ("patch_size", patch.to_string())]
    };
    let (kind, mut entries) = match config {
        ModelConfig::Beit(sizes) => ("encoder", encoder(&sizes.encoder)),
        ModelConfig::Classifier(sizes) => {
            let mut entries = encoder(&sizes.encoder);
            entries.push(("classes", list(&sizes.classes)));
            ("classifier", entries)
        }
        ModelConfig::Encoder(sizes) => ("encoder", encoder(sizes)),
        ModelConfig::Segmenter(sizes) => ("segmenter", encoder(&sizes.encoder)),
        ModelConfig::Bert(_) => ("bert", Vec::new()),
        ModelConfig::Vae(_) => ("vae", Vec::new()),
        ModelConfig::Dvae(sizes) => {
            let ((h, w), factor) = (sizes.image, sizes.factor());
            let image = ("image_size", list(&[h, w]));
            let rest = [("patch_size", factor.to_string()), ("vocab", sizes.vocab.to_string())];
            ("tokenizer", [image].into_iter().chain(rest).collect())
        }
    };
    if let Some(normalise) = normalise {
        let (mean, std) = normalise.moments();
        entries.extend([("mean", list(&mean)), ("std", list(&std))]);
    }
    let first = [("format", "beit".to_owned()), ("kind", kind.to_owned())];
    first.into_iter().chain(entries).collect()
}

fn list(items: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(items).expect("JSON can be written")
}
