//! Drives the binary with `--buckets`: which bucket an image goes into, tokens against images cropped
//! by hand, sources, kills, workers, retries, repairs, refusals. Must not know: how any of it is done.

use crate::support::containers;
use crate::support::*;
use containers::{Layout, Sample, compressed, members, samples, table, tar, zip};

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, UInt16Type};
use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const TOKENIZE: &str = "tokenize images --model model";
const BUCKETS: &str = "--buckets 16x16,24x16,16x24,32x16";
const SIZES: [(u32, u32); 4] = [(16, 16), (24, 16), (16, 24), (32, 16)];

/// A row of a shard.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    shard: String,
    key: String,
    ordinal: i64,
    flip: bool,
    /// Width and height.
    grid: (u32, u32),
    image: (u32, u32),
    /// x, y, w, h.
    crop: [i32; 4],
    tokens: Vec<u16>,
}

impl Row {
    /// Its bucket, at four pixels a token.
    fn bucket(&self) -> (u32, u32) {
        (4 * self.grid.0, 4 * self.grid.1)
    }

    fn stem(&self) -> &str {
        self.key.rsplit('/').next().unwrap().split('.').next().unwrap()
    }
}

/// All rows of an output, in the order of its shards.
fn rows(job: &Job, out: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, _) in job.files(&format!("{out}/tokens")) {
        let file = fs::File::open(job.path(out).join("tokens").join(&name)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for batch in reader.map(Result::unwrap) {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let int = |name: &str, i| column(name).as_primitive::<Int32Type>().value(i);
            let pair = |a, b, i| (int(a, i) as u32, int(b, i) as u32);
            for i in 0..batch.num_rows() {
                let tokens = column("tokens").as_list::<i32>().value(i);
                rows.push(Row {
                    shard: name.clone(),
                    key: column("key").as_string::<i32>().value(i).into(),
                    ordinal: column("ordinal").as_primitive::<Int64Type>().value(i),
                    flip: column("flip").as_boolean().value(i),
                    grid: pair("grid_width", "grid_height", i),
                    image: pair("image_width", "image_height", i),
                    crop: ["crop_x", "crop_y", "crop_w", "crop_h"].map(|name| int(name, i)),
                    tokens: tokens.as_primitive::<UInt16Type>().values().to_vec(),
                });
            }
        }
    }
    rows
}

/// A picture of any size.
fn sized(seed: u32, width: u32, height: u32) -> RgbImage {
    resize(&picture(seed), width, height, FilterType::Triangle)
}

/// A JPEG with an EXIF orientation.
fn oriented(picture: &RgbImage, orientation: u8) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut compress = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    compress.set_size(width, height);
    let mut started = compress.start_compress(Vec::new()).unwrap();
    started.write_scanlines(picture.as_raw()).unwrap();
    let jpeg = started.finish().unwrap();
    let mut exif =
        b"\xFF\xE1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

/// Images of many ratios in many formats, some of them turned by EXIF, one of them broken.
fn scene() -> Job {
    let job = Job::new(21).trained();
    for index in 0..24u32 {
        let (width, height) = (16 + index * 13 % 60, 16 + index * 29 % 50);
        let extension = ["png", "webp", "gif", "tiff"][index as usize % 4];
        let path = job.path(&format!("images/s{index:02}.{extension}"));
        sized(index, width, height).save(path).unwrap();
    }
    for orientation in 1..=8u8 {
        let bytes = oriented(&sized(orientation.into(), 40, 22), orientation);
        fs::write(job.path(&format!("images/turned{orientation}.jpg")), bytes).unwrap();
    }
    fs::write(job.path("images/m-broken.png"), b"\x89PNG").unwrap();
    job
}

/// The bucket whose ratio's logarithm is nearest.
fn nearest((width, height): (u32, u32)) -> (u32, u32) {
    let log = |(w, h): (u32, u32)| (f64::from(w) / f64::from(h)).ln();
    let far = |size| (log((width, height)) - log(size)).abs();
    let first = SIZES[0];
    SIZES.into_iter().fold(first, |best, size| if far(size) < far(best) { size } else { best })
}

#[test]
fn each_image_goes_into_the_nearest_bucket_and_each_shard_has_one_shape() {
    let job = scene();
    job.expect(1, &format!("{TOKENIZE} --out out {BUCKETS} --shard-rows 5"));
    job.expect(0, "verify out");
    let found = rows(&job, "out");
    assert_eq!(found.len(), 53);
    for row in &found {
        assert_eq!(row.bucket(), nearest(row.image), "{}", row.key);
        assert_eq!(row.tokens.len() as u32, row.grid.0 * row.grid.1);
    }
    let mut shards = BTreeMap::<&str, BTreeSet<_>>::new();
    for row in &found {
        shards.entry(&row.shard).or_default().insert(row.grid);
    }
    assert!(shards.values().all(|grids| grids.len() == 1));
    // Buckets in the order given, keys in their own within each.
    let place = |row: &Row| SIZES.iter().position(|size| *size == row.bucket()).unwrap();
    let order: Vec<_> = found.iter().map(|row| (place(row), row.key.clone())).collect();
    assert!(order.is_sorted());
    assert_eq!(order.iter().map(|(place, _)| place).collect::<BTreeSet<_>>().len(), 4);
    // Turned images lie across: five to eight stand.
    for orientation in 1..=8 {
        let row = found.iter().find(|row| row.stem() == format!("turned{orientation}")).unwrap();
        assert_eq!(row.bucket(), if orientation < 5 { (32, 16) } else { (16, 24) });
    }
    // The broken one failed in the first bucket, which is the square.
    let ordinals: BTreeSet<_> = found.iter().map(|row| row.ordinal).collect();
    let missing: Vec<_> = (0..54).filter(|ordinal| !ordinals.contains(ordinal)).collect();
    let squares = found.iter().filter(|row| row.bucket() == (16, 16)).count() as i64;
    assert!(missing.len() == 1 && missing[0] <= squares, "{missing:?} of {squares}");
    // As they are stored.
    job.expect(1, &format!("{TOKENIZE} --out stored {BUCKETS} --orientation ignore"));
    let stored = rows(&job, "stored").into_iter().filter(|row| row.key.contains("turned"));
    assert!(stored.map(|row| row.bucket()).all(|bucket| bucket == (32, 16)));
}

#[test]
fn tokens_are_those_of_images_cropped_by_hand() {
    let job = Job::new(8).trained();
    fs::remove_dir_all(job.path("images")).unwrap();
    fs::create_dir(job.path("images")).unwrap();
    fs::create_dir(job.path("hand")).unwrap();
    // Sizes that cover their bucket as they are, and what of them is seen.
    let cases = [
        ((16, 16), [0, 0, 16, 16]),
        ((16, 17), [0, 0, 16, 16]),
        ((26, 16), [1, 0, 24, 16]),
        ((24, 18), [0, 1, 24, 16]),
        ((16, 31), [0, 4, 16, 24]),
        ((18, 24), [1, 0, 16, 24]),
        ((41, 16), [4, 0, 32, 16]),
        ((32, 17), [0, 0, 32, 16]),
    ];
    for (index, ((width, height), [x, y, w, h])) in cases.into_iter().enumerate() {
        let picture = sized(index as u32, width, height);
        picture.save(job.path(&format!("images/{index}.png"))).unwrap();
        let part = crop_imm(&picture, x, y, w, h).to_image();
        part.save(job.path(&format!("hand/{index}.png"))).unwrap();
    }
    job.expect(0, &format!("{TOKENIZE} --out out {BUCKETS}"));
    job.expect(0, "tokenize hand --model model --out by-hand --resize none");
    let by_hand: BTreeMap<_, _> =
        rows(&job, "by-hand").into_iter().map(|row| (row.key.clone(), row)).collect();
    let found = rows(&job, "out");
    assert_eq!(found.len(), cases.len());
    for row in &found {
        let index: usize = row.stem().parse().unwrap();
        assert_eq!(row.crop, cases[index].1.map(|v| v as i32), "{}", row.key);
        let hand = &by_hand[&row.key];
        assert_eq!((row.grid, &row.tokens), (hand.grid, &hand.tokens), "{}", row.key);
    }
}

#[test]
fn one_square_bucket_is_a_size_under_every_rule() {
    let job = Job::new(12).trained();
    for rule in ["bicubic", "box", "taming", "llamagen", "chameleon", "dalle"] {
        job.expect(0, &format!("{TOKENIZE} --out one-{rule} --buckets 16x16 --resize {rule}"));
        job.expect(0, &format!("{TOKENIZE} --out size-{rule} --size 16 --resize {rule}"));
        job.expect(0, &format!("decode one-{rule} --model model --out a-{rule}"));
        job.expect(0, &format!("decode size-{rule} --model model --out b-{rule}"));
        job.assert_same(&format!("a-{rule}"), &format!("b-{rule}"));
    }
    job.expect(0, &format!("{TOKENIZE} --out flips {BUCKETS} --views flips"));
    let flips = rows(&job, "flips");
    assert_eq!(flips.len(), 24);
    assert!(
        flips.chunks(2).all(|pair| !pair[0].flip && pair[1].flip && pair[0].crop == pair[1].crop)
    );
    job.expect(0, "verify flips");
}

/// The scene's images as samples.
fn packed(job: &Job) {
    let samples = samples(job.files("images"));
    let files = |samples: &[Sample]| -> Vec<(String, Vec<u8>)> {
        let name = |s: &Sample| (format!("{}.{}", s.key, s.extension), s.bytes.clone());
        samples.iter().map(name).collect()
    };
    let packed = tar(&members(&samples));
    fs::write(job.path("a.tar.gz"), compressed("gz", &packed)).unwrap();
    fs::write(job.path("a.tar"), packed).unwrap();
    table(&job.path("a.parquet"), &samples, Layout::Struct, 7);
    fs::write(job.path("a.zip"), zip(&files(&samples))).unwrap();
    for name in ["a.tar.gz", "a.tar", "a.parquet", "a.zip"] {
        let time = SystemTime::now() - Duration::from_secs(7200);
        fs::File::options().write(true).open(job.path(name)).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn every_source_gives_the_same_tokens_and_is_found_unchanged() {
    let job = scene();
    packed(&job);
    let line = |input: &str, out: &str| {
        format!("tokenize {input} --model model --out {out} {BUCKETS} --shard-rows 6 --json")
    };
    job.expect(1, &line("images", "folder"));
    let by_name = |out: &str| -> BTreeMap<String, _> {
        let rows = rows(&job, out).into_iter();
        let name =
            |row: &Row| row.stem().trim_start_matches("cat_").trim_start_matches("dog_").into();
        rows.map(|row| (name(&row), (row.grid, row.crop, row.tokens))).collect()
    };
    let folder = by_name("folder");
    assert_eq!(folder.len(), 53);
    for input in ["a.tar", "a.tar.gz", "a.parquet", "a.zip"] {
        let out = input.replace('.', "-");
        job.expect(1, &line(input, &out));
        assert!(by_name(&out) == folder, "{input}");
        job.expect(0, &format!("verify {out}"));
        let whole = job.files(&out);
        let again = job.expect(1, &line(input, &out));
        assert_eq!(again.events("plan")[0]["unchanged_containers"], 1, "{input}");
        // Written to since: its images are listed, and found to be the same, in another order.
        let file = fs::File::options().append(true).open(job.path(input)).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        let again = job.expect(1, &line(input, &out));
        assert_eq!(again.events("plan")[0]["unchanged_containers"], 0, "{input}");
        assert!(job.files(&out) == whole, "{input}");
        let diff = job.expect(0, &format!("plan {input} --diff {out}"));
        assert!(diff.stdout.contains("nothing has changed"), "{}", diff.stdout);
        for worker in [1, 0] {
            let share = format!("{} --partition {worker}/2", line(input, &format!("{out}-shared")));
            assert!(job.run(&share).code <= 1);
        }
        job.assert_same(&out, &format!("{out}-shared"));
    }
}

#[test]
fn an_output_is_the_same_whatever_the_batch_threads_and_kills() {
    let job = scene();
    let line = format!("{TOKENIZE} {BUCKETS} --shard-rows 5");
    job.expect(1, &format!("{line} --out whole"));
    for flags in ["--batch-size 1 --threads 1", "--batch-size 3", "--batch-size 64 --threads 2"] {
        job.expect(1, &format!("{line} --out other {flags}"));
        job.assert_same("whole", "other");
        fs::remove_dir_all(job.path("other")).unwrap();
    }
    let mut command = job.command(&format!("{line} --out killed --batch-size 1 --threads 1"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (started, shard) = (Instant::now(), job.path("killed/tokens/part-00001.parquet"));
    while !shard.exists() && child.try_wait().unwrap().is_none() && started.elapsed().as_secs() < 60
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    child.wait().unwrap();
    job.expect(1, &format!("{line} --out killed"));
    job.assert_same("whole", "killed");
    // Moved images are found by their keys.
    fs::rename(job.path("images"), job.path("elsewhere")).unwrap();
    let moved = line.replace("images", "elsewhere");
    fs::remove_file(job.path("killed/tokens/part-00002.parquet")).unwrap();
    let told = job.expect(1, &format!("{moved} --out killed")).stderr;
    assert!(told.contains("elsewhere"), "{told}");
    job.assert_same("whole", "killed");
}

#[test]
fn retries_and_repairs_make_the_same_shards() {
    let job = scene();
    let good = fs::read(job.path("images/s03.tiff")).unwrap();
    let line = format!("{TOKENIZE} {BUCKETS} --shard-rows 5");
    fs::write(job.path("images/m-broken.png"), fs::read(job.path("images/0000.png")).unwrap())
        .unwrap();
    job.expect(0, &format!("{line} --out out"));
    fs::write(job.path("images/s03.tiff"), &good[..good.len() / 2]).unwrap();
    job.expect(2, &format!("{line} --out out")).assert_one_line(&["1 changed ('s03.tiff' had"]);
    fs::write(job.path("images/s03.tiff"), vec![0; good.len()]).unwrap();
    job.expect(1, &format!("{line} --out retried"));
    fs::write(job.path("images/s03.tiff"), &good).unwrap();
    // It is one of the bucket that it was planned for, the one nearest to a square.
    job.expect(0, &format!("{line} --out retried --retry-failed"));
    let row = |out: &str| rows(&job, out).into_iter().find(|row| row.stem() == "s03").unwrap();
    assert_eq!(row("retried").bucket(), (16, 16));
    assert_eq!(row("out").bucket(), nearest(row("out").image));
    job.expect(0, "verify retried");
    fs::rename(job.path("out"), job.path("whole")).unwrap();
    job.expect(0, &format!("{line} --out out"));
    job.assert_same("whole", "out");
    fs::write(job.path("out/tokens/part-00001.parquet"), b"lost").unwrap();
    job.expect(0, "repair out --model model");
    job.assert_same("whole", "out");
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    let told = job.expect(2, "repair out");
    told.assert_one_line(&[
        "it can't be rebuilt: the order",
        "run the same `vqtok tokenize` again",
    ]);
    job.expect(0, &format!("{line} --out out"));
    job.assert_same("whole", "out");
    job.expect(0, "decode out --model model --out pictures");
    assert_eq!(job.files("pictures").len(), 54);
    job.expect(0, "report out --out page.html");
    job.expect(0, "inspect out");
}

#[test]
fn new_images_are_appended_in_buckets_of_their_own() {
    let job = scene();
    let first: Vec<String> =
        job.files("images").into_iter().map(|(name, _)| name).step_by(2).collect();
    for (name, bytes) in job.files("images") {
        let folder = if first.contains(&name) { "begun" } else { "later" };
        let path = job.path(folder).join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let flags = format!("--model model {BUCKETS} --shard-rows 3 --append");
    job.run(&format!("tokenize begun --out out {flags}"));
    let before = job.files("out/tokens");
    for (name, bytes) in job.files("later") {
        let path = job.path("begun").join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    job.expect(1, &format!("tokenize begun --out out {flags}"));
    job.expect(1, &format!("tokenize images --out whole --model model {BUCKETS} --shard-rows 3"));
    job.expect(0, "verify out");
    let now: BTreeMap<_, _> = job.files("out/tokens").into_iter().collect();
    assert!(before.iter().all(|(name, bytes)| now[name] == *bytes) && now.len() > before.len());
    let by_key = |out: &str| -> BTreeMap<String, (Vec<u16>, (u32, u32))> {
        rows(&job, out).into_iter().map(|row| (row.key, (row.tokens, row.grid))).collect()
    };
    assert_eq!(by_key("out"), by_key("whole"));
    let mut shapes: BTreeMap<String, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for row in rows(&job, "out") {
        shapes.entry(row.shard).or_default().insert(row.grid);
    }
    assert!(shapes.values().all(|shapes| shapes.len() == 1));
    // Nothing is new: no byte changes.
    let files = job.files("out");
    job.expect(1, &format!("tokenize begun --out out {flags}"));
    assert!(job.files("out") == files);
}

#[test]
fn what_changes_is_told_in_the_order_of_the_inputs() {
    let job = scene();
    let line = format!("{TOKENIZE} {BUCKETS} --out out");
    job.expect(1, &line);
    sized(1, 30, 30).save(job.path("images/a.png")).unwrap();
    job.expect(2, &line).assert_one_line(&["1 new ('a.png'), 0 gone, 0 changed"]);
    fs::remove_file(job.path("images/a.png")).unwrap();
    let last = fs::read(job.path("images/turned8.jpg")).unwrap();
    fs::remove_file(job.path("images/turned8.jpg")).unwrap();
    job.expect(2, &line).assert_one_line(&["0 new, 1 gone ('turned8.jpg'), 0 changed"]);
    let diff = job.expect(1, "plan images --diff out");
    assert!(diff.stdout.contains("1 gone (turned8.jpg)"), "{}", diff.stdout);
    fs::write(job.path("images/turned8.jpg"), last).unwrap();
    job.expect(1, &line);
}

#[test]
fn what_cannot_be_a_bucket_is_refused_by_name() {
    let job = Job::new(3).trained();
    let refused = |flags: &str, words: &[&str]| {
        job.expect(2, &format!("{TOKENIZE} {flags}")).assert_one_line(words);
        assert!(!job.path("no/plan.parquet").exists(), "{flags}");
    };
    refused("--out no --buckets 16x18", &["--buckets 16x18", "factor, 4", "16x20"]);
    refused("--out no --buckets 16x16,16x16", &["--buckets 16x16 comes twice"]);
    refused("--out no --buckets 16x16,32x32", &["--buckets 16x16 and 32x32 have one aspect ratio"]);
    refused("--out no --buckets 16x16 --size 16", &["--buckets and --size 16"]);
    refused("--out no --buckets 16x16 --resize none", &["--buckets", "rule none", "--resize"]);
    refused("--out no --buckets 16x16 --resize pad", &["--buckets", "rule pad"]);
    refused("--out no --buckets 16x16 --views ten-crop", &["--buckets and --views ten-crop=1.1"]);
    refused("--out no --buckets 65536x65536", &["--buckets 65536x65536 doesn't suit", "tokens"]);
    let bad = job.expect(2, &format!("{TOKENIZE} --out no --buckets 16y16"));
    assert!(bad.stderr.contains("--buckets") && bad.stderr.contains("512x512"), "{}", bad.stderr);
    // Before a training.
    let early = "tokenize images --model new --recipe tiny.toml --out no --buckets 16 --size 16";
    job.expect(2, early).assert_one_line(&["--buckets and --size 16"]);
    assert!(!job.path("new").exists());
    job.expect(0, &format!("{TOKENIZE} --out out --buckets 16x16,24x16"));
    job.expect(0, &format!("{TOKENIZE} --out plain"));
    refused("--out out", &["made with --buckets 16x16,24x16", "has none"]);
    refused("--out out --buckets 24x16,16x16", &["made with --buckets 16x16,24x16", "24x16,16x16"]);
    refused("--out plain --buckets 16x16", &["made with no --buckets", "16x16"]);
    job.expect(0, &format!("{TOKENIZE} --out out --buckets 16:1:1,24x16"));
    let says = fs::read_to_string(job.path("plain/dataset.json")).unwrap();
    assert!(!says.contains("buckets"), "{says}");
}

#[test]
fn a_mended_image_of_another_bucket_stays_a_failure_that_says_so() {
    let job = scene();
    let line = format!("{TOKENIZE} {BUCKETS} --out out --shard-rows 5");
    let good = fs::read(job.path("images/turned1.jpg")).unwrap();
    fs::write(job.path("images/m-broken.png"), fs::read(job.path("images/0000.png")).unwrap())
        .unwrap();
    fs::write(job.path("images/turned1.jpg"), vec![0; good.len()]).unwrap();
    job.expect(1, &line);
    fs::write(job.path("images/turned1.jpg"), &good).unwrap();
    let told = job.expect(1, &format!("{line} --retry-failed")).stderr;
    let why = "turned1.jpg: resize: its shape, 40x22, is of the bucket 32x16, and it was planned for \
               16x16, when it was another one or couldn't be read; append it under another name";
    assert!(told.contains(why), "{told}");
    job.expect(0, "verify out");
    assert!(rows(&job, "out").iter().all(|row| row.bucket() == nearest(row.image)));
    fs::rename(job.path("images/turned1.jpg"), job.path("images/turned1b.jpg")).unwrap();
    job.expect(1, &format!("{line} --append"));
    let row = rows(&job, "out").into_iter().find(|row| row.stem() == "turned1b").unwrap();
    assert_eq!(row.bucket(), (32, 16));
}

#[test]
fn an_output_whose_plan_was_lost_goes_on_with_its_own_images() {
    let job = scene();
    let line = format!("{TOKENIZE} {BUCKETS} --out out --shard-rows 5");
    job.expect(1, &line);
    let whole = job.files("out");
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    sized(3, 30, 20).save(job.path("images/new.png")).unwrap();
    let told = job.expect(2, &line);
    told.assert_one_line(&[
        "part-00000.parquet is of another plan, and nothing is overwritten",
        "give exactly the INPUTs that it was made of, with what came since out of their way",
        "--append afterwards",
    ]);
    job.expect(2, "repair out").assert_one_line(&["must be out of the way", "--append adds them"]);
    fs::rename(job.path("images/new.png"), job.path("new.png")).unwrap();
    job.expect(1, &line);
    assert!(job.files("out") == whole);
    fs::rename(job.path("new.png"), job.path("images/new.png")).unwrap();
    job.expect(1, &format!("{line} --append"));
    assert!(rows(&job, "out").iter().any(|row| row.key == "new.png"));
}

#[test]
fn how_many_images_each_bucket_gets_is_told_before_anything_is_tokenized() {
    let job = scene();
    let line = "plan images --rows 1 --model model";
    let told = job.expect(0, &format!("{line} {BUCKETS} --json")).events("bucket");
    job.expect(1, &format!("{TOKENIZE} --out out {BUCKETS}"));
    let found = rows(&job, "out");
    assert_eq!(told.len(), SIZES.len());
    for ((width, height), told) in SIZES.into_iter().zip(&told) {
        let images = found.iter().filter(|row| row.bucket() == (width, height)).count();
        // The broken one goes with the squares.
        let broken = usize::from((width, height) == (16, 16));
        assert_eq!((&told["width"], &told["height"]), (&width.into(), &height.into()));
        assert_eq!(told["images"], images + broken, "{width}x{height}");
    }
    let text = job.expect(0, &format!("{line} {BUCKETS}")).stdout;
    assert!(text.contains(&format!("bucket 24x16: {} images\n", told[1]["images"])), "{text}");
    job.expect(2, &format!("{line} --buckets 18x16"))
        .assert_one_line(&["--buckets 18x16", "factor, 4"]);
    assert!(job.run("plan images --buckets 16x16").stderr.contains("--model"));
}
