//! Owns the headers of Parquet's delta encodings: how many values they claim, where they end. Must
//! not know: pages, values.

/// Values in a block, and its parts: writers take 128 and 4.
const BLOCK_MAX: u64 = 1 << 16;

/// What lies behind delta-packed numbers that claim at most `values`; None where they claim more or
/// are cut short.
pub(super) fn passes(bytes: &[u8], values: u64) -> Option<&[u8]> {
    let mut rest = bytes;
    let block = varint(&mut rest)?;
    let parts = varint(&mut rest)?;
    let claimed = varint(&mut rest)?;
    varint(&mut rest)?;
    let sane = block > 0 && block <= BLOCK_MAX && parts > 0 && block.is_multiple_of(parts);
    if !sane || claimed > values {
        return None;
    }
    let part = block / parts;
    let mut left = claimed.saturating_sub(1);
    while left > 0 {
        varint(&mut rest)?;
        let (widths, behind) = rest.split_at_checked(parts as usize)?;
        rest = behind;
        for width in widths {
            // The widths of parts behind the last value may hold anything, and have no values.
            if left == 0 {
                break;
            }
            // The last part may be cut where its values end.
            let bytes = (part * u64::from(*width)).div_ceil(8) as usize;
            rest = rest.get(bytes..).unwrap_or_default();
            left = left.saturating_sub(part);
        }
    }
    Some(rest)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if *byte < 128 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn claims_are_held_against_the_page() {
        // Block 128 of 4 parts, 3 values from 0 on: one block of width 0.
        let three = [0x80, 1, 4, 3, 0, 0, 0, 0, 0, 0, b'x'];
        assert_eq!(passes(&three, 3), Some(&b"x"[..]));
        assert_eq!(passes(&three, 2), None);
        assert_eq!(passes(&three[..6], 3), None);
        // Bits of width 1: 32 values are 4 bytes.
        let wide = [0x80, 1, 4, 3, 0, 0, 1, 9, 9, 9, 255, 255, 255, 255, b'y'];
        assert_eq!(passes(&wide, 3), Some(&b"y"[..]));
        for bad in [&[0, 1, 0, 0][..], &[0x80, 1, 0, 0, 0], &[0xff; 20], &[]] {
            assert_eq!(passes(bad, 9), None);
        }
        let claims = [0x80, 1, 4, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
        assert_eq!(passes(&claims, u64::from(u32::MAX)), None);
    }
}
