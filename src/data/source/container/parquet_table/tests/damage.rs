//! Damaged tables: never a panic, never other bytes than were put in, never an image lost.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray};
use parquet::basic::Compression;
use parquet::file::properties::{WriterPropertiesBuilder, WriterVersion};
use proptest::prelude::*;

use super::super::{TableKind, TableReader, is_parquet, kind, list};
use super::made::{Cell, cells, lists};
use super::{listed, read, reader, write};
use crate::data::source::container::fields::Fields;
use crate::data::source::image::SourceImage;
use crate::storage::{BytesAt, Memory};

/// 40 rows in 4 row groups; each image is its number many times over.
fn table(dir: &Path, compression: Compression) -> (PathBuf, Vec<Vec<u8>>) {
    let images: Vec<Vec<u8>> = (0..40_u8).map(|i| vec![i + 1; 300]).collect();
    let texts = StringArray::from_iter_values((0..40).map(|i| format!("text {i}")));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(Int64Array::from_iter_values(100..140))),
        ("image", Arc::new(BinaryArray::from_iter_values(&images))),
        ("text", Arc::new(texts)),
    ];
    let set = move |p: WriterPropertiesBuilder| {
        p.set_compression(compression).set_dictionary_enabled(false)
    };
    (write(&dir.join("t.parquet"), columns, 10, None, set), images)
}

/// The keys and bytes that can be had of a damaged table; no image is missing.
fn what_is_left(path: &Path) -> Vec<(SourceImage, Result<Vec<u8>, String>)> {
    let Ok((images, _)) = listed(path, &Fields::default()) else { return Vec::new() };
    let mut reader = reader(path);
    let read = |image: SourceImage| {
        let bytes = match &image.fault {
            Some(fault) => Err(fault.clone()),
            None => read(&mut reader, &image),
        };
        (image, bytes)
    };
    images.into_iter().map(read).collect()
}

#[test]
fn a_damaged_page_costs_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, images) = table(dir.path(), Compression::UNCOMPRESSED);
    let mut bytes = fs::read(&path).unwrap();
    // The length before the 13th image, which shares its page with the 14th.
    let at = bytes.windows(300).position(|bytes| bytes == images[12]).unwrap();
    bytes[at - 4..at].fill(0x7f);
    fs::write(&path, &bytes).unwrap();
    let left = what_is_left(&path);
    assert_eq!(left.len(), 40);
    let failed: Vec<_> = left.iter().filter(|(_, read)| read.is_err()).collect();
    assert_eq!(failed.iter().map(|(image, _)| &image.key[..]).collect::<Vec<_>>(), ["112", "113"]);
    for ((image, read), wanted) in left.iter().zip(images) {
        match read {
            Ok(bytes) => assert_eq!(*bytes, wanted, "{}", image.key),
            Err(line) => assert!(line.starts_with("the row can't be read: "), "{line}"),
        }
    }
}

#[test]
fn a_damaged_column_beside_the_images_costs_its_values() {
    let dir = tempfile::tempdir().unwrap();
    let (path, images) = table(dir.path(), Compression::UNCOMPRESSED);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|w| w == b"text 12").unwrap();
    bytes[at - 4..at].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let (found, remarks) = listed(&path, &Fields::default()).unwrap();
    assert_eq!((found.len(), remarks.odd.len()), (40, 1));
    assert!(
        remarks.odd[0].starts_with("column \"text\" is damaged from row 12 on ("),
        "{remarks:?}"
    );
    assert!(remarks.odd[0].ends_with("; left out in 8 rows"), "{remarks:?}");
    let mut reader = reader(&path);
    for (i, (image, wanted)) in found.iter().zip(images).enumerate() {
        assert_eq!(image.key, (100 + i).to_string());
        assert_eq!(read(&mut reader, image), Ok(wanted));
        assert_eq!(image.facts.caption.is_none(), (12..20).contains(&i), "{i}");
    }
}

#[test]
fn lists_with_any_byte_damaged_end_in_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let all = cells(12);
    let rows: Vec<Option<Vec<Cell>>> =
        (0..12).map(|i| (i % 5 != 1).then(|| all[i % 7..i % 7 + i % 4].to_vec())).collect();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let set = |p: WriterPropertiesBuilder| p.set_writer_version(version);
        write(&path, vec![("images", lists(&rows, false))], 12, None, set);
        let whole = fs::read(&path).unwrap();
        // Behind the pages are indices that nobody reads, and the footer.
        let pages = whole.len() / 2;
        for (at, value) in (4..pages).flat_map(|at| [0, 2, 0xff].map(|value| (at, value))) {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let bytes: Arc<dyn BytesAt> = Arc::new(Memory(bytes));
            let listing = list(Arc::clone(&bytes), "file:///x", "x", &Fields::default());
            let mut reader = TableReader::new(bytes, "file:///x", None);
            for image in listing.unwrap().take(100) {
                let image = image.unwrap();
                if image.fault.is_none() {
                    let _ = read(&mut reader, &image);
                }
            }
        }
    }
}

#[test]
fn a_damaged_footer_is_one_fault() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = table(dir.path(), Compression::UNCOMPRESSED);
    let bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    let mut broken = bytes.clone();
    broken[length - 60..length - 8].fill(0xee);
    for bad in [&bytes[..length - 1], &bytes[..length / 2], &bytes[..4], &bytes[..0], &broken] {
        fs::write(&path, bad).unwrap();
        assert_eq!(is_parquet(bad), bad.len() >= 4);
        let local = super::open(&path);
        assert_eq!(kind(local, "file:///x", &Fields::default()).unwrap(), TableKind::Images);
        let (images, remarks) = listed(&path, &Fields::default()).unwrap();
        let [image] = &images[..] else { panic!("{images:?}") };
        assert_eq!((image.key.as_str(), remarks), ("d/t.parquet", Default::default()));
        let fault = image.fault.as_deref().unwrap();
        assert!(fault.starts_with("the Parquet file can't be read: "), "{fault}");
        assert!(!fault.contains(dir.path().to_str().unwrap()));
    }
}

#[test]
fn a_disk_that_fails_ends_the_run() {
    struct Failing(Vec<u8>, std::ops::Range<u64>);
    impl BytesAt for Failing {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1.contains(&offset) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = table(dir.path(), Compression::UNCOMPRESSED);
    let bytes = fs::read(&path).unwrap();
    let length = bytes.len() as u64;
    let listing =
        |range| list(Arc::new(Failing(bytes.clone(), range)), "file:///x", "x", &Fields::default());
    let error = listing(length - 8..length).err().unwrap().to_string();
    assert_eq!(error, "/x: Input/output error");
    let mut early = listing(0..length / 2).unwrap();
    assert_eq!(early.next().unwrap().unwrap_err().to_string(), "/x: Input/output error");
    assert!(early.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_ends_in_an_answer(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        insert in prop::option::weighted(0.2, (any::<prop::sample::Index>(), 1_usize..9)),
        in_footer: bool,
        packed: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let compression = if packed { Compression::SNAPPY } else { Compression::UNCOMPRESSED };
        let (path, _) = table(dir.path(), compression);
        let mut bytes = fs::read(&path).unwrap();
        let footer = u32::from_le_bytes(*bytes[..bytes.len() - 4].last_chunk().unwrap()) as usize;
        let from = if in_footer { bytes.len() - 8 - footer } else { 0 };
        for (at, value) in &flips {
            let at = from + at.index(bytes.len() - from);
            bytes[at] = *value;
        }
        if let Some((at, count)) = insert {
            let at = at.index(bytes.len());
            bytes.splice(at..at, vec![0x11; count]);
        }
        if let Some(at) = cut {
            bytes.drain(at.index(bytes.len())..);
        }
        fs::write(&path, &bytes).unwrap();
        let left = what_is_left(&path);
        prop_assert!(left.len() <= 1 << 20);
        for (image, read) in &left {
            prop_assert!(!image.key.is_empty());
            if let Err(line) = read {
                prop_assert!(!line.is_empty() && !line.contains(['\n', '{']), "{}", line);
            }
        }
        // The same again: nothing hangs on anything but the bytes.
        prop_assert_eq!(what_is_left(&path).len(), left.len());
    }
}
