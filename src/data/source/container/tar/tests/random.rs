//! Owns the property tests: what goes in comes out, and damage is never silent.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::make::{self, COMPRESSIONS, Tar, pack};
use super::*;
use crate::data::source::container::tar::header::Block;

/// Samples with an image and a caption each, of names and sizes of every kind.
fn samples() -> impl Strategy<Value = Vec<(String, Vec<u8>, String)>> {
    let key = prop_oneof![
        "[a-z]{1,8}(/[a-z ]{1,8}){0,2}",
        "[a-z]{90,130}/[a-z]{1,120}",
        "[é猫%_-]{1,60}",
    ];
    let sizes = prop_oneof![0..4_usize, 500..520_usize, 0..70_000_usize];
    let content = (sizes, any::<u8>()).prop_map(|(size, seed)| {
        (0..size).map(|i| (i as u32).wrapping_mul(0x9E37_79B1).to_be_bytes()[0] ^ seed).collect()
    });
    prop::collection::vec((key, content, "[a-z ]{1,40}"), 1..6).prop_map(|samples| {
        let numbered = samples.into_iter().enumerate();
        numbered.map(|(i, (key, content, text))| (format!("{key}{i}"), content, text)).collect()
    })
}

/// In the PAX format where `pax`, else in GNU's.
fn tar_of(samples: &[(String, Vec<u8>, String)], pax: bool) -> Vec<u8> {
    let mut tar = Tar::default();
    for (key, content, text) in samples {
        for (name, content) in
            [(format!("{key}.jpg"), &content[..]), (format!("{key}.txt"), text.as_bytes())]
        {
            if pax {
                tar = tar.pax(&[("path", name.as_bytes()), ("mtime", b"1.5")]);
            } else if name.len() > 100 {
                tar = tar.member(b'L', b"././@LongLink", &[name.as_bytes(), b"\0"].concat());
            }
            tar = tar.member(b'0', name.as_bytes(), content);
        }
    }
    tar.end()
}

/// Nothing, or one of the compressions.
fn packed(tar: Vec<u8>, kind: Index) -> Vec<u8> {
    match kind.index(5) {
        0 => tar,
        at => pack(&tar, COMPRESSIONS[at - 1]),
    }
}

#[derive(Debug, Clone)]
enum Blow {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
}

fn blow() -> impl Strategy<Value = Blow> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Blow::Flip(at, bit)),
        at().prop_map(Blow::Cut),
        (at(), prop::collection::vec(any::<u8>(), 1..600))
            .prop_map(|(at, new)| Blow::Insert(at, new)),
        (at(), 1..600_usize).prop_map(|(at, count)| Blow::Remove(at, count)),
    ]
}

fn struck(mut tar: Vec<u8>, blow: &Blow) -> Vec<u8> {
    match blow {
        Blow::Flip(at, bit) => {
            let at = at.index(tar.len());
            tar[at] ^= 1 << bit;
        }
        Blow::Cut(at) => tar.truncate(at.index(tar.len())),
        Blow::Insert(at, new) => {
            let at = at.index(tar.len());
            tar.splice(at..at, new.iter().copied());
        }
        Blow::Remove(at, count) => {
            let at = at.index(tar.len());
            let end = (at + count).min(tar.len());
            tar.drain(at..end);
        }
    }
    tar
}

/// Whether a flip lies in what the format has no checksum of: contents, and headers' extensions.
fn is_unguarded(tar: &[u8], blow: &Blow) -> bool {
    let Blow::Flip(at, _) = blow else { return false };
    let block = at.index(tar.len()) / 512 * 512;
    !is_tar(&tar[block..])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(samples in samples(), pax: bool, kind: Index) {
        let tar = packed(tar_of(&samples, pax), kind);
        let (images, remarks) = listed(&tar);
        prop_assert_eq!(remarks, Remarks::default());
        prop_assert_eq!(images.len(), samples.len());
        let mut reader = Reader::new(&tar);
        for (image, (key, content, text)) in images.iter().zip(&samples) {
            prop_assert_eq!(&image.key, key);
            prop_assert_eq!(image.facts.caption.as_ref(), Some(text));
            prop_assert!(reader.read(image).as_ref() == Ok(content));
        }
    }

    #[test]
    fn damage_is_never_silent(samples in samples(), pax: bool, kind: Index, blow in blow()) {
        let whole = packed(tar_of(&samples, pax), kind);
        let tar = struck(whole.clone(), &blow);
        let (images, remarks) = listed(&tar);
        prop_assert_eq!(&listed(&tar), &(images.clone(), remarks.clone()));
        let told = images.iter().any(|image| image.fault.is_some())
            || !remarks.odd.is_empty()
            || tar == whole
            || kind.index(5) == 0 && is_unguarded(&whole, &blow);
        let put_in: BTreeMap<&str, &Vec<u8>> =
            samples.iter().map(|(key, content, _)| (key.as_str(), content)).collect();
        let mut reader = Reader::new(&tar);
        let mut whole_ones = 0;
        for image in images.iter().filter(|image| image.part.is_some()) {
            match reader.read(image) {
                Ok(content) if put_in.get(image.key.as_str()) == Some(&&content) => whole_ones += 1,
                _ => prop_assert!(told, "{} is another: {:?}", image.key, remarks),
            }
        }
        prop_assert!(told || whole_ones == samples.len(), "{} of {}", whole_ones, samples.len());
    }

    #[test]
    fn any_bytes_are_listed_without_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..3000),
        head in 0..6_usize,
    ) {
        let heads: [&[u8]; 6] = [
            b"",
            b"\x1F\x8B\x08",
            b"BZh91AY&SY",
            b"\xFD7zXZ\0",
            b"\x28\xB5\x2F\xFD",
            b"\x50\x2A\x4D\x18",
        ];
        bytes.splice(0..0, heads[head].iter().copied());
        let (images, _) = listed(&bytes);
        prop_assert!(images.len() <= 1);
    }

    #[test]
    fn any_headers_are_listed_and_read_without_a_panic(
        members in prop::collection::vec((wild_header(), wild_content()), 1..8),
    ) {
        let tar = members.iter().fold(Tar::default(), |tar, (block, content)| {
            tar.raw(block).content(content)
        });
        let tar = tar.end();
        let (images, _) = listed(&tar);
        let limits = Limits { file_bytes_max: 1 << 24, ..Limits::default() };
        let mut stream = TarStream::new(memory(&pack(&tar, Compression::Zstd)), Compression::Zstd);
        for image in images.iter().filter(|image| image.fault.is_none()) {
            let part = image.part.as_ref().unwrap();
            let plain = TarReader::new(memory(&tar)).read(part, image.bytes, &limits);
            let packed = stream.read(part, image.bytes, &limits);
            prop_assert_eq!(plain.as_ref().ok(), packed.as_ref().ok());
            prop_assert!(plain.map_or(true, |content| content.len() as u64 == image.bytes));
        }
    }
}

/// A signed header whose fields are likely and wrong.
fn wild_header() -> impl Strategy<Value = Block> {
    let flag = prop::sample::select(&b"00007SSxxxXgLKD125\0"[..]);
    let name =
        prop::sample::select(vec!["a.jpg", "a.txt", "b.jpg", "b.json", "a.png", "__m__", ""]);
    let sizes = [0_u64, 1, 5, 400, 512, 513, 1500, 70_000, 1 << 20, 1 << 33];
    let size = prop::sample::select(sizes.to_vec());
    let numbers = prop::collection::vec(prop::sample::select(sizes.to_vec()), 9);
    (flag, name, size, numbers, any::<bool>()).prop_map(|(flag, name, size, numbers, more)| {
        let mut block = make::header(name.as_bytes(), size, flag);
        if flag == b'S' {
            for (at, number) in numbers.iter().enumerate() {
                let field = 386 + 12 * at + usize::from(at == 8);
                block[field..field + 12].copy_from_slice(&make::number(*number));
            }
            block[482] = u8::from(more);
            make::sign(&mut block);
        }
        block
    })
}

/// Records, maps, other content.
fn wild_content() -> impl Strategy<Value = Vec<u8>> {
    let keys = ["path", "size", "GNU.sparse.major", "GNU.sparse.realsize", "GNU.sparse.map"];
    let values = ["", "0", "1", "5", "b.jpg", "0,5", "0,1,3,2", "512", "9223372036854775808", "-1"];
    let record = (prop::sample::select(keys.to_vec()), prop::sample::select(values.to_vec()))
        .prop_map(|(key, value)| make::record(key, value.as_bytes()));
    prop_oneof![
        prop::collection::vec(record, 0..4).prop_map(|records| records.concat()),
        prop::collection::vec(any::<u8>(), 0..1600),
        Just(b"1\n0\n5\n".to_vec()),
        Just(vec![0; 512]),
    ]
}
