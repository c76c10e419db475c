//! Owns 4M's tars: a folder a modality with the same keys in the same order, `tok_rgb@224` (.npy, views
//! by tokens), `crop_settings` (.npy, top, left, height, width and mirrored of each view) and `caption`
//! (.txt). Must not know: how files get their names.

use crate::error::Result;
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::part::{Made, Stream};
use crate::export::row::Row;
use crate::export::{npy, tar};
use crate::tokens::commit;

pub(super) struct FourM {
    /// The modality of the codes.
    tokens: String,
    /// Codes as int16, which is 4M's own, where they fit; else int32, which it reads as well.
    narrow: bool,
    crops: bool,
    captions: bool,
}

impl FourM {
    /// # Errors
    /// Codes above 2^31 - 1.
    pub(super) fn of(facts: &Facts) -> Result<FourM> {
        if i32::try_from(facts.ids.largest).is_err() {
            return Err(facts.ids.too_large("4m's are int32"));
        }
        let tokens = facts.pixels.map_or("tok_rgb".into(), |pixels| format!("tok_rgb@{pixels}"));
        let narrow = facts.ids.largest < 1 << 15;
        Ok(FourM { tokens, narrow, crops: facts.crops, captions: facts.captions })
    }

    /// Modalities with what a row has in each.
    fn contents(&self, row: &Row) -> Vec<(&str, &'static str, Vec<u8>)> {
        let shape = [row.views, row.codes.len() / row.views];
        let mut codes = npy::header(if self.narrow { "<i2" } else { "<i4" }, &shape);
        match self.narrow {
            true => codes.extend(row.codes.iter().flat_map(|code| (*code as u16).to_le_bytes())),
            false => codes.extend(row.codes.iter().flat_map(|code| code.to_le_bytes())),
        }
        let mut contents = vec![(self.tokens.as_str(), "npy", codes)];
        if self.crops {
            let mut crops = npy::header("<i8", &[row.crops.len(), 5]);
            crops.extend(row.crops.iter().flatten().flat_map(|side| side.to_le_bytes()));
            contents.push(("crop_settings", "npy", crops));
        }
        if self.captions {
            let caption = row.caption.clone().unwrap_or_default().into_bytes();
            contents.push(("caption", "txt", caption));
        }
        contents
    }
}

impl Format for FourM {
    fn encode(&self, row: &Row) -> Encoded {
        let mut bytes = Vec::new();
        for (_, field, content) in self.contents(row) {
            tar::member(&mut bytes, &format!("{:08}.{field}", row.number), &content);
        }
        Encoded { bytes, ids: row.codes.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let folders = [
            Some(self.tokens.as_str()),
            self.crops.then_some("crop_settings"),
            self.captions.then_some("caption"),
        ];
        let tar = |folder: &str| {
            let folder = place.folder.join(folder);
            commit::create_folder(&folder)?;
            commit::remove_orphans(&folder)?;
            tar::create(&folder, &format!("shard-{:05}.tar", place.number))
        };
        let tars = folders.into_iter().flatten().map(tar).collect::<Result<_>>()?;
        Ok(Box::new(Tars { tars }))
    }

    fn gives_class(&self) -> bool {
        false
    }

    fn gives_sides(&self) -> bool {
        false
    }
}

struct Tars {
    tars: Vec<Stream>,
}

impl Part for Tars {
    fn push(&mut self, row: &Row, encoded: &Encoded) -> Result<()> {
        let mut rest = &encoded.bytes[..];
        for tar in &mut self.tars {
            let (member, behind) = rest.split_at(tar::first_length(rest));
            tar.push(row, &Encoded { bytes: member.to_vec(), ids: encoded.ids })?;
            rest = behind;
        }
        Ok(())
    }

    fn seal(self: Box<Self>) -> Result<Vec<Made>> {
        let tars = self.tars.into_iter().map(|tar| Box::new(tar).seal());
        Ok(tars.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn tars_are_those_of_4m() {
        let Some(mut rows) = testing::golden() else { return };
        // The golden ones have a mirrored grid as a second crop, and wrap codes above 16 bits.
        for row in &mut rows {
            let mirrored: Vec<u32> =
                row.codes.chunks(4).flat_map(|line| line.iter().rev().copied()).collect();
            row.codes.extend(mirrored);
            (row.views, row.crops) = (2, vec![[0, 0, 224, 224, 0], [0, 0, 224, 224, 1]]);
        }
        let mut facts = testing::facts(&rows, |_| ());
        (facts.pixels, facts.ids.largest, facts.crops) = (Some(224), 32_767, true);
        let golden = ["tok_rgb@224", "crop_settings", "caption"];
        let golden = golden.map(|folder| format!("fourm/{folder}/shard-00000.tar"));
        let golden = golden.each_ref().map(String::as_str);
        testing::assert_made(&FourM::of(&facts).unwrap(), 0, &rows, &golden);
        // From 32,769 codes on they are int32.
        facts.ids.largest = 32_768;
        let wide = testing::made(&FourM::of(&facts).unwrap(), 0, &rows[..2]);
        assert_eq!(&wide[0][512 + 10..512 + 27], b"{'descr': '<i4', ");
    }
}
