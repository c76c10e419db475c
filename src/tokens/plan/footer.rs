//! Owns what is kept of the footer of a plan's file: where its partitions lie. Must not know: rows.
//!
//! The reader's own footer takes some kilobytes a partition; this takes 32 bytes a column of it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Compression;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, RowGroupMetaData,
};
use parquet::file::statistics::Statistics;

use super::broken::broken;
use super::layout::Layout;
use super::rows::POSITION;
use crate::error::Result;
use crate::util::parquet_errors::told;

/// Where the partitions of a plan's file lie.
pub(super) struct Footer {
    path: PathBuf,
    about: FileMetaData,
    /// Images of each partition.
    rows: Vec<u64>,
    /// Of each partition, its columns.
    chunks: Vec<Chunk>,
    /// Of each partition, the first and the last of the positions that it holds, where it has any.
    positions: Vec<Option<[i64; 2]>>,
}

/// A column of a partition.
#[derive(Clone, Copy)]
struct Chunk {
    data: i64,
    dictionary: Option<i64>,
    bytes: i64,
    codec: Compression,
}

impl Footer {
    /// What `metadata`, whose partitions were checked, says of the file at `path`.
    pub(super) fn of(path: &Path, metadata: &ArrowReaderMetadata, layout: Layout) -> Footer {
        let (file, groups) =
            (metadata.metadata().file_metadata(), metadata.metadata().row_groups());
        let chunk = |column: &ColumnChunkMetaData| Chunk {
            data: column.data_page_offset(),
            dictionary: column.dictionary_page_offset(),
            bytes: column.compressed_size(),
            codec: column.compression(),
        };
        let entries = file.key_value_metadata().into_iter().flatten();
        let schema = entries.filter(|entry| entry.key == "ARROW:schema").cloned().collect();
        let about = FileMetaData::new(
            file.version(),
            file.num_rows(),
            None,
            Some(schema),
            file.schema_descr_ptr(),
            None,
        );
        let positions = match layout {
            Layout::Buckets => groups.iter().map(positions_of).collect(),
            Layout::Files | Layout::Parts => Vec::new(),
        };
        Footer {
            path: path.to_path_buf(),
            about,
            rows: groups.iter().map(|group| group.num_rows().unsigned_abs()).collect(),
            chunks: groups.iter().flat_map(|group| group.columns().iter().map(chunk)).collect(),
            positions,
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Images of each partition.
    pub(super) fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// The first and the last position of a partition; None where it doesn't say.
    pub(super) fn positions(&self, partition: usize) -> Option<[i64; 2]> {
        self.positions.get(partition).copied().flatten()
    }

    /// A footer of some partitions alone, as the reader wants it.
    ///
    /// # Errors
    /// One that the reader refuses.
    pub(super) fn of_partitions(&self, partitions: Range<usize>) -> Result<ArrowReaderMetadata> {
        let refused = |reason: String| broken(&self.path, &reason);
        let groups = partitions.map(|partition| self.group(partition)).collect::<Result<_, _>>();
        let metadata = ParquetMetaData::new(self.about.clone(), groups.map_err(refused)?);
        ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
            .map_err(|error| refused(told(error)))
    }

    fn group(&self, partition: usize) -> Result<RowGroupMetaData, String> {
        let schema = self.about.schema_descr_ptr();
        let (columns, rows) = (schema.num_columns(), self.rows[partition] as i64);
        let chunks = &self.chunks[partition * columns..(partition + 1) * columns];
        let column = |(index, chunk): (usize, &Chunk)| {
            ColumnChunkMetaData::builder(schema.column(index))
                .set_compression(chunk.codec)
                .set_num_values(rows)
                .set_data_page_offset(chunk.data)
                .set_dictionary_page_offset(chunk.dictionary)
                .set_total_compressed_size(chunk.bytes)
                .build()
        };
        let columns = chunks.iter().enumerate().map(column).collect::<Result<_, _>>();
        RowGroupMetaData::builder(schema.clone())
            .set_num_rows(rows)
            .set_column_metadata(columns.map_err(told)?)
            .build()
            .map_err(told)
    }
}

fn positions_of(group: &RowGroupMetaData) -> Option<[i64; 2]> {
    let Some(Statistics::Int64(facts)) = group.column(POSITION).statistics() else { return None };
    Some([*facts.min_opt()?, *facts.max_opt()?])
}
