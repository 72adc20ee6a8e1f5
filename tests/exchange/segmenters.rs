//! Segmenters there and back: levels read anywhere, with and without the second head, and what has no place there.

use super::{encoders, same_encoder, saved, three, values};
use beit::models::config::{EncoderConfig, SegmentClass, SegmenterConfig};
use beit::models::kind::ModelConfig;
use beit::weights::exchange::{ExportFormat, export, save_imported};
use beit::weights::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

fn segmenter(encoder: &EncoderConfig, depth: usize, taps: [usize; 4]) -> SegmenterConfig {
    let encoder = EncoderConfig { depth, shared_rel_pos_bias: false, ..encoder.clone() };
    let colours = [("sky", [1, 2, 3]), ("tree \"x\"", [250, 0, 7]), ("road", [9, 8, 70])];
    let class = |(name, colour): (&str, [u8; 3])| SegmentClass { name: name.to_owned(), colour };
    let classes = colours.map(class).to_vec();
    let channels = encoder.width;
    SegmenterConfig { encoder, taps, channels, auxiliary: 5, scale: (8, 31), classes }
}

/// On encoders with every way of knowing positions, and one with a shared table.
fn segmenters() -> Vec<SegmenterConfig> {
    let square: Vec<_> = encoders().into_iter().filter(|e| e.grid() == (3, 3)).collect();
    let mut all = Vec::new();
    for encoder in &square {
        // With the last block as a level and without it.
        all.push(segmenter(encoder, 4, [1, 2, 3, 4]));
        all.push(SegmenterConfig { auxiliary: 0, ..segmenter(encoder, 5, [0, 2, 3, 4]) });
        all.push(segmenter(encoder, 5, [0, 1, 2, 3]));
    }
    let shared =
        EncoderConfig { shared_rel_pos_bias: true, rel_pos_bias: false, ..square[0].clone() };
    let mut last = segmenter(&shared, 4, [1, 2, 3, 4]);
    last.encoder.shared_rel_pos_bias = true;
    all.push(last);
    all
}

fn written(sizes: &SegmenterConfig) -> (Model, TempDir) {
    let folder = TempDir::new().unwrap();
    saved(folder.path(), &ModelConfig::Segmenter(sizes.clone()));
    (load_model(folder.path()).unwrap(), folder)
}

/// Fails unless `found` is `own` but for how its encoder was trained.
fn same(own: &Model, found: &Model) {
    assert_eq!(values(own), values(found));
    let [a, b] = [own, found].map(|model| model.sizes::<SegmenterConfig>().unwrap().clone());
    same_encoder(&a.encoder, &b.encoder);
    assert_eq!(SegmenterConfig { encoder: a.encoder.clone(), ..b }, a);
    assert_eq!(own.normalise, found.normalise);
}

#[test]
fn every_segmenter_comes_back_from_transformers() {
    for sizes in segmenters() {
        let (model, _folder) = written(&sizes);
        let (_, theirs, back) = three();
        let lines = export(&model, ExportFormat::HuggingFace, theirs.path()).unwrap();
        let found = load_model(theirs.path()).unwrap();
        same(&model, &found);
        let ignored = &found.origin.as_ref().unwrap().plan.ignored;
        let behind = sizes.taps[3] == sizes.encoder.depth;
        assert_eq!(lines.iter().any(|line| line.contains("a block of zeros")), behind);
        assert_eq!(!ignored.is_empty(), behind);
        let (block, why) = (format!("layer.{}.", sizes.encoder.depth), "a block of zeros behind");
        assert!(ignored.iter().all(|(name, text)| name.contains(&block) && text.starts_with(why)));
        let config = std::fs::read(theirs.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["out_indices"], json!(sizes.taps.map(|tap| tap + 1)));
        let layers = sizes.encoder.depth + usize::from(behind);
        assert_eq!(
            (config["num_hidden_layers"].clone(), layers > sizes.taps[3]),
            (json!(layers), true)
        );
        let file = TensorFile::read(&theirs.path().join("model.safetensors")).unwrap();
        let counts = file.tensors().iter().filter(|(name, _)| name.ends_with("tracked"));
        assert!(counts.clone().all(|(_, t)| t.shape.is_empty() && t.dtype == Some(Dtype::I64)));
        assert_eq!(counts.count(), if sizes.auxiliary > 0 { 14 } else { 13 });
        save_imported(back.path(), &found).unwrap();
        same(&model, &load_model(back.path()).unwrap());
    }
}

/// It has the index of its grid, and a person says where the levels are read and what the classes are called.
#[test]
fn every_segmenter_comes_back_from_the_original() {
    for sizes in segmenters() {
        let (model, _folder) = written(&sizes);
        let (_, theirs, _) = three();
        let found = export(&model, ExportFormat::Unilm, theirs.path());
        if sizes.encoder.layer_norm_eps != 1e-6 || sizes.taps[0] == 0 {
            let text = found.unwrap_err().to_string();
            let words =
                if sizes.taps[0] == 0 { "before its first block" } else { "layer_norm_eps is" };
            assert!(text.contains(words), "{text}");
            continue;
        }
        assert!(found.unwrap()[1].contains("out_indices=[0, 1, 2, 3], channels=10"));
        let file = TensorFile::read_any(&theirs.path().join("model.pth")).unwrap();
        let named = ["backbone.fpn1.0.weight", "backbone.cls_token", "decode_head.conv_seg.bias"];
        assert!(named.iter().all(|name| file.tensors().contains_key(*name)));
        let heads = Some(sizes.encoder.heads);
        let stated = Stated { taps: Some(sizes.taps), heads, ..Stated::default() };
        let found = load_model_as(&theirs.path().join("model.pth"), &stated).unwrap();
        assert_eq!(values(&model), values(&found));
        let own = found.sizes::<SegmenterConfig>().unwrap();
        same_encoder(&sizes.encoder, &own.encoder);
        assert_eq!((own.taps, own.channels, own.auxiliary), (sizes.taps, 10, sizes.auxiliary));
        assert_eq!(own.class_names(), ["0", "1", "2"]);
        let origin = found.origin.unwrap();
        let EncoderConfig { rel_pos_bias, shared_rel_pos_bias, depth, .. } = sizes.encoder;
        let tables = usize::from(rel_pos_bias) * depth + usize::from(shared_rel_pos_bias);
        assert_eq!((origin.project, origin.plan.ignored.len()), (Project::Unilm, tables));
        // Of its own accord it reads them where the original does.
        let stated = Stated { taps: None, ..stated };
        let found = load_model_as(&theirs.path().join("model.pth"), &stated).unwrap();
        let own = found.sizes::<SegmenterConfig>().unwrap();
        assert_eq!(own.taps, SegmenterConfig::original(own.encoder.clone(), Vec::new()).taps);
    }
}

/// Names as wrappers for several devices make them, and a head of ADE20K's size.
#[test]
fn a_wrapped_checkpoint_of_ade20k_has_its_classes() {
    let mut sizes = segmenters()[0].clone();
    sizes.classes = vec![sizes.classes[0].clone(); 150];
    let (model, _folder) = written(&sizes);
    let folder = TempDir::new().unwrap();
    export(&model, ExportFormat::Unilm, folder.path()).unwrap();
    let path = folder.path().join("model.pth");
    let file = TensorFile::read_any(&path).unwrap();
    let reals = |name: &&String| !name.ends_with("index") && !name.ends_with("tracked");
    let names: Vec<&String> = file.tensors().keys().filter(reals).collect();
    let kept: Vec<_> = names.iter().map(|name| file.f32s(name).unwrap()).collect();
    let views: Vec<View> = names
        .iter()
        .zip(&kept)
        .map(|(name, (shape, x))| View::new(format!("module.{name}"), shape, Slice::F32(x)))
        .collect();
    let path = folder.path().join("wrapped.safetensors");
    std::fs::write(&path, encode(&views, &BTreeMap::new())).unwrap();
    let found = load_model(&path).unwrap();
    let own = found.sizes::<SegmenterConfig>().unwrap();
    assert_eq!((own.classes.len(), &*own.classes[0].name), (150, "wall"));
    let plan = found.origin.unwrap().plan;
    assert!(plan.to_string().contains("left at 0 14\n"), "{plan}");
}

#[test]
fn what_has_no_place_elsewhere_is_refused_with_its_number() {
    let sizes = segmenters()[0].clone();
    let refused = |sizes: SegmenterConfig, format| {
        let (model, _folder) = written(&sizes);
        let text = exchange::refuse_export(&model, format).unwrap_err().to_string();
        let folder = TempDir::new().unwrap();
        assert_eq!(export(&model, format, folder.path()).unwrap_err().to_string(), text);
        text
    };
    let hf = |sizes| refused(sizes, ExportFormat::HuggingFace);
    let text = hf(SegmenterConfig { channels: 7, ..sizes.clone() });
    assert!(text.contains("has 7 channels") && text.contains("channels=10"), "{text}");
    let text = hf(SegmenterConfig { taps: [1, 2, 2, 4], ..sizes.clone() });
    assert!(text.contains("at one place, taps [1, 2, 2, 4]"), "{text}");
    let wide = EncoderConfig { image: (6, 9), ..sizes.encoder.clone() };
    let text = hf(SegmenterConfig { encoder: wide, ..sizes.clone() });
    assert!(text.contains("on a grid that is no square, as 2x3"), "{text}");
    for (format, words) in [
        (ExportFormat::Timm, "timm has no segmenters; want --format hf or unilm"),
        (ExportFormat::Onnx, "is a segmenter, which has no ONNX form here: want --format hf or"),
        (ExportFormat::Dalle, "is no tokenizer"),
    ] {
        let (model, _folder) = written(&sizes);
        let text = exchange::refuse_export(&model, format).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}

/// An exported segmenter, and what is said of it with this in its configuration.
fn saying(folder: &Path, key: &str, value: Value) -> Result<Model, String> {
    let path = folder.join("config.json");
    let good = std::fs::read(&path).unwrap();
    let mut fields: Value = serde_json::from_slice(&good).unwrap();
    match value {
        Value::Null => _ = fields.as_object_mut().unwrap().remove(key),
        value => fields[key] = value,
    }
    std::fs::write(&path, fields.to_string()).unwrap();
    let found = load_model(folder).map_err(|e| e.to_string());
    std::fs::write(&path, good).unwrap();
    found
}

#[test]
fn a_configuration_of_a_segmenter_is_held_to_its_tensors() {
    let (model, _folder) = written(&segmenters()[2]);
    let theirs = TempDir::new().unwrap();
    export(&model, ExportFormat::HuggingFace, theirs.path()).unwrap();
    let named = |key: &str, value: Value, words: &str| {
        let text = saying(theirs.path(), key, value).map(drop).unwrap_err();
        assert!(text.contains(words), "{key}: want {words:?} in {text:?}");
    };
    let want = "want four ascending numbers from 1 to num_hidden_layers, 5";
    for wrong in [json!([1, 2, 3]), json!([1, 2, 4, 3]), json!([0, 1, 2, 3]), json!([1, 2, 3, 6])] {
        named("out_indices", wrong, want);
    }
    named("out_indices", Value::Null, "out_indices is missing");
    named("pool_scales", json!([1, 2, 3, 4]), "pool_scales is [1,2,3,4], want [1,2,3,6]");
    named("auxiliary_num_convs", json!(2), "auxiliary_num_convs is 2, want 1");
    named("auxiliary_concat_input", json!(true), "want false");
    named("auxiliary_channels", json!(6), "the model's sizes want [6, 10, 3, 3]");
    named("use_auxiliary_head", json!(false), "auxiliary_head.classifier.bias is none of a model");
    named("palette", json!([[1, 2, 3]]), "want three numbers from 0 to 255 for each class");
    named("palette", json!([[1, 2, 300], [1, 2, 3], [1, 2, 3]]), "three numbers from 0 to 255");
    named("image_scale", json!([9, 8]), "scale (longer side) = 8 is out of range");
    let note = |key: &str, value: Value| {
        let found = saying(theirs.path(), key, value).unwrap();
        (found.sizes::<SegmenterConfig>().unwrap().clone(), found.origin.unwrap().notes.join("\n"))
    };
    let (_, notes) = note("semantic_loss_ignore_index", json!(0));
    assert!(notes.contains("semantic_loss_ignore_index 0: labels that take no part are 255"));
    assert!(!notes.contains("levels of taps"), "{notes}");
    assert!(notes.contains("images are seen through windows here"));
    // Colours and sides that nobody wrote are those of models that have none.
    let (sizes, _) = note("palette", Value::Null);
    assert_eq!(sizes.classes[1].colour, [128, 0, 0]);
    let (sizes, notes) = note("image_scale", Value::Null);
    assert_eq!(sizes.scale, (9, 36));
    // And the levels may be meant as the original counts them.
    assert!(
        notes.contains(
            "levels of taps [0, 1, 2, 3], as transformers reads out_indices [1, 2, 3, 4]"
        )
    );
    assert!(notes.contains("the original would mean [2, 3, 4, 5]: beit import --taps 2,3,4,5"));
    // The original means the outputs of other blocks by the same numbers.
    let stated = Stated { taps: Some([2, 3, 4, 5]), ..Stated::default() };
    let found = load_model_as(theirs.path(), &stated).unwrap();
    assert_eq!(found.sizes::<SegmenterConfig>().unwrap().taps, [2, 3, 4, 5]);
}

/// Older files have another name for the places, no norm that is used, and counts that may be left out or of a wrong
/// type.
#[test]
fn tensors_of_a_segmenter_are_explained() {
    let (model, _folder) = written(&segmenters()[2]);
    let theirs = TempDir::new().unwrap();
    export(&model, ExportFormat::HuggingFace, theirs.path()).unwrap();
    let path = theirs.path().join("model.safetensors");
    let file = TensorFile::read(&path).unwrap();
    let counted = |name: &&String| !name.ends_with("tracked");
    let names: Vec<&String> = file.tensors().keys().filter(counted).collect();
    let kept: Vec<_> = names.iter().map(|name| file.f32s(name).unwrap()).collect();
    let with = |more: &[(&str, Vec<usize>, Vec<f32>)]| {
        let kept = names.iter().zip(&kept).map(|(name, (shape, x))| (name.as_str(), shape, x));
        let more = more.iter().map(|(name, shape, x)| (*name, shape, x));
        let views: Vec<View> = kept
            .chain(more)
            .map(|(name, shape, x)| View::new(name, shape, Slice::F32(x)))
            .collect();
        std::fs::write(&path, encode(&views, &BTreeMap::new())).unwrap();
        load_model(theirs.path()).map_err(|e| e.to_string())
    };
    let norm = ("beit.layernorm.weight", vec![10], vec![1.0; 10]);
    let plan = with(&[norm]).unwrap().origin.unwrap().plan;
    let why = "a norm behind the last block, which no level reads";
    assert_eq!(plan.ignored, [("beit.layernorm.weight".to_owned(), why)]);
    assert_eq!(plan.taken.iter().filter(|taken| taken.from.is_empty()).count(), 14);
    let count = ("fpn1.1.num_batches_tracked", vec![1], vec![3.0]);
    let text = with(&[count]).map(drop).unwrap_err();
    assert!(
        text.contains("fpn1.1.num_batches_tracked has shape [1], want one whole number"),
        "{text}"
    );
    // A block that is not of zeros is one of the model.
    with(&[]).unwrap();
    let text = saying(theirs.path(), "num_hidden_layers", json!(4)).map(drop).unwrap_err();
    assert!(text.contains("is none of a model of this kind"), "{text}");
}
