//! What trained models are good for: linear probe and k-NN, attention maps, reconstructions.

pub mod agreement;
pub mod attention;
pub mod frozen;
pub mod probe;
pub mod reconstruct;
