//! Owns how training is shown.

use std::path::Path;

use serde_json::{Value, json};

use super::progress_printer::{ProgressPrinter, Training};
use crate::config::Recipe;
use crate::engine::memory;
use crate::train::{Evaluation, Event, TrainSummary};
use crate::util::numbers::counted;
use crate::util::{numbers, text};

impl ProgressPrinter<'_> {
    pub(super) fn nothing_to_resume(&self, model: &Path, recipe: &Recipe) {
        let model = text::path(model);
        let text = format!("nothing to resume in {model}: a new training by {}", recipe.name);
        self.say("notice", &text, json!({"message": text}));
    }

    pub(super) fn already_trained(&self, model: &Path, steps: usize, found: &Evaluation) {
        let text = format!(
            "{0} is finished: trained for {3}, PSNR {1:.2} dB on {2}; nothing is left \
             to do (--steps N, more than {steps}, trains it further)",
            text::path(model),
            found.psnr,
            counted(found.images, "image"),
            counted(steps, "step")
        );
        self.say("finished", &text, json!({"model": text::lossy(model), "steps": steps}));
    }

    pub(super) fn begin_training(&mut self, model: &Path, recipe: &Recipe) {
        self.training.folder = model.to_path_buf();
        self.training.recipe = recipe.name.clone();
        self.training.steps = recipe.train.steps as u64;
        self.begin("train", "steps", recipe.train.steps as u64);
    }

    /// Shows the bar of `stage`, if another one is shown; says whether it was.
    fn turn_to(&mut self, stage: &'static str, unit: &'static str, total: usize) -> bool {
        let other = self.stage != stage || self.meter.is_none();
        if other {
            self.begin(stage, unit, total as u64);
        }
        other
    }

    fn set(&mut self, done: usize, message: String, fields: Value) {
        if let Some(meter) = &mut self.meter {
            meter.set(done as u64, message, fields);
        }
    }

    fn begin_at(&mut self, done: u64) {
        if let Some(meter) = &mut self.meter {
            meter.begin(done);
        }
    }

    pub(super) fn training(&mut self, event: &Event<'_>) {
        match event {
            Event::Estimate { .. } => self.estimate(event),
            Event::Step { report, steps, waited, .. } => {
                if self.turn_to("train", "steps", *steps) {
                    self.begin_at(report.step as u64);
                }
                let message = format!("loss {:.4}, PSNR {:.2} dB", report.loss, report.psnr);
                let waited = waited.as_secs_f64();
                self.set(report.step, message, json!({"report": report, "waited_seconds": waited}));
            }
            Event::Usage { step, usage, perplexity } => {
                let fields = json!({"step": step, "usage": usage, "perplexity": perplexity});
                self.reporter.event("usage", fields);
            }
            Event::Probe(found) => self.reporter.event("look", json!({"look": found})),
            Event::Checkpoint { step } => self.reporter.event("checkpoint", json!({"step": step})),
            Event::Work { stage, unit, done, total } => {
                self.turn_to(stage, unit, *total);
                self.set(*done, String::new(), json!({}));
            }
            Event::Unreadable { count, images, examples } => {
                self.unreadable(*count, *images, examples);
            }
            Event::Notice(text) => self.say("notice", text, json!({"message": text})),
            Event::Warning(text) => {
                self.say("warning", &format!("warning: {text}"), json!({"message": text}));
            }
        }
    }

    fn estimate(&mut self, event: &Event<'_>) {
        let Event::Estimate { remaining, memory_bytes, device_bytes, steps, images, parameters } =
            event
        else {
            return;
        };
        let Training { folder, recipe, .. } = &self.training;
        let seconds = remaining.as_secs_f64();
        let text = format!(
            "training {} first: recipe {recipe}, {}, {} on {}, about {}, {} of memory{}",
            text::path(folder),
            counted(*parameters, "parameter"),
            counted(*steps, "step"),
            counted(*images, "image"),
            numbers::seconds(seconds),
            numbers::bytes(*memory_bytes),
            device_bytes
                .map_or(String::new(), |n| format!(" and {} of the GPU's", numbers::bytes(n)))
        );
        let mut fields = json!({
            "model": text::lossy(folder), "recipe": recipe, "steps": steps, "images": images,
            "parameters": parameters, "seconds": seconds, "memory_bytes": memory_bytes,
        });
        if let Some(bytes) = device_bytes {
            fields["device_bytes"] = json!(bytes);
        }
        self.say("estimate", &text, fields);
        if let Some(free) = memory::available().filter(|free| memory_bytes > free) {
            let text = format!(
                "that is more memory than the {} that are free here, and the system may end it: pass a smaller \
                 --micro-batch, or --recompute",
                numbers::bytes(free)
            );
            self.say("warning", &format!("warning: {text}"), json!({"message": text}));
        }
        self.begin_at(self.training.steps.saturating_sub(*steps as u64));
    }

    fn unreadable(&self, count: u64, images: usize, examples: &[(String, String)]) {
        let shown: Vec<_> = examples
            .iter()
            .map(|(key, reason)| format!("{} ({reason})", text::printable(key)))
            .collect();
        let more = if count > shown.len() as u64 { ", ..." } else { "" };
        let text = format!(
            "warning: {} of {} can't be read and {} left out: {}{more}",
            numbers::count(count),
            counted(images, "image"),
            if count == 1 { "is" } else { "are" },
            shown.join(", ")
        );
        let examples: Vec<_> =
            examples.iter().map(|(key, reason)| json!({"key": key, "error": reason})).collect();
        let fields = json!({"count": count, "images": images, "examples": examples});
        self.say("unreadable", &text, fields);
    }

    pub(super) fn trained(&mut self, model: &Path, recipe: &Recipe, summary: &TrainSummary) {
        self.close();
        let found = &summary.evaluation;
        let text = format!(
            "trained {0}: PSNR {1:.2} dB, {2:.1} % of {3} codes used, perplexity {4:.1}{7}, on \
             {5} {6} {8}; {9} shows how",
            text::path(model),
            found.psnr,
            100.0 * found.usage,
            recipe.model_config().quantizer.codes_in_words(),
            found.perplexity,
            numbers::count(found.images),
            if summary.held_out { "held-out" } else { "training" },
            by_level(found),
            if found.images == 1 { "image" } else { "images" },
            text::path(model.join("training.html")),
        );
        let fields = json!({"model": text::lossy(model), "summary": summary,
                            "unreadable": summary.unreadable,
                            "waited_share": summary.waited_share});
        self.say("trained", &(text + &left_out(summary)), fields);
        if found.usage < recipe.train.watch.dead_usage {
            let text = format!(
                "warning: most codes of {} are dead; train longer, or with other settings",
                text::path(model)
            );
            self.say("warning", &text, json!({"message": text, "usage": found.usage}));
        }
    }
}

/// Steps and images that had no part, where there are any.
fn left_out(summary: &TrainSummary) -> String {
    let mut text = String::new();
    if summary.skipped_steps > 0 {
        let (skipped, steps) = (summary.skipped_steps, summary.steps);
        text += &format!(
            "; {} of {} not finite, without any effect",
            numbers::count(skipped),
            counted(steps, "step")
        );
    }
    if summary.unreadable > 0 {
        let left = if summary.unreadable == 1 { "was" } else { "were" };
        let images = counted(summary.unreadable, "image");
        text += &format!("; {images} can't be read and {left} left out");
    }
    text
}

/// The perplexity of each residual level, where there are several.
fn by_level(found: &Evaluation) -> String {
    if found.levels.is_empty() {
        return String::new();
    }
    let levels: Vec<_> = found.levels.iter().map(|l| format!("{:.1}", l.perplexity)).collect();
    format!(" (mean of {})", levels.join(", "))
}
