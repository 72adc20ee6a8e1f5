//! What `beit data check` finds.

use super::{open, png, scene};
use beit::data::survey::Survey;
use beit::data::synthetic::Scenes;
use beit::data::{Image, Source, Split};
use std::collections::BTreeMap;
use std::fs;

#[test]
fn a_survey_counts_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cat", "dog", "emu"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let large = Scenes { count: 9, side: 70, split: Split::Train, seed: 0 }.draw(0);
    let mut jpeg = Vec::new();
    jpeg_encoder::Encoder::new(&mut jpeg, 75)
        .encode(&large.pixels, 70, 70, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    write("cat/0.png", &png(&scene(0)));
    write("cat/1.png", &png(&scene(1)));
    write("cat/2.jpg", &png(&scene(1))); // a copy with the wrong ending
    write("dog/3.jpg", &jpeg);
    write("dog/4.png", &png(&Image::new(2, 40, vec![7; 240])));
    write("dog/5.png", &png(&scene(5))[..60]);
    write("emu/notes.txt", b"none here");
    write("6.png", &png(&scene(1)));
    let survey = Survey::of(&open(folder.path()).unwrap());
    assert_eq!((survey.listed, survey.readable, survey.without_class), (7, 6, 1));
    assert_eq!(survey.formats, BTreeMap::from([("JPEG".into(), 1), ("PNG".into(), 5)]));
    assert_eq!(survey.classes, [("cat".into(), 3), ("dog".into(), 2)]);
    assert_eq!(survey.short_sides[..4], [(0, 5), (32, 0), (64, 1), (128, 0)]);
    assert_eq!(survey.extremes, Some([(2, 40), (70, 70)]));
    assert_eq!(survey.left_out, BTreeMap::from([("txt".into(), 1)]));
    assert_eq!(survey.classes_without_images, ["emu"]);
    assert_eq!(survey.duplicates, [["6.png", "cat/1.png", "cat/2.jpg"]]);
    let [(name, reason)] = &survey.unreadable[..] else { panic!("{:?}", survey.unreadable) };
    assert!(name == "dog/5.png" && reason.contains("dog/5.png"), "{reason}");
    let lines = survey.lines();
    for line in [
        "7 images are listed, 6 can be read",
        "formats: 1 JPEG, 5 PNG",
        "shorter side: 5 of 0 to 31 px, 1 of 64 to 127 px",
        "smallest and largest: 2x40 and 70x70 (height x width)",
        "classes (2): 3 cat, 2 dog",
        "without a class: 1",
        "class folders without an image: emu",
        "left out, no images: 1 .txt",
        "copies of other images (2): 6.png = cat/1.png",
    ] {
        assert!(lines.iter().any(|other| other == line), "{line} in {lines:#?}");
    }
}

#[test]
fn scenes_are_surveyed_too() {
    let survey = Survey::of(&Source::synthetic(30, 64, Split::Train, 0));
    assert_eq!((survey.readable, survey.duplicates.len(), survey.unreadable.len()), (30, 0, 0));
    assert_eq!(survey.short_sides[2], (64, 30));
    assert_eq!(survey.classes.iter().map(|(_, count)| count).sum::<usize>(), 30);
}
