//! Owns making the shards again that a repair brings back, and saying of which this can't be. Must not
//! know: how damage is found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::events::{Event, Observer};
use super::plan;
use super::tokenize::tokenize;
use super::tokenizer::Tokenizer;
use crate::data::prepare::Preparation;
use crate::data::source::file;
use crate::error::{Error, Result};
use crate::pipeline::{self, OnError, Sizes};
use crate::storage;
use crate::tokens::{Commit, CommitMode, Plan};
use crate::util::numbers::counted;
use crate::util::settings::MOVED;
use crate::util::text;

/// What makes shards again as they were made.
pub(super) struct Maker {
    pub(super) tokenizer: Tokenizer,
    pub(super) preparation: Preparation,
    pub(super) batch_size: Option<usize>,
}

impl Maker {
    /// Brings back the shards of which is known how their sha256 begins (`due`), and the files `beside`
    /// those that are whole.
    ///
    /// # Errors
    /// One that becomes another now, which changes nothing, once the others are back.
    pub(super) fn restore(
        &mut self,
        plan: &Plan,
        (mut due, beside): (BTreeMap<usize, String>, &BTreeSet<usize>),
        observer: &mut dyn Observer,
    ) -> Result<pipeline::Summary> {
        // Whoever retried failed images took them as they were: files of other sizes than were planned. Those
        // that had been failures then are so again by the planned sizes.
        let mut resized = BTreeMap::new();
        for partition in due.keys().copied().collect::<Vec<_>>() {
            if has_resized(plan, partition)? {
                resized.extend(due.remove_entry(&partition));
            }
        }
        let (mut done, differ) =
            self.restore_by(Sizes::Present, plan, resized.clone(), observer)?;
        due.extend(resized.into_iter().filter(|(partition, _)| differ.contains_key(partition)));
        let (rest, differ) = self.restore_by(Sizes::Planned, plan, due, observer)?;
        done.add(rest);
        let mut differ = differ.into_iter();
        let Some((partition, failed)) = differ.next() else { return Ok(done) };
        Err(changed(plan, partition, (failed, differ.len()), beside.contains(&partition)))
    }

    /// Those of a set of partitions that come back by one rule of sizes, and which don't.
    fn restore_by(
        &mut self,
        sizes: Sizes,
        plan: &Plan,
        due: BTreeMap<usize, String>,
        observer: &mut dyn Observer,
    ) -> Result<(pipeline::Summary, Differ)> {
        let todo: Vec<usize> = due.keys().copied().collect();
        let mode = CommitMode::Restore(Arc::new(due));
        let mut watched = Watched { inner: observer, differ: Differ::new() };
        let summary = self.tokenize(plan, &todo, (mode, sizes), &mut watched)?;
        Ok((summary, watched.differ))
    }

    /// Makes the partitions that aren't there.
    ///
    /// # Errors
    /// What can't be read or written, images aside.
    pub(super) fn make_missing(
        &mut self,
        plan: &Plan,
        observer: &mut dyn Observer,
    ) -> Result<pipeline::Summary> {
        let todo: Vec<usize> = plan.committed()?.missing().collect();
        self.tokenize(plan, &todo, (CommitMode::New, Sizes::Planned), observer)
    }

    fn tokenize(
        &mut self,
        plan: &Plan,
        todo: &[usize],
        (mode, sizes): (CommitMode, Sizes),
        observer: &mut dyn Observer,
    ) -> Result<pipeline::Summary> {
        if todo.is_empty() {
            return Ok(pipeline::Summary::default());
        }
        let suits = self.tokenizer.images_together(&self.preparation);
        let settings = pipeline::Settings {
            preparation: self.preparation.clone(),
            batch_size: self.batch_size.unwrap_or(suits),
            on_error: OnError::Record,
            mode,
            sizes,
            decode_time_max: pipeline::DECODE_TIME_MAX,
        };
        let _lock = plan.lock_shared()?;
        tokenize(&settings, plan, todo, &mut [self.tokenizer.engine.as_mut()], observer)
    }
}

/// What there is to say of a shard that came out otherwise than it was, with the image that fails now and
/// how many others did as well; `beside`: it is whole, and lacks a file beside it.
fn changed(
    plan: &Plan,
    partition: usize,
    (failed, others): (Option<[String; 2]>, usize),
    beside: bool,
) -> Error {
    let shard = plan.shard_path(partition);
    let there = storage::exists(&shard).unwrap_or(true);
    let (what, or) = match (beside, there) {
        (true, _) => ("a file beside it is lost and can't be made again", "that file"),
        (false, true) => ("it is damaged and can't be made again as it was", "the shard"),
        (false, false) => ("it is lost and can't be made again as it was", "the shard"),
    };
    let why = failed.map_or_else(String::new, |[key, error]| {
        format!(" ('{}' fails now: {error})", text::printable(&key))
    });
    let stays = if there { "it stays as it is: " } else { "" };
    let remove = if there { "remove the shard and " } else { "" };
    let others = match others {
        0 => String::new(),
        _ => format!("; so it is of {} more", counted(others, "shard")),
    };
    Error::mismatch(format!(
        "{}: {what}, since its images, or what the model computes here, have changed since{why}{others}; \
         {stays}restore the images or {or}, or {remove}run the same `vqtok tokenize` again to \
         have it made of what is there now",
        text::path(shard)
    ))
}

/// Whether a file of a partition has another size than when it was planned.
fn has_resized(plan: &Plan, partition: usize) -> Result<bool> {
    let files = plan.partition(partition)?.into_iter().filter(|row| row.member.is_none());
    let mut sizes = files.map(|row| (file::size(&plan.place(&row)), row.bytes));
    Ok(sizes.any(|(today, planned)| today.is_some_and(|bytes| i64::try_from(bytes) != Ok(planned))))
}

/// The partitions that came out otherwise than they were, each with its first image that fails now, and why.
type Differ = BTreeMap<usize, Option<[String; 2]>>;

/// Passes everything on, and keeps which partitions came out otherwise than they were.
struct Watched<'a> {
    inner: &'a mut dyn Observer,
    differ: Differ,
}

impl Observer for Watched<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Tokenizing(pipeline::Event::Partition(receipt)) = event
            && let Commit::Differs { failed } = &receipt.commit
        {
            self.differ.insert(receipt.partition, failed.clone());
        }
        self.inner.event(event);
    }

    fn interrupted(&self) -> bool {
        self.inner.interrupted()
    }
}

/// Refuses to make shards again whose images are nowhere: all of them would become failures. Of a
/// few images of each shard one must be there.
pub(super) fn find_images(plan: &Plan, again: &BTreeSet<usize>) -> Result<()> {
    const IMAGES: usize = 16;
    let there = plan.committed()?;
    let bad = |p: &usize| again.contains(p) || !there.has(*p);
    for partition in (0..plan.partitions()).filter(bad) {
        let rows = plan.partition(partition)?;
        let some = rows.iter().step_by(rows.len().div_ceil(IMAGES).max(1));
        if some.clone().all(|row| file::size(&plan.place(row)).is_none()) {
            let first = rows.first().map(|row| plan.place(row)).unwrap_or_default();
            return Err(Error::invalid(format!(
                "{}: the images of shard {partition} aren't at their place ({}); restore them, or \
                 pass {MOVED} with the folder they were in and the one they are in now",
                text::path(plan.dir()),
                text::printable(&first)
            )));
        }
    }
    if !plan.moved().is_empty() { plan::check_contents(plan, again) } else { Ok(()) }
}
