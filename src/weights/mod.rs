//! Trained numbers in files: the format, the names, and what becomes of a file in a model.
//!
//! Three things are kept apart because they change for different reasons. [`TensorFile`], which reads
//! safetensors files and PyTorch checkpoints, and [`write_tensors`] know bytes and nothing of models:
//! checkpoints use them too. A [`Naming`] knows
//! what a project calls a parameter and how it lays it out, as data; a layer says only what its
//! parameter is ([`Form`](crate::params::Form)), so that another project's names touch no layer.
//! A [`LoadPlan`] decides what becomes of every tensor before one is read: all that is not an exact
//! fit (a table copied, positions resized, a head left as it starts) happens where the caller has
//! allowed it and nowhere else, and can be printed.
//!
//! Files of other projects are brought to our names when they are opened ([`exchange`]), so that nobody above
//! knows of them; they are written tensor by tensor, as are ONNX files ([`save_onnx`]).
//!
//! A file is opened, checked as a whole, and read piece by piece from then on, so that no command needs its size in
//! memory besides the model. Given up: whoever writes to it meanwhile ends the command, which says so.

pub mod exchange;
mod file;
mod import_plan;
mod info;
mod load;
mod model;
mod names;
mod onnx;
mod open;
mod origin;
mod plan;
mod pth;
mod safetensors;
mod stored;
mod tensors;

pub use file::TensorFile;
pub use import_plan::{ImportPlan, Taken};
pub use info::{Dtype, TensorInfo};
pub use load::{load_model, load_model_as};
pub use model::{Checksums, Model, locate_model, save_model};
pub use names::{Entry, NamedTensor, Naming, ORIGINAL, Rows, Rule};
pub use onnx::save_onnx;
pub use origin::{Origin, Project, Stated};
pub use plan::{Allow, Fate, LoadPlan, Planned, Regrid, Shapes};
pub use pth::{PthTensor, write_pth};
pub use safetensors::{ByteSink, Slice, View, encode, stream_tensors, write_tensors};
pub(crate) use safetensors::{checksum_of, refuse_non_finite};
pub use tensors::{ModelTensors, TensorPlace};

use crate::data::pixels::Normalise;
use crate::error::{Error, Result};
use crate::models::kind::ModelConfig;
use crate::params::{Layout, Params, arena_len};
use crate::real::Float;
use crate::storage::Storage;
use std::path::Path;

/// The weights of a file for a layout that it must fit; a tensor that is missing, of another shape or
/// not finite is named.
pub fn load_weights<B: Storage>(bk: &B, file: &Model, layout: &Layout) -> Result<Params<B>> {
    let tensors = &file.tensors;
    let plan = LoadPlan::new(&ORIGINAL, layout, &tensors.shapes(), &Allow::default())
        .map_err(|e| Error::format(tensors.path(), e))?;
    let zeros = vec![0.0; arena_len(layout)];
    let values = plan.apply(zeros, |name| tensors.f32s(name).map(|(_, values)| values))?;
    Ok(Params::from_host(bk, layout, &values))
}

/// The weights of `RUN|FILE` laid over `initial`, for a model that starts from them: a table of relative
/// positions that all blocks share may fill those of the blocks, and a head for another vocabulary or target keeps
/// its initial values. With it, what became of every tensor.
pub fn start_from(path: &Path, layout: &Layout, initial: Vec<f32>) -> Result<(Vec<f32>, LoadPlan)> {
    let tensors = load_model(path)?.tensors;
    let allow = Allow { expand: true, new: &["lm_head.", "pixel_head."], ..Allow::default() };
    let plan = LoadPlan::new(&ORIGINAL, layout, &tensors.shapes(), &allow)
        .map_err(|e| Error::format(tensors.path(), e))?;
    let values = plan.apply(initial, |name| tensors.f32s(name).map(|(_, values)| values))?;
    Ok((values, plan))
}

/// Writes `model.safetensors` and `config.json` under the original project's tensor names; see
/// [`save_model`].
pub fn save_weights<B: Storage>(
    bk: &B,
    folder: &Path,
    config: &ModelConfig,
    normalise: Option<Normalise>,
    w: &Params<B>,
) -> Result<()> {
    let values = Float::into_f32s(w.to_host(bk));
    let tensors = ORIGINAL.export(&w.layout, &values);
    let views: Vec<View> = tensors
        .iter()
        .map(|(name, shape, values)| View::new(name.as_str(), shape, Slice::F32(values)))
        .collect();
    save_model(folder, config, normalise, &views)
}
