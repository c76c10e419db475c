//! Owns batches on their way through a GPU: two runs are queued at a time, so that the images of one
//! are packed and uploaded while the other computes. Must not know: how a run is carried out.
//!
//! Runs end in the order in which they were queued, and each takes the slot of the last but one. A
//! run's results are copied to the host behind it: its program may run again, or be given back,
//! before anyone looks at them.

use std::collections::VecDeque;

use super::device::{Device, Loaded};
use super::program::{Place, Program, Result as Outcome};
use super::transfer::Slot;
use crate::engine::interface::{CodeGrid, Encoded, failed};
use crate::error::{Error, Result};
use crate::model::config::QuantizerRule;
use crate::model::finite;
use crate::model::residual::ResidualQuantizer;

/// Runs that are queued at a time.
pub(super) const RUNS: usize = 2;

/// How codes are made of what a program leaves.
pub(super) struct Rule<'a> {
    pub quantizer: &'a ResidualQuantizer,
    pub rule: QuantizerRule,
}

/// Runs and the batches they are of.
#[derive(Default)]
pub(super) struct Flights {
    slots: [Option<Slot>; RUNS],
    /// The slot of the next run.
    next: usize,
    /// Oldest first.
    runs: VecDeque<Run>,
    batches: VecDeque<Batch>,
    /// Of the last batch.
    number: u64,
}

/// A queued run.
struct Run {
    batch: u64,
    slot: usize,
    images: usize,
    dim: usize,
    /// Tokens of an image.
    area: usize,
    grid: (usize, usize),
    result: Outcome,
}

/// A batch of which runs are queued.
struct Batch {
    number: u64,
    count: usize,
    grid: (usize, usize),
    found: Found,
}

/// What the runs of a batch gave so far.
#[derive(Default)]
struct Found {
    codes: Vec<u32>,
    distances: Vec<f32>,
    /// By image: why it can't be used, if so.
    reasons: Vec<Option<String>>,
}

impl Flights {
    /// Begins a batch; its number.
    pub(super) fn begin(&mut self, count: usize, grid: (usize, usize)) -> u64 {
        self.number += 1;
        let (number, found) = (self.number, Found::default());
        self.batches.push_back(Batch { number, count, grid, found });
        number
    }

    /// Makes room for a program's images and results, so that its runs don't lack it.
    pub(super) fn reserve(
        &mut self,
        device: &Device,
        program: &Program,
        rule: &Rule<'_>,
    ) -> Result<()> {
        let sizes = sizes(program, rule.rule);
        let fits = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.fits(sizes));
        if self.slots.iter().all(fits) {
            return Ok(());
        }
        // Nobody writes to what is given back.
        while !self.runs.is_empty() {
            self.finish_run(rule)?;
        }
        (0..RUNS).try_for_each(|index| self.fitting(index, device, program, rule.rule).map(|_| ()))
    }

    /// A slot that no run has, with room for a program's images and results.
    fn fitting(
        &mut self,
        index: usize,
        device: &Device,
        program: &Program,
        rule: QuantizerRule,
    ) -> Result<&mut Slot> {
        let sizes = sizes(program, rule);
        let slot = match self.slots[index].take() {
            Some(slot) if slot.fits(sizes) => slot,
            outgrown => {
                drop(outgrown);
                device.slot(sizes)?
            }
        };
        Ok(self.slots[index].insert(slot))
    }

    /// Queues a run of images of the batch that was begun last.
    pub(super) fn queue(
        &mut self,
        device: &Device,
        loaded: &Loaded,
        images: &[&[u8]],
        rule: &Rule<'_>,
    ) -> Result<()> {
        if self.runs.len() == RUNS {
            self.finish_run(rule)?;
        }
        let program = &loaded.program;
        let slot = self.fitting(self.next, device, program, rule.rule)?;
        let wanted = wanted(program, rule.rule);
        device.upload(loaded, slot, images)?;
        device.run(loaded, &mut |_| Ok(()))?;
        let bytes = wanted.iter().map(|(place, words)| (*place, images.len() * words * 4));
        device.download(loaded, slot, bytes)?;
        let (height, width) = program.grid;
        self.runs.push_back(Run {
            batch: self.number,
            slot: self.next,
            images: images.len(),
            dim: program.dim,
            area: height * width,
            grid: program.grid,
            result: program.result,
        });
        self.next = (self.next + 1) % RUNS;
        Ok(())
    }

    /// Runs a program and waits for it; the floats that it leaves as latents.
    pub(super) fn run(
        &mut self,
        device: &Device,
        loaded: &Loaded,
        images: &[&[u8]],
        rule: &Rule<'_>,
    ) -> Result<Vec<f32>> {
        while !self.runs.is_empty() {
            self.finish_run(rule)?;
        }
        let program = &loaded.program;
        let slot = self.fitting(self.next, device, program, rule.rule)?;
        device.upload(loaded, slot, images)?;
        device.run(loaded, &mut |_| Ok(()))?;
        let bytes = images.len() * program.grid.0 * program.grid.1 * program.dim * 4;
        device.download(loaded, slot, std::iter::once((program.latents, bytes)))?;
        let floats = slot.results()?[..bytes].chunks_exact(4);
        Ok(floats.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// Gives up the batch that was begun last; what is queued of it is done for nothing.
    pub(super) fn give_up(&mut self) {
        self.batches.pop_back();
    }

    /// The codes of a batch; those before it are given up.
    pub(super) fn collect(&mut self, number: u64, rule: &Rule<'_>) -> Result<Encoded> {
        while self.runs.front().is_some_and(|run| run.batch <= number) {
            self.finish_run(rule)?;
        }
        while let Some(batch) = self.batches.pop_front() {
            if batch.number == number {
                return batch.encoded(rule.quantizer);
            }
        }
        Err(Error::internal("a batch that was collected before, or given up"))
    }

    /// Waits for the oldest run.
    fn finish_run(&mut self, rule: &Rule<'_>) -> Result<()> {
        let Some(run) = self.runs.pop_front() else { return Ok(()) };
        let Some(slot) = &self.slots[run.slot] else { return Ok(()) };
        let bytes = slot.results()?;
        match self.batches.iter_mut().find(|batch| batch.number == run.batch) {
            Some(batch) => batch.found.take(&run, bytes, rule),
            None => Ok(()),
        }
    }
}

/// What is brought back of a program's run: places, and 32-bit words of each image.
fn wanted(program: &Program, rule: QuantizerRule) -> Vec<(Place, usize)> {
    let area = program.grid.0 * program.grid.1;
    let latents = (program.latents, area * program.dim);
    match program.result {
        // Without distances only the latents tell what overflowed.
        Outcome::Codes { codes, distances } if rule == QuantizerRule::Projection => {
            vec![(codes, area), (distances, area), latents]
        }
        Outcome::Codes { codes, distances } => vec![(codes, area), (distances, area)],
        Outcome::Latents => vec![latents],
    }
}

/// Bytes of a run's images and of its results.
fn sizes(program: &Program, rule: QuantizerRule) -> [usize; 2] {
    let words: usize = wanted(program, rule).iter().map(|(_, words)| words).sum();
    [program.images * program.image_bytes, program.images * words * 4]
}

impl Batch {
    fn encoded(self, quantizer: &ResidualQuantizer) -> Result<Encoded> {
        let Batch { count, grid: (height, width), found, .. } = self;
        let Found { codes, distances, reasons } = found;
        // The device's codes index the codebook when they are read again.
        quantizer.check(&[&codes])?;
        let levels = vec![CodeGrid { codes, distances, height, width }];
        Ok(Encoded { count, levels, failed: failed(reasons) })
    }
}

impl Found {
    /// Adds what a run left. Latents that it left to the host are quantized here.
    fn take(&mut self, run: &Run, bytes: &[u8], rule: &Rule<'_>) -> Result<()> {
        let Run { images, dim, area, grid, result, .. } = *run;
        let rows = images * area;
        let words = |bytes: &[u8]| -> Vec<u32> {
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let floats = |bytes| -> Vec<f32> { words(bytes).into_iter().map(f32::from_bits).collect() };
        let unusable = |latents: &[f32]| rule.quantizer.unusable(latents, dim);
        match result {
            Outcome::Codes { .. } => {
                let (codes, rest) = bytes.split_at(rows * 4);
                let (distances, rest) = rest.split_at(rows * 4);
                self.codes.extend(words(codes));
                let distances = floats(distances);
                if rule.rule == QuantizerRule::Projection {
                    let latents = floats(&rest[..rows * dim * 4]);
                    self.reasons.extend(latents.chunks(area * dim).map(unusable));
                } else {
                    let images = distances.chunks(area);
                    self.reasons.extend(images.map(|image| finite::distances(rule.rule, image)));
                }
                self.distances.extend(distances);
            }
            Outcome::Latents => {
                let latents = floats(&bytes[..rows * dim * 4]);
                self.reasons.extend(latents.chunks(area * dim).map(unusable));
                // One level: `supported` refuses more.
                for (codes, distances) in rule.quantizer.quantize(latents, dim, grid)? {
                    self.codes.extend(codes);
                    self.distances.extend(distances);
                }
            }
        }
        Ok(())
    }
}
