//! Owns what a pickle says: a graph of values, made by `machine`. It calls nothing and imports
//! nothing: a global is a name, a call is a node that says what would have been called.
//! Must not know: what any name means (`tensors`, `objects` and `metadata` do).
//!
//! Everything is bounded: strings are ranges of the input, values are indices into one arena that
//! is charged against a budget before it grows, nothing recurses.

use super::machine::Machine;
use super::value::{Id, Node, Object, Span};
use crate::weights::tensor::Bytes;

/// Largest pickle read, in bytes: ranges of it are kept as 32 bits.
const PICKLE_BYTES_MAX: usize = u32::MAX as usize;

/// Longest string that [`Pickle::text`] gives, in bytes: keys are compared again and again, so a
/// hostile one must not be long.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// The graph of one pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    input: Bytes,
    nodes: Vec<Node>,
    tuple_items: Vec<Id>,
    /// The value that the pickle stands for.
    pub root: Id,
    /// Bytes of the input up to and with its STOP.
    pub consumed: usize,
}

impl Pickle {
    /// Reads the pickle at the start of `input`.
    ///
    /// # Errors
    /// With the byte and the reason, where it is malformed, truncated or over a limit.
    pub(crate) fn read(input: &Bytes) -> Result<Pickle, String> {
        let length = input.len().min(PICKLE_BYTES_MAX);
        let input = input.slice(0..length).unwrap_or_else(|| input.clone());
        let mut machine = Machine::new(&input);
        let root = machine.run().map_err(|what| format!("pickle, byte {}: {what}", machine.at))?;
        let Machine { nodes, tuple_items, at, .. } = machine;
        Ok(Pickle { nodes, tuple_items, root, consumed: at, input })
    }

    /// A value.
    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// All values, in order of their ids.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The text of a range; None where it is no UTF-8.
    pub(crate) fn text_of(&self, span: Span) -> Option<&str> {
        std::str::from_utf8(self.bytes_of(span)).ok()
    }

    /// The bytes of a range.
    pub(crate) fn bytes_of(&self, span: Span) -> &[u8] {
        &self.input[span.start as usize..span.end as usize]
    }

    /// The bytes of a range, shared.
    pub(crate) fn shared_bytes_of(&self, span: Span) -> Bytes {
        let range = span.start as usize..span.end as usize;
        self.input.slice(range).unwrap_or_else(|| Vec::new().into())
    }

    /// A string value of less than 4 KiB.
    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(span) if self.bytes_of(*span).len() <= TEXT_BYTES_MAX => self.text_of(*span),
            _ => None,
        }
    }

    /// An integer value.
    pub(crate) fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The items of a tuple, given its range.
    pub(crate) fn tuple_items(&self, span: Span) -> &[Id] {
        &self.tuple_items[span.start as usize..span.end as usize]
    }

    /// The items of a tuple or list.
    pub(crate) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(span) => Some(self.tuple_items(*span)),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// Module and name of a global.
    pub(crate) fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.node(id) {
            Node::Global(module, name) => Some((self.text_of(*module)?, self.text_of(*name)?)),
            _ => None,
        }
    }

    /// An object.
    pub(crate) fn object(&self, id: Id) -> Option<&Object> {
        match self.node(id) {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Calls `visit` with everything a value refers to.
    pub(crate) fn children(&self, id: Id, mut visit: impl FnMut(Id)) {
        match self.node(id) {
            Node::Tuple(span) => self.tuple_items(*span).iter().for_each(|&i| visit(i)),
            Node::List(items) | Node::Set(items) => items.iter().for_each(|&i| visit(i)),
            Node::Dict(entries) => entries.iter().flat_map(|&(k, v)| [k, v]).for_each(visit),
            Node::Persistent(id) => visit(*id),
            Node::Object(object) => {
                visit(object.callable);
                visit(object.args);
                object.state.into_iter().for_each(&mut visit);
                object.items.iter().for_each(|&i| visit(i));
                object.entries.iter().flat_map(|&(k, v)| [k, v]).for_each(visit);
            }
            Node::None
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Long(_)
            | Node::Float(_)
            | Node::Text(_)
            | Node::Bytes(_)
            | Node::Global(..) => {}
        }
    }
}
