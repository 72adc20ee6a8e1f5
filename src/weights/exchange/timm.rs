//! Folders of timm: the architecture and what of it is other than in the one of that name.

use super::json::decimal;
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::config::{EncoderConfig, Pooling};
use crate::models::kind::ModelConfig;
use crate::weights::model::Model;
use serde_json::{Value, json};

/// Epsilon of every norm of the original and of timm's BEiT, which no argument changes.
const EPS: f64 = 1e-6;

/// `config.json`, and what is to be known of it.
pub(super) fn config_of(model: &Model) -> Result<(Value, Vec<String>)> {
    let (encoder, pool, classes) = match &model.config {
        ModelConfig::Beit(sizes) => (&sizes.encoder, "token", None),
        ModelConfig::Classifier(sizes) => {
            let pool = if sizes.pooling == Pooling::Mean { "avg" } else { "token" };
            (&sizes.encoder, pool, Some(&sizes.classes))
        }
        ModelConfig::Segmenter(_) => {
            return Err(Error::config("timm has no segmenters; want --format hf or unilm"));
        }
        ModelConfig::Dvae(_) => {
            return Err(Error::config("timm has no such tokenizer; want --format dalle or onnx"));
        }
        ModelConfig::Encoder(_) => return Err(Error::config("timm has no encoder without a head")),
        ModelConfig::Bert(_) => return Err(Error::config("timm has no language models")),
        ModelConfig::Vae(_) => return Err(Error::config("timm has no Gaussian VAE")),
    };
    refuse_other_eps(encoder, "timm's BEiT")?;
    let (mean, std) = model.normalise.unwrap_or(Normalise::Half).moments();
    let classes_count = classes.map_or(0, |classes| classes.len());
    let (h, w) = encoder.image;
    let mut pretrained = json!({
        "tag": "beit",
        "num_classes": classes_count,
        "input_size": [3, h, w],
        "fixed_input_size": true,
        "interpolation": "bicubic",
        "crop_pct": if h.max(w) <= 32 { 1.0 } else { 0.875 },
        "mean": mean.map(decimal),
        "std": std.map(decimal),
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    });
    if let Some(names) = classes {
        pretrained["label_names"] = json!(names);
    }
    let config = json!({
        "architecture": "beit_base_patch16_224",
        "num_classes": classes_count,
        "num_features": encoder.width,
        "global_pool": pool,
        "model_args": arguments(encoder, pool),
        "pretrained_cfg": pretrained,
    });
    let mut lines = vec![format!(
        "load it: timm.create_model(\"local-dir:FOLDER\", pretrained=True{})",
        if classes.is_some() { "" } else { ", num_classes=0" }
    )];
    if classes.is_none() {
        lines.push(
            "the head over visual tokens and the mask token are left out: timm has neither"
                .to_owned(),
        );
    }
    Ok((config, lines))
}

/// Refuses a model whose norms have another epsilon than that of `whose`.
pub(super) fn refuse_other_eps(encoder: &EncoderConfig, whose: &str) -> Result<()> {
    if encoder.layer_norm_eps == EPS {
        return Ok(());
    }
    Err(Error::config(format!(
        "the model's layer_norm_eps is {}, that of {whose} {EPS} whatever a file says: its outputs would differ; \
         want --format hf or onnx",
        encoder.layer_norm_eps
    )))
}

/// The quotient whose product with the width is cut to the hidden width, whatever the rounding.
fn mlp_ratio(encoder: &EncoderConfig) -> f64 {
    let (hidden, width) = (encoder.mlp_width, encoder.width);
    let cut = if hidden.is_multiple_of(width) { 0.0 } else { 0.5 };
    (hidden as f64 + cut) / width as f64
}

/// All arguments of the model, so that those of the named architecture do not matter.
fn arguments(encoder: &EncoderConfig, pool: &str) -> Value {
    json!({
        "img_size": [encoder.image.0, encoder.image.1],
        "patch_size": encoder.patch,
        "embed_dim": encoder.width,
        "depth": encoder.depth,
        "num_heads": encoder.heads,
        "mlp_ratio": mlp_ratio(encoder),
        "init_values": if encoder.layer_scale > 0.0 { json!(encoder.layer_scale) } else { Value::Null },
        "use_abs_pos_emb": encoder.abs_pos,
        "use_rel_pos_bias": encoder.rel_pos_bias,
        "use_shared_rel_pos_bias": encoder.shared_rel_pos_bias,
        "global_pool": pool,
    })
}
