//! Owns how members are compressed, by the numbers of PKWARE's APPNOTE.

/// Methods of compression, as the format numbers them.
pub(super) const STORED: u16 = 0;
pub(super) const DEFLATE: u16 = 8;
pub(super) const BZIP2: u16 = 12;
pub(super) const LZMA: u16 = 14;
pub(super) const ZSTD: u16 = 93;
pub(super) const XZ: u16 = 95;

/// Whether members of this method can be read.
pub(super) fn is_readable(method: u16) -> bool {
    matches!(method, STORED | DEFLATE | BZIP2 | LZMA | ZSTD | XZ)
}
