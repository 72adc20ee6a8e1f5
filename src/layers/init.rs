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
