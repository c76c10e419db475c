//! Owns the images that a training could not read: which, and why.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::error::Reject;
use crate::util::text;

/// Examples that are kept with their reasons.
const EXAMPLES: usize = 5;

/// Each once, however often it was tried. Shared by the threads that read.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Whether an image is among them, by its index.
    marked: Vec<bool>,
    count: u64,
    /// The first by their indices: key and reason.
    examples: BTreeMap<usize, (String, String)>,
}

impl Unreadable {
    /// Whether an image is among them.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.with(|found| found.marked.get(index).copied().unwrap_or(false))
    }

    /// Adds one.
    pub(crate) fn note(&self, index: usize, key: &str, reject: &Reject) {
        self.with(|found| {
            if found.marked.len() <= index {
                found.marked.resize(index + 1, false);
            }
            if std::mem::replace(&mut found.marked[index], true) {
                return;
            }
            found.count += 1;
            found.examples.insert(index, (key.to_string(), reject.to_string()));
            if found.examples.len() > EXAMPLES {
                found.examples.pop_last();
            }
        });
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> u64 {
        self.with(|found| found.count)
    }

    /// The first ones, each key with its reason.
    pub(crate) fn examples(&self) -> Vec<(String, String)> {
        self.with(|found| found.examples.values().cloned().collect())
    }

    /// The same in one line.
    pub(crate) fn examples_in_words(&self) -> String {
        let shown: Vec<_> = self
            .examples()
            .iter()
            .map(|(key, reason)| format!("{} ({reason})", text::printable(key)))
            .collect();
        let more = if self.count() > EXAMPLES as u64 { ", ..." } else { "" };
        shown.join(", ") + more
    }

    fn with<T>(&self, work: impl FnOnce(&mut Found) -> T) -> T {
        // A thread that died while it held the lock left whole values behind.
        work(&mut self.found.lock().unwrap_or_else(|dead| dead.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stage;

    #[test]
    fn each_is_counted_once_and_the_first_are_shown() {
        let all = Unreadable::default();
        let broken = Reject::new(Stage::Decode, "broken");
        for index in [7, 3, 7, 900, 1, 2, 4, 3] {
            all.note(index, &format!("{index}.png"), &broken);
        }
        assert_eq!(all.count(), 6);
        assert!(all.has(900) && !all.has(901) && !all.has(0));
        let words = all.examples_in_words();
        assert!(words.starts_with("1.png (decode: broken), 2.png"), "{words}");
        assert!(words.ends_with("7.png (decode: broken), ..."), "{words}");
    }
}
