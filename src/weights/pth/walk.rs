//! The tensors among the nodes of a pickle.

use super::bounds::{Bounds, DEPTH, NAME, TOO_MUCH};
use super::element::{Laid, StorageType};
use super::graph::{Chain, Datum, NIL, PickleGraph, PickleNode};
use crate::shown;
use crate::weights::info::{MAX_AXES, TensorInfo};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Keys under which the weights of a training checkpoint lie.
const ROOTS: [&str; 4] = ["model", "module", "state_dict", "weights"];

/// What was found in a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub tensors: BTreeMap<String, TensorInfo>,
    pub metadata: BTreeMap<String, String>,
}

/// Bytes of the file that hold the so many elements of a key.
pub(super) type Locate<'l> = dyn FnMut(StorageType, &str, u64) -> Result<Range<usize>, String> + 'l;

/// All tensors below the root.
pub(super) fn tensors(
    graph: &PickleGraph,
    root: Datum,
    locate: &mut Locate,
    bounds: Bounds,
) -> Result<Contents, String> {
    let Datum::Node(root) = root else {
        return Err("holds one value, not a dict of tensors".into());
    };
    let (key, node) = taken(graph, root)?;
    let mut walk = Walk {
        graph,
        locate,
        found: Contents::default(),
        path: String::new(),
        frames: Vec::new(),
        kept: bounds.kept,
        visits: bounds.visits,
    };
    walk.enter(node)?;
    walk.run()?;
    let mut found = walk.found;
    found.metadata.insert("root".into(), key.into());
    if let PickleNode::Call { named, .. } = graph.node(node)
        && let Some((module, name)) = graph.named(named)
    {
        found.metadata.insert("module".into(), format!("{module}.{name}"));
    }
    Ok(found)
}

/// What is walked: the dict or module under one of [`ROOTS`] and its key, or the root.
fn taken(graph: &PickleGraph, root: u32) -> Result<(&'static str, u32), String> {
    if let PickleNode::Dict(chain) = graph.node(root) {
        for key in ROOTS {
            if let Some(Datum::Node(node)) = graph.get(chain, key)?
                && (matches!(graph.node(node), PickleNode::Dict(_))
                    || fields(graph, node)?.is_some())
            {
                return Ok((key, node));
            }
        }
        return Ok(("", root));
    }
    match fields(graph, root)? {
        Some(_) => Ok(("", root)),
        None => Err("holds neither a dict of tensors nor a module".into()),
    }
}

/// The fields of a module; nothing for another node.
fn fields(graph: &PickleGraph, node: u32) -> Result<Option<Chain>, String> {
    let Some(fields) = state(graph, node) else { return Ok(None) };
    let module = graph.get(fields, "_parameters")?.is_some();
    Ok(module.then_some(fields))
}

/// The fields of an object.
fn state(graph: &PickleGraph, node: u32) -> Option<Chain> {
    let PickleNode::Call { state, .. } = graph.node(node) else { return None };
    let Datum::Node(state) = (state != NIL).then(|| graph.at(state).0)? else { return None };
    match graph.node(state) {
        PickleNode::Dict(fields) => Some(fields),
        _ => None,
    }
}

/// A dict that is being walked.
struct OpenDict {
    dict: u32,
    /// Place of the next key.
    next: u32,
    /// Length of the path to it.
    path: usize,
}

struct Walk<'w, 'a> {
    graph: &'w PickleGraph<'a>,
    locate: &'w mut Locate<'w>,
    found: Contents,
    path: String,
    frames: Vec<OpenDict>,
    kept: usize,
    visits: usize,
}

impl<'a> Walk<'_, 'a> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(OpenDict { next, path, .. }) = self.frames.last_mut() {
            self.path.truncate(*path);
            if *next == NIL {
                self.frames.pop();
                continue;
            }
            let (key, value) = self.graph.at(*next);
            let (value, following) = self.graph.at(value);
            *next = following;
            self.visit(key, value)?;
        }
        Ok(())
    }

    fn visit(&mut self, key: Datum, value: Datum) -> Result<(), String> {
        let (Some(key), Datum::Node(node)) = (self.key(key)?, value) else { return Ok(()) };
        self.join(&key)?;
        match self.tensor(node) {
            Ok(Some(info)) => self.keep(info),
            Ok(None) => self.enter(node),
            Err(text) => Err(format!("tensor {}: {text}", shown::name(&self.path))),
        }
    }

    /// A key as a part of a name; nothing for keys that are none.
    fn key(&self, key: Datum) -> Result<Option<Cow<'a, str>>, String> {
        Ok(match key {
            Datum::Text(span) => Some(self.graph.text(span)?.into()),
            Datum::Int(number) => Some(number.to_string().into()),
            _ => None,
        })
    }

    fn join(&mut self, key: &str) -> Result<(), String> {
        if self.path.len() + key.len() >= NAME {
            return Err(format!("has a name of more than {NAME} bytes"));
        }
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.kept = self.kept.checked_sub(bytes).ok_or_else(|| format!("holds {TOO_MUCH}"))?;
        Ok(())
    }

    fn keep(&mut self, info: TensorInfo) -> Result<(), String> {
        self.spend(256 + self.path.len() + 16 * info.shape.len())?;
        match self.found.tensors.insert(self.path.clone(), info) {
            None => Ok(()),
            Some(_) => Err(format!("tensor {}: is there twice", shown::name(&self.path))),
        }
    }

    /// Begins with a dict or the dicts of a module; what is neither is left out.
    fn enter(&mut self, node: u32) -> Result<(), String> {
        if let PickleNode::Dict(chain) = self.graph.node(node) {
            return self.begin(node, chain);
        }
        if let Some(fields) = state(self.graph, node) {
            self.look(fields.length)?;
        }
        let Some(fields) = fields(self.graph, node)? else { return Ok(()) };
        self.count(fields)?;
        self.numbers(fields)?;
        for part in ["_modules", "_buffers", "_parameters"] {
            if let Some(Datum::Node(dict)) = self.graph.get(fields, part)?
                && let PickleNode::Dict(chain) = self.graph.node(dict)
            {
                self.begin(dict, chain)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, dict: u32, chain: Chain) -> Result<(), String> {
        let inside = shown::name(&self.path);
        if self.frames.iter().any(|frame| frame.dict == dict) {
            return Err(format!("the dict {inside:?} lies within itself"));
        }
        if self.frames.len() == DEPTH {
            return Err(format!("the dict {inside:?} nests deeper than {DEPTH}"));
        }
        self.count(chain)?;
        self.frames.push(OpenDict { dict, next: chain.first, path: self.path.len() });
        Ok(())
    }

    fn look(&mut self, entries: u32) -> Result<(), String> {
        let left = self.visits.checked_sub(entries as usize);
        self.visits = left.ok_or_else(|| format!("shares {TOO_MUCH}"))?;
        Ok(())
    }

    /// Counts the entries of a dict, none of whose keys may be there twice.
    fn count(&mut self, dict: Chain) -> Result<(), String> {
        self.look(dict.length)?;
        let mut keys = Vec::with_capacity(dict.length as usize / 2);
        for key in self.graph.items(dict).step_by(2) {
            if let Datum::Text(span) = key {
                keys.push(self.graph.text(span)?);
            }
        }
        keys.sort_unstable();
        match keys.windows(2).find(|two| two[0] == two[1]) {
            None => Ok(()),
            Some(two) => {
                let (key, inside) = (shown::name(two[0]), shown::name(&self.path));
                Err(format!("the dict {inside:?} has the key {key} twice"))
            }
        }
    }

    /// Keeps the numbers among the fields of a module.
    fn numbers(&mut self, fields: Chain) -> Result<(), String> {
        let graph = self.graph;
        let (length, mut items) = (self.path.len(), graph.items(fields));
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let Datum::Text(span) = key else { continue };
            let text = match value {
                Datum::Bool(value) => value.to_string(),
                Datum::Int(value) => value.to_string(),
                Datum::Float(value) => format!("{value:?}"),
                _ => continue,
            };
            let field = graph.text(span)?;
            if !field.starts_with('_') {
                self.join(field)?;
                self.spend(128 + self.path.len() + text.len())?;
                self.found.metadata.insert(self.path.clone(), text);
                self.path.truncate(length);
            }
        }
        Ok(())
    }

    /// What a node says of a tensor, if it is one.
    fn tensor(&mut self, node: u32) -> Result<Option<TensorInfo>, String> {
        let mut at = node;
        // A parameter is around a tensor.
        for _ in 0..2 {
            let PickleNode::Call { named, arguments, .. } = self.graph.node(at) else {
                return Ok(None);
            };
            let PickleNode::Tuple(arguments) = self.graph.node(arguments) else { return Ok(None) };
            match self.graph.named(named) {
                Some(("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2")) => {
                    return self.laid(arguments).map(Some);
                }
                Some(
                    ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
                    | ("torch.nn.parameter", "Parameter" | "Buffer"),
                ) => match self.graph.items(arguments).next() {
                    Some(Datum::Node(inner)) => at = inner,
                    _ => return Err("is a parameter without a tensor".into()),
                },
                _ => return Ok(None),
            }
        }
        Err("is a parameter of a parameter".into())
    }

    fn laid(&mut self, arguments: Chain) -> Result<TensorInfo, String> {
        let graph = self.graph;
        let items: Vec<Datum> = graph.items(arguments).take(4).collect();
        let &[Datum::Node(numbers), Datum::Int(offset), Datum::Node(shape), Datum::Node(strides)] =
            &items[..]
        else {
            return Err("its description is not that of a tensor".into());
        };
        let PickleNode::Numbers { element, key, count } = graph.node(numbers) else {
            return Err("its numbers are nowhere".into());
        };
        let whole = |node: u32| -> Option<Vec<i64>> {
            let PickleNode::Tuple(chain) = graph.node(node) else { return None };
            let number = |item| if let Datum::Int(number) = item { Some(number) } else { None };
            let numbers: Option<Vec<_>> =
                graph.items(chain).take(MAX_AXES + 1).map(number).collect();
            numbers.filter(|numbers| numbers.len() <= MAX_AXES)
        };
        let (Some(shape), Some(strides)) = (whole(shape), whole(strides)) else {
            return Err(format!("its shape is not of at most {MAX_AXES} numbers"));
        };
        let range = (self.locate)(element, graph.text(key)?, count)?;
        Laid { offset, shape, strides }.within(element, range.len() / element.size(), range)
    }
}
