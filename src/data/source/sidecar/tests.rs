use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::testing::shared;

/// What lies beside `image` in a folder of these files, and what is odd.
fn beside(image: &str, files: &[(&str, &[u8])]) -> (Facts, Vec<String>) {
    asked(image, files, &Fields::default())
}

/// The same where these are named.
fn asked(image: &str, files: &[(&str, &[u8])], fields: &Fields) -> (Facts, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let names: BTreeSet<OsString> = files.iter().map(|(name, _)| OsString::from(name)).collect();
    let mut odd = Oddities::default();
    let (image, has) = (dir.path().join(image), |name: &OsStr| names.contains(name));
    let facts = facts_beside(&image, has, read, fields, &mut odd);
    (facts, odd.lines())
}

fn caption_of(files: &[(&str, &[u8])]) -> Option<String> {
    beside("x.jpg", files).0.caption
}

#[test]
fn img2datasets_files_are_read_as_it_writes_them() {
    let Some(folder) = shared("sources/img2dataset/files/00000") else { return };
    let mut odd = Oddities::default();
    let captions = [Some("c0"), Some("c1 猫"), None, Some("c3\nline"), None];
    for (number, caption) in captions.into_iter().enumerate() {
        let image = folder.join(format!("{number:06}.jpg"));
        let facts = facts_beside(
            &image,
            |name| folder.join(name).exists(),
            read,
            &Fields::default(),
            &mut odd,
        );
        assert_eq!((facts.caption.as_deref(), facts.label), (caption, None));
        let meta: Value = serde_json::from_str(&facts.meta_json.unwrap()).unwrap();
        assert_eq!(meta["key"], format!("{number:06}"));
        assert_eq!(meta["width"], 43);
    }
    assert_eq!(odd, Oddities::default());
}

#[test]
fn captions_are_texts() {
    assert_eq!(caption_of(&[("x.txt", b" a cat\r\n")]).as_deref(), Some("a cat"));
    assert_eq!(caption_of(&[("x.TXT", b"\xef\xbb\xbfa")]).as_deref(), Some("a"));
    assert_eq!(caption_of(&[("x.Caption", b"c")]).as_deref(), Some("c"));
    assert_eq!(caption_of(&[("x.caption", b"c"), ("x.txt", b"t")]).as_deref(), Some("t"));
    assert_eq!(caption_of(&[("x.caption", b"c"), ("x.txt", b" ")]).as_deref(), Some("c"));
    assert_eq!(caption_of(&[("x.txt", b"2 cats")]).as_deref(), Some("2 cats"));
    assert_eq!(caption_of(&[("x.txt", b"inf nan")]).as_deref(), Some("inf nan"));
    assert_eq!(caption_of(&[("y.txt", b"a cat")]), None);
    assert_eq!(beside("a.b.jpg", &[("a.b.txt", b"t")]).0.caption.as_deref(), Some("t"));
    assert_eq!(beside("x", &[("x.txt", b"t")]).0.caption.as_deref(), Some("t"));
    assert_eq!(beside("x.txt", &[("x.txt", b"t")]).0, Facts::default());
}

#[test]
fn what_is_named_is_taken_and_nothing_else() {
    let json = br#"{"caption":"usual","title":"T","kind":3,"label":"l"}"#;
    let files: [(&str, &[u8]); 3] = [("x.txt", b"text"), ("x.caption", b"other"), ("x.json", json)];
    let named = |caption: &str, label: &str| {
        let given = |name: &str| Some(name.to_string()).filter(|name| !name.is_empty());
        let fields = Fields { caption: given(caption), label: given(label), ..Fields::default() };
        let facts = asked("x.jpg", &files, &fields).0;
        (facts.caption.unwrap_or_default(), facts.label.unwrap_or_default())
    };
    for (caption, label, found) in [
        ("", "", ("text", "l")),
        ("title", "kind", ("T", "3")),
        ("TXT", "none", ("text", "")),
        ("caption", "label", ("other", "l")),
        ("gone", "", ("", "l")),
    ] {
        assert_eq!(named(caption, label), (found.0.into(), found.1.into()), "{caption} {label}");
    }
}

#[test]
fn what_is_no_caption_is_said() {
    let boxes = b"0 0.5 0.5 0.1 0.1\n12 .25 5e-1 1 1\n";
    for (content, said) in [
        (&boxes[..], NUMBERS),
        (b"\xff\xfea\0", NOT_TEXT),
        (b"caf\xe9", NOT_TEXT),
        (&[b'a'; 1 << 20 | 1], TOO_LARGE),
    ] {
        let (facts, odd) = beside("x.jpg", &[("x.txt", content)]);
        assert_eq!(facts, Facts::default());
        assert_eq!(odd, [format!("{said}: 1 (the first: x.txt)")]);
    }
    let limit = [b'a'; 1 << 20];
    assert_eq!(caption_of(&[("x.txt", &limit)]).map(|caption| caption.len()), Some(1 << 20));
    let (facts, odd) = beside("x.jpg", &[("x.json", b"[1]")]);
    assert_eq!((facts, odd.len()), (Facts::default(), 1));
}

#[test]
fn an_object_beside_an_image_gives_what_no_text_gives() {
    let json: &[u8] = b"{ \"text\": \"t\", \"label\": 5, \"n\": null, \"caption\": \"\" }";
    let (facts, _) = beside("x.jpg", &[("x.json", json)]);
    assert_eq!((facts.caption.as_deref(), facts.label.as_deref()), (Some("t"), Some("5")));
    let compact = "{\"text\":\"t\",\"label\":5,\"n\":null,\"caption\":\"\"}";
    assert_eq!(facts.meta_json.as_deref(), Some(compact));
    let boxes: &[u8] = b"0 1 1 1 1";
    let (facts, odd) = beside("x.jpg", &[("x.json", json), ("x.txt", boxes)]);
    assert_eq!((facts.caption.as_deref(), odd.len()), (Some("t"), 1));
    assert_eq!(caption_of(&[("x.json", json), ("x.txt", b"own")]).as_deref(), Some("own"));
}
