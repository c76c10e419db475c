//! Owns what tests share: finding the reference data beside the checkout, reading npz files.
//! Integration tests include this very file, so it names nothing of the crate.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A path under `../shared`, or None after saying so on stderr.
///
/// # Panics
/// Where the data is missing and `VQTOK_REQUIRE_SHARED=1`, as CI sets it.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if full.exists() {
        return Some(full);
    }
    if std::env::var("VQTOK_REQUIRE_SHARED").is_ok_and(|v| v == "1") {
        panic!("VQTOK_REQUIRE_SHARED=1 but ../shared/{path} is not there");
    }
    eprintln!("skipped: ../shared is not there ({path})");
    None
}

/// One array of an npz file, C order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NpzArray {
    /// Outermost dimension first; empty for a scalar.
    pub shape: Vec<usize>,
    /// numpy's word for the element type, as in `<f4`, `|u1`, `|b1`, `<U12`.
    pub dtype: String,
    /// The elements, little-endian, one after another.
    pub data: Vec<u8>,
}

/// An accessor that insists on one dtype.
macro_rules! accessor {
    ($name:ident, $type:ty, $dtype:literal) => {
        /// The elements.
        ///
        /// # Panics
        /// Where the array is of another type.
        #[track_caller]
        pub(crate) fn $name(&self) -> Vec<$type> {
            assert_eq!(self.dtype, $dtype, "the array has another type");
            let size = size_of::<$type>();
            self.data
                .chunks_exact(size)
                .map(|c| <$type>::from_le_bytes(c.try_into().expect("chunks are of this size")))
                .collect()
        }
    };
}

impl NpzArray {
    accessor!(f32, f32, "<f4");
    accessor!(f64, f64, "<f8");
    accessor!(i64, i64, "<i8");
    accessor!(i32, i32, "<i4");
    accessor!(i16, i16, "<i2");
    accessor!(i8, i8, "|i1");
    accessor!(u64, u64, "<u8");
    accessor!(u32, u32, "<u4");
    accessor!(u16, u16, "<u2");
    accessor!(u8, u8, "|u1");
    accessor!(f16_bits, u16, "<f2");

    /// The elements of a bool array.
    ///
    /// # Panics
    /// Where the array is of another type.
    #[track_caller]
    pub(crate) fn bool(&self) -> Vec<bool> {
        assert_eq!(self.dtype, "|b1", "the array has another type");
        self.data.iter().map(|&b| b != 0).collect()
    }

    /// Any integer or bool array as i64.
    ///
    /// # Panics
    /// Where the array holds no integers.
    #[track_caller]
    pub(crate) fn to_i64(&self) -> Vec<i64> {
        match self.dtype.as_str() {
            "<i8" => self.i64(),
            "<i4" => self.i32().into_iter().map(i64::from).collect(),
            "<i2" => self.i16().into_iter().map(i64::from).collect(),
            "|i1" => self.i8().into_iter().map(i64::from).collect(),
            "<u4" => self.u32().into_iter().map(i64::from).collect(),
            "<u2" => self.u16().into_iter().map(i64::from).collect(),
            "|u1" | "|b1" => self.data.iter().map(|&b| i64::from(b)).collect(),
            other => panic!("an array of {other}, not of integers"),
        }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All arrays of an npz file as `np.savez` or `np.savez_compressed` writes it, by name
/// without `.npy`.
///
/// # Panics
/// Where the file can't be read: tests have no use for an npz they can't trust.
#[track_caller]
pub(crate) fn npz(path: impl AsRef<Path>) -> BTreeMap<String, NpzArray> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | (u16_at(at + 2) << 16);

    let end = bytes.windows(4).rposition(|w| w == b"PK\x05\x06").expect("end of the zip directory");
    let mut at = u32_at(end + 16);
    let mut arrays = BTreeMap::new();
    for _ in 0..u16_at(end + 10) {
        assert_eq!(&bytes[at..at + 4], b"PK\x01\x02", "zip directory entry");
        let (method, size, name_len) = (u16_at(at + 10), u32_at(at + 20), u16_at(at + 28));
        let name = String::from_utf8(bytes[at + 46..at + 46 + name_len].to_vec()).expect("a name");
        let local = u32_at(at + 42);
        let start = local + 30 + u16_at(local + 26) + u16_at(local + 28);
        let array = match method {
            0 => npy(&bytes[start..start + size]),
            8 => {
                let mut plain = Vec::new();
                let mut inflated = flate2::read::DeflateDecoder::new(&bytes[start..start + size]);
                inflated.read_to_end(&mut plain).expect("a deflated entry");
                npy(&plain)
            }
            other => panic!("{}: an entry of compression {other}", path.display()),
        };
        arrays.insert(name.trim_end_matches(".npy").to_string(), array);
        at += 46 + name_len + u16_at(at + 30) + u16_at(at + 32);
    }
    arrays
}

/// One array in numpy's format, C order.
#[track_caller]
pub(crate) fn npy(bytes: &[u8]) -> NpzArray {
    assert_eq!(&bytes[..6], b"\x93NUMPY", "an npy file");
    let (start, length) = match bytes[6] {
        1 => (10, usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))),
        _ => (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize),
    };
    let header = std::str::from_utf8(&bytes[start..start + length]).expect("an npy header");
    let after = |key: &str| {
        let at = header.find(key).unwrap_or_else(|| panic!("{key} in {header}"));
        header[at + key.len()..].trim_start_matches([':', ' '])
    };
    assert!(after("'fortran_order'").starts_with("False"), "an array in Fortran order");
    let dtype = after("'descr'").split('\'').nth(1).expect("a plain dtype").to_string();
    let shape = after("'shape'").trim_start_matches('(').split(')').next().expect("a shape");
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().expect("a dimension"))
        .collect();
    NpzArray { shape, dtype, data: bytes[start + length..].to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_reads_shape_and_type() {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        let header = b"{'descr': '<i2', 'fortran_order': False, 'shape': (2, 1), }\n";
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header);
        file.extend([1, 0, 255, 255]);
        let array = npy(&file);
        assert_eq!((array.shape.as_slice(), array.i16()), (&[2, 1][..], vec![1, -1]));
        assert_eq!(array.to_i64(), [1, -1]);
    }

    #[test]
    fn npz_reads_a_golden_file() {
        let Some(path) = shared("golden/taming_vq/golden.npz") else { return };
        let arrays = npz(path);
        assert_eq!(arrays["images_u8"].shape, [4, 32, 32, 3]);
        assert_eq!(arrays["images_u8"].u8().len(), arrays["input"].f32().len());
        assert_eq!(arrays["tokens"].i64().len(), arrays["tokens"].len());
        assert_eq!(arrays["z"].f32().len(), arrays["margin"].len() * arrays["z"].shape[1]);
    }
}
