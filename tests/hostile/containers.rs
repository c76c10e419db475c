//! Owns the promises towards containers and lists that are damaged or made to do harm: an answer
//! within bounded time, in words, and the same bytes in whatever order images are read. Drives what
//! the fuzz target `container` drives. Must not know: the formats.
//!
//! The long run: `VQTOK_FAULT_ROUNDS=20000 cargo test --release --test hostile containers`.

use crate::support::containers;
use crate::support::drive;

use std::time::Instant;

use crate::support::random::{Random, rounds};
use crate::support::shared;
use containers::{Layout, Sample, compressed, members, table, tar, zip};

/// What one file may take, on a busy machine.
const SECONDS_MAX: f64 = 10.0;

fn samples() -> Vec<Sample> {
    let sample = |index: u32| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        crate::support::picture(index).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        Sample {
            key: format!("{index:03}"),
            extension: "png".into(),
            bytes: bytes.into_inner(),
            label: "1".into(),
            caption: "a cat".into(),
        }
    };
    (0..6).map(sample).collect()
}

/// Changes some bytes: bits, numbers, pieces cut out or put elsewhere, the end.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => {
                let end = bytes.len().min(at + [1, 2, 4, 8][random.below(4)]);
                bytes[at..end].fill([0, 0x7f, 0xff, b'7'][random.below(4)]);
            }
            3 => {
                let end = bytes.len().min(at + 1 + random.below(600));
                bytes.drain(at..end);
            }
            4 => {
                let end = bytes.len().min(at + 1 + random.below(600));
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
}

fn hammer(name: &str, seeds: &[Vec<u8>]) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut readable, mut slowest) = (0, 0.0_f64);
    let count = rounds(250);
    for _ in 0..count {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        damage(&mut random, &mut bytes);
        let begun = Instant::now();
        readable += usize::from(drive::container(folder.path(), name, &bytes));
        slowest = slowest.max(begun.elapsed().as_secs_f64());
        assert!(slowest < SECONDS_MAX, "{name}: {slowest} s");
    }
    println!(
        "{name}: {count} damaged files, {readable} with images; slowest {:.0} ms",
        slowest * 1e3
    );
}

/// Files of the reference data with this end of their names.
fn given(folder: &str, end: &str) -> Vec<Vec<u8>> {
    let Some(folder) = shared(folder) else { return Vec::new() };
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    files.sort();
    let bytes = files.iter().map(|path| std::fs::read(path).unwrap());
    bytes.filter(|bytes| !bytes.is_empty()).collect()
}

#[test]
fn damaged_tars_do_no_harm() {
    let own = tar(&members(&samples()));
    let seeds = [vec![own.clone()], given("sources/webdataset", ".tar")].concat();
    hammer("x.tar", &seeds);
    for packed in ["gz", "bz2", "xz", "zst"] {
        hammer(&format!("x.tar.{packed}"), &[compressed(packed, &own)]);
    }
}

#[test]
fn damaged_tables_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let layouts = [Layout::Struct, Layout::Binary, Layout::LargeBinary, Layout::List];
    let own = layouts.map(|layout| {
        table(&path, &samples(), layout, 4);
        std::fs::read(&path).unwrap()
    });
    hammer("x.parquet", &[own.to_vec(), given("sources/hf_parquet", ".parquet")].concat());
}

#[test]
fn damaged_zips_do_no_harm() {
    let own = zip(&members(&samples()));
    hammer("x.zip", &[vec![own], given("sources/zip", ".zip")].concat());
}

#[test]
fn damaged_lists_do_no_harm() {
    let csv = b"image_path,caption,label\na.png,\"x, \"\"y\"\"\",1\nb.png,,2\n".to_vec();
    hammer("x.csv", &[vec![csv], given("sources/lists", ".csv")].concat());
    let lines = b"{\"image\":\"a.png\",\"text\":\"b\"}\n{\"image\":\"c.png\"}\n".to_vec();
    hammer("x.jsonl", &[vec![lines], given("sources/lists", ".jsonl")].concat());
    let array = b"[{\"image\":\"a.png\"},\"b.png\",{\"image\":\"c.png\",\"x\":[1]}]".to_vec();
    hammer("x.json", &[vec![array], given("sources/lists", "emu3.json")].concat());
}
