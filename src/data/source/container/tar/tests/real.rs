//! Owns the tests on tars that other programs made: what is taken of each, as `real.txt` says, and
//! that contents are those that the `webdataset` package yields.

use serde_json::Value;

use super::*;
use crate::testing::shared;
use crate::util::hex::sha256_hex;
use crate::util::settings;

/// `== file, samples without image, other members`; then a line for each image: its key, member,
/// caption, label and fault; then one for each oddity.
const TAKEN: &str = include_str!("real.txt");

#[test]
fn of_each_file_what_is_written_down_is_taken() {
    let Some(folder) = shared("sources/webdataset") else { return };
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".tar"))
        .collect();
    names.sort();
    let taken: Vec<String> = names.iter().map(|name| taken(name, &folder.join(name))).collect();
    for (found, expected) in taken.concat().lines().zip(TAKEN.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(taken.concat().len(), TAKEN.len());
}

fn taken(name: &str, path: &std::path::Path) -> String {
    let tar = std::fs::read(path).unwrap();
    let (images, remarks) = listed(&tar);
    let mut out = format!("== {name}, {}, {}\n", remarks.without_image, remarks.other);
    for SourceImage { key, part, facts, fault, .. } in &images {
        let member = part.as_ref().map_or("-", |part| &part.member);
        let text = |text: &Option<String>| text.clone().unwrap_or("-".into());
        let (caption, label, fault) = (text(&facts.caption), text(&facts.label), text(fault));
        out += &format!(
            "{} | {} | {caption} | {label} | {fault}\n",
            shortened(key),
            shortened(member)
        );
    }
    remarks.odd.iter().for_each(|line| out += &format!("odd: {}\n", settings::plain(line)));
    out
}

/// The long names of these files repeat their letters.
fn shortened(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    match chars.len() {
        0..60 => name.to_owned(),
        length => {
            let (begin, end) = (&chars[..8], &chars[length - 8..]);
            let text = |chars: &[char]| chars.iter().collect::<String>();
            format!("{}({} more){}", text(begin), length - 16, text(end))
        }
    }
}

#[test]
fn contents_are_those_that_the_package_yields() {
    let Some(folder) = shared("sources/webdataset") else { return };
    // No text holds half a pair of surrogates.
    let expected = std::fs::read_to_string(folder.join("expected_webdataset.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected.replace("\\udce9", "%E9")).unwrap();
    let mut compared = 0;
    for (name, result) in expected["results"].as_object().unwrap() {
        let Ok(tar) = std::fs::read(folder.join(name)) else { continue };
        let result = result.get("ignore_and_continue").unwrap_or(&result["reraise"]);
        let images = listed(&tar).0;
        let mut reader = Reader::new(&tar);
        let mut ours = images.iter();
        for sample in result["samples"].as_array().unwrap() {
            let key = sample["__key__"].as_str().unwrap();
            let fields = sample["fields"].as_object().unwrap();
            // Images of dotted names are samples of their own.
            let is_of = |image: &&SourceImage| {
                let rest = image.key.strip_prefix(key);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let Some(image) = ours.clone().find(is_of) else {
                let pixels = fields.keys().any(|field| field.ends_with('g'));
                assert!(!pixels, "{name}: {key} is missing");
                continue;
            };
            let field = image.part.as_ref().unwrap().member[key.len() + 1..].to_lowercase();
            let Some(theirs) = fields.get(&field) else { continue };
            let content = reader.read(image).unwrap();
            assert_eq!(theirs["bytes"], content.len(), "{name}: {key}");
            let digest = &sha256_hex(&content)[..16];
            assert_eq!(theirs["sha256_16"], digest, "{name}: {key}");
            ours.by_ref().find(is_of);
            compared += 1;
        }
    }
    assert_eq!(compared, 76);
}

#[test]
fn holes_that_gnu_tar_left_are_filled() {
    for name in ["sparse_gnu.tar", "sparse_pax10.tar"] {
        let Some(path) = shared(&format!("sources/webdataset/{name}")) else { return };
        let tar = std::fs::read(path).unwrap();
        let fields = Fields { image: Some("bin".into()), ..Fields::default() };
        for tar in [tar.clone(), make::pack(&tar, Compression::Bzip2)] {
            let (images, remarks) = listed_as(&tar, &fields);
            assert_eq!((images.len(), images[0].bytes, remarks), (1, 304_096, Remarks::default()));
            assert_eq!(images[0].facts.caption.as_deref(), Some("sparse file before"));
            let content = Reader::new(&tar).read(&images[0]).unwrap();
            assert_eq!(&sha256_hex(content)[..16], "c12299d77f1471d9", "{name}");
        }
    }
}
