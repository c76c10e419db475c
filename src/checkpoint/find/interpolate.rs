//! Owns references between the values of one configuration (`${a.b}`), as OmegaConf resolves them:
//! absolute and relative, to lists, nested, inside of text. Must not know: files, what values mean.
//!
//! Whoever needs a value that can't be resolved is told why; all others aren't concerned, so the
//! reason is left in the value's place.

use serde_json::{Map, Value};

/// The key of the object that stands for a value which can't be resolved; its value is the reason.
const UNRESOLVED: &str = "\0unresolved";

/// Most values that references may stand for: references to references multiply.
const VALUES_MAX: usize = 100_000;

/// Longest chain of references.
const CHAIN_MAX: usize = 64;

/// Longest text made of references, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 16;

/// Why the value can't be resolved, if it can't.
pub(crate) fn unresolved(value: &Value) -> Option<&str> {
    value.as_object()?.get(UNRESOLVED)?.as_str()
}

/// The configuration with its references resolved.
pub(crate) fn resolve(root: &Value) -> Value {
    let mut resolver = Resolver { root, values_left: VALUES_MAX, chain: Vec::new() };
    resolver.value(&[], root)
}

/// Keys and indices from the root.
type Path = [String];

struct Resolver<'a> {
    root: &'a Value,
    values_left: usize,
    /// The references that are being resolved.
    chain: Vec<Vec<String>>,
}

impl Resolver<'_> {
    fn value(&mut self, path: &Path, value: &Value) -> Value {
        // What stands in the file is bounded by it; only what references repeat is charged.
        let charge = usize::from(!self.chain.is_empty());
        let Some(left) = self.values_left.checked_sub(charge) else {
            return failed(path, "its references multiply beyond any configuration".into());
        };
        self.values_left = left;
        let inner = |key: &str| [path, &[key.to_owned()]].concat();
        match value {
            Value::String(text) if text.contains("${") => {
                self.reference(path, text).unwrap_or_else(|reason| failed(path, reason))
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.map(|(i, item)| self.value(&inner(&i.to_string()), item)).collect()
            }
            Value::Object(map) => {
                let entries = map.iter();
                entries.map(|(key, item)| (key.clone(), self.value(&inner(key), item))).collect()
            }
            other => other.clone(),
        }
    }

    /// The value of a text with references, at `path`.
    fn reference(&mut self, path: &Path, text: &str) -> Result<Value, String> {
        if self.chain.iter().any(|at| at == path) {
            return Err(format!("is {text:?}, which refers to itself"));
        }
        if self.chain.len() == CHAIN_MAX {
            return Err(format!("is {text:?}, one of more than {CHAIN_MAX} references in a chain"));
        }
        self.chain.push(path.to_vec());
        let value = self.expand(path, text).map_err(|reason| format!("is {text:?}: {reason}"));
        self.chain.pop();
        value
    }

    fn expand(&mut self, path: &Path, text: &str) -> Result<Value, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let before = &rest[..at];
            let slashes = before.len() - before.trim_end_matches('\\').len();
            if slashes % 2 == 1 {
                // An escaped one is text.
                out += &before[..before.len() - 1];
                out += "${";
                rest = &rest[at + 2..];
                continue;
            }
            let length = closing(&rest[at + 2..]).ok_or("a `${` without its `}`")?;
            let inner = &rest[at + 2..at + 2 + length];
            let value = self.target(path, inner)?;
            let after = &rest[at + 3 + length..];
            if out.is_empty() && before.is_empty() && after.is_empty() {
                return Ok(value);
            }
            out += before;
            out += &in_text(&value)?;
            if out.len() > TEXT_BYTES_MAX {
                return Err("a text longer than any setting".into());
            }
            rest = after;
        }
        Ok(Value::String(out + rest))
    }

    /// What stands where `inner`, the part between the braces, points to.
    fn target(&mut self, path: &Path, inner: &str) -> Result<Value, String> {
        let key = match inner.contains("${") {
            true => in_text(&self.expand(path, inner)?)?,
            false => inner.to_owned(),
        };
        let key = key.trim();
        if let Some((resolver, _)) = key.split_once(':') {
            return Err(format!(
                "vqtok runs no resolvers (`{}`); write the value itself",
                resolver.escape_debug()
            ));
        }
        let dots = key.len() - key.trim_start_matches('.').len();
        let base = match dots {
            0 => &[],
            dots => {
                let kept = path.len().checked_sub(dots);
                &path[..kept.ok_or("it points above the whole configuration")?]
            }
        };
        let keys = keys(&key[dots..]).ok_or("no key that could be followed")?;
        self.follow([base, &keys].concat(), CHAIN_MAX)
    }

    /// The resolved value at a path, which may lead through references.
    fn follow(&mut self, path: Vec<String>, left: usize) -> Result<Value, String> {
        let missing = || format!("there is no `{}`", path.join(".").escape_debug());
        let mut value = self.root;
        for (i, key) in path.iter().enumerate() {
            if let Value::String(text) = value
                && text.contains("${")
            {
                // A reference on the way: its value first, then the rest of the path in it.
                if left == 0 {
                    return Err("a chain of references without an end".into());
                }
                let made = self.reference(&path[..i], text)?;
                let found = path[i..].iter().try_fold(&made, |value, key| step(value, key));
                let found = found.ok_or_else(missing)?;
                return match unresolved(found) {
                    Some(reason) => Err(reason.to_owned()),
                    None => Ok(found.clone()),
                };
            }
            value = step(value, key).ok_or_else(missing)?;
        }
        let value = self.value(&path, value);
        match unresolved(&value) {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(value),
        }
    }
}

fn failed(path: &Path, reason: String) -> Value {
    let reason = format!("`{}` {reason}", path.join(".").escape_debug());
    Value::Object(Map::from_iter([(UNRESOLVED.to_owned(), Value::String(reason))]))
}

fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Where the brace closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `a.b[0][c].d` as keys; None where it is none.
fn keys(text: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    for part in text.split('.') {
        let (first, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if !first.is_empty() {
            keys.push(first.to_owned());
        } else if rest.is_empty() {
            return None;
        }
        while let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']')?;
            keys.push(key.to_owned());
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(keys)
}

/// A value as a part of a text, as Python writes it.
fn in_text(value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Null => "None".into(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => match unresolved(value) {
            Some(reason) => return Err(reason.to_owned()),
            None => return Err("a list or a table inside of a text".into()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resolved(root: Value, pointer: &str) -> Value {
        resolve(&root).pointer(pointer).unwrap().clone()
    }

    fn reason(root: Value, pointer: &str) -> String {
        unresolved(&resolved(root, pointer)).unwrap().to_owned()
    }

    #[test]
    fn references_give_what_omegaconf_gives() {
        let root = json!({
            "data": {"size": 64, "list": [1, {"x": 2}], "name": "small", "on": true},
            "absolute": "${data.size}",
            "model": {
                "z": 16,
                "params": {
                    "sibling": "${.other}", "other": 5, "above": "${..z}", "whole": "${data}",
                    "items": ["${..other}", "${.0}"],
                },
            },
            "text": "vq_${data.name}_${data.size}",
            "bool": "is ${data.on}",
            "dots": "${data.list.1.x}", "brackets": "${data.list[1].x}", "all": "${data[list][0]}",
            "nested": "${data.${which}}", "which": "size",
            "through": "${alias.size}", "alias": "${data}",
            "chain": "${absolute}",
            "escaped": "\\${data.size} of ${data.size}",
            "spaces": "${ data.size }",
        });
        for (pointer, expected) in [
            ("/absolute", json!(64)),
            ("/model/params/sibling", json!(5)),
            ("/model/params/above", json!(16)),
            ("/model/params/whole/list", json!([1, {"x": 2}])),
            ("/model/params/items", json!([5, 5])),
            ("/text", json!("vq_small_64")),
            ("/bool", json!("is True")),
            ("/dots", json!(2)),
            ("/brackets", json!(2)),
            ("/all", json!(1)),
            ("/nested", json!(64)),
            ("/through", json!(64)),
            ("/chain", json!(64)),
            ("/escaped", json!("${data.size} of 64")),
            ("/spaces", json!(64)),
        ] {
            assert_eq!(resolved(root.clone(), pointer), expected, "{pointer}");
        }
    }

    #[test]
    fn what_cannot_be_resolved_says_why_in_its_place() {
        let cases = [
            (
                json!({"a": "${oc.env:X}"}),
                "`a` is \"${oc.env:X}\": vqtok runs no resolvers (`oc.env`)",
            ),
            (json!({"a": "${b.c}", "b": {}}), "there is no `b.c`"),
            (json!({"a": "${a}"}), "refers to itself"),
            (json!({"a": "${b}", "b": "${c}", "c": "${a}"}), "refers to itself"),
            (json!({"a": "${b.x}", "b": "${a.x}"}), "refers to itself"),
            (json!({"a": "${....b}"}), "above the whole"),
            (json!({"a": "${b"}), "without its"),
            (json!({"a": "${}"}), "no key"),
            (json!({"a": "x${b}", "b": [1]}), "a list or a table"),
            (json!({"a": "${b}", "b": "${now:%Y}"}), "`b` is \"${now:%Y}\""),
        ];
        for (root, expected) in cases {
            let text = reason(root.clone(), "/a");
            assert!(text.contains(expected), "{root}: {text}");
        }
        let beside = json!({"a": "${oc.env:X}", "b": 1});
        assert_eq!(resolved(beside, "/b"), json!(1), "others aren't concerned");
    }

    #[test]
    fn a_configuration_of_any_size_stays_what_it_is() {
        let words = (0..2 * VALUES_MAX).map(|i| (i.to_string(), json!(i))).collect();
        let root = json!({"vocabulary": Value::Object(words), "size": "${vocabulary.7}"});
        assert_eq!(resolved(root.clone(), "/size"), json!(7));
        assert_eq!(resolved(root.clone(), "/vocabulary"), root["vocabulary"]);
    }

    #[test]
    fn bombs_end() {
        let mut root = Map::new();
        root.insert("a0".into(), json!("x"));
        for i in 1..40 {
            let before = format!("${{a{}}}", i - 1);
            root.insert(format!("a{i}"), json!([before, before, before]));
            root.insert(format!("t{i}"), json!(format!("${{t{}}}${{t{0}}}", i - 1)));
        }
        root.insert("t0".into(), json!("x"));
        resolve(&Value::Object(root));
        let long = (0..200).map(|i| (format!("a{i}"), json!(format!("${{a{}}}", i + 1))));
        let root = Value::Object(long.collect());
        assert!(reason(root, "/a0").contains("chain"));
    }
}
