//! Owns the values of a pickle: nodes of a graph that refer to each other by number.

/// A value: an index into [`Pickle::nodes`](super::graph::Pickle::nodes).
pub(crate) type Id = u32;

/// Longest name of a class or textual number, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 512;

/// A range of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn short(self) -> bool {
        (self.end - self.start) as usize <= NAME_BYTES_MAX
    }
}

/// A value of the graph.
#[derive(Debug)]
pub(crate) enum Node {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A wider integer: two's complement, little-endian.
    Long(Span),
    /// A float.
    Float(f64),
    /// A string (also a byte string of Python 2).
    Text(Span),
    /// A byte string.
    Bytes(Span),
    /// A tuple: a range of [`Pickle::tuple_items`](super::graph::Pickle::tuple_items).
    Tuple(Span),
    /// A list.
    List(Vec<Id>),
    /// A set or frozen set.
    Set(Vec<Id>),
    /// A dict, in order of insertion; a later equal key replaces an earlier one.
    Dict(Vec<(Id, Id)>),
    /// A class or function by module and name.
    Global(Span, Span),
    /// What the saving program stored elsewhere, by its id.
    Persistent(Id),
    /// What a call would have made.
    Object(Box<Object>),
}

/// A call that was not made, and what was then put into its result.
#[derive(Debug)]
pub(crate) struct Object {
    /// What would have been called: a global, or whatever the file says.
    pub callable: Id,
    /// The tuple of arguments.
    pub args: Id,
    /// The last argument of BUILD.
    pub state: Option<Id>,
    /// What was appended.
    pub items: Vec<Id>,
    /// What was set by key.
    pub entries: Vec<(Id, Id)>,
}
