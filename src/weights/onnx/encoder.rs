//! The encoder as a graph, and what is made of its last stream.
//!
//! The number of images is free everywhere: no node knows it, a 0 in the list of a `Reshape` copies an extent.

use super::graph::{Graph, Values};
use super::proto::{AttributeProto, ElementType};
use crate::models::config::{BeitConfig, ClassifierConfig, EncoderConfig, Pooling};
use crate::ops::rel_pos_bias::relative_position_index;

/// The last stream `[B,N,C]` and the mean of its patch tokens `[B,C]`, as names of outputs.
const STREAM: &str = "last_hidden_state";
const POOLED: &str = "pooled";

/// Features: whatever is behind the blocks is left out.
pub(super) fn features(config: &BeitConfig) -> Graph {
    let mut g = Graph::default();
    stream(&mut g, &config.encoder);
    describe(&mut g, &config.encoder);
    g
}

/// Logits `[B,K]`, and the features.
pub(super) fn classifier(config: &ClassifierConfig) -> Graph {
    let (encoder, mut g) = (&config.encoder, Graph::default());
    let (c, eps, classes) = (encoder.width, encoder.layer_norm_eps, config.classes.len());
    stream(&mut g, encoder);
    let h = match config.pooling {
        Pooling::Mean => g.norm("fc_norm", POOLED, c, eps),
        Pooling::Class => {
            // The norm is each token's own: it is enough to take that of the class token.
            let first = g.long(0);
            let class = pick(&mut g, "class_token", STREAM, &first, 1);
            g.norm("norm", &class, c, eps)
        }
    };
    let weight = g.tensor("head.weight", &[classes, c]);
    let bias = g.tensor("head.bias", &[classes]);
    let transposed = [AttributeProto::int("transB", 1)];
    let logits = g.node_with("Gemm", "logits", &[&h, &weight, &bias], &transposed);
    let doc = "one number per class, before a softmax";
    g.output(&logits, ElementType::Float, &[classes], doc);
    describe(&mut g, encoder);
    g
}

/// Makes outputs of the features.
fn describe(g: &mut Graph, config: &EncoderConfig) {
    let (n, c) = (config.tokens(), config.width);
    let doc = "what the last block puts out, without a norm: the class token, then the patches row by row";
    g.output(STREAM, ElementType::Float, &[n, c], doc);
    g.output(POOLED, ElementType::Float, &[c], "the mean of the patch tokens of last_hidden_state");
}

/// From the images to [`STREAM`] and [`POOLED`].
fn stream(g: &mut Graph, config: &EncoderConfig) {
    let mut s = embedding(g, config);
    let biased = config.shared_rel_pos_bias || config.rel_pos_bias;
    let index = if biased { index(g, config) } else { String::new() };
    let shared = config.shared_rel_pos_bias.then(|| bias(g, config, &index, "rel_pos_bias"));
    for i in 0..config.depth {
        let owner = format!("blocks.{i}.attn");
        let own = config.rel_pos_bias.then(|| bias(g, config, &index, &owner));
        let name = if i + 1 == config.depth { STREAM.to_owned() } else { format!("blocks.{i}") };
        s = block(g, config, i, &s, own.as_ref().or(shared.as_ref()), name);
    }
    let (start, end, axis) = (g.longs(&[1]), g.longs(&[config.tokens() as i64]), g.longs(&[1]));
    let patches = g.node("Slice", "patches", &[&s, &start, &end, &axis]);
    let over = [AttributeProto::ints("axes", &[1]), AttributeProto::int("keepdims", 0)];
    g.node_with("ReduceMean", POOLED, &[&patches], &over);
}

/// Patches, class token, positions: `[B,N,C]`.
fn embedding(g: &mut Graph, config: &EncoderConfig) -> String {
    let (c, p, (h, w)) = (config.width, config.patch, config.image);
    let doc = "images, less the mean and over the std of the metadata, channel by channel";
    let images = g.input("pixel_values", &[3, h, w], doc);
    let name = "patch_embed.proj";
    let weight = g.tensor(format!("{name}.weight"), &[c, 3, p, p]);
    let bias = g.tensor(format!("{name}.bias"), &[c]);
    let side = [p as i64; 2];
    let sides =
        [AttributeProto::ints("kernel_shape", &side), AttributeProto::ints("strides", &side)];
    let e = g.node_with("Conv", name, &[&images, &weight, &bias], &sides); // [B,C,Gh,Gw]
    let flat = g.longs(&[0, c as i64, -1]);
    let e = g.node("Reshape", "patch_embed.flat", &[&e, &flat]); // [B,C,Np]
    let e = transpose(g, "patch_embed", &e, &[0, 2, 1]); // [B,Np,C]
    // One class token per image: the first patch, times 0.
    let (zero, one) = (g.longs(&[0]), g.longs(&[1]));
    let first = g.node("Slice", "cls_token.place", &[&e, &zero, &one, &one]);
    let nothing = g.float("zero", 0.0);
    let empty = g.node("Mul", "cls_token.zeros", &[&first, &nothing]);
    let token = g.tensor("cls_token", &[1, 1, c]);
    let class = g.node("Add", "cls_token.each", &[&empty, &token]);
    let tokens = g.node_with("Concat", "tokens", &[&class, &e], &[AttributeProto::int("axis", 1)]);
    if !config.abs_pos {
        return tokens;
    }
    let positions = g.tensor("pos_embed", &[1, config.tokens(), c]);
    g.node("Add", "tokens.placed", &[&tokens, &positions])
}

/// The row of a table that each pair of tokens reads, `[N,N]`.
fn index(g: &mut Graph, config: &EncoderConfig) -> String {
    let rows = Values::Rows(relative_position_index(config.grid()));
    g.constant("relative_position_index".to_owned(), &[config.tokens(); 2], rows)
}

/// Bias `[H,N,N]` from the table of `owner`.
fn bias(g: &mut Graph, config: &EncoderConfig, index: &str, owner: &str) -> String {
    let table = format!("{owner}.relative_position_bias_table");
    let table = g.tensor(table, &[config.rel_pos_rows(), config.heads]);
    let entries = pick(g, &format!("{owner}.bias.entries"), &table, index, 0); // [N,N,H]
    transpose(g, &format!("{owner}.bias"), &entries, &[2, 0, 1])
}

/// Block `i`; its last node has the name `out`.
fn block(
    g: &mut Graph,
    config: &EncoderConfig,
    i: usize,
    s: &str,
    bias: Option<&String>,
    out: String,
) -> String {
    let (c, eps) = (config.width, config.layer_norm_eps);
    let name = |part: &str| format!("blocks.{i}.{part}");
    let scaled = |g: &mut Graph, branch: String, gamma: &str| {
        if config.layer_scale == 0.0 {
            return branch;
        }
        let gamma = g.tensor(name(gamma), &[c]);
        g.node("Mul", format!("{branch}.scaled"), &[&branch, &gamma])
    };
    let y = g.norm(&name("norm1"), s, c, eps);
    let branch = attention(g, config, &name("attn"), &y, bias);
    let branch = scaled(g, branch, "gamma_1");
    let s = g.node("Add", name("attn.residual"), &[s, &branch]);
    let y = g.norm(&name("norm2"), &s, c, eps);
    let branch = mlp(g, config, &name("mlp"), &y);
    let branch = scaled(g, branch, "gamma_2");
    g.node("Add", out, &[&s, &branch])
}

fn attention(
    g: &mut Graph,
    config: &EncoderConfig,
    name: &str,
    y: &str,
    bias: Option<&String>,
) -> String {
    let (c, heads) = (config.width, config.heads as i64);
    let d = c as i64 / heads;
    let part = |part: &str| format!("{name}.{part}");
    let qkv = g.product(&part("qkv"), y, [c, 3 * c]);
    let biases = Values::QkvBias([part("q_bias"), part("v_bias")]);
    let biases = g.constant(part("qkv.bias"), &[3 * c], biases);
    let qkv = g.node("Add", part("qkv"), &[&qkv, &biases]);
    let split = g.longs(&[0, 0, 3, heads, d]);
    let qkv = g.node("Reshape", part("qkv.heads"), &[&qkv, &split]);
    let qkv = transpose(g, &part("qkv.apart"), &qkv, &[2, 0, 3, 1, 4]); // [3,B,H,N,D]
    let [q, k, v] = [0, 1, 2].map(|i| {
        let index = g.long(i);
        pick(g, &part(["q", "k", "v"][i as usize]), &qkv, &index, 0)
    });
    let scale = g.float("scale", (d as f32).powf(-0.5));
    let q = g.node("Mul", part("q.scaled"), &[&q, &scale]);
    let k = transpose(g, &part("k.transposed"), &k, &[0, 1, 3, 2]);
    let mut scores = g.node("MatMul", part("qk"), &[&q, &k]); // [B,H,N,N]
    if let Some(bias) = bias {
        scores = g.node("Add", part("qk.biased"), &[&scores, bias]);
    }
    let last = [AttributeProto::int("axis", -1)];
    let probs = g.node_with("Softmax", part("probs"), &[&scores], &last);
    let out = g.node("MatMul", part("attended"), &[&probs, &v]);
    let out = transpose(g, &part("attended.tokens"), &out, &[0, 2, 1, 3]); // [B,N,H,D]
    let join = g.longs(&[0, 0, c as i64]);
    let out = g.node("Reshape", part("attended.joined"), &[&out, &join]);
    g.linear(&part("proj"), &out, [c, c])
}

fn mlp(g: &mut Graph, config: &EncoderConfig, name: &str, y: &str) -> String {
    let (c, hidden) = (config.width, config.mlp_width);
    let part = |part: &str| format!("{name}.{part}");
    let x = g.linear(&part("fc1"), y, [c, hidden]);
    // gelu(x) = x (1 + erf(x / √2)) / 2
    let root = g.float("sqrt_half", std::f32::consts::FRAC_1_SQRT_2);
    let (one, half) = (g.float("one", 1.0), g.float("half", 0.5));
    let t = g.node("Mul", part("gelu.argument"), &[&x, &root]);
    let t = g.node("Erf", part("gelu.erf"), &[&t]);
    let t = g.node("Add", part("gelu.erf_and_one"), &[&t, &one]);
    let t = g.node("Mul", part("gelu.twice"), &[&x, &t]);
    let x = g.node("Mul", part("gelu"), &[&t, &half]);
    g.linear(&part("fc2"), &x, [hidden, c])
}

fn transpose(g: &mut Graph, name: &str, x: &str, perm: &[i64]) -> String {
    g.node_with("Transpose", name, &[x], &[AttributeProto::ints("perm", perm)])
}

/// The entries of `x` at `index` of an axis.
fn pick(g: &mut Graph, name: &str, x: &str, index: &str, axis: i64) -> String {
    g.node_with("Gather", name, &[x, index], &[AttributeProto::int("axis", axis)])
}
