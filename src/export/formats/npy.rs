//! Owns one array for all rows: `tokens.npy` (rows, height, width), and bits behind these where a token
//! is a list of them, which `np.load` maps, `labels.npy`
//! (rows,) where any row has a label, and `rows.jsonl`, what each one is. Must not know: how files get
//! their names.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::ids::Width;
use crate::export::part::{Growing, Made};
use crate::export::row::Row;
use crate::export::{json, npy};

pub(super) struct Npy {
    width: Width,
    labels: bool,
    captions: bool,
    /// Of every row.
    grid: (usize, usize),
    /// Of a token.
    values: usize,
}

impl Npy {
    pub(super) fn of(facts: &Facts) -> Npy {
        let (width, labels) = (facts.ids.width(), !facts.labels.is_empty());
        let (captions, grid) = (facts.captions, facts.grid.unwrap_or_default());
        Npy { width, labels, captions, grid, values: facts.values }
    }

    /// Bytes of a row's codes.
    fn row_bytes(&self) -> usize {
        self.grid.0 * self.grid.1 * self.values * self.width.bytes()
    }
}

impl Format for Npy {
    fn encode(&self, row: &Row) -> Encoded {
        let mut bytes = Vec::new();
        self.width.put(&row.codes, &mut bytes);
        let mut about = Map::new();
        about.insert("key".into(), row.key.clone().into());
        if self.labels {
            about.insert("label".into(), row.label.clone().into());
        }
        if self.captions {
            about.insert("caption".into(), row.caption.clone().into());
        }
        bytes.extend(json::dumps(&Value::from(about)));
        bytes.push(b'\n');
        Encoded { bytes, ids: row.codes.len() / self.values }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let rows = place.rows as usize;
        let mut tokens = Growing::create(place.folder, "tokens.npy")?;
        let shape = [rows, self.grid.0, self.grid.1, self.values];
        let axes = if self.values > 1 { 4 } else { 3 };
        tokens.write(&npy::header(npy::dtype(self.width), &shape[..axes]))?;
        let labels = match self.labels {
            false => None,
            true => {
                let mut labels = Growing::create(place.folder, "labels.npy")?;
                labels.write(&npy::header("<i8", &[rows]))?;
                Some(labels)
            }
        };
        let about = Growing::create(place.folder, "rows.jsonl")?;
        let (grid, row_bytes) = (self.grid, self.row_bytes());
        Ok(Box::new(Arrays { tokens, labels, about, grid, row_bytes, left: place.rows }))
    }

    fn gives_class(&self) -> bool {
        self.labels
    }

    fn gives_sides(&self) -> bool {
        true
    }
}

struct Arrays {
    tokens: Growing,
    labels: Option<Growing>,
    about: Growing,
    grid: (usize, usize),
    row_bytes: usize,
    /// Rows that the header counts and that haven't come yet.
    left: u64,
}

impl Part for Arrays {
    fn push(&mut self, row: &Row, encoded: &Encoded) -> Result<()> {
        if (row.height, row.width) != self.grid {
            let (height, width) = self.grid;
            return Err(Error::invalid(format!(
                "a row has a grid of {} x {} where the files say {height} x {width} for all",
                row.height, row.width
            )));
        }
        let (codes, about) = encoded.bytes.split_at(self.row_bytes);
        self.tokens.write(codes)?;
        if let Some(labels) = &mut self.labels {
            labels.write(&row.class.unwrap_or(-1).to_le_bytes())?;
        }
        self.left = self.left.saturating_sub(1);
        self.about.write(about)
    }

    fn seal(self: Box<Self>) -> Result<Vec<Made>> {
        if self.left > 0 {
            return Err(Error::internal(format!("{} rows of an array are missing", self.left)));
        }
        let files = [Some(self.tokens), self.labels, Some(self.about)];
        files.into_iter().flatten().map(Growing::seal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn one_array_has_all_rows() {
        let Some(rows) = testing::golden() else { return };
        let format = Npy::of(&testing::facts(&rows, |_| ()));
        let made = testing::made(&format, 0, &rows);
        let codes: Vec<u8> = rows
            .iter()
            .flat_map(|row| &row.codes)
            .flat_map(|c| (*c as u16).to_le_bytes())
            .collect();
        let head =
            b"\x93NUMPY\x01\0v\0{'descr': '<u2', 'fortran_order': False, 'shape': (6, 4, 4), }";
        assert!(made[0].starts_with(head) && made[0][128..] == codes);
        let labels: Vec<u8> = [0_i64, 0, 1, 1, 2, 2].iter().flat_map(|l| l.to_le_bytes()).collect();
        assert_eq!(made[1][128..], labels);
        let lines = String::from_utf8(made[2].clone()).unwrap();
        let third = r#"{"key": "dog/a.b.jpg", "label": "dog", "caption": null}"#;
        assert_eq!((lines.lines().count(), lines.lines().nth(2)), (6, Some(third)));
        let error = testing::error(&format, &rows[..5]);
        assert!(error.contains("1 rows of an array are missing"), "{error}");
    }
}
