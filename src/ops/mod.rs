//! The ops, one file each: formula, derivation, CPU implementation, case. The CUDA side of op X is in
//! `X/cuda.rs`, its kernels in `cuda/X.cu`.
//!
//! A new op is those three files and its line in the table below, which makes its module, its part of
//! [`Backend`] and its share of the cases. `docs/architecture.md` has the recipe, and `tests/new_op.sh`
//! follows it.

pub mod case;

use crate::parts::Parts;
use case::Visitor;

/// Makes of each line `module: Trait` the module, the bound of [`Backend`] and the calls to its cases.
macro_rules! ops {
    ($($op:ident: $trait:ident,)*) => {
        $(pub mod $op;)*

        /// The whole vocabulary: layers and models need nothing else of a device.
        pub trait Backend: Parts $(+ $op::$trait)* {}
        impl<B: Parts $(+ $op::$trait)*> Backend for B {}

        /// Names of the ops, which are those of their files.
        pub const NAMES: &[&str] = &[$(stringify!($op)),*];

        /// Shows every case of every op to `v`.
        pub fn visit_cases<V: Visitor>(v: &mut V) {
            $($op::cases(v);)*
        }

        /// Shows one case or two of every op to `v`, as large as in training BEiT-B, or nearly. The
        /// judge in f64 takes seconds for some of them.
        pub fn visit_large_cases<V: Visitor>(v: &mut V) {
            $($op::large_cases(v);)*
        }

        /// Shows one case without elements of every op to `v`: the result is empty, or a sum of
        /// nothing, or the op refuses with a text that its documentation gives
        /// ([`case::Inputs::refused`]).
        pub fn visit_empty_cases<V: Visitor>(v: &mut V) {
            $($op::empty_case(v);)*
        }
    };
}

ops! {
    adamw: AdamWOp,
    attention: AttentionOp,
    batch_norm: BatchNormOp,
    conv2d: Conv2dOp,
    convert: ConvertOp,
    cross_entropy: CrossEntropyOp,
    dropout2d: Dropout2dOp,
    gather_rows: GatherRowsOp,
    gaussian: GaussianOp,
    gelu: GeluOp,
    global_norm: GlobalNormOp,
    gumbel_softmax: GumbelSoftmaxOp,
    kl_aggregate: KlAggregateOp,
    kl_uniform: KlUniformOp,
    layer_norm: LayerNormOp,
    linear: LinearOp,
    linear_gelu: LinearGeluOp,
    logit_laplace: LogitLaplaceOp,
    max_pool: MaxPoolOp,
    mean_pool: MeanPoolOp,
    mse: MseOp,
    patch_embed: PatchEmbedOp,
    pixel_shuffle: PixelShuffleOp,
    pixels: PixelsOp,
    rel_pos_bias: RelPosBiasOp,
    relu: ReluOp,
    resample: ResampleOp,
    residual: ResidualOp,
    residual_norm: ResidualNormOp,
    resize: ResizeOp,
    self_distillation: SelfDistillationOp,
    tokens: TokensOp,
    unit_rows: UnitRowsOp,
    upsample: UpsampleOp,
    weight_norm: WeightNormOp,
}
