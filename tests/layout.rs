//! What belongs together is there: each named size has its parameter count, each parameter its start,
//! each type a name of its own.

use beit::cpu::Cpu;
use beit::models::beit::MaskedImageModel;
use beit::models::config::{BeitConfig, DvaeConfig, EncoderConfig};
use beit::models::dvae::Dvae;
use beit::params::{Decay, Layout, initial_values, parameter_count};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::path::Path;
use syn::visit::Visit;

fn layout(config: &BeitConfig) -> Layout {
    MaskedImageModel::new(&Cpu::<f32>::new(), config).layout
}

#[test]
fn encoders_have_the_original_number_of_parameters() {
    for (config, want) in [
        (BeitConfig::base_patch16_224(), 91_965_776),
        (BeitConfig::large_patch16_224(), 311_534_016),
    ] {
        assert_eq!(parameter_count(&layout(&config)), want);
        assert_eq!(config.parameters(), want as u64);
    }
    // The first equals n_parameters in the authors' log; without bias table and layer scale and with
    // absolute positions it is the paper's plain ViT.
    let base = EncoderConfig::base_patch16_224();
    let no_bias = EncoderConfig { shared_rel_pos_bias: false, ..base };
    let plain = EncoderConfig { abs_pos: true, layer_scale: 0.0, ..no_bias }.with_vocab(8192);
    assert_eq!(parameter_count(&layout(&plain)), 92_089_856);
    for config in [plain, BeitConfig::tiny(), BeitConfig::small(), BeitConfig::test()] {
        assert_eq!(parameter_count(&layout(&config)) as u64, config.parameters());
    }
}

#[test]
fn the_tokenizer_has_the_original_number_of_parameters() {
    let config = DvaeConfig::dalle();
    let layout = Dvae::new(&config).layout;
    let count = |part: &str| -> usize {
        layout.iter().filter(|p| p.name.starts_with(part)).map(|p| p.len()).sum()
    };
    assert_eq!((count("encoder."), count("decoder.")), (53_786_240, 43_829_766));
    assert_eq!(parameter_count(&layout), 53_786_240 + 43_829_766);
    for config in [config, DvaeConfig::tiny(), DvaeConfig::small(), DvaeConfig::test()] {
        assert_eq!(parameter_count(&Dvae::new(&config).layout) as u64, config.parameters());
    }
}

#[test]
fn each_encoder_preset_fits_its_tokenizer() {
    for (encoder, tokenizer) in [
        (BeitConfig::tiny(), DvaeConfig::tiny()),
        (BeitConfig::small(), DvaeConfig::small()),
        (BeitConfig::base_patch16_224(), DvaeConfig::dalle()),
        (BeitConfig::large_patch16_224(), DvaeConfig::dalle()),
    ] {
        assert_eq!(
            (encoder.encoder.grid(), encoder.outputs()),
            (tokenizer.grid(), tokenizer.vocab)
        );
    }
}

/// `modeling_pretrain.py`: weights normal with deviation 0.02, cut at one deviation, which leaves a
/// deviation of 0.01079; two weights of block i divided by √(2 (i + 1)); biases, bias tables 0.
#[test]
fn the_encoder_starts_like_the_original() {
    let config = BeitConfig::tiny();
    let layout = layout(&config);
    let values = initial_values(&layout, 3);
    for p in layout.iter() {
        let own = &values[p.range.clone()];
        let (name, n) = (&*p.name, own.len() as f64);
        let deviation = (own.iter().map(|x| f64::from(x * x)).sum::<f64>() / n).sqrt();
        if name.contains("gamma_") {
            assert!(own.iter().all(|&x| x == 0.1), "{name}");
        } else if name.contains("norm") && name.ends_with("weight") {
            assert!(own.iter().all(|&x| x == 1.0), "{name}");
        } else if name.ends_with("bias") || name.contains("bias_table") {
            assert!(own.iter().all(|&x| x == 0.0), "{name}");
        } else {
            let block = name.strip_prefix("blocks.").map(|s| s.split('.').next().unwrap());
            let scaled = name.ends_with("attn.proj.weight") || name.ends_with("mlp.fc2.weight");
            let scale = match block.filter(|_| scaled) {
                Some(i) => 1.0 / (2.0 * (i.parse::<f64>().unwrap() + 1.0)).sqrt(),
                None => 1.0,
            };
            let largest = own.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
            assert!(largest <= 0.02 * scale * (1.0 + 1e-6), "{name}: {largest}");
            let off = (deviation / (0.010_79 * scale) - 1.0).abs();
            // Four standard errors of a deviation estimated from n numbers.
            assert!(off < 4.0 / (2.0 * n).sqrt() + 1e-3, "{name}: deviation {deviation}");
        }
    }
    assert_ne!(values, initial_values(&layout, 4));
}

#[test]
fn decay_is_declared_as_in_the_original() {
    let config = EncoderConfig { abs_pos: true, ..EncoderConfig::test() }.with_vocab(11);
    for p in layout(&config).iter() {
        let exempt = p.shape.len() == 1 || ["cls_token", "pos_embed"].contains(&&*p.name);
        assert_eq!(p.decay == Decay::No, exempt, "{}", p.name);
    }
}

#[test]
fn every_file_of_tests_is_in_a_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (manifest, suite) = (read("Cargo.toml"), read("tests/suite.rs"));
    for entry in std::fs::read_dir(root.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let (name, end) = (path.file_stem().unwrap().to_str().unwrap(), path.extension());
        let listed = || {
            let own = manifest.contains(&format!("[[test]]\nname = \"{name}\"\n"));
            own || suite.contains(&format!("mod {name};\n"))
        };
        assert!(end.is_none_or(|e| e != "rs") || listed(), "tests/{name}.rs is in no program");
    }
}

/// Names of the types that a file declares, in macros and functions, too; associated types are not
/// among them.
#[derive(Default)]
struct Declared(Vec<String>);

impl Declared {
    fn of(file: &syn::File) -> Vec<String> {
        let mut all = Self::default();
        all.visit_file(file);
        all.0
    }

    /// A declaration is the word and a name; `struct $name` names nothing yet.
    fn in_macro(&mut self, tokens: TokenStream) {
        let mut declares = false;
        for token in tokens {
            let word =
                if let TokenTree::Ident(word) = &token { word.to_string() } else { String::new() };
            if declares && !word.is_empty() {
                self.0.push(word.clone());
            }
            declares = ["struct", "enum", "union", "trait"].contains(&&*word);
            if let TokenTree::Group(group) = token {
                self.in_macro(group.stream());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Declared {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item::{Enum, Struct, Trait, Type, Union};
        match item {
            Struct(syn::ItemStruct { ident, .. })
            | Enum(syn::ItemEnum { ident, .. })
            | Union(syn::ItemUnion { ident, .. })
            | Trait(syn::ItemTrait { ident, .. })
            | Type(syn::ItemType { ident, .. }) => self.0.push(ident.to_string()),
            _ => {}
        }
        syn::visit::visit_item(self, item);
    }

    /// `words! { Name {..} }` and the like.
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let words = item.mac.tokens.clone().into_iter().filter_map(|token| match token {
            TokenTree::Ident(word) => Some(word.to_string()),
            _ => None,
        });
        self.0.extend(words.take(1).filter(|word| word.starts_with(char::is_uppercase)));
        syn::visit::visit_item_macro(self, item);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.in_macro(mac.tokens.clone());
    }
}

/// The files of a folder and of those inside, with their types.
fn types(folder: &Path, out: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            types(&path, out);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
            for name in Declared::of(&file) {
                out.entry(name).or_default().push(path.display().to_string());
            }
        }
    }
}

#[test]
fn every_type_has_a_name_of_its_own() {
    let mut all = BTreeMap::new();
    types(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    // One of a file, one of a macro.
    assert!(all.contains_key("Encoder") && all.contains_key("PretrainRun"));
    all.retain(|_, files| files.len() > 1);
    assert!(all.is_empty(), "declared more than once: {all:#?}");
}

#[test]
fn declarations_are_found_wherever_they_are() {
    let text = "struct A; mod m { pub enum B {} fn f() { type C = u8; } } trait T { type X; }
        impl T for A { type X = u8; } m! { pub struct D { x: u8 } struct $name; }
        macro_rules! n { () => { union E {} }; } words! { /// text
            F { G = 1 } }";
    assert_eq!(Declared::of(&syn::parse_str(text).unwrap()), ["A", "B", "C", "T", "D", "E", "F"]);
}
