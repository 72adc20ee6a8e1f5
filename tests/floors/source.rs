//! The modules of a crate, and every path in them that names something of the same crate.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

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
pub struct Crate {
    pub modules: Vec<Module>,
    /// Exported macros, which have their names in the root, and their files.
    macros: BTreeMap<String, String>,
    references: Vec<Reference>,
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
        let mut all = Self { modules: vec![root], macros: BTreeMap::new(), references: Vec::new() };
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
        for reference in &self.references {
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

/// Fills a crate with what one file has.
struct Reader<'a> {
    all: &'a mut Crate,
    module: usize,
    name: &'a str,
}

fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg")
            && a.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(i) => i.ident.to_string(),
        Item::Enum(i) => i.ident.to_string(),
        Item::Fn(i) => i.sig.ident.to_string(),
        Item::Macro(i) => i.ident.as_ref()?.to_string(),
        Item::Static(i) => i.ident.to_string(),
        Item::Struct(i) => i.ident.to_string(),
        Item::Trait(i) => i.ident.to_string(),
        Item::Type(i) => i.ident.to_string(),
        Item::Union(i) => i.ident.to_string(),
        _ => return None,
    })
}

impl Reader<'_> {
    /// `beit::x` in the program is `crate::x`.
    fn refer(&mut self, line: usize, mut path: Vec<String>, exported: Option<String>) {
        let module = self.module;
        let program = self.all.modules[module].file == "main.rs";
        if program && path.first().is_some_and(|first| first == self.name) {
            path[0] = "crate".into();
        }
        self.all.references.push(Reference { module, line, path, exported });
    }

    fn import(&mut self, tree: &UseTree, mut before: Vec<String>, public: bool) {
        let line = tree.span().start().line;
        let (last, name) = match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                return self.import(&path.tree, before, public);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|t| self.import(t, before.clone(), public));
            }
            UseTree::Glob(_) => {
                self.all.modules[self.module].globs.push(before.clone());
                if !public {
                    self.refer(line, before, None);
                }
                return;
            }
            UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
        };
        let itself = before.last().filter(|_| last == "self").cloned();
        let name = itself.clone().unwrap_or(name);
        if itself.is_none() {
            before.push(last);
        }
        self.all.modules[self.module].names.insert(name.clone(), before.clone());
        self.refer(line, before, public.then_some(name));
    }

    /// Paths in what a macro gets or is made of.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons, mut field) = (0, 0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(part) => {
                    if colons != 2 {
                        self.path(line, std::mem::take(&mut path));
                        line = part.span().start().line;
                    }
                    if !(field && colons != 2) {
                        path.push(part.to_string());
                    }
                    (colons, field) = (0, false);
                }
                TokenTree::Punct(p) if p.as_char() == ':' => colons += 1,
                other => {
                    self.path(line, std::mem::take(&mut path));
                    (colons, field) = (0, false);
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Punct(p) => field = p.as_char() == '.',
                        _ => {}
                    }
                }
            }
        }
        self.path(line, path);
    }

    fn path(&mut self, line: usize, path: Vec<String>) {
        // `pub(super)` in a macro, `self` in a method.
        let keyword = path.len() == 1 && ["crate", "self", "super"].contains(&&*path[0]);
        if let Some(first) = path.first().filter(|_| !keyword) {
            self.all.modules[self.module].used.insert(first.clone());
            self.refer(line, path, None);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if only_in_tests(attributes(item)) {
            return;
        }
        if let Some(name) = defined(item) {
            self.all.modules[self.module].items.insert(name);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let Some((_, items)) = &item.content else { return };
        let (outside, file) = (self.module, self.all.modules[self.module].file.clone());
        self.module = self.all.child(outside, &item.ident.to_string(), &file);
        items.iter().for_each(|item| self.visit_item(item));
        self.module = outside;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        self.import(&item.tree, Vec::new(), public);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if let (Some(name), true) =
            (&item.ident, item.attrs.iter().any(|a| a.path().is_ident("macro_export")))
        {
            let file = self.all.modules[self.module].file.clone();
            self.all.macros.insert(name.to_string(), file);
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }

    /// `pub(in crate::x)` names nobody's items.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    /// `#[doc]` names files in text only, `#[derive]` only other crates' macros.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.path(path.span().start().line, parts);
        visit::visit_path(self, path);
    }
}
