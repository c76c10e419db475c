//! Owns what is kept of an image once it was judged, as a row of a Parquet file: all that figures are
//! made of, so that a run goes on from its files with the same figures to the last bit. Must not know:
//! what is made of rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Builder, Float64Array, ListBuilder, RecordBatch, StringArray,
    UInt32Array, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, UInt32Type};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::compare::Likeness;
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, Result};
use crate::util::atomic_file;
use crate::util::hex::sha256_hex;
use crate::util::parquet_errors::told;

/// What the files say that they are.
const SCHEMA: &str = "evaluation.v1";
const SCHEMA_ENTRY: &str = "vqtok.schema";
const SECONDS_ENTRY: &str = "vqtok.seconds";
const DIGEST_ENTRY: &str = "vqtok.sha256";

/// An image that was judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) label: Option<String>,
    /// Of the source, in pixels; 0 where it couldn't be read.
    pub(crate) image: [u32; 2],
    /// Or why there is nothing.
    pub(crate) found: Result<Found, String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Found {
    /// Width and height of what was compared, in pixels.
    pub(crate) size: [u32; 2],
    pub(crate) likeness: Likeness,
    /// Of all levels, one behind the other; none where they are bits.
    pub(crate) codes: Vec<u32>,
    /// Height and width of each level's grid.
    pub(crate) grids: Vec<u32>,
    /// Of the image and of its reconstruction.
    pub(crate) features: Option<[Vec<f32>; 2]>,
}

/// Rows of images that follow each other, and the seconds that the model took.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Part {
    pub(crate) rows: Vec<Row>,
    pub(crate) seconds: f64,
}

const NUMBERS: [&str; 4] = ["mse", "ssim", "ms_ssim", "lpips"];
const LISTS: [&str; 2] = ["codes", "grids"];
const FEATURES: [&str; 2] = ["inception_image", "inception_reconstruction"];
const SIDES: [&str; 4] = ["image_width", "image_height", "width", "height"];

fn item(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(of, true)))
}

fn schema() -> Arc<Schema> {
    let mut fields =
        vec![Field::new("key", DataType::Utf8, false), Field::new("label", DataType::Utf8, true)];
    fields.extend(SIDES.map(|name| Field::new(name, DataType::UInt32, false)));
    fields.extend(NUMBERS.map(|name| Field::new(name, DataType::Float64, true)));
    fields.extend(LISTS.map(|name| Field::new(name, item(DataType::UInt32), true)));
    fields.extend(FEATURES.map(|name| Field::new(name, item(DataType::Float32), true)));
    fields.push(Field::new("error", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

fn lists(rows: &[Row], of: impl Fn(&Found) -> &[u32]) -> ArrayRef {
    let mut builder = ListBuilder::new(UInt32Builder::new());
    for row in rows {
        if let Ok(found) = &row.found {
            builder.values().append_slice(of(found));
        }
        builder.append(row.found.is_ok());
    }
    Arc::new(builder.finish())
}

fn features(rows: &[Row], at: usize) -> ArrayRef {
    let mut builder = ListBuilder::new(Float32Builder::new());
    for row in rows {
        let found = row.found.as_ref().ok().and_then(|found| found.features.as_ref());
        if let Some(features) = found {
            builder.values().append_slice(&features[at]);
        }
        builder.append(found.is_some());
    }
    Arc::new(builder.finish())
}

impl Part {
    fn columns(&self) -> Vec<ArrayRef> {
        let rows = &self.rows;
        let found = |row: &Row| row.found.as_ref().ok().cloned().unwrap_or_default();
        let sides = |of: &dyn Fn(&Row) -> u32| -> ArrayRef {
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(of)))
        };
        let numbers = |of: &dyn Fn(&Likeness) -> Option<f64>| -> ArrayRef {
            let number = |row: &Row| row.found.as_ref().ok().and_then(|found| of(&found.likeness));
            Arc::new(rows.iter().map(number).collect::<Float64Array>())
        };
        let errors: StringArray = rows.iter().map(|row| row.found.as_ref().err()).collect();
        vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.key))),
            Arc::new(rows.iter().map(|row| row.label.as_ref()).collect::<StringArray>()),
            sides(&|row| row.image[0]),
            sides(&|row| row.image[1]),
            sides(&|row| found(row).size[0]),
            sides(&|row| found(row).size[1]),
            numbers(&|likeness| Some(likeness.mse)),
            numbers(&|likeness| likeness.ssim),
            numbers(&|likeness| likeness.ms_ssim),
            numbers(&|likeness| likeness.lpips),
            lists(rows, |found| &found.codes),
            lists(rows, |found| &found.grids),
            features(rows, 0),
            features(rows, 1),
            Arc::new(errors),
        ]
    }

    /// Of all that is kept and of the images' model, in hex: a bit that changes on the disk changes figures,
    /// and the file's own sums don't see all of them.
    fn digest(&self, model: &str) -> String {
        let mut text = format!("{model}\n{:x}\n", self.seconds.to_bits());
        for row in &self.rows {
            let Row { key, label, image, found } = row;
            let found = found.as_ref().map(|found| {
                let Likeness { mse, ssim, ms_ssim, lpips } = found.likeness;
                let numbers = [Some(mse), ssim, ms_ssim, lpips].map(|n| n.map(f64::to_bits));
                let bits =
                    |features: &Vec<f32>| features.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
                let features = found.features.as_ref().map(|both| both.each_ref().map(bits));
                (found.size, numbers, &found.codes, &found.grids, features)
            });
            text += &format!("{:?}\n", (key, label, image, found));
        }
        sha256_hex(text.as_bytes())
    }

    /// Puts the rows at `path`, whole or not at all; `model` says what they were made with.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn write(&self, path: &Path, model: &str) -> Result<()> {
        let failed = |error| Error::corrupt(path, told(error));
        let entry = |key: &str, value: String| KeyValue::new(key.to_string(), value);
        let properties = WriterProperties::builder()
            .set_created_by(concat!("vqtok ", env!("CARGO_PKG_VERSION")).to_string())
            // Level 3 exists, so the fallback is never taken.
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
            .set_dictionary_enabled(false)
            .set_key_value_metadata(Some(vec![
                entry(SCHEMA_ENTRY, SCHEMA.to_string()),
                entry(SECONDS_ENTRY, self.seconds.to_string()),
                entry(DIGEST_ENTRY, self.digest(model)),
            ]))
            .build();
        let batch = RecordBatch::try_new(schema(), self.columns());
        let batch = batch.map_err(|error| Error::internal(format!("an evaluation: {error}")))?;
        let mut writer =
            ArrowWriter::try_new(Vec::new(), schema(), Some(properties)).map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
        atomic_file::write(path, &writer.into_inner().map_err(failed)?)
    }

    /// Reads what [`Part::write`] wrote for the same model.
    ///
    /// # Errors
    /// A file that can't be read, or is another one, or damaged.
    pub(crate) fn read(path: &Path, model: &str) -> Result<Part> {
        let damaged = |what: String| {
            Error::corrupt(path, format!("{what}; remove it, and what it was is made again"))
        };
        let read = |error: Error| match error {
            Error::Corrupt { reason, .. } => damaged(reason.to_string()),
            error => error,
        };
        let (part, digest) = Part::unproven(path).map_err(read)?;
        match part.digest(model) == digest {
            true => Ok(part),
            false => Err(damaged("its content isn't what was written, or another model's".into())),
        }
    }

    /// What a file says, and the digest that it says to have.
    fn unproven(path: &Path) -> Result<(Part, String)> {
        let file = ParquetFile::open(path, None)?;
        let entry = |key: &str| file.entries.get(key).map_or("", |value| value.as_str());
        if entry(SCHEMA_ENTRY) != SCHEMA || *file.schema().fields() != *schema().fields() {
            return Err(Error::corrupt(path, "it is no part of an evaluation by this version"));
        }
        let seconds = entry(SECONDS_ENTRY).parse().unwrap_or(0.0);
        let names: Vec<String> =
            schema().fields().iter().map(|field| field.name().clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut rows = Vec::new();
        for batch in file.batches(&names)? {
            let batch = batch?;
            rows.extend((0..batch.num_rows()).map(|at| row(&batch, at)));
        }
        Ok((Part { rows, seconds }, entry(DIGEST_ENTRY).to_string()))
    }
}

/// A row of a batch of the schema.
fn row(batch: &RecordBatch, at: usize) -> Row {
    let text = |column: usize| {
        let array = batch.column(column).as_string::<i32>();
        (!array.is_null(at)).then(|| array.value(at).to_string())
    };
    let side = |column: usize| batch.column(column).as_primitive::<UInt32Type>().value(at);
    let number = |column: usize| {
        let array = batch.column(column).as_primitive::<Float64Type>();
        (!array.is_null(at)).then(|| array.value(at))
    };
    let list = |column: usize| -> Vec<u32> {
        let values = batch.column(column).as_list::<i32>().value(at);
        values.as_primitive::<UInt32Type>().values().to_vec()
    };
    let features = |column: usize| {
        let array = batch.column(column).as_list::<i32>();
        let values = || array.value(at).as_primitive::<Float32Type>().values().to_vec();
        (!array.is_null(at)).then(values)
    };
    let found = match text(14) {
        Some(error) => Err(error),
        None => Ok(Found {
            size: [side(4), side(5)],
            likeness: Likeness {
                mse: number(6).unwrap_or_default(),
                ssim: number(7),
                ms_ssim: number(8),
                lpips: number(9),
            },
            codes: list(10),
            grids: list(11),
            features: features(12).zip(features(13)).map(<[Vec<f32>; 2]>::from),
        }),
    };
    Row { key: text(0).unwrap_or_default(), label: text(1), image: [side(2), side(3)], found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let likeness =
            Likeness { mse: 1.5, ssim: Some(0.1 + 0.2), ms_ssim: None, lpips: Some(0.25) };
        let features = Some([vec![1.0, -2.5], vec![0.0, 3.25]]);
        let (codes, grids) = (vec![7, 8, 9], vec![1, 3]);
        let found = Found { size: [16, 24], likeness, codes, grids, features };
        let plain = Found { likeness: Likeness::default(), features: None, ..found.clone() };
        let row = |key: &str, found| Row {
            key: key.into(),
            label: (key != "b").then(|| "cat".into()),
            image: [40, 50],
            found,
        };
        let rows =
            vec![row("a", Ok(found)), row("b", Ok(plain)), row("c", Err("read: no image".into()))];
        let part = Part { rows, seconds: 0.125 };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part-00000.parquet");
        part.write(&path, "this").unwrap();
        assert_eq!(Part::read(&path, "this").unwrap(), part);
        let refused = |model: &str| Part::read(&path, model).unwrap_err().to_string();
        assert!(refused("that").contains("another model's; remove it"), "{}", refused("that"));
        // No bit of it gives other rows without a word.
        let whole = std::fs::read(&path).unwrap();
        for bit in (0..whole.len() * 8).step_by(7) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            if let Ok(read) = Part::read(&path, "this") {
                assert_eq!(read, part, "bit {bit}");
            }
        }
        std::fs::write(&path, b"PAR1").unwrap();
        assert!(refused("this").ends_with("remove it, and what it was is made again"));
    }
}
