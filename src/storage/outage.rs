//! Owns outages: a store that can't be reached, or lets nobody in any more. Nothing is wrong with
//! what was asked for then, so that nobody may take it for lost.
//!
//! What fails in a thread by an outage can pass through readers of formats, which make texts of
//! errors; so the thread itself remembers it, for who asks by [`watching`].

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, GO_ON, Result};
use crate::util::text;

/// What an error of an outage holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outage {
    /// What is to be said of it.
    pub(super) why: String,
    /// Whether the store has ever answered, if only that it is busy: an endpoint that hasn't may be
    /// a wrong one, which no patience mends.
    pub(super) passes: bool,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Outage {}

/// The error of an outage.
#[cfg(any(feature = "stores", test))]
pub(super) fn error(kind: io::ErrorKind, outage: Outage) -> io::Error {
    io::Error::new(kind, outage)
}

/// The outage that an error is of.
pub(super) fn of(error: &io::Error) -> Option<Outage> {
    error.get_ref()?.downcast_ref::<Outage>().cloned()
}

thread_local! {
    /// The last one that this thread met.
    static LAST: RefCell<Option<Outage>> = const { RefCell::new(None) };
}

/// The outages that threads have met: how many, and the last one.
#[derive(Default)]
struct Met(Mutex<(u64, String)>);

/// Those of this process. Whoever tests what becomes of an outage keeps some of its own, since every
/// other test's jobs hear of these.
static MET: Met = Met(Mutex::new((0, String::new())));

impl Met {
    fn so_far(&self) -> MutexGuard<'_, (u64, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted<T>(&self, answer: io::Result<T>) -> io::Result<T> {
        if let Some(outage) = answer.as_ref().err().and_then(of) {
            let mut met = self.so_far();
            *met = (met.0 + 1, outage.why.clone());
            LAST.with(|last| *last.borrow_mut() = Some(outage));
        }
        answer
    }

    fn complete<T>(&self, place: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.so_far().0;
        let done = work();
        let (count, why) = self.so_far().clone();
        match done {
            Err(Error::Busy(_) | Error::Interrupted | Error::Internal(_)) => done,
            _ if count == before => done,
            Err(Error::Io { path, .. } | Error::Corrupt { path, .. }) => Err(ended(&path, &why)),
            _ => Err(ended(place, &why)),
        }
    }
}

/// The same answer, remembered by this thread where it is an outage.
pub(super) fn noted<T>(answer: io::Result<T>) -> io::Result<T> {
    MET.noted(answer)
}

/// Does work on what lies at `place` that takes whatever can't be read for lost or damaged, on
/// several threads: where an outage was met meanwhile, by whomever, that is how it ends.
///
/// # Errors
/// Those of `work`; [`Error::Busy`] in place of them and of what an outage left of it.
pub(crate) fn complete<T>(place: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    MET.complete(place, work)
}

fn ended(place: &Path, why: &str) -> Error {
    Error::busy(format!("{}: {why}; {GO_ON}", text::path(place)))
}

/// Does `act`, and says which outage this thread met meanwhile.
pub(crate) fn watching<T>(act: impl FnOnce() -> T) -> (T, Option<String>) {
    let (done, met) = watched(act);
    (done, met.map(|outage| outage.why))
}

fn watched<T>(act: impl FnOnce() -> T) -> (T, Option<Outage>) {
    let before = LAST.with(RefCell::take);
    let done = act();
    let met = LAST.with(RefCell::take);
    // Whoever watches around this one hears of it too.
    LAST.with(|last| *last.borrow_mut() = met.clone().or(before));
    (done, met)
}

/// Does work that can go on another time: where an outage ends it, that is what its error says.
///
/// # Errors
/// Those of `work`; [`Error::Busy`] in place of those of an outage.
pub(crate) fn resumable<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    ending(work, |_| true)
}

/// Looks at what is there before any work: where a store that has answered before, or says that it is
/// busy, ends it, the same can be tried another time. Where nothing has ever answered, the address
/// is likely wrong, and its error stays.
///
/// # Errors
/// Those of `work`; [`Error::Busy`] in place of those of an outage that passes.
pub(crate) fn opening<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    ending(work, |outage| outage.passes)
}

fn ending<T>(work: impl FnOnce() -> Result<T>, is: impl Fn(&Outage) -> bool) -> Result<T> {
    let (done, met) = watched(work);
    let met = met.filter(&is);
    done.map_err(|error| match (error, met) {
        (Error::Io { path, source }, met) => match of(&source).filter(is).or(met) {
            Some(outage) => ended(&path, &outage.why),
            None => Error::Io { path, source },
        },
        (Error::Corrupt { path, .. }, Some(outage)) => ended(&path, &outage.why),
        (error, _) => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn down_since(passes: bool) -> io::Error {
        error(ErrorKind::Other, Outage { why: "down".into(), passes })
    }

    #[test]
    fn what_never_answered_may_be_no_store_at_all() {
        let look = |passes| move || Err::<(), _>(Error::io("s3://b/k")(down_since(passes)));
        assert_eq!(opening(look(true)).unwrap_err().exit_code(), 75);
        assert_eq!(opening(look(false)).unwrap_err().exit_code(), 2);
        assert_eq!(resumable(look(false)).unwrap_err().exit_code(), 75);
    }

    #[test]
    fn work_that_an_outage_ends_can_go_on() {
        let down = || Error::io("s3://b/k")(down_since(true));
        let ended = resumable::<()>(|| Err(down())).unwrap_err();
        assert_eq!(ended.exit_code(), 75);
        assert_eq!(ended.to_string(), format!("s3://b/k: down; {GO_ON}"));
        let full = || Error::io("/x")(io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(resumable::<()>(|| Err(full())).unwrap_err().exit_code(), 2);
        let swallowed = || {
            let _ = Met::default().noted::<()>(Err(down_since(true)));
            Err(Error::corrupt("s3://b/k", "no Parquet file"))
        };
        assert_eq!(resumable::<()>(swallowed).unwrap_err().exit_code(), 75);
    }

    #[test]
    fn what_an_outage_left_of_work_is_no_result() {
        let (met, place) = (Met::default(), Path::new("s3://b/out"));
        let down = || met.noted::<()>(Err(down_since(true))).is_err();
        let elsewhere = || Ok(std::thread::scope(|scope| scope.spawn(down).join().unwrap()));
        let ended = met.complete(place, elsewhere).unwrap_err();
        assert_eq!(ended.to_string(), format!("s3://b/out: down; {GO_ON}"));
        let interrupted = met.complete::<()>(place, || elsewhere().and(Err(Error::Interrupted)));
        assert!(matches!(interrupted, Err(Error::Interrupted)));
        assert!(met.complete(place, || Ok(())).is_ok(), "an older one is none of its");
    }

    #[test]
    fn outages_are_heard_of_whatever_becomes_of_their_errors() {
        let met = Met::default();
        let down = || met.noted::<()>(Err(down_since(true))).is_err();
        let lost = || met.noted::<()>(Err(ErrorKind::NotFound.into())).is_err();
        assert_eq!(watching(lost), (true, None));
        assert_eq!(watching(down), (true, Some("down".into())));
        assert_eq!(watching(lost), (true, None), "an older one is none of its");
        let nested = || watching(down).1.is_some() && watching(lost).1.is_none();
        assert_eq!(watching(nested), (true, Some("down".into())));
        let elsewhere = || std::thread::scope(|scope| scope.spawn(down).join().unwrap());
        assert_eq!(watching(elsewhere), (true, None), "another thread's");
    }
}
