//! Owns pictures and codes on their way into tensors and out of them. Must not know: graphs, sessions.

use half::f16;
use ort::value::{DynTensor, DynValue};

use super::session::one_line;
use crate::error::{Error, Result};
use crate::model::config::{OnnxElement, OnnxPixels, PixelLayout};
use crate::util::settings::CODES;

/// The float of every byte of every channel: `(byte - mean) / std`, in float32 and in this order, as
/// reference scripts compute it.
pub(super) fn tables(pixels: &OnnxPixels) -> Vec<[f32; 256]> {
    let table = |channel: usize| match &pixels.scale {
        None => std::array::from_fn(|byte| byte as f32),
        Some(scale) => {
            let (mean, std) = (scale.mean[channel], scale.std[channel]);
            std::array::from_fn(|byte| (byte as f32 - mean) / std)
        }
    };
    (0..pixels.channels).map(table).collect()
}

/// An error of a tensor that isn't of the type it was made of.
fn told(error: ort::Error) -> Error {
    Error::invalid(one_line(&error))
}

/// Writes images, `[H, W, C]` bytes each, into a tensor that holds as many or more; the rest of it
/// becomes zeros.
///
/// # Errors
/// A tensor of another type.
pub(super) fn write<'a>(
    tensor: &mut DynTensor,
    pixels: &OnnxPixels,
    tables: &[[f32; 256]],
    images: impl Iterator<Item = &'a [u8]>,
    each: usize,
) -> Result<()> {
    let value = |channel: usize, byte: u8| tables[channel][usize::from(byte)];
    macro_rules! into {
        ($kind:ty, $zero:expr, $value:expr) => {{
            let (_, values) = tensor.try_extract_tensor_mut::<$kind>().map_err(told)?;
            let mut places = values.chunks_exact_mut(each.max(1));
            for (image, place) in images.zip(&mut places) {
                scatter(place, image, pixels, $value);
            }
            places.for_each(|place| place.fill($zero));
        }};
    }
    match pixels.tensor.element {
        OnnxElement::F32 => into!(f32, 0.0, value),
        OnnxElement::F16 => into!(f16, f16::ZERO, |c, byte| f16::from_f32(value(c, byte))),
        OnnxElement::U8 => into!(u8, 0, |_, byte| byte),
        other => return Err(Error::internal(format!("pixels as {other:?}"))),
    }
    Ok(())
}

fn scatter<T>(place: &mut [T], image: &[u8], pixels: &OnnxPixels, value: impl Fn(usize, u8) -> T) {
    let channels = pixels.channels;
    match pixels.layout {
        PixelLayout::Nhwc => {
            for (pixel, bytes) in place.chunks_exact_mut(channels).zip(image.chunks_exact(channels))
            {
                for (channel, (to, byte)) in pixel.iter_mut().zip(bytes).enumerate() {
                    *to = value(channel, *byte);
                }
            }
        }
        PixelLayout::Nchw => {
            let plane = image.len() / channels;
            for (channel, to) in place.chunks_exact_mut(plane.max(1)).enumerate() {
                for (to, bytes) in to.iter_mut().zip(image.chunks_exact(channels)) {
                    *to = value(channel, bytes[channel]);
                }
            }
        }
    }
}

/// The shape and floats of pictures that came out, in the order of their layout; bytes as floats.
///
/// # Errors
/// A tensor of another type.
pub(super) fn floats(value: &DynValue, element: OnnxElement) -> Result<(Vec<i64>, Vec<f32>)> {
    macro_rules! out {
        ($kind:ty, $float:expr) => {{
            let (shape, values) = value.try_extract_tensor::<$kind>().map_err(told)?;
            (shape.to_vec(), values.iter().map($float).collect())
        }};
    }
    Ok(match element {
        OnnxElement::F32 => out!(f32, |x| *x),
        OnnxElement::F16 => out!(f16, |x| x.to_f32()),
        OnnxElement::U8 => out!(u8, |x| f32::from(*x)),
        other => return Err(Error::internal(format!("pixels as {other:?}"))),
    })
}

/// The floats of one picture as `[H, W, C]` in pixels of 0 to 255, not rounded.
pub(super) fn interleaved(floats: &[f32], pixels: &OnnxPixels) -> Vec<f32> {
    let channels = pixels.channels;
    let plane = floats.len() / channels;
    let at = |pixel: usize, channel: usize| match pixels.layout {
        PixelLayout::Nhwc => floats[pixel * channels + channel],
        PixelLayout::Nchw => floats[channel * plane + pixel],
    };
    let scaled = |pixel: usize, channel: usize| match &pixels.scale {
        None => at(pixel, channel),
        Some(scale) => at(pixel, channel) * scale.std[channel] + scale.mean[channel],
    };
    (0..plane)
        .flat_map(|pixel| (0..channels).map(move |c| (pixel, c)))
        .map(|(p, c)| scaled(p, c))
        .collect()
}

/// The shape of an output of codes, and the codes themselves, each below `count`.
///
/// # Errors
/// A tensor that isn't of integers; a code that isn't below `count`.
pub(super) fn codes(
    value: &DynValue,
    element: OnnxElement,
    count: usize,
) -> Result<(Vec<i64>, Vec<u32>)> {
    let checked = |code: Option<u32>, shown: &dyn std::fmt::Display| match code {
        Some(code) if (code as usize) < count => Ok(code),
        None if count > 1 << 32 => Err(Error::invalid(format!(
            "it holds the code {shown}, and a code has 32 bits at most"
        ))),
        _ => Err(Error::invalid(format!(
            "it holds the code {shown} where there are {count}, by `codes` in tokenizer.json or {CODES}"
        ))),
    };
    macro_rules! out {
        ($kind:ty) => {{
            let (shape, values) = value.try_extract_tensor::<$kind>().map_err(told)?;
            let codes = values.iter().map(|&code| checked(u32::try_from(code).ok(), &code));
            (shape.to_vec(), codes.collect::<Result<_>>()?)
        }};
    }
    Ok(match element {
        OnnxElement::U8 => out!(u8),
        OnnxElement::U16 => out!(u16),
        OnnxElement::U32 => out!(u32),
        OnnxElement::U64 => out!(u64),
        OnnxElement::I8 => out!(i8),
        OnnxElement::I16 => out!(i16),
        OnnxElement::I32 => out!(i32),
        OnnxElement::I64 => out!(i64),
        other => return Err(Error::internal(format!("codes as {other:?}"))),
    })
}

/// Writes codes into a tensor that holds as many or more; the rest of it becomes zeros.
///
/// # Errors
/// A tensor of another type; codes beyond it.
pub(super) fn write_codes(
    tensor: &mut DynTensor,
    element: OnnxElement,
    codes: &[u32],
) -> Result<()> {
    macro_rules! into {
        ($kind:ty) => {{
            let (_, values) = tensor.try_extract_tensor_mut::<$kind>().map_err(told)?;
            values.fill(0);
            for (to, &code) in values.iter_mut().zip(codes) {
                *to = <$kind>::try_from(code).map_err(|_| {
                    Error::invalid(format!("the decoder's input is too narrow for the code {code}"))
                })?;
            }
        }};
    }
    match element {
        OnnxElement::U8 => into!(u8),
        OnnxElement::U16 => into!(u16),
        OnnxElement::U32 => into!(u32),
        OnnxElement::U64 => into!(u64),
        OnnxElement::I8 => into!(i8),
        OnnxElement::I16 => into!(i16),
        OnnxElement::I32 => into!(i32),
        OnnxElement::I64 => into!(i64),
        other => return Err(Error::internal(format!("codes as {other:?}"))),
    }
    Ok(())
}
