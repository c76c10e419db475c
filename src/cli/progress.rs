//! Owns what a person or a machine sees while work goes on: a bar on a terminal, JSON events one a
//! line with `--json`, a few plain lines elsewhere.
//! Must not know: what the work is.
//!
//! Results for people and events go to stdout, everything else to stderr, so that a pipe gets
//! only what it asked for.

use super::console;
use crate::cli::flags;
use crate::util::{numbers, portable_fs, secrets, text};
use indicatif::style::ProgressTracker;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::util::numbers::seconds as human_seconds;

/// How a command talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// For people: bars on a terminal, lines otherwise.
    Human,
    /// `--json`: events on stdout, one a line; nothing else there.
    Json,
}

/// A command's mouth. Cheap to clone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter {
    voice: Voice,
}

/// The bar that is on the terminal: whoever writes a line takes it away first.
static SHOWN: Mutex<Option<(u64, ProgressBar)>> = Mutex::new(None);

impl Reporter {
    /// A reporter for `--json` or for people.
    pub(super) fn new(json: bool) -> Reporter {
        Reporter { voice: if json { Voice::Json } else { Voice::Human } }
    }

    /// Whether machines are listening.
    pub(super) fn is_json(&self) -> bool {
        self.voice == Voice::Json
    }

    /// A sentence for people, an event for machines. `event` names it, `fields` is an object.
    pub(super) fn say(&self, event: &str, sentence: &str, fields: Value) {
        self.notices();
        match self.voice {
            Voice::Human => beside_bar(|| console::err(&shown(sentence))),
            Voice::Json => emit(event, fields),
        }
    }

    /// The result of a command: for people on stdout.
    pub(super) fn result(&self, event: &str, text: &str, fields: Value) {
        match self.voice {
            Voice::Human => beside_bar(|| console::out(&shown(text))),
            Voice::Json => emit(event, fields),
        }
    }

    /// For machines only.
    pub(super) fn event(&self, event: &str, fields: Value) {
        if self.is_json() {
            emit(event, fields);
        }
    }

    /// Says what file systems refused since the last call.
    pub(super) fn notices(&self) {
        for notice in portable_fs::take_notices() {
            match self.voice {
                Voice::Human => beside_bar(|| console::err(&shown(&notice))),
                Voice::Json => emit("notice", json!({"message": notice})),
            }
        }
    }

    /// A bar over `total` items of work called `stage` (`tokenize`, `train`, ...) counted in
    /// `unit` (`images`, `steps`).
    pub(super) fn meter(&self, stage: &'static str, unit: &'static str, total: u64) -> Meter {
        self.notices();
        let target = match self.voice {
            Voice::Human if is_shown() => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        let line = Arc::new(Mutex::new(Line {
            stage,
            unit,
            total,
            done: 0,
            begun_at: 0,
            begun: Instant::now(),
            message: String::new(),
        }));
        static METERS: AtomicU64 = AtomicU64::new(0);
        let number = METERS.fetch_add(1, Ordering::Relaxed);
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template("{line}") {
            bar.set_style(style.with_key("line", Drawn(Arc::clone(&line))));
        }
        if !bar.is_hidden() {
            *lock(&SHOWN) = Some((number, bar.clone()));
        }
        Meter { voice: self.voice, number, bar, line, failed: 0, last: Instant::now() }
    }
}

/// Whether there is a terminal that can take a line back.
fn is_shown() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes lines while no bar is in the way.
fn beside_bar(write: impl FnOnce()) {
    let shown = lock(&SHOWN).clone();
    match shown {
        Some((_, bar)) => bar.suspend(write),
        None => write(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines for people, with flags for settings.
fn shown(text: &str) -> String {
    text::lines(&flags::remark(text)).into_owned()
}

fn emit(event: &str, mut fields: Value) {
    secrets::take_out(&mut fields);
    flags::name_in(&mut fields);
    let mut line = json!({ "event": event });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    console::out(&line.to_string());
}

/// What a bar says.
#[derive(Debug)]
struct Line {
    stage: &'static str,
    unit: &'static str,
    total: u64,
    done: u64,
    /// What was done before this run, and when it began: they count for no rate.
    begun_at: u64,
    begun: Instant,
    message: String,
}

impl Line {
    fn rate(&self) -> f64 {
        let done = self.done.saturating_sub(self.begun_at) as f64;
        done / self.begun.elapsed().as_secs_f64().max(1e-9)
    }

    /// Seconds that the rest takes; None before anything is known.
    fn remaining(&self) -> Option<f64> {
        let rate = self.rate();
        (rate > 0.0).then(|| self.total.saturating_sub(self.done) as f64 / rate)
    }

    fn draw(&self, columns: usize) -> String {
        let rate = match self.done > self.begun_at {
            true => numbers::rate(self.rate(), ""),
            false => String::new(),
        };
        let eta = match self.remaining() {
            Some(seconds) if self.done < self.total => format!("ETA {}", human_seconds(seconds)),
            _ => String::new(),
        };
        let share = self.done as f64 / self.total.max(1) as f64;
        let places = format!("{}/{}", numbers::count(self.done), numbers::count(self.total));
        let with_unit = format!("{places} {}", self.unit);
        let message = &self.message;
        // From everything to the least; the first that leaves a bar worth looking at.
        let choices: [(&[&str], usize); 6] = [
            (&[&with_unit, &rate, &eta, message], 16),
            (&[&places, &rate, &eta, message], 8),
            (&[&places, &eta, message], 8),
            (&[&places, &eta], 8),
            (&[&places, &eta], 0),
            (&[&places], 0),
        ];
        let mut told = String::new();
        for (parts, bar_min) in choices {
            let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
            told = parts.join("  ");
            let taken = width(self.stage) + width(&told) + 2;
            if bar_min == 0 && taken - 1 <= columns {
                return format!("{} {told}", self.stage);
            }
            if bar_min > 0 && taken + 2 + bar_min <= columns {
                let bar = bar(share, (columns - taken - 2).min(32));
                return format!("{} [{bar}] {told}", self.stage);
            }
        }
        told.chars().take(columns).collect()
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn bar(share: f64, columns: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * columns as f64) as usize;
    let head = if full > 0 && full < columns { ">" } else { "" };
    format!("{:columns$}", "=".repeat(full - head.len()) + head)
}

/// The line as indicatif asks for it.
#[derive(Clone)]
struct Drawn(Arc<Mutex<Line>>);

impl ProgressTracker for Drawn {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(self.clone())
    }

    fn tick(&mut self, _state: &ProgressState, _now: Instant) {}

    fn reset(&mut self, _state: &ProgressState, _now: Instant) {}

    fn write(&self, _state: &ProgressState, out: &mut dyn Write) {
        // A line that fills the last column is wrapped by some terminals, and then not taken back.
        let _ = out.write_str(&lock(&self.0).draw(columns().saturating_sub(1)));
    }
}

/// Columns of the terminal on stderr; 80 where it doesn't say.
fn columns() -> usize {
    // SAFETY: all zeros are a size of nothing, and the call writes nothing but a size there.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut size) == 0).then_some(size)
    };
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0).unwrap_or(80)
}

/// Progress of one stage. Dropping it takes the bar away.
#[derive(Debug)]
pub(super) struct Meter {
    voice: Voice,
    /// Which of the process's meters this is.
    number: u64,
    bar: ProgressBar,
    line: Arc<Mutex<Line>>,
    failed: u64,
    last: Instant,
}

impl Meter {
    /// Between two progress events for machines.
    const EVENT_INTERVAL: Duration = Duration::from_millis(1000);

    /// The work begins now, with `done` items that an earlier run did.
    pub(super) fn begin(&mut self, done: u64) {
        let mut line = lock(&self.line);
        (line.done, line.begun_at, line.begun) = (done, done, Instant::now());
        drop(line);
        self.bar.set_position(done);
    }

    /// One more item done; `failed` if it is one of the failures.
    pub(super) fn step(&mut self, failed: bool) {
        self.failed += u64::from(failed);
        {
            let mut line = lock(&self.line);
            line.done += 1;
            if failed {
                line.message = format!("{} failed", numbers::count(self.failed));
            }
        }
        self.bar.inc(1);
        self.maybe_emit(Value::Null);
    }

    /// Sets the position, with a short text for people and fields for machines.
    pub(super) fn set(&mut self, done: u64, message: String, fields: Value) {
        {
            let mut line = lock(&self.line);
            (line.done, line.message) = (done, message);
        }
        self.bar.set_position(done);
        self.maybe_emit(fields);
    }

    /// Items of this run a second, since it began.
    pub(super) fn rate(&self) -> f64 {
        lock(&self.line).rate()
    }

    /// Seconds since this run began.
    pub(super) fn seconds(&self) -> f64 {
        lock(&self.line).begun.elapsed().as_secs_f64()
    }

    /// Takes the bar away.
    pub(super) fn close(self) {}

    fn maybe_emit(&mut self, extra: Value) {
        if self.voice != Voice::Json || self.last.elapsed() < Self::EVENT_INTERVAL {
            return;
        }
        self.last = Instant::now();
        let line = lock(&self.line);
        let mut fields = json!({
            "stage": line.stage, "unit": line.unit, "done": line.done, "total": line.total,
            "failed": self.failed, "per_second": line.rate(),
            "eta_s": line.remaining().unwrap_or(0.0),
        });
        drop(line);
        if let (Some(fields), Value::Object(extra)) = (fields.as_object_mut(), extra) {
            fields.extend(extra);
        }
        emit("progress", fields);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // The next one may be shown already.
        lock(&SHOWN).take_if(|(number, _)| *number == self.number);
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(done: u64, begun_at: u64, seconds: u64, message: &str) -> Line {
        Line {
            stage: "tokenize",
            unit: "images",
            total: 1_000_000,
            done,
            begun_at,
            begun: Instant::now() - Duration::from_secs(seconds),
            message: message.into(),
        }
    }

    #[test]
    fn a_line_fits_any_terminal_and_says_the_most_that_fits() {
        for done in [0, 1, 1000, 21_820, 999_999, 1_000_000, 2_000_000] {
            for columns in 0..200 {
                let drawn = line(done, 0, 10, "1,234 failed").draw(columns);
                assert!(width(&drawn) <= columns, "{columns}: {drawn}");
            }
        }
        let drawn = |columns| line(21_820, 0, 10, "3 failed").draw(columns);
        assert_eq!(
            drawn(110),
            "tokenize [>                         ] 21,820/1,000,000 images  2,182/s  \
             ETA 7 min 28 s  3 failed"
                .replace("[>                         ]", &format!("[{:32}]", ""))
        );
        assert_eq!(drawn(59), "tokenize [               ] 21,820/1,000,000  ETA 7 min 28 s");
        assert_eq!(drawn(30), "tokenize 21,820/1,000,000");
        assert_eq!(drawn(20), "21,820/1,000,000");
    }

    #[test]
    fn what_an_earlier_run_did_counts_for_no_rate() {
        let resumed = line(900_500, 900_000, 5, "");
        assert!((99.0..=100.0).contains(&resumed.rate()), "{}", resumed.rate());
        let remaining = resumed.remaining().unwrap();
        assert!((995.0..1006.0).contains(&remaining), "{remaining}");
        assert_eq!(line(900_000, 900_000, 5, "").remaining(), None);
        assert!(!line(900_000, 900_000, 5, "").draw(80).contains("ETA"));
    }

    #[test]
    fn bars_grow_with_the_share() {
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0, 7.0].map(|share| bar(share, 8)),
            ["        ", "=>      ", "===>    ", "========", "========"]
        );
    }
}
