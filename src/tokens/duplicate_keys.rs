//! Owns the proof that no two images of a plan have one key. Must not know: where keys come from.
//!
//! Memory stays bounded for any number of images: of 64-bit hashes of the keys, so many are held at
//! a time as [`HASHES_MAX`] says, and the plan is read once for each such share. Keys of equal hash
//! are then looked at themselves.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::rows::PlanRow;
use crate::error::{Error, Result};
use crate::util::settings::{KEY_COLUMN, OUT};
use crate::util::text::shorten;

/// 32 MiB of them.
const HASHES_MAX: u64 = 1 << 22;

/// Reads `count` rows, as often as it takes, from what `rows` opens.
///
/// # Errors
/// [`Error::Input`] naming a key and the two places it comes from.
pub(super) fn check<I: Iterator<Item = Result<PlanRow>>>(
    count: u64,
    rows: impl Fn() -> Result<I>,
) -> Result<()> {
    check_in(count.div_ceil(HASHES_MAX).max(1), rows)
}

fn check_in<I: Iterator<Item = Result<PlanRow>>>(
    shares: u64,
    rows: impl Fn() -> Result<I>,
) -> Result<()> {
    for share in 0..shares {
        let mut hashes = Vec::new();
        for row in rows()? {
            let hash = hash(&row?.key);
            if hash % shares == share {
                hashes.push(hash);
            }
        }
        hashes.sort_unstable();
        let mut pairs = hashes.windows(2).filter(|pair| pair[0] == pair[1]);
        if let Some(pair) = pairs.next() {
            let more = pairs.map(|pair| pair[0]);
            must_differ(std::iter::once(pair[0]).chain(more).collect(), rows()?)?;
        }
    }
    Ok(())
}

/// Looks at the keys of the hashes that came twice (sorted).
fn must_differ(twice: Vec<u64>, rows: impl Iterator<Item = Result<PlanRow>>) -> Result<()> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for row in rows {
        let row = row?;
        if twice.binary_search(&hash(&row.key)).is_err() {
            continue;
        }
        if let Some(first) = seen.get(&row.key) {
            return Err(refused(first, &row));
        }
        let place = place(&row);
        seen.insert(row.key, place);
    }
    Ok(())
}

/// An image whose key another one has that is planned in an output already.
pub(super) fn refusal(planned: &PlanRow, row: &PlanRow) -> Error {
    let advice = match (&row.member, planned.uri == row.uri) {
        (None, true) => "it is named twice: leave one of them out".into(),
        (None, false) => format!(
            "a key is the path below its INPUT: name a folder further up, so that their keys differ, \
             or tokenize them into another {OUT}"
        ),
        (Some(_), true) => {
            format!("keys must differ: rename one of them, or name another {KEY_COLUMN}")
        }
        (Some(_), false) => format!("keys must differ: tokenize them into another {OUT}"),
    };
    two_of(&place(planned), row, &advice)
}

/// An image whose key that at `first` has.
fn refused(first: &str, row: &PlanRow) -> Error {
    let one_file = row.member.is_some() && first.ends_with(&row.uri);
    let advice = match row.member {
        Some(_) if one_file => {
            format!("keys must differ: rename one of them, or name another {KEY_COLUMN}")
        }
        Some(_) => format!("keys must differ: tokenize them into an {OUT} each"),
        None if first == row.uri => "it is named twice: leave one of them out".into(),
        None => format!(
            "a key is the path below its INPUT: name a folder that holds both as the one \
             INPUT, or tokenize them into an {OUT} each"
        ),
    };
    two_of(first, row, &advice)
}

fn two_of(first: &str, row: &PlanRow, advice: &str) -> Error {
    Error::invalid(format!(
        "two images would have the key '{}': {first} and {}; {advice}",
        shorten(&row.key),
        place(row)
    ))
}

/// Where an image lies, in words.
fn place(row: &PlanRow) -> String {
    match &row.member {
        Some(member) => {
            let at = row.offset.unwrap_or(0);
            format!("'{}' (at {at}) in {}", shorten(member), row.uri)
        }
        None => row.uri.clone(),
    }
}

/// The same in every process: a message doesn't depend on chance.
fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: &[String]) -> impl Iterator<Item = Result<PlanRow>> + use<> {
        let rows: Vec<_> = keys.iter().cloned().zip(0..).collect();
        rows.into_iter().map(|(key, ordinal)| {
            Ok(PlanRow {
                ordinal,
                key,
                uri: format!("file:///{ordinal}"),
                bytes: 1,
                ..PlanRow::default()
            })
        })
    }

    #[test]
    fn a_key_that_comes_twice_is_named_with_its_places() {
        let mut keys: Vec<String> = (0..1000).map(|i| format!("cat/{i}.png")).collect();
        for shares in [1, 2, 7] {
            check_in(shares, || Ok(rows(&keys))).unwrap();
        }
        keys[900] = "cat/17.png".into();
        for shares in [1, 2, 7] {
            let error = check_in(shares, || Ok(rows(&keys))).unwrap_err().to_string();
            let words = "the key 'cat/17.png': file:///17 and file:///900; ";
            assert!(error.contains(words), "{error}");
        }
        assert!(check(1000, || Ok(rows(&keys))).is_err());
        check(0, || Ok(rows(&[]))).unwrap();
    }

    #[test]
    fn keys_of_equal_hash_are_no_finding() {
        let keys = ["a".to_string(), "b".to_string()];
        let mut both = vec![hash("a"), hash("b")];
        both.sort_unstable();
        must_differ(both, rows(&keys)).unwrap();
    }
}
