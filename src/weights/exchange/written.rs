//! Tensors of files that are written, and what each is of ours.

use crate::error::Result;
use crate::weights::model::Model;
use crate::weights::{ByteSink, Dtype, stream_tensors};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor of a file that is written.
pub(super) struct Written {
    /// One of ours, whose rows it has; nothing where it is zeros.
    pub(super) own: Option<String>,
    pub(super) shape: Vec<usize>,
    part: usize,
    pub(super) dtype: Dtype,
}

impl Written {
    /// The tensor that has all of `own`, of this shape; the count of a batch norm is a whole number, elsewhere.
    fn of(own: &str, mut shape: Vec<usize>, part: usize) -> Self {
        let count = own.ends_with(".num_batches_tracked");
        if count {
            shape.clear();
        }
        let dtype = if count { Dtype::I64 } else { Dtype::F32 };
        Self { own: Some(own.to_owned()), shape, part, dtype }
    }

    /// Zeros, or numbers that whoever writes them knows.
    pub(super) fn besides(shape: Vec<usize>, dtype: Dtype) -> Self {
        Self { own: None, shape, part: 0, dtype }
    }

    /// Length of its values.
    pub(super) fn bytes(&self) -> usize {
        self.dtype.bytes() * self.shape.iter().product::<usize>()
    }

    /// Gives its bytes to `to`.
    pub(super) fn bytes_to(&self, model: &Model, to: ByteSink) -> Result<()> {
        let count = self.shape.iter().product::<usize>();
        match (&self.own, self.dtype) {
            (None, dtype) => to(&vec![0; count * dtype.bytes()]),
            (Some(own), Dtype::I64) => {
                let values = model.tensors.f32s(own)?.1;
                values.iter().try_for_each(|value| to(&(*value as i64).to_le_bytes()))
            }
            (Some(own), _) => {
                let rows = self.part * count..(self.part + 1) * count;
                model.tensors.some_f32_bytes(own, rows, to)
            }
        }
    }
}

/// Their names and what each is of ours.
pub(super) fn written(
    model: &Model,
    theirs: impl Fn(&str) -> Option<Vec<String>>,
) -> BTreeMap<String, Written> {
    let mut all = BTreeMap::new();
    for (own, shape) in model.tensors.shapes() {
        let names = theirs(&own).unwrap_or_default();
        let parts = names.len();
        for (part, name) in names.into_iter().enumerate() {
            let mut shape = shape.clone();
            shape[0] /= parts;
            all.insert(name, Written::of(&own, shape, part));
        }
    }
    all
}

/// Writes tensors into a file.
pub(super) fn write(model: &Model, path: &Path, tensors: &BTreeMap<String, Written>) -> Result<()> {
    let shapes =
        tensors.iter().map(|(name, w)| (name.clone(), (w.dtype, w.shape.clone()))).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut bytes = |name: &str, to: ByteSink| tensors[name].bytes_to(model, to);
    stream_tensors(path, &shapes, &metadata, false, &mut bytes)
}
