//! Owns the records of PAX extended headers, as far as they say where a member's bytes are and what
//! it is called. Must not know: where the headers lie.

use super::header::decimal;
use super::sparse::{self, Piece};
use crate::data::source::names::KEY_BYTES_MAX;

/// What PAX headers say of the member after them. Names may be cut behind the longest that is taken.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) sparse: PaxSparse,
}

/// GNU tar's records of files with holes, of the formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    /// 1.0: the map stands at the beginning of the content.
    pub(super) map_in_content: bool,
    pub(super) name: Option<Vec<u8>>,
    /// The size with the holes.
    pub(super) size: Option<u64>,
    /// 0.0 and 0.1.
    pub(super) map: Option<Vec<Piece>>,
}

impl Pax {
    /// Adds a header's records; None where they can't be read.
    pub(super) fn add(&mut self, mut records: &[u8]) -> Option<()> {
        let mut offset = 0;
        while let Some((key, value)) = next_record(&mut records)? {
            match key {
                // An empty value takes the record back.
                b"path" => self.path = name(value),
                b"size" if value.is_empty() => self.size = None,
                b"size" => self.size = Some(decimal(value)?),
                b"GNU.sparse.name" => self.sparse.name = name(value),
                b"GNU.sparse.major" => self.sparse.map_in_content = value == b"1",
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    self.sparse.size = Some(decimal(value)?);
                }
                b"GNU.sparse.map" => self.sparse.map = Some(pieces(value)?),
                b"GNU.sparse.offset" => offset = decimal(value)?,
                b"GNU.sparse.numbytes" => {
                    let map = self.sparse.map.get_or_insert_default();
                    map.push(Piece { at: offset, length: decimal(value)? });
                }
                _ => {}
            }
        }
        Some(())
    }

    /// Whether a header for all members that follow says what only makes sense of one.
    pub(super) fn is_of_one(&self) -> bool {
        let PaxSparse { map_in_content, name, size, map } = &self.sparse;
        let holes = *map_in_content || name.is_some() || size.is_some() || map.is_some();
        self.path.is_some() || self.size.is_some() || holes
    }
}

fn name(value: &[u8]) -> Option<Vec<u8>> {
    let kept = &value[..value.len().min(KEY_BYTES_MAX)];
    Some(kept.to_vec()).filter(|name| !name.is_empty())
}

/// `offset,length,offset,length`
fn pieces(value: &[u8]) -> Option<Vec<Piece>> {
    let numbers: Vec<u64> = value.split(|&b| b == b',').map(decimal).collect::<Option<_>>()?;
    Some(sparse::pairs(&numbers))
}

/// Takes `LENGTH KEY=VALUE\n` off the records; Some(None) at their end, None where that isn't there.
fn next_record<'a>(records: &mut &'a [u8]) -> Option<Option<(&'a [u8], &'a [u8])>> {
    // Some writers fill the last block into the length.
    if records.first().is_none_or(|&byte| byte == 0) {
        return Some(None);
    }
    let space = records.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&records[..space])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    *records = rest;
    Some(Some((&record[..equals], &record[equals + 1..])))
}
