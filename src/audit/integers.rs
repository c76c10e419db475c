//! Owns getting integers out of whatever Arrow types they come in. Must not know: files.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, OffsetSizeTrait};
use arrow::datatypes::{
    DataType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};

/// Lists of codes: list `i` is `values[ends[i-1]..ends[i]]`.
pub(crate) struct Lists {
    /// All codes, one list after the other.
    pub values: Vec<u32>,
    /// Where each list ends in `values`.
    pub ends: Vec<usize>,
}

impl Lists {
    /// The codes of row `row`.
    pub(crate) fn get(&self, row: usize) -> &[u32] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.values[start..self.ends[row]]
    }
}

/// The lists of a List, LargeList or FixedSizeList of integers. Errors in a few words.
pub(crate) fn lists(column: &ArrayRef) -> Result<Lists, String> {
    if column.null_count() > 0 {
        return Err("has rows without tokens (null)".into());
    }
    match column.data_type() {
        DataType::FixedSizeList(_, size) => {
            let list = column.as_fixed_size_list();
            let size = *size as usize;
            let values = codes(list.values())?;
            Ok(Lists { values, ends: (1..=list.len()).map(|row| row * size).collect() })
        }
        DataType::List(_) => offset_lists::<i32>(column),
        DataType::LargeList(_) => offset_lists::<i64>(column),
        other => Err(format!("is {other}, not a list of integers")),
    }
}

fn offset_lists<O: OffsetSizeTrait>(column: &ArrayRef) -> Result<Lists, String> {
    let list = column.as_list::<O>();
    let offsets: Vec<usize> = list.value_offsets().iter().map(|o| o.as_usize()).collect();
    let (start, end) = (offsets[0], offsets[offsets.len() - 1]);
    let values = codes(&list.values().slice(start, end - start))?;
    Ok(Lists { values, ends: offsets[1..].iter().map(|offset| offset - start).collect() })
}

/// Integers of any width as codes; negative or larger ones than 2^32 are errors.
fn codes(values: &ArrayRef) -> Result<Vec<u32>, String> {
    if values.null_count() > 0 {
        return Err("has missing codes (null)".into());
    }
    match values.data_type() {
        DataType::UInt8 => narrow::<UInt8Type>(values),
        DataType::UInt16 => narrow::<UInt16Type>(values),
        DataType::UInt32 => narrow::<UInt32Type>(values),
        DataType::UInt64 => narrow::<UInt64Type>(values),
        DataType::Int8 => narrow::<Int8Type>(values),
        DataType::Int16 => narrow::<Int16Type>(values),
        DataType::Int32 => narrow::<Int32Type>(values),
        DataType::Int64 => narrow::<Int64Type>(values),
        other => Err(format!("holds {other}, not integers")),
    }
}

fn narrow<T: ArrowPrimitiveType>(values: &ArrayRef) -> Result<Vec<u32>, String>
where
    T::Native: TryInto<u32> + std::fmt::Display,
{
    let one = |value: &T::Native| {
        (*value).try_into().map_err(|_| format!("holds {value}, which is no code"))
    };
    values.as_primitive::<T>().values().iter().map(one).collect()
}

/// A plain column of integers of any width.
pub(crate) fn column(values: &ArrayRef) -> Result<Vec<i64>, String> {
    if values.null_count() > 0 {
        return Err("has missing values (null)".into());
    }
    match values.data_type() {
        DataType::UInt8 => widen::<UInt8Type>(values),
        DataType::UInt16 => widen::<UInt16Type>(values),
        DataType::UInt32 => widen::<UInt32Type>(values),
        DataType::UInt64 => widen::<UInt64Type>(values),
        DataType::Int8 => widen::<Int8Type>(values),
        DataType::Int16 => widen::<Int16Type>(values),
        DataType::Int32 => widen::<Int32Type>(values),
        DataType::Int64 => widen::<Int64Type>(values),
        other => Err(format!("is {other}, not an integer")),
    }
}

fn widen<T: ArrowPrimitiveType>(values: &ArrayRef) -> Result<Vec<i64>, String>
where
    T::Native: TryInto<i64> + std::fmt::Display,
{
    let one = |value: &T::Native| {
        (*value).try_into().map_err(|_| format!("holds {value}, which is too large"))
    };
    values.as_primitive::<T>().values().iter().map(one).collect()
}
