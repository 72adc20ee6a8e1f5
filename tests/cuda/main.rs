//! Every case on the CUDA backend, run by the emulator: the kernels and host code that a GPU runs.
//! Streams run only when something waits for them.
//!
//! One test each: f64, gradients against finite differences of the CUDA path itself, those of whole models against
//! exact derivatives of the CPU; f32 and bf16 against the CPU in f64; f32 again with the threads of a block in
//! reversed and in shuffled order. Large cases: f64 against exact derivatives, and f32.
//! What the emulator cannot show is in `cuda/README.md`; a GPU shows it by
//! `beit gradcheck --device cuda --parity`.

mod bound;
mod faults;
mod flight;
#[path = "../training/toy.rs"]
mod toy;

use beit::cpu::Cpu;
use beit::cuda::{Cuda, Device, Precision};
use beit::error::DeviceFault;
use beit::ops::Backend;
use beit::ops::adamw::{AdamW, AdamWOp, Moments, Segment, Update};
use beit::ops::gather_rows::GatherRowsOp;
use beit::ops::gaussian::normals;
use beit::ops::global_norm::GlobalNormOp;
use beit::ops::gumbel_softmax::gumbel;
use beit::ops::linear::{Linear, LinearOp};
use beit::params::{Decay, Init, Params, Registry, initial_values};
use beit::rng::{Philox, Purpose};
use beit::selfcheck::AnyCase;
use beit::selfcheck::training::{self, StepLosses};
use beit::storage::Storage;
use beit::tensor::{Ids, Master, Tensor};
use cuda_emu::Order;
use libtest_mimic::{Arguments, Failed, Trial};
use std::sync::Arc;

/// A device of the emulator whose blocks run their threads in this order.
fn device(order: Order) -> Result<Arc<Device>, Failed> {
    cuda_emu::set_order(order);
    Device::new(0).map_err(|e| e.to_string().into())
}

fn gradients(case: &AnyCase) -> Result<(), Failed> {
    let device = device(Order::Forward)?;
    let report = case.cuda_gradients(&device).map_err(|e| e.to_string())?;
    if !report.passed() {
        return Err(report.failures(8).join("\n").into());
    }
    case.cuda_f64(&device).map_err(text)?.ok().map_err(Into::into)
}

fn f32(case: &AnyCase, order: Order) -> Result<(), Failed> {
    case.cuda_f32(&device(order)?).map_err(text)?.ok().map_err(Into::into)
}

fn bf16(case: &AnyCase) -> Result<(), Failed> {
    case.cuda_bf16(&device(Order::Forward)?).map_err(text)?.ok().map_err(Into::into)
}

fn text(error: beit::Error) -> Failed {
    error.to_string().into()
}

/// Ten steps of both models within `limit` of the CPU's losses.
fn ten_steps<T: Precision>(judge: &StepLosses, limit: f64) -> Result<(), Failed> {
    let losses = training::ten_steps(&Cuda::<T>::on(&device(Order::Forward)?).map_err(text)?);
    let off = training::difference(&losses, judge);
    // NaN must not pass.
    if off <= limit { Ok(()) } else { Err(format!("off by {off:e}: {losses:?}, {judge:?}").into()) }
}

/// The Gumbel noise that the kernel draws is the CPU's to the last place but one, and its words the
/// same: another word would be another number altogether.
fn gumbel_noise() -> Result<(), Failed> {
    let bk = Cuda::<f32>::on(&device(Order::Forward)?).map_err(text)?;
    let drawn = bk.gumbel_noise(&[NOISE], SEED, STEP).to_vec(&bk);
    is_noise(drawn, Purpose::Gumbel, |words, i| gumbel(words[i]))
}

/// So are the normal numbers.
fn gaussian_noise() -> Result<(), Failed> {
    let bk = Cuda::<f32>::on(&device(Order::Forward)?).map_err(text)?;
    let drawn = bk.gaussian_noise(&[NOISE], SEED, STEP).to_vec(&bk);
    is_noise(drawn, Purpose::Gaussian, |words, i| normals(words[i & 2], words[i & 2 | 1])[i & 1])
}

const NOISE: usize = 4099;
const SEED: u64 = 7 << 32 | 5;
const STEP: u64 = 3 << 32 | 1;

/// Whether element i of what was drawn is `of` block i / 4 and i mod 4.
fn is_noise(
    drawn: Vec<f32>,
    purpose: Purpose,
    of: fn([u32; 4], usize) -> f64,
) -> Result<(), Failed> {
    let stream = Philox::new(SEED, purpose, STEP as u32, (STEP >> 32) as u32);
    for (i, got) in drawn.into_iter().enumerate() {
        let want = of(stream.block_at(i as u32 / 4), i % 4) as f32;
        if !(want.next_down()..=want.next_up()).contains(&got) {
            return Err(format!("element {i}: {got:e} on CUDA, {want:e} on the CPU").into());
        }
    }
    Ok(())
}

/// Two runs give the same bits.
fn repeats() -> Result<(), Failed> {
    let run = || -> Result<StepLosses, Failed> {
        Ok(training::ten_steps(&Cuda::<half::bf16>::on(&device(Order::Forward)?).map_err(text)?))
    };
    if run()? == run()? { Ok(()) } else { Err("the losses of two runs differ".into()) }
}

/// An id beyond its range is found, named, and reads nothing.
fn wrong_ids() -> Result<(), Failed> {
    let bk = Cuda::<f32>::on(&device(Order::Forward)?).map_err(text)?;
    let message = |f: &dyn Fn()| -> String {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        std::panic::set_hook(hook);
        let payload = caught.expect_err("must panic");
        payload.downcast_ref::<DeviceFault>().map(ToString::to_string).unwrap_or_default()
    };
    let x = Tensor::<Cuda<f32>>::zeros(&bk, &[2, 3, 4]);
    let rows = Ids::from_vec(&bk, vec![5, 6], &[2]);
    let gathered = message(&|| drop(bk.gather_rows_forward(&x, &rows).to_vec(&bk)));
    if gathered != "cuda: gather_rows: row 6 is asked for, x has 6" {
        return Err(gathered.into());
    }
    Ok(())
}

/// Two devices at once, from one thread in turns: each is the one that was asked for and computes what it
/// computes alone.
fn two_devices() -> Result<(), Failed> {
    cuda_emu::set_order(Order::Forward);
    let mut registry = Registry::new();
    let weight = registry.add("weight", &[24, 16], Decay::Yes, Init::Normal(1.0));
    let layout = registry.finish();
    let (w, x) = (initial_values(&layout, 1), initial_values(&layout, 2));
    let x: Vec<f64> = x.into_iter().map(f64::from).collect();
    let linear = Linear { weight, bias: None };
    let open = |i| Device::new(i).and_then(|d| Cuda::<half::bf16>::on(&d)).map_err(text);
    let devices = [open(0)?, open(1)?];
    for (bk, name) in devices.iter().zip(["host emulation,", "host emulation 1,"]) {
        let own = bk.device().describe();
        if !own.starts_with(name) || !bk.device().is_emulated() {
            return Err(format!("{own} is not {name}").into());
        }
    }
    let w = devices.each_ref().map(|bk| Params::from_host(bk, &layout, &w));
    let x = devices.each_ref().map(|bk| Tensor::from_f64(bk, &x, &[24, 16]));
    let turns = [0, 1, 0, 1];
    let y = turns.map(|i| devices[i].linear_forward(&x[i], &w[i], &linear));
    let products: Vec<_> = turns.iter().zip(y).map(|(&i, y)| y.to_f64(&devices[i])).collect();
    if products.iter().all(|y| *y == products[0]) { Ok(()) } else { Err("they disagree".into()) }
}

/// AdamW and the running average over two ranges, which cut a segment, give the bits of the whole: weights,
/// their narrow copy, moments, average.
fn ranges<T: Precision>() -> Result<(), Failed> {
    let bk = Cuda::<T>::on(&device(Order::Forward)?).map_err(text)?;
    let n = 1001;
    let mut registry = Registry::new();
    registry.add("p", &[n], Decay::Yes, Init::Normal(1.0));
    let layout = registry.finish();
    let values = |seed| Params::from_host(&bk, &layout, &initial_values(&layout, seed));
    let (g, segments) = (values(2), [300, n].map(|end| (end, end as f64)));
    let segments = segments.map(|(end, lr_scale)| Segment { end, lr_scale, decay: 0.05 });
    let norm = bk.global_norm(&g, 0..n);
    let run = |ranges: &[std::ops::Range<usize>]| {
        let (mut w, mut average) = (values(1), values(3));
        let mut moments = Moments::zeros(&bk, &layout);
        for (step, range) in (1..=2).flat_map(|step| ranges.iter().map(move |r| (step, r.clone())))
        {
            let max_norm = Some(0.5);
            let adamw = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.98, eps: 1e-8, step, max_norm };
            let norm = Some(&norm);
            let update = Update { adamw, segments: &segments, norm, range: range.clone() };
            bk.adamw_update(&mut w, &mut moments, &g, &update);
            bk.ema_update(&mut average, &w, 0.75, range);
        }
        let copies = [&w, &average].map(|p| p.elem.as_ref().map(|copy| bk.download(copy)));
        ([&w, &average, &moments.m, &moments.v].map(|p| p.to_host(&bk)), copies)
    };
    if run(&[0..n, 0..0]) == run(&[0..437, 437..n]) { Ok(()) } else { Err("other bits".into()) }
}

/// The longest sequence, that of 640 px: more than fits on chip, forward and backward against the CPU.
fn longest_attention() -> Result<(), Failed> {
    let (n, heads, head) = (1601, 1, 8);
    let (bk, cpu) = (Cuda::<half::bf16>::on(&device(Order::Forward)?).map_err(text)?, Cpu::new());
    let mut rng = Philox::new(5, Purpose::Check, 4, 0);
    let mut draw = |n: usize| -> Vec<f64> {
        (0..n).map(|_| half::bf16::from_f64(2.0 * rng.unit() - 1.0).into()).collect()
    };
    let (qkv, bias, dout) = (draw(3 * n * heads * head), draw(heads * n * n), draw(n * head));
    fn run<B: Backend>(bk: &B, [qkv, bias, dout]: [&[f64]; 3], heads: usize) -> [Vec<f64>; 3] {
        let n = (bias.len() / heads).isqrt();
        let qkv = Tensor::from_f64(bk, qkv, &[1, n, qkv.len() / n]);
        let bias = Master::from_f64(bk, bias, &[heads, n, n]);
        let dout = Tensor::from_f64(bk, dout, &[1, n, dout.len() / n]);
        let attended = bk.attention_forward(&qkv, Some(&bias), heads);
        let mut dbias = Master::zeros(bk, bias.shape());
        let more = Some(&mut dbias);
        let dqkv = bk.attention_backward(&qkv, Some(&bias), &attended, &dout, heads, more);
        [attended.out.to_f64(bk), dqkv.to_f64(bk), dbias.to_f64(bk)]
    }
    let inputs = [&qkv[..], &bias, &dout];
    let (got, want) = (run(&bk, inputs, heads), run::<Cpu<f64>>(&cpu, inputs, heads));
    for (name, (got, want)) in ["out", "dqkv", "dbias"].into_iter().zip(got.iter().zip(&want)) {
        let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let off = got
            .iter()
            .zip(want)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, |m: f64, x| if x.is_nan() { f64::NAN } else { m.max(x) });
        // Five roundings of bf16, as for every op; NaN must not pass.
        let fine = off <= 5.0 / 512.0 * largest;
        if !fine {
            return Err(format!("{name} is off by {off:e}, its largest is {largest:e}").into());
        }
    }
    Ok(())
}

/// Algorithms chosen for products are kept in a file and taken from it; a line that was cut off is made
/// anew.
fn remembered_products() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let product = || -> Result<Vec<f64>, Failed> {
        let device = device(Order::Forward)?;
        device.remember_products(folder.path()).map_err(text)?;
        let bk = Cuda::<half::bf16>::on(&device).map_err(text)?;
        let mut registry = Registry::new();
        let weight = registry.add("weight", &[24, 16], Decay::Yes, Init::Normal(1.0));
        let layout = registry.finish();
        let w = Params::from_host(&bk, &layout, &initial_values(&layout, 1));
        let x: Vec<f64> = (0..40 * 16).map(|i| f64::from(i % 7) - 3.0).collect();
        let x = Tensor::from_f64(&bk, &x, &[40, 16]);
        Ok(bk.linear_forward(&x, &w, &Linear { weight, bias: None }).to_f64(&bk))
    };
    let read = || -> Result<String, Failed> {
        let files: Vec<_> = std::fs::read_dir(folder.path())?.flatten().collect();
        let [file] = &files[..] else { return Err(format!("{} files", files.len()).into()) };
        Ok(std::fs::read_to_string(file.path())?)
    };
    let first = product()?;
    let text = read()?;
    if text.lines().count() != 1 || product()? != first || read()? != text {
        return Err(format!("chosen twice: {}", read()?).into());
    }
    let file = std::fs::read_dir(folder.path())?.flatten().next().ok_or("no file")?.path();
    std::fs::write(file, &text[..text.len() / 2])?;
    // Perhaps another algorithm than before.
    let kind = text.split(':').next().unwrap_or_default();
    let again = product()?;
    if again != first || read()?.lines().count() != 1 || !read()?.starts_with(kind) {
        return Err(format!("not mended: {}", read()?).into());
    }
    Ok(())
}

/// Prints the text of device faults, which the usual hook does not know.
fn show_device_faults() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(fault) = info.payload().downcast_ref::<DeviceFault>() {
            eprintln!("{fault}");
        }
        usual(info);
    }));
}

fn main() {
    let arguments = Arguments::from_args();
    if !cuda_emu::AVAILABLE {
        println!("skipped: all CUDA tests; the emulator needs Linux and a C++ compiler");
        return;
    }
    cuda_emu::install();
    show_device_faults();
    let mut trials = Vec::new();
    for case in beit::selfcheck::cases() {
        let case = Arc::new(case);
        let mut add = |suffix: &str, test: fn(&AnyCase) -> Result<(), Failed>| {
            let (name, case) = (case.name.replace('/', "_"), case.clone());
            trials.push(Trial::test(format!("cuda_{name}_{suffix}"), move || test(&case)));
        };
        add("f64", gradients);
        add("f32", |case| f32(case, Order::Forward));
        if case.large {
            continue;
        }
        add("f32_reversed", |case| f32(case, Order::Reverse));
        add("f32_shuffled", |case| f32(case, Order::Shuffle));
        add("bf16", bf16);
    }
    for case in beit::selfcheck::empty_cases() {
        trials.push(Trial::test(format!("cuda_{}", case.name.replace('/', "_")), move || {
            case.cuda_empty(&device(Order::Forward)?).map_err(text)?.map_err(Into::into)
        }));
    }
    let judge = Arc::new(training::ten_steps(&Cpu::<f64>::new()));
    let cpu_f32 = Arc::new(training::ten_steps(&Cpu::<f32>::new()));
    let (a, c) = (judge.clone(), judge);
    trials.push(Trial::test("cuda_ten_steps_f64", move || ten_steps::<f64>(&a, 1e-10)));
    trials.push(Trial::test("cuda_ten_steps_f32", move || ten_steps::<f32>(&cpu_f32, 1e-5)));
    trials.push(Trial::test("cuda_ten_steps_bf16", move || ten_steps::<half::bf16>(&c, 2e-2)));
    trials.push(Trial::test("cuda_gumbel_noise", gumbel_noise));
    trials.push(Trial::test("cuda_gaussian_noise", gaussian_noise));
    trials.push(Trial::test("cuda_repeats", repeats));
    trials.push(Trial::test("cuda_attention_1601_tokens", longest_attention));
    trials.push(Trial::test("cuda_remembered_products", remembered_products));
    trials.push(Trial::test("cuda_wrong_ids", wrong_ids));
    trials.push(Trial::test("cuda_bound_of_two_stages", bound::is_the_cpus));
    trials.push(Trial::test("cuda_two_steps_in_flight", flight::judged_with_its_own_weights));
    trials.push(Trial::test("cuda_two_devices", two_devices));
    trials.push(Trial::test("cuda_adamw_in_ranges_f32", ranges::<f32>));
    trials.push(Trial::test("cuda_adamw_in_ranges_bf16", ranges::<half::bf16>));
    trials.extend(faults::trials());
    let done = libtest_mimic::run(&arguments, trials);
    println!(
        "These ran on the emulator. Left for a GPU: the compiled PTX, cuBLAS, speed \
         (beit gradcheck --device cuda --parity; cuda/device-check.sh)"
    );
    done.exit();
}
