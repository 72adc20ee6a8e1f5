//! A graph that is put together node by node, and knows of its weights no more than where they come from.

use super::proto::{
    AttributeProto, DimensionProto, ElementType, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use std::collections::BTreeSet;

/// Where the values of an initializer come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// The model's tensor of the same name.
    Own,
    /// That of this name, a matrix, with rows and columns exchanged.
    Transposed(String),
    /// The biases of these names of q and v, and zeros for k between them.
    QkvBias([String; 2]),
    /// Numbers.
    Floats(Vec<f32>),
    /// Extents, indices.
    Longs(Vec<i64>),
    /// Rows of a table.
    Rows(Vec<u32>),
}

/// A constant of the graph.
#[derive(Clone, Debug)]
pub(super) struct Initializer {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Values,
}

impl Initializer {
    /// Type of the elements.
    fn element(&self) -> ElementType {
        match self.values {
            Values::Longs(_) => ElementType::Int64,
            Values::Rows(_) => ElementType::Int32,
            _ => ElementType::Float,
        }
    }

    /// Number of the elements.
    pub(super) fn elements(&self) -> u64 {
        self.dims.iter().map(|&n| n as u64).product()
    }

    /// Bytes of all values.
    pub(super) fn bytes(&self) -> u64 {
        let each = if self.element() == ElementType::Int64 { 8 } else { 4 };
        each * self.elements()
    }

    /// The message without the values.
    pub(super) fn head(&self) -> TensorProto {
        TensorProto {
            dims: self.dims.iter().map(|&n| n as i64).collect(),
            data_type: self.element() as i32,
            name: self.name.clone(),
            raw_data: Vec::new(),
        }
    }
}

/// Nodes, and what they read. A node's one output has the node's name.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    pub(super) initializers: Vec<Initializer>,
    /// Names of the initializers.
    known: BTreeSet<String>,
}

impl Graph {
    /// The message without the initializers.
    pub(super) fn head(&self) -> GraphProto {
        GraphProto {
            node: self.nodes.clone(),
            name: "beit".to_owned(),
            initializer: Vec::new(),
            input: self.inputs.clone(),
            output: self.outputs.clone(),
        }
    }

    /// An input `[batch, ..]`. Returns its name.
    pub(super) fn input(&mut self, name: &str, dims: &[usize], doc: &str) -> String {
        self.inputs.push(value_info(name, ElementType::Float, dims, doc));
        name.to_owned()
    }

    /// Makes the node of this name an output `[batch, ..]`.
    pub(super) fn output(&mut self, name: &str, element: ElementType, dims: &[usize], doc: &str) {
        self.outputs.push(value_info(name, element, dims, doc));
    }

    /// A node. Returns its name.
    pub(super) fn node(&mut self, op: &str, name: impl Into<String>, inputs: &[&str]) -> String {
        self.node_with(op, name, inputs, &[])
    }

    /// The same with attributes.
    pub(super) fn node_with(
        &mut self,
        op: &str,
        name: impl Into<String>,
        inputs: &[&str],
        attributes: &[AttributeProto],
    ) -> String {
        let name = name.into();
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.to_owned(),
            attribute: attributes.to_vec(),
        });
        name
    }

    /// An initializer, unless there is one of this name. Returns its name.
    pub(super) fn constant(&mut self, name: String, dims: &[usize], values: Values) -> String {
        if self.known.insert(name.clone()) {
            self.initializers.push(Initializer { name: name.clone(), dims: dims.to_vec(), values });
        }
        name
    }

    /// A tensor of the model.
    pub(super) fn tensor(&mut self, name: impl Into<String>, dims: &[usize]) -> String {
        self.constant(name.into(), dims, Values::Own)
    }

    /// A list of whole numbers.
    pub(super) fn longs(&mut self, longs: &[i64]) -> String {
        let text: Vec<String> = longs.iter().map(i64::to_string).collect();
        let values = Values::Longs(longs.to_vec());
        self.constant(format!("list[{}]", text.join(",")), &[longs.len()], values)
    }

    /// One whole number.
    pub(super) fn long(&mut self, long: i64) -> String {
        self.constant(format!("index[{long}]"), &[], Values::Longs(vec![long]))
    }

    /// One number.
    pub(super) fn float(&mut self, name: &str, value: f32) -> String {
        self.constant(name.to_owned(), &[], Values::Floats(vec![value]))
    }

    /// x Wᵀ + b with the model's `name.weight` `[output,input]` and `name.bias`, on any axes before the last.
    pub(super) fn linear(&mut self, name: &str, x: &str, [input, output]: [usize; 2]) -> String {
        let product = self.product(name, x, [input, output]);
        let bias = self.tensor(format!("{name}.bias"), &[output]);
        self.node("Add", name, &[&product, &bias])
    }

    /// x Wᵀ. The initializer is the model's matrix transposed, as `MatMul` reads it.
    pub(super) fn product(&mut self, name: &str, x: &str, [input, output]: [usize; 2]) -> String {
        let own = format!("{name}.weight");
        let transposed = format!("{own}.transposed");
        let weight = self.constant(transposed, &[input, output], Values::Transposed(own));
        self.node("MatMul", format!("{name}.product"), &[x, &weight])
    }

    /// The layer norm of the last axis.
    pub(super) fn norm(&mut self, name: &str, x: &str, width: usize, eps: f64) -> String {
        let weight = self.tensor(format!("{name}.weight"), &[width]);
        let bias = self.tensor(format!("{name}.bias"), &[width]);
        let attributes =
            [AttributeProto::int("axis", -1), AttributeProto::float("epsilon", eps as f32)];
        self.node_with("LayerNormalization", name, &[x, &weight, &bias], &attributes)
    }
}

fn value_info(name: &str, element: ElementType, dims: &[usize], doc: &str) -> ValueInfoProto {
    let batch = DimensionProto { dim_value: None, dim_param: Some("batch".to_owned()) };
    let fixed = |&n: &usize| DimensionProto { dim_value: Some(n as i64), dim_param: None };
    let shape =
        TensorShapeProto { dim: [batch].into_iter().chain(dims.iter().map(fixed)).collect() };
    let tensor = TensorTypeProto { elem_type: element as i32, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor) }),
        doc_string: doc.to_owned(),
    }
}
