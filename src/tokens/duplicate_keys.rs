//! Owns the proof that no two images of a plan have one key. Must not know: where keys come from.
//!
//! Memory stays bounded for any number of images. Of the keys, 64-bit hashes are looked at: of so many
//! as [`HASHES_MAX`] says in memory, of more in shares of a temporary file, 8 bytes an image, of which
//! one share is read at a time. Keys of equal hash are then looked at themselves. So the plan is read
//! once, and once more where hashes are equal.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::rows::PlanRow;
use crate::error::{Error, Result};
use crate::util::settings::{KEY_COLUMN, OUT};
use crate::util::text::{self, shorten};
use crate::util::{error_text, nameless_file};

/// 2 MiB of them.
const HASHES_MAX: u64 = 1 << 18;
/// Shares at most: of more images than so many have, shares are larger.
const SHARES_MAX: u64 = 256;
/// Where there can be no temporary file, so many images do without: 32 MiB.
const IN_MEMORY_MAX: u64 = 1 << 22;
/// Hashes of a share that are written at a time.
const BLOCK: usize = 1 << 12;
/// Hashes that came twice and are looked at together.
const TWICE_MAX: usize = 1 << 20;

/// Reads `count` rows, once or twice, from what `rows` opens.
///
/// # Errors
/// [`Error::Input`] naming a key and the two places it comes from; no room for a temporary file.
pub(super) fn check<I: Iterator<Item = Result<PlanRow>>>(
    count: u64,
    rows: impl Fn() -> Result<I>,
) -> Result<()> {
    let shares = Shares::new(count.div_ceil(HASHES_MAX).clamp(1, SHARES_MAX));
    match shares {
        Err(_) if count <= IN_MEMORY_MAX => check_in(Shares::new(1)?, rows),
        shares => check_in(shares?, rows),
    }
}

fn check_in<I: Iterator<Item = Result<PlanRow>>>(
    mut spooled: Shares,
    rows: impl Fn() -> Result<I>,
) -> Result<()> {
    for row in rows()? {
        spooled.push(hash(&row?.key))?;
    }
    let mut twice = Vec::new();
    for share in 0..spooled.piles.len() {
        let mut hashes = spooled.take(share)?;
        hashes.sort_unstable();
        let pairs = hashes.windows(2).filter(|pair| pair[0] == pair[1]);
        twice.extend(pairs.map(|pair| pair[0]));
        if twice.len() > TWICE_MAX {
            must_differ(std::mem::take(&mut twice), rows()?)?;
        }
    }
    match twice.is_empty() {
        true => Ok(()),
        false => must_differ(twice, rows()?),
    }
}

/// Hashes in shares: those of the first in memory, where there is no other, else in a file.
struct Shares {
    piles: Vec<Pile>,
    spool: Option<(PathBuf, File)>,
    end: u64,
}

/// The hashes of one share.
#[derive(Default)]
struct Pile {
    /// What isn't written.
    rest: Vec<u64>,
    /// Where each block that is begins.
    blocks: Vec<u64>,
}

impl Shares {
    fn new(shares: u64) -> Result<Shares> {
        let spool = match shares {
            1 => None,
            _ => {
                let folder = std::env::temp_dir();
                let file = nameless_file::create(&folder);
                let file = file.map_err(|error| unusable(&folder, &error))?;
                Some((folder, file))
            }
        };
        Ok(Shares { piles: (0..shares).map(|_| Pile::default()).collect(), spool, end: 0 })
    }

    fn push(&mut self, hash: u64) -> Result<()> {
        let share = (hash % self.piles.len() as u64) as usize;
        let pile = &mut self.piles[share];
        pile.rest.push(hash);
        let Some((folder, file)) = self.spool.as_ref().filter(|_| pile.rest.len() == BLOCK) else {
            return Ok(());
        };
        let bytes: Vec<u8> = pile.rest.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        file.write_all_at(&bytes, self.end).map_err(|error| unusable(folder, &error))?;
        pile.blocks.push(self.end);
        pile.rest.clear();
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// All hashes of a share.
    fn take(&mut self, share: usize) -> Result<Vec<u64>> {
        let Pile { rest: mut hashes, blocks } = std::mem::take(&mut self.piles[share]);
        let mut bytes = vec![0; BLOCK * 8];
        let Some((folder, file)) = &self.spool else { return Ok(hashes) };
        for start in &blocks {
            file.read_exact_at(&mut bytes, *start).map_err(|error| unusable(folder, &error))?;
            let of = |word: &[u8]| word.try_into().map_or(0, u64::from_le_bytes);
            hashes.extend(bytes.chunks_exact(8).map(of));
        }
        Ok(hashes)
    }
}

fn unusable(folder: &std::path::Path, error: &std::io::Error) -> Error {
    Error::invalid(format!(
        "keys are compared in {}, which can't be used: {}; set TMPDIR to a folder with room for 8 bytes \
         an image",
        text::path(folder),
        error_text::reason(error)
    ))
}

/// Looks at the keys of the hashes that came twice.
fn must_differ(mut twice: Vec<u64>, rows: impl Iterator<Item = Result<PlanRow>>) -> Result<()> {
    twice.sort_unstable();
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
            check_in(Shares::new(shares).unwrap(), || Ok(rows(&keys))).unwrap();
        }
        keys[900] = "cat/17.png".into();
        for shares in [1, 2, 7] {
            let error =
                check_in(Shares::new(shares).unwrap(), || Ok(rows(&keys))).unwrap_err().to_string();
            let words = "the key 'cat/17.png': file:///17 and file:///900; ";
            assert!(error.contains(words), "{error}");
        }
        assert!(check(1000, || Ok(rows(&keys))).is_err());
        check(0, || Ok(rows(&[]))).unwrap();
    }

    #[test]
    fn hashes_come_back_from_the_file_and_memory_holds_blocks() {
        let mut shares = Shares::new(3).unwrap();
        let all: Vec<u64> =
            (0..30_000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        for &hash in &all {
            shares.push(hash).unwrap();
            assert!(shares.piles.iter().all(|pile| pile.rest.len() < BLOCK));
        }
        assert!(shares.piles.iter().all(|pile| pile.blocks.len() > 1));
        for share in 0..3 {
            let mut found = shares.take(share).unwrap();
            let mut due: Vec<u64> =
                all.iter().copied().filter(|hash| hash % 3 == share as u64).collect();
            found.sort_unstable();
            due.sort_unstable();
            assert_eq!(found, due);
        }
    }

    #[test]
    fn keys_of_equal_hash_are_no_finding() {
        let keys = ["a".to_string(), "b".to_string()];
        must_differ(vec![hash("a"), hash("b")], rows(&keys)).unwrap();
    }
}
