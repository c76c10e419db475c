//! Owns the event file that TensorBoard opens: its records, its messages, and how it goes on after
//! a stop. Must not know: what is trained, which numbers there are.
//!
//! A file is a run of records `[u64 length][masked crc of it][message][masked crc of it]`, little
//! endian, as TensorFlow's `RecordWriter` makes them; a message is an `Event` of TensorFlow's
//! `event.proto`. Only the fields that are written stand here.
//!
//! A resumed training cuts the file to the length that its checkpoint knows and writes on, so that
//! no step stands twice. The records that come again are as long as those that were cut (they
//! differ in nothing but their wall time), so a TensorBoard that was reading goes on as well.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::error::{Error, Result};
use crate::util::output_file::OutputFile;

/// What TensorBoard looks for at the head of a file.
const VERSION: &str = "brain.Event:2";
/// Bars of a histogram over the codes.
const CODE_BARS: usize = 128;

/// One record.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    pub what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// A named value of a step.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(oneof = "Content", tags = "2, 4, 5")]
    pub content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Content {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "4")]
    Image(Image),
    #[prost(message, tag = "5")]
    Histogram(Histogram),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Image {
    #[prost(int32, tag = "1")]
    pub height: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// 3 for RGB.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub png: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    #[prost(double, tag = "1")]
    pub min: f64,
    #[prost(double, tag = "2")]
    pub max: f64,
    /// Number of values.
    #[prost(double, tag = "3")]
    pub num: f64,
    #[prost(double, tag = "4")]
    pub sum: f64,
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// Right edges; the first bar begins at `min`.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

impl Value {
    /// A number.
    pub(crate) fn scalar(tag: &str, value: f64) -> Value {
        Value { tag: tag.into(), content: Some(Content::Scalar(value as f32)) }
    }

    /// A picture of RGB pixels, as the bytes of a PNG file.
    pub(crate) fn image(tag: &str, width: u32, height: u32, png: &[u8]) -> Value {
        let (width, height) = (width as i32, height as i32);
        let image = Image { height, width, colorspace: 3, png: png.to_vec() };
        Value { tag: tag.into(), content: Some(Content::Image(image)) }
    }

    /// Which codes were used: code k takes the place from k to k + 1 on the axis.
    pub(crate) fn codes(tag: &str, uses: &[u64]) -> Value {
        let bars = uses.len().min(CODE_BARS);
        let edge = |bar: usize| bar * uses.len() / bars.max(1);
        let bars = (0..bars).map(|bar| {
            let count: u64 = uses[edge(bar)..edge(bar + 1)].iter().sum();
            (edge(bar + 1) as f64, count as f64)
        });
        let values = uses.iter().zip(0u64..).map(|(n, code)| (*n as f64, code as f64 + 0.5));
        Value::histogram(tag, (0.0, uses.len() as f64), bars, values)
    }

    /// How often codes were used: bars [0, 1), [1, 2), [2, 4), [4, 8) ... of uses, the height the
    /// number of codes.
    pub(crate) fn uses(tag: &str, uses: &[u64]) -> Value {
        let bar = |uses: u64| (u64::BITS - uses.leading_zeros()) as usize;
        let mut counts = vec![0.0; uses.iter().map(|n| bar(*n) + 1).max().unwrap_or(1)];
        uses.iter().for_each(|n| counts[bar(*n)] += 1.0);
        let top = (counts.len() as f64 - 1.0).exp2();
        let bars = counts.into_iter().enumerate().map(|(i, n)| ((i as f64).exp2(), n));
        Value::histogram(tag, (0.0, top), bars, uses.iter().map(|n| (1.0, *n as f64)))
    }

    /// From (right edge, height) and, for the sums, (weight, value).
    fn histogram(
        tag: &str,
        (min, max): (f64, f64),
        bars: impl Iterator<Item = (f64, f64)>,
        values: impl Iterator<Item = (f64, f64)>,
    ) -> Value {
        let (mut num, mut sum, mut sum_squares) = (0.0, 0.0, 0.0);
        for (weight, value) in values {
            num += weight;
            sum += weight * value;
            sum_squares += weight * value * value;
        }
        let (bucket_limit, bucket) = bars.unzip();
        let histogram = Histogram { min, max, num, sum, sum_squares, bucket_limit, bucket };
        Value { tag: tag.into(), content: Some(Content::Histogram(histogram)) }
    }
}

/// The file of one training.
pub(crate) struct EventFile {
    path: PathBuf,
    file: OutputFile,
    bytes: u64,
}

impl EventFile {
    /// Opens or creates the file and cuts what lies after `keep` bytes.
    pub(crate) fn open(path: &Path, keep: u64) -> Result<EventFile> {
        let (file, bytes) =
            OutputFile::append(path, keep, whole_records).map_err(Error::io(path))?;
        let mut events = EventFile { path: path.to_path_buf(), file, bytes };
        if bytes == 0 {
            events.write(0, What::FileVersion(VERSION.into()))?;
        }
        Ok(events)
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the values of a step; nothing where there are none.
    pub(crate) fn add(&mut self, step: usize, values: Vec<Value>) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.write(step as i64, What::Summary(Summary { values }))
    }

    /// Everything that was added is on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync().map_err(Error::io(&self.path))
    }

    fn write(&mut self, step: i64, what: What) -> Result<()> {
        // A clock before 1970 is nobody's; the time is for the eye alone.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = Event { wall_time: now.as_secs_f64(), step, what: Some(what) };
        let bytes = framed(&event.encode_to_vec());
        self.file.write_all(&bytes).map_err(Error::io(&self.path))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Bytes of the whole records at the head of a file: behind half a one, nothing would be read.
fn whole_records(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let (mut file, mut whole) = (BufReader::new(file), 0);
    let mut head = [0; 12];
    while whole + 16 <= bytes {
        file.read_exact(&mut head)?;
        let (length, crc) = head.split_at(8);
        if crc != masked_crc(length).to_le_bytes() {
            break;
        }
        let message = length.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        match whole.checked_add(16).and_then(|at| at.checked_add(message)) {
            Some(end) if end <= bytes => whole = end,
            _ => break,
        }
        file.seek_relative(message as i64 + 4)?;
    }
    Ok(whole)
}

/// A message as a record.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(message);
    record.extend_from_slice(&masked_crc(message).to_le_bytes());
    record
}

/// CRC-32C, turned and shifted so that a checksum of data with checksums in it stays good.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The events of a file, every checksum and every byte accounted for; a reason otherwise.
#[cfg(test)]
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (length, behind) = rest.split_first_chunk::<8>().ok_or(format!("{at}: cut"))?;
        let (crc, behind) = behind.split_first_chunk::<4>().ok_or(format!("{at}: cut"))?;
        if u32::from_le_bytes(*crc) != masked_crc(length) {
            return Err(format!("{at}: the length's checksum differs"));
        }
        let length = u64::from_le_bytes(*length) as usize;
        let (message, behind) = behind.split_at_checked(length).ok_or(format!("{at}: cut"))?;
        let (crc, behind) = behind.split_first_chunk::<4>().ok_or(format!("{at}: cut"))?;
        if u32::from_le_bytes(*crc) != masked_crc(message) {
            return Err(format!("{at}: the message's checksum differs"));
        }
        events.push(Event::decode(message).map_err(|e| format!("{at}: {e}"))?);
        rest = behind;
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn record(wall_time: f64, step: i64, what: What) -> String {
        hex(&framed(&Event { wall_time, step, what: Some(what) }.encode_to_vec()))
    }

    /// The expected bytes are those of tensorboard 2.21's own `RecordWriter`.
    #[test]
    fn records_are_those_of_tensorboard_byte_for_byte() {
        assert_eq!(
            record(1.5, 0, What::FileVersion(VERSION.into())),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        );
        let values = vec![Value::scalar("loss", 0.25), Value::scalar("psnr", -3.5)];
        assert_eq!(
            record(2.0, 300, What::Summary(Summary { values })),
            "2800000000000000ff70164a09000000000000004010ac022a1a0a0b0a046c6f7373150000803e0a0b0a\
             0470736e7215000060c098971b26"
        );
        let values = vec![Value::image("p", 3, 2, b"PNG")];
        assert_eq!(
            record(2.0, 1, What::Summary(Summary { values })),
            "1f00000000000000514b441809000000000000004010012a120a100a0170220b08021003180322035\
             04e479394fbe0"
        );
        let bars = [(1.0, 2.0), (4.0, 1.0)].into_iter();
        let values = [(1.0, 1.0), (1.0, 2.0), (1.0, 4.0)].into_iter();
        let values = vec![Value::histogram("codes", (0.0, 4.0), bars, values)];
        assert_eq!(
            record(2.0, 1, What::Summary(Summary { values })),
            "60000000000000002821c6da09000000000000004010012a530a510a05636f6465732a48110000000000\
             001040190000000000000840210000000000001c402900000000000035403210000000000000f03f0000\
             0000000010403a100000000000000040000000000000f03f4f4a6c06"
        );
    }

    #[test]
    fn a_file_goes_on_where_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut file = EventFile::open(&path, 0).unwrap();
        file.add(1, vec![Value::scalar("a", 1.0)]).unwrap();
        file.add(2, Vec::new()).unwrap();
        let keep = file.bytes();
        file.add(2, vec![Value::scalar("a", 2.0)]).unwrap();
        file.sync().unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len() as u64, file.bytes());
        drop(file);
        // What came after the checkpoint, and half a record of a kill, go.
        std::fs::write(&path, [whole.as_slice(), &[7; 5]].concat()).unwrap();
        let mut file = EventFile::open(&path, keep).unwrap();
        file.add(2, vec![Value::scalar("a", 2.0)]).unwrap();
        let again = std::fs::read(&path).unwrap();
        assert_eq!(again.len(), whole.len());
        let steps: Vec<_> = read(&again).unwrap().iter().map(|e| e.step).collect();
        assert_eq!(steps, [0, 1, 2]);
        let events = read(&again).unwrap();
        assert_eq!(events[0].what, Some(What::FileVersion(VERSION.into())));
        let Some(What::Summary(summary)) = &events[2].what else { panic!("{events:?}") };
        assert_eq!(summary.values, [Value::scalar("a", 2.0)]);
        assert!(events.iter().all(|e| e.wall_time > 1.7e9));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut file = EventFile::open(&path, 0).unwrap();
        let head = file.bytes() as usize;
        file.add(1, vec![Value::uses("u", &[0, 1, 3, 900])]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 16;
            assert!(read(&broken).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err() || at == 0 || at == head, "cut at {at}");
        }
    }

    #[test]
    fn histograms_hold_every_use_and_every_code() {
        let histogram = |value: Value| match value.content {
            Some(Content::Histogram(histogram)) => histogram,
            other => panic!("{other:?}"),
        };
        let uses: Vec<u64> = (0..1000).map(|code| code % 3).collect();
        let codes = histogram(Value::codes("codes", &uses));
        assert_eq!(codes.bucket.len(), CODE_BARS);
        assert_eq!(codes.bucket.iter().sum::<f64>(), 999.0);
        assert_eq!((codes.num, codes.min, codes.max), (999.0, 0.0, 1000.0));
        assert_eq!(codes.bucket_limit[CODE_BARS - 1], 1000.0);
        assert!(codes.bucket_limit.is_sorted());
        let few = histogram(Value::codes("codes", &[5, 0, 2]));
        assert_eq!((few.bucket, few.bucket_limit), (vec![5.0, 0.0, 2.0], vec![1.0, 2.0, 3.0]));
        let uses = histogram(Value::uses("uses", &[0, 0, 1, 2, 3, 4, 8]));
        assert_eq!(uses.bucket, [2.0, 1.0, 2.0, 1.0, 1.0]);
        assert_eq!(uses.bucket_limit, [1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!((uses.num, uses.sum, uses.max), (7.0, 18.0, 16.0));
        assert_eq!(histogram(Value::codes("codes", &[])).bucket.len(), 0);
    }
}
