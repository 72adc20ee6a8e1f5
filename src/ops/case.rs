//! A case: one op, layer or model at one size, with everything that checking and timing it needs.
//!
//! A case makes inputs on the host, runs forward and backward on any backend through an [`Io`], and
//! states its cost. Gradient check, parity test and benchmark exist for it without further code.

use crate::cpu;
use crate::ops::Backend;
use crate::params::{Ctx, Form, Grad, Layout, Param, Params, Registry, compact_len, expand};
use crate::real::{Float, Real};
use crate::rng::{Philox, Purpose};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;
use std::time::Instant;

/// Which of a backend's types an input has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Tensor<B>`.
    Elem,
    /// `Master<B>`.
    Master,
    /// `Ids<B>`.
    Ids,
}

/// One input on the host.
#[derive(Clone, Debug)]
pub struct Input {
    /// Name, as `io` is asked for it.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f64>,
    /// Which type it becomes.
    pub kind: Kind,
    /// Whether a gradient with respect to it is returned and checked.
    pub differentiable: bool,
}

/// Inputs and parameters of a case on the host.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Tensors and ids.
    pub tensors: Vec<Input>,
    /// Parameters; empty for an op without any.
    pub layout: Layout,
    /// Values of all parameters.
    pub values: Vec<f64>,
    /// Whether the case has no backward pass: an optimizer update, an argmax.
    pub forward_only: bool,
    /// Part of the text with which the op refuses these inputs; `None` where it takes them.
    pub refusal: Option<&'static str>,
    rng: Philox,
}

impl Inputs {
    /// Random inputs, seeded by the case's name.
    pub fn new(case: &str) -> Self {
        let seed = case.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let rng = Philox::new(seed, Purpose::Check, 0, 0);
        Self {
            tensors: Vec::new(),
            layout: Registry::new().finish(),
            values: Vec::new(),
            forward_only: false,
            refusal: None,
            rng,
        }
    }

    /// The generator, for inputs that are not plain normal numbers.
    pub fn rng(&mut self) -> &mut Philox {
        &mut self.rng
    }

    /// `n` standard normal numbers.
    pub fn normal(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| StandardNormal.sample(&mut self.rng)).collect()
    }

    /// Adds an input with given values.
    pub fn push(
        mut self,
        name: &str,
        shape: &[usize],
        values: Vec<f64>,
        kind: Kind,
        differentiable: bool,
    ) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: wrong length");
        self.tensors.push(Input {
            name: name.into(),
            shape: shape.to_vec(),
            values,
            kind,
            differentiable,
        });
        self
    }

    /// Number of inputs and parameters that have a gradient.
    pub fn differentiable(&self) -> usize {
        self.tensors.iter().filter(|t| t.differentiable).count() + self.learnt().count()
    }

    /// The parameters that have a gradient.
    pub fn learnt(&self) -> impl Iterator<Item = &Param> {
        self.layout.iter().filter(|p| p.form != Form::Statistic)
    }

    /// Adds a differentiable `Tensor<B>` of standard normal numbers.
    pub fn elem(mut self, name: &str, shape: &[usize]) -> Self {
        let values = self.normal(shape.iter().product());
        self.push(name, shape, values, Kind::Elem, true)
    }

    /// Adds a differentiable `Master<B>` of standard normal numbers.
    pub fn master(mut self, name: &str, shape: &[usize]) -> Self {
        let values = self.normal(shape.iter().product());
        self.push(name, shape, values, Kind::Master, true)
    }

    /// Adds ids; they have no gradient.
    pub fn ids(self, name: &str, shape: &[usize], values: Vec<u32>) -> Self {
        let values = values.into_iter().map(f64::from).collect();
        self.push(name, shape, values, Kind::Ids, false)
    }

    /// Declares that there is no backward pass, so that the gradient check does not miss one.
    pub fn without_backward(mut self) -> Self {
        self.forward_only = true;
        self
    }

    /// Declares that the op refuses these inputs, with a text that contains this.
    pub fn refused(mut self, text: &'static str) -> Self {
        self.refusal = Some(text);
        self
    }

    /// Adds the parameters of a layer or model, all standard normal times `scale`, so that no
    /// gradient is hidden behind a zero or a one. Statistics are all above 0.5, as variances are above 0.
    pub fn params(mut self, layout: &Layout, scale: f64) -> Self {
        let own = self.normal(compact_len(layout)).into_iter().map(|x| x * scale);
        self.values = expand(layout, &own.collect::<Vec<_>>());
        for p in layout.iter() {
            let own = &mut self.values[p.range.clone()];
            match p.form {
                Form::QkvBias => own[p.len() / 3..2 * p.len() / 3].fill(0.0),
                Form::Statistic => own.iter_mut().for_each(|x| *x = 0.5 + x.abs()),
                _ => {}
            }
        }
        self.layout = layout.clone();
        self
    }

    /// Adds one parameter, standard normal, for an op's own case.
    pub fn param(mut self, name: &str, shape: &[usize]) -> Self {
        use crate::params::{Decay, Init};
        let mut registry = Registry::new();
        for p in self.layout.iter() {
            registry.add(&*p.name, &p.shape, p.decay, p.init);
        }
        let start = registry.add(name, shape, Decay::No, Init::Constant(0.0)).range.start;
        self.layout = registry.finish();
        let values = self.normal(shape.iter().product());
        self.values.resize(start, 0.0);
        self.values.extend(values);
        self
    }
}

/// Work of one run, for rates and rooflines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of the forward pass (a multiply-add counts 2).
    pub flops_forward: f64,
    /// Floating-point operations of the backward pass.
    pub flops_backward: f64,
    /// Elements that must at least be read and written, forward.
    pub elements_forward: f64,
    /// Elements that must at least be read and written, backward.
    pub elements_backward: f64,
}

impl Cost {
    /// Of a whole model with so many parameters, whose backward pass is two products for each of the forward pass.
    pub fn of_model(flops: f64, parameters: f64) -> Self {
        Self {
            flops_forward: flops,
            flops_backward: 2.0 * flops,
            elements_forward: parameters,
            elements_backward: 2.0 * parameters,
        }
    }
}

/// How many roundings a number of the result has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Those of a few numbers: the error is also told in units in the last place.
    Single,
    /// Those of the terms of a sum, over a row or over all samples.
    Sum,
    /// Those of many ops in a row: a layer, a model.
    Chain,
}

impl Rounding {
    /// Roundings to bf16 by which a result may be off, relative to the tensor's largest number: operands
    /// and results are bf16, sums f32. The worst seen of one op is 4.4, a bias gradient summed over 19
    /// samples (attention rounds its probabilities between two products); of a chain 9.9.
    pub fn bf16(self) -> f64 {
        match self {
            Self::Single | Self::Sum => 5.0,
            Self::Chain => 12.0,
        }
    }
}

/// A number at which the code of an op takes another way: the rows of a piece, the lanes of a vector, the
/// samples of a group. The cases of an op lie beyond each by one and by several (`tests/coverage.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The constant, or the function that computes it.
    pub name: &'static str,
    /// Its value for this case.
    pub limit: usize,
    /// The size of this case along what it cuts.
    pub size: usize,
}

impl Threshold {
    /// A constant `name` that cuts `size` things into pieces of `limit`.
    pub fn new(name: &'static str, limit: usize, size: usize) -> Self {
        Self { name, limit, size }
    }

    /// Rows of `cols` numbers that a task takes in an element-wise pass.
    pub fn rows_per_task(rows: usize, cols: usize) -> Self {
        Self::new("rows_per_task", cpu::rows_per_task(cols), rows)
    }

    /// Pieces of a sum over `rows` rows: where a second one begins, and where there are no more of them
    /// but longer ones.
    pub fn fold_rows(rows: usize) -> [Self; 2] {
        let (least, most) = (cpu::FOLD_ROWS, cpu::FOLDS);
        [Self::new("FOLD_ROWS", least, rows), Self::new("FOLDS", most * least, rows)]
    }

    /// Lanes of a sum over `cols` numbers.
    pub fn lanes(cols: usize) -> Self {
        Self::new("LANES", cpu::simd::LANES, cols)
    }
}

/// What checks and benches need of an op, a layer or a model at one size.
pub trait Case: Send + Sync + 'static {
    /// `op/instance`, unique: `layer_norm/odd`.
    fn name(&self) -> String;
    /// Inputs on the host, the same at every call.
    fn inputs(&self) -> Inputs;
    /// Forward; then, where [`Io::outputs`] hands out upstream gradients, backward.
    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>);
    /// Work of one run.
    fn cost(&self) -> Cost;
    /// What rounding may do to its results.
    fn rounding(&self) -> Rounding {
        Rounding::Sum
    }
    /// The constants of the op's code, and where this case lies; the same names for all cases of an op.
    fn thresholds(&self) -> Vec<Threshold> {
        Vec::new()
    }
    /// Whether the case is too large for finite differences: its gradient is compared with exact
    /// derivatives alone.
    fn large(&self) -> bool {
        false
    }
    /// Whether roundings grow on their way to the result, as in a batch norm of few rows, which takes nearly equal
    /// numbers from each other: then they are bounded as computed ([`beit_check::bounded`]), and neither by what
    /// another device is off nor by a number of roundings.
    fn amplifies(&self) -> bool {
        false
    }
}

/// A case that is too large for finite differences: beyond a [`Threshold`].
pub struct Large<C>(pub C);

impl<C: Case> Case for Large<C> {
    fn name(&self) -> String {
        self.0.name()
    }
    fn inputs(&self) -> Inputs {
        self.0.inputs()
    }
    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        self.0.run(bk, io);
    }
    fn cost(&self) -> Cost {
        self.0.cost()
    }
    fn rounding(&self) -> Rounding {
        self.0.rounding()
    }
    fn thresholds(&self) -> Vec<Threshold> {
        self.0.thresholds()
    }
    fn large(&self) -> bool {
        true
    }
    fn amplifies(&self) -> bool {
        self.0.amplifies()
    }
}

/// Called once for every case; how checks and benches walk over them on a backend of their choice.
pub trait Visitor {
    /// Takes one case.
    fn visit<C: Case>(&mut self, case: C);
}

/// Numbers that a pass reads and writes, each once, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    numbers: usize,
    bytes: usize,
}

impl Traffic {
    fn add<T>(&mut self, numbers: usize) {
        self.numbers += numbers;
        self.bytes += numbers * size_of::<T>();
    }

    /// Mean bytes of a number; 0 where there is none.
    pub fn bytes_per_number(&self) -> f64 {
        self.bytes as f64 / self.numbers.max(1) as f64
    }
}

/// What a case reads and writes while it runs on a backend.
pub struct Io<B: Storage> {
    elem: BTreeMap<String, Tensor<B>>,
    master: BTreeMap<String, Master<B>>,
    ids: BTreeMap<String, Ids<B>>,
    /// Parameters of the case.
    pub w: Params<B>,
    /// Their gradients; backward adds to them.
    pub g: Params<B>,
    upstream: Option<Vec<Vec<f64>>>,
    /// Outputs, widened.
    pub outputs: Vec<Vec<f64>>,
    /// Second parts of the outputs ([`Float::second`]), where the run is [`Io::paired`].
    pub seconds: Vec<Vec<f64>>,
    /// Gradients with respect to inputs by name, widened.
    pub grads: BTreeMap<String, Vec<f64>>,
    /// Their second parts, where the run is [`Io::paired`].
    pub grad_seconds: BTreeMap<String, Vec<f64>>,
    /// When the forward pass began, where the case prepared something before it.
    pub forward_begun: Option<Instant>,
    /// When the forward pass was done.
    pub forward_done: Option<Instant>,
    /// When the last upstream gradient lay on the device.
    pub backward_begun: Option<Instant>,
    /// When the first gradient of an input was there: the backward pass was done.
    pub backward_done: Option<Instant>,
    /// Inputs, parameters and outputs so far.
    pub forward_traffic: Traffic,
    /// Inputs, parameters and upstream gradients so far, and gradients.
    pub backward_traffic: Traffic,
    /// Whether [`Io::forward_ends`] has said when the forward pass was done.
    ended: bool,
    collect: bool,
    paired: bool,
    shape_of_outputs: Vec<Vec<usize>>,
}

impl<B: Storage> Io<B> {
    /// Copies the inputs to the backend.
    pub fn new(bk: &B, inputs: &Inputs) -> Self {
        Self::start(bk, inputs, None)
    }

    /// Copies the inputs to a backend whose numbers have two parts ([`Float::from_parts`]), the second
    /// of each from its place in `seconds`.
    pub fn paired(bk: &B, inputs: &Inputs, seconds: &Inputs) -> Self {
        let mut io = Self::start(bk, inputs, Some(seconds));
        io.w.master = bk.upload(numbers(&inputs.values, Some(&seconds.values)));
        io
    }

    fn start(bk: &B, inputs: &Inputs, seconds: Option<&Inputs>) -> Self {
        let mut io = Self {
            elem: BTreeMap::new(),
            master: BTreeMap::new(),
            ids: BTreeMap::new(),
            w: Params::from_host(bk, &inputs.layout, &inputs.values),
            g: Params::zeros(bk, &inputs.layout),
            upstream: None,
            outputs: Vec::new(),
            seconds: Vec::new(),
            grads: BTreeMap::new(),
            grad_seconds: BTreeMap::new(),
            forward_begun: None,
            forward_done: None,
            backward_begun: None,
            backward_done: None,
            forward_traffic: Traffic::default(),
            backward_traffic: Traffic::default(),
            ended: false,
            collect: true,
            paired: seconds.is_some(),
            shape_of_outputs: Vec::new(),
        };
        let traffic = &mut io.forward_traffic;
        for (i, t) in inputs.tensors.iter().enumerate() {
            let seconds = seconds.map(|v| &*v.tensors[i].values);
            match t.kind {
                Kind::Elem => {
                    traffic.add::<B::Elem>(t.values.len());
                    let x = Tensor::from_vec(bk, numbers(&t.values, seconds), &t.shape);
                    io.elem.insert(t.name.clone(), x);
                }
                Kind::Master => {
                    traffic.add::<B::Master>(t.values.len());
                    let x = Tensor::from_vec(bk, numbers(&t.values, seconds), &t.shape);
                    io.master.insert(t.name.clone(), x);
                }
                Kind::Ids => {
                    traffic.add::<u32>(t.values.len());
                    let ids = t.values.iter().map(|&x| x as u32).collect();
                    io.ids.insert(t.name.clone(), Tensor::from_vec(bk, ids, &t.shape));
                }
            }
        }
        // Products, which have most of the parameters, read them as `Elem`; optimizers, which have no
        // backward pass, and gradients are `Master`.
        let n = inputs.values.len();
        match inputs.forward_only {
            true => traffic.add::<B::Master>(n),
            false => traffic.add::<B::Elem>(n),
        }
        io.backward_traffic = *traffic;
        io.backward_traffic.add::<B::Master>(n);
        io
    }

    /// How many numbers each output has that was handed over.
    pub fn output_lengths(&self) -> impl Iterator<Item = usize> {
        self.shape_of_outputs.iter().map(|shape| shape.iter().product())
    }

    /// Asks for a backward pass from these gradients, one per output.
    pub fn with_upstream(mut self, upstream: Vec<Vec<f64>>) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// Leaves outputs and gradients on the device; for timing.
    pub fn without_results(mut self) -> Self {
        self.collect = false;
        self
    }

    /// An input of kind `Elem`, moved out so that an op may take it by value.
    #[track_caller]
    pub fn elem(&mut self, name: &str) -> Tensor<B> {
        self.elem.remove(name).unwrap_or_else(|| panic!("case has no elem input {name} (left)"))
    }

    /// An input of kind `Master`, moved out.
    #[track_caller]
    pub fn master(&mut self, name: &str) -> Master<B> {
        self.master.remove(name).unwrap_or_else(|| panic!("case has no master input {name} (left)"))
    }

    /// An input of kind `Ids`, moved out.
    #[track_caller]
    pub fn ids(&mut self, name: &str) -> Ids<B> {
        self.ids.remove(name).unwrap_or_else(|| panic!("case has no ids {name} (left)"))
    }

    /// The handle of a parameter.
    #[track_caller]
    pub fn param(&self, name: &str) -> Param {
        let found = self.w.layout.iter().find(|p| &*p.name == name);
        found.unwrap_or_else(|| panic!("case has no parameter {name}")).clone()
    }

    /// Says that the forward pass begins now and not when the case began to run; for timing.
    pub fn forward_begins(&mut self, bk: &B) {
        bk.synchronize();
        self.forward_begun = Some(Instant::now());
    }

    /// Says that the forward pass is done; for cases that do more before they hand over an output.
    pub fn forward_ends(&mut self, bk: &B) {
        self.forward_is_done(bk);
        self.ended = true;
    }

    fn forward_is_done(&mut self, bk: &B) {
        if !self.ended {
            bk.synchronize();
            self.forward_done = Some(Instant::now());
        }
    }

    /// Hands over one output. Call for each output in order, after the forward pass.
    pub fn output<T: Float>(&mut self, bk: &B, y: &Tensor<B, T>) {
        self.shape_of_outputs.push(y.shape().to_vec());
        self.forward_traffic.add::<T>(y.len());
        if self.collect {
            let y = y.to_vec(bk);
            self.outputs.push(y.iter().map(|y| y.to_f64()).collect());
            if self.paired {
                self.seconds.push(y.iter().map(|y| y.second()).collect());
            }
        }
        self.forward_is_done(bk);
    }

    /// Hands over the sum of `y` as one output, for a loss whose backward takes one weight for all
    /// its terms.
    pub fn output_sum<T: Real>(&mut self, bk: &B, y: &Tensor<B, T>) {
        self.output_sums(bk, &[(1.0, y)]);
    }

    /// Hands over a weighted sum of sums as one output, for a loss of several parts.
    pub fn output_sums<T: Real>(&mut self, bk: &B, parts: &[(f64, &Tensor<B, T>)]) {
        self.shape_of_outputs.push(vec![1]);
        if self.collect {
            if self.paired {
                let part = |(weight, y): &(f64, &Tensor<B, T>)| {
                    T::from_f64(*weight) * y.to_vec(bk).into_iter().sum::<T>()
                };
                let sum: T = parts.iter().map(part).sum();
                self.outputs.push(vec![sum.to_f64()]);
                self.seconds.push(vec![sum.second()]);
            } else {
                let wide = |y: &Tensor<B, T>| y.to_vec(bk).iter().map(|y| y.to_f64()).sum::<f64>();
                self.outputs.push(vec![parts.iter().map(|(weight, y)| weight * wide(y)).sum()]);
            }
        }
        self.forward_is_done(bk);
    }

    /// The gradient with respect to output number `i`, which is one number.
    pub fn upstream_scalar(&self, i: usize) -> f64 {
        self.upstream.as_ref().expect("no backward pass was asked for")[i][0]
    }

    /// Whether a backward pass is wanted. Ask once, after the last output.
    pub fn wants_backward(&self) -> bool {
        self.upstream.is_some()
    }

    /// The gradient with respect to output number `i`.
    pub fn upstream<T: Float>(&mut self, bk: &B, i: usize) -> Tensor<B, T> {
        let all = self.upstream.as_ref().expect("no backward pass was asked for");
        let dy = Tensor::from_f64(bk, &all[i], &self.shape_of_outputs[i]);
        self.backward_traffic.add::<T>(dy.len());
        bk.synchronize();
        self.backward_begun = Some(Instant::now());
        dy
    }

    /// Weights and gradients of the case, for the backward pass of a layer.
    pub fn grad_of<'a>(&'a mut self, bk: &'a B) -> Grad<'a, B> {
        Grad::new(Ctx::new(bk, &self.w), &mut self.g)
    }

    /// Hands over the gradient with respect to an input.
    pub fn grad<T: Float>(&mut self, bk: &B, name: &str, dx: &Tensor<B, T>) {
        if self.backward_done.is_none() {
            bk.synchronize();
            self.backward_done = Some(Instant::now());
        }
        self.backward_traffic.add::<T>(dx.len());
        if self.collect {
            if self.paired {
                let seconds = dx.to_vec(bk).iter().map(|dx| dx.second()).collect();
                self.grad_seconds.insert(name.to_string(), seconds);
            }
            self.grads.insert(name.to_string(), dx.to_f64(bk));
        }
    }
}

/// Numbers for a device, with their second parts where there are any.
fn numbers<T: Float>(values: &[f64], seconds: Option<&[f64]>) -> Vec<T> {
    match seconds {
        None => values.iter().map(|&x| T::from_f64(x)).collect(),
        Some(all) => values.iter().zip(all).map(|(&x, &v)| T::from_parts(x, v)).collect(),
    }
}

/// Moves numbers at least 0.05 away from 0, the kink of a ReLU, which a difference quotient of step
/// 1e-3 must not straddle.
pub fn away_from_zero(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|x| x + 0.05f64.copysign(x)).collect()
}
