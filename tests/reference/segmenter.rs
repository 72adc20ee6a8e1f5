//! Case 03: the segmenter with batch norms that follow the batch and with their running statistics: streams, levels of
//! the pyramid, logits of both heads, loss, every gradient, running statistics after a step.

use crate::fixture::{Fixture, Precision};
use crate::hf;
use beit::cpu::Cpu;
use beit::models::config::{SegmentClass, SegmenterConfig};
use beit::models::segmenter::{SegmentLogits, Segmenter, SegmenterInput};
use beit::params::{Ctx, Form, Grad, Params};
use beit::real::Real;
use beit::tensor::{Ids, Tensor};
use beit::weights::{Slice, View, encode, load_model, load_weights};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const CASE: &str = "03_seg_hf";

/// One trial per mode and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let trial = |mode: &'static str| {
        let (a, b) = (dir.to_path_buf(), dir.to_path_buf());
        [
            Trial::test(format!("{CASE}::{mode}::f64"), move || run::<f64>(&a, mode)),
            Trial::test(format!("{CASE}::{mode}::f32"), move || run::<f32>(&b, mode)),
        ]
    };
    let dir = dir.to_path_buf();
    let folder = Trial::test(format!("{CASE}::folder"), move || as_folder(&dir));
    ["eval", "train"].into_iter().flat_map(trial).chain([folder]).collect()
}

fn config(fx: &Fixture) -> SegmenterConfig {
    let c = &fx.json["config"];
    let int = |key: &str| c[key].as_u64().unwrap_or_else(|| panic!("{key}")) as usize;
    let taps = fx.json["features_after_blocks"].as_array().expect("features_after_blocks");
    let taps: Vec<usize> = taps.iter().map(|tap| tap.as_u64().expect("a tap") as usize).collect();
    let class = |i| SegmentClass { name: format!("class {i}"), colour: [0; 3] };
    SegmenterConfig {
        encoder: hf::encoder_config(fx),
        taps: taps.try_into().expect("four levels"),
        channels: int("hidden_size"),
        auxiliary: int("auxiliary_channels"),
        scale: (int("image_size"), int("image_size")),
        classes: (0..int("num_labels")).map(class).collect(),
    }
}

/// The case as transformers would save it: its configuration and its tensors, under the names of its files and of its
/// modules.
fn as_folder(dir: &Path) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<f64>::new());
    let mut fields = fx.json["config"].clone();
    fields["model_type"] = "beit".into();
    fields["id2label"] =
        (0..6).map(|i| (i.to_string(), Value::from(format!("class {i}")))).collect();
    let renamed = fx.json["name_map_in_memory_to_file"].as_object().expect("names");
    let all: Vec<String> = fx.names().collect();
    let stored = all.iter().filter_map(|name| name.strip_prefix("param/"));
    // Not a number of the case: batches that were seen.
    let counts = |name: &&str| !name.ends_with("num_batches_tracked");
    let tensors: Vec<(&str, Vec<usize>, Vec<f32>)> = stored
        .filter(counts)
        .map(|name| {
            let from = format!("param/{name}");
            (name, fx.shape(&from), fx.f64(&from).iter().map(|x| *x as f32).collect())
        })
        .collect();
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("config.json"), fields.to_string())?;
    for newer in [false, true] {
        let named = |name: &str| {
            let module = || renamed.iter().find(|(_, file)| *file == name).map(|(key, _)| key);
            if newer { module().expect("a module's").clone() } else { name.to_owned() }
        };
        let views: Vec<View> = tensors
            .iter()
            .map(|(name, shape, values)| View::new(named(name), shape, Slice::F32(values)))
            .collect();
        let path = folder.path().join("model.safetensors");
        std::fs::write(path, encode(&views, &BTreeMap::new()))?;
        let read = load_model(folder.path())?;
        let sizes = read.sizes::<SegmenterConfig>()?;
        let own = config(&fx);
        assert_eq!(sizes.classes.len(), 6);
        assert_eq!((sizes.taps, sizes.encoder.depth), (own.taps, own.encoder.depth));
        assert_eq!((sizes.channels, sizes.auxiliary), (own.channels, own.auxiliary));
        let plan = &read.origin.as_ref().ok_or("no origin")?.plan;
        let left = plan.taken.iter().filter(|taken| taken.from.is_empty());
        assert!(left.clone().all(|taken| taken.own.ends_with("num_batches_tracked")));
        assert_eq!((left.count(), plan.ignored.len()), (14, 0));
        let model = Segmenter::new(&bk, sizes);
        let w = load_weights(&bk, &read, &model.layout)?;
        let shape = fx.shape("in/pixel_values");
        let pixels = Fixture::to_nhwc(&fx.f64("in/pixel_values"), &shape);
        let images = Tensor::from_f64(&bk, &pixels, &[shape[0], shape[2], shape[3], 3]);
        let logits = model.logits(Ctx::new(&bk, &w), &images).to_f64(&bk);
        let stored = fx.shape("eval/out/logits");
        fx.compare::<f64>("eval/out/logits", &Fixture::to_nchw(&logits, &stored))?;
    }
    Ok(())
}

fn run<T: Real + Precision>(dir: &Path, mode: &str) -> Result<(), Failed> {
    let fx = Fixture::open(dir, CASE)?;
    let (bk, config) = (Cpu::<T>::new(), config(&fx));
    let model = Segmenter::new(&bk, &config);
    let mut w = Params::from_host(&bk, &model.layout, &hf::weights(&fx, &model.layout)?);
    let mut g = Params::zeros(&bk, &model.layout);

    let shape = fx.shape("in/pixel_values");
    let (ih, iw) = config.encoder.image;
    let pixels = Fixture::to_nhwc(&fx.f64("in/pixel_values"), &shape);
    let images = Tensor::from_f64(&bk, &pixels, &[shape[0], ih, iw, 3]);
    let labels: Vec<u32> = fx.f64("in/labels").iter().map(|&x| x as u32).collect();
    let labelled = labels.iter().filter(|&&label| label != 255).count();
    let labels = Ids::from_vec(&bk, labels, &fx.shape("in/labels"));
    let ctx = Ctx::new(&bk, &w);
    let train = mode == "train";
    let input = SegmenterInput { train, ..SegmenterInput::of(&images) };

    let stored = |part: &str| format!("{mode}/{part}");
    let compare = |part: &str, values: &[f64]| {
        let name = stored(part);
        let shape = fx.shape(&name);
        fx.compare::<T>(&name, &Fixture::to_nchw(values, &shape))
    };
    let (levels, streams) = model.levels(ctx, &input);
    for (i, level) in levels.iter().enumerate() {
        compare(&format!("out/fpn/{i}"), &level.to_f64(&bk))?;
    }
    for (i, stream) in streams.iter().enumerate().filter(|_| !train) {
        // Without the class token.
        let (tokens, c) = (stream.shape()[1], stream.cols());
        let stream = stream.to_f64(&bk);
        let patches = stream.chunks(tokens * c).flat_map(|image| &image[c..]).copied();
        compare(&format!("out/features/{i}"), &patches.collect::<Vec<_>>())?;
    }

    let (SegmentLogits { main, auxiliary }, cache) = model.forward(ctx, &input);
    let auxiliary = auxiliary.expect("has a second head");
    compare("out/logits", &main.to_f64(&bk))?;
    compare("out/aux_logits", &auxiliary.to_f64(&bk))?;
    if !train {
        compare("out/logits", &model.logits(ctx, &images).to_f64(&bk))?;
    }
    let share = fx.json["config"]["auxiliary_loss_weight"].as_f64().expect("a weight");
    let scale = 1.0 / labelled as f64;
    let (losses, main) = model.resized_loss(ctx, main, &labels, scale);
    let (second, auxiliary) = model.resized_loss(ctx, auxiliary, &labels, share * scale);
    let [losses, second] = [losses, second].map(|l| l.rows.to_f64(&bk).iter().sum::<f64>());
    fx.compare_loss::<T>(&stored("out/loss"), (losses + share * second) * scale)?;
    let upstream = SegmentLogits { main, auxiliary: Some(auxiliary) };
    let grad = &mut Grad::new(ctx, &mut g);
    let (dx, statistics) = model.backward(grad, &input, cache, &upstream, true);
    compare("grad_in/pixel_values", &dx.expect("asked for").to_f64(&bk))?;
    let exact: Vec<f64> = g.to_host(&bk).into_iter().map(|x| x.to_f64()).collect();
    hf::compare_gradients::<T>(&fx, &model.layout, &exact, &stored("grad"))?;

    // The same in one call, which a training step makes.
    let mut again = Params::zeros(&bk, &model.layout);
    let scales = [scale, share * scale];
    let seen = model.loss_and_gradients(&mut Grad::new(ctx, &mut again), &input, &labels, scales);
    assert_eq!(again.to_host(&bk), g.to_host(&bk));
    assert_eq!(seen.statistics.len(), statistics.len());
    if train {
        model.follow(&bk, &statistics, &mut w);
        let values: Vec<f64> = w.to_host(&bk).into_iter().map(|x| x.to_f64()).collect();
        let mut seen = 0;
        for p in model.layout.iter().filter(|p| p.form == Form::Statistic) {
            fx.compare::<T>(&stored(&format!("buffers/{}", p.name)), &values[p.range.clone()])?;
            seen += 1;
        }
        let prefix = stored("buffers/");
        assert_eq!(seen, fx.names().filter(|name| name.starts_with(&prefix)).count());
    }
    Ok(())
}
