//! Parameters: layers hold handles, the numbers lie in one flat buffer.
//!
//! A model is built once against a [`Registry`], which hands out [`Param`]s: a name (that of the
//! original checkpoints), a shape, a range and the declared weight decay. Values, gradients, both
//! AdamW moments and the moving average are [`Params`] of one and the same layout, so that clipping,
//! the optimizer and a gradient all-reduce are one pass over one buffer, the arena.
//!
//! A parameter starts at a multiple of 32 numbers, 64 bytes in bf16: fast matrix products need aligned
//! operands. The gaps hold zeros in every buffer, and a step of the optimizer keeps them; no file has
//! them ([`compact`], [`expand`]).

use crate::real::Float;
use crate::rng::{Philox, Purpose};
use crate::storage::Storage;
use rand_distr::{Distribution, Normal};
use std::ops::Range;
use std::sync::Arc;

/// What a parameter is, as far as its shape does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing special.
    Plain,
    /// A convolution's kernels, `[out,kh,kw,in]`.
    Kernel,
    /// A transposed convolution's kernels of 2×2, `[(kh,kw,out),in]`.
    Deconv,
    /// `(q, 0, v)` `[3C]`, the bias of packed queries, keys and values. The key has none: it would add
    /// a constant to every score of a query, which softmax cancels.
    QkvBias,
    /// What batches are like: a mean, a variance, a count. It follows them and has no gradient, so that an
    /// optimizer, which is to be told [`Decay::No`], leaves it as it is.
    Statistic,
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element the same.
    Constant(f64),
    /// Normal with the given standard deviation.
    Normal(f64),
    /// Uniform between minus and plus the given bound.
    Uniform(f64),
    /// Normal with standard deviation `std`, redrawn outside `[-bound, bound]`, then multiplied by
    /// `scale`.
    TruncatedNormal {
        /// Standard deviation before truncation.
        std: f64,
        /// Largest magnitude.
        bound: f64,
        /// Factor applied last (1, or the depth rescale of arXiv 2106.08254, §2.5).
        scale: f64,
    },
}

/// Whether AdamW's weight decay applies. Declared, never inferred from rank: the mask token and the
/// relative-position tables are decayed, positions and the class token are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Decayed.
    Yes,
    /// Not decayed.
    No,
}

/// Handle of one parameter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Param {
    /// Name in the original project's checkpoints, as in `blocks.0.attn.proj.weight`.
    pub name: Arc<str>,
    /// Shape.
    pub shape: Vec<usize>,
    /// Where it lies in the flat buffers.
    pub range: Range<usize>,
    /// Whether it is decayed.
    pub decay: Decay,
    /// How it starts.
    pub init: Init,
    /// What it is.
    pub form: Form,
}

impl Param {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Panics with op, name and both shapes unless the parameter has this shape.
    #[track_caller]
    pub fn expect_shape(&self, op: &str, want: &[usize]) {
        assert!(
            self.shape == want,
            "{op}: parameter {} is {:?}, expected {want:?}",
            self.name,
            self.shape
        );
    }
}

/// The parameters of a model in the order of its flat buffers.
pub type Layout = Arc<[Param]>;

/// What the starts of parameters in the arena are multiples of, in numbers.
const ALIGNMENT: usize = 32;

/// Hands out parameters while a model is being built.
#[derive(Default)]
pub struct Registry {
    params: Vec<Param>,
    len: usize,
    start: Option<Box<StartRule>>,
}

/// How a parameter of this name starts that a layer has start otherwise.
type StartRule = dyn Fn(&str, Init) -> Init;

impl Registry {
    /// A registry without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, where `rule` says how a parameter starts, from its name and the start that its layer gives it.
    pub fn starting(rule: impl Fn(&str, Init) -> Init + 'static) -> Self {
        Self { start: Some(Box::new(rule)), ..Self::default() }
    }

    /// Adds a plain parameter.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        decay: Decay,
        init: Init,
    ) -> Param {
        self.add_as(name, shape, decay, init, Form::Plain)
    }

    /// Adds a parameter. Names must be unique.
    #[track_caller]
    pub fn add_as(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        decay: Decay,
        init: Init,
        form: Form,
    ) -> Param {
        let name: Arc<str> = name.into().into();
        assert!(self.params.iter().all(|p| p.name != name), "parameter {name} exists already");
        let start = self.len.next_multiple_of(ALIGNMENT);
        self.len = start + shape.iter().product::<usize>();
        let init = self.start.as_ref().map_or(init, |rule| rule(&name, init));
        let param =
            Param { name, shape: shape.to_vec(), range: start..self.len, decay, init, form };
        self.params.push(param.clone());
        param
    }

    /// Length of the flat buffers so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The finished layout.
    pub fn finish(self) -> Layout {
        self.params.into()
    }
}

/// Number of elements of the flat buffers of `layout`, gaps included.
pub fn arena_len(layout: &Layout) -> usize {
    layout.last().map_or(0, |p| p.range.end)
}

/// Number of elements of the parameters of `layout`, without gaps.
pub fn compact_len(layout: &Layout) -> usize {
    layout.iter().map(Param::len).sum()
}

/// The numbers of an arena without the gaps, as files hold them.
#[track_caller]
pub fn compact<T: Copy>(layout: &Layout, arena: &[T]) -> Vec<T> {
    assert_eq!(arena.len(), arena_len(layout), "params: wrong number of values");
    layout.iter().flat_map(|p| &arena[p.range.clone()]).copied().collect()
}

/// The inverse of [`compact`]: the gaps are zero.
#[track_caller]
pub fn expand<T: Copy + Default>(layout: &Layout, numbers: &[T]) -> Vec<T> {
    assert_eq!(numbers.len(), compact_len(layout), "params: wrong number of values");
    let (mut arena, mut rest) = (vec![T::default(); arena_len(layout)], numbers);
    for p in layout.iter() {
        let (own, others) = rest.split_at(p.len());
        arena[p.range.clone()].copy_from_slice(own);
        rest = others;
    }
    arena
}

/// What parameters occupy of `range` of the arena, in order.
pub fn spans(layout: &Layout, range: &Range<usize>) -> Vec<Range<usize>> {
    let own = |p: &Param| p.range.start.max(range.start)..p.range.end.min(range.end);
    layout.iter().map(own).filter(|own| !own.is_empty()).collect()
}

/// Number of trainable numbers, as the original project counts them (no key bias).
pub fn parameter_count(layout: &Layout) -> usize {
    let count = |p: &Param| if p.form == Form::QkvBias { p.len() / 3 * 2 } else { p.len() };
    layout.iter().map(count).sum()
}

/// Initial values of `layout`: parameter number i draws from the Philox stream (seed, i), so that a
/// parameter's start does not depend on those before it.
pub fn initial_values(layout: &Layout, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; arena_len(layout)];
    for (i, p) in layout.iter().enumerate() {
        let mut rng = Philox::new(seed, Purpose::Init, i as u32, 0);
        let out = &mut values[p.range.clone()];
        match p.init {
            Init::Constant(c) => out.fill(c as f32),
            Init::Normal(std) => {
                let normal = Normal::new(0.0, std).expect("finite deviation");
                out.fill_with(|| normal.sample(&mut rng) as f32);
            }
            Init::Uniform(bound) => out.fill_with(|| rng.uniform(-bound, bound) as f32),
            Init::TruncatedNormal { std, bound, scale } => {
                let normal = Normal::new(0.0, std).expect("finite deviation");
                out.fill_with(|| {
                    loop {
                        let x = normal.sample(&mut rng);
                        if x.abs() <= bound {
                            return (x * scale) as f32;
                        }
                    }
                });
            }
        }
        if p.form == Form::QkvBias {
            let c = out.len() / 3;
            out[c..2 * c].fill(0.0);
        }
    }
    values
}

/// What a forward pass needs besides its input: the backend and the weights.
pub struct Ctx<'a, B: Storage> {
    /// Where it is computed.
    pub bk: &'a B,
    /// The weights.
    pub w: &'a Params<B>,
}

impl<'a, B: Storage> Ctx<'a, B> {
    /// `w` on `bk`.
    pub fn new(bk: &'a B, w: &'a Params<B>) -> Self {
        Self { bk, w }
    }
}

impl<B: Storage> Clone for Ctx<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Storage> Copy for Ctx<'_, B> {}

/// What a backward pass needs besides caches and upstream gradients: backend, weights, and the
/// gradients that it adds to.
pub struct Grad<'a, B: Storage> {
    /// Backend and weights of the forward pass.
    pub ctx: Ctx<'a, B>,
    /// Gradients of the parameters.
    pub g: &'a mut Params<B>,
    on_ready: Option<&'a mut dyn FnMut(Range<usize>)>,
}

impl<'a, B: Storage> Grad<'a, B> {
    /// Gradients of `ctx.w` in `g`.
    pub fn new(ctx: Ctx<'a, B>, g: &'a mut Params<B>) -> Self {
        Self { ctx, g, on_ready: None }
    }

    /// Calls `f` with each range of `g` as it is finished.
    pub fn on_ready(self, f: &'a mut dyn FnMut(Range<usize>)) -> Self {
        Self { on_ready: Some(f), ..self }
    }

    /// Says that nothing of this backward pass will be added to `range` of `g` any more. Every model
    /// says so for each of its parameters once, last layers first: where the exchange of gradients
    /// between devices can begin while the rest is computed.
    pub fn ready(&mut self, range: Range<usize>) {
        if let Some(f) = &mut self.on_ready {
            f(range);
        }
    }
}

/// One flat buffer over a layout: values, gradients, moments or moving averages.
pub struct Params<B: Storage> {
    /// The parameters it is made of.
    pub layout: Layout,
    /// The numbers, in master precision.
    pub master: B::Buf<B::Master>,
    /// The copy in `Elem` that matrix products read, on a backend where `Elem` is narrower. The
    /// optimizer step refreshes it.
    pub elem: Option<B::Buf<B::Elem>>,
}

impl<B: Storage> Params<B> {
    /// All zero: gradients and moments.
    pub fn zeros(bk: &B, layout: &Layout) -> Self {
        Self { layout: layout.clone(), master: bk.zeros(arena_len(layout)), elem: None }
    }

    /// Values from the host in the layout's order, with the narrow copy where the backend has one.
    #[track_caller]
    pub fn from_host<T: Float>(bk: &B, layout: &Layout, host: &[T]) -> Self {
        assert_eq!(host.len(), arena_len(layout), "params: wrong number of values");
        let master = bk.upload(host.iter().map(|x| B::Master::from_f64(x.to_f64())).collect());
        let elem = bk.narrow_copy(&master);
        Self { layout: layout.clone(), master, elem }
    }

    /// No parameters: what stands in for some that are taken away for a while.
    pub fn empty(bk: &B) -> Self {
        Self { layout: Layout::from([]), master: bk.zeros(0), elem: None }
    }

    /// Name of the first parameter that holds something not finite, last layers first: the order in which
    /// backward writes gradients.
    pub fn first_non_finite(&self, bk: &B) -> String {
        let host = self.to_host(bk);
        let broken = |p: &&Param| host[p.range.clone()].iter().any(|x| !x.to_f64().is_finite());
        match self.layout.iter().rev().find(broken) {
            Some(p) => format!("the gradient of {}", p.name),
            None => "no single gradient (their norm overflows)".to_owned(),
        }
    }

    /// Sets every number to zero.
    pub fn clear(&mut self, bk: &B) {
        bk.clear(&mut self.master);
    }

    /// The numbers in the layout's order.
    pub fn to_host(&self, bk: &B) -> Vec<B::Master> {
        bk.download(&self.master)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_aligned_and_gaps_are_not_kept() {
        let mut reg = Registry::new();
        let add = |n: usize| reg.add(n.to_string(), &[n], Decay::Yes, Init::Constant(1.0)).range;
        let ranges = [3, 32, 0, 33, 1].map(add);
        assert_eq!(ranges, [0..3, 32..64, 64..64, 64..97, 128..129]);
        let layout = reg.finish();
        assert_eq!((arena_len(&layout), compact_len(&layout)), (129, 69));
        let numbers: Vec<u32> = (1..70).collect();
        let arena = expand(&layout, &numbers);
        assert_eq!((arena[2..4].to_vec(), arena[128], arena[127]), (vec![3, 0], 69, 0));
        assert_eq!(compact(&layout, &arena), numbers);
        assert_eq!(spans(&layout, &(1..66)), [1..3, 32..64, 64..66]);
        assert_eq!(spans(&layout, &(3..32)), []);
    }
}
