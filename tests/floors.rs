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

#[test]
fn the_checker_knows_numbers_and_charts_alone() {
    let below = ["check/", "real.rs", "rng.rs", "error.rs", "report/"];
    let imports = this().0.imports();
    let own: Vec<_> = imports.iter().filter(|i| i.from.starts_with("check/")).collect();
    let others: Vec<_> =
        own.iter().filter(|i| !below.iter().any(|b| i.to.starts_with(b))).collect();
    assert!(!own.is_empty() && others.is_empty(), "{others:?}");
}

const LIB: &str = "//! # How it hangs together
//!
//! | floor | what |
//! | --- | --- |
//! | `main` | the program |
//! | [`models`] | models |
//! | [`left`], `right` | two that do not see each other |
//! | [`real`] | numbers |
//!
//! # Next
//!
//! | `no` | floor |
pub use real::Real;";

/// What is said of a crate with these files beside `lib.rs`.
fn said(files: &[(&str, &str)]) -> Vec<String> {
    let plain = ["main.rs", "models.rs", "left.rs", "right.rs", "real/mod.rs"];
    let empty = plain.iter().filter(|name| files.iter().all(|(other, _)| other != *name));
    let mut all: Vec<Text> = vec![("lib.rs".into(), LIB.into())];
    all.extend(empty.map(|name| (name.to_string(), String::new())));
    all.extend(files.iter().map(|(name, text)| (name.to_string(), text.to_string())));
    let code = Crate::read("beit", &all);
    complaints(&code, &code.imports(), &floors(LIB))
}

#[test]
fn what_goes_down_passes() {
    let none: Vec<String> = Vec::new();
    let real = ("real/mod.rs", "mod kind; pub use kind::Real;");
    let kind = ("real/kind.rs", "use super::super::std_only; pub trait Real {}");
    assert_eq!(said(&[real, ("real/kind.rs", "pub trait Real {}")]), none);
    assert_eq!(said(&[real, kind]), ["src/real/kind.rs:1 names an item of lib.rs, which has none"]);
    let models = ("models.rs", "use crate::left::Left;\nfn f() -> Left { crate::Real::f() }");
    assert_eq!(said(&[models, ("main.rs", "fn main() { beit::models::run() }")]), none);
    // Documentation, tests and text name what they like.
    let real = "//! [`crate::models`]\n/// [`super::models`]\nconst A: &str = \"crate::models::X\";
        #[cfg(test)]\nmod tests { use crate::models::Model; }";
    assert_eq!(said(&[("real/mod.rs", real)]), none);
    let real = ("real/mod.rs", "#[cfg(test)]\nmod tests;");
    assert_eq!(said(&[real, ("real/tests.rs", "use crate::models::Model;")]), none);
}

#[test]
fn what_goes_up_is_seen_wherever_it_is_written() {
    let up = |line: usize| {
        vec![format!("src/real/mod.rs:{line} imports src/models.rs: models lies above real")]
    };
    for text in [
        "use crate::models::Model;",
        "use crate::{models};",
        "use super::models::{self, Model};",
        "use crate::models::*;",
        "fn f() { crate::models::run() }",
        "type A = Vec<crate::models::Model>;",
        "fn f() { println!(\"{}\", 1 + crate::models::run(2)) }",
        "macro_rules! m { () => { $crate::models::run() } }",
        "mod inside { use super::super::models::Model; }",
        "fn f() { use crate::models::Model; }",
        "#[cfg(feature = \"cuda\")] use crate::models::Model;",
        "impl crate::models::Model for u8 {}",
    ] {
        assert_eq!(said(&[("real/mod.rs", &format!("\n{text}"))]), up(2), "{text}");
    }
}

#[test]
fn what_goes_beside_and_what_is_exported_again_is_seen() {
    let beside = "src/left.rs:1 imports src/right.rs: right lies beside left";
    assert_eq!(said(&[("left.rs", "use crate::right::Right;")]), [beside]);
    // Through two files that only export it.
    let deep = said(&[
        ("real/mod.rs", "pub mod a; pub use a::Up;"),
        ("real/a.rs", "pub use super::b::Up;"),
        ("real/b.rs", "pub use crate::models::Model as Up;"),
        ("left.rs", "use crate::real::Up;"),
    ]);
    assert_eq!(deep, ["src/left.rs:1 imports src/models.rs: models lies above left"]);
    let macros = said(&[
        ("models.rs", "#[macro_export] macro_rules! model { () => {} }"),
        ("real/mod.rs", "crate::model!();"),
    ]);
    assert_eq!(macros, ["src/real/mod.rs:1 imports src/models.rs: models lies above real"]);
}

#[test]
fn a_circle_is_named_by_its_shortest_way() {
    let found = said(&[
        ("real/mod.rs", "mod a; mod b; mod c; mod d;"),
        ("real/a.rs", "use super::b::B;\n\nfn f() { super::c::C }"),
        ("real/b.rs", "use super::c::C;"),
        ("real/c.rs", "use super::{d};\n use super::a::A;"),
        ("real/d.rs", ""),
    ]);
    let circle = "circle: src/real/a.rs:3 imports src/real/c.rs, \
                  src/real/c.rs:2 imports src/real/a.rs";
    assert_eq!(found, [circle]);
}

#[test]
fn a_folder_and_its_own_file_can_go_around() {
    let child = ("real/a.rs", "use super::Whole;\npub struct Part;");
    let only_exports = ("real/mod.rs", "mod a; pub use a::Part; pub struct Whole;");
    assert!(said(&[child, only_exports]).is_empty());
    let around = ["circle: src/real/mod.rs:1 imports src/real/a.rs, \
                   src/real/a.rs:1 imports src/real/mod.rs"];
    for whole in [
        "mod a; use a::Part; pub struct Whole;",
        "mod a; pub use a::Part; pub struct Whole(Part);",
        "mod a; pub struct Whole(a::Part);",
    ] {
        assert_eq!(said(&[child, ("real/mod.rs", whole)]), around, "{whole}");
    }
    // Files of two folders in no circle of files, but their folders are in one.
    let found = said(&[
        ("real/mod.rs", "mod a; mod b;"),
        ("real/a/mod.rs", "mod x; mod y;"),
        ("real/a/x.rs", "use crate::real::b::B;"),
        ("real/a/y.rs", "pub struct Y;"),
        ("real/b.rs", "use super::a::y::Y;"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("circle: src/real/a/x.rs:1 imports src/real/b.rs"), "{found:?}");
}

#[test]
fn a_module_without_a_floor_is_seen() {
    assert_eq!(said(&[("extra.rs", "")]), ["lib.rs lists no floor for module extra"]);
}
