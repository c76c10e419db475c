//! Owns LitData's chunks of bare ids with `index.json`, as litgpt's `TokensLoader` reads them. Ids are
//! int32: the type that every version of it knows. Must not know: how files get their names.

use serde_json::{Value, json};

use super::headed::Headed;
use crate::error::Result;
use crate::export::format::{Encoded, Facts, Format, Listing, Part, Place, listing};
use crate::export::ids::{Ids, Width};
use crate::export::journal::{PartRecord, SplitRecord};
use crate::export::json;
use crate::export::row::Row;

pub(super) struct LitData {
    ids: Ids,
}

impl LitData {
    /// # Errors
    /// Ids above 2^31 - 1.
    pub(super) fn of(facts: &Facts) -> Result<LitData> {
        let ids = facts.ids.clone();
        match i32::try_from(ids.largest) {
            Ok(_) => Ok(LitData { ids }),
            Err(_) => Err(ids.too_large("litdata's are int32")),
        }
    }
}

fn name(number: usize) -> String {
    format!("chunk-0-{number}.bin")
}

impl Format for LitData {
    fn encode(&self, row: &Row) -> Encoded {
        let ids = self.ids.sequence(row);
        let mut bytes = Vec::with_capacity(4 * ids.len());
        Width::U32.put(&ids, &mut bytes);
        Encoded { bytes, ids: ids.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        Ok(Box::new(Headed::new(place.folder, name(place.number), Vec::new())))
    }

    fn index<'a>(&'a self, split: &'a SplitRecord) -> Vec<Listing<'a>> {
        let chunk = |(number, part): (usize, &PartRecord)| {
            json!({
                "chunk_bytes": part.files[0].bytes,
                "chunk_size": part.rows,
                "dim": part.ids,
                "filename": name(number),
            })
        };
        let chunks: Vec<Value> = split.parts.iter().enumerate().map(chunk).collect();
        let config = json!({
            "chunk_bytes": null,
            "chunk_size": null,
            "compression": null,
            "compression_batch_size": null,
            "compression_level": null,
            // torch.int32, without a header of its own.
            "data_format": ["no_header_tensor:16"],
            "data_spec": "[1, {\"type\": null, \"context\": null, \"children_spec\": []}]",
            "encryption": null,
            "ipc_compression": null,
            "item_loader": "TokensLoader",
            "types": "tensor",
        });
        // The same bytes at any time.
        let index = json!({"chunks": chunks, "config": config, "updated_at": "0"});
        vec![listing("index.json", json::dumps(&index))]
    }

    fn gives_class(&self) -> bool {
        self.ids.class_first.is_some()
    }

    fn gives_sides(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn chunks_are_those_of_litdatas_own_writer() {
        let Some(rows) = testing::golden() else { return };
        let format = LitData::of(&testing::facts(&rows, |_| ())).unwrap();
        let golden = ["litdata/tokens_i32/chunk-0-0.bin", "litdata/tokens_i32/chunk-0-1.bin"];
        let parts = [(&rows[..4], golden[0]), (&rows[4..], golden[1])];
        for (number, (rows, golden)) in parts.into_iter().enumerate() {
            testing::assert_made(&format, number, rows, &[golden]);
        }
        let ids = |rows: &[Row]| 16 * rows.len() as u64;
        let records = parts.map(|(rows, golden)| testing::record(rows, ids(rows), golden));
        let index = testing::index(&format, &records);
        let parsed = |bytes: &[u8]| {
            let mut index: Value = serde_json::from_slice(bytes).unwrap();
            index["updated_at"].take();
            index["config"]["chunk_size"].take();
            index
        };
        assert_eq!(parsed(&index), parsed(&testing::file("litdata/tokens_i32/index.json")));
    }
}
