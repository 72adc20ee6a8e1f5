//! Folders of `transformers`: their configuration read and written.

use super::found::FoundModel;
use super::json::{self, ForeignFields, HeadFields, labels};
use super::{names, segmenters, shards};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::layers::position::TableResize;
use crate::models::config::{ClassifierConfig, EncoderConfig, PatchHead, Pooling};
use crate::models::kind::ModelConfig;
use crate::weights::{Project, Regrid, Stated};
use serde_json::{Map, Value, json};
use std::path::Path;

/// File beside the configuration with the processing of images.
const PREPROCESSOR: &str = "preprocessor_config.json";

/// Epsilon of a configuration that gives none.
const ABSENT_EPS: f64 = 1e-12;

/// Reads a folder, or the model in one of its files.
pub(super) fn read(
    path: &Path,
    config: &Path,
    fields: &Map<String, Value>,
    stated: &Stated,
) -> Result<FoundModel> {
    let files = shards::of_model(path)?;
    let mut notes = Vec::new();
    let has = |own: &str| {
        let named = |name: &String| names::name_in_files(name) == own;
        files.iter().any(|file| file.tensors().keys().any(named))
    };
    let fields = ForeignFields { path: config, fields };
    if fields.fields["model_type"] != "beit" {
        return Err(fields.wrong("model_type", "beit"));
    }
    let encoder = encoder(&fields)?;
    let other = stated.image.is_some_and(|image| image != encoder.image)
        || stated.heads.is_some_and(|heads| heads != encoder.heads);
    if other {
        return Err(Error::format(
            config,
            "says image_size and num_attention_heads: leave out --image-size and --heads",
        ));
    }
    let model = if has(segmenters::HEAD) {
        let said = (classes(&fields)?, &mut notes);
        let sizes = segmenters::of_transformers(&fields, encoder, &files, stated, said)?;
        ModelConfig::Segmenter(sizes)
    } else if has("lm_head.weight") {
        ModelConfig::Beit(encoder.with_vocab(fields.size("vocab_size")?))
    } else if has("classifier.weight") {
        let pooling = pooling(&fields, &has)?;
        let classes = classes(&fields)?;
        ModelConfig::Classifier(ClassifierConfig { encoder, pooling, head_scale: 0.001, classes })
    } else {
        let text = "has none of lm_head.weight, classifier.weight and decode_head.classifier.weight: a model without a \
                    head; save BeitForMaskedImageModeling, BeitForImageClassification or \
                    BeitForSemanticSegmentation";
        return Err(Error::format(path, text));
    };
    for key in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        let rate = fields.real(key, 0.0)?;
        if rate != 0.0 {
            notes.push(format!("{key} {rate}: there is no such dropout here"));
        }
    }
    let normalise = match stated.normalise {
        Some(normalise) => Some(normalise),
        None => normalise(config, views_of(&model), &mut notes)?,
    };
    Ok(FoundModel { project: Project::HuggingFace, config: model, normalise, files, notes })
}

fn encoder(fields: &ForeignFields) -> Result<EncoderConfig> {
    let act = fields.fields.get("hidden_act").and_then(Value::as_str).unwrap_or("gelu");
    if act != "gelu" {
        return Err(fields.wrong("hidden_act", "gelu"));
    }
    let patch = fields.sides("patch_size")?;
    if patch.0 != patch.1 {
        return Err(fields.wrong("patch_size", "square patches"));
    }
    Ok(EncoderConfig {
        image: fields.sides("image_size")?,
        patch: patch.0,
        channels: 3,
        width: fields.size("hidden_size")?,
        depth: fields.size("num_hidden_layers")?,
        heads: fields.size("num_attention_heads")?,
        mlp_width: fields.size("intermediate_size")?,
        shared_rel_pos_bias: fields.flag("use_shared_relative_position_bias", false)?,
        rel_pos_bias: fields.flag("use_relative_position_bias", false)?,
        abs_pos: fields.flag("use_absolute_position_embeddings", false)?,
        // Only a positive one makes parameters; the value itself is that of the first step.
        layer_scale: fields.real("layer_scale_init_value", 0.1)?.max(0.0),
        drop_path: fields.real("drop_path_rate", 0.1)?,
        layer_norm_eps: fields.real("layer_norm_eps", ABSENT_EPS)?,
    })
}

/// What transformers makes of a table of relative positions each time it is used, where the grid is no square: it takes
/// the axes of the plane of offsets one for the other and resizes that to the right one, bilinearly
/// (`BeitRelativePositionBias.forward` of 5.24).
pub(super) fn regrid(config: &ModelConfig, own: &str) -> Option<Regrid> {
    let (h, w) = encoder_of(config)?.grid();
    let (from, to, method) = ((w, h), (h, w), TableResize::Bilinear);
    let table = own.ends_with("relative_position_bias_table");
    (table && h != w).then_some(Regrid { from, to, method })
}

fn encoder_of(config: &ModelConfig) -> Option<&EncoderConfig> {
    match config {
        ModelConfig::Beit(sizes) => Some(&sizes.encoder),
        ModelConfig::Classifier(sizes) => Some(&sizes.encoder),
        ModelConfig::Segmenter(sizes) => Some(&sizes.encoder),
        ModelConfig::Encoder(sizes) => Some(sizes),
        ModelConfig::Bert(_) | ModelConfig::Dvae(_) | ModelConfig::Vae(_) => None,
    }
}

/// Refuses a grid that transformers cannot be made to read as it is here.
fn refuse_rectangle(encoder: &EncoderConfig) -> Result<()> {
    let (h, w) = encoder.grid();
    let what = match (encoder.rel_pos_bias || encoder.shared_rel_pos_bias, encoder.abs_pos) {
        _ if h == w => return Ok(()),
        (true, _) => "mixes up the axes of the table of relative positions",
        (false, true) => "cannot use absolute positions",
        (false, false) => return Ok(()),
    };
    Err(Error::config(format!(
        "on a grid that is no square, as {h}x{w}, transformers {what}: its outputs would differ; want --format timm \
         or onnx"
    )))
}

fn pooling(fields: &ForeignFields, has: &dyn Fn(&str) -> bool) -> Result<Pooling> {
    let mean = fields.flag("use_mean_pooling", true)?;
    match (mean, has("beit.pooler.layernorm.weight"), has("beit.layernorm.weight")) {
        (true, true, false) => Ok(Pooling::Mean),
        (false, false, true) => Ok(Pooling::Class),
        _ => Err(fields.wrong(
            "use_mean_pooling",
            "true where the weights have beit.pooler.layernorm, false where they have beit.layernorm",
        )),
    }
}

/// Names of the classes, of which `id2label` has each under its number.
fn classes(fields: &ForeignFields) -> Result<Vec<String>> {
    if !fields.fields.contains_key("id2label") {
        // Two classes are the library's default, which it does not write down.
        return Ok(["LABEL_0", "LABEL_1"].map(str::to_owned).to_vec());
    }
    let labels = fields.fields.get("id2label").and_then(Value::as_object);
    let labels =
        labels.ok_or_else(|| fields.wrong("id2label", "an object of numbers and names"))?;
    let name = |i: usize| {
        let label = labels.get(&i.to_string()).and_then(Value::as_str);
        label.map(str::to_owned).ok_or_else(|| {
            let text =
                format!("id2label lacks {i}, want a name for each of 0 to {}", labels.len() - 1);
            Error::format(fields.path, text)
        })
    };
    (0..labels.len()).map(name).collect()
}

/// How images come to be of a model's size here.
fn views_of(model: &ModelConfig) -> &'static str {
    match model {
        ModelConfig::Segmenter(_) => "seen through windows",
        _ => "resized and cropped at the centre",
    }
}

fn normalise(config: &Path, views: &str, notes: &mut Vec<String>) -> Result<Option<Normalise>> {
    let path = config.with_file_name(PREPROCESSOR);
    if !path.is_file() {
        notes.push(format!("normalisation half (0.5): there is no {PREPROCESSOR}"));
        return Ok(Some(Normalise::Half));
    }
    let fields = json::read(&path)?;
    let fields = ForeignFields { path: &path, fields: &fields };
    for key in ["do_rescale", "do_normalize"] {
        if !fields.flag(key, true)? {
            return Err(fields.wrong(key, "true, or --normalise on beit import"));
        }
    }
    if (fields.real("rescale_factor", 1.0 / 255.0)? * 255.0 - 1.0).abs() > 1e-6 {
        return Err(fields.wrong("rescale_factor", "1/255, or --normalise on beit import"));
    }
    let found = fields.normalise("image_mean", "image_std")?;
    let normalise = found.unwrap_or(Normalise::Half);
    notes.push(format!("normalisation {normalise}, of {PREPROCESSOR}"));
    if fields.fields.get("do_center_crop") != Some(&Value::Bool(true)) {
        notes.push(format!("images are {views} here, where {PREPROCESSOR} squashes them"));
    }
    Ok(Some(normalise))
}

/// What a folder of the port says of a model.
pub(super) struct PortsModel<'a> {
    /// `config.json`.
    pub(super) config: Value,
    /// The class that reads it.
    pub(super) class: &'static str,
    pub(super) encoder: &'a EncoderConfig,
    /// Whether a block of zeros lies behind the last one.
    pub(super) block_behind: bool,
}

/// The same of a model that the port has a class for.
pub(super) fn of_port(model: &ModelConfig) -> Result<PortsModel<'_>> {
    let (encoder, class, head) = match model {
        ModelConfig::Beit(sizes) => match sizes.head {
            PatchHead::Tokens(vocab) => {
                (&sizes.encoder, "BeitForMaskedImageModeling", masked(vocab))
            }
            PatchHead::Pixels(_) => {
                return Err(Error::config(
                    "transformers has no BEiT with a head over pixels: export one over tokens, or a classifier",
                ));
            }
        },
        ModelConfig::Classifier(sizes) => {
            (&sizes.encoder, "BeitForImageClassification", classifier(sizes))
        }
        ModelConfig::Segmenter(sizes) => {
            segmenters::refuse_transformers(sizes)?;
            (&sizes.encoder, "BeitForSemanticSegmentation", segmenters::head_fields(sizes))
        }
        ModelConfig::Dvae(_) => {
            return Err(Error::config(
                "transformers has no such tokenizer; want --format dalle or onnx",
            ));
        }
        ModelConfig::Encoder(_) => {
            return Err(Error::config("transformers has no encoder without a head"));
        }
        ModelConfig::Bert(_) => {
            return Err(Error::config("transformers has no such language model"));
        }
        ModelConfig::Vae(_) => return Err(Error::config("transformers has no Gaussian VAE")),
    };
    refuse_rectangle(encoder)?;
    let mut config = json!({
        "model_type": "beit",
        "architectures": [class],
        "image_size": [encoder.image.0, encoder.image.1],
        "patch_size": encoder.patch,
        "num_channels": 3,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": encoder.mlp_width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": encoder.drop_path,
        "initializer_range": 0.02,
        "layer_norm_eps": encoder.layer_norm_eps,
        "layer_scale_init_value": encoder.layer_scale,
        "use_relative_position_bias": encoder.rel_pos_bias,
        "use_shared_relative_position_bias": encoder.shared_rel_pos_bias,
        "use_absolute_position_embeddings": encoder.abs_pos,
        "dtype": "float32",
    });
    if encoder.image.0 == encoder.image.1 {
        config["image_size"] = json!(encoder.image.0);
    }
    for (key, value) in head {
        config[key] = value;
    }
    let block_behind =
        matches!(model, ModelConfig::Segmenter(sizes) if segmenters::needs_block(sizes));
    Ok(PortsModel { config, class, encoder, block_behind })
}

fn masked(vocab: usize) -> HeadFields {
    vec![
        ("vocab_size", json!(vocab)),
        ("use_mask_token", json!(true)),
        ("use_mean_pooling", json!(true)),
    ]
}

fn classifier(sizes: &ClassifierConfig) -> HeadFields {
    let mut fields = vec![
        ("use_mask_token", json!(false)),
        ("use_mean_pooling", json!(sizes.pooling == Pooling::Mean)),
    ];
    fields.extend(labels(&sizes.classes));
    fields
}

/// `preprocessor_config.json`: the evaluation of this program, as far as the port's can be told to do it. It knows no
/// windows, and a segmenter's images are squashed.
pub(super) fn preprocessor_of(
    model: &ModelConfig,
    image: (usize, usize),
    normalise: Normalise,
) -> Value {
    let (mean, std) = normalise.moments();
    let sides = |(h, w): (usize, usize)| json!({ "height": h, "width": w });
    // 256 before a crop of 224; small images are taken as they are.
    let small = image.0.max(image.1) <= 32 || matches!(model, ModelConfig::Segmenter(_));
    let larger = |side: usize| if small { side } else { (side as f64 * 256.0 / 224.0) as usize };
    json!({
        "image_processor_type": "BeitImageProcessor",
        "do_resize": true,
        "size": sides((larger(image.0), larger(image.1))),
        "resample": 3,
        "do_center_crop": !small,
        "crop_size": sides(image),
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": mean.map(json::decimal),
        "image_std": std.map(json::decimal),
        "do_reduce_labels": false,
    })
}
