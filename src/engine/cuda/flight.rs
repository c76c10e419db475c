//! Owns batches on their way through a GPU: two runs are queued at a time, so that the images of one
//! are packed and uploaded while the other computes. Must not know: how a run is carried out.
//!
//! Runs end in the order in which they were queued, and each takes the slot of the last but one. A
//! run's results are copied to the host behind it: its program may run again, or be given back,
//! before anyone looks at them.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::device::{Device, Loaded};
use super::program::{Level, Place, Program, Result as Outcome};
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
    /// Of the latents.
    grid: (usize, usize),
    result: Outcome,
}

/// A batch of which runs are queued.
struct Batch {
    number: u64,
    count: usize,
    /// Of each level's codes.
    grids: Vec<(usize, usize)>,
    found: Found,
}

/// What the runs of a batch gave so far.
struct Found {
    /// Codes and distances of each.
    levels: Vec<(Vec<u32>, Vec<f32>)>,
    /// By image: why it can't be used, if so.
    reasons: Vec<Option<String>>,
}

impl Flights {
    /// Begins a batch; its number.
    pub(super) fn begin(&mut self, count: usize, grids: Vec<(usize, usize)>) -> u64 {
        self.number += 1;
        let levels = vec![Default::default(); grids.len()];
        let (number, found) = (self.number, Found { levels, reasons: Vec::new() });
        self.batches.push_back(Batch { number, count, grids, found });
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
        self.runs.push_back(Run {
            batch: self.number,
            slot: self.next,
            images: images.len(),
            dim: program.dim,
            grid: program.grid,
            result: program.result.clone(),
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
        Ok(floats(&slot.results()?[..bytes]))
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
                return Ok(batch.encoded());
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
    let latents = (program.latents, program.grid.0 * program.grid.1 * program.dim);
    let Outcome::Codes(levels) = &program.result else { return vec![latents] };
    let of_level = |level: &Level| {
        let area = level.grid.0 * level.grid.1;
        [(level.codes, area), (level.distances, area)]
    };
    let levels = levels.iter().flat_map(of_level);
    // Without distances only the latents tell what overflowed.
    levels.chain((rule == QuantizerRule::Projection).then_some(latents)).collect()
}

/// Bytes of a run's images and of its results.
fn sizes(program: &Program, rule: QuantizerRule) -> [usize; 2] {
    let words: usize = wanted(program, rule).iter().map(|(_, words)| words).sum();
    [program.images * program.image_bytes, program.images * words * 4]
}

impl Batch {
    fn encoded(self) -> Encoded {
        let Batch { count, grids, found: Found { levels, reasons }, .. } = self;
        let level =
            |((codes, distances), (height, width))| CodeGrid { codes, distances, height, width };
        let levels = levels.into_iter().zip(grids).map(level).collect();
        Encoded { count, levels, failed: failed(reasons) }
    }
}

impl Found {
    /// Adds what a run left.
    fn take(&mut self, run: &Run, bytes: &[u8], rule: &Rule<'_>) -> Result<()> {
        match &run.result {
            Outcome::Codes(levels) => self.take_codes(run, levels, bytes, rule),
            Outcome::Latents => self.take_latents(run, bytes, rule),
        }
    }

    fn take_codes(
        &mut self,
        run: &Run,
        levels: &[Level],
        mut bytes: &[u8],
        rule: &Rule<'_>,
    ) -> Result<()> {
        let mut reasons = vec![None; run.images];
        for (level, (codes, distances)) in levels.iter().zip(&mut self.levels) {
            let area = level.grid.0 * level.grid.1;
            let (found, rest) = bytes.split_at(run.images * area * 4);
            let (measured, rest) = rest.split_at(run.images * area * 4);
            bytes = rest;
            let found = words(found);
            // The device's codes index the codebook when they are read again.
            rule.quantizer.levels()[0].check(&found)?;
            codes.extend(found);
            let mut measured = floats(measured);
            for (reason, image) in reasons.iter_mut().zip(measured.chunks_mut(area)) {
                let told = match rule.rule {
                    QuantizerRule::Logits => unusable_logits(image),
                    other => finite::distances(other, image),
                };
                *reason = reason.take().or(told);
            }
            distances.extend(measured);
        }
        if rule.rule == QuantizerRule::Projection {
            let latents = floats(&bytes[..run.images * run.latents() * 4]);
            let told = latents.chunks(run.latents());
            reasons = told.map(|image| rule.quantizer.unusable(image, run.dim)).collect();
        }
        self.reasons.extend(reasons);
        Ok(())
    }

    /// Quantizes latents that the program left to the host.
    fn take_latents(&mut self, run: &Run, bytes: &[u8], rule: &Rule<'_>) -> Result<()> {
        let latents = floats(&bytes[..run.images * run.latents() * 4]);
        let image = |latents: &[f32]| {
            let found = rule.quantizer.quantize(latents.to_vec(), run.dim, run.grid)?;
            Ok((found, rule.quantizer.unusable(latents, run.dim)))
        };
        let images = latents.par_chunks(run.latents()).map(image).collect::<Result<Vec<_>>>()?;
        for (found, mut reason) in images {
            for ((codes, distances), found) in self.levels.iter_mut().zip(found) {
                reason = reason.or_else(|| finite::distances(rule.rule, &found.1));
                codes.extend(found.0);
                distances.extend(found.1);
            }
            self.reasons.push(reason);
        }
        Ok(())
    }
}

impl Run {
    /// Floats of an image's latents.
    fn latents(&self) -> usize {
        self.grid.0 * self.grid.1 * self.dim
    }
}

/// What `largest_logit` told of an image's rows, in words; nothing is measured.
fn unusable_logits(told: &mut [f32]) -> Option<String> {
    let marks: Vec<f32> = told.iter().map(|t| if t.is_nan() { 0.0 } else { *t }).collect();
    told.fill(f32::NAN);
    finite::latents(&marks, 1)
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    words(bytes).into_iter().map(f32::from_bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_that_are_not_finite_are_counted_and_no_distance_is_told() {
        let mut told = [f32::NAN, f32::INFINITY, f32::NAN];
        let said = unusable_logits(&mut told).unwrap();
        assert!(said.starts_with("1 of 3 latents are not finite"), "{said}");
        assert!(told.iter().all(|t| t.is_nan()));
        assert_eq!(unusable_logits(&mut told), None);
    }
}
