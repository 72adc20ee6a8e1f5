//! Case 09: masks replayed from recorded draws and compared in distribution, with the fixture's
//! samples and with known frequencies (`violations`); and proof that the comparison rejects wrong
//! variants.

use crate::fixture::Fixture;
use crate::replay::Replay;
use beit::data::geometry::{CropBox, Draws};
use beit::data::masking::{MaskConfig, Masking};
use beit::rng::{Philox, Purpose};
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "09_masks";
const SAMPLES: usize = 20_000;

/// A replay and a comparison for every configuration of the case, then the known frequencies.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    match Fixture::open(dir, CASE) {
        Ok(fx) => {
            let fx = Arc::new(fx);
            for name in fx.json["configs"].as_object().expect("configs").keys() {
                type Check = fn(&Fixture, &str, MaskConfig) -> Result<(), Failed>;
                let checks: [(&str, Check); 2] = [("replay", replay), ("distribution", compare)];
                for (kind, check) in checks {
                    let (fx, name) = (fx.clone(), name.clone());
                    let label = format!("{CASE}::{kind}_{name}");
                    trials.push(Trial::test(label, move || check(&fx, &name, config(&fx, &name))));
                }
            }
        }
        Err(missing) => trials.push(Trial::test(format!("{CASE}::files"), || Err(missing))),
    }
    let original = MaskConfig::block(14, 14, 75, 16);
    trials.push(Trial::test(format!("{CASE}::spec_statistics"), move || {
        let mut rng = Philox::new(1, Purpose::Mask, 0, 0);
        none(violations(|| original.draw_blocks(&mut rng)))
    }));
    for variant in [
        Variant::Correct,
        Variant::UniformAspect,
        Variant::FullSideAllowed,
        Variant::ExclusiveOffsets,
    ] {
        trials.push(Trial::test(format!("{CASE}::spec_against_{variant:?}"), move || {
            let mut rng = Philox::new(2, Purpose::Mask, 0, 0);
            let found = violations(|| variant.draw(&mut rng));
            match variant {
                Variant::Correct => none(found),
                _ if found.is_empty() => Err("the wrong variant passes".into()),
                _ => Ok(()),
            }
        }));
    }
    trials
}

fn none(violations: Vec<String>) -> Result<(), Failed> {
    if violations.is_empty() { Ok(()) } else { Err(violations.join("\n").into()) }
}

fn config(fx: &Fixture, name: &str) -> MaskConfig {
    let c = &fx.json["configs"][name];
    let int = |key: &str| c[key].as_u64().unwrap_or_else(|| panic!("{name}: {key}")) as usize;
    MaskConfig {
        masking: Masking::Block,
        height: int("height"),
        width: int("width"),
        count: int("num_masking_patches"),
        min_block: int("min_num_patches"),
        max_block: c["max_num_patches"].as_u64().map(|n| n as usize),
        aspect: (c["min_aspect"].as_f64().expect("min"), c["max_aspect"].as_f64().expect("max")),
    }
}

/// The very masks, from the recorded draws, all of which must be used.
fn replay(fx: &Fixture, name: &str, cfg: MaskConfig) -> Result<(), Failed> {
    let at = |what: &str| format!("trace/{name}/{what}");
    let masks = fx.f64(&at("masks"));
    let replays = Replay::all(fx, &at("values"), &at("kinds"), &at("offsets"));
    let cells = cfg.height * cfg.width;
    assert_eq!(replays.len() * cells, masks.len());
    for (i, (mut replay, wanted)) in replays.into_iter().zip(masks.chunks(cells)).enumerate() {
        let got: Vec<f64> =
            cfg.draw(&mut replay).into_iter().map(|m| f64::from(u8::from(m))).collect();
        assert_eq!((got.as_slice(), replay.left()), (wanted, 0), "mask {i}");
    }
    Ok(())
}

/// Masked patches, and neighbouring pairs of them along rows and along columns.
fn counts(mask: &[bool], width: usize) -> [f64; 3] {
    let rows = mask.chunks(width);
    let along = rows.clone().flat_map(|r| r.windows(2)).filter(|p| p[0] && p[1]).count();
    let down = mask.iter().zip(&mask[width..]).filter(|(a, b)| **a && **b).count();
    [mask.iter().filter(|&&m| m).count(), along, down].map(|n| n as f64)
}

/// Our masks against the stored sample: frequency of every patch, histogram of the counts, mean
/// count and adjacency, each within five standard errors of the difference.
fn compare(fx: &Fixture, name: &str, cfg: MaskConfig) -> Result<(), Failed> {
    let cells = cfg.height * cfg.width;
    let stored = format!("masks/{name}");
    let bytes = fx.f64(&stored);
    let unpack = |row: &[f64]| -> Vec<bool> {
        (0..cells).map(|i| (row[i / 8] as u8) & (0x80 >> (i % 8)) != 0).collect()
    };
    let theirs: Vec<_> = bytes.chunks(fx.shape(&stored)[1]).map(unpack).collect();
    let mut rng = Philox::new(3, Purpose::Mask, 0, 0);
    let ours: Vec<_> = (0..SAMPLES).map(|_| cfg.draw(&mut rng)).collect();

    let rate = 1.0 / theirs.len() as f64 + 1.0 / ours.len() as f64;
    let mut found = Vec::new();
    let mut near = |what: String, got: f64, wanted: f64, variance: f64| {
        let limit = 5.0 * (variance * rate).sqrt() + 1.0 / theirs.len() as f64;
        if (got - wanted).abs() > limit {
            found.push(format!("{what}: {got:.5}, stored {wanted:.5}, limit {limit:.5}"));
        }
    };
    let share = |f: &dyn Fn(&Vec<bool>) -> bool| {
        ours.iter().filter(|mask| f(mask)).count() as f64 / ours.len() as f64
    };
    for (i, wanted) in fx.f64(&format!("frequency/{name}")).into_iter().enumerate() {
        near(format!("patch {i}"), share(&|mask| mask[i]), wanted, wanted * (1.0 - wanted));
    }
    let statistics = &fx.json["statistics"][name];
    let stored = |key: &str| statistics[key].as_f64().unwrap_or_else(|| panic!("{key}"));
    let histogram = statistics["count_histogram"].as_object().expect("count_histogram");
    for (count, times) in histogram {
        let count: f64 = count.parse().expect("a count");
        let wanted = times.as_f64().expect("times") / theirs.len() as f64;
        let got = share(&|mask| counts(mask, cfg.width)[0] == count);
        near(format!("masks of {count}"), got, wanted, wanted * (1.0 - wanted));
    }
    let tallies: [Vec<[f64; 3]>; 2] =
        [&ours, &theirs].map(|all| all.iter().map(|mask| counts(mask, cfg.width)).collect());
    let [ours, theirs] = tallies.each_ref().map(|all| {
        [0, 1, 2].map(|i| all.iter().map(|tally| tally[i]).sum::<f64>() / all.len() as f64)
    });
    let variance = |f: &dyn Fn(&[f64; 3]) -> f64| {
        tallies[1].iter().map(|tally| f(tally).powi(2)).sum::<f64>() / tallies[1].len() as f64
    };
    near("mean count".into(), ours[0], stored("mean_count"), variance(&|t| t[0] - theirs[0]));
    for (i, key) in [(1, "horizontal_adjacency"), (2, "vertical_adjacency")] {
        // A ratio of means varies like its residual.
        let ratio = stored(key);
        let spread = variance(&|t| (t[i] - ratio * t[0]) / theirs[0]);
        near(key.into(), ours[i] / ours[0], ratio, spread);
    }
    none(found)
}

/// Where 20,000 masks of the original setting leave its known frequencies by more than chance.
fn violations(mut draw: impl FnMut() -> (Vec<bool>, Vec<CropBox>)) -> Vec<String> {
    const SIDE: usize = 14;
    /// Frequencies of the upper left quadrant, averaged over the symmetries of the square.
    const QUADRANT: [[f64; 7]; 7] = [
        [0.0420, 0.0824, 0.1185, 0.1480, 0.1698, 0.1838, 0.1905],
        [0.0824, 0.1582, 0.2244, 0.2770, 0.3154, 0.3397, 0.3517],
        [0.1185, 0.2244, 0.3142, 0.3849, 0.4358, 0.4679, 0.4837],
        [0.1480, 0.2770, 0.3849, 0.4680, 0.5267, 0.5647, 0.5828],
        [0.1698, 0.3153, 0.4358, 0.5267, 0.5906, 0.6318, 0.6511],
        [0.1838, 0.3397, 0.4679, 0.5647, 0.6318, 0.6752, 0.6959],
        [0.1905, 0.3517, 0.4837, 0.5828, 0.6511, 0.6959, 0.7167],
    ];
    /// Mean frequency of the concentric rings, outermost first, with its standard error.
    const RINGS: [(f64, f64); 7] = [
        (0.1406, 0.0007),
        (0.2886, 0.0007),
        (0.4288, 0.0007),
        (0.5452, 0.0008),
        (0.6313, 0.0013),
        (0.6890, 0.0020),
        (0.7167, 0.0027),
    ];
    let n = SAMPLES as f64;
    let (mut total, mut full, mut blocks, mut agreement) = (0, 0, 0, 0.0);
    let (mut most, mut least_area, mut longest) = (0, usize::MAX, 0);
    let mut frequency = vec![0.0; SIDE * SIDE];
    for _ in 0..SAMPLES {
        let (mask, placed) = draw();
        let [masked, along, down] = counts(&mask, SIDE);
        let hidden = masked as usize;
        total += hidden;
        full += usize::from(hidden == 75);
        most = most.max(hidden);
        blocks += placed.len();
        least_area = least_area.min(placed[0].height * placed[0].width);
        longest = placed.iter().fold(longest, |l, b| l.max(b.height).max(b.width));
        let open: Vec<bool> = mask.iter().map(|m| !m).collect();
        let [_, open_along, open_down] = counts(&open, SIDE);
        let pairs = (2 * SIDE * (SIDE - 1)) as f64;
        agreement += (along + down + open_along + open_down) / pairs;
        mask.iter().zip(&mut frequency).for_each(|(&m, f)| *f += f64::from(u8::from(m)) / n);
    }
    let mut found = Vec::new();
    let mut near = |what: String, got: f64, wanted: f64, limit: f64| {
        if (got - wanted).abs() >= limit {
            found.push(format!("{what}: {got:.5}, want {wanted} within {limit:.5}"));
        }
    };
    near("mean count".into(), total as f64 / n, 74.470, 0.035);
    near("share of full masks".into(), full as f64 / n, 0.6635, 0.017);
    near("blocks".into(), blocks as f64 / n, 4.125, 0.052);
    near("agreement of neighbours".into(), agreement / n, 0.88977, 0.0008);
    let ring = |y: usize, x: usize| y.min(x).min(SIDE - 1 - y).min(SIDE - 1 - x);
    let mut rings = [(0.0, 0.0); 7];
    for y in 0..SIDE {
        for x in 0..SIDE {
            let got = frequency[y * SIDE + x];
            let p = QUADRANT[y.min(SIDE - 1 - y)][x.min(SIDE - 1 - x)];
            near(format!("patch {y},{x}"), got, p, 5.0 * (p * (1.0 - p) / n).sqrt());
            let (sum, cells) = &mut rings[ring(y, x)];
            (*sum, *cells) = (*sum + got, *cells + 1.0);
        }
    }
    for (i, ((sum, cells), (wanted, error))) in rings.into_iter().zip(RINGS).enumerate() {
        near(format!("ring {i}"), sum / cells, wanted, 5.0 * error);
    }
    near("largest count".into(), most as f64, 75.0, 0.5);
    if least_area < 12 {
        found.push(format!("a first block has only {least_area} patches"));
    }
    if longest >= SIDE {
        found.push("a block is as long as the grid".into());
    }
    found
}

/// Mistakes that are easily made, on an implementation of its own; `Correct` shows that this
/// one differs from the crate's in nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    Correct,
    UniformAspect,
    FullSideAllowed,
    ExclusiveOffsets,
}

impl Variant {
    fn draw(self, rng: &mut Philox) -> (Vec<bool>, Vec<CropBox>) {
        let (side, mut mask, mut blocks, mut left) = (14, vec![false; 196], Vec::new(), 75);
        let mut tries = 0;
        while left > 0 && tries < 10 {
            tries += 1;
            let area = Draws::uniform(rng, 16.0, left as f64);
            let aspect = match self {
                Self::UniformAspect => Draws::uniform(rng, 0.3, 1.0 / 0.3),
                _ => Draws::uniform(rng, 0.3f64.ln(), -(0.3f64.ln())).exp(),
            };
            let height = (area * aspect).sqrt().round_ties_even() as usize;
            let width = (area / aspect).sqrt().round_ties_even() as usize;
            let limit = if self == Self::FullSideAllowed { side } else { side - 1 };
            if height > limit || width > limit {
                continue;
            }
            let spare = usize::from(self == Self::ExclusiveOffsets);
            let top = rng.integer(side - height - spare);
            let left_edge = rng.integer(side - width - spare);
            let inside = |i: usize| {
                (top..top + height).contains(&(i / side))
                    && (left_edge..left_edge + width).contains(&(i % side))
            };
            let fresh = (0..196).filter(|&i| inside(i) && !mask[i]).count();
            if fresh > 0 && fresh <= left {
                (0..196).filter(|&i| inside(i)).for_each(|i| mask[i] = true);
                blocks.push(CropBox { top, left: left_edge, height, width });
                (left, tries) = (left - fresh, 0);
            }
        }
        (mask, blocks)
    }
}
