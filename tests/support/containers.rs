//! Containers for tests, written by rules of the formats alone: tars, zips, tables.

#![allow(dead_code)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int64Array, LargeBinaryArray, ListArray, RecordBatch,
    StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// One image with what is said of it.
#[derive(Clone)]
pub struct Sample {
    pub key: String,
    pub extension: String,
    pub bytes: Vec<u8>,
    pub label: String,
    pub caption: String,
}

/// Image files, each with its name, as samples in their order: called by their names, with cats and
/// dogs in turn, and captions that number them.
pub fn samples(files: Vec<(String, Vec<u8>)>) -> Vec<Sample> {
    let sample = |(index, (name, bytes)): (usize, (String, Vec<u8>))| {
        let (stem, extension) = name.rsplit_once('.').unwrap();
        Sample {
            key: stem.replace('/', "_"),
            extension: extension.to_string(),
            bytes,
            label: ["cat", "dog"][index % 2].to_string(),
            caption: format!("picture {index}, 猫"),
        }
    };
    files.into_iter().enumerate().map(sample).collect()
}

/// A ustar archive of these members, with its end mark.
pub fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    tar_of_time(members, 0)
}

/// The same, its members last written so many seconds after the beginning of 1970, under 8.
pub fn tar_of_time(members: &[(String, Vec<u8>)], time: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in members {
        let mut header = [0u8; 512];
        assert!(name.len() <= 100, "{name}");
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[136..148].copy_from_slice(format!("{time:011o}\0").as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out.resize(out.len().next_multiple_of(10240), 0);
    out
}

/// The members of a WebDataset tar.
pub fn members(samples: &[Sample]) -> Vec<(String, Vec<u8>)> {
    let mut members = Vec::new();
    for s in samples {
        members.push((format!("{}.{}", s.key, s.extension), s.bytes.clone()));
        members.push((format!("{}.txt", s.key), s.caption.clone().into_bytes()));
        members.push((format!("{}.cls", s.key), s.label.clone().into_bytes()));
    }
    members
}

/// `bytes` compressed as `extension` says.
pub fn compressed(extension: &str, bytes: &[u8]) -> Vec<u8> {
    match extension {
        "gz" => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        "bz2" => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        "xz" => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        "zst" => zstd::encode_all(bytes, 1).unwrap(),
        other => panic!("{other}"),
    }
}

/// A zip of stored members.
pub fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let u16 = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
    let u32 = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    for (name, bytes) in members {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        // Version, flags (UTF-8), method, time, date, checksum, sizes, lengths of name and extra.
        let mut common = Vec::new();
        [20, 0x800, 0, 0, 0x21].iter().for_each(|&n| common.extend(u16(n)));
        common.extend(crc.sum().to_le_bytes());
        common.extend([u32(bytes.len()), u32(bytes.len())].concat());
        common.extend([u16(name.len()), u16(0)].concat());
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(u32(out.len()));
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(bytes);
    }
    let start = out.len();
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([u16(members.len()), u16(members.len())].concat());
    out.extend([u32(directory.len()), u32(start)].concat());
    out.extend(u16(0));
    out
}

/// How a table holds images.
#[derive(Debug, Clone, Copy)]
pub enum Layout {
    Struct,
    Binary,
    LargeBinary,
    List,
}

/// A Parquet file with the columns `image`, `label`, `caption`, `key`, of row groups of `group` rows.
pub fn table(path: &Path, samples: &[Sample], layout: Layout, group: usize) {
    let bytes = || samples.iter().map(|s| s.bytes.as_slice());
    let structs = || {
        let fields = vec![
            Field::new("bytes", DataType::Binary, true),
            Field::new("path", DataType::Utf8, true),
        ];
        let paths = StringArray::from_iter_values(samples.iter().map(|s| &s.key));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(BinaryArray::from_iter_values(bytes())), Arc::new(paths)];
        StructArray::new(fields.into(), columns, None)
    };
    let image: ArrayRef = match layout {
        Layout::Struct => Arc::new(structs()),
        Layout::Binary => Arc::new(BinaryArray::from_iter_values(bytes())),
        Layout::LargeBinary => Arc::new(LargeBinaryArray::from_iter_values(bytes())),
        Layout::List => {
            let item = Arc::new(Field::new("element", structs().data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths(samples.iter().map(|_| 1));
            Arc::new(ListArray::new(item, offsets, Arc::new(structs()), None))
        }
    };
    let text = |get: fn(&Sample) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(samples.iter().map(get)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("image", image),
        ("label", text(|s| &s.label)),
        ("caption", text(|s| &s.caption)),
        ("__key__", text(|s| &s.key)),
        ("width", Arc::new(Int64Array::from_iter_values(samples.iter().map(|_| 7)))),
    ];
    let field =
        |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}
