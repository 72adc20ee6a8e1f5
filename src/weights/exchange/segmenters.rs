//! Segmenters of transformers and of the original: what is read of them beside the encoder, and what is written.
//!
//! transformers counts the places of the levels from the embedding and takes the state before the one of that number
//! (`hidden_states[i - 1]`), so that `out_indices` are the taps here and 1, and it cannot read the last block. Where a
//! level is made of that, a block of zeros is written behind it, which adds nothing and is left out when it is read.
//! The original counts blocks from 0 and says the places in a configuration that does not travel with the weights.

use super::json::{ForeignFields, HeadFields, labels};
use super::names;
use super::shapes::TheirShapes;
use crate::data::pairs::{ade20k, numbered, palette};
use crate::error::{Error, Result};
use crate::models::config::{EncoderConfig, SegmentClass, SegmenterConfig};
use crate::models::segmenter::IGNORED;
use crate::weights::import_plan::is_zero;
use crate::weights::{Stated, TensorFile};
use serde_json::{Value, json};

/// Key of `config.json` with the colours of the classes, which transformers keeps and does not use.
const PALETTE: &str = "palette";

/// Key of `config.json` with what sides of images are scaled to, which transformers keeps and does not use.
const SCALE: &str = "image_scale";

/// A tensor that transformers' segmenters have and no other model.
pub(super) const HEAD: &str = "decode_head.classifier.weight";

/// The sizes of transformers' segmenter on an encoder of so many blocks as its files have.
pub(super) fn of_transformers(
    fields: &ForeignFields,
    mut encoder: EncoderConfig,
    files: &[TensorFile],
    stated: &Stated,
    (names, notes): (Vec<String>, &mut Vec<String>),
) -> Result<SegmenterConfig> {
    let pools = fields.fields.get("pool_scales").unwrap_or(&Value::Null);
    if !pools.is_null() && *pools != json!(SegmenterConfig::POOLS) {
        return Err(fields.wrong("pool_scales", "[1,2,3,6]"));
    }
    let taps = match stated.taps {
        Some(taps) => taps,
        None => transformers_taps(fields, encoder.depth)?,
    };
    let ours = fields.fields.contains_key(SCALE);
    if stated.taps.is_none() && !ours {
        notes.push(taps_in_words(taps, encoder.depth));
    }
    if taps[3] + 1 == encoder.depth && is_of_zeros(files, encoder.depth - 1) {
        encoder.depth -= 1;
    }
    let ignored = fields.size_or("semantic_loss_ignore_index", IGNORED as usize)?;
    if ignored != IGNORED as usize {
        let text = "labels that take no part are 255 here";
        notes.push(format!("semantic_loss_ignore_index {ignored}: {text}"));
    }
    let classes = coloured(fields, names)?;
    let original = SegmenterConfig::original(encoder, classes);
    let scale = match fields.fields.get(SCALE) {
        Some(_) => fields.sides(SCALE)?,
        None => original.scale,
    };
    Ok(SegmenterConfig { taps, auxiliary: auxiliary(fields)?, scale, ..original })
}

/// Channels of the second head.
fn auxiliary(fields: &ForeignFields) -> Result<usize> {
    if !fields.flag("use_auxiliary_head", true)? {
        return Ok(0);
    }
    if fields.size_or("auxiliary_num_convs", 1)? != 1 {
        return Err(fields.wrong("auxiliary_num_convs", "1"));
    }
    if fields.flag("auxiliary_concat_input", false)? {
        return Err(fields.wrong("auxiliary_concat_input", "false"));
    }
    fields.size_or("auxiliary_channels", 256)
}

/// The taps that `out_indices` means, which older files call otherwise.
fn transformers_taps(fields: &ForeignFields, depth: usize) -> Result<[usize; 4]> {
    let key = ["out_indices", "segmentation_indices"]
        .into_iter()
        .find(|key| fields.fields.get(*key).is_some_and(|value| !value.is_null()))
        .unwrap_or("out_indices");
    let one = |value: &Value| {
        let index = usize::try_from(value.as_u64()?).ok()?;
        (1..=depth).contains(&index).then(|| index - 1)
    };
    let taps = fields.fields.get(key).and_then(Value::as_array).and_then(|all| {
        let taps: Option<Vec<usize>> = all.iter().map(one).collect();
        taps?.try_into().ok().filter(|taps: &[usize; 4]| taps.is_sorted())
    });
    let want = format!("four ascending numbers from 1 to num_hidden_layers, {depth}");
    taps.ok_or_else(|| fields.wrong(key, &want))
}

/// How `out_indices` was understood, and what else it could mean.
fn taps_in_words(taps: [usize; 4], depth: usize) -> String {
    let (indices, other) = (taps.map(|tap| tap + 1), taps.map(|tap| tap + 2));
    let read = format!("levels of taps {taps:?}, as transformers reads out_indices {indices:?}");
    if other[3] > depth {
        return read;
    }
    let [a, b, c, d] = other;
    format!(
        "{read}; in a model that the original trained, the original would mean {other:?}: beit import --taps \
         {a},{b},{c},{d}"
    )
}

/// Whether every number of a block is 0.
fn is_of_zeros(files: &[TensorFile], block: usize) -> bool {
    let prefix = format!("beit.encoder.layer.{block}.");
    let (mut found, mut zero) = (false, true);
    for file in files {
        let names = file.tensors().keys();
        for name in names.filter(|name| names::name_in_files(name).starts_with(&prefix)) {
            found = true;
            zero &= name.ends_with("relative_position_index") || is_zero(file, name);
        }
    }
    found && zero
}

/// Classes of these names, and their colours where the files have them.
fn coloured(fields: &ForeignFields, names: Vec<String>) -> Result<Vec<SegmentClass>> {
    let colours: Vec<[u8; 3]> = match fields.fields.get(PALETTE) {
        None => (0..names.len()).map(palette).collect(),
        Some(value) => serde_json::from_value(value.clone())
            .ok()
            .filter(|colours: &Vec<_>| colours.len() == names.len())
            .ok_or_else(|| fields.wrong(PALETTE, "three numbers from 0 to 255 for each class"))?,
    };
    let class = |(name, colour)| SegmentClass { name, colour };
    Ok(names.into_iter().zip(colours).map(class).collect())
}

/// Refuses a segmenter that transformers has no place for.
pub(super) fn refuse_transformers(sizes: &SegmenterConfig) -> Result<()> {
    let (width, channels, taps) = (sizes.encoder.width, sizes.channels, sizes.taps);
    if channels != width {
        return Err(Error::config(format!(
            "the segmenter's head has {channels} channels, that of transformers as many as its encoder is wide, \
             {width}: segment-train --set channels={width}, or --format unilm"
        )));
    }
    if taps.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::config(format!(
            "two levels of the segmenter are read at one place, taps {taps:?}, and transformers wants four places: \
             segment-train --set taps=A,B,C,D, or --format unilm"
        )));
    }
    Ok(())
}

/// Whether transformers needs a block behind the last one to read what that puts out.
pub(super) fn needs_block(sizes: &SegmenterConfig) -> bool {
    sizes.taps[3] == sizes.encoder.depth
}

/// What `config.json` of transformers says of a segmenter.
pub(super) fn head_fields(sizes: &SegmenterConfig) -> HeadFields {
    let colours: Vec<[u8; 3]> = sizes.classes.iter().map(|class| class.colour).collect();
    let mut fields = vec![
        ("use_mask_token", json!(false)),
        ("use_mean_pooling", json!(true)),
        ("out_indices", json!(sizes.taps.map(|tap| tap + 1))),
        ("pool_scales", json!(SegmenterConfig::POOLS)),
        ("use_auxiliary_head", json!(sizes.auxiliary > 0)),
        ("auxiliary_loss_weight", json!(0.4)),
        ("auxiliary_num_convs", json!(1)),
        ("auxiliary_concat_input", json!(false)),
        ("semantic_loss_ignore_index", json!(IGNORED)),
        (PALETTE, json!(colours)),
        (SCALE, json!([sizes.scale.0, sizes.scale.1])),
    ];
    if sizes.auxiliary > 0 {
        fields.push(("auxiliary_channels", json!(sizes.auxiliary)));
    }
    if needs_block(sizes) {
        fields.push(("num_hidden_layers", json!(sizes.encoder.depth + 1)));
    }
    fields.extend(labels(&sizes.class_names()));
    fields
}

/// The sizes of the original's segmenter, by the shapes of its tensors.
pub(super) fn of_original(
    shapes: &TheirShapes,
    encoder: EncoderConfig,
    stated: &Stated,
    notes: &mut Vec<String>,
) -> Result<SegmenterConfig> {
    let count = shapes.axis("decode_head.conv_seg.weight", 0)?;
    let ade = ade20k();
    let classes = if count == ade.len() {
        notes.push(format!("{count} classes, taken for those of ADE20K"));
        ade
    } else {
        notes.push(format!("{count} classes, named by their numbers: the tensors have no names"));
        numbered(count)
    };
    let original = SegmenterConfig::original(encoder, classes);
    if stated.taps.is_none() {
        notes.push(format!(
            "levels of taps {:?}, those of the original at {} blocks; --taps for others",
            original.taps, original.encoder.depth
        ));
    }
    let second = "auxiliary_head.conv_seg.weight";
    let auxiliary = if shapes.has(second) { shapes.axis(second, 1)? } else { 0 };
    Ok(SegmenterConfig {
        taps: stated.taps.unwrap_or(original.taps),
        channels: shapes.axis("decode_head.bottleneck.conv.weight", 0)?,
        auxiliary,
        ..original
    })
}

/// Refuses a segmenter that the original has no place for.
pub(super) fn refuse_original(sizes: &SegmenterConfig) -> Result<()> {
    if sizes.taps[0] > 0 {
        return Ok(());
    }
    Err(Error::config(format!(
        "a level of the segmenter is read before its first block, taps {:?}, which the original cannot: \
         segment-train --set taps=A,B,C,D, or --format hf",
        sizes.taps
    )))
}

/// What the original's configuration has to say of a segmenter, since its weights do not.
pub(super) fn original_settings(sizes: &SegmenterConfig) -> String {
    let (taps, channels, second) = (sizes.taps.map(|tap| tap - 1), sizes.channels, sizes.auxiliary);
    let second = match second {
        0 => "no auxiliary head".to_owned(),
        channels => format!("channels={channels} in the auxiliary one"),
    };
    format!(
        "its configuration: out_indices={taps:?}, channels={channels} in the main head, {second}"
    )
}
