//! Owns the question what an export costs: how many tokens a second of processor time each format
//! takes, read back and not, and whether its memory grows with the rows.
//!
//! `cargo bench --bench exports -- [format ...]` (default: all) exports 2,000 and 8,000 rows of 16 x 16
//! tokens; with `VQTOK_BENCH_FULL=1` 128,000 and 512,000. What it writes lies in the system's temporary
//! folder, up to 5 GB, and goes at the end.

use std::path::Path;
use std::process::Command;

use vqtok::Result;
use vqtok::internals::tokens::{
    CommitMode, Identity, LevelLayout, Outcome, PartitionWriter, Plan, PlanRow, Preprocessing,
    TokenGrid, TokenRow, TokenizerId, finalize,
};

#[path = "common/process.rs"]
mod process;

const SIDE: i32 = 16;
const CODES: u64 = 16_384;
const FORMATS: [&str; 15] = [
    "webdataset",
    "megatron",
    "jsonl",
    "bin",
    "bin --header llmc",
    "datatrove",
    "litdata",
    "mds",
    "hf",
    "tfrecord",
    "npy",
    "llamagen",
    "emu3",
    "4m",
    "open-muse",
];

fn main() -> Result<()> {
    // cargo passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    if let [work, dir, rows] = &words[..]
        && work == "make"
    {
        return output(Path::new(dir), rows.parse().expect("a number"));
    }
    // A process begins with the peak of the one that starts it: this one does nothing by itself.
    let rows = if std::env::var_os("VQTOK_BENCH_FULL").is_some() { 128_000 } else { 2_000 };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    for rows in [rows, 4 * rows] {
        let mut command = Command::new(std::env::current_exe().expect("this bench"));
        command.arg("make").arg(scratch.path().join(rows.to_string())).arg(rows.to_string());
        process::usage(&mut command);
    }
    println!(
        "| format | Mtokens/s and core, read back | not | wall s | peak MiB | of 4 times the rows |"
    );
    println!("|---|---|---|---|---|---|");
    for format in FORMATS {
        let name = format.split(' ').next().unwrap_or(format);
        if !words.is_empty() && !words.iter().any(|word| word == name) {
            continue;
        }
        let export = |rows: u64, more: &str| {
            let out = scratch.path().join("export");
            let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
            command.arg("export").arg(scratch.path().join(rows.to_string()));
            command.arg("--out").arg(&out).arg("--to").args(format.split(' '));
            let usage = process::usage(command.args(more.split_whitespace()));
            std::fs::remove_dir_all(out).expect("what was written");
            usage
        };
        let (checked, plain) = (export(rows, ""), export(rows, "--no-check"));
        let large = export(4 * rows, "");
        let tokens = (rows * (SIDE * SIDE) as u64) as f64 / 1e6;
        println!(
            "| `{format}` | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} |",
            tokens / checked.cpu_seconds,
            tokens / plain.cpu_seconds,
            checked.seconds,
            checked.peak_kib as f64 / 1024.0,
            large.peak_kib as f64 / 1024.0,
        );
    }
    Ok(())
}

/// An output of random tokens with labels of 1,000 classes and captions.
fn output(dir: &Path, rows: u64) -> Result<()> {
    use rayon::prelude::*;
    let row = |ordinal: u64| PlanRow {
        ordinal: ordinal as i64,
        key: format!("n{:08}/{ordinal:07}.jpg", ordinal % 1000),
        uri: format!("file:///data/{ordinal}.jpg"),
        bytes: 100_000,
        ..PlanRow::default()
    };
    let plan = Plan::create_or_open(dir, &identity(), (0..rows).map(|i| Ok(row(i))), 4096)?;
    (0..plan.partitions()).into_par_iter().try_for_each(|partition| -> Result<()> {
        let mut writer = PartitionWriter::create(&plan, partition, CommitMode::New)?;
        for row in plan.partition(partition)? {
            writer.push(Outcome::Written(Box::new(tokens(row))))?;
        }
        writer.close().map(|_| ())
    })?;
    finalize(dir).map(|_| ())
}

fn tokens(row: PlanRow) -> TokenRow {
    let count = (SIDE * SIDE) as usize;
    let mut state = row.ordinal as u64 + 1;
    let mut code = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32 % CODES as u32
    };
    TokenRow {
        ordinal: row.ordinal,
        label: Some(row.key[..9].to_string()),
        caption: Some(format!("a photo of thing number {} in a room", row.ordinal % 7919)),
        key: row.key,
        uri: row.uri,
        levels: vec![TokenGrid {
            codes: (0..count).map(|_| code()).collect(),
            distances: vec![0.0; count],
            height: SIDE,
            width: SIDE,
        }],
        image_width: 256,
        image_height: 256,
        orientation: 1,
        color_mode: "RGB".into(),
        crop_w: 256,
        crop_h: 256,
        ..TokenRow::default()
    }
}

fn identity() -> Identity {
    Identity {
        tokenizer: TokenizerId {
            family: "vqtok".into(),
            weights_sha256: "ab".repeat(32),
            codebook_sha256: "cd".repeat(32),
            codes: CODES,
            dim: 8,
            factor: 16,
        },
        preprocessing: Preprocessing {
            buckets: None,
            rule: "bicubic".into(),
            size: Some(256),
            alpha: "white".into(),
            orientation: Some("apply".into()),
            pillow: Some(12),
            views: None,
            digest: "ef".repeat(32),
        },
        label_level: None,
        levels: vec![LevelLayout::new(CODES, Some([SIDE as u32; 2]))],
        precision: "f32".into(),
        device: "cpu".into(),
        shard_rows: 4096,
        version: "0.1.0".into(),
    }
}
