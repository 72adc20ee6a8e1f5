//! The bytes of a file. Lengths stand before what they count, so that they are computed first; the values are read
//! once, when their place has come.

use super::graph::{Graph, Initializer, Values};
use super::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::error::{Error, Result};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// Version of the operators.
const OPSET: i64 = 17;
/// Version of the messages.
const IR: i64 = 8;
/// Most bytes of a file: readers of this encoding count in 31 bits.
const MOST: u64 = i32::MAX as u64;

/// Numbers of the fields that are written by hand.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// Bytes that are converted at a time.
const PIECE: usize = 1 << 16;

/// Gives a tensor of the model.
type Read<'a> = &'a dyn Fn(&str) -> Result<Vec<f32>>;
/// Takes bytes of the file.
type Append<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// A file before it is written.
pub(super) struct OnnxFile {
    /// All but the graph.
    model: Vec<u8>,
    /// The graph but for the initializers.
    graph: Vec<u8>,
    initializers: Vec<Initializer>,
}

impl OnnxFile {
    /// Everything but the weights; refuses what is too large.
    pub(super) fn new(graph: Graph, metadata: &[(&str, String)]) -> Result<Self> {
        let entry = |(key, value): &(&str, String)| StringStringEntryProto {
            key: (*key).to_owned(),
            value: value.clone(),
        };
        let model = ModelProto {
            ir_version: IR,
            producer_name: "beit".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: None,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: metadata.iter().map(entry).collect(),
        };
        let (model, head) = (model.encode_to_vec(), graph.head().encode_to_vec());
        let file = Self { model, graph: head, initializers: graph.initializers };
        match file.len() {
            0..=MOST => Ok(file),
            len => Err(Error::config(format!(
                "an ONNX file of this model would have {len} bytes, and {MOST} are the most that its readers take; \
                 the model's own file has no such limit"
            ))),
        }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.model.len() as u64 + field_len(GRAPH, self.graph_len())
    }

    fn graph_len(&self) -> u64 {
        let initializer = |tensor| field_len(INITIALIZER, tensor_len(tensor));
        self.graph.len() as u64 + self.initializers.iter().map(initializer).sum::<u64>()
    }

    /// Hands out the bytes, in order.
    pub(super) fn write(&self, append: Append, read: Read) -> Result<()> {
        append(&self.model)?;
        append(&field_head(GRAPH, self.graph_len()))?;
        append(&self.graph)?;
        for tensor in &self.initializers {
            append(&field_head(INITIALIZER, tensor_len(tensor)))?;
            append(&tensor.head().encode_to_vec())?;
            append(&field_head(RAW_DATA, tensor.bytes()))?;
            write_values(tensor, append, read)?;
        }
        Ok(())
    }
}

/// Key and length of a field that holds bytes.
fn field_head(number: u32, len: u64) -> Vec<u8> {
    let mut head = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut head);
    encode_varint(len, &mut head);
    head
}

fn field_len(number: u32, len: u64) -> u64 {
    (key_len(number) + encoded_len_varint(len)) as u64 + len
}

fn tensor_len(tensor: &Initializer) -> u64 {
    tensor.head().encoded_len() as u64 + field_len(RAW_DATA, tensor.bytes())
}

fn write_values(tensor: &Initializer, append: Append, read: Read) -> Result<()> {
    let take = |name: &str, elements: u64| wanted(name, read(name)?, elements);
    match &tensor.values {
        Values::Floats(values) => in_pieces(values, f32::to_le_bytes, append),
        Values::Longs(values) => in_pieces(values, i64::to_le_bytes, append),
        Values::Rows(values) => in_pieces(values, u32::to_le_bytes, append),
        Values::Own => in_pieces(&take(&tensor.name, tensor.elements())?, f32::to_le_bytes, append),
        Values::Transposed(name) => {
            let own = take(name, tensor.elements())?;
            let columns = tensor.dims[0];
            let column = |i: usize| own[i..].iter().step_by(columns).copied();
            let values: Vec<f32> = (0..columns).flat_map(column).collect();
            drop(own);
            in_pieces(&values, f32::to_le_bytes, append)
        }
        Values::QkvBias([q, v]) => {
            let third = tensor.elements() / 3;
            in_pieces(&take(q, third)?, f32::to_le_bytes, append)?;
            in_pieces(&vec![0.0; third as usize], f32::to_le_bytes, append)?;
            in_pieces(&take(v, third)?, f32::to_le_bytes, append)
        }
    }
}

/// The values, if they are so many and all finite.
fn wanted(name: &str, values: Vec<f32>, elements: u64) -> Result<Vec<f32>> {
    if values.len() as u64 != elements {
        return Err(Error::config(format!(
            "tensor {name} has {} values, the sizes of the model want {elements}",
            values.len()
        )));
    }
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(values),
        Some(at) => Err(Error::config(format!(
            "tensor {name} holds {} at element {at}: a model with such numbers is not written",
            values[at]
        ))),
    }
}

fn in_pieces<T: Copy, const N: usize>(
    values: &[T],
    bytes: fn(T) -> [u8; N],
    append: Append,
) -> Result<()> {
    for piece in values.chunks(PIECE / N) {
        append(&piece.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>())?;
    }
    Ok(())
}
