//! Owns checking that a plan's row groups are its partitions. Must not know: rows.

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::ColumnChunkMetaData;

use super::layout::Layout;
use crate::util::panics;

/// Checks that the row groups are the partitions and lie within the file's `length` bytes; gives the
/// ordinal at which each begins, and the number of rows behind them.
pub(super) fn starts(
    metadata: &ArrowReaderMetadata,
    shard_rows: u64,
    layout: Layout,
    length: u64,
) -> Result<Vec<u64>, String> {
    let groups = metadata.metadata().row_groups();
    let (mut rows, mut starts) = (0, vec![0]);
    for (index, group) in groups.iter().enumerate() {
        let count = u64::try_from(group.num_rows()).unwrap_or(0);
        let full = layout == Layout::Files && index + 1 < groups.len();
        if count == 0 || count > shard_rows || (full && count != shard_rows) {
            return Err(format!("partition {index} has {} rows", group.num_rows()));
        }
        rows += count;
        starts.push(rows);
        if group.columns().iter().any(|column| column.num_values() != group.num_rows()) {
            return Err(format!("partition {index} has columns of other lengths"));
        }
        // The reader panics over places before the file.
        let end = |column: &ColumnChunkMetaData| {
            let (start, bytes) = panics::catch(|| column.byte_range()).ok()?;
            start.checked_add(bytes)
        };
        if !group.columns().iter().all(|c| end(c).is_some_and(|end| end <= length)) {
            return Err(format!("partition {index} lies outside of the file"));
        }
    }
    let counted = metadata.metadata().file_metadata().num_rows();
    match rows > 0 && i64::try_from(rows).ok() == Some(counted) {
        true => Ok(starts),
        false => Err(format!("its footer counts {counted} rows")),
    }
}
