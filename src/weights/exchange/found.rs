//! A model as a reader of another project's files finds it, before its tensors are looked for.

use crate::data::pixels::Normalise;
use crate::models::kind::ModelConfig;
use crate::weights::{Project, TensorFile};

/// Files and what they hold.
pub(super) struct FoundModel {
    pub(super) project: Project,
    pub(super) config: ModelConfig,
    pub(super) normalise: Option<Normalise>,
    pub(super) files: Vec<TensorFile>,
    /// What was taken from elsewhere than the tensors, or assumed.
    pub(super) notes: Vec<String>,
}
