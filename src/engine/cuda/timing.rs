//! Owns which of cuDNN's configurations is the fastest for a convolution on this GPU: each is run on
//! noise and measured there. Must not know: what is done with the answer.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result};
use half::bf16;

use super::convolution::plan;
use super::device::driver;
use super::graph::{Addresses, pack};
use super::program::ConvShape;
use crate::error::Result;
use crate::nvidia::choice::{Choice, Target};
use crate::nvidia::handle::Handle;
use crate::nvidia::plan::Plan;

/// Measured runs of each configuration, after one that isn't.
const ROUNDS: usize = 5;
/// A configuration that needs more workspace isn't tried: it would be taken for every size of image.
const WORKSPACE_MAX: usize = 256 << 20;
/// A later configuration has to be so much faster than an earlier one: cuDNN's order is kept where
/// they are about as fast, so that machines of one kind come to one choice.
const FASTER: f32 = 0.97;

/// The fastest of some choices, which are in cuDNN's order, and its milliseconds; None where none runs.
pub(super) fn fastest(
    handle: &Handle,
    stream: &Arc<CudaStream>,
    shape: &ConvShape,
    choices: Vec<Choice>,
) -> Result<Option<(Choice, f32)>> {
    let target = Target::Handle(handle.0);
    let mut plans = Vec::new();
    for choice in choices {
        if let Some(made) = plan(&target, shape, &choice)?
            && made.workspace_bytes <= WORKSPACE_MAX
        {
            plans.push((choice, made));
        }
    }
    let workspace = plans.iter().map(|(_, plan)| plan.workspace_bytes).max().unwrap_or(0);
    let place = Place::new(stream, shape, workspace)?;
    let mut best: Option<(Choice, f32)> = None;
    for (choice, plan) in plans {
        let Ok(ms) = measured(handle, stream, &place, &plan) else { continue };
        if best.as_ref().is_none_or(|(_, least)| ms < FASTER * least) {
            best = Some((choice, ms));
        }
    }
    // A fault of the device isn't one configuration's.
    stream.synchronize().map_err(driver("timing convolutions"))?;
    Ok(best)
}

/// The least milliseconds of a run.
fn measured(handle: &Handle, stream: &CudaStream, place: &Place, plan: &Plan) -> Result<f32> {
    let pack = pack(&place.addresses, place.workspace)?;
    let event = || stream.record_event(Some(CU_EVENT_DEFAULT)).map_err(driver("an event"));
    plan.run(handle, &pack)?;
    let mut marks = vec![event()?];
    for _ in 0..ROUNDS {
        plan.run(handle, &pack)?;
        marks.push(event()?);
    }
    let times =
        marks.windows(2).map(|pair| pair[0].elapsed_ms(&pair[1]).map_err(driver("an event")));
    Ok(times.collect::<Result<Vec<_>>>()?.into_iter().fold(f32::INFINITY, f32::min))
}

/// Memory of a convolution's maps and weights; everything that is read lies in one piece.
struct Place {
    addresses: Addresses,
    workspace: u64,
    _memory: [CudaSlice<u8>; 2],
}

impl Place {
    fn new(stream: &Arc<CudaStream>, shape: &ConvShape, workspace: usize) -> Result<Place> {
        let (height, width) = shape.output();
        let bf16s = |count: usize| (2 * count).next_multiple_of(256);
        let from = bf16s(shape.images * shape.height * shape.width * shape.inputs);
        let weights = bf16s(shape.outputs * shape.kernel * shape.kernel * shape.inputs);
        let bias = bf16s(shape.outputs);
        let to = bf16s(shape.images * height * width * shape.outputs);
        let residual = if shape.residual { to } else { 0 };
        let noise = noise(stream, from + weights + bias + residual)?;
        // SAFETY: written by the convolutions before anything reads it, which nothing does.
        let written = unsafe { stream.alloc::<u8>(to + workspace.max(1)) };
        let written = written.map_err(driver("timing convolutions"))?;
        let (start, end) = (noise.device_ptr(stream).0, written.device_ptr(stream).0);
        let at = |bytes: usize| start + bytes as u64;
        let addresses = Addresses {
            from: start,
            weights: at(from),
            bias: at(from + weights),
            residual: shape.residual.then(|| at(from + weights + bias)),
            to: end,
        };
        Ok(Place { addresses, workspace: end + to as u64, _memory: [noise, written] })
    }
}

/// So many bytes of bfloat16 in [-1, 1): zeros would keep a card cooler than pictures do.
fn noise(stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>> {
    let failed = driver("timing convolutions");
    let mut state = 1u32;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bf16::from_f32(state as i32 as f32 / (1u32 << 31) as f32).to_le_bytes()
    })
    .take(bytes.min(1 << 20) / 2)
    .flatten()
    .collect();
    // SAFETY: all of it is written below before anything reads it.
    let memory = unsafe { stream.alloc::<u8>(bytes) }.map_err(&failed)?;
    let start = memory.device_ptr(stream).0;
    // SAFETY: the block is no longer than the memory, and read before the call returns.
    unsafe { result::memcpy_htod_async(start, &block, stream.cu_stream()) }.map_err(&failed)?;
    let mut filled = block.len();
    while filled < bytes {
        let more = filled.min(bytes - filled);
        // SAFETY: what is filled is followed by at least as much of the same memory.
        unsafe {
            result::memcpy_dtod_async(start + filled as u64, start, more, stream.cu_stream())
        }
        .map_err(&failed)?;
        filled += more;
    }
    Ok(memory)
}
