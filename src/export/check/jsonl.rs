//! Owns reading JSON lines back.

use std::io::BufRead;

use super::bytes::Source;

/// Gives the class and the ids of each line; the class where it has a name.
pub(super) fn read(
    lines: &mut Source,
    class: Option<&str>,
    tokens: &str,
    each: &mut dyn FnMut(Option<i64>, Vec<u32>) -> Result<(), String>,
) -> Result<(), String> {
    for line in lines.reader().split(b'\n') {
        let line = line.map_err(|error| error.to_string())?;
        let mut row: serde_json::Value =
            serde_json::from_slice(&line).map_err(|error| error.to_string())?;
        let ids = serde_json::from_value(row[tokens].take()).map_err(|error| error.to_string())?;
        each(class.and_then(|class| row[class].as_i64()), ids)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::export::target::Target;
    use crate::export::testing;

    #[test]
    fn the_golden_lines_are_read_and_any_change_is_seen() {
        let Some(rows) = testing::golden() else { return };
        // A class, a code.
        testing::assert_read(Target::Jsonl, &rows, &["onedtok/pretokenized.jsonl"], &[13, 27]);
    }
}
