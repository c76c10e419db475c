//! Owns making tars for tests, member by member.

use std::io::Write as _;

use super::super::Compression;
use super::super::header::{BLOCK, Block};

/// A tar that grows.
#[derive(Default, Clone)]
pub(super) struct Tar(pub(super) Vec<u8>);

/// A header in the ustar format.
pub(super) fn header(name: &[u8], size: u64, flag: u8) -> Block {
    let mut block = [0; BLOCK];
    block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(&number(size));
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sign(&mut block);
    block
}

/// A number's field: octal, or in base 256 where that is too short.
pub(super) fn number(number: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if number < 1 << 33 {
        field.copy_from_slice(format!("{number:011o}\0").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    }
    field
}

/// Writes the checksum.
pub(super) fn sign(block: &mut Block) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A PAX record.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

impl Tar {
    pub(super) fn raw(mut self, bytes: &[u8]) -> Tar {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes, and zeros up to the next block.
    pub(super) fn content(self, bytes: &[u8]) -> Tar {
        let mut tar = self.raw(bytes);
        tar.0.resize(tar.0.len().next_multiple_of(BLOCK), 0);
        tar
    }

    pub(super) fn member(self, flag: u8, name: &[u8], content: &[u8]) -> Tar {
        self.raw(&header(name, content.len() as u64, flag)).content(content)
    }

    pub(super) fn file(self, name: &str, content: &[u8]) -> Tar {
        self.member(b'0', name.as_bytes(), content)
    }

    /// A PAX header for the next member.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let records: Vec<Vec<u8>> = records.iter().map(|(key, value)| record(key, value)).collect();
        self.member(b'x', b"PaxHeaders/x", &records.concat())
    }

    /// The end mark.
    pub(super) fn end(self) -> Vec<u8> {
        self.raw(&[0; 2 * BLOCK]).0
    }
}

/// `plain` as one part of a compressed file.
pub(super) fn pack(plain: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(plain).unwrap();
            gzip.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            bzip2.write_all(plain).unwrap();
            bzip2.finish().unwrap()
        }
        Compression::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(0);
            let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            xz.write_all(plain).unwrap();
            xz.finish().unwrap()
        }
        Compression::Zstd => {
            let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
            zstd.include_checksum(true).unwrap();
            zstd.write_all(plain).unwrap();
            zstd.finish().unwrap()
        }
    }
}

pub(super) const COMPRESSIONS: [Compression; 4] =
    [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];
