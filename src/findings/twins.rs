//! Owns looking for images that are one, within an output and across two: exact ones, and near ones
//! where there are pictures of tokens. Must not know: how either is told.

use std::collections::HashMap;

use super::cluster::{Alike, clusters};
use super::crowd::Crowd;
use super::exact;
use super::groups::{self, Near, Same};
use super::images::Images;
use super::index::Set;
use super::leaks::{Side, leaks};
use super::low::{self, Low};
use super::near::{self, Comparer, Pair};
use super::result::{Duplicates, Kind, Leak, Remark};
use super::run::{Event, Observer, Settings};
use super::signature::{Weights, is_flat};
use super::strangers::Strangers;
use super::threshold::{OF_CONFLICTS, Similarities, Threshold, lowest};
use crate::error::{Error, Result};
use crate::util::numbers::counted;

/// Images that are one.
#[derive(Debug, Default)]
pub(super) struct Twins {
    pub duplicates: Vec<Duplicates>,
    pub leaks: Vec<Leak>,
    /// None where nothing could be compared.
    pub threshold: Option<Threshold>,
    pub remarks: Vec<Remark>,
    /// Keys of images that aren't compared as pictures.
    pub not_compared: Vec<String>,
}

/// An output's images, and which of them are exactly one.
struct Exact<'a> {
    images: &'a Images,
    low: &'a Low,
    files: Vec<Vec<u32>>,
    pixels: Vec<Vec<u32>>,
    same: Same,
    blanks: Vec<u32>,
}

impl<'a> Exact<'a> {
    fn of(images: &'a Images, low: &'a Low) -> Exact<'a> {
        let taken = |kind| move |at: usize| is_taken(images, low, kind, at);
        let files = exact::groups(&images.files, taken(Kind::ExactFile));
        let pixels = exact::groups(&images.grids, taken(Kind::ExactPixels));
        let all: Vec<Vec<u32>> = files.iter().chain(&pixels).cloned().collect();
        let places = 0..images.len() as u32;
        let blanks = places.filter(|&at| is_blank(images, at as usize)).collect();
        Exact { images, low, files, pixels, same: Same::of(&all), blanks }
    }

    /// Whether an image is compared with others.
    fn compared(&self, at: usize) -> bool {
        !is_blank(self.images, at) && self.same.first(at as u32) as usize == at
    }

    /// How many are.
    fn number(&self) -> f64 {
        (0..self.images.len()).filter(|&at| self.compared(at)).count() as f64
    }

    /// Those that are compared.
    fn set<'s>(&'s self, weights: &Weights) -> Result<Set<'s>> {
        Set::new(&self.images.thumbnails, weights, &|at| self.compared(at))
    }

    fn groups(&self, keep: &[String]) -> Vec<Duplicates> {
        let files = &self.images.files;
        // Of files whose digests aren't known only the tokens tell.
        let several = |group: &&Vec<u32>| {
            let first = files[group[0] as usize];
            first == [0; 16] || group.iter().any(|&at| files[at as usize] != first)
        };
        let pixels = self.pixels.iter().filter(several).map(|group| (group, Kind::ExactPixels));
        let files = self.files.iter().map(|group| (group, Kind::ExactFile));
        let group =
            |(group, kind): (&Vec<u32>, Kind)| groups::exact(self.images, group, kind, keep);
        files.chain(pixels).map(group).collect()
    }
}

/// Whether an image shows nothing: then it is like others that show nothing, and no copy of them.
pub(super) fn is_blank(images: &Images, at: usize) -> bool {
    // A saved index has no looks: what is blank in it has a flat thumbnail.
    images.looks.get(at).is_some_and(low::blank) || images.thumbnails.get(at).is_some_and(is_flat)
}

/// Whether an image's digest of that kind is compared. Files of one colour are one finding, whether they
/// are copies or not; whatever else is byte for byte the same is a copy. Grids that are equal because
/// there are few codes in them are no copies.
fn is_taken(images: &Images, low: &Low, kind: Kind, at: usize) -> bool {
    match kind {
        Kind::ExactFile => images.files[at] != [0; 16] && !low.is_plain(at),
        Kind::ExactPixels => !images.looks.get(at).is_some_and(low::few_codes),
        Kind::Near => !is_blank(images, at),
    }
}

/// Looks for images that are one.
///
/// # Errors
/// A file system that is full; an interrupt.
pub(super) fn find(
    settings: &Settings,
    (images, low): (&Images, &Low),
    other: Option<&Images>,
    observer: &mut dyn Observer,
) -> Result<Twins> {
    let other = other.map(|other| (other, low::find(other)));
    let ours = Exact::of(images, low);
    let theirs = other.as_ref().map(|(other, low)| Exact::of(other, low));
    let mut twins = Twins { duplicates: ours.groups(&settings.keep), ..Twins::default() };
    twins.remark_left_out(&ours);
    let mut leaking = Vec::new();
    if images.thumbnails.is_empty() && images.len() > 0 {
        twins.remark("near-duplicates", NOT_COMPARED.to_string());
    } else {
        let rows = images.len() + theirs.as_ref().map_or(0, |theirs| theirs.images.len());
        observer.event(&Event::Begin { stage: "compare", rows: rows as u64 });
        let mut interrupted = || match observer.interrupted() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        };
        let within = twins.find_near(settings, &ours, &mut interrupted)?;
        if let Some(theirs) = &theirs {
            leaking = twins.find_across(settings, [&ours, theirs], &within, &mut interrupted)?;
        }
    }
    if let Some(theirs) = &theirs {
        let [ours_taken, theirs_taken] = [(images, low), (theirs.images, theirs.low)]
            .map(|(images, low)| move |kind: Kind, at: usize| is_taken(images, low, kind, at));
        let ours = Side { images, taken: &ours_taken, same: &ours.same };
        let theirs = Side { images: theirs.images, taken: &theirs_taken, same: &theirs.same };
        twins.leaks = leaks(ours, theirs, &leaking);
    }
    twins.duplicates.sort_by_key(|group| (group.kind, std::cmp::Reverse(group.members.len())));
    Ok(twins)
}

/// Where more than one in so many images is in a crowd, that is said.
const CROWD: f64 = 100.0;

const NOT_COMPARED: &str = "only exact copies were looked for: near ones are compared as pictures, \
                            which need the model that made the tokens, with its decoder";

impl Twins {
    fn remark(&mut self, about: &'static str, text: String) {
        self.remarks.push(Remark { about, finding: false, text });
    }

    fn remark_left_out(&mut self, exact: &Exact<'_>) {
        if !exact.blanks.is_empty() {
            let blank = counted(exact.blanks.len(), "image");
            let text = format!(
                "{blank} without contrast: not compared as pictures; files that are equal count as \
                 copies, but for those that the model sees as one colour"
            );
            self.remark("blanks", text);
            let keys = exact.blanks.iter().map(|&at| exact.images.keys.get(at as usize));
            self.not_compared = keys.map(str::to_string).collect();
        }
    }

    /// Near duplicates of ours, which are the same whatever they are audited against. Gives how alike its
    /// pairs are.
    fn find_near(
        &mut self,
        settings: &Settings,
        ours: &Exact<'_>,
        interrupted: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Similarities> {
        let weights = Weights::of(&[&ours.images.thumbnails]);
        let mine = ours.set(&weights)?;
        let found = near::within(&mine, &weights, interrupted)?;
        let both = |pair: &Pair| [Some(pair.first), Some(pair.second)];
        let crowd = Crowd::of(ours.images.len(), &found, both)?;
        let ends = crowd.ends(ours.number());
        let within = Similarities::of(found.iter().map(|pair| pair.score), [&ends, &ends]);
        let threshold = within.threshold(settings.threshold, lowest(ours.number()));
        let everyone = crowd.is_everyone(ours.number(), threshold.value);
        if let Some(crowded) = everyone.filter(|_| settings.threshold.is_none()) {
            self.remark("near-duplicates", too_alike(crowded, "near copies"));
            return Ok(within);
        }
        self.threshold = Some(threshold);
        let crowded = crowd.crowded(threshold.value);
        if settings.threshold.is_none() && crowded as f64 > ours.number() / CROWD {
            self.remark("near-duplicates", in_doubt(crowded));
        }
        let estimated = settings.threshold.is_none();
        let enough = |pair: &Pair| {
            let conflict = ours.images.labels_differ(pair.first, pair.second);
            let lowest = if estimated && conflict { OF_CONFLICTS } else { 0.0 };
            f64::from(pair.score) >= threshold.value.max(lowest)
        };
        self.group(settings, ours, &Comparer::new(&mine, &weights), &found, &enough);
        Ok(within)
    }

    /// The pairs of one of ours with one of theirs.
    fn find_across(
        &mut self,
        settings: &Settings,
        [ours, theirs]: [&Exact<'_>; 2],
        within: &Similarities,
        interrupted: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Pair>> {
        let weights = Weights::of(&[&ours.images.thumbnails, &theirs.images.thumbnails]);
        let (mine, other) = (ours.set(&weights)?, theirs.set(&weights)?);
        let across = near::across(&mine, &other, &weights, interrupted)?;
        let pairs = ours.number() * theirs.number();
        let within = (within, ours.number().powi(2) / 2.0);
        let crowds = [
            Crowd::of(ours.images.len(), &across, |pair| [Some(pair.first), None])?,
            Crowd::of(theirs.images.len(), &across, |pair| [Some(pair.second), None])?,
        ];
        let [first, second] = [crowds[0].ends(ours.number()), crowds[1].ends(theirs.number())];
        let scores = across.iter().map(|pair| pair.score);
        let threshold = Similarities::of(scores, [&first, &second]).threshold_across(
            pairs,
            within,
            settings.threshold,
            self.threshold.map_or(0.0, |threshold| threshold.value),
        );
        let estimated = settings.threshold.is_none();
        let everyone = crowds[0].is_everyone(ours.number(), threshold.value);
        if let Some(crowded) = everyone.filter(|_| estimated) {
            self.remark("leaks", too_alike(crowded, "leaks of near copies"));
            return Ok(Vec::new());
        }
        self.remark(
            "leaks",
            format!(
                "similarity from {:.3} on counts as a leak; about {:.0} of the pairs are chance",
                threshold.value, threshold.false_pairs
            ),
        );
        let enough = |pair: &&Pair| f64::from(pair.score) >= threshold.value;
        let strangers = Strangers::of(&across, threshold.value);
        let (hidden, leaking): (Vec<Pair>, Vec<Pair>) =
            across.iter().filter(enough).partition(|pair| estimated && strangers.hide(pair));
        if !hidden.is_empty() {
            self.remark("leaks", hidden_in_crowds(hidden.len()));
        }
        Ok(leaking)
    }

    /// Makes groups of pairs that are alike enough.
    fn group(
        &mut self,
        settings: &Settings,
        exact: &Exact<'_>,
        comparer: &Comparer<'_>,
        found: &[Pair],
        enough: &dyn Fn(&Pair) -> bool,
    ) {
        let pairs: Vec<Pair> = found.iter().filter(|pair| enough(pair)).copied().collect();
        let mut alike = |a: u32, b: u32| {
            let pair = comparer.pair(a, b);
            let conflict = exact.images.labels_differ(a, b);
            Alike { score: pair.score, enough: enough(&pair), conflict }
        };
        let groups = clusters(pairs.clone(), &mut alike);
        let pairs: HashMap<(u32, u32), Pair> =
            pairs.into_iter().map(|pair| ((pair.first, pair.second), pair)).collect();
        let (images, keep) = (exact.images, &settings.keep[..]);
        let near = Near { images, same: &exact.same, comparer, keep, pairs };
        let mut groups: Vec<Vec<u32>> = groups;
        groups.sort_by_key(|group| group.iter().copied().min());
        self.duplicates.extend(groups.iter().map(|group| near.group(group)));
    }
}

/// What is said where a part of the images resembles many others.
fn in_doubt(crowded: u64) -> String {
    let images = counted(crowded, "image");
    format!(
        "{images} resemble eight others or more as much as copies resemble each other: either there are \
         many copies of one image, or more pairs may be chance than is expected"
    )
}

/// What is said of pairs that don't stand out from others.
fn hidden_in_crowds(pairs: usize) -> String {
    let pairs = counted(pairs, "pair");
    format!(
        "{pairs} as alike as copies count for none: one of the two resembles sixteen images or more of the \
         other output hardly less, as one of many digits or forms does; a threshold that is given is taken \
         all the same"
    )
}

/// What is said where most images resemble many others.
fn too_alike(crowded: u64, what: &str) -> String {
    let images = counted(crowded, "image");
    format!(
        "{what} can't be told here: {images} resemble eight others or more as much as copies resemble \
         each other; a threshold that is given is taken all the same"
    )
}

#[cfg(test)]
mod tests {
    use super::super::features::Features;
    use super::super::testing::{grid, images, picture};
    use super::*;

    /// How many images each group of equal ones has.
    fn groups(looks: &[(Features, u8)]) -> Vec<(Kind, usize)> {
        let images = images(looks).unwrap();
        let low = low::find(&images);
        let groups = Exact::of(&images, &low).groups(&[]);
        groups.iter().map(|group| (group.kind, group.members.len())).collect()
    }

    #[test]
    fn equal_files_are_copies_unless_they_are_named_as_one_colour() {
        let sky = picture(32, 32, |x, y| [110 + x / 4, 140 + y / 4, 200]);
        for drawn in [None, Some(&sky)] {
            // Few codes, little contrast: no picture tells it from others, but equal bytes do.
            let soft = Features::of(&grid(8, 8, |at| at * at / 7 % 4), drawn, None);
            let mut looks: Vec<(Features, u8)> =
                (0..36).map(|at| (soft, 1 + at as u8 / 2)).collect();
            let pairs = vec![(Kind::ExactFile, 2); 18];
            assert_eq!(groups(&looks), pairs, "{}", drawn.is_some());
            let plain = Features::of(&grid(8, 8, |_| 3), drawn, None);
            looks.extend(vec![(plain, 99); 20]);
            assert_eq!(groups(&looks), pairs, "{}", drawn.is_some());
            // Rows that don't say their file: equal grids of few codes are no copies.
            assert!(groups(&[(soft, 0); 4]).is_empty());
        }
        let rich = Features::of(&grid(8, 8, |at| at), Some(&sky), None);
        assert_eq!(groups(&[(rich, 0); 4]), [(Kind::ExactPixels, 4)]);
    }
}
