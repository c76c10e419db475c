//! Owns the sets of weights in a checkpoint: what stands before a tokenizer's names, what training
//! frameworks put into them, and which set is meant where there are several.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::keys::{ANCHORS, AVERAGES, KeyLayout};
use super::provenance::BY_WEIGHTS;
use super::setting_names::SettingNames;
use crate::error::{Error, Result};
use crate::util::numbers::counted;
use crate::util::text::{printable, quoted};

/// What wrappers of modules put into names, anywhere: `torch.compile`, (Distributed)DataParallel
/// and DeepSpeed, Lightning, FSDP, activation checkpointing.
const WRAPPERS: &[&str] = &[
    "_orig_mod",
    "module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_checkpoint_wrapped_module",
];

/// Parts of names under which no set of weights lies, whatever follows them.
const NO_WEIGHTS: &[&str] =
    &["optimizer", "optimizers", "optimizer_states", "exp_avg", "exp_avg_sq", "grad", "loss"];

/// Shapes by the name in the file.
pub(super) type Named = BTreeMap<String, Vec<usize>>;

/// The set of weights that is meant.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// What stands before its names, with the dot; without wrappers.
    pub prefix: String,
    /// Its own names, without prefix and wrappers, and those in the file.
    pub names: BTreeMap<String, String>,
    /// The other names of the file, with the reason.
    pub others: BTreeMap<String, String>,
    /// Whether the user chose LitEma's averages, or chose others.
    pub averages: Option<bool>,
    /// Why this one, where there are several.
    pub why: Option<String>,
}

/// A name without the parts that wrappers put into it.
pub(super) fn unwrapped(name: &str) -> Cow<'_, str> {
    match name.split('.').any(|part| WRAPPERS.contains(&part)) {
        false => name.into(),
        true => {
            name.split('.').filter(|p| !WRAPPERS.contains(p)).collect::<Vec<_>>().join(".").into()
        }
    }
}

/// Finds the set that is meant among `shapes`; `asked` is the user's word, `same` tells
/// whether two names of the file hold the same values.
///
/// # Errors
/// Where there is none, or more than one: all are listed.
pub(super) fn choose(
    shapes: &Named,
    asked: Option<&str>,
    settings: SettingNames,
    same: impl Fn(&str, &str) -> bool,
) -> Result<Chosen> {
    let mut sets = Sets::of(shapes);
    if sets.0.is_empty() {
        return Err(unknown_names());
    }
    let asked = asked.map(|word| Asked::of(word, &sets));
    let averages = asked.as_ref().map(|asked| asked.averages);
    let mut why = None;
    let index = match asked.and_then(|asked| asked.prefix) {
        Some(prefix) => {
            let index = sets.asked(&prefix, settings)?;
            let chosen = quoted(&sets.0[index].prefix);
            why = Some(format!("{chosen} of {}: from {BY_WEIGHTS}", sets.list()));
            index
        }
        None => sets.only(&same, settings, &mut why)?,
    };
    let others = sets.0.iter().enumerate().filter(|&(i, _)| i != index);
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    for (_, other) in others {
        let reason = format!("another set of weights, under {}", quoted(&other.prefix));
        reasons.extend(other.names.values().map(|name| (name.clone(), reason.clone())));
    }
    let chosen = sets.0.swap_remove(index);
    if let Some((name, names)) = chosen.twice {
        let (name, [one, two]) = (printable(&name), names.each_ref().map(|name| printable(name)));
        return Err(Error::invalid(format!(
            "the checkpoint's `{one}` and `{two}` both mean `{name}`: two sets of weights are mixed \
             in it; save it again with one of them"
        )));
    }
    let own: BTreeSet<&String> = chosen.names.values().collect();
    for name in shapes.keys().filter(|name| !own.contains(name)) {
        let part = |part: &str| part.contains("ema") || part.contains("shadow");
        let prefix = if chosen.wrapped.is_empty() { &chosen.prefix } else { &chosen.wrapped };
        let reason = || match name.to_lowercase().split('.').any(part) {
            true => format!("moving averages, not under `{prefix}` and without its names"),
            false => format!("not under `{prefix}`"),
        };
        reasons.entry(name.clone()).or_insert_with(reason);
    }
    let Set { prefix, names, .. } = chosen;
    Ok(Chosen { prefix, names, others: reasons, averages, why })
}

/// The error where no tokenizer is among the names.
pub(super) fn unknown_names() -> Error {
    Error::invalid(format!(
        "no tokenizer was recognised in the checkpoint: none of {} is among its names",
        ANCHORS.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    ))
}

/// The user's word for a set, understood.
struct Asked {
    /// Without wrappers and outer dots; None where only the averages were asked for.
    prefix: Option<String>,
    averages: bool,
}

impl Asked {
    fn of(word: &str, sets: &Sets) -> Asked {
        let word = unwrapped(word.trim_matches('.')).into_owned();
        // A whole set can be called as LitEma's averages are.
        let averages = word.strip_suffix(AVERAGES).filter(|_| sets.find(&word).is_none());
        match averages {
            Some(before) if before.is_empty() || before.ends_with('.') => {
                let before = before.trim_end_matches('.');
                let prefix = (!before.is_empty()).then(|| before.to_owned());
                Asked { prefix, averages: true }
            }
            _ => Asked { prefix: Some(word), averages: false },
        }
    }
}

/// Weights of one network under one prefix.
#[derive(Debug)]
struct Set {
    prefix: String,
    /// The prefix with the wrappers in it, where all its anchors have the same: what lies outside
    /// of a wrapper is none of its module's. Else empty.
    wrapped: String,
    /// Own name to the name in the file.
    names: BTreeMap<String, String>,
    shapes: Named,
    /// Whether encoder or decoder and codebook, where its layout has one, are there.
    tokenizer: bool,
    /// Two names in the file that mean the same.
    twice: Option<(String, [String; 2])>,
}

impl Set {
    /// Whether all of it is in `other` too, under the same names and in the same shapes.
    fn copies(&self, other: &Set) -> bool {
        self.shapes.iter().all(|(name, shape)| other.shapes.get(name) == Some(shape))
    }

    /// Whether both hold the same values under the same names.
    fn equals(&self, other: &Set, same: &impl Fn(&str, &str) -> bool) -> bool {
        self.names.len() == other.names.len()
            && self
                .names
                .iter()
                .all(|(own, name)| other.names.get(own).is_some_and(|other| same(name, other)))
    }

    /// What stands last in the prefix, and what stands before that.
    fn last(&self) -> (&str, &str) {
        let prefix = self.prefix.trim_end_matches('.');
        prefix.rsplit_once('.').unwrap_or(("", prefix))
    }
}

/// Every set of a checkpoint, by prefix.
struct Sets(Vec<Set>);

impl Sets {
    fn of(shapes: &Named) -> Sets {
        let names: Vec<(Cow<str>, &String)> =
            shapes.keys().map(|name| (unwrapped(name), name)).collect();
        let prefixes: BTreeSet<String> =
            names.iter().filter_map(|(name, _)| prefix_of(name)).map(str::to_owned).collect();
        let mut sets: Vec<Set> = prefixes
            .iter()
            .map(|prefix| Set {
                wrapped: wrapped_prefix(prefix, &names),
                prefix: prefix.clone(),
                names: BTreeMap::new(),
                shapes: Named::new(),
                tokenizer: false,
                twice: None,
            })
            .collect();
        for (clean, name) in &names {
            // The longest prefix has it: a set without one doesn't own those beside it.
            let set = sets
                .iter_mut()
                .filter(|set| clean.starts_with(&set.prefix) && name.starts_with(&set.wrapped));
            let Some(set) = set.max_by_key(|set| set.prefix.len()) else { continue };
            let own = clean[set.prefix.len()..].to_owned();
            if let Some(other) = set.names.insert(own.clone(), (*name).clone()) {
                set.twice.get_or_insert((own.clone(), [other, (*name).clone()]));
            }
            set.shapes.insert(own, shapes[*name].clone());
        }
        for set in &mut sets {
            let layout = KeyLayout::of(&set.shapes);
            set.tokenizer = layout.is_some_and(|layout| {
                let names = layout.canonical_names(set.shapes.keys().map(String::as_str));
                !layout.has_codebook() || names.values().any(|n| n == "quantize.embedding.weight")
            });
        }
        Sets(sets)
    }

    /// All of them, for messages.
    fn list(&self) -> String {
        self.listed(&(0..self.0.len()).collect::<Vec<_>>())
    }

    fn listed(&self, indices: &[usize]) -> String {
        let one = |&index: &usize| match (self.0[index].prefix.as_str(), self.0[index].names.len())
        {
            ("", count) => format!("those without a prefix ({})", counted(count, "tensor")),
            (prefix, count) => format!("{} ({})", quoted(prefix), counted(count, "tensor")),
        };
        indices.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// The set that the user's prefix means: itself, or its last parts where they are nobody else's.
    fn find(&self, word: &str) -> Option<usize> {
        let is = |set: &Set| set.prefix.trim_end_matches('.') == word;
        let ends = |set: &Set| {
            let before = set.prefix.trim_end_matches('.').strip_suffix(word);
            !word.is_empty() && before.is_some_and(|before| before.ends_with('.'))
        };
        let mut ending = (0..self.0.len()).filter(|&i| ends(&self.0[i]));
        let only = ending.next().filter(|_| ending.next().is_none());
        self.0.iter().position(is).or(only)
    }

    fn asked(&self, word: &str, settings: SettingNames) -> Result<usize> {
        self.find(word).ok_or_else(|| {
            Error::invalid(format!(
                "{} {}: the checkpoint has {}; give the start of the names of one of them (. for \
                 those without a prefix)",
                settings.weights,
                printable(word),
                self.list()
            ))
        })
    }

    /// The set that is meant without a word from the user.
    fn only(
        &self,
        same: &impl Fn(&str, &str) -> bool,
        settings: SettingNames,
        why: &mut Option<String>,
    ) -> Result<usize> {
        let mut left = self.tokenizers();
        // Transformers carry the tokenizer of their condition beside that of their images.
        let condition = |i: usize| match self.0[i].last() {
            (before, "cond_stage_model") => {
                left.iter().any(|&other| self.0[other].last() == (before, "first_stage_model"))
            }
            _ => false,
        };
        let images: Vec<usize> = left.iter().copied().filter(|&i| !condition(i)).collect();
        if images.len() < left.len() {
            *why = Some(format!(
                "`first_stage_model.` of {}: the tokenizer of the images, by the reference's names",
                self.list()
            ));
            left = images;
        }
        if let [index] = left[..] {
            return Ok(index);
        }
        // Averages come last, so that the name of the set is the usual one.
        let averages = |i: usize| self.0[i].prefix.contains("ema");
        left.sort_by_key(|&i| (averages(i), i));
        if let [first, rest @ ..] = &left[..]
            && rest.iter().all(|&other| self.0[*first].equals(&self.0[other], same))
        {
            *why = Some(format!("all of {} hold the same values", self.list()));
            return Ok(*first);
        }
        let setting = settings.weights;
        let example = self.0[*left.last().unwrap_or(&0)].prefix.trim_end_matches('.').to_owned();
        Err(Error::invalid(format!(
            "the checkpoint holds {} sets of weights, whose tokens differ: {}; say which with \
             {setting} PREFIX, such as {setting} {}",
            left.len(),
            self.listed(&left),
            if example.is_empty() { ".".into() } else { printable(&example) }
        )))
    }

    /// Those that can be meant. A network of another kind beside a tokenizer, such as a KL
    /// autoencoder, is none to choose; a part of a tokenizer's copy is.
    fn tokenizers(&self) -> Vec<usize> {
        let mut left: Vec<usize> = (0..self.0.len()).collect();
        if self.0.iter().any(|set| set.tokenizer) {
            let copy = |set: &Set| self.0.iter().any(|other| other.tokenizer && set.copies(other));
            left.retain(|&i| self.0[i].tokenizer || copy(&self.0[i]));
        }
        left
    }
}

/// See [`Set::wrapped`].
fn wrapped_prefix(prefix: &str, names: &[(Cow<str>, &String)]) -> String {
    let parts = prefix.matches('.').count();
    let of = |name: &str| {
        let mut left = parts;
        let mut length = 0;
        for part in name.split_inclusive('.') {
            match WRAPPERS.contains(&part.trim_end_matches('.')) {
                true => {}
                false if left > 0 => left -= 1,
                false => break,
            }
            length += part.len();
        }
        name[..length].to_owned()
    };
    let anchors = names.iter().filter(|(clean, _)| prefix_of(clean) == Some(prefix));
    let mut wrapped = anchors.map(|(_, name)| of(name));
    let first = wrapped.next().unwrap_or_default();
    if wrapped.all(|other| other == first) { first } else { String::new() }
}

/// What stands before a tokenizer's anchor; None where the name is none, or one of training.
fn prefix_of(name: &str) -> Option<&str> {
    // Weights that were taken apart have their anchors too: they are to be named.
    let ends = ["", "_v", "_orig"];
    let apart = ".parametrizations.weight.original1";
    let stem = |anchor: &str| anchor.strip_suffix(".weight").map(|stem| format!("{stem}{apart}"));
    let strip = |anchor: &&str| {
        let ways = ends.iter().map(|end| format!("{anchor}{end}")).chain(stem(anchor));
        ways.filter_map(|way| name.strip_suffix(&way)).min_by_key(|prefix| prefix.len())
    };
    let prefixes = ANCHORS.iter().filter_map(strip);
    // `encoder.blocks.input.w` is an anchor itself, not `blocks.input.w` after a prefix.
    let prefix = prefixes.min_by_key(|prefix| prefix.len())?;
    let at_a_dot = prefix.is_empty() || prefix.ends_with('.');
    let of_weights = !prefix.split('.').any(|part| NO_WEIGHTS.contains(&part));
    (at_a_dot && of_weights).then_some(prefix)
}

#[cfg(test)]
mod tests;
