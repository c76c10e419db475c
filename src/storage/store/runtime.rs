//! Owns the one runtime of all requests: its threads wait for the network, everybody else's for it.

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
    let (receiver, _request) = start(request)?;
    let ended = |_| io::Error::other("the connection's thread has ended");
    outage::noted(receiver.recv().map_err(ended)?)
}

/// How long a request is repeated that a server can't answer for now.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits before a request is repeated: from 0.1 s on, twice as long each time, 5 s at most.
pub(super) async fn pause(repeats: u32) {
    let longest = Duration::from_millis(100 << repeats.min(6)).min(Duration::from_secs(5));
    // Many workers that were refused at once mustn't come back at once.
    let share =
        0.5 + 0.5 * f64::from(std::process::id().wrapping_mul(2_654_435_769) >> 16) / 65536.0;
    tokio::time::sleep(longest.mul_f64(share)).await;
}
