//! Owns the tests of rows as programs write them and no list should hold: Python's words in JSON, images
//! in base64, numbers that lose digits.

use super::*;

#[test]
fn what_python_writes_for_no_number_is_null() {
    let row =
        r#"{"image": "img/0.jpg", "caption": "NaN, a name", "aesthetic": NaN, "x": -Infinity}"#;
    let fields = Fields { pass: vec!["aesthetic".into(), "x".into()], ..Fields::default() };
    for (name, text) in
        [("l.jsonl", row.to_string()), ("l.json", format!("[{row}]")), ("m.json", row.into())]
    {
        let (images, remarks) = of(name, &text, &fields).unwrap();
        let image = &images[0];
        assert_eq!((images.len(), &image.fault, remarks), (1, &None, Remarks::default()), "{name}");
        assert_eq!(image.facts.caption.as_deref(), Some("NaN, a name"));
        assert_eq!(image.facts.meta_json.as_deref(), Some(r#"{"aesthetic":null,"x":null}"#));
    }
}

#[test]
fn images_in_base64_are_told_in_a_line() {
    let base64 = format!("iVBORw0KGgo{}", "Ab+/".repeat(9000));
    let rows = format!(
        "image\n\"data:image/png;base64,AAAA\"\n{base64}\n/9j/{}\n/9j/a.jpg\n",
        "A".repeat(96)
    );
    let (images, _) = plain("l.csv", rows);
    assert_eq!(keys(&images), ["l.csv:2", "l.csv:3", "l.csv:4", "9j/a.jpg"]);
    let told = "it holds the image itself as base64 text, which isn't read: write the images into files, \
                a tar or a Parquet column of bytes";
    assert!(images[..3].iter().all(|image| image.fault.as_deref() == Some(told)));
}

#[test]
fn keys_that_lose_digits_are_no_keys() {
    let row = |key: &str| format!("{{\"key\": {key}, \"image\": \"img/0.jpg\"}}\n");
    let long = ["123456789012345678901", "123456789012345678902", "-9223372036854775809"].map(row);
    let short =
        ["18446744073709551615", "-9223372036854775808", "\"123456789012345678901\""].map(row);
    let (images, _) = plain("l.jsonl", long.concat() + &short.concat());
    let fault = "its key is a number that is too large to be read without losing digits; write it in quotes";
    assert!(images[..3].iter().all(|image| image.fault.as_deref() == Some(fault)));
    let kept = ["18446744073709551615", "-9223372036854775808", "123456789012345678901"];
    assert_eq!(keys(&images[3..]), kept);
}
