//! Owns the plan of a job whose output has several: holds the inputs against all of them, and appends
//! one more with what is new. Must not know: what becomes of it.

use super::bucketed::Bucketed;
use super::events::{Appended, Event, Observer, Planned};
use super::inputs::Inputs;
use super::listed::Listed;
use super::plan::{self, PlanOfJob, Planning, Resized, no_image};
use crate::data::source::file;
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::append;
use crate::tokens::{Arrivals, Doubt, Identity, PLAN_FILE, Plan, Verdict, refuse_foreign};
use crate::util::numbers::counted;
use crate::util::settings::{APPEND, KEY_COLUMN, OUT};
use crate::util::text;

/// Appends that other jobs may make while this one lists its inputs.
const TRIES: usize = 8;
/// Moved images whose contents are looked at.
const CONTENTS: u64 = 256;

/// Lists the inputs into `plan.parquet`, or holds them against the plans that are there; `appends`:
/// adds a plan of what they don't have.
///
/// # Errors
/// Those of [`Planning::plan`] and of [`beside_others`].
pub(super) fn plan(
    planning: &Planning<'_>,
    identity: &Identity,
    appends: bool,
    observer: &mut dyn Observer,
) -> Result<PlanOfJob> {
    let out = planning.out;
    let beside = storage::resumable(|| {
        let there = storage::exists(&out.join(PLAN_FILE)).map_err(Error::io(out))?;
        Ok(there && (appends || Plan::open(out)?.files().len() > 1))
    });
    match beside? {
        true => storage::resumable(|| beside_others(planning, identity, appends, observer)),
        false => planning.plan(identity, observer),
    }
}

/// Holds the inputs, in any order and with or without those of earlier plans, against the plans of
/// `out`, which has one; `appends`: adds a plan of what they don't have.
///
/// # Errors
/// No image; other settings than the output's; two images that would have one key; images of a plan
/// that isn't finished that are gone; without `appends`, images that are new or have changed.
fn beside_others(
    planning: &Planning<'_>,
    identity: &Identity,
    appends: bool,
    observer: &mut dyn Observer,
) -> Result<PlanOfJob> {
    let Planning { inputs, out, labels, .. } = *planning;
    for _ in 0..TRIES {
        let plan = Plan::open(out)?;
        let mut listed = Listed::in_any_order(inputs, &plan)?;
        if listed.is_empty()? {
            return Err(no_image(inputs, &listed.skipped()));
        }
        let mut judge = Judge { resized: Resized::new(), moved: None, looked_at: 0 };
        let arrivals = append::hold(&plan, identity, &mut listed, &mut |plan, doubt| {
            judge.verdict(plan, doubt)
        })?;
        must_be_there(&plan, &arrivals)?;
        let gone = gone(&plan, &arrivals)?;
        if !appends && arrivals.new + arrivals.changed > 0 {
            let first = arrivals.examples.first().map_or("", String::as_str);
            return Err(plan::changed(inputs, &plan, first)?);
        }
        if arrivals.new > 0 {
            refuse_twice(inputs, &plan, &arrivals)?;
            // Before anything is written: in an output of others nothing is appended.
            refuse_foreign(&plan, plan.committed()?.iter().collect())?;
        }
        let Some(plan) = append(planning, &plan, &arrivals, observer)? else { continue };
        let Arrivals { new, known, changed, .. } = arrivals;
        let appended = Some(Appended { new, known, changed, gone });
        let skipped = listed.skipped();
        observer.event(&Event::Planned(&Planned {
            images: plan.rows(),
            partitions: plan.partitions(),
            skipped: &skipped,
            resized: judge.resized.count,
            unchanged: listed.unchanged(),
            moved: judge.moved.as_ref().map(|(was, now)| (&**was, &**now)),
            own: false,
            unplanned_facts: arrivals.unplanned_facts,
            label_level: labels.level,
            classes: plan.classes().map(<[_]>::len),
            too_many_classes: plan.has_too_many_classes(),
            layout: labels.layout.as_ref(),
            other_level: (new > 0).then(|| labels.other_level(inputs)).flatten(),
            appended,
            changed: &arrivals.examples,
        }));
        return Ok(PlanOfJob { plan, unseen: skipped.unseen(), appended });
    }
    Err(Error::busy(format!(
        "{}: other jobs keep appending to this output; try again when they are done",
        text::path(out)
    )))
}

/// Appends a plan with what is new, each image in its bucket where the output has some.
fn append(
    planning: &Planning<'_>,
    plan: &Plan,
    arrivals: &Arrivals,
    observer: &dyn Observer,
) -> Result<Option<Plan>> {
    let Planning { inputs, preparation, .. } = *planning;
    let taken = inputs.taken();
    let Some(buckets) = &preparation.buckets else {
        return append::append(plan, arrivals, &taken, |new| new);
    };
    append::append(plan, arrivals, &taken, |new| {
        Bucketed::new(new, buckets, preparation, || observer.interrupted())
    })
}

/// Refuses to go on with a plan that isn't finished and whose images aren't all there: they would
/// become failures.
fn must_be_there(plan: &Plan, arrivals: &Arrivals) -> Result<()> {
    for file in plan.files() {
        if file.numbers().all(|partition| plan.has(partition)) {
            continue;
        }
        let (gone, keys) = arrivals.gone(file)?;
        if gone > 0 {
            // Its partitions may be in work just now.
            drop(plan.lock_exclusive_where_known()?);
            let keys: Vec<_> = keys.iter().map(|key| format!("'{}'", text::shorten(key))).collect();
            let more = if gone > keys.len() as u64 { ", ..." } else { "" };
            return Err(Error::mismatch(format!(
                "{}: {} isn't finished, and {} of it {} among the inputs ({}{more}); give the INPUTs \
                 that it was begun with, too; `vqtok repair` finishes it with a failure for each that is \
                 gone",
                text::path(plan.dir()),
                file.base().name(),
                counted(gone, "image"),
                if gone == 1 { "isn't" } else { "aren't" },
                keys.join(", ")
            )));
        }
    }
    Ok(())
}

/// How many planned images aren't among the inputs; 0 where these are new ones alone, beside which
/// earlier ones aren't given.
fn gone(plan: &Plan, arrivals: &Arrivals) -> Result<u64> {
    if arrivals.known == 0 {
        return Ok(0);
    }
    let gone = |file| arrivals.gone(file).map(|(gone, _)| gone);
    plan.files().iter().map(gone).sum()
}

/// Refuses to take images a second time that are planned under other keys, as those of a folder
/// within an earlier one are; where the user names the keys, they are as they should be.
fn refuse_twice(inputs: &Inputs, plan: &Plan, arrivals: &Arrivals) -> Result<()> {
    let named = inputs.fields.key.is_some();
    let Some((was, now)) = arrivals.first_twice(plan)?.filter(|_| !named) else { return Ok(()) };
    Err(Error::mismatch(format!(
        "{}: {} of these INPUTs {} planned already under other keys: '{}' at {} as '{}'; keys are \
         counted from the INPUT: give the one that was given then, use another {OUT}, or name keys of \
         their own by {KEY_COLUMN} in a list",
        text::path(plan.dir()),
        counted(arrivals.twice, "image"),
        if arrivals.twice == 1 { "is" } else { "are" },
        text::shorten(&now.key),
        text::printable(&now.uri),
        text::shorten(&was.key),
    )))
}

/// Says of planned images and today's of the same keys what they are to each other.
struct Judge {
    resized: Resized,
    /// Where the first image that moved was, and where it is.
    moved: Option<(String, String)>,
    /// Moved images whose contents were looked at.
    looked_at: u64,
}

impl Judge {
    fn verdict(&mut self, plan: &Plan, doubt: Doubt<'_>) -> Result<Verdict> {
        let Doubt { was, now, differs } = doubt;
        if was.uri != now.uri && !file::same_place(&was.uri, &now.uri) {
            return self.elsewhere(plan, doubt);
        }
        match differs && !(was.bytes != now.bytes && self.accept(plan, doubt)?) {
            true => Ok(Verdict::Changed),
            false => Ok(Verdict::Same),
        }
    }

    fn accept(&mut self, plan: &Plan, Doubt { was, now, .. }: Doubt<'_>) -> Result<bool> {
        let before = self.resized.count;
        let accepted = self.resized.accept(plan, was, now)?;
        if !accepted {
            self.resized.count = before;
        }
        Ok(accepted)
    }

    /// One that lies elsewhere moved, if it is gone from its place and as large as it was: else there
    /// are two files.
    fn elsewhere(&mut self, plan: &Plan, doubt: Doubt<'_>) -> Result<Verdict> {
        let Doubt { was, now, differs } = doubt;
        if was.bytes != now.bytes || file::size(&was.uri).is_some() {
            return Ok(Verdict::Another);
        }
        if !plan.has(plan.partition_of(was.ordinal)) {
            return Err(Error::mismatch(format!(
                "{}: '{}' has moved from {} to {} before it was tokenized; restore the input, or run \
                 again without {APPEND} where nothing was appended yet",
                text::path(plan.dir()),
                text::shorten(&was.key),
                text::printable(&was.uri),
                text::printable(&now.uri)
            )));
        }
        if self.looked_at < CONTENTS {
            self.looked_at += 1;
            let before = self.resized.count;
            let same = self.resized.accept(plan, was, now)?;
            self.resized.count = before;
            if !same {
                return Ok(Verdict::Another);
            }
        }
        self.moved.get_or_insert_with(|| (was.uri.clone(), now.uri.clone()));
        Ok(if differs { Verdict::Changed } else { Verdict::Same })
    }
}
