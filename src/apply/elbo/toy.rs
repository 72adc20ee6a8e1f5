//! The bound against the truth, where there are few enough token grids to add them all up: three codes on a
//! 2x2 grid, 81 grids.

use super::terms::{BoundTerms, Chances, Posterior, Seen, TwoStages};
use crate::cpu::Cpu;
use crate::data::pixels::Normalise;
use crate::data::{Image, MaskConfig, Masking, Views};
use crate::models::beit::MaskedImageModel;
use crate::models::config::{DvaeConfig, EncoderConfig};
use crate::models::dvae::Dvae;
use crate::ops::logit_laplace::LN_B;
use crate::params::{Ctx, Layout, Params, initial_values};
use crate::tensor::{Ids, Master, Tensor};

type Bk = Cpu<f64>;

const K: usize = 3;
const N: usize = 4;
const GRIDS: usize = 81;

/// The decoder's last convolution, kept small, so that ln b stays where it is not clamped.
const LAST: &str = "decoder.blocks.output";

/// A tokenizer of single pixels and an encoder of 2x2 patches, with weights of one's own.
struct Toy {
    bk: Bk,
    dvae: Dvae,
    model: MaskedImageModel<Bk>,
    w: [Params<Bk>; 2],
    chances: Chances,
}

/// Initial values, changed by name.
fn weights(
    bk: &Bk,
    layout: &Layout,
    seed: u64,
    change: impl Fn(&str, usize, f64) -> f64,
) -> Params<Bk> {
    let mut host: Vec<f64> = initial_values(layout, seed).into_iter().map(f64::from).collect();
    for p in layout.iter() {
        for (i, x) in host[p.range.clone()].iter_mut().enumerate() {
            *x = change(&p.name, i, *x);
        }
    }
    Params::from_host(bk, layout, &host)
}

impl Toy {
    fn new(
        tokenizer: impl Fn(&str, usize, f64) -> f64,
        encoder: impl Fn(&str, usize, f64) -> f64,
    ) -> Self {
        let bk = Bk::new();
        let dvae = Dvae::new(&DvaeConfig {
            width: 4,
            init_width: 3,
            groups: 1,
            blocks_per_group: 1,
            vocab: K,
            image: (2, 2),
        });
        let sizes = EncoderConfig { image: (4, 4), patch: 2, depth: 1, ..EncoderConfig::test() }
            .with_vocab(K);
        let model = MaskedImageModel::new(&bk, &sizes);
        let w = [weights(&bk, &dvae.layout, 5, tokenizer), weights(&bk, &model.layout, 6, encoder)];
        let chances = Chances { seed: 3, draws: 2, masks: 3, temperature: 0.2 };
        Self { bk, dvae, model, w, chances }
    }

    /// With q, decoder and prior that are far from uniform.
    fn lively() -> Self {
        let larger = |by: f64, i: usize, x: f64| by * x + 0.1 * ((i % 5) as f64 - 2.0);
        let tokenizer = move |name: &str, i: usize, x: f64| match name {
            _ if name.starts_with(LAST) => larger(0.5, i, x),
            _ => larger(2.0, i, x),
        };
        Self::new(tokenizer, move |_, i, x| larger(20.0, i, x))
    }

    fn stages(&self) -> TwoStages<'_, Bk> {
        TwoStages {
            tokenizer: (&self.dvae, &self.w[0]),
            encoder: (&self.model, &self.w[1]),
            normalise: crate::apply::frozen::views((4, 4), (2, 2), Normalise::Half).normalise(),
            masks: MaskConfig { masking: Masking::Random, ..MaskConfig::block(2, 2, 2, 1) },
            chances: self.chances,
        }
    }

    /// ln p(x|z) of every grid of codes, from the decoder's output and the Laplace distribution itself.
    fn likelihoods(&self, image: &Image) -> Vec<f64> {
        // The distribution seen from its nearer end: what is above μ has its sign turned.
        let below = |t: f64| if t < 0.0 { 0.5 * t.exp() } else { 1.0 - 0.5 * (-t).exp() };
        let mass = |v: u8, mu: f64, ln_b: f64| {
            let (x, h, b) = (0.8 * f64::from(v) / 255.0 + 0.1, 0.4 / 255.0, ln_b.exp());
            assert!((LN_B.0..=LN_B.1).contains(&ln_b), "{ln_b} would be clamped");
            let t = |x: f64| ((x / (1.0 - x)).ln() - mu) / b;
            let low = if v == 0 { f64::NEG_INFINITY } else { t(x - h) };
            let high = if v == 255 { f64::INFINITY } else { t(x + h) };
            (if low > 0.0 { below(-low) - below(-high) } else { below(high) - below(low) }).ln()
        };
        let of_grid = |codes: [usize; N]| {
            let ids = Ids::from_vec(&self.bk, codes.map(|k| k as u32).to_vec(), &[1, 2, 2]);
            let z = self.dvae.one_hot(&self.bk, &ids);
            let out = self.dvae.decode(Ctx::new(&self.bk, &self.w[0]), &z).0.to_vec(&self.bk);
            let pixels = image.pixels.chunks(3).zip(out.chunks(6));
            pixels.map(|(x, o)| (0..3).map(|c| mass(x[c], o[c], o[3 + c])).sum::<f64>()).sum()
        };
        (0..GRIDS).map(|g| of_grid(codes(g))).collect()
    }

    /// ln p(k|x̃) at every position, `[N,K]`.
    fn prior(&self, seen: &[Seen], mask: &[bool]) -> Vec<f64> {
        let stages = self.stages();
        let mut batch = stages.masked_batch(&self.bk, seen);
        batch.mask = Ids::from_vec(&self.bk, mask.iter().map(|&m| m.into()).collect(), &[1, N]);
        let logits = self.model.logits(Ctx::new(&self.bk, &self.w[1]), &batch).to_vec(&self.bk);
        ln_softmax(&logits)
    }

    /// The terms under one mask, with the expectation over q taken over all grids.
    fn terms(&self, seen: &[Seen], mask: &[bool]) -> (Posterior, BoundTerms) {
        let (stages, bk) = (self.stages(), &self.bk);
        let mut q = stages.posteriors(bk, &stages.logits(bk, seen));
        let mut terms = [BoundTerms::default()];
        let mut batch = stages.masked_batch(bk, seen);
        stages.add_prior(bk, &mut batch, &q, &[mask.to_vec()], &mut terms);
        let q = q.remove(0);
        let [mut terms] = terms;
        terms.uniform_all = q.uniform.iter().sum();
        for g in 0..GRIDS {
            let ids = Ids::from_vec(bk, codes(g).map(|k| k as u32).to_vec(), &[1, 2, 2]);
            let (mass, density) = stages.likelihoods(bk, seen, &self.dvae.one_hot(bk, &ids))[0];
            terms.hard += of_codes(&q.log_q, g).exp() * mass;
            terms.density += of_codes(&q.log_q, g).exp() * density;
        }
        (q, terms)
    }
}

/// The codes of a grid, by its number.
fn codes(grid: usize) -> [usize; N] {
    std::array::from_fn(|i| grid / K.pow(i as u32) % K)
}

/// The logarithm of a product of distributions `[N,K]` at a grid.
fn of_codes(log: &[f64], grid: usize) -> f64 {
    codes(grid).iter().enumerate().map(|(i, k)| log[i * K + k]).sum()
}

fn ln_sum(logs: impl Iterator<Item = f64>) -> f64 {
    logs.map(f64::exp).sum::<f64>().ln()
}

fn ln_softmax(logits: &[f64]) -> Vec<f64> {
    let rows = logits.chunks(K);
    rows.flat_map(|row| row.iter().map(|x| x - ln_sum(row.iter().copied()))).collect()
}

fn seen(pixels: [u8; 12]) -> Vec<Seen> {
    let patch = Image::new(4, 4, (0..48).map(|i| (i * 53 % 256) as u8).collect());
    vec![(7, Views { patch, tokens: Image::new(2, 2, pixels.to_vec()) })]
}

const UNIFORM: [f64; N * K] = [-1.098_612_288_668_109_8; N * K];
const PIXELS: [u8; 12] = [0, 17, 255, 130, 131, 3, 90, 200, 40, 255, 255, 128];
const MASK: [bool; N] = [true, false, false, true];

/// Each bound lies below the logarithm of the sum over all grids, by the divergence of q from the exact
/// posterior.
#[test]
fn the_bound_is_below_the_likelihood_by_the_divergence_from_the_posterior() {
    let (toy, seen) = (Toy::lively(), seen(PIXELS));
    let (q, terms) = toy.terms(&seen, &MASK);
    let (likelihoods, prior) = (toy.likelihoods(&seen[0].1.tokens), toy.prior(&seen, &MASK));
    let mixed: Vec<f64> =
        (0..N * K).map(|i| if MASK[i / K] { prior[i] } else { UNIFORM[i] }).collect();
    let masked = terms.hard - (terms.uniform_all - terms.uniform_masked + terms.prior_masked);
    for (name, bound, prior) in [
        ("uniform", terms.hard - terms.uniform_all, &UNIFORM[..]),
        ("masked", masked, &mixed),
        ("all", terms.hard - terms.prior_all, &prior),
    ] {
        let joint: Vec<f64> = (0..GRIDS).map(|g| likelihoods[g] + of_codes(prior, g)).collect();
        let exact = ln_sum(joint.iter().copied());
        let divergence: f64 = (0..GRIDS)
            .map(|g| (of_codes(&q.log_q, g), joint[g] - exact))
            .map(|(q, posterior)| q.exp() * (q - posterior))
            .sum();
        assert!(bound < exact - 0.01, "{name}: {bound} is not clearly below {exact}");
        assert!(
            (exact - bound - divergence).abs() < 1e-9,
            "{name}: {bound}, {exact}, {divergence}"
        );
    }
}

/// Four equal pixels and a decoder that looks at one position make the posterior a product; q is that.
#[test]
fn the_bound_is_the_likelihood_where_q_is_the_posterior() {
    let seen = seen([200, 90, 10, 200, 90, 10, 200, 90, 10, 200, 90, 10]);
    let favour = [0.9, -0.4, 0.1];
    let encoder =
        move |name: &str, i: usize, _: f64| if name == "lm_head.bias" { favour[i] } else { 0.0 };
    let local = |logits: [f64; K]| {
        move |name: &str, i: usize, x: f64| match name {
            "encoder.blocks.output.conv.b" => logits[i],
            _ if name.starts_with("encoder.") || name.contains("res_path") => 0.0,
            _ if name.starts_with(LAST) => 0.5 * x + 0.1 * ((i % 5) as f64 - 2.0),
            _ => 1.5 * x + 0.2 * ((i % 3) as f64 - 1.0),
        }
    };
    // ln p(x_i|k) from grids of one code, whose positions are all alike.
    let toy = Toy::new(local([0.0; K]), encoder);
    let all = toy.likelihoods(&seen[0].1.tokens);
    let one: [f64; K] = std::array::from_fn(|k| all[k * (1 + 3 + 9 + 27)] / N as f64);
    assert!((one[0] - one[1]).abs() > 0.1 && (one[1] - one[2]).abs() > 0.1, "{one:?}");
    let second: [f64; K] = std::array::from_fn(|k| one[k] + favour[k]);
    for (logits, learned) in [(one, false), (second, true)] {
        let toy = Toy::new(local(logits), encoder);
        let (_, terms) = toy.terms(&seen, &MASK);
        let prior = if learned { toy.prior(&seen, &MASK) } else { UNIFORM.to_vec() };
        let divergence = if learned { terms.prior_all } else { terms.uniform_all };
        let exact = ln_sum((0..GRIDS).map(|g| all[g] + of_codes(&prior, g)));
        let bound = terms.hard - divergence;
        assert!((bound - exact).abs() < 1e-9, "learned {learned}: {bound}, {exact}");
    }
}

/// Codes drawn from q have, on the mean, the expectation over q.
#[test]
fn drawn_codes_have_the_expectation_over_q() {
    let (mut toy, seen) = (Toy::lively(), seen(PIXELS));
    let (q, exact) = toy.terms(&seen, &MASK);
    let square: f64 = (toy.likelihoods(&seen[0].1.tokens).iter().enumerate())
        .map(|(g, x)| of_codes(&q.log_q, g).exp() * (x - exact.hard) * (x - exact.hard))
        .sum();
    toy.chances.draws = 2_000;
    let drawn = toy.stages().measure(&toy.bk, &seen)[0];
    let error = (square / 2_000.0).sqrt();
    assert!(error > 1e-3 && (drawn.hard - exact.hard).abs() < 4.0 * error, "{drawn:?}, {exact:?}");
    assert!((drawn.density - exact.density).abs() < 8.0 * error, "{drawn:?}, {exact:?}");
}

/// Relaxed codes are the drawn ones where τ is low, and the even mixture of all codes where it is high.
#[test]
fn relaxed_codes_go_from_the_drawn_ones_to_the_even_mixture() {
    let (mut toy, seen) = (Toy::lively(), seen(PIXELS));
    let mut at = |temperature: f64| {
        toy.chances = Chances { temperature, ..toy.chances };
        toy.stages().measure(&toy.bk, &seen)[0]
    };
    let (cold, warm, hot) = (at(1e-4), at(0.5), at(1e7));
    assert!((cold.relaxed - cold.hard).abs() < 1e-6, "{cold:?}");
    assert!((warm.relaxed - warm.hard).abs() > 1e-2, "{warm:?}");
    let even = Tensor::from_vec(&toy.bk, vec![1.0 / K as f64; N * K], &[1, 2, 2, K]);
    let mixture = toy.stages().likelihoods(&toy.bk, &seen, &even)[0].0;
    assert!((hot.relaxed - mixture).abs() < 1e-4, "{hot:?}, {mixture}");
}

/// Each image has masks and noise of its own, and others in each round.
#[test]
fn chance_differs_between_images_and_rounds() {
    let toy = Toy::lively();
    let stages = toy.stages();
    for images in [0, 1] {
        // Equal in one of six.
        let mask = |i: usize| stages.mask(i * images, (i * (1 - images)) as u32);
        assert!((1..20).any(|i| mask(i) != mask(0)), "images {images}");
    }
    let two = [(0, seen(PIXELS).remove(0).1), (1, seen(PIXELS).remove(0).1)];
    let noise = stages.noise(&two, 0);
    assert_ne!(noise[..N * K], noise[N * K..]);
    assert_ne!(noise, stages.noise(&two, 1));
    assert_eq!(noise[N * K..], stages.noise(&two[1..], 0));
}

/// An encoder that knows nothing is the uniform prior.
#[test]
fn the_divergence_from_an_even_prior_is_that_from_the_uniform_one() {
    let even = |name: &str, _: usize, x: f64| if name.starts_with("lm_head") { 0.0 } else { x };
    let toy = Toy::new(|_, _, x| 3.0 * x, even);
    let terms = toy.stages().measure(&toy.bk, &seen(PIXELS))[0];
    assert_eq!(terms.hidden, 2.0);
    assert!(terms.uniform_masked > 0.01 && terms.uniform_masked < terms.uniform_all, "{terms:?}");
    assert!((terms.prior_masked - terms.uniform_masked).abs() < 1e-12, "{terms:?}");
    assert!((terms.prior_all - terms.uniform_all).abs() < 1e-12, "{terms:?}");
    assert!((terms.surprise - 4.0 * 3f64.ln()).abs() < 1e-12, "{terms:?}");
}

/// KL(q ‖ uniform) is the op's.
#[test]
fn the_divergence_from_uniform_is_the_ops() {
    use crate::ops::kl_uniform::KlUniformOp;
    let (toy, seen) = (Toy::lively(), seen(PIXELS));
    let logits: Master<Bk> = toy.stages().logits(&toy.bk, &seen);
    let want = toy.bk.kl_uniform_forward(&logits).to_vec(&toy.bk);
    let got = &toy.stages().posteriors(&toy.bk, &logits)[0].uniform;
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}, {want:?}");
}

/// An image's figures are its own: neither its company in a batch nor the number of threads moves them.
#[test]
fn figures_depend_on_neither_batch_nor_threads() {
    let toy = Toy::lively();
    let images: Vec<Seen> = (0..7u8)
        .map(|i| (usize::from(i) * 3, seen(PIXELS.map(|x| x.wrapping_mul(i + 1))).remove(0).1))
        .collect();
    let measure = |batch: usize, threads: usize| -> Vec<BoundTerms> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let measure = |part: &[Seen]| toy.stages().measure(&toy.bk, part);
        pool.install(|| images.chunks(batch).flat_map(measure).collect())
    };
    let together = measure(7, 1);
    assert_eq!(together, measure(7, 3));
    let fields =
        |t: &BoundTerms| [t.hard, t.relaxed, t.point, t.uniform_all, t.prior_all, t.prior_masked];
    for batch in [1, 2, 3] {
        for (one, other) in together.iter().zip(measure(batch, 2)) {
            let near = |(a, b): (&f64, f64)| (a - b).abs() <= 1e-11 * a.abs();
            assert!(fields(one).iter().zip(fields(&other)).all(near), "{one:?}, {other:?}");
        }
    }
    assert!(together.windows(2).all(|t| t[0] != t[1]), "images differ");
}
