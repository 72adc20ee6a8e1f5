//! Models and checkpoints on disks that flip bits, and models of other versions of this program.

use beit::cpu::Cpu;
use beit::data::pixels::Normalise;
use beit::models::config::{BeitConfig, DvaeConfig, EncoderConfig};
use beit::models::kind::ModelConfig;
use beit::run::{load_newest, write_checkpoint};
use beit::weights::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A model of a handful of values, saved.
fn saved() -> (TempDir, PathBuf, PathBuf) {
    let folder = TempDir::new().unwrap();
    let sizes = EncoderConfig {
        image: (1, 1),
        patch: 1,
        depth: 1,
        heads: 1,
        ..EncoderConfig::test().with_width(1)
    }
    .with_vocab(2);
    let values: Vec<f32> = (0..sizes.parameters()).map(|i| 0.5 + i as f32).collect();
    let (a, b) = values.split_at(5);
    let tensors =
        [View::new("b", &[b.len()], Slice::F32(b)), View::new("a.w", &[5, 1], Slice::F32(a))];
    save_model(folder.path(), &ModelConfig::Beit(sizes), None, &tensors).unwrap();
    let at = |name| folder.path().join(name);
    let (weights, config) = (at("model.safetensors"), at("config.json"));
    (folder, weights, config)
}

/// What becomes of `read` for each bit of the file that is flipped: the bit's number and the result.
fn flipped<T>(path: &Path, read: impl Fn() -> T) -> Vec<(usize, T)> {
    let good = std::fs::read(path).unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    let results = (0..good.len() * 8).map(|bit| {
        put(bit / 8, good[bit / 8] ^ 1 << (bit % 8));
        let result = read();
        put(bit / 8, good[bit / 8]);
        (bit, result)
    });
    results.collect()
}

#[test]
fn no_flipped_bit_of_the_weights_passes() {
    let (folder, weights, _) = saved();
    assert_eq!(load_model(folder.path()).unwrap().checksums, Checksums::Fit);
    let length = std::fs::metadata(&weights).unwrap().len() as usize;
    let file = TensorFile::read(&weights).unwrap();
    let first = length - file.tensors().values().map(|t| 4 * t.elements()).sum::<usize>();
    for (bit, result) in flipped(&weights, || load_model(folder.path()).map(drop)) {
        let text = result.expect_err(&format!("bit {bit} of {length} bytes")).to_string();
        assert!(text.contains("model.safetensors: "), "bit {bit}: {text}");
        let tensor = match bit / 8 {
            byte if byte < first => continue,
            byte if byte < first + 20 => "tensor a.w does not fit",
            _ => "tensor b does not fit",
        };
        assert!(text.contains(tensor), "bit {bit}: {text}");
    }
}

#[test]
fn no_flipped_bit_of_the_configuration_passes() {
    let (folder, _, config) = saved();
    let good = load_model(folder.path()).unwrap().config;
    let text = std::fs::read_to_string(&config).unwrap();
    // 1e-6 may as well be written 1E-6: the one bit without a meaning.
    let meaningless = 8 * (text.find("1e-6").unwrap() + 1) + 5;
    for (bit, result) in flipped(&config, || load_model(folder.path())) {
        match result {
            Err(e) => {
                let text = e.to_string();
                assert!(text.contains("config.json") && bit != meaningless, "bit {bit}: {text}");
            }
            Ok(model) => assert_eq!((bit, model.config), (meaningless, good.clone())),
        }
    }
}

#[test]
fn no_flipped_bit_of_a_checkpoint_passes() {
    let folder = TempDir::new().unwrap();
    let tensors = [
        View::new("a", &[2], Slice::F32(&[1.0, 2.0])),
        View::new("n", &[1], Slice::U32(&[7])),
        View::new("m", &[1, 2], Slice::U8(&[0, 1])),
    ];
    write_checkpoint(folder.path(), 3, &serde_json::json!({ "epoch": 1 }), &tensors).unwrap();
    let path = folder.path().join("step-0000000003.safetensors");
    for (bit, result) in flipped(&path, || load_newest(folder.path(), drop).map(drop)) {
        let text = result.expect_err(&format!("bit {bit}")).to_string();
        assert!(text.contains("step-0000000003.safetensors: "), "bit {bit}: {text}");
    }
}

#[test]
fn an_edit_of_the_configuration_is_named_and_can_be_meant() {
    let (folder, _, config) = saved();
    let text = std::fs::read_to_string(&config).unwrap();
    let compact: serde_json::Value = serde_json::from_str(&text).unwrap();
    std::fs::write(&config, compact.to_string()).unwrap();
    assert_eq!(load_model(folder.path()).unwrap().checksums, Checksums::Fit, "spacing is free");
    let edited = text.replace("\"drop_path\": 0.1", "\"drop_path\": 0.2");
    std::fs::write(&config, &edited).unwrap();
    let refusal = load_model(folder.path()).unwrap_err().to_string();
    assert!(refusal.ends_with("if the edit is meant, add \"edited\": true to it"), "{refusal}");
    std::fs::write(&config, edited.replacen('{', "{\"edited\": true,", 1)).unwrap();
    let model = load_model(folder.path()).unwrap();
    assert_eq!(model.checksums, Checksums::Edited);
    assert_eq!(model.sizes::<BeitConfig>().unwrap().encoder.drop_path, 0.2);
}

#[test]
fn files_without_checksums_are_read_and_say_so() {
    let (folder, weights, _) = saved();
    let file = TensorFile::read(&weights).unwrap();
    assert!(file.verified());
    let read: Vec<_> =
        file.tensors().keys().map(|name| (name.clone(), file.f32s(name).unwrap())).collect();
    let views: Vec<View> = read
        .iter()
        .map(|(name, (shape, values))| View::new(name.as_str(), shape, Slice::F32(values)))
        .collect();
    for metadata in [BTreeMap::new(), BTreeMap::from([("format".to_owned(), "pt".to_owned())])] {
        std::fs::write(&weights, encode(&views, &metadata)).unwrap();
        let model = load_model(folder.path()).unwrap();
        assert_eq!(model.checksums.to_string(), "no checksum");
        let b = read.iter().find(|(name, _)| name == "b").unwrap();
        assert_eq!(model.tensors.f32s("b").unwrap(), b.1);
    }
    // Another program's reader passes the sums by.
    save_model(folder.path(), &load_model(folder.path()).unwrap().config, None, &views).unwrap();
    let bytes = std::fs::read(&weights).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("a.w").unwrap().shape(), [5, 1]);
}

/// The models of `fixtures/versions`, each read as the version that wrote it meant it.
#[test]
fn models_of_every_version_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/versions");
    let mut versions: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
    versions.retain(|entry| entry.path().is_dir());
    assert_eq!(versions.len(), 2, "a folder for each version");
    for version in versions {
        let version = version.file_name().into_string().unwrap();
        let at = |kind: &str| load_model(&folder.join(&version).join(kind)).unwrap();
        let (beit, dvae) = (at("beit"), at("dvae"));
        let sizes = beit.sizes::<BeitConfig>().unwrap();
        let wanted = EncoderConfig {
            image: (2, 2),
            patch: 1,
            depth: 1,
            heads: 1,
            ..EncoderConfig::base_patch16_224().with_width(8)
        }
        .with_vocab(2);
        assert_eq!((sizes, beit.normalise), (&wanted, Some(Normalise::Half)), "{version}");
        assert_eq!((sizes.encoder.mlp_width, sizes.parameters()), (32, 974));
        let dvae_sizes = dvae.sizes::<DvaeConfig>().unwrap();
        assert_eq!((dvae_sizes.width, dvae_sizes.vocab, dvae_sizes.image), (4, 2, (2, 2)));
        for model in [&beit, &dvae] {
            let has_sums = version != "1";
            assert_eq!(model.checksums == Checksums::Fit, has_sums, "{version}");
            assert_eq!(model.left_out, [""; 0]);
            let bk = Cpu::<f32>::new();
            load_weights(&bk, model, &model.config.layout(&bk)).unwrap();
        }
    }
}

#[test]
fn what_a_newer_version_added_is_named_and_left_out() {
    let (folder, weights, config) = saved();
    let good = load_model(folder.path()).unwrap();
    let newer = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&config, text.replacen(from, to, 1)).unwrap();
    };
    let file = TensorFile::read(&weights).unwrap();
    let (a, b) = (file.f32s("a.w").unwrap().1, file.f32s("b").unwrap().1);
    let views =
        [View::new("a.w", &[5, 1], Slice::F32(&a)), View::new("b", &[b.len()], Slice::F32(&b))];
    let metadata = [("format", "pt"), ("beit_version", "9"), ("beit_colour", "red")];
    let metadata = metadata.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
    std::fs::write(&weights, encode(&views, &metadata)).unwrap();
    newer("\"version\": 2", "\"version\": 9, \"registers\": 4, \"gate\": {\"a\": []}");
    let model = load_model(folder.path()).unwrap();
    assert_eq!(model.left_out, ["registers", "gate", "beit_colour"]);
    assert_eq!(model.config, good.config);
    newer("\"heads\"", "\"attention_heads\"");
    let text = load_model(folder.path()).unwrap_err().to_string();
    assert!(text.contains("version 9 of these files, this program knows 2"), "{text}");
    assert!(text.contains("missing field `heads`"), "{text}");
    newer("\"version\": 9", "\"version\": 2");
    let text = load_model(folder.path()).unwrap_err().to_string();
    assert!(text.contains("unknown field `registers`"), "{text}");
}
