//! Owns refusing Parquet footers whose schema nests so deep, or is so large, that the Parquet
//! reader, which recurses over it, would overflow the stack: an abort that no guard can catch.
//! Must not know: what any column means.
//!
//! Reads just enough of Thrift's compact protocol: `FileMetaData` (field 2: a list of
//! `SchemaElement`, whose field 5 is `num_children`, depth first).

use std::io::{Read, Seek, SeekFrom};

use crate::util::error_text;

/// Groups inside groups. A list column has 3; data of other programs has a few more.
const DEPTH_MAX: usize = 32;
/// Columns and groups.
const ELEMENTS_MAX: usize = 1 << 14;
/// Thrift values inside values that are skipped.
const SKIP_MAX: usize = 32;

/// What to say of an encrypted file.
pub(crate) const ENCRYPTED: &str =
    "it is encrypted, and Parquet files are read without keys; write it again without encryption";

/// Looks at the footer of anything that has `length` bytes; it is left at its beginning. One that is no
/// Parquet file passes: the reader says so better. Whether columns of it may be encrypted.
///
/// # Errors
/// In a few words.
pub(crate) fn check(file: &mut (impl Read + Seek), length: u64) -> Result<bool, String> {
    if length < 12 {
        return Ok(false);
    }
    let mut tail = [0; 8];
    let mut read = |from: u64, into: &mut [u8]| {
        file.seek(SeekFrom::Start(from)).and_then(|_| file.read_exact(into))
    };
    read(length - 8, &mut tail).map_err(|e| error_text::reason(&e))?;
    let [a, b, c, d, ..] = tail;
    let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
    if tail[4..] == *b"PARE" {
        return Err(ENCRYPTED.into());
    }
    if tail[4..] != *b"PAR1" || footer > length - 8 {
        return Ok(false);
    }
    let mut bytes = vec![0; footer as usize];
    read(length - 8 - footer, &mut bytes).map_err(|e| error_text::reason(&e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| error_text::reason(&e))?;
    Cursor { bytes: &bytes, at: 0 }.file_metadata()
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

const LIST: u8 = 9;
const STRUCT: u8 = 12;

impl Cursor<'_> {
    fn file_metadata(&mut self) -> Result<bool, String> {
        let (mut id, mut encrypted) = (0, false);
        while let Some(kind) = self.field(&mut id)? {
            // A field can come twice: every schema is looked at.
            if id == 2 && kind == LIST {
                self.schema()?;
            } else {
                // The algorithm.
                encrypted |= id == 8;
                self.skip(kind, SKIP_MAX)?;
            }
        }
        Ok(encrypted)
    }

    fn schema(&mut self) -> Result<(), String> {
        let (size, kind) = self.list()?;
        if size > ELEMENTS_MAX as u64 || kind != STRUCT {
            return Err(format!("its schema has {size} elements"));
        }
        // Children still to come, of each open group.
        let mut open: Vec<u64> = Vec::new();
        for _ in 0..size {
            let children = self.element()?;
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > DEPTH_MAX {
                return Err(format!("its schema nests deeper than {DEPTH_MAX}"));
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Ok(())
    }

    /// A `SchemaElement`; gives its number of children.
    fn element(&mut self) -> Result<u64, String> {
        let (mut id, mut children) = (0, 0);
        while let Some(kind) = self.field(&mut id)? {
            if id == 5 && (4..=6).contains(&kind) {
                let zigzag = self.varint()?;
                children = if zigzag & 1 == 0 { zigzag >> 1 } else { 0 };
            } else {
                self.skip(kind, SKIP_MAX)?;
            }
        }
        Ok(children)
    }

    /// The next field's type, None at the end of a struct; `id` becomes its number.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>, String> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(None);
        }
        *id = match header >> 4 {
            0 => {
                let zigzag = self.varint()?;
                (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
            }
            delta => *id + i64::from(delta),
        };
        Ok(Some(header & 15))
    }

    /// Size and element type.
    fn list(&mut self) -> Result<(u64, u8), String> {
        let header = self.byte()?;
        let size = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
        Ok((size, header & 15))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Err("its footer nests too deep".into());
        }
        match kind {
            1 | 2 => Ok(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.advance(8),
            8 => {
                let bytes = self.varint()?;
                self.advance(bytes)
            }
            LIST | 10 => {
                let (size, kind) = self.list()?;
                (0..size).try_for_each(|_| self.skip_item(kind, depth - 1))
            }
            11 => {
                let size = self.varint()?;
                let kinds = if size > 0 { self.byte()? } else { 0 };
                (0..size).try_for_each(|_| {
                    self.skip_item(kinds >> 4, depth - 1)?;
                    self.skip_item(kinds & 15, depth - 1)
                })
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth - 1)?;
                }
                Ok(())
            }
            other => Err(format!("its footer has a value of type {other}")),
        }
    }

    /// In collections a boolean takes a byte; outside, it stands in the field's header.
    fn skip_item(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if kind == 1 || kind == 2 { self.advance(1) } else { self.skip(kind, depth) }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = *self.bytes.get(self.at).ok_or("its footer is cut short")?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, bytes: u64) -> Result<(), String> {
        let left = (self.bytes.len() - self.at) as u64;
        if bytes > left {
            return Err("its footer is cut short".into());
        }
        self.at += bytes as usize;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err("its footer has a number without end".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while n > 127 {
            out.push(n as u8 | 128);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }

    /// A file of `depth` groups inside each other, whose innermost is a leaf.
    fn nested(depth: u64) -> Vec<u8> {
        let element = |children: Option<u64>| {
            // repetition_type 0, name "a", num_children.
            let mut bytes = vec![0x35, 0, 0x18, 1, b'a'];
            if let Some(children) = children {
                bytes.push(0x15);
                bytes.extend(varint(children * 2));
            }
            bytes.push(0);
            bytes
        };
        let mut footer = vec![0x15, 2, 0x19, 0xfc];
        footer.extend(varint(depth + 1));
        (0..depth).for_each(|_| footer.extend(element(Some(1))));
        footer.extend(element(None));
        footer.extend([0x16, 0, 0x19, 0x0c, 0]);
        file_of(&footer)
    }

    fn file_of(footer: &[u8]) -> Vec<u8> {
        let length = (footer.len() as u32).to_le_bytes();
        [b"PAR1", footer, &length, b"PAR1"].concat()
    }

    fn check_bytes(bytes: &[u8]) -> Result<bool, String> {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        let length = file.metadata().unwrap().len();
        check(&mut file, length)
    }

    #[test]
    fn encrypted_files_are_known_with_and_without_a_plain_footer() {
        let plain = nested(2);
        assert_eq!(check_bytes(&plain), Ok(false));
        let footer = &plain[4..plain.len() - 9];
        // Field 8 after field 4: a union of which AES_GCM_V1 is set.
        let encrypted = file_of(&[footer, &[0x4c, 0x1c, 0, 0, 0]].concat());
        assert_eq!(check_bytes(&encrypted), Ok(true));
        let hidden = [b"PARE", &plain[4..plain.len() - 4], b"PARE"].concat();
        assert_eq!(check_bytes(&hidden), Err(ENCRYPTED.into()));
    }

    #[test]
    fn deep_schemas_are_refused_before_the_reader_recurses() {
        check_bytes(&nested(5)).unwrap();
        check_bytes(&nested(32)).unwrap();
        for depth in [33, 1000, 15_000] {
            assert!(check_bytes(&nested(depth)).unwrap_err().contains("deeper than 32"));
        }
        assert!(check_bytes(&nested(200_000)).unwrap_err().contains("200001 elements"));
        // The second of two schemas.
        let deep = &nested(1000)[4..];
        let deep = &deep[..deep.len() - 8];
        let twice = [&[0x15, 2, 0x19, 0x0c, 0x09, 4, 0x1c][..6], &deep[3..]].concat();
        assert!(check_bytes(&file_of(&twice)).is_err());
        // Structs inside structs in a field that nobody knows.
        let unknown = [vec![0x1c; 100_000], vec![0; 100_001]].concat();
        assert!(check_bytes(&file_of(&unknown)).unwrap_err().contains("nests too deep"));
    }

    #[test]
    fn any_bytes_end_in_an_answer() {
        let good = nested(8);
        for at in 4..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = check_bytes(&bad);
            }
        }
        assert!(check_bytes(b"").is_ok() && check_bytes(b"PAR1PAR1PAR1").is_ok());
    }

    #[test]
    fn a_real_file_passes() {
        let dir = tempfile::tempdir().unwrap();
        crate::tokens::testing::plan(dir.path(), 3, 10);
        let mut file = std::fs::File::open(dir.path().join("plan.parquet")).unwrap();
        let length = file.metadata().unwrap().len();
        check(&mut file, length).unwrap();
    }
}
