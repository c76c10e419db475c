//! Owns the ids of labels: those of the rows, or a class name's place among the sorted ones, as
//! ImageFolder has it, or what a file says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

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
    /// them, with the other `classes` of their data set, else by their order.
    ///
    /// # Errors
    /// A map that can't be read; a name that it lacks.
    pub(super) fn of(
        names: &BTreeMap<String, Option<i64>>,
        classes: &[String],
        map: Option<&Path>,
    ) -> Result<Labels> {
        let Some(path) = map else {
            let Some(mut ids) = of_rows(names) else {
                return Ok(Labels(names.keys().cloned().zip(0..).collect()));
            };
            let all: BTreeMap<String, i64> = classes.iter().cloned().zip(0..).collect();
            if !ids.is_empty() && ids.iter().all(|(name, id)| all.get(name) == Some(id)) {
                // Those of images that all failed too.
                ids = all;
            }
            return Ok(Labels(ids));
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

    /// By id, each once: what has none is called by its number, and of several with one id the first
    /// counts.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<Option<&String>> = vec![None; self.count() as usize];
        for (name, id) in &self.0 {
            names[*id as usize].get_or_insert(name);
        }
        let unused = |id: usize| {
            let mut name = id.to_string();
            while self.0.contains_key(&name) {
                name.insert(0, '_');
            }
            name
        };
        let names = names.into_iter().enumerate();
        names.map(|(id, name)| name.cloned().unwrap_or_else(|| unused(id))).collect()
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

/// A JSON object of names and ids, or a JSON array or a text with a name a line, the first of which
/// has the id 0.
fn read(path: &Path) -> Result<BTreeMap<String, i64>> {
    let wrong = |why: String| Error::setting(LABEL_MAP, format!("{}: {why}", text::path(path)));
    let file = storage::read_to_string(path, MAP_BYTES_MAX).map_err(Error::io(path))?;
    let file = file.trim_start_matches('\u{feff}');
    let pairs: Vec<(String, i64)> = match file.trim_start().chars().next() {
        Some('{') => {
            let Pairs(pairs) = serde_json::from_str(file)
                .map_err(|error| wrong(format!("no JSON object of names and ids: {error}")))?;
            let whole = pairs.into_iter().map(|(name, id)| match id.as_i64() {
                Some(whole) if (0..1 << 31).contains(&whole) => Ok((name, whole)),
                _ => Err(wrong(format!(
                    "'{}' has {id}, where an id from 0 to 2147483647 is expected",
                    text::shorten(&name)
                ))),
            });
            whole.collect::<Result<_>>()?
        }
        Some('[') => {
            let names: Vec<String> = serde_json::from_str(file)
                .map_err(|error| wrong(format!("no JSON array of names: {error}")))?;
            names.into_iter().zip(0..).collect()
        }
        _ => file.lines().map(str::to_string).zip(0..).collect(),
    };
    let mut labels = BTreeMap::new();
    for (number, (name, id)) in (1_u64..).zip(pairs) {
        let place = format!("the {}. name", count(number));
        if name.is_empty() {
            return Err(wrong(format!("{place} is empty")));
        }
        if labels.insert(name.clone(), id).is_some() {
            return Err(wrong(format!("{place}, '{}', was there before", text::shorten(&name))));
        }
    }
    Ok(labels)
}

/// The members of a JSON object in their order, one that comes twice among them.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Pairs, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
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
            Labels::of(&names, &[], None).unwrap().0.into_values().collect::<Vec<_>>()
        };
        assert_eq!(ids(&[("ant", Some(2)), ("cat", Some(0)), ("owl", Some(5))]), [2, 0, 5]);
        for other in [None, Some(2), Some(-1), Some(1 << 31)] {
            assert_eq!(ids(&[("ant", Some(2)), ("cat", other)]), [0, 1], "{other:?}");
        }
    }

    #[test]
    fn ids_are_places_among_sorted_names_or_what_a_map_says() {
        let labels = Labels::of(&names(&["owl", "cat", "Dog"]), &[], None).unwrap();
        assert_eq!(["Dog", "cat", "owl"].map(|name| labels.id(name)), [Some(0), Some(1), Some(2)]);
        assert_eq!(labels.file(), b"{\n  \"Dog\": 0,\n  \"cat\": 1,\n  \"owl\": 2\n}\n");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        let list = "[\"fox\", \"ant\", \"cat\", \"owl\"]";
        for map in ["{\"owl\": 7, \"cat\": 2}", "fox\nant\ncat\nowl\n", list] {
            std::fs::write(&path, map).unwrap();
            let labels = Labels::of(&names(&["owl", "cat"]), &[], Some(&path)).unwrap();
            assert_eq!(labels.id("cat"), Some(2), "{map}");
        }
        for (map, told) in [
            ("owl\nant\n", "lacks 1 class name that the rows have, the first: 'cat'"),
            ("{\"owl\": -1}", "'owl' has -1"),
            ("{\"owl\": }", "no JSON object"),
            ("owl\nowl\n", "the 2. name, 'owl', was there before"),
            ("{\"owl\": 1, \"cat\": 2, \"owl\": 3}", "the 3. name, 'owl', was there before"),
            ("owl\n\ncat\n", "the 2. name is empty"),
            ("{\"owl\": 4294967296}", "an id from 0 to 2147483647"),
            ("[\"owl\", 3]", "no JSON array of names"),
        ] {
            std::fs::write(&path, map).unwrap();
            let error =
                Labels::of(&names(&["owl", "cat"]), &[], Some(&path)).unwrap_err().to_string();
            assert!(error.starts_with("label_map") && error.contains(told), "{error}");
        }
    }

    #[test]
    fn every_id_has_a_name_of_its_own() {
        let rows = BTreeMap::from([("1".to_string(), Some(0)), ("3".to_string(), Some(2))]);
        let of = |classes: &[&str]| {
            let classes: Vec<String> = classes.iter().map(|name| name.to_string()).collect();
            Labels::of(&rows, &classes, None).unwrap().names()
        };
        assert_eq!(of(&["1", "2", "3", "4"]), ["1", "2", "3", "4"], "of images that failed too");
        assert_eq!(of(&[]), ["1", "_1", "3"]);
        assert_eq!(of(&["3", "2", "1"]), ["1", "_1", "3"], "those of other rows");
    }
}
