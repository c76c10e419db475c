//! Owns a saved index: what it takes to find an output's images again, as one Parquet file, written as
//! `schemas/index.v1.json` says. Must not know: how images are compared.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use bytemuck::Zeroable;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::columns::{Column, Growing, GrowingTexts};
use super::images::{ImageSize, Images, MODES, NO_LABEL};
use super::result::Unreadable;
use super::thumbnail::{COLOUR_SIDE, SIDE, Thumbnail};
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, Result};
use crate::util::overwrite::{self, Foreign};
use crate::util::parquet_errors::told;

/// What the file says that it is.
const SCHEMA: &str = "index.v1";
const SCHEMA_ENTRY: &str = "vqtok.schema";
/// The digest of the model whose pictures the thumbnails are of.
const MODEL_ENTRY: &str = "vqtok.weights_sha256";
/// Rows of a batch.
const BATCH: usize = 4096;
/// Bytes of its binary columns.
const BINARY: [(&str, usize); 5] = [
    ("file_digest", 16),
    ("grid_digest", 16),
    ("luma", SIDE * SIDE),
    ("blue", COLOUR_SIDE * COLOUR_SIDE),
    ("red", COLOUR_SIDE * COLOUR_SIDE),
];

fn schema() -> Arc<Schema> {
    let binary =
        |at: usize| Field::new(BINARY[at].0, DataType::FixedSizeBinary(BINARY[at].1 as i32), false);
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("label", DataType::Utf8, true),
        Field::new("width", DataType::UInt32, false),
        Field::new("height", DataType::UInt32, false),
        binary(0),
        binary(1),
        binary(2),
        binary(3),
        binary(4),
    ]))
}

/// Writes those images that the first of `taken` names, of a model's pictures; those that the second
/// doesn't name are found again by their digests alone.
///
/// # Errors
/// A file of that name that vqtok didn't write; what the system refuses.
pub(super) fn write(
    path: &Path,
    images: &Images,
    [taken, shown]: [&dyn Fn(usize) -> bool; 2],
    model: &str,
    foreign: Foreign,
) -> Result<()> {
    let entry = |key: &str, value: &str| KeyValue::new(key.to_string(), value.to_string());
    let entries = vec![entry(SCHEMA_ENTRY, SCHEMA), entry(MODEL_ENTRY, model)];
    let properties = WriterProperties::builder()
        .set_created_by(concat!("vqtok ", env!("CARGO_PKG_VERSION")).to_string())
        // Level 3 exists, so the fallback is never taken.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(entries))
        .build();
    let rows: Vec<usize> = (0..images.len()).filter(|&at| taken(at)).collect();
    overwrite::write_by(path, foreign, |file: &mut File| {
        let failed = |error| Error::corrupt(path, told(error));
        let mut writer = ArrowWriter::try_new(file, schema(), Some(properties)).map_err(failed)?;
        for rows in rows.chunks(BATCH) {
            let batch = RecordBatch::try_new(schema(), columns(images, rows, shown)?);
            writer
                .write(&batch.map_err(|error| Error::corrupt(path, error.to_string()))?)
                .map_err(failed)?;
        }
        writer.close().map(|_| ()).map_err(failed)
    })
}

fn columns(
    images: &Images,
    rows: &[usize],
    shown: &dyn Fn(usize) -> bool,
) -> Result<Vec<ArrayRef>> {
    let blank = Thumbnail::zeroed();
    let thumbnail = |at: usize| if shown(at) { &images.thumbnails[at] } else { &blank };
    let binary = |of: &dyn Fn(usize) -> Vec<u8>| -> Result<ArrayRef> {
        let values = rows.iter().map(|&at| of(at));
        let array = FixedSizeBinaryArray::try_from_iter(values);
        Ok(Arc::new(array.map_err(|error| Error::internal(format!("an index: {error}")))?))
    };
    let keys = StringArray::from_iter_values(rows.iter().map(|&at| images.keys.get(at)));
    let labels: StringArray = rows.iter().map(|&at| images.label(at)).collect();
    let side = |of: &dyn Fn(&ImageSize) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|&at| of(&images.sizes[at]))))
    };
    Ok(vec![
        Arc::new(keys),
        Arc::new(labels),
        side(&|size| size.width),
        side(&|size| size.height),
        binary(&|at| images.files[at].to_vec())?,
        binary(&|at| images.grids[at].to_vec())?,
        binary(&|at| thumbnail(at).luma.to_vec())?,
        binary(&|at| thumbnail(at).colour[0].to_vec())?,
        binary(&|at| thumbnail(at).colour[1].to_vec())?,
    ])
}

/// The digest of the model that an index was made with; None where the file is no index.
///
/// # Errors
/// An index of a later version.
pub(crate) fn model_of(path: &Path) -> Result<Option<String>> {
    // A folder, or what can't be read, is for those to refuse who read outputs.
    let Ok(file) = ParquetFile::open(path, Some(&[])) else { return Ok(None) };
    match file.entries.get(SCHEMA_ENTRY).map(String::as_str) {
        Some(SCHEMA) => Ok(Some(file.entries.get(MODEL_ENTRY).cloned().unwrap_or_default())),
        Some(other) if other.starts_with("index.") => Err(Error::corrupt(
            path,
            format!("it is an {other}, which another version of vqtok wrote: save it again"),
        )),
        _ => Ok(None),
    }
}

/// Reads an index. Images in it are none that show nothing.
///
/// # Errors
/// A file that isn't as [`write`] writes it.
pub(super) fn read(path: &Path) -> Result<Images> {
    let file = ParquetFile::open(path, None)?;
    if file.schema().fields() != schema().fields() {
        return Err(Error::corrupt(path, "it is no index that vqtok wrote: its columns differ"));
    }
    let names: Vec<String> = schema().fields().iter().map(|field| field.name().clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut index = Index::new();
    for batch in file.batches(&names)? {
        let batch = batch?;
        index
            .take(&batch)
            .ok_or_else(|| Error::corrupt(path, "it holds values of other types"))??;
    }
    index.finish()
}

/// An index that is being read.
struct Index {
    keys: GrowingTexts,
    digests: [Growing<[u8; 16]>; 2],
    labels: Growing<u32>,
    label_names: Vec<String>,
    known: HashMap<String, u32>,
    sizes: Growing<ImageSize>,
    thumbnails: Growing<Thumbnail>,
}

impl Index {
    fn new() -> Index {
        Index {
            keys: GrowingTexts::new(),
            digests: [Growing::new(), Growing::new()],
            labels: Growing::new(),
            label_names: Vec::new(),
            known: HashMap::new(),
            sizes: Growing::new(),
            thumbnails: Growing::new(),
        }
    }

    /// None where a column is of another type.
    fn take(&mut self, batch: &RecordBatch) -> Option<Result<()>> {
        let column = |at: usize| batch.column(at).as_any();
        let texts = |at: usize| column(at).downcast_ref::<StringArray>();
        let sides = |at: usize| column(at).downcast_ref::<UInt32Array>();
        let binary = |at: usize| column(at).downcast_ref::<FixedSizeBinaryArray>();
        let (keys, labels, width, height) = (texts(0)?, texts(1)?, sides(2)?, sides(3)?);
        let [files, grids] = [binary(4)?, binary(5)?];
        let [luma, blue, red] = [binary(6)?, binary(7)?, binary(8)?];
        for row in 0..batch.num_rows() {
            let size = ImageSize {
                width: width.value(row),
                height: height.value(row),
                shown_width: width.value(row),
                shown_height: height.value(row),
                mode: MODES.len() as u32,
                quantization_error: f32::NAN,
            };
            let thumbnail = Thumbnail {
                luma: luma.value(row).try_into().ok()?,
                colour: [blue.value(row).try_into().ok()?, red.value(row).try_into().ok()?],
            };
            let digests = [files, grids].map(|digests| digests.value(row).try_into().ok());
            let label = (!labels.is_null(row)).then(|| labels.value(row));
            let row =
                self.push(keys.value(row), label, [digests[0]?, digests[1]?], size, thumbnail);
            if row.is_err() {
                return Some(row);
            }
        }
        Some(Ok(()))
    }

    fn push(
        &mut self,
        key: &str,
        label: Option<&str>,
        digests: [[u8; 16]; 2],
        size: ImageSize,
        thumbnail: Thumbnail,
    ) -> Result<()> {
        self.keys.push(key)?;
        let label = label.map_or(NO_LABEL, |label| match self.known.get(label) {
            Some(known) => *known,
            None => {
                self.label_names.push(label.to_string());
                *self.known.entry(label.to_string()).or_insert(self.label_names.len() as u32 - 1)
            }
        });
        self.labels.push(label)?;
        self.digests[0].push(digests[0])?;
        self.digests[1].push(digests[1])?;
        self.sizes.push(size)?;
        self.thumbnails.push(thumbnail)
    }

    fn finish(self) -> Result<Images> {
        let [files, grids] = self.digests;
        Ok(Images {
            keys: self.keys.finish()?,
            files: files.finish()?,
            grids: grids.finish()?,
            labels: self.labels.finish()?,
            label_names: self.label_names,
            sizes: self.sizes.finish()?,
            looks: Column::Memory(Vec::new()),
            thumbnails: self.thumbnails.finish()?,
            further_views: 0,
            bad: Unreadable::default(),
            turned: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_schema_says_what_the_file_holds() {
        let told: Value =
            serde_json::from_str(include_str!("../../schemas/index.v1.json")).unwrap();
        assert_eq!(told["schema"], SCHEMA);
        assert!(
            told["metadata"][MODEL_ENTRY].is_string() && told["metadata"][SCHEMA_ENTRY] == SCHEMA
        );
        let columns = told["columns"].as_array().unwrap();
        assert_eq!(columns.len(), schema().fields().len());
        for (column, field) in columns.iter().zip(schema().fields()) {
            let kind = match field.data_type() {
                DataType::Utf8 => "string".to_string(),
                DataType::UInt32 => "uint32".to_string(),
                DataType::FixedSizeBinary(bytes) => format!("fixed_size_binary[{bytes}]"),
                other => panic!("{other}"),
            };
            assert_eq!(column["name"], field.name().as_str());
            assert_eq!(
                (&column["type"], &column["nullable"]),
                (&kind.into(), &field.is_nullable().into())
            );
            assert!(column["description"].as_str().unwrap().len() > 10);
        }
    }

    #[test]
    fn what_is_saved_is_read_again_and_replaced_without_asking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.parquet");
        let mut index = Index::new();
        for at in 0..5000u32 {
            let label = ["cat", "dog"].get(at as usize % 3).copied();
            let thumbnail =
                Thumbnail { luma: [at as u8; 256], colour: [[7; 64], [at as u8 / 2; 64]] };
            let size = ImageSize {
                width: at,
                height: 9,
                shown_width: at,
                shown_height: 9,
                mode: MODES.len() as u32,
                quantization_error: f32::NAN,
            };
            let digests = [[at as u8; 16], [1; 16]];
            index.push(&format!("{at}.png"), label, digests, size, thumbnail).unwrap();
        }
        let images = index.finish().unwrap();
        let some = |at: usize| at.is_multiple_of(2);
        let all = |_: usize| true;
        write(&path, &images, [&some, &all], "abc", Foreign::Keep).unwrap();
        let saved = read(&path).unwrap();
        assert_eq!((saved.len(), model_of(&path).unwrap().as_deref()), (2500, Some("abc")));
        for (row, at) in [(0, 0), (1, 2), (2499, 4998)] {
            assert_eq!(saved.keys.get(row), images.keys.get(at));
            assert_eq!(saved.label(row), images.label(at));
            assert_eq!(saved.thumbnails[row], images.thumbnails[at]);
            assert_eq!((saved.files[row], saved.grids[row]), (images.files[at], images.grids[at]));
            assert_eq!(saved.sizes[row].width, images.sizes[at].width);
        }
        write(&path, &images, [&|_| false, &all], "abd", Foreign::Keep).unwrap();
        assert_eq!(read(&path).unwrap().len(), 0);
        std::fs::write(&path, b"PAR1 mine").unwrap();
        assert!(write(&path, &images, [&some, &all], "abc", Foreign::Keep).is_err());
        assert_eq!(model_of(&path).unwrap(), None);
        assert!(read(&path).is_err());
    }
}
