//! Owns PBM, PGM and PPM, plain and raw: from bytes to samples, with Pillow's rounding for every
//! largest value. PAM goes through the `image` crate.

use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::error::Reject;

fn ends_early() -> Reject {
    reject("PNM: the file ends early: truncated")
}

/// Numbers of a header or of plain samples, between white space and comments.
struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// Passes over white space and comments; the next byte that is neither.
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            match byte {
                b'#' => {
                    let rest = &self.bytes[self.at..];
                    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
                    self.at += end.unwrap_or(rest.len());
                }
                byte if is_space(byte) => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn number(&mut self, what: &str) -> Result<u32, Reject> {
        // Room for any 32-bit number.
        const DIGITS_MAX: usize = 10;
        self.next_byte().ok_or_else(ends_early)?;
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| is_space(byte) || byte == b'#');
        let token = &rest[..end.unwrap_or(rest.len())];
        self.at += token.len();
        let digits = token.iter().all(u8::is_ascii_digit) && token.len() <= DIGITS_MAX;
        let text = std::str::from_utf8(token).ok().filter(|_| digits);
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| reject(format!("PNM: the {what} is no number that fits: damaged")))
    }

    /// What follows the header and the one white space after it.
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at + 1..).unwrap_or(&[])
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0B' | b'\x0C' | b'\r')
}

/// Width and height of a file that starts with P1 to P6; None where its header ends early.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut tokens = Tokens { bytes, at: 2 };
    let size = (tokens.number("width").ok()?, tokens.number("height").ok()?);
    // The last digits may be still to come.
    (tokens.at < bytes.len()).then_some(size)
}

/// A file that starts with P1 to P6.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let kind = bytes.get(1).copied().unwrap_or(0);
    let mut tokens = Tokens { bytes, at: 2 };
    let (width, height) = (tokens.number("width")?, tokens.number("height")?);
    let channels = if matches!(kind, b'3' | b'6') { 3 } else { 1 };
    limits.check(width.into(), height.into(), 2 * channels + 3)?;
    let count = width as usize * height as usize * channels as usize;
    if matches!(kind, b'1' | b'4') {
        let grey = match kind {
            b'1' => plain_bits(tokens, count)?,
            _ => raw_bits(tokens.rest(), width as usize, height as usize)?,
        };
        return Ok(Pixels { width, height, samples: Samples::Grey(grey), color_mode: "1" });
    }
    let max = tokens.number("largest value")?;
    if !(1..=65535).contains(&max) {
        return Err(reject(format!("PNM: the largest value is {max}, not within 1..65535")));
    }
    let table = table(max, channels == 1);
    let samples = match kind {
        b'2' | b'3' => plain_samples(tokens, count, max, &table)?,
        _ => raw_samples(tokens.rest(), count, max, &table)?,
    };
    let (samples, color_mode) = match channels {
        3 => (Samples::Rgb(samples), "RGB"),
        _ => (Samples::Grey(samples), if max > 255 { "I" } else { "L" }),
    };
    Ok(Pixels { width, height, samples, color_mode })
}

/// What becomes of every value that fits the samples' bytes, as Pillow rounds it: halves to even,
/// values beyond the largest to white. Deep grey goes through 16 bits to round(v / 257).
fn table(max: u32, grey: bool) -> Vec<u8> {
    let deep = max > 255;
    let share = |value: u32, full: f64| {
        (f64::from(value) / f64::from(max) * full).round_ties_even().min(full) as u32
    };
    let entry = |value: u32| match deep && grey {
        true => ((share(value, 65535.0) + 128) / 257) as u8,
        false => share(value, 255.0) as u8,
    };
    (0..if deep { 1 << 16 } else { 1 << 8 }).map(entry).collect()
}

fn raw_samples(data: &[u8], count: usize, max: u32, table: &[u8]) -> Result<Vec<u8>, Reject> {
    let bytes = if max > 255 { 2 } else { 1 };
    let data = data.get(..count.saturating_mul(bytes)).ok_or_else(ends_early)?;
    Ok(match bytes {
        1 => data.iter().map(|&value| table[usize::from(value)]).collect(),
        _ => {
            let pairs = data.as_chunks::<2>().0.iter();
            pairs.map(|&pair| table[usize::from(u16::from_be_bytes(pair))]).collect()
        }
    })
}

fn plain_samples(
    mut tokens: Tokens,
    count: usize,
    max: u32,
    table: &[u8],
) -> Result<Vec<u8>, Reject> {
    // A sample takes two bytes of text at least.
    if tokens.bytes.len() / 2 < count.saturating_sub(1) / 2 {
        return Err(ends_early());
    }
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let value = tokens.number("value of a sample")?;
        if value > max {
            return Err(reject(format!("PNM: a sample is {value}, more than {max}: damaged")));
        }
        out.push(table[value as usize]);
    }
    Ok(out)
}

/// Digits 0 (white) and 1 (black), with or without space between them.
fn plain_bits(mut tokens: Tokens, count: usize) -> Result<Vec<u8>, Reject> {
    if tokens.bytes.len() < count {
        return Err(ends_early());
    }
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        out.push(match tokens.next_byte().ok_or_else(ends_early)? {
            b'0' => 255,
            b'1' => 0,
            _ => return Err(reject("PNM: a pixel is neither 0 nor 1: damaged")),
        });
        tokens.at += 1;
    }
    Ok(out)
}

fn raw_bits(data: &[u8], width: usize, height: usize) -> Result<Vec<u8>, Reject> {
    let stride = width.div_ceil(8);
    let data = data.get(..stride.saturating_mul(height)).ok_or_else(ends_early)?;
    let mut out = Vec::with_capacity(width * height);
    for row in data.chunks_exact(stride) {
        let white = |x: usize| row[x / 8] >> (7 - x % 8) & 1 == 0;
        out.extend((0..width).map(|x| if white(x) { 255 } else { 0 }));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(bytes: &[u8]) -> Result<Vec<u8>, String> {
        match decode(bytes, &Limits::default()).map_err(|error| error.message)?.samples {
            Samples::Grey(grey) => Ok(grey),
            Samples::Rgb(rgb) => Ok(rgb),
            _ => Err("neither grey nor RGB".into()),
        }
    }

    #[test]
    fn every_largest_value_scales_as_in_pillow() {
        // 10 of 100 is 25.5, which goes to the even neighbour, as does 30 of 100: 76.5.
        assert_eq!(grey(b"P5\n3 1\n100\n\x0A\x1E\x64").unwrap(), [26, 76, 255]);
        assert_eq!(grey(b"P5 2 1 1 \x01\x02").unwrap(), [255, 255]);
        assert_eq!(grey(b"P2 3 1 1000 0 500 1000").unwrap(), [0, 128, 255]);
        assert_eq!(grey(b"P6 1 1 65535 \x00\x80\x01\x00\xFF\xFF").unwrap(), [0, 1, 255]);
        assert_eq!(grey(b"P3 # c\n1 1 7 0 3 7").unwrap(), [0, 109, 255]);
    }

    #[test]
    fn bits_are_black_where_set() {
        assert_eq!(grey(b"P1\n3 2\n010 1\n# c\n1 0").unwrap(), [255, 0, 255, 0, 0, 255]);
        assert_eq!(grey(b"P4\n3 2\n\x40\xC0").unwrap(), [255, 0, 255, 0, 0, 255]);
    }

    #[test]
    fn what_is_missing_or_impossible_is_told() {
        let early = "PNM: the file ends early: truncated";
        for bytes in
            [&b"P5\n3 1\n255\nab"[..], b"P2 3 1 255 1 2", b"P1 3 1 01", b"P4 9 1\n\0", b"P6 1"]
        {
            assert_eq!(grey(bytes).unwrap_err(), early);
        }
        assert!(grey(b"P5 1 1 0 a").unwrap_err().contains("not within 1..65535"));
        assert!(grey(b"P5 1 1 65536 a").unwrap_err().contains("not within 1..65535"));
        assert!(grey(b"P2 1 1 9 10").unwrap_err().contains("a sample is 10, more than 9"));
        assert!(grey(b"P2 1 1 9 -1").unwrap_err().contains("no number that fits"));
        assert!(grey(b"P1 1 1 2").unwrap_err().contains("neither 0 nor 1"));
        assert!(grey(b"P5 99999999999 1 1 a").unwrap_err().contains("the width is no number"));
        assert!(grey(b"P5 0 1 1 a").unwrap_err().contains("no pixels"));
    }
}
