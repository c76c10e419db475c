mod odd;

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::columns::Columns;
use super::*;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing as _, Remarks};
use crate::data::source::container::odd::Oddities;
use crate::data::source::image::SourceImage;
use crate::data::source::uri;
use crate::error::Result;
use crate::storage::{BytesAt, LocalFile, REACHES_STORES};
use crate::testing::shared;

fn listed(path: &Path, fields: &Fields) -> Result<(Vec<SourceImage>, Remarks)> {
    let bytes: Arc<dyn BytesAt> = Arc::new(LocalFile::open(path).unwrap());
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut listing = list(path, bytes, name, fields)?;
    let images = listing.by_ref().collect::<Result<Vec<_>>>()?;
    Ok((images, listing.remarks().clone()))
}

/// What a list of this name and content gives, in a folder with `img/0.jpg` of 3 bytes.
fn of(
    name: &str,
    content: impl AsRef<[u8]>,
    fields: &Fields,
) -> Result<(Vec<SourceImage>, Remarks)> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("img")).unwrap();
    std::fs::write(dir.path().join("img/0.jpg"), "jpg").unwrap();
    std::fs::write(dir.path().join(name), content).unwrap();
    listed(&dir.path().join(name), fields)
}

fn plain(name: &str, content: impl AsRef<[u8]>) -> (Vec<SourceImage>, Remarks) {
    of(name, content, &Fields::default()).unwrap()
}

fn keys(images: &[SourceImage]) -> Vec<&str> {
    images.iter().map(|image| image.key.as_str()).collect()
}

fn captions(images: &[SourceImage]) -> Vec<Option<&str>> {
    images.iter().map(|image| image.facts.caption.as_deref()).collect()
}

#[test]
fn real_tables_give_what_pandas_gives() {
    let Some(folder) = shared("sources/lists") else { return };
    let text = std::fs::read(folder.join("expected.json")).unwrap();
    let results: Value = serde_json::from_slice(&text).unwrap();
    for (name, result) in results["results"].as_object().unwrap() {
        // The others are below, or what pandas makes of them isn't meant.
        let (Some(columns), Some(rows)) =
            (result["pandas"]["columns"].as_array(), result["pandas"]["rows"].as_array())
        else {
            continue;
        };
        let Some(at) = columns.iter().position(|column| column == "image_path") else { continue };
        let (images, _) = listed(&folder.join(name), &Fields::default()).unwrap();
        assert_eq!(images.len(), rows.len(), "{name}");
        for (image, row) in images.iter().zip(rows) {
            let cell = |column: &str| {
                let at = columns.iter().position(|other| other == column)?;
                row[at].as_str().filter(|text| !text.is_empty())
            };
            assert_eq!(Some(image.key.as_str()), row[at].as_str(), "{name}");
            assert_eq!(image.facts.caption.as_deref(), cell("caption"), "{name}");
            assert_eq!(image.facts.label.as_deref(), cell("label"), "{name}");
            let file = folder.join(&image.key);
            assert_eq!(uri::to_path(&image.uri).unwrap(), std::path::absolute(&file).unwrap());
            assert_eq!(image.bytes, file.metadata().map_or(0, |facts| facts.len()), "{name}");
            assert_eq!((&image.fault, &image.part), (&None, &None), "{name}");
        }
    }
}

#[test]
fn every_real_list_is_read_as_meant() {
    let Some(folder) = shared("sources/lists") else { return };
    for (name, expected, texts) in [
        ("list.txt", &["img/0.jpg", "img/1.jpg", "img/sub/3.jpg"][..], &[None; 3][..]),
        ("semicolon.csv", &["img/0.jpg"], &[Some("a,b")]),
        ("short_row.csv", &["short_row.csv:2", "short_row.csv:3"], &[None; 2]),
        ("emu3.json", &["img/0.jpg", "img/1.jpg"], &[Some("t0"), Some("t1")]),
        (
            "llamagen.jsonl",
            &["img/0.jpg", "img/1.jpg", "img/2.jpg"],
            &[Some("x"), Some("猫"), None],
        ),
        (
            "bad.jsonl",
            &["img/0.jpg", "bad.jsonl:2", "bad.jsonl:3", "bad.jsonl:4", "img/2.jpg"],
            &[None; 5],
        ),
        ("cc3m_style_no_header.tsv", &["http://127.0.0.1/0.jpg"], &[Some("caption one")]),
        (
            "cc12m_style_no_header.tsv",
            &["http://127.0.0.1/0.jpg", "http://127.0.0.1/1.jpg"],
            &[Some("a \"quote inside"), Some("second")],
        ),
    ] {
        let (images, _) = listed(&folder.join(name), &Fields::default()).unwrap();
        assert_eq!(
            (keys(&images), captions(&images)),
            (expected.to_vec(), texts.to_vec()),
            "{name}"
        );
        for image in &images {
            let whole = image.key.starts_with("img/");
            let read = whole || REACHES_STORES && image.key.starts_with("http");
            assert_eq!((image.fault.is_none(), image.bytes > 0), (read, whole), "{name}");
        }
    }
    let (_, remarks) = listed(&folder.join("dup_header.csv"), &Fields::default()).unwrap();
    let odd = ["columns of the same name; the first one is taken: 1 (the first: caption)"];
    assert_eq!(remarks.odd, odd);
}

#[test]
fn broken_rows_say_what_is_wrong() {
    let faults = |name: &str, content: &str| -> Vec<String> {
        let (images, _) = plain(name, content);
        images.into_iter().filter_map(|image| image.fault).collect()
    };
    assert_eq!(
        faults("a.csv", "path,text\na.jpg\nb.jpg,x,y\n,empty\n"),
        [
            "it has 1 columns where the first row has 2",
            "it has 3 columns where the first row has 2",
            "it names no image: its path is empty"
        ]
    );
    assert_eq!(
        faults("a.jsonl", "{\"path\": 5}\n[1]\n{\"x\": 1}\n{broken\n{\"path\": null}\n"),
        [
            "its field \"path\" holds a number where a path belongs",
            "it is an array where an object belongs",
            "it has none of the fields that name an image: file_name, image_path, image, img_path, \
             path, filepath, file_path, file, filename, image_file, img, image_url, img_url, url",
            "it is no JSON: key must be a string",
            "it has none of the fields that name an image: file_name, image_path, image, img_path, \
             path, filepath, file_path, file, filename, image_file, img, image_url, img_url, url",
        ]
    );
    assert_eq!(
        faults("a.json", "[\"img/0.jpg\", 5, {\"path\": \"b\"}, , [\"c\"], {\"path\": \"cut"),
        [
            "it is a number where an object or a path belongs",
            "it is no JSON: EOF while parsing a value",
            "it is an array where an object or a path belongs",
            "the array isn't closed: the list has been cut here"
        ]
    );
}

#[test]
fn rows_are_called_by_the_lines_that_they_begin_in() {
    let (images, _) =
        plain("a.csv", "path,text\r\n\r\n\"a.jpg\",\"two\r\nlines\"\r\nshort\r\n\r\nb\r\n");
    assert_eq!(keys(&images), ["a.jpg", "a.csv:5", "a.csv:7"]);
    let (images, _) = plain("a.csv", "path,text\rx\ry");
    assert_eq!(keys(&images), ["a.csv:2", "a.csv:3"]);
    let (images, _) = plain("a.json", " [\n\n 1, 2]");
    assert_eq!(keys(&images), ["a.json:1", "a.json:2"]);
}

#[test]
fn a_quote_that_nothing_closes_is_no_long_caption() {
    let (images, _) = plain("a.csv", "path,text\na.jpg,x\nb.jpg,\"open\nc.jpg,y\nd.jpg,z\n");
    assert_eq!(keys(&images), ["a.jpg", "a.csv:3"]);
    assert!(images[1].fault.as_ref().unwrap().starts_with("a quote is opened that nothing closes"));
    let (images, _) = plain("a.csv", "path,text\na.jpg,\"x\"\nb.jpg,\"y\"\"\"");
    assert_eq!(captions(&images), [Some("x"), Some("y\"")]);
    let long = format!("path,text\na.jpg,\"{}", "x\n".repeat(5 << 20));
    let (images, _) = plain("a.csv", long);
    assert!(images[0].fault.as_ref().unwrap().contains("more than 8388608 bytes"));
    assert_eq!(images.len(), 1);
    let long = format!("a.jpg\n{}\nb.jpg\n", "x".repeat(9 << 20));
    assert_eq!(keys(&plain("a.txt", long).0), ["a.jpg", "a.txt:2", "b.jpg"]);
}

#[test]
fn paths_and_addresses_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("a b.jpg");
    std::fs::write(&there, "four").unwrap();
    let absolute = there.to_str().unwrap();
    let content = [
        "./a b.jpg",
        ".//./a b.jpg",
        absolute,
        &uri::of_path(&there),
        "../up.jpg",
        "FILE:///x%2",
        "/",
        "https://x/y.jpg?a,b",
        "S3://b/k.png",
        "no://",
        "a://b",
    ];
    std::fs::write(dir.path().join("l.txt"), content.join("\n")).unwrap();
    let (images, _) = listed(&dir.path().join("l.txt"), &Fields::default()).unwrap();
    let key = &absolute[1..];
    assert_eq!(
        keys(&images),
        [
            "a b.jpg",
            "a b.jpg",
            key,
            key,
            "../up.jpg",
            "FILE:///x%2",
            "l.txt:7",
            "https://x/y.jpg?a,b",
            "S3://b/k.png",
            "no://",
            "a://b"
        ]
    );
    for image in &images[..4] {
        assert_eq!((uri::to_path(&image.uri).as_deref(), image.bytes), (Some(&*there), 4));
    }
    assert_eq!((&images[4].fault, images[4].bytes), (&None, 0));
    assert_eq!(images[7].uri, "https://x/y.jpg?a,b");
    assert_eq!(images[8].uri, if REACHES_STORES { "s3://b/k.png" } else { "S3://b/k.png" });
    for image in &images[7..9] {
        let fault = image.fault.as_deref().unwrap_or(":// addresses is not built in");
        assert!(fault.contains(":// addresses is not built in"), "{fault}");
        assert_eq!(image.fault.is_none(), REACHES_STORES);
    }
    assert!(images[5..7].iter().chain(&images[9..]).all(|image| image.fault.is_some()));
}

#[test]
fn names_that_are_no_utf8_lead_to_their_files() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff.jpg");
    std::fs::write(dir.path().join(name), "12").unwrap();
    std::fs::write(dir.path().join("l.csv"), b"path,text\n\xff.jpg,\xfe\n").unwrap();
    let (images, remarks) = listed(&dir.path().join("l.csv"), &Fields::default()).unwrap();
    assert_eq!((keys(&images), images[0].bytes), (vec!["%FF.jpg"], 2));
    assert_eq!((captions(&images), remarks.odd.len()), (vec![None], 1));
}

#[test]
fn fields_are_taken_by_the_names_that_are_asked_for() {
    let fields = Fields {
        image: Some("where".into()),
        key: Some("id".into()),
        label: Some("n".into()),
        caption: Some("de".into()),
        pass: vec!["n".into(), "w".into()],
        ..Fields::default()
    };
    let table = "id,url,where,n,de,text,w\n7,http://x,img/0.jpg,NA,Katze,cat,\n";
    let (images, _) = of("a.csv", table, &fields).unwrap();
    let image = &images[0];
    assert_eq!((image.key.as_str(), image.bytes), ("7", 3));
    assert_eq!(image.facts.label.as_deref(), Some("NA"));
    assert_eq!(image.facts.caption.as_deref(), Some("Katze"));
    assert_eq!(image.facts.meta_json.as_deref(), Some("{\"n\":\"NA\",\"w\":null}"));
    let object = r#"{"id": 7, "where": "img/0.jpg", "n": -1, "de": " ", "w": {"a": [1.50, null]}}"#;
    let (images, _) = of("a.jsonl", object, &fields).unwrap();
    let image = &images[0];
    assert_eq!((image.key.as_str(), image.facts.label.as_deref()), ("7", Some("-1")));
    assert_eq!(image.facts.caption, None);
    assert_eq!(image.facts.meta_json.as_deref(), Some(r#"{"n":-1,"w":{"a":[1.5,null]}}"#));
    let missing = of("a.csv", "where,id\nx,1\n", &fields).unwrap_err().to_string();
    assert!(missing.ends_with("a.csv: it has no column \"n\", only where, id"), "{missing}");
}

#[test]
fn columns_are_known_in_any_case_and_order() {
    let (images, _) = plain("laion.csv", "SAMPLE_ID,URL,TEXT,WIDTH\n1,http://x/0,a cat,3\n");
    assert_eq!((keys(&images), captions(&images)), (vec!["http://x/0"], vec![Some("a cat")]));
    let mut odd = Oddities::default();
    let names = ["TEXT".to_string(), "URL".to_string()];
    let columns = Columns::of(&names, &Fields::default(), &mut odd).unwrap();
    let row = columns.row(|at| [None, Some(&b"u.jpg"[..])][at], "row 1", &mut odd);
    assert_eq!((row.image.as_deref(), &row.facts.caption), (Ok(&b"u.jpg"[..]), &None));
    for (name, table) in [
        ("a.csv", "cat;img/0.jpg\ndog;1.jpg\n"),
        ("a.csv", "cat|img/0.jpg\ndog|1.jpg\n"),
        ("a.csv", "cat\timg/0.jpg\ndog\t1.jpg\n"),
        ("a.tsv", "caption\timage\ncat\timg/0.jpg\ndog\t1.jpg\n"),
        ("a.csv", "caption|image\ncat|img/0.jpg\ndog|1.jpg\n"),
    ] {
        let (images, _) = plain(name, table);
        assert_eq!(keys(&images), ["img/0.jpg", "1.jpg"], "{table}");
        assert_eq!(captions(&images), [Some("cat"), Some("dog")], "{table}");
    }
    let (images, remarks) = plain("a.csv", "img/0.jpg,3\nimg/1.jpg,4\n");
    assert_eq!(images[1].facts.label.as_deref(), Some("4"));
    let odd = "no names of columns; column 1 is taken for the image, column 2 for the label";
    assert_eq!(remarks.odd, [odd]);
    let (images, _) = plain("a.csv", "image\nimg/0.jpg\n");
    assert_eq!(keys(&images), ["img/0.jpg"]);
}

#[test]
fn what_is_no_list_is_refused() {
    let refused =
        |name: &str, content: &[u8]| of(name, content, &Fields::default()).unwrap_err().to_string();
    assert!(
        refused("a.csv", b"x,y\n1,2\n").contains("none of its columns is known to name images")
    );
    assert!(refused("a.txt", b"\xff\xfea\0").ends_with("its text is UTF-16; save it as UTF-8"));
    assert!(refused("a.csv", b"PAR1\0\0").contains("bytes that no text has"));
    assert!(refused("a.json", b"{\n \"images\": []}").contains("neither a JSON array nor"));
    assert!(refused("a.json", b"\"x\"").contains("neither a JSON array nor"));
    for (name, content) in
        [("a.csv", ""), ("a.json", " \n"), ("a.json", "[ ]"), ("a.txt", "\n#x\n")]
    {
        assert_eq!(plain(name, content).0, [], "{name}");
    }
    let (images, _) =
        plain("a.json", "\u{feff}\n{\"path\": \"img/0.jpg\"}\n{\"path\": \"b.jpg\"}\n");
    assert_eq!(keys(&images), ["img/0.jpg", "b.jpg"]);
    let (_, remarks) = plain("a.json", "[] x");
    assert_eq!(remarks.odd, ["what follows the array is not read"]);
    let (images, remarks) = plain("a.txt", "#1.jpg\n#note\n2.jpg\n");
    assert_eq!((keys(&images), remarks.odd.len()), (vec!["2.jpg"], 1));
    assert!(is_list(Path::new("a/B.TSV")) && !is_list(Path::new("a.parquet")));
}

/// A cell as RFC 4180 writes it.
fn quoted(cell: &str) -> String {
    format!("\"{}\"", cell.replace('"', "\"\""))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_come_back_from_every_format(
        rows in prop::collection::vec(("[a-z]{1,3}/[a-zé猫 ]{0,3}\\.jpg", "[a-z,;\"\n\t\r猫]{1,8}x"), 1..9),
    ) {
        let mut tables = [("a.csv", String::from("\u{feff}path,caption\r\n"), ","), ("a.tsv", "caption\tpath\n".into(), "\t")];
        let (mut lines, mut array) = (String::new(), Vec::new());
        for (path, caption) in &rows {
            tables[0].1 += &format!("{},{}\r\n", quoted(path), quoted(caption));
            tables[1].1 += &format!("{}\t{}\n", quoted(caption), quoted(path));
            let object = serde_json::json!({"path": path, "text": caption});
            lines += &format!("{object}\n");
            array.push(object);
        }
        let array = serde_json::to_string_pretty(&array).unwrap();
        let all = [("a.csv", &tables[0].1), ("a.tsv", &tables[1].1), ("a.jsonl", &lines), ("a.json", &array)];
        for (name, content) in all {
            let (images, _) = plain(name, content);
            prop_assert_eq!(images.len(), rows.len());
            for (image, (path, caption)) in images.iter().zip(&rows) {
                prop_assert_eq!(&image.key, path);
                prop_assert_eq!(image.facts.caption.as_ref(), Some(caption));
            }
        }
    }

    #[test]
    fn any_bytes_are_listed_or_refused(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"[]{}\",:\n\r\t;#./a1".to_vec())], 0..200),
        name in prop::sample::select(vec!["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.json"]),
        head in prop::sample::select(vec!["", "path,caption\n", "[", "path\tx\n", "{\"path\":\"a\"}\n"]),
    ) {
        let bytes = [head.as_bytes(), &bytes].concat();
        if let Ok((images, _)) = of(name, bytes, &Fields::default()) {
            prop_assert!(images.iter().all(|image| !image.key.is_empty() && image.key.len() < 60_000));
        }
    }
}
