//! Drives `decode` on tokens that others made, and every command that reads an output: a bad row
//! costs itself, another model's tokens are refused, and what is missing or damaged is told.

use crate::support::*;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

/// The tiny model's grid is 4 x 4.
const TOKENS: usize = 16;

/// A Parquet file of these columns.
pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A column of lists; None is a row without one.
pub(crate) fn lists(rows: &[Option<Vec<Option<i64>>>]) -> ArrayRef {
    let values: Int64Array = rows.iter().flatten().flatten().copied().collect();
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len));
    let present: Vec<bool> = rows.iter().map(Option::is_some).collect();
    let field = Arc::new(Field::new("item", DataType::Int64, true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::try_new(field, offsets, Arc::new(values), Some(present.into())).unwrap())
}

/// A row of so many tokens, all of them `code`.
fn row(code: i64, tokens: usize) -> Option<Vec<Option<i64>>> {
    Some(vec![Some(code); tokens])
}

fn names(job: &Job, folder: &str) -> Vec<String> {
    job.files(folder).into_iter().map(|(name, _)| name).collect()
}

/// A folder `generated`: rows of every kind, a file that is none, and rows without keys.
fn write_generated(job: &Job) {
    let mut missing = vec![Some(3); TOKENS];
    missing[7] = None;
    let rows = [
        row(0, TOKENS),
        row(-1, TOKENS),
        None,
        row(1, TOKENS),
        Some(missing),
        row(2, TOKENS + 1),
        row(16, TOKENS),
        Some(Vec::new()),
        row(1 << 40, TOKENS),
        row(15, TOKENS),
    ];
    let keys: Vec<String> = (0..rows.len()).map(|i| format!("{i}\u{1b}[31m.png")).collect();
    let keys: ArrayRef = Arc::new(StringArray::from(keys));
    std::fs::create_dir(job.path("generated")).unwrap();
    write(&job.path("generated/a.parquet"), vec![("key", keys), ("tokens", lists(&rows))]);
    std::fs::write(job.path("generated/b.parquet"), b"PAR1 no Parquet PAR1").unwrap();
    let last = [row(5, TOKENS), row(6, TOKENS)];
    write(&job.path("generated/c.parquet"), vec![("tokens", lists(&last))]);
}

#[test]
fn every_kind_of_bad_row_costs_itself_and_is_named() {
    let job = Job::new(4).trained();
    write_generated(&job);
    let done = job.expect(1, "decode generated --model model --out out");
    assert_eq!(
        done.stdout.trim(),
        "5 pictures in out, 7 rows failed, 1 file is missing or can't be read"
    );
    assert!(!done.stderr.contains('\u{1b}') && !done.stdout.contains('\u{1b}'));
    for words in [
        "generated/a.parquet, row 1 ('1\\u{1b}[31m.png'): holds -1, which is no code",
        "row 2 ('2\\u{1b}[31m.png'): has no tokens (null)",
        "row 4 ('4\\u{1b}[31m.png'): has missing tokens (null)",
        "row 5 ('5\\u{1b}[31m.png'): has 17 tokens where 16 are expected (a grid of 4 x 4); is one of",
        "row 6 ('6\\u{1b}[31m.png'): token 16 is beyond the model's 16 codes",
        "row 7 ('7\\u{1b}[31m.png'): has no tokens (an empty list)",
        "row 8 ('8\\u{1b}[31m.png'): holds 1099511627776, which is no code",
        "generated/b.parquet: not a readable Parquet file",
    ] {
        assert!(done.stderr.contains(words), "{words:?} is missing in:\n{}", done.stderr);
    }
    let json = job.expect(1, "decode generated --model model --out again --json");
    let failures = json.events("failure");
    assert_eq!(failures.len(), 8);
    assert_eq!((&failures[0]["row"], &failures[0]["rows"]), (&1.into(), &1.into()));
    assert!(failures[0]["file"].as_str().unwrap().ends_with("a.parquet"));
    let decoded = &json.events("decoded")[0];
    assert_eq!((&decoded["decoded"], &decoded["failed"]), (&5.into(), &7.into()));
    assert_eq!(decoded["files_lost"], 1);
    job.assert_same("out", "again");
    // Rows without keys are named by their number over all files.
    let found = names(&job, "out");
    assert!(found.contains(&"00010.png".to_string()) && found.contains(&"00011.png".to_string()));
    // The pages about the same files leave the same rows out.
    let report = job.expect(1, "report generated --out page.html --json");
    assert_eq!(report.events("report")[0]["report"]["rows"], 7);
    assert!(report.events("failure").len() >= 6);
    // None at all.
    std::fs::remove_file(job.path("generated/a.parquet")).unwrap();
    std::fs::remove_file(job.path("generated/c.parquet")).unwrap();
    job.expect(2, "decode generated --model model --out none").assert_one_line(&["b.parquet"]);
    assert!(!job.path("none").exists());
}

#[test]
fn a_log_of_bad_rows_does_not_grow_with_them() {
    let job = Job::new(4).trained();
    let rows: Vec<_> = (0..300).map(|_| row(-100, TOKENS)).collect();
    write(&job.path("t.parquet"), vec![("tokens", lists(&rows))]);
    let done = job.expect(1, "decode t.parquet --model model --out out");
    assert_eq!(done.stderr.lines().filter(|line| line.starts_with("failed: ")).count(), 100);
    assert_eq!(done.stdout.trim(), "0 pictures in out, 300 rows failed");
}

#[test]
fn tokens_of_another_model_are_refused_and_forced() {
    let job = Job::new(12).trained();
    job.expect(0, "train images --model other --recipe tiny.toml --seed 5");
    job.expect(0, "convert model --out same");
    job.expect(0, "tokenize images --model model --out out --shard-rows 5");
    let digest = |model: &str| {
        let card = job.expect(0, &format!("inspect {model} --json"));
        card.events("model")[0].to_string()
    };
    assert_ne!(digest("model"), digest("other"));
    for input in ["out", "out/tokens", "out/tokens/part-00001.parquet"] {
        let line = format!("decode {input} --model other --out pictures");
        job.expect(2, &line).assert_one_line(&[input, "another model", "other", "--force"]);
        assert!(!job.path("pictures").exists());
    }
    let forced = job.expect(0, "decode out --model other --out forced --force --json");
    let event = &forced.events("other-model")[0];
    let (made, with) = (&event["made_by"]["weights_sha256"], &event["decoder"]["weights_sha256"]);
    assert!(made != with && event["files"] == 3, "{event}");
    assert_eq!(names(&job, "forced").len(), 12);
    job.expect(0, "decode out --model same --out pictures");
    job.expect(0, "decode out --model model --out again");
    job.assert_same("pictures", "again");
    // Nothing says whose these are.
    write(&job.path("t.parquet"), vec![("tokens", lists(&[row(1, TOKENS)]))]);
    job.expect(0, "decode t.parquet --model other --out anybodys");
    job.expect(2, "reconstruct out --model model --out s.png").assert_one_line(&["decode"]);
    let shard = "reconstruct out/tokens/part-00000.parquet --model model --out s.png";
    job.expect(2, shard).assert_one_line(&["decode"]);
}

#[test]
fn columns_nesting_grids_and_sheets_are_taken_as_asked() {
    let job = Job::new(4).trained();
    let nested: ArrayRef = {
        let inner = lists(&[row(1, 8), row(2, 8), row(3, 8), row(4, 8)]);
        let field = Arc::new(Field::new("item", inner.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths([2, 2]);
        Arc::new(ListArray::try_new(field, offsets, inner, None).unwrap())
    };
    let wide = lists(&[row(5, 8), row(6, 8)]);
    write(&job.path("t.parquet"), vec![("generated", nested), ("flat", wide)]);
    job.expect(2, "decode t.parquet --model model --out d")
        .assert_one_line(&["--column", "generated, flat"]);
    job.expect(0, "decode t.parquet --model model --out nested --column generated");
    let size = |name: &str| image::image_dimensions(job.path(name)).unwrap();
    assert_eq!(size("nested/00001.png"), (32, 8));
    let told = job.expect(1, "decode t.parquet --model model --out d --column flat");
    assert!(told.stderr.contains("has 8 tokens where 16 are expected (a grid of 4 x 4)"));
    job.expect(0, "decode t.parquet --model model --out flat --column flat --grid 4x2");
    assert_eq!(size("flat/00000.png"), (8, 16));
    let twice = "decode t.parquet --model model --out d --column flat --column generated";
    job.expect(2, twice).assert_one_line(&["--column is given 2 times", "decodes 1 levels"]);
    // Another square than the model's is decoded, and told.
    write(&job.path("small.parquet"), vec![("tokens", lists(&[row(5, 4), row(6, 4)]))]);
    let told = job.expect(0, "decode small.parquet --model model --out small");
    assert_eq!(told.stderr.matches("rows of 4 tokens").count(), 1, "{}", told.stderr);
    assert!(told.stderr.contains("are read as 2 x 2; the model was made for 4 x 4"));
    // A sheet alone decodes no more than it shows, and says how many of how many.
    let many: Vec<_> = (0..200).map(|i| row(i % 16, TOKENS)).collect();
    write(&job.path("many.parquet"), vec![("tokens", lists(&many))]);
    let done = job.expect(0, "decode many.parquet --model model --sheet many.png");
    assert!(done.stdout.contains("64 of 200 rows on many.png"), "{}", done.stdout);
    let sheet = image::open(job.path("many.png")).unwrap().into_rgb8();
    job.expect(0, "decode many.parquet --model model --out many --sheet many/sheet.png");
    assert_eq!(image::open(job.path("many/sheet.png")).unwrap().into_rgb8(), sheet);
    assert_eq!(names(&job, "many").len(), 201);
    let first = image::open(job.path("many/00000.png")).unwrap().into_rgb8();
    assert_eq!(sheet.get_pixel(4, 4), first.get_pixel(0, 0));
}

#[test]
fn names_that_are_one_file_on_some_systems_are_kept_apart() {
    let job = Job::new(4).trained();
    let keys = ["A.png", "a.png", "a.png/b.png", "CON", "a.", "x\ny.png", "same", "same"];
    let rows: Vec<_> = keys.iter().map(|_| row(3, TOKENS)).collect();
    let column: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
    write(&job.path("t.parquet"), vec![("key", column), ("tokens", lists(&rows))]);
    for _ in 0..2 {
        job.expect(0, "decode t.parquet --model model --out out");
        let mut found = names(&job, "out");
        assert_eq!(found.len(), keys.len());
        found.iter_mut().for_each(|name| *name = name.to_lowercase());
        found.sort();
        found.dedup();
        assert_eq!(found.len(), keys.len());
    }
}

#[test]
fn an_output_that_is_not_whole_is_told_by_whoever_reads_it() {
    let job = Job::new(12).trained();
    let line = "tokenize images --model model --out out --shard-rows 5";
    job.expect(0, &format!("{line} --partition 0/2"));
    let seen = job.expect(1, "verify out");
    assert!(seen.stdout.contains("UNFINISHED, 2 of 3 partitions there"), "{}", seen.stdout);
    job.expect(1, "verify out --complete");
    job.expect(0, "verify out --partial");
    let decoded = job.expect(0, "decode out --model model --out part");
    assert!(decoded.stderr.contains("an unfinished output, 2 of 3 shards are there"));
    assert!(decoded.stdout.contains("of an unfinished output"), "{}", decoded.stdout);
    let page = job.expect(0, "report out --out page.html");
    assert!(page.stderr.contains("an unfinished output, 2 of 3 shards are there"));

    job.expect(0, line);
    job.expect(0, "verify out");
    let whole = job.files("out");
    let shard = job.path("out/tokens/part-00001.parquet");
    for copy in ["part-00001 (copy).parquet", "part-00001-copy.parquet"] {
        std::fs::copy(&shard, job.path("out/tokens").join(copy)).unwrap();
        let seen = job.expect(1, "verify out --json");
        assert_eq!(seen.events("stray")[0]["path"], format!("tokens/{copy}"));
        let decoded = job.expect(0, "decode out --model model --out strays");
        assert!(decoded.stdout.contains("12 pictures") && decoded.stderr.contains(copy));
        assert_eq!(job.expect(1, "inspect out --json").events("stray").len(), 1);
        let page = job.expect(0, "report out --out page.html --json");
        assert_eq!(page.events("report")[0]["report"]["rows"], 12);
        let repaired = job.expect(1, "repair out --model model");
        assert!(repaired.stderr.contains("not removed here: 1 stray file"), "{}", repaired.stderr);
        std::fs::remove_file(job.path("out/tokens").join(copy)).unwrap();
        assert!(whole == job.files("out"));
    }
    std::fs::remove_file(&shard).unwrap();
    let decoded = job.expect(1, "decode out --model model --out missing --json");
    let failure = &decoded.events("failure")[0];
    assert!(failure["file"].as_str().unwrap().ends_with("part-00001.parquet"), "{failure}");
    assert_eq!(
        (&failure["rows"], &decoded.events("decoded")[0]["decoded"]),
        (&5.into(), &7.into())
    );
    assert_eq!(job.expect(1, "inspect out --json").events("missing")[0]["rows"], 5);
    let page = job.expect(1, "report out --out page.html");
    assert!(
        page.stderr.contains("part-00001.parquet") && page.stdout.contains("5 rows can't be used")
    );
    job.expect(0, "repair out --model model");
    assert!(whole == job.files("out"));
    job.expect(0, "decode out --model model --out all");
    assert_eq!(names(&job, "all").len(), 12);
}

/// Token files of a model of 256 codes, of which one row in most of them is bad.
#[test]
fn generated_files_with_one_bad_row_give_all_others() {
    let Some(folder) = shared("reports/tokens") else { return };
    let job = Job::new(6);
    let recipe = TINY_RECIPE.replace("codes = 16", "codes = 256").replace("size = 16", "size = 64");
    std::fs::write(job.path("tiny.toml"), recipe).unwrap();
    let job = job.trained();
    for (name, decoded, failed) in [
        ("big-one-negative", 4999, Some("row 3000 ('03000.png'): holds -1")),
        (
            "escape",
            3,
            Some("row 1 ('\\u{1b}]0;owned\\u{7}\\u{1b}[31mred\\nfake: 9 pictures.png'): token 999"),
        ),
        ("list_view", 6, None),
        ("nested", 6, None),
        ("nullkey", 5, Some("row 2: its key is missing (null)")),
        ("one-256", 5, Some("row 2 ('img/2.png'): token 256 is beyond the model's 256 codes")),
        ("one-257tokens", 5, Some("has 257 tokens where 256 are expected (a grid of 16 x 16)")),
        ("one-minus100", 5, Some("row 2 ('img/2.png'): holds -100")),
        ("one-nullrow", 5, Some("row 2 ('img/2.png'): has no tokens (null)")),
    ] {
        let file = folder.join(format!("{name}.parquet"));
        let line = format!("decode {} --model model --out {name}", file.display());
        let done = job.expect(i32::from(failed.is_some()), &line);
        assert_eq!(names(&job, name).len(), decoded, "{name}");
        let told = failed.is_none_or(|words| done.stderr.contains(words));
        assert!(told && !done.stderr.contains('\u{1b}'), "{name}: {}", done.stderr);
        if decoded == 6 {
            assert_eq!(
                image::image_dimensions(job.path(name).join("img/5.png")).unwrap(),
                (64, 64)
            );
        }
    }
}

#[test]
fn a_shard_of_another_output_under_an_own_name_is_nobodys() {
    let job = Job::new(12).trained();
    let line = "tokenize images --model model --out out --shard-rows 5";
    job.expect(0, line);
    job.expect(0, "tokenize images --model model --out other --shard-rows 4");
    let whole = job.files("out");
    let shard = "tokens/part-00001.parquet";
    let put = || std::fs::copy(job.path("other").join(shard), job.path("out").join(shard)).unwrap();
    put();
    let decoded = job.expect(1, "decode out --model model --out pictures --json");
    let failure = &decoded.events("failure")[0];
    assert!(failure["file"].as_str().unwrap().ends_with("part-00001.parquet"), "{failure}");
    assert!(failure["error"].as_str().unwrap().contains("belongs to another output"), "{failure}");
    assert_eq!(decoded.events("decoded")[0]["decoded"], 7);
    let page = job.expect(1, "report out --out page.html --json");
    assert_eq!(page.events("report")[0]["report"]["rows"], 7);
    let foreign = &job.expect(1, "inspect out --json").events("foreign")[0];
    assert!(foreign["path"].as_str().unwrap().ends_with("part-00001.parquet"), "{foreign}");
    let words = ["part-00001.parquet: it belongs to another output", "`vqtok repair`"];
    job.expect(2, line).assert_one_line(&words);
    job.expect(2, "finalize out").assert_one_line(&words);
    job.expect(1, "verify out");
    job.expect(0, "repair out --model model");
    assert!(whole == job.files("out"));
    // Not finished yet: neither is it gone on with.
    for file in ["dataset.json", "codebook.parquet", "tokens/part-00002.parquet"] {
        std::fs::remove_file(job.path("out").join(file)).unwrap();
    }
    put();
    job.expect(2, line).assert_one_line(&words);
    assert!(!job.path("out/tokens/part-00002.parquet").exists());
    assert_eq!(job.expect(1, "inspect out --json").events("foreign").len(), 1);
    job.expect(0, "repair out --model model");
    assert!(whole == job.files("out"));
    // All shards gone: a line and no panic.
    (0..3).for_each(|n| {
        std::fs::remove_file(job.path(&format!("out/tokens/part-{n:05}.parquet"))).unwrap();
    });
    job.expect(2, "report out --out page.html").assert_one_line(&["missing", "`vqtok repair`"]);
}

/// A bit flipped at many places of a footer: whatever the readers say, it is plain words.
#[test]
fn no_struct_of_a_library_is_told_of_a_damaged_footer() {
    let job = Job::new(4).trained();
    job.expect(0, "tokenize images --model model --out out");
    let shard = job.path("out/tokens/part-00000.parquet");
    let good = std::fs::read(&shard).unwrap();
    let footer = u32::from_le_bytes(good[good.len() - 8..][..4].try_into().unwrap()) as usize;
    let start = good.len() - 8 - footer;
    let mut told = std::collections::BTreeSet::new();
    for at in (start..good.len() - 8).step_by((footer / 120).max(1)) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&shard, &bad).unwrap();
        for line in ["verify out", "inspect out", "report out --out page.html"] {
            let done = job.run(line);
            assert!(done.code <= 2, "{line}, byte {at}: {}", done.stderr);
            for text in done.stdout.lines().chain(done.stderr.lines()) {
                let rust = ["Error {", "ErrorTrace", "Some(", "unwrap()", "Arrow: ", "Field {"];
                assert!(!rust.iter().any(|word| text.contains(word)), "{line}, byte {at}: {text}");
                assert!(text.len() < 500, "{line}, byte {at}: {text}");
                if text.contains("part-00000") {
                    told.insert(text.to_string());
                }
            }
        }
    }
    if std::env::var_os("VQTOK_SHOW").is_some() {
        told.iter().for_each(|text| println!("{text}"));
    }
    assert!(told.len() > 1, "{told:?}");
}
