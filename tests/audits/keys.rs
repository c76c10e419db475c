//! Drives `vqtok audit` and `vqtok diff` on rows of anybody's Parquet: keys of any characters, rows without
//! digests, each kind of finding alone, flags that nothing was asked of. Must not know: how anything is
//! found.

use crate::support::*;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListArray, Int32Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

/// One row: its key, its label, the byte that its digest consists of and which its tokens follow from.
#[derive(Clone)]
struct Row {
    key: Option<Vec<u8>>,
    label: &'static str,
    file: Option<u8>,
    /// Of the tokens; None for one code at all places.
    codes: Option<u8>,
    /// Width of the image.
    width: i32,
}

fn row(key: &str, label: &'static str, file: u8) -> Row {
    Row { key: Some(key.into()), label, file: Some(file), codes: Some(file), width: 300 }
}

fn write(job: &Job, file: &str, rows: &[Row]) {
    let codes = rows.iter().flat_map(|row| {
        let codes = row.codes.map(i32::from);
        (0..64).map(move |at| codes.map_or(7, |codes| (codes * 41 + at * at * 7 + at) % 256))
    });
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let codes: ArrayRef = Arc::new(Int32Array::from_iter_values(codes));
    let width: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.width)));
    let height = Int32Array::from_iter_values(rows.iter().map(|_| 300));
    let digests = rows.iter().map(|row| row.file.map(|file| [file; 32]));
    let texts: Option<Vec<Option<&str>>> = rows
        .iter()
        .map(|row| row.key.as_deref().map(|key| str::from_utf8(key).ok()))
        .map(|key| key.map_or(Some(None), |text| text.map(Some)))
        .collect();
    let key: ArrayRef = match texts {
        Some(texts) => Arc::new(StringArray::from(texts)),
        None => Arc::new(rows.iter().map(|row| row.key.as_deref()).collect::<BinaryArray>()),
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", key),
        ("label", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.label)))),
        ("content_sha256", Arc::new(digests.collect::<BinaryArray>())),
        ("image_width", width),
        ("image_height", Arc::new(height)),
        ("tokens", Arc::new(FixedSizeListArray::try_new(item, 64, codes, None).unwrap())),
    ];
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let file = std::fs::File::create(job.path(file)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn read(job: &Job, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(job.path(file)).unwrap()).unwrap()
}

/// Keys that end lines, quote, steer a terminal, or look like markup or escapes; in order.
const KEYS: [&str; 9] = [
    " space .png",
    "<script>&amp;.png",
    "bell\u{7}\u{1b}[2J.png",
    "bidi\u{202e}gnp.png",
    "car\rriage.png",
    "line\nbreak.png",
    "percent%FF\\xff.png",
    "quo\"te'\\.png",
    "tab\tkey.png",
];

fn steers(c: char) -> bool {
    c != '\n' && (c.is_control() || c == '\u{202e}')
}

#[test]
fn keys_of_any_characters_are_whole_in_lists_and_json_and_harmless_on_pages() {
    let job = Job::new(0);
    let keepers: Vec<Row> =
        (1..).zip(KEYS).map(|(file, _)| row(&format!("0{file}"), "a", file)).collect();
    let copies = (1..).zip(KEYS).map(|(file, key)| row(key, "a", file));
    write(&job, "keys.parquet", &[keepers.clone(), copies.collect()].concat());
    // Twice, since a list of such keys is one of its own.
    for _ in 0..2 {
        let done =
            job.expect(1, "audit keys.parquet --json k.json --html k.html --remove-list gone");
        assert!(!done.stdout.contains(steers), "{:?}", done.stdout);
        let unlisted = KEYS.iter().filter(|key| key.contains(['\n', '\r'])).count();
        let said = format!("{unlisted} keys that can go have a line break");
        assert!(unlisted > 1 && done.stdout.contains(&said), "{:?}", done.stdout);
    }
    let gone = std::fs::read_to_string(job.path("gone")).unwrap();
    let lines = KEYS.iter().filter(|key| !key.contains(['\n', '\r']));
    assert_eq!(gone, lines.map(|key| format!("{key}\n")).collect::<String>());
    let found = read(&job, "k.json");
    let groups = found["duplicates"].as_array().unwrap().iter();
    let mut second: Vec<&str> =
        groups.map(|group| group["members"][1]["key"].as_str().unwrap()).collect();
    second.sort_unstable();
    assert_eq!(second, KEYS);
    let page = std::fs::read_to_string(job.path("k.html")).unwrap();
    assert!(!page.contains(steers) && !page.contains("<script"));
    for shown in [
        "&lt;script&gt;&amp;amp;.png",
        "line\\nbreak.png",
        "tab\\tkey.png",
        "quo&quot;te&#39;\\.png",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    write(&job, "keepers.parquet", &keepers);
    let done = job.expect(1, "diff keys.parquet keepers.parquet --json d.json");
    assert!(!done.stdout.contains(steers), "{:?}", done.stdout);
    assert_eq!(read(&job, "d.json")["gone"], json!({"count": 9, "keys": KEYS}));
}

#[test]
fn a_key_of_two_images_is_on_no_list_of_what_can_go() {
    let job = Job::new(0);
    let rows = [("a", 1), ("b", 2), ("c", 3), ("c", 1), ("d", 2)];
    let rows: Vec<Row> = rows.iter().map(|&(key, file)| row(key, "x", file)).collect();
    write(&job, "keys.parquet", &rows);
    let done = job.expect(1, "audit keys.parquet --remove-list gone --json k.json");
    // Nobody knows which of the two images called c would go.
    assert_eq!(std::fs::read_to_string(job.path("gone")).unwrap(), "d\n");
    let said =
        "1 key of duplicates: several images share one, so that no list of what can go has it";
    assert!(done.stdout.contains(said), "{}", done.stdout);
    let remark = json!({"about": "keys", "finding": false, "text": said});
    assert!(read(&job, "k.json")["remarks"].as_array().unwrap().contains(&remark));
}

#[test]
fn a_missing_key_costs_its_row_in_either_output() {
    let job = Job::new(0);
    let mut rows = vec![row("a", "a", 1), row("b", "a", 2), row("c", "a", 3)];
    write(&job, "whole.parquet", &rows);
    rows[1].key = None;
    write(&job, "odd.parquet", &rows);
    let unreadable = |line: &str, name: &str| {
        let done = job.expect(1, &format!("{line} --fail-on failures --json o.json --html o.html"));
        let found = read(&job, "o.json");
        let list = found["failures"][name]["list"][0].as_str().unwrap().to_string();
        assert_eq!(found["failures"][name]["rows"], 1, "{list}");
        assert!(list.contains("odd.parquet, row 1"), "{list}");
        (done.stdout, std::fs::read_to_string(job.path("o.html")).unwrap())
    };
    let (said, page) = unreadable("audit odd.parquet", "unreadable");
    assert!(said.contains("1 row: can't be read, and in no other number"), "{said}");
    assert!(page.contains("id=unusable>"));
    let (said, page) =
        unreadable("audit whole.parquet --against odd.parquet", "unreadable_against");
    assert!(said.contains("1 row: can't be read in the other output"), "{said}");
    assert!(page.contains("1 row of odd.parquet can't be used"));
    assert!(page.contains("id=unusable-there"));
    job.expect(1, "diff whole.parquet odd.parquet --json d.json");
    assert_eq!(read(&job, "d.json")["unreadable"], json!([0, 1]));
    // Both are whole: null is "there is none", 0 is "none of it".
    job.expect(0, "audit whole.parquet --fail-on failures --json w.json");
    assert_eq!(read(&job, "w.json")["failures"]["unreadable_against"], Value::Null);
    job.expect(1, "audit whole.parquet --against whole.parquet --json w.json");
    assert_eq!(read(&job, "w.json")["failures"]["unreadable_against"]["rows"], 0);
}

#[test]
fn keys_that_are_no_text_are_escaped_everywhere_alike() {
    let job = Job::new(0);
    let mut odd = row("", "a", 1);
    odd.key = Some(b"q\xff\n".to_vec());
    let mut plain = odd.clone();
    plain.key = Some(b"q\xff".to_vec());
    write(&job, "odd.parquet", &[row("first", "a", 1), odd, plain]);
    job.expect(1, "audit odd.parquet --json o.json --html o.html --remove-list gone");
    let members = read(&job, "o.json")["duplicates"][0]["members"].as_array().unwrap().clone();
    let keys: Vec<_> = members.iter().map(|member| &member["key"]).collect();
    assert_eq!(keys, ["first", "q%FF\n", "q%FF"]);
    // One key a line: that of two lines is left out.
    assert_eq!(std::fs::read_to_string(job.path("gone")).unwrap(), "q%FF\n");
    assert!(std::fs::read_to_string(job.path("o.html")).unwrap().contains("q%FF\\n"));
}

#[test]
fn rows_without_digests_are_one_by_their_tokens() {
    let job = Job::new(0);
    let without = |rows: Vec<Row>| -> Vec<Row> {
        rows.into_iter().map(|row| Row { file: None, ..row }).collect()
    };
    let rows = vec![row("a", "a", 1), row("b", "a", 2), row("c", "a", 1)];
    write(&job, "with.parquet", &rows);
    write(&job, "without.parquet", &without(rows.clone()));
    let kinds = |file: &str| {
        job.expect(1, &format!("audit {file} --fail-on duplicates --json k.json"));
        let found = read(&job, "k.json");
        let groups = found["duplicates"].as_array().unwrap().iter();
        groups.map(|group| group["kind"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("with.parquet"), ["exact-file"]);
    assert_eq!(kinds("without.parquet"), ["exact-pixels"]);
    let told = "whether an image changed can't be told";
    let done = job.expect(0, "diff with.parquet without.parquet");
    assert!(done.stdout.contains(told), "{}", done.stdout);
    assert!(!job.expect(0, "diff with.parquet with.parquet").stdout.contains(told));
    job.expect(1, "audit with.parquet --against without.parquet --fail-on leaks --json l.json");
    let leaks = read(&job, "l.json")["leaks"].as_array().unwrap().clone();
    let pairs: Vec<_> = leaks.iter().map(|leak| [&leak["key"], &leak["other_key"]]).collect();
    assert_eq!(pairs, [["a", "a"], ["a", "c"], ["b", "b"], ["c", "a"]]);
    assert!(leaks.iter().all(|leak| leak["kind"] == "exact-pixels"), "{leaks:?}");
}

/// Thirty images unlike each other, `more` behind them.
fn plain(more: &[Row]) -> Vec<Row> {
    let rows = (1..=30).map(|file| row(&format!("{file:02}"), ["a", "b"][file as usize % 2], file));
    rows.chain(more.iter().cloned()).collect()
}

/// A set of each kind of finding alone.
fn write_each_kind(job: &Job) {
    let mut blank = row("blank", "a", 90);
    blank.codes = None;
    let nameless = Row { key: None, ..row("", "a", 91) };
    let wide = Row { width: 9000, ..row("wide", "a", 92) };
    write(job, "plain.parquet", &plain(&[]));
    write(job, "twice.parquet", &plain(&[row("z", "b", 1)]));
    write(job, "labels.parquet", &plain(&[row("z", "a", 1)]));
    write(job, "blank.parquet", &plain(&[blank]));
    write(job, "failed.parquet", &plain(&[nameless]));
    write(job, "sizes.parquet", &plain(&[wide]));
    write(job, "leak.parquet", &[row("other", "b", 1)]);
}

#[test]
fn each_kind_fails_by_itself_and_several_where_one_of_them_is_there() {
    let job = Job::new(0);
    write_each_kind(&job);
    let all = [
        "duplicates",
        "label-conflicts",
        "leaks",
        "low-information",
        "failures",
        "set",
        "outliers",
        "sizes",
    ];
    for (set, kinds) in [
        ("plain.parquet", &[][..]),
        ("twice.parquet", &["duplicates"][..]),
        ("labels.parquet", &["duplicates", "label-conflicts"][..]),
        ("plain.parquet --against leak.parquet", &["leaks"][..]),
        ("blank.parquet", &["low-information"][..]),
        ("failed.parquet", &["failures"][..]),
        ("sizes.parquet", &["sizes"][..]),
    ] {
        // Leaks are of another output.
        let asked = all.into_iter().filter(|kind| *kind != "leaks" || set.contains("--against"));
        let asked: Vec<&str> = asked.collect();
        let code = |of: &[&str]| {
            let flags: String = of.iter().map(|kind| format!(" --fail-on {kind}")).collect();
            job.run(&format!("audit {set}{flags}")).code
        };
        // There is always an image that is the oddest.
        for kind in asked.iter().filter(|kind| **kind != "outliers") {
            let there = i32::from(kinds.contains(kind));
            assert_eq!(code(&[kind]), there, "{set}: {kind}");
            assert_eq!(code(&["none", kind]), there, "{set}: none, {kind}");
        }
        let absent = asked.iter().filter(|kind| **kind != "outliers" && !kinds.contains(kind));
        let absent: Vec<&str> = absent.copied().collect();
        assert_eq!(code(&absent), 0, "{set}");
        assert_eq!(
            code(&asked[..asked.len() - 3]),
            i32::from(kinds.iter().any(|kind| *kind != "sizes")),
            "{set}"
        );
        let any = i32::from(!kinds.is_empty() && kinds != ["sizes"]);
        assert_eq!([code(&[]), code(&["any"]), code(&["none"])], [any, any, 0], "{set}");
        assert_eq!(code(&["any", "sizes"]), i32::from(!kinds.is_empty()), "{set}");
    }
}

#[test]
fn what_nothing_was_asked_of_is_refused_and_an_unfinished_output_is_named() {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --model model --out A --shard-rows 3");
    for (flags, words) in [
        ("--family vqvae", ["--family", "give --model"]),
        ("--model-config nowhere.json", ["--model-config", "give --model"]),
        ("--weights ema", ["--weights", "give --model"]),
        ("--source nowhere", ["--source", "give --html or --model"]),
        ("--source images --json new.json", ["--source", "give --html or --model"]),
        ("--source nowhere --html new.html", ["nowhere", "No such file"]),
    ] {
        let done = job.run(&format!("audit A {flags}"));
        assert_eq!(done.code, 2, "{flags}: {}{}", done.stdout, done.stderr);
        done.assert_one_line(&words);
    }
    assert!(!job.path("new.json").exists() && !job.path("new.html").exists());
    job.expect(0, "tokenize images --model model --out B --shard-rows 3");
    std::fs::remove_file(job.path("B/dataset.json")).unwrap();
    std::fs::remove_file(job.path("B/tokens/part-00001.parquet")).unwrap();
    let named = "B: an unfinished output, 2 of 3 shards are there";
    let done = job.run("audit A --against B --fail-on failures --json a.json");
    assert!(done.stdout.lines().any(|line| line == named), "{}", done.stdout);
    let remarks = read(&job, "a.json")["remarks"].as_array().unwrap().clone();
    let remark = json!({"about": "other-output", "finding": false, "text": named});
    assert!(remarks.contains(&remark), "{remarks:?}");
    let done = job.expect(1, "diff A B --json d.json");
    assert!(done.stdout.contains(&format!("note: {named}")), "{}", done.stdout);
    assert_eq!(read(&job, "d.json")["remarks"], json!([named]));
    job.expect(1, "diff B A --json d.json");
    assert_eq!(read(&job, "d.json")["remarks"], json!([named]));
}

#[test]
fn other_labels_are_a_difference_and_labels_of_space_are_none() {
    let job = Job::new(0);
    write(&job, "a.parquet", &[row("a", "cat", 1), row("b", "dog", 2), row("c", "cat", 3)]);
    write(&job, "b.parquet", &[row("c", " ", 3), row("a", "cat", 1), row("b", "cat", 2)]);
    let done = job.expect(1, "diff a.parquet b.parquet --json d.json");
    let told = "2 images: of another label than before (";
    assert!(done.stdout.contains(told) && done.stdout.contains("they differ"), "{}", done.stdout);
    let found = read(&job, "d.json");
    let mut keys: Vec<&str> =
        found["relabelled"]["keys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    keys.sort_unstable();
    assert_eq!((keys, &found["equal"]), (vec!["b", "c"], &json!(false)));
    assert_eq!(found["shared"]["equal_rows"], json!(3));
    // One file twice, once without a label: nothing contradicts.
    write(&job, "c.parquet", &[row("a", "cat", 1), row("b", " ", 1), row("c", "", 1)]);
    job.expect(1, "audit c.parquet --json c.json");
    let groups = &read(&job, "c.json")["duplicates"];
    assert_eq!(
        (groups.as_array().unwrap().len(), &groups[0]["label_conflict"]),
        (1, &json!(false))
    );
}

#[test]
fn flags_that_ask_for_what_is_not_done_are_refused_or_told() {
    let job = Job::new(0);
    write(&job, "a.parquet", &[row("a", "cat", 1), row("b", "cat", 2)]);
    job.expect(2, "audit a.parquet --fail-on leaks").assert_one_line(&["--fail-on", "--against"]);
    job.expect(2, "audit a.parquet --threshold 0.8").assert_one_line(&["--threshold", "--model"]);
    for low in ["0.59", "1.01", "NaN"] {
        let done = job.expect(2, &format!("audit a.parquet --threshold {low}"));
        done.assert_one_line(&["--threshold", "from a similarity of 0.6"]);
    }
    let done = job.expect(0, "audit a.parquet --keep a --keep nobody/");
    assert!(done.stdout.contains("no key begins with nobody/"), "{}", done.stdout);
    assert_eq!(done.stdout.matches("no key begins").count(), 1, "{}", done.stdout);
}
