//! Segmentation: windows, figures against a count made here, and what a run leaves in its folder.

use beit::apply::segment::{OpenedSegmenter, Windows, segment_image, window_logits, windows};
use beit::config::{RunConfig, SegmentRun};
use beit::cpu::Cpu;
use beit::data::Image;
use beit::data::segment_view::{SegmentViewConfig, eval_image};
use beit::models::config::SegmenterConfig;
use beit::models::segmenter::Segmenter;
use beit::params::{Ctx, Form, Params, initial_values};
use beit::rng::{Philox, Purpose};
use beit::run::Begin;
use beit::tensor::Tensor;
use beit::train::driver::train;
use beit::train::segment::Segmentation;
use beit::weights::load_model;
use std::path::Path;
use tempfile::TempDir;

type Bk = Cpu<f64>;

/// A small segmenter with everything random.
fn random(bk: &Bk) -> (Segmenter<Bk>, Params<Bk>) {
    let model = Segmenter::new(bk, &SegmenterConfig::test());
    let mut rng = Philox::new(3, Purpose::Check, 1, 0);
    let mut values = initial_values(&model.layout, 4);
    values.iter_mut().for_each(|x| *x += rng.uniform(-0.3, 0.3) as f32);
    for p in model.layout.iter().filter(|p| p.form == Form::Statistic) {
        values[p.range.clone()].iter_mut().for_each(|x| *x = 0.5 + x.abs());
    }
    let w = Params::from_host(bk, &model.layout, &values);
    (model, w)
}

fn picture(height: usize, width: usize) -> Image {
    let mut rng = Philox::new(8, Purpose::Check, height as u32, width as u32);
    let pixels = (0..height * width * 3).map(|_| rng.integer(255) as u8).collect();
    Image::new(height, width, pixels)
}

fn views(sizes: &SegmenterConfig) -> SegmentViewConfig {
    let (h, w) = sizes.encoder.image;
    SegmentViewConfig::original(h, w)
}

#[test]
fn one_window_is_the_whole_image_and_several_are_averaged() {
    let bk = Bk::new();
    let (model, w) = random(&bk);
    let (sizes, views) = (&model.config, views(&model.config));
    let classes = sizes.classes.len();
    let plan = Windows::new(sizes, 2).unwrap();
    let whole = |pixels: &[f32], (h, w_): (usize, usize)| -> Vec<f64> {
        let images = Tensor::from_f32(&bk, pixels.to_vec(), &[1, h, w_, 3]);
        let logits = model.logits(Ctx::new(&bk, &w), &images);
        let own = (logits.shape()[1], logits.shape()[2]);
        beit::ops::resize::PlaneMap::bilinear(&bk, own, (h, w_)).forward(&bk, &logits).to_f64(&bk)
    };
    let (h, w_) = sizes.encoder.image;
    let own = eval_image(&views, &picture(h, w_));
    let got = window_logits(&bk, (&model, &w), &plan, &own, (h, w_));
    for (a, b) in got.iter().zip(whole(&own, (h, w_))) {
        assert!((f64::from(*a) - b).abs() < 1e-6, "{a} and {b}");
    }
    // Larger, by the definition: each window by itself, summed and divided by its visits.
    let size = (h + 3, w_ + 5);
    let pixels = eval_image(&views, &picture(size.0, size.1));
    let mut sums = vec![0.0; size.0 * size.1 * classes];
    let mut visits = vec![0.0; size.0 * size.1];
    for window in windows(size, (h, w_), (2, 2)) {
        let rows = (0..h).flat_map(|y| {
            let at = ((window.top + y) * size.1 + window.left) * 3;
            pixels[at..at + w_ * 3].to_vec()
        });
        let logits = whole(&rows.collect::<Vec<f32>>(), (h, w_));
        for y in 0..h {
            for x in 0..w_ {
                let at = (window.top + y) * size.1 + window.left + x;
                visits[at] += 1.0;
                for k in 0..classes {
                    sums[at * classes + k] += logits[(y * w_ + x) * classes + k];
                }
            }
        }
    }
    assert!(visits.iter().any(|&n| n > 2.0) && visits.iter().all(|&n| n > 0.0));
    let got = window_logits(&bk, (&model, &w), &plan, &pixels, size);
    for (i, a) in got.iter().enumerate() {
        let b = sums[i] / visits[i / classes];
        assert!((f64::from(*a) - b).abs() < 1e-5, "{i}: {a} and {b}");
    }
}

#[test]
fn an_image_smaller_than_a_window_is_filled_up_and_a_mirrored_one_is_mirrored_back() {
    let bk = Bk::new();
    let (model, w) = random(&bk);
    let (sizes, views) = (&model.config, views(&model.config));
    let mut plan = Windows::new(sizes, 0).unwrap();
    let image = picture(2, 4);
    let found = segment_image(&bk, (&model, &w), &plan, &views, &image);
    assert_eq!((found.height, found.width), (2, 4));
    // What is the same mirrored is taken for the same mirrored.
    (plan.ratios, plan.flip) = (vec![1.0, 1.5], true);
    let half = picture(7, 5);
    let rows = half.pixels.chunks_exact(15).flat_map(|row| {
        let mirrored = row.as_chunks::<3>().0.iter().rev().flatten().copied();
        row.iter().copied().chain(mirrored).collect::<Vec<u8>>()
    });
    let symmetric = Image::new(7, 10, rows.collect());
    let found = segment_image(&bk, (&model, &w), &plan, &views, &symmetric);
    let mut mirrored = found.clone();
    mirrored.flip();
    assert_eq!(found, mirrored);
}

/// ADE20K's folders with 150 classes, of which a few are there; 0 is ignored.
fn ade(folder: &Path, count: usize) {
    for (part, first) in [("training", 0), ("validation", 100)] {
        let (images, masks) =
            (folder.join("images").join(part), folder.join("annotations").join(part));
        [&images, &masks].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        for i in 0..count {
            let n = (first + i) as u32;
            let colour = |x: u32, y: u32| image::Rgb([(x * 20 + n) as u8, (y * 20) as u8, n as u8]);
            let class = |x: u32, y: u32| image::Luma([((x / 4 + y / 4 + n) % 4 * 50) as u8]);
            image::RgbImage::from_fn(14, 12, colour).save(images.join(format!("{n}.png"))).unwrap();
            image::GrayImage::from_fn(14, 12, class).save(masks.join(format!("{n}.png"))).unwrap();
        }
    }
}

#[test]
fn figures_are_those_of_a_count_by_hand_to_the_last_pixel() {
    let folder = TempDir::new().unwrap();
    let (data, out) = (folder.path().join("ade"), folder.path().join("run"));
    ade(&data, 12);
    let mut config = SegmentRun::preset(beit::config::Preset::Tiny);
    config.downstream.model = "scratch".to_owned();
    config.downstream.image_size = Some(beit::config::ImageSize(8, 8));
    (config.channels, config.auxiliary, config.short_side) = (8, 4, 12);
    config.common.batch = 4;
    let recipe = &mut config.recipe;
    recipe.data = data.to_str().unwrap().to_owned();
    (recipe.val, recipe.steps) = (recipe.data.clone(), 6);
    config.validate().unwrap();
    let begin = Begin { resume: false, allow: Vec::new() };
    let bk = Cpu::<f32>::new();
    let summary = train::<_, Segmentation<_>>(&bk, &config, &out, &begin).unwrap().expect("new");

    // Counted here from the images alone, by the model as the file has it.
    let opened = OpenedSegmenter::of(&bk, &load_model(&out).unwrap(), config.stride).unwrap();
    let mut counts = vec![[0u64; 150]; 150];
    for i in 0..12u32 {
        let read = |part: &str| {
            image::open(data.join(part).join("validation").join(format!("{}.png", 100 + i)))
                .unwrap()
        };
        let image = read("images").to_rgb8();
        let image = Image::new(12, 14, image.into_raw());
        let (views, windows) = (&opened.views, &opened.windows);
        let found = segment_image(&bk, opened.weighted(), windows, views, &image);
        for (label, &class) in read("annotations").to_luma8().into_raw().iter().zip(&found.values) {
            if *label > 0 {
                counts[usize::from(*label) - 1][usize::from(class)] += 1;
            }
        }
    }
    let labelled = |k: usize| counts[k].iter().sum::<u64>();
    let predicted = |k: usize| counts.iter().map(|row| row[k]).sum::<u64>();
    let (mut ious, mut accs) = (Vec::new(), Vec::new());
    for (k, figure) in summary.figures.classes.iter().enumerate() {
        let (right, union) = (counts[k][k], labelled(k) + predicted(k) - counts[k][k]);
        assert_eq!(figure.pixels, labelled(k), "class {k}");
        let share = |a: u64, b: u64| (b > 0).then(|| a as f64 / b as f64);
        assert_eq!(figure.iou, share(right, union), "class {k}");
        assert_eq!(figure.acc, share(right, labelled(k)), "class {k}");
        ious.extend(figure.iou);
        accs.extend(figure.acc);
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let (all, right) =
        ((0..150).map(labelled).sum::<u64>(), (0..150).map(|k| counts[k][k]).sum::<u64>());
    assert!(all > 1000 && accs.len() == 3, "{all} pixels of {} classes", accs.len());
    assert!((summary.figures.miou - mean(&ious)).abs() < 1e-12);
    assert!((summary.figures.macc - mean(&accs)).abs() < 1e-12);
    assert_eq!(summary.figures.aacc, right as f64 / all as f64);
}
