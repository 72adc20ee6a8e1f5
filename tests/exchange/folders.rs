//! Folders of which it is not plain what in them is the model.

use super::{encoders, saved, values};
use beit::models::config::{ClassifierConfig, DvaeConfig};
use beit::models::kind::ModelConfig;
use beit::weights::exchange::{ExportFormat, export};
use beit::weights::{Model, load_model};
use std::path::Path;
use tempfile::TempDir;

/// A masked model of a square, exported.
fn exported(format: ExportFormat) -> (Model, TempDir) {
    let (own, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    saved(own.path(), &ModelConfig::Beit(encoders()[3].clone().with_vocab(13)));
    let model = load_model(own.path()).unwrap();
    export(&model, format, theirs.path()).unwrap();
    // It stays open, whatever becomes of its folder.
    (model, theirs)
}

fn refused(path: &Path) -> String {
    load_model(path).map(drop).unwrap_err().to_string()
}

fn notes(model: Model) -> String {
    model.origin.unwrap().notes.join("\n")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// What a training of the original leaves: settings and logs beside the one checkpoint.
#[test]
fn the_only_model_among_other_files_is_taken() {
    let (model, folder) = exported(ExportFormat::Unilm);
    let at = |name: &str| folder.path().join(name);
    let found = load_model(folder.path()).unwrap();
    assert_eq!(values(&found), values(&model));
    assert!(!notes(found).contains("among"));
    std::fs::write(at("log.txt"), "epoch 1").unwrap();
    std::fs::write(at("training_args.bin"), b"\x80\x04\x95 no checkpoint").unwrap();
    let dict = std::fs::read(crate::fixtures::fixture("15_weights/odd_tensors.pth")).unwrap();
    std::fs::write(at("optimizer.pt"), dict).unwrap();
    let found = load_model(folder.path()).unwrap();
    assert_eq!(values(&found), values(&model));
    let notes = notes(found);
    assert!(notes.contains("model.pth, the only model among 3 files"), "{notes}");

    std::fs::copy(at("model.pth"), at("checkpoint-7.pth")).unwrap();
    let text = refused(folder.path());
    assert!(text.contains("several models: give one of checkpoint-7.pth, model.pth"), "{text}");
    std::fs::remove_file(at("model.pth")).unwrap();
    std::fs::remove_file(at("checkpoint-7.pth")).unwrap();
    let text = refused(folder.path());
    assert!(
        text.contains("no model of a kind that is known here in optimizer.pt, training_args.bin"),
        "{text}"
    );
    assert!(text.contains("is a pickle that torch.save did not write"), "{text}");
    std::fs::remove_file(at("training_args.bin")).unwrap();
    std::fs::remove_file(at("optimizer.pt")).unwrap();
    assert!(refused(folder.path()).contains("holds no model.safetensors"));
}

/// One part that cannot be read is not one that is missing.
#[test]
fn a_damaged_part_of_a_tokenizer_is_named() {
    let (own, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    saved(own.path(), &ModelConfig::Dvae(DvaeConfig::test()));
    export(&load_model(own.path()).unwrap(), ExportFormat::Dalle, theirs.path()).unwrap();
    std::fs::write(theirs.path().join("decoder.safetensors"), b"").unwrap();
    let text = refused(theirs.path());
    assert!(text.contains("decoder.safetensors: ") && text.contains("it is empty"), "{text}");
}

#[test]
fn a_folder_of_transformers_says_which_files_it_has() {
    let (_, folder) = exported(ExportFormat::HuggingFace);
    let at = |name: &str| folder.path().join(name);
    std::fs::rename(at("model.safetensors"), at("beit.safetensors")).unwrap();
    let text = refused(folder.path());
    assert!(text.contains("none of model.safetensors,"), "{text}");
    assert!(text.contains("; if it is beit.safetensors, give the file"), "{text}");
    load_model(&at("beit.safetensors")).unwrap();
}

/// A cache of the hub: the snapshot is a folder of links into another one.
#[test]
fn the_snapshot_of_a_cache_is_taken_where_there_is_no_doubt() {
    let (model, theirs) = exported(ExportFormat::HuggingFace);
    let hub = TempDir::new().unwrap();
    let cache = hub.path().join("models--microsoft--beit-base");
    std::fs::create_dir_all(cache.join("snapshots")).unwrap();
    let text = refused(&cache);
    assert!(text.contains("without a snapshot: download the model again"), "{text}");
    let [one, two] = ["ae8a1c", "0f31b2"].map(|commit| cache.join("snapshots").join(commit));
    copy(theirs.path(), &one);
    let found = load_model(&cache).unwrap();
    assert_eq!(values(&found), values(&model));
    assert!(notes(found).contains("snapshot ae8a1c, the only one"));

    copy(theirs.path(), &two);
    let text = refused(&cache);
    assert!(text.contains("several snapshots: give one of 0f31b2, ae8a1c"), "{text}");
    std::fs::create_dir(cache.join("refs")).unwrap();
    for (main, works) in [("0f31b2\n", true), ("", false), ("..", false), ("gone", false)] {
        std::fs::write(cache.join("refs/main"), main).unwrap();
        match load_model(&cache) {
            Ok(found) => assert!(works && notes(found).contains("snapshot 0f31b2, of refs/main")),
            Err(e) => assert!(!works && e.to_string().contains("several snapshots"), "{main}: {e}"),
        }
    }
    let text = refused(hub.path());
    assert!(
        text.contains(
            "a cache of models of Hugging Face: give one of models--microsoft--beit-base"
        ),
        "{text}"
    );
}

/// Whose a model is, is decided in one place, and a checkpoint is none of its neighbour's.
#[test]
fn a_broken_configuration_is_that_of_the_weights_beside_it() {
    let (model, folder) = exported(ExportFormat::Unilm);
    let config = folder.path().join("config.json");
    std::fs::write(&config, "{").unwrap();
    let found = load_model(&folder.path().join("model.pth")).unwrap();
    assert_eq!(values(&found), values(&model));
    let own = TempDir::new().unwrap();
    saved(own.path(), &ModelConfig::Classifier(ClassifierConfig::test()));
    std::fs::write(own.path().join("config.json"), "{").unwrap();
    for path in [own.path().to_path_buf(), own.path().join("model.safetensors")] {
        assert!(refused(&path).contains("config.json"));
    }
}
