//! The safetensors format: 8 bytes of header length, a JSON header, the values.
//!
//! Reading goes through the types and checks of the `safetensors` crate and believes nothing: the
//! header is bounded before it is allocated and read entry by entry, no name is there twice, the
//! tensors must tile the file exactly, and whatever is wrong is named ([`header`]). Writing is ours,
//! because the crate keeps metadata in a hash map: its bytes change from run to run.

mod header;
mod read;
mod sums;
mod write;

pub use header::TensorInfo;
pub use read::TensorFile;
pub(super) use sums::hex;
pub(super) use write::with_checksums;
pub use write::{Slice, View, encode, write_tensors};
pub(crate) use write::{checksum_of, refuse_non_finite};

use safetensors::tensor::Dtype as AnyDtype;

/// Element types of the format that this crate reads; others are listed but cannot be read.
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

    fn bytes(self) -> usize {
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

/// Checksum of names, types, shapes, values (entries in the order of their names) and of `seed`, a
/// text kept in the metadata.
fn checksum<'a>(
    seed: &str,
    entries: impl IntoIterator<Item = (&'a str, Option<Dtype>, &'a [usize], &'a [u8])>,
) -> u32 {
    let mut sum = crc32c::crc32c(seed.as_bytes());
    for (name, dtype, shape, bytes) in entries {
        sum = crc32c::crc32c_append(sum, format!("{name} {dtype:?} {shape:?}").as_bytes());
        sum = crc32c::crc32c_append(sum, bytes);
    }
    sum
}
