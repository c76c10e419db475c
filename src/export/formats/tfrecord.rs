//! Owns TFRecord files of `tf.train.Example`: `tokens`, `grid_height` and `grid_width`, `key`, and
//! `label` and `caption` where any row has one. Must not know: how files get their names.

use crate::error::Result;
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::ids::Ids;
use crate::export::part::Stream;
use crate::export::row::Row;

pub(super) struct TfRecord {
    ids: Ids,
    labels: bool,
    captions: bool,
    rows_of_part: u64,
}

impl TfRecord {
    pub(super) fn of(facts: &Facts) -> TfRecord {
        TfRecord {
            ids: facts.ids.clone(),
            labels: !facts.labels.is_empty(),
            captions: facts.captions,
            rows_of_part: facts.rows_of_part,
        }
    }
}

impl Format for TfRecord {
    fn encode(&self, row: &Row) -> Encoded {
        let ids = self.ids.sequence(row);
        let mut features = Vec::new();
        if self.captions {
            let caption = row.caption.as_deref().unwrap_or_default();
            texts(&mut features, "caption", caption.as_bytes());
        }
        numbers(&mut features, "grid_height", [row.height as u64]);
        numbers(&mut features, "grid_width", [row.width as u64]);
        texts(&mut features, "key", row.key.as_bytes());
        if self.labels {
            numbers(&mut features, "label", [row.class.unwrap_or(-1) as u64]);
        }
        numbers(&mut features, "tokens", ids.iter().map(|id| u64::from(*id)));
        let mut example = Vec::with_capacity(features.len() + 32);
        field(&mut example, 1, &features);
        Encoded { bytes: record(&example), ids: ids.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let count = place.rows.div_ceil(self.rows_of_part);
        let name = format!("tokens-{:05}-of-{count:05}.tfrecord", place.number);
        Ok(Box::new(Stream::create(place.folder, &name, |_| Vec::new())?))
    }

    fn gives_class(&self) -> bool {
        self.labels
    }

    fn gives_sides(&self) -> bool {
        true
    }
}

/// A record: its length and its bytes, each with its sum.
fn record(data: &[u8]) -> Vec<u8> {
    let sum = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8);
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(sum(&length).to_le_bytes());
    out.extend(data);
    out.extend(sum(data).to_le_bytes());
    out
}

/// An entry of the map of features, a list of bytes.
fn texts(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let mut list = Vec::new();
    field(&mut list, 1, bytes);
    feature(out, name, 1, &list);
}

/// The same, a packed list of int64.
fn numbers(out: &mut Vec<u8>, name: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut packed = Vec::new();
    numbers.into_iter().for_each(|number| varint(&mut packed, number));
    let mut list = Vec::new();
    field(&mut list, 1, &packed);
    feature(out, name, 3, &list);
}

fn feature(out: &mut Vec<u8>, name: &str, kind: u8, list: &[u8]) {
    let (mut entry, mut value) = (Vec::new(), Vec::new());
    field(&mut value, kind, list);
    field(&mut entry, 1, name.as_bytes());
    field(&mut entry, 2, &value);
    field(out, 1, &entry);
}

/// A field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn records_are_those_of_the_real_writer() {
        let Some(rows) = testing::golden() else { return };
        // The golden ones have the same features in the order in which they were put, and the tokens
        // as bytes as well.
        let golden = testing::file("tfrecord/tokens-00000-of-00001.tfrecord");
        let mut made = Vec::new();
        for row in &rows {
            let (mut features, mut example) = (Vec::new(), Vec::new());
            texts(&mut features, "key", row.key.as_bytes());
            numbers(&mut features, "tokens", row.codes.iter().map(|code| u64::from(*code)));
            let raw: Vec<u8> = row.codes.iter().flat_map(|c| (*c as u16).to_le_bytes()).collect();
            texts(&mut features, "tokens_raw", &raw);
            numbers(&mut features, "label", row.class.map(|class| class as u64));
            field(&mut example, 1, &features);
            made.extend(record(&example));
        }
        assert!(made == golden);
    }

    #[test]
    fn an_example_has_its_features_sorted_by_name() {
        let Some(rows) = testing::golden() else { return };
        let format = TfRecord::of(&testing::facts(&rows, |settings| settings.eos = Some(70_000)));
        let bytes = format.encode(&rows[0]).bytes;
        let place = |name: &str| {
            bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap()
        };
        let names = ["caption", "grid_height", "grid_width", "key", "label", "tokens"];
        assert!(names.map(place).is_sorted());
        // 70000 as a varint ends them.
        assert_eq!(bytes[bytes.len() - 7..bytes.len() - 4], [0xf0, 0xa2, 0x04]);
    }
}
