//! Owns braces in the names of INPUTs, as data sets in many parts are named:
//! `train-{000000..000146}.tar`, `{train,val}.tar`.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Names that one pattern stands for at most.
const NAMES_MAX: usize = 1 << 20;

/// The paths that a pattern stands for, in its order: itself where there is a file of that name, or
/// where it is no pattern.
pub(crate) fn expanded(pattern: PathBuf) -> Vec<PathBuf> {
    if pattern.symlink_metadata().is_ok() {
        return vec![pattern];
    }
    let mut paths = vec![Vec::new()];
    let mut rest = pattern.as_os_str().as_bytes();
    while let Some((before, inner, behind)) = next_brace(rest) {
        let Some(words) = words(inner).filter(|w| w.len().saturating_mul(paths.len()) <= NAMES_MAX)
        else {
            return vec![pattern];
        };
        let each = |path: &Vec<u8>| -> Vec<Vec<u8>> {
            words.iter().map(|word| [path, before, word].concat()).collect()
        };
        paths = paths.iter().flat_map(each).collect();
        rest = behind;
    }
    if paths.len() == 1 && paths[0].is_empty() {
        return vec![pattern];
    }
    let path =
        |start: Vec<u8>| PathBuf::from(std::ffi::OsString::from_vec([&start, rest].concat()));
    paths.into_iter().map(path).collect()
}

/// What stands before, in and behind the first braces.
fn next_brace(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let open = text.iter().position(|&b| b == b'{')?;
    let close = open + text[open..].iter().position(|&b| b == b'}')?;
    Some((&text[..open], &text[open + 1..close], &text[close + 1..]))
}

/// The words of a brace: `a,b` or a range, padded with zeros where one of its ends is.
fn words(inner: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(inner).ok()?;
    if let Some((first, last)) = text.split_once("..") {
        let digits = |end: &str| !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return None;
        }
        let padded = [first, last].iter().any(|end| end.len() > 1 && end.starts_with('0'));
        let width = if padded { first.len().max(last.len()) } else { 0 };
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        if first.abs_diff(last) >= NAMES_MAX as u64 {
            return None;
        }
        let word = |n: u64| format!("{n:0width$}").into_bytes();
        return Some(match first <= last {
            true => (first..=last).map(word).collect(),
            false => (last..=first).rev().map(word).collect(),
        });
    }
    text.contains(',').then(|| text.split(',').map(|word| word.as_bytes().to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Vec<String> {
        expanded(pattern.into()).into_iter().map(|p| p.to_str().unwrap().to_string()).collect()
    }

    #[test]
    fn braces_are_what_a_shell_makes_of_them() {
        assert_eq!(
            names("/x/a-{008..011}.tar"),
            ["008", "009", "010", "011"].map(|n| format!("/x/a-{n}.tar"))
        );
        assert_eq!(names("/x/{2..0}"), ["/x/2", "/x/1", "/x/0"]);
        assert_eq!(names("/x/{9..010}"), ["/x/009", "/x/010"]);
        assert_eq!(
            names("/x/{a,b}/{1..2}.tar"),
            ["/x/a/1.tar", "/x/a/2.tar", "/x/b/1.tar", "/x/b/2.tar"]
        );
        assert_eq!(names("/x/a{,.gz}"), ["/x/a", "/x/a.gz"]);
        for plain in ["/x/a.tar", "/x/{a}", "/x/{a..b}", "/x/{0..99999999999}", "/x/{1..", ""] {
            assert_eq!(names(plain), [plain]);
        }
    }

    #[test]
    fn a_file_of_that_name_is_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("{a,b}.tar");
        assert_eq!(expanded(path.clone()).len(), 2);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(expanded(path.clone()), [path]);
    }
}
