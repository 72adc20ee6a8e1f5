//! What a file says about its tensors.

use safetensors::tensor::Dtype as AnyDtype;
use std::ops::Range;

/// Most axes of a tensor.
pub(super) const MAX_AXES: usize = 16;

/// Element types that this crate reads; others are listed but cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the format's own")]
pub enum Dtype {
    F64,
    I64,
    F32,
    U32,
    BF16,
    F16,
    U8,
}

impl Dtype {
    fn of(any: AnyDtype) -> Option<Self> {
        Some(match any {
            AnyDtype::F64 => Self::F64,
            AnyDtype::I64 => Self::I64,
            AnyDtype::F32 => Self::F32,
            AnyDtype::U32 => Self::U32,
            AnyDtype::BF16 => Self::BF16,
            AnyDtype::F16 => Self::F16,
            AnyDtype::U8 => Self::U8,
            _ => return None,
        })
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::U32 => 4,
            Self::BF16 | Self::F16 => 2,
            Self::U8 => 1,
        }
    }

    /// True for the types that hold real numbers.
    pub fn is_real(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::BF16 | Self::F16)
    }
}

/// What a file says about one tensor, checked.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Element type; nothing for one that this crate does not read.
    pub dtype: Option<Dtype>,
    /// The bytes from the first element to the last one.
    pub(super) range: Range<usize>,
    /// The element type, read or not.
    pub(super) stored: AnyDtype,
    /// Steps of each axis in elements; nothing where the elements lie row-major without gaps.
    pub(super) strides: Option<Vec<usize>>,
}

impl TensorInfo {
    pub(super) fn new(
        stored: AnyDtype,
        shape: Vec<usize>,
        range: Range<usize>,
        strides: Option<Vec<usize>>,
    ) -> Self {
        Self { shape, dtype: Dtype::of(stored), range, stored, strides }
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
