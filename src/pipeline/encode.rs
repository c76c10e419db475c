//! Owns the engine's thread: batches of one size, their codes, and the order of the outcomes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::identity::tokens_max;
use super::planned::Task;
use super::row::Rows;
use super::settings::Settings;
use crate::data::prepare::Prepared;
use crate::engine::{Encoded, Engine, Images, Submitted, oom_split};
use crate::error::{Error, Reject, Result, Stage};
use crate::tokens::{FailureRow, PlanRow, TokenRow};
use crate::util::panics;
use crate::util::worker_pool::{TaskHandle, WaitOutcome};

/// An image between two stages: its place, and what the stage before made of it.
pub(super) struct InFlight<T> {
    pub(super) partition: usize,
    pub(super) plan: PlanRow,
    pub(super) prepared: T,
}

/// An image's views, all of one size, or why it has none.
pub(super) type Views = Result<Vec<Prepared>, Reject>;

/// An image in line: its pixels are still to come.
pub(super) type Awaited = InFlight<TaskHandle<Task, Views>>;

/// An image with the pixels of its views, or why it has none.
type Item = InFlight<Views>;

/// What became of an image: a row for each of its views, or one failure.
pub(super) type ImageOutcome = Result<Vec<TokenRow>, FailureRow>;

/// What reaches the writer.
pub(super) enum Done {
    Image { partition: usize, outcome: ImageOutcome },
    BatchHalved(usize),
}

/// Owns model and device: gathers batches of one size, encodes, passes outcomes on in order.
pub(super) fn encode(
    settings: &Settings,
    rows: &Rows,
    engine: &mut dyn Engine,
    items: Receiver<Awaited>,
    done: Sender<Done>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut batch = Batch::new(settings.first_batch(), settings.batch_size);
    let mut flights = Flights { settings, rows, engine, done, submitted: VecDeque::new() };
    let mut size = None;
    for awaited in items {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let Some(item) = arrive(settings, awaited, stop)? else {
            return Ok(()); // the writer ended; its error is the one to report
        };
        let item = check_grid(flights.engine, item);
        if let Err(reject) = &item.prepared {
            settings.cost_of(&item.plan, reject)?;
        }
        let item_size = first_view(&item).map(|view| (view.width, view.height));
        let differs = item_size.is_some() && size.is_some() && item_size != size;
        if differs || !batch.has_room_for(&item) {
            if !flights.submit(&mut batch)? {
                return Ok(());
            }
            size = None;
        }
        size = size.or(item_size);
        batch.push(item);
    }
    if flights.submit(&mut batch)? {
        flights.land(0)?;
    }
    Ok(())
}

/// Waits for an image's pixels; None where the run is over.
pub(super) fn arrive(
    settings: &Settings,
    awaited: Awaited,
    stop: &AtomicBool,
) -> Result<Option<Item>> {
    let InFlight { partition, plan, prepared } = awaited;
    let prepared = match prepared.wait(stop)? {
        WaitOutcome::Done(prepared) => prepared,
        WaitOutcome::Stopped => return Err(Error::Interrupted),
        WaitOutcome::Closed => return Ok(None),
        WaitOutcome::GivenUp => {
            let seconds = settings.decode_time_max.as_secs_f64();
            let text = format!("not decoded after {seconds} s: given up");
            Err(Reject::new(Stage::Decode, text))
        }
    };
    Ok(Some(InFlight { partition, plan, prepared }))
}

/// Images of one size, and those without pixels between them.
struct Batch {
    items: Vec<Item>,
    /// As many views and failures it takes, unless a single image has more views: few at first, so that
    /// the device doesn't wait for a whole batch to be decoded, then twice as many each time.
    room: usize,
    room_max: usize,
    taken: usize,
    /// As many views go to the device at a time.
    images_max: usize,
}

impl Batch {
    fn new(room: usize, room_max: usize) -> Batch {
        let items = Vec::with_capacity(room_max);
        Batch { items, room, room_max, taken: 0, images_max: room_max }
    }

    fn has_room_for(&self, item: &Item) -> bool {
        self.taken == 0 || self.taken + places(item) <= self.room
    }

    fn push(&mut self, item: Item) {
        self.taken += places(&item);
        self.items.push(item);
    }

    /// What was gathered; the next batch is larger.
    fn take(&mut self) -> Vec<Item> {
        self.taken = 0;
        self.room = (2 * self.room).min(self.room_max);
        let capacity = self.items.capacity();
        std::mem::replace(&mut self.items, Vec::with_capacity(capacity))
    }

    fn views(&self) -> impl Iterator<Item = &Prepared> {
        self.items.iter().filter_map(|item| item.prepared.as_ref().ok()).flatten()
    }
}

/// What an item takes up in a batch.
fn places(item: &Item) -> usize {
    item.prepared.as_ref().map_or(1, Vec::len)
}

/// The size of one view is that of all.
fn first_view(item: &Item) -> Option<&Prepared> {
    item.prepared.as_ref().ok()?.first()
}

/// Rejects an image whose size the model can't take, or whose tokens are too many for a row.
fn check_grid(engine: &dyn Engine, mut item: Item) -> Item {
    if let Some(&Prepared { height, width, .. }) = first_view(&item) {
        let reason = match engine.grid(height, width) {
            Err(reason) => Some(reason),
            Ok(grids) => {
                let max = tokens_max(engine.config());
                let too_many = |&(h, w): &(usize, usize)| h.saturating_mul(w) > max;
                grids.into_iter().find(too_many).map(|(h, w)| {
                    format!(
                        "{width}x{height} pixels give a grid of {w}x{h} tokens, more than the \
                     {max} of a row; resize images to a smaller size"
                    )
                })
            }
        };
        if let Some(reason) = reason {
            item.prepared = Err(Reject::new(Stage::Encode, reason));
        }
    }
    item
}

/// Batches that the engine has and the writer hasn't: while a device computes one, the next is
/// gathered.
struct Flights<'a> {
    settings: &'a Settings,
    rows: &'a Rows,
    engine: &'a mut dyn Engine,
    done: Sender<Done>,
    /// Oldest first.
    submitted: VecDeque<Flight>,
}

/// A batch that was submitted, without its pixels.
struct Flight {
    items: Vec<Item>,
    parts: Vec<Submitted>,
}

impl Flights<'_> {
    /// Gives the engine what is in `batch`, and the writer what the engine has had for long enough;
    /// false where the writer is gone.
    fn submit(&mut self, batch: &mut Batch) -> Result<bool> {
        let before = batch.images_max;
        let parts = submit(self.engine, batch, self.settings.preparation.channels)?;
        let halved = batch.images_max < before;
        if halved && self.done.send(Done::BatchHalved(batch.images_max)).is_err() {
            return Ok(false);
        }
        self.submitted.push_back(Flight { items: batch.take(), parts });
        self.land(self.engine.batches_in_flight().saturating_sub(1))
    }

    /// Collects batches until `left` are left; false where the writer is gone.
    fn land(&mut self, left: usize) -> Result<bool> {
        while self.submitted.len() > left {
            let Some(Flight { items, parts }) = self.submitted.pop_front() else { break };
            let at = panics::at("encode", first_key(&items));
            let encoded = oom_split::collect(self.engine, parts)?;
            drop(at);
            if !self.send(items, &encoded)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends the outcomes of a batch; false where the writer is gone.
    fn send(&self, items: Vec<Item>, encoded: &Encoded) -> Result<bool> {
        let mut failed: BTreeMap<usize, String> = encoded.failed.iter().cloned().collect();
        let mut index = 0;
        for InFlight { partition, plan, prepared } in items {
            let outcome = match prepared {
                Err(reject) => Err(failure(plan, reject)),
                Ok(views) => {
                    let first = index;
                    index += views.len();
                    // One view that can't be encoded costs the image all of them.
                    match (first..index).find_map(|view| failed.remove(&view)) {
                        None => Ok(self.rows.of_views(&plan, &views, encoded, first)),
                        Some(reason) => {
                            let reject = Reject::new(Stage::Encode, reason);
                            self.settings.cost_of(&plan, &reject)?;
                            Err(failure(plan, reject))
                        }
                    }
                }
            };
            if self.done.send(Done::Image { partition, outcome }).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Gives the engine the views of a batch, which lose their pixels.
fn submit(engine: &mut dyn Engine, batch: &mut Batch, channels: usize) -> Result<Vec<Submitted>> {
    let Some(&Prepared { height, width, .. }) = batch.views().next() else { return Ok(Vec::new()) };
    let _at = panics::at("encode", first_key(&batch.items));
    let each = batch.views().map(|view| &view.pixels[..]).collect();
    let images = Images { each, height, width, channels };
    let mut images_max = batch.images_max;
    let parts = oom_split::submit(engine, &images, &mut images_max)?;
    batch.images_max = images_max;
    let views = batch.items.iter_mut().filter_map(|item| item.prepared.as_mut().ok()).flatten();
    views.for_each(|view| view.pixels = Vec::new());
    Ok(parts)
}

/// The first image with pixels, for messages.
fn first_key(items: &[Item]) -> Option<&str> {
    items.iter().find(|item| item.prepared.is_ok()).map(|item| item.plan.key.as_str())
}

/// The row in `failures` of an image that was given up.
pub(super) fn failure(plan: PlanRow, reject: Reject) -> FailureRow {
    FailureRow {
        ordinal: plan.ordinal,
        key: plan.key,
        uri: plan.uri,
        stage: reject.stage.as_str().to_string(),
        error: reject.message,
    }
}
