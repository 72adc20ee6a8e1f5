//! The ops, one file each: formula, derivation, CPU implementation, case. The CUDA side of op X is in
//! `X/cuda.rs`, its kernels in `cuda/X.cu`.
//!
//! Adding an op means its file, its CUDA side, its line in [`crate::backend`] and its line in
//! [`visit_cases`].

pub mod adamw;
pub mod attention;
pub mod conv2d;
pub mod convert;
pub mod cross_entropy;
pub mod gather_rows;
pub mod gelu;
pub mod global_norm;
pub mod gumbel_softmax;
pub mod kl_aggregate;
pub mod kl_uniform;
pub mod layer_norm;
pub mod linear;
pub mod linear_gelu;
pub mod logit_laplace;
pub mod max_pool;
pub mod mean_pool;
pub mod mse;
pub mod patch_embed;
pub mod rel_pos_bias;
pub mod relu;
pub mod residual;
pub mod residual_norm;
pub mod tokens;
pub mod upsample;

use crate::case::Visitor;

/// Shows every case of every op to `v`.
pub fn visit_cases<V: Visitor>(v: &mut V) {
    adamw::cases(v);
    attention::cases(v);
    conv2d::cases(v);
    convert::cases(v);
    cross_entropy::cases(v);
    gather_rows::cases(v);
    gelu::cases(v);
    global_norm::cases(v);
    gumbel_softmax::cases(v);
    kl_aggregate::cases(v);
    kl_uniform::cases(v);
    layer_norm::cases(v);
    linear::cases(v);
    linear_gelu::cases(v);
    logit_laplace::cases(v);
    max_pool::cases(v);
    mean_pool::cases(v);
    mse::cases(v);
    patch_embed::cases(v);
    rel_pos_bias::cases(v);
    relu::cases(v);
    residual::cases(v);
    residual_norm::cases(v);
    tokens::cases(v);
    upsample::cases(v);
}
