//! Owns WebDataset's tars: a sample is `NNNNNNNN.cls`, `.json`, `.tokens.npy` and `.txt`, with the bytes
//! that webdataset's own `ShardWriter` gives them. Must not know: how files get their names.

use serde_json::{Map, Value};

use crate::error::Result;
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::ids::Width;
use crate::export::row::Row;
use crate::export::{json, npy, tar};

/// Samples are alike: each has `.cls` where any row has a label (-1 for none), and `.txt` where any has
/// a caption (empty for none).
pub(super) struct WebDataset {
    width: Width,
    labels: bool,
    captions: bool,
    /// Of a token: the array has an axis more where it is a list of bits.
    values: usize,
}

impl WebDataset {
    pub(super) fn of(facts: &Facts) -> WebDataset {
        let (width, labels) = (facts.ids.width(), !facts.labels.is_empty());
        WebDataset { width, labels, captions: facts.captions, values: facts.values }
    }
}

impl Format for WebDataset {
    fn encode(&self, row: &Row) -> Encoded {
        let mut bytes = Vec::new();
        let mut put = |field: &str, content: &[u8]| {
            tar::member(&mut bytes, &format!("{:08}.{field}", row.number), content);
        };
        if self.labels {
            put("cls", row.class.unwrap_or(-1).to_string().as_bytes());
        }
        put("json", &json::dumps(&about(row)));
        let shape = [row.height, row.width, self.values];
        let axes = if self.values > 1 { 3 } else { 2 };
        let mut array = npy::header(npy::dtype(self.width), &shape[..axes]);
        self.width.put(&row.codes, &mut array);
        put("tokens.npy", &array);
        if self.captions {
            put("txt", row.caption.as_deref().unwrap_or_default().as_bytes());
        }
        Encoded { bytes, ids: row.codes.len() / self.values }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let name = format!("tokens-{:06}.tar", place.number);
        Ok(Box::new(tar::create(place.folder, &name)?))
    }

    fn gives_class(&self) -> bool {
        self.labels
    }

    fn gives_sides(&self) -> bool {
        true
    }
}

fn about(row: &Row) -> Value {
    let mut about = Map::new();
    about.insert("key".into(), row.key.clone().into());
    about.insert("label".into(), row.label.clone().into());
    about.insert("grid_height".into(), row.height.into());
    about.insert("grid_width".into(), row.width.into());
    if let Some(meta) = &row.meta_json {
        let meta = serde_json::from_str(meta).unwrap_or_else(|_| Value::from(meta.clone()));
        about.insert("meta".into(), meta);
    }
    about.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn tars_are_those_of_webdatasets_own_writer() {
        let Some(rows) = testing::golden() else { return };
        let format = WebDataset::of(&testing::facts(&rows, |_| ()));
        for (number, rows) in [&rows[..4], &rows[4..]].into_iter().enumerate() {
            let golden = format!("webdataset/tokens-{number:06}.tar");
            testing::assert_made(&format, number, rows, &[&golden]);
        }
    }
}
