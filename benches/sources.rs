//! Owns three questions about where images lie: what do containers cost beside a folder of files,
//! what do a million small images in tars take, and what does a plan of ten million take, made, held
//! and run again?
//!
//! `cargo bench --bench sources -- [formats] [million] [plan]` asks them (default: all three) of few
//! images; with `VQTOK_BENCH_FULL=1` of 2,000, 1,000,000 and 10,000,000. What it writes lies in the
//! system's temporary folder, up to 5 GB, and goes at the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use vqtok::Result;
use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin};
use vqtok::internals::config::Recipe;
use vqtok::internals::data::prepare::Preparation;
use vqtok::internals::engine::{DeviceChoice, Engine, Precision, open};
use vqtok::internals::tokens::{
    CommitMode, ContainerFile, Held, Identity, Outcome, PartitionWriter, Plan, PlanRow, Today,
    TokenGrid, TokenRow, finalize,
};
use vqtok::internals::{job, pipeline};

#[path = "../tests/support/containers.rs"]
mod containers;
#[path = "common/null_engine.rs"]
mod null_engine;
#[path = "common/pictures.rs"]
mod pictures;
#[path = "common/process.rs"]
mod process;

use containers::{Layout, Sample, compressed, members, table, tar, zip};
use null_engine::NullEngine;

const ROUNDS: usize = 5;
/// Images a partition.
const SHARD_ROWS: u64 = 4096;

/// A small VQ-VAE at 64 px; its model takes 16 images in some milliseconds.
const SMALL: &str = r#"
name = "small"
description = "for the bench of sources"
model = { channels = 3, codes = 256, dim = 16, architecture = { kind = "vqvae", hidden = 32, downsamples = 2, res_blocks = 1, res_hidden = 16 } }
data = { size = 64 }
train = { steps = 4, batch_size = 4, codebook = { start_after = 1 } }
"#;

fn main() -> Result<()> {
    // cargo passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    if let [work, dir, count] = &words[..] {
        return child(work, Path::new(dir), count.parse().expect("a number"));
    }
    // A process begins with the peak of the one that starts it: this one does nothing by itself.
    let full = std::env::var_os("VQTOK_BENCH_FULL").is_some();
    let asked = |what: &str| words.is_empty() || words.iter().any(|word| word == what);
    let scratch = tempfile::tempdir().expect("a scratch folder");
    if asked("formats") {
        inherit("formats", &scratch.path().join("formats"), if full { 2000 } else { 200 });
    }
    if asked("million") {
        million(&scratch.path().join("million"), if full { 1_000_000 } else { 5_000 });
    }
    if asked("plan") {
        plan(&scratch.path().join("plan"), if full { 10_000_000 } else { 50_000 });
    }
    Ok(())
}

/// This bench, asked for one thing.
fn asked_for(work: &str, dir: &Path, count: u64) -> Command {
    std::fs::create_dir_all(dir).expect("a folder");
    let mut command = Command::new(std::env::current_exe().expect("this bench"));
    command.arg(work).arg(dir).arg(count.to_string());
    command
}

/// A process that says itself what it finds.
fn inherit(work: &str, dir: &Path, count: u64) {
    let status = asked_for(work, dir, count).status().expect("this bench");
    assert!(status.success(), "{work}");
}

/// What a process of this bench costs: seconds, MiB.
fn measured(work: &str, dir: &Path, count: u64) -> (f64, f64) {
    let (seconds, kib) = process::cost(&mut asked_for(work, dir, count));
    (seconds, kib as f64 / 1024.0)
}

/// What a process of this bench does.
fn child(work: &str, dir: &Path, count: u64) -> Result<()> {
    match work {
        "formats" => formats(dir, count as usize),
        "draw" => {
            draw(dir, count);
            Ok(())
        }
        "finish" => finished(&Plan::open(&dir.join("out"))?),
        "tokenize" => {
            let recipe = Recipe::parse(SMALL, "the bench")?;
            let mut engine = NullEngine::of(&recipe);
            let inputs = [dir.join("tars")];
            tokenized(&inputs, &dir.join("out"), &mut engine, &recipe.preparation()).map(|_| ())
        }
        "list" => {
            let rows = job::rows(&[dir.join("tars")])?;
            assert_eq!(rows.filter(std::result::Result::is_ok).count() as u64, count);
            Ok(())
        }
        "make" | "hold" => {
            let held = held(dir, &dir.join("out"), count, false)?;
            assert!(matches!(held, Held::Same(_)));
            Ok(())
        }
        "hold-known" => {
            let held = held(dir, &dir.join("out"), count, true)?;
            assert!(matches!(held, Held::Same(_)));
            Ok(())
        }
        other => panic!("unknown question {other}"),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// From inputs to shards; the seconds of planning and of the pipeline.
fn tokenized(
    inputs: &[PathBuf],
    out: &Path,
    engine: &mut dyn Engine,
    preparation: &Preparation,
) -> Result<(f64, f64)> {
    let _ = std::fs::remove_dir_all(out);
    let started = Instant::now();
    let identity = pipeline::identity(engine, preparation, SHARD_ROWS as usize)?;
    let plan = Plan::create_or_open(out, &identity, job::rows(inputs)?, SHARD_ROWS as usize)?;
    let planned = started.elapsed().as_secs_f64();
    let settings = pipeline::Settings {
        preparation: preparation.clone(),
        batch_size: 16,
        on_error: pipeline::OnError::Stop,
        mode: CommitMode::New,
        sizes: pipeline::Sizes::Planned,
        decode_time_max: pipeline::DECODE_TIME_MAX,
    };
    let partitions: Vec<usize> = (0..plan.partitions()).collect();
    let started = Instant::now();
    let done = pipeline::run(&settings, &plan, &partitions, engine, &mut ())?;
    assert_eq!((done.written, done.failed), (plan.rows(), 0));
    Ok((planned, started.elapsed().as_secs_f64()))
}

/// The same images as files, in a tar, packed tars, a table, a zip.
fn packed(dir: &Path, count: usize) -> Vec<(&'static str, PathBuf)> {
    const DIFFERENT: usize = 100;
    let drawn: Vec<(&str, Vec<u8>)> = (0..DIFFERENT.min(count) as u32)
        .map(|seed| match seed % 2 {
            0 => ("jpg", pictures::jpeg(seed, 128)),
            _ => ("png", pictures::png(seed, 128)),
        })
        .collect();
    let sample = |index: usize| {
        let (extension, bytes) = &drawn[index % drawn.len()];
        Sample {
            key: format!("{index:06}"),
            extension: extension.to_string(),
            bytes: bytes.clone(),
            label: "3".into(),
            caption: format!("picture {index}"),
        }
    };
    let samples: Vec<Sample> = (0..count).map(sample).collect();
    let name = |s: &Sample| format!("{}.{}", s.key, s.extension);
    let folder = dir.join("folder");
    std::fs::create_dir_all(&folder).expect("a folder");
    for s in &samples {
        std::fs::write(folder.join(name(s)), &s.bytes).expect("a picture");
    }
    let bytes: usize = samples.iter().map(|s| s.bytes.len()).sum();
    println!("{count} images of 128 px, {} bytes on average, half JPEG, half PNG", bytes / count);
    let archive = tar(&members(&samples));
    let files: Vec<_> = samples.iter().map(|s| (name(s), s.bytes.clone())).collect();
    let written = |file: &str, bytes: &[u8]| {
        let path = dir.join(file);
        std::fs::write(&path, bytes).expect("a container");
        path
    };
    let parquet = dir.join("all.parquet");
    table(&parquet, &samples, Layout::Struct, 256);
    vec![
        ("folder", folder),
        ("tar", written("all.tar", &archive)),
        ("zip", written("all.zip", &zip(&files))),
        ("Parquet", parquet),
        ("tar.gz", written("all.tar.gz", &compressed("gz", &archive))),
        ("tar.zst", written("all.tar.zst", &compressed("zst", &archive))),
    ]
}

/// Each kind of source through an engine that does nothing and through a small model.
fn formats(dir: &Path, count: usize) -> Result<()> {
    let sources = packed(&dir.join("sources"), count);
    let recipe = Recipe::parse(SMALL, "the bench")?;
    let model = small_model(dir);
    let chosen = (DeviceChoice::Cpu, Precision::F32);
    let mut small = open(begin(&model, &DetectOptions::default())?, chosen.0, chosen.1)?;
    let mut null = NullEngine::of(&recipe);
    let engines: [(&str, &mut dyn Engine); 2] =
        [("no model", &mut null), ("small model", small.as_mut())];
    for (name, engine) in engines {
        let out = dir.join("out");
        let mut runs = vec![(Vec::new(), Vec::new()); sources.len()];
        // In turn, so that what else the machine does meets all; the first round warms up.
        for round in 0..ROUNDS + 1 {
            for ((_, path), (plans, whole)) in sources.iter().zip(&mut runs) {
                let inputs = [path.clone()];
                let (plan, rest) = tokenized(&inputs, &out, engine, &recipe.preparation())?;
                if round > 0 {
                    plans.push(plan);
                    whole.push(count as f64 / (plan + rest));
                }
            }
        }
        println!("\n{name}, medians of {ROUNDS} rounds\n");
        println!("| source | images/s | of the folder's | plan, ms | slowest, fastest |");
        println!("|---|---|---|---|---|");
        let mut folder = None;
        for ((source, _), (plans, whole)) in sources.iter().zip(runs) {
            let (low, high) =
                whole.iter().fold((f64::MAX, 0f64), |(l, h), &r| (l.min(r), h.max(r)));
            let rate = median(whole);
            let ratio = rate / *folder.get_or_insert(rate);
            let plan = 1e3 * median(plans);
            println!("| {source} | {rate:.0} | {ratio:.3} | {plan:.1} | {low:.0}, {high:.0} |");
        }
    }
    Ok(())
}

/// The model of [`SMALL`], which a few steps of training make.
fn small_model(dir: &Path) -> PathBuf {
    let (recipe, images, model) = (dir.join("small.toml"), dir.join("drawn"), dir.join("model"));
    std::fs::create_dir_all(&images).expect("a folder");
    std::fs::write(&recipe, SMALL).expect("a recipe");
    for seed in 0..8 {
        let path = images.join(format!("{seed}.png"));
        std::fs::write(path, pictures::png(seed, 64)).expect("a picture");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
    command.arg("train").arg(&images).arg("--model").arg(&model).arg("--recipe").arg(&recipe);
    process::cost(&mut command);
    model
}

/// Images a tar of [`million`].
const A_TAR: u64 = 10_000;

/// JPEG images of 1.3 kB, in tars.
fn draw(dir: &Path, count: u64) {
    std::fs::create_dir_all(dir.join("tars")).expect("a folder");
    let drawn: Vec<Vec<u8>> = (0..500).map(|seed| pictures::jpeg(seed, 30)).collect();
    let bytes = drawn.iter().map(Vec::len).sum::<usize>() / drawn.len();
    for (number, first) in (0..count).step_by(A_TAR as usize).enumerate() {
        let member =
            |index: u64| (format!("{index:09}.jpg"), drawn[index as usize % drawn.len()].clone());
        let members: Vec<_> = (first..count.min(first + A_TAR)).map(member).collect();
        let path = dir.join(format!("tars/{number:05}.tar"));
        std::fs::write(path, tar(&members)).expect("a tar");
    }
    println!("\n{count} JPEG images of 30 px, {bytes} bytes on average, in tars of {A_TAR}\n");
}

/// Small images in tars of 10,000, through an engine that does nothing; then the first tar alone.
fn million(dir: &Path, count: u64) {
    inherit("draw", dir, count);
    let told = |what: &str, count: u64, (seconds, peak): (f64, f64)| {
        let rate = count as f64 / seconds;
        println!("{what}: {seconds:.2} s, {rate:.0} images/s, peak {peak:.1} MiB");
    };
    told("listed", count, measured("list", dir, count));
    told("to shards, no model", count, measured("tokenize", dir, count));
    let few = count.min(A_TAR);
    for number in 1..count.div_ceil(A_TAR) {
        std::fs::remove_file(dir.join(format!("tars/{number:05}.tar"))).expect("a tar");
    }
    told("the first tar alone", few, measured("tokenize", dir, few));
    std::fs::remove_dir_all(dir).expect("what was written");
}

/// Images a tar of [`plan`].
fn a_tar(count: u64) -> u64 {
    (count / 1000).max(1)
}

fn size_of_tar(number: u64) -> u64 {
    10_240 * (100 + number)
}

/// Holds `count` rows, in a thousand tars, against the plan in `out`, or makes it. `known`: the tars
/// are as they were.
fn held(dir: &Path, out: &Path, count: u64, known: bool) -> Result<Held> {
    // What the same command wrote for one image says who made it.
    let pattern = Plan::open(&dir.join("one"))?;
    let identity = pattern.identity().clone();
    let taken = pattern.taken().to_string();
    let each = a_tar(count);
    let tars = dir.join("tars");
    let uri = move |number: u64| format!("file://{}/{number:04}.tar", tars.display());
    let planned = if known { Plan::open(out)?.containers().to_vec() } else { Vec::new() };
    let found = (0..count / each).flat_map(move |number| {
        let (uri, key) = (uri(number), format!("{number:04}.tar"));
        let bytes = size_of_tar(number);
        let head = match known {
            true => Today::Unchanged(planned[number as usize].clone(), uri.clone()),
            false => Today::Opened(ContainerFile { uri: uri.clone(), key, bytes, digest: None }),
        };
        let rows = if known { 0..0 } else { number * each..(number + 1) * each };
        let images = rows.map(move |ordinal| Today::Image(row(ordinal, &uri, each)));
        std::iter::once(head).chain(images).map(Ok)
    });
    Plan::hold(out, &identity, &taken, found, SHARD_ROWS as usize, &mut |_, _, _| Ok(false))
}

fn row(ordinal: u64, uri: &str, each: u64) -> PlanRow {
    let key = format!("{ordinal:09}");
    PlanRow {
        ordinal: ordinal as i64,
        member: Some(format!("{key}.jpg")),
        key,
        uri: uri.to_string(),
        bytes: 900 + (ordinal % 300) as i64,
        offset: Some(2048 * (ordinal % each) as i64),
        label: Some((ordinal % 1000).to_string()),
        caption: Some(format!("a photo of thing number {} in a room", ordinal % 7919)),
        ..PlanRow::default()
    }
}

/// A plan of many images: made, held again, run again on a finished output.
fn plan(dir: &Path, count: u64) {
    std::fs::create_dir_all(dir.join("tars")).expect("a folder");
    let model = small_model(dir);
    let old = SystemTime::now() - Duration::from_secs(3600);
    let each = a_tar(count);
    for number in 0..count / each {
        // Nobody reads them: all that counts is what the system says of them.
        let path = dir.join(format!("tars/{number:04}.tar"));
        let file = std::fs::File::create(path).expect("a tar");
        file.set_len(size_of_tar(number)).expect("a size");
        file.set_modified(old).expect("a time");
    }
    let one = dir.join("one.tar");
    std::fs::write(&one, tar(&[("0.jpg".to_string(), pictures::jpeg(1, 64))])).expect("a tar");
    let tokenize = |input: &Path, out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
        command.arg("tokenize").arg(input).arg("--out").arg(dir.join(out));
        let (seconds, kib) = process::cost(command.arg("--model").arg(&model));
        (seconds, kib as f64 / 1024.0)
    };
    tokenize(&one, "one");
    println!("\na plan of {count} images in {} tars\n", count / each);
    let told = |what: &str, (seconds, peak): (f64, f64)| {
        println!("{what}: {seconds:.2} s, peak {peak:.1} MiB");
    };
    told("made", measured("make", dir, count));
    let out = dir.join("out");
    let size = out.join("plan.parquet").metadata().expect("a plan").len();
    println!("plan.parquet: {} MiB", size >> 20);
    told("held row by row", measured("hold", dir, count));
    told("held by its containers", measured("hold-known", dir, count));
    println!("(its shards, for what follows: {:.0} s)", measured("finish", dir, count).0);
    for _ in 0..3 {
        told("vqtok tokenize on the finished output", tokenize(&dir.join("tars"), "out"));
    }
    std::fs::remove_dir_all(dir).expect("what was written");
}

/// Shards of zeros for a plan, and the end of the output.
fn finished(plan: &Plan) -> Result<()> {
    use rayon::prelude::*;
    let identity: &Identity = plan.identity();
    let [height, width] = identity.levels[0].grid.unwrap_or([1, 1]);
    let tokens = (height * width) as usize;
    (0..plan.partitions()).into_par_iter().try_for_each(|partition| -> Result<()> {
        let mut writer = PartitionWriter::create(plan, partition, CommitMode::New)?;
        for row in plan.partition(partition)? {
            let grid = TokenGrid {
                codes: vec![0; tokens],
                distances: vec![0.0; tokens],
                height: height as i32,
                width: width as i32,
            };
            writer.push(Outcome::Written(Box::new(TokenRow {
                ordinal: row.ordinal,
                key: row.key,
                uri: row.uri,
                member: row.member,
                label: row.label,
                caption: row.caption,
                levels: vec![grid],
                image_width: 64,
                image_height: 64,
                orientation: 1,
                color_mode: "RGB".into(),
                crop_w: 64,
                crop_h: 64,
                ..TokenRow::default()
            })))?;
        }
        writer.close().map(|_| ())
    })?;
    finalize(plan.dir()).map(|_| ())
}
