//! Owns making the plan of an output, and holding the one there against today's input. Must not know:
//! how inputs are listed.

use std::path::Path;

use super::compare::Comparison;
use super::containers::{Today, up_to_an_image};
use super::file::{Base, FILE};
use super::merged::Planned;
use super::plans::{Plan, base_of_second};
use super::write::{About, write};
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::arrangement::{Arrangement, must_lie_as_planned};
use crate::tokens::classes::Classes;
use crate::tokens::commit::{self, Published};
use crate::tokens::identity::{Identity, difference_in_words};
use crate::tokens::rows::PlanRow;
use crate::tokens::{duplicate_keys, occupied};
use crate::util::settings::OUT;
use crate::util::{panics, text};

/// What an output folder's plan is to today's input.
pub enum Held {
    /// Made of it now, or the same.
    Same(Plan),
    /// Of another input; the first difference in words.
    Other(Plan, String),
}

impl Plan {
    /// Makes the plan of an output folder, or checks that the one there is the same: same settings,
    /// same rows. Memory holds one partition's rows, whatever the input's size.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first difference; no rows at all; two rows of one key.
    pub fn create_or_open(
        dir: &Path,
        identity: &Identity,
        rows: impl Iterator<Item = Result<PlanRow>>,
        shard_rows: usize,
    ) -> Result<Plan> {
        let rows = rows.map(|row| row.map(Today::Image));
        match Plan::hold(dir, identity, "", rows, shard_rows, &mut |_, _, _| Ok(false))? {
            Held::Same(plan) => Ok(plan),
            Held::Other(plan, difference) => Err(Error::mismatch(format!(
                "the input of {} has changed: {difference}; use another {OUT}, or restore the input",
                text::path(plan.dir())
            ))),
        }
    }

    /// Makes the plan of an output folder, or holds the one there against today's input. Keys and
    /// sizes must be the same; files may lie elsewhere, which [`Plan::place`] then knows. `accept`
    /// says of a planned row and today's, which differ in size, whether that is as it should be.
    /// `taken` says what is taken of containers: where it was something else when they were planned,
    /// none of them is unchanged.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first setting that differs; no rows at all; two rows of one
    /// key.
    pub fn hold(
        dir: &Path,
        identity: &Identity,
        taken: &str,
        mut items: impl Iterator<Item = Result<Today>>,
        shard_rows: usize,
        accept: &mut dyn FnMut(&Plan, &PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Held> {
        let _at = panics::at("plan", None);
        identity.check()?;
        if identity.shard_rows != shard_rows as u64 {
            return Err(Error::internal("identity.shard_rows and the plan's differ"));
        }
        let path = dir.join(FILE);
        let there = || storage::exists(&path).map_err(Error::io(&path));
        if there()? {
            return Plan::open(dir)?.held_against(identity, items, accept);
        }
        // The folder appears with the first row, so that an input without images leaves nothing.
        let first = up_to_an_image(&mut items)?;
        let items = first.into_iter().map(Ok).chain(items);
        commit::create_folder(dir)?;
        commit::remove_orphans(dir)?;
        let none = Classes::none_yet();
        let end = base_of_second(dir).map(|second| second.partition);
        let about = About {
            identity,
            base: &Base::default(),
            taken,
            listed_at: None,
            in_buckets: true,
            classes: (!occupied::without_ids(dir)?).then_some(&none),
            arrangement: Arrangement::of(dir, &Base::default(), end)?,
        };
        let written = write(&path, about, items)?;
        let (ours, digest) = (written.open(0)?, written.digest.clone());
        duplicate_keys::check(ours.rows(), || ours.all_rows())?;
        if !there()? {
            occupied::check(dir, &digest)?;
        }
        match written.publish(dir, 0)? {
            (Published::Created, _) => Ok(Held::Same(Plan::open(dir)?)),
            (Published::Exists, _kept) => {
                // Another job was faster; ours must be the same.
                let plan = Plan::open(dir)?;
                if plan.digest() == digest {
                    return Ok(Held::Same(plan));
                }
                let rows = ours.listed_rows()?;
                plan.held_against(identity, rows.map(|row| row.map(Today::Image)), accept)
            }
        }
    }

    /// Errors: [`Error::Mismatch`] where the settings differ.
    fn held_against(
        mut self,
        identity: &Identity,
        items: impl Iterator<Item = Result<Today>>,
        accept: &mut dyn FnMut(&Plan, &PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Held> {
        self.must_be_of(identity)?;
        must_lie_as_planned(&self)?;
        let file = &self.files[0];
        let planned = Planned::of(&file.pieces, file.base.ordinal, file.layout)?;
        let mut comparison = Comparison::new(planned, file.layout);
        for item in items {
            let difference = match item? {
                Today::Image(row) => {
                    comparison.image(&row, &mut |was, now| accept(&self, was, now))?
                }
                Today::Opened(held) => comparison.opened(held, self.containers()),
                Today::Ended(digest) => comparison.ended(digest),
                Today::Unchanged(container, uri) => comparison.unchanged(&container, &uri)?,
            };
            if let Some(difference) = difference {
                return Ok(Held::Other(self, difference));
            }
        }
        if let Some(difference) = comparison.end()? {
            return Ok(Held::Other(self, difference));
        }
        self.moved = comparison.moved;
        self.unplanned_facts = comparison.unplanned_facts;
        Ok(Held::Same(self))
    }

    /// Demands the settings that the output was made with.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first that differs.
    pub(in crate::tokens) fn must_be_of(&self, identity: &Identity) -> Result<()> {
        match difference_in_words(self.identity(), identity) {
            None => Ok(()),
            Some((was, now)) => Err(Error::mismatch(format!(
                "{} was made with {was}, this run has {now}; use another {OUT}, or the settings it \
                 was made with",
                text::path(&self.dir)
            ))),
        }
    }
}
