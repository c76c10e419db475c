//! Owns reading Megatron's index and ids back.

use super::bytes::{Source, numbers};

/// Gives each sequence.
pub(super) fn read(
    ids: &mut Source,
    index: &mut Source,
    each: &mut dyn FnMut(Vec<u32>) -> Result<(), String>,
) -> Result<(), String> {
    let size = index.left;
    if index.take(17)? != *b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0" {
        return Err("its index begins otherwise".into());
    }
    let width = match index.take(1)?[..] {
        [8] => 2,
        [4] => 4,
        _ => return Err("its index has another type".into()),
    };
    let rows = u64::from_le_bytes(index.take_array()?);
    let bounds = u64::from_le_bytes(index.take_array()?);
    if bounds != rows + 1 || size != 34 + 12 * rows + 8 * bounds {
        return Err("its index has another length than its counts say".into());
    }
    // Three lists stand in it one behind the other: a stretch of each at a time.
    const STRETCH: u64 = 1 << 16;
    let mut offset = 0;
    for from in (0..rows).step_by(STRETCH as usize) {
        let count = STRETCH.min(rows - from);
        index.seek(34 + 4 * from, size)?;
        let lengths = numbers(&index.take(4 * count)?, 4);
        index.seek(34 + 4 * rows + 8 * from, size)?;
        let offsets = index.take(8 * count)?;
        index.seek(34 + 12 * rows + 8 * from, size)?;
        let documents = index.take(8 * (count + 1))?;
        for (row, length) in lengths.iter().enumerate() {
            if offsets[8 * row..8 * row + 8] != u64::to_le_bytes(offset) {
                return Err("its index has another offset than its lengths add up to".into());
            }
            if documents[8 * row + 8..8 * row + 16] != (from + row as u64 + 1).to_le_bytes() {
                return Err("its index has other documents than sequences".into());
            }
            let bytes = u64::from(*length) * width;
            each(numbers(&ids.take(bytes)?, width as usize))?;
            offset += bytes;
        }
    }
    match ids.left {
        0 => Ok(()),
        left => Err(format!("{left} bytes of ids stand behind the last sequence")),
    }
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_files_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        let golden = ["megatron/uint16.bin", "megatron/uint16.idx"];
        testing::assert_read(Target::Megatron, &rows, &golden, &[0, 17, 191]);
    }
}
