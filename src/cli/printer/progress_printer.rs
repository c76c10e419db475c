//! Owns what a command shows of its jobs: which event goes where, the bar, the failures told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::cli::progress::{Meter, Reporter};
use crate::data::Skipped;
use crate::job::{DamageReport, Event, Observer};
use crate::util::numbers::counted;
use crate::util::{numbers, settings, text};

/// Shows a command's jobs.
pub(in crate::cli) struct ProgressPrinter<'a> {
    pub(super) reporter: &'a Reporter,
    /// Raised by a signal.
    stop: Arc<AtomicBool>,
    pub(super) meter: Option<Meter>,
    /// What the meter counts.
    pub(super) stage: &'static str,
    /// Of the meter, told one by one or not.
    failures: u64,
    pub(super) training: Training,
}

/// The training that is shown.
#[derive(Default)]
pub(super) struct Training {
    pub(super) folder: PathBuf,
    pub(super) recipe: String,
    /// Of the whole training.
    pub(super) steps: u64,
}

/// Failures that are told one by one: a log must not grow with the data set.
const FAILURES_TOLD: u64 = 100;

impl<'a> ProgressPrinter<'a> {
    /// For a command that `stop` ends.
    pub(in crate::cli) fn new(
        reporter: &'a Reporter,
        stop: Arc<AtomicBool>,
    ) -> ProgressPrinter<'a> {
        let (meter, stage, training) = (None, "", Training::default());
        ProgressPrinter { reporter, stop, meter, stage, failures: 0, training }
    }

    /// Takes the bar away.
    pub(in crate::cli) fn close(&mut self) {
        self.meter = None;
    }

    /// Shows the bar of `stage` in place of another one.
    pub(super) fn begin(&mut self, stage: &'static str, unit: &'static str, total: u64) {
        let next = self.reporter.meter(stage, unit, total);
        (self.stage, self.failures) = (stage, 0);
        self.meter = Some(next);
    }

    /// A line above the bar, where there is one.
    pub(super) fn say(&self, event: &str, sentence: &str, fields: serde_json::Value) {
        self.reporter.say(event, sentence, fields);
    }

    /// Says one failure, or that further ones are only counted.
    pub(super) fn failure(&mut self, sentence: &str, fields: serde_json::Value, untold: &str) {
        self.failures += 1;
        if self.failures <= FAILURES_TOLD {
            self.say("failure", sentence, fields);
        } else if self.failures == FAILURES_TOLD + 1 {
            let text = format!("more than 100 failures: further ones are counted{untold}");
            self.say("failures-untold", &text, json!({"told": FAILURES_TOLD}));
        }
    }

    pub(super) fn step(&mut self, failed: bool) {
        if let Some(meter) = &mut self.meter {
            meter.step(failed);
        }
    }

    fn damage(&self, damage: &DamageReport) {
        let report = &damage.report;
        let text = format!(
            "{}: {}, {}, {} to rebuild, {} missing",
            text::path(&damage.dir),
            counted(report.findings.len(), "finding"),
            counted(report.strays.len(), "stray"),
            counted(damage.partitions, "partition"),
            numbers::count(report.missing)
        );
        self.say("damage", &text, json!(report));
    }

    /// Says what is odd about containers and lists: the first of it to people, all to machines.
    pub(in crate::cli) fn odd(&self, skipped: &Skipped) {
        const SHOWN: usize = 8;
        for (index, (key, what)) in skipped.odd.iter().enumerate() {
            let of =
                if key.is_empty() { String::new() } else { format!("{}: ", text::printable(key)) };
            let text = format!("note: {of}{what}");
            let fields = json!({"key": key, "note": settings::plain(what)});
            match index < SHOWN {
                true => self.say("odd", &text, fields),
                false => self.reporter.event("odd", fields),
            }
        }
        if let Some(more @ 1..) = skipped.odd_count.checked_sub(SHOWN as u64) {
            let text = format!("note: {} more of this kind", numbers::count(more));
            self.say("odd-untold", &text, json!({"notes": skipped.odd_count}));
        }
    }

    /// Says what was passed over, where something was.
    fn listed(&self, skipped: &Skipped) {
        if skipped.total() > 0 {
            self.say("skipped", &skipped.message(), skipped_fields(skipped));
        }
        self.odd(skipped);
    }
}

impl Observer for ProgressPrinter<'_> {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Listed(skipped) => self.listed(skipped),
            Event::Device { name } => {
                self.say("device", &format!("encoding on {name}"), json!({"name": name}));
            }
            Event::Planned(planned) => self.planned(planned),
            Event::Begin { stage, images } => {
                let unit =
                    if matches!(*stage, "index" | "export" | "diff") { "rows" } else { "images" };
                self.begin(stage, unit, *images);
            }
            Event::Tokenizing(event) => self.tokenizing(event),
            Event::Tokenized(pass) => self.tokenized(pass),
            Event::Damage(damage) => self.damage(damage),
            Event::NothingToResume { model, recipe } => self.nothing_to_resume(model, recipe),
            Event::AlreadyTrained { model, steps, evaluation } => {
                self.already_trained(model, *steps, evaluation);
            }
            Event::BeginTraining { model, recipe } => self.begin_training(model, recipe),
            Event::Training(event) => self.training(event),
            Event::Trained { model, recipe, summary } => self.trained(model, recipe, summary),
            Event::Sources(sources) => self.sources(sources),
            Event::OtherModel(other) => self.other_model(other),
            Event::OtherGrid(other) => self.other_grid(other),
            Event::Decoded | Event::Exported | Event::Audited => self.step(false),
            Event::BadRows(bad) => self.bad_rows(bad),
            Event::Unreconstructed { key, reject } => {
                let text = format!("failed: {}: {reject}", text::printable(key));
                self.failure(&text, json!({"key": key, "error": reject.message}), "");
            }
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What was passed over, for machines.
pub(in crate::cli) fn skipped_fields(skipped: &Skipped) -> serde_json::Value {
    json!({"skipped": skipped.total(),
           "skipped_by_reason": skipped.reasons().into_iter().collect::<BTreeMap<_, _>>(),
           "unreadable": skipped.unreadable})
}
