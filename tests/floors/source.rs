//! The modules of a crate, and every path in them that names something of the same crate.

mod reader;

use reader::Reader;
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::Visit;

/// Name of a file below `src/`, and its text.
pub type Text = (String, String);

/// A module, of a file or inside one.
#[derive(Default)]
pub struct Module {
    /// The file that it is written in.
    pub file: String,
    pub parent: usize,
    pub children: BTreeMap<String, usize>,
    /// What it defines itself.
    items: BTreeSet<String>,
    /// What it imports or exports again, by the name that it gives it.
    names: BTreeMap<String, Vec<String>>,
    /// Paths of modules all of whose names it takes over.
    globs: Vec<Vec<String>>,
    /// Names with which paths of its code begin.
    used: BTreeSet<String>,
}

/// A path in a `use` or in code.
struct Reference {
    module: usize,
    line: usize,
    path: Vec<String>,
    /// The name under which a `pub use` exports it again.
    exported: Option<String>,
}

/// A file that names something of another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: String,
    pub to: String,
    /// The first line that does.
    pub line: usize,
}

/// All modules of a crate; the first is its root.
#[derive(Default)]
pub struct Crate {
    pub modules: Vec<Module>,
    /// Exported macros, which have their names in the root, and their files.
    macros: BTreeMap<String, String>,
    references: Vec<Reference>,
    /// Modules with a file of their own that are compiled for tests alone.
    tests: BTreeSet<usize>,
}

/// The path of the module of a file: `["cpu", "pool"]` for `cpu/pool.rs`; none for `lib.rs`.
fn module_path(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let parts = stem.split('/').map(String::from);
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

impl Crate {
    /// Reads all files. The program `main.rs` is a module of its own, which names the library `name`.
    pub fn read(name: &str, files: &[Text]) -> Self {
        let root = Module { file: "lib.rs".into(), ..Module::default() };
        let mut all = Self { modules: vec![root], ..Self::default() };
        let places: Vec<usize> = files.iter().map(|(file, _)| all.place(file)).collect();
        for ((file, text), module) in files.iter().zip(places) {
            let parsed = syn::parse_file(text).unwrap_or_else(|e| panic!("src/{file}: {e}"));
            Reader { all: &mut all, module, name }.visit_file(&parsed);
        }
        all
    }

    /// The module of a file, made with all above it where there is none yet.
    fn place(&mut self, file: &str) -> usize {
        let module = module_path(file).into_iter().fold(0, |at, part| self.child(at, &part, file));
        self.modules[module].file = file.into();
        module
    }

    fn child(&mut self, parent: usize, name: &str, file: &str) -> usize {
        if let Some(&child) = self.modules[parent].children.get(name) {
            return child;
        }
        let child = self.modules.len();
        self.modules.push(Module { file: file.into(), parent, ..Module::default() });
        self.modules[parent].children.insert(name.into(), child);
        child
    }

    /// Who names whom, each pair of files once, with the first line that does.
    ///
    /// `mod x;` names nothing, and neither does `pub use x::Y;`, unless the code beside it uses `Y`: whoever
    /// takes `Y` from there names the file that defines it.
    pub fn imports(&self) -> Vec<Import> {
        let mut lines: BTreeMap<(String, String), usize> = BTreeMap::new();
        for reference in self.references.iter().filter(|r| !self.in_tests(r.module)) {
            let module = &self.modules[reference.module];
            if reference.exported.as_ref().is_some_and(|name| !module.used.contains(name)) {
                continue;
            }
            for to in self.files(reference.module, &reference.path, 0) {
                if to != module.file {
                    let line = lines.entry((module.file.clone(), to)).or_insert(reference.line);
                    *line = reference.line.min(*line);
                }
            }
        }
        lines.into_iter().map(|((from, to), line)| Import { from, to, line }).collect()
    }

    fn in_tests(&self, module: usize) -> bool {
        module != 0 && (self.tests.contains(&module) || self.in_tests(self.modules[module].parent))
    }

    /// The files that define what a path in `module` names; none where that is another crate's.
    fn files(&self, module: usize, path: &[String], depth: usize) -> BTreeSet<String> {
        let first = path.first().map_or("", |part| part.as_str());
        match first {
            "crate" => self.below(0, &path[1..], depth),
            "self" => self.below(module, &path[1..], depth),
            "super" => {
                let mut at = self.modules[module].parent;
                let mut rest = &path[1..];
                while rest.first().is_some_and(|part| part == "super") {
                    (at, rest) = (self.modules[at].parent, &rest[1..]);
                }
                self.below(at, rest, depth)
            }
            name if path.len() > 1 && self.modules[module].children.contains_key(name) => {
                self.below(module, path, depth)
            }
            _ => BTreeSet::new(),
        }
    }

    fn below(&self, at: usize, path: &[String], depth: usize) -> BTreeSet<String> {
        let module = &self.modules[at];
        let own = || BTreeSet::from([module.file.clone()]);
        // Names that export each other in a ring do not compile.
        let Some(name) = path.first().filter(|_| depth < 32) else { return own() };
        let child = module.children.get(name);
        if let Some(&child) = child.filter(|_| path.len() > 1) {
            return self.below(child, &path[1..], depth + 1);
        }
        if at == 0 && self.macros.contains_key(name) {
            return BTreeSet::from([self.macros[name].clone()]);
        }
        // A module and a function may have one name.
        let mut found: BTreeSet<String> =
            child.map(|&child| self.modules[child].file.clone()).into_iter().collect();
        if let Some(target) = module.names.get(name) {
            found.extend(self.files(at, target, depth + 1));
            return found;
        }
        if !found.is_empty() || module.items.contains(name) {
            return if found.is_empty() { own() } else { found };
        }
        for glob in &module.globs {
            if let Some(target) = self.named_module(at, glob) {
                let there = &self.modules[target];
                if there.items.contains(name) || there.names.contains_key(name) {
                    return self.below(target, path, depth + 1);
                }
            }
        }
        own()
    }

    /// The module that a path of modules names.
    fn named_module(&self, from: usize, path: &[String]) -> Option<usize> {
        path.iter().try_fold(from, |at, part| match part.as_str() {
            "crate" => Some(0),
            "self" => Some(at),
            "super" => Some(self.modules[at].parent),
            name => self.modules[at].children.get(name).copied(),
        })
    }
}
