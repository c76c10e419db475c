//! Owns telling whether a file is a list of keys of an output, so that an audit's own list gives way to
//! the next and a user's file doesn't. Must not know: what the list is for.

use std::collections::HashSet;
use std::path::Path;

use crate::audit::{Asked, TokenFile};
use crate::error::Result;

/// Longest list that is looked at: one that is longer stays.
const BYTES_MAX: u64 = 1 << 30;

/// Whether each line of a file is a key of the output, in rising order and none twice, as lists of an
/// audit are. An empty file is such a list.
///
/// # Errors
/// An output that can't be read.
pub(super) fn is_of_output(list: &Path, output: &Path) -> Result<bool> {
    let regular = |facts: std::fs::Metadata| facts.is_file() && facts.len() <= BYTES_MAX;
    if !list.symlink_metadata().is_ok_and(regular) {
        return Ok(false);
    }
    let Ok(text) = std::fs::read_to_string(list) else { return Ok(false) };
    let mut left: HashSet<&str> = text.lines().collect();
    let ended = text.is_empty() || text.ends_with('\n');
    if !ended || !text.lines().is_sorted_by(|a, b| a < b) {
        return Ok(false);
    }
    if left.is_empty() {
        return Ok(true);
    }
    let asked = Asked { without_tokens: true, ..Asked::default() };
    for row in TokenFile::open_as(output, asked)?.flatten() {
        left.remove(row.key.as_str());
        if left.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::is_of_output;
    use crate::tokens::testing;

    #[test]
    fn only_keys_of_the_output_in_order_are_a_list_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (out, list) = (dir.path().join("out"), dir.path().join("list"));
        let plan = testing::plan(&out, 3, 3);
        testing::write(&plan, 0);
        for (text, due) in [
            ("", true),
            ("c/0.png\nc/2.png\n", true),
            ("c/2.png\nc/0.png\n", false),
            ("c/0.png\nc/0.png\n", false),
            ("c/0.png\nc/2.png", false),
            ("c/0.png\nmine.png\n", false),
        ] {
            std::fs::write(&list, text).unwrap();
            assert_eq!(is_of_output(&list, &out).unwrap(), due, "{text:?}");
        }
    }
}
