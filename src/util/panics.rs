//! Owns what becomes of panics. Those of third-party readers become values and print nothing; any
//! other is a bug of ours: the first one is remembered with its stage and key, and the command ends
//! with one line about it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use crate::util::fail_point;
use crate::util::text::printable;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where this thread's work is: stages with their keys, the innermost last.
    static WHERE: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

type Place = (&'static str, Option<String>);

/// Whether panics are remembered instead of printed.
static RECORDING: AtomicBool = AtomicBool::new(false);
static FIRST: Mutex<Option<Bug>> = Mutex::new(None);

/// The first panic that was nobody's rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bug {
    /// Where it happened; None on a thread that doesn't say.
    stage: Option<&'static str>,
    key: Option<String>,
    message: String,
    /// `src/file.rs:12`
    source: String,
}

impl Bug {
    /// One line, without the program's name.
    pub(crate) fn line(&self) -> String {
        let Bug { key, message, source, .. } = self;
        let at = key.as_ref().map(|key| format!(" at {}", printable(key))).unwrap_or_default();
        format!(
            "internal error in {}{at}: {} ({source}); please report it at {}/issues",
            self.stage(),
            printable(message),
            env!("CARGO_PKG_REPOSITORY")
        )
    }

    /// What was done when it happened.
    pub(crate) fn stage(&self) -> &str {
        self.stage.unwrap_or("vqtok")
    }

    /// What it was done to.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// The stage that this thread is in until it is dropped.
pub(crate) struct At(());

/// Says that this thread is in `stage` from here on, and with what: an image's key, a file. Passes
/// the stage's fail point.
pub(crate) fn at(stage: &'static str, key: Option<&str>) -> At {
    WHERE.with_borrow_mut(|places| places.push((stage, key.map(str::to_string))));
    let at = At(());
    fail_point::stage(stage);
    at
}

impl Drop for At {
    fn drop(&mut self) {
        let place = WHERE.with_borrow_mut(Vec::pop);
        // A panic on a thread of the pool comes to whoever waits for it, who knows the stage.
        if let (true, Some((stage, key))) = (std::thread::panicking(), place)
            && let Some(first) = lock(&FIRST).as_mut()
            && first.stage.is_none()
        {
            (first.stage, first.key) = (Some(stage), key);
        }
    }
}

/// The bug behind a panic that no hook saw: one that was thrown again.
pub(crate) fn bug_of(payload: &(dyn Any + Send)) -> Bug {
    Bug { stage: None, key: None, message: message(payload), source: "rethrown".into() }
}

/// From here on no panic prints anything: the first one is for [`take_bug`].
pub(crate) fn record_panics() {
    RECORDING.store(true, Ordering::Relaxed);
    install();
}

/// The first panic outside of [`catch`] on any thread, if there was one.
pub(crate) fn take_bug() -> Option<Bug> {
    lock(&FIRST).take()
}

/// Runs `work`; a panic inside it comes back as the panic's message, and nothing is printed.
///
/// The state `work` touches must be thrown away after a panic: callers pass readers that they
/// drop either way.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    install();
    let before = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    outcome.map_err(|payload| message(payload.as_ref()))
}

/// Installs, once, a hook that says nothing for threads inside [`catch`], remembers what others
/// panic of where that is wanted, and leaves it to the hook that was there before elsewhere.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                return;
            }
            match RECORDING.load(Ordering::Relaxed) {
                true => remember(info),
                false => previous(info),
            }
        }));
    });
}

fn remember(info: &PanicHookInfo<'_>) {
    let mut first = lock(&FIRST);
    if first.is_some() {
        return;
    }
    // While a stage is being entered or left nothing panics, but this must not in any case.
    let place = WHERE.try_with(|places| places.try_borrow().ok().and_then(|p| p.last().cloned()));
    let (stage, key) = place.ok().flatten().map_or((None, None), |(s, k)| (Some(s), k));
    let source = info.location().map_or("unknown place".to_string(), |place| {
        format!("{}:{}", shortened(place.file()), place.line())
    });
    let message = text(info.payload()).lines().map(str::trim).collect::<Vec<_>>().join(", ");
    *first = Some(Bug { stage, key, message, source });
}

/// A source file without the folders of the machine that built it.
fn shortened(file: &str) -> &str {
    let after = |mark: &str| file.rfind(mark).map(|at| &file[at + mark.len()..]);
    let registry = after("/registry/src/").and_then(|rest| rest.split_once('/')).map(|(_, r)| r);
    registry.or_else(|| after("/library/")).unwrap_or(file)
}

/// The first line of what was panicked with.
fn message(payload: &(dyn Any + Send)) -> String {
    text(payload).lines().next().unwrap_or_default().to_string()
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown reason")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_messages_and_values_pass() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| -> u8 { panic!("row {} of 2\nmore", 3) }), Err("row 3 of 2".into()));
        assert!(!QUIET.get());
    }

    #[test]
    fn a_bug_is_one_line_whatever_it_says() {
        let bug = Bug {
            stage: Some("read"),
            key: Some("a\nb.png".into()),
            message: "it's \"so\" \u{1b}[31m".into(),
            source: shortened("/root/.cargo/registry/src/index-1f/png-0.18/src/a.rs").into(),
        };
        let line = bug.line();
        let begin = "internal error in read at a\\nb.png: it's \"so\" \\u{1b}[31m \
                     (png-0.18/src/a.rs); please report it at ";
        assert!(line.starts_with(begin), "{line}");
        assert!(!line.contains(['\n', '\u{1b}']));
        let bare = Bug { stage: None, key: None, ..bug };
        assert!(bare.line().starts_with("internal error in vqtok: it's"), "{}", bare.line());
        assert_eq!(shortened("/rustc/abc/library/core/src/x.rs"), "core/src/x.rs");
        assert_eq!(shortened("src/x.rs"), "src/x.rs");
    }
}
