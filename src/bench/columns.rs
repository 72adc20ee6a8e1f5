//! The columns of tables of times: a device and a precision each.

use crate::cpu::Cpu;
use crate::error::Result;
use crate::ops::Backend;

#[cfg(feature = "cuda")]
use crate::cuda::{Cuda, Device};
#[cfg(feature = "cuda")]
use half::bf16;
#[cfg(feature = "cuda")]
use std::sync::Arc;

/// Where a number comes from.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Device and precision, as in `CPU f32`.
    pub name: &'static str,
    /// Whether operands and activations are bf16.
    pub bf16: bool,
    /// Whether its times mean anything; on the emulator they do not.
    pub timed: bool,
}

/// The CPU's column, and the judge's, which is not timed.
pub const CPU: Column = Column { name: "CPU f32", bf16: false, timed: true };
/// Name of the judge's column.
pub const JUDGE: &str = "CPU f64";

/// What is done in every column.
pub trait EachColumn {
    /// Does it in one of them.
    fn on<B: Backend>(&mut self, column: &Column, bk: &B) -> Result<()>;
}

/// The devices of this machine.
pub struct Columns {
    #[cfg(feature = "cuda")]
    pub(super) device: Option<Arc<Device>>,
    why_none: Option<String>,
}

impl Columns {
    /// The CPU alone, and why.
    pub fn cpu_only(why: impl Into<String>) -> Self {
        Self {
            #[cfg(feature = "cuda")]
            device: None,
            why_none: Some(why.into()),
        }
    }

    /// The CPU and a GPU.
    #[cfg(feature = "cuda")]
    pub fn with(device: Arc<Device>) -> Self {
        Self { device: Some(device), why_none: None }
    }

    /// Why there is no GPU.
    pub fn why_none(&self) -> Option<&str> {
        self.why_none.as_deref()
    }

    /// The GPU in words.
    pub fn device(&self) -> Option<String> {
        #[cfg(feature = "cuda")]
        return self.device.as_ref().map(|d| d.describe());
        #[cfg(not(feature = "cuda"))]
        None
    }

    /// Whether the GPU is the stand-in of the tests.
    pub fn emulated(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.device.as_ref().is_some_and(|d| d.is_emulated());
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        std::iter::once(&CPU).chain(self.of_gpu()).map(|column| column.name.into()).collect()
    }

    fn of_gpu(&self) -> &'static [Column] {
        #[cfg(feature = "cuda")]
        if self.device.is_some() {
            return &CUDA;
        }
        &[]
    }

    /// Calls `f` in each column, every time on a backend that holds nothing.
    pub fn each(&self, f: &mut impl EachColumn) -> Result<()> {
        f.on(&CPU, &Cpu::<f32>::new())?;
        #[cfg(feature = "cuda")]
        if let Some(device) = &self.device {
            let timed = !device.is_emulated();
            let [f32, bf16] = CUDA.map(|c| Column { timed, ..c });
            f.on(&f32, &Cuda::<f32>::on(device)?)?;
            f.on(&bf16, &Cuda::<bf16>::on(device)?)?;
        }
        Ok(())
    }
}

/// The GPU's columns.
#[cfg(feature = "cuda")]
pub const CUDA: [Column; 2] = [
    Column { name: "CUDA f32", bf16: false, timed: true },
    Column { name: "CUDA bf16", bf16: true, timed: true },
];
