//! What a pickle describes, as nodes that do nothing.
//!
//! Nodes point at each other by their numbers and lie in one vector, so that neither making nor dropping them
//! recurses, whatever a file nests. Texts stay where they are in the pickle.

use super::bounds::{DEPTH, NAME, TOO_MUCH};
use super::element::StorageType;

/// Text in the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub at: u32,
    pub length: u32,
}

/// A value: a plain one, or the number of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Datum {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than 64 bits.
    Long,
    Float(f64),
    Text(Span),
    Node(u32),
}

/// The end of a chain.
pub(super) const NIL: u32 = u32::MAX;

/// Items that belong to one node, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub first: u32,
    last: u32,
    pub length: u32,
}

impl Chain {
    pub(super) const EMPTY: Self = Self { first: NIL, last: NIL, length: 0 };
}

/// A thing with parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum PickleNode {
    Tuple(Chain),
    List(Chain),
    /// Keys and values by turns.
    Dict(Chain),
    /// A name that was asked for.
    Named {
        module: Span,
        name: Span,
    },
    /// What would come of a call, which nobody makes.
    Call {
        named: u32,
        arguments: u32,
        state: u32,
    },
    /// The numbers of tensors, by their key.
    Numbers {
        element: StorageType,
        key: Span,
        count: u64,
    },
}

/// All nodes of a pickle.
pub(super) struct PickleGraph<'a> {
    text: &'a [u8],
    nodes: Vec<PickleNode>,
    depths: Vec<u8>,
    links: Vec<(Datum, u32)>,
    /// Cells that may still be taken.
    left: usize,
}

impl<'a> PickleGraph<'a> {
    pub(super) fn new(text: &'a [u8], cells: usize) -> Self {
        let (nodes, depths, links) = (Vec::new(), Vec::new(), Vec::new());
        Self { text, nodes, depths, links, left: cells }
    }

    /// Takes cells of those that are left.
    pub(super) fn take(&mut self, cells: usize) -> Result<(), String> {
        let left = self.left.checked_sub(cells);
        self.left = left.ok_or_else(|| format!("describes {TOO_MUCH}"))?;
        Ok(())
    }

    /// Cells that are left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// A new node that nests so deep.
    pub(super) fn add(&mut self, node: PickleNode, depth: usize) -> Result<Datum, String> {
        if depth > DEPTH {
            return Err(format!("nests deeper than {DEPTH}"));
        }
        self.take(1)?;
        self.nodes.push(node);
        self.depths.push(depth as u8);
        Ok(Datum::Node(self.nodes.len() as u32 - 1))
    }

    pub(super) fn depth(&self, item: Datum) -> usize {
        match item {
            Datum::Node(node) => self.depths[node as usize].into(),
            _ => 0,
        }
    }

    /// Items in order as a chain, and how deep the deepest of them nests.
    pub(super) fn chain(&mut self, items: &[Datum]) -> Result<(Chain, usize), String> {
        let (mut chain, mut depth) = (Chain::EMPTY, 0);
        for &item in items {
            self.link(&mut chain, item)?;
            depth = depth.max(self.depth(item));
        }
        Ok((chain, depth))
    }

    fn link(&mut self, chain: &mut Chain, item: Datum) -> Result<(), String> {
        self.take(1)?;
        let new = self.links.len() as u32;
        self.links.push((item, NIL));
        match chain.last {
            NIL => chain.first = new,
            last => self.links[last as usize].1 = new,
        }
        chain.last = new;
        chain.length += 1;
        Ok(())
    }

    /// Adds items to a dict or a list.
    pub(super) fn extend(&mut self, to: Datum, items: &[Datum], dict: bool) -> Result<(), String> {
        let Datum::Node(number) = to else { return Err("adds to what holds nothing".into()) };
        let mut chain = match (self.node(number), dict) {
            (PickleNode::Dict(chain), true) | (PickleNode::List(chain), false) => chain,
            _ => return Err("adds to what is neither a dict nor a list".into()),
        };
        for &item in items {
            if matches!(item, Datum::Node(same) if same == number) {
                return Err("puts a dict or a list into itself".into());
            }
            self.link(&mut chain, item)?;
            self.deepen(number, item)?;
        }
        self.nodes[number as usize] =
            if dict { PickleNode::Dict(chain) } else { PickleNode::List(chain) };
        Ok(())
    }

    /// The fields of an object; those of a dict are left out.
    pub(super) fn set_state(&mut self, of: Datum, item: Datum) -> Result<(), String> {
        let Datum::Node(number) = of else {
            return Err("gives fields to a plain value".into());
        };
        match self.node(number) {
            PickleNode::Dict(_) => Ok(()),
            PickleNode::Call { named, arguments, state: NIL } => {
                let state = self.chain(&[item])?.0.first;
                self.deepen(number, item)?;
                self.nodes[number as usize] = PickleNode::Call { named, arguments, state };
                Ok(())
            }
            _ => Err("gives fields to what has none".into()),
        }
    }

    fn deepen(&mut self, node: u32, part: Datum) -> Result<(), String> {
        let depth = self.depth(part) + 1;
        if depth > DEPTH {
            return Err(format!("nests deeper than {DEPTH}"));
        }
        let own = &mut self.depths[node as usize];
        *own = (*own).max(depth as u8);
        Ok(())
    }

    pub(super) fn node(&self, number: u32) -> PickleNode {
        self.nodes[number as usize]
    }

    pub(super) fn nodes(&self) -> &[PickleNode] {
        &self.nodes
    }

    /// An item of a chain and the place of the next one.
    pub(super) fn at(&self, link: u32) -> (Datum, u32) {
        self.links[link as usize]
    }

    pub(super) fn items(&self, chain: Chain) -> impl Iterator<Item = Datum> + '_ {
        let mut next = chain.first;
        std::iter::from_fn(move || {
            let (item, following) = (next != NIL).then(|| self.at(next))?;
            next = following;
            Some(item)
        })
    }

    fn bytes(&self, span: Span) -> &'a [u8] {
        &self.text[span.at as usize..][..span.length as usize]
    }

    /// A text that is a name; none may be long, for one may be looked at often.
    pub(super) fn text(&self, span: Span) -> Result<&'a str, String> {
        if span.length as usize > NAME {
            return Err(format!("has a name of {} bytes, at most {NAME} are read", span.length));
        }
        Ok(std::str::from_utf8(self.bytes(span)).map_err(|_| "has a text that is not UTF-8")?)
    }

    /// Module and name of a node that is a name.
    pub(super) fn named(&self, number: u32) -> Option<(&'a str, &'a str)> {
        match self.node(number) {
            PickleNode::Named { module, name } => {
                Some((self.text(module).ok()?, self.text(name).ok()?))
            }
            _ => None,
        }
    }

    /// The value of a key that a dict has at most once.
    pub(super) fn get(&self, dict: Chain, key: &str) -> Result<Option<Datum>, String> {
        let (mut found, mut items) = (None, self.items(dict));
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            let same = matches!(name, Datum::Text(span) if self.bytes(span) == key.as_bytes());
            if same && found.replace(value).is_some() {
                return Err(format!("has the key {key} twice in a dict"));
            }
        }
        Ok(found)
    }
}
