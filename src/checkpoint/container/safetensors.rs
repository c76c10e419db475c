//! Owns reading and writing of safetensors files.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use candle_core::{DType, Tensor};
use safetensors::Dtype as FileDtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::checkpoint::container::safetensors_header;
use crate::checkpoint::raw::Contents;
use crate::error::{Error, Result};
use crate::util::text::quoted;
use crate::weights::tensor::{Bytes, Dtype, RawTensor};

/// Whether the first bytes are those of a safetensors file: a small length, then JSON.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    match bytes.first_chunk::<9>() {
        Some([length @ .., b'{']) => {
            u64::from_le_bytes(*length) >> 32 == 0 && !bytes.starts_with(b"PK")
        }
        _ => false,
    }
}

/// All tensors of a safetensors file; nothing is copied.
///
/// # Errors
/// Where the header is not JSON, lies about sizes, or leaves holes or overlaps in the data.
pub(crate) fn read(bytes: &Bytes) -> Result<Contents, String> {
    let length = bytes.first_chunk::<8>().ok_or("shorter than any safetensors file")?;
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > safetensors_header::BYTES_MAX {
        return Err(format!(
            "a header of {header_bytes} bytes, where the format allows {}; the file is damaged",
            safetensors_header::BYTES_MAX
        ));
    }
    let start = 8 + header_bytes as usize;
    let text = bytes.get(8..start).ok_or("cut inside its header; download it again")?;

    let mut contents = Contents { container: "safetensors".into(), ..Contents::default() };
    for entry in safetensors_header::read(text, bytes.len() - start)? {
        let name = quoted(&entry.name);
        let Some(dtype) = dtype_of(&entry.dtype) else {
            contents.notes.push(format!("tensor {name} left out: type {}", word(&entry.dtype)));
            contents.unread.insert(entry.name, word(&entry.dtype));
            continue;
        };
        // The header was checked to cover the data exactly.
        let data = bytes.slice(start + entry.range.0..start + entry.range.1);
        let data = data.ok_or_else(|| format!("tensor {name} lies outside"))?;
        let tensor = RawTensor::new(dtype, entry.shape, data)
            .map_err(|e| format!("tensor {name}: {e}; the file is damaged"))?;
        contents.tensors.insert(entry.name, tensor);
    }
    contents.notes.sort();
    contents.refuse_empty("no tensor in this safetensors file")?;
    Ok(contents)
}

/// A type's word from the file, for messages: as it is where it is a word.
fn word(dtype: &str) -> String {
    let plain = dtype.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && dtype.len() <= 20 { dtype.to_owned() } else { quoted(dtype) }
}

/// What a safetensors file is written from.
pub(crate) trait Source {
    /// Type of its elements.
    fn dtype(&self) -> FileDtype;

    /// Outermost dimension first.
    fn shape(&self) -> Vec<usize>;

    /// Its values, little-endian, row-major: as many as type and shape say.
    ///
    /// # Errors
    /// Where they can't be brought to the CPU.
    fn bytes(&self) -> Result<Cow<'_, [u8]>>;
}

impl Source for Tensor {
    fn dtype(&self) -> FileDtype {
        FileDtype::from(Tensor::dtype(self))
    }

    fn shape(&self) -> Vec<usize> {
        self.dims().to_vec()
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        tensor_bytes(self).map(Cow::Owned)
    }
}

/// Writes `tensors` as one safetensors file with one entry of metadata, a tensor at a time. The
/// bytes depend on names, values and the entry alone: wider types first, then names, as the
/// format's own library orders them.
///
/// # Errors
/// Where a tensor can't be brought to the CPU, or `out` can't be written (as `io` wraps it).
pub(crate) fn write<N: AsRef<str> + Ord, S: Source>(
    tensors: &BTreeMap<N, S>,
    (key, value): (&str, &str),
    out: &mut impl Write,
    io: impl Fn(std::io::Error) -> Error,
) -> Result<()> {
    let mut order: Vec<(&N, &S)> = tensors.iter().collect();
    order.sort_by_key(|(_, source)| Reverse(source.dtype()));

    let mut start = 0;
    let mut infos = Vec::with_capacity(order.len());
    for (name, source) in &order {
        let (dtype, shape) = (source.dtype(), source.shape());
        let end = start + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo { dtype, shape, data_offsets: (start, end) };
        infos.push((name.as_ref().to_owned(), info));
        start = end;
    }
    let metadata = HashMap::from([(key.to_owned(), value.to_owned())]);
    let metadata = Metadata::new(Some(metadata), infos)
        .map_err(|e| Error::invalid(format!("weights don't fit a safetensors file: {e}")))?;
    let mut header = serde_json::to_vec(&metadata)
        .map_err(|e| Error::invalid(format!("weights don't fit a safetensors file: {e}")))?;
    header.resize(header.len().next_multiple_of(8), b' ');

    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(&io)?;
    out.write_all(&header).map_err(&io)?;
    for (_, source) in order {
        out.write_all(&source.bytes()?).map_err(&io)?;
    }
    Ok(())
}

/// The little-endian bytes of a tensor, row-major.
fn tensor_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    macro_rules! bytes_of {
        ($type:ty) => {
            flat.to_vec1::<$type>()?.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
    }
    Ok(match tensor.dtype() {
        DType::U8 => flat.to_vec1::<u8>()?,
        DType::U32 => bytes_of!(u32),
        DType::I16 => bytes_of!(i16),
        DType::I32 => bytes_of!(i32),
        DType::I64 => bytes_of!(i64),
        DType::BF16 => bytes_of!(half::bf16),
        DType::F16 => bytes_of!(half::f16),
        DType::F32 => bytes_of!(f32),
        DType::F64 => bytes_of!(f64),
        other => return Err(Error::invalid(format!("weights of type {other:?} aren't written"))),
    })
}

/// Our word for a type of the file; None for those no tokenizer is published in, and new ones.
fn dtype_of(word: &str) -> Option<Dtype> {
    Some(match word {
        "BOOL" => Dtype::Bool,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "I16" => Dtype::I16,
        "U16" => Dtype::U16,
        "I32" => Dtype::I32,
        "U32" => Dtype::U32,
        "I64" => Dtype::I64,
        "U64" => Dtype::U64,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        Bytes::from(bytes)
    }

    #[test]
    fn what_is_written_reads_back() {
        let a = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap().t().unwrap();
        let b = Tensor::new(&[7u8, 8, 9], &Device::Cpu).unwrap();
        let c = Tensor::new(&[-1i64], &Device::Cpu).unwrap();
        let tensors: BTreeMap<String, Tensor> =
            [("b", &b), ("a", &a), ("c", &c)].map(|(n, t)| (n.to_string(), t.clone())).into();
        let mut out = Vec::new();
        write(&tensors, ("format", "pt"), &mut out, |_| unreachable!("a Vec takes every byte"))
            .unwrap();
        assert!(looks_like(&out));
        let read = read(&Bytes::from(out)).unwrap();
        assert_eq!(read.tensors["a"].to_f32(), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(read.tensors["a"].shape(), [2, 2]);
        assert_eq!(read.tensors["b"].bytes(), [7, 8, 9]);
        assert_eq!(read.tensors["c"].to_i64().unwrap(), [-1]);
    }

    #[test]
    fn lying_headers_are_errors() {
        let cases: &[(&str, &[u8])] = &[
            // beyond the end, overlapping, with a hole, size against offsets, overflow, no JSON
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 4]),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                &[0; 6],
            ),
            (r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#, &[0; 4]),
            (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &[0; 8]),
            (
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
                &[0; 8],
            ),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, &[0; 8]),
            (r#"{"a":"#, &[0; 8]),
            ("{}", &[]),
        ];
        for (header, data) in cases {
            assert!(read(&file(header, data)).is_err(), "{header}");
        }
        assert!(read(&Bytes::from(vec![255; 64])).is_err());
        assert!(read(&Bytes::from(vec![1, 2])).is_err());
    }

    #[test]
    fn types_without_a_reader_are_named() {
        let header = r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#;
        let read = read(&file(header, &[0; 3])).unwrap();
        assert_eq!(read.tensors.len(), 1);
        assert_eq!(read.notes, ["tensor \"a\" left out: type F8_E4M3"]);
        assert_eq!(read.unread, [("a".to_owned(), "F8_E4M3".to_owned())].into());
        // Types that came after this program are named too.
        for (dtype, word) in [("F4", "F4"), ("F3_NEW", "F3_NEW"), ("\\u0007", r#""\u{7}""#)] {
            let header =
                format!(r#"{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,1]}}}}"#);
            let text = super::read(&file(&header, &[0])).unwrap_err();
            assert!(text.contains(&format!("\"a\" ({word})")), "{text}");
        }
    }

    #[test]
    fn a_header_of_any_size_the_format_allows_is_read() {
        let padded = |bytes: usize| {
            let mut header = br#"{"__metadata__":{"log":""#.to_vec();
            header.resize(bytes, b'x');
            header.extend(br#""},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#);
            let mut all = (header.len() as u64).to_le_bytes().to_vec();
            all.extend(header);
            all.push(7);
            read(&Bytes::from(all))
        };
        for bytes in [5 << 20, 99_000_000] {
            assert_eq!(padded(bytes).unwrap().tensors["a"].bytes(), [7]);
        }
        assert!(padded(100_000_001).unwrap_err().contains("the format allows 100000000"));
    }
}
