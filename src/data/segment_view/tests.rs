//! The order of the steps from listed draws, padding, images of any size, refused settings.

use super::*;
use crate::data::pairs::Pairs;
use crate::data::{Dataset, Split};
use crate::rng::{Philox, Purpose};
use std::collections::VecDeque;

/// Draws from a list, each with the ends of what is asked for.
struct ListedDraws(VecDeque<f64>);

impl ListedDraws {
    fn new(draws: &[f64]) -> Self {
        Self(draws.iter().copied().collect())
    }
}

impl Draws for ListedDraws {
    fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        let x = self.0.pop_front().expect("a draw");
        assert!((lo..=hi).contains(&x), "{x} in {lo}..{hi}");
        x
    }
    fn integer(&mut self, max: usize) -> usize {
        let x = self.0.pop_front().expect("a draw") as usize;
        assert!(x <= max, "{x} in 0..={max}");
        x
    }
    fn normal(&mut self, _: f64, _: f64) -> f64 {
        unreachable!("no view draws one")
    }
    fn beta(&mut self, _: f64) -> f64 {
        unreachable!("no view draws one")
    }
}

fn noise(height: usize, width: usize) -> Image {
    let mut rng = Philox::new(3, Purpose::Check, 0, 0);
    let pixels = (0..height * width * 3).map(|_| rng.integer(255) as u8).collect();
    Image::new(height, width, pixels)
}

/// Numbers below `classes` in blocks, some ignored.
fn blocks(height: usize, width: usize, classes: usize) -> Labels {
    let label = |i: usize| match (i / width / 3 * 7 + i % width / 3) % (classes + 1) {
        0 => Labels::IGNORED,
        label => label as u8 - 1,
    };
    Labels::new(height, width, (0..height * width).map(label).collect())
}

#[test]
fn the_steps_are_taken_in_order() {
    let cfg = SegmentViewConfig {
        long: 40,
        short: 12,
        category_cap: 1.0,
        ..SegmentViewConfig::original(8, 12)
    };
    let (image, labels) = (noise(10, 20), blocks(10, 20, 4));
    // Twice 40 x 12 is 80 x 24; 24/10 is the smaller factor: 24 x 48. Crop at (5, 30), mirrored, brightness, contrast
    // first, no saturation, hue back by 18.
    let mut draws =
        ListedDraws::new(&[2.0, 5.0, 30.0, 0.49, 1.0, 8.5, 1.0, 1.0, 1.25, 0.0, 1.0, 0.0]);
    let (pixels, values) = train_view(&cfg, &image, &labels, &mut draws);
    assert!(draws.0.is_empty(), "{:?} are left", draws.0);
    let crop = CropBox { top: 5, left: 30, height: 8, width: 12 };
    let mut view = resize_bilinear(&image, 24, 48).crop(crop);
    let mut wanted = labels.resize(24, 48).crop(crop);
    view.flip();
    wanted.flip();
    use crate::data::photometric::Distortion::{Brightness, Contrast, Hue};
    for step in [Brightness(8.5), Contrast(1.25), Hue(162)] {
        step.apply(&mut view);
    }
    assert_eq!(pixels, PixelMap::normalise(IMAGENET.0, IMAGENET.1).apply(&view));
    assert_eq!(values, wanted.values);
    // Contrast last, and half of everything else: what no coin wants is not drawn.
    let mut draws = ListedDraws::new(&[2.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 1.0, 0.5]);
    train_view(&cfg, &image, &labels, &mut draws);
    assert!(draws.0.is_empty());
}

#[test]
fn what_a_crop_lacks_is_padded_after_normalisation() {
    let cfg = SegmentViewConfig { photometric: false, ..SegmentViewConfig::original(12, 16) };
    let (image, labels) = (noise(6, 3), blocks(6, 3, 4));
    // 24 x 6 times 1.0: 12 x 6.
    let cfg = SegmentViewConfig { long: 24, short: 6, ..cfg };
    let never = SegmentViewConfig { flip: 0.0, category_cap: 1.0, ..cfg };
    let mut draws = ListedDraws::new(&[1.0, 0.0, 0.0, 0.7]);
    let (pixels, values) = train_view(&never, &image, &labels, &mut draws);
    let seen = eval_image(&never, &resize_bilinear(&image, 12, 6));
    let seen_labels = labels.resize(12, 6);
    for y in 0..12 {
        let (row, own) = (&pixels[y * 48..][..48], &seen[y * 18..][..18]);
        assert!(row[..18] == *own && row[18..].iter().all(|&x| x == 0.0), "row {y}");
        let (row, own) = (&values[y * 16..][..16], &seen_labels.values[y * 6..][..6]);
        assert!(row[..6] == *own && row[6..].iter().all(|&v| v == 255), "row {y}");
    }
}

#[test]
fn crops_of_mostly_one_class_are_drawn_anew() {
    let cfg = SegmentViewConfig { category_cap: 0.75, ..SegmentViewConfig::original(1, 4) };
    // Crops at 0 to 5 have one class; three of four pixels of one; halves; two of three that are not
    // ignored; one class; one class.
    let labels = Labels::new(1, 9, vec![0, 0, 0, 0, 1, 1, 255, 255, 255]);
    for (lefts, taken) in [
        (&[2][..], 2),
        (&[3], 3),
        (&[0, 2], 2),
        (&[1, 3], 3),
        (&[5, 4, 3], 3),
        (&[0, 0, 1, 5, 1, 2], 2),
    ] {
        let draws: Vec<f64> = lefts.iter().flat_map(|&left| [0.0, f64::from(left)]).collect();
        let mut listed = ListedDraws::new(&draws);
        assert_eq!(cfg.draw_crop(&labels, &mut listed).left, taken, "{lefts:?}");
        assert!(listed.0.is_empty(), "{lefts:?}");
    }
    // The tenth redraw is taken, though it is no better than the first.
    let draws: Vec<f64> = (0..11).flat_map(|i| [0.0, f64::from(i % 2)]).collect();
    let mut listed = ListedDraws::new(&draws);
    assert_eq!((cfg.draw_crop(&labels, &mut listed).left, listed.0.len()), (0, 0));
    let any = SegmentViewConfig { category_cap: 1.0, ..cfg };
    let mut listed = ListedDraws::new(&[0.0, 0.0]);
    assert_eq!((any.draw_crop(&labels, &mut listed).left, listed.0.len()), (0, 0));
}

#[test]
fn sizes_keep_their_aspect() {
    // Worked out with mmcv's `rescale_size`.
    for (size, long, short, wanted) in [
        ((512, 683), 2048, 512, (512, 683)),
        ((683, 512), 1024, 256, (342, 256)),
        ((100, 1000), 2048, 512, (205, 2048)),
        ((1, 5000), 2048, 512, (1, 2048)),
        ((256, 256), 1023, 255, (255, 255)),
    ] {
        assert_eq!(rescaled(size, long, short), wanted, "{size:?}");
    }
}

#[test]
fn any_pair_becomes_a_view() {
    let sizes = [(1, 1), (1, 300), (300, 1), (2, 2), (3, 900), (17, 40), (64, 64)];
    for (i, cfg) in [
        SegmentViewConfig::original(16, 16),
        SegmentViewConfig::original(9, 31),
        SegmentViewConfig { ratio: (0.01, 0.02), ..SegmentViewConfig::original(16, 16) },
    ]
    .into_iter()
    .enumerate()
    {
        cfg.validate().unwrap();
        for (height, width) in sizes {
            let (image, labels) = (noise(height, width), blocks(height, width, 6));
            let mut rng = Philox::new(7, Purpose::Check, i as u32, (height * 1000 + width) as u32);
            for _ in 0..8 {
                let (pixels, values) = train_view(&cfg, &image, &labels, &mut rng);
                assert_eq!(pixels.len(), cfg.height * cfg.width * 3);
                assert!(pixels.iter().all(|x| x.is_finite()));
                assert_eq!(values.len(), cfg.height * cfg.width);
                assert!(values.iter().all(|&v| v < 6 || v == Labels::IGNORED));
            }
            assert_eq!(eval_image(&cfg, &image).len(), height * width * 3);
        }
    }
}

/// Labels go where their pixels go: the light shape of a scene stays under its labels.
#[test]
fn labels_move_with_their_pixels() {
    let pairs = Pairs::synthetic(12, 64, Split::Train, 4);
    let cfg = SegmentViewConfig { photometric: false, ..SegmentViewConfig::original(48, 48) };
    for i in 0..12 {
        let pair = pairs.item(i).unwrap();
        let grey = |pixel: &[f32]| pixel.iter().map(|&x| f64::from(x)).sum::<f64>();
        let apart = |pixels: &[f32], labels: &[u8]| {
            let mean = |wanted: bool| {
                let both = pixels.chunks(3).zip(labels).filter(|(_, l)| **l != Labels::IGNORED);
                let own: Vec<_> =
                    both.filter(|(_, l)| (**l > 0) == wanted).map(|(p, _)| grey(p)).collect();
                own.iter().sum::<f64>() / own.len() as f64
            };
            mean(true) - mean(false)
        };
        let before = apart(&eval_image(&cfg, &pair.image), &pair.labels.values);
        let mut rng = Philox::new(8, Purpose::Check, 0, i as u32);
        for _ in 0..4 {
            let (pixels, labels) = train_view(&cfg, &pair.image, &pair.labels, &mut rng);
            if labels.iter().filter(|l| **l > 0 && **l != Labels::IGNORED).count() > 200 {
                let after = apart(&pixels, &labels);
                assert!(after > 0.5 * before, "scene {i}: {before} became {after}");
            }
        }
    }
}

#[test]
fn settings_are_refused() {
    let cfg = SegmentViewConfig::original(8, 8);
    let wrong = [
        SegmentViewConfig { height: 0, ..cfg.clone() },
        SegmentViewConfig { short: 0, ..cfg.clone() },
        SegmentViewConfig { long: 7, ..cfg.clone() },
        SegmentViewConfig { ratio: (0.0, 1.0), ..cfg.clone() },
        SegmentViewConfig { ratio: (2.0, 1.0), ..cfg.clone() },
        SegmentViewConfig { ratio: (1.0, f64::INFINITY), ..cfg.clone() },
        SegmentViewConfig { category_cap: 1.5, ..cfg.clone() },
        SegmentViewConfig { flip: f64::NAN, ..cfg.clone() },
        SegmentViewConfig { std: [1.0, 0.0, 1.0], ..cfg.clone() },
    ];
    assert!(cfg.validate().is_ok());
    assert!(wrong.iter().all(|cfg| cfg.validate().is_err()));
}
