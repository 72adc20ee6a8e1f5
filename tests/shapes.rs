//! Awkward sizes give the right numbers, wrong shapes the promised text.
//!
//! The products behind every op are cut into pieces by shape, so sizes around the edges of pieces are
//! where an implementation goes wrong: here each of them is compared with sums written out.

use beit::cpu::Cpu;
use beit::ops::attention::AttentionOp;
use beit::ops::batch_norm::BatchNormOp;
use beit::ops::conv2d::{Conv, Conv2dOp};
use beit::ops::cross_entropy::{CrossEntropyOp, Target};
use beit::ops::dropout2d::Dropout2dOp;
use beit::ops::gather_rows::GatherRowsOp;
use beit::ops::layer_norm::{LayerNormOp, Norm};
use beit::ops::linear::{Linear, LinearOp};
use beit::ops::patch_embed::{PatchEmbed, PatchEmbedOp};
use beit::ops::pixel_shuffle::PixelShuffleOp;
use beit::ops::resize::{PlaneMap, ResizeOp};
use beit::ops::upsample::UpsampleOp;
use beit::params::{Decay, Init, Layout, Param, Params, Registry, compact, expand};
use beit::real::Real;
use beit::rng::{Philox, Purpose};
use beit::tensor::{Ids, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};

const SIZES: [usize; 9] = [1, 2, 3, 7, 31, 32, 33, 65, 127];

fn numbers(n: usize, stream: u32) -> Vec<f64> {
    let mut rng = Philox::new(11, Purpose::Check, stream, 0);
    (0..n).map(|_| rng.uniform(-1.0, 1.0)).collect()
}

fn parameters(shapes: &[(&str, &[usize])]) -> (Vec<Param>, Layout) {
    let mut reg = Registry::new();
    let add =
        |&(name, shape): &(&str, &[usize])| reg.add(name, shape, Decay::Yes, Init::Constant(0.0));
    (shapes.iter().map(add).collect(), reg.finish())
}

/// Relative to the largest value, at the precision of `T`.
fn close<T: Real>(got: &[f64], want: &[f64], what: &str) {
    let limit = if T::from_f64(1e-9) + T::ONE == T::ONE { 1e-5 } else { 1e-12 };
    let largest = want.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((a - b).abs() <= limit * largest, "{what}: element {i} is {a}, expected {b}");
    }
}

/// Within what rounding can do to sums of so many products, in any order: `sizes` are the sums of their absolute values.
/// A sum that comes to little is as far off as its terms are large, and another processor adds them in another order.
fn as_rounded<T: Real>(got: &[f64], want: &[f64], sizes: &[f64], terms: usize, what: &str) {
    let unit = if T::from_f64(1e-9) + T::ONE == T::ONE { 2f64.powi(-24) } else { 2f64.powi(-53) };
    // Both factors and the product are rounded, then every sum, and in f64 the sums that are written out, too.
    let share = 2.0 * (terms + 3) as f64 * unit;
    assert_eq!((got.len(), sizes.len()), (want.len(), want.len()), "{what}");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((a - b).abs() <= share * sizes[i], "{what}: element {i} is {a}, expected {b}");
    }
}

fn linear_at<T: Real>(rows: usize, input: usize, output: usize) {
    let bk = Cpu::<T>::new();
    let (p, layout) = parameters(&[("weight", &[output, input]), ("bias", &[output])]);
    let host = numbers(output * input + output, 1);
    let (x, dy) = (numbers(rows * input, 2), numbers(rows * output, 3));
    let w = Params::from_host(&bk, &layout, &expand(&layout, &host));
    let mut g = Params::zeros(&bk, &layout);
    let xt = Tensor::from_f64(&bk, &x, &[rows, input]);
    let linear = Linear { weight: p[0].clone(), bias: Some(p[1].clone()) };
    let y = bk.linear_forward(&xt, &w, &linear);
    let dyt = Tensor::from_f64(&bk, &dy, &[rows, output]);
    let dx = bk.linear_backward(&xt, &w, &linear, &dyt, &mut g);
    // The sums, and those of absolute values.
    let mut sums = [rows * output, rows * input, host.len()].map(|n| [vec![0.0; n], vec![0.0; n]]);
    let mut add = |of: usize, at: usize, term: f64| {
        sums[of][0][at] += term;
        sums[of][1][at] += term.abs();
    };
    for r in 0..rows {
        for o in 0..output {
            let d = dy[r * output + o];
            add(0, r * output + o, host[output * input + o]);
            add(2, output * input + o, d);
            for i in 0..input {
                add(0, r * output + o, x[r * input + i] * host[o * input + i]);
                add(1, r * input + i, d * host[o * input + i]);
                add(2, o * input + i, d * x[r * input + i]);
            }
        }
    }
    let g = compact(&layout, &g.to_host(&bk));
    let g: Vec<f64> = g.iter().map(|x| x.to_f64()).collect();
    let found = [("y", y.to_f64(&bk), input + 1), ("dx", dx.to_f64(&bk), output), ("dw", g, rows)];
    for ((name, got, terms), [want, sizes]) in found.into_iter().zip(&sums) {
        let what = format!("linear {rows} x {input} -> {output}, {name}");
        as_rounded::<T>(&got, want, sizes, terms, &what);
    }
}

#[test]
fn linear_at_all_sizes() {
    for rows in SIZES {
        for input in SIZES {
            for output in [1, 3, 32, 33, 127] {
                linear_at::<f64>(rows, input, output);
                linear_at::<f32>(rows, input, output);
            }
        }
    }
    // Large enough to be cut along both axes.
    linear_at::<f32>(311, 513, 257);
    linear_at::<f64>(311, 513, 257);
}

fn layer_norm_at<T: Real>(rows: usize, width: usize) {
    let bk = Cpu::<T>::new();
    let (p, layout) = parameters(&[("weight", &[width]), ("bias", &[width])]);
    let (host, x) = (numbers(2 * width, 4), numbers(rows * width, 5));
    let w = Params::from_host(&bk, &layout, &expand(&layout, &host));
    let xt = Tensor::from_f64(&bk, &x, &[rows, width]);
    let norm = Norm { weight: p[0].clone(), bias: p[1].clone(), eps: 1e-6 };
    let (y, _) = bk.layer_norm_forward(&xt, &w, &norm);
    let mut want = Vec::new();
    for x in x.chunks(width) {
        let mean = x.iter().sum::<f64>() / width as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let rstd = 1.0 / (variance + 1e-6).sqrt();
        want.extend((0..width).map(|i| host[i] * (x[i] - mean) * rstd + host[width + i]));
    }
    close::<T>(&y.to_f64(&bk), &want, &format!("layer_norm {rows} x {width}"));
}

#[test]
fn layer_norm_at_all_sizes() {
    for rows in SIZES {
        for width in SIZES {
            layer_norm_at::<f64>(rows, width);
            layer_norm_at::<f32>(rows, width);
        }
    }
}

fn attention_at<T: Real>(tokens: usize, heads: usize, head: usize) {
    let (bk, batch, c) = (Cpu::<T>::new(), 2, heads * head);
    let (qkv, bias) = (numbers(batch * tokens * 3 * c, 6), numbers(heads * tokens * tokens, 7));
    let qkv_t = Tensor::from_f64(&bk, &qkv, &[batch, tokens, 3 * c]);
    let bias_t = Tensor::from_f64(&bk, &bias, &[heads, tokens, tokens]);
    let y = bk.attention_forward(&qkv_t, Some(&bias_t), heads).out;
    let mut want = vec![0.0; batch * tokens * c];
    let at = |b: usize, i: usize, part: usize, h: usize, d: usize| {
        qkv[(b * tokens + i) * 3 * c + part * c + h * head + d]
    };
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..tokens {
                let score = |j: usize| {
                    let dot: f64 = (0..head).map(|d| at(b, i, 0, h, d) * at(b, j, 1, h, d)).sum();
                    (dot / (head as f64).sqrt() + bias[(h * tokens + i) * tokens + j]).exp()
                };
                let sum: f64 = (0..tokens).map(score).sum();
                for d in 0..head {
                    let mixed = (0..tokens).map(|j| score(j) / sum * at(b, j, 2, h, d)).sum();
                    want[(b * tokens + i) * c + h * head + d] = mixed;
                }
            }
        }
    }
    let size = format!("attention {tokens} tokens, {heads} heads of {head}");
    close::<T>(&y.to_f64(&bk), &want, &size);
}

#[test]
fn attention_at_many_sizes() {
    for tokens in [1, 2, 3, 31, 32, 33, 65] {
        for (heads, head) in [(1, 1), (2, 3), (3, 7), (1, 32), (2, 33)] {
            attention_at::<f64>(tokens, heads, head);
            attention_at::<f32>(tokens, heads, head);
        }
    }
}

fn conv2d_at<T: Real>((h, w): (usize, usize), (input, output): (usize, usize), kernel: usize) {
    let (bk, batch, pad) = (Cpu::<T>::new(), 2, kernel / 2);
    let shape = [output, kernel, kernel, input];
    let (p, layout) = parameters(&[("weight", &shape), ("bias", &[output])]);
    let host = numbers(layout.iter().map(|p| p.len()).sum(), 8);
    let x = numbers(batch * h * w * input, 9);
    let params = Params::from_host(&bk, &layout, &expand(&layout, &host));
    let conv = Conv { weight: p[0].clone(), bias: Some(p[1].clone()), relu: true };
    let bare = Conv { bias: None, ..conv.clone() };
    let image = Tensor::from_f64(&bk, &x, &[batch, h, w, input]);
    let [y, y_bare] = [&conv, &bare].map(|conv| bk.conv2d_forward(&image, &params, conv));
    let (mut want, mut want_bare) = (Vec::new(), Vec::new());
    for row in 0..batch * h * w {
        let (b, i, j) = (row / (h * w), row / w % h, row % w);
        for o in 0..output {
            let mut sum = 0.0;
            for (u, v) in (0..kernel * kernel).map(|t| (t / kernel, t % kernel)) {
                if (pad..h + pad).contains(&(i + u)) && (pad..w + pad).contains(&(j + v)) {
                    for c in 0..input {
                        let from = ((b * h + i + u - pad) * w + j + v - pad) * input + c;
                        let weight = host[((o * kernel + u) * kernel + v) * input + c];
                        sum += weight * x[from].max(0.0);
                    }
                }
            }
            want.push(sum + host[p[0].len() + o]);
            want_bare.push(sum);
        }
    }
    let size = format!("conv2d {h} x {w}, {input} -> {output}, kernel {kernel}");
    close::<T>(&y.to_f64(&bk), &want, &size);
    close::<T>(&y_bare.to_f64(&bk), &want_bare, &format!("{size}, without bias"));
}

#[test]
fn conv2d_at_many_sizes() {
    for image in [(1, 1), (1, 5), (3, 2), (7, 31), (33, 17)] {
        for channels in [(1, 1), (3, 7), (5, 33)] {
            for kernel in [1, 3, 7] {
                conv2d_at::<f64>(image, channels, kernel);
                conv2d_at::<f32>(image, channels, kernel);
            }
        }
    }
    // More than one band of lines.
    conv2d_at::<f32>((61, 40), (129, 2), 3);
}

/// Runs what must panic and compares the text.
fn panics<T>(want: &str, f: impl FnOnce() -> T) {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("must panic");
    let text = payload.downcast_ref::<String>().expect("a formatted message");
    assert_eq!(text, want);
}

#[test]
fn wrong_shapes_panic_with_op_argument_got_and_wanted() {
    let bk = Cpu::<f64>::new();
    let zeros = |shape: &[usize]| Tensor::<Cpu<f64>>::zeros(&bk, shape);
    let shapes: [(&str, &[usize]); 4] =
        [("weight", &[5, 4]), ("bias", &[5]), ("kernel", &[2, 2, 2, 3]), ("norm", &[4])];
    let (p, layout) = parameters(&shapes);
    let w = Params::zeros(&bk, &layout);
    panics("linear: parameter weight is [5, 4], expected [5, 3]", || {
        let linear = Linear { weight: p[0].clone(), bias: None };
        bk.linear_forward(&zeros(&[2, 3]), &w, &linear)
    });
    panics("layer_norm: parameter bias is [5], expected [4]", || {
        let norm = Norm { weight: p[3].clone(), bias: p[1].clone(), eps: 1e-6 };
        bk.layer_norm_forward(&zeros(&[2, 4]), &w, &norm)
    });
    panics("attention: qkv is [2, 7], expected [B,N,3C]", || {
        bk.attention_forward(&zeros(&[2, 7]), None, 1)
    });
    panics("attention: bias is [1, 2, 2], expected [1, 3, 3]", || {
        bk.attention_forward(&zeros(&[1, 3, 6]), Some(&zeros(&[1, 2, 2])), 1)
    });
    panics("conv2d: kernel 2 of kernel is not odd", || {
        let conv = Conv { weight: p[2].clone(), bias: Some(p[1].clone()), relu: false };
        bk.conv2d_forward(&zeros(&[1, 4, 4, 3]), &w, &conv)
    });
    panics("conv2d: x is [4, 4, 3], expected [B,H,W,I]", || {
        let conv = Conv { weight: p[2].clone(), bias: Some(p[1].clone()), relu: false };
        bk.conv2d_forward(&zeros(&[4, 4, 3]), &w, &conv)
    });
    panics("patch_embed: parameter kernel is [2, 2, 2, 3], expected [2, 2, 2, 4]", || {
        let p = PatchEmbed { weight: p[2].clone(), bias: p[1].clone() };
        bk.patch_embed_forward(&zeros(&[1, 8, 8, 4]), &w, &p)
    });
    panics("upsample_backward: dy is [1, 3, 4, 1]", || bk.upsample_backward(&zeros(&[1, 3, 4, 1])));
    panics("gather_rows: row 6 is asked for, x has 6", || {
        bk.gather_rows_forward(&zeros(&[2, 3, 4]), &Ids::from_vec(&bk, vec![6], &[1]))
    });
    panics("cross_entropy: label 3 of row 0, expected less than 3", || {
        let labels = Ids::from_vec(&bk, vec![3], &[1]);
        let target = Target::Hard { labels: &labels, ignore: None };
        bk.cross_entropy_forward(&zeros(&[1, 3]), &target)
    });
}

#[test]
fn wrong_shapes_of_a_segmentation_head_panic_with_what_was_wanted() {
    let bk = Cpu::<f64>::new();
    let zeros = |shape: &[usize]| Tensor::<Cpu<f64>>::zeros(&bk, shape);
    let (p, layout) = parameters(&[("bias", &[3])]);
    let (w, mut g) = (Params::zeros(&bk, &layout), Params::zeros(&bk, &layout));
    let one_row = "batch_norm: 1 row(s) per channel: in training the variance needs two, so more images \
                   or pixels; or use the running statistics";
    panics(one_row, || bk.batch_norm_statistics(&zeros(&[1, 1, 1, 4])));
    panics("dropout2d: keep is [1, 3], expected [1, 2]", || {
        bk.dropout2d(&zeros(&[1, 4, 4, 2]), &zeros(&[1, 3]))
    });
    panics("pixel_shuffle: x is [1, 2, 2, 6], expected [B,H,W,4O]", || {
        bk.pixel_shuffle_forward(&zeros(&[1, 2, 2, 6]), &w, &p[0])
    });
    panics("pixel_shuffle_backward: dy is [1, 2, 3, 3], expected [B,2H,2W,O]", || {
        bk.pixel_shuffle_backward(&zeros(&[1, 2, 3, 3]), &p[0], &mut g)
    });
    panics("resize: from (0, 2) to (1, 1) pixels", || PlaneMap::average(&bk, (0, 2), (1, 1)));
    let map = PlaneMap::bilinear(&bk, (2, 2), (4, 3));
    panics("resize: x is [1, 2, 3, 2], the map is from (2, 2)", || {
        bk.resize_forward(&zeros(&[1, 2, 3, 2]), &map, &mut zeros(&[1, 4, 3, 2]), 0, false)
    });
    panics("resize: y is [1, 3, 4, 2], expected [1, 4, 3, 2]", || {
        bk.resize_forward(&zeros(&[1, 2, 2, 2]), &map, &mut zeros(&[1, 3, 4, 2]), 0, false)
    });
    panics("resize_backward: channels 3..5 of 4 of y", || {
        bk.resize_backward(&zeros(&[1, 4, 3, 4]), 3, &map, &mut zeros(&[1, 2, 2, 2]), false)
    });
}
