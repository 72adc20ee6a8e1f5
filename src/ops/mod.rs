//! The ops, one file each: formula, derivation, CPU implementation, case. The CUDA side of op X is in
//! `X/cuda.rs`, its kernels in `cuda/X.cu`.
//!
//! Adding an op means its file, its CUDA side, its line in [`crate::backend`] and its lines in
//! [`visit_cases`], [`visit_large_cases`] and [`visit_empty_cases`]; `tests/coverage.rs` names what is missing.

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

/// Shows one case or two of every op to `v`, as large as in training BEiT-B, or nearly. The judge in f64
/// takes seconds for some of them.
pub fn visit_large_cases<V: Visitor>(v: &mut V) {
    adamw::large_cases(v);
    attention::large_cases(v);
    conv2d::large_cases(v);
    convert::large_cases(v);
    cross_entropy::large_cases(v);
    gather_rows::large_cases(v);
    gelu::large_cases(v);
    global_norm::large_cases(v);
    gumbel_softmax::large_cases(v);
    kl_aggregate::large_cases(v);
    kl_uniform::large_cases(v);
    layer_norm::large_cases(v);
    linear::large_cases(v);
    linear_gelu::large_cases(v);
    logit_laplace::large_cases(v);
    max_pool::large_cases(v);
    mean_pool::large_cases(v);
    mse::large_cases(v);
    patch_embed::large_cases(v);
    rel_pos_bias::large_cases(v);
    relu::large_cases(v);
    residual::large_cases(v);
    residual_norm::large_cases(v);
    tokens::large_cases(v);
    upsample::large_cases(v);
}

/// Shows one case without elements of every op to `v`: the result is empty, or a sum of nothing, or the op
/// refuses with a text that its documentation gives ([`crate::case::Inputs::refused`]).
pub fn visit_empty_cases<V: Visitor>(v: &mut V) {
    adamw::empty_case(v);
    attention::empty_case(v);
    conv2d::empty_case(v);
    convert::empty_case(v);
    cross_entropy::empty_case(v);
    gather_rows::empty_case(v);
    gelu::empty_case(v);
    global_norm::empty_case(v);
    gumbel_softmax::empty_case(v);
    kl_aggregate::empty_case(v);
    kl_uniform::empty_case(v);
    layer_norm::empty_case(v);
    linear::empty_case(v);
    linear_gelu::empty_case(v);
    logit_laplace::empty_case(v);
    max_pool::empty_case(v);
    mean_pool::empty_case(v);
    mse::empty_case(v);
    patch_embed::empty_case(v);
    rel_pos_bias::empty_case(v);
    relu::empty_case(v);
    residual::empty_case(v);
    residual_norm::empty_case(v);
    tokens::empty_case(v);
    upsample::empty_case(v);
}
