//! A case on a GPU, or on the emulator: gradients in f64 against differences of the GPU's own
//! forward, f32 and bf16 against the CPU in f64.

use super::cases::{AnyCase, chosen};
use super::parity::{self, Distance, Distances};
use super::semantics;
use super::subject::Start;
use super::training::{StepLosses, difference, ten_steps as steps};
use crate::cpu::Cpu;
use crate::cuda::{Cuda, Device};
use crate::error::{Error, Result};
use beit_check::report::Report;
use beit_check::variable::Settings;
use half::bf16;
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;

/// What is moved of each tensor: the CPU's check of the same case is thorough, and its results are
/// compared with the GPU's; here it is to be seen that forward and backward of the GPU belong together.
fn settings() -> Settings {
    Settings { dense: 3, samples: 2, projections: 1, blocks: 0, ..Settings::default() }
}

impl AnyCase {
    /// Gradients of the CUDA path in f64 against finite differences of it, and what a backward
    /// promises beside. No device computes with dual numbers; that the GPU's gradients are those of
    /// the CPU is what [`Self::cuda_f64`] compares. Of a large case, and of a whole model, whose ops and layers are all
    /// moved by themselves, the gradient is compared with the CPU's exact derivatives.
    pub fn cuda_gradients(&self, device: &Arc<Device>) -> Result<Report> {
        let bk = Cuda::<f64>::on(device)?;
        let on_cuda = |start: &Start| (self.cuda.f64)(&bk, start);
        let inputs = self.inputs();
        if (self.large || self.name.starts_with("model_")) && !inputs.forward_only {
            return Ok(self.check_large(&inputs, &on_cuda, false));
        }
        Ok(semantics::check_case(&self.name, &inputs, &on_cuda, None, Some(settings()), false))
    }

    /// [`AnyCase::empty`] in the three precisions.
    pub fn cuda_empty(&self, device: &Arc<Device>) -> Result<std::result::Result<(), String>> {
        let (f64, f32) = (Cuda::<f64>::on(device)?, Cuda::<f32>::on(device)?);
        let bf16 = Cuda::<bf16>::on(device)?;
        Ok(self
            .empty(&|start| (self.cuda.f64)(&f64, start))
            .and_then(|()| self.empty(&|start| (self.cuda.f32)(&f32, start)))
            .and_then(|()| self.empty(&|start| (self.cuda.bf16)(&bf16, start))))
    }

    /// See [`parity::check_device_f64`].
    pub fn cuda_f64(&self, device: &Arc<Device>) -> Result<Distances> {
        let bk = Cuda::<f64>::on(device)?;
        Ok(parity::check_device_f64(self, &|start| (self.cuda.f64)(&bk, start)))
    }

    /// See [`parity::check_device_f32`].
    pub fn cuda_f32(&self, device: &Arc<Device>) -> Result<Distances> {
        let bk = Cuda::<f32>::on(device)?;
        Ok(parity::check_device_f32(self, &|start| (self.cuda.f32)(&bk, start)))
    }

    /// See [`parity::check_device_bf16`].
    pub fn cuda_bf16(&self, device: &Arc<Device>) -> Result<Distances> {
        let bk = Cuda::<bf16>::on(device)?;
        Ok(parity::check_device_bf16(self, &|start| (self.cuda.bf16)(&bk, start)))
    }
}

/// Agreement of a case with the CPU in f64, one per precision.
#[derive(Debug, Serialize)]
pub struct Parity {
    /// `op/instance`, or what else was compared.
    pub case: String,
    /// In f64.
    pub f64: Distances,
    /// In f32, within what rounding can do and three times what the CPU's f32 is off.
    pub f32: Distances,
    /// In bf16, allowed some roundings.
    pub bf16: Distances,
}

impl Parity {
    /// Whether nothing is farther off than it may be.
    pub fn passed(&self) -> bool {
        [&self.f64, &self.f32, &self.bf16].iter().all(|a| a.fault.is_none())
    }

    /// A line of the table, and the faults below it.
    fn lines(&self) -> Vec<String> {
        let status = if self.passed() { "ok" } else { "FAIL" };
        let all = [("f64", &self.f64), ("f32", &self.f32), ("bf16", &self.bf16)];
        let mut line = format!("{status:4} {:36}", self.case);
        for (_, a) in all {
            for d in [&a.forward, &a.backward] {
                // Of an element-wise op the units in the last place say more.
                line += &match d.ulps {
                    Some(ulps) => format!(" {:>8}", format!("{ulps:.1} ulp")),
                    None => format!(" {:>8.1e}", d.of_bound),
                };
            }
        }
        let faults = all.into_iter().filter_map(|(_, a)| a.fault.as_ref());
        std::iter::once(line).chain(faults.map(|fault| format!("     {fault}"))).collect()
    }
}

/// Compares all cases whose name contains `filter`, and without a filter ten training steps, with the
/// CPU; one line each to `out`.
pub fn parity(
    device: &Arc<Device>,
    filter: Option<&str>,
    out: &mut dyn Write,
) -> Result<Vec<Parity>> {
    let mut all = Vec::new();
    let mut print = |lines: &[String]| -> Result<()> {
        let written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
        written.map_err(Error::io("cannot write", "the table"))
    };
    let columns = ["f64 fwd", "bwd", "f32 fwd", "bwd", "bf16 fwd", "bwd"];
    let columns = columns.map(|c| format!("{c:>8}")).join(" ");
    print(&[format!("     {:36} {columns}", "error, of what is allowed")])?;
    for case in &chosen(filter)? {
        let (f64, f32, bf16) =
            (case.cuda_f64(device)?, case.cuda_f32(device)?, case.cuda_bf16(device)?);
        let row = Parity { case: case.name.clone(), f64, f32, bf16 };
        print(&row.lines())?;
        all.push(row);
    }
    if filter.is_none() {
        let row = ten_steps(device)?;
        print(&row.lines())?;
        all.push(row);
    }
    let failed = all.iter().filter(|row| !row.passed()).count();
    print(&[format!("{} rows, {failed} failed", all.len())])?;
    let used = device.resources();
    let most = |i: usize| used.iter().map(|(_, r)| r[i]).max().unwrap_or(0);
    print(&[format!(
        "{} kernels: up to {} registers, {} bytes of local memory (spills)",
        used.len(),
        most(0),
        most(2)
    )])?;
    Ok(all)
}

/// Losses of ten training steps: f64 within 1e-10 of CPU f64, f32 within 1e-5 of CPU f32, bf16 within
/// 2e-2 of CPU f64. Rounding grows from step to step, which sets these limits.
fn ten_steps(device: &Arc<Device>) -> Result<Parity> {
    let (f64, f32) = (steps(&Cpu::<f64>::new()), steps(&Cpu::<f32>::new()));
    let agree = |losses: &StepLosses, judge: &StepLosses, limit: f64| {
        let off = difference(losses, judge);
        // NaN must not pass.
        let fine = off <= limit;
        let fault = (!fine).then(|| format!("losses off by {off:e}, allowed {limit:e}"));
        let losses = Distance { error: off, of_bound: off / limit, ulps: None };
        Distances { forward: losses, backward: losses, fault }
    };
    Ok(Parity {
        case: "ten training steps".into(),
        f64: agree(&steps(&Cuda::<f64>::on(device)?), &f64, 1e-10),
        f32: agree(&steps(&Cuda::<f32>::on(device)?), &f32, 1e-5),
        bf16: agree(&steps(&Cuda::<bf16>::on(device)?), &f64, 2e-2),
    })
}
