//! Owns LlamaGen's store: for each image `imagenet256_codes/N.npy`, int64 (1, views, tokens), and
//! `imagenet256_labels/N.npy`, int64 (1,), from 0 on without holes. Must not know: how files get
//! their names.

use crate::error::Result;
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::npy;
use crate::export::part::Scattered;
use crate::export::row::Row;
use crate::tokens::commit_many::Series;

/// Bytes of a label's file.
const LABEL: usize = 128 + 8;

pub(super) struct LlamaGen {
    /// What stands before `_codes` and `_labels`.
    name: String,
    rows_of_part: u64,
}

impl LlamaGen {
    pub(super) fn of(facts: &Facts) -> LlamaGen {
        let pixels = facts.pixels.map_or(String::new(), |pixels| pixels.to_string());
        LlamaGen { name: format!("imagenet{pixels}"), rows_of_part: facts.rows_of_part }
    }
}

impl Format for LlamaGen {
    fn encode(&self, row: &Row) -> Encoded {
        let mut bytes = npy::header("<i8", &[1]);
        bytes.extend(row.class.unwrap_or(-1).to_le_bytes());
        bytes.extend(npy::header("<i8", &[1, row.views, row.codes.len() / row.views]));
        bytes.extend(row.codes.iter().flat_map(|code| i64::from(*code).to_le_bytes()));
        Encoded { bytes, ids: row.codes.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let first = place.number as u64 * self.rows_of_part;
        let series = |kind: &str| Series::new(format!("{}_{kind}/", self.name), 1, ".npy", first);
        Ok(Box::new(Scattered::create(place.folder, [series("codes"), series("labels")], files)?))
    }

    fn gives_class(&self) -> bool {
        true
    }

    fn gives_sides(&self) -> bool {
        false
    }
}

/// Codes and label of a row.
fn files(row: &[u8]) -> [&[u8]; 2] {
    let (label, codes) = row.split_at(LABEL);
    [codes, label]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn files_are_those_of_llamagen() {
        let Some(mut rows) = testing::golden() else { return };
        let format = LlamaGen::of(&testing::facts(&rows, |_| ()));
        let names = |folder: &str| -> Vec<String> {
            let kinds = ["codes", "labels"].into_iter();
            kinds
                .flat_map(|kind| (0..6).map(move |i| (kind, i)))
                .map(|(kind, i)| format!("llamagen/imagenet256{folder}_{kind}/{i}.npy"))
                .collect()
        };
        let plain = names("");
        let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
        testing::assert_made(&format, 0, &rows, &plain);
        // Two views: the golden ones are mirrored grids.
        for row in &mut rows {
            let mirrored: Vec<u32> =
                row.codes.chunks(4).flat_map(|line| line.iter().rev().copied()).collect();
            row.codes.extend(mirrored);
            row.views = 2;
        }
        let flip = names("_flip");
        testing::assert_made(
            &format,
            0,
            &rows,
            &flip.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }
}
