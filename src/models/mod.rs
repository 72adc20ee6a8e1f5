//! The models, each readable in one sitting.

pub mod autoencoder;
pub mod beit;
pub mod bert;
pub mod classifier;
pub mod config;
pub mod dino;
pub mod dvae;
pub mod encoder;
pub mod kind;
pub mod moco;
pub mod segmenter;
pub mod vae;

use crate::ops::case::Visitor;

/// Shows every case of every model to `v`.
pub fn visit_cases<V: Visitor>(v: &mut V) {
    beit::cases(v);
    bert::cases(v);
    classifier::cases(v);
    dino::cases(v);
    dvae::cases(v);
    encoder::cases(v);
    moco::cases(v);
    segmenter::cases(v);
    vae::cases(v);
}
