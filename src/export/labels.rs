//! Owns the ids of labels: those of the rows, or a class name's place among the sorted ones, as
//! ImageFolder has it, or what a file says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::storage;
use crate::util::numbers::{count, counted};
use crate::util::settings::LABEL_MAP;
use crate::util::text;

/// Bytes of a label map at most.
const MAP_BYTES_MAX: u64 = 1 << 26;

/// Class names with their ids; empty where no row has a label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels(BTreeMap<String, i64>);

impl Labels {
    /// Of the names that occur, by the map where there is one, else by the ids that all rows give
    /// them, else by their order.
    ///
    /// # Errors
    /// A map that can't be read; a name that it lacks.
    pub(super) fn of(names: &BTreeMap<String, Option<i64>>, map: Option<&Path>) -> Result<Labels> {
        let Some(path) = map else {
            let sorted = || names.keys().cloned().zip(0..).collect();
            return Ok(Labels(of_rows(names).unwrap_or_else(sorted)));
        };
        let labels = read(path)?;
        let mut unknown = names.keys().filter(|name| !labels.contains_key(*name));
        if let Some(first) = unknown.next() {
            let (more, path) = (unknown.count() + 1, text::path(path));
            let text = format!(
                "{path}: lacks {} that the rows have, the first: '{}'; add them",
                counted(more, "class name"),
                text::shorten(first)
            );
            return Err(Error::setting(LABEL_MAP, text));
        }
        Ok(Labels(labels))
    }

    pub(super) fn id(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// How many ids there are, unused ones among them.
    pub(super) fn count(&self) -> u64 {
        self.0.values().max().map_or(0, |id| *id as u64 + 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By id: what has none is called by its number.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = (0..self.count()).map(|id| id.to_string()).collect();
        for (name, id) in &self.0 {
            names[*id as usize].clone_from(name);
        }
        names
    }

    /// `labels.json`: each name with its id, in the order of the ids.
    pub(super) fn file(&self) -> Vec<u8> {
        let mut pairs: Vec<(&String, &i64)> = self.0.iter().collect();
        pairs.sort_by_key(|(_, id)| **id);
        let map: serde_json::Map<_, _> =
            pairs.into_iter().map(|(name, id)| (name.clone(), (*id).into())).collect();
        let mut file = format!("{:#}", serde_json::Value::Object(map)).into_bytes();
        file.push(b'\n');
        file
    }
}

/// The ids that rows give their labels; None where one has none, or two have the same.
fn of_rows(names: &BTreeMap<String, Option<i64>>) -> Option<BTreeMap<String, i64>> {
    let fits = |id: &i64| (0..1 << 31).contains(id);
    let ids = names.iter().map(|(name, id)| Some((name.clone(), id.filter(fits)?)));
    let ids: BTreeMap<String, i64> = ids.collect::<Option<_>>()?;
    let different: BTreeSet<&i64> = ids.values().collect();
    (different.len() == ids.len()).then_some(ids)
}

/// A JSON object of names and ids, or a text with a name a line, the first of which has the id 0.
fn read(path: &Path) -> Result<BTreeMap<String, i64>> {
    let wrong = |why: String| Error::setting(LABEL_MAP, format!("{}: {why}", text::path(path)));
    let file = storage::read_to_string(path, MAP_BYTES_MAX).map_err(Error::io(path))?;
    let file = file.trim_start_matches('\u{feff}');
    let mut labels = BTreeMap::new();
    if file.trim_start().starts_with('{') {
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(file)
            .map_err(|error| wrong(format!("no JSON object of names and ids: {error}")))?;
        for (name, id) in map {
            let whole = id.as_i64().filter(|id| (0..1 << 31).contains(id));
            let id = whole.ok_or_else(|| {
                wrong(format!(
                    "'{}' has {id}, where an id from 0 on is expected",
                    text::shorten(&name)
                ))
            })?;
            labels.insert(name, id);
        }
    } else {
        for (id, name) in (0..).zip(file.lines()) {
            if labels.insert(name.to_string(), id).is_some() {
                let name = text::shorten(name);
                return Err(wrong(format!("'{name}' stands there twice (line {})", count(id + 1))));
            }
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeMap<String, Option<i64>> {
        names.iter().map(|name| (name.to_string(), None)).collect()
    }

    #[test]
    fn ids_are_those_of_the_rows_where_these_agree() {
        let ids = |names: &[(&str, Option<i64>)]| {
            let names = names.iter().map(|(name, id)| (name.to_string(), *id)).collect();
            Labels::of(&names, None).unwrap().0.into_values().collect::<Vec<_>>()
        };
        assert_eq!(ids(&[("ant", Some(2)), ("cat", Some(0)), ("owl", Some(5))]), [2, 0, 5]);
        for other in [None, Some(2), Some(-1), Some(1 << 31)] {
            assert_eq!(ids(&[("ant", Some(2)), ("cat", other)]), [0, 1], "{other:?}");
        }
    }

    #[test]
    fn ids_are_places_among_sorted_names_or_what_a_map_says() {
        let labels = Labels::of(&names(&["owl", "cat", "Dog"]), None).unwrap();
        assert_eq!(["Dog", "cat", "owl"].map(|name| labels.id(name)), [Some(0), Some(1), Some(2)]);
        assert_eq!(labels.file(), b"{\n  \"Dog\": 0,\n  \"cat\": 1,\n  \"owl\": 2\n}\n");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        for map in ["{\"owl\": 7, \"cat\": 2}", "fox\nant\ncat\nowl\n"] {
            std::fs::write(&path, map).unwrap();
            let labels = Labels::of(&names(&["owl", "cat"]), Some(&path)).unwrap();
            assert_eq!(labels.id("cat"), Some(2), "{map}");
        }
        for (map, told) in [
            ("owl\nant\n", "lacks 1 class name that the rows have, the first: 'cat'"),
            ("{\"owl\": -1}", "'owl' has -1"),
            ("{\"owl\": }", "no JSON object"),
            ("owl\nowl\n", "twice (line 2)"),
        ] {
            std::fs::write(&path, map).unwrap();
            let error = Labels::of(&names(&["owl", "cat"]), Some(&path)).unwrap_err().to_string();
            assert!(error.starts_with("label_map") && error.contains(told), "{error}");
        }
    }
}
