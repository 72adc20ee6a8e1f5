//! Imports point one way: down the floors that `lib.rs` lists, and never around inside a folder.
//!
//! Read are the paths in `use` lines and in code, macros included, up to the file that defines what they
//! name. A method that is called on a value names no file and is not seen; its type is, where it is
//! written down. What is compiled for tests alone may look anywhere.

mod graph;
mod source;

use graph::{complaints, floors};
use source::{Crate, Import, Text};
use std::path::Path;

/// Imports that may go around, as beginnings of the two files' names. The table of ops makes `Backend`,
/// over which a case is generic, and shows the cases of each line.
const KNOWN: [(&str, &str); 1] = [("ops/case.rs", "ops/mod.rs")];

fn files(folder: &Path, prefix: &str, out: &mut Vec<Text>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            files(&path, &format!("{name}/"), out);
        } else if name.ends_with(".rs") {
            out.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The crate, and its floors.
fn this() -> (Crate, Vec<Vec<String>>) {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    all.sort();
    let lib = &all.iter().find(|(name, _)| name == "lib.rs").expect("there is a lib.rs").1;
    (Crate::read("beit", &all), floors(lib))
}

#[test]
fn imports_point_one_way() {
    let (code, floors) = this();
    let known =
        |i: &Import, (from, to): &(&str, &str)| i.from.starts_with(from) && i.to.starts_with(to);
    let (tolerated, imports): (Vec<_>, Vec<_>) =
        code.imports().into_iter().partition(|i| KNOWN.iter().any(|k| known(i, k)));
    let gone = KNOWN.iter().filter(|k| !tolerated.iter().any(|i| known(i, k)));
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new(), "no longer there");
    let found = complaints(&code, &imports, &floors);
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}
