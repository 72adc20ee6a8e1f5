use super::*;
use crate::layers::position::{TableResize, resize_bias_table, resize_pos_embed};
use crate::params::{Decay, Form, Init, Registry, compact, initial_values};
use crate::weights::ORIGINAL;

const SQUARE: Regrid = Regrid { from: (3, 3), to: (5, 5), method: TableResize::Geometric };

/// An encoder in small, of width 2 with one head: tables shared or of its two blocks.
fn layout(grid: (usize, usize), shared: bool, classes: usize) -> Layout {
    let (mut reg, one) = (Registry::new(), Init::Normal(1.0));
    let rows = (2 * grid.0 - 1) * (2 * grid.1 - 1) + 3;
    let mut add = |name: &str, shape: &[usize]| reg.add(name, shape, Decay::Yes, one);
    add("pos_embed", &[1, 1 + grid.0 * grid.1, 2]);
    if shared {
        add(SHARED_TABLE, &[rows, 1]);
    }
    for i in 0..2 {
        if !shared {
            add(&format!("blocks.{i}.{OWN_TABLE}"), &[rows, 1]);
        }
    }
    add("head.weight", &[classes, 2]);
    reg.add_as("blocks.0.attn.qkv_bias", &[6], Decay::No, one, Form::QkvBias);
    reg.finish()
}

/// A file of such a model.
fn file(layout: &Layout) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let tensors = ORIGINAL.export(layout, &initial_values(layout, 1));
    tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect()
}

fn shapes(file: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Shapes {
    file.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
}

/// The plan to load a model `from` into a model `to`, and the values with initial values 7.
fn load(from: &Layout, to: &Layout, allow: &Allow) -> Result<(LoadPlan, Vec<f32>), String> {
    let file = file(from);
    let plan = LoadPlan::new(&ORIGINAL, to, &shapes(&file), allow)?;
    let initial = vec![7.0; arena_len(to)];
    let values = plan.apply(initial, |name| Ok(file[name].1.clone()));
    Ok((plan, values.map_err(|e| e.to_string())?))
}

fn own<'a>(layout: &Layout, values: &'a [f32], name: &str) -> &'a [f32] {
    let param = layout.iter().find(|p| &*p.name == name).unwrap();
    &values[param.range.clone()]
}

fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn a_twin_matches_and_what_it_lacks_is_ignored() {
    let (from, to) = (layout((2, 3), true, 3), layout((2, 3), true, 3));
    let (plan, values) = load(&from, &to, &Allow::default()).unwrap();
    // Where the file has nothing, the key's bias, the initial values stay.
    let mut want = initial_values(&from, 1);
    let bias = to.last().unwrap().range.clone();
    want[bias.start + 2..bias.start + 4].fill(7.0);
    assert_eq!(compact(&to, &values), compact(&to, &want));
    assert!(plan.tensors.iter().all(|t| t.fate == Fate::Matched));
    let small = to[..1].to_vec().into();
    let plan = load(&from, &small, &Allow::default()).unwrap().0;
    let text = "matched 1: pos_embed\nexpanded 0\nresized 0\nnew 0\nignored 4: \
                blocks.0.attn.q_bias (not in the model), blocks.0.attn.v_bias (not in the model), \
                head.weight (not in the model), \
                rel_pos_bias.relative_position_bias_table (not in the model)\n";
    assert_eq!(plan.to_string(), text);
}

#[test]
fn nothing_else_happens_unless_allowed() {
    let from = layout((3, 3), true, 3);
    let refused = |to: &Layout| load(&from, to, &Allow::default()).unwrap_err();
    let missing = "tensor blocks.0.attn.relative_position_bias_table is missing";
    assert_eq!(refused(&layout((3, 3), false, 3)), missing);
    let shape = "tensor pos_embed has shape [1, 10, 2], the model has [1, 26, 2]";
    assert_eq!(refused(&layout((5, 5), true, 3)), shape);
    let head = "tensor head.weight has shape [3, 2], the model has [4, 2]";
    assert_eq!(refused(&layout((3, 3), true, 4)), head);
}

#[test]
fn a_shared_table_fills_those_of_the_blocks() {
    let (from, to) = (layout((3, 3), true, 3), layout((3, 3), false, 3));
    let (plan, values) = load(&from, &to, &Allow { expand: true, ..Allow::default() }).unwrap();
    let table = &file(&from)[SHARED_TABLE].1;
    for i in 0..2 {
        assert_eq!(own(&to, &values, &format!("blocks.{i}.{OWN_TABLE}")), table);
    }
    let line = format!(
        "expanded 2: blocks.0.{OWN_TABLE} ({SHARED_TABLE}), blocks.1.{OWN_TABLE} ({SHARED_TABLE})"
    );
    let text = plan.to_string();
    assert!(text.contains(&line) && text.ends_with("resized 0\nnew 0\nignored 0\n"), "{text}");
}

#[test]
fn positions_are_resized_to_the_grid_of_the_model() {
    let (from, to) = (layout((3, 3), true, 3), layout((5, 5), true, 3));
    let allow = Allow { resize: Some(SQUARE), ..Allow::default() };
    let (plan, values) = load(&from, &to, &allow).unwrap();
    let file = file(&from);
    let table = exact(&file[SHARED_TABLE].1);
    let table = resize_bias_table(&table, 1, (3, 3), (5, 5), TableResize::Geometric).unwrap();
    let positions = resize_pos_embed(&exact(&file["pos_embed"].1), 2, (3, 3), (5, 5));
    let single = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<_>>();
    assert_eq!(own(&to, &values, SHARED_TABLE), single(table));
    assert_eq!(own(&to, &values, "pos_embed"), single(positions));
    let line =
        format!("resized 2: pos_embed (grid 3x3 to 5x5), {SHARED_TABLE} (grid 3x3 to 5x5)\nnew 0");
    assert!(plan.to_string().contains(&line), "{plan}");
}

#[test]
fn a_table_is_expanded_and_resized_at_once() {
    let (from, to) = (layout((3, 3), true, 3), layout((5, 5), false, 3));
    let allow = Allow { expand: true, resize: Some(SQUARE), ..Allow::default() };
    let (plan, values) = load(&from, &to, &allow).unwrap();
    let table = exact(&file(&from)[SHARED_TABLE].1);
    let table = resize_bias_table(&table, 1, (3, 3), (5, 5), TableResize::Geometric).unwrap();
    let got = own(&to, &values, &format!("blocks.1.{OWN_TABLE}"));
    assert!(got.iter().zip(&table).all(|(&x, &y)| x == y as f32));
    let line = format!("blocks.1.{OWN_TABLE} ({SHARED_TABLE}, grid 3x3 to 5x5)\nresized 1: pos");
    assert!(plan.to_string().contains(&line), "{plan}");
}

/// Grids 2x3 and 3x2 have tables of one shape, and yet every row means something else.
#[test]
fn a_turned_grid_is_resized_though_the_shapes_agree() {
    let (from, to) = (layout((2, 3), true, 3), layout((3, 2), true, 3));
    let grids = Regrid { from: (2, 3), to: (3, 2), method: TableResize::Bilinear };
    let plan = load(&from, &to, &Allow { resize: Some(grids), ..Allow::default() }).unwrap().0;
    let fate = |name: &str| plan.tensors.iter().find(|t| t.name == name).unwrap().fate.clone();
    assert_eq!(fate("pos_embed"), Fate::Resized(grids));
    assert_eq!(fate(SHARED_TABLE), Fate::Resized(grids));
    let grids = Regrid { method: TableResize::Geometric, ..grids };
    let text = load(&from, &to, &Allow { resize: Some(grids), ..Allow::default() }).unwrap_err();
    assert!(text.starts_with(&format!("tensor {SHARED_TABLE}: a bias table cannot")), "{text}");
    let grids = Regrid { from: (4, 4), ..SQUARE };
    let text = load(&from, &to, &Allow { resize: Some(grids), ..Allow::default() }).unwrap_err();
    let want = "tensor pos_embed has shape [1, 7, 2], grid 4x4 to 5x5 needs [1, 17, 2]";
    assert_eq!(text, want);
}

#[test]
fn a_head_of_another_task_keeps_its_initial_values() {
    let (from, to) = (layout((2, 3), true, 3), layout((2, 3), true, 4));
    let allow = Allow { new: &["head."], ..Allow::default() };
    let (plan, values) = load(&from, &to, &allow).unwrap();
    assert_eq!(own(&to, &values, "head.weight"), [7.0; 8]);
    let text = "new 1: head.weight ([3, 2] in the file, [4, 2] here)\n\
                ignored 1: head.weight (another shape here)\n";
    assert!(plan.to_string().ends_with(text), "{plan}");
    let without = from[..2].to_vec().into();
    let plan = load(&without, &to, &Allow { new: &["head.", "blocks."], ..allow }).unwrap().0;
    let text = "new 3: head.weight (not in the file), blocks.0.attn.q_bias (not in the file), \
                blocks.0.attn.v_bias (not in the file)\nignored 0\n";
    assert!(plan.to_string().ends_with(text), "{plan}");
}

/// An encoder for fine-tuning: its head starts anew though the shape fits, the pretraining's own parts are left by
/// name, and nothing else may be left.
#[test]
fn what_starts_anew_and_what_is_left_is_named() {
    let (from, to) = (layout((3, 3), false, 3), layout((3, 3), false, 3));
    let fresh =
        Allow { fresh: &[("head.", "other classes")], spare: Some(&[]), ..Allow::default() };
    let (plan, values) = load(&from, &to, &fresh).unwrap();
    assert_eq!(own(&to, &values, "head.weight"), [7.0; 6]);
    let fate = |name: &str| {
        let fates = plan.tensors.iter().filter(|t| t.name == name);
        fates.map(|t| t.fate.clone()).collect::<Vec<_>>()
    };
    let head = [Fate::New("other classes".into()), Fate::Ignored("new here".into())];
    assert_eq!(fate("head.weight"), head);
    let small: Layout = to[..3].to_vec().into();
    let spare = |names| Allow { spare: Some(names), ..Allow::default() };
    let text = load(&from, &small, &spare(&[("head.", "a head")])).unwrap_err();
    assert_eq!(text, "tensor blocks.0.attn.q_bias is not in the model");
    let all = [("head.", "a head"), ("blocks.0.attn.", "a bias")];
    let (plan, _) = load(&from, &small, &spare(&all)).unwrap();
    assert!(plan.to_string().contains("head.weight (a head)"), "{plan}");
}
