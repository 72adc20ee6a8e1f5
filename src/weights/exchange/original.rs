//! Files under the original project's names: unilm's checkpoints and timm's weights.
//!
//! They say nothing of sizes but by the shapes of their tensors. Two are not in those: the number of heads where
//! there is no table of relative positions, and which side of the image is the longer one.

use super::found::FoundModel;
use super::json::ForeignFields;
use super::shapes::{TheirShapes, WRAPPED};
use super::{names, segmenters};
use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::config::{ClassifierConfig, EncoderConfig, Pooling};
use crate::models::kind::ModelConfig;
use crate::ops::rel_pos_bias::{relative_position_index, table_rows};
use crate::weights::{Project, Stated, TensorFile};
use serde_json::{Map, Value};
use std::path::Path;

const PATCHES: &str = "patch_embed.proj.weight";
const TABLE: &str = "attn.relative_position_bias_table";
/// The last layer of a segmenter.
const SEGMENTS: &str = "decode_head.conv_seg.weight";
const SHARED_TABLE: &str = "rel_pos_bias.relative_position_bias_table";

/// Whether a file holds such a model, or another that is made of it.
pub(super) fn is_model(file: &TensorFile) -> bool {
    let name = |name: &String| {
        name.trim_start_matches(WRAPPED).trim_start_matches(names::BACKBONE) == PATCHES
    };
    file.tensors().keys().any(name)
}

/// The model in `files`; `timm` is the configuration of a folder of timm's.
pub(super) fn read(
    path: &Path,
    files: Vec<TensorFile>,
    timm: Option<(&Path, &Map<String, Value>)>,
    stated: &Stated,
) -> Result<FoundModel> {
    let mut notes: Vec<String> = files.iter().filter_map(root).collect();
    let shapes = TheirShapes { path, files: &files };
    if shapes.has("blocks.0.attn.qkv.bias") {
        let text = "has blocks.0.attn.qkv.bias: another vision transformer, whose keys have a bias";
        return Err(shapes.wrong(text));
    }
    if !["lm_head.weight", "head.weight", SEGMENTS].iter().any(|head| shapes.has(head)) {
        let text = "has none of lm_head.weight, head.weight and decode_head.conv_seg.weight: a model without a head, \
                    of which there is no kind here; save it with one";
        return Err(shapes.wrong(text));
    }
    if let Some((path, fields)) = timm {
        let fields = ForeignFields { path, fields };
        let name = fields.fields.get("architecture").and_then(Value::as_str).unwrap_or_default();
        if !name.starts_with("beit") {
            return Err(fields.wrong("architecture", "one that begins with beit"));
        }
    }
    let stated = &said_by(timm.map(|(_, fields)| fields), stated);
    let encoder = encoder(&shapes, stated, &mut notes)?;
    let pretrained = timm.map(|(path, fields)| (path, pretrained(fields)));
    let config = if shapes.has("lm_head.weight") {
        ModelConfig::Beit(encoder.with_vocab(shapes.axis("lm_head.weight", 0)?))
    } else if shapes.has(SEGMENTS) {
        ModelConfig::Segmenter(segmenters::of_original(&shapes, encoder, stated, &mut notes)?)
    } else {
        let pooling = if shapes.has("fc_norm.weight") { Pooling::Mean } else { Pooling::Class };
        let count = shapes.axis("head.weight", 0)?;
        let classes = names(pretrained.as_ref(), count, &mut notes)?;
        ModelConfig::Classifier(ClassifierConfig { encoder, pooling, head_scale: 0.001, classes })
    };
    let normalise = match pretrained {
        Some((path, fields)) => ForeignFields { path, fields }.normalise("mean", "std")?,
        None => None,
    };
    let (usual, why) = match &config {
        ModelConfig::Segmenter(_) => {
            (Normalise::Imagenet, "imagenet, of the original's segmenters; --normalise half")
        }
        _ => (
            Normalise::Half,
            "half (0.5), of the models trained on ImageNet-22k; --normalise imagenet",
        ),
    };
    if normalise.or(stated.normalise).is_none() {
        notes.push(format!("normalisation {why} for others"));
    }
    let project =
        if timm.is_some() { Project::Timm } else { stated.project.unwrap_or(Project::Unilm) };
    let normalise = normalise.or(Some(usual));
    Ok(FoundModel { project, config, normalise, files, notes })
}

fn encoder(
    shapes: &TheirShapes,
    stated: &Stated,
    notes: &mut Vec<String>,
) -> Result<EncoderConfig> {
    let patch = shapes.axis(PATCHES, 2)?;
    let [shared, own] = [SHARED_TABLE.to_owned(), format!("blocks.0.{TABLE}")];
    let table = [&shared, &own].into_iter().find(|name| shapes.has(name));
    let width = shapes.axis(PATCHES, 0)?;
    let heads = match (table, stated.heads) {
        (Some(table), heads) => {
            let own = shapes.axis(table, 1)?;
            if heads.is_some_and(|heads| heads != own) {
                return Err(shapes
                    .wrong(format!("has {own} heads, as its tables of relative positions say")));
            }
            own
        }
        (None, Some(heads)) => heads,
        (None, None) => {
            let text = "has no table of relative positions that says how many heads it has: beit import --heads N \
                        (12 in base, 16 in large)";
            return Err(shapes.wrong(text));
        }
    };
    let (grid, sure) = grid(shapes, table, stated, patch)?;
    if !sure {
        let (h, w) = (grid.0 * patch, grid.1 * patch);
        notes.push(format!("images of {h}x{w} pixels, a square; --image-size for a rectangle"));
    }
    let block = |i: usize| shapes.has(&format!("blocks.{i}.norm1.weight"));
    Ok(EncoderConfig {
        image: (grid.0 * patch, grid.1 * patch),
        patch,
        channels: 3,
        width,
        depth: (0..).take_while(|i| block(*i)).count(),
        heads,
        mlp_width: shapes.axis("blocks.0.mlp.fc1.weight", 0)?,
        shared_rel_pos_bias: shapes.has(&shared),
        rel_pos_bias: shapes.has(&own),
        abs_pos: shapes.has("pos_embed"),
        layer_scale: if shapes.has("blocks.0.gamma_1") { 0.1 } else { 0.0 },
        drop_path: 0.1,
        layer_norm_eps: 1e-6,
    })
}

/// Rows and columns of patches, and whether they could be no others.
fn grid(
    shapes: &TheirShapes,
    table: Option<&String>,
    stated: &Stated,
    patch: usize,
) -> Result<((usize, usize), bool)> {
    if let Some((height, width)) = stated.image {
        let patch = patch.max(1);
        if !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
            let text =
                format!("has patches of {patch} pixels, which {height}x{width} is no multiple of");
            return Err(shapes.wrong(text));
        }
        return Ok(((height / patch, width / patch), true));
    }
    let rows = table.map(|name| shapes.axis(name, 0)).transpose()?;
    let index = index_of(shapes);
    let tokens = match (&index, shapes.get("pos_embed")) {
        (Some((n, _)), _) => Some(*n),
        (None, Some([1, n, _])) => Some(*n),
        _ => None,
    };
    let fits = |grid: &(usize, usize)| {
        tokens.is_none_or(|n| n == grid.0 * grid.1 + 1)
            && rows.is_none_or(|r| r == table_rows(*grid))
    };
    let right = |grid: &(usize, usize)| {
        index.as_ref().is_none_or(|(_, values)| {
            let own = relative_position_index(*grid);
            own.len() == values.len() && own.iter().zip(values).all(|(a, b)| i64::from(*a) == *b)
        })
    };
    // A square where there is one, else the two rectangles, which an index alone tells apart.
    let most = 1 << 12;
    let square = (1..=64).map(|side| (side, side)).find(fits);
    let found: Vec<(usize, usize)> = match (square, tokens) {
        (Some(square), _) => vec![square],
        (None, Some(n)) if n > 1 && n <= most => {
            let patches = n - 1;
            let sides = (1..=patches).filter(|side| patches.is_multiple_of(*side));
            sides.map(|side| (side, patches / side)).filter(fits).collect()
        }
        _ => Vec::new(),
    };
    let right: Vec<_> = found.into_iter().filter(right).collect();
    match right[..] {
        // The values of an index leave no doubt.
        [one] => Ok((one, one.0 != one.1 || index.is_some())),
        _ => Err(shapes.wrong("does not say which size its images have: give --image-size H,W")),
    }
}

/// Length of the sequence and the values of an index that the file has.
fn index_of(shapes: &TheirShapes) -> Option<(usize, Vec<i64>)> {
    shapes.files.iter().find_map(|file| {
        let name = file.tensors().keys().find(|name| name.ends_with("relative_position_index"))?;
        let (shape, values) = file.i64s(name).ok()?;
        Some((*shape.first()?, values))
    })
}

/// What was read of a checkpoint that holds more than one dict of tensors, it may be.
fn root(file: &TensorFile) -> Option<String> {
    let root = file.metadata().get("root").filter(|root| !root.is_empty())?;
    Some(format!("tensors under the key {root}; whatever is beside them is not read"))
}

/// What timm's configuration says of the pretraining: an object of its own, or the configuration itself in older ones.
fn pretrained(fields: &Map<String, Value>) -> &Map<String, Value> {
    fields.get("pretrained_cfg").and_then(Value::as_object).unwrap_or(fields)
}

/// What a person says, and what timm's configuration says where a person does not.
fn said_by(timm: Option<&Map<String, Value>>, stated: &Stated) -> Stated {
    let Some(fields) = timm else { return *stated };
    let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let image = pretrained(fields).get("input_size").and_then(|sides| {
        let [_, height, width] = sides.as_array()?.as_slice() else { return None };
        size(height).zip(size(width))
    });
    let heads = fields.get("model_args").and_then(|all| size(all.get("num_heads")?));
    Stated { image: stated.image.or(image), heads: stated.heads.or(heads), ..*stated }
}

/// Names of the classes: timm's, or numbers.
fn names(
    timm: Option<&(&Path, &Map<String, Value>)>,
    count: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<String>> {
    let Some((path, fields)) = timm.filter(|(_, fields)| fields.contains_key("label_names")) else {
        notes.push(format!("{count} classes, named by their numbers: the files have no names"));
        return Ok((0..count).map(|i| i.to_string()).collect());
    };
    let labels = fields["label_names"].as_array().map(Vec::as_slice).unwrap_or_default();
    let labels: Vec<String> = labels.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match labels.len() == count {
        true => Ok(labels),
        false => {
            let text = format!("label_names has {} names, the head {count} classes", labels.len());
            Err(Error::format(path, text))
        }
    }
}
