//! Owns the sign of life of a worker: an event each second while a partition is in work, whatever the
//! work waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::guard::Guard;
use crate::cli::progress::Reporter;
use crate::error::{Error, Result};
use crate::job::{Event, Observer};
use crate::pipeline;

const INTERVAL: Duration = Duration::from_secs(1);

/// The partition in work.
struct Work {
    partition: usize,
    images: u64,
    done: u64,
    failed: u64,
    begun: Instant,
}

/// Who follows the work on partitions.
pub(super) struct Heartbeat {
    work: Arc<Mutex<Option<Work>>>,
    guard: Guard,
}

impl Heartbeat {
    /// Beats from here on, while there is work.
    pub(super) fn start(reporter: Reporter, guard: Guard) -> Result<Heartbeat> {
        let work = Arc::new(Mutex::new(None));
        let shown = Arc::clone(&work);
        let beat = move || {
            loop {
                std::thread::sleep(INTERVAL);
                // Held while the line is written, so that none comes behind the receipt.
                if let Some(work) = &*lock(&shown) {
                    tell(&reporter, work);
                }
            }
        };
        std::thread::Builder::new()
            .name("vqtok-heartbeat".into())
            .spawn(beat)
            .map_err(Error::io("thread vqtok-heartbeat"))?;
        Ok(Heartbeat { work, guard })
    }

    pub(super) fn begin(&self, partition: usize, images: u64) {
        let begun = Instant::now();
        *lock(&self.work) = Some(Work { partition, images, done: 0, failed: 0, begun });
    }

    /// The work is over, well or not; seconds that it took.
    pub(super) fn end(&self) -> f64 {
        lock(&self.work).take().map_or(0.0, |work| work.begun.elapsed().as_secs_f64())
    }
}

impl Observer for Heartbeat {
    fn event(&mut self, event: &Event<'_>) {
        let Event::Tokenizing(pipeline::Event::Image { failure }) = event else { return };
        if let Some(work) = lock(&self.work).as_mut() {
            work.done += 1;
            work.failed += u64::from(failure.is_some());
        }
    }

    fn interrupted(&self) -> bool {
        self.guard.is_raised()
    }
}

fn tell(reporter: &Reporter, work: &Work) {
    let Work { partition, images, done, failed, begun } = work;
    let fields = json!({"partition": partition, "done": done, "images": images, "failed": failed,
                        "seconds": begun.elapsed().as_secs_f64()});
    reporter.event("heartbeat", fields);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
