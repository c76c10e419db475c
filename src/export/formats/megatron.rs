//! Owns Megatron-Core's `IndexedDataset`: ids in `tokens.bin`, where they are in `tokens.idx`; a row is
//! a sequence and a document of its own. Must not know: how files get their names.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::ids::{Ids, Width};
use crate::export::part::{Growing, Made};
use crate::export::row::Row;
use crate::util::nameless_file;

/// Codes of types in the index.
const U16: u8 = 8;
const I32: u8 = 4;

pub(super) struct Megatron {
    ids: Ids,
    width: Width,
}

impl Megatron {
    /// # Errors
    /// Ids above 2^31 - 1, for which the index has no type.
    pub(super) fn of(facts: &Facts) -> Result<Megatron> {
        let ids = facts.ids.clone();
        if i32::try_from(ids.largest).is_err() {
            return Err(ids.too_large("megatron's are 31 bits wide"));
        }
        Ok(Megatron { width: ids.wide(), ids })
    }
}

impl Format for Megatron {
    fn encode(&self, row: &Row) -> Encoded {
        let ids = self.ids.sequence(row);
        let mut bytes = Vec::with_capacity(ids.len() * self.width.bytes());
        self.width.put(&ids, &mut bytes);
        Encoded { bytes, ids: ids.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let folder = place.folder;
        let spool = nameless_file::create(folder).map_err(Error::io(folder))?;
        Ok(Box::new(Pair {
            folder: folder.to_path_buf(),
            ids: Growing::create(folder, "tokens.bin")?,
            width: self.width,
            lengths: BufWriter::new(spool),
            rows: 0,
        }))
    }

    fn gives_class(&self) -> bool {
        self.ids.class_first.is_some()
    }

    fn gives_sides(&self) -> bool {
        false
    }
}

struct Pair {
    folder: PathBuf,
    ids: Growing,
    width: Width,
    /// Ids of each row, as i32: on disk, since there can be more of them than memory holds.
    lengths: BufWriter<File>,
    rows: u64,
}

impl Part for Pair {
    fn push(&mut self, _row: &Row, row: &Encoded) -> Result<()> {
        self.ids.write(&row.bytes)?;
        self.rows += 1;
        let length = i32::try_from(row.ids)
            .map_err(|_| Error::invalid("a row has more than 2^31 ids, beyond megatron's index"))?;
        self.lengths.write_all(&length.to_le_bytes()).map_err(Error::io(&self.folder))
    }

    fn seal(self: Box<Self>) -> Result<Vec<Made>> {
        let Pair { folder, ids, width, lengths, rows } = *self;
        let mut index = Growing::create(&folder, "tokens.idx")?;
        index.write(b"MMIDIDX\0\0")?;
        index.write(&1_u64.to_le_bytes())?;
        index.write(&[if width == Width::U16 { U16 } else { I32 }])?;
        index.write(&rows.to_le_bytes())?;
        index.write(&(rows + 1).to_le_bytes())?;
        let mut spool = lengths.into_inner().map_err(|e| Error::io(&folder)(e.into_error()))?;
        // Once for the lengths, once for the offsets.
        for offsets in [false, true] {
            spool.seek(SeekFrom::Start(0)).map_err(Error::io(&folder))?;
            let mut lengths = BufReader::with_capacity(1 << 20, &mut spool);
            let mut offset = 0_i64;
            for _ in 0..rows {
                let mut length = [0; 4];
                lengths.read_exact(&mut length).map_err(Error::io(&folder))?;
                match offsets {
                    true => index.write(&offset.to_le_bytes())?,
                    false => index.write(&length)?,
                }
                offset += i64::from(i32::from_le_bytes(length)) * width.bytes() as i64;
            }
        }
        for document in 0..=rows {
            index.write(&document.to_le_bytes())?;
        }
        Ok(vec![ids.seal()?, index.seal()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn files_are_those_of_megatrons_own_builder() {
        let Some(rows) = testing::golden() else { return };
        let format = Megatron::of(&testing::facts(&rows, |_| ())).unwrap();
        testing::assert_made(&format, 0, &rows, &["megatron/uint16.bin", "megatron/uint16.idx"]);
        // One id more than 16 bits hold.
        let wide = testing::facts(&rows, |settings| settings.vocab_offset = 1);
        let made = testing::made(&Megatron::of(&wide).unwrap(), 0, &rows);
        let golden = testing::file("megatron/int32.bin");
        let shifted: Vec<u8> = golden
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|id| (i32::from_le_bytes(*id) + 1).to_le_bytes())
            .collect();
        assert_eq!(made, [shifted, testing::file("megatron/int32.idx")]);
    }
}
