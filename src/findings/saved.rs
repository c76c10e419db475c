//! Owns a saved index: what it takes to find an output's images again, as one Parquet file, written as
//! `schemas/index.v2.json` says. Must not know: how images are compared.

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
use super::seal::{self, Seal, Sealing};
use super::thumbnail::{COLOUR_SIDE, SIDE, Thumbnail};
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, Result};
use crate::util::overwrite::{self, Foreign};
use crate::util::parquet_errors::told;
use crate::util::settings::SAVE_INDEX;
use crate::util::text;

/// What the file says that it is.
const SCHEMA: &str = "index.v2";
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
    let entries = vec![entry(SCHEMA_ENTRY, SCHEMA), entry(MODEL_ENTRY, model), seal::entry()];
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
        let mut writer =
            ArrowWriter::try_new(Sealing::new(file), schema(), Some(properties)).map_err(failed)?;
        for rows in rows.chunks(BATCH) {
            let batch = RecordBatch::try_new(schema(), columns(images, rows, shown)?);
            writer
                .write(&batch.map_err(|error| Error::corrupt(path, error.to_string()))?)
                .map_err(failed)?;
        }
        writer.flush().map_err(failed)?;
        writer.inner_mut().hold();
        writer.into_inner().map_err(failed)?.finish().map_err(Error::io(path))
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

/// Whether a file is an index, as far as its footer says it.
///
/// # Errors
/// An index of another version; one whose footer is damaged.
pub(crate) fn is_index(path: &Path) -> Result<bool> {
    Ok(open(path)?.is_some())
}

fn open(path: &Path) -> Result<Option<ParquetFile>> {
    // A folder, or what can't be read, is for those to refuse who read outputs.
    let file = ParquetFile::open(path, Some(&[])).ok();
    let schema = file.as_ref().and_then(|file| file.entries.get(SCHEMA_ENTRY)).cloned();
    if schema.as_deref() == Some(SCHEMA) {
        return Ok(file);
    }
    // Bytes that have changed may say anything, or that there is no table at all.
    let changed = matches!(seal::of(path), Ok(Seal::Broken));
    if changed || file.is_none() && overwrite::is_index(path) {
        return Err(damaged(path));
    }
    match schema.filter(|schema| schema.starts_with("index.")) {
        Some(other) => {
            let (other, again) = (text::printable(&other), "save it again with");
            let why = format!("it is an {other}, which another version of vqtok wrote");
            Err(Error::corrupt(path, format!("{why}: {again} {SAVE_INDEX}")))
        }
        None => Ok(None),
    }
}

fn damaged(path: &Path) -> Error {
    let why = "the saved index is damaged, its bytes aren't those that were written";
    Error::corrupt(path, format!("{why}: save it again with {SAVE_INDEX}"))
}

/// The digest of the model that an index was made with; None where the file is no index.
///
/// # Errors
/// An index of another version; a damaged one.
pub(crate) fn model_of(path: &Path) -> Result<Option<String>> {
    let Some(file) = open(path)? else { return Ok(None) };
    require_whole(path)?;
    Ok(Some(file.entries.get(MODEL_ENTRY).cloned().unwrap_or_default()))
}

fn require_whole(path: &Path) -> Result<()> {
    match seal::of(path)? {
        Seal::Whole => Ok(()),
        Seal::Broken | Seal::None => Err(damaged(path)),
    }
}

/// Reads an index. Images in it are none that show nothing.
///
/// # Errors
/// A file that isn't as [`write`] writes it.
pub(super) fn read(path: &Path) -> Result<Images> {
    require_whole(path)?;
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
mod tests;
