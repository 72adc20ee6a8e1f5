//! Layers: parameters and wiring. The maths is in [`crate::ops`].
//!
//! A layer is built once against a registry and holds handles. `forward` takes a [`Ctx`], and returns
//! what it computes and a cache that holds only what `backward` reads; `backward` takes a [`Grad`] and
//! the cache, returns activation gradients fresh and adds parameter gradients to `grad.g`. What is one
//! op (a linear layer, a norm, a convolution, the patch embedding) has its parameters beside the op and
//! is used directly; it takes its input again by reference from its owner's cache, so that nothing is
//! stored twice.
//!
//! [`Ctx`]: crate::params::Ctx
//! [`Grad`]: crate::params::Grad

pub mod attention;
pub mod block;
pub mod conv_block;
pub mod deconv;
pub mod init;
pub mod mlp;
pub mod norm_mlp;
pub mod position;
pub mod resblock;
pub mod row_products;

pub use init::{TRUNC_NORMAL, depth_scaled};

use crate::ops::case::Visitor;

/// Shows every case of every layer to `v`.
pub fn visit_cases<V: Visitor>(v: &mut V) {
    attention::cases(v);
    mlp::cases(v);
    block::cases(v);
    conv_block::cases(v);
    resblock::cases(v);
    deconv::cases(v);
    row_products::cases(v);
    norm_mlp::cases(v);
}
