//! Drives the binary with `--views`: rows, their tokens against images cropped by hand, kills,
//! workers, retries, repairs, refusals. Must not know: how pixels are made.

use crate::support::*;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, UInt16Type};
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const TOKENIZE: &str = "tokenize images --model model";

/// A row of a shard.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: String,
    ordinal: i64,
    view: i32,
    flip: bool,
    /// x, y, w, h.
    crop: [i32; 4],
    tokens: Vec<u16>,
}

/// All rows of an output, in the order of its shards.
fn rows(job: &Job, out: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, _) in job.files(&format!("{out}/tokens")) {
        let file = std::fs::File::open(job.path(out).join("tokens").join(name)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for batch in reader.map(Result::unwrap) {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let int = |name: &str, i| column(name).as_primitive::<Int32Type>().value(i);
            for i in 0..batch.num_rows() {
                let tokens = column("tokens").as_fixed_size_list().value(i);
                rows.push(Row {
                    key: column("key").as_string::<i32>().value(i).into(),
                    ordinal: column("ordinal").as_primitive::<Int64Type>().value(i),
                    view: int("view", i),
                    flip: column("flip").as_boolean().value(i),
                    crop: ["crop_x", "crop_y", "crop_w", "crop_h"].map(|name| int(name, i)),
                    tokens: tokens.as_primitive::<UInt16Type>().values().to_vec(),
                });
            }
        }
    }
    rows
}

/// The tokens of pictures made by hand, by name.
fn tokens_of(
    job: &Job,
    folder: &str,
    flags: &str,
    pictures: &[(String, RgbImage)],
) -> BTreeMap<String, Vec<u16>> {
    std::fs::create_dir(job.path(folder)).unwrap();
    for (name, picture) in pictures {
        picture.save(job.path(folder).join(format!("{name}.png"))).unwrap();
    }
    job.expect(0, &format!("tokenize {folder} --model model --out {folder}-out {flags}"));
    let rows = rows(job, &format!("{folder}-out")).into_iter();
    rows.map(|row| (row.key.trim_end_matches(".png").to_string(), row.tokens)).collect()
}

/// Pictures of a short side of 20 pixels, which a side of int(16 * 1.25) keeps as they are.
fn scene() -> Job {
    let job = Job::new(0);
    std::fs::create_dir(job.path("images")).unwrap();
    for (index, (width, height)) in
        [(40, 20), (20, 20), (20, 33), (25, 20), (20, 24), (31, 20)].into_iter().enumerate()
    {
        let large = image::imageops::resize(
            &picture(index as u32),
            width,
            height,
            image::imageops::FilterType::Triangle,
        );
        large.save(job.path(&format!("images/{index}.png"))).unwrap();
    }
    job.trained()
}

fn image_of(job: &Job, row: &Row) -> RgbImage {
    image::open(job.path("images").join(&row.key)).unwrap().to_rgb8()
}

fn cropped(job: &Job, row: &Row) -> RgbImage {
    let [x, y, w, h] = row.crop.map(|v| v as u32);
    crop_imm(&image_of(job, row), x, y, w, h).to_image()
}

fn name(row: &Row) -> String {
    format!("{}-{}", row.key.trim_end_matches(".png"), row.view)
}

fn dataset(job: &Job, out: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(job.path(out).join("dataset.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn ten_crops_have_the_tokens_of_images_cropped_by_hand() {
    let job = scene();
    let done = job.expect(0, &format!("{TOKENIZE} --out out --views ten-crop=1.25 --json"));
    let ended = &done.events("tokenized")[0];
    assert_eq!((&ended["images"], &ended["written"]), (&6.into(), &6.into()));
    let (says, found) = (dataset(&job, "out"), rows(&job, "out"));
    assert_eq!(says["identity"]["preprocessing"]["views"], "ten-crop=1.25");
    let totals = &says["totals"];
    assert_eq!(
        [&totals["planned"], &totals["written"], &totals["failed"], &totals["rows"]],
        [6, 6, 0, 60]
    );
    assert_eq!(totals["tokens"], 60 * 16);
    job.expect(0, "verify out");
    let order: Vec<_> = found.iter().map(|row| (row.ordinal, row.view, row.flip)).collect();
    let due = |i: i64| (i / 10, (i % 10) as i32, i % 10 >= 5);
    assert_eq!(order, (0..60).map(due).collect::<Vec<_>>());
    // (31 - 20) / 2 = 5.5 is rounded to 6, torchvision's round; four pixels are left over.
    let wide: Vec<_> = found[50..].iter().map(|row| (row.crop[0], row.crop[1])).collect();
    let corners = [(6, 0), (10, 0), (6, 4), (10, 4), (8, 2)];
    let mirrored = [(10, 0), (6, 0), (10, 4), (6, 4), (8, 2)];
    assert_eq!(wide, [corners, mirrored].concat());
    assert!(found.iter().all(|row| row.crop[2..] == [16, 16]));
    let by_hand: Vec<_> = found
        .iter()
        .map(|row| {
            let part = cropped(&job, row);
            (name(row), if row.flip { flip_horizontal(&part) } else { part })
        })
        .collect();
    let tokens = tokens_of(&job, "hand", "", &by_hand);
    assert!(found.iter().all(|row| tokens[&name(row)] == row.tokens));
    assert!(found.iter().any(|row| row.tokens != found[0].tokens));
}

#[test]
fn flips_are_the_image_and_its_mirror() {
    let job = scene();
    job.expect(0, &format!("{TOKENIZE} --out plain"));
    job.expect(0, &format!("{TOKENIZE} --out out --views flips"));
    job.expect(0, "verify out");
    let (plain, found) = (rows(&job, "plain"), rows(&job, "out"));
    assert_eq!((plain.len(), found.len()), (6, 12));
    let not = |row: &Row| (row.view, row.flip) == (0, false);
    assert!(plain.iter().all(not));
    let first: Vec<_> = found.iter().filter(|row| row.view == 0).cloned().collect();
    assert_eq!(first, plain);
    let second: Vec<_> = found.iter().filter(|row| row.view == 1).collect();
    assert!(second.iter().zip(&plain).all(|(row, of)| row.flip && row.crop == of.crop));
    // The middle 16 x 16 of a picture that isn't resized, mirrored.
    let job = scene();
    let square = crop_imm(&picture(9), 0, 0, 16, 16).to_image();
    std::fs::remove_dir_all(job.path("images")).unwrap();
    std::fs::create_dir(job.path("images")).unwrap();
    square.save(job.path("images/a.png")).unwrap();
    job.expect(0, &format!("{TOKENIZE} --out out --views flips"));
    let tokens = tokens_of(&job, "hand", "", &[("a".into(), flip_horizontal(&square))]);
    assert_eq!(rows(&job, "out")[1].tokens, tokens["a"]);
    // An output without views says nothing of them.
    job.expect(0, &format!("{TOKENIZE} --out plain"));
    assert!(dataset(&job, "plain")["identity"]["preprocessing"].get("views").is_none());
}

#[test]
fn random_crops_are_what_their_rows_say() {
    let job = scene();
    job.expect(0, &format!("{TOKENIZE} --out out --views random-crops=7"));
    job.expect(0, "verify out");
    let found = rows(&job, "out");
    assert_eq!(found.len(), 42);
    let flips = found.iter().filter(|row| row.flip).count();
    assert!((8..=34).contains(&flips), "{flips}");
    // The rule `stretch` does to a whole image what `bicubic` does to a part.
    let straight: Vec<&Row> = found.iter().filter(|row| !row.flip).collect();
    let parts: Vec<_> = straight.iter().map(|row| (name(row), cropped(&job, row))).collect();
    let tokens = tokens_of(&job, "hand", "--resize stretch", &parts);
    assert!(straight.iter().all(|row| tokens[&name(row)] == row.tokens));
    // A view is drawn from key and number: fewer views are the first of them, in another folder too.
    std::fs::create_dir(job.path("other")).unwrap();
    std::fs::copy(job.path("images/3.png"), job.path("other/3.png")).unwrap();
    job.expect(0, "tokenize other --model model --out few --views random-crops=3");
    let few: Vec<Row> = rows(&job, "few").into_iter().map(|r| Row { ordinal: 3, ..r }).collect();
    assert_eq!(few, found[21..24]);
}

#[test]
fn an_output_is_the_same_whatever_the_batch_threads_kills_and_workers() {
    let job = Job::new(30).trained();
    std::fs::write(job.path("images/dog/broken.png"), b"\x89PNG").unwrap();
    for views in ["flips", "ten-crop", "random-crops=5"] {
        let line = format!("{TOKENIZE} --views {views} --shard-rows 8");
        job.expect(1, &format!("{line} --out whole"));
        let says = dataset(&job, "whole");
        let totals = &says["totals"];
        let count = match views {
            "flips" => 2,
            "ten-crop" => 10,
            _ => 5,
        };
        assert_eq!([&totals["written"], &totals["failed"], &totals["rows"]], [30, 1, 30 * count]);
        for flags in ["--batch-size 1 --threads 1", "--batch-size 3", "--batch-size 64 --threads 2"]
        {
            job.expect(1, &format!("{line} --out other {flags}"));
            job.assert_same("whole", "other");
            std::fs::remove_dir_all(job.path("other")).unwrap();
        }
        let worker = |n: usize| format!("{line} --out shared --partition {n}/2");
        // Each knows the failures of its own shards; the last one those of all.
        assert!(job.run(&worker(1)).code <= 1);
        job.expect(1, &worker(0));
        job.assert_same("whole", "shared");
        let mut command = job.command(&format!("{line} --out killed --batch-size 1 --threads 1"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let shard = job.path("killed/tokens/part-00001.parquet");
        let over = |child: &mut Child| child.try_wait().unwrap().is_some();
        while !shard.exists() && !over(&mut child) && started.elapsed().as_secs() < 60 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().unwrap();
        job.expect(1, &format!("{line} --out killed"));
        job.assert_same("whole", "killed");
        for out in ["whole", "shared", "killed"] {
            std::fs::remove_dir_all(job.path(out)).unwrap();
        }
    }
}

#[test]
fn retries_and_repairs_make_the_same_views() {
    let job = Job::new(9).trained();
    let good = std::fs::read(job.path("images/0000.png")).unwrap();
    std::fs::write(job.path("images/0000.png"), vec![0; good.len()]).unwrap();
    let line = format!("{TOKENIZE} --out out --views random-crops=3 --shard-rows 4");
    job.expect(1, &line);
    assert_eq!(rows(&job, "out").len(), 24);
    std::fs::write(job.path("images/0000.png"), &good).unwrap();
    job.expect(0, &format!("{line} --retry-failed"));
    job.expect(0, &line.replace("--out out", "--out whole"));
    job.assert_same("whole", "out");
    std::fs::remove_file(job.path("out/tokens/part-00001.parquet")).unwrap();
    job.expect(0, "repair out --model model");
    job.assert_same("whole", "out");
    std::fs::write(job.path("out/tokens/part-00000.parquet"), b"lost").unwrap();
    job.expect(0, "repair out --model model");
    job.assert_same("whole", "out");
    // The views of an image are one row of the plan that is made of the shards again.
    std::fs::remove_file(job.path("out/plan.parquet")).unwrap();
    job.expect(0, "repair out");
    job.assert_same("whole", "out");
    let decoded = job.expect(0, "decode out --model model --out pictures");
    assert_eq!(job.files("pictures").len(), 27, "{}", decoded.stderr);
}

#[test]
fn other_views_are_refused_by_name() {
    let job = scene();
    job.expect(0, &format!("{TOKENIZE} --out out --views flips"));
    job.expect(0, &format!("{TOKENIZE} --out plain"));
    let refused = |flags: &str, words: &[&str]| {
        job.expect(2, &format!("{TOKENIZE} {flags}")).assert_one_line(words);
    };
    refused("--out out --views ten-crop", &["made with --views flips", "ten-crop=1.1"]);
    refused("--out out", &["made with --views flips", "has none"]);
    refused("--out plain --views random-crops=2", &["made with no --views", "random-crops=2"]);
    refused("--out other --views flips --resize none", &["--views flips", "rule none"]);
    assert!(!job.path("other/plan.parquet").exists());
    job.expect(0, &format!("{TOKENIZE} --out out --views flips"));
    for bad in ["mirror", "ten-crop=3", "random-crops=0", "random-crops"] {
        let done = job.expect(2, &format!("{TOKENIZE} --out other --views {bad}"));
        assert!(done.stderr.contains("--views") && done.stderr.contains("flips"), "{bad}");
    }
}
