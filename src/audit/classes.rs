//! Owns the class names of an output as `schemas/plan.v1.json` and `tokens.v2.json` describe them: which
//! ones its images give, and which place in them a row must name. Must not know: the writer.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// Names at most, and bytes of them as a JSON array.
const NAMES_MAX: usize = 1 << 16;
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The class names that a plan records.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    /// In the order of their ids; None where there are too many.
    names: Option<Vec<String>>,
    ids: HashMap<String, i64>,
}

impl Classes {
    /// Reads `vqtok.classes`; None where it is no list of names or `null`.
    pub(super) fn parse(text: &str) -> Option<Classes> {
        let names: Option<Vec<String>> = serde_json::from_str(text).ok()?;
        let ids = names.iter().flatten().cloned().zip(0..).collect();
        Some(Classes { names, ids })
    }

    /// In the order of their ids; None where there are too many.
    pub(super) fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// What `label_id` must be beside a label; None where no class has an id. Errors in a few words.
    pub(super) fn id(&self, label: &str) -> Result<Option<i64>, String> {
        let id = self.ids.get(label).copied();
        match id.is_none() && self.names.is_some() {
            true => Err("its label isn't among the class names of the plan".into()),
            false => Ok(id),
        }
    }
}

/// The labels of a plan's images, up to the bounds.
#[derive(Default)]
pub(super) struct Labels {
    found: BTreeSet<String>,
    bytes: usize,
    too_many: bool,
}

impl Labels {
    /// Takes the label of an image.
    pub(super) fn take(&mut self, label: &str) {
        if self.too_many || self.found.contains(label) {
            return;
        }
        self.bytes += label.len();
        // Those of earlier plans are among them, or not; with either there are too many.
        self.too_many = self.found.len() == NAMES_MAX || self.bytes > TEXT_BYTES_MAX;
        match self.too_many {
            true => self.found.clear(),
            false => drop(self.found.insert(label.to_string())),
        }
    }

    /// Whether a plan's class names are these behind those of the plan before it.
    pub(super) fn give(self, classes: &Classes, before: Option<&Classes>) -> bool {
        let before = match before.map(|before| &before.names) {
            Some(None) => return classes.names.is_none(),
            Some(Some(names)) => &names[..],
            None => &[],
        };
        let mut due = before.to_vec();
        let known: BTreeSet<&String> = before.iter().collect();
        due.extend(self.found.into_iter().filter(|name| !known.contains(name)));
        let fits = !self.too_many
            && due.len() <= NAMES_MAX
            && Value::from(due.clone()).to_string().len() <= TEXT_BYTES_MAX;
        classes.names == fits.then_some(due)
    }
}

/// Which folder of a key is its label, as an identity says it; None for none.
pub(super) fn label_level(identity: &Value) -> Option<usize> {
    match identity["label_level"].as_str() {
        None => Some(0),
        Some(level) => level.parse().ok(),
    }
}

/// The label of an image: what its source says, where that says something, else a folder of its key.
pub(super) fn label<'a>(
    known: Option<&'a str>,
    key: &'a str,
    level: Option<usize>,
) -> Option<&'a str> {
    let folder = || {
        let parts: Vec<&str> = key.strip_prefix("./").unwrap_or(key).split('/').collect();
        let (_, folders) = parts.split_last()?;
        folders.get(level?).copied()
    };
    known.or_else(folder).filter(|label| !["", ".", ".."].contains(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gives(labels: &[&str], before: Option<&str>, classes: &str) -> bool {
        let mut found = Labels::default();
        labels.iter().for_each(|label| found.take(label));
        let before = before.map(|text| Classes::parse(text).unwrap());
        found.give(&Classes::parse(classes).unwrap(), before.as_ref())
    }

    #[test]
    fn class_names_follow_from_the_images() {
        assert!(gives(&["b", "a", "b"], None, r#"["a","b"]"#));
        assert!(gives(&["b", "c", "a"], Some(r#"["c"]"#), r#"["c","a","b"]"#));
        assert!(gives(&[], None, "[]") && gives(&["a"], Some("null"), "null"));
        for classes in [r#"["b","a"]"#, r#"["a"]"#, r#"["a","b","c"]"#, "null"] {
            assert!(!gives(&["a", "b"], None, classes), "{classes}");
        }
        let many: Vec<String> = (0..=NAMES_MAX).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(gives(&many, None, "null") && !gives(&many[1..], None, "null"));
        let [long, longer] = [4, 3].map(|less| "x".repeat(TEXT_BYTES_MAX - less));
        assert!(!gives(&[&long], None, "null") && gives(&[&longer], None, "null"));
        let classes = Classes::parse(r#"["b","a"]"#).unwrap();
        assert_eq!((classes.id("a"), classes.id("b")), (Ok(Some(1)), Ok(Some(0))));
        assert!(classes.id("c").is_err());
        assert_eq!(Classes::parse("null").unwrap().id("c"), Ok(None));
    }

    #[test]
    fn labels_are_what_the_source_says_or_folders() {
        assert_eq!(label(None, "cat/sub/x.png", Some(0)), Some("cat"));
        assert_eq!(label(None, "./cat/x.png", Some(0)), Some("cat"));
        assert_eq!(label(None, "train/cat/x.png", Some(1)), Some("cat"));
        assert_eq!(label(Some("dog"), "cat/x.png", Some(0)), Some("dog"));
        for (known, key, level) in [
            (None, "x.png", Some(0)),
            (None, "cat/x.png", Some(1)),
            (None, "cat/x.png", None),
            (Some(""), "cat/x.png", Some(0)),
            (None, "../x.png", Some(0)),
        ] {
            assert_eq!(label(known, key, level), None, "{key}");
        }
        assert_eq!(label_level(&serde_json::json!({})), Some(0));
        assert_eq!(label_level(&serde_json::json!({"label_level": "none"})), None);
        assert_eq!(label_level(&serde_json::json!({"label_level": "2"})), Some(2));
    }
}
