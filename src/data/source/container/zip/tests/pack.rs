//! Owns archives for tests, and those that no program writes.

use std::io::Write as _;

/// A member for [`pack`].
#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) content: Vec<u8>,
    pub(super) deflated: bool,
    pub(super) flags: u16,
    /// Instead of 0 or 8.
    pub(super) method: Option<u16>,
    /// Instead of the content, by a method that isn't written here.
    pub(super) stored: Option<Vec<u8>>,
    pub(super) extra: Vec<u8>,
    pub(super) comment: Vec<u8>,
    pub(super) mode: u32,
}

/// A stored one.
pub(super) fn member(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Member {
    let (name, content) = (name.as_ref().to_vec(), content.as_ref().to_vec());
    Member { name, content, ..Member::default() }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// An archive of them.
pub(super) fn pack(members: &[Member]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for m in members {
        let plain = || if m.deflated { deflate(&m.content) } else { m.content.clone() };
        let stored = m.stored.clone().unwrap_or_else(plain);
        let header_at = out.len() as u32;
        let method = m.method.unwrap_or(if m.deflated { 8 } else { 0 });
        let mut fields = vec![20, 0];
        fields.extend(m.flags.to_le_bytes());
        fields.extend(method.to_le_bytes());
        fields.extend([0; 4]);
        fields.extend(crc(&m.content).to_le_bytes());
        fields.extend((stored.len() as u32).to_le_bytes());
        fields.extend((m.content.len() as u32).to_le_bytes());
        fields.extend((m.name.len() as u16).to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&fields);
        out.extend([0, 0]);
        out.extend(&m.name);
        out.extend(stored);
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(fields);
        directory.extend((m.extra.len() as u16).to_le_bytes());
        directory.extend((m.comment.len() as u16).to_le_bytes());
        directory.extend([0; 4]);
        directory.extend((m.mode << 16).to_le_bytes());
        directory.extend(header_at.to_le_bytes());
        directory.extend([&m.name[..], &m.extra, &m.comment].concat());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}
