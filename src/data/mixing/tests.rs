//! Mixing by hand, shares, odd batches, refused settings.

use super::*;
use crate::rng::{Philox, Purpose};

fn rng(n: u32) -> Philox {
    Philox::new(4, Purpose::Mix, n, 0)
}

#[test]
fn a_batch_by_hand() {
    let blend = ImageMix { lambda: 0.25, window: None };
    let window = Some(CropBox { top: 0, left: 1, height: 1, width: 1 });
    let paste = ImageMix { lambda: 0.5, window };
    let first: Vec<f32> = vec![4.0; 6];
    let last = vec![8.0, 8.0, 8.0, 16.0, 16.0, 16.0];
    let mut images = vec![first, last];
    mix_images(&[blend, paste], &mut images, 2);
    assert_eq!(images[0], [7.0, 7.0, 7.0, 13.0, 13.0, 13.0]);
    // The partner as it was before.
    assert_eq!(images[1], [8.0, 8.0, 8.0, 4.0, 4.0, 4.0]);
    let targets = soft_targets(&[blend, paste], &[2, 0], 4, 0.0);
    assert_eq!(targets, [0.75, 0.0, 0.25, 0.0, 0.5, 0.0, 0.5, 0.0]);
}

#[test]
fn targets_add_up_to_one() {
    for (n, mode) in [MixMode::Batch, MixMode::Pair, MixMode::Elem].into_iter().enumerate() {
        let cfg = MixConfig { mode, ..MixConfig::default() };
        let mixes = cfg.draw(7, 9, 5, &mut rng(n as u32));
        assert_eq!(mixes.len(), 7);
        let targets = soft_targets(&mixes, &[0, 3, 1, 2, 2, 4, 0], 5, 0.1);
        for row in targets.chunks(5) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6 && row.iter().all(|&t| t >= 0.0));
        }
    }
}

/// λ is the share of pixels that are the image's own, for both rules of the box and bounds of its sides.
#[test]
fn lambda_is_the_share_that_is_left() {
    let cut = MixConfig { mixup_alpha: 0.0, mode: MixMode::Elem, ..MixConfig::default() };
    let laws = [
        cut.clone(),
        MixConfig { box_rule: BoxRule::FullSide, ..cut.clone() },
        MixConfig { cutmix_minmax: Some((0.2, 0.8)), ..cut },
    ];
    for (n, cfg) in laws.into_iter().enumerate() {
        cfg.validate().unwrap();
        for (h, w) in [(11, 7), (1, 1), (1, 40), (64, 64)] {
            let mixes = cfg.draw(8, h, w, &mut rng(n as u32));
            let mut images: Vec<_> = (0..8).map(|i| vec![i as f32; h * w * 3]).collect();
            mix_images(&mixes, &mut images, w);
            for (i, (image, mix)) in images.iter().zip(&mixes).enumerate() {
                let own = image.iter().filter(|&&x| x == i as f32).count() as f64;
                assert!((own / (h * w * 3) as f64 - mix.lambda).abs() < 1e-6, "{mix:?}");
            }
        }
    }
}

#[test]
fn choices_have_their_probabilities() {
    let cfg = MixConfig { prob: 0.6, switch_prob: 0.25, ..MixConfig::default() };
    let (mut mixed, mut cut) = (0, 0);
    for n in 0..4000 {
        let mix = cfg.draw(2, 64, 64, &mut rng(n))[0];
        assert!((0.0..=1.0).contains(&mix.lambda));
        mixed += usize::from(mix.lambda != 1.0);
        cut += usize::from(mix.window.is_some());
    }
    // Of cutmix, one in a few hundred has an empty box.
    let (mixed, cut) = (mixed as f64 / 4000.0, cut as f64 / 4000.0);
    assert!((mixed - 0.6).abs() < 0.03 && (cut - 0.15).abs() < 0.02, "{mixed} {cut}");
}

/// Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
#[test]
fn lambda_has_the_variance_of_its_law() {
    for alpha in [0.01, 0.2, 0.8, 1.0, 100.0] {
        let mut rng = rng(9);
        let lambdas: Vec<f64> = (0..20_000).map(|_| Draws::beta(&mut rng, alpha)).collect();
        assert!(lambdas.iter().all(|l| (0.0..=1.0).contains(l)), "{alpha}");
        let mean = lambdas.iter().sum::<f64>() / 20_000.0;
        let variance = lambdas.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / 20_000.0;
        let want = 0.25 / (2.0 * alpha + 1.0);
        assert!((mean - 0.5).abs() < 0.02, "{alpha}: mean {mean}");
        assert!((variance / want - 1.0).abs() < 0.05, "{alpha}: variance {variance}, want {want}");
    }
}

#[test]
fn partners_share_their_mix() {
    let same = |mode: MixMode, of: fn(usize) -> usize| {
        let mixes = MixConfig { mode, ..MixConfig::default() }.draw(6, 8, 8, &mut rng(1));
        (0..6).all(|i| mixes[i] == mixes[of(i)])
    };
    assert!(same(MixMode::Batch, |_| 0));
    assert!(same(MixMode::Pair, |i| 5 - i) && !same(MixMode::Pair, |_| 0));
    assert!(!same(MixMode::Elem, |i| 5 - i));
    let odd = MixConfig { mode: MixMode::Pair, ..MixConfig::default() }.draw(5, 8, 8, &mut rng(1));
    assert_eq!(odd[2], ImageMix::UNMIXED);
}

#[test]
fn settings_are_refused() {
    let cfg = MixConfig::default();
    let wrong = [
        MixConfig { mixup_alpha: -1.0, ..cfg.clone() },
        MixConfig { cutmix_alpha: f64::NAN, ..cfg.clone() },
        MixConfig { mixup_alpha: 0.0, cutmix_alpha: 0.0, ..cfg.clone() },
        MixConfig { prob: 1.5, ..cfg.clone() },
        MixConfig { cutmix_minmax: Some((0.8, 0.2)), ..cfg.clone() },
    ];
    assert!(cfg.validate().is_ok());
    assert!(wrong.iter().all(|cfg| cfg.validate().is_err()));
}
