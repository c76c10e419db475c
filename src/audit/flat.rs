//! Owns getting the codes of one row after the other out of a column of plain lists, fast: no value
//! missing, no lists inside lists. Must not know: what else anybody may write (`nested` reads that).

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
};

/// Lists of whole numbers.
pub(super) struct Flat {
    ends: OffsetBuffer<i32>,
    values: Values,
}

enum Values {
    U8(ScalarBuffer<u8>),
    U16(ScalarBuffer<u16>),
    U32(ScalarBuffer<u32>),
    I8(ScalarBuffer<i8>),
    I16(ScalarBuffer<i16>),
    I32(ScalarBuffer<i32>),
    I64(ScalarBuffer<i64>),
}

impl Flat {
    /// Of such a column; None of any other.
    pub(super) fn of(column: &ArrayRef) -> Option<Flat> {
        let lists = column.as_list_opt::<i32>().filter(|lists| lists.null_count() == 0)?;
        let values = lists.values();
        if values.null_count() > 0 {
            return None;
        }
        let values = match values.data_type() {
            DataType::UInt8 => Values::U8(values.as_primitive::<UInt8Type>().values().clone()),
            DataType::UInt16 => Values::U16(values.as_primitive::<UInt16Type>().values().clone()),
            DataType::UInt32 => Values::U32(values.as_primitive::<UInt32Type>().values().clone()),
            DataType::Int8 => Values::I8(values.as_primitive::<Int8Type>().values().clone()),
            DataType::Int16 => Values::I16(values.as_primitive::<Int16Type>().values().clone()),
            DataType::Int32 => Values::I32(values.as_primitive::<Int32Type>().values().clone()),
            DataType::Int64 => Values::I64(values.as_primitive::<Int64Type>().values().clone()),
            _ => return None,
        };
        Some(Flat { ends: lists.offsets().clone(), values })
    }

    /// The codes of row `row` into `codes`; what can't be a code becomes one of 2^31 and more.
    pub(super) fn get(&self, row: usize, codes: &mut Vec<u32>) {
        codes.clear();
        let range = self.ends[row] as usize..self.ends[row + 1] as usize;
        match &self.values {
            Values::U8(values) => codes.extend(values[range].iter().map(|&v| u32::from(v))),
            Values::U16(values) => codes.extend(values[range].iter().map(|&v| u32::from(v))),
            Values::U32(values) => codes.extend_from_slice(&values[range]),
            Values::I8(values) => codes.extend(values[range].iter().map(|&v| v as u32)),
            Values::I16(values) => codes.extend(values[range].iter().map(|&v| v as u32)),
            Values::I32(values) => codes.extend(values[range].iter().map(|&v| v as u32)),
            Values::I64(values) => {
                codes.extend(values[range].iter().map(|&v| u32::try_from(v).unwrap_or(u32::MAX)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, ListArray, UInt16Array};
    use arrow::datatypes::Field;

    use super::*;

    fn lists(values: ArrayRef, ends: &[i32]) -> ArrayRef {
        let field = Arc::new(Field::new("element", values.data_type().clone(), true));
        Arc::new(ListArray::new(field, OffsetBuffer::new(ends.to_vec().into()), values, None))
    }

    #[test]
    fn plain_lists_are_read_as_they_are_and_others_left_to_others() {
        let mut codes = vec![9];
        let plain = lists(Arc::new(UInt16Array::from(vec![3, 65_535, 0])), &[0, 2, 2, 3]);
        let plain = Flat::of(&plain).unwrap();
        let all = [0, 1, 2].map(|row| {
            plain.get(row, &mut codes);
            codes.clone()
        });
        assert_eq!(all, [vec![3, 65_535], vec![], vec![0]]);
        let wide = lists(Arc::new(Int64Array::from(vec![-1, 1 << 40, 7])), &[0, 3]);
        Flat::of(&wide).unwrap().get(0, &mut codes);
        assert_eq!(codes, [u32::MAX, u32::MAX, 7]);
        let missing = lists(Arc::new(Int64Array::from(vec![Some(1), None])), &[0, 2]);
        let inside = lists(missing.clone(), &[0, 1]);
        assert!(Flat::of(&missing).is_none() && Flat::of(&inside).is_none());
    }
}
