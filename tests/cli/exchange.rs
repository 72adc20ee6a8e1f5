//! `beit import`, `beit export`, and other projects' files in place of our models in every command.

use super::{beit, fails, folder, text, works};
use beit::cpu::Cpu;
use beit::models::config::SegmenterConfig;
use beit::models::kind::ModelConfig;
use beit::params::{Params, initial_values};
use beit::weights::{load_model, save_weights};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// Files of other projects, in a folder `exchange`: the models of the tests, exported, and stored ones.
pub fn prepare(path: &Path) {
    let exchange = path.join("exchange");
    std::fs::create_dir(&exchange).unwrap();
    random_segmenter(path);
    for (model, format, out) in [
        ("beit", "hf", "beit_hf"),
        ("beit", "unilm", "beit_unilm"),
        ("classifier", "hf", "classifier_hf"),
        ("classifier", "timm", "classifier_timm"),
        ("tokenizer", "dalle", "dalle"),
        ("exchange/segmenter", "hf", "segmenter_hf"),
        ("exchange/segmenter", "unilm", "segmenter_unilm"),
    ] {
        let line = format!("export --model {model} --format {format} --out exchange/{out}");
        let output = beit(path, &line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output));
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/15_weights");
    for name in ["hf_mim/config.json", "hf_mim/model.safetensors", "hostile/code_system.pth"] {
        let to = exchange.join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixtures.join(name), to).unwrap();
    }
}

/// A segmenter for the classes of the trained one, of the sizes that transformers can have: four levels at four places,
/// a head as wide as the encoder.
fn random_segmenter(path: &Path) {
    let trained = load_model(&path.join("segmenter")).unwrap();
    let mut sizes = trained.sizes::<SegmenterConfig>().unwrap().clone();
    (sizes.encoder.depth, sizes.taps, sizes.channels) = (4, [1, 2, 3, 4], sizes.encoder.width);
    let (bk, config) = (Cpu::<f32>::new(), ModelConfig::Segmenter(sizes));
    let layout = config.layout(&bk);
    let mut values = initial_values(&layout, 3);
    for (i, value) in values.iter_mut().enumerate() {
        *value += ((i * 37 % 101) as f32 - 50.0) / 200.0;
    }
    // Norms divide by the root of what they saw.
    for param in layout.iter().filter(|param| param.name.ends_with("running_var")) {
        values[param.range.clone()].fill(0.5);
    }
    let w = Params::from_host(&bk, &layout, &values);
    let folder = path.join("exchange/segmenter");
    std::fs::create_dir(&folder).unwrap();
    save_weights(&bk, &folder, &config, trained.normalise, &w).unwrap();
}

/// Commands with other projects' files, and what they leave.
const WORKS: &[(&str, &str, &[&str])] = &[
    ("info", "info exchange/beit_hf", &[]),
    ("info_of_a_file", "info exchange/beit_unilm/model.pth", &[]),
    (
        "import",
        "import exchange/beit_unilm/model.pth --out exchange/back",
        &["exchange/back/model.safetensors", "exchange/back/config.json"],
    ),
    (
        "import_of_our_own",
        "import beit --format beit --out exchange/own",
        &["exchange/own/model.safetensors"],
    ),
    (
        "tokenizer_of_a_size",
        "import exchange/dalle --image-size 32 --out exchange/tokenizer",
        &["exchange/tokenizer/model.safetensors"],
    ),
    (
        "onnx",
        "export --model exchange/classifier_hf --format onnx --out exchange/onnx",
        &["exchange/onnx/model.onnx"],
    ),
    (
        "from_one_to_another",
        "export --model exchange/beit_unilm/model.pth --format hf --out exchange/hf_again",
        &["exchange/hf_again/model.safetensors", "exchange/hf_again/preprocessor_config.json"],
    ),
    ("predict", "predict --model exchange/classifier_hf images", &[]),
    ("predict_timm", "predict --model exchange/classifier_timm images", &[]),
    ("evaluate", "evaluate --model exchange/classifier_timm --data synthetic:20", &[]),
    (
        "embed",
        "embed --model exchange/beit_hf --data images --out exchange/features",
        &["exchange/features/features.npy"],
    ),
    (
        "tokenize",
        "tokenize --tokenizer exchange/dalle --data images --out exchange/tokens",
        &["exchange/tokens/tokens.npy"],
    ),
    (
        "probe",
        "probe --model exchange/beit_unilm/model.pth --train synthetic:40 --test synthetic:20 --epochs 2",
        &[],
    ),
    (
        "attention",
        "attention --model exchange/classifier_hf --image images/square.png --out exchange/a.html",
        &["exchange/a.html"],
    ),
    (
        "reconstruct",
        "reconstruct --tokenizer exchange/dalle --model exchange/beit_hf --data synthetic:4 --out exchange/r.png",
        &["exchange/r.png"],
    ),
    (
        "atlas",
        "atlas --tokenizer exchange/dalle --data synthetic:4 --out exchange/c.html",
        &["exchange/c.html"],
    ),
    (
        "map",
        "map --model exchange/beit_hf --data synthetic:9 --out exchange/m.html",
        &["exchange/m.html"],
    ),
    (
        "elbo",
        "elbo --tokenizer exchange/dalle --model exchange/beit_hf --data synthetic:4 --temperature 0.1",
        &[],
    ),
    (
        "import_of_a_segmenter",
        "import exchange/segmenter_unilm/model.pth --taps 1,2,3,4 --out exchange/segmenter_back",
        &["exchange/segmenter_back/model.safetensors"],
    ),
    (
        "segment",
        "segment --model exchange/segmenter_hf images/square.png --out exchange/segmented",
        &["exchange/segmented/masks/square.png"],
    ),
    (
        "evaluate_a_segmenter",
        "evaluate --model exchange/segmenter_hf --data synthetic:4 --json exchange/es.json",
        &["exchange/es.json"],
    ),
    (
        "segment_train",
        "segment-train --model exchange/segmenter_hf --train synthetic:16 --steps 1 --batch 4 --set taps=1,2,3,4 --set channels=32 \
         --set short_side=32 --set auxiliary=4 --out exchange/st",
        &["exchange/st/model.safetensors"],
    ),
    (
        "finetune",
        "finetune --model exchange/beit_hf --train synthetic:40 --steps 2 --batch 8 --out exchange/ft",
        &["exchange/ft/model.safetensors"],
    ),
    (
        "pretrain",
        "pretrain --tokenizer exchange/dalle --init exchange/beit_hf --data synthetic:32 --epochs 1 --batch 16 --set \
         width=32 --set depth=2 --set heads=2 --set vocab=32 --out exchange/pre",
        &["exchange/pre/model.safetensors"],
    ),
];

const FAILS: &[(&str, &str, &str)] = &[
    ("full_folder", "import exchange/beit_hf --out beit", "beit is not empty"),
    ("nothing", "import nowhere --out new", "nowhere: no such run folder or file"),
    ("no_model", "import images --out new", "images"),
    ("code", "import exchange/hostile/code_system.pth --out new", "posix.system"),
    ("other_format", "import exchange/beit_hf --format dalle --out new", "holds no model of dalle"),
    ("part", "import exchange/dalle/encoder.safetensors --out new", "give the folder"),
    ("tokenizer_to_hf", "export --model tokenizer --format hf --out new", "--format dalle or onnx"),
    ("narrow_head_to_hf", "export --model segmenter --format hf --out new", "head has 8 channels"),
    (
        "segmenter_to_onnx",
        "export --model segmenter --format onnx --out new",
        "--format hf or unilm",
    ),
    ("taps", "import exchange/segmenter_hf --taps 1,2,3 --out new", "want four numbers"),
    ("taps_too_deep", "import exchange/segmenter_hf --taps 1,2,3,6 --out new", "taps [1, 2, 3, 6]"),
    ("encoder_to_dalle", "export --model beit --format dalle --out new", "is no tokenizer"),
    ("format", "export --model beit --format keras --out new", "unilm"),
];

/// The trials.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("exchange/the_same_weights_are_the_same_predictions", same_predictions),
        Trial::test("exchange/a_run_goes_on_from_their_files", goes_on),
        Trial::test("exchange/the_same_weights_are_the_same_masks", same_masks),
    ];
    for &(name, line, files) in WORKS {
        trials.push(Trial::test(format!("exchange/{name}"), move || works(line, files)));
    }
    for &(name, line, named) in FAILS {
        trials.push(Trial::test(format!("exchange/refused_{name}"), move || fails(line, named)));
    }
    trials
}

/// Standard output of a command that works.
fn output(line: &str) -> Result<String, Failed> {
    let output = beit(folder(), line).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{line}: {}", text(&output)).into()),
    }
}

/// The names of the classes come along, too.
fn same_predictions() -> Result<(), Failed> {
    let rows =
        |model: &str| output(&format!("predict --model {model} images synthetic:6 --format csv"));
    let own = rows("classifier")?;
    for model in ["exchange/classifier_hf", "exchange/classifier_timm"] {
        let theirs = rows(model)?;
        if theirs != own {
            return Err(format!("{model}: {theirs}, ours: {own}").into());
        }
    }
    Ok(())
}

/// Those of the palette, too: their bytes.
fn same_masks() -> Result<(), Failed> {
    let mask = |model: &str, out: &str| -> Result<Vec<u8>, Failed> {
        output(&format!(
            "segment --model exchange/{model} images/square.png --out exchange/{out}"
        ))?;
        Ok(std::fs::read(folder().join(format!("exchange/{out}/masks/square.png")))?)
    };
    let (own, theirs) = (mask("segmenter", "own_masks")?, mask("segmenter_hf", "their_masks")?);
    if own == theirs { Ok(()) } else { Err("another mask of the same weights".into()) }
}

/// The settings name the files; a run that was stopped reads them again.
fn goes_on() -> Result<(), Failed> {
    let line = "finetune --model exchange/beit_unilm/model.pth --train synthetic:40 --batch 8 --out exchange/long";
    output(&format!("{line} --steps 2"))?;
    let said = output(&format!("{line} --steps 4 --resume"))?;
    if said.contains("after 4 steps") { Ok(()) } else { Err(said.into()) }
}
