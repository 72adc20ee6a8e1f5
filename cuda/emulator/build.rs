//! Builds the stand-in libraries, or nothing where there is no C++ compiler or the system is not
//! Linux; the crate then says that it is not available.

#[path = "src/compile.rs"]
mod compile;

use std::path::Path;
use std::{env, fs};

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let out = env::var("OUT_DIR").expect("set by cargo");
    let (emulator, kernels) = (Path::new(&here).join("src"), Path::new(&here).join(".."));
    println!("cargo:rerun-if-changed={}", emulator.display());
    // The folder, for files that come and go.
    println!("cargo:rerun-if-changed={}", kernels.display());
    for entry in fs::read_dir(&kernels).expect("the kernels lie beside the crate").flatten() {
        if entry.path().extension().is_some_and(|e| e == "cu" || e == "cuh") {
            println!("cargo:rerun-if-changed={}", entry.path().display());
        }
    }
    let mut folder = "";
    let compiler = cc::Build::new().cpp(true).opt_level(2).try_get_compiler();
    match compiler {
        _ if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") => {
            println!("cargo:warning=not Linux: the CUDA emulator is not built");
        }
        Ok(compiler) if compiler.to_command().arg("--version").output().is_ok() => {
            let all = ["F64", "F32", "BF16"];
            if let Err(e) =
                compile::compile(&compiler, &kernels, &emulator, &all, Path::new(&out), None)
            {
                panic!("the CUDA emulator: {e}");
            }
            folder = &out;
        }
        _ => println!("cargo:warning=no C++ compiler: the CUDA emulator is not built"),
    }
    println!("cargo:rustc-env=CUDA_EMU_BUILT={folder}");
    let target = env::var("TARGET").expect("set by cargo");
    println!("cargo:rustc-env=CUDA_EMU_TARGET={target}");
}
