//! Layers: parameters and wiring. The maths is in [`crate::ops`].
//!
//! A layer is built once against a registry and holds handles. `forward` returns what it computes
//! and a cache that holds only what `backward` reads; `backward` takes the cache, returns activation
//! gradients fresh and adds parameter gradients to `g`. A leaf layer takes its input again by
//! reference from its owner's cache, so that nothing is stored twice.

pub mod attention;
pub mod block;
pub mod conv;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod patch_embed;
pub mod position;
pub mod rel_pos_bias;
pub mod resblock;

use crate::ops::case::Visitor;
use crate::params::Init;

/// Shows every case of every layer to `v`. Linear, norm, patch embedding and relative-position bias
/// are one op each, whose own cases check them.
pub fn visit_cases<V: Visitor>(v: &mut V) {
    attention::cases(v);
    mlp::cases(v);
    block::cases(v);
    resblock::cases(v);
}

/// Truncated normal with deviation 0.02, cut at one deviation: the pretraining model's general
/// initialisation (`modeling_pretrain.py`, the local `trunc_normal_`).
pub const TRUNC_NORMAL: Init = Init::TruncatedNormal { std: 0.02, bound: 0.02, scale: 1.0 };

/// The same divided by √(2 (i + 1)) for the layers of block i that write into the residual stream.
pub fn depth_scaled(block: usize) -> Init {
    let scale = 1.0 / (2.0 * (block as f64 + 1.0)).sqrt();
    Init::TruncatedNormal { std: 0.02, bound: 0.02, scale }
}
