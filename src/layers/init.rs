//! What parameters start from.

use crate::params::Init;

/// Truncated normal with deviation 0.02, cut at one deviation: the pretraining model's general
/// initialisation (`modeling_pretrain.py`, the local `trunc_normal_`).
pub const TRUNC_NORMAL: Init = Init::TruncatedNormal { std: 0.02, bound: 0.02, scale: 1.0 };

/// The same divided by √(2 (i + 1)) for the layers of block i that write into the residual stream.
pub fn depth_scaled(block: usize) -> Init {
    let scale = 1.0 / (2.0 * (block as f64 + 1.0)).sqrt();
    Init::TruncatedNormal { std: 0.02, bound: 0.02, scale }
}

/// How a parameter of a fine-tuned model starts, by its name and its start in the pretraining model
/// (`modeling_finetune.py`): the truncated normal is cut at ±2, a hundred deviations, and the embedding of `patch`
/// pixels a side is left as PyTorch's convolutions start, uniform within 1/√(inputs of an output).
pub fn fine_tuned(patch: usize) -> impl Fn(&str, Init) -> Init {
    let convolution = Init::Uniform(1.0 / ((patch * patch * 3) as f64).sqrt());
    move |name, init| match init {
        _ if name.starts_with("patch_embed.") => convolution,
        Init::TruncatedNormal { std, scale, .. } => {
            Init::TruncatedNormal { std, bound: 2.0, scale }
        }
        other => other,
    }
}

/// How the head of a fine-tuned model starts: as its other weights, times `scale` (0.001 in the original, so that the
/// first loss is the logarithm of the number of classes).
pub fn fine_tuned_head(scale: f64) -> Init {
    Init::TruncatedNormal { std: 0.02, bound: 2.0, scale }
}
