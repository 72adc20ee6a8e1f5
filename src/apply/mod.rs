//! What trained models are good for: linear probe and k-NN, attention maps, reconstructions, pages that
//! answer, the bound, and the figures that say how good they are.

pub mod agreement;
pub mod array_file;
pub mod attention;
pub mod classify;
pub mod elbo;
pub mod embed;
pub mod frozen;
pub mod hard_codes;
mod knn;
pub mod language;
pub mod latents;
pub mod masked;
pub mod opened;
pub mod pages;
pub mod predict;
pub mod probe;
pub mod reconstruct;
pub mod segment;
pub mod stream;
