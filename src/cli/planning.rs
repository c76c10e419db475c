//! Owns the plan of `vqtok tokenize`: lists the inputs into `plan.parquet`, or holds them against the
//! plan that is there, and says what differs. Must not know: how images become tokens.

use super::flags;
use super::inputs::{self, Inputs};
use crate::cli::progress::Reporter;
use crate::data::source::file;
use crate::data::source::labels::{LabelLevel, Layout};
use crate::data::{SourceFile, Take, is_hidden, walk_taking};
use crate::error::{Error, Result};
use crate::tokens::changes::{Changes, Group};
use crate::tokens::{Held, Identity, PLAN_FILE, Plan, PlanRow, committed, contents};
use crate::util::numbers;
use crate::util::numbers::counted;
use crate::util::text;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where labels stand, and what is to be told of it.
pub struct Labels {
    level: LabelLevel,
    /// What the first folders look like, where they were looked at.
    layout: Option<Layout>,
}

impl Labels {
    /// As the flag says, as the output there was made, or as the inputs look.
    pub fn choose(flag: Option<LabelLevel>, inputs: &Inputs, out: &Path) -> Labels {
        if let Some(level) = flag {
            return Labels { level, layout: None };
        }
        if out.join(PLAN_FILE).exists() {
            let made = Plan::open(out).ok().and_then(|plan| plan.identity().label_level.clone());
            let level = made.and_then(|level| level.parse().ok()).unwrap_or_default();
            return Labels { level, layout: None };
        }
        let layout = Layout::of(inputs.inputs.iter().map(|i| i.as_path()), inputs.take());
        Labels { level: layout.level(), layout: Some(layout) }
    }

    /// For the identity: None where it goes without saying.
    pub fn recorded(&self) -> Option<String> {
        (self.level != LabelLevel::default()).then(|| self.level.to_string())
    }

    /// What the user should know of it.
    fn words(&self) -> Option<String> {
        let layout = self.layout.as_ref().filter(|layout| !layout.splits.is_empty())?;
        let names: Vec<_> = layout.splits.iter().map(|name| text::printable(name)).collect();
        let names = names.join(", ");
        match &layout.other {
            _ if self.level != LabelLevel::default() => Some(format!(
                "splits {names}: labels are the folders below them (--label-level {})",
                self.level
            )),
            Some(other) if layout.splits.len() > 1 => Some(format!(
                "{names} look like splits, but '{}' doesn't: labels are the first folders; \
                 --label-level 1 takes the second",
                text::printable(other)
            )),
            None => Some(format!(
                "{names} look like splits without classes: labels are these; --label-level none \
                 leaves them out"
            )),
            Some(_) => None,
        }
    }
}

/// Lists the inputs into `plan.parquet`, or holds them against the plan that is there. Returns how
/// many folders and files of the inputs couldn't be looked at, too.
///
/// # Errors
/// No image; inputs or settings that differ from those of the plan.
pub fn plan(
    inputs: &Inputs,
    out: &Path,
    identity: &Identity,
    labels: &Labels,
    reporter: &Reporter,
) -> Result<(Plan, u64)> {
    let (held, unseen) = hold(inputs, inputs.take(), out, identity, labels, reporter)?;
    let (plan, first) = match held {
        Held::Same(plan) => return Ok((plan, unseen)),
        Held::Other(plan, first) => (plan, first),
    };
    // Earlier versions took what vqtok had written; their outputs are continued as they were begun.
    let own = Take { own: true, ..inputs.take() };
    if let (Held::Same(plan), unseen) = hold(inputs, own, out, identity, labels, reporter)? {
        return Ok((plan, unseen));
    }
    let today = || Ok(rows(walk_taking(&inputs.inputs, inputs.take())?));
    let changes = Changes::between(|| plan.all_rows(), today, is_hidden)?;
    Err(Error::Mismatch(format!(
        "the input of {} has changed: {}; use another --out, or restore the input",
        text::path(out),
        told(&changes, inputs.hidden, &first)
    )))
}

/// One try with one choice of what is taken.
fn hold(
    inputs: &Inputs,
    take: Take,
    out: &Path,
    identity: &Identity,
    labels: &Labels,
    reporter: &Reporter,
) -> Result<(Held, u64)> {
    let mut walk = walk_taking(&inputs.inputs, take)?;
    let first = walk.next().transpose()?;
    let Some(first) = first else {
        return Err(Error::invalid(format!(
            "no image under {}: nothing to tokenize; {}",
            inputs.names(),
            walk.skipped().message()
        )));
    };
    let rows = rows(std::iter::once(Ok(first)).chain(walk.by_ref()));
    let mut resized = Resized::new(out, identity.shard_rows);
    let accept = &mut |was: &PlanRow, now: &PlanRow| resized.accept(was, now);
    let held = Plan::hold(out, identity, rows, identity.shard_rows as usize, accept)?;
    let skipped = walk.skipped();
    let Held::Same(plan) = held else { return Ok((held, skipped.unseen())) };
    let mut text = format!(
        "{} in {}, {}",
        counted(plan.rows(), "image"),
        counted(plan.partitions(), "partition"),
        flags::remark(&skipped.message())
    );
    if resized.count > 0 {
        text += &format!(", {} of another size than was planned", numbers::count(resized.count));
    }
    let moved = plan.moved().first().filter(|(was, now)| !file::same_place(was, now));
    if let Some((was, now)) = moved {
        check_contents(&plan, &BTreeSet::new())?;
        let (was, now) = (text::printable(was), text::printable(now));
        text += &format!("; moved since they were planned, from {was} to {now}");
    }
    if take.own {
        text += "; what vqtok wrote itself is among them, as an earlier version planned it";
    }
    if let Some(words) = labels.words() {
        text += &format!("; {words}");
    }
    let mut fields = inputs::in_fields(skipped);
    fields["images"] = plan.rows().into();
    fields["partitions"] = plan.partitions().into();
    fields["resized"] = resized.count.into();
    fields["label_level"] = labels.level.to_string().into();
    fields["splits"] = json!(labels.layout.as_ref().map(|layout| &layout.splits));
    fields["moved"] = json!(moved.map(|(was, now)| json!({"from": was, "to": now})));
    reporter.say("plan", &text, fields);
    Ok((Held::Same(plan), skipped.unseen()))
}

/// What is found as rows of a plan.
fn rows(found: impl Iterator<Item = Result<SourceFile>>) -> impl Iterator<Item = Result<PlanRow>> {
    found.zip(0..).map(|(found, ordinal)| {
        let SourceFile { key, uri, bytes } = found?;
        Ok(PlanRow { ordinal, key, uri, bytes: bytes as i64 })
    })
}

/// The changes in words, with what may have brought them about.
fn told(changes: &Changes, hidden: bool, first: &str) -> String {
    if changes.is_none() {
        return format!("the same images in another order ({first}); give the INPUTs as then");
    }
    let Changes { new, gone, changed, sizes, about } = changes;
    let keys = |group: &Group| {
        let keys = group.examples.iter().map(|row| format!("'{}'", text::shorten(&row.key)));
        listed(group, keys.collect())
    };
    let resized = changed.examples.iter().zip(sizes).map(|(row, now)| {
        format!("'{}' had {} bytes and now has {now}", text::shorten(&row.key), row.bytes)
    });
    let mut words = format!(
        "{}{} new{}, {} gone{}, {} changed{}",
        if *about { "about " } else { "" },
        new.count,
        keys(new),
        gone.count,
        keys(gone),
        changed.count,
        listed(changed, resized.collect())
    );
    if gone.marked > 0 && !hidden {
        let all = gone.marked == gone.count && new.count + changed.count == 0;
        words += &match all {
            true => ": hidden or a system's, which are passed over now; --hidden goes on with \
                     them"
                .to_string(),
            false => format!(
                "; {} of those gone are hidden or a system's: --hidden takes them",
                gone.marked
            ),
        };
    }
    if new.marked > 0 && hidden {
        let (marked, of) = (new.marked, new.count);
        words +=
            &format!("; {marked} of {of} new ones are hidden or a system's: leave --hidden out");
    }
    words
}

/// Examples behind a count, in brackets.
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
pub fn check_contents(plan: &Plan, bad: &BTreeSet<usize>) -> Result<()> {
    const PARTITIONS: usize = 64;
    const IMAGES: usize = 256;
    let good = |p: &usize| committed(plan.dir(), *p) && !bad.contains(p);
    let made: Vec<usize> = (0..plan.partitions()).filter(good).collect();
    let chosen: Vec<usize> =
        made.iter().copied().step_by(made.len().div_ceil(PARTITIONS).max(1)).collect();
    for partition in &chosen {
        let known = contents(plan.dir(), *partition)?;
        let each = known.len().div_ceil(IMAGES / chosen.len()).max(1);
        let rows = plan.partition(*partition)?.into_iter();
        let rows = rows.filter_map(|row| Some((*known.get(&row.ordinal)?, row)));
        for (digest, row) in rows.step_by(each) {
            let place = plan.place(&row);
            if file::digest(&place).is_some_and(|found| found != digest) {
                return Err(Error::Mismatch(format!(
                    "the input of {} is another one: '{}' at {} isn't the file that was \
                     tokenized; use another --out, or restore the input",
                    text::path(plan.dir()),
                    text::shorten(&row.key),
                    text::printable(&place)
                )));
            }
        }
    }
    Ok(())
}

/// Which planned files may have another size today: those that failed or are still to be read,
/// whose outcome tells of it, and those that were mended and tokenized as they are.
struct Resized<'a> {
    out: &'a Path,
    shard_rows: u64,
    /// The partition looked at last, and what has tokens in it.
    partition: Option<(usize, BTreeMap<i64, [u8; 32]>)>,
    count: u64,
}

impl Resized<'_> {
    fn new(out: &Path, shard_rows: u64) -> Resized<'_> {
        Resized { out, shard_rows, partition: None, count: 0 }
    }

    fn accept(&mut self, was: &PlanRow, now: &PlanRow) -> Result<bool> {
        let partition = (was.ordinal.unsigned_abs() / self.shard_rows.max(1)) as usize;
        self.count += 1;
        if !committed(self.out, partition) {
            return Ok(true);
        }
        let known = match self.partition.take() {
            Some((of, known)) if of == partition => known,
            _ => contents(self.out, partition)?,
        };
        let before = known.get(&was.ordinal).copied();
        self.partition = Some((partition, known));
        Ok(before.is_none_or(|before| file::digest(&now.uri) == Some(before)))
    }
}
