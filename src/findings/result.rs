//! Owns what an audit gives, as it stands in its JSON file. Must not know: how anything is found.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::bits::BitUse;
use super::codebook::Codebook;
use super::codes::CodePictures;
use super::reconstructions::{PrecisionFindings, Reconstructions};
use super::sizes::Sizes;
use super::unlisted::Unlisted;
use crate::audit::BadRows;
use crate::audit::report::{AuditReport, FailureReport};

/// What was found in an output.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Findings {
    /// `audit.v1`.
    pub schema: &'static str,
    /// Images that were looked at; of several views of one, the first.
    pub images: u64,
    /// Images of the other output, where there is one.
    pub against: Option<u64>,
    /// Groups of images that are one: files first, then pixels, then near ones; the largest first.
    pub duplicates: Vec<Duplicates>,
    /// Images that the other output has as well, the surest first.
    pub leaks: Vec<Leak>,
    /// Images that show hardly anything.
    pub low_information: Vec<LowInformation>,
    /// Images unlike the others, the oddest first.
    pub outliers: Vec<Outlier>,
    /// Keys of images without contrast, which aren't compared as pictures.
    pub not_compared: Vec<String>,
    /// Similarity from which two images count as one; None where nothing could be compared.
    pub threshold: Option<f64>,
    /// Pairs above the threshold that are two images for all that, as far as can be estimated.
    pub expected_false_pairs: Option<f64>,
    /// What else there is to say, and what can't be told.
    pub remarks: Vec<Remark>,
    /// Use of the codebook, by level. None where codes are too many to be counted: `bits` has the levels
    /// then.
    pub codebook: Vec<Codebook>,
    /// Use of the bits of codes, by level.
    pub bits: Vec<BitUse>,
    /// Images of odd sizes, shapes and modes.
    pub sizes: Sizes,
    /// Images given up, and rows that can't be read.
    pub failures: FailuresFound,
    /// Pictures of codes, the most used first; None where they weren't asked for.
    pub code_pictures: Option<CodePictures>,
    /// A sample decoded from its tokens, beside its images; None without a model with a decoder and a
    /// source.
    pub reconstructions: Option<Reconstructions>,
    /// Whether other arithmetic gives the same tokens; None where that wasn't asked.
    pub precision: Option<PrecisionFindings>,
    /// What is counted of the shards.
    #[serde(skip)]
    pub report: AuditReport,
    /// Duplicates that no list of what can go may have.
    #[serde(skip)]
    pub(super) unlisted: Unlisted,
}

impl Findings {
    /// How many images groups of these kinds have; one that is in several groups counts once.
    pub fn images_in(&self, kinds: &[Kind]) -> usize {
        let mut most: HashMap<&str, usize> = HashMap::new();
        for group in self.duplicates.iter().filter(|group| kinds.contains(&group.kind)) {
            let mut here: HashMap<&str, usize> = HashMap::new();
            group.members.iter().for_each(|m| *here.entry(&m.key).or_default() += 1);
            // A key may be that of several images.
            here.into_iter().for_each(|(key, times)| {
                let known = most.entry(key).or_default();
                *known = times.max(*known);
            });
        }
        most.values().sum()
    }

    /// How many images the other output has as well; each may be several of its own.
    pub fn leaked(&self) -> usize {
        let keys: std::collections::BTreeSet<&str> =
            self.leaks.iter().map(|leak| leak.key.as_str()).collect();
        keys.len()
    }

    /// The keys of duplicates that needn't be kept: of every group those that are as like its keeper as two
    /// images must be to count as one; of groups with several labels none, since nothing tells which label
    /// is right. None that begins with a protected prefix, and none that is [unlisted](Unlisted).
    fn to_remove(&self, protected: &[String]) -> impl Iterator<Item = &str> {
        let mut gone: BTreeSet<&str> = BTreeSet::new();
        let threshold = self.threshold.unwrap_or(1.0);
        // Keepers are chosen by one order of all images, so the first of those that are one stays,
        // though it be the keeper of a smaller group only.
        for group in &self.duplicates {
            if group.label_conflict {
                continue;
            }
            let near = group.kind == Kind::Near;
            let others = group.members.iter().filter(|m| !near || m.score >= threshold);
            let others = others.map(|m| m.key.as_str()).filter(|key| *key != group.keep);
            gone.extend(others.filter(|key| !self.unlisted.has(key, group.kind)));
        }
        gone.retain(|key| !protected.iter().any(|prefix| key.starts_with(prefix.as_str())));
        gone.into_iter()
    }

    /// Those keys, one a line, but for keys that would be several lines; and how many these are.
    pub fn remove_list(&self, protected: &[String]) -> (String, usize) {
        let (lines, others): (Vec<&str>, Vec<&str>) =
            self.to_remove(protected).partition(|key| !key.contains(['\n', '\r']));
        (lines.iter().flat_map(|key| [*key, "\n"]).collect(), others.len())
    }
}

/// What makes a group one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The bytes of the files.
    ExactFile,
    /// Equal grids of equal sizes, though the files differ.
    ExactPixels,
    /// Alike enough.
    Near,
}

/// Images that are one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Duplicates {
    /// What makes them one.
    pub kind: Kind,
    /// The keeper first, then by score.
    pub members: Vec<Member>,
    /// The key of the one to keep.
    pub keep: String,
    /// Whether they have several labels.
    pub label_conflict: bool,
}

/// One image of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// Its key.
    pub key: String,
    /// Similarity to the keeper, at most 1.
    pub score: f64,
    /// What it is of the keeper: `same`, `mirrored`, `turned` ...
    pub relation: &'static str,
    /// Its label, where it has one.
    pub label: Option<String>,
}

/// An image that two outputs have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leak {
    /// Its key here.
    pub key: String,
    /// Its key in the other.
    pub other_key: String,
    /// Similarity, at most 1.
    pub score: f64,
    /// What makes them one.
    pub kind: Kind,
    /// Whether their labels differ.
    pub label_conflict: bool,
}

/// An image that shows hardly anything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LowInformation {
    /// Its key.
    pub key: String,
    /// What it lacks: `constant`, `dark` ...
    pub reason: &'static str,
    /// How sure that is, from 0 to 1.
    pub score: f64,
}

/// An image unlike the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outlier {
    /// Its key.
    pub key: String,
    /// How far from them: comparable within one audit only.
    pub score: f64,
}

/// One thing to say of the whole set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Remark {
    /// What it is about, such as `near-duplicates`.
    pub about: &'static str,
    /// Whether it is something to look into, rather than something to know.
    pub finding: bool,
    /// One line.
    pub text: String,
}

/// Images given up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailuresFound {
    /// How many.
    pub count: u64,
    /// How many by stage.
    pub by_stage: std::collections::BTreeMap<String, u64>,
    /// How many by stage and then error text.
    pub by_error: std::collections::BTreeMap<String, u64>,
    /// The first of them.
    pub list: Vec<FailureReport>,
    /// Rows of the output that can't be used.
    pub unreadable: Unreadable,
    /// The same of the other output, whose leaks aren't found; None without one, and of a saved index.
    pub unreadable_against: Option<Unreadable>,
}

impl FailuresFound {
    /// Whether there are any, of either output.
    pub fn any(&self) -> bool {
        let rows = self.unreadable_against.as_ref().map_or(0, |there| there.rows);
        self.count + self.unreadable.rows + rows > 0
    }
}

/// Rows that can't be used, so that they are in no other number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Unreadable {
    /// How many; a file that can't even be counted is one.
    pub rows: u64,
    /// The first of them, at most 100, in one line each.
    pub list: Vec<String>,
}

impl Unreadable {
    pub(super) fn take(&mut self, bad: &BadRows) {
        self.rows += bad.count().max(1);
        if self.list.len() < UNREADABLE_MAX {
            self.list.push(bad.in_words());
        }
    }
}

/// Rows that can't be read and are named.
const UNREADABLE_MAX: usize = 100;
