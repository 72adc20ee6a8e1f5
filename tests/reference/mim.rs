//! Cases 01 (names of the Hugging Face port) and 04 (names of the original): the masked-image model
//! with everything that can be compared: hidden states, attention probabilities, logits, loss, every
//! gradient. So does `mim_hidden`, which `tests/fixtures/mim_hidden.py` made: the hidden width of its MLP
//! is no multiple of the width.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use beit::models::config::{BeitConfig, EncoderConfig};
use beit::models::encoder::EncoderInput;
use beit::ops::cross_entropy::{CrossEntropyOp, Target};
use beit::params::{Ctx, Grad, Params};
use beit::real::Real;
use beit::tensor::{Ids, Tensor};
use beit::weights::ORIGINAL;
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// One trial per case and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut trials = Vec::new();
    for (case, dir) in [
        ("01_mim_hf", dir),
        ("04a_mim_orig", dir),
        ("04b_mim_orig", dir),
        ("mim_hidden", own.as_path()),
    ] {
        let at = dir.to_path_buf();
        trials.push(Trial::test(format!("{case}::f64"), move || run::<f64>(&at, case)));
        let at = dir.to_path_buf();
        trials.push(Trial::test(format!("{case}::f32"), move || run::<f32>(&at, case)));
    }
    trials
}

/// The sizes of a case, from its JSON, in either project's words.
fn config(fx: &Fixture) -> BeitConfig {
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
    .with_vocab(int(["vocab_size", "vocab_size"]))
}

fn keys<'a>(c: &'a serde_json::Value, keys: [&str; 2]) -> &'a serde_json::Value {
    keys.iter().map(|k| &c[*k]).find(|v| !v.is_null()).expect("one of the keys")
}

/// The name of an original tensor in Hugging Face's checkpoint files; the packed q, k, v
/// weight is three tensors there.
fn hf_names(name: &str) -> Vec<String> {
    let fixed = [
        ("cls_token", "beit.embeddings.cls_token"),
        ("mask_token", "beit.embeddings.mask_token"),
        ("pos_embed", "beit.embeddings.position_embeddings"),
        ("patch_embed.proj.", "beit.embeddings.patch_embeddings.projection."),
        ("rel_pos_bias.", "beit.encoder.relative_position_bias."),
        ("norm.", "layernorm."),
        ("lm_head.", "lm_head."),
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

fn run<T: Real + Precision>(dir: &Path, case: &str) -> Result<(), Failed> {
    let fx = Fixture::open(dir, case)?;
    let bk = Cpu::<T>::new();
    let config = config(&fx);
    let model = MaskedImageModel::new(&bk, &config);
    let hf = fx.has("param/beit.embeddings.cls_token");
    let names = |name: &str| if hf { hf_names(name) } else { vec![name.to_string()] };

    // Weights: stored as f32, so exact.
    let read = |prefix: &str, name: &str| -> Vec<f64> {
        names(name).iter().flat_map(|n| fx.f64(&format!("{prefix}/{n}"))).collect()
    };
    let values = Fixture::values(&model.layout, |name| read("param", name))?;
    let w = Params::from_host(&bk, &model.layout, &values);
    let mut g = Params::zeros(&bk, &model.layout);

    // Inputs, from channels-first to channels-last.
    let shape = fx.shape("in/pixel_values");
    let (b, (ih, iw)) = (shape[0], config.encoder.image);
    let images = Fixture::to_nhwc(&fx.f64("in/pixel_values"), &shape);
    let mask: Vec<bool> = fx.f64("in/bool_masked_pos").iter().map(|&x| x != 0.0).collect();
    let labels: Vec<u32> = fx.f64("in/labels").iter().map(|&x| x as u32).collect();
    let np = config.encoder.patches();
    let rows = masked_rows(&mask, np);
    let all = masked_rows(&vec![true; b * np], np);
    let mut batch = MaskedBatch {
        images: Tensor::from_f64(&bk, &images, &[b, ih, iw, 3]),
        mask: Ids::from_vec(&bk, mask.iter().map(|&m| u32::from(m)).collect(), &[b, np]),
        rows: Ids::from_vec(&bk, all, &[b * np]),
        keep: None,
    };

    // All patches: hidden states, attention, logits.
    let ctx = Ctx::new(&bk, &w);
    let input = EncoderInput { images: &batch.images, mask: Some(&batch.mask), keep: None };
    let taps: Vec<usize> = (0..=config.encoder.depth).collect();
    let hidden = model.encoder.features(ctx, &input, &taps).taps;
    for (l, s) in hidden.iter().enumerate() {
        fx.compare_if_present::<T>(&format!("out/hidden/{l}"), &s.to_f64(&bk))?;
    }
    let attention = model.encoder.attention_probs(ctx, &input, &taps[..config.encoder.depth]);
    for (l, probs) in attention.iter().enumerate() {
        fx.compare_if_present::<T>(&format!("out/attn/{l}"), &probs.to_f64(&bk))?;
    }
    let logits_all = model.logits(ctx, &batch);
    let logits_name = if fx.has("out/logits_all") { "out/logits_all" } else { "out/logits" };
    fx.compare::<T>(logits_name, &logits_all.to_f64(&bk))?;

    // Masked patches: logits, loss and gradients.
    batch.rows = Ids::from_vec(&bk, rows.clone(), &[rows.len()]);
    let (logits, cache) = model.forward(ctx, &batch);
    if fx.has("out/logits_all") {
        fx.compare::<T>("out/logits", &logits.to_f64(&bk))?;
    }
    let ids = Ids::from_vec(&bk, labels, &[rows.len()]);
    let target = Target::Hard { labels: &ids, ignore: None };
    let scale = 1.0 / rows.len() as f64;
    let (losses, dlogits) = bk.cross_entropy_backward(logits, &target, scale);
    let loss = losses.rows.to_f64(&bk).iter().sum::<f64>() * scale;
    fx.compare_loss::<T>("out/loss", loss)?;
    let dx = model.backward(&mut Grad::new(ctx, &mut g), &batch, cache, dlogits, true);
    if fx.has("grad_in/pixel_values") {
        let got = Fixture::to_nchw(&dx.expect("asked for").to_f64(&bk), &shape);
        fx.compare::<T>("grad_in/pixel_values", &got)?;
    }
    // Gradients under the names and in the order of a checkpoint.
    let exact: Vec<f64> = g.to_host(&bk).into_iter().map(|x| x.to_f64()).collect();
    let mut seen = 0;
    for p in model.layout.iter() {
        for e in ORIGINAL.entries(p) {
            let own = &exact[p.range.clone()];
            let got = e.gather(own);
            let mut rest = got.as_slice();
            for name in names(&e.name) {
                let name = format!("grad/{name}");
                let len = if fx.has(&name) {
                    fx.shape(&name).iter().product()
                } else {
                    rest.len() / names(&e.name).len()
                };
                let (part, tail) = rest.split_at(len);
                rest = tail;
                if fx.has(&name) {
                    fx.compare::<T>(&name, part)?;
                    seen += 1;
                } else if part.iter().any(|&x| x != 0.0) {
                    return Err(format!("{name} is not in the file, and not zero here").into());
                }
            }
        }
    }
    let stored = fx.names().filter(|n| n.starts_with("grad/")).count();
    if seen != stored {
        return Err(format!("{seen} of the file's {stored} gradients were compared").into());
    }
    Ok(())
}
