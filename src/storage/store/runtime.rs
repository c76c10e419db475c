//! Owns the one runtime of all requests: its threads wait for the network, everybody else's for it.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

use crate::storage::coming::Coming;
use crate::storage::outage;
use crate::util::text;

/// Threads of the runtime: they copy and decrypt.
const THREADS: usize = 2;

fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut builder = Builder::new_multi_thread();
    let made = builder.worker_threads(THREADS).thread_name("vqtok-stores").enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| made))
}

/// Ends a request that nobody waits for.
struct Request(AbortHandle);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a request on the runtime.
fn start<T: Send + 'static>(
    request: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<(Receiver<io::Result<T>>, Request)> {
    let (sender, receiver) = sync_channel(1);
    let task = runtime()?.spawn(async move {
        // There is room for one; who went away needs no answer.
        let _ = sender.send(request.await);
    });
    Ok((receiver, Request(task.abort_handle())))
}

/// Starts a request whose answer is waited for later.
pub(super) fn begin(request: impl Future<Output = io::Result<Bytes>> + Send + 'static) -> Coming {
    match start(request) {
        Ok((receiver, request)) => Coming::new(receiver, Box::new(request)),
        Err(error) => Coming::failed(error),
    }
}

/// Makes a request and waits for its answer. Works from any thread, one of another runtime too.
pub(super) fn wait<T: Send + 'static>(
    request: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    outage::noted(answered(request))
}

/// Makes a request and waits for its answer, which nobody hears of else.
pub(super) fn answered<T: Send + 'static>(
    request: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let (receiver, _request) = start(request)?;
    receiver.recv().map_err(|_| io::Error::other("the connection's thread has ended"))?
}

/// The environment's word for how many seconds a request is repeated.
const PATIENCE: &str = "VQTOK_STORE_PATIENCE";

/// How long a request is repeated that a server can't answer for now, as the environment says.
pub(super) fn patience() -> Duration {
    static SET: OnceLock<Duration> = OnceLock::new();
    // Who can't be understood is told so by `check_patience`, before anything is asked for.
    *SET.get_or_init(|| {
        set_patience().and_then(|value| seconds(&value)).unwrap_or(Duration::from_secs(60))
    })
}

/// A day at most: beyond, a number is a mistake.
fn seconds(value: &OsStr) -> Option<Duration> {
    let seconds = value.to_str()?.parse().ok().filter(|seconds| (1..=86_400).contains(seconds))?;
    Some(Duration::from_secs(seconds))
}

/// Refuses a patience of the environment that is none.
///
/// # Errors
/// One that is no number of seconds.
pub(super) fn check_patience(set: Option<OsString>) -> io::Result<()> {
    match set.filter(|value| seconds(value).is_none()) {
        None => Ok(()),
        Some(value) => {
            let value = text::quoted(&text::printable(&value.to_string_lossy()));
            let text = format!(
                "the environment's {PATIENCE} is {value}: write the seconds that a store is asked \
                 again for, from 1 to 86400"
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// What the environment says of patience.
pub(super) fn set_patience() -> Option<OsString> {
    std::env::var_os(PATIENCE)
}

/// Waits before a request is repeated: from 0.1 s on, twice as long each time, 5 s at most.
pub(super) async fn pause(repeats: u32) {
    let longest = Duration::from_millis(100 << repeats.min(6)).min(Duration::from_secs(5));
    // Many workers that were refused at once mustn't come back at once.
    let share =
        0.5 + 0.5 * f64::from(std::process::id().wrapping_mul(2_654_435_769) >> 16) / 65536.0;
    tokio::time::sleep(longest.mul_f64(share)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_minute_or_what_the_environment_says() {
        assert_eq!(patience(), Duration::from_secs(60));
        assert_eq!(seconds(OsStr::new("600")), Some(Duration::from_secs(600)));
        assert!(check_patience(None).is_ok() && check_patience(Some("1".into())).is_ok());
        for word in ["", "0", "-1", "1.5", "a minute", "86401"] {
            let said = check_patience(Some(word.into())).unwrap_err().to_string();
            assert!(said.starts_with("the environment's VQTOK_STORE_PATIENCE is \""), "{said}");
        }
    }
}
