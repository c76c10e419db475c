//! Owns reading one array for all rows back, with the classes and the lines beside it.

use std::io::BufRead;

use super::bytes::{Source, numbers};
use super::npy;
use crate::export::row::Given;

/// Gives each row; `rest` is the file of lines, behind that of classes where there is one.
pub(super) fn read(
    tokens: &mut Source,
    rest: &mut [Source],
    each: &mut dyn FnMut(Given),
) -> Result<(), String> {
    let (dtype, shape) = head(tokens)?;
    let width = npy::width_of(&dtype)?;
    let (rows, height, across, values) = match shape[..] {
        [rows, height, across] => (rows, height, across, 1),
        [rows, height, across, bits] => (rows, height, across, bits),
        _ => return Err("its array has other axes".into()),
    };
    let (mut classes, lines) = match rest {
        [classes, lines] => (Some(classes), lines),
        [lines] => (None, lines),
        _ => return Err("it has other files".into()),
    };
    if let Some(classes) = &mut classes
        && head(classes)? != ("<i8".to_string(), vec![rows])
    {
        return Err("its classes have another type or number".into());
    }
    for _ in 0..rows {
        let codes = tokens.take((height * across * values * width) as u64)?;
        let class = match &mut classes {
            None => None,
            Some(classes) => Some(i64::from_le_bytes(classes.take_array()?)).filter(|c| *c >= 0),
        };
        each(Given { class, sides: Some((height, across)), codes: numbers(&codes, width) });
    }
    let mut told = 0;
    for line in lines.reader().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let line: serde_json::Value =
            serde_json::from_str(&line).map_err(|error| error.to_string())?;
        told += usize::from(line["key"].is_string());
    }
    match tokens.left == 0 && classes.is_none_or(|classes| classes.left == 0) && told == rows {
        true => Ok(()),
        false => Err("its files have several numbers of rows".into()),
    }
}

/// Type and shape of an array that begins here.
fn head(file: &mut Source) -> Result<(String, Vec<usize>), String> {
    let magic: [u8; 10] = file.take_array()?;
    if magic[..8] != *b"\x93NUMPY\x01\x00" {
        return Err("an array isn't one of numpy's".into());
    }
    let text = file.take(u64::from(u16::from_le_bytes([magic[8], magic[9]])))?;
    npy::header(&text)
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn arrays_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        testing::assert_own_read(Target::Npy, &rows, &[22, 61, 128, 319]);
    }
}
