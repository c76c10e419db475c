//! Owns the writer: outcomes in order, partition by partition, each committed as soon as it is whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::encode::Done;
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
        let mut writer = PartitionWriter::create(plan, partition, settings.mode)?;
        let before = match settings.mode {
            CommitMode::New => BTreeMap::new(),
            CommitMode::Replace => contents(plan.dir(), partition)?,
        };
        let mut loss = None;
        for _ in plan.ordinals(partition)? {
            let outcome = next_outcome(partition, &done, stop, observer)?;
            let failure = match &outcome {
                Outcome::Failed(failure) => Some(failure),
                Outcome::Written(_) => None,
            };
            observer.event(&Event::Image { failure });
            loss = loss.or_else(|| lost_by(&before, &outcome));
            if loss.is_none() {
                writer.push(outcome)?;
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
        }
        observer.event(&Event::Partition(&receipt));
    }
    Ok(summary)
}

/// The next image's outcome, which is of `partition`. Raises `stop` where the observer says so.
fn next_outcome(
    partition: usize,
    done: &Receiver<Done>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
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
fn lost_by(before: &BTreeMap<i64, [u8; 32]>, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Failed(row) if before.contains_key(&row.ordinal) => Some(format!(
            "'{}' has tokens, and now fails ({}: {})",
            text::printable(&row.key),
            row.stage,
            row.error
        )),
        Outcome::Written(row) if before.get(&row.ordinal)? != &row.content_sha256 => {
            Some(format!("'{}' has changed since it was tokenized", text::printable(&row.key)))
        }
        _ => None,
    }
}
