//! Owns Emu3's store: for each row `feature/NNNNNN.pth` of `name`, `images`, an int64 tensor of height
//! and width, and `texts`; `list/train.json` names them. Must not know: how files get their names.

use crate::error::Result;
use crate::export::format::{Encoded, Facts, Format, Listing, Part, Place};
use crate::export::journal::SplitRecord;
use crate::export::part::Scattered;
use crate::export::row::Row;
use crate::export::torch::{self, Pickle};
use crate::tokens::commit_many::Series;

/// torch's own: `torch.load` reads a tensor by default, and no array of numpy.
pub(super) struct Emu3 {
    rows_of_part: u64,
}

impl Emu3 {
    pub(super) fn of(facts: &Facts) -> Emu3 {
        Emu3 { rows_of_part: facts.rows_of_part }
    }
}

impl Format for Emu3 {
    fn encode(&self, row: &Row) -> Encoded {
        let mut pickle = Pickle::new();
        pickle.begin_dict();
        pickle.text("name");
        pickle.text(&row.key);
        pickle.text("images");
        pickle.tensor(&[row.height, row.width]);
        pickle.text("texts");
        pickle.text(row.caption.as_deref().unwrap_or_default());
        pickle.end_dict();
        // The folder in there is called as the file where there are no splits, as torch does.
        let bytes = torch::file(&format!("{:06}", row.number), pickle, &row.codes);
        Encoded { bytes, ids: row.codes.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let first = place.number as u64 * self.rows_of_part;
        let series = Series::new("feature/".into(), 6, ".pth", first);
        Ok(Box::new(Scattered::create(place.folder, [series], |row| [row])?))
    }

    fn index<'a>(&'a self, split: &'a SplitRecord) -> Vec<Listing<'a>> {
        let head = b"{\"prefix\": \"feature\", \"path_list\": [".to_vec();
        let name = |number| {
            let comma = if number == 0 { "" } else { ", " };
            format!("{comma}\"{number:06}.pth\"").into_bytes()
        };
        let names = (0..split.rows).map(name);
        let list = [head].into_iter().chain(names).chain([b"]}".to_vec()]);
        vec![("list/train.json", Box::new(list))]
    }

    fn gives_class(&self) -> bool {
        false
    }

    fn gives_sides(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn files_are_those_of_torch() {
        let Some(mut rows) = testing::golden() else { return };
        let format = Emu3::of(&testing::facts(&rows, |_| ()));
        rows[1].key = "000001".into();
        let golden = testing::file("emu3/feature_tensor/000001.pth");
        assert!(format.encode(&rows[1]).bytes == golden);
        let list = testing::index(&format, &[testing::record(&rows, 96, "emu3/list/train.json")]);
        assert_eq!(list, testing::file("emu3/list/train.json"));
    }
}
