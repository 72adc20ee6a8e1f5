//! The bound of the two stages is the CPU's.

use super::{device, text};
use beit::apply::elbo::{BoundTerms, Chances, Seen, TwoStages};
use beit::cuda::Cuda;
use beit::data::pixels::{HALF, PixelMap};
use beit::data::{Image, MaskConfig, Masking, Views};
use beit::models::beit::MaskedImageModel;
use beit::models::config::{BeitConfig, DvaeConfig};
use beit::models::dvae::Dvae;
use beit::ops::Backend;
use beit::params::{Layout, Params, initial_values};
use cuda_emu::Order;
use libtest_mimic::Failed;

/// Terms of two images under models at ten times their initial values.
fn terms<B: Backend>(bk: &B) -> Vec<BoundTerms> {
    let (dvae, sizes) = (Dvae::new(&DvaeConfig::test()), BeitConfig::test());
    let model = MaskedImageModel::new(bk, &sizes);
    let weights = |layout: &Layout, by: f32| {
        let host: Vec<f32> = initial_values(layout, 4).into_iter().map(|x| by * x).collect();
        Params::from_host(bk, layout, &host)
    };
    let (own, encoder) = (weights(&dvae.layout, 1.5), weights(&model.layout, 10.0));
    let image = |(h, w): (usize, usize), by: usize| {
        Image::new(h, w, (0..h * w * 3).map(|i| (i * by % 256) as u8).collect())
    };
    let views = |by| Views {
        patch: image(sizes.encoder.image, by),
        tokens: image(dvae.config.image, by + 2),
    };
    let seen: [Seen; 2] = [(3, views(41)), (8, views(97))];
    let stages = TwoStages {
        tokenizer: (&dvae, &own),
        encoder: (&model, &encoder),
        normalise: PixelMap::normalise(HALF.0, HALF.1),
        masks: MaskConfig { masking: Masking::Random, ..MaskConfig::block(2, 3, 2, 1) },
        chances: Chances { seed: 1, draws: 2, masks: 2, temperature: 0.5 },
    };
    stages.measure(bk, &seen)
}

/// In f64, to rounding.
pub fn is_the_cpus() -> Result<(), Failed> {
    let judge = terms(&beit::cpu::Cpu::<f64>::new());
    let found = terms(&Cuda::<f64>::on(&device(Order::Forward)?).map_err(text)?);
    let numbers = |t: &BoundTerms| {
        let likelihoods = [t.hard, t.relaxed, t.density, t.point];
        let uniform = [t.uniform_all, t.uniform_masked];
        [&likelihoods[..], &uniform, &[t.prior_all, t.prior_masked, t.surprise, t.hidden]].concat()
    };
    for (found, judge) in found.iter().zip(&judge) {
        let near = |(a, b): (f64, f64)| b.abs() > 0.01 && (a - b).abs() < 1e-9 * b.abs();
        if !numbers(found).into_iter().zip(numbers(judge)).all(near) {
            return Err(format!("{found:?}, {judge:?}").into());
        }
    }
    Ok(())
}
