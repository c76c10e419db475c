//! Owns measuring how looking for near duplicates grows, on made-up images without pictures. Must not
//! know: outputs.

use std::time::Instant;

use bytemuck::Zeroable;
use rayon::prelude::*;

use super::columns::{Column, Growing};
use super::crowd::Crowd;
use super::index::Set;
use super::near;
use super::signature::Weights;
use super::threshold::{Similarities, lowest};
use super::thumbnail::{COLOUR_SIDE, SIDE, Thumbnail};
use crate::error::Result;
use crate::util::random::unit;

/// One image in so many is a copy of the one before it.
const COPIES: u64 = 100;
/// Waves a side that a made-up image is the sum of.
const WAVES: usize = 7;
/// Images that are made together.
const BLOCK: u64 = 1 << 16;

/// What was measured.
#[derive(Debug, Clone)]
pub struct Many {
    /// Images.
    pub images: u64,
    /// Copies among them, and how many of these were found above the threshold.
    pub copies: u64,
    /// Copies found.
    pub found: u64,
    /// Pairs above the threshold that are no copies.
    pub false_pairs: u64,
    /// The threshold, and the false pairs that were expected.
    pub threshold: f64,
    /// False pairs expected.
    pub expected: f64,
    /// Seconds for making the images, their signatures, and all the rest.
    pub seconds: [f64; 3],
}

/// Looks for near duplicates among so many made-up images.
///
/// # Errors
/// A file system that is full.
pub fn many(images: u64) -> Result<Many> {
    let begun = Instant::now();
    let thumbnails = made_up(images)?;
    let made = begun.elapsed().as_secs_f64();
    let weights = Weights::of(&[&thumbnails]);
    let set = Set::new(&thumbnails, &weights, &|_| true)?;
    let signed = begun.elapsed().as_secs_f64();
    let pairs = near::within(&set, &weights, &mut || Ok(()))?;
    let crowd = Crowd::of(images as usize, &pairs, |pair| [Some(pair.first), Some(pair.second)])?;
    let ends = crowd.ends(images as f64);
    let similarities = Similarities::of(pairs.iter().map(|pair| pair.score), [&ends, &ends]);
    let threshold = similarities.threshold(None, lowest(images as f64));
    let above = pairs.iter().filter(|pair| f64::from(pair.score) >= threshold.value);
    let copy =
        |first: u32, second: u32| second == first + 1 && u64::from(second) % COPIES == COPIES - 1;
    let (mut found, mut false_pairs) = (0, 0);
    for pair in above {
        if copy(pair.first, pair.second) { found += 1 } else { false_pairs += 1 }
    }
    let seconds = [made, signed - made, begun.elapsed().as_secs_f64() - signed];
    let (value, expected) = (threshold.value, threshold.false_pairs);
    Ok(Many {
        images,
        copies: images / COPIES,
        found,
        false_pairs,
        threshold: value,
        expected,
        seconds,
    })
}

fn made_up(images: u64) -> Result<Column<Thumbnail>> {
    let waves: Vec<[f32; SIDE]> = (0..WAVES).map(wave).collect();
    let mut column = Growing::new();
    for first in (0..images).step_by(BLOCK as usize) {
        let block = first..(first + BLOCK).min(images);
        let made: Vec<Thumbnail> = block.into_par_iter().map(|at| one(at, &waves)).collect();
        column.extend(&made)?;
    }
    column.finish()
}

fn wave(frequency: usize) -> [f32; SIDE] {
    let angle = |point: usize| std::f32::consts::PI * frequency as f32 * (point as f32 + 0.5);
    std::array::from_fn(|point| (angle(point) / SIDE as f32).cos())
}

/// Random waves, weaker the shorter they are; a copy has the original's and noise of its own.
fn one(at: u64, waves: &[[f32; SIDE]]) -> Thumbnail {
    let copied = at % COPIES == COPIES - 1;
    let seed = if copied { at - 1 } else { at };
    let mut points = [0.0f32; SIDE * SIDE];
    for down in 0..WAVES {
        let mut line = [0.0f32; SIDE];
        for (across, wave) in waves.iter().enumerate() {
            let distance = ((down * down + across * across) as f32).sqrt().max(0.7);
            let strength = 60.0 * unit(seed, (down * WAVES + across) as u64) * distance.powf(-1.5);
            line.iter_mut().zip(wave).for_each(|(sum, wave)| *sum += strength * wave);
        }
        for (points, weight) in points.chunks_exact_mut(SIDE).zip(waves[down]) {
            points.iter_mut().zip(line).for_each(|(point, value)| *point += value * weight);
        }
    }
    let mut thumbnail = Thumbnail::zeroed();
    for (place, (to, point)) in thumbnail.luma.iter_mut().zip(points).enumerate() {
        let noise = if copied { 4.0 * unit(at, 1_000 + place as u64) } else { 0.0 };
        *to = (128.0 + point + noise).clamp(0.0, 255.0) as u8;
    }
    let half = SIDE / COLOUR_SIDE;
    for (plane, colours) in thumbnail.colour.iter_mut().enumerate() {
        let tint = 0.3 * unit(seed, 500 + plane as u64);
        for (place, to) in colours.iter_mut().enumerate() {
            let point = points[place / COLOUR_SIDE * half * SIDE + place % COLOUR_SIDE * half];
            *to = (128.0 + tint * point).clamp(0.0, 255.0) as u8;
        }
    }
    thumbnail
}
