//! Owns BMP: every header from OS/2's 12 bytes to Windows' V5, palettes, bit fields, run lengths,
//! as Pillow reads them. Must not know: alpha rules.
//!
//! What is refused by name: OS/2's Huffman and 24-bit runs, JPEG and PNG inside, CMYK. Where alpha
//! is 0 everywhere its writer knew of none, and the picture is opaque.

use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::error::Reject;

/// The file's header; the picture's own follows.
const FILE_HEADER: usize = 14;

/// Values of the compression field.
const PLAIN: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;
const ALPHA_BITFIELDS: u32 = 6;

struct Header {
    /// Bytes of the picture's header.
    size: usize,
    width: u32,
    height: u32,
    /// Whether the first row is the upper one.
    top_down: bool,
    depth: u32,
    compression: u32,
    /// Entries of the palette, 0 without one.
    colors: usize,
    /// Where the pixels start.
    pixels: usize,
}

fn ends_early() -> Reject {
    reject("BMP: the file ends early: truncated")
}

fn long(bytes: &[u8], at: usize) -> Result<u32, Reject> {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map(u32::from_le_bytes).ok_or_else(ends_early)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Reject> {
    let two = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
    two.map(|two| u16::from_le_bytes(two).into()).ok_or_else(ends_early)
}

/// Entries of the palette for pixels of `depth` bits, of which the header says that it has `used`,
/// 0 for as many as the pixels can name.
fn palette_colors(depth: u32, used: u32) -> Result<usize, Reject> {
    match depth {
        ..=8 if used > 1 << 16 => {
            Err(reject(format!("BMP: a palette of {used} colours is impossible")))
        }
        1..=8 if used == 0 => Ok(1 << depth),
        1..=8 => Ok(used as usize),
        _ => Ok(0),
    }
}

/// Where the pixels start in a file whose palette of so many bytes starts at `behind`.
fn pixels_start(bytes: &[u8], behind: usize, palette: usize) -> Result<usize, Reject> {
    Ok(match long(bytes, 10)? as usize {
        0 => behind + palette,
        // Some writers forget the palette.
        at if at == behind => behind + palette,
        at => at,
    })
}

/// Width and height, as the header says.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    Header::read(bytes).ok().map(|header| (header.width, header.height))
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, Reject> {
        let size = long(bytes, FILE_HEADER)? as usize;
        let short = size == 12;
        if !matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124) {
            return Err(reject(format!("BMP: a header of {size} bytes is not supported")));
        }
        if bytes.len() < FILE_HEADER + size {
            return Err(ends_early());
        }
        let (width, height) = match short {
            true => (word(bytes, 18)? as i32, word(bytes, 20)? as i32),
            false => (long(bytes, 18)? as i32, long(bytes, 22)? as i32),
        };
        let depth = word(bytes, if short { 24 } else { 28 })?;
        let (compression, used) = match size {
            12 | 16 => (PLAIN, 0),
            _ => (long(bytes, 30)?, long(bytes, 46)?),
        };
        if width <= 0 || height == i32::MIN || height == 0 {
            return Err(reject(format!(
                "BMP: the image is {width} x {height}, which is no size of a picture"
            )));
        }
        let colors = palette_colors(depth, used)?;
        let pixels = pixels_start(bytes, FILE_HEADER + size, colors * if short { 3 } else { 4 })?;
        let header = Header {
            size,
            width: width as u32,
            height: height.unsigned_abs(),
            top_down: height < 0,
            depth,
            compression,
            colors,
            pixels,
        };
        header.check()?;
        Ok(header)
    }

    /// Refuses what isn't decoded, by name.
    fn check(&self) -> Result<(), Reject> {
        let depth = self.depth;
        // The same numbers mean other things in OS/2's header.
        let what = match (self.compression, self.size) {
            (3, 64) => "OS/2's Huffman coding is".into(),
            (4, 64) => "OS/2's 24-bit run lengths are".into(),
            (PLAIN, _) if matches!(depth, 1 | 2 | 4 | 8 | 16 | 24 | 32) => return Ok(()),
            (RLE8, _) if depth == 8 => return Ok(()),
            (RLE4, _) if depth == 4 => return Ok(()),
            (BITFIELDS | ALPHA_BITFIELDS, _) if matches!(depth, 16 | 24 | 32) => return Ok(()),
            (PLAIN, _) => format!("{depth} bits a pixel are"),
            (RLE8 | RLE4, _) => format!("run lengths of {depth}-bit pixels are"),
            (BITFIELDS | ALPHA_BITFIELDS, _) => format!("bit fields of {depth}-bit pixels are"),
            (4, _) => "JPEG inside BMP is".into(),
            (5, _) => "PNG inside BMP is".into(),
            (11..=13, _) => "CMYK is".into(),
            (number, _) => format!("compression number {number} is"),
        };
        Err(reject(format!("BMP: {what} not supported")))
    }

    /// The masks of red, green, blue and alpha in a pixel of 16, 24 or 32 bits.
    fn masks(&self, bytes: &[u8]) -> Result<[u32; 4], Reject> {
        const EIGHT: [u32; 4] = [0xFF_0000, 0xFF00, 0xFF, 0];
        if !matches!(self.compression, BITFIELDS | ALPHA_BITFIELDS) {
            return Ok(if self.depth == 16 { [0x7C00, 0x3E0, 0x1F, 0] } else { EIGHT });
        }
        let at = FILE_HEADER + 40;
        let alpha = self.size >= 56 || self.compression == ALPHA_BITFIELDS;
        let masks = [
            long(bytes, at)?,
            long(bytes, at + 4)?,
            long(bytes, at + 8)?,
            if alpha { long(bytes, at + 12)? } else { 0 },
        ];
        match masks {
            // Nothing said: the usual order.
            [0, 0, 0, 0] if self.depth == 32 => Ok([EIGHT[0], EIGHT[1], EIGHT[2], 0xFF00_0000]),
            masks => Ok(masks),
        }
    }

    fn row_bytes(&self) -> usize {
        (self.width as usize * self.depth as usize).div_ceil(32) * 4
    }
}

/// BMP and DIB with a file header.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let header = Header::read(bytes)?;
    let (width, height) = (header.width, header.height);
    limits.check(width.into(), height.into(), 5)?;
    let data = bytes.get(header.pixels..).ok_or_else(ends_early)?;
    let (samples, color_mode) = if header.depth <= 8 {
        let palette = palette(bytes, &header)?;
        let indices = match header.compression {
            PLAIN => indices(data, &header)?,
            _ => run_lengths(data, header.pixels, &header)?,
        };
        let rgb = indices.iter().flat_map(|&index| palette[usize::from(index)]).collect();
        (Samples::Rgb(rgb), if header.depth == 1 { "1" } else { "P" })
    } else {
        true_color(data, &header, header.masks(bytes)?)?
    };
    Ok(Pixels { width, height, samples, color_mode })
}

/// Colours of all indices; those beyond the palette are black.
fn palette(bytes: &[u8], header: &Header) -> Result<[[u8; 3]; 256], Reject> {
    let entry = if header.size == 12 { 3 } else { 4 };
    let start = FILE_HEADER + header.size;
    let mut palette = [[0; 3]; 256];
    for (index, color) in palette.iter_mut().take(header.colors).enumerate() {
        let at = start + index * entry;
        // Pixels that start inside the palette cut it short.
        if at + 3 > header.pixels {
            break;
        }
        let [blue, green, red] = bytes.get(at..at + 3).ok_or_else(ends_early)? else { break };
        *color = [*red, *green, *blue];
    }
    Ok(palette)
}

/// The rows from the top, without their padding, which the last in the file may lack.
fn rows<'a>(data: &'a [u8], header: &Header) -> Result<Vec<&'a [u8]>, Reject> {
    let (stride, height) = (header.row_bytes(), header.height as usize);
    let bytes = (header.width as usize * header.depth as usize).div_ceil(8);
    let rows: Option<Vec<&[u8]>> =
        (0..height).map(|row| data.get(row * stride..row * stride + bytes)).collect();
    let mut rows = rows.ok_or_else(ends_early)?;
    if !header.top_down {
        rows.reverse();
    }
    Ok(rows)
}

/// One byte a pixel out of 1, 2, 4 or 8 bits.
fn indices(data: &[u8], header: &Header) -> Result<Vec<u8>, Reject> {
    let (width, depth) = (header.width as usize, header.depth as usize);
    let each = 8 / depth;
    let mask = ((1u16 << depth) - 1) as u8;
    let mut out = Vec::with_capacity(width * header.height as usize);
    for row in rows(data, header)? {
        let index = |x: usize| row[x / each] >> (8 - depth - x % each * depth) & mask;
        out.extend((0..width).map(index));
    }
    Ok(out)
}

/// One byte a pixel out of run lengths: pixels that deltas, ends of lines and the end of the
/// picture pass over have index 0. A run of one index ends with its row, as in Pillow; pixels that
/// cross its end are damage. `start` is the place of `data` in the file.
fn run_lengths(data: &[u8], start: usize, header: &Header) -> Result<Vec<u8>, Reject> {
    let mut canvas = Canvas::new(header);
    let mut at = 0usize;
    while canvas.y < canvas.height {
        let Some(&[count, byte]) = data.get(at..at + 2) else {
            // All pixels may be there though the end isn't said.
            return match canvas.is_full() {
                true => Ok(canvas.indices),
                false => Err(ends_early()),
            };
        };
        at += 2;
        match (count, byte) {
            (0, 0) => (canvas.x, canvas.y) = (0, canvas.y + 1),
            (0, 1) => return Ok(canvas.indices),
            (0, 2) => {
                let Some(&[right, up]) = data.get(at..at + 2) else { return Err(ends_early()) };
                at += 2;
                (canvas.x, canvas.y) = (canvas.x + usize::from(right), canvas.y + usize::from(up));
            }
            (0, count) => {
                let count = usize::from(count);
                let length = if canvas.four { count.div_ceil(2) } else { count };
                let bytes = data.get(at..at + length).ok_or_else(ends_early)?;
                canvas.draw_pixels(bytes, count)?;
                at += length;
                // The next code starts at an even place of the file.
                at += (start + at) % 2;
            }
            (count, byte) => canvas.draw_run(byte, usize::from(count))?,
        }
    }
    Ok(canvas.indices)
}

/// The picture that run lengths draw, and where the next pixel goes: `y` counts the file's rows.
struct Canvas {
    width: usize,
    height: usize,
    top_down: bool,
    /// Whether bytes hold two pixels each, or one.
    four: bool,
    x: usize,
    y: usize,
    indices: Vec<u8>,
}

impl Canvas {
    fn new(header: &Header) -> Canvas {
        let (width, height) = (header.width as usize, header.height as usize);
        let (top_down, four) = (header.top_down, header.compression == RLE4);
        Canvas { width, height, top_down, four, x: 0, y: 0, indices: vec![0; width * height] }
    }

    /// Whether the next place is behind the last pixel.
    fn is_full(&self) -> bool {
        self.x >= self.width && self.y + 1 == self.height
    }

    /// `count` pixels from `x` on in the current row.
    fn place(&mut self, x: usize, count: usize) -> Result<&mut [u8], Reject> {
        let row = if self.top_down { self.y } else { self.height - 1 - self.y };
        match x + count <= self.width {
            true => Ok(&mut self.indices[row * self.width + x..][..count]),
            false => Err(reject("BMP: pixels cross the end of their row: damaged")),
        }
    }

    /// Pixels that `bytes` name one by one.
    fn draw_pixels(&mut self, bytes: &[u8], count: usize) -> Result<(), Reject> {
        let four = self.four;
        for (n, out) in self.place(self.x, count)?.iter_mut().enumerate() {
            *out = pixel(bytes[if four { n / 2 } else { n }], n, four);
        }
        self.x += count;
        Ok(())
    }

    /// Pixels that are all in `byte`, as far as the row goes.
    fn draw_run(&mut self, byte: u8, count: usize) -> Result<(), Reject> {
        let four = self.four;
        let inside = count.min(self.width.saturating_sub(self.x));
        let run = self.place(self.x.min(self.width), inside)?.iter_mut().enumerate();
        run.for_each(|(n, out)| *out = pixel(byte, n, four));
        self.x += count;
        Ok(())
    }
}

/// Pixel `n` of bytes that hold two pixels each, where `four`, or one.
fn pixel(byte: u8, n: usize, four: bool) -> u8 {
    match (four, n % 2) {
        (false, _) => byte,
        (true, 0) => byte >> 4,
        (true, _) => byte & 15,
    }
}

/// A channel of a pixel of 16 to 32 bits.
#[derive(Clone, Copy)]
struct Channel {
    shift: u32,
    /// Largest value.
    max: u32,
    /// Bits beyond the upper eight.
    excess: u32,
}

impl Channel {
    fn of(mask: u32) -> Result<Channel, Reject> {
        let shift = mask.trailing_zeros() % 32;
        let max = mask >> shift;
        if max & max.wrapping_add(1) != 0 {
            return Err(reject("BMP: bit fields with gaps are not supported"));
        }
        let excess = max.count_ones().saturating_sub(8);
        Ok(Channel { shift, max: max >> excess, excess })
    }

    /// As Pillow: v * 255 / max, cut off.
    fn value(self, pixel: u32) -> u8 {
        match self.max {
            0 => 0,
            255 => (pixel >> (self.shift + self.excess)) as u8,
            max => ((pixel >> (self.shift + self.excess) & max) * 255 / max) as u8,
        }
    }
}

fn true_color(
    data: &[u8],
    header: &Header,
    masks: [u32; 4],
) -> Result<(Samples, &'static str), Reject> {
    let [red, green, blue, alpha] = masks.map(Channel::of);
    let colors = [red?, green?, blue?];
    let alpha = alpha?;
    let bytes = header.depth as usize / 8;
    let rows = rows(data, header)?;
    let pixels = rows.iter().flat_map(|row| {
        row.chunks_exact(bytes)
            .map(|pixel| pixel.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    });
    let transparent = alpha.max != 0 && pixels.clone().any(|pixel| alpha.value(pixel) != 0);
    if transparent {
        let quad = |pixel| {
            [0, 1, 2, 3].map(|at| match at {
                3 => alpha.value(pixel),
                at => colors[at].value(pixel),
            })
        };
        return Ok((Samples::Rgba(pixels.flat_map(quad).collect()), "RGBA"));
    }
    let triple = |pixel| colors.map(|color| color.value(pixel));
    Ok((Samples::Rgb(pixels.flat_map(triple).collect()), "RGB"))
}

#[cfg(test)]
mod tests;
