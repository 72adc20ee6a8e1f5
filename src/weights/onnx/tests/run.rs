//! Graphs run node by node, as the operators' descriptions say it: naive, in f32.

use crate::weights::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use ndarray::{ArrayD, ArrayViewD, Axis, Dimension, IxDyn, Slice, concatenate};
use std::collections::BTreeMap;

/// A tensor.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Real(ArrayD<f32>),
    Whole(ArrayD<i64>),
}

impl Value {
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    fn real(&self) -> &ArrayD<f32> {
        if let Self::Real(x) = self { x } else { panic!("whole numbers") }
    }

    fn whole(&self) -> &ArrayD<i64> {
        if let Self::Whole(x) = self { x } else { panic!("no whole numbers") }
    }

    /// Largest difference to another of its shape, and largest number here.
    pub(super) fn distance(&self, other: &Self) -> (f32, f32) {
        let largest = |x: &ArrayD<f32>| x.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        let real = |x: &Self| match x {
            Self::Real(x) => x.clone(),
            Self::Whole(x) => x.mapv(|x| x as f32),
        };
        let (a, b) = (real(self), real(other));
        assert_eq!(a.shape(), b.shape());
        assert!(a.iter().chain(&b).all(|x| x.is_finite()));
        (largest(&(&a - &b)), largest(&a))
    }
}

/// All that the nodes put out.
pub(super) fn graph(graph: &GraphProto, input: ArrayD<f32>) -> BTreeMap<String, Value> {
    let constants = graph.initializer.iter().map(|tensor| (tensor.name.clone(), constant(tensor)));
    let mut known: BTreeMap<String, Value> = constants.collect();
    known.insert(graph.input[0].name.clone(), Value::Real(input));
    for node in &graph.node {
        let inputs: Vec<&Value> = node.input.iter().map(|name| &known[name]).collect();
        let made = run(node, &inputs);
        known.insert(node.output[0].clone(), made);
    }
    known
}

fn constant(tensor: &TensorProto) -> Value {
    let shape: Vec<usize> = tensor.dims.iter().map(|&n| n as usize).collect();
    let (fours, eights) = (tensor.raw_data.as_chunks::<4>().0, tensor.raw_data.as_chunks::<8>().0);
    let whole = |values| Value::Whole(ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap());
    match tensor.data_type {
        6 => whole(fours.iter().map(|&x| i32::from_le_bytes(x).into()).collect()),
        7 => whole(eights.iter().map(|&x| i64::from_le_bytes(x)).collect()),
        _ => {
            let values = fours.iter().map(|&x| f32::from_le_bytes(x)).collect();
            Value::Real(ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap())
        }
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn ints(node: &NodeProto, name: &str) -> Option<Vec<usize>> {
    Some(attribute(node, name)?.ints.iter().map(|&n| n as usize).collect())
}

fn int(node: &NodeProto, name: &str) -> i64 {
    attribute(node, name).unwrap().i.unwrap()
}

fn run(node: &NodeProto, inputs: &[&Value]) -> Value {
    let x = inputs[0].real();
    Value::Real(match node.op_type.as_str() {
        "Add" => x + inputs[1].real(),
        "Mul" => x * inputs[1].real(),
        "Erf" => x.mapv(libm::erff),
        "Relu" => x.mapv(|x| x.max(0.0)),
        "Transpose" => x.clone().permuted_axes(IxDyn(&ints(node, "perm").unwrap())),
        "Reshape" => reshape(x, inputs[1].whole().as_slice().unwrap()),
        "Slice" => {
            let [start, end, axis] = [1, 2, 3].map(|i| inputs[i].whole()[[0]]);
            let range = Slice::from(start as isize..end as isize);
            x.slice_axis(Axis(axis as usize), range).into_owned()
        }
        "Concat" => {
            let axis = Axis(int(node, "axis") as usize);
            concatenate(axis, &[x.view(), inputs[1].real().view()]).unwrap()
        }
        "Gather" => gather(x, inputs[1].whole(), int(node, "axis") as usize),
        "MatMul" => product(x, inputs[1].real()),
        "Gemm" => {
            assert_eq!(int(node, "transB"), 1);
            product(x, &inputs[1].real().clone().reversed_axes()) + inputs[2].real()
        }
        "Softmax" => each_row(x, int(node, "axis"), |row| {
            let most = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f32 = row.iter().map(|x| (x - most).exp()).sum();
            row.iter().map(|x| (x - most).exp() / sum).collect()
        }),
        "LayerNormalization" => {
            let eps = attribute(node, "epsilon").unwrap().f.unwrap();
            let normal = each_row(x, int(node, "axis"), |row| {
                let mean = row.iter().sum::<f32>() / row.len() as f32;
                let squares = row.iter().map(|x| (x - mean) * (x - mean));
                let deviation = (squares.sum::<f32>() / row.len() as f32 + eps).sqrt();
                row.iter().map(|x| (x - mean) / deviation).collect()
            });
            normal * inputs[1].real() + inputs[2].real()
        }
        "ReduceMean" => {
            assert_eq!(int(node, "keepdims"), 0);
            x.mean_axis(Axis(ints(node, "axes").unwrap()[0])).unwrap()
        }
        "ArgMax" => return Value::Whole(arg_max(x, int(node, "axis") as usize)),
        "Conv" => convolution(node, x, inputs[1].real()) + spread(inputs[2].real()),
        "MaxPool" => pool(node, x),
        other => panic!("{other}"),
    })
}

fn reshape(x: &ArrayD<f32>, wanted: &[i64]) -> ArrayD<f32> {
    let copied =
        wanted.iter().enumerate().map(|(i, &n)| if n == 0 { x.shape()[i] } else { n as usize });
    let mut shape: Vec<usize> = copied.collect();
    if let Some(free) = wanted.iter().position(|&n| n == -1) {
        shape[free] = 1;
        shape[free] = x.len() / shape.iter().product::<usize>();
    }
    x.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&shape)).unwrap()
}

/// The index's shape stands in the place of the axis.
fn gather(x: &ArrayD<f32>, index: &ArrayD<i64>, axis: usize) -> ArrayD<f32> {
    let rows: Vec<usize> = index.iter().map(|&i| i as usize).collect();
    let picked = x.select(Axis(axis), &rows);
    let (before, after) = (&x.shape()[..axis], &x.shape()[axis + 1..]);
    let shape = [before, index.shape(), after].concat();
    picked.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&shape)).unwrap()
}

/// Of the last two axes; a matrix stands for one of each.
fn product(a: &ArrayD<f32>, b: &ArrayD<f32>) -> ArrayD<f32> {
    let (outer, [m, k]) = (&a.shape()[..a.ndim() - 2], [2, 1].map(|i| a.shape()[a.ndim() - i]));
    let n = b.shape()[b.ndim() - 1];
    let b = b.broadcast(IxDyn(&[outer, &[k, n]].concat())).unwrap();
    let at = |y: usize, x: usize, outer: &[usize]| -> f32 {
        let index = |i: usize, j: usize| IxDyn(&[outer, &[i, j]].concat());
        (0..k).map(|i| a[index(y, i)] * b[index(i, x)]).sum()
    };
    ArrayD::from_shape_fn(IxDyn(&[outer, &[m, n]].concat()), |place| {
        let place = place.slice();
        let (outer, inner) = place.split_at(place.len() - 2);
        at(inner[0], inner[1], outer)
    })
}

fn each_row(x: &ArrayD<f32>, axis: i64, f: impl Fn(&[f32]) -> Vec<f32>) -> ArrayD<f32> {
    assert_eq!(axis, -1);
    let mut out = x.as_standard_layout().into_owned();
    for mut row in out.rows_mut() {
        let made = f(&row.to_vec());
        row.iter_mut().zip(made).for_each(|(to, from)| *to = from);
    }
    out
}

fn arg_max(x: &ArrayD<f32>, axis: usize) -> ArrayD<i64> {
    x.map_axis(Axis(axis), |lane| {
        let first = |best: usize, i: usize| if lane[i] > lane[best] { i } else { best };
        (1..lane.len()).fold(0, first) as i64
    })
}

/// A channel's number `[C]` as `[C,1,1]`.
fn spread(bias: &ArrayD<f32>) -> ArrayViewD<'_, f32> {
    bias.view().into_shape_with_order(IxDyn(&[bias.len(), 1, 1])).unwrap()
}

fn convolution(node: &NodeProto, x: &ArrayD<f32>, weight: &ArrayD<f32>) -> ArrayD<f32> {
    let kernel = ints(node, "kernel_shape").unwrap();
    let stride = ints(node, "strides").map_or(1, |strides| strides[0]);
    let pad = ints(node, "pads").map_or(0, |pads| pads[0]);
    let &[batch, channels, h, w] = x.shape() else { panic!("{:?}", x.shape()) };
    assert_eq!((weight.shape()[1], &weight.shape()[2..]), (channels, &kernel[..]));
    let extent = |n: usize, k: usize| (n + 2 * pad - k) / stride + 1;
    let shape = [batch, weight.shape()[0], extent(h, kernel[0]), extent(w, kernel[1])];
    ArrayD::from_shape_fn(IxDyn(&shape), |place| {
        let mut sum = 0.0;
        for (dy, dx) in (0..kernel[0]).flat_map(|dy| (0..kernel[1]).map(move |dx| (dy, dx))) {
            let (y, x_) = (place[2] * stride + dy, place[3] * stride + dx);
            if (pad..pad + h).contains(&y) && (pad..pad + w).contains(&x_) {
                let of = |c| x[[place[0], c, y - pad, x_ - pad]] * weight[[place[1], c, dy, dx]];
                sum += (0..channels).map(of).sum::<f32>();
            }
        }
        sum
    })
}

fn pool(node: &NodeProto, x: &ArrayD<f32>) -> ArrayD<f32> {
    assert_eq!(
        [ints(node, "kernel_shape"), ints(node, "strides")],
        [Some(vec![2; 2]), Some(vec![2; 2])]
    );
    let shape = [x.shape()[0], x.shape()[1], x.shape()[2] / 2, x.shape()[3] / 2];
    ArrayD::from_shape_fn(IxDyn(&shape), |p| {
        let corners = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let at = |(dy, dx)| x[[p[0], p[1], 2 * p[2] + dy, 2 * p[3] + dx]];
        corners.map(at).into_iter().fold(f32::MIN, f32::max)
    })
}
