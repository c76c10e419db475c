//! Owns the threads of a run and the channels between them: the reader, the decoders, the engine's
//! thread; the calling thread writes.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, bounded};

use super::encode::{Awaited, Done, InFlight, Views, encode};
use super::events::Observer;
use super::planned::{Task, image_of, planned_file};
use super::row::Rows;
use super::settings::{Settings, Sizes, Summary};
use super::write::write;
use crate::data::prepare;
use crate::data::source::fetch::Fetcher;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tokens::Plan;
use crate::util::compute_pool::ComputePool;
use crate::util::panics;
use crate::util::worker_pool::{Timer, WorkerPool};

/// Tokenizes `partitions` (ascending, none of them committed) of `plan`.
///
/// # Errors
/// The first real error of any stage; [`Error::Interrupted`] where the observer says so. Whatever was
/// committed before stays and is right; the partition in work leaves nothing behind.
pub fn run(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    engine: &mut dyn Engine,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    run_with(settings, plan, partitions, engine, observer, rayon::current_num_threads())
}

/// The same with so many threads that decode.
pub(super) fn run_with(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    engine: &mut dyn Engine,
    observer: &mut dyn Observer,
    threads: usize,
) -> Result<Summary> {
    let in_flight = settings.images_in_flight();
    let (items_in, items) = bounded::<Awaited>(in_flight);
    let (done_in, done) = bounded::<Done>(settings.outcomes_in_flight());
    let pool = &decoders(settings, threads)?;
    let rows = Rows::of(settings, plan)?;
    let compute = &ComputePool::of_caller()?;
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("vqtok-reader".into())
            .spawn_scoped(scope, move || read(settings, plan, partitions, pool, items_in, stop))
            .map_err(Error::io("thread vqtok-reader"))?;
        let encoder = std::thread::Builder::new()
            .name("vqtok-engine".into())
            .spawn_scoped(scope, move || {
                compute.run(|| encode(settings, &rows, engine, items, done_in, stop))
            })
            .map_err(Error::io("thread vqtok-engine"))?;
        // The writer is this thread. Where it fails, dropping `done` ends the engine, which ends
        // the reader; where one of these fails, `done` runs dry here. Its error is the real one.
        let written = write(settings, plan, partitions, done, stop, observer);
        pool.close();
        // The threads return their errors and don't panic; if one does, that is a bug and goes on
        // to the command's end, which tells it.
        let encoded = encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        first_error(read, encoded, written)
    })
}

/// The writer's summary, unless a stage before it failed: what is downstream of a failure only
/// sees that its input ended early.
fn first_error(read: Result<()>, encoded: Result<()>, written: Result<Summary>) -> Result<Summary> {
    read?;
    encoded?;
    written
}

/// The threads that read and decode: usually as many as the rayon pool has, which the engine may fill.
fn decoders(settings: &Settings, threads: usize) -> Result<WorkerPool<Task, Views>> {
    let (preparation, sizes) = (settings.preparation.clone(), settings.sizes);
    let work = move |(image, fetched, bucket): Task, timer: &Timer| {
        let reading = panics::at("read", Some(&image.key));
        let bytes = fetched.bytes(&image, sizes == Sizes::Planned, &preparation.limits)?;
        drop(reading);
        let _decoding = panics::at("decode", Some(&image.key));
        timer.start();
        prepare::views_from_bytes(&bytes, &image.key, bucket, &preparation)
    };
    WorkerPool::new(threads, settings.images_in_flight(), settings.decode_time_max, work)
}

/// Sends every image of the partitions in order. The channel holds places in line; each place is
/// filled by its decoder, in any order. What can only be read in its order is read here.
fn read(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    pool: &WorkerPool<Task, Views>,
    items: Sender<Awaited>,
    stop: &AtomicBool,
) -> Result<()> {
    let _at = panics::at("read the plan", None);
    let limits = settings.preparation.limits;
    let mut fetcher = match settings.sizes {
        Sizes::Planned => Fetcher::new(limits),
        Sizes::Present => Fetcher::of_present(limits),
    };
    for &partition in partitions {
        for row in plan.partition(partition)? {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let mut image = image_of(plan, &row);
            image.planned = planned_file(plan, &row);
            let fetched = fetcher.fetch(&image);
            let prepared = pool.submit((image, fetched, row.bucket_size()));
            if items.send(InFlight { partition, plan: row, prepared }).is_err() {
                return Ok(()); // the engine ended; its error is the one to report
            }
        }
    }
    Ok(())
}
