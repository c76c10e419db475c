//! Owns a pool of threads with a time limit for each task. Must not know: what the tasks are.
//!
//! A thread can't be stopped from outside. Where a task's timed part takes longer than it may, the
//! task is given up: its handle tells so, another thread takes the place of the one that hangs, and
//! that one is left alone; should it ever come back, it ends. So a decoder that hangs costs one
//! image and what it holds, and no number of them brings the job to a halt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use crate::error::{Error, Result};

/// Polling interval of blocked senders and receivers.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Where a task is.
enum TaskPhase {
    /// In the queue, or in the part that isn't timed.
    Untimed,
    /// In its timed part, since then.
    Timed(Instant),
    Done,
    GivenUp,
}

/// What starts the timed part of a task.
pub(crate) struct Timer<'a>(&'a Mutex<TaskPhase>);

impl Timer<'_> {
    /// From here on the task may take as long as [`TaskHandle::wait`] says.
    pub(crate) fn start(&self) {
        *lock(self.0) = TaskPhase::Timed(Instant::now());
    }
}

struct Task<T, R> {
    input: T,
    place: Sender<R>,
    phase: Arc<Mutex<TaskPhase>>,
}

type Work<T, R> = dyn Fn(T, &Timer) -> R + Send + Sync;

/// A thread, and what it is at.
struct Worker {
    handle: JoinHandle<()>,
    current: Arc<Mutex<Option<Arc<Mutex<TaskPhase>>>>>,
}

struct Shared<T, R> {
    tasks: Receiver<Task<T, R>>,
    work: Box<Work<T, R>>,
    workers: Mutex<Vec<Worker>>,
    over: AtomicBool,
    limit: Duration,
}

/// Threads that do one kind of work. Dropping it ends them.
pub(crate) struct WorkerPool<T: Send + 'static, R: Send + 'static> {
    queue: Option<Sender<Task<T, R>>>,
    shared: Arc<Shared<T, R>>,
}

/// A place for a result.
pub(crate) struct TaskHandle<T, R> {
    result: Receiver<R>,
    phase: Arc<Mutex<TaskPhase>>,
    shared: Arc<Shared<T, R>>,
}

/// How waiting for a result ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WaitOutcome<R> {
    Done(R),
    /// The timed part took too long.
    GivenUp,
    /// `stop` was raised.
    Stopped,
    /// The pool was closed before the task began.
    Closed,
}

impl<T: Send + 'static, R: Send + 'static> WorkerPool<T, R> {
    /// `threads` threads that do `work`; at most `queue_max` tasks wait. The part of a task from
    /// [`Timer::start`] on may take `limit`.
    pub(crate) fn new(
        threads: usize,
        queue_max: usize,
        limit: Duration,
        work: impl Fn(T, &Timer) -> R + Send + Sync + 'static,
    ) -> Result<WorkerPool<T, R>> {
        let (queue, tasks) = bounded(queue_max);
        let workers = Mutex::new(Vec::new());
        let over = AtomicBool::new(false);
        let shared = Arc::new(Shared { tasks, work: Box::new(work), workers, over, limit });
        let pool = WorkerPool { queue: Some(queue), shared };
        (0..threads.max(1)).try_for_each(|_| spawn_worker(&pool.shared))?;
        Ok(pool)
    }

    /// Puts a task in the queue, waiting for a place there, or for [`WorkerPool::close`].
    pub(crate) fn submit(&self, input: T) -> TaskHandle<T, R> {
        let (place, result) = bounded(1);
        let phase = Arc::new(Mutex::new(TaskPhase::Untimed));
        let handle =
            TaskHandle { result, phase: Arc::clone(&phase), shared: Arc::clone(&self.shared) };
        let mut task = Task { input, place, phase };
        // `shared` holds the queue's other end, so that it is never disconnected.
        while let (Some(queue), false) = (&self.queue, self.shared.over.load(Ordering::Relaxed)) {
            match queue.send_timeout(task, POLL_INTERVAL) {
                Err(SendTimeoutError::Timeout(back)) => task = back,
                _ => break,
            }
        }
        handle
    }

    /// No task that hasn't begun will be, and nobody waits for a place in the queue any more, even where
    /// every thread hangs.
    pub(crate) fn close(&self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl<T: Send + 'static, R: Send + 'static> TaskHandle<T, R> {
    /// The task's result, unless its timed part takes too long or `stop` is raised before.
    ///
    /// # Errors
    /// No thread could be made in place of one that hangs; or the task panicked, which is a bug.
    pub(crate) fn wait(self, stop: &AtomicBool) -> Result<WaitOutcome<R>> {
        loop {
            match self.result.recv_timeout(POLL_INTERVAL.min(self.shared.limit)) {
                Ok(result) => return Ok(WaitOutcome::Done(result)),
                Err(RecvTimeoutError::Disconnected) if self.shared.over.load(Ordering::Relaxed) => {
                    return Ok(WaitOutcome::Closed);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::internal("a decoder thread has panicked"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if give_up(&self.phase, self.shared.limit) {
                spawn_worker(&self.shared)?;
                return Ok(WaitOutcome::GivenUp);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(WaitOutcome::Stopped);
            }
        }
    }
}

impl<T: Send + 'static, R: Send + 'static> Drop for WorkerPool<T, R> {
    /// Joins every thread, except those that hang: they are left to the end of the process.
    fn drop(&mut self) {
        self.close();
        self.queue = None;
        // The tasks in the queue hold what their handles wait for.
        while self.shared.tasks.try_recv().is_ok() {}
        let workers = std::mem::take(&mut *lock(&self.shared.workers));
        for Worker { handle, current } in workers {
            while !handle.is_finished() {
                let phase = lock(&current).clone();
                if phase.is_some_and(|phase| is_given_up(&phase, self.shared.limit)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            if handle.is_finished() {
                let _ = handle.join(); // A panic was told by the task's handle.
            }
        }
    }
}

/// Adds a thread.
fn spawn_worker<T: Send + 'static, R: Send + 'static>(shared: &Arc<Shared<T, R>>) -> Result<()> {
    let current = Arc::new(Mutex::new(None));
    let (own, task) = (Arc::clone(shared), Arc::clone(&current));
    let handle = std::thread::Builder::new()
        .name("vqtok-decoder".into())
        .spawn(move || worker_loop(&own, &task))
        .map_err(Error::io("thread vqtok-decoder"))?;
    lock(&shared.workers).push(Worker { handle, current });
    Ok(())
}

fn worker_loop<T, R>(shared: &Shared<T, R>, current: &Mutex<Option<Arc<Mutex<TaskPhase>>>>) {
    while let Ok(Task { input, place, phase }) = shared.tasks.recv() {
        if shared.over.load(Ordering::Relaxed) {
            continue;
        }
        *lock(current) = Some(Arc::clone(&phase));
        let result = (shared.work)(input, &Timer(&phase));
        let before = std::mem::replace(&mut *lock(&phase), TaskPhase::Done);
        if matches!(before, TaskPhase::GivenUp) {
            return; // Another thread has this one's place.
        }
        // A closed place means that nobody waits any more.
        let _ = place.send(result);
        *lock(current) = None;
    }
}

/// Gives a task up where it has taken too long; says whether it did.
fn give_up(phase: &Mutex<TaskPhase>, limit: Duration) -> bool {
    let mut phase = lock(phase);
    let late = matches!(*phase, TaskPhase::Timed(since) if since.elapsed() >= limit);
    if late {
        *phase = TaskPhase::GivenUp;
    }
    late
}

fn is_given_up(phase: &Mutex<TaskPhase>, limit: Duration) -> bool {
    give_up(phase, limit) || matches!(*lock(phase), TaskPhase::GivenUp)
}

/// A phase is whole whoever panicked while it was locked.
fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    static NEVER: AtomicBool = AtomicBool::new(false);

    #[test]
    fn results_come_to_their_handles_whoever_was_faster() {
        let work = |n: u64, timer: &Timer| {
            timer.start();
            std::thread::sleep(Duration::from_millis(n % 5));
            n * n
        };
        let pool = WorkerPool::new(3, 8, Duration::from_secs(60), work).unwrap();
        let handles: Vec<_> = std::thread::scope(|scope| {
            let submit = scope.spawn(|| (0..50).map(|n| pool.submit(n)).collect::<Vec<_>>());
            submit.join().unwrap()
        });
        for (n, handle) in (0..50).zip(handles) {
            assert_eq!(handle.wait(&NEVER).unwrap(), WaitOutcome::Done(n * n));
        }
        assert_eq!(lock(&pool.shared.workers).len(), 3);
    }

    /// Every third task hangs, on fewer threads than hang.
    #[test]
    fn tasks_that_hang_cost_themselves_alone() {
        let hang = Arc::new(AtomicBool::new(true));
        let held = Arc::clone(&hang);
        let work = move |n: u64, timer: &Timer| {
            timer.start();
            while n % 3 == 1 && held.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            n
        };
        let pool = WorkerPool::new(2, 30, Duration::from_millis(40), work).unwrap();
        let handles: Vec<_> = (0..15).map(|n| pool.submit(n)).collect();
        for (n, handle) in (0..15).zip(handles) {
            let expected = if n % 3 == 1 { WaitOutcome::GivenUp } else { WaitOutcome::Done(n) };
            assert_eq!(handle.wait(&NEVER).unwrap(), expected, "task {n}");
        }
        assert_eq!(lock(&pool.shared.workers).len(), 7);
        // Ends although five threads hang.
        drop(pool);
        hang.store(false, Ordering::Relaxed);
    }

    /// Reading from a disk that sleeps is no decoder that hangs.
    #[test]
    fn what_comes_before_the_timer_takes_its_time() {
        let work = |(): (), timer: &Timer| {
            std::thread::sleep(Duration::from_millis(60));
            timer.start();
        };
        let pool = WorkerPool::new(1, 1, Duration::from_millis(20), work).unwrap();
        assert_eq!(pool.submit(()).wait(&NEVER).unwrap(), WaitOutcome::Done(()));
    }

    /// The device fails while every decoder hangs: the reader must not wait for a place in the queue.
    #[test]
    fn a_closed_pool_takes_nothing_and_holds_nobody() {
        let hang = Arc::new(AtomicBool::new(true));
        let held = Arc::clone(&hang);
        let work = move |(): (), timer: &Timer| {
            timer.start();
            while held.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let pool = WorkerPool::new(1, 1, Duration::from_millis(300), work).unwrap();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let submit = scope.spawn(|| (0..9).map(|_| pool.submit(())).collect::<Vec<_>>());
            std::thread::sleep(Duration::from_millis(20));
            pool.close();
            let last = submit.join().unwrap().pop().unwrap();
            assert_eq!(last.wait(&NEVER).unwrap(), WaitOutcome::Closed);
        });
        drop(pool);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        hang.store(false, Ordering::Relaxed);
    }

    #[test]
    fn a_stop_is_heard_while_waiting_and_a_panic_is_an_error() {
        let work = |panic: bool, _: &Timer| {
            std::thread::sleep(Duration::from_millis(150));
            assert!(!panic, "for the test");
        };
        let pool = WorkerPool::new(2, 2, Duration::from_secs(60), work).unwrap();
        let (slow, bad) = (pool.submit(false), pool.submit(true));
        assert_eq!(slow.wait(&AtomicBool::new(true)).unwrap(), WaitOutcome::Stopped);
        assert!(bad.wait(&NEVER).unwrap_err().to_string().contains("has panicked"));
    }
}
