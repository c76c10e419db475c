//! Owns reading bare ids back: rows by the ends of documents, by their last id, or by their length.

use super::bytes::{Source, numbers};

/// Gives each document.
pub(super) fn documents(
    [ids, ends, metadata]: [&mut Source; 3],
    each: &mut dyn FnMut(Vec<u32>) -> Result<(), String>,
) -> Result<(), String> {
    let metadata = metadata.take(metadata.left)?;
    let metadata = String::from_utf8_lossy(&metadata);
    let mut lines = metadata.lines();
    let width = lines.next().and_then(|line| line.rsplit('|').next()?.parse::<u64>().ok());
    let width = width.filter(|width| [2, 4].contains(width)).ok_or("its metadata has no width")?;
    let count: Option<u64> = lines.next().and_then(|line| line.parse().ok());
    let mut begin = 0;
    while ends.left > 0 {
        let end = u64::from_le_bytes(ends.take_array()?);
        let length = end.checked_sub(begin).ok_or("a document ends before it begins")?;
        each(numbers(&ids.take(length * width)?, width as usize))?;
        begin = end;
    }
    match ids.left == 0 && count == Some(begin) {
        true => Ok(()),
        false => Err("it has another number of ids than its documents".into()),
    }
}

/// Reads llm.c's header: 256 numbers, of which the third counts the ids behind it.
pub(super) fn llmc(file: &mut Source) -> Result<(), String> {
    let head = numbers(&file.take(1024)?, 4);
    match head[..3] == [20_240_520, 1, (file.left / 2) as u32] && head[3..].iter().all(|n| *n == 0)
    {
        true => Ok(()),
        false => Err("its header says something else".into()),
    }
}

/// Gives each row of ids of `width` bytes: `length` of them, or up to and with `eos`, which may be what
/// a row begins with as well.
pub(super) fn rows(
    ids: &mut Source,
    width: usize,
    eos: Option<u32>,
    begins_with_eos: bool,
    length: usize,
    each: &mut dyn FnMut(Vec<u32>) -> Result<(), String>,
) -> Result<(), String> {
    let mut row = Vec::with_capacity(length);
    while ids.left > 0 {
        // A stretch at a time: rows needn't end where one does.
        let stretch = ids.left.min(1 << 20);
        for id in numbers(&ids.take(stretch)?, width) {
            row.push(id);
            let begins = begins_with_eos && row.len() == 1;
            if eos.map_or(row.len() == length, |eos| id == eos && !begins) {
                each(std::mem::take(&mut row))?;
            }
        }
    }
    match row.is_empty() {
        true => Ok(()),
        false => Err(format!("its last row ends early, after {} ids", row.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn one_id_may_begin_and_end_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.bin");
        std::fs::write(&path, [9, 0, 1, 0, 9, 0, 9, 0, 2, 0, 3, 0, 9, 0]).unwrap();
        let mut found = Vec::new();
        let mut each = |row| {
            found.push(row);
            Ok(())
        };
        rows(&mut Source::open(&path).unwrap(), 2, Some(9), true, 3, &mut each).unwrap();
        assert_eq!(found, [vec![9, 1, 9], vec![9, 2, 3, 9]]);
    }

    #[test]
    fn the_golden_files_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        let golden =
            ["", ".index", ".metadata"].map(|end| format!("datatrove/u16/00000_tokens.ds{end}"));
        let golden = golden.each_ref().map(String::as_str);
        testing::assert_read(Target::Datatrove, &rows, &golden, &[0, 191]);
        testing::assert_read(Target::Bin, &rows, &["nanogpt_flat/train.bin"], &[1, 190]);
    }
}
