//! What the files of a project call the parameters, and how they lay them out, as data.
//!
//! A [`Param`] says what it is; a [`Naming`] says, for each form and name, which tensors of a file
//! hold it. Another project's files are another value of [`Naming`], not other code.

use crate::params::{Form, Layout, Param};
use ndarray::{ArrayViewD, ArrayViewMutD, Axis, Slice};
use std::ops::Range;

/// How a project's files hold parameters. The first rule that fits a parameter holds.
pub struct Naming {
    /// The rules.
    pub rules: &'static [Rule],
}

/// Which tensors of a file hold the parameters of one form and one pattern of names.
pub struct Rule {
    /// The parameters' form.
    pub form: Form,
    /// Their names here; each `*` stands for any text.
    pub own: &'static str,
    /// The tensors of the file and what each has of the first axis. Every `*` of a name is the text
    /// of the same `*` of `own`.
    pub parts: &'static [(&'static str, Rows)],
    /// The axis here of each axis there, those of [`Form::Deconv`] being kh, kw, out and in; empty where
    /// they are the same.
    pub axes: &'static [usize],
}

/// Part of a parameter's first axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All of it.
    All,
    /// One of its three thirds, counted from 0: q, k, v.
    Third(usize),
}

/// The original project's checkpoints and those of DALL-E's dVAE: the names are ours.
pub const ORIGINAL: Naming = Naming {
    rules: &[
        Rule {
            form: Form::Kernel,
            own: "*",
            parts: &[("*", Rows::All)],
            axes: &[0, 3, 1, 2], // [out,in,kh,kw]
        },
        Rule {
            form: Form::Deconv,
            own: "*",
            parts: &[("*", Rows::All)],
            axes: &[3, 2, 0, 1], // [in,out,kh,kw]
        },
        Rule {
            form: Form::QkvBias,
            own: "*qkv_bias",
            parts: &[("*q_bias", Rows::Third(0)), ("*v_bias", Rows::Third(2))],
            axes: &[],
        },
        Rule { form: Form::Plain, own: "*", parts: &[("*", Rows::All)], axes: &[] },
        Rule { form: Form::Statistic, own: "*", parts: &[("*", Rows::All)], axes: &[] },
    ],
};

/// One tensor of a file and its place within a parameter.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name in the file.
    pub name: String,
    /// Shape in the file.
    pub shape: Vec<usize>,
    own: Vec<usize>,
    rows: Range<usize>,
    axes: Vec<usize>,
}

/// One tensor as a file holds it: name, shape, values.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

impl Naming {
    /// The tensors of a file that hold `param`.
    #[track_caller]
    pub fn entries(&self, param: &Param) -> Vec<Entry> {
        let (rule, texts) = self.rule(param.form, &param.name);
        let own = unpacked(param);
        let extent = own[0];
        let axes = match rule.axes {
            [] => (0..own.len()).collect(),
            axes => axes.to_vec(),
        };
        assert_eq!(axes.len(), own.len(), "{}: shape {:?}", param.name, param.shape);
        let entry = |(name, rows): &(&str, Rows)| {
            let rows = match rows {
                Rows::All => 0..extent,
                Rows::Third(i) => i * extent / 3..(i + 1) * extent / 3,
            };
            let mut there = own.clone();
            there[0] = rows.len();
            Entry {
                name: filled(name, &texts),
                shape: axes.iter().map(|&a| there[a]).collect(),
                own: own.clone(),
                rows,
                axes: axes.clone(),
            }
        };
        rule.parts.iter().map(entry).collect()
    }

    /// The file's name of the plain, undivided parameter `name`.
    #[track_caller]
    pub(super) fn name(&self, name: &str) -> String {
        let (rule, texts) = self.rule(Form::Plain, name);
        filled(rule.parts[0].0, &texts)
    }

    /// The tensors of a file that holds `values`, in the order of `layout`.
    pub fn export(&self, layout: &Layout, values: &[f32]) -> Vec<NamedTensor> {
        let mut tensors = Vec::new();
        for p in layout.iter() {
            for entry in self.entries(p) {
                let own = entry.gather(&values[p.range.clone()]);
                tensors.push((entry.name, entry.shape, own));
            }
        }
        tensors
    }

    #[track_caller]
    fn rule<'a>(&self, form: Form, name: &'a str) -> (&'static Rule, Vec<&'a str>) {
        let fits = |rule: &'static Rule| Some((rule, texts(rule.own, name)?));
        let found = self.rules.iter().filter(|rule| rule.form == form).find_map(fits);
        found.unwrap_or_else(|| panic!("no rule for parameter {name} of form {form:?}"))
    }
}

impl Entry {
    /// The file's tensor, from the parameter's elements.
    pub fn gather<T: Copy>(&self, own: &[T]) -> Vec<T> {
        let own = ArrayViewD::from_shape(&*self.own, own).expect("a parameter has its shape");
        let rows = own.slice_axis(Axis(0), Slice::from(self.rows.clone()));
        rows.permuted_axes(&*self.axes).iter().copied().collect()
    }

    /// The inverse of [`Entry::gather`]: sets the elements that `tensor` holds.
    pub fn scatter<T: Copy>(&self, tensor: &[T], own: &mut [T]) {
        let tensor = ArrayViewD::from_shape(&*self.shape, tensor).expect("a tensor has its shape");
        let own = ArrayViewMutD::from_shape(&*self.own, own).expect("a parameter has its shape");
        let (rows, mut own) = (Slice::from(self.rows.clone()), own);
        own.slice_axis_mut(Axis(0), rows)
            .permuted_axes(&*self.axes)
            .zip_mut_with(&tensor, |to, &from| *to = from);
    }
}

/// The shape of a parameter with an axis for each of the file's.
fn unpacked(param: &Param) -> Vec<usize> {
    match (param.form, &*param.shape) {
        (Form::Deconv, &[rows, input]) => vec![2, 2, rows / 4, input],
        (_, shape) => shape.to_vec(),
    }
}

/// What each `*` of `pattern` stands for in `name`, where it fits; as short as possible.
pub(super) fn texts<'a>(pattern: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let Some((first, pattern)) = pattern.split_once('*') else {
        return (pattern == name).then(Vec::new);
    };
    let (mut rest, mut found) = (name.strip_prefix(first)?, Vec::new());
    let mut pieces: Vec<&str> = pattern.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let (text, after) = rest.split_once(piece)?;
        found.push(text);
        rest = after;
    }
    found.push(rest.strip_suffix(last)?);
    Some(found)
}

/// `name` with its stars replaced by `texts`, in order.
pub(super) fn filled(name: &str, texts: &[&str]) -> String {
    texts.iter().fold(name.to_owned(), |name, text| name.replacen('*', text, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Decay, Init, Registry, initial_values};

    fn layout() -> Layout {
        let (mut reg, one) = (Registry::new(), Init::Normal(1.0));
        reg.add("blocks.11.norm1.weight", &[2, 3], Decay::Yes, one);
        reg.add_as("patch_embed.proj.weight", &[2, 1, 3, 5], Decay::Yes, one, Form::Kernel);
        reg.add_as("blocks.11.attn.qkv_bias", &[6], Decay::No, one, Form::QkvBias);
        reg.add("blocks.11.attn.qkv.weight", &[6, 2], Decay::Yes, one);
        reg.add_as("fpn1.0.weight", &[12, 5], Decay::Yes, one, Form::Deconv);
        reg.finish()
    }

    fn names_and_shapes(naming: &Naming) -> Vec<(String, Vec<usize>)> {
        let entries = layout().iter().flat_map(|p| naming.entries(p)).collect::<Vec<_>>();
        entries.into_iter().map(|e| (e.name, e.shape)).collect()
    }

    fn owned(expected: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        expected.iter().map(|(n, s)| (n.to_string(), s.to_vec())).collect()
    }

    #[test]
    fn export_permutes_and_scatter_inverts() {
        let layout = layout();
        let values = initial_values(&layout, 3);
        let file = ORIGINAL.export(&layout, &values);
        assert_eq!(
            names_and_shapes(&ORIGINAL),
            owned(&[
                ("blocks.11.norm1.weight", &[2, 3]),
                ("patch_embed.proj.weight", &[2, 5, 1, 3]),
                ("blocks.11.attn.q_bias", &[2]),
                ("blocks.11.attn.v_bias", &[2]),
                ("blocks.11.attn.qkv.weight", &[6, 2]),
                ("fpn1.0.weight", &[5, 3, 2, 2]),
            ])
        );
        // Element (out 1, in 4, row 0, column 2) of the file is (1, 0, 2, 4) here.
        assert_eq!(file[1].2[15 + 4 * 3 + 2], values[layout[1].range.start + 15 + 2 * 5 + 4]);
        // Element (in 4, out 2, row 1, column 0) is row (1, 0, 2) and column 4 here.
        let (row, own) = ((2 * 3) + 2, &values[layout[4].range.clone()]);
        assert_eq!(file[5].2[(4 * 3 + 2) * 4 + 2], own[row * 5 + 4]);
        let mut back = vec![0.0; values.len()];
        let mut tensors = file.iter();
        for p in layout.iter() {
            for entry in ORIGINAL.entries(p) {
                let (_, _, tensor) = tensors.next().unwrap();
                entry.scatter(tensor, &mut back[p.range.clone()]);
            }
        }
        assert_eq!(back, values);
    }

    /// Part of the names of the Hugging Face port: q, k and v apart, several stars.
    const APART: Naming = Naming {
        rules: &[
            Rule {
                form: Form::Kernel,
                own: "patch_embed.proj.*",
                parts: &[("beit.embeddings.patch_embeddings.projection.*", Rows::All)],
                axes: &[0, 3, 1, 2],
            },
            Rule {
                form: Form::QkvBias,
                own: "blocks.*.attn.qkv_bias",
                parts: &[
                    ("beit.encoder.layer.*.attention.attention.query.bias", Rows::Third(0)),
                    ("beit.encoder.layer.*.attention.attention.value.bias", Rows::Third(2)),
                ],
                axes: &[],
            },
            Rule {
                form: Form::Plain,
                own: "blocks.*.attn.qkv.weight",
                parts: &[
                    ("beit.encoder.layer.*.attention.attention.query.weight", Rows::Third(0)),
                    ("beit.encoder.layer.*.attention.attention.key.weight", Rows::Third(1)),
                    ("beit.encoder.layer.*.attention.attention.value.weight", Rows::Third(2)),
                ],
                axes: &[],
            },
            Rule {
                form: Form::Deconv,
                own: "fpn1.*.weight",
                parts: &[("beit.fpn1.*.weight", Rows::All)],
                axes: &[3, 2, 0, 1],
            },
            Rule {
                form: Form::Plain,
                own: "blocks.*.norm1.*",
                parts: &[("beit.encoder.layer.*.layernorm_before.*", Rows::All)],
                axes: &[],
            },
        ],
    };

    #[test]
    fn another_project_is_another_value() {
        let layer = |part: &str| format!("beit.encoder.layer.11.{part}");
        let names = [
            layer("layernorm_before.weight"),
            "beit.embeddings.patch_embeddings.projection.weight".to_owned(),
            layer("attention.attention.query.bias"),
            layer("attention.attention.value.bias"),
            layer("attention.attention.query.weight"),
            layer("attention.attention.key.weight"),
            layer("attention.attention.value.weight"),
            "beit.fpn1.0.weight".to_owned(),
        ];
        let square = &[2, 2][..];
        let shapes =
            [&[2, 3][..], &[2, 5, 1, 3], &[2], &[2], square, square, square, &[5, 3, 2, 2]];
        let expected: Vec<(&str, &[usize])> =
            names.iter().map(String::as_str).zip(shapes).collect();
        assert_eq!(names_and_shapes(&APART), owned(&expected));
        let layout = layout();
        let values = initial_values(&layout, 3);
        let key = &APART.export(&layout, &values)[5].2;
        assert_eq!(key[..], values[layout[3].range.clone()][4..8]);
    }

    #[test]
    fn patterns_stand_for_whole_names() {
        assert_eq!(texts("a.*", "a.b.c"), Some(vec!["b.c"]));
        assert_eq!(texts("*.b.*", "a.b.c.b.d"), Some(vec!["a", "c.b.d"]));
        assert_eq!(texts("norm", "norm.weight"), None);
        assert_eq!(texts("*qkv_bias", "attn.q_bias"), None);
        assert_eq!(texts("a*a", "a"), None);
    }
}
