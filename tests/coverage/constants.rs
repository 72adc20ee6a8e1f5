//! Constants of an op's code, read from its source: those that it declares, the functions of `cpu` that cut by
//! one of theirs, and bare numbers, which should have a name.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::Visit;

/// What the functions of `cpu` cut by.
const SHARED: [(&str, &[&str]); 9] = [
    ("rows_per_task", &["rows_per_task"]),
    ("fill_rows", &["rows_per_task"]),
    ("fold_step", &["FOLD_ROWS", "FOLDS"]),
    ("fold_rows", &["FOLD_ROWS", "FOLDS"]),
    ("fold_pieces", &["FOLD_ROWS", "FOLDS"]),
    ("add_column_sums", &["FOLD_ROWS", "FOLDS"]),
    ("LANES", &["LANES"]),
    ("sum_exp", &["LANES"]),
    ("dot", &["LANES"]),
];

/// Constants that are no sizes of a case, or that only a large one would be beyond, and why that is enough.
const OTHERS: [(&str, &str, &str); 6] = [
    ("attention", "PARTIALS", "unit test `groups_by_hand`"),
    ("attention", "NUMBERS", "unit test `groups_by_hand`"),
    ("conv2d", "PIXELS", "a part of BAND"),
    ("conv2d", "COPIES", "unit test `groups_by_hand`"),
    ("pixels", "RGB", "the channels of every image"),
    ("pixels", "BYTES", "the values of every byte"),
];

/// The largest number that may stand without a name where code runs.
const BARE: u128 = 128;

/// Names of constants that the cases of `op` should show, of one of its files.
pub fn of(op: &str, source: &str) -> BTreeSet<String> {
    let mut found = Found::default();
    found.visit_file(&syn::parse_file(source).unwrap_or_else(|e| panic!("{op}: {e}")));
    let known = |name: &String| !OTHERS.iter().any(|(of, other, _)| *of == op && other == name);
    found.0.into_iter().filter(known).collect()
}

#[derive(Default)]
struct Found(BTreeSet<String>);

impl Found {
    fn name(&mut self, name: &proc_macro2::Ident) {
        let shared = SHARED.iter().filter(|(function, _)| name == function);
        self.0.extend(shared.flat_map(|(_, all)| all.iter().map(|n| n.to_string())));
    }

    fn number(&mut self, digits: &str) {
        if digits.parse::<u128>().is_ok_and(|n| n > BARE) {
            self.0.insert(format!("the number {digits}"));
        }
    }

    /// What stands in a macro, `simd_fn!` among them.
    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(name) => self.name(&name),
                TokenTree::Literal(number) => {
                    if let Ok(number) = syn::parse_str::<syn::LitInt>(&number.to_string()) {
                        self.number(number.base10_digits());
                    }
                }
                TokenTree::Punct(_) => {}
            }
        }
    }
}

/// Whether this is compiled for tests alone.
fn of_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("cfg"))
}

impl<'a> Visit<'a> for Found {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !of_tests(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_const(&mut self, item: &'a syn::ItemConst) {
        if matches!(&*item.ty, syn::Type::Path(t) if t.path.is_ident("usize")) {
            self.0.insert(item.ident.to_string());
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        // The cases, and what the benches time.
        if !["cases", "large_cases", "empty_case"].iter().any(|name| item.sig.ident == name) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        if !item.trait_.as_ref().is_some_and(|(_, path, _)| path.is_ident("Case")) {
            syn::visit::visit_item_impl(self, item);
        }
    }

    fn visit_macro(&mut self, item: &'a syn::Macro) {
        self.tokens(item.tokens.clone());
    }

    fn visit_ident(&mut self, name: &'a proc_macro2::Ident) {
        self.name(name);
    }

    fn visit_lit_int(&mut self, number: &'a syn::LitInt) {
        self.number(number.base10_digits());
    }
}

#[test]
fn constants_are_read() {
    let source = "
        const PIECE: usize = 1 << 14;
        const WEIGHT: f64 = 4096.0;
        impl SwishOp for Cpu<T> {
            fn swish(&self) { fold_rows(3, 4, |x| { let _ = simd::dot(x, x); }); x.chunks(4096 * c) }
        }
        impl Case for SwishCase { fn inputs(&self) { self.run(70_001) } }
        pub fn cases() { visit(70_001) }
        #[cfg(test)]
        mod tests { const OTHER: usize = 3; }
    ";
    let found: Vec<String> = of("swish", source).into_iter().collect();
    assert_eq!(found, ["FOLDS", "FOLD_ROWS", "LANES", "PIECE", "the number 4096"]);
}
