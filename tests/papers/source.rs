//! Functions of the source by path.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use syn::{ImplItem, Item, ItemFn, TraitItem, Type};

/// The file of module `parts` under `src`, where it has one of its own.
pub fn module(src: &Path, parts: &[&str]) -> Option<PathBuf> {
    let path = src.join(parts.join("/"));
    let files = [path.with_extension("rs"), path.join("mod.rs")];
    files.into_iter().find(|f| f.is_file())
}

/// Module path and file of every Rust file below `folder`.
pub fn rust_files(folder: &Path) -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, prefix: &str, out: &mut Vec<(String, PathBuf)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if path.is_dir() {
                walk(&path, &format!("{prefix}{stem}::"), out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let module = if stem == "mod" { prefix } else { &format!("{prefix}{stem}") };
                out.push((module.trim_end_matches("::").to_string(), path));
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, "", &mut out);
    out
}

/// `function`, `Type::method` and `Trait::method` of a file, those inside `simd_fn!` included.
pub fn functions(text: &str) -> BTreeSet<String> {
    let file = syn::parse_file(text).expect("the source compiles");
    let mut names = BTreeSet::new();
    for item in file.items {
        match item {
            Item::Fn(f) => {
                names.insert(f.sig.ident.to_string());
            }
            Item::Macro(m) if m.mac.path.segments.last().is_some_and(|s| s.ident == "simd_fn") => {
                let f: ItemFn = m.mac.parse_body().expect("simd_fn! holds one function");
                names.insert(f.sig.ident.to_string());
            }
            Item::Trait(t) => {
                for item in &t.items {
                    if let TraitItem::Fn(f) = item {
                        names.insert(format!("{}::{}", t.ident, f.sig.ident));
                    }
                }
            }
            Item::Impl(i) => {
                let Type::Path(path) = &*i.self_ty else { continue };
                let owner = &path.path.segments.last().expect("a path has a last part").ident;
                for item in &i.items {
                    if let ImplItem::Fn(f) = item {
                        names.insert(format!("{owner}::{}", f.sig.ident));
                    }
                }
            }
            _ => {}
        }
    }
    names
}
