//! One GPU: its context, one stream, the compiled kernels, cuBLAS, and memory.
//!
//! All work goes to one stream in the order in which it is given, memory included, so nothing here
//! waits but a copy to the host; copies that nobody waits for go through page-locked memory. Opening a
//! device returns an error that says what is missing; what fails later, inside an op, panics with a
//! [`DeviceFault`](crate::error::DeviceFault) that holds the driver's text.

use super::fault::{check_fault, fail, lock, text};
use super::launch::{Argument, Grid, Pointer};
use super::pinned::Transfers;
use super::planned::{PlannedProducts, Product};
use crate::error::{Error, Result};
use crate::real::Element;
use cudarc::cublas::{self, CudaBlas};
use cudarc::driver::sys::{
    CUdeviceptr, CUfunction_attribute, CUmemPool_attribute, is_culib_present,
};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use cudarc::driver::{LaunchConfig, PushKernelArg, result};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Dynamic shared memory that a kernel may use without asking.
const PLAIN_SHARED: usize = 48 << 10;

/// One GPU and the stream that all work goes to.
pub struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    transfers: Transfers,
    /// Used under the lock: a handle is for one thread at a time.
    blas: Mutex<CudaBlas>,
    planned: PlannedProducts,
    modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    functions: Mutex<HashMap<String, CudaFunction>>,
    /// One word that kernels write what they found wrong in their ids to.
    fault: CUdeviceptr,
    /// Bytes of all buffers.
    held: AtomicUsize,
    /// The most they ever were.
    peak: AtomicUsize,
}

/// An error of opening, with what to do.
fn device_error(what: &str, error: &DriverError) -> Error {
    Error::Device(format!("{what}: {}", text(error)))
}

impl Device {
    /// Number of GPUs, 1 or more, or why there are none. Looks for the driver's library and asks it; opens
    /// no context.
    fn count() -> Result<usize, String> {
        // SAFETY: opens and closes the library; its initialiser has no conditions.
        if !unsafe { is_culib_present() } {
            return Err(
                "no CUDA driver: looked for libcuda.so and libcuda.so.1 (nvcuda.dll on Windows), \
                 which come with NVIDIA's driver"
                    .into(),
            );
        }
        match CudaContext::device_count() {
            Ok(n) if n > 0 => Ok(n as usize),
            Ok(_) => Err("the CUDA driver is there but sees no GPU".into()),
            Err(e) => Err(format!("the CUDA driver does not start: {}", text(&e))),
        }
    }

    /// Opens GPU number `ordinal`, from 0.
    pub fn new(ordinal: usize) -> Result<Arc<Self>> {
        let count = Self::count()
            .map_err(|why| Error::Device(format!("{why}; --device cpu works everywhere")))?;
        if ordinal >= count {
            let (gpus, are) = if count == 1 { ("GPU", "is") } else { ("GPUs", "are") };
            return Err(Error::Device(format!(
                "no GPU has number {ordinal} (cuda:{ordinal}): there {are} {count} {gpus}, numbered from 0"
            )));
        }
        let context = CudaContext::new(ordinal)
            .map_err(|e| device_error(&format!("cannot open cuda:{ordinal}"), &e))?;
        // One stream does the work; cudarc's own bookkeeping per buffer is for several.
        // SAFETY: buffers here are not cudarc's, and they are freed in stream order.
        unsafe { context.disable_event_tracking() };
        let name = context.name().unwrap_or_else(|_| "GPU".into());
        let (major, minor) = context
            .compute_capability()
            .map_err(|e| device_error("cannot read the compute capability", &e))?;
        if major < 8 {
            return Err(Error::Device(format!(
                "{name} has compute capability {major}.{minor}; the kernels need 8.0 (Ampere) or \
                 later. --device cpu works everywhere"
            )));
        }
        if !context.has_async_alloc() {
            return Err(Error::Device(format!(
                "{name}: the driver has no memory pools (cuMemAllocAsync); install driver 470 or later"
            )));
        }
        // SAFETY: asks for a library as above.
        if !unsafe { cublas::sys::is_culib_present() } {
            return Err(Error::Device(
                "no cuBLAS: looked for libcublas.so, libcublas.so.13 and libcublas.so.12. `pip install \
                 nvidia-cublas` has it; put its lib folder into LD_LIBRARY_PATH"
                    .into(),
            ));
        }
        let stream = context.new_stream().map_err(|e| device_error("cannot make a stream", &e))?;
        let second = context.new_stream().map_err(|e| device_error("cannot make a stream", &e))?;
        let blas = CudaBlas::new(stream.clone())
            .map_err(|e| Error::Device(format!("cuBLAS does not start: {:?}", e.0)))?;
        let planned = PlannedProducts::open(&stream)?;
        keep_freed_memory(&context)
            .map_err(|e| device_error("cannot set up the memory pool", &e))?;
        // SAFETY: the stream is live; the word is set before anything can read it.
        let fault = unsafe {
            result::malloc_async(stream.cu_stream(), 8).and_then(|fault| {
                result::memset_d8_async(fault, 0, 8, stream.cu_stream()).map(|()| fault)
            })
        };
        let fault = fault.map_err(|e| device_error("cannot allocate", &e))?;
        Ok(Arc::new(Self {
            context,
            stream,
            transfers: Transfers::new(second),
            blas: Mutex::new(blas),
            planned,
            modules: Mutex::default(),
            functions: Mutex::default(),
            fault,
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }))
    }

    /// Name, compute capability and driver version, as in `NVIDIA H200, compute capability 9.0,
    /// driver for CUDA 13.0`.
    pub fn describe(&self) -> String {
        let name = self.name();
        let (major, minor) = self.context.compute_capability().unwrap_or((0, 0));
        let mut version = 0;
        // SAFETY: writes one int.
        let known = unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result();
        let version = if known.is_ok() { version } else { 0 };
        let (cuda_major, cuda_minor) = (version / 1000, version % 1000 / 10);
        format!(
            "{name}, compute capability {major}.{minor}, driver for CUDA {cuda_major}.{cuda_minor}"
        )
    }

    /// The GPU's name.
    pub(super) fn name(&self) -> String {
        self.context.name().unwrap_or_else(|_| "GPU".into())
    }

    /// Whether this is the stand-in of `cuda/emulator`: its results count, its timings do not.
    pub fn is_emulated(&self) -> bool {
        self.name().starts_with("host emulation")
    }

    /// The most bytes that buffers have held at one time since [`Device::forget_peak`].
    pub fn peak_bytes(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Counts the peak from what buffers hold now.
    pub fn forget_peak(&self) {
        self.peak.store(self.held.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Bytes that are free on the GPU, if the driver tells.
    pub fn free_bytes(&self) -> Option<u64> {
        self.bind();
        result::mem_get_info().ok().map(|(free, _)| free as u64)
    }

    /// Loads the kernels of one precision unless they are there.
    pub(super) fn load(&self, suffix: &'static str, ptx: &str) -> Result<()> {
        let mut modules = lock(&self.modules);
        if !modules.contains_key(suffix) {
            let module = self.context.load_module(Ptx::from_src(ptx)).map_err(|e| {
                device_error(
                    "the driver does not take the kernels; it may be too old (450 or later)",
                    &e,
                )
            })?;
            modules.insert(suffix, module);
        }
        Ok(())
    }

    /// Registers per thread, shared and local bytes of every kernel used so far; local bytes are
    /// spills.
    pub fn resources(&self) -> Vec<(String, [i32; 3])> {
        let functions = lock(&self.functions);
        let mut all: Vec<_> = functions
            .iter()
            .map(|(name, f)| {
                let of = |x: Result<i32, DriverError>| x.unwrap_or(-1);
                let used = [f.num_regs(), f.shared_size_bytes(), f.local_size_bytes()];
                (name.clone(), used.map(of))
            })
            .collect();
        all.sort();
        all
    }

    fn function(&self, name: &str, suffix: &'static str) -> CudaFunction {
        let name = format!("{name}_{suffix}");
        let mut functions = lock(&self.functions);
        if let Some(f) = functions.get(&name) {
            return f.clone();
        }
        let module = lock(&self.modules)[suffix].clone();
        let f = module.load_function(&name).unwrap_or_else(|e| fail(&name, text(&e)));
        functions.insert(name, f.clone());
        f
    }

    /// Gives a kernel to the stream. Arguments are 8 bytes each, in the order of the kernel's.
    #[track_caller]
    pub(super) fn launch(
        &self,
        (name, suffix): (&str, &'static str),
        grid: Grid,
        shared: usize,
        arguments: &[Argument],
    ) {
        if grid.blocks.contains(&0) {
            return;
        }
        let function = self.function(name, suffix);
        if shared > PLAIN_SHARED {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let set = function.set_attribute(attribute, shared as i32);
            set.unwrap_or_else(|e| {
                fail(&format!("{name}: {shared} bytes of shared memory"), text(&e))
            });
        }
        let mut launch = self.stream.launch_builder(&function);
        for argument in arguments {
            launch.arg(&argument.0);
        }
        let [x, y] = grid.blocks.map(|n| u32::try_from(n).expect("grid"));
        let config = LaunchConfig {
            grid_dim: (x, y, 1),
            block_dim: (grid.threads as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        // SAFETY: the caller passes what the kernel of this name takes; buffers outlive the launch,
        // because they are freed in stream order.
        let launched = unsafe { launch.launch(config) };
        launched.unwrap_or_else(|e| fail(name, text(&e)));
    }

    /// Calls `f` with the cuBLAS handle.
    pub(super) fn with_blas<R>(&self, f: impl FnOnce(cublas::sys::cublasHandle_t) -> R) -> R {
        self.bind();
        f(*lock(&self.blas).handle())
    }

    /// Keeps the algorithms of bf16 products in a file of `folder`, named after the GPU and the version
    /// of cuBLAS, and takes those that are in it already.
    pub fn remember_products(&self, folder: &Path) -> Result<()> {
        self.planned.remember(folder, &self.name())
    }

    /// Gives a product to cuBLASLt; false where it has no algorithm for it.
    #[track_caller]
    pub(super) fn multiply(&self, product: &Product) -> bool {
        self.bind();
        self.planned.multiply(&self.stream, product).unwrap_or_else(|e| {
            let [m, k, n] = product.sizes;
            fail(&format!("product {m} x {k} x {n}"), format!("{:?}", e.0))
        })
    }

    pub(super) fn fault(&self) -> Argument {
        Argument(self.fault)
    }

    pub(super) fn fault_address(&self) -> CUdeviceptr {
        self.fault
    }

    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub(super) fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    #[track_caller]
    pub(super) fn bind(&self) {
        self.context.bind_to_thread().unwrap_or_else(|e| fail("context", text(&e)));
    }

    /// Waits for all work given so far, and panics if a kernel found a wrong id.
    #[track_caller]
    pub(super) fn synchronize(&self) {
        self.bind();
        let mut word = [0u64];
        // SAFETY: both are 8 bytes long; the host word is read only after the wait.
        let copied =
            unsafe { result::memcpy_dtoh_async(&mut word, self.fault, self.stream.cu_stream()) };
        copied
            .and_then(|()| self.stream.synchronize())
            .unwrap_or_else(|e| fail("a kernel", text(&e)));
        check_fault(word[0]);
    }

    #[track_caller]
    fn out_of_memory(&self, bytes: usize) -> ! {
        let (free, total) = result::mem_get_info().unwrap_or((0, 0));
        let mib = |n: usize| format!("{:.0} MiB", n as f64 / (1 << 20) as f64);
        fail(
            "out of GPU memory",
            format!(
                "asked for {}, {} of {} are free, this run holds {}; lower batch_size, or the model's \
                 size",
                mib(bytes),
                mib(free),
                mib(total),
                mib(self.held.load(Ordering::Relaxed))
            ),
        )
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `open` on this stream and freed once. Errors have nowhere to go.
            let _ = unsafe { result::free_async(self.fault, self.stream.cu_stream()) };
            self.planned.close(&self.stream);
        }
    }
}

/// Without this, every wait for the stream gives freed memory back to the system.
fn keep_freed_memory(context: &CudaContext) -> std::result::Result<(), DriverError> {
    let mut most = u64::MAX;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the device's own, and the attribute is a u64.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, attribute, std::ptr::from_mut(&mut most).cast())
    }
}

/// `len` elements of device memory. Freed in stream order, so that dropping it while a kernel still
/// reads it is no mistake.
pub struct DeviceBuffer<E> {
    address: CUdeviceptr,
    len: usize,
    device: Arc<Device>,
    element: PhantomData<E>,
}

impl<E: Element> DeviceBuffer<E> {
    /// Elements of unspecified value.
    #[track_caller]
    pub(super) fn unset(device: &Arc<Device>, len: usize) -> Self {
        Self::unset_on(device, &device.stream, len)
    }

    /// The same for a stream that the working stream is made to wait for; freed on the latter.
    #[track_caller]
    pub(super) fn unset_on(device: &Arc<Device>, stream: &CudaStream, len: usize) -> Self {
        let bytes = (len * size_of::<E>()).max(1);
        device.bind();
        // SAFETY: the stream is live.
        let address = unsafe { result::malloc_async(stream.cu_stream(), bytes) };
        let address = address.unwrap_or_else(|_| device.out_of_memory(bytes));
        let held = device.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        device.peak.fetch_max(held, Ordering::Relaxed);
        Self { address, len, device: device.clone(), element: PhantomData }
    }

    /// A copy of host memory.
    #[track_caller]
    pub(super) fn upload(device: &Arc<Device>, host: &[E]) -> Self {
        let buffer = Self::unset(device, host.len());
        if !host.is_empty() {
            // SAFETY: as long as `host`; ordinary host memory is read before the call returns.
            let copied = unsafe {
                result::memcpy_htod_async(buffer.address, host, device.stream.cu_stream())
            };
            copied.unwrap_or_else(|e| fail("copy to the GPU", text(&e)));
        }
        buffer
    }

    /// A copy on the host, after all work before it.
    #[track_caller]
    pub(super) fn download(&self) -> Vec<E> {
        let mut host = vec![E::default(); self.len];
        if self.len > 0 {
            self.device.bind();
            let stream = self.device.stream.cu_stream();
            // SAFETY: as long as the buffer; read only after the wait below.
            let copied = unsafe { result::memcpy_dtoh_async(&mut host, self.address, stream) };
            copied.unwrap_or_else(|e| fail("copy from the GPU", text(&e)));
        }
        self.device.synchronize();
        host
    }

    /// Sets the elements of `range` to zero bits.
    #[track_caller]
    pub(super) fn clear(&mut self, range: std::ops::Range<usize>) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "clear: {range:?} of {}",
            self.len
        );
        let size = size_of::<E>();
        if !range.is_empty() {
            self.device.bind();
            let at = self.address + (range.start * size) as u64;
            let stream = self.device.stream.cu_stream();
            // SAFETY: inside the buffer, as just checked.
            let set = unsafe { result::memset_d8_async(at, 0, range.len() * size, stream) };
            set.unwrap_or_else(|e| fail("clear", text(&e)));
        }
    }

    /// A second buffer with the same content.
    #[track_caller]
    pub(super) fn duplicate(&self) -> Self {
        let copy = Self::unset(&self.device, self.len);
        if self.len > 0 {
            let (bytes, stream) = (self.len * size_of::<E>(), self.device.stream.cu_stream());
            // SAFETY: both are `bytes` long.
            let copied =
                unsafe { result::memcpy_dtod_async(copy.address, self.address, bytes, stream) };
            copied.unwrap_or_else(|e| fail("copy on the GPU", text(&e)));
        }
        copy
    }
}

impl<E> DeviceBuffer<E> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its first element.
    pub(crate) fn start(&self) -> Pointer<E> {
        Pointer::to(self.address)
    }

    /// Address on the device.
    pub(super) fn address(&self) -> CUdeviceptr {
        self.address
    }
}

impl<E> From<&DeviceBuffer<E>> for Argument {
    fn from(b: &DeviceBuffer<E>) -> Self {
        Self(b.address())
    }
}
impl<E> From<&mut DeviceBuffer<E>> for Argument {
    fn from(b: &mut DeviceBuffer<E>) -> Self {
        Self(b.address())
    }
}

impl<E> Drop for DeviceBuffer<E> {
    fn drop(&mut self) {
        if self.device.context.bind_to_thread().is_ok() {
            // SAFETY: allocated on this stream and freed once. After a failure of the device, errors
            // have nowhere to go.
            let _ = unsafe { result::free_async(self.address, self.device.stream.cu_stream()) };
        }
        let bytes = (self.len * size_of::<E>()).max(1);
        self.device.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
