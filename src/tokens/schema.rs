//! Owns the Arrow schemas of every file of an output, how they are encoded, and the frozen
//! descriptions in `schemas/`. Must not know: values.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::commit::TempFile;
use super::level_layout::LevelLayout;
use super::levels;
use crate::error::{Error, Result};
use crate::util::parquet_errors::told;

/// What the footers of Parquet files say of who wrote them.
pub(crate) const CREATED_BY: &str = concat!("vqtok ", env!("CARGO_PKG_VERSION"));

/// Schema word of `plan.parquet`.
pub(crate) const PLAN: &str = "plan.v1";
/// Schema word of a `plan.parquet` whose images are more than files.
pub(crate) const PLAN_OF_PARTS: &str = "plan.v2";
/// Schema word of a `plan.parquet` whose images go into buckets.
pub(crate) const PLAN_OF_BUCKETS: &str = "plan.v3";
/// Schema word of a `plan.parquet` whose rows lie in files that it names.
pub(crate) const PLAN_ROOT: &str = "plan.v4";
/// Schema word of token shards.
pub(crate) const TOKENS: &str = "tokens.v2";
/// Schema word of the token shards of outputs that were begun without class names in their plans.
pub(crate) const TOKENS_WITHOUT_IDS: &str = "tokens.v1";
/// Schema word of failure sidecars.
pub(crate) const FAILURES: &str = "failures.v1";
/// Schema word of codebook sidecars and `codebook.parquet`.
pub(crate) const CODEBOOK: &str = "codebook.v1";
/// Schema word of the same where bits are counted, of codebooks too large for a counter a code.
pub(crate) const CODEBOOK_OF_BITS: &str = "codebook.v2";
/// Schema word of `dataset.json`.
pub(crate) const DATASET: &str = "dataset.v1";
/// Schema word of the `dataset.json` of an output that images were appended to.
pub(crate) const DATASET_OF_PLANS: &str = "dataset.v2";
/// Schema word of the `dataset.json` of an output whose shards lie in folders.
pub(crate) const DATASET_OF_PARTS: &str = "dataset.v3";
/// Schema word of a part of that, which lists shards.
pub(crate) const SHARDS: &str = "shards.v1";

/// The published descriptions, by schema word.
#[cfg(test)]
pub(crate) const DESCRIPTIONS: [(&str, &str); 13] = [
    (PLAN, include_str!("../../schemas/plan.v1.json")),
    (PLAN_OF_PARTS, include_str!("../../schemas/plan.v2.json")),
    (PLAN_OF_BUCKETS, include_str!("../../schemas/plan.v3.json")),
    (PLAN_ROOT, include_str!("../../schemas/plan.v4.json")),
    (TOKENS, include_str!("../../schemas/tokens.v2.json")),
    (TOKENS_WITHOUT_IDS, include_str!("../../schemas/tokens.v1.json")),
    (FAILURES, include_str!("../../schemas/failures.v1.json")),
    (CODEBOOK, include_str!("../../schemas/codebook.v1.json")),
    (CODEBOOK_OF_BITS, include_str!("../../schemas/codebook.v2.json")),
    (DATASET, include_str!("../../schemas/dataset.v1.json")),
    (DATASET_OF_PLANS, include_str!("../../schemas/dataset.v2.json")),
    (DATASET_OF_PARTS, include_str!("../../schemas/dataset.v3.json")),
    (SHARDS, include_str!("../../schemas/shards.v1.json")),
];

fn field(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, false)
}

fn nullable(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, true)
}

/// Columns of `plan.parquet`.
pub(crate) fn plan() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("ordinal", DataType::Int64),
        field("key", DataType::Utf8),
        field("uri", DataType::Utf8),
        field("bytes", DataType::Int64),
    ]))
}

/// Columns of a `plan.parquet` whose images are parts of files, or have something beside them.
pub(crate) fn plan_of_parts() -> SchemaRef {
    let more = [
        nullable("member", DataType::Utf8),
        nullable("offset", DataType::Int64),
        nullable("label", DataType::Utf8),
        nullable("caption", DataType::Utf8),
        nullable("meta_json", DataType::Utf8),
        nullable("fault", DataType::Utf8),
        field("forward", DataType::Boolean),
    ];
    let fields: Vec<_> = plan().fields().iter().cloned().chain(more.map(Arc::new)).collect();
    Arc::new(Schema::new(fields))
}

/// Columns of a `plan.parquet` whose images go into buckets.
pub(crate) fn plan_of_buckets() -> SchemaRef {
    let more = [
        field("position", DataType::Int64),
        field("bucket_width", DataType::Int32),
        field("bucket_height", DataType::Int32),
    ];
    let parts = plan_of_parts();
    let fields: Vec<_> = parts.fields().iter().cloned().chain(more.map(Arc::new)).collect();
    Arc::new(Schema::new(fields))
}

/// The type of one value of a level: u16 up to 65,536 codes, u32 above, u8 where tokens are lists of
/// bits.
fn token_type(level: &LevelLayout) -> DataType {
    match level.codes {
        _ if level.values() > 1 => DataType::UInt8,
        ..=0x1_0000 => DataType::UInt16,
        _ => DataType::UInt32,
    }
}

/// Columns of a `plan.parquet` whose rows lie in files that it names: a row a partition.
pub(crate) fn plan_root() -> SchemaRef {
    Arc::new(Schema::new(vec![field("rows", DataType::Int64)]))
}

/// The field inside the lists of tokens.
pub(crate) fn token_item(level: &LevelLayout) -> Arc<Field> {
    Arc::new(field("element", token_type(level)))
}

fn token_column(name: &str, level: &LevelLayout) -> Field {
    let item = token_item(level);
    match level.row_values() {
        Some(count) => field(name, DataType::FixedSizeList(item, count as i32)),
        None => field(name, DataType::List(item)),
    }
}

/// Columns of a token shard: each level has its tokens and its grid. Under `tokens.v2` digests are
/// plain bytes, since Hugging Face's `datasets` has no type for those of a fixed length before 5.1.
pub(crate) fn tokens(levels: &[LevelLayout], word: &str) -> SchemaRef {
    let ids = word == TOKENS;
    let digest = |bytes| if ids { DataType::Binary } else { DataType::FixedSizeBinary(bytes) };
    let mut fields = vec![
        field("key", DataType::Utf8),
        field("uri", DataType::Utf8),
        nullable("member", DataType::Utf8),
        field("ordinal", DataType::Int64),
    ];
    for (names, level) in levels::names(levels).iter().zip(levels) {
        fields.push(token_column(&names.tokens, level));
        fields.push(field(&names.grid_height, DataType::Int32));
        fields.push(field(&names.grid_width, DataType::Int32));
    }
    fields.extend([
        field("view", DataType::Int32),
        field("flip", DataType::Boolean),
        field("image_width", DataType::Int32),
        field("image_height", DataType::Int32),
        field("orientation", DataType::Int32),
        field("color_mode", DataType::Utf8),
        field("crop_x", DataType::Int32),
        field("crop_y", DataType::Int32),
        field("crop_w", DataType::Int32),
        field("crop_h", DataType::Int32),
        nullable("label", DataType::Utf8),
    ]);
    fields.extend(ids.then(|| nullable("label_id", DataType::Int64)));
    fields.extend([
        nullable("caption", DataType::Utf8),
        nullable("meta_json", DataType::Utf8),
        field("content_sha256", digest(32)),
        nullable("quantization_error", DataType::Float32),
        field("unique_codes", DataType::Int32),
        field("grid_hash", digest(16)),
    ]);
    Arc::new(Schema::new(fields))
}

/// Columns of a failures sidecar.
pub(crate) fn failures() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("ordinal", DataType::Int64),
        field("key", DataType::Utf8),
        field("uri", DataType::Utf8),
        field("stage", DataType::Utf8),
        field("error", DataType::Utf8),
    ]))
}

/// Columns of a codebook sidecar and of `codebook.parquet`.
pub(crate) fn codebook() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("level", DataType::Int32),
        field("code", DataType::Int32),
        field("count", DataType::Int64),
        nullable("distance_sum", DataType::Float64),
    ]))
}

/// Columns of the same where bits are counted.
pub(crate) fn codebook_of_bits() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("level", DataType::Int32),
        field("bit", DataType::Int32),
        field("value", DataType::Int32),
        field("count", DataType::Int64),
        nullable("distance_sum", DataType::Float64),
    ]))
}

/// How every file is encoded. `levels` are given for token shards only.
///
/// Tokens of small codebooks go through a dictionary (the codes packed to log2 K bits), those of
/// large ones through byte streams; hashes are noise, which neither dictionary nor zstd helps. Where
/// they are plain bytes (`tokens.v2`) their lengths, which are all equal, stand apart and take nothing.
pub(crate) fn properties(
    entries: Option<Vec<KeyValue>>,
    levels: Option<&[LevelLayout]>,
) -> WriterProperties {
    let ids = entries
        .iter()
        .flatten()
        .any(|entry| entry.key == "vqtok.schema" && entry.value.as_deref() == Some(TOKENS));
    // Level 3 exists, so the fallback is never taken.
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default());
    let mut builder = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_string())
        .set_compression(zstd)
        .set_key_value_metadata(entries)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(None);
    for name in ["key", "uri", "content_sha256", "grid_hash", "quantization_error"] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for name in ["content_sha256", "grid_hash"] {
        let column = ColumnPath::from(name);
        builder = builder.set_column_compression(column.clone(), Compression::UNCOMPRESSED);
        if ids {
            builder = builder.set_column_encoding(column, Encoding::DELTA_LENGTH_BYTE_ARRAY);
        }
    }
    let levels = levels.unwrap_or_default();
    for (names, level) in levels::names(levels).iter().zip(levels) {
        if level.codes > 1 << 16 {
            let parts = [names.tokens.as_str(), "list", "element"];
            let column = ColumnPath::new(parts.map(str::to_string).to_vec());
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT);
        }
    }
    builder.build()
}

/// The schema with a file's key-value metadata in it as well: readers that go by the embedded Arrow
/// schema (pyarrow) show that one's metadata and not the file's.
pub(crate) fn with_entries(schema: SchemaRef, entries: &[KeyValue]) -> SchemaRef {
    let entry = |e: &KeyValue| (e.key.clone(), e.value.clone().unwrap_or_default());
    let entries: BTreeMap<String, String> = entries.iter().map(entry).collect();
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), entries))
}

/// A small file in memory.
pub(crate) fn encode(
    path: &Path,
    schema: SchemaRef,
    batches: impl IntoIterator<Item = Vec<ArrayRef>>,
    entries: Vec<KeyValue>,
) -> Result<Vec<u8>> {
    let write = || -> parquet::errors::Result<Vec<u8>> {
        let full = with_entries(schema.clone(), &entries);
        let properties = properties(Some(entries), None);
        let mut writer = ArrowWriter::try_new(Vec::new(), full, Some(properties))?;
        for columns in batches {
            writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
        }
        writer.into_inner()
    };
    write().map_err(parquet_error(path))
}

/// For `map_err` while writing: the system's refusals (a full disk) keep their reason.
pub(crate) fn parquet_error(path: &Path) -> impl FnOnce(ParquetError) -> Error {
    let path = path.to_path_buf();
    move |error| match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(source) => Error::Io { path, source: *source },
            Err(other) => Error::corrupt(path, told(ParquetError::External(other))),
        },
        other => Error::corrupt(path, told(other)),
    }
}

/// Writes what is left of a file, its footer. Of what the system refuses here the Parquet crate
/// keeps a text alone, so the file is asked.
pub(crate) fn finish(mut writer: ArrowWriter<TempFile>, path: &Path) -> Result<TempFile> {
    let refusal = writer.inner_mut().refusal();
    writer.into_inner().map_err(|error| match refusal.take() {
        Some(source) => Error::io(path)(source),
        None => parquet_error(path)(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(word: &str) -> serde_json::Value {
        let found = DESCRIPTIONS.iter().find(|(name, _)| *name == word).unwrap();
        serde_json::from_str(found.1).unwrap()
    }

    fn type_name(kind: &DataType) -> String {
        match kind {
            DataType::Utf8 => "utf8".into(),
            DataType::Int32 => "int32".into(),
            DataType::Int64 => "int64".into(),
            DataType::Float32 => "float32".into(),
            DataType::Float64 => "float64".into(),
            DataType::Boolean => "bool".into(),
            DataType::Binary => "binary".into(),
            DataType::FixedSizeBinary(n) => format!("fixed_size_binary[{n}]"),
            DataType::FixedSizeList(..) | DataType::List(_) => "tokens".into(),
            other => panic!("{other} is in no schema"),
        }
    }

    /// Name, type and nullability of the columns a description lists for files with a top level, with
    /// residual ones or with further books.
    fn described(
        word: &str,
        top: bool,
        [residual, books]: [usize; 2],
    ) -> Vec<(String, String, bool)> {
        let value = description(word);
        assert_eq!(value["schema"], word);
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
        let column = |c: &serde_json::Value, n: usize| {
            assert!(!text(&c["doc"]).is_empty());
            let name = text(&c["name"]).replace("<n>", &n.to_string());
            (name, text(&c["type"]), c["nullable"].as_bool().unwrap())
        };
        let columns = value["columns"].as_array().unwrap();
        let groups = columns.chunk_by(|a, b| a["only_with"] == b["only_with"]);
        let group = |group: &[serde_json::Value]| -> Vec<_> {
            let numbers = match group[0]["only_with"].as_str() {
                None => 0..1,
                Some("a top level") => 0..usize::from(top),
                Some("further books") => 1..books + 1,
                Some(other) => {
                    assert_eq!(other, "residual levels");
                    1..residual + 1
                }
            };
            numbers.flat_map(|n| group.iter().map(move |c| column(c, n))).collect()
        };
        groups.flat_map(group).collect()
    }

    fn written(schema: &Schema) -> Vec<(String, String, bool)> {
        let fields = schema.fields().iter();
        fields.map(|f| (f.name().clone(), type_name(f.data_type()), f.is_nullable())).collect()
    }

    #[test]
    fn the_published_schemas_are_what_is_written() {
        let level = LevelLayout::new;
        let fixed = [level(512, Some([4, 4]))];
        let variable = [level(1 << 18, None)];
        let bits = [LevelLayout::of_bits(40, Some([4, 4]))];
        let two = [level(512, Some([8, 8])), level(512, Some([4, 4]))];
        let deeper = LevelLayout { residual: true, ..fixed[0].clone() };
        let residual = [fixed[0].clone(), deeper.clone(), deeper];
        assert_eq!(described(PLAN, true, [0, 0]), written(&plan()));
        assert_eq!(described(PLAN_OF_PARTS, true, [0, 0]), written(&plan_of_parts()));
        assert_eq!(described(PLAN_OF_BUCKETS, true, [0, 0]), written(&plan_of_buckets()));
        assert_eq!(described(FAILURES, true, [0, 0]), written(&failures()));
        assert_eq!(described(CODEBOOK, true, [0, 0]), written(&codebook()));
        assert_eq!(described(CODEBOOK_OF_BITS, true, [0, 0]), written(&codebook_of_bits()));
        for word in [TOKENS, TOKENS_WITHOUT_IDS] {
            assert_eq!(described(word, false, [0, 0]), written(&tokens(&fixed, word)));
            assert_eq!(described(word, false, [0, 0]), written(&tokens(&variable, word)));
            assert_eq!(described(word, true, [0, 0]), written(&tokens(&two, word)));
            assert_eq!(described(word, false, [0, 0]), written(&tokens(&bits, word)));
            assert_eq!(described(word, false, [2, 0]), written(&tokens(&residual, word)));
        }
        let book = LevelLayout { book: true, ..fixed[0].clone() };
        let books = [fixed[0].clone(), book.clone(), book];
        assert_eq!(described(TOKENS, false, [0, 2]), written(&tokens(&books, TOKENS)));
    }

    #[test]
    fn tokens_are_as_narrow_as_the_codebook_allows() {
        let kind = |codes, grid| {
            tokens(&[LevelLayout::new(codes, grid)], TOKENS).field(4).data_type().clone()
        };
        let item = |kind| Arc::new(Field::new("element", kind, false));
        assert_eq!(kind(1 << 16, Some([4, 2])), DataType::FixedSizeList(item(DataType::UInt16), 8));
        assert_eq!(
            kind((1 << 16) + 1, Some([4, 2])),
            DataType::FixedSizeList(item(DataType::UInt32), 8)
        );
        assert_eq!(kind(512, None), DataType::List(item(DataType::UInt16)));
        let bits = tokens(&[LevelLayout::of_bits(40, Some([4, 2]))], TOKENS);
        let bits = bits.field(4).data_type();
        assert_eq!(*bits, DataType::FixedSizeList(item(DataType::UInt8), 320));
    }
}
