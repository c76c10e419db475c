//! Owns what a person or a machine sees while work goes on: indicatif bars on a terminal, JSON
//! events one a line with `--json`, a few plain lines elsewhere.
//! Must not know: what the work is.
//!
//! Results for people and events go to stdout, everything else to stderr, so that a pipe gets
//! only what it asked for.

use crate::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How a command talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// For people: bars on a terminal, lines otherwise.
    Human,
    /// `--json`: events on stdout, one a line; nothing else there.
    Json,
}

/// A command's mouth. Cheap to clone.
#[derive(Debug, Clone, Copy)]
pub struct Reporter {
    voice: Voice,
}

impl Reporter {
    /// A reporter for `--json` or for people.
    pub fn new(json: bool) -> Reporter {
        Reporter { voice: if json { Voice::Json } else { Voice::Human } }
    }

    /// Whether machines are listening.
    pub fn is_json(&self) -> bool {
        self.voice == Voice::Json
    }

    /// A sentence for people, an event for machines. `event` names it, `fields` is an object.
    pub fn say(&self, event: &str, sentence: &str, fields: Value) {
        match self.voice {
            Voice::Human => eprintln!("{}", text::lines(sentence)),
            Voice::Json => emit(event, fields),
        }
    }

    /// The result of a command: for people on stdout.
    pub fn result(&self, event: &str, text: &str, fields: Value) {
        match self.voice {
            // A closed pipe (`| head`) is the reader's choice and no error of ours.
            Voice::Human => {
                let _ = writeln!(std::io::stdout(), "{}", text::lines(text));
            }
            Voice::Json => emit(event, fields),
        }
    }

    /// A bar over `total` items of work called `stage` (`tokenize`, `train`, ...) counted in
    /// `unit` (`images`, `steps`).
    pub fn meter(&self, stage: &'static str, unit: &'static str, total: u64) -> Meter {
        let target = match self.voice {
            Voice::Human if std::io::stderr().is_terminal() => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = format!(
            "{{prefix:>10}} [{{bar:32}}] {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  ETA {{eta}}  {{msg}}"
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(stage);
        let now = Instant::now();
        Meter { voice: self.voice, bar, stage, unit, total, failed: 0, started: now, last: now }
    }
}

fn emit(event: &str, fields: Value) {
    let mut line = json!({ "event": event });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Progress of one stage.
#[derive(Debug)]
pub struct Meter {
    voice: Voice,
    bar: ProgressBar,
    stage: &'static str,
    unit: &'static str,
    total: u64,
    failed: u64,
    started: Instant,
    last: Instant,
}

impl Meter {
    /// Between two progress events for machines.
    const EVENT_INTERVAL: Duration = Duration::from_millis(1000);

    /// One more item done; `failed` if it is one of the failures.
    pub fn step(&mut self, failed: bool) {
        self.failed += u64::from(failed);
        self.bar.inc(1);
        if failed {
            self.bar.set_message(format!("{} failed", self.failed));
        }
        self.maybe_emit(Value::Null);
    }

    /// Sets the position, with a short text for people and fields for machines.
    pub fn set(&mut self, done: u64, message: String, fields: Value) {
        self.bar.set_position(done);
        self.bar.set_message(message);
        self.maybe_emit(fields);
    }

    /// Prints above the bar without tearing it.
    pub fn line(&self, event: &str, sentence: &str, fields: Value) {
        match self.voice {
            Voice::Human if self.bar.is_hidden() => eprintln!("{}", text::lines(sentence)),
            Voice::Human => self.bar.println(text::lines(sentence)),
            Voice::Json => emit(event, fields),
        }
    }

    /// For machines only.
    pub fn event(&self, event: &str, fields: Value) {
        if self.voice == Voice::Json {
            emit(event, fields);
        }
    }

    /// Items a second since the start.
    pub fn rate(&self) -> f64 {
        self.bar.position() as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Takes the bar away.
    pub fn close(self) {
        self.bar.finish_and_clear();
    }

    fn maybe_emit(&mut self, extra: Value) {
        if self.voice != Voice::Json || self.last.elapsed() < Self::EVENT_INTERVAL {
            return;
        }
        self.last = Instant::now();
        let done = self.bar.position();
        let rate = self.rate();
        let mut fields = json!({
            "stage": self.stage, "unit": self.unit, "done": done, "total": self.total,
            "failed": self.failed, "per_second": rate,
            "eta_s": if rate > 0.0 { (self.total.saturating_sub(done)) as f64 / rate } else { 0.0 },
        });
        if let (Some(fields), Value::Object(extra)) = (fields.as_object_mut(), extra) {
            fields.extend(extra);
        }
        emit("progress", fields);
    }
}

/// `90` as `1 min 30 s`, for estimates.
pub fn human_seconds(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..=89 => format!("{s} s"),
        90..=5399 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seconds_are_readable() {
        assert_eq!(super::human_seconds(0.2), "0 s");
        assert_eq!(super::human_seconds(89.4), "89 s");
        assert_eq!(super::human_seconds(90.0), "1 min 30 s");
        assert_eq!(super::human_seconds(7325.0), "2 h 02 min");
    }
}
