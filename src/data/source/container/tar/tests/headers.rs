//! Owns the tests of what headers say: names, sizes, kinds, holes.

use super::make::{Tar, header, pack, sign};
use super::*;
use crate::data::source::container::tar::header::{is_valid, number};

/// Plain and compressed, the tar's images read back as these.
#[track_caller]
fn assert_contents(tar: &[u8], expected: &[(&str, &[u8])]) {
    for tar in [tar.to_vec(), pack(tar, Compression::Gzip)] {
        let read = contents(&tar);
        let read: Vec<_> = read.iter().map(|(key, read)| (key.as_str(), read.as_deref())).collect();
        let expected: Vec<_> = expected.iter().map(|(key, bytes)| (*key, Ok(*bytes))).collect();
        assert!(read == expected.as_slice(), "{read:?}");
    }
}

#[test]
fn numbers_are_octal_or_base_256() {
    let read = |field: &[u8]| number(field);
    assert_eq!(read(b"0000644\0"), Some(0o644));
    assert_eq!(read(b"   644 \0"), Some(0o644));
    assert_eq!(read(b"77777777"), Some(0o77777777));
    assert_eq!(read(b"\0\0\0\0\0\0\0\0"), Some(0));
    assert_eq!(read(b"00000008"), None);
    assert_eq!(read(b"-000001\0"), None);
    assert_eq!(read(b"0000644x"), None);
    assert_eq!(read(b"\x80\0\0\0\0\0\0\0\x02\0\0\0"), Some(1 << 25));
    assert_eq!(read(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), None);
    assert_eq!(read(b"\x80\x01\0\0\0\0\0\0\0\0\0\0"), None);
}

#[test]
fn old_headers_and_signed_checksums_are_headers() {
    let mut block = header(b"caf\xE9.jpg", 3, 0);
    block[257..265].fill(0);
    sign(&mut block);
    assert!(is_tar(&block) && !is_tar(&block[..511]) && !is_tar(&[0; 512]));
    // As compilers with signed characters summed.
    block[148..156].fill(b' ');
    let sum: i64 = block.iter().map(|&byte| i64::from(byte as i8)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(is_valid(&block));
    assert_contents(&Tar::default().raw(&block).content(b"old").end(), &[("caf%E9", b"old")]);
    block[0] ^= 1;
    assert!(!is_valid(&block));
}

#[test]
fn the_prefix_counts_where_posix_has_it() {
    let mut block = header(b"a.jpg", 1, b'0');
    block[345..351].copy_from_slice(b"folder");
    sign(&mut block);
    assert_contents(&Tar::default().raw(&block).content(b"1").end(), &[("folder/a", b"1")]);
    // GNU tar has times there.
    block[257..265].copy_from_slice(b"ustar  \0");
    sign(&mut block);
    assert_contents(&Tar::default().raw(&block).content(b"1").end(), &[("a", b"1")]);
}

#[test]
fn pax_headers_give_name_and_size() {
    let long = format!("{}/b.jpg", "long".repeat(100));
    let tar = Tar::default()
        .member(b'g', b"g", &make::record("comment", b"for all"))
        .pax(&[("path", "é/a.jpg".as_bytes()), ("size", b"3"), ("mtime", b"1.5")])
        .raw(&header(b"short.jpg", 0, b'0'))
        .content(b"one")
        .pax(&[("hdrcharset", b"BINARY"), ("path", b"\xE9.jpg")])
        .file("?.jpg", b"two")
        // A folder's own size has no content behind it.
        .raw(&header(b"folder/", 1000, b'5'))
        .member(b'L', b"././@LongLink", &[long.as_bytes(), b"\0"].concat())
        .member(b'K', b"././@LongLink", b"a link's target\0")
        .file(&long[..100], b"three")
        // Solaris's letter; an empty value takes the name back; zeros fill the block.
        .member(b'X', b"x", &[make::record("path", b"x.jpg"), make::record("path", b"")].concat())
        .file("c.jpg", b"four")
        .member(b'x', b"x", &[make::record("path", b"d.jpg"), vec![0; 7]].concat())
        .file("e.jpg", b"five");
    let b = long.strip_suffix(".jpg").unwrap();
    let expected: [(&str, &[u8]); 5] =
        [("é/a", b"one"), ("%E9", b"two"), (b, b"three"), ("c", b"four"), ("d", b"five")];
    assert_contents(&tar.clone().end(), &expected);
    let (images, remarks) = listed(&tar.end());
    assert_eq!(remarks, Remarks::default());
    let offsets: Vec<u64> =
        images.iter().map(|image| image.part.as_ref().unwrap().offset).collect();
    assert_eq!(offsets[0], 4 * 512, "the member's own header");
}

#[test]
fn global_names_and_sizes_are_told_and_not_followed() {
    let tar = Tar::default()
        .member(b'g', b"g", &make::record("path", b"all.jpg"))
        .file("a.jpg", b"1")
        .end();
    assert_contents(&tar, &[("a", b"1")]);
    assert_eq!(
        listed(&tar).1.odd,
        ["1 PAX header with a name or size for all members: not followed"]
    );
}

#[test]
fn only_files_are_samples() {
    let mut tar = Tar::default().file("a.jpg", b"1");
    for flag in *b"12346" {
        tar = tar.raw(&header(b"link.jpg", 700, flag));
    }
    let tar = tar
        .member(b'A', b"acl.jpg", b"an access control list of Solaris")
        .member(b'M', b"rest.jpg", b"of another volume")
        .member(b'D', b"folder.jpg", b"a folder's listing")
        .member(0, b"old.jpg/", b"")
        .file("a.txt", b"caption")
        .member(b'7', b"b.jpg", b"2")
        .end();
    assert_contents(&tar, &[("a", b"1"), ("b", b"2")]);
    let (images, remarks) = listed(&tar);
    assert_eq!(images[0].facts.caption.as_deref(), Some("caption"), "links don't part a sample");
    assert_eq!((remarks.other, remarks.without_image, remarks.links), (6, 0, 2));
    let line = "links in it are not followed; unpack it to have what they lead to: 2 (the first: link.jpg)";
    assert_eq!(remarks.odd, [line]);
}

/// `ab`, a hole of 1000 bytes, `cde`, a hole of 5.
fn holey() -> Vec<u8> {
    [&b"ab"[..], &[0; 1000], b"cde", &[0; 5]].concat()
}

#[test]
fn holes_in_gnus_old_format_are_filled() {
    let entry = |at: u64, length: u64| [make::number(at), make::number(length)].concat();
    let mut block = header(b"h.jpg", 5, b'S');
    block[257..265].copy_from_slice(b"ustar  \0");
    block[386..410].copy_from_slice(&entry(0, 2));
    block[482] = 1;
    block[483..495].copy_from_slice(&make::number(1010));
    sign(&mut block);
    let mut more = [0; 512];
    more[..24].copy_from_slice(&entry(1002, 3));
    more[24..48].copy_from_slice(&entry(1010, 0));
    let tar = Tar::default().raw(&block).raw(&more).content(b"abcde").file("i.jpg", b"next").end();
    assert_contents(&tar, &[("h", &holey()), ("i", b"next")]);
    // A piece behind the end, and one too short.
    for (at, length) in [(1009, 3), (1002, 2), (1, 4)] {
        let mut tar = tar.clone();
        tar[512..536].copy_from_slice(&entry(at, length));
        let (images, remarks) = listed(&tar);
        let fault = images[0].fault.as_deref().unwrap();
        assert!(fault.starts_with("its map of holes"), "{fault}");
        assert_eq!((images.len(), remarks.odd.len()), (2, 0));
    }
}

#[test]
fn holes_in_pax_formats_are_filled() {
    let (realsize, name): ((&str, &[u8]), (&str, &[u8])) =
        (("GNU.sparse.realsize", b"1010"), ("GNU.sparse.name", b"h.jpg"));
    let size = ("GNU.sparse.size", &b"1010"[..]);
    let (offset, bytes) = ("GNU.sparse.offset", "GNU.sparse.numbytes");
    let zero: [(&str, &[u8]); 6] = [
        size,
        ("GNU.sparse.numblocks", b"2"),
        (offset, b"0"),
        (bytes, b"2"),
        (offset, b"1002"),
        (bytes, b"3"),
    ];
    let map = ("GNU.sparse.map", &b"0,2,1002,3,1010,0"[..]);
    let one: [(&str, &[u8]); 4] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), name, realsize];
    let mut lines = b"3\n0\n2\n1002\n3\n1010\n0\n".to_vec();
    lines.resize(512, 0);
    let tars = [
        Tar::default().pax(&zero).file("h.jpg", b"abcde"),
        Tar::default().pax(&[size, name, map]).file("GNUSparseFile.1/h.jpg", b"abcde"),
        Tar::default().pax(&one).file("GNUSparseFile.1/h.jpg", &[&lines, &b"abcde"[..]].concat()),
    ];
    for tar in tars {
        assert_contents(&tar.file("i.jpg", b"next").end(), &[("h", &holey()), ("i", b"next")]);
    }
    for lines in [&b"3\n0\n2\n1002\n"[..], b"", b"99999999\n", b"x\n", b"1111111111111111111111"] {
        let tar = Tar::default().pax(&one).file("GNUSparseFile.1/h.jpg", lines);
        let (images, _) = listed(&tar.file("i.jpg", b"next").end());
        let fault = images[0].fault.as_deref().unwrap();
        assert!(fault.starts_with("its map of holes"), "{fault}");
        assert_eq!(keys(&images), ["h", "i"]);
    }
}

#[test]
fn too_long_names_are_passed_over_with_a_word() {
    let long = [&vec![b'n'; 70_000], &b".jpg"[..]].concat();
    let not_text = [&vec![0xFF; 30_000], &b".jpg"[..]].concat();
    let tar = Tar::default()
        .member(b'L', b"L", &long)
        .file("n.jpg", b"1")
        .pax(&[("path", &long)])
        .file("n.jpg", b"2")
        .pax(&[("path", &not_text)])
        .file("n.jpg", b"3")
        .file("a.jpg", b"4")
        .end();
    assert_contents(&tar, &[("a", b"4")]);
    let (_, remarks) = listed(&tar);
    assert_eq!((remarks.other, remarks.odd.len()), (3, 1));
    assert_eq!(remarks.odd, ["3 members left out: names of 60000 bytes or more"]);
}

#[test]
fn bytes_that_add_up_to_nothing_are_no_header() {
    // As the first ones of a compressed file or an image do one time in some thousands.
    let mut block = [0; 512];
    block[..3].copy_from_slice(b"BZh");
    block[200..205].fill(156);
    block[205] = 240;
    let signed = block.iter().map(|&byte| i64::from(byte.cast_signed())).sum::<i64>();
    assert_eq!(signed + 8 * i64::from(b' '), 0);
    assert!(!is_valid(&block));
    block[148..156].fill(b' ');
    assert!(!is_valid(&block));
}
