//! Owns the record of where each fact of a model is from, which its `config.json` keeps and the
//! model card shows.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::keys::AVERAGES;

/// How the record says that the user named the family. As the next one, a part of the format:
/// folders that were written hold it.
pub(super) const BY_FAMILY: &str = "--family";

/// How it says that the user chose the weights.
pub(super) const BY_WEIGHTS: &str = "--weights";

/// The word that a setting has in `config.json`.
pub(super) fn word(setting: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(setting).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The facts of a model of one family.
pub(super) struct Provenance {
    family: &'static str,
    facts: BTreeMap<String, String>,
}

impl Provenance {
    /// Of a family that was found so.
    pub(super) fn new(family: &'static str, how: &str) -> Provenance {
        let mut provenance = Provenance { family, facts: BTreeMap::new() };
        provenance.stated("family", family, how);
        provenance
    }

    /// A fact of which `source` says that it is `value`.
    fn stated(&mut self, name: &str, value: impl Display, source: &str) {
        self.facts.insert(name.to_owned(), format!("{value}: from {source}"));
    }

    /// A fact that nothing says.
    pub(super) fn assumed(&mut self, name: &str, value: impl Display) {
        let text = format!("{value}: assumed, the convention of {}", self.family);
        self.facts.insert(name.to_owned(), text);
    }

    /// A fact that a configuration may say: as `found` there with its source, else the default.
    pub(super) fn setting<T: Display>(
        &mut self,
        name: &str,
        found: Option<(T, &str)>,
        default: Option<T>,
    ) -> Option<T> {
        match (&found, &default) {
            (Some((value, source)), _) => self.stated(name, value, source),
            (None, Some(value)) => self.assumed(name, value),
            (None, None) => {
                self.facts.insert(name.to_owned(), "not said by the checkpoint".to_owned());
            }
        }
        found.map(|(value, _)| value).or(default)
    }

    /// All of them.
    pub(super) fn into_facts(self) -> BTreeMap<String, String> {
        self.facts
    }
}

/// Which of the live weights and LitEma's moving averages were taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AveragesUse {
    /// Live weights in use.
    pub live: usize,
    /// Averages in use.
    pub used: usize,
    /// Averages in the file.
    pub there: usize,
    /// Whether the user chose them, or chose others.
    pub asked: Option<bool>,
}

impl AveragesUse {
    /// What the record says of it, where there are any.
    pub(super) fn in_words(&self, family: &str) -> Option<String> {
        let AveragesUse { live, used, there, asked } = *self;
        match (used, there) {
            (0, 0) => None,
            (0, there) => Some(format!(
                "the live ones; {there} moving averages ({AVERAGES}) aren't used{}",
                match asked {
                    Some(false) => format!(": from {BY_WEIGHTS}"),
                    _ => format!(" by {family}; {BY_WEIGHTS} {AVERAGES} takes them"),
                }
            )),
            (used, _) => Some(format!(
                "{used} of {} weights are moving averages ({AVERAGES}): {}",
                used + live,
                match asked {
                    Some(true) => format!("from {BY_WEIGHTS}"),
                    _ => format!("the rule of {family}; {BY_WEIGHTS} . takes the live ones"),
                }
            )),
        }
    }
}

/// One line on the tensors that were left out, each with its reason: how many, and why.
pub(super) fn ignored_in_words(ignored: &BTreeMap<String, String>) -> Option<String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in ignored.values() {
        let group = match reason.ends_with("is used in its place") {
            true => "replaced by their moving averages",
            false => reason,
        };
        *reasons.entry(group).or_default() += 1;
    }
    let parts: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{count} ({reason})")).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
