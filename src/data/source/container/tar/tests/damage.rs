//! Owns the tests of damaged tars, and of files that changed since they were listed.

use super::make::{Tar, header, pack, sign};
use super::*;

fn three() -> Tar {
    Tar::default()
        .file("a.jpg", &[1; 700])
        .file("a.txt", b"first")
        .file("b.jpg", &[2; 700])
        .file("b.txt", b"second")
}

#[track_caller]
fn assert_damage(tar: &[u8], expected_keys: &[&str], expected: &str) {
    let (images, _) = listed(tar);
    assert_eq!(last_fault(&images), expected);
    assert_eq!(keys(&images[..images.len() - 1]), expected_keys);
    let packed = listed(&pack(tar, Compression::Zstd)).0;
    assert_eq!(keys(&packed), keys(&images));
    let here = last_fault(&packed).replace(" of its unpacked content", "");
    assert_eq!(here, expected, "compressed");
}

#[test]
fn a_cut_is_told_where_it_is() {
    let tar = three().end();
    let b = 1536 + 1024;
    let lost = "; what follows is lost";
    assert_damage(
        &tar[..b + 512 + 100],
        &["a", "b"],
        &format!(
            "damaged at byte 3172: it ends within \"b.jpg\", 600 bytes before the member's end{lost}"
        ),
    );
    assert_damage(
        &tar[..b + 1536 + 512 + 3],
        &["a", "b"],
        &format!(
            "damaged at byte 4611: it ends within \"b.txt\", 3 bytes before the member's end{lost}, \
             maybe what else belongs to \"b\" too"
        ),
    );
    let images = listed(&tar[..b + 1536 + 512 + 3]).0;
    assert_eq!(images[1].facts, Default::default(), "a caption that is cut is none");
    assert_damage(
        &tar[..b + 100],
        &["a"],
        &format!(
            "damaged at byte 2560: it ends after 100 of a header's 512 bytes{lost}, maybe what else \
             belongs to \"a\" too"
        ),
    );
    assert_damage(
        &Tar::default().file("t.txt", b"only").raw(&tar[..99]).0,
        &[],
        &format!(
            "damaged at byte 1024: it ends after 99 of a header's 512 bytes{lost}, maybe the image of \
             \"t\" too"
        ),
    );
    // Within what fills up the last block, the image is whole; what followed is lost all the same.
    let (images, remarks) = listed(&tar[..b + 1536 - 3]);
    assert_eq!((keys(&images), remarks.odd.len()), (vec!["a", "b", "x.tar"], 0));
    let fault = last_fault(&images);
    assert!(fault.contains("within the last block of \"b.jpg\", which is whole"), "{fault}");
    assert!(contents(&tar[..b + 1536 - 3]).iter().all(|(_, read)| read.is_ok()));
}

#[test]
fn headers_that_cannot_be_are_damage() {
    let lost = "what follows is lost, maybe what else belongs to \"b\" too";
    let at = three().0.len();
    let mut wrong = header(b"c.jpg", 1, b'0');
    wrong[0] ^= 1;
    let mut negative = header(b"c.jpg", 1, b'0');
    negative[124..136].fill(0xFF);
    sign(&mut negative);
    let mut huge = negative;
    huge[124..136].copy_from_slice(b"\x80\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    sign(&mut huge);
    let no_size = "a header whose size is no size of a file";
    let record = |text: &[u8]| Tar::default().member(b'x', b"x", text).file("c.jpg", b"1").0;
    let no_pax = "a PAX header that can't be read";
    let cases: [(&[u8], &str); 12] = [
        (&wrong, "a header's checksum does not match it"),
        (&[7; 512], "no header stands where one must be"),
        (&[&[0; 512][..], &[7; 512]].concat(), ""),
        (&negative, no_size),
        (&huge, no_size),
        (&record(b"11 size=-1\n"), no_pax),
        (&record(b"29 size=99999999999999999999\n"), no_pax),
        (&record(b"9 path=ab"), no_pax),
        (&record(b"99 path=ab\n"), no_pax),
        (&record(b"path=ab\n"), no_pax),
        (&header(b"x", 2 << 20, b'x'), "a PAX header of 2097152 bytes"),
        (
            &Tar::default().pax(&[("path", b"c.jpg")]).raw(&[0; 1024]).0,
            "a header tells of a member that is missing",
        ),
    ];
    for (bytes, why) in cases {
        let tar = three().raw(bytes).file("d.jpg", b"1").end();
        let images = listed(&tar).0;
        let fault = last_fault(&images);
        if why.is_empty() {
            let at = at + 512;
            assert_eq!(
                fault,
                format!("damaged at byte {at}: no header stands where one must be; {lost}")
            );
        } else {
            assert_eq!(fault, format!("damaged at byte {at}: {why}; {lost}"));
        }
        assert!(keys(&images).starts_with(&["a", "b"]));
    }
    // At the end, an extension of nothing.
    let tar = three().pax(&[("path", b"c.jpg")]).end();
    let why = "a header tells of a member that is missing";
    assert_damage(&tar, &["a", "b"], &format!("damaged at byte {at}: {why}; {lost}"));
    // One for all members may stand alone.
    let tar = three().member(b'g', b"g", &make::record("comment", b"x")).end();
    assert_eq!(listed(&tar).1, Remarks::default());
}

#[test]
fn a_size_beyond_the_end_costs_no_memory() {
    let tar = three().raw(&header(b"c.jpg", 0o77777777777, b'0')).content(b"1").end();
    let images = listed(&tar).0;
    assert_eq!(keys(&images), ["a", "b", "c", "x.tar"]);
    assert_eq!(images[2].bytes, 0o77777777777);
    let limits = Limits { file_bytes_max: u64::MAX, ..Limits::default() };
    let part = images[2].part.clone().unwrap();
    let packed = pack(&tar, Compression::Xz);
    for read in [
        TarReader::new(memory(&tar)).read(&part, images[2].bytes, &limits),
        TarStream::new(memory(&packed), Compression::Xz).read(&part, images[2].bytes, &limits),
    ] {
        assert!(read.unwrap_err().message.contains("it ends within \"c.jpg\""));
    }
}

#[test]
fn ends_are_told() {
    let odd = |tar: Vec<u8>| {
        let (images, remarks) = listed(&tar);
        let (packed, same) = listed(&pack(&tar, Compression::Gzip));
        assert_eq!((packed, &same), (images.clone(), &remarks));
        (images.len(), remarks.odd)
    };
    let line = |text: &str| vec![text.to_owned()];
    let cut = "ends without an end mark; it may have been cut";
    assert_eq!(odd(three().0), (2, line(cut)));
    assert_eq!(odd(three().raw(&[0; 100]).0), (2, line(cut)));
    let half = "ends with half an end mark; it may have been cut";
    assert_eq!(odd(three().raw(&[0; 512]).0), (2, line(half)));
    assert_eq!(odd(three().raw(&[0; 1024]).0), (2, vec![]));
    assert_eq!(odd(three().raw(&[0; 10_240]).0), (2, vec![]));
    let length = "has a length that no tar has; bytes of it may be missing";
    assert_eq!(odd(three().raw(&[0; 10_000]).0), (2, line(length)));
    let junk = "3 bytes behind its end mark are no part of it";
    assert_eq!(odd(three().raw(&[0; 1024]).raw(b"abc").0), (2, line(junk)));
    let junk = "1536 bytes behind its end mark are no part of it";
    assert_eq!(odd(three().raw(&[0; 2048]).raw(&[7; 1536]).0), (2, line(junk)));
    let more = Tar::default().file("c.jpg", b"3").end();
    let lone = "1 lone zero block between members: passed over";
    assert_eq!(odd(three().raw(&[0; 512]).raw(&more).0), (3, line(lone)));
    let joined = "1 end mark before the end: what follows is read too";
    assert_eq!(odd(three().raw(&[0; 1024]).raw(&more).0), (3, line(joined)));
    let zeros = "has no members, zeros alone";
    for count in [1, 511, 512, 1024, 10_240] {
        assert_eq!(odd(vec![0; count]), (0, line(zeros)));
    }
}

#[test]
fn what_is_no_tar_is_one_image_that_fails() {
    for (bytes, why) in [(&b""[..], "it is empty"), (b"text", "it doesn't begin with a header")] {
        let (images, remarks) = listed(bytes);
        assert_eq!((keys(&images), &remarks), (vec!["x.tar"], &Remarks::default()));
        assert_eq!(images[0].fault, Some(format!("not a tar: {why}")));
        assert!(!holds_tar(memory(bytes)).unwrap());
    }
    let zeros_then_text = [&[0; 2048][..], &[7; 600]].concat();
    assert!(last_fault(&listed(&zeros_then_text).0).starts_with("not a tar"));
    let mut tar = three().end();
    tar[0] ^= 1;
    let fault = "damaged at byte 0: a header's checksum does not match it; what follows is lost";
    assert_damage(&tar, &[], fault);
}

#[test]
fn another_file_in_its_place_is_noticed() {
    let tar = three().end();
    let image = listed(&tar).0.remove(1);
    let others = [
        Tar::default().file("a.jpg", &[1; 700]).file("a.txt", b"first").file("c.jpg", &[2; 700]),
        Tar::default().file("a.jpg", &[1; 700]).file("a.txt", b"first").file("b.jpg", &[2; 701]),
        Tar::default().file("a.jpg", &[1; 700]).file("a.txt", b"first").file("b.png", &[2; 700]),
        Tar::default().file("a.jpg", &[1; 700]).file("a.txt", b"first"),
        Tar::default().file("z.jpg", &[1; 7000]),
        Tar::default(),
    ];
    for other in others.map(Tar::end) {
        for other in [other.clone(), pack(&other, Compression::Gzip)] {
            let message = Reader::new(&other).read(&image).unwrap_err();
            let expected = "the file has changed since it was planned: \"b.jpg\" of 700 bytes is no \
                            longer at byte 2560";
            assert!(message.starts_with(expected), "{message}");
        }
    }
    let link = Tar::default().file("a.jpg", &[1; 700]).file("a.txt", b"first");
    let link = link.raw(&header(b"b.jpg", 700, b'2')).end();
    assert!(Reader::new(&link).read(&image).unwrap_err().contains("has changed"));
    // A plan from elsewhere.
    for offset in [1, 2561, u64::MAX - 5, u64::MAX] {
        let part = Some(Part { offset, ..image.part.clone().unwrap() });
        let image = SourceImage { part, ..image.clone() };
        assert!(Reader::new(&tar).read(&image).unwrap_err().contains("has changed"));
        let packed = pack(&tar, Compression::Bzip2);
        assert!(Reader::new(&packed).read(&image).unwrap_err().contains("has changed"));
    }
}

#[test]
fn limits_and_raw_files_are_refused_before_reading() {
    let tar = Tar::default().file("a.jpg", &[1; 700]).file("b.NEF", b"II*\0").end();
    let images = listed(&tar).0;
    let limits = Limits { file_bytes_max: 699, ..Limits::default() };
    let read = |at: usize| {
        let part = images[at].part.as_ref().unwrap();
        TarReader::new(memory(&tar)).read(part, images[at].bytes, &limits).unwrap_err().message
    };
    assert_eq!(read(0), "the image has 700 bytes, more than the limit of 699");
    assert!(read(1).starts_with("camera raw (NEF) is not supported"));
}
