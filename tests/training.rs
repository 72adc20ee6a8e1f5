//! Training: models learn what they can learn by heart, and a run that was stopped in any way ends
//! with the bytes of one that was not.

mod ablate;
mod bert;
mod dino;
mod finetune;
mod moco;
mod segment;
mod steps;
mod toy;
mod vae;

use beit::cpu::Cpu;
use beit::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use beit::models::config::{BeitConfig, DvaeConfig};
use beit::models::dvae::{Dvae, DvaeStep, Likelihood};
use beit::ops::adamw::AdamW;
use beit::ops::gumbel_softmax::Noise;
use beit::optim::segments;
use beit::optim::state::State;
use beit::params::{Ctx, Grad, Params, arena_len, compact, compact_len, expand, initial_values};
use beit::parts::Parts;
use beit::rng::{Philox, Purpose};
use beit::tensor::{Ids, Tensor};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

type Bk = Cpu<f64>;

fn adamw(lr: f64, done: u64) -> AdamW {
    let (step, max_norm) = (done + 1, Some(3.0));
    AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, step, max_norm }
}

fn uniform(n: usize, stream: u32) -> Vec<f64> {
    let mut rng = Philox::new(5, Purpose::Check, stream, 0);
    (0..n).map(|_| rng.unit()).collect()
}

/// Some of endlessly many images with 2 of 6 patches hidden and tokens that nothing but memory can
/// tell.
fn some(
    bk: &Bk,
    model: &MaskedImageModel<Bk>,
    samples: Range<usize>,
) -> (MaskedBatch<Bk>, Ids<Bk>) {
    let (config, count) = (&model.config, samples.len());
    let (h, w) = config.encoder.image;
    let pixels: Vec<f64> =
        samples.clone().flat_map(|sample| uniform(h * w * 3, 100 + sample as u32)).collect();
    let patches = config.encoder.patches();
    let places = samples.start * patches..samples.end * patches;
    let mask: Vec<bool> = places.map(|i| (i + i / patches) % 3 == 0).collect();
    let rows = masked_rows(&mask, patches);
    let first = samples.start * patches / 3;
    let labels = (first..first + rows.len()).map(|i| (7 * i % config.outputs()) as u32).collect();
    let labels = Ids::from_vec(bk, labels, &[rows.len()]);
    let batch = MaskedBatch {
        images: Tensor::from_f64(bk, &pixels, &[count, h, w, 3]),
        mask: Ids::from_vec(bk, mask.into_iter().map(u32::from).collect(), &[count, patches]),
        rows: Ids::from_vec(bk, rows.clone(), &[rows.len()]),
        keep: None,
    };
    (batch, labels)
}

/// Steps of training on one batch; returns the last mean loss.
fn steps(bk: &Bk, model: &MaskedImageModel<Bk>, state: &mut State<Bk>, count: usize) -> f64 {
    let (batch, labels) = some(bk, model, 0..4);
    let (n, groups) = (labels.len() as f64, segments(&model.layout, 0.0));
    let mut loss = f64::NAN;
    for _ in 0..count {
        let State { w, g, .. } = &mut *state;
        let losses =
            model.loss_and_gradients(&mut Grad::new(Ctx::new(bk, w), g), &batch, &labels, 1.0 / n);
        loss = losses.rows.to_f64(bk).iter().sum::<f64>() / n;
        state.update(bk, &groups, &adamw(3e-3, state.step)).unwrap();
    }
    loss
}

fn start(bk: &Bk, model: &MaskedImageModel<Bk>) -> State<Bk> {
    State::new(bk, &model.layout, &initial_values(&model.layout, 1), 0.9)
}

#[test]
fn the_masked_model_learns_a_handful_of_images_by_heart() {
    let bk = Bk::new();
    let model = MaskedImageModel::new(&bk, &BeitConfig::test());
    let mut state = start(&bk, &model);
    let first = steps(&bk, &model, &mut state, 1);
    let last = steps(&bk, &model, &mut state, 800);
    assert!((first - 11f64.ln()).abs() < 0.1, "the first loss is that of a blind guess: {first}");
    assert!(last < 0.02, "the last loss is {last}");
}

#[test]
fn parts_of_a_batch_add_up_to_the_gradient_of_all_of_it() {
    let bk = Bk::new();
    let model = MaskedImageModel::new(&bk, &BeitConfig::test());
    let w = start(&bk, &model).w;
    let samples = 21;
    let add = |range: Range<usize>, g: &mut Params<Bk>| {
        let (batch, labels) = some(&bk, &model, range);
        let grad = &mut Grad::new(Ctx::new(&bk, &w), g);
        model.loss_and_gradients(grad, &batch, &labels, 1.0 / 42.0);
        labels.len()
    };
    let zeros = || Params::zeros(&bk, &model.layout);
    let mut whole = zeros();
    assert_eq!(add(0..samples, &mut whole), 42);
    let parts = |threads: usize| {
        let mut g = zeros();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let seen = pool.install(|| bk.in_parts(samples, &mut g, add));
        assert_eq!(seen, [14, 14, 14], "three parts of 7 images, in order");
        g.master.to_vec()
    };
    let cut = parts(2);
    assert!(cut == parts(1) && cut == parts(3), "the number of threads changes a bit");
    let scale = whole.master.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (i, (a, b)) in whole.master.iter().zip(&cut).enumerate() {
        assert!((a - b).abs() < 1e-13 * scale, "gradient {i}: {a} at once, {b} in parts");
    }
}

#[test]
fn the_tokenizer_learns_a_handful_of_images_by_heart() {
    let bk = Bk::new();
    let dvae = Dvae::new(&DvaeConfig::test());
    let (h, w) = dvae.config.image;
    // Four images of one colour each.
    let colours = uniform(12, 2);
    let pixels: Vec<f64> =
        colours.chunks(3).flat_map(|c| c.repeat(h * w)).map(|x| 0.1 + 0.8 * x).collect();
    let x = Tensor::from_f64(&bk, &pixels, &[4, h, w, 3]);
    let mut state = State::new(&bk, &dvae.layout, &initial_values(&dvae.layout, 1), 0.0);
    let groups = segments(&dvae.layout, 0.0);
    let step = DvaeStep {
        temperature: 0.5,
        kl_weight: 0.0,
        usage_weight: 0.0,
        straight_through: false,
        likelihood: Likelihood::SquaredError,
        scale: 1.0 / pixels.len() as f64,
    };
    let mut losses = Vec::new();
    for _ in 0..600 {
        let State { w, g, .. } = &mut state;
        let seen = dvae.loss_and_gradients(
            &mut Grad::new(Ctx::new(&bk, w), g),
            &x,
            &x,
            &Noise::None,
            &step,
            false,
        );
        losses.push(seen.reconstruction.to_f64(&bk).iter().sum::<f64>() * step.scale);
        state.update(&bk, &groups, &adamw(1e-2, state.step)).unwrap();
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.01 * first, "squared error {first} at first, {last} at last");
}

#[test]
fn stop_save_load_continue_equals_never_stopping() {
    let bk = Bk::new();
    let model = MaskedImageModel::new(&bk, &BeitConfig::test());
    let bits = |p: &Params<Bk>| -> Vec<u32> {
        p.to_host(&bk).into_iter().map(|x| (x as f32).to_bits()).collect()
    };
    // A checkpoint holds f32, so both are narrowed at the same step.
    let narrow = |state: &State<Bk>| {
        let saved = state.to_host(&bk);
        let mut next = start(&bk, &model);
        let find = |name: &str| Ok(saved.iter().find(|(n, _)| *n == name).unwrap().1.clone());
        next.restore(&bk, state.step, find).unwrap();
        next
    };
    let mut straight = start(&bk, &model);
    steps(&bk, &model, &mut straight, 5);
    let mut stopped = narrow(&straight);
    straight = narrow(&straight);
    steps(&bk, &model, &mut straight, 5);
    steps(&bk, &model, &mut stopped, 5);
    assert_eq!(stopped.step, 10);
    assert_eq!(bits(&stopped.w), bits(&straight.w));
    assert_eq!(bits(stopped.best()), bits(straight.best()));
    assert_ne!(bits(&stopped.w), bits(&start(&bk, &model).w));
}

#[test]
fn the_gaps_between_parameters_stay_zero_and_are_not_saved() {
    let bk = Bk::new();
    let model = MaskedImageModel::new(&bk, &BeitConfig::test());
    let mut state = start(&bk, &model);
    steps(&bk, &model, &mut state, 3);
    let layout = &model.layout;
    assert!(compact_len(layout) < arena_len(layout));
    for p in [&state.w, state.best(), &state.g] {
        let arena = p.to_host(&bk);
        assert_eq!(expand(layout, &compact(layout, &arena)), arena);
    }
    for (name, saved) in state.to_host(&bk) {
        assert_eq!(saved.len(), compact_len(layout), "{name}");
    }
}

// The program itself, small enough to run in seconds.

const TOKENIZER: &[&str] = &[
    "--data=synthetic:96",
    "--epochs=3",
    "--batch=16",
    "--set=width=8",
    "--set=init_width=8",
    "--set=vocab=32",
    "--set=checkpoint_every=1",
    "--set=log_every=1",
];

const ENCODER: &[&str] = &[
    "--data=synthetic:96",
    "--epochs=3",
    "--batch=16",
    "--set=width=32",
    "--set=depth=2",
    "--set=heads=2",
    "--set=vocab=32",
    "--set=checkpoint_every=1",
    "--set=log_every=1",
    "--set=accumulate=2",
    "--set=ema=0.9",
];

/// From the encoder that they are given, with everything that varies and mixes images.
const CLASSIFIER: &[&str] = &[
    "--train=synthetic:96",
    "--epochs=3",
    "--batch=16",
    "--set=checkpoint_every=1",
    "--set=validate_every=2",
    "--set=log_every=1",
    "--set=accumulate=2",
    "--set=ema=0.9",
    "--set=erase=0.5",
    "--set=repeats=2",
];

/// From nothing, in seconds.
const SCRATCH: &[&str] =
    &["--model=scratch", "--epochs=2", "--batch=8", "--set=image_size=8", "--set=log_every=1"];

/// From the encoder that they are given, with everything that varies images and masks.
const SEGMENTER: &[&str] = &[
    "--train=synthetic:64",
    "--epochs=3",
    "--batch=8",
    "--set=image_size=16",
    "--set=short_side=20",
    "--set=channels=8",
    "--set=auxiliary=4",
    "--set=checkpoint_every=1",
    "--set=validate_every=5",
    "--set=log_every=1",
    "--set=accumulate=2",
    "--set=ema=0.9",
];

const PIXELS: &[&str] = &[
    "--data=synthetic:64",
    "--epochs=10",
    "--batch=16",
    "--set=target=normalised_pixels",
    "--set=replace=random_patch",
    "--set=image_size=16",
    "--set=masked_patches=5",
    "--set=mask_min_block=1",
    "--set=width=16",
    "--set=depth=2",
    "--set=heads=2",
    "--set=checkpoint_every=1",
    "--set=log_every=1",
    "--set=accumulate=2",
];

fn program(command: &str, settings: &[&str], out: &Path, more: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_beit"));
    program.arg(command).args(settings).arg("--out").arg(out).args(more);
    program
}

fn finish(mut program: Command) -> Output {
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn model(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model.safetensors")).unwrap()
}

/// Kills a run at random moments until it gets through, and compares it with one left alone and with
/// one on another number of threads. Returns how often it was killed.
fn kill_and_compare(command: &str, settings: &[&str], folder: &Path, seed: u64) -> usize {
    let (alone, other, killed) =
        (folder.join("alone"), folder.join("other"), folder.join("killed"));
    let start = std::time::Instant::now();
    finish(program(command, settings, &alone, &["--threads=2"]));
    // Killed before it can have ended, however fast the machine.
    let longest = (start.elapsed().as_millis() as usize * 3 / 5).min(500);
    finish(program(command, settings, &other, &["--threads=1"]));
    assert!(model(&alone) == model(&other), "{command}: 1 and 2 threads differ");
    let mut random = Philox::new(seed, Purpose::Check, 0, 0);
    let mut kills = 0;
    loop {
        let mut child = program(command, settings, &killed, &["--resume", "--threads=2"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.integer(longest) as u64));
        if child.try_wait().unwrap().is_some() || kills == 12 {
            assert!(child.wait().unwrap().success(), "{command}: the resumed run fails");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(model(&alone) == model(&killed), "{command}: after {kills} kills the weights differ");
    let lines = |run: &Path| std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(lines(&alone), lines(&killed), "{command}: the metrics differ");
    kills
}

#[test]
fn kill_resume_and_threads_change_no_byte() {
    let folder = TempDir::new().unwrap();
    let tokenizer = folder.path().join("tokenizer");
    let kills = kill_and_compare("train-tokenizer", TOKENIZER, &tokenizer, 1);
    let with = format!("--tokenizer={}", tokenizer.join("alone").display());
    let settings: Vec<&str> = ENCODER.iter().copied().chain([with.as_str()]).collect();
    let encoder = folder.path().join("beit");
    let kills = kills + kill_and_compare("pretrain", &settings, &encoder, 2);
    let from = format!("--model={}", encoder.join("alone").display());
    let settings: Vec<&str> = CLASSIFIER.iter().copied().chain([from.as_str()]).collect();
    let kills = kills + kill_and_compare("finetune", &settings, &folder.path().join("classes"), 3);
    let settings: Vec<&str> = SEGMENTER.iter().copied().chain([from.as_str()]).collect();
    let masks = folder.path().join("masks");
    let kills = kills + kill_and_compare("segment-train", &settings, &masks, 4);
    assert!(kills > 0, "nothing was killed: the test shows nothing");
}

#[test]
fn kill_and_resume_change_no_byte_of_a_run_on_pixels() {
    let folder = TempDir::new().unwrap();
    let kills = kill_and_compare("pretrain", PIXELS, folder.path(), 3);
    assert!(kills > 0, "nothing was killed: the test shows nothing");
    // Blocks that are computed again are the same.
    let again = folder.path().join("again");
    finish(program("pretrain", PIXELS, &again, &["--set=recompute=true"]));
    assert!(model(&again) == model(&folder.path().join("alone")), "recompute changes weights");
}

#[test]
fn a_finished_run_says_so_and_other_settings_are_refused() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    finish(program("train-tokenizer", TOKENIZER, &run, &[]));
    let before = model(&run);
    let again = finish(program("train-tokenizer", TOKENIZER, &run, &["--resume"]));
    let said = [again.stdout, again.stderr].concat();
    assert!(
        String::from_utf8_lossy(&said).contains("finished"),
        "{}",
        String::from_utf8_lossy(&said)
    );
    for (more, key) in [(["--resume", "--seed=1"], "seed"), (["--resume", "--set=lr=1e-3"], "lr")] {
        let refused = program("train-tokenizer", TOKENIZER, &run, &more).output().unwrap();
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && text.contains(key), "{text}");
    }
    assert!(before == model(&run));
}

/// A folder of `count` small images, those in `broken` unreadable.
fn photos(folder: &Path, count: usize, broken: &[usize]) {
    std::fs::create_dir(folder).unwrap();
    photos_in(|_| folder.to_path_buf(), count, broken);
}

/// The same with a folder for each of two classes.
fn classes(folder: &Path, count: usize, broken: &[usize]) {
    let class = |i: usize| folder.join(["even", "odd"][i % 2]);
    [0, 1].iter().for_each(|&i| std::fs::create_dir_all(class(i)).unwrap());
    photos_in(class, count, broken);
}

fn photos_in(folder: impl Fn(usize) -> PathBuf, count: usize, broken: &[usize]) {
    for i in 0..count {
        let path = folder(i).join(format!("{i:03}.png"));
        if broken.contains(&i) {
            std::fs::write(path, "no image").unwrap();
        } else {
            image::RgbImage::from_pixel(8, 8, image::Rgb([i as u8, 99, 7])).save(path).unwrap();
        }
    }
}

const SMALL: &[&str] = &[
    "--epochs=2",
    "--batch=8",
    "--set=width=8",
    "--set=init_width=8",
    "--set=vocab=32",
    "--set=max_bad=0.2",
    "--set=log_every=1",
];

#[test]
fn every_skipped_image_is_named_once_and_resume_notices_other_images() {
    skipped_and_noticed("train-tokenizer", SMALL, "--data", photos, "000.png");
}

#[test]
fn the_same_of_labelled_images() {
    let settings: Vec<&str> = SCRATCH.iter().copied().chain(["--set=max_bad=0.2"]).collect();
    skipped_and_noticed("finetune", &settings, "--train", classes, "even/000.png");
}

#[test]
fn the_same_of_images_with_masks() {
    let small = ["--set=channels=4", "--set=auxiliary=0", "--set=max_bad=0.2"];
    let settings = [SCRATCH, &small].concat();
    skipped_and_noticed("segment-train", &settings, "--train", masked, "images/000.png");
}

/// Images with masks of two classes.
fn masked(folder: &Path, count: usize, broken: &[usize]) {
    let (images, masks) = (folder.join("images"), folder.join("masks"));
    [&images, &masks].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    photos_in(|_| images.clone(), count, broken);
    // One more, for the image that comes later.
    let names = (0..count).map(|i| format!("{i:03}.png")).chain(["more.png".to_owned()]);
    for (i, name) in names.enumerate() {
        let class = |x: u32, y: u32| image::Luma([((x + y + i as u32) / 5 % 2) as u8]);
        image::GrayImage::from_fn(8, 8, class).save(masks.join(name)).unwrap();
    }
}

/// Skipped images of a run of `command` on what `make` makes, of which `first` is one.
fn skipped_and_noticed(
    command: &str,
    settings: &[&str],
    data: &str,
    make: fn(&Path, usize, &[usize]),
    first: &str,
) {
    let folder = TempDir::new().unwrap();
    let (images, run) = (folder.path().join("photos"), folder.path().join("run"));
    make(&images, 32, &[3, 11, 30]);
    let data = format!("{data}={}", images.display());
    let settings: Vec<&str> = settings.iter().copied().chain([data.as_str()]).collect();
    let said = finish(program(command, &settings, &run, &[])).stderr;
    let said = String::from_utf8(said).unwrap();
    let training = said.split("3 unreadable images were skipped").next().unwrap();
    for i in [3, 11, 30] {
        let name = format!("{i:03}.png");
        let count = training.lines().filter(|line| line.contains(&name)).count();
        assert_eq!(count, 1, "image {i} in {said}");
    }
    // Unfinished again, with an image more.
    std::fs::remove_file(run.join("summary.json")).unwrap();
    let more = images.join(first).with_file_name("more.png");
    std::fs::copy(images.join(first), &more).unwrap();
    let again = program(command, &settings, &run, &["--resume"]).output().unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("cannot resume: what data names"), "{said}");
    std::fs::remove_file(more).unwrap();
    finish(program(command, &settings, &run, &["--resume"]));
    // A finished run needs no images any more.
    std::fs::remove_dir_all(&images).unwrap();
    finish(program(command, &settings, &run, &["--resume"]));
}

#[test]
fn pictures_under_the_same_names_are_noticed() {
    let folder = TempDir::new().unwrap();
    let images = folder.path().join("photos");
    photos(&images, 100, &[]);
    let data = format!("--data={}", images.display());
    let settings: Vec<&str> = SMALL.iter().copied().chain([data.as_str()]).collect();
    let resume = |run: &Path| {
        std::fs::remove_file(run.join("summary.json")).unwrap();
        let done = program("train-tokenizer", &settings, run, &["--resume"]).output().unwrap();
        (done.status.success(), String::from_utf8(done.stderr).unwrap())
    };
    let (run, verified) = (folder.path().join("run"), folder.path().join("verified"));
    finish(program("train-tokenizer", &settings, &run, &[]));
    finish(program("train-tokenizer", &settings, &verified, &["--verify-data"]));
    // Every second file is compared, beginning with the first; with --verify-data every one.
    let (before, other) = (std::fs::read(images.join("001.png")).unwrap(), images.join("001.png"));
    let mut changed = before.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    std::fs::write(&other, &changed).unwrap();
    assert!(resume(&run).0);
    let (resumed, said) = resume(&verified);
    assert!(!resumed && said.contains("the files that data names have other contents"), "{said}");
    // Another size is noticed in any file, and other contents in the first.
    std::fs::write(&other, [&before[..], b"x"].concat()).unwrap();
    let (resumed, said) = resume(&run);
    assert!(!resumed && said.contains("other contents"), "{said}");
    std::fs::write(&other, before).unwrap();
    std::fs::rename(images.join("000.png"), folder.path().join("kept.png")).unwrap();
    image::RgbImage::from_pixel(8, 8, image::Rgb([9, 9, 9])).save(images.join("000.png")).unwrap();
    let sizes = ["kept.png", "photos/000.png"]
        .map(|name| std::fs::metadata(folder.path().join(name)).unwrap().len());
    assert_eq!(sizes[0], sizes[1], "the test wants pictures of one size in bytes");
    std::fs::write(run.join("summary.json"), "{}").unwrap();
    assert!(!resume(&run).0);
}

#[test]
fn a_finished_run_can_be_made_longer_and_never_shorter() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let settings: Vec<&str> = SMALL.iter().copied().chain(["--data=synthetic:32"]).collect();
    let steps = |name: &str| -> u64 {
        let text = std::fs::read_to_string(run.join(name)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["steps"].as_u64().unwrap()
    };
    finish(program("train-tokenizer", &settings, &run, &[]));
    // 4 of the 32 are kept out: 3 steps of 8 in an epoch.
    assert_eq!(steps("summary.json"), 6);
    // Nothing but the length need be given.
    let longer =
        |epochs: &str| program("train-tokenizer", &["--resume", "--epochs", epochs], &run, &[]);
    let said = String::from_utf8(finish(longer("5")).stderr).unwrap();
    assert!(said.contains("resuming with another setting: epochs was 2 and is now 5"), "{said}");
    assert!(said.contains("at step 6 of 15"), "{said}");
    assert_eq!((steps("summary.json"), steps("summary-step-6.json")), (15, 6));
    let changes = std::fs::read_to_string(run.join("changes.jsonl")).unwrap();
    assert_eq!(changes, "{\"step\":6,\"key\":\"epochs\",\"was\":2,\"now\":5}\n");
    let before = model(&run);
    let shorter = longer("1").output().unwrap();
    let said = String::from_utf8(shorter.stderr).unwrap();
    assert!(!shorter.status.success() && said.contains("is at step 15 already"), "{said}");
    assert_eq!(steps("summary.json"), 15);
    assert!(finish(longer("5")).status.success() && before == model(&run));
}

#[test]
fn changes_of_settings_are_allowed_by_name_and_recorded() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let settings: Vec<&str> = SMALL.iter().copied().chain(["--data=synthetic:32"]).collect();
    finish(program("train-tokenizer", &settings, &run, &["--set=checkpoint_every=3"]));
    let unfinished = |lines: &str| {
        for name in ["summary.json", "checkpoints/step-0000000006.safetensors"] {
            std::fs::remove_file(run.join(name)).unwrap();
        }
        let text = std::fs::read_to_string(run.join("config.toml")).unwrap();
        std::fs::write(run.join("config.toml"), text.replace("\nlr = 0.002\n", lines)).unwrap();
    };
    let resume = |more: &[&str]| {
        let done = program("train-tokenizer", &["--resume"], &run, more).output().unwrap();
        (done.status.success(), String::from_utf8(done.stderr).unwrap())
    };
    unfinished("\nlr = 0.002\n");
    let (resumed, said) = resume(&["--set=lr=0.001", "--set=clip=2"]);
    assert!(!resumed && said.contains("--allow-change lr,clip"), "{said}");
    let (resumed, said) = resume(&["--set=lr=0.001", "--set=clip=2", "--allow-change=lr,clip"]);
    assert!(resumed, "{said}");
    let changes = std::fs::read_to_string(run.join("changes.jsonl")).unwrap();
    assert_eq!(changes.lines().count(), 2, "{changes}");
    assert!(std::fs::read_to_string(run.join("config.toml")).unwrap().contains("\nlr = 0.001\n"));
    // The same again needs no permission: it is recorded. An edit by hand is noticed.
    unfinished("");
    let (resumed, said) = resume(&[]);
    assert!(resumed, "{said}");
    for name in ["summary.json", "checkpoints/step-0000000006.safetensors"] {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(run.join("config.toml")).unwrap();
    std::fs::write(run.join("config.toml"), text.replace("\nlr = 0.001\n", "\nlr = 0.004\n"))
        .unwrap();
    let (resumed, said) = resume(&[]);
    let edited =
        "was edited since the last checkpoint: cannot resume: lr was 0.001 and is now 0.004";
    assert!(!resumed && said.contains(edited), "{said}");
    assert!(resume(&["--allow-change=lr"]).0);
}

#[test]
fn a_run_starts_from_given_weights() {
    let folder = TempDir::new().unwrap();
    let [first, second, other] = ["first", "second", "other"].map(|name| folder.path().join(name));
    let settings: Vec<&str> = SMALL.iter().copied().chain(["--data=synthetic:32"]).collect();
    finish(program("train-tokenizer", &settings, &first, &[]));
    let init = format!("--init={}", first.display());
    let said = finish(program(
        "train-tokenizer",
        &settings,
        &second,
        &[&init, "--set=lr=1e-9", "--set=min_lr=0", "--set=ema=0"],
    ));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("starting from") && said.contains(" matched"), "{said}");
    let values = |run: &Path| {
        let file = beit::weights::TensorFile::read(&run.join("model.safetensors")).unwrap();
        let names: Vec<String> = file.tensors().keys().cloned().collect();
        names.iter().flat_map(|name| file.f32s(name).unwrap().1).collect::<Vec<f32>>()
    };
    // With next to no learning rate it ends where it began, in the average of the first run.
    for (a, b) in values(&first).into_iter().zip(values(&second)) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }
    let wrong = program("train-tokenizer", &settings, &other, &[&init, "--set=width=12"]);
    let wrong = { wrong }.output().unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && said.contains("model.safetensors: "), "{said}");
}

/// A signal in the middle of a long step: the step is dropped, the one before is saved, and the resumed run
/// ends with the bytes of one that was left alone.
#[cfg(unix)]
#[test]
fn a_signal_ends_the_run_inside_a_step() {
    let few = ["--set=epochs=1", "--set=steps=3", "--set=accumulate=16", "--set=val=none"];
    signalled("train-tokenizer", &[TOKENIZER, &few].concat());
    let few = ["--train=synthetic:32", "--set=accumulate=8", "--set=val=none"];
    signalled("finetune", &[SCRATCH, &["--set=image_size=32"], &few].concat());
    let few = ["--train=synthetic:32", "--set=accumulate=4", "--set=val=none"];
    signalled("segment-train", &[SCRATCH, &["--set=image_size=16"], &few].concat());
}

#[cfg(unix)]
fn signalled(command: &str, settings: &[&str]) {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    let folder = TempDir::new().unwrap();
    let alone = folder.path().join("alone");
    finish(program(command, settings, &alone, &[]));
    for (signal, status) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let run = folder.path().join(signal);
        let mut child = program(command, settings, &run, &[])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its first words come when the signals are taken care of.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let sent =
            Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        assert!(sent.unwrap().success());
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let ended = child.wait().unwrap();
        assert_eq!((ended.signal(), ended.code()), (None, Some(status)), "{signal}: {rest:?}");
        assert!(rest.iter().any(|line| line.contains("--resume")), "{signal}: {rest:?}");
        finish(program(command, settings, &run, &["--resume"]));
        assert!(model(&alone) == model(&run), "{signal}: other bytes");
    }
}

/// Too little memory or address space is said before the first step, with what to lower.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_cannot_fit_says_so_before_it_starts() {
    let folder = TempDir::new().unwrap();
    let beit = env!("CARGO_BIN_EXE_beit");
    let run = |name: &str, kilobytes: usize, more: &str| {
        let out = folder.path().join(name);
        let line = format!(
            "ulimit -v {kilobytes}; exec {beit} train-tokenizer --device cpu --threads 1 --data synthetic:64 \
             --out {} {more}",
            out.display()
        );
        let done = Command::new("sh").args(["-c", &line]).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = run("weights", 1_000_000, "--preset base --batch 8");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("weights, gradients and optimizer take") && said.contains("are free"),
        "{said}"
    );
    let (code, said) = run("set", 1_200_000, "--batch 32 --set image_size=256 --set accumulate=1");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a step takes about") && said.contains("--set accumulate="), "{said}");
    // Nothing is in the way of the next try.
    assert!(!folder.path().join("set").exists() && !folder.path().join("weights").exists());
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_says() {
    let folder = TempDir::new().unwrap();
    let settings: Vec<&str> = SMALL.iter().copied().chain(["--data=synthetic:32"]).collect();
    let mut run = program("train-tokenizer", &settings, &folder.path().join("run"), &[]);
    let mut child = run.stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_kl_weight_falls_only_after_the_temperature_has() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let kl = ["--set=temperature_fraction=1", "--set=kl_warmup=0", "--set=kl_weight=2"];
    let more = ["--set=kl_weight_end=1", "--data=synthetic:32"];
    let settings: Vec<&str> = SMALL.iter().copied().chain(kl).chain(more).collect();
    finish(program("train-tokenizer", &settings, &run, &[]));
    for line in std::fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        // Lines of validation have none.
        assert!(line.get("val_nll").is_some() || line["kl_weight"] == 2.0, "{line}");
    }
}
