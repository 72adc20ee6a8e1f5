//! The machine that pickles are programs for, as far as protocol 2 in files of weights goes.

use super::bounds::{Bounds, TEXT, TOO_MUCH};
use super::element::StorageType;
use super::graph::{Chain, Datum, NIL, PickleGraph, PickleNode, Span};
use super::names;

/// What a pickle describes.
pub(super) struct Followed<'a> {
    pub graph: PickleGraph<'a>,
    pub root: Datum,
    /// Length of the pickle; more may follow it.
    pub length: usize,
}

/// Follows a pickle to its end; a refusal says at which byte.
pub(super) fn follow(bytes: &[u8], bounds: Bounds) -> Result<Followed<'_>, String> {
    let mut machine = Unpickler {
        bytes,
        at: 0,
        graph: PickleGraph::new(bytes, bounds.cells),
        stack: Vec::new(),
        deepest: 0,
        marks: Vec::new(),
        memo: Vec::new(),
    };
    for _ in 0..bounds.steps {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Followed { graph: machine.graph, root, length: machine.at });
            }
            Err(text) => return Err(format!("its pickle, at byte {at}, {text}")),
        }
    }
    Err(format!("its pickle has {TOO_MUCH}"))
}

struct Unpickler<'a> {
    bytes: &'a [u8],
    at: usize,
    graph: PickleGraph<'a>,
    stack: Vec<Datum>,
    /// Places of the stack that were taken from the cells.
    deepest: usize,
    marks: Vec<usize>,
    memo: Vec<Option<Datum>>,
}

impl<'a> Unpickler<'a> {
    /// One instruction; the root at the last one.
    fn step(&mut self) -> Result<Option<Datum>, String> {
        let [code] = self.fixed()?;
        match code {
            0x80 => match self.fixed()? {
                [2] => {}
                [other] => {
                    return Err(format!("is of protocol {other}, not 2; save it with torch.save"));
                }
            },
            b'.' => return self.pop().map(Some),
            b'(' => self.mark()?,
            b'N' => self.push(Datum::None)?,
            0x88 | 0x89 => self.push(Datum::Bool(code == 0x88))?,
            b'J' => self.number(i32::from_le_bytes)?,
            b'K' => self.number(u8::from_le_bytes)?,
            b'M' => self.number(u16::from_le_bytes)?,
            0x8a => self.long()?,
            b'G' => {
                let value = f64::from_be_bytes(self.fixed()?);
                self.push(Datum::Float(value))?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.fixed()?);
                self.text(length)?;
            }
            b'U' => {
                let [length] = self.fixed()?;
                self.text(length.into())?;
            }
            b'q' | b'r' | b'h' | b'j' => self.memory(code)?,
            b'c' => self.global()?,
            b'R' | 0x81 => self.call()?,
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                self.graph.set_state(object, state)?;
            }
            b'Q' => self.persistent()?,
            _ => self.container(code)?,
        }
        Ok(None)
    }

    /// Instructions that make containers and fill them.
    fn container(&mut self, code: u8) -> Result<(), String> {
        match code {
            b'}' => self.make(PickleNode::Dict(Chain::EMPTY), 1),
            b']' => self.make(PickleNode::List(Chain::EMPTY), 1),
            b')' => self.tuple(self.stack.len()),
            b't' => {
                let from = self.unmark()?;
                self.tuple(from)
            }
            0x85..=0x87 => self.tuple(self.below((code - 0x84).into())?),
            b's' | b'u' | b'a' | b'e' => {
                let from = match code {
                    b's' => self.below(2)?,
                    b'a' => self.below(1)?,
                    _ => self.unmark()?,
                };
                let dict = matches!(code, b's' | b'u');
                if dict && !(self.stack.len() - from).is_multiple_of(2) {
                    return Err("has a key without a value".into());
                }
                let to = *from.checked_sub(1).and_then(|at| self.stack.get(at)).ok_or(EMPTY)?;
                self.graph.extend(to, &self.stack[from..], dict)?;
                self.stack.truncate(from);
                Ok(())
            }
            other => Err(format!(
                "has the instruction {other:#04x}, which no file of weights of torch.save has"
            )),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken =
            self.bytes[self.at..].first_chunk().ok_or("ends without its last instruction")?;
        self.at += N;
        Ok(*taken)
    }

    fn push(&mut self, item: Datum) -> Result<(), String> {
        if self.stack.len() == self.deepest {
            self.graph.take(1)?;
            self.deepest += 1;
        }
        self.stack.push(item);
        Ok(())
    }

    fn make(&mut self, node: PickleNode, depth: usize) -> Result<(), String> {
        let item = self.graph.add(node, depth)?;
        self.push(item)
    }

    /// Where the last mark is; nothing below it may be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Datum, String> {
        let last = self.stack.last().filter(|_| self.stack.len() > self.floor());
        Ok(*last.ok_or(EMPTY)?)
    }

    fn pop(&mut self) -> Result<Datum, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// The place of the `count`-th item from above.
    fn below(&self, count: usize) -> Result<usize, String> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        Ok(from.ok_or(EMPTY)?)
    }

    fn mark(&mut self) -> Result<(), String> {
        self.graph.take(1)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn unmark(&mut self) -> Result<usize, String> {
        Ok(self.marks.pop().ok_or("closes what was not opened")?)
    }

    fn tuple(&mut self, from: usize) -> Result<(), String> {
        let (chain, depth) = self.graph.chain(&self.stack[from..])?;
        self.stack.truncate(from);
        self.make(PickleNode::Tuple(chain), depth + 1)
    }

    fn number<const N: usize, T: Into<i64>>(&mut self, of: fn([u8; N]) -> T) -> Result<(), String> {
        let value = of(self.fixed()?).into();
        self.push(Datum::Int(value))
    }

    fn long(&mut self) -> Result<(), String> {
        let [length] = self.fixed()?;
        let span = self.span(length.into())?;
        let bytes = &self.bytes[span.at as usize..][..span.length as usize];
        let sign = if bytes.last().is_some_and(|byte| *byte > 127) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        let item = match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Datum::Int(i64::from_le_bytes(wide))
            }
            None => Datum::Long,
        };
        self.push(item)
    }

    fn span(&mut self, length: u32) -> Result<Span, String> {
        let span = Span { at: self.at as u32, length };
        let end = self.at.checked_add(length as usize).filter(|end| *end <= self.bytes.len());
        self.at = end.ok_or_else(|| format!("has a text of {length} bytes, more than follow"))?;
        Ok(span)
    }

    fn text(&mut self, length: u32) -> Result<(), String> {
        let span = self.span(length)?;
        if length as usize > TEXT {
            return Err(format!("has a text of {length} bytes, at most {TEXT} are read"));
        }
        let bytes = &self.bytes[span.at as usize..self.at];
        std::str::from_utf8(bytes).map_err(|_| "has a text that is not UTF-8")?;
        self.push(Datum::Text(span))
    }

    /// Puts the top into the memo, or takes it from there.
    fn memory(&mut self, code: u8) -> Result<(), String> {
        let slot = match code {
            b'q' | b'h' => self.fixed::<1>()?[0].into(),
            _ => u32::from_le_bytes(self.fixed()?) as usize,
        };
        if matches!(code, b'h' | b'j') {
            let item = self.memo.get(slot).copied().flatten();
            return self.push(item.ok_or_else(|| format!("takes what it did not keep ({slot})"))?);
        }
        let top = self.top()?;
        if slot >= self.memo.len() {
            self.graph.take(slot + 1 - self.memo.len())?;
            self.memo.resize(slot + 1, None);
        }
        self.memo[slot] = Some(top);
        Ok(())
    }

    fn line(&mut self) -> Result<Span, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(256).position(|byte| *byte == b'\n');
        let span = self.span(length.ok_or("asks for a name that does not end")? as u32)?;
        self.at += 1;
        Ok(span)
    }

    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        names::check(self.graph.text(module)?, self.graph.text(name)?)?;
        self.make(PickleNode::Named { module, name }, 1)
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, named) = (self.pop()?, self.pop()?);
        let (Datum::Node(arguments), Datum::Node(named)) = (arguments, named) else {
            return Err("calls what is no name".into());
        };
        let Some(of) = self.graph.named(named) else { return Err("calls what is no name".into()) };
        let PickleNode::Tuple(chain) = self.graph.node(arguments) else {
            return Err("calls with what is no tuple".into());
        };
        if of == ("collections", "OrderedDict") {
            if chain.first != NIL {
                return Err("has a dict as Python 2 wrote it; save it again with Python 3".into());
            }
            return self.make(PickleNode::Dict(Chain::EMPTY), 1);
        }
        let depth = self.graph.depth(Datum::Node(arguments)) + 1;
        self.make(PickleNode::Call { named, arguments, state: NIL }, depth)
    }

    /// Numbers that lie outside of the pickle, or a class with its source.
    fn persistent(&mut self) -> Result<(), String> {
        let wrong = "refers to what is neither numbers nor a class";
        let Datum::Node(tuple) = self.pop()? else { return Err(wrong.into()) };
        let PickleNode::Tuple(chain) = self.graph.node(tuple) else { return Err(wrong.into()) };
        let items: Vec<Datum> = self.graph.items(chain).take(7).collect();
        let (Some(Datum::Text(kind)), Some(Datum::Node(class))) = (items.first(), items.get(1))
        else {
            return Err(wrong.into());
        };
        let Some((module, name)) = self.graph.named(*class) else { return Err(wrong.into()) };
        match (self.graph.text(*kind)?, &items[2..]) {
            ("module", [Datum::Text(_), Datum::Text(_)]) => self.push(Datum::Node(*class)),
            ("storage", [Datum::Text(key), _, count, view @ ..]) => {
                let element = StorageType::of_storage(name).filter(|_| module == "torch");
                let element =
                    element.ok_or_else(|| format!("has numbers of type {module}.{name}"))?;
                let Datum::Int(count @ 0..) = *count else {
                    return Err("has an absurd number of elements".into());
                };
                if !matches!(view, [] | [Datum::None]) {
                    let text = "has a view of other numbers, as very old PyTorch wrote it; \
                                save it again with a newer one";
                    return Err(text.into());
                }
                self.make(PickleNode::Numbers { element, key: *key, count: count as u64 }, 1)
            }
            _ => Err(wrong.into()),
        }
    }
}

const EMPTY: &str = "takes more than there is";
