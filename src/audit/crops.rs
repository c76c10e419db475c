//! Owns the columns that say which place of its image a row shows. Must not know: what that is for.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};

use super::nested::Whole;

/// Top, left, height and width, and whether it is mirrored.
pub(super) const COLUMNS: [&str; 5] = ["crop_y", "crop_x", "crop_h", "crop_w", "flip"];

/// Those columns in a batch.
pub(super) struct Crops {
    sides: Vec<Whole>,
    flip: BooleanArray,
}

/// Whether a file has all of them.
pub(super) fn are_in(schema: &Schema) -> bool {
    COLUMNS.iter().enumerate().all(|(at, name)| {
        let kind = schema.field_with_name(name).map(|field| field.data_type());
        kind.is_ok_and(|kind| if at < 4 { kind.is_integer() } else { *kind == DataType::Boolean })
    })
}

impl Crops {
    /// None where one of them is missing.
    pub(super) fn of(batch: &RecordBatch) -> Option<Crops> {
        let sides = COLUMNS[..4].iter().map(|name| Whole::of(batch.column_by_name(name)?).ok());
        let flip = batch.column_by_name(COLUMNS[4])?.as_boolean_opt()?.clone();
        Some(Crops { sides: sides.collect::<Option<_>>()?, flip })
    }

    /// Those of row `i`; none where one is missing.
    pub(super) fn get(&self, i: usize) -> Option<[i64; 5]> {
        let mut crop = [0; 5];
        for (value, side) in crop.iter_mut().zip(&self.sides) {
            *value = side.get(i)?.ok()?;
        }
        crop[4] = i64::from(self.flip.value(i));
        Some(crop)
    }
}
