//! Owns reading of configurations beside weights: JSON, or YAML turned into JSON.
//! Must not know: what they say.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use serde_yaml_ng::Value as Yaml;

use super::locate::Config;
use super::quoted;
use crate::error::{Error, Result};

/// Largest JSON file read, in bytes.
const JSON_BYTES_MAX: u64 = 4 << 20;

/// Largest YAML file read, in bytes. Small, since aliases multiply what a file holds; a published
/// configuration has two thousand bytes.
const YAML_BYTES_MAX: u64 = 64 << 10;

/// Reads all of `configs`; those that need not belong to the weights only cost a note where they
/// can't be read.
///
/// # Errors
/// Where a configuration that belongs to the weights can't be read.
pub fn read_all(configs: &[Config], notes: &mut Vec<String>) -> Result<Vec<(PathBuf, Json)>> {
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
pub fn read(path: &Path) -> Result<Json> {
    let is_json = path.extension().is_some_and(|e| e == "json");
    let bytes_max = if is_json { JSON_BYTES_MAX } else { YAML_BYTES_MAX };
    let meta = std::fs::metadata(path).map_err(Error::io(path))?;
    if !meta.is_file() || meta.len() > bytes_max {
        let reason = format!("no configuration: not a regular file of at most {bytes_max} bytes");
        return Err(Error::corrupt(path, reason));
    }
    let text = std::fs::read(path).map_err(Error::io(path))?;
    if is_json {
        return serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(path, format!("not JSON: {e}")));
    }
    let yaml: Yaml = serde_yaml_ng::from_slice(&text)
        .map_err(|e| Error::corrupt(path, format!("not YAML: {}", quoted(&e.to_string()))))?;
    Ok(to_json(yaml))
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
