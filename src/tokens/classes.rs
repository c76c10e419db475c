//! Owns the class names of an output and their ids, as its plans record them: a name's place in the
//! list. Must not know: files, which image is of which class.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// Names at most; of an output with more no class has an id.
pub(crate) const CLASSES_MAX: usize = 1 << 16;
/// Bytes of the list at most, as JSON: every shard has it in its footer.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The class names of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Classes {
    /// In the order of their ids; None where there are too many.
    names: Option<Vec<String>>,
    ids: HashMap<String, i64>,
}

impl Classes {
    /// Of an output without images.
    pub(crate) fn none_yet() -> Classes {
        Classes::of(Vec::new())
    }

    /// Too many for ids.
    fn too_many() -> Classes {
        Classes { names: None, ids: HashMap::new() }
    }

    fn of(names: Vec<String>) -> Classes {
        let ids = names.iter().cloned().zip(0..).collect();
        Classes { names: Some(names), ids }
    }

    /// Reads what [`Classes::text`] gives.
    ///
    /// # Errors
    /// Anything else, in a few words.
    pub(super) fn parse(text: &str) -> Result<Classes, String> {
        let wrong = || "its class names can't be read".to_string();
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong());
        }
        let names: Option<Vec<String>> = serde_json::from_str(text).map_err(|_| wrong())?;
        let Some(names) = names else { return Ok(Classes::too_many()) };
        let classes = Classes::of(names);
        match classes.ids.len() == classes.names().map_or(0, <[_]>::len) {
            true => Ok(classes),
            false => Err(wrong()),
        }
    }

    /// In the order of their ids; None where there are too many.
    pub(crate) fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// A compact JSON array of the names, or `null`.
    pub(super) fn text(&self) -> String {
        Value::from(self.names.clone()).to_string()
    }

    /// The id of a class; None where none has one.
    ///
    /// # Errors
    /// A class that isn't among them, in a few words.
    pub(super) fn id(&self, label: &str) -> Result<Option<i64>, String> {
        match (self.ids.get(label), &self.names) {
            (Some(id), _) => Ok(Some(*id)),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(format!(
                "its class '{}' isn't among those of the plan",
                crate::util::text::shorten(label)
            )),
        }
    }
}

/// Collects the classes of an output, image by image. Memory holds each name once, up to the bounds.
pub(super) struct ClassCollector {
    /// Those of the plans before; they keep their ids.
    before: Classes,
    new: BTreeSet<String>,
    /// Of the list as JSON.
    bytes: usize,
}

impl ClassCollector {
    pub(super) fn new(before: &Classes) -> ClassCollector {
        let bytes = before.text().len();
        ClassCollector { before: before.clone(), new: BTreeSet::new(), bytes }
    }

    /// Takes note of an image's class.
    pub(super) fn take(&mut self, label: &str) {
        let Some(names) = &self.before.names else { return };
        if self.before.ids.contains_key(label) || self.new.contains(label) {
            return;
        }
        let count = names.len() + self.new.len();
        self.bytes += Value::from(label).to_string().len() + usize::from(count > 0);
        if count == CLASSES_MAX || self.bytes > TEXT_BYTES_MAX {
            self.before = Classes::too_many();
            self.new.clear();
            return;
        }
        self.new.insert(label.to_string());
    }

    /// Those before, then the new ones in the order of their bytes.
    pub(super) fn finish(self) -> Classes {
        match self.before.names {
            None => Classes::too_many(),
            Some(mut names) => {
                names.extend(self.new);
                Classes::of(names)
            }
        }
    }
}

#[cfg(test)]
mod tests;
