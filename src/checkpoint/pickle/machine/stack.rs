//! Owns the stack, the marks and the memo, and what is put together from them, each step charged
//! against the budget.

use super::{Machine, Step};
use crate::checkpoint::pickle::value::{Id, Node, Object, Span};

impl Machine<'_> {
    pub(super) fn object(&mut self, callable: Id, args: Id) -> Step<()> {
        self.charge(size_of::<Object>() + 16)?;
        let (items, entries) = (Vec::new(), Vec::new());
        let object = Object { callable, args, state: None, items, entries };
        self.push_node(Node::Object(Box::new(object)))
    }

    /// Makes a tuple of the `count` topmost values.
    pub(super) fn tuple(&mut self, count: usize) -> Step<()> {
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
    pub(super) fn extend(&mut self, items: &[Id]) -> Step<()> {
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
    pub(super) fn set(&mut self, entries: &[(Id, Id)]) -> Step<()> {
        self.charge(64 + 16 * entries.len())?;
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Dict(dict) => dict.extend(entries),
            Node::Object(object) => object.entries.extend(entries),
            _ => return Err("an entry for what is no dict".into()),
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, index: u32) -> Step<()> {
        self.charge(32)?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    pub(super) fn recall(&mut self, index: u32) -> Step<()> {
        let id = *self.memo.get(&index).ok_or("a reference to nothing")?;
        self.push(id)
    }

    pub(super) fn push_node(&mut self, node: Node) -> Step<()> {
        // Twice its size: a growing vector holds up to twice what it needs.
        self.charge(2 * size_of::<Node>())?;
        let id = Id::try_from(self.nodes.len()).map_err(|_| "too many values")?;
        self.nodes.push(node);
        self.push(id)
    }

    pub(super) fn push(&mut self, id: Id) -> Step<()> {
        if self.stack.len() == self.stack_most {
            self.charge(8)?;
            self.stack_most += 1;
        }
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    pub(super) fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    /// Removes the last mark; how many values lie above it.
    pub(super) fn above_mark(&mut self) -> Step<usize> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        self.stack.len().checked_sub(mark).ok_or_else(|| "a mark above the stack".into())
    }

    /// Removes the last mark and all above it.
    pub(super) fn pop_marked(&mut self) -> Step<Vec<Id>> {
        let count = self.above_mark()?;
        self.charge(8 * count)?;
        let from = self.stack.len() - count;
        Ok(self.stack.drain(from..).collect())
    }

    /// Takes memory from the budget before it is taken from the system.
    pub(super) fn charge(&mut self, bytes: usize) -> Step<()> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or("more values than any checkpoint has; not read further")?;
        Ok(())
    }
}
