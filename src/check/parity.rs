//! A case on one backend against the same case on another, and against itself on other numbers of
//! threads.

use crate::backend::Backend;
use crate::case::{Case, Inputs, Io};
use crate::cpu::Cpu;
use crate::rng::{Philox, Purpose};
use rand_distr::{Distribution, StandardNormal};
use rayon::ThreadPoolBuilder;

/// Largest distance of f32 from f64, relative to the largest number of the tensor or, where that is
/// nearly 0 by cancellation, to 1. f32 has 6e-8; sums here have up to some thousand terms.
pub const LIMIT: f64 = 1e-4;

/// Named tensors, widened.
type Results = Vec<(String, Vec<f64>)>;

/// Outputs and all gradients for these inputs and a seeded random upstream gradient.
fn run<B: Backend, C: Case>(bk: &B, case: &C, inputs: &Inputs) -> Results {
    let mut io = Io::new(bk, inputs);
    case.run(bk, &mut io);
    let mut rng = Philox::new(0x5eed, Purpose::Check, 2, 0);
    let mut draw = |n: usize| -> Vec<f64> {
        (0..n).map(|_| f64::from(Distribution::<f32>::sample(&StandardNormal, &mut rng))).collect()
    };
    let upstream = io.outputs.iter().map(|y| draw(y.len())).collect();
    let mut io = Io::new(bk, inputs).with_upstream(upstream);
    case.run(bk, &mut io);
    let outputs = io.outputs.iter().enumerate().map(|(i, y)| (format!("output {i}"), y.clone()));
    let grads = io.grads.iter().map(|(name, dx)| (format!("gradient of {name}"), dx.clone()));
    let all: Vec<f64> = io.g.to_host(bk).into_iter().map(crate::real::Float::to_f64).collect();
    let params = io.g.layout.iter();
    let params = params.map(|p| (format!("gradient of {}", p.name), all[p.range.clone()].to_vec()));
    outputs.chain(grads).chain(params).collect()
}

/// The case's inputs, rounded to f32, so that both precisions start from the same numbers.
fn rounded<C: Case>(case: &C) -> Inputs {
    let mut inputs = case.inputs();
    let tensors = inputs.tensors.iter_mut().filter(|t| t.kind != crate::case::Kind::Ids);
    for x in tensors.flat_map(|t| &mut t.values).chain(&mut inputs.values) {
        *x = f64::from(*x as f32);
    }
    inputs
}

/// f32 within [`LIMIT`] of f64.
pub fn check_f32<C: Case>(case: &C) -> Result<(), String> {
    let inputs = rounded(case);
    let got = run(&Cpu::<f32>::new(), case, &inputs);
    let want = run(&Cpu::<f64>::new(), case, &inputs);
    for ((name, got), (_, want)) in got.iter().zip(&want) {
        let largest = want.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let error = (got - want).abs() / largest;
            // NaN must not pass.
            if error.is_nan() || error > LIMIT {
                let text = format!("{name}[{i}]: f32 {got:e}, f64 {want:e}, error {error:.1e}");
                return Err(text);
            }
        }
    }
    Ok(())
}

/// The same bits on 1, 2 and 3 threads.
pub fn check_threads<C: Case>(case: &C) -> Result<(), String> {
    let inputs = rounded(case);
    let on = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| run(&Cpu::<f32>::new(), case, &inputs))
    };
    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let one = on(1);
    for threads in [2, 3] {
        for ((name, got), (_, want)) in on(threads).iter().zip(&one) {
            if bits(got) != bits(want) {
                return Err(format!("{name}: other bits on {threads} threads than on 1"));
            }
        }
    }
    Ok(())
}
