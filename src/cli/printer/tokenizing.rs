//! Owns how tokenizing is shown: the plan, the run, what the output is at its end.

use std::path::Path;

use serde_json::json;

use super::progress_printer::{ProgressPrinter, skipped_fields};
use crate::cli::finalize;
use crate::data::source::labels::LabelLevel;
use crate::job::{Appended, Pass, Planned, TokenizeSummary};
use crate::pipeline::Event;
use crate::tokens::{CLASSES_MAX, Commit, FailureRow, Receipt};
use crate::util::numbers::counted;
use crate::util::{numbers, text};

impl ProgressPrinter<'_> {
    pub(super) fn planned(&self, planned: &Planned<'_>) {
        let mut text = format!(
            "{} in {}, {}",
            counted(planned.images, "image"),
            counted(planned.partitions, "partition"),
            planned.skipped.message()
        );
        if let Some(appended) = &planned.appended {
            text += &format!(": {}", appended_in_words(appended));
        }
        if planned.resized > 0 {
            let resized = numbers::count(planned.resized);
            text += &format!(", {resized} of another size than was planned");
        }
        if planned.unchanged > 0 {
            let unchanged = counted(planned.unchanged, "container");
            let since = if planned.unchanged == 1 { "it was" } else { "they were" };
            text += &format!(", {unchanged} unchanged since {since} planned");
        }
        if let Some((was, now)) = planned.moved {
            let (was, now) = (text::printable(was), text::printable(now));
            text += &format!("; moved since they were planned, from {was} to {now}");
        }
        if planned.own {
            text += "; what vqtok wrote itself is among them, as an earlier version planned it";
        }
        if planned.unplanned_facts > 0 {
            text += "; ";
            text += &unplanned_in_words(planned.unplanned_facts);
        }
        if let Some(words) = labels_in_words(planned) {
            text += &format!("; {words}");
        }
        let mut fields = skipped_fields(planned.skipped);
        fields["images"] = planned.images.into();
        fields["partitions"] = planned.partitions.into();
        fields["resized"] = planned.resized.into();
        fields["unchanged_containers"] = planned.unchanged.into();
        fields["unplanned_facts"] = planned.unplanned_facts.into();
        label_fields(planned, &mut fields);
        fields["moved"] = json!(planned.moved.map(|(was, now)| json!({"from": was, "to": now})));
        if let Some(appended) = &planned.appended {
            fields["appended"] = appended_fields(appended);
        }
        self.say("plan", &text, fields);
        self.too_many_classes(planned);
        self.odd(planned.skipped);
        self.changed(planned);
        self.beside(planned);
    }

    /// Classes that have no ids.
    fn too_many_classes(&self, planned: &Planned<'_>) {
        if planned.too_many_classes {
            let text = format!(
                "too many classes for ids (more than {}, or 1 MiB of names): label_id is null in every \
                 row, label has the name",
                numbers::count(CLASSES_MAX as u64)
            );
            self.say("too-many-classes", &text, json!({"classes_max": CLASSES_MAX}));
        }
    }

    /// What of an output isn't as its new images would have it alone.
    fn beside(&self, planned: &Planned<'_>) {
        let gone = planned.appended.map_or(0, |appended| appended.gone);
        if gone > 0 {
            let text = format!(
                "not among these INPUTs, their rows stay: {} of the output; `vqtok plan --diff` names \
                 some",
                counted(gone, "image")
            );
            self.say("gone", &text, json!({"images": gone}));
        }
        if let Some(other) = planned.other_level {
            let level = planned.label_level;
            let text = format!(
                "labels stand where this output was begun with them, --label-level {level}; by their \
                 folders these INPUTs alone would have --label-level {other}"
            );
            let fields = json!({"level": level.to_string(), "of_inputs": other.to_string()});
            self.say("labels", &text, fields);
        }
    }

    /// Images that aren't what they were when they were tokenized.
    fn changed(&self, planned: &Planned<'_>) {
        let changed = planned.appended.map_or(0, |appended| appended.changed);
        if changed == 0 {
            return;
        }
        let examples: Vec<_> = planned.changed.iter().map(|text| text::printable(text)).collect();
        let more = if changed > examples.len() as u64 { ", ..." } else { "" };
        let text = format!(
            "changed since they were planned, their rows stay: {} ({}{more}); `vqtok plan --diff` says \
             more",
            counted(changed, "image"),
            examples.join(", ")
        );
        self.say("changed", &text, json!({"images": changed, "examples": planned.changed}));
    }

    pub(super) fn tokenizing(&mut self, event: &Event<'_>) {
        match event {
            Event::Image { failure } => {
                self.step(failure.is_some());
                if let Some(FailureRow { key, stage, error, .. }) = failure {
                    let text = format!("failed: {}: {stage}: {error}", text::printable(key));
                    let fields = json!({"key": key, "stage": stage, "error": error});
                    self.failure(&text, fields, ", and told in failures/");
                }
            }
            Event::Partition(receipt) => self.partition(receipt),
            Event::Kept { partition, reason } => {
                let text = format!(
                    "shard {partition} stays as it was: {reason}; restore the file to retry"
                );
                self.say("kept", &text, json!({"partition": partition, "reason": reason}));
            }
            Event::BatchHalved { images } => {
                let text = format!(
                    "the device is out of memory: going on with {} at a time",
                    counted(*images, "image")
                );
                self.say("batch-halved", &text, json!({"images": images}));
            }
        }
    }

    fn partition(&self, receipt: &Receipt) {
        let fields = json!({"partition": receipt.partition, "rows": receipt.rows,
                            "failures": receipt.failures, "sha256": receipt.sha256,
                            "commit": commit_word(&receipt.commit)});
        self.reporter.event("partition", fields);
    }

    pub(super) fn tokenized(&mut self, pass: &Pass) {
        let Pass { images, summary, .. } = pass;
        let Some(meter) = self.meter.take() else { return };
        let (rate, seconds) = (meter.rate(), meter.seconds());
        meter.close();
        let text = format!(
            "{} in {} ({})",
            counted(*images, "image"),
            numbers::seconds(seconds),
            numbers::rate(rate, " images")
        );
        let fields = json!({
            "images": images, "written": summary.written, "failed": summary.failed,
            "partitions": summary.partitions, "already": summary.already, "lost": summary.lost,
            "kept": summary.kept, "seconds": seconds, "images_per_second": rate,
        });
        self.say("tokenized", &text, fields);
        if summary.lost > 0 {
            let text = format!(
                "{} had been committed by another worker with other tokens before; the other \
                 worker's tokens stay",
                counted(summary.lost, "partition")
            );
            self.say("lost", &text, json!({"partitions": summary.lost}));
        }
    }

    /// What the output in `dir` is now.
    pub(in crate::cli) fn output(&self, dir: &Path, summary: &TokenizeSummary) {
        if let Some(dataset) = &summary.dataset {
            finalize::report(dir, dataset, self.reporter);
            self.differing(summary);
            if let Some(appended) = &summary.appended {
                let fields = appended_fields(appended);
                self.reporter.result("appended", &appended_in_words(appended), fields);
            }
            return;
        }
        let text = format!(
            "{} of {} left to other workers; the last one to finish finalizes",
            numbers::count(summary.missing),
            counted(summary.partitions, "partition")
        );
        let fields = json!({"missing": summary.missing, "partitions": summary.partitions});
        self.say("waiting", &text, fields);
    }

    /// Says which partitions were made otherwise than they were.
    fn differing(&self, summary: &TokenizeSummary) {
        let partitions = &summary.differing;
        let (Some(first), Some(dataset)) = (partitions.first(), &summary.dataset) else { return };
        let first = text::path(dataset.shard_path(*first));
        let text = format!(
            "made again, but not what dataset.json had: {}, the first {first}: \
             an image of it, or what the model computes here, has changed since; `vqtok plan --diff` \
             tells images of another size and most other containers: restore them, remove the shard \
             and make it again to have what it was",
            counted(partitions.len(), "shard")
        );
        self.reporter.say("differing", &text, json!({"partitions": partitions}));
    }
}

fn label_fields(planned: &Planned<'_>, fields: &mut serde_json::Value) {
    fields["label_level"] = planned.label_level.to_string().into();
    fields["classes"] = planned.classes.into();
    fields["splits"] = json!(planned.layout.map(|layout| &layout.splits));
}

fn appended_fields(appended: &Appended) -> serde_json::Value {
    let Appended { new, known, changed, gone, .. } = appended;
    json!({"new": new, "known": known, "changed": changed, "gone": gone})
}

/// How many images came, and how many were there.
fn appended_in_words(appended: &Appended) -> String {
    let Appended { new, known, .. } = appended;
    format!("{} new, {} there already", numbers::count(*new), numbers::count(*known))
}

/// What the user should know of where labels stand.
fn labels_in_words(planned: &Planned<'_>) -> Option<String> {
    if planned.label_level == LabelLevel::None && planned.layout.is_some_and(|l| l.shards) {
        return Some(
            "folders are img2dataset's shards and no classes: --label-level 0 takes them".into(),
        );
    }
    let layout = planned.layout.filter(|layout| !layout.splits.is_empty())?;
    let names: Vec<_> = layout.splits.iter().map(|name| text::printable(name)).collect();
    let names = names.join(", ");
    match &layout.other {
        _ if planned.label_level != LabelLevel::default() => Some(format!(
            "splits {names}: labels are the folders below them (--label-level {})",
            planned.label_level
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

/// What there is to say of images with something beside them that an output was begun without.
pub(in crate::cli) fn unplanned_in_words(images: u64) -> String {
    format!(
        "{} with captions, labels or metadata beside them, which this output was begun without: \
         another --out has them",
        counted(images, "image")
    )
}

/// How a commit ended, for machines.
pub(in crate::cli) fn commit_word(commit: &Commit) -> &'static str {
    match commit {
        Commit::Committed => "committed",
        Commit::Already => "already",
        Commit::Lost { .. } => "lost",
        Commit::Differs { .. } => "differs",
    }
}
