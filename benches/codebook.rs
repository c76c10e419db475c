//! Owns the question how many tokens a second of processor time the codebook part of an audit counts:
//! by code, by place, beside each other, by label and shard. With DuckDB on the same shards in one run.
//!
//! `cargo bench --bench codebook -- OUTPUT [PYTHON]` repeats the shards of OUTPUT to about 100 million
//! tokens in the system's temporary folder (they go at the end), and counts them with one thread, three
//! times each in turn. PYTHON has duckdb.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use vqtok::internals::audit::report;

#[path = "common/peer.rs"]
mod peer;

const TOKENS: u64 = 100_000_000;
const COLUMNS: [&str; 7] =
    ["key", "tokens", "grid_height", "grid_width", "label", "label_id", "quantization_error"];

fn main() {
    // cargo passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    let Some(output) = words.first().map(PathBuf::from) else {
        println!("skipped: give an output of vqtok, and a Python with duckdb");
        return;
    };
    vqtok::set_threads(Some(1)).expect("one thread");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let tokens = report(&output).expect("an output").levels[0].tokens;
    let times = TOKENS.div_ceil(tokens.max(1));
    repeat(&output, scratch.path(), times);
    let python = words.get(1).map(PathBuf::from);
    let arguments = [scratch.path().display().to_string()];
    let mut peer =
        python.and_then(|python| peer::Peer::start(&python, "codebook_duckdb.py", &arguments, 1));
    println!("| | tokens | Mtokens/s of processor time | wall s |\n|---|---|---|---|");
    for _ in 0..3 {
        let (begun, before) = (Instant::now(), cpu_seconds());
        let found = report(scratch.path()).expect("shards");
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - before);
        let counted = found.levels[0].tokens;
        println!("| vqtok | {counted} | {:.0} | {wall:.2} |", counted as f64 / cpu / 1e6);
        let Some(peer) = &mut peer else { continue };
        for (what, question) in [("codes", "codes"), ("codes, places, neighbours, labels", "all")] {
            let answer = peer.ask(question);
            let [cpu, wall, counted, most] = answer[..] else { panic!("four numbers") };
            let due = found.levels[0].most_used[0].1;
            assert_eq!(most as u64, due, "uses of the code that is used most");
            println!("| DuckDB: {what} | {counted} | {:.0} | {wall:.2} |", counted / cpu / 1e6);
        }
    }
}

/// The rows of an output's shards, so many times over, in files that are nobody's shards.
fn repeat(output: &Path, folder: &Path, times: u64) {
    let mut shards: Vec<PathBuf> = std::fs::read_dir(output.join("tokens"))
        .expect("shards")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    shards.sort();
    for (number, shard) in shards.iter().enumerate() {
        let open = || {
            let file = File::open(shard).expect("a shard");
            ParquetRecordBatchReaderBuilder::try_new(file).expect("a shard")
        };
        let builder = open();
        let entries = builder.metadata().file_metadata().key_value_metadata().cloned();
        let kept = |entry: &KeyValue| entry.key.starts_with("vqtok.codes");
        let entries: Vec<KeyValue> = entries.into_iter().flatten().filter(kept).collect();
        let (descriptor, arrow) = (builder.parquet_schema().clone(), builder.schema().clone());
        let kept = (0..arrow.fields().len())
            .filter(|&at| COLUMNS.contains(&arrow.field(at).name().as_str()));
        let mask = ProjectionMask::roots(&descriptor, kept);
        let rows = builder.with_projection(mask).with_batch_size(1 << 16).build();
        let batches: Vec<_> = rows.expect("rows").map(|batch| batch.expect("rows")).collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(batches[0].schema().fields().clone()));
        for time in 0..times {
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_max_row_group_row_count(Some(4096))
                .set_key_value_metadata(Some(entries.clone()));
            let path = folder.join(format!("{number:03}-{time:03}.parquet"));
            let file = File::create(path).expect("a file");
            let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties.build()))
                .expect("a writer");
            for batch in &batches {
                let batch = batch.clone().with_schema(schema.clone()).expect("the same columns");
                writer.write(&batch).expect("rows");
            }
            writer.close().expect("a file");
        }
    }
}

/// Of this process so far, in the program and in the system.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
