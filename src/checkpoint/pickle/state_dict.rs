//! Owns the flattening of a graph to a state dict: nested dicts, lists and modules become dotted
//! names.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::graph::Pickle;
use super::objects::{Module, Work, attributes, builds_container, label, pairs_of};
use super::storage::Made;
use super::tensors::{Rebuild, is_tensor};
use super::value::{Id, Node, Object};
use crate::util::text::quoted;
use crate::weights::tensor::RawTensor;

/// Deepest nesting of tensors.
const DEPTH_MAX: usize = 100;

/// Most values visited, and so most tensors named: shared values can multiply without end.
const VISITS_MAX: usize = 200_000;

/// Most entries looked at on the way; shared ones count each time.
const WORK_MAX: usize = 4_000_000;

/// Bytes that all names together may take.
const NAME_BYTES_MAX: usize = 16 << 20;

/// A state dict, flat.
pub(crate) struct StateDict {
    /// By dotted name.
    pub tensors: BTreeMap<String, RawTensor>,
    /// Tensors of kinds that aren't read, with the word for the kind.
    pub unread: BTreeMap<String, String>,
    /// Of every value, whether a tensor can be reached from it.
    pub reaches_tensor: Vec<bool>,
}

const TOO_MUCH: &str = "more tensors and settings than any checkpoint has; not read further";

/// All tensors that can be reached from the root, by name. A value under two keys has two names.
///
/// # Errors
/// Where a tensor is broken, two have one name, or a limit is reached.
pub(crate) fn flatten_state_dict(
    pickle: &Pickle,
    rebuild: &mut Rebuild,
) -> Result<StateDict, String> {
    let reaches_tensor = reaches_tensor(pickle);
    let mut flattening = Flattening {
        pickle,
        rebuild,
        reaches_tensor: &reaches_tensor,
        tensors: BTreeMap::new(),
        unread: BTreeMap::new(),
        path: HashSet::new(),
        visits_left: VISITS_MAX,
        name_bytes_left: NAME_BYTES_MAX,
        work: Work(WORK_MAX),
    };
    flattening.visit(pickle.root, "")?;
    let Flattening { tensors, unread, work, .. } = flattening;
    if work.0 == 0 {
        return Err(TOO_MUCH.into());
    }
    Ok(StateDict { tensors, unread, reaches_tensor })
}

/// Of every value, whether a tensor can be reached from it: a breadth-first search from the
/// tensors along the references backwards, so that cycles and sharing cost nothing.
fn reaches_tensor(pickle: &Pickle) -> Vec<bool> {
    let ids = 0..pickle.nodes().len() as Id;
    // `referrers[starts[i]..starts[i + 1]]` refer to value i.
    let mut starts = vec![0u32; pickle.nodes().len() + 1];
    for id in ids.clone() {
        pickle.children(id, |child| starts[child as usize + 1] += 1);
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut referrers: Vec<Id> = vec![0; starts.last().copied().unwrap_or(0) as usize];
    let mut next = starts.clone();
    for id in ids.clone() {
        pickle.children(id, |child| {
            referrers[next[child as usize] as usize] = id;
            next[child as usize] += 1;
        });
    }
    let mut queue: Vec<Id> = ids.filter(|&id| is_tensor(pickle, id)).collect();
    let mut reaches = vec![false; pickle.nodes().len()];
    queue.iter().for_each(|&id| reaches[id as usize] = true);
    while let Some(id) = queue.pop() {
        let range = starts[id as usize] as usize..starts[id as usize + 1] as usize;
        for &referrer in &referrers[range] {
            if !reaches[referrer as usize] {
                reaches[referrer as usize] = true;
                queue.push(referrer);
            }
        }
    }
    reaches
}

struct Flattening<'a, 'b> {
    pickle: &'a Pickle,
    rebuild: &'a mut Rebuild<'b>,
    reaches_tensor: &'a [bool],
    tensors: BTreeMap<String, RawTensor>,
    unread: BTreeMap<String, String>,
    /// The values between the root and here.
    path: HashSet<Id>,
    visits_left: usize,
    name_bytes_left: usize,
    work: Work,
}

impl Flattening<'_, '_> {
    fn visit(&mut self, id: Id, name: &str) -> Result<(), String> {
        if !self.reaches_tensor[id as usize] {
            return Ok(());
        }
        let left = self.visits_left.checked_sub(1);
        self.visits_left = left.ok_or(TOO_MUCH)?;
        if is_tensor(self.pickle, id) {
            return self.take(id, name);
        }
        if !self.path.insert(id) {
            return Ok(()); // a cycle: what is inside has its names already
        }
        if self.path.len() > DEPTH_MAX {
            return Err(format!("tensors nested deeper than {DEPTH_MAX} levels"));
        }
        let pickle = self.pickle;
        match pickle.node(id) {
            Node::Dict(entries) => self.entries(entries, name)?,
            Node::List(items) | Node::Set(items) => self.items(items, name)?,
            Node::Tuple(span) => self.items(pickle.tuple_items(*span), name)?,
            Node::Object(object) => self.object(object, name)?,
            _ => {}
        }
        self.path.remove(&id);
        Ok(())
    }

    /// Rebuilds a tensor and gives it its name.
    fn take(&mut self, id: Id, name: &str) -> Result<(), String> {
        // A file that is one tensor has no name for it.
        let name = if name.is_empty() { "tensor" } else { name };
        match self.rebuild.tensor(id).map_err(|e| format!("tensor {}: {e}", quoted(name)))? {
            Made::Tensor(tensor) => {
                if self.tensors.insert(name.to_string(), tensor).is_some() {
                    return Err(format!("two tensors are called {}", quoted(name)));
                }
            }
            Made::Unread(kind) => {
                self.unread.insert(name.to_string(), kind);
            }
        }
        Ok(())
    }

    fn entries(&mut self, entries: &[(Id, Id)], name: &str) -> Result<(), String> {
        // As in Python, the last of equal keys counts; 1 and "1" are not equal.
        let mut last: HashMap<(bool, String), usize> = HashMap::new();
        let mut labels = Vec::new();
        for (i, &(key, value)) in self.work.slice(entries).iter().enumerate() {
            if self.reaches_tensor[value as usize] {
                let text = label(self.pickle, key);
                let is_text = matches!(self.pickle.node(key), Node::Text(_));
                last.insert((is_text, text.clone()), i);
                labels.push((i, is_text, text));
            }
        }
        for (i, is_text, text) in labels {
            let inner = self.join(name, &text)?;
            if last.get(&(is_text, text)) == Some(&i) {
                self.visit(entries[i].1, &inner)?;
            }
        }
        Ok(())
    }

    fn items(&mut self, items: &[Id], name: &str) -> Result<(), String> {
        for (i, &item) in self.work.slice(items).iter().enumerate() {
            if self.reaches_tensor[item as usize] {
                let inner = self.join(name, &i.to_string())?;
                self.visit(item, &inner)?;
            }
        }
        Ok(())
    }

    fn object(&mut self, object: &Object, name: &str) -> Result<(), String> {
        let pickle = self.pickle;
        let state = attributes(pickle, object, &mut self.work);
        if let Some(module) = Module::of(pickle, &state, &mut self.work) {
            return self.module(&module, name);
        }
        self.entries(&object.entries, name)?;
        self.items(&object.items, name)?;
        self.entries(&state, name)?;
        let args = pickle.sequence(object.args).unwrap_or_default();
        if !builds_container(pickle, object) {
            // Of what an unknown call would have made nothing is known but its arguments.
            let inner = self.join(name, "args")?;
            return self.items(args, &inner);
        }
        for &arg in args {
            match pairs_of(pickle, arg, &mut self.work) {
                Some(pairs) => self.entries(&pairs, name)?,
                None => self.visit_inside(arg, name)?,
            }
        }
        Ok(())
    }

    /// The content of a container's argument, under the container's own name.
    fn visit_inside(&mut self, id: Id, name: &str) -> Result<(), String> {
        let pickle = self.pickle;
        match pickle.node(id) {
            Node::Dict(entries) => self.entries(entries, name),
            Node::List(items) | Node::Set(items) => self.items(items, name),
            Node::Tuple(span) => self.items(pickle.tuple_items(*span), name),
            _ => self.visit(id, name),
        }
    }

    /// What `state_dict()` of a pickled module would give.
    fn module(&mut self, module: &Module, name: &str) -> Result<(), String> {
        self.entries(&module.parameters, name)?;
        let buffers: Vec<(Id, Id)> = module
            .buffers
            .iter()
            .filter(|(key, _)| !module.not_saved.contains(&label(self.pickle, *key)))
            .copied()
            .collect();
        self.entries(&buffers, name)?;
        self.entries(&module.modules, name)
    }

    fn join(&mut self, name: &str, label: &str) -> Result<String, String> {
        let bytes = name.len() + 1 + label.len();
        let left = self.name_bytes_left.checked_sub(bytes);
        self.name_bytes_left =
            left.ok_or("names longer than any checkpoint's; not read further")?;
        Ok(match name.is_empty() {
            true => label.to_string(),
            false => format!("{name}.{label}"),
        })
    }
}

#[cfg(test)]
mod tests;
