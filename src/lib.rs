//! BEiT, BERT pre-training of image transformers, complete and with no deep-learning framework under
//! it: a discrete-VAE tokenizer, masked image modelling on its tokens, and what one does with the
//! result. Every forward and every backward is written by hand, and every one is checked against
//! finite differences and exact derivatives in f64 by a command that any user can run: `beit gradcheck`.
//!
//! What it does not do: there is no tape, no broadcasting, no graph. A model is plain Rust that calls
//! ops in order, and its backward calls the other half of each op in reverse. That costs lines where a
//! framework would need one; it means that whoever reads a file has seen all that happens.
//!
//! # Letters
//!
//! | letter | meaning |
//! | --- | --- |
//! | B | images in a batch |
//! | N, Np | tokens of an image with and without the class token, N = Np + 1 |
//! | C | width of the residual stream; channels |
//! | H, D | attention heads and their width, C = H·D |
//! | V | visual vocabulary of the encoder's head; K, the same number, in the tokenizer |
//! | M | hidden patches of a batch |
//! | P | side of a patch in pixels |
//! | Ih, Iw | image height and width in pixels |
//! | Gh, Gw | rows and columns of the patch grid; h, w those of the tokenizer's grid |
//!
//! All tensors are row-major, images and feature maps are `[B,H,W,C]`, and `dx` is the gradient of the
//! loss with respect to `x`.
//!
//! # Reading order
//!
//! One afternoon, from one op to the whole:
//!
//! 1. [`ops::layer_norm`]: one op in one file. Formula, derivation, CPU code and [`ops::case::Case`], from
//!    which its gradient check (`beit gradcheck layer_norm`), its parity test and its timing
//!    (`beit bench ops layer_norm`) follow. Every other op is built the same way; [`ops`] lists them.
//! 2. [`params`]: layers hold handles, all numbers lie in one flat buffer.
//! 3. [`layers::mlp`] and [`layers::block`]: a layer, and the Transformer block.
//! 4. [`models::beit`] and [`models::dvae`]: the two models, each in one sitting.
//! 5. [`mod@check::gradients`]: how the claims above are tested, and how to test your own function;
//!    [`check::exact`]: the same forwards on dual numbers, to rounding.
//! 6. [`train::driver`]: the training loop that can be killed at any moment.
//!
//! The notes in `papers/` say which equation is which function, and where this program differs from a
//! paper or from the original code and why; the source has a mark in each of these places.
//!
//! # How it hangs together
//!
//! Imports point down these floors and never around inside one; `tests/floors.rs` reads this table and
//! every path of the source.
//!
//! | floor | what |
//! | --- | --- |
//! | `main` | the program |
//! | [`cli`] | the command line |
//! | [`mod@bench`], [`selfcheck`] | timings; our cases through the checker, CPU against CUDA |
//! | [`train`] | the training loop and its tasks |
//! | [`apply`] | what trained models are good for |
//! | [`run`] | the folder of a run: checkpoints, metrics, events |
//! | [`config`] | settings from files and the command line |
//! | [`weights`] | trained numbers in files: formats, names, load plan |
//! | [`data`] | data sets, augmentation, masking |
//! | [`report`] | pages, plots, pictures |
//! | [`models`] | the encoder and the tokenizer |
//! | [`layers`] | parameters and wiring |
//! | [`optim`] | schedules and the optimizer's state |
//! | [`ops`] | one op, one file; the sum of all, `Backend`, and its cases |
//! | [`cpu`], `cuda` | where the numbers are |
//! | [`parts`] | a batch cut into parts |
//! | [`params`] | handles of parameters and the buffers they point into |
//! | [`tensor`] | tensors and their shapes |
//! | [`storage`] | buffers of a device |
//! | [`atomic`] | files that appear complete or not at all |
//! | `words` | enums that are spelt as words |
//! | [`real`], [`rng`], [`progress`], [`machine`], [`error`] | numbers, random numbers, lines for whoever waits, memory and disk, errors |
//! | [`shown`] | text from outside on a terminal |
//!
//! Below all of them is [`check`], the gradient checker for anybody's functions: a crate of its own, `beit-check`
//! in the folder `check/`, which knows none of this.
//!
//! An [`ops::Backend`] is the sum of the traits of all ops, in two precisions; layers and models are
//! generic over it and name no device. There are [`cpu::Cpu`], with scalar `f64` (the judge) or `f32`
//! (the trainer), and, with the feature `cuda`, `cuda::Cuda`: a GPU in `f64` (to be checked), `f32` (to be
//! compared) or `bf16` (to train).
//!
//! # Your own functions
//!
//! [`check::gradients()`] takes any forward and backward over named ndarrays and says whether they belong
//! together, and if not, at which element; [`check`] has examples. An [`ops::case::Case`] of your own op,
//! generic over the backend, goes through the same checks as ours in [`selfcheck::check_case`].

// What comes from outside is an error with a text; `expect` says why something cannot be missing.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod apply;
pub mod atomic;
pub mod bench;
pub use beit_check as check;
pub mod cli;
pub mod config;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod data;
pub mod error;
pub mod layers;
pub mod machine;
pub mod models;
pub mod ops;
pub mod optim;
pub mod params;
pub mod parts;
pub mod progress;
pub mod real;
pub mod report;
pub mod rng;
pub mod run;
pub mod selfcheck;
pub mod shown;
pub mod storage;
pub mod tensor;
pub mod train;
pub mod weights;
mod words;
pub use error::{Error, Result};
