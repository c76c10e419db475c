//! Owns the stream that `torch.save` wrote before 1.6: five pickles, then the storages.

use std::collections::BTreeMap;

use crate::checkpoint::budget::Budget;
use crate::checkpoint::pickle::graph::Pickle;
use crate::checkpoint::pickle::storage::Storages;
use crate::checkpoint::pickle::tensors::StorageRef;
use crate::checkpoint::pickle::value::Node;
use crate::util::text::quoted;
use crate::weights::tensor::Bytes;

/// The first pickle: the number 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The second: the version of the stream.
const VERSION: i64 = 1001;

/// What the stream holds.
pub(crate) struct Stream {
    /// The saved object.
    pub pickle: Pickle,
    /// The data.
    pub storages: Legacy,
    /// The byte order of the machine that wrote it.
    pub big_endian: bool,
}

/// Storages by key.
pub(crate) struct Legacy(BTreeMap<String, Bytes>);

impl Storages for Legacy {
    fn bytes(&mut self, key: &str, _: &mut Budget) -> Result<Bytes, String> {
        self.0.get(key).cloned().ok_or_else(|| format!("storage {} is missing", quoted(key)))
    }
}

/// Whether the first bytes are those of such a stream.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x80) && bytes.get(2..).is_some_and(|b| b.starts_with(MAGIC))
}

/// Reads the stream. Storages are slices of `bytes`.
///
/// # Errors
/// Where it is of another version, or cut.
pub(crate) fn read(bytes: &Bytes) -> Result<Stream, String> {
    let mut rest = bytes.slice(2 + MAGIC.len()..bytes.len()).ok_or("the file ends too early")?;
    let mut next = || -> Result<Pickle, String> {
        let pickle = Pickle::read(&rest)?;
        rest = rest.slice(pickle.consumed..rest.len()).ok_or("the file ends too early")?;
        Ok(pickle)
    };
    let version = next()?;
    if version.int(version.root) != Some(VERSION) {
        return Err("a PyTorch stream of an unknown version".into());
    }
    let system = next()?;
    let big_endian = little_endian(&system) == Some(false);
    let pickle = next()?;
    let keys = next()?;

    let elements = element_bytes(&pickle);
    let mut storages = BTreeMap::new();
    let keys_in_order = keys.sequence(keys.root).ok_or("no list of storages")?;
    for &key in keys_in_order {
        let key = storage_key(&keys, key).ok_or("a storage whose name is no string")?;
        let size = elements.get(&key);
        let size = *size.ok_or_else(|| format!("storage {} is never used", quoted(&key)))?;
        let count = rest.first_chunk::<8>().ok_or("the file ends before its storages")?;
        let count = match big_endian {
            true => u64::from_be_bytes(*count),
            false => u64::from_le_bytes(*count),
        };
        let length = usize::try_from(count).ok().and_then(|c| c.checked_mul(size));
        let end = length.and_then(|l| l.checked_add(8)).filter(|&end| end <= rest.len());
        let end = end.ok_or("the file ends before its storages do; download it again")?;
        let (storage, after) = (rest.slice(8..end), rest.slice(end..rest.len()));
        storages.insert(key, storage.ok_or("the file ends too early")?);
        rest = after.ok_or("the file ends too early")?;
    }
    Ok(Stream { pickle, storages: Legacy(storages), big_endian })
}

/// The third pickle's word on byte order.
fn little_endian(system: &Pickle) -> Option<bool> {
    let Node::Dict(entries) = system.node(system.root) else { return None };
    let of_order = entries.iter().find(|&&(k, _)| system.text(k) == Some("little_endian"));
    match system.node(of_order?.1) {
        Node::Bool(little) => Some(*little),
        _ => None,
    }
}

/// Bytes of an element of every storage that the object refers to.
fn element_bytes(pickle: &Pickle) -> BTreeMap<String, usize> {
    let mut sizes = BTreeMap::new();
    for node in pickle.nodes() {
        if let Node::Persistent(id) = node
            && let Ok(storage) = StorageRef::read(pickle, *id)
        {
            sizes.insert(storage.key, storage.element_bytes);
        }
    }
    sizes
}

/// A key: a string, in old files a number.
fn storage_key(pickle: &Pickle, id: u32) -> Option<String> {
    let text = pickle.text(id).map(String::from);
    text.or_else(|| pickle.int(id).map(|i| i.to_string()))
}
