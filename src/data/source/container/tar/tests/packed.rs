//! Owns the tests of compressed tars.

use super::make::{COMPRESSIONS, Tar, pack};
use super::*;

fn plain() -> Vec<u8> {
    let noise: Vec<u8> =
        (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    Tar::default().file("a.jpg", &noise).file("a.txt", b"caption").file("b.jpg", b"2").end()
}

#[test]
fn all_parts_of_a_file_are_one_tar() {
    let plain = plain();
    let expected = contents(&plain);
    assert_eq!(expected.len(), 2);
    for kind in COMPRESSIONS {
        for cuts in [vec![], vec![100], vec![1000, 1000, 70_000, plain.len() - 1]] {
            let (mut packed, mut begin) = (Vec::new(), 0);
            for end in cuts.into_iter().chain([plain.len()]) {
                packed.extend(pack(&plain[begin..end], kind));
                begin = end;
            }
            assert_eq!(compression(&packed), Some(kind));
            assert!(holds_tar(memory(&packed)).unwrap());
            assert_eq!(contents(&packed), expected, "{kind:?}");
            assert_eq!(listed(&packed).1, Remarks::default(), "{kind:?}");
            // Zeros that fill a block are no content; other bytes are told.
            let padded = [&packed[..], &[0; 1024]].concat();
            assert_eq!(listed(&padded).1, Remarks::default(), "{kind:?}");
            let (images, remarks) = listed(&[&padded[..], b"junk"].concat());
            assert_eq!(images.len(), 2, "{kind:?}");
            assert_eq!(remarks.odd, ["4 bytes behind its compressed data are no part of it"]);
        }
    }
}

#[test]
fn frames_to_be_skipped_are_skipped() {
    let skipped = [&[0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0][..], b"size"].concat();
    let packed = pack(&plain(), Compression::Zstd);
    let packed = [&skipped[..], &packed, &skipped].concat();
    assert_eq!(compression(&packed), Some(Compression::Zstd));
    assert_eq!(contents(&packed), contents(&plain()));
}

/// Counts what is read of a file.
struct Counting(Memory, std::sync::atomic::AtomicU64);

impl BytesAt for Counting {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_at(offset, buffer)?;
        self.1.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(count)
    }
}

#[test]
fn images_that_are_not_there_any_more_cost_one_reading_of_the_file() {
    let members = |names: std::ops::Range<u32>| {
        let noise = |i: u32| (0..5000).map(|j| ((i * 7919 + j * 31) % 251) as u8).collect();
        let add = |tar: Tar, i| {
            let content: Vec<u8> = noise(i);
            tar.file(&format!("{i:04}.jpg"), &content)
        };
        names.fold(Tar::default(), add).end()
    };
    let (planned, other) = (members(0..200), members(1000..1200));
    let images = listed(&planned).0;
    for kind in COMPRESSIONS {
        let mut cut = pack(&planned, kind);
        cut.truncate(cut.len() / 4);
        for packed in [cut, pack(&other, kind)] {
            let length = packed.len() as u64;
            let counting = Arc::new(Counting(Memory(packed), Default::default()));
            let mut stream = TarStream::new(Arc::clone(&counting) as Arc<dyn BytesAt>, kind);
            let read = |image: &SourceImage| {
                stream.read(image.part.as_ref().unwrap(), image.bytes, &Limits::default()).is_err()
            };
            assert!(images.iter().map(read).filter(|failed| *failed).count() > 100);
            let read = counting.1.load(std::sync::atomic::Ordering::Relaxed);
            assert!(read <= 2 * length, "{kind:?}: {read} bytes of {length}");
        }
    }
}

#[test]
fn images_read_back_in_any_order() {
    let plain = plain();
    let expected = contents(&plain);
    for kind in COMPRESSIONS {
        let packed = pack(&plain, kind);
        let (images, mut reader) = (listed(&packed).0, Reader::new(&packed));
        for at in [1, 0, 0, 1, 1, 0] {
            assert_eq!(reader.read(&images[at]), expected[at].1);
        }
    }
}

#[test]
fn a_stream_that_ends_early_keeps_what_came_before() {
    for kind in COMPRESSIONS {
        let packed = pack(&plain(), kind);
        let cut = &packed[..packed.len() / 2];
        let images = listed(cut).0;
        assert_eq!(keys(&images).last(), Some(&"x.tar"), "{kind:?}");
        let fault = last_fault(&images);
        assert!(fault.contains(" of its unpacked content: its "), "{fault}");
        assert!(fault.contains(" data ends too early; what follows is lost"), "{fault}");
        for (key, read) in contents(cut) {
            assert!(key == "a" && read.unwrap_err().contains("ends too early"));
        }
        let whole_but_the_last = &packed[..packed.len() - 1];
        let images = listed(whole_but_the_last).0;
        assert_eq!(keys(&images), ["a", "b", "x.tar"], "{kind:?}");
    }
}

#[test]
fn a_wrong_checksum_is_told_though_all_was_read() {
    for (kind, from_end) in
        [(Compression::Gzip, 6), (Compression::Zstd, 2), (Compression::Bzip2, 3)]
    {
        let mut packed = pack(&plain(), kind);
        let at = packed.len() - from_end;
        packed[at] ^= 0x40;
        let images = listed(&packed).0;
        assert_eq!(keys(&images).last(), Some(&"x.tar"), "{kind:?}");
        let fault = last_fault(&images);
        assert!(fault.contains(" data is damaged ("), "{fault}");
    }
}

#[test]
fn what_is_compressed_and_no_tar_is_told() {
    for kind in COMPRESSIONS {
        let packed = pack(b"label,path\n1,a.jpg\n", kind);
        assert!(!holds_tar(memory(&packed)).unwrap());
        assert_eq!(last_fault(&listed(&packed).0), "not a tar: it doesn't begin with a header");
        assert_eq!(last_fault(&listed(&pack(b"", kind)).0), "not a tar: it is empty");
    }
    // bzip2's letters are a name as well.
    let tar = Tar::default().file("BZh91AY&SY.jpg", b"1").end();
    assert_eq!(compression(&tar[..512]), None);
    assert_eq!(contents(&tar), [("BZh91AY&SY".to_owned(), Ok(b"1".to_vec()))]);
}

/// A file whose store fails behind its first bytes.
struct Failing(Memory, u64);

impl BytesAt for Failing {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.1 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the store is away"));
        }
        let count = buffer.len().min((self.1 - offset) as usize);
        self.0.read_at(offset, &mut buffer[..count])
    }
}

#[test]
fn a_store_that_fails_is_no_damage() {
    let kinds = COMPRESSIONS.into_iter().map(Some).chain([None]);
    for kind in kinds {
        let tar = kind.map_or_else(plain, |kind| pack(&plain(), kind));
        let bytes = || Arc::new(Failing(Memory(tar.clone()), 70_000.min(tar.len() as u64 - 10)));
        let listing = list(bytes(), "file:///x.tar", "x.tar", &Fields::default()).unwrap();
        let ends: Vec<_> = listing.collect();
        let error = ends.last().unwrap().as_ref().unwrap_err();
        assert!(format!("{error:?}").contains("the store is away"), "{kind:?}: {error:?}");
        let image = listed(&tar).0.remove(0);
        let (part, limits) = (image.part.unwrap(), Limits::default());
        let read = match kind {
            Some(kind) => TarStream::new(bytes(), kind).read(&part, image.bytes, &limits),
            None => TarReader::new(bytes()).read(&part, image.bytes, &limits),
        };
        assert_eq!(read.unwrap_err().message, "the store is away", "{kind:?}");
    }
}
