//! Pages that answer to whoever points at them: attention, the codebook, a map of a data set. Each is one file.

pub mod atlas;
pub mod attention;
pub mod map;
mod maps;
mod pca;

pub use pca::{PrincipalAxes, principal_axes};
