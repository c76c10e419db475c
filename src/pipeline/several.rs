//! Owns runs on several engines, such as those of a machine's cards: each has a pipeline of its own over
//! every N-th partition, so that what a shard holds is what one engine would have made. Must not know:
//! what an engine is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::events::{Event, Observer};
use super::run::run_with;
use super::settings::{Settings, Summary};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tokens::{FailureRow, Plan, Receipt};

/// How often the observer is asked whether to stop while nothing is told.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// An event on its way to the observer's thread.
enum Told {
    Image(Option<FailureRow>),
    Partition(Receipt),
    Kept(usize, String),
    BatchHalved(usize),
}

/// The observer of one engine's run: passes everything on, and hears whether all are to stop.
struct Remote<'a> {
    told: Sender<Told>,
    stop: &'a AtomicBool,
}

impl Observer for Remote<'_> {
    fn event(&mut self, event: &Event<'_>) {
        let told = match event {
            Event::Image { failure } => Told::Image(failure.cloned()),
            Event::Partition(receipt) => Told::Partition((*receipt).clone()),
            Event::Kept { partition, reason } => Told::Kept(*partition, (*reason).to_owned()),
            Event::BatchHalved { images } => Told::BatchHalved(*images),
        };
        // The other end is there until all runs have ended.
        let _ = self.told.send(told);
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// [`run`](super::run()) on all engines, which share the threads that decode.
///
/// # Errors
/// As for that; an error of one ends all.
pub(crate) fn run_on(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    engines: &mut [&mut dyn Engine],
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let threads = rayon::current_num_threads();
    if let [engine] = engines {
        return run_with(settings, plan, partitions, *engine, observer, threads);
    }
    let count = engines.len();
    let each = threads.div_ceil(count.max(1));
    let stop = &AtomicBool::new(false);
    let (told_in, told) = bounded::<Told>(1024);
    std::thread::scope(|scope| {
        let mut runs = Vec::with_capacity(count);
        for (index, engine) in engines.iter_mut().enumerate() {
            let mine: Vec<usize> = partitions.iter().copied().skip(index).step_by(count).collect();
            let mut remote = Remote { told: told_in.clone(), stop };
            let work = move || {
                let done = run_with(settings, plan, &mine, *engine, &mut remote, each);
                if done.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                done
            };
            let named = std::thread::Builder::new().name(format!("vqtok-writer-{index}"));
            runs.push(named.spawn_scoped(scope, work).map_err(Error::io("thread vqtok-writer")));
        }
        drop(told_in);
        if runs.iter().any(Result::is_err) {
            stop.store(true, Ordering::Relaxed);
        }
        listen(&told, stop, observer);
        let ended = runs
            .into_iter()
            .map(|run| run?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        together(ended.collect())
    })
}

/// Passes on what is told until all runs have ended.
fn listen(told: &Receiver<Told>, stop: &AtomicBool, observer: &mut dyn Observer) {
    loop {
        if observer.interrupted() {
            stop.store(true, Ordering::Relaxed);
        }
        match told.recv_timeout(POLL_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(Told::Image(failure)) => {
                observer.event(&Event::Image { failure: failure.as_ref() });
            }
            Ok(Told::Partition(receipt)) => observer.event(&Event::Partition(&receipt)),
            Ok(Told::Kept(partition, reason)) => {
                observer.event(&Event::Kept { partition, reason: &reason });
            }
            Ok(Told::BatchHalved(images)) => observer.event(&Event::BatchHalved { images }),
        }
    }
}

/// The sum of all, or the error that ended the others.
fn together(ended: Vec<Result<Summary>>) -> Result<Summary> {
    let mut all = Summary::default();
    let mut interrupted = None;
    for done in ended {
        match done {
            Ok(one) => all.add(one),
            Err(error @ Error::Interrupted) => interrupted = Some(error),
            Err(error) => return Err(error),
        }
    }
    interrupted.map_or(Ok(all), Err)
}
