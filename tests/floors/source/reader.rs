//! One file: its items, what it imports, and the paths in its code.

use super::{Crate, Reference};
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// Fills a crate with what one file has.
pub struct Reader<'a> {
    pub all: &'a mut Crate,
    pub module: usize,
    pub name: &'a str,
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
            if let Item::Mod(m) = item {
                let here = &self.all.modules[self.module];
                self.all.tests.extend(here.children.get(&m.ident.to_string()).copied());
            }
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
