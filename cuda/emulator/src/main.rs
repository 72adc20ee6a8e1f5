//! `cargo run -p cuda-emu -- DIR`: writes the stand-in libraries to a folder.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let [folder] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        eprintln!("usage: cargo run -p cuda-emu -- DIR");
        return ExitCode::from(2);
    };
    if !cuda_emu::AVAILABLE {
        eprintln!("the emulator needs Linux and a C++ compiler");
        return ExitCode::FAILURE;
    }
    if let Err(e) = cuda_emu::copy_to(Path::new(folder)) {
        eprintln!("cannot write to {folder}: {e}");
        return ExitCode::FAILURE;
    }
    println!("LD_LIBRARY_PATH={folder} beit ... --device cuda   runs on them.");
    println!("Times taken so say nothing about a GPU.");
    ExitCode::SUCCESS
}
