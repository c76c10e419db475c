//! Owns what the objects of a pickle are: modules, containers of the standard library, classes by
//! their names.

use std::collections::HashSet;

use super::graph::Pickle;
use super::value::{Id, Node, Object};

/// Longest part of a name, in bytes; the rest of a longer one is cut.
const LABEL_BYTES_MAX: usize = 1 << 10;

/// What may still be looked at. A container can be shared by a million objects, so looking into it
/// is charged each time.
pub(crate) struct Work(pub usize);

impl Work {
    /// Whether `count` entries may be looked at.
    pub(crate) fn take(&mut self, count: usize) -> bool {
        let enough = self.0 >= count;
        self.0 = self.0.saturating_sub(count);
        enough
    }

    /// `items`, or none of them where that is more than may still be looked at.
    pub(crate) fn slice<'a, T>(&mut self, items: &'a [T]) -> &'a [T] {
        if self.take(items.len()) { items } else { &[] }
    }
}

/// The parts of a pickled `torch.nn.Module`.
pub(crate) struct Module {
    /// Names and values.
    pub parameters: Vec<(Id, Id)>,
    /// Names and values.
    pub buffers: Vec<(Id, Id)>,
    /// Names and values.
    pub modules: Vec<(Id, Id)>,
    /// Names of buffers that `state_dict()` leaves out.
    pub not_saved: HashSet<String>,
}

impl Module {
    /// None where the attributes are not those of a module.
    pub(crate) fn of(pickle: &Pickle, attributes: &[(Id, Id)], work: &mut Work) -> Option<Module> {
        let find = |name: &str| {
            let found = attributes.iter().rev().find(|&&(k, _)| pickle.text(k) == Some(name));
            found.map(|&(_, value)| value)
        };
        let (parameters, modules) = (find("_parameters")?, find("_modules")?);
        let not_saved = find("_non_persistent_buffers_set").map(|id| members(pickle, id, work));
        let mut dict = |id: Id| mapping(pickle, id, work);
        Some(Module {
            parameters: dict(parameters),
            buffers: find("_buffers").map(&mut dict).unwrap_or_default(),
            modules: dict(modules),
            not_saved: not_saved.unwrap_or_default(),
        })
    }
}

/// Whether the attributes are those of a pickled module.
pub(crate) fn is_module(pickle: &Pickle, object: &Object, work: &mut Work) -> bool {
    let attributes = attributes(pickle, object, work);
    let has = |name| attributes.iter().any(|&(k, _)| pickle.text(k) == Some(name));
    has("_parameters") && has("_modules")
}

/// The attributes of an object: its state, or both parts where it has slots too.
pub(crate) fn attributes(pickle: &Pickle, object: &Object, work: &mut Work) -> Vec<(Id, Id)> {
    match object.state.map(|s| (s, pickle.node(s))) {
        Some((_, Node::Dict(entries))) => work.slice(entries).to_vec(),
        Some((state, Node::Tuple(_))) => {
            let parts = work.slice(pickle.sequence(state).unwrap_or_default());
            parts.iter().flat_map(|&part| mapping(pickle, part, work)).collect()
        }
        _ => Vec::new(),
    }
}

/// The entries of a dict, or of an object that is one.
pub(crate) fn mapping(pickle: &Pickle, id: Id, work: &mut Work) -> Vec<(Id, Id)> {
    match pickle.node(id) {
        Node::Dict(entries) => work.slice(entries).to_vec(),
        Node::Object(object) => {
            let args = pickle.sequence(object.args).unwrap_or_default();
            let mut entries = Vec::new();
            if builds_container(pickle, object)
                && let Some(&first) = args.first()
            {
                entries = match pickle.node(first) {
                    Node::Dict(entries) => work.slice(entries).to_vec(),
                    _ => pairs_of(pickle, first, work).unwrap_or_default(),
                };
            }
            entries.extend(work.slice(&object.entries));
            entries
        }
        _ => Vec::new(),
    }
}

/// Whether the object is a container of the standard library (or `torch.Size`), whose arguments
/// are its content.
pub(crate) fn builds_container(pickle: &Pickle, object: &Object) -> bool {
    matches!(
        pickle.global(object.callable),
        Some(
            ("collections", "OrderedDict" | "defaultdict" | "Counter" | "deque")
                | ("__builtin__" | "builtins", "set" | "frozenset" | "dict" | "list" | "tuple")
                | ("torch", "Size")
        )
    )
}

/// `[(key, value), ...]`, as OrderedDict was pickled by Python 2; None where it is anything else.
pub(crate) fn pairs_of(pickle: &Pickle, id: Id, work: &mut Work) -> Option<Vec<(Id, Id)>> {
    let items = pickle.sequence(id).filter(|items| !items.is_empty())?;
    work.slice(items)
        .iter()
        .map(|&item| match pickle.sequence(item) {
            Some(&[key, value]) if pickle.text(key).is_some() => Some((key, value)),
            _ => None,
        })
        .collect()
}

/// The strings in a set.
fn members(pickle: &Pickle, id: Id, work: &mut Work) -> HashSet<String> {
    let items = match pickle.node(id) {
        Node::Set(items) | Node::List(items) => items,
        Node::Object(object) => {
            let args = pickle.sequence(object.args).unwrap_or_default();
            args.first().and_then(|&a| pickle.sequence(a)).unwrap_or_default()
        }
        _ => &[],
    };
    work.slice(items).iter().filter_map(|&i| pickle.text(i)).map(String::from).collect()
}

/// A key as a part of a name.
pub(crate) fn label(pickle: &Pickle, key: Id) -> String {
    match pickle.node(key) {
        Node::Text(span) | Node::Bytes(span) => {
            let bytes = pickle.bytes_of(*span);
            let bytes = &bytes[..bytes.len().min(LABEL_BYTES_MAX)];
            String::from_utf8_lossy(bytes).into_owned()
        }
        Node::Int(value) => value.to_string(),
        Node::Bool(value) => value.to_string(),
        Node::Float(value) => value.to_string(),
        Node::None => "None".into(),
        Node::Global(..) => {
            pickle.global(key).map_or("a class".into(), |(m, n)| format!("{m}.{n}"))
        }
        _ => format!("key {key}"),
    }
}

/// The class of an object, for messages.
pub(crate) fn class_name(pickle: &Pickle, id: Id) -> String {
    match class_of(pickle, id).and_then(|class| pickle.global(class)) {
        Some((module, name)) => format!("{module}.{name}"),
        None => "a class without a name".into(),
    }
}

/// The global that is the class of an object, if it has one.
pub(crate) fn class_of(pickle: &Pickle, id: Id) -> Option<Id> {
    let object = pickle.object(id)?;
    match pickle.node(object.callable) {
        // `copyreg._reconstructor(class, ...)`
        Node::Global(..) if pickle.global(object.callable)?.1 == "_reconstructor" => {
            pickle.sequence(object.args)?.first().copied()
        }
        // `('module', class, source)` of old streams
        Node::Persistent(id) => pickle.sequence(*id)?.get(1).copied(),
        _ => Some(object.callable),
    }
}
