//! The tokenizer's encoder as a graph: pixels to tokens.

use super::graph::Graph;
use super::proto::{AttributeProto, ElementType};
use crate::models::config::DvaeConfig;

/// φ(x) = SLOPE x + DISTANCE, the pixels that the tokenizer reads (arXiv 2102.12092, A.3).
pub(super) const DISTANCE: f32 = 0.1;
pub(super) const SLOPE: f32 = 1.0 - 2.0 * DISTANCE;

/// Tokens `[B,h,w]`.
pub(super) fn tokens(config: &DvaeConfig) -> Graph {
    let mut g = Graph::default();
    let ((h, w), wide) = (config.image, |group: usize| config.width << group);
    let x = g.input("pixels", &[3, h, w], "images, each value between 0 and 1");
    let (slope, distance) = (g.float("pixels.slope", SLOPE), g.float("pixels.distance", DISTANCE));
    let x = g.node("Mul", "pixels.scaled", &[&x, &slope]);
    let x = g.node("Add", "pixels.mapped", &[&x, &distance]);
    let mut v = conv(&mut g, "encoder.blocks.input", &x, [3, config.width], 7);
    let mut width = config.width;
    for group in 0..config.groups {
        let name = format!("encoder.blocks.group_{}", group + 1);
        if group > 0 {
            let two = [2, 2];
            let sides =
                [AttributeProto::ints("kernel_shape", &two), AttributeProto::ints("strides", &two)];
            v = g.node_with("MaxPool", format!("{name}.pool"), &[&v], &sides);
        }
        for block in 0..config.blocks_per_group {
            let name = format!("{name}.block_{}", block + 1);
            v = res_block(&mut g, config, &name, &v, [width, wide(group)]);
            width = wide(group);
        }
    }
    let output = "encoder.blocks.output";
    let v = g.node("Relu", format!("{output}.relu"), &[&v]);
    let logits = conv(&mut g, &format!("{output}.conv"), &v, [width, config.vocab], 1); // [B,K,h,w]
    let over = [AttributeProto::int("axis", 1), AttributeProto::int("keepdims", 0)];
    let tokens = g.node_with("ArgMax", "tokens", &[&logits], &over);
    let doc = "which of the visual tokens each square of pixels is, row by row";
    g.output(&tokens, ElementType::Int64, &<[usize; 2]>::from(config.grid()), doc);
    g
}

/// id(v) + γ r(v).
fn res_block(
    g: &mut Graph,
    config: &DvaeConfig,
    name: &str,
    v: &str,
    [input, output]: [usize; 2],
) -> String {
    let hidden = output / 4;
    let widths = [input, hidden, hidden, hidden, output];
    let mut r = v.to_owned();
    for (i, kernel) in [3, 3, 3, 1].into_iter().enumerate() {
        let part = |part| format!("{name}.res_path.{part}_{}", i + 1);
        r = g.node("Relu", part("relu"), &[&r]);
        r = conv(g, &part("conv"), &r, [widths[i], widths[i + 1]], kernel);
    }
    let gain = g.float("gain", config.gain() as f32);
    let r = g.node("Mul", format!("{name}.res_path"), &[&r, &gain]);
    if input == output {
        return g.node("Add", name, &[v, &r]);
    }
    let id = conv(g, &format!("{name}.id_path"), v, [input, output], 1);
    g.node("Add", name, &[&id, &r])
}

/// A convolution that keeps the size, zeros around the edge.
fn conv(g: &mut Graph, name: &str, x: &str, [input, output]: [usize; 2], kernel: usize) -> String {
    let weight = g.tensor(format!("{name}.w"), &[output, input, kernel, kernel]);
    let bias = g.tensor(format!("{name}.b"), &[output]);
    let attributes = [
        AttributeProto::ints("kernel_shape", &[kernel as i64; 2]),
        AttributeProto::ints("pads", &[(kernel / 2) as i64; 4]),
    ];
    g.node_with("Conv", name, &[x, &weight, &bias], &attributes)
}
