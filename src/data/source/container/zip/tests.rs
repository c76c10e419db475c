mod pack;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use self::pack::{Member, member, pack};
use super::*;
use crate::data::formats::raw_image::Limits;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing as _, ReadPart as _, Remarks};
use crate::data::source::image::{Part, SourceImage};
use crate::storage::{BytesAt, LocalFile, Memory};
use crate::testing::shared;

/// Everything that an archive gives: each image with its bytes, or why there are none.
fn all(
    bytes: Arc<dyn BytesAt>,
    fields: &Fields,
) -> (Vec<(SourceImage, Result<Vec<u8>, String>)>, Remarks) {
    let mut listing = list(Arc::clone(&bytes), "file:///x.zip", "x.zip", fields).unwrap();
    let images: Vec<SourceImage> = listing.by_ref().map(Result::unwrap).collect();
    let reader = ZipReader::open(bytes);
    let read = |image: &SourceImage| {
        let part = image.part.as_ref().unwrap();
        let reader = reader.as_ref().map_err(|reject| reject.message.clone())?;
        let bytes = reader.read(part, image.bytes, &Limits::default());
        let bytes = bytes.map_err(|reject| reject.message);
        if let Some(fault) = image.fault.as_ref().filter(|_| !part.member.is_empty()) {
            assert_eq!(bytes.as_ref().unwrap_err(), fault, "reading says what listing said");
        }
        bytes
    };
    let images = images.into_iter().map(|image| (read(&image), image));
    (images.map(|(bytes, image)| (image, bytes)).collect(), listing.remarks().clone())
}

fn of(bytes: Vec<u8>) -> (Vec<(SourceImage, Result<Vec<u8>, String>)>, Remarks) {
    all(Arc::new(Memory(bytes)), &Fields::default())
}

fn keys(images: &[(SourceImage, Result<Vec<u8>, String>)]) -> Vec<&str> {
    images.iter().map(|(image, _)| image.key.as_str()).collect()
}

/// Members of Python's zipfile that are images and can be read here: the last of a name, not hidden.
fn expected(members: &[serde_json::Value]) -> BTreeMap<String, Option<(u64, String)>> {
    let mut expected = BTreeMap::new();
    for member in members {
        let name = member["name"].as_str().unwrap();
        let method = member["method"].as_u64().unwrap_or(0);
        let good = member.get("error").is_none() && matches!(method, 0 | 8 | 12 | 14);
        let facts = good.then(|| {
            (member["bytes"].as_u64().unwrap(), member["sha256_16"].as_str().unwrap().to_string())
        });
        if name.ends_with(".jpg") && !name.contains("._") {
            expected.insert(name.to_string(), facts);
        }
    }
    expected
}

#[test]
fn real_archives_give_what_pythons_zipfile_gives() {
    let Some(folder) = shared("sources/zip") else { return };
    let text = std::fs::read(folder.join("expected.json")).unwrap();
    let results: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for (name, result) in results["results"].as_object().unwrap() {
        let bytes: Arc<dyn BytesAt> = Arc::new(LocalFile::open(&folder.join(name)).unwrap());
        assert!(is_zip(bytes.as_ref()), "{name}");
        let (images, _) = all(bytes, &Fields::default());
        let Some(members) = result["members"].as_array() else {
            assert_eq!(keys(&images), ["x.zip"], "{name}");
            assert!(images[0].0.fault.as_ref().unwrap().contains("has been cut"), "{name}");
            continue;
        };
        let found: BTreeMap<String, _> = images
            .into_iter()
            .map(|(image, bytes)| {
                let facts = bytes.ok().map(|bytes| {
                    let sum: [u8; 32] = Sha256::digest(&bytes).into();
                    let hex: String = sum[..8].iter().map(|byte| format!("{byte:02x}")).collect();
                    (bytes.len() as u64, hex)
                });
                (image.key, facts)
            })
            .collect();
        assert_eq!(found, expected(members), "{name}");
    }
}

#[test]
fn real_archives_say_what_is_odd_in_them() {
    let Some(folder) = shared("sources/zip") else { return };
    let remarks = |name: &str| {
        let bytes = LocalFile::open(&folder.join(name)).unwrap();
        all(Arc::new(bytes), &Fields::default())
    };
    let (_, said) = remarks("names.zip");
    assert_eq!(
        (said.hidden, said.odd),
        (
            2,
            vec![
        "names that stand in its directory more than once; the last one is taken: 1 (the first: \
         dup.jpg)"
            .to_string()
    ]
        )
    );
    let (_, said) = remarks("nested.zip");
    assert_eq!((said.archives, said.odd.len()), (1, 1));
    assert!(said.odd[0].starts_with("archives inside it are not opened"), "{:?}", said.odd);
    let (images, _) = remarks("bad_crc.zip");
    assert_eq!(images[0].1, Err("damaged: its checksum (CRC-32) differs".into()));
    assert_eq!(images[0].0.fault, None);
}

#[test]
fn members_of_every_method_in_use_are_read_and_others_named() {
    let content = b"an image, an image, an image".repeat(50);
    let packed = |method, stored| Member {
        method: Some(method),
        stored: Some(stored),
        ..member("a.jpg", &content)
    };
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    std::io::Write::write_all(&mut bzip2, &content).unwrap();
    let zstd = zstd::encode_all(&content[..], 1).unwrap();
    for member in [packed(12, bzip2.finish().unwrap()), packed(93, zstd)] {
        let (images, _) = of(pack(&[member]));
        assert!(images[0].1.as_deref() == Ok(&content[..]), "{:?}", images[0].0);
    }
    let (images, _) = of(pack(&[packed(98, vec![1, 2, 3])]));
    let fault = "it is compressed by PPMd; pack the archive again, stored or deflated";
    assert_eq!(images[0].0.fault.as_deref(), Some(fault));
}

#[test]
fn texts_beside_an_image_are_its_facts_wherever_they_stand() {
    let (images, remarks) = of(pack(&[
        member("a/x.TXT", "a cat\n"),
        member("a/x.jpg", "1"),
        member("a/x.json", "{\"label\": 3, \"caption\": \"no\"}"),
        member("x.txt", "elsewhere"),
        member("y.png", "2"),
        member("y.caption", "a dog"),
        member("z.jpg", "3"),
        member("z.txt", "0 0.5 0.5 1 1\n"),
        member("readme.md", ""),
    ]));
    assert_eq!(keys(&images), ["a/x.jpg", "y.png", "z.jpg"]);
    let facts = &images[0].0.facts;
    assert_eq!(facts.caption.as_deref(), Some("a cat"));
    assert_eq!(facts.label.as_deref(), Some("3"));
    assert_eq!(facts.meta_json.as_deref(), Some("{\"label\":3,\"caption\":\"no\"}"));
    assert_eq!(images[1].0.facts.caption.as_deref(), Some("a dog"));
    assert_eq!(images[2].0.facts, Default::default());
    assert_eq!(remarks.other, 2, "x.txt and readme.md");
    assert!(remarks.odd[0].contains("box labels"), "{:?}", remarks.odd);
}

#[test]
fn what_is_no_image_is_counted() {
    let link = Member { mode: 0o120777, ..member("link.jpg", "a.jpg") };
    let members = [
        member("folder/", ""),
        member("__MACOSX/._a.jpg", "x"),
        member("folder/.b.jpg", "x"),
        member("../c.jpg", "x"),
        member("./d.jpg", "x"),
        link,
        member("png", b"\x89PNG\r\n\x1a\n"),
        member("LICENSE", "text"),
        member("t.tar.gz", "x"),
    ];
    let (images, remarks) = of(pack(&members));
    assert_eq!(keys(&images), ["../c.jpg", "./d.jpg", "png"]);
    assert_eq!((remarks.other, remarks.hidden, remarks.links, remarks.archives), (1, 2, 1, 1));
    assert_eq!(remarks.first_archive.as_deref(), Some("t.tar.gz"));
    let all_members = Fields { hidden: true, ..Fields::default() };
    let (images, _) = all(Arc::new(Memory(pack(&members))), &all_members);
    assert_eq!(keys(&images)[..2], ["__MACOSX/._a.jpg", "folder/.b.jpg"]);
}

#[test]
fn members_that_cannot_be_read_are_images_with_a_fault() {
    let long = "l".repeat(65_000) + ".jpg";
    let (images, _) = of(pack(&[
        Member { flags: 1, ..member("locked.jpg", "x") },
        Member { method: Some(98), ..member("ppmd.jpg", "x") },
        Member { method: Some(200), ..member("new.jpg", "x") },
        Member { flags: 0x800, ..member(b"\xff.jpg", "x") },
    ]));
    assert_eq!(keys(&images), ["locked.jpg", "ppmd.jpg", "new.jpg", "%FF.jpg"]);
    let fault = |at: usize| images[at].0.fault.clone().unwrap_or_default();
    assert!(fault(0).starts_with("it is encrypted"));
    assert!(fault(1).starts_with("it is compressed by PPMd;"));
    assert!(fault(2).starts_with("it is compressed by method 200;"));
    assert_eq!(images[3].1.as_deref(), Ok(&b"x"[..]));
    let archive: Arc<dyn BytesAt> = Arc::new(Memory(pack(&[member(long, "x")])));
    let mut listing = list(archive, "file:///x.zip", "x.zip", &Fields::default()).unwrap();
    let image = listing.next().unwrap().unwrap();
    assert!(image.key.starts_with("lll") && image.key.len() < 200);
    assert!(image.fault.unwrap().starts_with("its name has 65004 bytes"));
}

#[test]
fn archives_are_found_behind_and_before_other_bytes() {
    let plain = pack(&[member("a.jpg", "content")]);
    let comment = [&plain[..plain.len() - 2], b"\x08\0PK\x05\x06 no!"].concat();
    let before = [b"#!/bin/sh\n".as_slice(), &plain].concat();
    let behind = [&plain[..], b"appended"].concat();
    for bytes in [plain.clone(), comment, before.clone(), behind] {
        let (images, remarks) = of(bytes);
        assert_eq!(images[0].1.as_deref(), Ok(&b"content"[..]));
        assert_eq!((images.len(), remarks), (1, Remarks::default()));
    }
    assert!(is_zip(&Memory(before)));
    let tar_with_one = [&[0; 512][..], &plain, &[0; 1024]].concat();
    for other in [&b""[..], b"PK", b"\x89PNG\r\n\x1a\n", &tar_with_one] {
        assert!(!is_zip(&Memory(other.to_vec())));
    }
    let (images, _) = of(pack(&[]));
    assert!(images.is_empty());
}

#[test]
fn counts_of_members_may_run_over_and_may_not_lie() {
    let members: Vec<Member> = (0..65_537).map(|at| member(format!("{at}.jpg"), "")).collect();
    let (images, remarks) = of(pack(&members));
    assert_eq!((images.len(), remarks), (65_537, Remarks::default()));
    let mut lying = pack(&members[..2]);
    let end = lying.len() - 22;
    lying[end + 10] = 3;
    let (images, remarks) = of(lying);
    assert_eq!(images.len(), 2);
    assert_eq!(remarks.odd, ["its end says 3 members, its directory has 2"]);
}

#[test]
fn a_directory_damaged_in_its_middle_gives_what_comes_before() {
    let mut bytes = pack(&[member("a.jpg", "1"), member("b.jpg", "2"), member("c.jpg", "3")]);
    let second = bytes.windows(4).enumerate().filter(|(_, w)| w == b"PK\x01\x02").nth(1).unwrap().0;
    bytes[second] = 0;
    let (images, _) = of(bytes);
    assert_eq!(keys(&images), ["a.jpg", "x.zip"]);
    let fault = images[1].0.fault.as_ref().unwrap();
    assert!(fault.starts_with("its directory is damaged, after 1 members"), "{fault}");
}

#[test]
fn parts_of_a_split_archive_are_told_as_that() {
    let mut bytes = pack(&[member("a.jpg", "1")]);
    let end = bytes.len() - 22;
    bytes[end + 4] = 2;
    let (images, _) = of(bytes);
    assert!(images[0].0.fault.as_ref().unwrap().contains("split archive"));
}

#[test]
fn another_archive_in_its_place_is_noticed() {
    let old = pack(&[member("a.jpg", "1"), member("b.jpg", "22")]);
    let listed = of(old);
    let changed = [
        pack(&[member("b.jpg", "1"), member("a.jpg", "22")]),
        pack(&[member("a.jpg", "1")]),
        pack(&[member("a.jpg", "111"), member("b.jpg", "222")]),
    ];
    for bytes in changed {
        let reader = ZipReader::open(Arc::new(Memory(bytes))).unwrap();
        let (image, _) = &listed.0[1];
        let part = image.part.as_ref().unwrap();
        let reject = reader.read(part, image.bytes, &Limits::default()).unwrap_err();
        assert!(
            reject.message.starts_with("the file has changed since it was planned"),
            "{reject}"
        );
    }
}

#[test]
fn what_unfolds_beyond_the_limit_is_not_read() {
    let bomb = Member { deflated: true, ..member("bomb.jpg", vec![0; 1 << 20]) };
    let bytes: Arc<dyn BytesAt> = Arc::new(Memory(pack(&[bomb])));
    let image =
        list(Arc::clone(&bytes), "", "", &Fields::default()).unwrap().next().unwrap().unwrap();
    let reader = ZipReader::open(bytes).unwrap();
    let limits = Limits { file_bytes_max: 1000, ..Limits::default() };
    let part = image.part.unwrap();
    let reject = reader.read(&part, image.bytes, &limits).unwrap_err();
    assert_eq!(reject.message, "it has 1048576 bytes, more than the limit of 1000");
    assert_eq!(reader.read(&part, image.bytes, &Limits::default()).unwrap().len(), 1 << 20);
    let nowhere = Part { member: "bomb.jpg".into(), offset: u64::MAX };
    assert!(reader.read(&nowhere, image.bytes, &Limits::default()).is_err());
}

/// Names as they come, contents small and large, stored and deflated.
fn members() -> impl Strategy<Value = BTreeMap<String, Member>> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        (any::<u8>(), 1000..100_000usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    let name = "[a-z/]{0,5}[a-zé猫 ]{1,5}";
    let extra = prop::collection::vec(any::<u8>(), 0..9);
    let one = (content, any::<bool>(), extra.clone(), extra).prop_map(
        |(content, deflated, extra, comment)| Member {
            content,
            deflated,
            extra,
            comment,
            flags: 0x800,
            ..Member::default()
        },
    );
    prop::collection::btree_map(name, one, 0..8).prop_map(|members| {
        let named = members.into_iter().map(|(name, member)| {
            let name = format!("{name}.png");
            (name.clone(), Member { name: name.into_bytes(), ..member })
        });
        named.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(members in members(), before in prop::collection::vec(any::<u8>(), 0..99)) {
        let packed: Vec<Member> = members.values().cloned().collect();
        let (images, remarks) = of([before, pack(&packed)].concat());
        prop_assert_eq!(remarks, Remarks::default());
        prop_assert_eq!(images.len(), members.len());
        for (image, bytes) in images {
            prop_assert_eq!(&members[&image.key].content, &bytes.unwrap());
        }
    }

    #[test]
    fn damage_never_gives_other_bytes(
        members in members(),
        at in any::<prop::sample::Index>(),
        what in 0..3,
        byte in any::<u8>(),
    ) {
        let mut bytes = pack(&members.values().cloned().collect::<Vec<_>>());
        let at = at.index(bytes.len());
        match what {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, byte),
        }
        for (image, read) in of(bytes).0 {
            if let (Some(member), Ok(read)) = (members.get(&image.key), read) {
                prop_assert_eq!(&member.content, &read);
            }
        }
    }

    #[test]
    fn any_bytes_are_listed(bytes in prop::collection::vec(any::<u8>(), 0..400), tail in 0..30usize) {
        let mut bytes = [bytes, b"PK\x05\x06".to_vec(), vec![0; tail]].concat();
        if let Some(at) = bytes.len().checked_sub(60) {
            bytes[at..at + 4].copy_from_slice(b"PK\x01\x02");
        }
        of(bytes);
    }
}
