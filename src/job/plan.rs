//! Owns the plan of a job: lists the inputs into `plan.parquet`, or holds them against the plan
//! that is there, and says what differs.

use super::bucketed::Bucketed;
use super::events::{Appended, Event, Observer, Planned};
use super::inputs::Inputs;
use super::listed::{Listed, container_of};
use super::listings::Listings;
use crate::data::prepare::Preparation;
use crate::data::source::file;
use crate::data::source::labels::{LabelLayout, LabelLevel};
use crate::data::source::library::Library;
use crate::data::source::stream::{Found, SourceStream};
use crate::data::{Skipped, SourceImage, Take, is_hidden};
use crate::error::{Error, Result};
use crate::pipeline::{image_of, row_of};
use crate::storage;
use crate::tokens::changes::{Changes, Group};
use crate::tokens::{
    ChangedContainers, Held, Identity, PLAN_FILE, Plan, PlanRow, contents, refuse_foreign,
};
use crate::util::settings::{APPEND, HIDDEN, OUT};
use crate::util::text;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where labels stand, and what is to be told of it.
pub(super) struct Labels {
    pub(super) level: LabelLevel,
    /// What the first folders look like, where they were looked at.
    pub(super) layout: Option<LabelLayout>,
}

impl Labels {
    /// As the flag says, as the output there was made, or as the inputs look.
    pub(super) fn choose(flag: Option<LabelLevel>, inputs: &Inputs, out: &Path) -> Labels {
        if let Some(level) = flag {
            return Labels { level, layout: None };
        }
        if storage::exists(&out.join(PLAN_FILE)).unwrap_or(false) {
            let made = Plan::open(out).ok().and_then(|plan| plan.identity().label_level.clone());
            let level = made.and_then(|level| level.parse().ok()).unwrap_or_default();
            return Labels { level, layout: None };
        }
        let layout = inputs.label_layout();
        Labels { level: layout.level(), layout: Some(layout) }
    }

    /// What these inputs alone would be given, where they look otherwise than the output was begun.
    pub(super) fn other_level(&self, inputs: &Inputs) -> Option<LabelLevel> {
        let layout = inputs.label_layout();
        let looks = !layout.splits.is_empty() || layout.other.is_some();
        Some(layout.level()).filter(|level| looks && *level != self.level)
    }

    /// For the identity: None where it goes without saying.
    pub(super) fn recorded(&self) -> Option<String> {
        (self.level != LabelLevel::default()).then(|| self.level.to_string())
    }
}

/// What a job is to do.
pub(super) struct PlanOfJob {
    pub(super) plan: Plan,
    /// How many folders and files of the inputs couldn't be looked at.
    pub(super) unseen: u64,
    /// Where the output has several plans, or may come to have them.
    pub(super) appended: Option<Appended>,
}

/// What is planned, and where.
pub(super) struct Planning<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) out: &'a Path,
    pub(super) labels: &'a Labels,
    pub(super) preparation: &'a Preparation,
}

impl Planning<'_> {
    /// Lists the inputs into `plan.parquet`, or holds them against the one plan that is there.
    ///
    /// # Errors
    /// No image; inputs or settings that differ from those of the plan.
    pub(super) fn plan(
        &self,
        identity: &Identity,
        observer: &mut dyn Observer,
    ) -> Result<PlanOfJob> {
        let inputs = self.inputs;
        let of_one = |plan, unseen| PlanOfJob { plan, unseen, appended: None };
        let (held, unseen) = self.hold(inputs.take(), identity, observer)?;
        let (plan, first) = match held {
            Held::Same(plan) => return Ok(of_one(plan, unseen)),
            Held::Other(plan, first) => (plan, first),
        };
        // A plan of another output says nothing of what has changed.
        refuse_foreign(&plan, plan.committed()?.iter().collect())?;
        // Earlier versions took what vqtok had written; their outputs are continued as they were
        // begun.
        let own = Take { own: true, ..inputs.take() };
        if let (Held::Same(plan), unseen) = self.hold(own, identity, observer)? {
            return Ok(of_one(plan, unseen));
        }
        Err(changed(inputs, &plan, &first)?)
    }

    /// One try with one choice of what is taken.
    fn hold(
        &self,
        take: Take,
        identity: &Identity,
        observer: &mut dyn Observer,
    ) -> Result<(Held, u64)> {
        let Planning { inputs, out, labels, preparation } = *self;
        let there = storage::exists(&out.join(PLAN_FILE)).map_err(Error::io(out))?;
        let known = there.then(|| Plan::open(out)).transpose()?;
        let mut listed = Listed::new(inputs, take, known.as_ref())?;
        let listings = Listings::new(out, inputs.taken(), preparation);
        if !there {
            listed = listed.listed_before(&listings);
        }
        drop(known);
        if listed.is_empty()? {
            return Err(no_image(inputs, &listed.skipped()));
        }
        let mut resized = Resized::new();
        let accept =
            &mut |plan: &Plan, was: &PlanRow, now: &PlanRow| resized.accept(plan, was, now);
        let rows = identity.shard_rows as usize;
        let taken = inputs.taken();
        // Whatever a header says today: an image stays in the bucket that it was planned for.
        let held = storage::resumable(|| match preparation.buckets.as_ref().filter(|_| !there) {
            None => Plan::hold(out, identity, &taken, listed.by_ref(), rows, accept),
            Some(buckets) => {
                let stopped = || observer.interrupted();
                let bucketed = Bucketed::new(listed.by_ref(), buckets, preparation, stopped);
                Plan::hold(out, identity, &taken, bucketed, rows, accept)
            }
        })?;
        let skipped = listed.skipped();
        listings.forget_taken()?;
        let Held::Same(plan) = held else { return Ok((held, skipped.unseen())) };
        let moved = plan.moved().first().filter(|(was, now)| !file::same_place(was, now));
        if moved.is_some() {
            check_contents(&plan, &BTreeSet::new())?;
        }
        observer.event(&Event::Planned(&Planned {
            images: plan.rows(),
            partitions: plan.partitions(),
            skipped: &skipped,
            resized: resized.count,
            unchanged: listed.unchanged(),
            moved,
            own: take.own,
            unplanned_facts: plan.unplanned_facts(),
            label_level: labels.level,
            classes: plan.classes().map(<[_]>::len),
            too_many_classes: plan.has_too_many_classes(),
            layout: labels.layout.as_ref(),
            other_level: None,
            appended: None,
            changed: &[],
        }));
        Ok((Held::Same(plan), skipped.unseen()))
    }
}

/// What has changed between the planned input and today's, of which `first` is the first difference.
pub(super) fn changed(inputs: &Inputs, plan: &Plan, first: &str) -> Result<Error> {
    let changes = changes(inputs, plan, &|| false)?;
    let more = match changes.new.count > 0 {
        true => format!("; {APPEND} adds new images"),
        false => String::new(),
    };
    Ok(Error::mismatch(format!(
        "the input of {} has changed: {}; use another {OUT}, or restore the input{more}",
        text::path(plan.dir()),
        told(&changes, inputs.hidden, first)
    )))
}

/// What has changed between the planned input and today's. An image counts as changed where its
/// container is another one now, although it looks as it did.
///
/// # Errors
/// Those of listing; [`Error::Interrupted`] where `stopped` says so.
pub(super) fn changes(inputs: &Inputs, plan: &Plan, stopped: &dyn Fn() -> bool) -> Result<Changes> {
    let compared = |known: &ChangedContainers| -> Result<(Changes, ChangedContainers)> {
        let found = RefCell::new(ChangedContainers::of(plan));
        let today = || {
            let mut stream = inputs.images(inputs.take(), true)?;
            let found = &found;
            let mut next = 0;
            Ok(std::iter::from_fn(move || {
                image(&mut stream, found, &mut next, stopped).transpose()
            }))
        };
        let doubts = |row: &PlanRow| known.doubts(row);
        let beside = plan.has_parts();
        let changes = Changes::between(|| plan.listed_rows(), today, beside, is_hidden, doubts)?;
        Ok((changes, found.into_inner()))
    };
    let (changes, found) = compared(&ChangedContainers::of(plan))?;
    if found.is_none() {
        return Ok(changes);
    }
    // Which images are in doubt is known once all of them were listed.
    let (changes, again) = compared(&found)?;
    match changes.is_none() {
        true => Ok(compared(&again.strict())?.0),
        false => Ok(changes),
    }
}

/// The next image of today, by its number; `found` takes note of containers.
fn image(
    stream: &mut SourceStream,
    found: &RefCell<ChangedContainers>,
    next: &mut i64,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<PlanRow>> {
    while let Some(item) = stream.find(&mut |_| false) {
        if stopped() {
            return Err(Error::Interrupted);
        }
        match item? {
            Found::Image(image) => {
                let row = row_of(*next, image);
                found.borrow_mut().image(&row);
                *next += 1;
                return Ok(Some(row));
            }
            Found::Container(file) | Found::Unchanged(file) => {
                found.borrow_mut().opened(&container_of(file));
            }
            Found::Ended(digest) => found.borrow_mut().ended(&digest),
        }
    }
    Ok(None)
}

/// Inputs with nothing to tokenize in them.
pub(super) fn no_image(inputs: &Inputs, skipped: &Skipped) -> Error {
    Error::invalid(format!(
        "no image under {}: nothing to tokenize; {}",
        inputs.names(),
        skipped.message()
    ))
}

/// What is found as rows of a plan.
pub(super) fn rows(
    found: impl Iterator<Item = Result<SourceImage>>,
) -> impl Iterator<Item = Result<PlanRow>> {
    found.zip(0..).map(|(image, ordinal)| Ok(row_of(ordinal, image?)))
}

/// The rows that tokenizing `inputs` would plan.
///
/// # Errors
/// Those of [`Inputs::images`].
pub(crate) fn rows_of_inputs(
    inputs: &[PathBuf],
) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
    let inputs = Inputs::new(inputs);
    Ok(rows(inputs.images(inputs.take(), true)?))
}

/// The changes in words, with what may have brought them about.
fn told(changes: &Changes, hidden: bool, first: &str) -> String {
    let of_a_container = first.ends_with("its images may be others");
    if of_a_container && changes.new.count + changes.gone.count == 0 {
        return format!("{first}; give the INPUTs as then");
    }
    if changes.is_none() {
        return format!("the same images in another order ({first}); give the INPUTs as then");
    }
    let Changes { new, gone, changed, about, .. } = changes;
    let keys = |group: &Group| {
        let keys = group.examples.iter().map(|row| format!("'{}'", text::shorten(&row.key)));
        listed(group, keys.collect())
    };
    let mut words = format!(
        "{}{} new{}, {} gone{}, {} changed{}",
        if *about { "about " } else { "" },
        new.count,
        keys(new),
        gone.count,
        keys(gone),
        changed.count,
        listed(changed, changes.examples())
    );
    if gone.marked > 0 && !hidden {
        let all = gone.marked == gone.count && new.count + changed.count == 0;
        words += &match all {
            true => format!(
                ": hidden or a system's, which are passed over now; {HIDDEN} goes on with them"
            ),
            false => format!(
                "; {} of those gone are hidden or a system's: {HIDDEN} takes them",
                gone.marked
            ),
        };
    }
    if new.marked > 0 && hidden {
        let (marked, of) = (new.marked, new.count);
        words +=
            &format!("; {marked} of {of} new ones are hidden or a system's: leave {HIDDEN} out");
    }
    words
}

/// Examples after a count, in brackets.
fn listed(group: &Group, examples: Vec<String>) -> String {
    if examples.is_empty() {
        return String::new();
    }
    let more = if group.count > examples.len() as u64 { ", ..." } else { "" };
    format!(" ({}{more})", examples.join(", "))
}

/// Files that lie elsewhere have the planned names and sizes; that they are the files that were
/// tokenized, some of them prove by their contents: all, where there are few. Partitions that are
/// known to be bad prove nothing.
///
/// # Errors
/// The first that is another file.
pub(super) fn check_contents(plan: &Plan, bad: &BTreeSet<usize>) -> Result<()> {
    const PARTITIONS: usize = 64;
    const IMAGES: usize = 256;
    let library = Library::default();
    let made: Vec<usize> = plan.committed()?.iter().filter(|p| !bad.contains(p)).collect();
    let chosen: Vec<usize> =
        made.iter().copied().step_by(made.len().div_ceil(PARTITIONS).max(1)).collect();
    for partition in &chosen {
        let known = contents(plan, *partition)?;
        let each = known.len().div_ceil(IMAGES / chosen.len()).max(1);
        let rows = plan.partition(*partition)?.into_iter();
        let rows = rows.filter_map(|row| Some((*known.get(&row.ordinal)?, row)));
        for (digest, row) in rows.step_by(each) {
            if library.digest(&image_of(plan, &row)).is_some_and(|found| found != digest) {
                return Err(Error::mismatch(format!(
                    "the input of {} is another one: '{}' at {} isn't the file that was \
                     tokenized; use another {OUT}, or restore the input",
                    text::path(plan.dir()),
                    text::shorten(&row.key),
                    text::printable(&plan.place(&row))
                )));
            }
        }
    }
    Ok(())
}

/// Which planned files may have another size today: those that failed or are still to be read,
/// whose outcome tells of it, and those that were mended and tokenized as they are.
pub(super) struct Resized {
    library: Library,
    /// The partition looked at last, and what has tokens in it.
    partition: Option<(usize, BTreeMap<i64, [u8; 32]>)>,
    pub(super) count: u64,
}

impl Resized {
    pub(super) fn new() -> Resized {
        Resized { library: Library::default(), partition: None, count: 0 }
    }

    /// Whether a planned image may be what it is today.
    pub(super) fn accept(&mut self, plan: &Plan, was: &PlanRow, now: &PlanRow) -> Result<bool> {
        let partition = plan.partition_of(was.ordinal);
        self.count += 1;
        if !plan.has(partition) {
            return Ok(true);
        }
        let known = match self.partition.take() {
            Some((of, known)) if of == partition => known,
            _ => contents(plan, partition)?,
        };
        let before = known.get(&was.ordinal).copied();
        self.partition = Some((partition, known));
        let today = || self.library.digest(&image_of(plan, now));
        Ok(before.is_none_or(|before| today() == Some(before)))
    }
}
