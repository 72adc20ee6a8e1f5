//! Case 08: resampling, jitter, pixel maps, evaluation geometry, random resized crops. Bytes must be
//! equal; real results agree to 1e-6. `loss/*` is in `loss.rs`, `mix/*` in `mixing.rs`.

use crate::fixture::Fixture;
use crate::replay::Replay;
use beit::data::Image;
use beit::data::augment::{Jitter, jitter_and_crop};
use beit::data::geometry::{CropBox, EvalGeometry, RandomCrop, eval_geometry, eval_resize_side};
use beit::data::pixels::{PixelMap, unmap_pixels};
use beit::data::resize::{Filter, resize};
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "08_augment";

/// One trial per stored result.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let fx = match Fixture::open(dir, CASE) {
        Ok(fx) => Arc::new(fx),
        Err(missing) => return vec![Trial::test(format!("{CASE}::files"), || Err(missing))],
    };
    type Check = fn(&Fixture, &str) -> Result<(), Failed>;
    let trial = |name: String, check: Check| {
        let fx = fx.clone();
        let label = format!("{CASE}::{}", name.replace('/', "_"));
        Trial::test(label, move || check(&fx, &name))
    };
    let check_of = |name: &str| -> Option<Check> {
        Some(match name.split('/').next()? {
            "resize" => resized,
            "crop" => cropped,
            "jitter" => jittered,
            "tensor" => mapped,
            "eval_geometry" => evaluated,
            _ => return None,
        })
    };
    let mut trials: Vec<_> =
        fx.names().filter_map(|name| check_of(&name).map(|check| trial(name, check))).collect();
    trials.push(trial("rrc".into(), random_crops));
    trials
}

/// A stored image.
pub fn image(fx: &Fixture, name: &str) -> Image {
    let shape = fx.shape(name);
    Image::new(shape[0], shape[1], fx.f64(name).into_iter().map(|x| x as u8).collect())
}

/// Fails unless all bytes are equal.
pub fn same(got: &Image, wanted: &Image) -> Result<(), Failed> {
    assert_eq!((got.height, got.width), (wanted.height, wanted.width));
    let wrong = got.pixels.iter().zip(&wanted.pixels).filter(|(a, b)| a != b).count();
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} bytes differ").into()) }
}

fn filter(name: &str) -> Filter {
    match name {
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos,
        other => panic!("unknown filter {other}"),
    }
}

fn crop_box(numbers: &serde_json::Value) -> CropBox {
    let at = |i: usize| numbers[i].as_u64().expect("crop_boxes") as usize;
    CropBox { top: at(0), left: at(1), height: at(2), width: at(3) }
}

/// `resize/FILTER/HxW`: the whole image.
fn resized(fx: &Fixture, name: &str) -> Result<(), Failed> {
    let (source, wanted) = (image(fx, "in/image"), image(fx, name));
    let by = filter(name.split('/').nth(1).expect("filter"));
    same(&resize(&source, source.whole(), wanted.height, wanted.width, by), &wanted)
}

/// `crop/BOX/FILTER/SIDE`.
fn cropped(fx: &Fixture, name: &str) -> Result<(), Failed> {
    let (source, wanted) = (image(fx, "in/image"), image(fx, name));
    let mut parts = name.split('/').skip(1);
    let number: usize = parts.next().expect("box").parse().expect("number of a box");
    let by = filter(parts.next().expect("filter"));
    let crop = crop_box(&fx.json["crop_boxes"][number]);
    same(&resize(&source, crop, wanted.height, wanted.width, by), &wanted)
}

/// `jitter/KIND/FACTOR`: whole, and as each crop box of it.
fn jittered(fx: &Fixture, name: &str) -> Result<(), Failed> {
    let (source, wanted) = (image(fx, "in/image"), image(fx, name));
    let (kind, factor) = name["jitter/".len()..].split_once('/').expect("kind and factor");
    let factor = factor.parse::<f64>().expect("factor") as f32;
    let step = match kind {
        "brightness" => Jitter::Brightness(factor),
        "contrast" => Jitter::Contrast(factor),
        "saturation" => Jitter::Saturation(factor),
        other => panic!("unknown jitter {other}"),
    };
    same(&jitter_and_crop(&source, &[step], source.whole()), &wanted)?;
    for numbers in fx.json["crop_boxes"].as_array().expect("crop_boxes") {
        let crop = crop_box(numbers);
        same(&jitter_and_crop(&source, &[step], crop), &wanted.crop(crop))?;
    }
    Ok(())
}

/// `tensor/MAP`, stored channel by channel.
fn mapped(fx: &Fixture, name: &str) -> Result<(), Failed> {
    let source = image(fx, "in/image");
    let got = match name {
        "tensor/to_tensor" => PixelMap::normalise([0.0; 3], [1.0; 3]).apply(&source),
        "tensor/normalised" => PixelMap::normalise([0.5; 3], [0.5; 3]).apply(&source),
        "tensor/map_pixels" => PixelMap::map_pixels().apply(&source),
        "tensor/unmap_pixels" => {
            PixelMap::map_pixels().apply(&source).into_iter().map(unmap_pixels).collect()
        }
        other => panic!("unknown map {other}"),
    };
    let pixels = source.height * source.width;
    for (i, wanted) in fx.f64(name).into_iter().enumerate() {
        let got = f64::from(got[i % pixels * 3 + i / pixels]);
        if (got - wanted).abs() > 1e-6 {
            return Err(format!("element {i}: {got}, wanted {wanted}").into());
        }
    }
    Ok(())
}

fn evaluated(fx: &Fixture, name: &str) -> Result<(), Failed> {
    let columns = fx.json["eval_geometry_columns"].as_array().expect("columns");
    for row in fx.f64(name).chunks(columns.len()) {
        let get = |column: &str| {
            let at = columns.iter().position(|c| c == column).expect(column);
            row[at] as usize
        };
        let crop = get("crop");
        assert_eq!(eval_resize_side(crop), get("resize_short_side"), "{row:?}");
        let wanted = EvalGeometry {
            resized_height: get("resized_height"),
            resized_width: get("resized_width"),
            crop: CropBox {
                top: get("crop_top"),
                left: get("crop_left"),
                height: crop,
                width: crop,
            },
        };
        assert_eq!(eval_geometry(get("height"), get("width"), crop, crop), wanted, "{row:?}");
    }
    Ok(())
}

/// Boxes from their recorded draws, all of which must be used.
fn random_crops(fx: &Fixture, _: &str) -> Result<(), Failed> {
    let columns = fx.json["rrc_columns"].as_array().expect("columns").len();
    let cases = fx.f64("rrc/cases");
    let replays = Replay::all(fx, "rrc/draw_values", "rrc/draw_kinds", "rrc/draw_offsets");
    assert_eq!(replays.len(), cases.len() / columns);
    for (row, mut replay) in cases.chunks(columns).zip(replays) {
        let whole = |i: usize| row[i] as usize;
        let law = RandomCrop { scale: (row[2], row[3]), ..RandomCrop::default() };
        let got = law.draw(whole(1), whole(0), &mut replay);
        let wanted = CropBox { top: whole(4), left: whole(5), height: whole(6), width: whole(7) };
        assert_eq!((got, replay.left()), (wanted, 0), "{row:?}");
    }
    Ok(())
}
