//! Owns counting what is odd in a source, so that a million odd things are one line. Must not know:
//! which things they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::util::text;

/// Odd things by kind: how many, and where the first of them is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Oddities(BTreeMap<Cow<'static, str>, (u64, String)>);

impl Oddities {
    /// One more of the kind `what`; `place` says where, and is empty where there is one place only.
    pub(crate) fn note(&mut self, what: impl Into<Cow<'static, str>>, place: &str) {
        let (count, _) = self.0.entry(what.into()).or_insert_with(|| (0, text::shorten(place)));
        *count += 1;
    }

    /// A line for each kind, in an order that depends on their words alone.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(what, (count, first)): (&Cow<'_, str>, &(u64, String))| match first.as_str() {
            "" => what.to_string(),
            first => format!("{what}: {count} (the first: {first})"),
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_one_line() {
        let mut odd = Oddities::default();
        odd.note("names that stand twice", "b.jpg");
        odd.note("has no header", "");
        odd.note("names that stand twice", "a.jpg\n");
        let lines = ["has no header", "names that stand twice: 2 (the first: b.jpg)"];
        assert_eq!(odd.lines(), lines);
    }
}
