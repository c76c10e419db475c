//! Owns the tests of samples: which member is what.

use super::make::Tar;
use super::*;
use crate::data::source::container::tar::name::{is_hidden, place};
use crate::util::{numbers, settings};

fn fields(image: Option<&str>) -> Fields {
    Fields { image: image.map(str::to_owned), ..Fields::default() }
}

/// Members with their names as contents.
fn tar_of(names: &[&str]) -> Vec<u8> {
    names.iter().fold(Tar::default(), |tar, name| tar.file(name, name.as_bytes())).end()
}

#[track_caller]
fn members(names: &[&str], image: Option<&str>) -> Vec<String> {
    let (images, _) = listed_as(&tar_of(names), &fields(image));
    images.into_iter().map(|image| image.part.unwrap().member).collect()
}

#[test]
fn names_are_parted_as_webdataset_does() {
    let cases: &[(&str, Option<(&str, &str)>)] = &[
        ("a.jpg", Some(("a", "jpg"))),
        ("a.b.JPG", Some(("a", "b.jpg"))),
        ("d.v1/x.seg.png", Some(("d.v1/x", "seg.png"))),
        ("./z.jpg", Some(("./z", "jpg"))),
        ("../up.jpg", Some(("../up", "jpg"))),
        ("/abs//x.jpg", Some(("/abs//x", "jpg"))),
        ("t.", Some(("t", ""))),
        ("a..jpg", Some(("a", ".jpg"))),
        ("line\nfeed.jpg", Some(("line\nfeed", "jpg"))),
        ("noext", None),
        ("folder.v1/noext", None),
        (".hidden.jpg", None),
        ("..jpg", None),
        ("", None),
        // The expression takes the folder for the key, if that has no dot.
        ("sub/.hidden.png", Some(("sub/", "hidden.png"))),
        ("a.b/c/.hidden.png", Some(("a.b/c/", "hidden.png"))),
        ("a.b//.x.png", Some(("a.b//", "x.png"))),
        ("/.x.png", Some(("/", "x.png"))),
        ("a.b/.hidden.png", None),
        ("__meta__", None),
        ("__meta__/a.jpg", None),
        ("____/a.jpg", None),
        ("___/a.jpg", Some(("___/a", "jpg"))),
        ("__dunder__.jpg", Some(("__dunder__", "jpg"))),
        ("sub/__meta__/a.jpg", Some(("sub/__meta__/a", "jpg"))),
        ("__MACOSX/a.jpg", Some(("__MACOSX/a", "jpg"))),
    ];
    for (name, expected) in cases {
        let found = place(name.as_bytes());
        let found = found.map(|place| (String::from_utf8(place.key).unwrap(), place.field));
        let expected = expected.map(|(key, field)| (key.to_owned(), field.to_owned()));
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(place(b"a.\xE9").unwrap().field, "%e9");
}

#[test]
fn hidden_members_are_left_out_unless_they_are_asked_for() {
    for name in [
        "__MACOSX/a.jpg",
        "sub/._a.jpg",
        "@eaDir/a.jpg/t.jpg",
        "Thumbs.db",
        ".h/a.jpg",
        "a/.h/b.jpg",
    ] {
        assert!(is_hidden(name.as_bytes()), "{name}");
    }
    for name in
        ["./a.jpg", "../a.jpg", "a/../b.jpg", ".hidden.jpg", "sub/.hidden.png", "__m__/a.jpg"]
    {
        assert!(!is_hidden(name.as_bytes()), "{name}");
    }
    let tar =
        tar_of(&["a.jpg", ".h/b.jpg", "@eaDir/c.jpg", "sub/._d.jpg", "__m__/e.jpg", ".f.jpg"]);
    let (images, remarks) = listed(&tar);
    assert_eq!((keys(&images), remarks.hidden, remarks.other), (vec!["a"], 3, 2));
    let (images, remarks) = listed_as(&tar, &Fields { hidden: true, ..Fields::default() });
    assert_eq!(keys(&images), ["a", ".h/b", "@eaDir/c", "sub/"]);
    assert_eq!((remarks.hidden, remarks.other), (0, 2), "webdataset's own rule stays");
}

#[test]
fn of_several_images_trainers_first_one_is_taken() {
    let cases: [(&[&str], &str); 7] = [
        (&["a.webp", "a.jpeg", "a.png", "a.jpg"], "a.jpg"),
        (&["a.tif", "a.webp", "a.jpeg", "a.png"], "a.png"),
        (&["a.tif", "a.webp", "a.jpeg"], "a.jpeg"),
        (&["a.seg.png", "a.tif", "a.bmp"], "a.tif"),
        (&["a.gif"], "a.gif"),
        (&["a.PPM"], "a.PPM"),
        (&["a.heic"], "a.heic"),
    ];
    for (names, expected) in cases {
        assert_eq!(members(names, None), [expected]);
        let remarks = listed(&tar_of(names)).1;
        let others = names.len() - 1;
        assert_eq!(remarks.further_images, others as u64, "{names:?}");
        let line = format!(
            "{} left out of samples with several (the first: a): jpg is taken before png, jpeg, webp, \
             then what comes first; image_column takes another",
            numbers::counted(others, "image")
        );
        let expected: Vec<String> = (others > 0).then_some(line).into_iter().collect();
        assert_eq!(remarks.odd.iter().map(|l| settings::plain(l)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn images_of_dotted_names_alone_are_images_of_their_own() {
    let names = ["f/x.0.PNG", "f/x.cls", "f/x.B.1.jpg", "f/x.txt", "f/y.0.png", "f/y.png"];
    let (images, remarks) = listed(&tar_of(&names));
    assert_eq!(keys(&images), ["f/x.0", "f/x.B.1", "f/y"]);
    for image in &images[..2] {
        let facts = (image.facts.caption.as_deref(), image.facts.label.as_deref());
        assert_eq!(facts, (Some("f/x.txt"), Some("f/x.cls")));
    }
    assert_eq!((remarks.further_images, remarks.without_image), (1, 0));
    assert!(
        remarks.odd[0].starts_with("1 image left out of samples with several (the first: f/y)")
    );
    let read: Vec<_> = contents(&tar_of(&names)).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(read, [Ok(names[0].into()), Ok(names[2].into()), Ok(names[5].into())]);
    // One alone is its sample's; of two that would be called the same, trainers' first is taken.
    assert_eq!(keys(&listed(&tar_of(&["x.0.png", "y.0.png"])).0), ["x", "y"]);
    let (images, remarks) = listed(&tar_of(&["x.0.png", "x.1.png", "x.0.jpg"]));
    assert_eq!((keys(&images), remarks.further_images), (vec!["x.1", "x.0"], 1));
    assert_eq!(images[1].part.as_ref().unwrap().member, "x.0.jpg");
    // A field that is asked for is the image.
    assert_eq!(members(&["x.0.png", "x.1.png"], Some("1.png")), ["x.1.png"]);
    // Torn apart, they have their own names all the same.
    let (images, remarks) = listed(&tar_of(&["x.0.png", "x.1.png", "y.png", "x.2.png", "x.3.png"]));
    assert_eq!((keys(&images).len(), remarks.odd), (5, vec![]));
    let (images, _) = listed(&tar_of(&["x.0.png", "x.1.png", "x.1.png"]));
    let faults: Vec<_> = images.iter().map(|image| image.fault.is_some()).collect();
    assert_eq!(faults, [false, true]);
}

#[test]
fn so_many_frames_as_a_film_has_are_given_in_parts() {
    let long = "n".repeat(80);
    let tar =
        (0..13_000).fold(Tar::default(), |tar, at| tar.file(&format!("f.{at:05}{long}.png"), b""));
    let (images, remarks) = listed(&tar.file("f.txt", b"late").end());
    assert_eq!((images.len(), remarks.further_images), (13_000, 0));
    assert!(images.iter().all(|image| image.fault.is_none()));
    assert_eq!(images[12_999].key, format!("f.12999{long}"));
    let captions = images.iter().filter(|image| image.facts.caption.is_some()).count();
    assert!(captions > 0 && captions < 13_000, "{captions}");
    assert!(
        remarks.odd.len() == 1 && remarks.odd[0].starts_with("1 sample whose captions stand apart")
    );
}

#[test]
fn archives_in_a_tar_are_told() {
    let (images, remarks) =
        listed(&tar_of(&["./n01.tar", "n02.v1.TAR.GZ", "a.jpg", "a.zip", "b.txt"]));
    assert_eq!((keys(&images), remarks.archives, remarks.without_image), (vec!["a"], 2, 1));
    assert_eq!(remarks.first_archive.as_deref(), Some("./n01.tar"));
    let line = "archives inside it are not opened; unpack them to read their images: 2 (the first: \
                ./n01.tar)";
    assert_eq!(remarks.odd, [line]);
}

#[test]
fn a_named_field_is_the_image() {
    let names = ["a.jpg", "a.seg.png", "b.jpg", "c.SEG.PNG", "d.bin"];
    assert_eq!(members(&names, Some("Seg.Png")), ["a.seg.png", "c.SEG.PNG"]);
    assert_eq!(members(&names, Some("bin")), ["d.bin"]);
    let (_, remarks) = listed_as(&tar_of(&names), &fields(Some("seg.png")));
    assert_eq!((remarks.without_image, remarks.odd), (2, vec![]));
}

#[test]
fn only_neighbours_are_one_sample() {
    let (images, remarks) = listed(&tar_of(&["a.jpg", "b.jpg", "a.txt", "b.txt", "c.txt"]));
    assert_eq!(keys(&images), ["a", "b"]);
    assert!(images.iter().all(|image| image.facts == Default::default()));
    assert_eq!(remarks.without_image, 3);
    let apart = "2 samples whose captions stand apart from their images";
    assert!(remarks.odd.len() == 1 && remarks.odd[0].starts_with(apart), "{:?}", remarks.odd);
    // Texts first; what has no sample doesn't part others.
    let (images, remarks) =
        listed(&tar_of(&["a.txt", "noext", "a.jpg", "b.txt", "c.jpg", "b.jpg"]));
    assert_eq!(images[0].facts.caption.as_deref(), Some("a.txt"));
    assert_eq!((keys(&images), remarks.without_image), (vec!["a", "c", "b"], 1));
    assert!(remarks.odd[0].starts_with("1 sample whose captions"), "{:?}", remarks.odd);
    let (images, remarks) = listed(&tar_of(&["a.jpg", "b.jpg", "a.png"]));
    assert_eq!(keys(&images), ["a", "b", "a"]);
    assert_eq!(remarks.odd, ["1 image with the key of an earlier one"]);
}

#[test]
fn a_field_that_comes_twice_is_a_fault_of_the_image_alone() {
    let (images, remarks) =
        listed(&tar_of(&["a.jpg", "a.JPG", "b.jpg", "b.txt", "b.Txt", "b.png"]));
    let faults: Vec<_> = images.iter().map(|image| image.fault.as_deref()).collect();
    assert_eq!(faults, [Some("its sample has the field \"jpg\" more than once"), None]);
    assert_eq!(images[1].facts.caption.as_deref(), Some("b.txt"));
    assert!(remarks.odd[1].starts_with("1 member with a field"), "{:?}", remarks.odd);
    let (images, remarks) = listed(&tar_of(&["a.jpg", "a.png", "a.png"]));
    assert_eq!((images.len(), &images[0].fault, remarks.odd.len()), (1, &None, 2));
}

type Case<'a> = (&'a [(&'a str, &'a [u8])], Option<&'a str>, Option<&'a str>, Option<&'a str>);

#[track_caller]
fn assert_facts(cases: &[Case<'_>], fields: &Fields) {
    for (members, label, caption, meta) in cases {
        let tar =
            members.iter().fold(Tar::default().file("a.jpg", b"pixels"), |tar, (field, text)| {
                tar.file(&format!("a.{field}"), text)
            });
        let (images, _) = listed_as(&tar.end(), fields);
        let facts = &images[0].facts;
        let found = (facts.label.as_deref(), facts.caption.as_deref(), facts.meta_json.as_deref());
        assert_eq!(found, (*label, *caption, *meta), "{members:?}");
    }
}

#[test]
fn facts_are_found_by_the_usual_names() {
    let json = br#"{ "z": 1.50, "text": "from json", "cls": 7, "a": [true, null] }"#;
    let compact = r#"{"z":1.5,"text":"from json","cls":7,"a":[true,null]}"#;
    assert_facts(
        &[
            (
                &[("cls", b" 7\n"), ("label", b"no"), ("txt", b"a cat\n")],
                Some("7"),
                Some("a cat\n"),
                None,
            ),
            (
                &[("text", b"3"), ("caption", b"2"), ("label", b"tench")],
                Some("tench"),
                Some("2"),
                None,
            ),
            (&[("cls2", b"1"), ("class", b"x"), ("label.txt", b"y")], Some("x"), None, None),
            (&[("json", json)], Some("7"), Some("from json"), Some(compact)),
            (&[("txt", b""), ("cls", b" "), ("jsn", json)], None, Some("from json"), Some(compact)),
            (&[("txt", b"t"), ("cls", b"c"), ("json", b"{}")], Some("c"), Some("t"), Some("{}")),
            (&[("txt", b"\xEF\xBB\xBFt"), ("json", b"[1]")], None, Some("t"), None),
            (&[("txt", b"\xFF"), ("text", b"t"), ("json", b"{")], None, Some("t"), None),
            (
                &[("json", br#"{"label":null,"caption":3,"text":["x"]}"#)],
                None,
                Some("3"),
                Some(r#"{"label":null,"caption":3,"text":["x"]}"#),
            ),
        ],
        &Fields::default(),
    );
}

#[test]
fn facts_are_found_by_names_that_are_given() {
    let text = |name: &str| Some(name.to_owned());
    let fields = Fields {
        label: text("Species"),
        caption: text("alt.txt"),
        pass: vec!["url.txt".into(), "W".into(), "none".into()],
        ..Fields::default()
    };
    assert_facts(
        &[
            (
                &[
                    ("species", b"cat"),
                    ("ALT.txt", b"text"),
                    ("cls", b"no"),
                    ("w", b"3\n"),
                    ("json", br#"{"W":1,"h":2}"#),
                ],
                Some("cat"),
                Some("text"),
                Some(r#"{"W":"3\n","h":2}"#),
            ),
            (&[("url.txt", b"u"), ("txt", b"no")], None, None, Some(r#"{"url.txt":"u"}"#)),
            (
                &[("json", br#"{"Species":"dog","alt.txt":"t","label":"no"}"#)],
                Some("dog"),
                Some("t"),
                Some(r#"{"Species":"dog","alt.txt":"t","label":"no"}"#),
            ),
        ],
        &fields,
    );
}

#[test]
fn facts_that_cannot_be_used_are_told() {
    let long = vec![b'x'; (1 << 20) + 1];
    let tar = Tar::default()
        .file("a.jpg", b"1")
        .file("a.txt", &long)
        .file("a.cls", b"\xFF\xFE1\0")
        .file("a.json", b"[]")
        .end();
    let (images, remarks) = listed(&tar);
    assert_eq!(images[0].facts, Default::default());
    let expected = [
        "1 field left out: longer than 1048576 bytes",
        "1 field left out: not text (UTF-8)",
        "1 field left out: not a JSON object",
    ];
    assert_eq!(remarks.odd, expected);
}
