//! Tests of tables: those of the real packages, those made here, damaged ones.

mod damage;
mod facts;
mod made;
mod samples;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::{TableReader, list};
use crate::data::formats::raw_image::Limits;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, ReadForward, Remarks};
use crate::data::source::image::SourceImage;
use crate::data::source::uri;
use crate::storage::{BytesAt, LocalFile};

fn open(path: &Path) -> Arc<dyn BytesAt> {
    Arc::new(LocalFile::open(path).unwrap())
}

/// All that a listing gives; the name is `d/` and the file's.
fn listed(path: &Path, fields: &Fields) -> Result<(Vec<SourceImage>, Remarks), String> {
    let name = format!("d/{}", path.file_name().unwrap().to_str().unwrap());
    let mut listing =
        list(open(path), &uri::of_path(path), &name, fields).map_err(|error| error.to_string())?;
    let images = listing.by_ref().map(|image| image.unwrap()).collect();
    Ok((images, listing.remarks().clone()))
}

fn reader(path: &Path) -> TableReader {
    TableReader::new(open(path), &uri::of_path(path), None)
}

fn read(reader: &mut TableReader, image: &SourceImage) -> Result<Vec<u8>, String> {
    let part = image.part.as_ref().unwrap();
    reader.read(part, image.bytes, &Limits::default()).map_err(|reject| reject.message)
}

/// The bytes of all images, read in their order, then backward by the same reader, which must be
/// the same.
fn read_all(path: &Path, images: &[SourceImage]) -> Vec<Result<Vec<u8>, String>> {
    let mut reader = reader(path);
    let forward: Vec<_> = images.iter().map(|image| read(&mut reader, image)).collect();
    for (image, bytes) in images.iter().zip(&forward).rev() {
        assert_eq!(read(&mut reader, image), *bytes, "{}", image.key);
    }
    for step in [2, 3, 7] {
        for (image, bytes) in images.iter().zip(&forward).step_by(step) {
            assert_eq!(read(&mut reader, image), *bytes, "{}", image.key);
        }
    }
    forward
}

/// A table written by the Parquet crate, pages of 2 rows and row groups of `group`.
fn write(
    path: &Path,
    columns: Vec<(&str, ArrayRef)>,
    group: usize,
    huggingface: Option<&str>,
    set: impl FnOnce(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) -> PathBuf {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let entries = huggingface.map(|features| {
        let value = format!(r#"{{"info": {{"features": {features}}}}}"#);
        vec![KeyValue::new("huggingface".into(), value)]
    });
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(2)
        .set_key_value_metadata(entries);
    let properties = set(properties).build();
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path.to_path_buf()
}

/// As `write` has it.
fn plain(properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    properties
}

/// Images of a few bytes.
fn pixels(count: usize) -> ArrayRef {
    Arc::new(BinaryArray::from_iter_values((0..count).map(|i| i.to_string())))
}
