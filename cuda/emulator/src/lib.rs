//! Runs the kernels in `cuda/` on the CPU, for tests: stand-ins of the CUDA driver and of cuBLAS that
//! cudarc finds in place of the real ones. `cuda/README.md` says what that shows and what it cannot.
//!
//! glibc answers `dlopen("libcuda.so")` with a library of that SONAME that is open already, so
//! [`install`] only has to come before the first CUDA call.

mod compile;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs, io};

/// Whether the libraries could be built: Linux, and a C++ compiler.
pub const AVAILABLE: bool = !env!("CUDA_EMU_BUILT").is_empty();

/// Where [`install`] looks instead of the libraries built with this crate.
pub const FOLDER: &str = "CUDA_EMU_DIR";

/// Order in which the threads of a block take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By number.
    Forward,
    /// The last first.
    Reverse,
    /// Another at every turn, the same in every run.
    Shuffle,
}

fn driver() -> &'static Library {
    static DRIVER: OnceLock<Library> = OnceLock::new();
    DRIVER.get_or_init(|| {
        let folder = env::var_os(FOLDER).map_or(env!("CUDA_EMU_BUILT").into(), PathBuf::from);
        if folder.as_os_str().is_empty() {
            panic!("the emulator was not built: it needs Linux and a C++ compiler");
        }
        let open = |name: &str| {
            let path = folder.join(name);
            // SAFETY: our own libraries; their initialisers register kernels and nothing else.
            let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
            library.unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()))
        };
        let [driver, others @ ..] = compile::LIBRARIES.map(open);
        others.into_iter().for_each(std::mem::forget); // stay open
        driver
    })
}

/// Puts the stand-ins in place for the rest of the process. Call before anything asks for CUDA.
pub fn install() {
    driver();
}

fn set(name: &[u8], value: i32) {
    // SAFETY: both setters take an int.
    unsafe {
        let f = driver().get::<extern "C" fn(i32)>(name).expect("the emulator has its setters");
        f(value);
    }
}

/// Order of threads in launches that this thread of the machine runs from now on.
pub fn set_order(order: Order) {
    set(b"emu_set_order\0", order as i32);
}

/// Whether streams run only when something waits for them (the default), so that a missing wait shows
/// as stale data, or at once.
pub fn set_lazy(lazy: bool) {
    set(b"emu_set_lazy\0", lazy.into());
}

/// Copies the libraries to a folder, for `LD_LIBRARY_PATH`.
pub fn copy_to(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for name in compile::LIBRARIES {
        fs::copy(Path::new(env!("CUDA_EMU_BUILT")).join(name), folder.join(name))?;
    }
    Ok(())
}

/// A change to a kernel: file in `cuda/`, a text that occurs in it, and what stands there instead.
pub type Edit<'a> = (&'a str, &'a str, &'a str);

/// Builds libraries from changed kernels, to see that the tests notice; for `F64`, `F32` or `BF16`.
pub fn build_with(edits: &[Edit], precisions: &[&str], out: &Path) -> Result<(), String> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let changed = out.join("kernels");
    let io = |e: io::Error| e.to_string();
    fs::create_dir_all(&changed).map_err(io)?;
    for entry in fs::read_dir(kernels).map_err(io)?.flatten() {
        if entry.path().extension().is_some_and(|e| e == "cu" || e == "cuh") {
            fs::copy(entry.path(), changed.join(entry.file_name())).map_err(io)?;
        }
    }
    for (file, from, to) in edits {
        let path = changed.join(file);
        let text = fs::read_to_string(&path).map_err(io)?;
        if !text.contains(from) {
            return Err(format!("{file} does not hold {from:?}"));
        }
        fs::write(&path, text.replacen(from, to, 1)).map_err(io)?;
    }
    let compiler = cc::Build::new()
        .cpp(true)
        .opt_level(2)
        .host(env!("CUDA_EMU_TARGET"))
        .target(env!("CUDA_EMU_TARGET"))
        .try_get_compiler()
        .map_err(|e| e.to_string())?;
    let emulator = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let built = Path::new(env!("CUDA_EMU_BUILT"));
    compile::compile(&compiler, &changed, &emulator, precisions, out, Some(built))
}
