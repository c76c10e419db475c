//! Owns Emu3's convolutions over frames as plain ones: a picture is 2^n equal frames, before which
//! lie frames of zeros.

use std::collections::BTreeMap;

use super::made::{Made, unexpected};
use super::placement::Placement;
use crate::error::{Error, Result};
use crate::weights::tensor::RawTensor;

/// Frames that a convolution of stride 2 sees.
const TAPS: usize = 4;

/// Frames that it goes on by.
const STRIDE: usize = 2;

/// Convolutions that halve the number of frames, at most.
const HALVINGS_MAX: usize = 3;

/// How many frames the `index`-th of `of` convolutions makes.
pub(super) fn outputs(index: usize, of: usize) -> usize {
    1 << (of - 1 - index)
}

/// Different frames that it takes: all that the one before it makes, or one that is many.
fn inputs(index: usize, of: usize) -> usize {
    if index == 0 { 1 } else { STRIDE * outputs(index, of) }
}

/// Says what is made of every layer over frames.
pub(super) fn combine(placements: &mut BTreeMap<String, Placement>) -> Result<()> {
    let halving = |i: usize| format!("encoder.time_conv.{i}.weight");
    let of = (0..).take_while(|&i| placements.contains_key(&halving(i))).count();
    if of > HALVINGS_MAX {
        return Err(Error::invalid(format!(
            "{of} halvings of the number of frames, more than {HALVINGS_MAX}"
        )));
    }
    let names: Vec<String> = placements.keys().cloned().collect();
    for name in names {
        if name.contains(".time_res_stack.") && name.contains(".norm") {
            batch_norm(&name, placements)?;
            continue;
        }
        let Some(placement) = placements.get_mut(&name) else { continue };
        let index = (0..of).find(|i| name.starts_with(&format!("encoder.time_conv.{i}.")));
        match (index, &placement.shape[..]) {
            (Some(index), &[o, i, TAPS, h, w]) => {
                placement.shape = vec![
                    o.saturating_mul(outputs(index, of)),
                    i.saturating_mul(inputs(index, of)),
                    h,
                    w,
                ];
                placement.made = Made::Frames { index, of };
            }
            (Some(index), &[o]) => {
                placement.shape = vec![o.saturating_mul(outputs(index, of))];
                placement.made = Made::FrameBias { index, of };
            }
            (None, &[o, i, taps, h, w]) if taps > 0 => {
                placement.shape = vec![o, i, h, w];
                placement.made = Made::LastTap;
            }
            (Some(_), _) => return Err(unexpected(placement, "a convolution over 4 frames")),
            _ => {}
        }
    }
    Ok(())
}

/// Makes a scale and a shift of a BatchNorm whose statistics are known, at its weight and bias.
fn batch_norm(name: &str, placements: &mut BTreeMap<String, Placement>) -> Result<()> {
    let Some(stem) = name.strip_suffix(".weight") else { return Ok(()) };
    let mut source = |part: &str, remove: bool| -> Result<String> {
        let name = format!("{stem}.{part}");
        let missing = || Error::invalid(format!("the checkpoint has no tensor `{name}`"));
        let found = match remove {
            true => placements.remove(&name),
            false => placements.get(&name).cloned(),
        };
        Ok(found.ok_or_else(missing)?.source)
    };
    let parts = [
        source("weight", false)?,
        source("bias", false)?,
        source("running_mean", true)?,
        source("running_var", true)?,
    ];
    for bias in [false, true] {
        let name = format!("{stem}.{}", if bias { "bias" } else { "weight" });
        if let Some(placement) = placements.get_mut(&name) {
            placement.made = Made::BatchNorm { parts: parts.clone(), bias };
        }
    }
    Ok(())
}

/// `[o, i, taps, h, w]` as `[o, i, h, w]`: of the one frame that there is, all before it are zeros.
pub(super) fn last_tap(source: &RawTensor) -> Result<Vec<f32>, String> {
    let &[_, _, taps, h, w] = source.shape() else { return Err("no frames".into()) };
    let values = source.to_f32();
    if values.is_empty() {
        return Ok(values);
    }
    let window = h * w;
    let all = values.chunks_exact(taps * window);
    Ok(all.flat_map(|taps| &taps[taps.len() - window..]).copied().collect())
}

/// `[o, i, 4, h, w]` of stride 2 as `[frames after * o, frames before * i, h, w]`: frames lie side by
/// side as channels; before the first lie two of zeros. The equal frames that the first convolution
/// takes are one, with the sum of the taps that see any.
pub(super) fn unrolled(source: &RawTensor, index: usize, of: usize) -> Result<Vec<f32>, String> {
    let &[o, i, TAPS, h, w] = source.shape() else { return Err("no 4 frames".into()) };
    let (after, before) = (outputs(index, of), inputs(index, of));
    let values = source.to_f32();
    if values.is_empty() {
        return Ok(values);
    }
    let window = h * w;
    let mut plain = vec![0f32; after * o * before * i * window];
    for (t, tap) in (0..after).flat_map(|t| (0..TAPS).map(move |tap| (t, tap))) {
        let Some(frame) = (STRIDE * t + tap).checked_sub(TAPS - STRIDE) else { continue };
        let frame = if index == 0 { 0 } else { frame };
        for (output, input) in (0..o).flat_map(|o| (0..i).map(move |i| (o, i))) {
            let from = ((output * i + input) * TAPS + tap) * window;
            let to = ((t * o + output) * before * i + frame * i + input) * window;
            let sums = plain[to..to + window].iter_mut().zip(&values[from..from + window]);
            sums.for_each(|(sum, value)| *sum += value);
        }
    }
    Ok(plain)
}
