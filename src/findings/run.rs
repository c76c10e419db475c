//! Owns the course of an audit: what is read, what is looked for, in which order. Must not know: how
//! anything is found or shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bits;
use super::codebook;
use super::images::Images;
use super::look::Looks;
use super::low::{self, Low};
use super::outliers;
use super::padding::Padding;
use super::picture::Draw;
use super::result::{Duplicates, FailuresFound, Findings, Kind, Remark, Unreadable};
use super::saved;
use super::sizes;
use super::turned;
use super::twins;
use super::unlisted::Unlisted;
use crate::audit::patterns::CommonCodes;
use crate::audit::report::{self, AuditReport, BitsReport, Uses};
use crate::audit::sources::Sources;
use crate::audit::{Asked, BadRows, TokenFile};
use crate::error::Result;
use crate::storage;
use crate::util::numbers::counted;
use crate::util::overwrite::Foreign;
use crate::util::text;

/// What an audit is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The output.
    pub input: PathBuf,
    /// Another one, whose images shouldn't be in it.
    pub against: Option<PathBuf>,
    /// Similarity from which two images count as one; estimated where it isn't given.
    pub threshold: Option<f64>,
    /// Beginnings of keys that are kept whatever else their group holds, the first one first.
    pub keep: Vec<String>,
    /// Where what it takes to find the images again is saved.
    pub save: Option<Save>,
}

/// A file that an index is saved in.
#[derive(Debug, Clone)]
pub(crate) struct Save {
    pub path: PathBuf,
    /// The digest of the model that draws the pictures.
    pub model: String,
    pub foreign: Foreign,
}

/// What happens meanwhile.
pub(crate) enum Event<'a> {
    /// The files that rows are read from.
    Sources(&'a Sources),
    /// A stretch of work of so many rows begins.
    Begin { stage: &'static str, rows: u64 },
    /// A row was read.
    Row,
    /// Rows that can't be used.
    BadRows(&'a BadRows),
}

/// Who is told, and who can stop an audit.
pub(crate) trait Observer {
    /// Called from the calling thread.
    fn event(&mut self, event: &Event<'_>);

    /// Whether to end with [`crate::Error::Interrupted`].
    fn interrupted(&self) -> bool;
}

/// Audits an output; `draw` makes pictures of its tokens, where there is a model.
///
/// # Errors
/// An output that can't be read; a file system that is full; an interrupt; those of `draw`.
pub(crate) fn run(
    settings: &Settings,
    mut draw: Option<&mut (dyn Draw + '_)>,
    observer: &mut dyn Observer,
) -> Result<Findings> {
    let (report, uses) = report::with_patterns(&settings.input)?;
    // What has no metadata has as many codes as its tokens need; the model knows better.
    let most = draw.as_ref().map_or(u64::MAX, |draw| draw.codes());
    let looks = Looks {
        codes: limits(&report).map(|codes| codes.min(most)).collect(),
        common: uses.patterns.first().map(CommonCodes::of),
        turned: settings.against.is_some(),
    };
    let padding = Padding::of(&report.made_by);
    let images = read(&settings.input, (&looks, padding), draw.as_deref_mut(), observer)?;
    let low = low::find(&images);
    if let Some(save) = &settings.save {
        let taken = |at: usize| !low.is_plain(at);
        let shown = |at: usize| !twins::is_blank(&images, at);
        saved::write(&save.path, &images, [&taken, &shown], &save.model, save.foreign)?;
    }
    let there = read_other(settings, &looks, draw, &report.made_by, observer)?;
    let other = there.images.as_ref();
    let codebook = codebook::of(&report.levels, &uses, there.uses.as_ref());
    let bits = bits::of(&report.bits, &uses, there.uses.as_ref());
    let reference = other.and_then(|other| other.turned.as_ref());
    let mut remarks = codebook::remarks((&codebook, &bits), &uses);
    let otherwise = remarks.iter().any(|remark| remark.about == "against" && remark.finding);
    let turned = images.turned.as_ref().zip(reference);
    let turned = turned.map(|(set, reference)| match otherwise {
        true => vec![turned::not_comparable()],
        false => turned::remarks(set, reference),
    });
    remarks.extend(turned.into_iter().flatten());
    let note = |about| move |text| Remark { about, finding: false, text };
    let notes = report.notes.clone();
    let mut found = findings(settings, report, (&images, &low), other, observer)?;
    found.failures.unreadable_against = there.unreadable;
    remarks.append(&mut found.remarks);
    remarks.extend(notes.into_iter().map(note("output")));
    remarks.extend(there.notes.iter().cloned().map(note("other-output")));
    let untold =
        |other: &&Images| images.thumbnails.is_empty() && sizes_of_one_alone(&images, other);
    remarks.extend(other.filter(untold).map(|_| note("leaks")(UNKNOWN_SIZES.to_string())));
    if images.further_views > 0 {
        let views = counted(images.further_views, "further row");
        remarks.push(note("views")(format!(
            "{views} of images that have several views: the first view alone was looked at"
        )));
    }
    let unlisted = Unlisted::of(&images, &found.duplicates, doubtful(&found, &images));
    remarks.extend(unlisted.remarks());
    remarks.extend(unused_prefixes(settings, &images).map(note("keep")));
    Ok(Findings { codebook, bits, remarks, unlisted, ..found })
}

/// By level, what codes are below.
fn limits(report: &AuditReport) -> impl Iterator<Item = u64> + '_ {
    let codes = report.levels.iter().map(|level| level.codes);
    codes.chain(report.bits.iter().map(BitsReport::limit))
}

/// What there is to say of prefixes that no key begins with.
fn unused_prefixes<'a>(
    settings: &'a Settings,
    images: &'a Images,
) -> impl Iterator<Item = String> + 'a {
    let has = |prefix: &String| (0..images.len()).any(|at| images.keys.get(at).starts_with(prefix));
    let unused = settings.keep.iter().filter(move |prefix| !has(prefix));
    unused
        .map(|prefix| format!("no key begins with {}, which is to be kept", text::shorten(prefix)))
}

const INDEX_ALONE: &str = "the saved index has images alone: neither the use of codes nor turned classes \
                           are compared with it, and it doesn't say what its output lacked";

const ANOTHER_MODEL: &str = "the other output was made by another model, whose codes mean something else: \
                             only equal files can be found in both";

const UNKNOWN_SIZES: &str = "one of the outputs doesn't say the sizes of its images, so that equal tokens \
                             are no equal pixels: give the model, which compares pictures";

/// Whether one says the sizes of its images and the other doesn't, so that no grids of both are equal.
fn sizes_of_one_alone(ours: &Images, others: &Images) -> bool {
    let said =
        |images: &Images| (0..images.len()).filter(|&at| images.sizes[at].is_known()).count();
    let (ours, others) = ((said(ours), ours.len()), (said(others), others.len()));
    let none = |(said, all): (usize, usize)| said == 0 && all > 0;
    none(ours) && others.0 > 0 || none(others) && ours.0 > 0
}

/// The other output, where there is one.
#[derive(Default)]
struct Other {
    images: Option<Images>,
    /// None of a saved index, as are the rows that can't be used.
    uses: Option<Uses>,
    unreadable: Option<Unreadable>,
    /// What of it is missing, and what isn't its own.
    notes: Vec<String>,
}

fn read_other(
    settings: &Settings,
    looks: &Looks,
    draw: Option<&mut (dyn Draw + '_)>,
    made_by: &BTreeMap<String, String>,
    observer: &mut dyn Observer,
) -> Result<Other> {
    let Some(other) = &settings.against else { return Ok(Other::default()) };
    if saved::is_index(other)? {
        let notes = vec![INDEX_ALONE.to_string()];
        return Ok(Other { images: Some(saved::read(other)?), notes, ..Other::default() });
    }
    let (mut report, uses) = report::with_patterns(other)?;
    let padding = Padding::of(&report.made_by);
    let images = read(other, (looks, padding), draw, observer)?;
    let unreadable = Some(unreadable(&images, &mut report));
    report.lost_failures.iter().for_each(|lost| observer.event(&Event::BadRows(lost)));
    let another_model = [made_by, &report.made_by].map(|by| by.get("weights_sha256"));
    let another_model = matches!(another_model, [Some(a), Some(b)] if a != b);
    let mut notes = report.notes;
    if another_model {
        notes.push(ANOTHER_MODEL.to_string());
    }
    let uses = (!another_model).then_some(uses);
    Ok(Other { images: Some(images), uses, unreadable, notes })
}

fn read(
    input: &std::path::Path,
    (looks, padding): (&Looks, Option<Padding>),
    draw: Option<&mut (dyn Draw + '_)>,
    observer: &mut dyn Observer,
) -> Result<Images> {
    storage::complete(input, || {
        let asked = Asked { beside: true, crops: true, image: true, ..Asked::default() };
        let rows = TokenFile::open_as(input, asked)?;
        observer.event(&Event::Sources(rows.sources()));
        observer.event(&Event::Begin { stage: "audit", rows: rows.row_count() });
        Images::read(rows, looks, padding, draw, observer)
    })
}

fn findings(
    settings: &Settings,
    mut report: AuditReport,
    (images, low): (&Images, &Low),
    other: Option<&Images>,
    observer: &mut dyn Observer,
) -> Result<Findings> {
    let unreadable = unreadable(images, &mut report);
    report.lost_failures.iter().for_each(|lost| observer.event(&Event::BadRows(lost)));
    let mut twins = twins::find(settings, (images, low), other, observer)?;
    // What shows nothing is far from all others by that alone.
    let places = low.found.iter().map(|(at, _)| *at);
    let blank = places.filter(|&at| low::blank(&images.looks[at])).collect();
    // One image has nothing to be like.
    let threshold = twins.threshold.filter(|_| images.len() > 1);
    let compared = images.len() > 0 && other.is_none_or(|other| other.len() > 0);
    twins.remarks.retain(|remark| compared || remark.about != "leaks");
    // No negative zero.
    let chance =
        threshold.map(|threshold| threshold.false_pairs.min(near_pairs(&twins.duplicates)) + 0.0);
    Ok(Findings {
        schema: "audit.v1",
        images: images.len() as u64,
        against: other.map(|other| other.len() as u64),
        duplicates: twins.duplicates,
        leaks: twins.leaks,
        low_information: low.found.iter().map(|(_, found)| found.clone()).collect(),
        outliers: outliers::find(images, &blank),
        threshold: threshold.map(|threshold| threshold.value),
        expected_false_pairs: chance,
        remarks: twins.remarks,
        codebook: Vec::new(),
        bits: Vec::new(),
        not_compared: twins.not_compared,
        unlisted: Unlisted::default(),
        sizes: sizes::find(images, enlarged_to(&report)),
        failures: FailuresFound {
            count: report.failed,
            by_stage: report.failed_by_stage.clone(),
            by_error: report.failed_by_error.clone(),
            list: report.failures.clone(),
            unreadable,
            unreadable_against: None,
        },
        code_pictures: None,
        reconstructions: None,
        precision: None,
        report,
    })
}

/// Rows that no image comes of, whether the tokens can't be read or what stands beside them; the report
/// tells the same.
fn unreadable(images: &Images, report: &mut AuditReport) -> Unreadable {
    let mut found = images.bad.clone();
    report.lost_failures.iter().for_each(|lost| found.take(lost));
    let told = report.unusable.max(u64::from(!report.complete()));
    if told > found.rows {
        found = Unreadable { rows: told, list: report.problems.clone() };
    }
    (report.unusable, report.problems) = (found.rows, found.list.clone());
    found
}

/// Share of pairs that may be chance, above which no near copy goes.
const CHANCE_MAX: f64 = 0.2;

/// Kinds of duplicates that nothing may be removed for: near ones where too many pairs may be chance, and
/// equal tokens where different images have such as copies have.
fn doubtful(found: &Findings, images: &Images) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let compared = !images.thumbnails.is_empty();
    if compared && found.threshold.is_none() && images.len() > 1 {
        kinds.push(Kind::ExactPixels);
    }
    let chance = found.expected_false_pairs.unwrap_or_default();
    if chance > 1.0 && chance > CHANCE_MAX * near_pairs(&found.duplicates) {
        kinds.push(Kind::Near);
    }
    kinds
}

/// Pairs that nearly equal images can make up.
fn near_pairs(groups: &[Duplicates]) -> f64 {
    let near = groups.iter().filter(|group| group.kind == Kind::Near);
    near.map(|group| group.members.len() as f64)
        .map(|members| members * (members - 1.0) / 2.0)
        .sum()
}

/// The side that smaller images are enlarged to, where they are.
fn enlarged_to(report: &AuditReport) -> Option<u32> {
    if report.made_by.get("resize").is_some_and(|rule| rule == "pad") {
        return None;
    }
    // Of buckets, and where images keep their sizes, it is a word.
    report.made_by.get("size").and_then(|size| size.parse().ok())
}
