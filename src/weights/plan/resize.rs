//! Tensors that know the grid, made to fit another one.

use crate::error::Result;
use crate::layers::position::{TableResize, resize_bias_table, resize_pos_embed};
use std::fmt;

/// The grids of a file and of the model, and the way between them for tables of relative positions
/// (absolute positions are resized in one way only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regrid {
    /// Rows and columns in the file.
    pub from: (usize, usize),
    /// Rows and columns in the model.
    pub to: (usize, usize),
    /// How tables of relative positions are resized.
    pub method: TableResize,
}

impl fmt::Display for Regrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((fh, fw), (th, tw)) = (self.from, self.to);
        write!(f, "grid {fh}x{fw} to {th}x{tw}")
    }
}

/// What a parameter says about the grid.
#[derive(Clone, Copy)]
pub(super) enum PositionKind {
    /// Relative, `[(2Gh−1)(2Gw−1)+3, H]`.
    Relative,
    /// Absolute, `[1, 1+Gh·Gw, C]`.
    Absolute,
}

impl PositionKind {
    /// Of the parameter `name`.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name.rsplit('.').next() {
            Some("relative_position_bias_table") => Some(Self::Relative),
            Some("pos_embed") => Some(Self::Absolute),
            _ => None,
        }
    }

    /// The shape on another grid.
    fn on(self, like: &[usize], (h, w): (usize, usize)) -> Vec<usize> {
        let mut shape = like.to_vec();
        match self {
            Self::Relative => shape[0] = (2 * h - 1) * (2 * w - 1) + 3,
            Self::Absolute => shape[1] = 1 + h * w,
        }
        shape
    }

    /// Refuses a tensor of the file that is not of the grid it should be of, and what the method
    /// cannot do.
    pub(super) fn check(
        self,
        name: &str,
        there: &[usize],
        here: &[usize],
        grids: &Regrid,
    ) -> Result<(), String> {
        let want = self.on(here, grids.from);
        if there != want {
            return Err(format!("tensor {name} has shape {there:?}, {grids} needs {want:?}"));
        }
        if let Self::Relative = self {
            // One head of zeros stands for the table.
            let zeros = vec![0.0; want[0]];
            let tried = resize_bias_table(&zeros, 1, grids.from, grids.to, grids.method);
            tried.map_err(|e| format!("tensor {name}: {e}"))?;
        }
        Ok(())
    }

    /// The tensor on the model's grid, where it has the shape `here`; computed in double precision.
    pub(super) fn resize(self, tensor: &[f32], here: &[usize], grids: &Regrid) -> Result<Vec<f32>> {
        let exact: Vec<f64> = tensor.iter().map(|&x| f64::from(x)).collect();
        let Regrid { from, to, method } = *grids;
        let resized = match self {
            Self::Relative => resize_bias_table(&exact, here[1], from, to, method)?,
            Self::Absolute => resize_pos_embed(&exact, here[2], from, to),
        };
        Ok(resized.into_iter().map(|x| x as f32).collect())
    }
}
