//! Owns reading of configurations beside weights: JSON, or YAML turned into JSON.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use serde_yaml_ng::Value as Yaml;

use crate::checkpoint::container::foreign;
use crate::error::{Error, Result};
use crate::util::text::{quoted, without_byte_order_mark};

/// Largest JSON file read, in bytes.
const JSON_BYTES_MAX: u64 = 4 << 20;

/// Largest YAML file read, in bytes. Small, since aliases multiply what a file holds; a published
/// configuration has two thousand bytes.
const YAML_BYTES_MAX: u64 = 64 << 10;

/// A configuration beside the weights.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Config {
    /// The file.
    pub path: PathBuf,
    /// Whether its name says that it belongs to these weights, so that it must be readable.
    pub required: bool,
}

/// Reads all of `configs`; those that need not belong to the weights only cost a note where they
/// can't be read.
///
/// # Errors
/// Where a configuration that belongs to the weights can't be read.
pub(crate) fn read_all(
    configs: &[Config],
    notes: &mut Vec<String>,
) -> Result<Vec<(PathBuf, Json)>> {
    let mut values = Vec::new();
    for config in configs {
        match read(&config.path) {
            Ok(value) => values.push((config.path.clone(), value)),
            Err(error) if config.required => return Err(error),
            Err(error) => notes.push(format!("configuration passed over: {error}")),
        }
    }
    Ok(values)
}

/// One configuration as JSON.
///
/// # Errors
/// Where it can't be read, is too large, or is neither JSON nor YAML.
pub(crate) fn read(path: &Path) -> Result<Json> {
    let is_json = path.extension().is_some_and(|e| e == "json");
    let (kind, bytes_max) =
        if is_json { ("JSON", JSON_BYTES_MAX) } else { ("YAML", YAML_BYTES_MAX) };
    let meta = std::fs::metadata(path).map_err(Error::io(path))?;
    if !meta.is_file() {
        return Err(Error::corrupt(path, "no configuration: not a regular file"));
    }
    if meta.len() > bytes_max {
        let bytes = meta.len();
        let reason = format!("{bytes} bytes, where a {kind} configuration has {bytes_max} at most");
        return Err(Error::corrupt(path, reason));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let text = without_byte_order_mark(&bytes).map_err(|reason| Error::corrupt(path, reason))?;
    let parsed = if is_json { json(text) } else { yaml(text) };
    parsed.map_err(|reason| match foreign::describe(text).filter(|_| !looks_so(text)) {
        Some(what) => Error::corrupt(path, format!("no configuration: {what}")),
        None => Error::corrupt(path, reason),
    })
}

/// Whether a broken text means to be JSON, which is then no news.
fn looks_so(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start(), [b'{' | b'[', ..])
}

fn json(text: &[u8]) -> Result<Json, String> {
    serde_json::from_slice(text).map_err(|e| format!("not JSON: {e}"))
}

fn yaml(text: &[u8]) -> Result<Json, String> {
    let mut yaml: Yaml = serde_yaml_ng::from_slice(text).map_err(|e| match tabbed_line(text) {
        Some(line) => {
            format!("not YAML: line {line} is indented with a tab; YAML takes spaces only")
        }
        None => format!("not YAML: {}", quoted(&e.to_string())),
    })?;
    // `<<: *base`, as PyYAML and OmegaConf read it.
    yaml.apply_merge().map_err(|e| format!("not YAML: {}", quoted(&e.to_string())))?;
    Ok(to_json(yaml))
}

/// The first line, from 1, that has a tab in its indentation.
fn tabbed_line(text: &[u8]) -> Option<usize> {
    let tabbed =
        |line: &[u8]| line.iter().take_while(|b| b.is_ascii_whitespace()).any(|&b| b == b'\t');
    text.split(|&b| b == b'\n').position(tabbed).map(|at| at + 1)
}

/// YAML as JSON: tags are dropped, keys become text. The parser has limited the depth.
fn to_json(yaml: Yaml) -> Json {
    match yaml {
        Yaml::Null => Json::Null,
        Yaml::Bool(b) => Json::Bool(b),
        Yaml::Number(n) => {
            if let Some(n) = n.as_i64() {
                return n.into();
            }
            if let Some(n) = n.as_u64() {
                return n.into();
            }
            // Infinities and NaN have no JSON; their word keeps them visible.
            let float = n.as_f64().unwrap_or(f64::NAN);
            serde_json::Number::from_f64(float).map_or(Json::from(float.to_string()), Json::Number)
        }
        Yaml::String(s) => Json::String(s),
        Yaml::Sequence(items) => Json::Array(items.into_iter().map(to_json).collect()),
        Yaml::Mapping(map) => {
            let text = |key: Yaml| match to_json(key) {
                Json::String(s) => s,
                other => other.to_string(),
            };
            Json::Object(map.into_iter().map(|(k, v)| (text(k), to_json(v))).collect())
        }
        Yaml::Tagged(tagged) => to_json(tagged.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Result<Json> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn yaml_becomes_json() {
        let yaml = "model:\n  base_learning_rate: 4.5e-06\n  params: {ch_mult: [1, 2], double_z: false, x: null}\n  7: .inf\n  t: !!python/tuple [1]\n";
        let json = read_text("config.yaml", yaml).unwrap();
        let expected = serde_json::json!({"model": {
            "base_learning_rate": 4.5e-6,
            "params": {"ch_mult": [1, 2], "double_z": false, "x": null},
            "7": "inf",
            "t": [1],
        }});
        assert_eq!(json, expected);
    }

    #[test]
    fn texts_of_other_editors_are_read_or_named() {
        let expected = serde_json::json!({"a": {"b": 1}});
        assert_eq!(read_text("config.json", "\u{feff}{\"a\": {\"b\": 1}}").unwrap(), expected);
        assert_eq!(read_text("config.yaml", "\u{feff}a:\r\n  b: 1\r\n").unwrap(), expected);
        let merged = read_text("config.yaml", "x: &x {b: 1}\na: {<<: *x, c: 2}").unwrap();
        assert_eq!(merged["a"], serde_json::json!({"c": 2, "b": 1}));
        let said = |name: &str, text: &str| read_text(name, text).unwrap_err().to_string();
        let text = said("config.yaml", "a:\n  c: 2\n\tb: 1\n");
        assert!(text.ends_with("not YAML: line 3 is indented with a tab; YAML takes spaces only"));
        assert!(said("config.json", "<!doctype html>").contains("a page of a web site"));
        assert!(said("config.yaml", "\n<html>: <: >").contains("a page of a web site"));
        assert!(said("config.json", "").contains("an empty file"));
        assert!(said("config.json", "{\"a\": NaN}").contains("not JSON"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, b"\xff\xfe{\0}\0").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("UTF-16"));
    }

    #[test]
    fn bombs_are_errors() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
        for level in 1..12 {
            let row = format!("*a{}, ", level - 1).repeat(10);
            laughs += &format!("a{level}: &a{level} [{}]\n", row.trim_end_matches(", "));
        }
        assert!(read_text("config.yaml", &laughs).is_err());
        assert!(read_text("config.yaml", &"[".repeat(60_000)).is_err());
        assert!(read_text("config.json", &"[".repeat(60_000)).is_err());
        assert!(read_text("config.yaml", &" ".repeat(70_000)).is_err());
        assert!(read_text("config.yaml", "a: b: c").is_err());
    }
}
