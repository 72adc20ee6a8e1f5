//! From files to batches: sources, broken images, order, resuming.

mod folders;
mod opencv;
mod pairs;
mod randaugment_pillow;
mod resize_pillow;
mod survey;

use beit::data::augment::{AugmentConfig, two_views};
use beit::data::loader::{Batch, epoch_order, map_items};
use beit::data::synthetic::Scenes;
use beit::data::{Dataset, Image, Labelled, Loader, LoaderConfig, Source, SourceOptions, Split};
use beit::rng::{Philox, Purpose};
use image::{ExtendedColorType, ImageEncoder, codecs};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn png(image: &Image) -> Vec<u8> {
    let mut out = Vec::new();
    codecs::png::PngEncoder::new(&mut out)
        .write_image(
            &image.pixels,
            image.width as u32,
            image.height as u32,
            ExtendedColorType::Rgb8,
        )
        .unwrap();
    out
}

fn scene(index: usize) -> Image {
    Scenes { count: usize::MAX, side: 12, split: Split::Train, seed: 3 }.draw(index)
}

fn open(path: &Path) -> beit::Result<Source> {
    Source::open(path.to_str().unwrap(), &SourceOptions::new(Split::Train, 0))
}

fn message<T>(result: beit::Result<T>) -> String {
    let text = result.err().expect("an error").to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

/// A folder of 1,000 images of which the first `bad` are broken, in five ways.
fn thousand(folder: &Path, bad: usize) {
    let good = png(&scene(0));
    let mut hostile = good.clone();
    hostile[16..24].fill(0x7F);
    let mut jpeg = Vec::new();
    jpeg_encoder::Encoder::new(&mut jpeg, 75)
        .encode(&scene(1).pixels, 12, 12, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    let mut garbled = good.clone();
    let middle = garbled.len() / 2;
    garbled[middle..].iter_mut().for_each(|b| *b ^= 0x55);
    let broken = [
        Vec::new(),
        jpeg[..jpeg.len() * 2 / 3].to_vec(),
        b"<html>404 not found</html>".to_vec(),
        hostile,
        garbled,
    ];
    for i in 0..1000 {
        // 7 has no common factor with 1000: the broken ones lie apart.
        let bytes = if i < bad { &broken[i % 5] } else { &good };
        fs::write(folder.join(format!("{:04}.png", i * 7 % 1000)), bytes).unwrap();
    }
}

#[test]
fn one_percent_broken_images_are_skipped_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    thousand(folder.path(), 10);
    let source = Arc::new(open(folder.path()).unwrap());
    assert_eq!((source.len(), source.classes().len(), source.label(5)), (1000, 0, None));
    let epoch = |threads: usize| {
        let cfg = LoaderConfig { threads, ..LoaderConfig::new(100, 1) };
        let mut loader = Loader::new(source.clone(), cfg, |item, _| item.image.width).unwrap();
        let batches: Vec<_> = (0..10).map(|_| loader.next_batch().unwrap()).collect();
        (batches, loader.bad_images().clone())
    };
    let (batches, bad) = epoch(1);
    assert!(batches.iter().all(|b| b.items == [12; 100]), "every batch stays full");
    assert_eq!(bad.len(), 10);
    for (index, reason) in &bad {
        assert!(reason.contains(&source.name(*index)), "{reason} names the file");
    }
    assert_eq!(epoch(2), (batches, bad.clone()));

    let all: Vec<usize> = (0..source.len()).collect();
    let (good, again) = map_items(&*source, &all, |item| item.index);
    assert_eq!((good.len(), again), (990, bad));
}

#[test]
fn more_broken_images_than_allowed_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    thousand(folder.path(), 11);
    let source = Arc::new(open(folder.path()).unwrap());
    let mut loader =
        Loader::new(source.clone(), LoaderConfig::new(100, 1), |item, _| item.image.width).unwrap();
    let text = message((0..10).try_for_each(|_| loader.next_batch().map(drop)));
    assert!(text.contains("11 of 1000 images") && text.contains("max_bad"), "{text}");
}

#[test]
fn a_source_without_a_readable_image_ends() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..3 {
        fs::write(folder.path().join(format!("{i}.jpg")), "no image").unwrap();
    }
    let source = Arc::new(open(folder.path()).unwrap());
    let cfg = LoaderConfig { max_bad: 1.0, ..LoaderConfig::new(2, 1) };
    let mut loader = Loader::new(source, cfg, |_, _| ()).unwrap();
    assert!(message(loader.next_batch()).contains("none of 3 images"));
}

#[test]
fn batches_depend_neither_on_threads_nor_on_resuming() {
    let source = Arc::new(Source::synthetic(23, 16, Split::Train, 4));
    let view = AugmentConfig::original(8, 8, 4, 4);
    let run = |threads, epoch, step, count| -> Vec<Batch<_>> {
        let cfg = LoaderConfig { threads, epoch, step, prefetch: 7, ..LoaderConfig::new(5, 9) };
        let view = view.clone();
        let sample = move |item: Labelled, epoch: u32| {
            let mut rng = Philox::new(9, Purpose::Augment, epoch, item.index as u32);
            two_views(&view, &item.image, &mut rng)
        };
        let mut loader = Loader::new(source.clone(), cfg, sample).unwrap();
        assert_eq!(loader.steps_per_epoch(), 4);
        (0..count).map(|_| loader.next_batch().unwrap()).collect()
    };
    let all = run(1, 0, 0, 10);
    assert_eq!((all[9].epoch, all[9].step), (2, 1));
    assert_eq!(run(2, 0, 0, 10), all);
    assert_eq!(run(5, 1, 2, 4), all[6..]);
    // Within an epoch nothing is shown twice, and epochs differ.
    let mut first: Vec<_> = all[..4].iter().flat_map(|b| b.indices.clone()).collect();
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 20);
    assert_ne!(all[0].indices, all[4].indices);
}

#[test]
fn repeated_views_of_an_image_stand_side_by_side() {
    let source = Arc::new(Source::synthetic(23, 16, Split::Train, 4));
    let run = |repeats, threads, (epoch, step), count| -> Vec<Batch<_>> {
        let cfg = LoaderConfig { threads, epoch, step, repeats, ..LoaderConfig::new(5, 9) };
        let sample = |item: Labelled, epoch: u32| (item.index, epoch);
        let mut loader = Loader::new(source.clone(), cfg, sample).unwrap();
        assert_eq!(loader.steps_per_epoch(), 4);
        (0..count).map(|_| loader.next_batch().unwrap()).collect()
    };
    let once: Vec<_> = run(1, 1, (0, 0), 8).into_iter().flat_map(|b| b.items).collect();
    let all = run(3, 1, (0, 0), 8);
    // Slot p of an epoch: the image at place p / 3 of its order, drawn as in epoch 3 e + p mod 3.
    for (slot, item) in all.iter().flat_map(|b| b.items.iter().copied()).enumerate() {
        let (epoch, place) = (slot / 20, slot % 20);
        let drawn = (3 * epoch + place % 3) as u32;
        assert_eq!(item, (once[epoch * 20 + place / 3].0, drawn), "slot {slot}");
    }
    assert_eq!(run(3, 4, (0, 0), 8), all);
    assert_eq!(run(3, 2, (1, 1), 3), all[5..]);
}

#[test]
fn a_panic_in_the_sample_function_reaches_the_caller() {
    let source = Arc::new(Source::synthetic(4, 8, Split::Train, 0));
    let sample = |_: Labelled, _: u32| -> u8 { panic!("in a sample") };
    let mut loader = Loader::new(source, LoaderConfig::new(2, 0), sample).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loader.next_batch()));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"in a sample"));
}

#[test]
fn an_order_is_a_permutation() {
    let mut order = epoch_order(1000, 5, 2);
    assert_ne!(order, epoch_order(1000, 5, 3));
    assert_ne!(order, epoch_order(1000, 6, 2));
    order.sort_unstable();
    assert!(order.into_iter().eq(0..1000));
}

#[test]
fn folders_give_classes_and_a_fixed_order() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = png(&scene(0));
    for name in ["b/1.PNG", "a/deep/er/2.png", "a/1.JpEg", "top.webp", "a/.hidden.png"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &bytes).unwrap();
    }
    let source = open(folder.path()).unwrap();
    let listed: Vec<_> = (0..source.len()).map(|i| (source.name(i), source.label(i))).collect();
    let wanted = [("a/1.JpEg", Some(0)), ("a/deep/er/2.png", Some(0)), ("b/1.PNG", Some(1))];
    assert_eq!(listed[..3], wanted.map(|(name, label)| (name.to_string(), label)));
    assert_eq!(listed[3..], [("top.webp".to_string(), None)]);
    assert_eq!(source.classes(), ["a", "b"]);
    // The content decides, not the ending.
    assert_eq!(*source.load(0).unwrap(), scene(0));
}

#[test]
fn what_cannot_be_a_source_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    assert!(message(open(folder.path())).contains("no images; give a folder with .jpg"));
    assert!(message(open(&folder.path().join("absent"))).contains("cannot open"));
    let file = folder.path().join("notes.txt");
    fs::write(&file, "x").unwrap();
    assert!(message(open(&file)).contains("not a folder"));
    for spec in ["synthetic:", "synthetic:0", "synthetic:-3", "synthetic:many"] {
        assert!(
            message(Source::open(spec, &SourceOptions::new(Split::Train, 0)))
                .contains("whole number")
        );
    }
    let small = Arc::new(Source::synthetic(3, 8, Split::Train, 0));
    for batch in [0, 4] {
        let loader = Loader::new(small.clone(), LoaderConfig::new(batch, 0), |_, _| ());
        assert!(message(loader.map(drop)).contains("3 images"));
    }
    let nan = LoaderConfig { max_bad: f64::NAN, ..LoaderConfig::new(1, 0) };
    assert!(message(Loader::new(small, nan, |_, _| ()).map(drop)).contains("max_bad"));
}

/// A CIFAR record whose red is its label, green counts the pixels and blue is 200.
fn record(labels: &[u8]) -> Vec<u8> {
    let mut bytes = labels.to_vec();
    bytes.extend([labels[labels.len() - 1]; 1024]);
    bytes.extend((0..1024).map(|p| p as u8));
    bytes.extend([200; 1024]);
    bytes
}

#[test]
fn cifar_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    write("data_batch_1.bin", [record(&[3]), record(&[9])].concat());
    write("data_batch_2.bin", record(&[4]));
    write("test_batch.bin", record(&[7]));
    let source = open(folder.path()).unwrap();
    let labels: Vec<_> = (0..source.len()).map(|i| source.label(i)).collect();
    assert_eq!(labels, [Some(3), Some(9), Some(4)]);
    assert_eq!((source.classes().len(), source.classes()[3].as_str()), (10, "3"));
    let image = source.load(1).unwrap();
    assert_eq!((image.height, image.width), (32, 32));
    assert_eq!(image.pixels[33 * 3..34 * 3], [9, 33, 200]);
    write("batches.meta.txt", (0..10).map(|i| format!("kind{i}\n")).collect::<String>().into());
    let test =
        Source::open(folder.path().to_str().unwrap(), &SourceOptions::new(Split::Test, 0)).unwrap();
    assert_eq!((test.len(), test.label(0), test.classes()[7].as_str()), (1, Some(7), "kind7"));

    let hundred = tempfile::tempdir().unwrap();
    let file = hundred.path().join("train.bin");
    fs::write(&file, [record(&[19, 99]), record(&[1, 50])].concat()).unwrap();
    for source in [open(&file).unwrap(), open(hundred.path()).unwrap()] {
        assert_eq!((source.len(), source.label(0), source.classes().len()), (2, Some(99), 100));
    }
    // Another name: the size decides.
    let other = hundred.path().join("mine.bin");
    fs::write(&other, record(&[2])).unwrap();
    assert_eq!(open(&other).unwrap().classes().len(), 10);
    fs::write(&other, &record(&[2])[1..]).unwrap();
    assert!(message(open(&other)).contains("whole records"));
    fs::write(&other, record(&[10])).unwrap();
    assert!(message(open(&other)).contains("label 10"));
    fs::write(&file, "").unwrap();
    assert!(message(open(&file)).contains("0 bytes"));
}

#[test]
fn scenes_repeat_and_splits_differ() {
    let train = Source::synthetic(30, 32, Split::Train, 1);
    let again = Source::synthetic(20, 32, Split::Train, 1);
    let test = Source::synthetic(30, 32, Split::Test, 1);
    let other = Source::synthetic(30, 32, Split::Train, 2);
    assert!(train.classes().len() >= 8);
    for i in 0..20 {
        let image = train.load(i).unwrap();
        assert_eq!(image, again.load(i).unwrap());
        assert_ne!(image, test.load(i).unwrap());
        assert_ne!(image, other.load(i).unwrap());
    }
    assert_eq!(
        Source::open("synthetic", &SourceOptions::new(Split::Train, 1)).unwrap().len(),
        5000
    );
    assert_eq!(Source::open("synthetic:7", &SourceOptions::new(Split::Test, 1)).unwrap().len(), 7);
}

/// A least-squares classifier on the mean colour does little better than guessing. A little it
/// does: shapes have about the same area, but a longer edge casts more shadow.
#[test]
fn the_class_of_a_scene_is_not_its_mean_colour() {
    let features = |split| {
        let source = Source::synthetic(3000, 16, split, 8);
        let mean = |item: Labelled| {
            let mut sum = [0.0f64; 3];
            for p in item.image.pixels.as_chunks::<3>().0 {
                (0..3).for_each(|c| sum[c] += f64::from(p[c]) / (255.0 * 256.0));
            }
            ([1.0, sum[0], sum[1], sum[2]], item.label.unwrap() as usize)
        };
        let indices: Vec<usize> = (0..source.len()).collect();
        let (all, _) = map_items(&source, &indices, mean);
        (all.into_iter().map(|(_, x)| x).collect::<Vec<_>>(), source.classes().len())
    };
    let (train, classes) = features(Split::Train);
    // Normal equations [XᵀX | XᵀY], solved by elimination.
    let mut system = vec![vec![0.0; 4 + classes]; 4];
    for (x, label) in &train {
        for i in 0..4 {
            (0..4).for_each(|j| system[i][j] += x[i] * x[j]);
            system[i][4 + label] += x[i];
        }
    }
    for i in 0..4 {
        let pivot = system[i].clone();
        for (j, row) in system.iter_mut().enumerate() {
            let factor = if i == j { 1.0 - 1.0 / pivot[i] } else { row[i] / pivot[i] };
            row.iter_mut().zip(&pivot).for_each(|(r, p)| *r -= factor * p);
        }
    }
    let (test, _) = features(Split::Test);
    let right = test.iter().filter(|(x, label)| {
        let score = |k: usize| (0..4).map(|i| x[i] * system[i][4 + k]).sum::<f64>();
        (0..classes).max_by(|&a, &b| score(a).total_cmp(&score(b))) == Some(*label)
    });
    let accuracy = right.count() as f64 / test.len() as f64;
    assert!(accuracy < 1.0 / classes as f64 + 0.1, "{accuracy}");
}
