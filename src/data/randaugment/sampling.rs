//! How pixels between pixels are made.

use crate::data::geometry::Draws;
use crate::data::resize::Filter;
use crate::words::words;

words! {
    /// How pixels between pixels are made, in crops and in the operations that move pixels.
    Interpolation {
        /// Bilinear.
        Bilinear = "bilinear",
        /// Bicubic.
        Bicubic = "bicubic",
        /// One of the two for each crop and each operation, with equal probability.
        Random = "random",
    }
}

/// An interpolation that is no longer open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Between two neighbours in each direction.
    Bilinear,
    /// Between four.
    Bicubic,
}

impl Sampling {
    /// The filter of that name for resizing.
    pub fn filter(self) -> Filter {
        match self {
            Self::Bilinear => Filter::Bilinear,
            Self::Bicubic => Filter::Bicubic,
        }
    }
}

impl Interpolation {
    /// Draws one number if it is open, none if it is not.
    pub fn draw(self, draws: &mut impl Draws) -> Sampling {
        match self {
            Self::Bilinear => Sampling::Bilinear,
            Self::Bicubic => Sampling::Bicubic,
            Self::Random => [Sampling::Bilinear, Sampling::Bicubic][draws.integer(1)],
        }
    }
}
