//! Statements of the papers that a second of CPU can confirm.

use beit::cpu::Cpu;
use beit::models::beit::MaskedImageModel;
use beit::models::config::EncoderConfig;
use beit::ops::gumbel_softmax::{GumbelSoftmaxOp, Noise};
use beit::params::parameter_count;
use beit::tensor::Master;

type Cpu64 = Cpu<f64>;

/// 1611.00712, proposition 1 (b), and 1611.01144, eq. 1: the largest element of a relaxed sample is
/// element k with probability softmax(ℓ)_k, whatever the temperature.
#[test]
fn the_argmax_of_a_relaxed_sample_is_a_draw_from_the_softmax() {
    const ROWS: usize = 100_000;
    let logits = [1.0, 0.5, -0.3, 0.0];
    let total: f64 = logits.iter().map(|l: &f64| l.exp()).sum();
    let bk = Cpu64::new();
    let l = Master::<Cpu64>::from_vec(&bk, logits.repeat(ROWS), &[ROWS, 4]);
    for (step, temperature) in [(0, 1.0), (1, 1.0 / 16.0)] {
        let noise = Noise::Philox { seed: 7, step };
        let y = bk.gumbel_softmax_forward(&l, &noise, temperature, false).1;
        let mut counts = [0.0; 4];
        bk.argmax(&y).to_vec(&bk).into_iter().for_each(|k| counts[k as usize] += 1.0);
        for (count, logit) in counts.into_iter().zip(logits) {
            let (p, n) = (logit.exp() / total, ROWS as f64);
            let standard_error = (p * (1.0 - p) / n).sqrt();
            assert!((count / n - p).abs() < 4.0 * standard_error, "{temperature}: {count} {p}");
        }
    }
}

/// 2102.12092, section 2.1, and 1611.00712, proposition 1 (c): as the temperature falls, a relaxed
/// sample goes to a vertex. Means of the largest element over 20,000 samples of 64 equal codes.
#[test]
fn a_relaxed_sample_goes_to_a_vertex_as_the_temperature_falls() {
    const ROWS: usize = 20_000;
    let bk = Cpu64::new();
    let logits = Master::<Cpu64>::zeros(&bk, &[ROWS, 64]);
    let noise = Noise::Philox { seed: 7, step: 2 };
    let largest = [1.0, 0.5, 0.2, 1.0 / 16.0].map(|temperature| {
        let y = bk.gumbel_softmax_forward(&logits, &noise, temperature, false).1.to_vec(&bk);
        let max = |row: &[f64]| row.iter().fold(0.0f64, |m, &x| m.max(x));
        y.chunks(64).map(max).sum::<f64>() / ROWS as f64
    });
    println!("mean of the largest element at 1, 1/2, 1/5, 1/16: {largest:.3?}");
    assert!(largest.is_sorted(), "{largest:?}");
    assert!(largest[0] < 0.5 && largest[3] > 0.9, "{largest:?}");
}

/// 2010.11929, table 1: ViT-Base has 86 M parameters. The encoder here, of that shape and without
/// what the pretraining adds, has as many; only the biases of the keys are missing.
#[test]
fn the_plain_base_encoder_has_86_million_parameters() {
    let config = EncoderConfig {
        shared_rel_pos_bias: false,
        abs_pos: true,
        layer_scale: 0.0,
        ..EncoderConfig::base_patch16_224()
    };
    let layout = MaskedImageModel::new(&Cpu::<f32>::new(), &config.clone().with_vocab(8192)).layout;
    let pretraining = |name: &str| name == "mask_token" || name.starts_with("lm_head");
    let added: usize = layout.iter().filter(|p| pretraining(&p.name)).map(|p| p.len()).sum();
    let key_biases = config.depth * config.width;
    let encoder = parameter_count(&layout) - added + key_biases;
    println!("{encoder} parameters, {key_biases} biases of keys among them");
    // By hand: patches, tokens and positions, 12 blocks, last norm.
    let (c, h) = (768, 3072);
    let block = 4 * c + (c * 3 * c + 3 * c) + (c * c + c) + (c * h + h) + (h * c + c);
    let stem = (16 * 16 * 3 * c + c) + c + 197 * c;
    assert_eq!(encoder, stem + 12 * block + 2 * c);
    assert_eq!(format!("{:.0}", encoder as f64 / 1e6), "86");
}
