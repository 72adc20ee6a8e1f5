//! `beit bench device`: the GPU's ops at the sizes of an encoder, each against the ceiling that binds
//! it: a device-to-device copy or a matrix product, measured in the same process.

use crate::backend::Storage;
use crate::bench::Times;
use crate::cuda::{Cuda, Precision, plain};
use crate::models::config::BeitConfig;
use crate::ops::adamw::{AdamW, AdamWOp, Moments, Segment, Update};
use crate::ops::attention::AttentionOp;
use crate::ops::conv2d::{Conv, Conv2dOp};
use crate::ops::cross_entropy::{CrossEntropyOp, Target};
use crate::ops::gelu::GeluOp;
use crate::ops::global_norm::GlobalNormOp;
use crate::ops::gumbel_softmax::{GumbelSoftmaxOp, Noise};
use crate::ops::layer_norm::LayerNormOp;
use crate::ops::linear::LinearOp;
use crate::ops::linear_gelu::LinearGeluOp;
use crate::ops::patch_embed::PatchEmbedOp;
use crate::ops::rel_pos_bias::{RelPosBiasOp, RelPosIndex};
use crate::ops::residual_norm::ResidualNormOp;
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::real::{Element, Float};
use crate::rng::{Philox, Purpose};
use crate::tensor::{Ids, Master, Tensor};
use serde::Serialize;
use std::time::Instant;

/// One op in one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Op and direction.
    pub op: String,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Median microseconds.
    pub us: f64,
    /// Shortest and longest.
    pub us_range: [f64; 2],
    /// Floating-point operations of the matrix products.
    pub flops: f64,
    /// Bytes that must at least be moved.
    pub bytes: f64,
    /// TFLOP/s.
    pub tflops: f64,
    /// GB/s.
    pub gbps: f64,
    /// Share of the ceiling that the work is nearest to by its counts.
    pub fraction: f64,
    /// `matmul` or `copy`.
    pub ceiling: &'static str,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Result {
    /// Name of the device.
    pub device: String,
    /// Whether it was the emulator, whose times mean nothing.
    pub emulated: bool,
    /// Precision.
    pub precision: &'static str,
    /// Images.
    pub batch: usize,
    /// Rate of a large square product in this precision, TFLOP/s.
    pub matmul_tflops: f64,
    /// Bytes read and written by a large copy, GB/s.
    pub copy_gbps: f64,
    /// The ops.
    pub rows: Vec<Row>,
}

struct Bench<'a, T: Precision> {
    bk: &'a Cuda<T>,
    seed: u32,
    budget: f64,
    matmul: f64,
    copy: f64,
    rows: Vec<Row>,
}

impl<T: Precision> Bench<'_, T> {
    /// Normal enough: the sum of two uniform numbers, centred; from a short table, so that making the
    /// inputs takes less time than using them.
    fn random<E: Float>(&mut self, shape: &[usize]) -> Tensor<Cuda<T>, E> {
        self.seed += 1;
        let mut rng = Philox::new(0, Purpose::Bench, self.seed, 0);
        let table: Vec<E> =
            (0..65_537).map(|_| E::from_f64(rng.unit() + rng.unit() - 1.0)).collect();
        let n = shape.iter().product();
        let host = table.iter().copied().cycle().take(n).collect();
        Tensor::from_vec(self.bk, host, shape)
    }

    fn ids(&mut self, n: usize, below: usize) -> Ids<Cuda<T>> {
        let ids = (0..n).map(|i| (i * 7919 % below) as u32).collect();
        Ids::from_vec(self.bk, ids, &[n])
    }

    /// Seconds of one call: several are given to the stream before it is waited for.
    fn seconds(&self, f: &mut dyn FnMut()) -> Times {
        let wait = || self.bk.synchronize();
        f();
        wait();
        let start = Instant::now();
        f();
        wait();
        let once = start.elapsed().as_secs_f64();
        let count = (0.01 / once).clamp(1.0, 1000.0) as usize;
        let mut all = Vec::new();
        let begin = Instant::now();
        while all.len() < 3 || begin.elapsed().as_secs_f64() < self.budget {
            let start = Instant::now();
            (0..count).for_each(|_| f());
            wait();
            all.push(start.elapsed().as_secs_f64() / count as f64);
        }
        Times::new(all)
    }

    fn time(&mut self, op: &str, shape: &[usize], flops: f64, bytes: f64, mut f: impl FnMut()) {
        let times = self.seconds(&mut f);
        let seconds = times.median();
        let (tflops, gbps) = (1e-12 * flops / seconds, 1e-9 * bytes / seconds);
        let (compute, memory) = (tflops / self.matmul, gbps / self.copy);
        self.rows.push(Row {
            op: op.into(),
            shape: shape.to_vec(),
            us: 1e6 * seconds,
            us_range: [1e6 * times.min(), 1e6 * times.max()],
            flops,
            bytes,
            tflops,
            gbps,
            fraction: compute.max(memory),
            ceiling: if compute > memory { "matmul" } else { "copy" },
        });
    }

    /// Times of the two ceilings; `side` of the square matrices, `len` numbers of the copy.
    fn ceilings(&mut self, side: usize, len: usize) -> [Measured; 2] {
        let (a, b) = (self.random::<T::Elem>(&[side, side]), self.random(&[side, side]));
        let c: Tensor<Cuda<T>> = self.bk.unset(&[side, side]);
        let bk = self.bk;
        let mut product = || {
            let factors = (plain(a.start()), plain(b.start()));
            bk.gemm((side, side, side), 1.0, factors.0, factors.1, 0.0, c.start());
        };
        let matmul = Measured {
            shape: format!("{side} x {side} x {side}"),
            work: 2.0 * (side as f64).powi(3),
            times: self.seconds(&mut product),
        };
        let x: Master<Cuda<T>> = self.random(&[len]);
        let size = size_of::<T::Master>() as f64;
        let mut copy = || drop(x.duplicate(bk));
        let copy = Measured {
            shape: format!("{len} numbers"),
            work: 2.0 * size * len as f64,
            times: self.seconds(&mut copy),
        };
        self.matmul = 1e-12 * matmul.work / matmul.times.min();
        self.copy = 1e-9 * copy.work / copy.times.min();
        [matmul, copy]
    }
}

/// Parameters of one op.
struct Weights<T: Precision> {
    params: Vec<Param>,
    w: Params<Cuda<T>>,
    g: Params<Cuda<T>>,
}

impl<T: Precision> Weights<T> {
    fn new(bench: &mut Bench<T>, shapes: &[&[usize]]) -> Self {
        let mut registry = Registry::new();
        let add = |(i, shape): (usize, &&[usize])| {
            registry.add(format!("p{i}"), shape, Decay::No, Init::Constant(0.0))
        };
        let params: Vec<_> = shapes.iter().enumerate().map(add).collect();
        let layout = registry.finish();
        let n = crate::params::arena_len(&layout);
        let values: Tensor<Cuda<T>, f32> = bench.random(&[n]);
        let w = Params::from_host(bench.bk, &layout, &values.to_vec(bench.bk));
        Self { params, w, g: Params::zeros(bench.bk, &layout) }
    }
}

/// A ceiling: what was done, how much of it, and how long it took. Where several calls are given to the
/// device before it is waited for, a time is their mean.
pub struct Measured {
    /// Sizes.
    pub shape: String,
    /// Operations, or bytes read and written.
    pub work: f64,
    /// Seconds of a call.
    pub times: Times,
}

/// A large square product and a large copy.
pub fn ceilings<T: Precision>(bk: &Cuda<T>) -> [Measured; 2] {
    let mut bench = Bench { bk, seed: 0, budget: 0.5, matmul: 1.0, copy: 1.0, rows: Vec::new() };
    bench.ceilings(8192, 1 << 28)
}

/// Rate of a large square product, TFLOP/s.
pub fn matmul_tflops<T: Precision>(bk: &Cuda<T>) -> f64 {
    let mut bench = Bench { bk, seed: 0, budget: 0.2, matmul: 1.0, copy: 1.0, rows: Vec::new() };
    bench.ceilings(if bk.device().is_emulated() { 64 } else { 8192 }, 1 << 16);
    bench.matmul
}

/// Times some ops that belong together, at a batch.
type Family<'a, T> = fn(&mut Bench<'a, T>, &BeitConfig, usize);

/// Times the ops of `config` at a batch, or one family of them, spending about `budget` seconds on each.
pub fn run<T: Precision>(
    bk: &Cuda<T>,
    config: &BeitConfig,
    batch: usize,
    only: Option<&str>,
    budget: f64,
) -> Result {
    let emulated = bk.device().is_emulated();
    let mut bench = Bench { bk, seed: 0, budget, matmul: 1.0, copy: 1.0, rows: Vec::new() };
    let (side, len) = if emulated { (64, 1 << 16) } else { (8192, 1 << 28) };
    bench.ceilings(side, len);
    let families: [(&str, Family<T>); 6] = [
        ("stream", stream),
        ("products", products),
        ("attention", attention),
        ("head", head),
        ("optimizer", optimizer),
        ("tokenizer", tokenizer),
    ];
    for (name, family) in families {
        if only.is_none_or(|only| only == name) {
            family(&mut bench, config, batch);
        }
    }
    let Bench { matmul, copy, rows, .. } = bench;
    Result {
        device: bk.device().describe(),
        emulated,
        precision: T::SUFFIX,
        batch,
        matmul_tflops: matmul,
        copy_gbps: copy,
        rows,
    }
}

/// Bytes of an elem and of a master.
fn sizes<T: Precision>() -> (f64, f64) {
    (size_of::<T::Elem>() as f64, size_of::<T::Master>() as f64)
}

fn count<E: Element, T: Precision>(x: &Tensor<Cuda<T>, E>) -> f64 {
    x.len() as f64
}

fn stream<T: Precision>(bench: &mut Bench<T>, config: &BeitConfig, batch: usize) {
    let (shape, c) = ([batch, config.tokens(), config.width], config.width);
    let ((e, m), bk) = (sizes::<T>(), bench.bk);
    let Weights { params, w, mut g } = Weights::new(bench, &[&[c], &[c], &[c]]);
    let [gamma, weight, bias] = [0, 1, 2].map(|i| &params[i]);
    let (x, dy) = (bench.random::<T::Master>(&shape), bench.random::<T::Elem>(&shape));
    let branch = bench.random::<T::Elem>(&shape);
    let n = count(&x);
    let forward = || bk.layer_norm_forward(&x, &w, weight, bias, 1e-6);
    let (_, stats) = forward();
    bench.time("layer_norm forward", &shape, 0.0, n * (m + e), || drop(forward()));
    bench.time("layer_norm backward", &shape, 0.0, n * (2.0 * m + e), || {
        drop(bk.layer_norm_backward(&x, &stats, &w, weight, bias, &dy, &mut g));
    });
    let forward =
        || bk.residual_norm_forward(&x, &branch, &w, Some(gamma), None, weight, bias, 1e-6);
    let (s, _, stats) = forward();
    bench.time("residual_norm forward", &shape, 0.0, n * (2.0 * m + 2.0 * e), || drop(forward()));
    let mut ds = Some(x.duplicate(bk));
    bench.time("residual_norm backward", &shape, 0.0, n * (3.0 * m + 3.0 * e), || {
        let own = ds.take().expect("put back");
        let (own, _) = bk.residual_norm_backward(
            &s,
            &stats,
            &branch,
            &w,
            Some(gamma),
            None,
            weight,
            bias,
            own,
            &dy,
            &mut g,
        );
        ds = Some(own);
    });
}

fn products<T: Precision>(bench: &mut Bench<T>, config: &BeitConfig, batch: usize) {
    let (rows, c, h) = (batch * config.tokens(), config.width, config.mlp_width());
    let ((e, m), bk) = (sizes::<T>(), bench.bk);
    let Weights { params, w, mut g } = Weights::new(bench, &[&[3 * c, c], &[3 * c], &[h, c], &[h]]);
    let x = bench.random::<T::Elem>(&[rows, c]);
    for (name, weight, bias, out) in [
        ("linear qkv", &params[0], &params[1], 3 * c),
        ("linear_gelu fc1", &params[2], &params[3], h),
    ] {
        let (r, i, o) = (rows as f64, c as f64, out as f64);
        let (flops, shape) = (2.0 * r * i * o, [rows, c, out]);
        let bytes = e * (r * i + i * o + r * o);
        let (y, a) = bk.linear_gelu_forward(&x, &w, weight, bias);
        let gelu = name.starts_with("linear_gelu");
        bench.time(&format!("{name} forward"), &shape, flops, bytes, || {
            if gelu {
                drop(bk.linear_gelu_forward(&x, &w, weight, bias));
            } else {
                drop(bk.linear_forward(&x, &w, weight, Some(bias)));
            }
        });
        // The library's fused form of GELU is another function; what the exact one costs beside it.
        let (input, fused_y): (Tensor<Cuda<T>>, Tensor<Cuda<T>>) =
            (bk.unset(a.shape()), bk.unset(a.shape()));
        let sizes = (rows, c, y.cols());
        let fused = || {
            bk.gemm_tanh_gelu(
                sizes,
                x.start(),
                &w,
                (weight, bias),
                (input.start(), fused_y.start()),
            )
        };
        if gelu && fused() {
            bench.time("  by cuBLASLt, tanh form", &shape, flops, bytes, || _ = fused());
        }
        let bytes = 2.0 * bytes + m * i * o;
        bench.time(&format!("{name} backward"), &shape, 2.0 * flops, bytes, || {
            drop(bk.linear_backward(&x, &w, weight, Some(bias), &y, &mut g));
        });
        if gelu {
            bench.time("gelu forward", &[rows, out], 0.0, 2.0 * e * r * o, || {
                drop(bk.gelu_forward(&a));
            });
            let mut dy = Some(y);
            bench.time("gelu backward", &[rows, out], 0.0, 3.0 * e * r * o, || {
                let own = dy.take().expect("put back");
                dy = Some(bk.gelu_backward(&a, own));
            });
        }
    }
}

fn attention<T: Precision>(bench: &mut Bench<T>, config: &BeitConfig, batch: usize) {
    let (n, c, heads) = (config.tokens(), config.width, config.heads);
    let ((e, m), bk) = (sizes::<T>(), bench.bk);
    let qkv = bench.random::<T::Elem>(&[batch, n, 3 * c]);
    let dout = bench.random::<T::Elem>(&[batch, n, c]);
    let index = RelPosIndex::new(bk, config.grid());
    let table_rows = RelPosIndex::<Cuda<T>>::rows(config.grid());
    let Weights { params, w, mut g } = Weights::new(bench, &[&[table_rows, heads]]);
    let pairs = (heads * n * n) as f64;
    let bias = bk.rel_pos_bias_forward(&w, &params[0], &index);
    bench.time("rel_pos_bias forward", &[heads, n, n], 0.0, m * pairs, || {
        drop(bk.rel_pos_bias_forward(&w, &params[0], &index));
    });
    bench.time("rel_pos_bias backward", &[heads, n, n], 0.0, m * pairs, || {
        bk.rel_pos_bias_backward(&params[0], &index, &bias, &mut g);
    });
    let (out, lse) = bk.attention_forward(&qkv, Some(&bias), heads);
    let products = 2.0 * batch as f64 * (n * n * c) as f64;
    let (shape, x) = ([batch, n, heads, c / heads], count(&dout));
    bench.time("attention forward", &shape, 2.0 * products, e * 4.0 * x + m * pairs, || {
        drop(bk.attention_forward(&qkv, Some(&bias), heads));
    });
    let mut dbias = Master::zeros(bk, bias.shape());
    let bytes = e * 8.0 * x + 2.0 * m * pairs;
    bench.time("attention backward", &shape, 5.0 * products, bytes, || {
        let dbias = Some(&mut dbias);
        drop(bk.attention_backward(&qkv, Some(&bias), &out, &lse, &dout, heads, dbias));
    });
    bench.time("attention backward, no dbias", &shape, 5.0 * products, e * 8.0 * x, || {
        drop(bk.attention_backward(&qkv, Some(&bias), &out, &lse, &dout, heads, None));
    });
}

fn head<T: Precision>(bench: &mut Bench<T>, config: &BeitConfig, batch: usize) {
    // 75 of 196 patches, as in the paper.
    let (rows, v) = (batch * config.patches() * 75 / 196, config.vocab);
    let ((e, _), bk) = (sizes::<T>(), bench.bk);
    let labels = bench.ids(rows, v);
    let target = Target::Hard { labels: &labels, ignore: None };
    let mut logits = Some(bench.random::<T::Elem>(&[rows, v]));
    let bytes = 2.0 * e * (rows * v) as f64;
    bench.time("cross_entropy backward", &[rows, v], 0.0, bytes, || {
        let own = logits.take().expect("put back");
        logits = Some(bk.cross_entropy_backward(own, &target, 1.0 / rows as f64).1);
    });
    let (ih, iw) = config.image;
    let (c, p) = (config.width, config.patch);
    let images = bench.random::<T::Elem>(&[batch, ih, iw, 3]);
    let Weights { params, w, mut g } = Weights::new(bench, &[&[c, p, p, 3], &[c]]);
    let de = bench.random::<T::Master>(&[batch, config.patches(), c]);
    let flops = 2.0 * count(&images) * c as f64;
    let bytes = e * count(&images);
    let shape = [batch, ih, iw, c];
    bench.time("patch_embed forward", &shape, flops, bytes, || {
        drop(bk.patch_embed_forward(&images, &w, &params[0], &params[1]));
    });
    bench.time("patch_embed backward", &shape, flops, bytes, || {
        drop(bk.patch_embed_backward(&images, &w, &params[0], &params[1], &de, &mut g, false));
    });
}

fn optimizer<T: Precision>(bench: &mut Bench<T>, config: &BeitConfig, _: usize) {
    let (n, (e, m), bk) = (config.parameters() as usize, sizes::<T>(), bench.bk);
    let Weights { mut w, g, .. } = Weights::new(bench, &[&[n]]);
    let mut moments = Moments::zeros(bk, &w.layout);
    let segments = [Segment { end: n, lr_scale: 1.0, decay: 0.05 }];
    let norm = bk.global_norm(&g, 0..n);
    bench.time("global_norm", &[n], 0.0, m * n as f64, || drop(bk.global_norm(&g, 0..n)));
    let copy = if T::NARROW { e } else { 0.0 };
    let mut step = 0;
    bench.time("adamw", &[n], 0.0, (7.0 * m + copy) * n as f64, || {
        step += 1;
        let max_norm = Some(3.0);
        let adamw = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.98, eps: 1e-8, step, max_norm };
        let update = Update { adamw, segments: &segments, norm: Some(&norm), range: 0..n };
        bk.adamw_update(&mut w, &mut moments, &g, &update);
    });
}

/// Convolutions of the sizes of DALL-E's encoder, and its bottleneck; a quarter of the batch.
fn tokenizer<T: Precision>(bench: &mut Bench<T>, config: &BeitConfig, batch: usize) {
    let (b, (e, m), bk) = (batch.div_ceil(4), sizes::<T>(), bench.bk);
    let unit = config.image.0 / 4;
    for (kernel, side, input, output) in
        [(3, 2 * unit, 64, 64), (3, unit, 128, 128), (3, unit / 2, 256, 256), (1, unit, 128, 512)]
    {
        let x = bench.random::<T::Elem>(&[b, side, side, input]);
        let Weights { params, w, .. } =
            Weights::new(bench, &[&[output, kernel, kernel, input], &[output]]);
        let conv = Conv { weight: &params[0], bias: &params[1], relu: true };
        let pixels = (b * side * side) as f64;
        let flops = 2.0 * pixels * (kernel * kernel * input * output) as f64;
        let bytes = e * pixels * (input + output) as f64;
        let shape = [b, side, side, input, output, kernel];
        bench.time(&format!("conv2d {kernel}x{kernel} forward"), &shape, flops, bytes, || {
            drop(bk.conv2d_forward(&x, &w, conv));
        });
    }
    let (rows, k) = (b * config.patches(), config.vocab);
    let logits = bench.random::<T::Master>(&[rows, k]);
    let n = count(&logits);
    bench.time("gumbel_softmax forward", &[rows, k], 0.0, n * (2.0 * m + e), || {
        let noise = Noise::Philox { seed: 0, step: 1 };
        drop(bk.gumbel_softmax_forward(&logits, &noise, 0.5, false));
    });
    bench.time("argmax", &[rows, k], 0.0, n * m, || drop(bk.argmax(&logits)));
}
