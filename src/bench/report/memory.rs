//! How many bytes of tensors a training step holds at most, from the sizes alone.
//!
//! With P parameters, b images of a part, and per image N tokens of width C, H heads, hidden width h, L
//! blocks, M hidden patches, vocabulary V; e bytes of `Elem` and m of `Master`:
//!
//! * weights, gradients and two moments: 4 P m, and P e more where products read a copy in bf16
//! * gradients of the other parts of a batch ([`crate::cpu::parts`]): (parts − 1) P m
//! * a part's image: b Ih Iw 3 e
//! * kept by the stem: the stream b N C m, its statistics 2 b N m, and the bias H N² m
//! * kept by a block: y₀, q k v, attention's output, both branches and y₁, 8 b N C e; the MLP before and
//!   after GELU, 2 b N h e; two streams with statistics, 2 b N (C + 2) m; log-sum-exp b N H m
//! * at the loss: the hidden rows and the logits, b M (2 C + V) e
//! * in the last block's backward: the stream's gradient b N C m and three of its size in e, the MLP's
//!   hidden gradient b N h e, and the bias's gradient H N² m
//!
//! Everything is there at once but the last two, of which the larger counts. Parts that run at the same
//! time, at most one per thread, count each. A thread that waits for another may take up a part
//! beside its own: then more is held than is predicted. Buffers inside a product or an op, and those that
//! wait to be used again, are not tensors.

use crate::cpu::parts;
use crate::models::config::BeitConfig;
use crate::storage::Storage;

/// Largest sum of all tensors of a step on `batch` images with `masked` hidden patches each.
pub fn predicted_bytes<B: Storage>(config: &BeitConfig, masked: usize, batch: usize) -> f64 {
    let (elem, master) = (size_of::<B::Elem>(), size_of::<B::Master>());
    let parts = if B::ASYNCHRONOUS { 1 } else { parts(batch) };
    let at_once = parts.min(rayon::current_num_threads());
    let p = config.parameters() as usize;
    let narrow = if elem < master { p * elem } else { 0 };
    let of_parameters = (4 + parts - 1) * p * master + narrow;
    let part = batch.div_ceil(parts);
    (of_parameters + at_once * of_part(config, masked, part, (elem, master))) as f64
}

fn of_part(config: &BeitConfig, masked: usize, b: usize, (e, m): (usize, usize)) -> usize {
    let (n, c, h) = (config.encoder.tokens(), config.encoder.width, config.encoder.mlp_width);
    let (heads, v, (ih, iw)) = (config.encoder.heads, config.outputs(), config.encoder.image);
    let image = b * ih * iw * 3 * e;
    let bias = if config.encoder.shared_rel_pos_bias { heads * n * n * m } else { 0 };
    let stem = b * n * (c + 2) * m + bias;
    let block = b * n * (8 * c + 2 * h) * e + b * n * (2 * (c + 2) + heads) * m;
    let loss = b * masked * (2 * c + v) * e;
    let backward = b * n * c * (m + 3 * e) + b * n * h * e + bias;
    image + stem + config.encoder.depth * block + loss.max(backward)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::step::{StepBench, Stepper};
    use crate::cpu::Cpu;

    /// Measured on one thread, where no part runs beside another.
    #[test]
    fn prediction_is_near_to_what_is_held() {
        for (config, batch) in [(BeitConfig::tiny(), 4), (BeitConfig::tiny(), 16)] {
            let bench = StepBench {
                config,
                masked: 25,
                batch,
                steps: 1,
                recompute: false,
                tokenizer: None,
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            pool.install(|| {
                let bk = Cpu::<f32>::new();
                Stepper::new(&bk, &bench, false).unwrap().first_gradients();
                let held = bk.peak_bytes().unwrap() as f64;
                let ratio = predicted_bytes::<Cpu<f32>>(&bench.config, 25, batch) / held;
                assert!((0.95..1.05).contains(&ratio), "batch {batch}: {ratio} of {held}");
            });
        }
    }
}
