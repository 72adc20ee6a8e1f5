//! Compiling the stand-in libraries; shared by build.rs and, for planted faults, by the crate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// The libraries, under the names that cudarc tries first; also their SONAMEs.
pub const LIBRARIES: [&str; 3] = ["libcuda.so", "libcublas.so", "libcublasLt.so"];

/// Starts the C++ compiler on one job.
fn start(compiler: &cc::Tool, arguments: &[&str], out: &Path) -> Result<Child, String> {
    let mut command: Command = compiler.to_command();
    command.args(["-std=c++17", "-O2", "-g1", "-fPIC", "-pthread", "-fvisibility=hidden"]);
    // As on a GPU without fused multiply-adds: what is written is what is computed.
    command.args(["-ffp-contract=off", "-Wno-unknown-pragmas"]).args(arguments).arg("-o").arg(out);
    command.spawn().map_err(|e| format!("cannot start the C++ compiler: {e}"))
}

fn wait(job: (String, Child)) -> Result<(), String> {
    let (what, mut child) = job;
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("compiling {what}: {status}")),
        Err(e) => Err(format!("compiling {what}: {e}")),
    }
}

/// Writes `unit.cu`, which includes every kernel of a folder: all of one precision are one module, as
/// compile.sh makes them.
fn write_unit(kernels: &Path, out: &Path) -> std::io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(kernels)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "cu") {
            names.extend(path.file_name().and_then(|n| n.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    let lines: String = names.iter().map(|n| format!("#include \"{n}\"\n")).collect();
    fs::write(out.join("unit.cu"), lines)
}

/// Builds the libraries in `out` from the kernels in `kernels` (the folder with the .cu files) and the
/// emulator's sources, for these precisions (`F64`, `F32`, `BF16`). What does not depend on the kernels
/// is taken from `built`, where there is such a folder from an earlier call.
pub fn compile(
    compiler: &cc::Tool,
    kernels: &Path,
    emulator: &Path,
    precisions: &[&str],
    out: &Path,
    built: Option<&Path>,
) -> Result<(), String> {
    let path = |p: PathBuf| p.to_str().map(str::to_owned).ok_or("a path is not UTF-8".to_owned());
    let include = [
        format!("-I{}", path(emulator.to_path_buf())?),
        format!("-I{}", path(kernels.to_path_buf())?),
        format!("-I{}", path(out.to_path_buf())?),
    ];
    write_unit(kernels, out).map_err(|e| format!("writing unit.cu: {e}"))?;
    let mut objects = Vec::new();
    let mut jobs = Vec::new();
    let unit = path(emulator.join("unit.cpp"))?;
    let sources = ["engine.cpp", "driver.cpp"].map(|f| emulator.join(f));
    let mut add = |source: String, name: String, define: Option<String>| -> Result<(), String> {
        let object = out.join(format!("{name}.o"));
        let mut arguments = vec!["-c", &include[0], &include[1], &include[2]];
        arguments.extend(define.as_deref());
        arguments.push(&source);
        jobs.push((name, start(compiler, &arguments, &object)?));
        objects.push(object);
        // Two at a time: a unit takes half a gigabyte.
        if jobs.len() == 2 {
            wait(jobs.remove(0))?;
        }
        Ok(())
    };
    for precision in precisions {
        let define = format!("-DBEIT_{precision}");
        add(unit.clone(), format!("kernels_{precision}"), Some(define))?;
    }
    for source in sources.iter().filter(|_| built.is_none()) {
        let name = source.file_stem().and_then(|s| s.to_str()).unwrap_or("source").to_owned();
        add(path(source.clone())?, name, None)?;
    }
    if built.is_none() {
        add(path(emulator.join("blas.cpp"))?, "blas".into(), None)?;
    }
    for job in jobs {
        wait(job)?;
    }
    let blas = match built {
        Some(built) => {
            objects.extend(["engine.o", "driver.o"].map(|o| built.join(o)));
            built.join("blas.o")
        }
        None => objects.pop().ok_or("nothing to link")?,
    };
    let blas = path(blas)?;
    let objects = objects.into_iter().map(path).collect::<Result<Vec<_>, _>>()?;
    let link = |name: &str, inputs: &[&str]| -> Result<(), String> {
        let soname = format!("-Wl,-soname,{name}");
        let mut arguments = vec!["-shared", &soname];
        arguments.extend(inputs);
        wait((name.to_owned(), start(compiler, &arguments, &out.join(name))?))
    };
    link(LIBRARIES[0], &objects.iter().map(String::as_str).collect::<Vec<_>>())?;
    let folder = format!("-L{}", path(out.to_path_buf())?);
    LIBRARIES[1..].iter().try_for_each(|name| link(name, &[&blas, &folder, "-l:libcuda.so"]))
}
