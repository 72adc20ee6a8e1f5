//! bf16 products through cuBLASLt, with the algorithm that was fastest on this GPU.
//!
//! For each kind of product cuBLASLt names a few algorithms. The first time, they are timed on the
//! operands at hand, their results going to scratch memory; the fastest then serves all products of that
//! kind. Products are of one kind where they agree in everything but sizes, and in sizes up to an eighth
//! of a power of two: the number of hidden patches changes from step to step.
//!
//! An algorithm fixes the order of sums and so the last bits of a result, and two timings may end
//! differently. [`Device::remember_products`](super::Device::remember_products) keeps the choices in a file, so that a run on the same GPU
//! with the same library repeats to the bit.

use super::fault::{lock, text};
use crate::atomic::write_atomic;
use crate::error::{Error, Result};
use crate::progress::note;
use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys;
use cudarc::driver::sys::{CUdeviceptr, CUevent_flags};
use cudarc::driver::{CudaStream, result};
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use sys::cublasLtMatmulDescAttributes_t as Attribute;
use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
use sys::{cublasLtMatmulAlgo_t as Algorithm, cudaDataType as Type};

/// Bytes that an algorithm may use beside its operands: what the library's documentation advises for
/// Hopper.
const WORKSPACE: usize = 32 << 20;
/// Algorithms that are timed.
const CANDIDATES: usize = 8;
/// Runs of each, after one that is not timed.
const RUNS: usize = 2;
/// Operands must start at, and rows must be, a multiple of this many bytes: what tensor cores load.
const ALIGNMENT: u64 = 16;

type LtResult<T> = std::result::Result<T, lt::CublasError>;

/// A row-major matrix, or the transpose of one: address, and numbers of a row as it lies.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub at: CUdeviceptr,
    pub transposed: bool,
}

/// What cuBLASLt does to a product before it writes it; addresses of bf16 numbers.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue {
    /// Nothing.
    None,
    /// Adds a row.
    Bias(u64),
    /// Adds a row, writes that to `input`, and applies the tanh form of GELU. Only timed, against the
    /// exact form of `cuda/linear_gelu.cu`, which is the model's.
    TanhGelu {
        /// The row.
        bias: u64,
        /// Input of GELU, m x n.
        input: u64,
    },
}

impl Epilogue {
    /// For the name of a kind of products.
    fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Bias(_) => "bias",
            Self::TanhGelu { .. } => "tanh_gelu",
        }
    }
}

/// C <- alpha A B + beta C, m x k by k x n.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub sizes: [usize; 3],
    pub alpha: f32,
    pub a: Operand,
    pub b: Operand,
    pub beta: f32,
    pub c: CUdeviceptr,
    /// Whether C is f32; else bf16.
    pub wide: bool,
    pub epilogue: Epilogue,
}

impl Product {
    /// Whether tensor cores can load the operands as they lie.
    pub(super) fn is_aligned(&self) -> bool {
        let rows = self.leading().map(|n| 2 * n as u64);
        let starts = [self.a.at, self.b.at, self.c];
        starts.into_iter().chain(rows).all(|x| x.is_multiple_of(ALIGNMENT))
    }

    /// Numbers of a row of A, B and C as they lie.
    fn leading(&self) -> [usize; 3] {
        let [m, k, n] = self.sizes;
        [if self.a.transposed { m } else { k }, if self.b.transposed { k } else { n }, n]
    }

    /// What the operands' addresses are multiples of, at most 256.
    fn alignments(&self) -> [u32; 3] {
        [self.a.at, self.b.at, self.c].map(|at| 1 << at.trailing_zeros().min(8))
    }

    /// What products of one kind have in common; with `exact`, the very sizes too.
    fn kind(&self, exact: bool) -> String {
        let mut kind = String::from(if exact { "exactly " } else { "" });
        for size in self.sizes {
            let step = if exact { 1 } else { (size.next_power_of_two() / 8).max(8) };
            write!(kind, "{} ", size.next_multiple_of(step)).expect("memory takes everything");
        }
        let side = |o: Operand| if o.transposed { 't' } else { 'n' };
        let (a, b) = (side(self.a), side(self.b));
        let c = if self.wide { "f32" } else { "bf16" };
        let [x, y, z] = self.alignments();
        let (adds, last) = (u8::from(self.beta != 0.0), self.epilogue.name());
        write!(kind, "{a}{b} {c} {adds} {last} {x} {y} {z}").expect("memory takes everything");
        kind
    }
}

/// The library's description of one product; freed when dropped.
struct Described {
    product: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    c: sys::cublasLtMatrixLayout_t,
}

impl Drop for Described {
    fn drop(&mut self) {
        // SAFETY: made in `describe` and freed once; null where it was not made. Errors have nowhere
        // to go.
        unsafe {
            for layout in [self.a, self.b, self.c].into_iter().filter(|p| !p.is_null()) {
                let _ = lt::destroy_matrix_layout(layout);
            }
            let _ = lt::destroy_matmul_desc(self.product);
        }
    }
}

/// Describes `p` the way the library counts, along columns: Cᵀ = Bᵀ Aᵀ, for which nothing moves.
fn describe(p: &Product) -> LtResult<Described> {
    let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
    let null = std::ptr::null_mut;
    let product = lt::create_matmul_desc(compute, Type::CUDA_R_32F)?;
    let mut d = Described { product, a: null(), b: null(), c: null() };
    fn set<V>(d: &Described, attribute: Attribute, value: V) -> LtResult<()> {
        let from = std::ptr::from_ref(&value).cast::<c_void>();
        // SAFETY: reads the bytes of `value` at the call.
        unsafe { lt::set_matmul_desc_attribute(d.product, attribute, from, size_of::<V>()) }
    }
    set(&d, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, i32::from(p.b.transposed))?;
    set(&d, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, i32::from(p.a.transposed))?;
    let of_c = if p.wide { Type::CUDA_R_32F } else { Type::CUDA_R_16BF };
    let last = match p.epilogue {
        Epilogue::None => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
        Epilogue::Bias(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
        Epilogue::TanhGelu { .. } => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
    };
    set(&d, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, last)?;
    if let Epilogue::Bias(bias) | Epilogue::TanhGelu { bias, .. } = p.epilogue {
        set(&d, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)?;
        set(&d, Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, of_c)?;
    }
    if let Epilogue::TanhGelu { input, .. } = p.epilogue {
        set(&d, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, input)?;
        set(&d, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.sizes[2] as i64)?;
    }
    let layout = |of: Type, rows: usize, cols: usize, flipped: bool| {
        let (rows, cols) = if flipped { (cols, rows) } else { (rows, cols) };
        lt::create_matrix_layout(of, rows as u64, cols as u64, rows as i64)
    };
    let ([m, k, n], of_factors) = (p.sizes, Type::CUDA_R_16BF);
    d.b = layout(of_factors, n, k, p.b.transposed)?;
    d.a = layout(of_factors, k, m, p.a.transposed)?;
    d.c = layout(of_c, n, m, false)?;
    Ok(d)
}

/// cuBLASLt on one device, and the algorithms chosen so far.
pub(super) struct PlannedProducts {
    handle: sys::cublasLtHandle_t,
    workspace: CUdeviceptr,
    chosen: Mutex<ChosenAlgorithms>,
}

#[derive(Default)]
struct ChosenAlgorithms {
    algorithms: HashMap<String, Algorithm>,
    file: Option<PathBuf>,
}

// SAFETY: the library allows a handle to be used from several threads at a time.
unsafe impl Send for PlannedProducts {}
unsafe impl Sync for PlannedProducts {}

impl PlannedProducts {
    /// Opens the library; its workspace is allocated on `stream`, which all products must use.
    pub(super) fn open(stream: &CudaStream) -> Result<Self> {
        // SAFETY: opens and closes the library; its initialiser has no conditions.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Device(
                "no cuBLASLt: looked for libcublasLt.so, libcublasLt.so.13 and libcublasLt.so.12. It \
                 comes with cuBLAS: `pip install nvidia-cublas`; put its lib folder into \
                 LD_LIBRARY_PATH"
                    .into(),
            ));
        }
        // SAFETY: takes nothing.
        let version = unsafe { sys::cublasLtGetVersion() } / 10_000;
        if !(12..=13).contains(&version) {
            return Err(Error::Device(format!(
                "cuBLAS {version} was found; 12 or 13 is needed: `pip install nvidia-cublas`, and its \
                 lib folder first in LD_LIBRARY_PATH"
            )));
        }
        let handle = lt::create_handle()
            .map_err(|e| Error::Device(format!("cuBLASLt does not start: {:?}", e.0)))?;
        // SAFETY: the stream is live.
        let workspace = unsafe { result::malloc_async(stream.cu_stream(), WORKSPACE) };
        let workspace = workspace
            .map_err(|e| Error::Device(format!("no memory for cuBLASLt: {}", text(&e))))?;
        Ok(Self { handle, workspace, chosen: Mutex::default() })
    }

    /// Frees what `open` made.
    pub(super) fn close(&self, stream: &CudaStream) {
        // SAFETY: made in `open`, freed once, after all products on this stream. Errors have nowhere
        // to go.
        unsafe {
            let _ = result::free_async(self.workspace, stream.cu_stream());
            let _ = lt::destroy_handle(self.handle);
        }
    }

    /// Reads the choices in the file of `folder` that is named after this GPU and the version of cuBLAS, if
    /// it is there, and adds to it from now on.
    pub(super) fn remember(&self, folder: &Path, gpu: &str) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io("cannot create", folder))?;
        let name: String = gpu.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        // SAFETY: takes nothing.
        let version = unsafe { sys::cublasLtGetVersion() };
        let file = folder.join(format!("products-{name}-cublas-{version}.txt"));
        let mut chosen = lock(&self.chosen);
        match std::fs::read_to_string(&file) {
            // What was cut off by a kill is chosen anew, and the file mended.
            Ok(text) => {
                chosen.algorithms.extend(text.lines().filter_map(read_line));
                if !text.is_empty() && !text.ends_with('\n') {
                    let whole = text.rfind('\n').map_or(0, |end| end + 1);
                    write_atomic(&file, &text.as_bytes()[..whole])?;
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("cannot read", &file)(e)),
        }
        chosen.file = Some(file);
        Ok(())
    }

    /// Gives the product to the stream; false, and nothing done, where the library has no algorithm.
    pub(super) fn multiply(&self, stream: &CudaStream, p: &Product) -> LtResult<bool> {
        let (d, mut kind) = (describe(p)?, p.kind(false));
        let mut chosen = lock(&self.chosen);
        let mut known = chosen.algorithms.get(&kind).copied();
        if known.is_some_and(|a| !self.suits(&d, &a)) {
            // Not replaced: the sizes that it was chosen for must find it again in the next run.
            kind = p.kind(true);
            known = chosen.algorithms.get(&kind).copied().filter(|a| self.suits(&d, a));
        }
        let algorithm = match known {
            Some(algorithm) => algorithm,
            None => match self.choose(stream, p, &d)? {
                Some(algorithm) => {
                    chosen.add(kind, algorithm);
                    algorithm
                }
                None => return Ok(false),
            },
        };
        self.run(stream, p, &d, &algorithm, p.c)?;
        Ok(true)
    }

    /// Whether an algorithm that was chosen for other sizes can do these.
    fn suits(&self, d: &Described, algorithm: &Algorithm) -> bool {
        let mut found = MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit();
        // SAFETY: all are live; `found` is written where the call succeeds, and read only then.
        unsafe {
            let checked = sys::cublasLtMatmulAlgoCheck(
                self.handle,
                d.product,
                d.b,
                d.a,
                d.c,
                d.c,
                algorithm,
                found.as_mut_ptr(),
            );
            checked.result().is_ok() && found.assume_init().workspaceSize <= WORKSPACE
        }
    }

    /// Algorithms for a product, the library's favourite first.
    fn candidates(&self, p: &Product, d: &Described) -> LtResult<Vec<Algorithm>> {
        struct Wishes(sys::cublasLtMatmulPreference_t);
        impl Drop for Wishes {
            fn drop(&mut self) {
                // SAFETY: freed once. Errors have nowhere to go.
                let _ = unsafe { lt::destroy_matmul_pref(self.0) };
            }
        }
        let wishes = Wishes(lt::create_matmul_pref()?);
        let set = |attribute: Preference, from: *const c_void, size: usize| {
            // SAFETY: reads `size` bytes at the call.
            unsafe { lt::set_matmul_pref_attribute(wishes.0, attribute, from, size) }
        };
        let most = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        set(most, std::ptr::from_ref(&WORKSPACE).cast(), size_of::<usize>())?;
        let [a, b, c] = p.alignments();
        for (attribute, bytes) in [
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c),
        ] {
            set(attribute, std::ptr::from_ref(&bytes).cast(), size_of::<u32>())?;
        }
        let mut found = [MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit(); CANDIDATES];
        let mut count = 0;
        // SAFETY: all are live; the first `count` of `found` are written.
        let asked = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                d.product,
                d.b,
                d.a,
                d.c,
                d.c,
                wishes.0,
                CANDIDATES as i32,
                found[0].as_mut_ptr(),
                &mut count,
            )
        };
        match asked {
            sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED => return Ok(Vec::new()),
            other => other.result()?,
        }
        // SAFETY: written, as above.
        let found = found.iter().take(count as usize).map(|f| unsafe { f.assume_init() });
        Ok(found.filter(|f| f.state.result().is_ok()).map(|f| f.algo).collect())
    }

    /// The fastest algorithm, tried with results to scratch memory; the library's favourite where there
    /// is no room for those.
    fn choose(
        &self,
        stream: &CudaStream,
        p: &Product,
        d: &Described,
    ) -> LtResult<Option<Algorithm>> {
        let candidates = self.candidates(p, d)?;
        let bytes = p.sizes[0] * p.sizes[2] * if p.wide { 4 } else { 2 };
        // SAFETY: the stream is live; freed below.
        let scratch = match unsafe { result::malloc_async(stream.cu_stream(), bytes) } {
            Ok(scratch) if candidates.len() > 1 => scratch,
            Ok(scratch) => {
                // SAFETY: as below.
                let _ = unsafe { result::free_async(scratch, stream.cu_stream()) };
                return Ok(candidates.first().copied());
            }
            Err(_) => return Ok(candidates.first().copied()),
        };
        let timed = candidates.iter().filter_map(|algorithm| {
            // One that cannot run after all is passed over.
            let seconds = self.milliseconds(stream, p, d, algorithm, scratch)?;
            Some((seconds, *algorithm))
        });
        let fastest = timed.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, algorithm)| algorithm);
        // SAFETY: allocated above on this stream, freed once.
        let _ = unsafe { result::free_async(scratch, stream.cu_stream()) };
        Ok(fastest)
    }

    /// Milliseconds of [`RUNS`] runs; nothing where it does not run.
    fn milliseconds(
        &self,
        stream: &CudaStream,
        p: &Product,
        d: &Described,
        algorithm: &Algorithm,
        to: CUdeviceptr,
    ) -> Option<f32> {
        let run = || self.run(stream, p, d, algorithm, to).ok();
        let mark = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).ok();
        run()?;
        let start = mark()?;
        (0..RUNS).try_for_each(|_| run())?;
        start.elapsed_ms(&mark()?).ok()
    }

    fn run(
        &self,
        stream: &CudaStream,
        p: &Product,
        d: &Described,
        algorithm: &Algorithm,
        to: CUdeviceptr,
    ) -> LtResult<()> {
        // SAFETY: the caller's matrices have the sizes that `d` describes, the two factors are read at
        // the call, and nothing else on this stream uses the workspace at the same time.
        unsafe {
            lt::matmul(
                self.handle,
                d.product,
                std::ptr::from_ref(&p.alpha).cast(),
                std::ptr::from_ref(&p.beta).cast(),
                p.b.at as *const c_void,
                d.b,
                p.a.at as *const c_void,
                d.a,
                to as *const c_void,
                d.c,
                to as *mut c_void,
                d.c,
                algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
    }
}

impl ChosenAlgorithms {
    /// Notes a choice, in the file too, where there is one.
    fn add(&mut self, kind: String, algorithm: Algorithm) {
        if let Some(file) = &self.file {
            let words: Vec<_> = algorithm.data.iter().map(|w| format!("{w:x}")).collect();
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
            let written = opened.and_then(|mut f| writeln!(f, "{kind}: {}", words.join(" ")));
            if let Err(e) = written {
                note(&format!(
                    "cannot write {}: {e}. The next run may choose other products, and differ in the \
                     last bits",
                    file.display()
                ));
                self.file = None;
            }
        }
        self.algorithms.insert(kind, algorithm);
    }
}

fn read_line(line: &str) -> Option<(String, Algorithm)> {
    let (kind, words) = line.split_once(": ")?;
    let words: Option<Vec<u64>> =
        words.split(' ').map(|w| u64::from_str_radix(w, 16).ok()).collect();
    Some((kind.into(), Algorithm { data: words?.try_into().ok()? }))
}
