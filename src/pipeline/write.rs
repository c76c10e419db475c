//! Owns the writer: outcomes in order, partition by partition, each committed as soon as it is whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::encode::{Done, ImageOutcome};
use super::events::{Event, Observer};
use super::settings::{Settings, Summary};
use crate::error::{Error, Result};
use crate::tokens::{Commit, CommitMode, Outcome, PartitionWriter, Plan, contents};
use crate::util::{panics, text};

/// How often the observer is asked whether to stop while no outcome comes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Writes outcomes partition by partition and commits each as soon as it is whole.
pub(super) fn write(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    done: Receiver<Done>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let mut summary = Summary::default();
    for &partition in partitions {
        let _at = panics::at("write", Some(&format!("shard {partition}")));
        let mut writer = PartitionWriter::create(plan, partition, settings.mode.clone())?;
        let before = match settings.mode {
            CommitMode::New | CommitMode::Restore(_) => BTreeMap::new(),
            CommitMode::Replace => contents(plan, partition)?,
        };
        let mut loss = None;
        for _ in plan.ordinals(partition)? {
            let outcome = next_outcome(partition, &done, stop, observer)?;
            observer.event(&Event::Image { failure: outcome.as_ref().err() });
            loss = loss.or_else(|| lost_by(&before, &outcome));
            if loss.is_none() {
                push(&mut writer, outcome)?;
            }
        }
        if let Some(reason) = loss {
            summary.kept += 1;
            observer.event(&Event::Kept { partition, reason: &reason });
            continue; // Dropped, the writer leaves nothing.
        }
        let committing = panics::at("commit", Some(&format!("shard {partition}")));
        let receipt = writer.close()?;
        drop(committing);
        match receipt.commit {
            Commit::Committed => {
                summary.partitions += 1;
                summary.written += receipt.written;
                summary.failed += receipt.failures;
            }
            Commit::Already => summary.already += 1,
            Commit::Lost { .. } => summary.lost += 1,
            Commit::Differs { .. } => {}
        }
        observer.event(&Event::Partition(&receipt));
    }
    Ok(summary)
}

fn push(writer: &mut PartitionWriter, outcome: ImageOutcome) -> Result<()> {
    match outcome {
        Err(failure) => writer.push(Outcome::Failed(failure)),
        Ok(rows) => {
            rows.into_iter().try_for_each(|row| writer.push(Outcome::Written(Box::new(row))))
        }
    }
}

/// The next image's outcome, which is of `partition`. Raises `stop` where the observer says so.
fn next_outcome(
    partition: usize,
    done: &Receiver<Done>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<ImageOutcome> {
    loop {
        if observer.interrupted() {
            stop.store(true, Ordering::Relaxed);
        }
        match done.recv_timeout(POLL_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            // A stage before this one ended: see `first_error`.
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Interrupted),
            Ok(Done::BatchHalved(images)) => observer.event(&Event::BatchHalved { images }),
            Ok(Done::Image { partition: of, outcome }) => {
                debug_assert_eq!(of, partition);
                return Ok(outcome);
            }
        }
    }
}

/// Why an outcome must not take the place of what is committed (`before`: contents of the images
/// with tokens, by ordinal): an image that has tokens would lose them, or get another's.
fn lost_by(before: &BTreeMap<i64, [u8; 32]>, outcome: &ImageOutcome) -> Option<String> {
    match outcome {
        Err(row) if before.contains_key(&row.ordinal) => Some(format!(
            "'{}' has tokens, and now fails ({}: {})",
            text::printable(&row.key),
            row.stage,
            row.error
        )),
        Err(_) => None,
        Ok(rows) => {
            let row = rows.first()?;
            let changed = before.get(&row.ordinal)? != &row.content_sha256;
            let key = text::printable(&row.key);
            changed.then(|| format!("'{key}' has changed since it was tokenized"))
        }
    }
}
