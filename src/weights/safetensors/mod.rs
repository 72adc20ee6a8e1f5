//! The safetensors format: 8 bytes of header length, a JSON header, the values.
//!
//! Reading goes through the types and checks of the `safetensors` crate and believes nothing: the
//! header is bounded before it is allocated and read entry by entry, no name is there twice, the
//! tensors must tile the file exactly, and whatever is wrong is named ([`header`]). Writing is ours,
//! because the crate keeps metadata in a hash map: its bytes change from run to run.

mod header;
mod read;
mod stream;
mod sums;
mod write;

pub(super) use read::read;
pub use stream::{ByteSink, stream_tensors};
pub(super) use sums::hex;
pub(super) use write::with_checksums;
pub use write::{Slice, View, encode, write_tensors};
pub(crate) use write::{checksum_of, refuse_non_finite};
