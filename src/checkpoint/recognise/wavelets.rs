//! Owns Cosmos' Haar wavelets as weights of the convolutions beside them. Each step makes four
//! groups of channels of 2x2 pixels: sums, differences along the height, along the width, along both.

use std::collections::BTreeMap;

use super::made::{Made, unexpected};
use super::placement::Placement;
use crate::error::{Error, Result};
use crate::weights::tensor::RawTensor;

/// Pixels along a side of a patch, at most.
const PATCH_MAX: usize = 8;

/// The side of a patch of that many coefficients of 3 or 1 channels.
fn side_of(coefficients: usize) -> Option<usize> {
    let sides = (1..=PATCH_MAX.ilog2()).map(|steps| 1usize << steps);
    let mut sides = sides.filter(|side| [3, 1].contains(&(coefficients / (side * side))));
    sides.find(|side| coefficients.is_multiple_of(side * side))
}

/// Says what is made of the first layer of the encoder and the last of the decoder.
pub(super) fn combine(placements: &mut BTreeMap<String, Placement>) -> Result<()> {
    let mut take = |name: &str| placements.remove(name).map(|placement| placement.source);
    let [patcher, unpatcher] =
        ["encoder.patcher.wavelets", "decoder.unpatcher.wavelets"].map(&mut take);
    let missing = |name: &str| Error::invalid(format!("the checkpoint has no tensor `{name}`"));
    if let Some(conv_in) = placements.get_mut("encoder.conv_in.weight") {
        let wavelets = patcher.ok_or_else(|| missing("encoder.patcher.wavelets"))?;
        let known = match conv_in.shape[..] {
            [outputs, inputs, 3, 3] => side_of(inputs).map(|side| (outputs, inputs, side)),
            _ => None,
        };
        let Some((outputs, inputs, side)) = known else {
            return Err(unexpected(conv_in, "a 3x3 convolution of wavelets"));
        };
        conv_in.shape = vec![outputs, inputs / (side * side), 3 * side, 3 * side];
        conv_in.made = Made::HaarIn(wavelets);
    }
    for (name, rank) in [("decoder.conv_out.weight", 4), ("decoder.conv_out.bias", 1)] {
        let Some(conv_out) = placements.get_mut(name) else { continue };
        let wavelets = unpatcher.clone().ok_or_else(|| missing("decoder.unpatcher.wavelets"))?;
        let outputs = conv_out.shape.first().copied().unwrap_or(0);
        if conv_out.shape.len() != rank || side_of(outputs).is_none() {
            return Err(unexpected(conv_out, "a convolution to wavelets"));
        }
        conv_out.made = Made::HaarOut(wavelets);
    }
    Ok(())
}

/// Of patches of `side` x `side` pixels, for each coefficient and pixel the factor between them, as
/// `[side^2, side^2]`, before a step is scaled: coefficients with the last step's group first,
/// pixels row by row.
fn signs(side: usize, [low, high]: [f64; 2]) -> Vec<f64> {
    let area = side * side;
    let mut signs = vec![0.0; area * area];
    let along = |group: bool, second: bool| match (group, second) {
        (true, true) => -high,
        (true, false) => low,
        // Sums take the wavelet the other way round.
        (false, true) => low,
        (false, false) => high,
    };
    for (coefficient, pixel) in (0..area).flat_map(|c| (0..area).map(move |p| (c, p))) {
        let (y, x) = (pixel / side, pixel % side);
        // The first step, whose group is the low digit, sees neighbouring pixels.
        let factors = (0..side.ilog2()).map(|step| {
            let group = coefficient >> (2 * step) & 3;
            let second = |at: usize| at >> step & 1 == 1;
            along(group & 1 == 1, second(y)) * along(group & 2 == 2, second(x))
        });
        signs[coefficient * area + pixel] = factors.product();
    }
    signs
}

/// The two values of a wavelet.
fn pair(wavelets: &RawTensor) -> Result<[f64; 2], String> {
    match wavelets.to_f32()[..] {
        [low, high] if wavelets.dtype().is_float() => Ok([f64::from(low), f64::from(high)]),
        _ => Err(format!("wavelets of shape {:?}, not of two values", wavelets.shape())),
    }
}

/// `[outputs, side^2 * channels, 3, 3]` as `shape`, `[outputs, channels, 3 * side, 3 * side]`.
pub(super) fn of_pixels(
    source: &RawTensor,
    wavelets: &RawTensor,
    shape: &[usize],
) -> Result<Vec<f32>, String> {
    let &[outputs, channels, window, _] = shape else { return Err("no convolution".into()) };
    let (side, pair) = (window / 3, pair(wavelets)?);
    let area = side * side;
    let scale = 0.5f64.powi(side.ilog2() as i32);
    let (signs, values) = (signs(side, pair), source.to_f32());
    let mut pixels = vec![0f32; outputs * channels * window * window];
    for (at, pixel) in pixels.iter_mut().enumerate() {
        let (x, y) = (at % window, at / window % window);
        let (channel, output) =
            (at / (window * window) % channels, at / (window * window) / channels);
        let tap = y / side * 3 + x / side;
        let place = y % side * side + x % side;
        let terms = (0..area).map(|coefficient| {
            let from = ((output * area + coefficient) * channels + channel) * 9 + tap;
            signs[coefficient * area + place] * f64::from(values[from])
        });
        *pixel = (terms.sum::<f64>() * scale) as f32;
    }
    Ok(pixels)
}

/// `[side^2 * channels, ...]` in the same shape: what makes pixels, each step's 2x2 first by the
/// last step's places, as repeated `depth_to_space` takes them.
pub(super) fn to_pixels(source: &RawTensor, wavelets: &RawTensor) -> Result<Vec<f32>, String> {
    let outputs = source.shape().first().copied().unwrap_or(0);
    let side = side_of(outputs).ok_or("no wavelets")?;
    let (area, pair) = (side * side, pair(wavelets)?);
    let channels = outputs / area;
    let steps = side.ilog2() as usize;
    let scale = 2f64.powi(steps as i32);
    let (signs, values) = (signs(side, pair), source.to_f32());
    let row = values.len() / outputs.max(1);
    let mut pixels = vec![0f32; values.len()];
    for (output, row_of) in pixels.chunks_exact_mut(row.max(1)).enumerate() {
        let (channel, digits) = (output % channels, output / channels);
        // Digits of 2 dy + dx, the last step's highest, to the row and column of a patch.
        let bits = |shift: usize| {
            (0..steps).map(move |step| (digits >> (2 * step + shift) & 1) << step).sum::<usize>()
        };
        let place = bits(1) * side + bits(0);
        for (at, pixel) in row_of.iter_mut().enumerate() {
            let terms = (0..area).map(|coefficient| {
                let from = (coefficient * channels + channel) * row + at;
                signs[coefficient * area + place] * f64::from(values[from])
            });
            *pixel = (terms.sum::<f64>() * scale) as f32;
        }
    }
    Ok(pixels)
}
