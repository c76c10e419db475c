//! Owns what the page of an audit shows with pictures, what in a table, and what the JSON has alone.
//! Must not know: how anything is drawn.

use std::collections::BTreeSet;

use crate::findings::result::{Duplicates, Findings, Kind, Leak, LowInformation, Outlier};
use crate::findings::sizes::OddImage;

/// Pictures of a group that are drawn.
pub(super) const MEMBERS_MAX: usize = 8;
/// Rows of a table; the JSON has all.
pub(super) const ROWS_MAX: usize = 2000;
/// Pictures of each part of the page, at most, so that the whole stays light.
const CONFLICTS_MAX: usize = 120;
const EXACT_MAX: usize = 40;
const NEAR_MAX: usize = 300;
const LEAKS_MAX: usize = 160;
const REASON_MAX: usize = 24;
const OUTLIERS_MAX: usize = 48;
const SIZES_MAX: usize = 18;

/// Findings of one kind.
#[derive(Debug)]
pub(super) struct Part<'a, T> {
    /// Those with pictures.
    pub pictured: Vec<&'a T>,
    /// The others, in their order.
    pub rest: Vec<&'a T>,
}

/// All findings, by the part of the page that they are in.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    /// Groups with several labels, of any kind.
    pub conflicts: Part<'a, Duplicates>,
    /// The other groups of one file.
    pub files: Part<'a, Duplicates>,
    /// The other groups of equal pixels.
    pub pixels: Part<'a, Duplicates>,
    /// The other groups that are alike.
    pub near: Part<'a, Duplicates>,
    pub leaks: Part<'a, Leak>,
    /// By reason, the most frequent first.
    pub low: Vec<(&'static str, Part<'a, LowInformation>)>,
    pub outliers: Part<'a, Outlier>,
    /// Of odd size or shape.
    pub odd: Part<'a, OddImage>,
    /// Enlarged for the model, by the most first.
    pub upscaled: Part<'a, OddImage>,
    /// Of modes that few have.
    pub modes: Part<'a, OddImage>,
}

/// The keys of the images that the page shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// Of the audited output.
    pub here: BTreeSet<String>,
    /// Of the other one.
    pub there: BTreeSet<String>,
}

impl<'a, T> Part<'a, T> {
    /// The first findings up to `most` pictures, of which each needs so many.
    fn of(all: Vec<&'a T>, most: usize, pictures: impl Fn(&T) -> usize) -> Part<'a, T> {
        let mut left = most;
        let fits = |finding: &&&T| {
            let enough = pictures(finding) <= left;
            left = left.saturating_sub(pictures(finding));
            enough
        };
        let pictured: Vec<&T> = all.iter().take_while(fits).copied().collect();
        let rest = all[pictured.len()..].to_vec();
        Part { pictured, rest }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pictured.len() + self.rest.len()
    }
}

impl<'a> Shown<'a> {
    pub(super) fn of(findings: &'a Findings) -> Shown<'a> {
        let groups = |wanted: &dyn Fn(&Duplicates) -> bool| {
            findings.duplicates.iter().filter(|group| wanted(group)).collect::<Vec<_>>()
        };
        let agreed = |kind: Kind| groups(&|group| group.kind == kind && !group.label_conflict);
        let members = |group: &Duplicates| group.members.len().min(MEMBERS_MAX);
        let sizes = |list: &'a [OddImage]| {
            let mut all: Vec<&OddImage> = list.iter().collect();
            all.sort_by(|a, b| b.score.total_cmp(&a.score));
            Part::of(all, SIZES_MAX, |_| 1)
        };
        let mut reasons: Vec<(&'static str, Vec<&LowInformation>)> = Vec::new();
        for low in &findings.low_information {
            match reasons.iter_mut().find(|(reason, _)| *reason == low.reason) {
                Some((_, some)) => some.push(low),
                None => reasons.push((low.reason, vec![low])),
            }
        }
        reasons.sort_by_key(|(reason, some)| (std::cmp::Reverse(some.len()), *reason));
        // The surest first; equally sure ones as they come.
        reasons.iter_mut().for_each(|(_, some)| some.sort_by(|a, b| b.score.total_cmp(&a.score)));
        let low =
            reasons.into_iter().map(|(reason, some)| (reason, Part::of(some, REASON_MAX, |_| 1)));
        Shown {
            conflicts: Part::of(groups(&|group| group.label_conflict), CONFLICTS_MAX, members),
            // Equal pictures are shown once.
            files: Part::of(agreed(Kind::ExactFile), EXACT_MAX, |_| 1),
            pixels: Part::of(agreed(Kind::ExactPixels), EXACT_MAX, |_| 1),
            near: Part::of(agreed(Kind::Near), NEAR_MAX, members),
            leaks: Part::of(findings.leaks.iter().collect(), LEAKS_MAX, |_| 2),
            low: low.collect(),
            outliers: Part::of(findings.outliers.iter().collect(), OUTLIERS_MAX, |_| 1),
            odd: sizes(&findings.sizes.odd.list),
            upscaled: sizes(&findings.sizes.upscaled.list),
            modes: sizes(&findings.sizes.few_modes.list),
        }
    }

    /// The part of the page that shows groups of a kind: where all have several labels, that of those.
    pub(super) fn section(&self, id: &'static str, groups: &Part<'_, Duplicates>) -> &'static str {
        if groups.len() > 0 { id } else { "conflicts" }
    }

    fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        let mut here = |key: &String| {
            wanted.here.insert(key.clone());
        };
        for group in self.files.pictured.iter().chain(&self.pixels.pictured) {
            here(&group.keep);
        }
        for group in self.conflicts.pictured.iter().chain(&self.near.pictured) {
            group.members.iter().take(MEMBERS_MAX).for_each(|member| here(&member.key));
        }
        self.low.iter().flat_map(|(_, part)| &part.pictured).for_each(|low| here(&low.key));
        let sizes = [&self.odd, &self.upscaled, &self.modes].map(|part| &part.pictured);
        sizes.into_iter().flatten().for_each(|image| here(&image.key));
        self.outliers.pictured.iter().for_each(|outlier| here(&outlier.key));
        for leak in &self.leaks.pictured {
            here(&leak.key);
            wanted.there.insert(leak.other_key.clone());
        }
        wanted
    }
}

/// The images that the page of these findings shows.
pub(crate) fn wanted(findings: &Findings) -> Wanted {
    Shown::of(findings).wanted()
}
