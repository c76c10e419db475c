//! Owns planned rows as columns. Must not know: files.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, StringArray};

use super::layout::Layout;
use crate::tokens::rows::{Bucket, PlanRow};

/// The columns of a layout.
pub(super) fn columns_of(rows: &[PlanRow], layout: Layout) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.ordinal))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.key))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.uri))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.bytes))),
    ];
    if layout != Layout::Files {
        let text = |get: fn(&PlanRow) -> Option<&String>| -> ArrayRef {
            Arc::new(StringArray::from_iter(rows.iter().map(get)))
        };
        columns.extend([
            text(|r| r.member.as_ref()),
            Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.offset))),
            text(|r| r.label.as_ref()),
            text(|r| r.caption.as_ref()),
            text(|r| r.meta_json.as_ref()),
            text(|r| r.fault.as_ref()),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.forward)))),
        ]);
    }
    if layout == Layout::Buckets {
        let bucket = |row: &PlanRow| row.bucket.unwrap_or_default();
        let side = |get: fn(Bucket) -> u32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| get(bucket(r)) as i32)))
        };
        columns.extend([
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| bucket(r).position))) as _,
            side(|bucket| bucket.width),
            side(|bucket| bucket.height),
        ]);
    }
    columns
}
