//! Coverage gate: no op without a backward, a sweep over shapes, a case without elements, a case in which
//! a gradient is added to an earlier one, batches, both kinds of grids, and sizes beyond every constant of its
//! code by one and by several ([`constants`]). What the ops are is read from the source, so that one that
//! is added without its cases fails here.

mod constants;

use beit::ops::case::{Inputs, Kind, Threshold};
use beit::selfcheck::{AnyCase, cases, empty_cases};
use std::collections::BTreeSet;
use std::path::Path;

/// An op as its source declares it.
struct Op {
    name: String,
    /// Methods of its trait, and whether each takes `&mut Params`, to whose gradients it adds.
    methods: Vec<(String, bool)>,
}

impl Op {
    /// Reads the traits whose name ends in `Op`.
    fn parse(name: &str, source: &str) -> Self {
        let file = syn::parse_file(source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let traits = file.items.into_iter().filter_map(|item| match item {
            syn::Item::Trait(t) if t.ident.to_string().ends_with("Op") => Some(t.items),
            _ => None,
        });
        let method = |item| match item {
            syn::TraitItem::Fn(f) => {
                let adds = f.sig.inputs.iter().any(changes_params);
                Some((f.sig.ident.to_string(), adds))
            }
            _ => None,
        };
        Self { name: name.into(), methods: traits.flatten().filter_map(method).collect() }
    }

    fn has_backward(&self) -> bool {
        self.methods.iter().any(|(m, _)| m.ends_with("_backward"))
    }
}

/// Whether an argument is `&mut Params<..>`.
fn changes_params(argument: &syn::FnArg) -> bool {
    let syn::FnArg::Typed(argument) = argument else { return false };
    let syn::Type::Reference(reference) = &*argument.ty else { return false };
    let syn::Type::Path(path) = &*reference.elem else { return false };
    let named = path.path.segments.last().is_some_and(|s| s.ident == "Params");
    named && reference.mutability.is_some()
}

/// A case by its name, and its inputs.
type Named = (String, Inputs);

fn named(cases: &[AnyCase]) -> Vec<Named> {
    cases.iter().map(|case| (case.name.clone(), case.inputs())).collect()
}

/// What sizes are missing of an op whose cases have these inputs: a batch of 4 where an input has three axes
/// or more, and where it has four a grid of either kind.
fn too_small(name: &str, own: &[&Inputs]) -> Vec<String> {
    let shapes: Vec<&[usize]> =
        own.iter().flat_map(|i| &i.tensors).map(|t| &*t.shape).filter(|s| s.len() > 2).collect();
    let mut missing = Vec::new();
    if !shapes.is_empty() && shapes.iter().all(|s| s[0] < 4) {
        missing.push(format!("{name}: no case has a batch of 4"));
    }
    let grids: Vec<&&[usize]> = shapes.iter().filter(|s| s.len() == 4).collect();
    for (kind, has) in [
        ("higher than wide", grids.iter().any(|s| s[1] > s[2])),
        ("wider than high", grids.iter().any(|s| s[1] < s[2])),
    ] {
        if !grids.is_empty() && !has {
            missing.push(format!("{name}: no case is {kind}"));
        }
    }
    missing
}

/// Constants that no case of an op lies beyond by one, or by several: more than three pieces and a rest.
fn uncrossed(name: &str, own: &[&[Threshold]]) -> Vec<String> {
    let names: BTreeSet<&str> = own.iter().flat_map(|t| t.iter()).map(|t| t.name).collect();
    let mut missing = Vec::new();
    for constant in names {
        let here = own.iter().flat_map(|t| t.iter()).filter(|t| t.name == constant);
        let (mut by_one, mut by_several) = (false, false);
        for t in here {
            by_one |= t.size == t.limit + 1;
            by_several |= t.size > 3 * t.limit && !t.size.is_multiple_of(t.limit);
        }
        for (what, crossed) in [("one", by_one), ("several", by_several)] {
            if !crossed {
                missing.push(format!("{name}: no case is beyond {constant} by {what}"));
            }
        }
    }
    missing
}

/// What is missing.
fn complaints(ops: &[Op], cases: &[Named], empty: &[Named]) -> Vec<String> {
    let mut missing = Vec::new();
    for op in ops {
        let name = &op.name;
        let own = |all: &&Named| all.0.split('/').next() == Some(name);
        let own_cases: Vec<&Inputs> = cases.iter().filter(own).map(|(_, inputs)| inputs).collect();
        for (forward, _) in op.methods.iter().filter(|(m, _)| m.ends_with("_forward")) {
            let backward = |(m, _): &&(String, bool)| {
                m.strip_suffix("_backward").is_some_and(|stem| forward.starts_with(stem))
            };
            if !op.methods.iter().any(|m| backward(&m)) {
                missing.push(format!("{name}: {forward} has no backward"));
            }
        }
        let shapes: BTreeSet<Vec<Vec<usize>>> = (own_cases.iter())
            .map(|i| {
                let parameters = i.layout.iter().map(|p| p.shape.to_vec());
                i.tensors.iter().map(|t| t.shape.clone()).chain(parameters).collect()
            })
            .collect();
        if shapes.len() < 3 {
            missing.push(format!("{name}: {} shapes are checked, at least 3 should", shapes.len()));
        }
        if op.has_backward() && own_cases.iter().all(|i| i.forward_only || i.differentiable() == 0)
        {
            missing.push(format!("{name}: no case runs its backward"));
        }
        let adds = op.methods.iter().any(|(m, adds)| m.ends_with("_backward") && *adds);
        if adds && own_cases.iter().all(|i| i.layout.iter().count() == 0) {
            missing.push(format!("{name}: no case has a parameter whose gradient is added to"));
        }
        missing.extend(too_small(name, &own_cases));
        if !empty.iter().any(|case| own(&case)) {
            missing.push(format!("{name}: no case without elements"));
        }
    }
    missing
}

/// The ops of the crate, one file each.
fn ops() -> Vec<Op> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let files = files.filter(|f| f.extension().is_some_and(|e| e == "rs"));
    let op = |f: std::path::PathBuf| {
        let name = f.file_stem().unwrap().to_str().unwrap().to_string();
        Op::parse(&name, &std::fs::read_to_string(&f).unwrap())
    };
    files.map(op).filter(|op| !["mod", "case"].contains(&op.name.as_str())).collect()
}

#[test]
fn every_file_is_in_the_table() {
    let files: BTreeSet<String> = ops().into_iter().map(|op| op.name).collect();
    let table: BTreeSet<String> = beit::ops::NAMES.iter().map(|name| name.to_string()).collect();
    assert_eq!(files, table);
}

#[test]
fn every_op_has_what_it_takes() {
    let (cases, empty) = (named(&cases()), named(&empty_cases()));
    let missing = complaints(&ops(), &cases, &empty);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let names: BTreeSet<&String> = cases.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
}

/// The constants of the code of `op`, in its own file and that of its CPU side.
fn constants_of(op: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
    let files = [folder.join(format!("{op}.rs")), folder.join(op).join("cpu.rs")];
    let texts = files.iter().filter_map(|f| std::fs::read_to_string(f).ok());
    texts.flat_map(|text| constants::of(op, &text)).collect()
}

#[test]
fn every_constant_is_crossed() {
    let cases = cases();
    let mut missing = Vec::new();
    for op in ops() {
        let own = cases.iter().filter(|case| case.name.split('/').next() == Some(&op.name));
        let own: Vec<&[Threshold]> = own.map(|case| &*case.thresholds).collect();
        let shown = |name: &String| own.iter().all(|t| t.iter().any(|t| t.name == name));
        for hidden in constants_of(&op.name).iter().filter(|name| !shown(name)) {
            missing.push(format!("{}: {hidden} is not among the thresholds of its cases", op.name));
        }
        missing.extend(uncrossed(&op.name, &own));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn what_is_not_crossed_is_named() {
    let at = |size| vec![Threshold::new("PIECE", 8, size)];
    let find = |sizes: &[usize]| {
        let own: Vec<Vec<Threshold>> = sizes.iter().map(|size| at(*size)).collect();
        uncrossed("swish", &own.iter().map(|t| &**t).collect::<Vec<_>>()).join("; ")
    };
    assert_eq!(find(&[1, 9, 25]), "");
    assert_eq!(find(&[8, 10, 25]), "swish: no case is beyond PIECE by one");
    // Three pieces, or no rest.
    assert_eq!(find(&[9, 24, 32]), "swish: no case is beyond PIECE by several");
    let inputs = |shape: &[usize]| {
        Inputs::new("swish").push("x", shape, vec![0.0; shape.iter().product()], Kind::Elem, true)
    };
    let sizes = |shapes: &[&[usize]]| {
        let own: Vec<Inputs> = shapes.iter().map(|shape| inputs(shape)).collect();
        too_small("swish", &own.iter().collect::<Vec<_>>()).join("; ")
    };
    assert_eq!(sizes(&[&[3, 2]]), "");
    assert_eq!(sizes(&[&[3, 2, 2]]), "swish: no case has a batch of 4");
    assert_eq!(sizes(&[&[4, 1, 2, 1], &[1, 3, 3, 1]]), "swish: no case is higher than wide");
    assert_eq!(sizes(&[&[4, 2, 1, 1], &[1, 1, 2, 1]]), "");
}

/// An op that is added without anything, and then without one thing at a time.
#[test]
fn a_planted_op_is_noticed() {
    let planted = Op::parse(
        "swish",
        "pub trait SwishOp: Storage {
            fn swish_forward(&self, x: &Tensor<Self>) -> Tensor<Self>;
            fn swish_backward(&self, x: &Tensor<Self>, g: &mut Params<Self>) -> Tensor<Self>;
        }",
    );
    let own = |rows: usize, parameter: bool| {
        let inputs = Inputs::new("swish").elem("x", &[rows, 2]);
        ("swish/case".to_string(), if parameter { inputs.param("beta", &[1]) } else { inputs })
    };
    let sweep = || vec![own(1, true), own(2, false), own(5, false)];
    let empty = || vec![own(0, true)];
    let find = |op: &Op, cases: &[Named], empty: &[Named]| {
        complaints(std::slice::from_ref(op), cases, empty).join("; ")
    };
    assert_eq!(find(&planted, &sweep(), &empty()), "");
    let all = find(&planted, &[], &[]);
    for part in ["0 shapes", "no case runs its backward", "added to", "without elements"] {
        assert!(all.contains(part), "`{part}` is not in: {all}");
    }
    assert_eq!(find(&planted, &sweep(), &[]), "swish: no case without elements");
    assert!(find(&planted, &sweep()[..2], &empty()).contains("2 shapes"));
    let plain = vec![own(1, false), own(2, false), own(3, false)];
    assert!(find(&planted, &plain, &empty()).contains("no case has a parameter"));
    let forward_only: Vec<Named> =
        sweep().into_iter().map(|(name, inputs)| (name, inputs.without_backward())).collect();
    assert!(find(&planted, &forward_only, &empty()).contains("no case runs its backward"));
    let half = Op::parse("swish", "pub trait SwishOp { fn swish_forward(&self); }");
    assert_eq!(find(&half, &sweep(), &empty()), "swish: swish_forward has no backward");
}

#[test]
fn ops_without_elements_give_nothing_or_refuse() {
    let faults: Vec<String> = (empty_cases().iter())
        .flat_map(|case| {
            [&case.cpu_f64, &case.cpu_f32, &case.cpu_bf16].map(|run| case.empty(&**run))
        })
        .filter_map(Result::err)
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
