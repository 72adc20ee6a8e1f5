//! Our models as files of other projects.

use super::hugging_face::{self, PortsModel};
use super::written::{Written, write, written};
use super::{names, segmenters, timm};
use crate::atomic::{write_atomic_with, write_json};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::config::{DvaeConfig, EncoderConfig, PatchHead};
use crate::models::kind::ModelConfig;
use crate::ops::rel_pos_bias::relative_position_index;
use crate::weights::model::{Model, save_read};
use crate::weights::{Dtype, PthTensor, save_onnx, write_pth};
use crate::words::words;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

words! {
    /// Whose files are written.
    ExportFormat {
        /// A folder for `from_pretrained` of Hugging Face's transformers.
        HuggingFace = "hf",
        /// A checkpoint for the original project's `torch.load`.
        Unilm = "unilm",
        /// A folder for timm's `create_model`.
        Timm = "timm",
        /// State dicts of DALL-E's encoder and decoder.
        Dalle = "dalle",
        /// A graph for programs that run ONNX.
        Onnx = "onnx",
    }
}

/// Why a Gaussian VAE is not exported.
const NO_HEAD: &str = "is an encoder without a head, for which the other projects' files have no form here: `beit finetune` \
                       makes a classifier of it, which has; or read its model.safetensors";
const NO_VAE: &str = "is a Gaussian VAE, which no other project has a place for: export a tokenizer (beit train-tokenizer \
                      without --kind vae) in its place, or read its model.safetensors";

/// Why a language model is not.
const NO_TEXT: &str = "is a language model over bytes, which no other project has a place for: read its model.safetensors";

/// Most bytes of tensors in one file.
const SHARD: usize = 5_000_000_000;

/// Writes the model that was read from other files as a model of this program, `model.safetensors` and
/// `config.json` in `folder`.
pub fn save_imported(folder: &Path, model: &Model) -> Result<()> {
    save_read(folder, model)
}

/// Refuses a model that a format has no place for.
pub fn refuse_export(model: &Model, format: ExportFormat) -> Result<()> {
    let nowhere = match model.config {
        ModelConfig::Encoder(_) => Some(NO_HEAD),
        ModelConfig::Bert(_) => Some(NO_TEXT),
        ModelConfig::Vae(_) => Some(NO_VAE),
        _ => None,
    };
    if let Some(text) = nowhere {
        return Err(Error::format(model.tensors.path(), text));
    }
    match format {
        ExportFormat::HuggingFace => hugging_face::of_port(&model.config).map(drop),
        ExportFormat::Unilm => originals_encoder(model).map(drop),
        ExportFormat::Timm => timm::config_of(model).map(drop),
        ExportFormat::Dalle => dalles_sizes(model).map(drop),
        ExportFormat::Onnx => match &model.config {
            ModelConfig::Segmenter(_) => Err(Error::format(
                model.tensors.path(),
                "is a segmenter, which has no ONNX form here: want --format hf or unilm",
            )),
            _ => Ok(()),
        },
    }
}

/// Writes `model` into `folder`, and says what was written: lines for whoever asked.
pub fn export(model: &Model, format: ExportFormat, folder: &Path) -> Result<Vec<String>> {
    match format {
        ExportFormat::HuggingFace => to_hugging_face(model, folder, SHARD),
        ExportFormat::Unilm => to_unilm(model, folder),
        ExportFormat::Timm => to_timm(model, folder),
        ExportFormat::Dalle => to_dalle(model, folder),
        ExportFormat::Onnx => to_onnx(model, folder),
    }
}

fn to_hugging_face(model: &Model, folder: &Path, shard: usize) -> Result<Vec<String>> {
    let PortsModel { config, class, encoder, block_behind } = hugging_face::of_port(&model.config)?;
    let mut tensors = written(model, |own| names::hugging_face(&model.config, own));
    if block_behind {
        add_block_of_zeros(&mut tensors, encoder.depth);
    }
    let count = tensors.len();
    let shards = in_shards(tensors, shard);
    let normalise = model.normalise.unwrap_or(Normalise::Half);
    write_json(&folder.join("config.json"), &config)?;
    let preprocessor = hugging_face::preprocessor_of(&model.config, encoder.image, normalise);
    write_json(&folder.join("preprocessor_config.json"), &preprocessor)?;
    let of = shards.len();
    let mut map = BTreeMap::new();
    for (i, tensors) in shards.iter().enumerate() {
        let file = match of {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{of:05}.safetensors", i + 1),
        };
        write(model, &folder.join(&file), tensors)?;
        map.extend(tensors.keys().map(|name| (name.clone(), file.clone())));
    }
    if of > 1 {
        let total: usize = shards.iter().flat_map(BTreeMap::values).map(Written::bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        write_json(&folder.join("model.safetensors.index.json"), &index)?;
    }
    let mut lines =
        vec![format!("{class}: {count} tensors in {of} file{}", if of == 1 { "" } else { "s" })];
    if block_behind {
        lines.push(format!(
            "a block of zeros behind the {} of the model, without which transformers could not read the last one",
            encoder.depth
        ));
    }
    lines.push(format!("load it: {class}.from_pretrained(FOLDER)"));
    Ok(lines)
}

/// Adds what block `depth` would have if there was one, as zeros, which leave the stream as it is.
fn add_block_of_zeros(tensors: &mut BTreeMap<String, Written>, depth: usize) {
    let block = |i: usize| format!("beit.encoder.layer.{i}.");
    let (last, behind) = (block(depth - 1), block(depth));
    let zeros = tensors.iter().filter_map(|(name, tensor)| {
        let name = format!("{behind}{}", name.strip_prefix(&last)?);
        Some((name, Written::besides(tensor.shape.clone(), tensor.dtype)))
    });
    let zeros: Vec<_> = zeros.collect();
    tensors.extend(zeros);
}

/// The tensors, in the order of their names, in files of at most so many bytes.
fn in_shards(tensors: BTreeMap<String, Written>, most: usize) -> Vec<BTreeMap<String, Written>> {
    let (mut shards, mut filled) = (vec![BTreeMap::new()], 0);
    for (name, tensor) in tensors {
        if filled > 0 && filled + tensor.bytes() > most {
            shards.push(BTreeMap::new());
            filled = 0;
        }
        filled += tensor.bytes();
        shards.last_mut().expect("one at least").insert(name, tensor);
    }
    shards
}

fn to_timm(model: &Model, folder: &Path) -> Result<Vec<String>> {
    let (config, lines) = timm::config_of(model)?;
    write_json(&folder.join("config.json"), &config)?;
    let left = |own: &str| {
        own.starts_with("lm_head.") || own.starts_with("pixel_head.") || own == "mask_token"
    };
    let tensors = written(model, |own| (!left(own)).then(|| vec![own.to_owned()]));
    write(model, &folder.join("model.safetensors"), &tensors)?;
    Ok(lines)
}

/// The encoder of a model that the original has, too.
fn originals_encoder(model: &Model) -> Result<&EncoderConfig> {
    let encoder = match &model.config {
        ModelConfig::Beit(sizes) if matches!(sizes.head, PatchHead::Tokens(_)) => &sizes.encoder,
        ModelConfig::Classifier(sizes) => &sizes.encoder,
        ModelConfig::Segmenter(sizes) => {
            segmenters::refuse_original(sizes)?;
            &sizes.encoder
        }
        _ => {
            let text = "is no encoder over tokens, no classifier and no segmenter: the original has nothing else";
            return Err(Error::format(model.tensors.path(), text));
        }
    };
    timm::refuse_other_eps(encoder, "the original")?;
    Ok(encoder)
}

/// The original has the index of the grid beside each table.
fn to_unilm(model: &Model, folder: &Path) -> Result<Vec<String>> {
    let encoder = originals_encoder(model)?;
    let (n, index) = (encoder.tokens(), relative_position_index(encoder.grid()));
    let index: Vec<u8> = index.iter().flat_map(|i| i64::from(*i).to_le_bytes()).collect();
    let mut all = written(model, |own| Some(vec![names::original(&model.config, own)]));
    let stems = all.keys().filter_map(|name| name.strip_suffix("_bias_table"));
    let indices: Vec<String> = stems.map(|stem| format!("{stem}_index")).collect();
    let of_index = || Written::besides(vec![n, n], Dtype::I64);
    all.extend(indices.into_iter().map(|name| (name, of_index())));
    let tensors: Vec<PthTensor> =
        all.iter().map(|(name, w)| PthTensor { name, shape: &w.shape, dtype: w.dtype }).collect();
    let (key, mut lines) = match &model.config {
        ModelConfig::Segmenter(sizes) => ("state_dict", vec![segmenters::original_settings(sizes)]),
        _ => ("model", Vec::new()),
    };
    let path = folder.join("model.pth");
    write_atomic_with(&path, |file| {
        write_pth(file, key, &tensors, |number, to| {
            let tensor = &all[tensors[number].name];
            if tensor.own.is_none() {
                return to.write_all(&index);
            }
            let mut put =
                |bytes: &[u8]| to.write_all(bytes).map_err(Error::io("cannot write", &path));
            tensor.bytes_to(model, &mut put).map_err(std::io::Error::other)
        })
    })?;
    lines.insert(0, format!("model.pth: {} tensors under the key {key}", tensors.len()));
    Ok(lines)
}

fn dalles_sizes(model: &Model) -> Result<&DvaeConfig> {
    let ModelConfig::Dvae(sizes) = &model.config else {
        let text = "is no tokenizer: DALL-E has nothing else";
        return Err(Error::format(model.tensors.path(), text));
    };
    Ok(sizes)
}

fn to_dalle(model: &Model, folder: &Path) -> Result<Vec<String>> {
    let sizes = dalles_sizes(model)?;
    let mut lines = Vec::new();
    for part in ["encoder", "decoder"] {
        let prefix = format!("{part}.");
        let tensors =
            written(model, |own| own.strip_prefix(&prefix).map(|name| vec![name.to_owned()]));
        let file = format!("{part}.safetensors");
        write(model, &folder.join(&file), &tensors)?;
        lines.push(format!("{file}: {} tensors", tensors.len()));
    }
    lines.push(format!(
        "n_hid {}, n_init {}, n_blk_per_group {}, vocab_size {}, {} groups",
        sizes.width, sizes.init_width, sizes.blocks_per_group, sizes.vocab, sizes.groups
    ));
    if sizes.groups != 4 {
        lines.push(format!("DALL-E's modules have 4 groups, this tokenizer {}", sizes.groups));
    }
    Ok(lines)
}

fn to_onnx(model: &Model, folder: &Path) -> Result<Vec<String>> {
    let read = |name: &str| model.tensors.f32s(name).map(|(_, values)| values);
    let path = folder.join("model.onnx");
    save_onnx(&path, &model.config, model.normalise, &read)?;
    let says = match &model.config {
        ModelConfig::Classifier(_) => {
            "normalised images [batch,3,H,W] to logits [batch,K], last_hidden_state, pooled"
        }
        ModelConfig::Beit(_) => {
            "normalised images [batch,3,H,W] to last_hidden_state [batch,N,C], pooled [batch,C]"
        }
        ModelConfig::Bert(_)
        | ModelConfig::Encoder(_)
        | ModelConfig::Segmenter(_)
        | ModelConfig::Vae(_) => "nothing",
        ModelConfig::Dvae(_) => "images [batch,3,H,W] in 0..1 to tokens [batch,h,w]",
    };
    Ok(vec![format!("model.onnx, opset 17: {says}")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::params::{Params, initial_values};
    use crate::weights::{load_model, save_weights};
    use std::path::PathBuf;
    use tempfile::TempDir;

    #[test]
    fn what_is_too_much_for_one_file_is_in_several_with_an_index() {
        let (own, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let sizes = EncoderConfig { image: (9, 9), ..EncoderConfig::test() };
        let (bk, config) = (Cpu::<f32>::new(), ModelConfig::Beit(sizes.with_vocab(11)));
        let layout = config.layout(&bk);
        let w = Params::from_host(&bk, &layout, &initial_values(&layout, 1));
        save_weights(&bk, own.path(), &config, None, &w).unwrap();
        let model = load_model(own.path()).unwrap();
        let most = 3000;
        to_hugging_face(&model, theirs.path(), most).unwrap();
        let files = std::fs::read_dir(theirs.path()).unwrap().map(|entry| entry.unwrap().path());
        let shards: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
        assert!(shards.len() > 2, "{shards:?}");
        for shard in &shards {
            let length = std::fs::metadata(shard).unwrap().len() as usize;
            assert!(length < most + 3000, "{}: {length} bytes", shard.display());
            assert!(
                shard.to_string_lossy().ends_with(&format!("-of-{:05}.safetensors", shards.len()))
            );
        }
        let found = load_model(theirs.path()).unwrap();
        assert_eq!(found.tensors.shapes(), model.tensors.shapes());
        for name in model.tensors.shapes().keys() {
            assert_eq!(found.tensors.f32s(name).unwrap(), model.tensors.f32s(name).unwrap());
        }
        // A tensor larger than the limit has a file of its own.
        let alone = in_shards(written(&model, |own| Some(vec![own.to_owned()])), 1);
        assert!(alone.iter().all(|shard| shard.len() == 1));
        assert_eq!(alone.len(), model.tensors.shapes().len());
    }
}
