//! Encoders of the fixtures: sizes in either project's words, tensors under the names of the original or of
//! the Hugging Face port's checkpoint files.

use crate::fixture::{Fixture, Precision};
use beit::models::config::EncoderConfig;
use beit::params::Layout;
use beit::weights::ORIGINAL;
use libtest_mimic::Failed;

/// The sizes of a case's encoder, from its JSON.
pub fn encoder_config(fx: &Fixture) -> EncoderConfig {
    let c = &fx.json["config"];
    let int = |keys: [&str; 2]| keys.iter().find_map(|k| c[*k].as_u64()).expect("a size") as usize;
    let flag = |key: &str| c[key].as_bool().unwrap_or(false);
    let size = keys(c, ["image_size", "img_size"]);
    let side = |i: usize| size[i].as_u64().or(size.as_u64()).expect("image size") as usize;
    let width = int(["hidden_size", "embed_dim"]);
    let mlp_width = match c["intermediate_size"].as_u64() {
        Some(hidden) => hidden as usize,
        // As the original does: int(dim * mlp_ratio).
        None => (width as f64 * c["mlp_ratio"].as_f64().expect("mlp_ratio")) as usize,
    };
    EncoderConfig {
        image: (side(0), side(1)),
        patch: int(["patch_size", "patch_size"]),
        channels: 3,
        width,
        depth: int(["num_hidden_layers", "depth"]),
        heads: int(["num_attention_heads", "num_heads"]),
        mlp_width,
        shared_rel_pos_bias: flag("use_shared_relative_position_bias")
            || flag("use_shared_rel_pos_bias"),
        rel_pos_bias: flag("use_relative_position_bias") || flag("use_rel_pos_bias"),
        abs_pos: flag("use_absolute_position_embeddings") || flag("use_abs_pos_emb"),
        layer_scale: keys(c, ["layer_scale_init_value", "init_values"]).as_f64().unwrap_or(0.0),
        drop_path: 0.0,
        layer_norm_eps: c["layer_norm_eps"].as_f64().expect("layer_norm_eps"),
    }
}

fn keys<'a>(c: &'a serde_json::Value, keys: [&str; 2]) -> &'a serde_json::Value {
    keys.iter().map(|k| &c[*k]).find(|v| !v.is_null()).expect("one of the keys")
}

/// The names of an original tensor in the files of a case; the packed q, k, v weight is three tensors in
/// Hugging Face's.
pub fn file_names(fx: &Fixture, name: &str) -> Vec<String> {
    if fx.has("param/beit.embeddings.cls_token") { hf_names(name) } else { vec![name.to_owned()] }
}

/// The values of a case's parameters, which are stored as f32, so exact.
pub fn weights(fx: &Fixture, layout: &Layout) -> Result<Vec<f32>, Failed> {
    Fixture::values(layout, |name| {
        file_names(fx, name).iter().flat_map(|n| fx.f64(&stored(fx, "param", n))).collect()
    })
}

/// The final norm lies inside the base model where there is no head of its own above it.
fn stored(fx: &Fixture, prefix: &str, name: &str) -> String {
    let inside = format!("{prefix}/beit.{name}");
    if fx.has(&inside) { inside } else { format!("{prefix}/{name}") }
}

/// Fails unless gradients, in the order of `layout`, are those of the file under `prefix`, and what the file lacks is
/// zero.
pub fn compare_gradients<T: Precision>(
    fx: &Fixture,
    layout: &Layout,
    exact: &[f64],
    prefix: &str,
) -> Result<(), Failed> {
    let mut seen = 0;
    for p in layout.iter() {
        for e in ORIGINAL.entries(p) {
            let got = e.gather(&exact[p.range.clone()]);
            let (mut rest, names) = (got.as_slice(), file_names(fx, &e.name));
            for name in &names {
                let name = stored(fx, prefix, name);
                let stored = fx.has(&name).then(|| fx.shape(&name).iter().product());
                let (part, tail) = rest.split_at(stored.unwrap_or(got.len() / names.len()));
                rest = tail;
                if stored.is_some() {
                    fx.compare::<T>(&name, part)?;
                    seen += 1;
                } else if part.iter().any(|&x| x != 0.0) {
                    return Err(format!("{name} is not in the file, and not zero here").into());
                }
            }
        }
    }
    let stored = fx.names().filter(|n| n.starts_with(&format!("{prefix}/"))).count();
    if seen != stored {
        return Err(format!("{seen} of the file's {stored} gradients were compared").into());
    }
    Ok(())
}

/// The names in Hugging Face's checkpoint files.
fn hf_names(name: &str) -> Vec<String> {
    let fixed = [
        ("cls_token", "beit.embeddings.cls_token"),
        ("mask_token", "beit.embeddings.mask_token"),
        ("pos_embed", "beit.embeddings.position_embeddings"),
        ("patch_embed.proj.", "beit.embeddings.patch_embeddings.projection."),
        ("rel_pos_bias.", "beit.encoder.relative_position_bias."),
        ("norm.", "layernorm."),
        ("lm_head.", "lm_head."),
        ("fc_norm.", "beit.pooler.layernorm."),
        ("head.", "classifier."),
        ("decode_head.conv_seg.", "decode_head.classifier."),
        ("auxiliary_head.conv_seg.", "auxiliary_head.classifier."),
        ("decode_head.", "decode_head."),
        ("auxiliary_head.", "auxiliary_head."),
        ("fpn1.", "fpn1."),
        ("fpn2.", "fpn2."),
    ];
    for (ours, theirs) in fixed {
        if let Some(rest) = name.strip_prefix(ours) {
            return vec![format!("{theirs}{rest}")];
        }
    }
    let rest = name.strip_prefix("blocks.").expect("a block's tensor");
    let (block, part) = rest.split_once('.').expect("blocks.i.part");
    let layer = |part: &str| format!("beit.encoder.layer.{block}.{part}");
    if part == "attn.qkv.weight" {
        return ["query", "key", "value"]
            .map(|p| layer(&format!("attention.attention.{p}.weight")))
            .to_vec();
    }
    let parts = [
        ("norm1.", "layernorm_before."),
        ("norm2.", "layernorm_after."),
        ("attn.q_bias", "attention.attention.query.bias"),
        ("attn.v_bias", "attention.attention.value.bias"),
        ("attn.proj.", "attention.output.dense."),
        (
            "attn.relative_position_bias_table",
            "attention.attention.relative_position_bias.relative_position_bias_table",
        ),
        ("gamma_1", "lambda_1"),
        ("gamma_2", "lambda_2"),
        ("mlp.fc1.", "intermediate.dense."),
        ("mlp.fc2.", "output.dense."),
    ];
    let (ours, theirs) = parts.iter().find(|(ours, _)| part.starts_with(ours)).expect("known part");
    vec![layer(&format!("{theirs}{}", &part[ours.len()..]))]
}
