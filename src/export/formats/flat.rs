//! Owns ids with nothing between them: `tokens.bin` alone, as nanoGPT reads it, or with llm.c's header; datatrove's `.ds`
//! with the ends of its documents beside it, as nanotron does. Must not know: how files get their
//! names.

use crate::error::{Error, Result};
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::ids::{Ids, Width};
use crate::export::part::{Growing, Made};
use crate::export::row::Row;
use crate::export::settings::Header;
use crate::util::numbers;
use crate::util::settings::{EOS, HEADER, SPLIT};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing says where a row ends: rows are equally long, or end with an id of their own.
    Bin,
    Datatrove,
}

pub(super) struct Flat {
    ids: Ids,
    kind: Kind,
    /// Ids of each row, which a header needs.
    header: Option<usize>,
}

/// What llm.c's header begins with: its number and its version.
const LLMC: [i32; 2] = [20_240_520, 1];

impl Flat {
    /// # Errors
    /// A header where ids don't fit its 16 bits, or can't be counted beforehand.
    pub(super) fn of(facts: &Facts, kind: Kind) -> Result<Flat> {
        let ids = facts.ids.clone();
        let refused = |why: String| Err(Error::setting(HEADER, format!("llmc: {why}")));
        let header = match (facts.header, facts.length) {
            (None, _) => None,
            (Some(Header::Llmc), _) if ids.width() == Width::U32 => {
                return refused(format!("its ids have 16 bits, and they go up to {}", ids.largest));
            }
            (Some(Header::Llmc), Some(length)) => Some(length),
            (Some(Header::Llmc), None) => {
                return refused("it counts all ids, and the files don't say how many".into());
            }
        };
        Ok(Flat { ids, kind, header })
    }

    /// What stands before the ids of so many rows.
    fn head(&self, rows: u64) -> Result<Vec<u8>> {
        let Some(length) = self.header else { return Ok(Vec::new()) };
        let count = rows * length as u64;
        let Ok(count) = i32::try_from(count) else {
            let text = format!(
                "llmc: it counts up to 2^31 - 1 ids, and there are {}; make several files of them by \
                 {SPLIT}",
                numbers::count(count)
            );
            return Err(Error::setting(HEADER, text));
        };
        let mut head: Vec<u8> =
            [LLMC[0], LLMC[1], count].iter().flat_map(|number| number.to_le_bytes()).collect();
        head.resize(1024, 0);
        Ok(head)
    }
}

impl Format for Flat {
    fn encode(&self, row: &Row) -> Encoded {
        let ids = self.ids.sequence(row);
        let mut bytes = Vec::new();
        self.ids.wide().put(&ids, &mut bytes);
        Encoded { bytes, ids: ids.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        Ok(match self.kind {
            Kind::Bin => {
                let head = self.head(place.rows)?;
                let mut file = Growing::create(place.folder, "tokens.bin")?;
                file.write(&head)?;
                let ended = self.ids.eos.is_some() && self.header.is_none();
                Box::new(Bare { file, length: self.header, ended })
            }
            Kind::Datatrove => Box::new(Documents {
                ids: Growing::create(place.folder, "00000_tokens.ds")?,
                ends: Growing::create(place.folder, "00000_tokens.ds.index")?,
                metadata: Growing::create(place.folder, "00000_tokens.ds.metadata")?,
                width: self.ids.wide(),
                count: 0,
            }),
        })
    }

    fn gives_class(&self) -> bool {
        self.ids.class_first.is_some()
    }

    fn gives_sides(&self) -> bool {
        false
    }
}

struct Bare {
    file: Growing,
    /// Of the first row.
    length: Option<usize>,
    ended: bool,
}

impl Part for Bare {
    fn push(&mut self, _row: &Row, row: &Encoded) -> Result<()> {
        let first = *self.length.get_or_insert(row.ids);
        if first != row.ids && !self.ended {
            return Err(Error::invalid(format!(
                "a row has {} ids and another one {first}, and bin says nowhere where a row ends: \
                 give {EOS}",
                row.ids
            )));
        }
        self.file.write(&row.bytes)
    }

    fn seal(self: Box<Self>) -> Result<Vec<Made>> {
        Ok(vec![self.file.seal()?])
    }
}

struct Documents {
    ids: Growing,
    /// Of each document, in ids from the file's start.
    ends: Growing,
    metadata: Growing,
    width: Width,
    count: u64,
}

impl Part for Documents {
    fn push(&mut self, _row: &Row, row: &Encoded) -> Result<()> {
        self.ids.write(&row.bytes)?;
        self.count += row.ids as u64;
        self.ends.write(&self.count.to_le_bytes())
    }

    fn seal(mut self: Box<Self>) -> Result<Vec<Made>> {
        let (width, count) = (self.width.bytes(), self.count);
        self.metadata.write(format!("vqtok|{width}\n{count}\n{}", in_units(count)).as_bytes())?;
        Ok(vec![self.ids.seal()?, self.ends.seal()?, self.metadata.seal()?])
    }
}

/// A count as datatrove writes it: thousands by one word, `T` for ones.
fn in_units(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["", "K", "M", "B"] {
        if value < 1000.0 {
            return format!("{value:.1} {unit}T");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn files_are_those_of_datatroves_own_writer() {
        let Some(rows) = testing::golden() else { return };
        let names = ["00000_tokens.ds", "00000_tokens.ds.index", "00000_tokens.ds.metadata"];
        let golden = |folder: &str| names.map(|name| format!("datatrove/{folder}/{name}"));
        let narrow = Flat::of(&testing::facts(&rows, |_| ()), Kind::Datatrove).unwrap();
        testing::assert_made(&narrow, 0, &rows, &golden("u16").each_ref().map(String::as_str));
        // Twice the bytes for one id more than 16 bits hold, which no row of these has.
        let mut facts = testing::facts(&rows, |_| ());
        facts.ids.largest = 65_536;
        let wide = Flat::of(&facts, Kind::Datatrove).unwrap();
        testing::assert_made(&wide, 0, &rows, &golden("u32").each_ref().map(String::as_str));
    }

    #[test]
    fn a_header_is_that_of_llm_c() {
        let Some(rows) = testing::golden() else { return };
        let of = |set: fn(&mut Facts)| {
            let mut facts = testing::facts(&rows, |settings| settings.header = Some(Header::Llmc));
            set(&mut facts);
            Flat::of(&facts, Kind::Bin)
        };
        let golden = ["nanogpt_flat/fineweb_llmc_v1.bin"];
        testing::assert_made(&of(|_| ()).unwrap(), 0, &rows, &golden);
        for (set, told) in [
            ((|facts| facts.length = None) as fn(&mut Facts), "header llmc: it counts all ids"),
            (|facts| facts.ids.largest = 65_536, "go up to 65536"),
        ] {
            let error = of(set).err().unwrap().to_string();
            assert!(error.contains(told), "{error}");
        }
        let error = of(|_| ()).unwrap().head(1 << 28).unwrap_err().to_string();
        assert!(error.contains("there are 4,294,967,296"), "{error}");
    }

    #[test]
    fn bare_ids_are_nanogpts_and_rows_of_two_lengths_need_an_end() {
        let Some(mut rows) = testing::golden() else { return };
        let flat = |eos| Flat::of(&testing::facts(&[], |s| s.eos = eos), Kind::Bin).unwrap();
        testing::assert_made(&flat(None), 0, &rows, &["nanogpt_flat/train.bin"]);
        rows[1].codes.pop();
        let dir = tempfile::tempdir().unwrap();
        let push = |format: &Flat| {
            let place = Place { folder: dir.path(), number: 0, rows: 2 };
            let mut part = format.part(&place).unwrap();
            rows[..2].iter().try_for_each(|row| part.push(row, &format.encode(row)))
        };
        push(&flat(Some(70_000))).unwrap();
        let error = push(&flat(None)).unwrap_err().to_string();
        assert!(error.contains("15 ids") && error.ends_with("give eos"), "{error}");
    }
}
