//! The ops at the sizes that training an encoder gives them, for `beit bench ops --preset`.

use crate::models::config::BeitConfig;
use crate::ops::Backend;
use crate::ops::adamw::AdamWCase;
use crate::ops::attention::{AttentionCase, Dims};
use crate::ops::case::{Case, Cost, Inputs, Io, Visitor};
use crate::ops::conv2d::Conv2dCase;
use crate::ops::cross_entropy::{CrossEntropyCase, Targets};
use crate::ops::gelu::GeluCase;
use crate::ops::global_norm::GlobalNormCase;
use crate::ops::gumbel_softmax::GumbelSoftmaxCase;
use crate::ops::layer_norm::LayerNormCase;
use crate::ops::linear::LinearCase;
use crate::ops::linear_gelu::LinearGeluCase;
use crate::ops::patch_embed::{PatchEmbedCase, Patches};
use crate::ops::rel_pos_bias::RelPosBiasCase;
use crate::ops::residual_norm::ResidualNormCase;

/// Sizes as the name of an instance. Cases hold names and shapes that live as long as the program, which
/// asks for these once.
fn named(sizes: &[usize]) -> &'static str {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x").leak()
}

fn shape(sizes: &[usize]) -> &'static [usize] {
    sizes.to_vec().leak()
}

/// The first layer of an MLP.
pub fn first_of_mlp(config: &BeitConfig, batch: usize) -> LinearGeluCase {
    let (rows, input, output) =
        (batch * config.encoder.tokens(), config.encoder.width, config.encoder.mlp_width);
    LinearGeluCase { instance: named(&[rows, input, output]), rows, input, output }
}

/// Shows the ops of the encoder, of its loss, of its optimizer and of its tokenizer to `v`.
pub fn visit_cases<V: Visitor>(v: &mut V, config: &BeitConfig, batch: usize) {
    block(v, config, batch);
    let (width, side) = (config.encoder.width, config.encoder.patch);
    let patches = Patches { batch, grid: config.encoder.grid(), side, channels: 3, width };
    let instance = named(&[batch, config.encoder.image.0, config.encoder.image.1, width]);
    v.visit(PatchEmbedCase { instance, patches });
    // 75 of 196 patches, as in the paper.
    let (rows, classes) = (batch * config.encoder.patches() * 75 / 196, config.outputs());
    let (instance, targets) = (named(&[rows, classes]), Targets::Hard);
    v.visit(CrossEntropyCase { instance, rows, classes, targets });
    let len = config.parameters() as usize;
    v.visit(GlobalNormCase { instance: named(&[len]), len, from: 0 });
    v.visit(AdamWCase { instance: named(&[3, len]), len, clipped: true, ranges: 1 });
    tokenizer(v, config, batch.div_ceil(4));
}

fn block<V: Visitor>(v: &mut V, config: &BeitConfig, batch: usize) {
    let (tokens, width, heads) =
        (config.encoder.tokens(), config.encoder.width, config.encoder.heads);
    let rows = batch * tokens;
    let (instance, stream) = (named(&[batch, tokens, width]), shape(&[batch, tokens, width]));
    v.visit(LayerNormCase { instance, shape: stream, eps: 1e-6 });
    v.visit(ResidualNormCase { instance, shape: stream, gamma: true, keep: false });
    for output in [3 * width, config.encoder.mlp_width] {
        let (instance, input) = (named(&[rows, width, output]), width);
        v.visit(LinearCase { instance, rows, input, output, bias: true });
    }
    v.visit(first_of_mlp(config, batch));
    let hidden = [rows, config.encoder.mlp_width];
    v.visit(GeluCase { instance: named(&hidden), shape: shape(&hidden) });
    let instance = named(&[heads, tokens, tokens]);
    v.visit(RelPosBiasCase { instance, grid: config.encoder.grid(), heads, made: false });
    let instance = named(&[batch, tokens, heads, width / heads]);
    let dims = Dims { batch, tokens, heads, head: width / heads };
    v.visit(AttentionCase { instance, dims, bias: true });
    v.visit(FixedBias(AttentionCase { instance, dims, bias: true }));
}

/// Convolutions of the sizes of DALL-E's encoder, and its bottleneck.
fn tokenizer<V: Visitor>(v: &mut V, config: &BeitConfig, batch: usize) {
    let unit = config.encoder.image.0 / 4;
    for (kernel, side, input, output) in
        [(3, 2 * unit, 64, 64), (3, unit, 128, 128), (3, unit / 2, 256, 256), (1, unit, 128, 512)]
    {
        let instance = format!("{batch}x{side}x{side}x{input}_k{kernel}_{output}").leak();
        let shape = [batch, side, side, input];
        let (bias, relu, residual) = (true, true, false);
        v.visit(Conv2dCase { instance, shape, output, kernel, bias, relu, residual });
    }
    let codes = [batch * config.encoder.patches(), config.outputs()];
    let (instance, shape) = (named(&codes), shape(&codes));
    v.visit(GumbelSoftmaxCase { instance, shape, temperature: 0.5, straight_through: false });
    v.visit(Argmax(codes));
}

/// Attention whose bias gets no gradient.
struct FixedBias(AttentionCase);

impl Case for FixedBias {
    fn name(&self) -> String {
        format!("{}_fixed_bias", self.0.name())
    }

    fn inputs(&self) -> Inputs {
        self.0.inputs()
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (qkv, bias, heads) = (io.elem("qkv"), io.master("bias"), self.0.dims.heads);
        let attended = bk.attention_forward(&qkv, Some(&bias), heads);
        io.output(bk, &attended.out);
        if io.wants_backward() {
            let dout = io.upstream(bk, 0);
            let dqkv = bk.attention_backward(&qkv, Some(&bias), &attended, &dout, heads, None);
            io.grad(bk, "qkv", &dqkv);
        }
    }

    fn cost(&self) -> Cost {
        let Dims { tokens, heads, .. } = self.0.dims;
        let (all, bias) = (self.0.cost(), (heads * tokens * tokens) as f64);
        Cost { elements_backward: all.elements_backward - bias, ..all }
    }
}

/// The likeliest code of every row; it has no gradient, and its output no fractions.
struct Argmax([usize; 2]);

impl Case for Argmax {
    fn name(&self) -> String {
        format!("argmax/{}x{}", self.0[0], self.0[1])
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).master("x", &self.0).without_backward()
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.master("x");
        let _codes = bk.argmax(&x);
        io.forward_ends(bk);
    }

    fn cost(&self) -> Cost {
        let n = (self.0[0] * self.0[1]) as f64;
        Cost { flops_forward: n, elements_forward: n, ..Cost::default() }
    }
}
