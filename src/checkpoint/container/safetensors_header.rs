//! Owns the header of a safetensors file: which tensor lies where, read as strictly as the format
//! asks and in words that name what is wrong. Must not know: what elements mean.
//!
//! A reader of our own: the format's library keeps the last of two equal names, and needs twenty
//! times a header's memory.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::util::text::quoted;

/// Largest header, in bytes: the format's own limit.
pub(crate) const BYTES_MAX: u64 = 100_000_000;

/// Most tensors; a checkpoint has hundreds.
const TENSORS_MAX: usize = 1 << 20;

/// One tensor, as the header says.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name.
    pub name: String,
    /// The word for its type, such as `F32`.
    pub dtype: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// First byte, and the one after the last, from the end of the header.
    pub range: (usize, usize),
}

/// Reads the header `text`; `data` bytes follow it. Entries in the order of their data.
///
/// # Errors
/// Where it is no JSON of this form, two tensors have one name, or their data overlaps, leaves
/// holes, or isn't as long as the file's.
pub(crate) fn read(text: &[u8], data: usize) -> Result<Vec<Entry>, String> {
    let header: Header = serde_json::from_slice(text)
        .map_err(|e| format!("its header isn't that of a safetensors file: {}", words(&e)))?;
    let mut entries = header.0;
    let mut names = HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
        return Err(format!("two tensors are called {}", quoted(&twice.name)));
    }
    entries.sort_by_key(|entry| entry.range);
    let mut end = 0;
    for entry in &entries {
        let (from, to) = entry.range;
        if from != end || to < from {
            let what = if from < end || to < from { "overlaps another" } else { "leaves a hole" };
            return Err(format!(
                "the data of tensor {} ({from} to {to}) {what}; the file is damaged",
                quoted(&entry.name)
            ));
        }
        end = to;
    }
    match data {
        data if data == end => Ok(entries),
        data if data < end => Err(format!(
            "cut: {data} bytes of data where its header promises {end}; download it again"
        )),
        data => Err(format!(
            "{} bytes after the last tensor; the file is damaged or two are glued together",
            data - end
        )),
    }
}

/// A JSON error without its place in the text, which nobody looks up.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

struct Header(Vec<Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if entries.len() == TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            }
            let Info { dtype, shape, data_offsets: range } = map.next_value()?;
            entries.push(Entry { name, dtype: dtype.into_owned(), shape, range });
        }
        Ok(Header(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, data: usize) -> String {
        read(text.as_bytes(), data).unwrap_err()
    }

    fn tensor(name: &str, from: usize, to: usize) -> String {
        format!(r#"{name:?}:{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from)
    }

    #[test]
    fn entries_come_in_the_order_of_their_data() {
        let text = format!(
            r#"{{"__metadata__":{{"a":"b"}},{},{},{}}}"#,
            tensor("b", 2, 5),
            tensor("empty", 2, 2),
            tensor("a", 0, 2)
        );
        let entries = read(text.as_bytes(), 5).unwrap();
        let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["a", "empty", "b"]);
        assert_eq!((entries[2].dtype.as_str(), &entries[2].shape[..]), ("U8", &[3][..]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let two = |a: String, b: String| format!("{{{a},{b}}}");
        let cases = [
            (two(tensor("a", 0, 2), tensor("a", 2, 4)), 4, "two tensors are called \"a\""),
            (two(tensor("a", 0, 2), tensor("b\n", 1, 3)), 3, "\"b\\n\" (1 to 3) overlaps"),
            (two(tensor("a", 0, 2), tensor("b", 3, 4)), 4, "(3 to 4) leaves a hole"),
            (
                format!("{{{}}}", tensor("a", 0, 4)),
                3,
                "cut: 3 bytes of data where its header promises 4",
            ),
            (format!("{{{}}}", tensor("a", 0, 4)), 9, "5 bytes after the last tensor"),
            ("{\"a\":1}".into(), 0, "isn't that of a safetensors file"),
            ("{\"a\":{}}".into(), 0, "missing field `dtype`"),
            ("{".into(), 0, "EOF"),
            (format!("{{{}}}", tensor("a", 0, 1).replace("[1]", "[-1]")), 1, "integer `-1`"),
        ];
        for (text, data, expected) in cases {
            let error = said(&text, data);
            assert!(error.contains(expected) && !error.contains(" line "), "{text}: {error}");
        }
    }
}
