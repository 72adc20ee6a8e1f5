//! The shipped PTX is that of the sources, every op has its kernels, and every launch its kernel.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of a folder with one of these endings, by name.
fn files(folder: &str, endings: &[&str]) -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|f| f.unwrap().path());
    let chosen = |f: &PathBuf| f.extension().is_some_and(|e| endings.iter().any(|x| e == *x));
    let name = |f: &Path| f.file_name().unwrap().to_str().unwrap().to_string();
    entries.filter(chosen).map(|f| (name(&f), fs::read_to_string(&f).unwrap())).collect()
}

/// Words after `before`, up to the first character that no name has.
fn names_after<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let rest = text.split(before).skip(1);
    let name = |rest: &'a str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    };
    rest.map(name).filter(|name| !name.is_empty()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// `compile.sh` writes the checksums of what it compiled; no compiler is needed to compare.
#[test]
fn cuda_ptx_is_that_of_the_sources() {
    let mut lines = Vec::new();
    for (name, text) in files("cuda", &["cu", "cuh"]) {
        lines.push((name, sha256(text.as_bytes())));
    }
    lines.push(("compile.sh".into(), sha256(&fs::read(root().join("cuda/compile.sh")).unwrap())));
    let noted = fs::read_to_string(root().join("cuda/ptx/SOURCES")).unwrap();
    let noted: BTreeMap<_, _> =
        noted.lines().filter_map(|l| l.rsplit_once("  ")).map(|(h, n)| (n, h)).collect();
    for (name, hash) in &lines {
        assert_eq!(
            noted.get(name.as_str()),
            Some(&hash.as_str()),
            "{name} changed: run cuda/compile.sh"
        );
    }
    assert_eq!(noted.len(), lines.len(), "a source is gone: run cuda/compile.sh");
}

/// With a compiler at hand, the whole check.
#[test]
fn cuda_compile_script_agrees() {
    let Some(toolkit) = std::env::var_os("CUDA_TK") else {
        println!("skipped: CUDA_TK is not set, so nvcc did not compare the PTX");
        return;
    };
    let script = root().join("cuda/compile.sh");
    let done = Command::new(script).arg("--check").env("CUDA_TK", toolkit).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Names in lines such as `KERNEL(name)`; a name with `##` in it stands for each `MMA_KERNELS(size)`.
fn kernels(text: &str, before: &str) -> BTreeSet<String> {
    let sizes = names_after(text, "\nMMA_KERNELS(");
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(before));
    let names = lines.filter_map(|rest| rest.split(')').next());
    names
        .flat_map(|name| match name.split_once("##") {
            Some((stem, _)) => sizes.iter().map(|d| format!("{stem}{d}")).collect(),
            None => vec![name.to_owned()],
        })
        .collect()
}

/// Kernels that are defined, exported to the emulator, in each PTX and launched are the same.
#[test]
fn cuda_kernels_are_whole() {
    let sources = files("cuda", &["cu"]);
    let mut defined = BTreeSet::<String>::new();
    for (file, text) in &sources {
        let own = kernels(text, "KERNEL(");
        assert_eq!(own, kernels(text, "EXPORT("), "{file}");
        defined.extend(own);
    }
    for precision in ["f64", "f32", "bf16"] {
        let ptx = fs::read_to_string(root().join(format!("cuda/ptx/{precision}.ptx"))).unwrap();
        let entries = names_after(&ptx, ".entry ");
        // Tensor cores take bf16.
        let own = defined.iter().filter(|name| precision == "bf16" || !name.contains("_mma_"));
        let want: BTreeSet<_> = own.map(|name| format!("{name}_{precision}")).collect();
        assert_eq!(entries, want.iter().map(String::as_str).collect(), "{precision}.ptx");
    }
    let mut host = fs::read_to_string(root().join("src/cuda.rs")).unwrap();
    for op in fs::read_dir(root().join("src/ops")).unwrap() {
        host += &fs::read_to_string(op.unwrap().path().join("cuda.rs")).unwrap_or_default();
    }
    for name in defined {
        // Those that exist per head size are named without it.
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let named = |name: &str| host.contains(&format!("\"{name}\""));
        assert!(named(stem) || named(&name), "no launch of {name}");
    }
}

/// Each `.cu` is that of an op or of passes they share; each op has its CUDA side.
#[test]
fn cuda_files_have_their_op() {
    let ops = files("src/ops", &["rs"]);
    for name in files("cuda", &["cu"]).keys().filter(|name| *name != "common.cu") {
        let stem = name.trim_end_matches(".cu");
        let op = ops.keys().any(|op| stem.starts_with(op.trim_end_matches(".rs")));
        assert!(op, "cuda/{name} has no op");
    }
    for op in ops.keys().filter(|op| !["mod.rs", "case.rs"].contains(&op.as_str())) {
        let side = root().join("src/ops").join(op.trim_end_matches(".rs")).join("cuda.rs");
        assert!(side.is_file(), "src/ops/{op} has no CUDA side");
    }
}
