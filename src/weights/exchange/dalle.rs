//! DALL-E's tokenizer: a file of the encoder and one of the decoder.
//!
//! Both are whole modules in the published form, with fields beside the tensors; a plain state dict has the tensors
//! alone. The gain of a block's residual path is a constant here, 1/n², which the fields must agree with.

use super::found::FoundModel;
use crate::error::{Error, Result};
use crate::models::config::DvaeConfig;
use crate::models::kind::ModelConfig;
use crate::shown;
use crate::weights::{Project, Stated, TensorFile};
use std::path::Path;

/// First convolution, after the part's name where the file holds both parts.
const INPUT: &str = "blocks.input.w";

/// Rows and columns of tokens of the views of pretraining at the paper's size.
const GRID: usize = 14;

/// What stands before the names of a file's tensors in ours: nothing where the file has it already.
pub(super) fn prefix(file: &TensorFile) -> &'static str {
    match file.tensors().get(INPUT).map(|info| &info.shape[..]) {
        Some([_, 3, 7, 7]) => "encoder.",
        Some(_) => "decoder.",
        None => "",
    }
}

/// Whether a file holds one of the two parts, or both.
pub(super) fn is_part(file: &TensorFile) -> bool {
    !prefix(file).is_empty() || file.tensors().contains_key(&format!("encoder.{INPUT}"))
}

/// The tokenizer in the parts among `files`.
pub(super) fn read(path: &Path, files: Vec<TensorFile>, stated: &Stated) -> Result<FoundModel> {
    let files: Vec<TensorFile> = files.into_iter().filter(is_part).collect();
    let shape = |name: &str| {
        let part = |file: &TensorFile| {
            let stored = name.strip_prefix(prefix(file))?;
            Some(file.tensors().get(stored)?.shape.clone())
        };
        files.iter().find_map(part)
    };
    let axis = |name: &str, axis: usize| {
        let found = shape(name).and_then(|shape| shape.get(axis).copied());
        found.ok_or_else(|| Error::format(path, missing(name)))
    };
    let width = axis(&format!("encoder.{INPUT}"), 0)?;
    let init_width = axis(&format!("decoder.{INPUT}"), 0)?;
    let block = |g: usize, b: usize| {
        shape(&format!("encoder.blocks.group_{g}.block_{b}.res_path.conv_1.w")).is_some()
    };
    let groups = (1..).take_while(|g| block(*g, 1)).count();
    let mut config = DvaeConfig {
        width,
        init_width,
        groups,
        blocks_per_group: (1..).take_while(|b| block(1, *b)).count(),
        vocab: axis("encoder.blocks.output.conv.w", 0)?,
        image: (0, 0),
    };
    if !(1..=6).contains(&groups) {
        return Err(Error::format(path, format!("has {groups} groups of blocks, want 1 to 6")));
    }
    let side = GRID * config.factor();
    config.image = stated.image.unwrap_or((side, side));
    let mut notes = Vec::new();
    if stated.image.is_none() {
        notes.push(format!(
            "{side}x{side} pixels, for {GRID}x{GRID} tokens; --image-size for others"
        ));
    }
    for file in &files {
        check_gains(file, &config)?;
    }
    let config = ModelConfig::Dvae(config);
    Ok(FoundModel { project: Project::Dalle, config, normalise: None, files, notes })
}

fn missing(name: &str) -> String {
    let part = if name.starts_with("encoder") { "encoder" } else { "decoder" };
    format!(
        "tensor {name} is missing: a tokenizer is the {part}'s file and the other's in one folder; \
         give the folder"
    )
}

/// Refuses a module whose blocks have another gain than this program's.
fn check_gains(file: &TensorFile, config: &DvaeConfig) -> Result<()> {
    for (key, text) in file.metadata().iter().filter(|(key, _)| key.ends_with(".post_gain")) {
        let gain: Option<f64> = text.parse().ok();
        if gain.is_none_or(|gain| (gain - config.gain()).abs() > 1e-12) {
            let (key, text) = (shown::name(key), shown::name(text));
            let text = format!("{key} is {text}, want {}: 1/n² of n blocks", config.gain());
            return Err(Error::format(file.path(), text));
        }
    }
    Ok(())
}
