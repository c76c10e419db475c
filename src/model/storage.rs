//! Owns the way from candle's storage on the CPU to slices, with which the CPU side of our operations
//! begins. Must not know: what an operation computes.

use candle_core::{CpuStorage, Layout, Result, WithDType, bail};

/// The elements of a contiguous tensor on the CPU.
pub(crate) fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let data = storage.as_slice::<T>()?;
    let (start, end) = extent(layout)?;
    Ok(&data[start..end])
}

/// The float32 elements of a contiguous tensor on the CPU, to be changed in place.
pub(crate) fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (start, end) = extent(layout)?;
    match storage {
        CpuStorage::F32(data) => Ok(&mut data[start..end]),
        _ => bail!("what is changed in place is float32"),
    }
}

fn extent(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(extent) => Ok(extent),
        None => bail!("an operation got a tensor that is not contiguous"),
    }
}

/// Runs `$body` with the type alias `$t` as the element type of `$dtype`.
macro_rules! for_float {
    ($dtype:expr, $t:ident, $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            other => {
                candle_core::bail!("networks are trained in float32 or float64, not {other:?}")
            }
        }
    };
}
pub(super) use for_float;
