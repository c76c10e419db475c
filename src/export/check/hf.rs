//! Owns reading Arrow streams of rows back.

use std::io::Read;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, UInt32Type};
use arrow::ipc::reader::StreamReader;

use super::bytes::Source;

/// Gives each row's ids, class and sides.
pub(super) fn read(
    file: &mut Source,
    each: &mut dyn FnMut(Vec<u32>, Option<i64>, Option<(usize, usize)>) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = StreamReader::try_new(file.reader(), None).map_err(|e| e.to_string())?;
    for batch in &mut reader {
        rows(&batch.map_err(|error| error.to_string())?, each)?;
    }
    let mut behind = Vec::new();
    file.reader().read_to_end(&mut behind).map_err(|error| error.to_string())?;
    match behind.is_empty() {
        true => Ok(()),
        false => Err("something stands behind its end".into()),
    }
}

fn rows(
    batch: &RecordBatch,
    each: &mut dyn FnMut(Vec<u32>, Option<i64>, Option<(usize, usize)>) -> Result<(), String>,
) -> Result<(), String> {
    let column =
        |name: &str| batch.column_by_name(name).ok_or_else(|| format!("{name} is missing"));
    let side = |name: &str| {
        let sides = column(name)?.as_primitive_opt::<Int32Type>();
        sides.cloned().ok_or_else(|| format!("{name} has another type"))
    };
    let (tokens, heights, widths) = (column("tokens")?, side("grid_height")?, side("grid_width")?);
    let classes = batch.column_by_name("label").map(|classes| classes.as_primitive::<Int64Type>());
    for row in 0..batch.num_rows() {
        let class = classes.filter(|classes| classes.is_valid(row)).map(|c| c.value(row));
        let sides = (heights.value(row) as usize, widths.value(row) as usize);
        each(ids(tokens, row)?, class, Some(sides))?;
    }
    Ok(())
}

fn ids(tokens: &ArrayRef, row: usize) -> Result<Vec<u32>, String> {
    let values = match tokens.data_type() {
        DataType::FixedSizeList(..) => tokens.as_fixed_size_list().value(row),
        DataType::List(_) => tokens.as_list::<i32>().value(row),
        other => return Err(format!("tokens are {other}")),
    };
    let values = cast(&values, &DataType::UInt32).map_err(|error| error.to_string())?;
    Ok(values.as_primitive::<UInt32Type>().values().to_vec())
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_streams_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        let golden = "hf_datasets/arrow/data-00000-of-00002.arrow";
        // The codes of the first row.
        let first = [7, 0, 8, 1, 9, 2];
        let bytes = testing::file(golden);
        let at = bytes.windows(6).position(|window| window == first).unwrap();
        testing::assert_read(Target::Hf, &rows[..3], &[golden], &[at, at + 31]);
    }
}
