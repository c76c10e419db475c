//! Owns reading the rows of `plan.parquet`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::pieces::Pieces;
use crate::error::{Error, Result};
use crate::storage::{self, Chunks};
use crate::tokens::rows::{Bucket, PlanRow};
use crate::tokens::schema;
use crate::util::parquet_errors::{reading, told};

/// The column of positions in a `plan.v3`.
pub(super) const POSITION: usize = 11;

/// Rows that are decoded at a time.
pub(super) const BATCH_ROWS: usize = 4096;

/// The rows of the partitions that `metadata` has, streaming, so many decoded at a time. The file is
/// opened again: a `File`'s clones share their position, so that two threads could not read at once.
pub(super) fn rows_of(
    path: &Path,
    metadata: ArrowReaderMetadata,
    batch: usize,
) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
    let path = path.to_path_buf();
    let file = Chunks(storage::open(&path).map_err(Error::io(&path))?);
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).with_batch_size(batch);
    let broken = move |reason: String| super::broken::broken(&path, &reason);
    let mut reader: ParquetRecordBatchReader =
        reading(|| builder.build().map_err(told)).map_err(&broken)?;
    let mut ended = false;
    let batches = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let rows = reading(|| reader.next().transpose().map_err(told))
            .and_then(|batch| batch.map(|batch| rows_of_batch(&batch)).transpose());
        ended = !matches!(rows, Ok(Some(_)));
        rows.transpose()
    });
    Ok(batches.flat_map(move |rows: Result<Vec<PlanRow>, String>| match rows {
        Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(reason) => vec![Err(broken(reason))],
    }))
}

/// The rows of a plan in order, of which stretches may be skipped; only the partitions that are
/// needed are read.
pub(super) struct PlannedRows {
    pieces: Arc<Pieces>,
    /// The next row.
    ordinal: u64,
    /// From there on; None before the first row and after a skip.
    rows: Option<Box<dyn Iterator<Item = Result<PlanRow>>>>,
}

impl PlannedRows {
    /// From the first row on.
    pub(super) fn new(pieces: Arc<Pieces>) -> PlannedRows {
        PlannedRows { pieces, ordinal: 0, rows: None }
    }

    /// How many the plan has.
    pub(super) fn count(&self) -> u64 {
        self.pieces.count()
    }

    /// The next row; None at the end.
    ///
    /// # Errors
    /// A plan that can't be read any more.
    pub(super) fn next(&mut self) -> Result<Option<PlanRow>> {
        if self.ordinal >= self.count() {
            return Ok(None);
        }
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => {
                let starts = self.pieces.starts();
                let at = starts.partition_point(|&start| start <= self.ordinal) - 1;
                let before = (self.ordinal - starts[at]) as usize;
                let rows = self.pieces.rows(at..self.pieces.partitions(), BATCH_ROWS)?;
                self.rows.insert(Box::new(rows.skip(before)))
            }
        };
        self.ordinal += 1;
        rows.next().transpose()
    }

    /// Passes over so many rows.
    pub(super) fn skip(&mut self, rows: u64) {
        self.ordinal = self.ordinal.saturating_add(rows);
        self.rows = None;
    }
}

fn rows_of_batch(batch: &RecordBatch) -> Result<Vec<PlanRow>, String> {
    let schema = batch.schema();
    let buckets = schema.fields() == schema::plan_of_buckets().fields();
    let parts = buckets || schema.fields() == schema::plan_of_parts().fields();
    let fits = parts || schema.fields() == schema::plan().fields();
    let fields = schema.fields().iter().zip(batch.columns());
    let whole = fits && fields.into_iter().all(|(f, c)| f.is_nullable() || c.null_count() == 0);
    if !whole {
        return Err("its columns are not those of a plan".into());
    }
    let ordinals = batch.column(0).as_primitive::<Int64Type>();
    let keys = batch.column(1).as_string::<i32>();
    let uris = batch.column(2).as_string::<i32>();
    let bytes = batch.column(3).as_primitive::<Int64Type>();
    let row = |i: usize| PlanRow {
        ordinal: ordinals.value(i),
        key: keys.value(i).to_string(),
        uri: uris.value(i).to_string(),
        bytes: bytes.value(i),
        ..PlanRow::default()
    };
    let mut rows: Vec<PlanRow> = (0..batch.num_rows()).map(row).collect();
    if parts {
        add_parts(&mut rows, batch);
    }
    if buckets {
        add_buckets(&mut rows, batch)?;
    }
    Ok(rows)
}

/// What `plan.v3` says beyond `plan.v2`.
fn add_buckets(rows: &mut [PlanRow], batch: &RecordBatch) -> Result<(), String> {
    let positions = batch.column(POSITION).as_primitive::<Int64Type>();
    let sides = [1, 2].map(|n| batch.column(POSITION + n).as_primitive::<Int32Type>());
    for (i, row) in rows.iter_mut().enumerate() {
        let [width, height] = sides.map(|side| u32::try_from(side.value(i)));
        let (Ok(width), Ok(height)) = (width, height) else {
            return Err(format!("image {} has a bucket of negative size", row.ordinal));
        };
        row.bucket = Some(Bucket { width, height, position: positions.value(i) });
    }
    Ok(())
}

/// What `plan.v2` says beyond `plan.v1`.
fn add_parts(rows: &mut [PlanRow], batch: &RecordBatch) {
    let [members, labels, captions, metas, faults] =
        [4, 6, 7, 8, 9].map(|column| batch.column(column).as_string::<i32>());
    let offsets = batch.column(5).as_primitive::<Int64Type>();
    let forward = batch.column(10).as_boolean();
    let text = |column: &StringArray, i| column.is_valid(i).then(|| column.value(i).to_string());
    for (i, row) in rows.iter_mut().enumerate() {
        row.member = text(members, i);
        row.offset = offsets.is_valid(i).then(|| offsets.value(i));
        row.label = text(labels, i);
        row.caption = text(captions, i);
        row.meta_json = text(metas, i);
        row.fault = text(faults, i);
        row.forward = forward.value(i);
    }
}
