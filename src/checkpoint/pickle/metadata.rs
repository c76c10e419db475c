//! Owns what lies beside the tensors of a pickle: plain data as JSON (hyperparameters, arguments,
//! attributes of a module), and a note on objects of unknown classes.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::graph::Pickle;
use super::numpy;
use super::objects::{self, Work};
use super::tensors::is_tensor;
use super::value::{Id, Node, Object};
use crate::util::text::quoted;

/// Deepest nesting turned into JSON.
const DEPTH_MAX: usize = 32;

/// Most values turned into JSON; shared ones count each time.
const VALUES_MAX: usize = 20_000;

/// Most entries looked at; shared ones count each time.
const WORK_MAX: usize = 2_000_000;

/// Longest string taken over, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Most classes named in the note.
const CLASSES_MAX: usize = 12;

/// Most classes of a file looked at for it.
const FILE_CLASSES_MAX: usize = 1000;

/// Keys of the root that are settings even where a tensor hides in them; each is a configuration.
pub(crate) const SETTINGS: [&str; 6] =
    ["hyper_parameters", "hparams", "args", "config", "cfg", "opt"];

/// The plain data that the root holds beside tensors, by key; for a module, its attributes.
pub(crate) fn beside_tensors(
    pickle: &Pickle,
    reaches_tensor: &[bool],
    notes: &mut Vec<String>,
) -> Option<Json> {
    let mut plain = Plain { pickle, values_left: VALUES_MAX, work: Work(WORK_MAX) };
    let work = &mut plain.work;
    let module = pickle.object(pickle.root).filter(|o| objects::is_module(pickle, o, work));
    let entries = match module {
        Some(object) => objects::attributes(pickle, object, work),
        None => objects::mapping(pickle, pickle.root, work),
    };
    let mut map = Map::new();
    for (key, value) in entries {
        let Some(name) = pickle.text(key) else { continue };
        let internal = module.is_some() && (name.starts_with('_') || name == "training");
        let settings = SETTINGS.contains(&name);
        if !internal && (settings || !reaches_tensor[value as usize]) {
            map.insert(name.to_string(), plain.json(value, 0));
        }
    }
    if plain.values_left == 0 || plain.work.0 == 0 {
        notes.push("of the data beside the tensors only a part was read".to_string());
    }
    // Order of keys is the file's own, which is deterministic.
    (!map.is_empty()).then_some(Json::Object(map))
}

/// A note on objects whose classes mean nothing to vqtok, if there are any.
pub(crate) fn opaque(pickle: &Pickle) -> Option<String> {
    let mut work = Work(WORK_MAX);
    let mut counts: BTreeMap<Option<Id>, (Id, usize)> = BTreeMap::new();
    for id in 0..pickle.nodes().len() as Id {
        if let Some(object) = pickle.object(id)
            && is_opaque(pickle, id, object, &mut work)
        {
            counts.entry(objects::class_of(pickle, id)).or_insert((id, 0)).1 += 1;
        }
    }
    // The same class can be named more than once in a file.
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    for (example, count) in counts.into_values().take(FILE_CLASSES_MAX) {
        *classes.entry(objects::class_name(pickle, example)).or_default() += count;
    }
    if classes.is_empty() {
        return None;
    }
    let named = classes.iter().take(CLASSES_MAX);
    let named: Vec<String> = named.map(|(c, n)| format!("{} ({n})", quoted(c))).collect();
    let more = match classes.len().saturating_sub(CLASSES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more classes"),
    };
    Some(format!("objects left alone: {}{more}", named.join(", ")))
}

/// Whether nothing of the object can be understood.
fn is_opaque(pickle: &Pickle, id: Id, object: &Object, work: &mut Work) -> bool {
    let known = match pickle.global(object.callable) {
        Some((module, name)) => {
            module.starts_with("omegaconf.")
                || matches!(
                    (module, name),
                    ("_codecs", "encode")
                        | ("argparse", "Namespace")
                        | ("torch", "device")
                        | ("numpy", "dtype")
                        | ("numpy.core.multiarray" | "numpy._core.multiarray", _)
                )
        }
        None => false,
    };
    let is_dict = !object.entries.is_empty() && object.state.is_none();
    !known
        && !is_dict
        && !is_tensor(pickle, id)
        && !objects::builds_container(pickle, object)
        && !objects::is_module(pickle, object, work)
}

/// Turns values into JSON, within limits.
struct Plain<'a> {
    pickle: &'a Pickle,
    values_left: usize,
    work: Work,
}

impl Plain<'_> {
    fn json(&mut self, id: Id, depth: usize) -> Json {
        if self.values_left == 0 || depth > DEPTH_MAX {
            return Json::from("...");
        }
        self.values_left -= 1;
        let pickle = self.pickle;
        match pickle.node(id) {
            Node::None => Json::Null,
            Node::Bool(value) => (*value).into(),
            Node::Int(value) => (*value).into(),
            Node::Long(span) => match pickle.bytes_of(*span) {
                bytes if bytes.len() <= 16 => wide(bytes).to_string().into(),
                bytes => format!("an integer of {} bytes", bytes.len()).into(),
            },
            Node::Float(value) => numpy::float(*value),
            Node::Text(span) => self.text(pickle.bytes_of(*span)),
            Node::Bytes(span) => format!("{} bytes", pickle.bytes_of(*span).len()).into(),
            Node::Tuple(span) => self.array(pickle.tuple_items(*span), depth),
            Node::List(items) | Node::Set(items) => self.array(items, depth),
            Node::Dict(entries) => self.map(entries, depth),
            Node::Global(..) => self.text(objects::label(pickle, id).as_bytes()),
            Node::Persistent(_) => "a storage".into(),
            Node::Object(object) => self.object(id, object, depth),
        }
    }

    fn object(&mut self, id: Id, object: &Object, depth: usize) -> Json {
        let pickle = self.pickle;
        if is_tensor(pickle, id) {
            return "a tensor".into();
        }
        if let Some(value) = numpy::scalar(pickle, object) {
            return value;
        }
        let args = pickle.sequence(object.args).unwrap_or_default();
        let class = objects::class_name(pickle, id);
        if class.starts_with("omegaconf.") {
            return self.omegaconf(object, depth);
        }
        if class == "torch.device" {
            return args.first().map_or(Json::Null, |&a| self.json(a, depth + 1));
        }
        let entries = objects::mapping(pickle, id, &mut self.work);
        if !entries.is_empty() {
            return self.map(&entries, depth);
        }
        if objects::builds_container(pickle, object) {
            let is_dict = matches!(class.rsplit('.').next(), Some(n) if n.to_lowercase().ends_with("dict") || n == "Counter");
            let inner = args.first().and_then(|&a| pickle.sequence(a)).unwrap_or_default();
            return match is_dict {
                true => Json::Object(Map::new()),
                false if self.work.take(inner.len() + object.items.len()) => {
                    self.array(&[inner, &object.items].concat(), depth)
                }
                false => "...".into(),
            };
        }
        let attributes = objects::attributes(pickle, object, &mut self.work);
        match attributes.is_empty() || objects::is_module(pickle, object, &mut self.work) {
            true => self.text(format!("an object of {class}").as_bytes()),
            false => self.map(&attributes, depth),
        }
    }

    /// A node of omegaconf: `_content` of containers, `_val` of values.
    fn omegaconf(&mut self, object: &Object, depth: usize) -> Json {
        let attributes = objects::attributes(self.pickle, object, &mut self.work);
        let find = |name: &str| {
            let found = attributes.iter().find(|&&(k, _)| self.pickle.text(k) == Some(name));
            found.map(|&(_, value)| value)
        };
        match find("_content").or_else(|| find("_val")) {
            Some(inner) => self.json(inner, depth + 1),
            None => Json::Null,
        }
    }

    fn array(&mut self, items: &[Id], depth: usize) -> Json {
        let mut array = Vec::new();
        for &item in items {
            array.push(self.json(item, depth + 1));
            if self.values_left == 0 {
                break;
            }
        }
        Json::Array(array)
    }

    fn map(&mut self, entries: &[(Id, Id)], depth: usize) -> Json {
        let mut map = Map::new();
        for &(key, value) in entries {
            let key = objects::label(self.pickle, key);
            if key.len() <= TEXT_BYTES_MAX {
                map.insert(key, self.json(value, depth + 1));
            }
            if self.values_left == 0 {
                break;
            }
        }
        Json::Object(map)
    }

    fn text(&mut self, bytes: &[u8]) -> Json {
        match bytes.len() <= TEXT_BYTES_MAX {
            true => String::from_utf8_lossy(bytes).into_owned().into(),
            false => format!("a string of {} bytes", bytes.len()).into(),
        }
    }
}

/// A little-endian two's complement integer of at most 16 bytes.
fn wide(bytes: &[u8]) -> i128 {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(all)
}
