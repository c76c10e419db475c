//! Owns batches that a device can't hold: they go through it in halves, and in halves of those.
//! Must not know: devices; how they run out of memory.
//!
//! Codes and pixels don't depend on the batch an image comes in (see [`Engine`]), so that parts
//! give what the whole would have given.

use std::ops::Range;

use super::interface::{CodeGrid, Decoded, Encoded, Engine, Failed, Images, PixelBatch, Submitted};
use crate::error::{Error, Result};
use crate::util::panics;

/// [`Engine::submit`] in parts of at most `images_max` images, which is halved where the device
/// runs out of memory and stays so for the caller's next batch. [`collect`] puts them together.
///
/// # Errors
/// Those of the engine; [`Error::OutOfMemory`] only where a single image is too much.
pub(crate) fn submit(
    engine: &mut dyn Engine,
    images: &Images<'_>,
    images_max: &mut usize,
) -> Result<Vec<Submitted>> {
    in_parts(images.each.len(), images_max, |range| match range.len() == images.each.len() {
        true => engine.submit(images),
        false => engine.submit(&images.part(range)),
    })
}

/// [`Engine::collect`] of all parts of a batch.
///
/// # Errors
/// Those of the engine.
pub(crate) fn collect(engine: &mut dyn Engine, parts: Vec<Submitted>) -> Result<Encoded> {
    let parts = parts.into_iter().map(|part| engine.collect(part));
    parts.collect::<Result<_>>().map(join_codes)
}

/// [`Engine::encode`] in such parts.
///
/// # Errors
/// As for [`submit`].
pub(crate) fn encode(
    engine: &mut dyn Engine,
    images: &Images<'_>,
    images_max: &mut usize,
) -> Result<Encoded> {
    let parts = submit(engine, images, images_max)?;
    collect(engine, parts)
}

/// [`Engine::decode`], in the same way.
///
/// # Errors
/// As for [`submit`].
pub(crate) fn decode(
    engine: &mut dyn Engine,
    codes: &Encoded,
    images_max: &mut usize,
) -> Result<Decoded> {
    let _at = panics::at("decode tokens", None);
    let parts = in_parts(codes.count, images_max, |range| match range.len() == codes.count {
        true => engine.decode(codes),
        false => engine.decode(&part_of_codes(codes, range)),
    })?;
    Ok(join_pixels(parts))
}

fn in_parts<T>(
    count: usize,
    images_max: &mut usize,
    mut work: impl FnMut(Range<usize>) -> Result<T>,
) -> Result<Vec<T>> {
    let (mut parts, mut at) = (Vec::new(), 0_usize);
    loop {
        let end = count.min(at.saturating_add((*images_max).max(1)));
        match work(at..end) {
            Ok(part) => {
                parts.push(part);
                at = end;
            }
            Err(Error::OutOfMemory(_)) if end - at > 1 => *images_max = (end - at) / 2,
            Err(error) => return Err(error),
        }
        if at == count {
            return Ok(parts);
        }
    }
}

fn part_of_codes(codes: &Encoded, range: Range<usize>) -> Encoded {
    let level = |grid: &CodeGrid| {
        // A token may be a list of bits.
        let values = grid.codes.len() / codes.count.max(1);
        let tokens = grid.height * grid.width;
        let part = |each: usize| range.start * each..range.end * each;
        CodeGrid {
            codes: grid.codes[part(values)].to_vec(),
            // Codes that come from a file have no distances.
            distances: grid.distances.get(part(tokens)).unwrap_or_default().to_vec(),
            ..*grid
        }
    };
    // Whether codes failed is no matter of decoding them.
    let levels = codes.levels.iter().map(level).collect();
    Encoded { count: range.len(), levels, failed: Vec::new() }
}

fn join_codes(parts: Vec<Encoded>) -> Encoded {
    let mut parts = parts.into_iter();
    let none = || Encoded { count: 0, levels: Vec::new(), failed: Vec::new() };
    let mut whole = parts.next().unwrap_or_else(none);
    for part in parts {
        whole.failed.extend(behind(whole.count, part.failed));
        whole.count += part.count;
        for (level, more) in whole.levels.iter_mut().zip(part.levels) {
            level.codes.extend(more.codes);
            level.distances.extend(more.distances);
        }
    }
    whole
}

fn join_pixels(parts: Vec<Decoded>) -> Decoded {
    let mut parts = parts.into_iter();
    let none = || Decoded {
        pictures: PixelBatch { pixels: Vec::new(), count: 0, height: 0, width: 0, channels: 3 },
        failed: Vec::new(),
    };
    let mut whole = parts.next().unwrap_or_else(none);
    for part in parts {
        whole.failed.extend(behind(whole.pictures.count, part.failed));
        whole.pictures.count += part.pictures.count;
        whole.pictures.pixels.extend(part.pictures.pixels);
    }
    whole
}

/// The failures of a part that has so many images before it.
fn behind(images: usize, failed: Failed) -> impl Iterator<Item = (usize, String)> {
    failed.into_iter().map(move |(index, reason)| (images + index, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a device that holds `fits` images is asked for, and the batch size that it ends with.
    fn asked(count: usize, mut images_max: usize, fits: usize) -> (Vec<[usize; 2]>, usize) {
        let mut asked = Vec::new();
        let parts = in_parts(count, &mut images_max, |range| {
            asked.push([range.start, range.end]);
            if range.len() > fits { Err(Error::out_of_memory("full")) } else { Ok(range) }
        });
        let done: Vec<usize> = parts.unwrap().into_iter().flatten().collect();
        assert_eq!(done, (0..count).collect::<Vec<_>>(), "every image once, in order");
        (asked, images_max)
    }

    #[test]
    fn a_batch_that_does_not_fit_goes_in_halves() {
        assert_eq!(asked(16, usize::MAX, 16), (vec![[0, 16]], usize::MAX));
        assert_eq!(
            asked(16, usize::MAX, 5),
            (vec![[0, 16], [0, 8], [0, 4], [4, 8], [8, 12], [12, 16]], 4)
        );
        assert_eq!(asked(5, 4, 2), (vec![[0, 4], [0, 2], [2, 4], [4, 5]], 2));
        assert_eq!(asked(3, usize::MAX, 1), (vec![[0, 3], [0, 1], [1, 2], [2, 3]], 1));
    }

    #[test]
    fn one_image_that_does_not_fit_is_the_devices_error() {
        let mut images_max = usize::MAX;
        let work = |_| -> Result<()> { Err(Error::out_of_memory("full")) };
        let error = in_parts(8, &mut images_max, work).unwrap_err();
        assert!(matches!(&error, Error::OutOfMemory(reason) if reason.to_string() == "full"));
        assert_eq!((images_max, error.exit_code()), (1, 2));
        assert!(error.to_string().contains("full; use a smaller size"), "{error}");
    }

    #[test]
    fn parts_join_to_the_whole() {
        let grid = |height, width, count: usize| CodeGrid {
            codes: (0..count * height * width).map(|i| i as u32).collect(),
            distances: (0..count * height * width).map(|i| i as f32).collect(),
            height,
            width,
        };
        let mut codes =
            Encoded { count: 5, levels: vec![grid(2, 3, 5), grid(1, 1, 5)], failed: Vec::new() };
        let mut parts = [0..2, 2..4, 4..5].map(|range| part_of_codes(&codes, range)).to_vec();
        assert_eq!(parts[1].levels[0].codes, (12..24).collect::<Vec<_>>());
        let reason = |index: usize| (index, format!("the part's {index}"));
        parts[0].failed = vec![reason(1)];
        parts[1].failed = vec![reason(0), reason(1)];
        parts[2].failed = vec![reason(0)];
        codes.failed = [1, 2, 3, 4].into_iter().zip([1, 0, 1, 0].map(|i| reason(i).1)).collect();
        assert_eq!(join_codes(parts), codes);
        let pixels = (0..5 * 12).collect();
        let batch = PixelBatch { pixels, count: 5, height: 2, width: 2, channels: 3 };
        let [one, four] = [0..1, 1..5].map(|range| Decoded {
            failed: vec![(range.len() - 1, "the last".to_owned())],
            pictures: batch.images().part(range).together(),
        });
        assert_eq!((four.pictures.count, four.pictures.pixels[0]), (4, 12));
        let failed = [0, 4].map(|index| (index, "the last".to_owned())).to_vec();
        assert_eq!(join_pixels(vec![one, four]), Decoded { pictures: batch, failed });
    }
}
