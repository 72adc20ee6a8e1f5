//! The CUDA backend: our kernels of `cuda/`, products through cuBLAS, all on one stream.
//!
//! `Cuda<f64>` is there to be checked against finite differences, `Cuda<f32>` to be compared with the
//! CPU, `Cuda<bf16>` to train: operands of matrix products and activations inside a branch are bf16,
//! everything else f32. The three are the same host code and the same kernel sources; each kernel is
//! compiled once per precision.
//!
//! An op's launches are in its folder (`src/ops/layer_norm/cuda.rs`), its kernels in `cuda/` under
//! its name. Nothing in an op waits for the GPU; a copy to the host does.
//!
//! The crate builds without CUDA and finds the driver at run time ([`Device::new`]). The tests
//! run the very same kernels and host code on the CPU (`cuda/README.md`).

#![allow(unsafe_code)]

pub mod device;
mod fault;
mod launch;
mod pinned;
mod planned;
mod products;
mod transfer;

pub use device::{Device, DeviceBuffer};
pub(crate) use launch::{Argument, Grid, Pointer, RowPieces, args};
pub(crate) use products::{Factor, plain, transposed};

use crate::error::Result;
use crate::params::{Param, Params};
use crate::parts::Parts;
use crate::real::{Element, Float, Real};
use crate::storage::{Later, Storage};
use crate::tensor::Tensor;
use cudarc::cublas::sys::cudaDataType;
use half::bf16;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// The two types of a precision and its kernels.
pub trait Precision: Copy + Send + Sync + 'static {
    /// See [`Storage::Elem`].
    type Elem: Float + BlasType;
    /// See [`Storage::Master`].
    type Master: Real + BlasType;
    /// End of the kernels' names.
    const SUFFIX: &'static str;
    /// The kernels.
    const PTX: &'static str;
    /// Whether `Elem` is narrower than `Master`.
    const NARROW: bool;
}

/// A number that cuBLAS knows.
pub trait BlasType: Element {
    /// Its name there.
    const TYPE: cudaDataType;
}

impl BlasType for f64 {
    const TYPE: cudaDataType = cudaDataType::CUDA_R_64F;
}
impl BlasType for f32 {
    const TYPE: cudaDataType = cudaDataType::CUDA_R_32F;
}
impl BlasType for bf16 {
    const TYPE: cudaDataType = cudaDataType::CUDA_R_16BF;
}

macro_rules! precision {
    ($name:ident, $master:ident, $narrow:literal) => {
        impl Precision for $name {
            type Elem = $name;
            type Master = $master;
            const SUFFIX: &'static str = stringify!($name);
            const PTX: &'static str =
                include_str!(concat!("../cuda/ptx/", stringify!($name), ".ptx"));
            const NARROW: bool = $narrow;
        }
    };
}
precision!(f64, f64, false);
precision!(f32, f32, false);
precision!(bf16, f32, true);

/// A GPU in precision `T`. Clones are the same GPU and the same stream.
#[derive(Clone)]
pub struct Cuda<T> {
    device: Arc<Device>,
    precision: PhantomData<T>,
}

impl<T: Precision> Cuda<T> {
    /// An open device in this precision.
    pub fn on(device: &Arc<Device>) -> Result<Self> {
        device.load(T::SUFFIX, T::PTX)?;
        Ok(Self { device: device.clone(), precision: PhantomData })
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

impl<T: Precision, E: Element> From<&Tensor<Cuda<T>, E>> for Argument {
    fn from(t: &Tensor<Cuda<T>, E>) -> Self {
        t.buf().into()
    }
}
impl<T: Precision, E: Element> From<&mut Tensor<Cuda<T>, E>> for Argument {
    fn from(t: &mut Tensor<Cuda<T>, E>) -> Self {
        t.buf().into()
    }
}
impl<T: Precision, E: Element> Tensor<Cuda<T>, E> {
    /// Its first element.
    pub(crate) fn start(&self) -> Pointer<E> {
        self.buf().start()
    }
}

impl<T: Precision> Params<Cuda<T>> {
    /// The numbers of one parameter.
    pub(crate) fn at(&self, param: &Param) -> Pointer<T::Master> {
        self.master.start().plus(param.range.start)
    }

    /// The numbers of one parameter as matrix products read them.
    pub(crate) fn elem_at(&self, param: &Param) -> Pointer<T::Elem> {
        let start = match &self.elem {
            Some(copy) => copy.start(),
            // Not narrow: the two types are one.
            None => Pointer::to(self.master.address()),
        };
        start.plus(param.range.start)
    }
}

impl<T: Precision> Cuda<T> {
    /// Gives a kernel to the stream.
    #[track_caller]
    pub(crate) fn launch(&self, name: &str, grid: Grid, arguments: &[Argument]) {
        self.device.launch((name, T::SUFFIX), grid, 0, arguments);
    }

    /// The same with `shared` bytes of dynamic shared memory.
    #[track_caller]
    pub(crate) fn launch_shared(&self, name: &str, grid: Grid, shared: usize, args: &[Argument]) {
        self.device.launch((name, T::SUFFIX), grid, shared, args);
    }

    /// Where kernels report wrong ids.
    pub(crate) fn fault(&self) -> Argument {
        self.device.fault()
    }

    /// Elements of unspecified value, for the use of one op.
    #[track_caller]
    pub(crate) fn scratch<E: Element>(&self, n: usize) -> DeviceBuffer<E> {
        DeviceBuffer::unset(&self.device, n)
    }

    /// A tensor of unspecified numbers, for an op that writes every element.
    #[track_caller]
    pub(crate) fn unset<E: Element>(&self, shape: &[usize]) -> Tensor<Self, E> {
        Tensor::new(self, self.scratch(shape.iter().product()), shape)
    }

    /// Adds sums of pieces, [count, stride], to `out`, `n` numbers from `from` on.
    #[track_caller]
    pub(crate) fn add_partials(
        &self,
        partials: &DeviceBuffer<T::Master>,
        (from, n, stride): (usize, usize, usize),
        pieces: usize,
        out: Pointer<T::Master>,
    ) {
        let at = partials.start().plus(from);
        self.launch("add_partials", Grid::each(n), args![at, out, n, pieces, stride]);
    }

    /// Adds the column sums of x `[rows, cols]`, in either type, to `out`.
    #[track_caller]
    pub(crate) fn add_column_sums<E: Element>(
        &self,
        x: Pointer<E>,
        (rows, cols): (usize, usize),
        out: Pointer<T::Master>,
    ) {
        let narrow = size_of::<E>() < size_of::<T::Master>();
        let pieces = RowPieces::of(rows);
        let partials = self.scratch(pieces.count * cols);
        let kernel = if narrow || !T::NARROW { "column_sums" } else { "column_sums_master" };
        let grid = Grid::pieces(cols, pieces.count);
        self.launch(kernel, grid, args![x, &partials, rows, cols, pieces.step]);
        self.add_partials(&partials, (0, cols, cols), pieces.count, out);
    }
}

impl<T: Precision> Storage for Cuda<T> {
    type Elem = T::Elem;
    type Master = T::Master;
    type Buf<E: Element> = DeviceBuffer<E>;
    const ASYNCHRONOUS: bool = true;

    fn describe(&self) -> String {
        format!("{} in {}", self.device.describe(), T::SUFFIX)
    }
    #[track_caller]
    fn upload<E: Element>(&self, host: Vec<E>) -> DeviceBuffer<E> {
        transfer::upload(&self.device, &[&host])
    }
    #[track_caller]
    fn upload_pieces<E: Element>(&self, pieces: &[&[E]]) -> DeviceBuffer<E> {
        transfer::upload(&self.device, pieces)
    }
    #[track_caller]
    fn read_later<E: Element>(&self, buf: &DeviceBuffer<E>) -> Later<E> {
        transfer::read_later(&self.device, buf)
    }
    #[track_caller]
    fn download<E: Element>(&self, buf: &DeviceBuffer<E>) -> Vec<E> {
        buf.download()
    }
    #[track_caller]
    fn zeros<E: Element>(&self, n: usize) -> DeviceBuffer<E> {
        let mut buffer = self.scratch(n);
        buffer.clear(0..n);
        buffer
    }
    #[track_caller]
    fn copy<E: Element>(&self, buf: &DeviceBuffer<E>) -> DeviceBuffer<E> {
        buf.duplicate()
    }
    #[track_caller]
    fn clear<E: Element>(&self, buf: &mut DeviceBuffer<E>) {
        buf.clear(0..buf.len());
    }
    #[track_caller]
    fn clear_range<E: Element>(&self, buf: &mut DeviceBuffer<E>, range: Range<usize>) {
        buf.clear(range);
    }
    fn len<E: Element>(&self, buf: &DeviceBuffer<E>) -> usize {
        buf.len()
    }
    fn narrow_copy(&self, master: &DeviceBuffer<T::Master>) -> Option<DeviceBuffer<T::Elem>> {
        T::NARROW.then(|| {
            let (copy, n) = (self.scratch(master.len()), master.len());
            self.launch("to_elem", Grid::each(n), args![master, &copy, 1.0, n]);
            copy
        })
    }
    #[track_caller]
    fn synchronize(&self) {
        self.device.synchronize();
    }
    fn peak_bytes(&self) -> Option<usize> {
        Some(self.device.peak_bytes())
    }
    fn forget_peak(&self) {
        self.device.forget_peak();
    }
    fn free_bytes(&self) -> Option<u64> {
        self.device.free_bytes()
    }
}

impl<T: Precision> Parts for Cuda<T> {}
