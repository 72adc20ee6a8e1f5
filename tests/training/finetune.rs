//! Fine-tuning: what a run starts from, what it leaves alone, and where it ends.

use beit::config::{FinetuneRun, Freeze, Preset, RunConfig};
use beit::cpu::Cpu;
use beit::data::pixels::Normalise;
use beit::models::beit::MaskedImageModel;
use beit::models::config::EncoderConfig;
use beit::models::kind::ModelConfig;
use beit::params::{Params, initial_values};
use beit::run::Begin;
use beit::train::driver::train;
use beit::train::finetune::{ClassSample, Finetuning};
use beit::train::length::Length;
use beit::train::task::{At, Task};
use beit::weights::{TensorFile, load_model, save_weights};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

type Bk = Cpu<f32>;

/// A small encoder with everything random, as pretraining saves it.
fn encoder(out: &Path) {
    let bk = Bk::new();
    let sizes = EncoderConfig { image: (12, 12), depth: 3, ..EncoderConfig::test().with_width(16) };
    let sizes = sizes.with_vocab(11);
    let model = MaskedImageModel::new(&bk, &sizes);
    let random = initial_values(&model.layout, 4).into_iter().map(|x| x + 0.01).collect::<Vec<_>>();
    let w = Params::from_host(&bk, &model.layout, &random);
    save_weights(&bk, out, &ModelConfig::Beit(sizes), Some(Normalise::Half), &w).unwrap();
}

fn config(model: &Path, images: &str) -> FinetuneRun {
    let mut config = FinetuneRun::preset(Preset::Tiny);
    config.downstream.model = model.to_str().unwrap().to_owned();
    (config.common.batch, config.common.lr) = (8, 1e-2);
    let recipe = &mut config.recipe;
    (recipe.data, recipe.val, recipe.steps) = (images.to_owned(), "none".into(), 3);
    (recipe.log_every, recipe.warmup_steps) = (1, 0);
    config.validate().unwrap();
    config
}

fn run(config: &FinetuneRun, out: &Path) {
    let begin = Begin { resume: false, allow: Vec::new() };
    train::<_, Finetuning<_>>(&Bk::new(), config, out, &begin).unwrap().expect("a new run");
}

fn tensors(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let file = TensorFile::read(&folder.join("model.safetensors")).unwrap();
    let names: Vec<String> = file.tensors().keys().cloned().collect();
    names.into_iter().map(|name| (name.clone(), file.f32s(&name).unwrap().1)).collect()
}

fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

/// Folders of one colour each under the names of classes.
fn photos(folder: &Path, classes: &[&str]) {
    for (k, class) in classes.iter().enumerate() {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..8u8 {
            let colour = image::Rgb([60 * k as u8, 20 * i, 99]);
            let path = folder.join(format!("{i}.png"));
            image::RgbImage::from_pixel(14, 10, colour).save(path).unwrap();
        }
    }
}

#[test]
fn the_first_loss_is_the_logarithm_of_the_number_of_classes() {
    let folder = TempDir::new().unwrap();
    encoder(folder.path());
    let out = folder.path().join("run");
    run(&config(folder.path(), "synthetic:32"), &out);
    let first = losses(&out)[0];
    assert!((first / 10f64.ln() - 1.0).abs() < 0.01, "{first}");
}

#[test]
fn a_frozen_encoder_stays_as_it_is() {
    let folder = TempDir::new().unwrap();
    encoder(folder.path());
    let before = tensors(folder.path());
    for (freeze, moves) in [(Freeze::Encoder, false), (Freeze::None, true)] {
        let out = folder.path().join(freeze.word());
        let config = FinetuneRun { freeze, ..config(folder.path(), "synthetic:32") };
        run(&config, &out);
        for (name, after) in tensors(&out) {
            let table = before.get("rel_pos_bias.relative_position_bias_table");
            let own = name.ends_with("relative_position_bias_table");
            match if own { table } else { before.get(&name) } {
                Some(before) => assert_eq!(*before != after, moves, "{freeze}: {name}"),
                None => {
                    assert!(name.starts_with("fc_norm.") || name.starts_with("head."), "{name}")
                }
            }
        }
    }
}

/// Each layer learns more slowly than the one above it.
#[test]
fn learning_rates_fall_from_layer_to_layer() {
    let folder = TempDir::new().unwrap();
    encoder(folder.path());
    let mut config = config(folder.path(), "synthetic:32");
    config.downstream.layer_decay = 0.75;
    let task = Finetuning::new(&Bk::new(), &config).unwrap();
    for (name, power) in [
        ("head.weight", 0),
        ("fc_norm.bias", 0),
        ("blocks.2.mlp.fc1.weight", 1),
        ("blocks.0.attn.relative_position_bias_table", 3),
        ("cls_token", 4),
        ("patch_embed.proj.weight", 4),
    ] {
        let scale = Task::<Bk>::lr_scale(&task, name);
        assert!((scale - 0.75f64.powi(power)).abs() < 1e-12, "{name}: {scale}");
    }
}

#[test]
fn a_classifier_goes_on_with_its_head_or_with_another() {
    let folder = TempDir::new().unwrap();
    encoder(folder.path());
    let at = |name: &str| folder.path().join(name);
    photos(&at("fruit"), &["fig", "lime"]);
    photos(&at("birds"), &["owl", "kiwi"]);
    let source = |name: &str| at(name).to_str().unwrap().to_owned();
    run(&config(folder.path(), &source("fruit")), &at("first"));
    let first = tensors(&at("first"));
    // With next to no learning rate, a run ends where it began.
    let still = |from: &str, images: &str| {
        let mut config = config(&at(from), &source(images));
        (config.common.lr, config.recipe.min_lr) = (1e-12, 0.0);
        config
    };
    run(&still("first", "fruit"), &at("same"));
    let same = tensors(&at("same"));
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(first.iter().all(|(name, values)| near(values, &same[name])));
    // As many classes under other names have another head.
    run(&still("first", "birds"), &at("other"));
    for (name, values) in tensors(&at("other")) {
        assert_eq!(near(&values, &first[&name]), !name.starts_with("head."), "{name}");
    }
    let model = load_model(&at("other")).unwrap();
    let ModelConfig::Classifier(sizes) = &model.config else { panic!("no classifier") };
    assert_eq!(sizes.classes, ["kiwi", "owl"]);
}

#[test]
fn a_rectangle_is_learnt_from_an_encoder_of_squares() {
    let folder = TempDir::new().unwrap();
    encoder(folder.path());
    let mut config = config(folder.path(), "synthetic:32");
    config.downstream.image_size = Some((9, 15).into());
    let out = folder.path().join("run");
    run(&config, &out);
    let table = tensors(&out)["blocks.1.attn.relative_position_bias_table"].len();
    assert_eq!(table, (5 * 9 + 3) * 2);
    let model = load_model(&out).unwrap();
    let ModelConfig::Classifier(sizes) = &model.config else { panic!("no classifier") };
    assert_eq!((sizes.encoder.image, sizes.encoder.grid()), ((9, 15), (3, 5)));
}

#[test]
fn what_cannot_be_fine_tuned_is_said() {
    let folder = TempDir::new().unwrap();
    encoder(folder.path());
    photos(&folder.path().join("one"), &["fig"]);
    std::fs::create_dir(folder.path().join("none")).unwrap();
    image::RgbImage::new(4, 4).save(folder.path().join("none/x.png")).unwrap();
    let text = |config: &FinetuneRun| match Finetuning::new(&Bk::new(), config) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    let source = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let one = text(&config(folder.path(), &source("one")));
    assert!(one.contains("at least two classes"), "{one}");
    let none = text(&config(folder.path(), &source("none")));
    assert!(none.contains("at least two classes"), "{none}");
    let mut odd = config(folder.path(), "synthetic:32");
    odd.downstream.image_size = Some((10, 12).into());
    assert!(text(&odd).contains("image_size 10x12 is not divisible by patch_size 3"));
}

/// A batch of a run: each image is what its target says it is, its own view and its partner's in these shares.
#[test]
fn mixed_images_are_what_their_targets_say() {
    let folder = TempDir::new().unwrap();
    photos(folder.path(), &["fig", "lime", "plum"]);
    let model = TempDir::new().unwrap();
    encoder(model.path());
    let mut config = config(model.path(), folder.path().to_str().unwrap());
    (config.smoothing, config.mixup, config.rand_augment) = (0.0, 0.8, String::new());
    let task = Finetuning::new(&Bk::new(), &config).unwrap();
    let data = Task::<Bk>::open(&task, "", beit::data::Split::Train).unwrap();
    let make = Task::<Bk>::sampler(&task);
    // Of the three classes in turn, so that no image has its own class for a partner.
    let items = [0, 8, 16, 1, 17, 9].map(|i| beit::data::Dataset::item(&data, i).unwrap());
    let plain: Vec<ClassSample> = items.into_iter().map(|item| make(item, 0)).collect();
    let at = |step| At { step, length: Length { per_epoch: 3, total: 9 } };
    let mixed = Task::<Bk>::collate(&task, plain.clone(), at(5));
    let share = |i: usize| mixed[i].target[plain[i].label as usize];
    for (i, sample) in mixed.iter().enumerate() {
        let (own, partner) = (&plain[i], &plain[plain.len() - 1 - i]);
        let mut target = vec![0.0; 3];
        target[own.label as usize] += share(i);
        target[partner.label as usize] += 1.0 - share(i);
        assert!(own.label != partner.label && share(i) > 0.0 && share(i) < 1.0);
        let near = |a: &[f32], b: Vec<f32>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&sample.target, target), "{i}: {:?}", sample.target);
        let of = |(a, b): (&f32, &f32)| share(i) * a + (1.0 - share(i)) * b;
        let view = own.view.iter().zip(&partner.view).map(of).collect();
        assert!(near(&sample.view, view), "image {i} at share {}", share(i));
    }
    // The draw is that of the step.
    let again = Task::<Bk>::collate(&task, plain.clone(), at(5));
    let other = Task::<Bk>::collate(&task, plain, at(6));
    assert!(again[0].view == mixed[0].view && other[0].view != mixed[0].view);
}

#[test]
fn a_plain_vit_starts_from_nothing() {
    let folder = TempDir::new().unwrap();
    let mut config = config(Path::new("scratch"), "synthetic:16");
    config.downstream.like = "vit".into();
    config.validate().unwrap();
    run(&config, folder.path());
    let ModelConfig::Classifier(sizes) = load_model(folder.path()).unwrap().config else {
        panic!("no classifier")
    };
    let tiny = Preset::Tiny.beit().encoder;
    let drop_path = config.downstream.drop_path;
    assert_eq!(sizes.encoder, EncoderConfig { drop_path, ..tiny.clone().plain() });
    let names: Vec<String> = tensors(folder.path()).into_keys().collect();
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    assert!(has("pos_embed") && !has("gamma") && !has("relative_position"), "{names:?}");
    // What is not said is BEiT's.
    assert!(tiny.layer_scale > 0.0 && tiny.rel_pos_bias | tiny.shared_rel_pos_bias);
    // A model that is read has sizes of its own.
    config.downstream.model = "runs/beit".into();
    let refused = config.validate().unwrap_err().to_string();
    assert!(
        refused.starts_with("like = \"vit\" says the sizes of a model from scratch"),
        "{refused}"
    );
}
