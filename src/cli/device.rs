//! The device that a command computes on, opened in one precision.

use crate::bench::ceilings::{self, Ceiling};
#[cfg(feature = "cuda")]
use crate::bench::columns::CUDA;
use crate::bench::columns::{CPU, Column};
use crate::config::{Place, PrecisionChoice};
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::run::{note, note_with_work};
use crate::storage::Storage;

#[cfg(feature = "cuda")]
use crate::cuda::{Cuda, Device};
#[cfg(feature = "cuda")]
use std::path::PathBuf;
#[cfg(feature = "cuda")]
use std::sync::Arc;

/// A device in one precision.
pub enum Chosen {
    /// The CPU in f32.
    Cpu,
    /// A GPU in f32.
    #[cfg(feature = "cuda")]
    CudaF32(Arc<Device>),
    /// A GPU in bf16.
    #[cfg(feature = "cuda")]
    CudaBf16(Arc<Device>),
}

/// Runs `$body` with `$bk` bound to the chosen backend.
macro_rules! on_device {
    ($chosen:expr, $bk:ident => $body:expr) => {
        match &$chosen {
            $crate::cli::device::Chosen::Cpu => {
                let $bk = $crate::cpu::Cpu::<f32>::new();
                $body
            }
            #[cfg(feature = "cuda")]
            $crate::cli::device::Chosen::CudaF32(device) => {
                let $bk = $crate::cuda::Cuda::<f32>::on(device)?;
                $body
            }
            #[cfg(feature = "cuda")]
            $crate::cli::device::Chosen::CudaBf16(device) => {
                let $bk = $crate::cuda::Cuda::<half::bf16>::on(device)?;
                $body
            }
        }
    };
}
pub(super) use on_device;

impl Chosen {
    /// Opens a device, and says which on standard error when work on it begins.
    pub fn open(place: Place, precision: PrecisionChoice) -> Result<Self> {
        let gpu = match place {
            Place::Cpu => None,
            Place::Cuda(ordinal) => Some(Self::gpu(ordinal, precision)?),
            Place::Auto => match Self::gpu(0, precision) {
                Ok(gpu) => Some(gpu),
                Err(why) => {
                    note_with_work(format!("computing on the CPU ({})", short(&why)));
                    None
                }
            },
        };
        match gpu {
            Some(gpu) => {
                note_with_work(format!("computing on {}", gpu.describe()));
                Ok(gpu)
            }
            None if precision == PrecisionChoice::Bf16 => Err(Error::config(
                "precision = bf16 needs a GPU (--device cuda); the CPU computes in f32",
            )),
            None => Ok(Self::Cpu),
        }
    }

    #[cfg(feature = "cuda")]
    fn gpu(ordinal: usize, precision: PrecisionChoice) -> Result<Self> {
        let device = Device::new(ordinal)?;
        remember_products(&device);
        Ok(match precision {
            PrecisionChoice::F32 => Self::CudaF32(device),
            PrecisionChoice::Auto | PrecisionChoice::Bf16 => Self::CudaBf16(device),
        })
    }

    #[cfg(not(feature = "cuda"))]
    fn gpu(_: usize, _: PrecisionChoice) -> Result<Self> {
        Err(Error::Device("this beit was built without its feature `cuda`".into()))
    }

    /// `cpu` or `cuda`, as a run's settings keep it: the GPU's number is none of them, so that a run
    /// may go on on another GPU.
    pub fn place(&self) -> Place {
        match self {
            Self::Cpu => Place::Cpu,
            #[cfg(feature = "cuda")]
            Self::CudaF32(_) | Self::CudaBf16(_) => Place::Cuda(0),
        }
    }

    /// The setting that names the precision.
    pub fn precision(&self) -> PrecisionChoice {
        match self {
            Self::Cpu => PrecisionChoice::F32,
            #[cfg(feature = "cuda")]
            Self::CudaF32(_) => PrecisionChoice::F32,
            #[cfg(feature = "cuda")]
            Self::CudaBf16(_) => PrecisionChoice::Bf16,
        }
    }

    /// Whether it is the stand-in of the tests.
    pub fn is_emulated(&self) -> bool {
        match self {
            Self::Cpu => false,
            #[cfg(feature = "cuda")]
            Self::CudaF32(d) | Self::CudaBf16(d) => d.is_emulated(),
        }
    }

    /// The most that tensors have held on the GPU, in MiB.
    pub fn peak_mib(&self) -> Option<f64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::CudaF32(d) | Self::CudaBf16(d) => Some(d.peak_bytes() as f64 / (1 << 20) as f64),
        }
    }

    /// Says so where times mean nothing.
    pub fn warn_if_emulated(&self) {
        if self.is_emulated() {
            say!("ON THE EMULATOR: these times say nothing about a GPU");
        }
    }

    /// The column of its times.
    pub fn column(&self) -> Column {
        match self {
            Self::Cpu => CPU,
            #[cfg(feature = "cuda")]
            Self::CudaF32(d) => Column { timed: !d.is_emulated(), ..CUDA[0] },
            #[cfg(feature = "cuda")]
            Self::CudaBf16(d) => Column { timed: !d.is_emulated(), ..CUDA[1] },
        }
    }

    /// Its matrix product and its pass over memory.
    pub fn ceilings(&self) -> Result<Vec<Ceiling>> {
        Ok(ceilings::of(match self {
            Self::Cpu => ceilings::of_cpu(false),
            #[cfg(feature = "cuda")]
            Self::CudaF32(d) => ceilings::of_gpu(&Cuda::<f32>::on(d)?, &CUDA[0]),
            #[cfg(feature = "cuda")]
            Self::CudaBf16(d) => ceilings::of_gpu(&Cuda::<half::bf16>::on(d)?, &CUDA[1]),
        }))
    }

    /// Rate of a large matrix product on the GPU.
    #[cfg(feature = "cuda")]
    pub fn matmul_gflops(&self) -> Result<f64> {
        Ok(match self {
            Self::Cpu => return Err(Error::config("the CPU has its own ceiling")),
            Self::CudaF32(d) => ceilings::matmul_gflops(&Cuda::<f32>::on(d)?),
            Self::CudaBf16(d) => ceilings::matmul_gflops(&Cuda::<half::bf16>::on(d)?),
        })
    }

    /// Device and precision in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Cpu => Cpu::<f32>::new().describe(),
            #[cfg(feature = "cuda")]
            Self::CudaF32(d) | Self::CudaBf16(d) => {
                format!("{} in {}", d.describe(), self.precision())
            }
        }
    }
}

/// Keeps the choice of matrix products in the user's cache folder, so that runs on this machine repeat to
/// the bit.
#[cfg(feature = "cuda")]
fn remember_products(device: &Device) {
    let folder = |name: &str| std::env::var_os(name).filter(|f| !f.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let kept = match cache {
        Some(cache) => device.remember_products(&cache.join("beit")),
        None => Err(Error::Device("neither XDG_CACHE_HOME nor HOME is set".into())),
    };
    if let Err(e) = kept {
        note(&format!(
            "{e}. Two runs may choose other matrix products and differ in the last bits"
        ));
    }
}

/// The reason without the advice, which `auto` has followed already.
fn short(why: &Error) -> String {
    let text = why.to_string();
    text.split(';').next().unwrap_or(&text).to_string()
}
