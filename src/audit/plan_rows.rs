//! Owns the rows of a plan as its schemas describe them, and what they add to its digest. Must not know: the
//! writer, files.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use sha2::{Digest, Sha256};

/// A planned image.
pub(super) struct Planned {
    pub ordinal: i64,
    pub key: String,
    pub uri: String,
    pub bytes: i64,
    /// What plan.v2 says beyond that.
    pub part: Option<PlannedPart>,
    /// What plan.v3 says beyond that.
    pub bucket: Option<PlannedBucket>,
}

/// The further columns of plan.v3, in their order.
pub(super) struct PlannedBucket {
    pub position: i64,
    /// Width and height.
    pub size: [i32; 2],
}

/// The columns of plan.v2, in their order.
pub(super) struct PlannedPart {
    pub member: Option<String>,
    offset: Option<i64>,
    pub label: Option<String>,
    pub caption: Option<String>,
    meta_json: Option<String>,
    pub fault: Option<String>,
    forward: bool,
}

/// Columns with their types; those of plan.v2 behind the fourth, of plan.v3 behind the eleventh.
pub(super) const COLUMNS: [(&str, DataType); 14] = [
    ("ordinal", DataType::Int64),
    ("key", DataType::Utf8),
    ("uri", DataType::Utf8),
    ("bytes", DataType::Int64),
    ("member", DataType::Utf8),
    ("offset", DataType::Int64),
    ("label", DataType::Utf8),
    ("caption", DataType::Utf8),
    ("meta_json", DataType::Utf8),
    ("fault", DataType::Utf8),
    ("forward", DataType::Boolean),
    ("position", DataType::Int64),
    ("bucket_width", DataType::Int32),
    ("bucket_height", DataType::Int32),
];
/// Columns of plan.v1.
pub(super) const COLUMNS_OF_FILES: usize = 4;
/// Columns of plan.v2.
pub(super) const COLUMNS_OF_PARTS: usize = 11;

/// Row `i` of a batch whose columns are known to fit.
pub(super) fn planned(batch: &RecordBatch, i: usize) -> Planned {
    let text = |column: usize| {
        let column = batch.column(column).as_string::<i32>();
        column.is_valid(i).then(|| column.value(i).to_string())
    };
    let number = |column: usize| {
        let column = batch.column(column).as_primitive::<Int64Type>();
        column.is_valid(i).then(|| column.value(i))
    };
    let part = || PlannedPart {
        member: text(4),
        offset: number(5),
        label: text(6),
        caption: text(7),
        meta_json: text(8),
        fault: text(9),
        forward: batch.column(10).as_boolean().value(i),
    };
    let side = |column: usize| batch.column(column).as_primitive::<Int32Type>().value(i);
    let bucket = || PlannedBucket {
        position: number(COLUMNS_OF_PARTS).unwrap_or_default(),
        size: [1, 2].map(|n| side(COLUMNS_OF_PARTS + n)),
    };
    Planned {
        ordinal: number(0).unwrap_or_default(),
        key: text(1).unwrap_or_default(),
        uri: text(2).unwrap_or_default(),
        bytes: number(3).unwrap_or_default(),
        part: (batch.num_columns() >= COLUMNS_OF_PARTS).then(part),
        bucket: (batch.num_columns() == COLUMNS.len()).then(bucket),
    }
}

/// Whether an image can stand behind another in a partition: in the same bucket, in the order of the
/// inputs.
pub(super) fn follows(last: Option<([i32; 2], i64)>, bucket: Option<([i32; 2], i64)>) -> bool {
    match (last, bucket) {
        (Some((size, before)), Some((same, position))) => size == same && before < position,
        (None, None) => true,
        _ => false,
    }
}

/// Takes a row into the plan's digest; whether a partition begins with it.
pub(super) fn hash(hasher: &mut Sha256, row: &Planned, begins: bool) {
    if row.part.is_some() {
        hasher.update([u8::from(begins)]);
    }
    let text = |hasher: &mut Sha256, text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    hasher.update(row.ordinal.to_le_bytes());
    text(hasher, &row.key);
    text(hasher, &row.uri);
    hasher.update(row.bytes.to_le_bytes());
    let Some(part) = &row.part else { return };
    let optional = |hasher: &mut Sha256, value: Option<&str>| {
        hasher.update([u8::from(value.is_some())]);
        value.into_iter().for_each(|value| text(hasher, value));
    };
    optional(hasher, part.member.as_deref());
    hasher.update([u8::from(part.offset.is_some())]);
    part.offset.iter().for_each(|offset| hasher.update(offset.to_le_bytes()));
    for value in [&part.label, &part.caption, &part.meta_json, &part.fault] {
        optional(hasher, value.as_deref());
    }
    hasher.update([u8::from(part.forward)]);
    let Some(bucket) = &row.bucket else { return };
    hasher.update(bucket.position.to_le_bytes());
    bucket.size.iter().for_each(|side| hasher.update(side.to_le_bytes()));
}
