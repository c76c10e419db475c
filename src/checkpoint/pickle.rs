//! Owns the pickle machine: opcodes of protocols 0 to 5 to a graph of values. It calls nothing and
//! imports nothing: a global is a name, a call is a node that says what would have been called.
//! Must not know: what any name means (`torch`, `walk` and `plain` do).
//!
//! Everything is bounded: strings are ranges of the input, values are indices into one arena that
//! is charged against a budget before it grows, nothing recurses.

use std::collections::HashMap;

use super::tensor::Bytes;

/// A value: an index into [`Pickle::nodes`].
pub type Id = u32;

/// Most bytes of memory that the graph of one pickle may take: that of 25,000 tensors.
const GRAPH_BYTES_MAX: usize = 48 << 20;

/// Most opcodes of one pickle; a real one has some ten thousand.
const OPCODES_MAX: usize = 16 << 20;

/// Largest pickle read, in bytes: ranges of it are kept as 32 bits.
const PICKLE_BYTES_MAX: usize = u32::MAX as usize;

/// Longest name of a class or textual number, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// Longest string that [`Pickle::text`] gives, in bytes: keys are compared again and again, so a
/// hostile one must not be long.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// A range of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn short(self) -> bool {
        (self.end - self.start) as usize <= NAME_BYTES_MAX
    }
}

/// A value of the graph.
#[derive(Debug)]
pub enum Node {
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
    /// A tuple: a range of [`Pickle::tuple_items`].
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
pub struct Object {
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

/// The graph of one pickle.
#[derive(Debug)]
pub struct Pickle {
    input: Bytes,
    nodes: Vec<Node>,
    tuple_items: Vec<Id>,
    /// The value that the pickle stands for.
    pub root: Id,
    /// Bytes of the input up to and with its STOP.
    pub consumed: usize,
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Pickle {
    /// Reads the pickle at the start of `input`.
    ///
    /// # Errors
    /// With the byte and the reason, where it is malformed, truncated or over a limit.
    pub fn read(input: &Bytes) -> Result<Pickle, String> {
        let length = input.len().min(PICKLE_BYTES_MAX);
        let input = input.slice(0..length).unwrap_or_else(|| input.clone());
        let mut machine = Machine {
            bytes: &input,
            at: 0,
            nodes: Vec::new(),
            tuple_items: Vec::new(),
            stack: Vec::new(),
            stack_most: 0,
            marks: Vec::new(),
            memo: HashMap::new(),
            budget: GRAPH_BYTES_MAX,
        };
        let root = machine.run().map_err(|what| format!("pickle, byte {}: {what}", machine.at))?;
        let Machine { nodes, tuple_items, at, .. } = machine;
        Ok(Pickle { nodes, tuple_items, root, consumed: at, input })
    }

    /// A value.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// All values, in order of their ids.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The text of a range; None where it is no UTF-8.
    pub fn text_of(&self, span: Span) -> Option<&str> {
        std::str::from_utf8(self.bytes_of(span)).ok()
    }

    /// The bytes of a range.
    pub fn bytes_of(&self, span: Span) -> &[u8] {
        &self.input[span.start as usize..span.end as usize]
    }

    /// The bytes of a range, shared.
    pub fn shared_bytes_of(&self, span: Span) -> Bytes {
        let range = span.start as usize..span.end as usize;
        self.input.slice(range).unwrap_or_else(|| Vec::new().into())
    }

    /// A string value of less than 4 KiB.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(span) if self.bytes_of(*span).len() <= TEXT_BYTES_MAX => self.text_of(*span),
            _ => None,
        }
    }

    /// An integer value.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The items of a tuple, given its range.
    pub fn tuple_items(&self, span: Span) -> &[Id] {
        &self.tuple_items[span.start as usize..span.end as usize]
    }

    /// The items of a tuple or list.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(span) => Some(self.tuple_items(*span)),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// Module and name of a global.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.node(id) {
            Node::Global(module, name) => Some((self.text_of(*module)?, self.text_of(*name)?)),
            _ => None,
        }
    }

    /// An object.
    pub fn object(&self, id: Id) -> Option<&Object> {
        match self.node(id) {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Calls `visit` with everything a value refers to.
    pub fn children(&self, id: Id, mut visit: impl FnMut(Id)) {
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

/// The state of a reading.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    tuple_items: Vec<Id>,
    stack: Vec<Id>,
    stack_most: usize,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    budget: usize,
}

/// A reason; the caller adds the place.
type Step<T> = Result<T, String>;

impl Machine<'_> {
    /// Runs to STOP.
    fn run(&mut self) -> Step<Id> {
        for _ in 0..OPCODES_MAX {
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            let known = self.number(opcode)?
                || self.string(opcode)?
                || self.container(opcode)?
                || self.memory(opcode)?
                || self.call(opcode)?;
            if !known {
                return Err(format!("unknown opcode 0x{opcode:02x}"));
            }
        }
        Err("more steps than any checkpoint needs; not read further".into())
    }

    /// Opcodes of numbers and the like, and those without effect.
    fn number(&mut self, opcode: u8) -> Step<bool> {
        let node = match opcode {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'K' => Node::Int(self.byte()?.into()),
            b'M' => Node::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Node::Int(i32::from_le_bytes(self.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let length = self.byte()?.into();
                self.long(length)?
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length.into())?
            }
            b'I' | b'L' => self.decimal()?,
            b'F' => {
                let line = self.line()?;
                let value = self.ascii(line)?.parse();
                Node::Float(value.map_err(|_| "a float that is none")?)
            }
            // PROTO: higher protocols may mean other opcodes by the same bytes.
            0x80 => {
                let protocol = self.byte()?;
                return match protocol {
                    0..=5 => Ok(true),
                    _ => Err(format!("pickle protocol {protocol}; save with protocol 2 to 5")),
                };
            }
            // FRAME: a hint for buffered readers.
            0x95 => {
                self.array::<8>()?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.push_node(node)?;
        Ok(true)
    }

    /// Opcodes of strings.
    fn string(&mut self, opcode: u8) -> Step<bool> {
        let node = match opcode {
            0x8c | b'U' => {
                let length = self.byte()?.into();
                Node::Text(self.span(length)?)
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?);
                Node::Text(self.span(length.into())?)
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                Node::Text(self.span(length)?)
            }
            b'C' => {
                let length = self.byte()?.into();
                Node::Bytes(self.span(length)?)
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                Node::Bytes(self.span(length.into())?)
            }
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.array()?);
                Node::Bytes(self.span(length)?)
            }
            b'V' => {
                let line = self.line()?;
                self.unescaped(line)?
            }
            b'S' => {
                let line = self.line()?;
                let inner = match self.slice(line) {
                    [b'\'', .., b'\''] | [b'"', .., b'"'] => {
                        Span { start: line.start + 1, end: line.end - 1 }
                    }
                    _ => return Err("a string without quotes".into()),
                };
                self.unescaped(inner)?
            }
            // READONLY_BUFFER changes no value.
            0x98 => return Ok(true),
            0x97 => return Err("data outside of the pickle (NEXT_BUFFER)".into()),
            _ => return Ok(false),
        };
        self.push_node(node)?;
        Ok(true)
    }

    /// Opcodes of tuples, lists, sets and dicts, and of marks.
    fn container(&mut self, opcode: u8) -> Step<bool> {
        match opcode {
            b'(' => {
                self.charge(16)?;
                self.marks.push(self.stack.len());
            }
            b')' => self.tuple(0)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let count = self.above_mark()?;
                self.tuple(count)?;
            }
            b']' => self.push_node(Node::List(Vec::new()))?,
            b'}' => self.push_node(Node::Dict(Vec::new()))?,
            0x8f => self.push_node(Node::Set(Vec::new()))?,
            b'l' => {
                let items = self.pop_marked()?;
                self.push_node(Node::List(items))?;
            }
            0x91 => {
                let items = self.pop_marked()?;
                self.push_node(Node::Set(items))?;
            }
            b'd' => {
                let entries = self.pop_marked()?;
                let entries = pairs(&entries)?;
                self.charge(entries.len() * 16)?;
                self.push_node(Node::Dict(entries))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_marked()?;
                self.extend(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[(key, value)])?;
            }
            b'u' => {
                let entries = self.pop_marked()?;
                self.set(&pairs(&entries)?)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes of the memo and the stack.
    fn memory(&mut self, opcode: u8) -> Step<bool> {
        match opcode {
            b'q' => {
                let index = self.byte()?.into();
                self.remember(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)?;
            }
            b'p' => {
                let index = self.index()?;
                self.remember(index)?;
            }
            0x94 => {
                let index = u32::try_from(self.memo.len()).map_err(|_| "too many memos")?;
                self.remember(index)?;
            }
            b'h' => {
                let index = self.byte()?.into();
                self.recall(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }
            b'g' => {
                let index = self.index()?;
                self.recall(index)?;
            }
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.pop_marked()?),
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes that name classes and would call them.
    fn call(&mut self, opcode: u8) -> Step<bool> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_node(Node::Global(module, name))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module as usize], &self.nodes[name as usize]) {
                    (&Node::Text(module), &Node::Text(name)) if module.short() && name.short() => {
                        self.push_node(Node::Global(module, name))?;
                    }
                    _ => return Err("a class whose name is none".into()),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))?;
            }
            b'P' => {
                let line = self.line()?;
                self.push_node(Node::Text(line))?;
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))?;
            }
            // REDUCE and NEWOBJ: callable, arguments.
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                self.object(callable, args)?;
            }
            // NEWOBJ_EX has keyword arguments too; no class of a checkpoint needs them.
            0x92 => {
                let (_keywords, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(callable, args)?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let count = self.above_mark()?;
                self.tuple(count)?;
                let args = self.pop()?;
                self.push_node(Node::Global(module, name))?;
                let callable = self.pop()?;
                self.object(callable, args)?;
            }
            b'o' => {
                let count = self.above_mark()?;
                let count = count.checked_sub(1).ok_or("an object without a class")?;
                self.tuple(count)?;
                let (args, callable) = (self.pop()?, self.pop()?);
                self.object(callable, args)?;
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                match &mut self.nodes[target as usize] {
                    Node::Object(object) => object.state = Some(state),
                    _ => return Err("a state for what is no object".into()),
                }
            }
            0x82..=0x84 => return Err("a class by number (EXT)".into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn object(&mut self, callable: Id, args: Id) -> Step<()> {
        self.charge(size_of::<Object>() + 16)?;
        let (items, entries) = (Vec::new(), Vec::new());
        let object = Object { callable, args, state: None, items, entries };
        self.push_node(Node::Object(Box::new(object)))
    }

    /// Makes a tuple of the `count` topmost values.
    fn tuple(&mut self, count: usize) -> Step<()> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).filter(|&from| from >= floor);
        let from = from.ok_or("the stack is empty")?;
        self.charge(8 * count)?;
        let start = self.tuple_items.len() as u32;
        self.tuple_items.extend(self.stack.drain(from..));
        let end = self.tuple_items.len() as u32;
        self.push_node(Node::Tuple(Span { start, end }))
    }

    /// Appends to the list, set or object on top.
    fn extend(&mut self, items: &[Id]) -> Step<()> {
        self.charge(32 + 8 * items.len())?;
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::List(list) | Node::Set(list) => list.extend(items),
            Node::Object(object) => object.items.extend(items),
            _ => return Err("an item for what is no list".into()),
        }
        Ok(())
    }

    /// Sets entries of the dict or object on top.
    fn set(&mut self, entries: &[(Id, Id)]) -> Step<()> {
        self.charge(64 + 16 * entries.len())?;
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Dict(dict) => dict.extend(entries),
            Node::Object(object) => object.entries.extend(entries),
            _ => return Err("an entry for what is no dict".into()),
        }
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Step<()> {
        self.charge(32)?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Step<()> {
        let id = *self.memo.get(&index).ok_or("a reference to nothing")?;
        self.push(id)
    }

    fn push_node(&mut self, node: Node) -> Step<()> {
        // Twice its size: a growing vector holds up to twice what it needs.
        self.charge(2 * size_of::<Node>())?;
        let id = Id::try_from(self.nodes.len()).map_err(|_| "too many values")?;
        self.nodes.push(node);
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Step<()> {
        if self.stack.len() == self.stack_most {
            self.charge(8)?;
            self.stack_most += 1;
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    /// Removes the last mark; how many values lie above it.
    fn above_mark(&mut self) -> Step<usize> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        self.stack.len().checked_sub(mark).ok_or_else(|| "a mark above the stack".into())
    }

    /// Removes the last mark and all above it.
    fn pop_marked(&mut self) -> Step<Vec<Id>> {
        let count = self.above_mark()?;
        self.charge(8 * count)?;
        let from = self.stack.len() - count;
        Ok(self.stack.drain(from..).collect())
    }

    /// Takes memory from the budget before it is taken from the system.
    fn charge(&mut self, bytes: usize) -> Step<()> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or("more values than any checkpoint has; not read further")?;
        Ok(())
    }

    fn byte(&mut self) -> Step<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = *rest.first_chunk::<N>().ok_or("the file ends too early")?;
        self.at += N;
        Ok(array)
    }

    /// The next `length` bytes.
    fn span(&mut self, length: u64) -> Step<Span> {
        let rest = (self.bytes.len() - self.at) as u64;
        if length > rest {
            return Err(format!("a string of {length} bytes where {rest} are left"));
        }
        let start = self.at as u32;
        // Inside the input, whose length is limited far below 32 bits.
        self.at += length as usize;
        Ok(Span { start, end: self.at as u32 })
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> Step<Span> {
        let rest = &self.bytes[self.at..];
        let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
        let length = rest.iter().position(|&b| b == b'\n').ok_or("a line without an end")?;
        let span = self.span(length as u64)?;
        self.at += 1;
        Ok(span)
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    fn ascii(&self, span: Span) -> Step<&str> {
        std::str::from_utf8(self.slice(span)).map_err(|_| "a number that is none".into())
    }

    /// The index of a textual GET or PUT.
    fn index(&mut self) -> Step<u32> {
        let line = self.line()?;
        self.ascii(line)?.parse().map_err(|_| "a memo index that is none".into())
    }

    /// An integer of a textual opcode; `00` and `01` are False and True.
    fn decimal(&mut self) -> Step<Node> {
        let line = self.line()?;
        let text = self.ascii(line)?.trim_end_matches('L');
        Ok(match text {
            "00" => Node::Bool(false),
            "01" => Node::Bool(true),
            _ => Node::Int(text.parse().map_err(|_| "an integer that is none, or too long")?),
        })
    }

    /// A textual string, which needs no memory of its own as long as it has no escapes.
    fn unescaped(&self, span: Span) -> Step<Node> {
        match self.slice(span).contains(&b'\\') {
            true => Err("a string with escapes; save with protocol 2 or later".into()),
            false => Ok(Node::Text(span)),
        }
    }

    /// An integer of `length` little-endian bytes.
    fn long(&mut self, length: u64) -> Step<Node> {
        let span = self.span(length)?;
        let bytes = self.slice(span);
        if bytes.len() > 8 {
            return Ok(Node::Long(span));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(Node::Int(i64::from_le_bytes(wide)))
    }
}

/// Keys with their values.
fn pairs(flat: &[Id]) -> Step<Vec<(Id, Id)>> {
    match flat.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key without a value".into()),
    }
}

#[cfg(test)]
mod tests;
