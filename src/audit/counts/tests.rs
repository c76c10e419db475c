use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int64Builder, ListBuilder, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::util::random::SplitMix64;

/// Codes are below it.
const CODES: u64 = 100;

/// How lists of codes are written.
#[derive(Debug, Clone)]
struct Layout {
    seed: u64,
    rows: usize,
    /// Tokens of a row: so many, or up to that.
    tokens: (usize, bool),
    levels: usize,
    /// Of this many rows one is unusual; 0 for none.
    odd: u64,
    kind: DataType,
    group_rows: usize,
    page_rows: usize,
    dictionary: Option<usize>,
    /// Of the second version.
    new_pages: bool,
    encoding: Encoding,
    compression: Compression,
    /// Bytes that are changed in the file.
    damage: usize,
}

fn layouts() -> impl Strategy<Value = Layout> {
    let kinds = [DataType::Int8, DataType::UInt8, DataType::Int16, DataType::UInt16];
    let kinds = kinds.into_iter().chain([DataType::Int32, DataType::UInt32, DataType::Int64]);
    let kinds: Vec<DataType> = kinds.chain([DataType::UInt64, DataType::Float32]).collect();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let rows = prop_oneof![0_usize..40, 1_000_usize..3_000];
    let encodings = vec![Encoding::PLAIN, Encoding::DELTA_BINARY_PACKED];
    let compressions = vec![Compression::UNCOMPRESSED, Compression::SNAPPY, zstd];
    let pages = (1_usize..1_500, proptest::option::of(1_usize..2_000), any::<bool>());
    let stored =
        (proptest::sample::select(encodings), proptest::sample::select(compressions), 0_usize..2);
    let what = (any::<u64>(), rows, (1_usize..9, any::<bool>()), 1_usize..3);
    let odd = prop_oneof![Just(0_u64), Just(0), Just(2_500), 1_u64..200];
    let how = (odd, proptest::sample::select(kinds), 1_usize..4_000);
    (what, how, pages, stored).prop_map(
        |(
            (seed, rows, tokens, levels),
            (odd, kind, group_rows),
            (page_rows, dictionary, new_pages),
            (encoding, compression, damage),
        )| Layout {
            seed,
            rows,
            tokens,
            levels,
            odd,
            kind,
            group_rows,
            page_rows,
            dictionary,
            new_pages,
            encoding,
            compression,
            damage,
        },
    )
}

impl Layout {
    /// Lists of codes, of which some are missing, empty, hold missing numbers, or what is no code.
    fn lists(&self, random: &mut SplitMix64) -> ArrayRef {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for _ in 0..self.rows {
            let (most, same) = self.tokens;
            let count = if same { most } else { 1 + random.next() as usize % most };
            let odd = self.odd > 0 && random.next().is_multiple_of(self.odd);
            let odd = odd.then(|| random.next() % 4);
            if odd == Some(0) {
                lists.append(false);
                continue;
            }
            for _ in 0..if odd == Some(1) { 0 } else { count } {
                lists.values().append_value((random.next() % CODES) as i64);
            }
            match odd {
                Some(2) => lists.values().append_null(),
                Some(3) => lists.values().append_value(CODES as i64 + (random.next() % 20) as i64),
                _ => {}
            }
            lists.append(true);
        }
        cast(&lists.finish(), &DataType::new_list(self.kind.clone(), true)).unwrap()
    }

    fn write(&self) -> (TempDir, PathBuf) {
        let random = &mut SplitMix64(self.seed);
        let mut columns: Vec<(&str, ArrayRef)> = vec![("tokens", self.lists(random))];
        if self.levels > 1 {
            columns.push(("tokens_top", self.lists(random)));
        }
        let labels = (0..self.rows).map(|_| ["cat", "dog", "ox"].get(random.next() as usize % 4));
        columns.push(("label", Arc::new(StringArray::from_iter(labels))));
        let errors = (0..self.rows).map(|_| random.next() as f32);
        columns.push(("quantization_error", Arc::new(Float32Array::from_iter_values(errors))));
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        );
        let batch = batch.unwrap();
        let version =
            if self.new_pages { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
        let mut properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_data_page_row_count_limit(self.page_rows)
            .set_write_batch_size(64)
            .set_dictionary_enabled(self.dictionary.is_some());
        if let Some(bytes) = self.dictionary {
            properties = properties.set_dictionary_page_size_limit(bytes);
        }
        if self.kind != DataType::Float32 {
            let tokens = "tokens.list.element".into();
            properties = properties.set_column_encoding(tokens, self.encoding);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.parquet");
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build()));
        let writer = writer.as_mut().unwrap();
        writer.append_key_value_metadata(KeyValue::new("vqtok.codes".into(), CODES.to_string()));
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for _ in 0..self.damage {
            let at = random.next() as usize % bytes.len();
            bytes[at] ^= 1 << (random.next() % 8);
        }
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// Whether all rows can be read straight from the pages.
    fn is_plain(&self) -> bool {
        let wide = [DataType::Int64, DataType::UInt64, DataType::Float32];
        self.odd == 0 && self.damage == 0 && !wide.contains(&self.kind)
    }
}

fn columns(layout: &Layout) -> Columns {
    let levels = levels::all()[..layout.levels]
        .iter()
        .map(|level| (level, Some(LevelSize { codes: CODES, bits: None })));
    Columns { levels: levels.collect(), grids: Vec::new(), made_by: BTreeMap::new(), stride: 1 }
}

/// All rows, by columns alone.
fn by_columns(path: &Path, columns: &Columns) -> Option<Counts> {
    let sheet = ParquetFile::open_plain(path, Some(&columns.names())).ok()?;
    let bad =
        |rows, problem| BadRows { file: path.into(), rows, key: None, problem, whole_file: false };
    let (mut counting, mut row) = (Counting::new(columns, 3, None), 0);
    counting.compare(&sheet, "shard.parquet");
    for (group, rows) in sheet.group_rows().into_iter().enumerate() {
        let end = row + rows;
        if let Err(problem) = counting.by_columns(&sheet, (group, 0), &mut row, &bad) {
            counting.counts.bad(&bad(row..end, problem));
        }
        row = end;
    }
    Some(counting.finish("shard.parquet".into()))
}

/// How many rows are read straight from the pages.
fn read_by_pages(path: &Path, columns: &Columns) -> u64 {
    let sheet = ParquetFile::open_plain(path, Some(&columns.names())).unwrap();
    let (mut counting, mut row) = (Counting::new(columns, 3, None), 0);
    (0..sheet.group_rows().len()).for_each(|group| {
        counting.by_pages(&sheet, group, &mut row);
    });
    row
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn codes_count_alike_by_pages_and_by_columns(layout in layouts()) {
        let (_folder, path) = layout.write();
        let columns = columns(&layout);
        if layout.is_plain() {
            prop_assert_eq!(read_by_pages(&path, &columns), layout.rows as u64);
        }
        if let Some(due) = by_columns(&path, &columns) {
            let found = count(&path, &columns, 3, None);
            prop_assert_eq!(&found.problems, &due.problems);
            prop_assert_eq!((found.rows, found.unusable), (due.rows, due.unusable));
            prop_assert!(format!("{found:?}") == format!("{due:?}"), "other counts");
        }
    }
}
