//! Owns signatures, by which images are compared: frequencies that are weighed by how much they differ
//! in the set. Must not know: how images are found by them.

use rayon::prelude::*;

use super::frequencies::{Frequencies, LEN, Window, frequencies, usual_spread};
use super::thumbnail::Thumbnail;

/// Mean squared distance of a thumbnail's brightness to its mean, below which it shows nothing.
const FLAT: f32 = 9.0;
/// Thumbnails that weights are measured on.
const MEASURED: usize = 50_000;
/// Images that the usual spread counts for.
const USUAL: f32 = 64.0;
/// Mean squared error of a frequency, from a thumbnail's rounding.
const ROUNDING: f32 = 0.1;
/// A frequency is divided by this power of its spread where images are looked for: coarse shapes find
/// what was cropped.
const FINDING: f32 = 0.3;
/// And by this one where two are compared: finer ones tell look-alikes from copies.
const COMPARING: f32 = 0.7;
/// Bits of a signature.
pub(super) const BITS: usize = 128;

/// What frequencies are multiplied by.
#[derive(Debug)]
pub(super) struct Weights {
    pub finding: Frequencies,
    pub comparing: Frequencies,
    /// The frequencies that say most when images are looked for, the strongest first.
    pub strongest: [usize; BITS],
}

/// Weighed frequencies in bytes: a tenth of the size, and a similarity is off by 0.0002.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Signature {
    pub values: [i8; LEN],
    /// The reciprocal of their norm; 0 of an image that shows nothing.
    pub scale: f32,
}

/// Whether a thumbnail shows nothing that could be compared.
pub(super) fn is_flat(thumbnail: &Thumbnail) -> bool {
    thumbnail.contrast() < FLAT
}

impl Weights {
    /// Measured on thumbnails, evenly chosen.
    pub(super) fn of(sets: &[&[Thumbnail]]) -> Weights {
        let total: usize = sets.iter().map(|set| set.len()).sum();
        let every = total.div_ceil(MEASURED).max(1);
        let chosen: Vec<&Thumbnail> = sets.iter().copied().flatten().step_by(every).collect();
        let whole = Window::new(0.0, 1.0);
        let sums: Vec<(Frequencies, f32)> = chosen
            .par_chunks(1024)
            .map(|thumbnails| {
                let mut sum = ([0.0; LEN], 0.0);
                for thumbnail in thumbnails.iter().filter(|thumbnail| !is_flat(thumbnail)) {
                    let seen = frequencies(thumbnail, &whole, &whole);
                    sum.0.iter_mut().zip(seen).for_each(|(sum, value)| *sum += value * value);
                    sum.1 += 1.0;
                }
                sum
            })
            .collect();
        let mut squares = usual_spread().map(|spread| USUAL * spread * spread);
        let mut images = USUAL;
        for (sum, number) in sums {
            squares.iter_mut().zip(sum).for_each(|(all, some)| *all += some);
            images += number;
        }
        Weights::of_spread(&squares.map(|square| (square / images + ROUNDING).sqrt()))
    }

    fn of_spread(spread: &Frequencies) -> Weights {
        let strength = |at: usize| spread[at].powf(1.0 - FINDING);
        let mut order: Vec<usize> = (0..LEN).collect();
        order.sort_by(|&a, &b| strength(b).total_cmp(&strength(a)).then(a.cmp(&b)));
        let mut strongest = [0; BITS];
        strongest.copy_from_slice(&order[..BITS]);
        Weights {
            finding: spread.map(|spread| spread.powf(-FINDING)),
            comparing: spread.map(|spread| spread.powf(-COMPARING)),
            strongest,
        }
    }

    /// The signs of a signature's strongest values.
    pub(super) fn bits(&self, values: &[i8; LEN]) -> u128 {
        let bit = |(at, &which): (usize, &usize)| u128::from(values[which] > 0) << at;
        self.strongest.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit)
    }
}

impl Signature {
    /// Of weighed frequencies.
    pub(super) fn of(frequencies: &Frequencies, weights: &Frequencies) -> Signature {
        let weighed = weighed(frequencies, weights);
        let largest = weighed.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 {
            return Signature { values: [0; LEN], scale: 0.0 };
        }
        let values = weighed.map(|value| (value / largest * 127.0).round() as i8);
        let norm = values.iter().map(|&value| i32::from(value).pow(2)).sum::<i32>() as f32;
        Signature { values, scale: 1.0 / norm.sqrt() }
    }

    /// Similarity, from -1 to 1, of which `scale` is this one's share.
    #[inline(always)]
    pub(super) fn like(&self, values: &[i8; LEN], scale: f32) -> f32 {
        let product = |(&a, &b): (&i8, &i8)| i32::from(i16::from(a) * i16::from(b));
        let sum: i32 = self.values.iter().zip(values).map(product).sum();
        sum as f32 * self.scale * scale
    }
}

/// Frequencies times their weights.
pub(super) fn weighed(frequencies: &Frequencies, weights: &Frequencies) -> Frequencies {
    let mut weighed = *frequencies;
    weighed.iter_mut().zip(weights).for_each(|(value, weight)| *value *= weight);
    weighed
}

/// The same with a norm of 1.
pub(super) fn unit(frequencies: &Frequencies, weights: &Frequencies) -> Frequencies {
    let mut unit = weighed(frequencies, weights);
    let norm = unit.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 {
        unit.iter_mut().for_each(|value| *value /= norm);
    }
    unit
}
