//! Folders of images and masks: layouts, classes, pairs that do not fit, checksums.

use super::{message, png, scene};
use beit::data::decode::{DecodeOptions, Mask, decode_mask};
use beit::data::{Dataset, Image, Labels, Loader, LoaderConfig, Pairs, SourceOptions, Split};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A PNG of so many bits a pixel, with a palette if it is to have one.
fn indexed(values: &[u8], width: u32, bits: u32, palette: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    let height = values.len() as u32 / width;
    let mut encoder = png::Encoder::new(&mut out, width, height);
    let depths = [(1, png::BitDepth::One), (2, png::BitDepth::Two), (4, png::BitDepth::Four)];
    let depth = depths.into_iter().find(|(b, _)| *b == bits);
    encoder.set_depth(depth.map_or(png::BitDepth::Eight, |(_, depth)| depth));
    encoder.set_color(palette.map_or(png::ColorType::Grayscale, |_| png::ColorType::Indexed));
    if let Some(palette) = palette {
        encoder.set_palette(palette.to_vec());
    }
    let mut packed = Vec::new();
    for row in values.chunks(width as usize) {
        for some in row.chunks(8 / bits as usize) {
            let at = |(i, v): (usize, &u8)| v << (8 - bits as usize * (i + 1));
            packed.push(some.iter().enumerate().map(at).sum());
        }
    }
    encoder.write_header().unwrap().write_image_data(&packed).unwrap();
    out
}

fn grey(values: &[u8], width: u32) -> Vec<u8> {
    indexed(values, width, 8, None)
}

fn open(root: &Path, split: Split) -> beit::Result<Pairs> {
    Pairs::open(root.to_str().unwrap(), &SourceOptions::new(split, 0))
}

fn photo() -> Vec<u8> {
    png(&Image::new(2, 3, (0..18).collect()))
}

fn names(pairs: &Pairs) -> Vec<String> {
    (0..pairs.len()).map(|i| pairs.name(i)).collect()
}

fn values(pairs: &Pairs, i: usize) -> Vec<u8> {
    pairs.item(i).unwrap().labels.values.clone()
}

#[test]
fn ade20k_is_read_by_its_rule() {
    let root = tempfile::tempdir().unwrap();
    let ade = root.path();
    write(ade, "images/training/ADE_1.jpg", &photo());
    write(ade, "annotations/training/ADE_1.png", &grey(&[0, 1, 2, 149, 150, 255], 3));
    write(ade, "images/training/ADE_2.jpg", &photo());
    write(ade, "annotations/training/ADE_2.png", &grey(&[0, 1, 151, 2, 2, 2], 3));
    write(ade, "images/validation/ADE_3.jpg", &photo());
    write(ade, "annotations/validation/ADE_3.png", &grey(&[3; 6], 3));
    write(ade, "objectInfo150.txt", b"Idx\n");
    let (train, test) = (open(ade, Split::Train).unwrap(), open(ade, Split::Test).unwrap());
    assert_eq!(names(&train), ["ADE_1.jpg", "ADE_2.jpg"]);
    assert_eq!((names(&test), values(&test, 0)), (vec!["ADE_3.jpg".to_owned()], vec![2; 6]));
    assert_eq!(values(&train, 0), [255, 0, 1, 148, 149, 255]);
    assert_eq!((train.classes().len(), &*train.classes()[0].name), (150, "wall"));
    assert_eq!((test.classes()[2].colour, train.remarks().len()), ([6, 230, 230], 0));
    let text = message(train.item(1));
    assert!(text.contains("ADE_2.jpg") && text.contains("ADE_2.png"), "{text}");
    assert!(
        text.contains("has 151 at row 0, column 2") && text.contains("0 to 150 or 255"),
        "{text}"
    );

    write(ade, "classes.txt", b"1 2 3 a\n");
    assert!(message(open(ade, Split::Train)).contains("keep one of the two"));
    let other = tempfile::tempdir().unwrap();
    write(other.path(), "images/a.jpg", &photo());
    write(other.path(), "annotations/a.png", &grey(&[1; 6], 3));
    let text = message(open(other.path(), Split::Train));
    assert!(
        text.contains("neither training/ nor validation/") && text.contains("masks/"),
        "{text}"
    );
}

#[test]
fn masks_without_names_have_numbers() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    write(root, "images/train/a/1.png", &photo());
    write(root, "masks/train/a/1.png", &grey(&[0, 1, 255, 0, 1, 1], 3));
    // A palette of any colours, and indices of two bits.
    write(root, "images/train/b.jpg", &photo());
    let palette: Vec<u8> = (0..12).rev().collect();
    write(root, "masks/train/b.PNG", &indexed(&[3, 0, 1, 2, 3, 3], 3, 2, Some(&palette)));
    write(root, "masks/train/c.png", &grey(&[0; 6], 3));
    write(root, "images/val/d.png", &photo());
    write(root, "masks/val/d.png", &grey(&[0, 6, 0, 0, 0, 0], 3));
    let (train, test) = (open(root, Split::Train).unwrap(), open(root, Split::Test).unwrap());
    assert_eq!(
        (names(&train), names(&test)),
        (vec!["a/1.png".into(), "b.jpg".into()], vec!["d.png".into()])
    );
    assert_eq!(values(&train, 0), [0, 1, 255, 0, 1, 1]);
    assert_eq!(values(&train, 1), [3, 0, 1, 2, 3, 3]);
    // The largest number is in the other split.
    let classes: Vec<_> = train.classes().iter().map(|class| &*class.name).collect();
    assert_eq!(classes, ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(train.classes(), test.classes());
    let said = train.remarks().join("\n");
    assert!(
        said.contains("1 masks without an image: c.png") && said.contains("7 classes"),
        "{said}"
    );

    fs::create_dir(root.join("images/training")).unwrap();
    assert!(message(open(root, Split::Train)).contains("both train/ and training/"));
    fs::remove_dir_all(root.join("images/training")).unwrap();
    fs::remove_dir_all(root.join("images/val")).unwrap();
    let text = message(open(root, Split::Test));
    assert!(text.contains("neither val/ nor validation/"), "{text}");
}

#[test]
fn a_list_names_classes_and_colours() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    write(root, "classes.txt", b"0 0 0 road\n9 8 7 traffic light\n- 1 1 1 edges\n");
    let colours = [[0, 0, 0], [9, 8, 7], [1, 1, 1], [0, 0, 0], [0, 0, 0], [9, 8, 7]];
    write(root, "images/a.jpg", &photo());
    write(root, "masks/a.png", &png(&Image::new(2, 3, colours.concat())));
    write(root, "images/b.jpg", &photo());
    write(
        root,
        "masks/b.png",
        &png(&Image::new(2, 3, [[0, 0, 0]; 5].concat().into_iter().chain([4, 5, 6]).collect())),
    );
    write(root, "images/c.jpg", &photo());
    write(root, "masks/c.png", &grey(&[1, 0, 0, 1, 255, 0], 3));
    write(root, "images/d.jpg", &photo());
    write(root, "masks/d.png", &grey(&[1, 0, 0, 2, 255, 0], 3));
    // Without folders of splits both are the same.
    for split in [Split::Train, Split::Test] {
        let pairs = open(root, split).unwrap();
        assert_eq!((pairs.len(), &*pairs.classes()[1].name), (4, "traffic light"));
        assert_eq!((pairs.classes().len(), pairs.classes()[1].colour), (2, [9, 8, 7]));
        assert_eq!(values(&pairs, 0), [0, 1, 255, 0, 0, 1]);
        assert_eq!(values(&pairs, 2), [1, 0, 0, 1, 255, 0]);
        let text = message(pairs.item(1));
        assert!(
            text.contains("4 5 6 at row 1, column 2") && text.contains("classes.txt"),
            "{text}"
        );
        let text = message(pairs.item(3));
        assert!(
            text.contains("has 2 at row 1, column 0") && text.contains("0 to 1 or 255"),
            "{text}"
        );
    }
    write(root, "classes.txt", b"0 0 road\n");
    let text = message(open(root, Split::Train));
    assert!(text.contains("classes.txt") && text.contains("line 1"), "{text}");
    fs::remove_file(root.join("classes.txt")).unwrap();
    // Two of the masks have numbers.
    let pairs = open(root, Split::Train).unwrap();
    assert_eq!((pairs.classes().len(), values(&pairs, 3)), (3, vec![1, 0, 0, 2, 255, 0]));
    assert!(message(pairs.item(0)).contains("put a classes.txt"));
    for mask in ["c", "d"] {
        fs::remove_file(root.join(format!("masks/{mask}.png"))).unwrap();
    }
    let text = message(open(root, Split::Train));
    assert!(text.contains("none of 2 masks") && text.contains("classes.txt"), "{text}");
}

/// A stem, and the bytes of its image and of its mask where there are any.
type BadPair<'a> = (&'a str, Option<Vec<u8>>, Option<Vec<u8>>);

/// A folder with ten good pairs, and bad ones.
fn with_bad(bad: &[BadPair]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for i in 0..10 {
        write(root.path(), &format!("images/good{i}.jpg"), &photo());
        write(root.path(), &format!("masks/good{i}.png"), &grey(&[i % 3; 6], 3));
    }
    for (name, image, mask) in bad {
        if let Some(image) = image {
            write(root.path(), &format!("images/{name}.jpg"), image);
        }
        if let Some(mask) = mask {
            write(root.path(), &format!("masks/{name}.png"), mask);
        }
    }
    root
}

#[test]
fn pairs_that_do_not_fit_name_both_files() {
    let sixteen = {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, 3, 2);
        encoder.set_depth(png::BitDepth::Sixteen);
        encoder.write_header().unwrap().write_image_data(&[0; 12]).unwrap();
        out
    };
    let whole = grey(&[0; 6], 3);
    let bad = [
        ("size", Some(photo()), Some(grey(&[0; 6], 2)), "2x3 (height x width), but its mask"),
        ("missing", Some(photo()), None, "there is no mask"),
        ("colours", Some(photo()), Some(photo()), "has colours that nothing names"),
        ("text", Some(photo()), Some(b"a text".to_vec()), "unreadable"),
        ("jpeg", Some(photo()), Some(b"\xff\xd8\xff\xe0aaaaaaaaaa".to_vec()), "is no PNG"),
        ("cut", Some(photo()), Some(whole[..whole.len() - 20].to_vec()), "unreadable"),
        ("deep", Some(photo()), Some(sixteen), "16 bits"),
        ("image", Some(photo()[..50].to_vec()), Some(whole.clone()), "its mask is"),
        ("empty", Some(Vec::new()), Some(whole), "the file is empty"),
    ];
    let files: Vec<_> = bad.iter().map(|(name, i, m, _)| (*name, i.clone(), m.clone())).collect();
    let root = with_bad(&files);
    let pairs = open(root.path(), Split::Train).unwrap();
    assert_eq!((pairs.len(), pairs.classes().len()), (19, 3));
    for (name, _, _, wanted) in &bad {
        let i = names(&pairs).iter().position(|n| *n == format!("{name}.jpg")).unwrap();
        let text = message(pairs.item(i));
        let both = [format!("images/{name}.jpg"), format!("masks/{name}.png")];
        assert!(
            both.iter().all(|file| text.contains(file)) && text.contains(wanted),
            "{name}: {text}"
        );
    }
    // The loader passes over them, lists them, and bounds them.
    let pairs = Arc::new(pairs);
    let load = |max_bad: f64| {
        let cfg = LoaderConfig { max_bad, ..LoaderConfig::new(19, 5) };
        let mut loader = Loader::new(pairs.clone(), cfg, |pair, _| pair.index).unwrap();
        loader.next_batch().map(|batch| (batch.items.len(), loader.bad_images().len()))
    };
    assert_eq!(load(0.5).unwrap(), (19, 9));
    assert!(message(load(0.3)).contains("cannot be read, more than max_bad = 0.3"));
}

#[test]
fn folders_without_pairs_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    assert!(message(open(root, Split::Train)).contains("give a folder with images/ and masks/"));
    assert!(message(open(&root.join("gone"), Split::Train)).contains("no pairs"));
    write(root, "images/a.jpg", &photo());
    assert!(message(open(root, Split::Train)).contains("images/ and masks/"));
    write(root, "masks/b.png", &grey(&[0; 6], 3));
    let text = message(open(root, Split::Train));
    assert!(text.contains("none of 1 images") && text.contains("a/b.png there"), "{text}");
    assert!(
        message(Pairs::open("synthetic:0", &SourceOptions::new(Split::Train, 0))).contains("COUNT")
    );
}

#[test]
fn checksums_tell_names_and_contents() {
    let root = with_bad(&[]);
    let sums = || {
        let pairs = open(root.path(), Split::Train).unwrap();
        (pairs.checksum(), pairs.contents(false), pairs.contents(true))
    };
    let before = sums();
    assert_eq!(sums(), before);
    // Another mask of the same size and name.
    write(root.path(), "masks/good7.png", &grey(&[2; 6], 3));
    let mask = sums();
    assert_eq!(mask.0, before.0);
    assert!(mask.1 != before.1 && mask.2 != before.2);
    // Other classes of the same files.
    write(root.path(), "classes.txt", b"1 1 1 a\n2 2 2 b\n3 3 3 c\n");
    let list = sums();
    write(root.path(), "classes.txt", b"2 2 2 b\n1 1 1 a\n3 3 3 c\n");
    let turned = sums();
    assert_eq!((list.0, turned.0), (before.0, before.0));
    assert!(list.1 != mask.1 && turned.1 != list.1 && turned.2 != list.2);
    fs::rename(root.path().join("masks/good7.png"), root.path().join("masks/good7.PNG")).unwrap();
    assert_ne!(sums().0, before.0);
}

#[test]
fn masks_are_turned_as_their_images_are() {
    let root = tempfile::tempdir().unwrap();
    let plain = grey(&[0, 1, 2, 3, 4, 5], 3);
    // Turned by a quarter: an eXIf chunk in front of the pixels, little-endian, one tag.
    let exif =
        [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[6, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut chunk = (exif.len() as u32).to_be_bytes().to_vec();
    let body = [b"eXIf", &exif[..]].concat();
    chunk.extend(&body);
    chunk.extend(crc32fast::hash(&body).to_be_bytes());
    let turned = [&plain[..33], &chunk, &plain[33..]].concat();
    write(root.path(), "m.png", &turned);
    let stored = beit::data::decode::Orientation::Stored;
    let read = |options: &DecodeOptions| decode_mask(&root.path().join("m.png"), options).unwrap();
    let upright = read(&DecodeOptions::default());
    assert_eq!(upright, Mask::Indices(Labels::new(3, 2, vec![3, 0, 4, 1, 5, 2])));
    let as_stored = read(&DecodeOptions { orientation: stored, ..DecodeOptions::default() });
    assert_eq!(as_stored, Mask::Indices(Labels::new(2, 3, vec![0, 1, 2, 3, 4, 5])));
}

/// Every depth, grey and palette, of rows that fill a byte or not.
#[test]
fn numbers_of_every_depth_are_read() {
    let root = tempfile::tempdir().unwrap();
    let palette: Vec<u8> = (0..768).map(|i| (i * 7 % 256) as u8).collect();
    for bits in [1, 2, 4, 8] {
        for width in 1..=9usize {
            let most = (1u32 << bits) - 1;
            let numbers: Vec<u8> =
                (0..3 * width as u32).map(|i| (i * 5 % (most + 1)) as u8).collect();
            for palette in [None, Some(&palette[..3 << bits])] {
                let file = indexed(&numbers, width as u32, bits, palette);
                write(root.path(), "m.png", &file);
                let got = decode_mask(&root.path().join("m.png"), &DecodeOptions::default());
                let want = Labels::new(3, width, numbers.clone());
                assert_eq!(got.unwrap(), Mask::Indices(want), "{bits} bits, {width} wide");
            }
        }
    }
}

#[test]
fn scenes_are_pairs_of_any_size() {
    let pairs = Pairs::synthetic(7, 12, Split::Train, 3);
    for i in 0..7 {
        let pair = pairs.item(i).unwrap();
        assert_eq!((&*pair.image, pair.index), (&scene(i), i));
        assert_eq!((pair.labels.height, pair.labels.width), (12, 12));
        let class = |v: u8| v == 0 || usize::from(v) == 1 + i % 10;
        assert!(
            pair.labels.values.iter().all(|&v| class(v))
                && pair.labels.values.iter().any(|&v| v > 0)
        );
    }
    let default = Pairs::open("synthetic:9", &SourceOptions::new(Split::Test, 1)).unwrap();
    let pair = default.item(8).unwrap();
    assert_eq!((default.len(), pair.image.height, default.classes().len()), (9, 64, 11));
    assert_eq!((&*default.classes()[10].name, default.name(8)), ("bars", "scene 8".to_owned()));
    // Kept in memory, or not.
    assert!(Arc::ptr_eq(&pair.labels, &default.item(8).unwrap().labels));
    let anew = default.uncached();
    assert!(!Arc::ptr_eq(&anew.item(8).unwrap().labels, &anew.item(8).unwrap().labels));
}
