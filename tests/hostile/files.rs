//! Owns the promises towards images, recipes, plans and shards that somebody made to do harm: an
//! answer within bounded time and memory, and no path that leaves the output folder. Drives the
//! functions that the fuzz targets drive (`fuzz/`), with damaged copies of valid files.
//! Must not know: pickles (`tests/models/pickle.rs`), the corpus of odd images (`images.rs`).
//!
//! The long run, by hand, ten minutes a target:
//! `VQTOK_HAMMER_SECONDS=600 cargo test --release --test hostile files -- --ignored --test-threads=1`.

use crate::support::drive;
use crate::support::outputs;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::random::Random;
use crate::support::{Job, shared};
use parquet::file::metadata::{
    ColumnChunkMetaDataBuilder, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
    RowGroupMetaData,
};

/// What one input may take, on a busy machine.
const SECONDS_MAX: f64 = 10.0;
/// Above what the process held before.
const MEBIBYTES_MAX: u64 = 512;

/// Numbers that are wrong nearly everywhere.
const NUMBERS: [u64; 8] =
    [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

/// Changes a few bytes, half of the times in the last `tail` of them.
fn damage(random: &mut Random, bytes: &mut Vec<u8>, tail: usize) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let footer = tail > 0 && random.below(2) == 0;
        let from = if footer { bytes.len() - tail.min(bytes.len()) } else { 0 };
        let at = from + random.below(bytes.len() - from);
        match random.below(8) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next() as u8,
            3 => {
                let number = NUMBERS[random.below(8)].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                let end = bytes.len().min(at + width);
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => {
                let end = bytes.len().min(at + 1 + random.below(8));
                bytes.drain(at..end);
            }
            5 if random.below(8) == 0 => bytes.truncate(at),
            _ => {
                let length = random.below(24).min(bytes.len() - at);
                let piece = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

/// Changes words and numbers of a text.
fn reword(random: &mut Random, text: &mut Vec<u8>) {
    const WORDS: [&str; 16] = [
        "0",
        "1",
        "-1",
        "1e400",
        "nan",
        "18446744073709551615",
        "9223372036854775807",
        "true",
        "\"\"",
        "[]",
        "{}",
        "[model]",
        "= {",
        "\n",
        "'''",
        "4294967296",
    ];
    for _ in 0..=random.below(3) {
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
        let start = random.below(text.len());
        let start = text[..start].iter().rposition(|b| !is_word(b)).map_or(0, |at| at + 1);
        let length = text[start..].iter().position(|b| !is_word(b)).unwrap_or(0);
        let word = WORDS[random.below(WORDS.len())].bytes();
        text.splice(start..start + length, word);
    }
}

fn peak_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// When enough has been tried.
#[derive(Clone, Copy)]
enum Until {
    /// So many inputs: the same ones on every machine.
    Inputs(u64),
    /// So long.
    Over(Duration),
}

/// Drives `door` with damaged seeds. How many there were, and how many of them were accepted.
fn hammer(
    name: &str,
    seeds: &[Vec<u8>],
    until: Until,
    damage: impl Fn(&mut Random, &mut Vec<u8>),
    door: impl Fn(&[u8]) -> bool,
) {
    for (index, seed) in seeds.iter().enumerate() {
        assert!(door(seed), "seed {index} of {name} is refused");
    }
    let before = peak_mebibytes();
    // A crash leaves its input here.
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{name}.last"));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (start, mut runs, mut accepted, mut slowest) = (Instant::now(), 0, 0, 0.0_f64);
    while match until {
        Until::Inputs(inputs) => runs < inputs,
        Until::Over(time) => start.elapsed() < time,
    } {
        runs += 1;
        let mut bytes = seeds[random.below(seeds.len())].clone();
        damage(&mut random, &mut bytes);
        std::fs::write(&last, &bytes).unwrap();
        let begun = Instant::now();
        accepted += u64::from(door(&bytes));
        let seconds = begun.elapsed().as_secs_f64();
        assert!(seconds < SECONDS_MAX, "{}: {seconds} s", last.display());
        slowest = slowest.max(seconds);
    }
    std::fs::remove_file(&last).unwrap();
    let more = peak_mebibytes() - before;
    println!(
        "{name}: {runs} damaged files, {accepted} of them accepted; the slowest {:.0} ms, {more} \
         MiB more at the peak",
        slowest * 1e3
    );
    assert!(accepted < runs && more < MEBIBYTES_MAX);
}

/// Pictures of our own in every format that can be written here, and the small ones of the corpus.
fn images() -> Vec<Vec<u8>> {
    use image::ImageFormat::{Bmp, Gif, Png, Pnm, Qoi, Tiff, WebP};
    let picture = crate::support::picture(7);
    let own = [Bmp, Gif, Png, Pnm, Qoi, Tiff, WebP].map(|format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    });
    let mut seeds = own.to_vec();
    let Some(folder) = shared("images/nasty/files") else { return seeds };
    let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    let small = files.filter(|file| file.metadata().is_ok_and(|facts| facts.len() < 6000));
    let small = small.filter(|file| file.file_type().is_file());
    let bytes = small.map(|file| std::fs::read(file.path()).unwrap());
    seeds.extend(bytes.filter(|bytes| drive::image(bytes)));
    seeds
}

fn hammer_images(until: Until) {
    hammer("image", &images(), until, |random, bytes| damage(random, bytes, 0), drive::image);
}

fn hammer_recipes(until: Until) {
    let own = vqtok::internals::config::RECIPES.map(|(_, text)| text.as_bytes().to_vec());
    let change = |random: &mut Random, bytes: &mut Vec<u8>| match random.below(4) {
        0 => damage(random, bytes, 0),
        _ => reword(random, bytes),
    };
    hammer("recipe", &own, until, change, drive::recipe);
}

/// A finished output of three shards, and a driver for it.
fn output() -> (tempfile::TempDir, drive::Output) {
    let dir = tempfile::tempdir().unwrap();
    outputs::job(dir.path(), 25, 10).unwrap();
    let output = drive::Output::at(dir.path());
    (dir, output)
}

/// As many bytes as the footer of a Parquet file has, with its length and mark.
fn footer(bytes: &[u8]) -> usize {
    let at = bytes.len() - 8;
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize + 8
}

fn hammer_plans(until: Until) {
    let (_dir, output) = output();
    let tail = footer(&output.plan);
    let change = |random: &mut Random, bytes: &mut Vec<u8>| damage(random, bytes, tail);
    hammer("plan", std::slice::from_ref(&output.plan), until, change, |bytes| output.plan(bytes));
}

fn hammer_shards(until: Until) {
    let (_dir, output) = output();
    let tail = footer(&output.shard);
    let change = |random: &mut Random, bytes: &mut Vec<u8>| damage(random, bytes, tail);
    hammer("shard", std::slice::from_ref(&output.shard), until, change, |bytes| {
        output.shard(bytes)
    });
}

#[test]
fn damaged_images_do_no_harm() {
    hammer_images(Until::Inputs(4_000));
}

#[test]
fn damaged_recipes_do_no_harm() {
    hammer_recipes(Until::Inputs(4_000));
}

#[test]
fn damaged_plans_do_no_harm() {
    hammer_plans(Until::Inputs(800));
}

#[test]
fn damaged_shards_do_no_harm() {
    hammer_shards(Until::Inputs(800));
}

#[test]
#[ignore = "takes as long as VQTOK_HAMMER_SECONDS says, four times"]
fn damage_does_no_harm_for_long() {
    let seconds = std::env::var("VQTOK_HAMMER_SECONDS").ok().and_then(|s| s.parse().ok());
    let time = Until::Over(Duration::from_secs(seconds.unwrap_or(600)));
    let only = std::env::var("VQTOK_HAMMER_ONLY").ok();
    let targets: [(&str, fn(Until)); 4] = [
        ("image", hammer_images),
        ("recipe", hammer_recipes),
        ("plan", hammer_plans),
        ("shard", hammer_shards),
    ];
    for (name, target) in targets {
        if only.as_deref().is_none_or(|only| only == name) {
            target(time);
        }
    }
}

/// Sizes are refused when a recipe is read, not when memory for them is asked for.
#[test]
fn recipes_of_impossible_sizes_are_refused() {
    let text = vqtok::internals::config::RECIPES
        .iter()
        .find(|(name, _)| *name == "vqgan-f16-256")
        .unwrap()
        .1;
    let text = &format!("{text}\n[tokenize]\nbatch_size = 31\n");
    let numbers = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(" = ")?;
        value.parse::<u64>().is_ok().then_some((name, line))
    });
    let mut refused = Vec::new();
    for (name, line) in numbers {
        let huge = text.replacen(line, &format!("{name} = 4294967295"), 1);
        if let Err(error) = vqtok::internals::config::Recipe::parse(&huge, "huge") {
            assert!(error.to_string().contains(name), "{error}");
            refused.push(name);
        }
    }
    let sizes = ["channels", "codes", "dim", "ch", "res_blocks", "z_channels", "norm_groups"];
    let training = ["size", "steps", "batch_size", "micro_batch", "checkpoint_every", "batch_size"];
    assert_eq!(refused, [&sizes[..], &training].concat());
    let wide = text.replace("widths = [128, 128", "widths = [128, 4294967296");
    assert!(vqtok::internals::config::Recipe::parse(&wide, "wide").is_err());
}

type Lie = fn(RowGroupMetaData) -> RowGroupMetaData;

/// Changes of a footer's row groups that agree with themselves and lie about what is in the file.
const LIES: [(&str, Lie); 8] = [
    ("rows", |g| with_rows(g, HUGE)),
    ("negative rows", |g| with_rows(g, -1)),
    ("values", |g| with_columns(g, |c| c.set_num_values(HUGE))),
    ("few values", |g| with_columns(g, |c| c.set_num_values(1))),
    ("rows and values", |g| with_columns(with_rows(g, HUGE), |c| c.set_num_values(HUGE))),
    ("length", |g| with_columns(g, |c| c.set_total_compressed_size(HUGE))),
    ("offset", |g| with_columns(g, |c| c.set_data_page_offset(HUGE))),
    ("offset before the file", |g| with_columns(g, |c| c.set_data_page_offset(-5))),
];

const HUGE: i64 = 1 << 60;

fn with_rows(group: RowGroupMetaData, rows: i64) -> RowGroupMetaData {
    group.into_builder().set_num_rows(rows).build().unwrap()
}

fn with_columns(
    group: RowGroupMetaData,
    change: fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder,
) -> RowGroupMetaData {
    let columns = group.columns().iter().cloned();
    let columns = columns.map(|column| change(column.into_builder()).build().unwrap()).collect();
    group.into_builder().set_column_metadata(columns).build().unwrap()
}

/// The file with the footer that `lie` makes of its own.
fn with_footer(bytes: &[u8], lie: Lie) -> Vec<u8> {
    let body = bytes.len() - footer(bytes);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
    let groups = metadata.row_groups().iter().cloned().map(lie).collect();
    let metadata: ParquetMetaData = metadata.into_builder().set_row_groups(groups).build();
    let mut out = bytes[..body].to_vec();
    ParquetMetaDataWriter::new(&mut out, &metadata).finish().unwrap();
    out
}

#[test]
fn lying_footers_are_errors_that_cost_nothing() {
    let (_dir, output) = output();
    let before = peak_mebibytes();
    for (name, lie) in LIES {
        let begun = Instant::now();
        let plan = with_footer(&output.plan, lie);
        assert!(!output.plan(&plan), "a plan that lies about its {name}");
        output.restore();
        let shard = with_footer(&output.shard, lie);
        assert!(!output.shard(&shard), "a shard that lies about its {name}");
        output.restore();
        assert!(begun.elapsed() < Duration::from_secs(2), "{name}: {:?}", begun.elapsed());
    }
    assert!(peak_mebibytes() - before < 64);
    assert!(output.plan(&output.plan) && output.shard(&output.shard));
}

/// Keys of a Parquet that somebody else wrote name no file outside of the folder for the pictures.
#[test]
fn no_key_leads_out_of_the_output_folder() {
    use arrow::array::{ArrayRef, FixedSizeListArray, StringArray, UInt16Array};
    use std::sync::Arc;
    let job = Job::new(4).trained();
    let long = "x".repeat(3000);
    let deep = "d/".repeat(400) + "end.png";
    let outside = job.path("evil").to_string_lossy().into_owned();
    let keys = [
        "../evil.png",
        "../../evil.png",
        "/etc/evil.png",
        &outside,
        "a/../../evil",
        "..",
        ".",
        "",
        "a\0b.png",
        "..\\evil.png",
        "~/evil.png",
        &long,
        &deep,
        "c:/evil",
        "-rf",
        "same",
        "same",
    ];
    let field =
        Arc::new(arrow::datatypes::Field::new("item", arrow::datatypes::DataType::UInt16, false));
    let codes: ArrayRef = Arc::new(UInt16Array::from(vec![0; keys.len() * 16]));
    let tokens = FixedSizeListArray::try_new(field, 16, codes, None).unwrap();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("key", Arc::new(StringArray::from(keys.to_vec()))), ("tokens", Arc::new(tokens))];
    let batch = arrow::array::RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(job.path("t.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let before = job.files(".").len();
    job.expect(0, "decode t.parquet --model model --out deep/pictures");
    assert_eq!(job.files("deep/pictures").len(), keys.len());
    assert_eq!(job.files(".").len(), before + keys.len(), "a picture lies elsewhere");
    assert!(!Path::new("/etc/evil.png").exists());
}

/// A `dataset.json` that names files elsewhere is a finding; no such file is read or touched.
#[test]
fn no_path_of_a_summary_is_followed() {
    use sha2::{Digest, Sha256};
    let dir = tempfile::tempdir().unwrap();
    let (out, outside) = (dir.path().join("out"), dir.path().join("outside.parquet"));
    outputs::job(&out, 25, 10).unwrap();
    let whole = outputs::tree(&out);
    std::fs::copy(out.join("tokens/part-00001.parquet"), &outside).unwrap();
    let text = std::fs::read_to_string(out.join("dataset.json")).unwrap();
    let (body, _) = text.rsplit_once("  \"self_sha256\"").unwrap();
    for (path, lie) in [
        ("tokens/part-00001.parquet", "../outside.parquet"),
        ("plan.parquet", "/etc/passwd"),
        ("codebook.parquet", "../../../../etc/passwd"),
    ] {
        let body = body.replace(&format!("\"{path}\""), &format!("\"{lie}\""));
        assert!(body.contains(lie));
        let digest: String =
            Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        let lying = format!("{body}  \"self_sha256\": \"{digest}\"\n}}\n");
        std::fs::write(out.join("dataset.json"), lying).unwrap();
        assert!(!vqtok::internals::audit::verify(&out).unwrap().clean(), "{lie}");
        std::fs::write(out.join("dataset.json"), &text).unwrap();
    }
    assert!(vqtok::internals::audit::verify(&out).unwrap().clean());
    assert!(whole == outputs::tree(&out) && outside.exists());
}
