//! Owns reading back what has a file, or several, for each row.

use std::path::PathBuf;

use rayon::prelude::*;

use super::{npy, torch};
use crate::export::row::Given;
use crate::storage;

/// Bytes of a file at most.
const BYTES_MAX: u64 = 1 << 31;
/// Rows read at once.
const ROWS: usize = 256;

/// Gives each row of what its files say.
fn rows(
    files: &[Vec<PathBuf>],
    read: impl Fn(&[Vec<u8>]) -> Result<Given, String> + Sync,
    each: &mut dyn FnMut(Given),
) -> Result<(), String> {
    let count = files.first().map_or(0, Vec::len);
    if files.iter().any(|series| series.len() != count) {
        return Err("its series have several lengths".into());
    }
    for from in (0..count).step_by(ROWS) {
        let row = |at: usize| {
            let bytes = files.iter().map(|series| storage::read(&series[at], BYTES_MAX));
            let bytes: Vec<_> =
                bytes.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            read(&bytes)
        };
        let given: Vec<Given> =
            (from..count.min(from + ROWS)).into_par_iter().map(row).collect::<Result<_, _>>()?;
        given.into_iter().for_each(&mut *each);
    }
    Ok(())
}

/// Gives each image of LlamaGen's files: of all its views, one behind the other.
pub(super) fn llamagen(files: &[Vec<PathBuf>], each: &mut dyn FnMut(Given)) -> Result<(), String> {
    let read = |files: &[Vec<u8>]| {
        let [codes, label] = files else { return Err("it has other series".to_string()) };
        let (codes, label) = (npy::array(codes)?, npy::array(label)?);
        let [class] = label.values[..] else { return Err("a label isn't one number".into()) };
        match (codes.dtype.as_str(), &codes.shape[..], label.dtype.as_str(), &label.shape[..]) {
            ("<i8", [1, _, _], "<i8", [1]) => {
                Ok(Given { class: Some(class), sides: None, codes: codes.codes()? })
            }
            _ => Err("its arrays have other types or shapes".into()),
        }
    };
    rows(files, read, each)
}

/// Gives each row of Emu3's.
pub(super) fn emu3(files: &[Vec<PathBuf>], each: &mut dyn FnMut(Given)) -> Result<(), String> {
    let read = |files: &[Vec<u8>]| {
        let [file] = files else { return Err("it has other series".to_string()) };
        let (shape, codes) = torch::tensor(file)?;
        let [height, width] = shape[..] else { return Err("a tensor is no grid".into()) };
        Ok(Given { class: None, sides: Some((height, width)), codes })
    };
    rows(files, read, each)
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_files_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        let names = |kind: &str| -> Vec<String> {
            (0..6).map(|i| format!("llamagen/imagenet256_{kind}/{i}.npy")).collect()
        };
        let (codes, labels) = (names("codes"), names("labels"));
        let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        testing::assert_series_read(Target::LlamaGen, &rows, &[&codes, &labels], &[23, 128, 248]);
    }

    #[test]
    fn emu3s_files_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        testing::assert_own_read(Target::Emu3, &rows, &[0, 0x310]);
        let golden = ["emu3/feature_tensor/000001.pth"];
        testing::assert_series_read(Target::Emu3, &rows[1..2], &[&golden], &[0x310]);
    }
}
