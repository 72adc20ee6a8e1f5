//! Models of other projects, read and written: every variant there and back, and files that cannot be right.

mod folders;
mod gains;
mod others;
mod segmenters;

use beit::cpu::Cpu;
use beit::data::pixels::Normalise;
use beit::models::config::{BeitConfig, ClassifierConfig, DvaeConfig, EncoderConfig, Pooling};
use beit::models::kind::ModelConfig;
use beit::params::{Params, initial_values};
use beit::weights::exchange::{ExportFormat, export, save_imported};
use beit::weights::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// A model of random numbers, none of them 0 or 1, saved.
fn saved(folder: &Path, config: &ModelConfig) {
    let bk = Cpu::<f32>::new();
    let layout = config.layout(&bk);
    let mut values = initial_values(&layout, 5);
    for (i, value) in values.iter_mut().enumerate() {
        *value += ((i * 37 % 101) as f32 - 50.0) / 400.0;
    }
    // Batches that a norm has followed are counted.
    for param in layout.iter().filter(|param| param.name.ends_with("num_batches_tracked")) {
        values[param.range.start] = 7.0 + param.range.start as f32;
    }
    let w = Params::from_host(&bk, &layout, &values);
    save_weights(&bk, folder, config, Some(Normalise::Imagenet), &w).unwrap();
}

/// Encoders with every way of knowing positions, at sizes of which none is a multiple of another.
fn encoders() -> Vec<EncoderConfig> {
    let base = EncoderConfig { mlp_width: 23, ..EncoderConfig::test().with_width(10) };
    let shared = EncoderConfig { shared_rel_pos_bias: true, ..base };
    let none = EncoderConfig { shared_rel_pos_bias: false, ..shared.clone() };
    let own = EncoderConfig { rel_pos_bias: true, ..none.clone() };
    let abs = EncoderConfig { abs_pos: true, layer_scale: 0.0, layer_norm_eps: 1e-5, ..none };
    let both = EncoderConfig { abs_pos: true, depth: 3, ..shared.clone() };
    let square = [&own, &abs, &both].map(|e| EncoderConfig { image: (9, 9), ..e.clone() });
    [own, abs, shared].into_iter().chain(square).collect()
}

fn encoder_of(config: &ModelConfig) -> &EncoderConfig {
    match config {
        ModelConfig::Classifier(sizes) => &sizes.encoder,
        ModelConfig::Beit(sizes) => &sizes.encoder,
        ModelConfig::Segmenter(sizes) => &sizes.encoder,
        ModelConfig::Encoder(sizes) => sizes,
        ModelConfig::Bert(_) | ModelConfig::Dvae(_) | ModelConfig::Vae(_) => {
            unreachable!("no encoder")
        }
    }
}

fn models() -> Vec<ModelConfig> {
    let mut all: Vec<ModelConfig> =
        encoders().into_iter().map(|e| ModelConfig::Beit(e.with_vocab(13))).collect();
    for (i, encoder) in encoders().into_iter().enumerate() {
        let pooling = if i % 2 == 0 { Pooling::Mean } else { Pooling::Class };
        let classes = ["fig", "lime \"x\"", "plum"].map(str::to_owned).to_vec();
        let sizes = ClassifierConfig { encoder, pooling, head_scale: 0.001, classes };
        all.push(ModelConfig::Classifier(sizes));
    }
    all
}

/// Values by name.
fn values(model: &Model) -> Vec<(String, Vec<f32>)> {
    let names = model.tensors.shapes().into_keys();
    names.map(|name| (name.clone(), model.tensors.f32s(&name).unwrap().1)).collect()
}

/// Fails unless `found` is the same model, as far as its files can say.
fn same(own: &Model, found: &Model) {
    assert_eq!(values(own), values(found));
    match (&own.config, &found.config) {
        (ModelConfig::Beit(a), ModelConfig::Beit(b)) => {
            assert_eq!((a.head, same_encoder(&a.encoder, &b.encoder)), (b.head, ()));
        }
        (ModelConfig::Classifier(a), ModelConfig::Classifier(b)) => {
            same_encoder(&a.encoder, &b.encoder);
            assert_eq!((a.pooling, &a.classes), (b.pooling, &b.classes));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(own.normalise, found.normalise);
}

/// But for how it was trained.
fn same_encoder(a: &EncoderConfig, b: &EncoderConfig) {
    let (layer_scale, drop_path) = (b.layer_scale, b.drop_path);
    assert_eq!(a.layer_scale > 0.0, b.layer_scale > 0.0);
    assert_eq!(EncoderConfig { layer_scale, drop_path, ..a.clone() }, *b);
}

#[test]
fn every_square_comes_back_from_transformers() {
    for config in models() {
        let (own, theirs, back) = three();
        saved(own.path(), &config);
        let model = load_model(own.path()).unwrap();
        let written = export(&model, ExportFormat::HuggingFace, theirs.path());
        if encoder_of(&config).grid() != (3, 3) {
            // Which transformers would misread.
            let text = written.unwrap_err().to_string();
            assert!(text.contains("on a grid that is no square, as 2x3"), "{text}");
            continue;
        }
        written.unwrap();
        let found = load_model(theirs.path()).unwrap();
        same(&model, &found);
        let origin = found.origin.as_ref().unwrap();
        assert_eq!((origin.project, &origin.plan.ignored[..]), (Project::HuggingFace, &[][..]));
        // The file is the model, too, and what is imported is the same model of ours.
        same(&model, &load_model(&theirs.path().join("model.safetensors")).unwrap());
        save_imported(back.path(), &found).unwrap();
        let again = load_model(back.path()).unwrap();
        assert_eq!(again.checksums, Checksums::Fit);
        same(&model, &again);
    }
}

fn three() -> (TempDir, TempDir, TempDir) {
    (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap())
}

#[test]
fn an_import_of_our_own_model_is_the_same_file() {
    for config in models() {
        let (own, back, _) = three();
        saved(own.path(), &config);
        save_imported(back.path(), &load_model(own.path()).unwrap()).unwrap();
        for file in ["model.safetensors", "config.json"] {
            let read = |folder: &TempDir| std::fs::read(folder.path().join(file)).unwrap();
            assert!(read(&own) == read(&back), "{file}");
        }
    }
}

/// timm has one epsilon, no head over tokens, no mask token, and says the size of images in its configuration alone.
#[test]
fn every_variant_comes_back_from_timm() {
    for config in models() {
        let (own, theirs, _) = three();
        saved(own.path(), &config);
        let model = load_model(own.path()).unwrap();
        let eps = encoder_of(&config).layer_norm_eps;
        let written = export(&model, ExportFormat::Timm, theirs.path());
        if eps != 1e-6 {
            let text = written.unwrap_err().to_string();
            assert!(text.contains("layer_norm_eps is 0.00001") && text.contains("--format hf"));
            continue;
        }
        written.unwrap();
        match config {
            ModelConfig::Classifier(_) => {
                let found = load_model(theirs.path()).unwrap();
                assert_eq!(found.origin.as_ref().unwrap().project, Project::Timm);
                same(&model, &found);
            }
            _ => {
                let file = TensorFile::read(&theirs.path().join("model.safetensors")).unwrap();
                let left = ["mask_token", "lm_head.weight", "lm_head.bias"];
                let want: Vec<String> = model
                    .tensors
                    .shapes()
                    .into_keys()
                    .filter(|n| !left.contains(&n.as_str()))
                    .collect();
                assert_eq!(file.tensors().keys().cloned().collect::<Vec<_>>(), want);
                let text = load_model(theirs.path()).unwrap_err().to_string();
                assert!(text.contains("a model without a head"), "{text}");
            }
        }
    }
}

#[test]
fn every_variant_comes_back_from_the_original() {
    for config in models() {
        let (own, theirs, _) = three();
        saved(own.path(), &config);
        let model = load_model(own.path()).unwrap();
        let written = export(&model, ExportFormat::Unilm, theirs.path());
        let encoder = encoder_of(&config);
        if encoder.layer_norm_eps != 1e-6 {
            assert!(written.unwrap_err().to_string().contains("that of the original 0.000001"));
            continue;
        }
        written.unwrap();
        // Its index says which rectangle the images are.
        let found = load_model(&theirs.path().join("model.pth")).unwrap();
        assert_eq!(
            (values(&found), encoder.image),
            (values(&model), encoder_of(&found.config).image)
        );
        let origin = found.origin.unwrap();
        let tables = if encoder.shared_rel_pos_bias { 1 } else { encoder.depth };
        assert_eq!((origin.project, origin.plan.ignored.len()), (Project::Unilm, tables));
    }
}

#[test]
fn a_tokenizer_comes_back_from_its_two_parts() {
    let (own, theirs, _) = three();
    saved(own.path(), &ModelConfig::Dvae(DvaeConfig::test()));
    let model = load_model(own.path()).unwrap();
    export(&model, ExportFormat::Dalle, theirs.path()).unwrap();
    let image = Some(DvaeConfig::test().image);
    let found = load_model_as(theirs.path(), &Stated { image, ..Stated::default() }).unwrap();
    assert_eq!((&found.config, values(&found)), (&model.config, values(&model)));
    // Of its own accord it takes the paper's grid of tokens.
    let sizes = load_model(theirs.path()).unwrap().sizes::<DvaeConfig>().unwrap().clone();
    assert_eq!((sizes.grid(), sizes.factor()), ((14, 14), 4));
    std::fs::remove_file(theirs.path().join("decoder.safetensors")).unwrap();
    for path in [theirs.path().to_path_buf(), theirs.path().join("encoder.safetensors")] {
        let text = load_model(&path).unwrap_err().to_string();
        assert!(text.contains("decoder.blocks.input.w is missing"), "{text}");
    }
}

/// An exported classifier whose files a test changes.
struct Broken {
    folder: TempDir,
    names: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Broken {
    fn new() -> Self {
        let (own, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let test = ClassifierConfig::test();
        let encoder = EncoderConfig { image: (9, 9), ..test.encoder };
        saved(own.path(), &ModelConfig::Classifier(ClassifierConfig { encoder, ..test }));
        export(&load_model(own.path()).unwrap(), ExportFormat::HuggingFace, folder.path()).unwrap();
        let file = TensorFile::read(&folder.path().join("model.safetensors")).unwrap();
        let tensor = |name: &String| {
            let (shape, values) = file.f32s(name).unwrap();
            (name.clone(), shape, values)
        };
        let names = file.tensors().keys().map(tensor).collect();
        Self { folder, names }
    }

    /// What is said of the folder with these tensors besides or instead.
    fn with(&self, name: &str, shape: &[usize], values: &[f32]) -> Result<Model, String> {
        let kept = self.names.iter().filter(|(own, ..)| own != name);
        let mut views: Vec<View> =
            kept.map(|(name, shape, values)| View::new(name, shape, Slice::F32(values))).collect();
        if !shape.is_empty() {
            views.push(View::new(name, shape, Slice::F32(values)));
        }
        self.write(&views);
        load_model(self.folder.path()).map_err(|e| e.to_string())
    }

    fn write(&self, views: &[View]) {
        let path = self.folder.path().join("model.safetensors");
        std::fs::write(path, encode(views, &BTreeMap::new())).unwrap();
    }

    /// What is said of the folder with this in its configuration.
    fn saying(&self, key: &str, value: Value) -> Result<Model, String> {
        let path = self.folder.path().join("config.json");
        let good = std::fs::read(&path).unwrap();
        let mut fields: Value = serde_json::from_slice(&good).unwrap();
        fields[key] = value;
        std::fs::write(&path, fields.to_string()).unwrap();
        let found = load_model(self.folder.path()).map_err(|e| e.to_string());
        std::fs::write(&path, good).unwrap();
        found
    }
}

const LAYER: &str = "beit.encoder.layer.1.attention.attention";

#[test]
fn a_tensor_that_nobody_can_explain_is_an_error() {
    let broken = Broken::new();
    let named = |found: Result<Model, String>, words: &str| {
        let text = found.map(drop).unwrap_err();
        assert!(text.contains(words), "want {words:?} in {text:?}");
    };
    named(broken.with("beit.extra", &[1], &[0.0]), "tensor beit.extra is none of a model");
    named(
        broken.with("beit.encoder.layer.1.lambda_2", &[], &[]),
        "lambda_2 (blocks.1.gamma_2) is missing",
    );
    named(broken.with("classifier.bias", &[], &[]), "classifier.bias (head.bias) is missing");
    named(
        broken.with("classifier.bias", &[4], &[0.0; 4]),
        "has shape [4], the model's sizes want [3]",
    );
    let key = format!("{LAYER}.key.bias");
    named(
        broken.with(&key, &[8], &[0.0, 0.0, 0.0, 1e-9, 0.0, 0.0, 0.0, 0.0]),
        "has no bias of keys",
    );
    let model = broken.with(&key, &[8], &[0.0; 8]).unwrap();
    let ignored = &model.origin.unwrap().plan.ignored;
    assert_eq!(ignored[..], [(key, "a bias of keys, all zero")]);
    named(
        broken
            .with("beit.embeddings.mask_token", &[1, 1, 8], &[f32::NAN; 8])
            .map(|m| {
                assert_eq!(m.origin.unwrap().plan.ignored[0].1, "nothing is masked");
            })
            .map_or_else(Err, |()| Err("left out".to_owned())),
        "left out",
    );
    let index = format!("{LAYER}.relative_position_bias.relative_position_index");
    named(broken.with(&index, &[10, 10], &[0.0; 100]), "is not the index of its grid");
    named(broken.with("decode_head.classifier.weight", &[1], &[0.0]), "out_indices is missing");
    named(broken.with("classifier.weight", &[], &[]), "a model without a head");
}

#[test]
fn what_a_configuration_says_is_held_to_its_tensors() {
    let broken = Broken::new();
    let named = |key: &str, value: Value, words: &str| {
        let text = broken.saying(key, value).map(drop).unwrap_err();
        assert!(text.contains(words), "{key}: want {words:?} in {text:?}");
    };
    named("model_type", json!("vit"), "model_type is \"vit\", want beit");
    named("hidden_act", json!("relu"), "hidden_act is \"relu\", want gelu");
    named("hidden_size", json!(-8), "hidden_size is -8, want a whole number");
    named("hidden_size", json!(1u64 << 40), "width = 1099511627776 is out of range");
    named("num_hidden_layers", json!(3), "beit.encoder.layer.2");
    named("num_hidden_layers", json!(1), "is none of a model of this kind");
    named("num_attention_heads", json!(4), "has shape [28, 2], the model's sizes want [28, 4]");
    named("image_size", json!([6, 9]), "the model's sizes want [18, 2]");
    named("image_size", json!([6, 9, 3]), "image_size is [6,9,3], want a whole number or two");
    named("patch_size", json!([3, 6]), "want square patches");
    named("use_mean_pooling", json!(false), "use_mean_pooling is false, want true where");
    named("use_mean_pooling", json!("yes"), "want true or false");
    named("id2label", json!({"0": "a", "2": "b"}), "id2label lacks 1");
    named("id2label", json!({"0": "a", "1": "b"}), "the model's sizes want [2, 8]");
    named("layer_norm_eps", json!(1.0), "layer_norm_eps = 1 is out of range");
    named("layer_scale_init_value", json!(0), "lambda_1 is none of a model");
    // Absent, it is not that of the original.
    let model = broken.saying("layer_norm_eps", Value::Null).unwrap();
    assert_eq!(model.sizes::<ClassifierConfig>().unwrap().encoder.layer_norm_eps, 1e-12);
    for (preprocessor, words) in [
        (
            r#"{"image_mean":[0.1,0.2,0.3],"image_std":[1,1,1]}"#,
            "image_mean is [0.1,0.2,0.3], want",
        ),
        (r#"{"do_normalize":false}"#, "do_normalize is false, want true"),
        (r#"{"do_rescale":false}"#, "do_rescale is false, want true"),
        (r#"{"rescale_factor":0.00784}"#, "rescale_factor is 0.00784, want 1/255"),
    ] {
        let path = broken.folder.path().join("preprocessor_config.json");
        std::fs::write(&path, preprocessor).unwrap();
        let text = load_model(broken.folder.path()).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
        let normalise = Some(Normalise::Imagenet);
        let stated = Stated { normalise, ..Stated::default() };
        assert_eq!(load_model_as(broken.folder.path(), &stated).unwrap().normalise, normalise);
    }
    for stated in [
        Stated { heads: Some(4), ..Stated::default() },
        Stated { image: Some((9, 12)), ..Stated::default() },
    ] {
        let text = load_model_as(broken.folder.path(), &stated).unwrap_err().to_string();
        assert!(text.contains("leave out --image-size and --heads"), "{text}");
    }
}

#[test]
fn an_index_leads_to_files_beside_it_alone() {
    let broken = Broken::new();
    let folder = broken.folder.path();
    let mut halves: [Vec<View>; 2] = [Vec::new(), Vec::new()];
    for (i, (name, shape, values)) in broken.names.iter().enumerate() {
        halves[i % 2].push(View::new(name, shape, Slice::F32(values)));
    }
    let whole = load_model(folder).unwrap();
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    let mut map = BTreeMap::new();
    for (views, file) in halves.iter().zip(["a.safetensors", "b.safetensors"]) {
        std::fs::write(folder.join(file), encode(views, &BTreeMap::new())).unwrap();
        map.extend(views.iter().map(|view| (view.name.clone(), file.to_owned())));
    }
    let index = folder.join("model.safetensors.index.json");
    let said = |map: &BTreeMap<String, String>| {
        std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        load_model(folder).map_err(|e| e.to_string())
    };
    same(&whole, &said(&map).unwrap());
    same(&whole, &load_model(&index).unwrap());
    for (file, words) in [
        ("../a.safetensors", "is not a file beside the index"),
        ("/etc/passwd", "is not a file beside the index"),
        ("..", "is not a file beside the index"),
        ("", "is not a file beside the index"),
        ("b.safetensors", "does not fit: only"),
        ("c.safetensors", "a.safetensors does not fit: only it has"),
    ] {
        let mut wrong = map.clone();
        wrong.insert(broken.names[0].0.clone(), file.to_owned());
        let text = said(&wrong).map(drop).unwrap_err();
        assert!(text.contains(words), "{file}: {text}");
    }
    std::fs::write(&index, "{}").unwrap();
    assert!(load_model(folder).unwrap_err().to_string().contains("has no weight_map"));
}

/// What the original's files do not say is asked for, or said by a person.
#[test]
fn sizes_are_read_off_the_shapes_as_far_as_they_go() {
    let folder = TempDir::new().unwrap();
    let write = |config: &ModelConfig| {
        let own = TempDir::new().unwrap();
        saved(own.path(), config);
        let path = folder.path().join("weights.safetensors");
        std::fs::copy(own.path().join("model.safetensors"), &path).unwrap();
        path
    };
    let [own, abs, shared, _, _, square] = &encoders()[..] else { panic!() };
    let read = |encoder: &EncoderConfig, stated: Stated| {
        let path = write(&ModelConfig::Beit(encoder.clone().with_vocab(13)));
        let model = load_model_as(&path, &stated).map_err(|e| e.to_string())?;
        Ok::<_, String>(model.sizes::<BeitConfig>().unwrap().encoder.clone())
    };
    let image = |image| Stated { image: Some(image), ..Stated::default() };
    assert_eq!(read(square, Stated::default()).unwrap().image, (9, 9));
    for encoder in [own, shared] {
        // 2 x 3 patches or 3 x 2: the table is as large.
        let text = read(encoder, Stated::default()).unwrap_err();
        assert!(text.contains("give --image-size H,W"), "{text}");
        assert_eq!(read(encoder, image((6, 9))).unwrap().image, (6, 9));
        assert_eq!(read(encoder, image((9, 6))).unwrap().image, (9, 6));
        let text = read(encoder, image((9, 9))).unwrap_err();
        assert!(text.contains("the model's sizes want"), "{text}");
    }
    let text = read(abs, image((6, 9))).unwrap_err();
    assert!(text.contains("beit import --heads N"), "{text}");
    let heads = |heads| Stated { heads: Some(heads), ..image((6, 9)) };
    assert_eq!(read(abs, heads(5)).unwrap().heads, 5);
    // A width of 64 and more is no reason to know.
    let wide = EncoderConfig { layer_norm_eps: 1e-6, ..abs.clone().with_width(128) };
    assert!(read(&wide, image((6, 9))).unwrap_err().contains("beit import --heads N"));
    // What the file says is not said again otherwise.
    assert!(read(own, heads(5)).unwrap_err().contains("has 2 heads"));
    assert!(read(own, image((6, 10))).unwrap_err().contains("is no multiple of"));
}

/// One entry of it exchanged for another.
#[test]
fn an_index_of_another_grid_is_refused() {
    let (own, theirs, _) = three();
    let encoder = EncoderConfig { image: (9, 9), ..EncoderConfig::test() };
    saved(own.path(), &ModelConfig::Beit(encoder.with_vocab(13)));
    export(&load_model(own.path()).unwrap(), ExportFormat::Unilm, theirs.path()).unwrap();
    let file = TensorFile::read_any(&theirs.path().join("model.pth")).unwrap();
    let path = theirs.path().join("other.pth");
    let stated = Stated { image: Some((9, 9)), ..Stated::default() };
    for wrong in [false, true] {
        let mut bytes = Vec::new();
        let named: Vec<_> = file.tensors().iter().collect();
        let tensors = named.iter().map(|(name, info)| PthTensor {
            name,
            shape: &info.shape,
            dtype: info.dtype.unwrap(),
        });
        write_pth(&mut bytes, "model", &tensors.collect::<Vec<_>>(), |i, to| match named[i] {
            (name, info) if info.dtype == Some(Dtype::I64) => {
                let mut index = file.i64s(name).unwrap().1;
                index[13] += i64::from(wrong);
                index.iter().try_for_each(|value| to.write_all(&value.to_le_bytes()))
            }
            (name, _) => {
                let values = file.f32s(name).unwrap().1;
                values.iter().try_for_each(|value| to.write_all(&value.to_le_bytes()))
            }
        })
        .unwrap();
        std::fs::write(&path, bytes).unwrap();
        match load_model_as(&path, &stated) {
            Ok(_) => assert!(!wrong),
            Err(e) => {
                assert!(wrong && e.to_string().contains("is not the index of its grid"), "{e}")
            }
        }
    }
}

/// What transformers makes of a table on a grid of 1 x 5, whose plane of offsets is 1 x 9: it takes it for 9 x 1, and
/// of nine rows made one the middle one is left.
#[test]
fn a_table_of_a_rectangle_is_read_as_transformers_computes_it() {
    let (own, theirs, _) = three();
    let test = EncoderConfig { shared_rel_pos_bias: true, ..EncoderConfig::test() };
    // The table of 2 x 2 patches has as many rows.
    let square = EncoderConfig { image: (6, 6), ..test };
    saved(own.path(), &ModelConfig::Beit(square.with_vocab(13)));
    let model = load_model(own.path()).unwrap();
    export(&model, ExportFormat::HuggingFace, theirs.path()).unwrap();
    let path = theirs.path().join("config.json");
    let mut fields: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    fields["image_size"] = json!([3, 15]);
    std::fs::write(&path, fields.to_string()).unwrap();
    let found = load_model(theirs.path()).unwrap();
    let name = "rel_pos_bias.relative_position_bias_table";
    let table = |model: &Model| model.tensors.f32s(name).unwrap();
    let ((shape, there), (_, here)) = (table(&model), table(&found));
    assert_eq!(shape, [12, 2]);
    let middle: Vec<f32> = (0..9).flat_map(|_| there[8..10].to_vec()).collect();
    assert_eq!(here, [&middle[..], &there[18..]].concat());
    let resized = found.origin.unwrap().plan.taken.into_iter().filter(|t| t.regrid.is_some());
    assert_eq!(resized.map(|taken| taken.own).collect::<Vec<_>>(), [name]);
}

/// A checkpoint is what it is, whatever lies beside it, and says which of its dicts was read.
#[test]
fn a_checkpoint_lies_beside_anything() {
    let (own, theirs, _) = three();
    let encoder = EncoderConfig { image: (9, 9), ..EncoderConfig::test() };
    saved(own.path(), &ModelConfig::Beit(encoder.with_vocab(13)));
    let model = load_model(own.path()).unwrap();
    export(&model, ExportFormat::Unilm, theirs.path()).unwrap();
    let path = theirs.path().join("model.pth");
    let own_config = std::fs::read(own.path().join("config.json")).unwrap();
    let all: [&[u8]; 5] = [b"{}", b"{\"lr\": 0.1}", b"{\"model_type\": \"vit\"}", &own_config, b""];
    for config in all {
        if !config.is_empty() {
            std::fs::write(theirs.path().join("config.json"), config).unwrap();
        }
        let found = load_model(&path).unwrap();
        assert_eq!(values(&found), values(&model));
        let notes = found.origin.unwrap().notes.join("\n");
        assert!(notes.contains("tensors under the key model"), "{notes}");
        assert!(!notes.contains("a square"), "its index leaves no doubt: {notes}");
    }
}

/// timm has other models under nearly the same names.
#[test]
fn an_architecture_of_another_name_is_refused() {
    let (own, theirs, _) = three();
    saved(own.path(), &ModelConfig::Classifier(ClassifierConfig::test()));
    export(&load_model(own.path()).unwrap(), ExportFormat::Timm, theirs.path()).unwrap();
    let path = theirs.path().join("config.json");
    let fields: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let said = |key: &str, inner: &str, value: Value| {
        let mut fields = fields.clone();
        match inner {
            "" => fields[key] = value,
            inner => fields[key][inner] = value,
        }
        std::fs::write(&path, fields.to_string()).unwrap();
        load_model(theirs.path()).map(drop).unwrap_err().to_string()
    };
    let text = said("architecture", "", json!("eva_giant_patch14_224"));
    assert!(
        text.contains("architecture is \"eva_giant_patch14_224\", want one that begins"),
        "{text}"
    );
    let text = said("pretrained_cfg", "label_names", json!(["one"]));
    assert!(text.contains("label_names has 1 names, the head 3 classes"), "{text}");
}
