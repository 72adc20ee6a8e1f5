//! A model's tensors, in however many files and under whatever names they lie.

use super::{Regrid, TensorFile};
use crate::error::{Error, Result};
use crate::layers::position::resize_bias_table;
use crate::shown;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A tensor's place: the tensors of files that hold its rows, one behind the other.
#[derive(Clone, Debug)]
pub struct TensorPlace {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Number of the file and name there; none of a count that the files leave out, which is 0.
    pub parts: Vec<(usize, String)>,
    /// How a table of relative positions has to be resized to mean here what it means there.
    pub regrid: Option<Regrid>,
    /// Whether it is the count of a batch norm, a whole number there.
    pub count: bool,
}

/// The tensors of a model under the original project's names.
#[derive(Debug)]
pub struct ModelTensors {
    path: PathBuf,
    files: Vec<TensorFile>,
    places: BTreeMap<String, TensorPlace>,
}

impl ModelTensors {
    /// Those of one file under their own names.
    pub(super) fn of(file: TensorFile) -> Self {
        let place = |(name, info): (&String, &super::TensorInfo)| {
            let (shape, parts) = (info.shape.clone(), vec![(0, name.clone())]);
            (name.clone(), TensorPlace { shape, parts, regrid: None, count: false })
        };
        let places = file.tensors().iter().map(place).collect();
        Self { path: file.path().to_path_buf(), files: vec![file], places }
    }

    /// Those of several files, at these places.
    pub(super) fn at(
        path: &Path,
        files: Vec<TensorFile>,
        places: BTreeMap<String, TensorPlace>,
    ) -> Self {
        Self { path: path.to_path_buf(), files, places }
    }

    /// What was named to read them.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shape of every tensor by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.places.iter().map(|(name, place)| (name.clone(), place.shape.clone())).collect()
    }

    /// Shape and values of a tensor of real numbers, all of them finite.
    pub fn f32s(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        if self.places.get(name).is_some_and(|place| place.regrid.is_some() || place.count) {
            let (shape, values) = self.f64s(name)?;
            return Ok((shape, values.into_iter().map(|x| x as f32).collect()));
        }
        self.joined(name, TensorFile::f32s)
    }

    /// Shape and values of a tensor of real numbers, all of them finite, in double precision.
    pub fn f64s(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        if let Some(place) = self.places.get(name).filter(|place| place.count) {
            return Ok((place.shape.clone(), vec![self.count(place)? as f64]));
        }
        let (shape, values) = self.joined(name, TensorFile::f64s)?;
        match self.places[name].regrid {
            None => Ok((shape, values)),
            Some(Regrid { from, to, method }) => {
                let values = resize_bias_table(&values, shape[1], from, to, method)?;
                Ok((shape, values))
            }
        }
    }

    /// Gives the values of a tensor as little-endian f32 to `each`, in pieces.
    pub(super) fn f32_bytes(
        &self,
        name: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let elements = self.places.get(name).map_or(0, |place| place.shape.iter().product());
        self.some_f32_bytes(name, 0..elements, each)
    }

    /// The same of so many of its elements.
    pub(super) fn some_f32_bytes(
        &self,
        name: &str,
        elements: Range<usize>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(TensorPlace { shape, parts, regrid: None, count: false }) = self.places.get(name)
        else {
            return each(bytemuck::cast_slice(&self.f32s(name)?.1[elements]));
        };
        // The parts are of equal size.
        let size = shape.iter().product::<usize>() / parts.len();
        for (i, (file, part)) in parts.iter().enumerate() {
            let within = |at: usize| at.saturating_sub(i * size).min(size);
            let inside = within(elements.start)..within(elements.end);
            if !inside.is_empty() {
                self.files[*file].f32_bytes(part, inside, each)?;
            }
        }
        Ok(())
    }

    fn count(&self, place: &TensorPlace) -> Result<i64> {
        let Some((file, name)) = place.parts.first() else { return Ok(0) };
        let (_, values) = self.files[*file].i64s(name)?;
        let text = || format!("tensor {} holds no number", shown::name(name));
        values.first().copied().ok_or_else(|| Error::format(&self.path, text()))
    }

    fn joined<T>(
        &self,
        name: &str,
        read: impl Fn(&TensorFile, &str) -> Result<(Vec<usize>, Vec<T>)>,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let Some(place) = self.places.get(name) else {
            let text = format!("tensor {} is missing", shown::name(name));
            return Err(Error::format(&self.path, text));
        };
        let mut parts = place.parts.iter();
        let (file, first) = parts.next().expect("a tensor has a part");
        let (_, mut values) = read(&self.files[*file], first)?;
        for (file, part) in parts {
            values.extend(read(&self.files[*file], part)?.1);
        }
        Ok((place.shape.clone(), values))
    }

    /// Checksum of the names, types, shapes and values of its files, to tell one model from another.
    pub(crate) fn checksum(&self) -> Result<u32> {
        let mut sums = self.files.iter().map(|file| file.checksum(""));
        let first = sums.next().transpose()?.unwrap_or_default();
        sums.try_fold(first, |sum, next| Ok(crc32c::crc32c_append(sum, &next?.to_le_bytes())))
    }
}
