//! Owns the pickle machine: opcodes of protocols 0 to 5 to nodes of a graph, each step charged
//! against a budget.

use std::collections::HashMap;

mod operands;
mod stack;
#[cfg(test)]
mod tests;

use super::value::{Id, Node, Span};

/// Most bytes of memory that the graph of one pickle may take: that of 25,000 tensors.
const GRAPH_BYTES_MAX: usize = 48 << 20;

/// Most opcodes of one pickle; a real one has some ten thousand.
const OPCODES_MAX: usize = 16 << 20;

/// The state of a reading.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pub at: usize,
    pub nodes: Vec<Node>,
    pub tuple_items: Vec<Id>,
    stack: Vec<Id>,
    stack_most: usize,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    budget: usize,
}

/// A reason; the caller adds the place.
type Step<T> = Result<T, String>;

impl Machine<'_> {
    /// At the start of a pickle.
    pub(super) fn new(bytes: &[u8]) -> Machine<'_> {
        Machine {
            bytes,
            at: 0,
            nodes: Vec::new(),
            tuple_items: Vec::new(),
            stack: Vec::new(),
            stack_most: 0,
            marks: Vec::new(),
            memo: HashMap::new(),
            budget: GRAPH_BYTES_MAX,
        }
    }

    /// Runs to STOP.
    pub(super) fn run(&mut self) -> Step<Id> {
        for _ in 0..OPCODES_MAX {
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            let known = self.number(opcode)?
                || self.string(opcode)?
                || self.container(opcode)?
                || self.fill(opcode)?
                || self.memory(opcode)?
                || self.name(opcode)?
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
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes that put values into a list, set, dict or object.
    fn fill(&mut self, opcode: u8) -> Step<bool> {
        match opcode {
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

    /// Opcodes that name classes and what lies outside of the pickle.
    fn name(&mut self, opcode: u8) -> Step<bool> {
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
            0x82..=0x84 => return Err("a class by number (EXT)".into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes that would call classes, or fill what a call made.
    fn call(&mut self, opcode: u8) -> Step<bool> {
        match opcode {
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
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Keys with their values.
fn pairs(flat: &[Id]) -> Step<Vec<(Id, Id)>> {
    match flat.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key without a value".into()),
    }
}
