//! Owns the way from rows to Arrow columns, and the facts that are computed from a row's codes:
//! mean distance, unique codes, hash of the grid. Must not know: files.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array,
    Int32Array, Int64Array, ListArray, RecordBatch, StringArray, UInt8Array, UInt16Array,
    UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::error::ArrowError;
use parquet::file::metadata::KeyValue;
use sha2::{Digest, Sha256};

use super::classes::Classes;
use super::identity::Identity;
use super::level_layout::LevelLayout;
use super::rows::{FailureRow, TokenGrid, TokenRow};
use super::schema;
use crate::error::{Error, Result};
use crate::util::text;

/// Tokens of one grid at most; with [`TEXT_BYTES_MAX`] it keeps a batch far below the 2^31 that
/// Arrow's offsets can count.
pub(crate) const TOKENS_MAX: i64 = 1 << 22;
/// Bytes of any text of a row.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A checked row with what follows from it.
pub(super) struct PendingRow {
    /// As given.
    pub row: TokenRow,
    label_id: Option<i64>,
    quantization_error: Option<f32>,
    unique_codes: i32,
    grid_hash: [u8; 16],
}

impl PendingRow {
    /// Checks the grids against the identity; `classes`, where the shard has ids of them. Errors name
    /// the image.
    pub(super) fn new(
        row: TokenRow,
        identity: &Identity,
        classes: Option<&Classes>,
    ) -> Result<PendingRow> {
        let wrong = |what: String| {
            Error::invalid(format!(
                "image {} ('{}'): {what}",
                row.ordinal,
                text::printable(&row.key)
            ))
        };
        if row.levels.len() != identity.levels.len() {
            return Err(wrong(format!("{} grids came", row.levels.len())));
        }
        for (grid, layout) in row.levels.iter().zip(&identity.levels) {
            let (height, width) = (grid.height, grid.width);
            let values = layout.values() as i64;
            let all = (i64::from(height) * i64::from(width)).saturating_mul(values);
            if height <= 0 || width <= 0 || grid.codes.len() as i64 != all {
                let count = grid.codes.len();
                let what = if values > 1 { "bits" } else { "codes" };
                return Err(wrong(format!("{count} {what} came for a grid of {height} x {width}")));
            }
            if all > TOKENS_MAX {
                return Err(wrong(format!("a grid of {height} x {width} is too large to write")));
            }
            if layout
                .grid
                .is_some_and(|g| g.map(i64::from) != [i64::from(height), i64::from(width)])
            {
                return Err(wrong(format!("a grid of {height} x {width} is not the data set's")));
            }
        }
        let texts = [Some(&row.key), Some(&row.uri), row.member.as_ref(), row.label.as_ref()];
        let more = [row.caption.as_ref(), row.meta_json.as_ref(), Some(&row.color_mode)];
        if texts.iter().chain(&more).flatten().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(wrong(format!("a text of more than {TEXT_BYTES_MAX} bytes")));
        }
        let label_id = match (classes, &row.label) {
            (Some(classes), Some(label)) => classes.id(label).map_err(&wrong)?,
            _ => None,
        };
        // The last residual level's distances are those of the latents to what the decoder gets.
        let last = identity.levels.iter().rposition(|level| level.residual).unwrap_or(0);
        Ok(PendingRow {
            label_id,
            quantization_error: mean_distance(&row.levels[last]),
            unique_codes: unique(&row.levels[0].codes, identity.levels[0].values()),
            grid_hash: grid_hash(&row.levels),
            row,
        })
    }
}

/// Different tokens, of so many values each.
fn unique(codes: &[u32], values: usize) -> i32 {
    match values {
        1 => codes.iter().collect::<HashSet<_>>().len() as i32,
        values => codes.chunks(values).collect::<HashSet<_>>().len() as i32,
    }
}

/// Mean over the tokens of |z - e|^2; None where a distance is unknown.
fn mean_distance(grid: &TokenGrid) -> Option<f32> {
    let tokens = grid.height as usize * grid.width as usize;
    if grid.distances.len() != tokens || grid.distances.iter().any(|d| d.is_nan()) {
        return None;
    }
    let sum: f64 = grid.distances.iter().map(|&d| f64::from(d)).sum();
    Some((sum / tokens as f64) as f32)
}

/// The first half of sha256 over, level by level, the codes and then height and width, each a
/// little-endian u32.
fn grid_hash(levels: &[TokenGrid]) -> [u8; 16] {
    let mut bytes = Vec::new();
    for grid in levels {
        bytes.extend(grid.codes.iter().flat_map(|code| code.to_le_bytes()));
        bytes.extend(grid.height.to_le_bytes());
        bytes.extend(grid.width.to_le_bytes());
    }
    let digest = Sha256::digest(&bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// The columns of a shard; `word` is its schema's.
pub(super) fn batch(rows: &[PendingRow], identity: &Identity, word: &str) -> Result<RecordBatch> {
    let ids = word == schema::TOKENS;
    let build = || -> Result<RecordBatch, ArrowError> {
        let text = |get: fn(&TokenRow) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| get(&r.row))))
        };
        let optional = |get: fn(&TokenRow) -> Option<&str>| -> ArrayRef {
            Arc::new(StringArray::from_iter(rows.iter().map(|r| get(&r.row))))
        };
        let int = |get: &dyn Fn(&PendingRow) -> i32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values(rows.iter().map(get)))
        };
        let mut columns: Vec<ArrayRef> = vec![
            text(|r| &r.key),
            text(|r| &r.uri),
            optional(|r| r.member.as_deref()),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.row.ordinal))),
        ];
        for (index, level) in identity.levels.iter().enumerate() {
            columns.push(token_column(rows, index, level)?);
            columns.push(int(&|r| r.row.levels[index].height));
            columns.push(int(&|r| r.row.levels[index].width));
        }
        columns.extend([
            int(&|r| r.row.view),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.row.flip)))),
            int(&|r| r.row.image_width),
            int(&|r| r.row.image_height),
            int(&|r| r.row.orientation),
            text(|r| &r.color_mode),
            int(&|r| r.row.crop_x),
            int(&|r| r.row.crop_y),
            int(&|r| r.row.crop_w),
            int(&|r| r.row.crop_h),
            optional(|r| r.label.as_deref()),
        ]);
        let label_ids = || Int64Array::from_iter(rows.iter().map(|r| r.label_id));
        columns.extend(ids.then(|| Arc::new(label_ids()) as ArrayRef));
        columns.extend([
            optional(|r| r.caption.as_deref()),
            optional(|r| r.meta_json.as_deref()),
            digests(ids, rows.iter().map(|r| r.row.content_sha256))?,
            Arc::new(Float32Array::from_iter(rows.iter().map(|r| r.quantization_error))),
            int(&|r| r.unique_codes),
            digests(ids, rows.iter().map(|r| r.grid_hash))?,
        ]);
        RecordBatch::try_new(schema::tokens(&identity.levels, word), columns)
    };
    // Lengths were checked row by row; what is left is a bug, told like any other error.
    build().map_err(|e| Error::invalid(format!("rows don't form columns: {e}")))
}

/// Digests as plain bytes, or as bytes of a fixed length.
fn digests<const N: usize>(
    plain: bool,
    digests: impl Iterator<Item = [u8; N]>,
) -> Result<ArrayRef, ArrowError> {
    if plain {
        return Ok(Arc::new(BinaryArray::from_iter_values(digests)));
    }
    let bytes: Vec<u8> = digests.flatten().collect();
    Ok(Arc::new(FixedSizeBinaryArray::try_new(N as i32, bytes.into(), None)?))
}

fn token_column(
    rows: &[PendingRow],
    index: usize,
    level: &LevelLayout,
) -> Result<ArrayRef, ArrowError> {
    let grids = || rows.iter().map(|r| &r.row.levels[index].codes);
    let codes = grids().flatten().copied();
    let values: ArrayRef = if level.values() > 1 {
        // Bits, by `LevelStatistics::add`.
        Arc::new(UInt8Array::from_iter_values(codes.map(|bit| bit as u8)))
    } else if level.codes <= 1 << 16 {
        // Codes are below K by `LevelStatistics::add`, so a wider one is a bug that must not wrap.
        let narrow = codes.map(|code| {
            u16::try_from(code)
                .map_err(|_| ArrowError::ComputeError(format!("code {code} does not fit u16")))
        });
        Arc::new(UInt16Array::from_iter_values(narrow.collect::<Result<Vec<_>, _>>()?))
    } else {
        Arc::new(UInt32Array::from_iter_values(codes))
    };
    let item = schema::token_item(level);
    Ok(match level.row_values() {
        Some(count) => Arc::new(FixedSizeListArray::try_new(item, count as i32, values, None)?),
        None => {
            let offsets = OffsetBuffer::from_lengths(grids().map(Vec::len));
            Arc::new(ListArray::try_new(item, offsets, values, None)?)
        }
    })
}

/// A `failures.v1` file.
pub(super) fn failures_file(
    path: &Path,
    rows: &[FailureRow],
    entries: Vec<KeyValue>,
) -> Result<Vec<u8>> {
    let batches = rows.chunks(256).map(|rows| -> Vec<ArrayRef> {
        let text = |get: fn(&FailureRow) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(get)))
        };
        vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.ordinal))),
            text(|r| &r.key),
            text(|r| &r.uri),
            text(|r| &r.stage),
            text(|r| &r.error),
        ]
    });
    schema::encode(path, schema::failures(), batches, entries)
}
