//! Owns checkpoints of several files: the index that says which tensor lies in which.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::file;
use crate::checkpoint::raw::RawCheckpoint;
use crate::error::{Error, Result};
use crate::util::text::{quoted, without_byte_order_mark};

/// Largest index read, in bytes.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// The checkpoint of an index (`*.safetensors.index.json`, `*.bin.index.json`), whose shards lie
/// beside it.
///
/// # Errors
/// As [`read_index`]; where a shard isn't there or can't be read, or a tensor isn't in its shard.
pub(crate) fn open(index: &Path) -> Result<RawCheckpoint> {
    let shards = read_index(index)?;
    let folder = index.parent().unwrap_or(Path::new("."));
    let missing: Vec<&String> = shards.keys().filter(|file| !folder.join(file).is_file()).collect();
    if let Some(first) = missing.first() {
        let (count, of) = (missing.len(), shards.len());
        let what = format!(
            "parts of it aren't there ({count} of {of}), such as {}; download them into its folder",
            quoted(first)
        );
        return Err(Error::corrupt(index, what));
    }
    let mut checkpoint = RawCheckpoint::default();
    for (file, names) in shards {
        let mut shard = file::open(&folder.join(&file))?;
        for name in names {
            if let Some(kind) = shard.unread.remove(&name) {
                checkpoint.unread.insert(name, kind);
                continue;
            }
            let tensor = shard.tensors.remove(&name).ok_or_else(|| {
                let name = quoted(&name);
                Error::corrupt(
                    index,
                    format!("tensor {name} is not in {file}; download both again"),
                )
            })?;
            checkpoint.tensors.insert(name, tensor);
        }
        if !shard.tensors.is_empty() {
            let count = shard.tensors.len();
            checkpoint.notes.push(format!("{count} tensors of {file} are not in the index"));
        }
        checkpoint.notes.append(&mut shard.notes);
        checkpoint.files.append(&mut shard.files);
        checkpoint.container = format!("{}, sharded", shard.container);
    }
    Ok(checkpoint)
}

/// The shards of an index with the tensors in each, both sorted.
///
/// # Errors
/// Where the index is no JSON with a `weight_map`, or names a file outside its folder.
fn read_index(index: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let corrupt = |reason: &str| Error::corrupt(index, reason);
    let meta = std::fs::metadata(index).map_err(Error::io(index))?;
    if !meta.is_file() || meta.len() > INDEX_BYTES_MAX {
        return Err(corrupt("too large for an index of shards, or no regular file"));
    }
    let bytes = std::fs::read(index).map_err(Error::io(index))?;
    let text = without_byte_order_mark(&bytes).map_err(|reason| corrupt(&reason))?;
    let json: serde_json::Value =
        serde_json::from_slice(text).map_err(|e| corrupt(&format!("not JSON: {e}")))?;
    let map = json.get("weight_map").and_then(|m| m.as_object());
    let map = map.filter(|m| !m.is_empty()).ok_or_else(|| corrupt("no `weight_map` inside"))?;
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| corrupt("a `weight_map` that names no file"))?;
        if !is_plain_name(file) || file.ends_with(".index.json") {
            let name = quoted(file);
            return Err(corrupt(&format!("names the shard {name}, which is no file beside it")));
        }
        shards.entry(file.to_string()).or_default().push(tensor.clone());
    }
    shards.values_mut().for_each(|names| names.sort());
    Ok(shards)
}

/// Whether a name from an untrusted file stays in its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(n)), None) if n == name)
        && !name.contains(['\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_indices_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("model.safetensors.index.json");
        for map in [
            r#"{"weight_map":{"a":"../x.safetensors"}}"#,
            r#"{"weight_map":{"a":"/etc/passwd"}}"#,
            r#"{"weight_map":{"a":"sub/x.safetensors"}}"#,
            r#"{"weight_map":{"a":""}}"#,
            r#"{"weight_map":{"a":"."}}"#,
            r#"{"weight_map":{"a":"x/"}}"#,
            r#"{"weight_map":{"a":1}}"#,
            r#"{"weight_map":{}}"#,
            r#"[]"#,
            "{",
        ] {
            std::fs::write(&index, map).unwrap();
            assert!(read_index(&index).is_err(), "{map}");
        }
    }
}
