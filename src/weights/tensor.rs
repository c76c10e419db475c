//! Owns the tensors of a checkpoint as data: element type, shape, bytes.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

pub(crate) use super::bytes::Bytes;
use crate::error::{Error, Result};

/// Type of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    BF16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
        }
    }

    /// Whether it is one of the floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }

    /// The word for it in messages: `float32`, `int64`, as PyTorch says.
    pub fn as_str(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "uint8",
            Dtype::I8 => "int8",
            Dtype::I16 => "int16",
            Dtype::U16 => "uint16",
            Dtype::I32 => "int32",
            Dtype::U32 => "uint32",
            Dtype::I64 => "int64",
            Dtype::U64 => "uint64",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        }
    }
}

/// One tensor as it lies in a checkpoint: little-endian, row-major, contiguous.
#[derive(Clone)]
pub struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl std::fmt::Debug for RawTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawTensor({} {:?})", self.dtype.as_str(), self.shape)
    }
}

impl PartialEq for RawTensor {
    fn eq(&self, other: &RawTensor) -> bool {
        (self.dtype, &self.shape, &*self.bytes) == (other.dtype, &other.shape, &*other.bytes)
    }
}

impl RawTensor {
    /// A tensor of `bytes`.
    ///
    /// # Errors
    /// Where the bytes are not exactly as many as the shape needs.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Bytes) -> Result<RawTensor, String> {
        let need = byte_count(dtype, &shape)?;
        if need != bytes.len() {
            let have = bytes.len();
            return Err(format!("a tensor of shape {shape:?} needs {need} bytes, not {have}"));
        }
        Ok(RawTensor { dtype, shape, bytes })
    }

    /// The same values under another shape of as many elements.
    ///
    /// # Errors
    /// Where the shape has more or fewer.
    pub fn reshape(&self, shape: &[usize]) -> Result<RawTensor, String> {
        RawTensor::new(self.dtype, shape.to_vec(), self.bytes.clone())
    }

    /// Type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Outermost dimension first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its bytes: little-endian, row-major, not aligned to anything.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements as float32: exact from 16-bit floats, rounded from float64 and wide integers,
    /// bool as 0 and 1.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.elements(f32::from_le_bytes),
            Dtype::F16 => self.elements(|b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => self.elements(|b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => self.elements(|b| f64::from_le_bytes(b) as f32),
            Dtype::Bool => self.elements(|[b]: [u8; 1]| f32::from(u8::from(b != 0))),
            Dtype::U8 => self.elements(|[b]: [u8; 1]| f32::from(b)),
            Dtype::I8 => self.elements(|b| f32::from(i8::from_le_bytes(b))),
            Dtype::I16 => self.elements(|b| f32::from(i16::from_le_bytes(b))),
            Dtype::U16 => self.elements(|b| f32::from(u16::from_le_bytes(b))),
            Dtype::I32 => self.elements(|b| i32::from_le_bytes(b) as f32),
            Dtype::U32 => self.elements(|b| u32::from_le_bytes(b) as f32),
            Dtype::I64 => self.elements(|b| i64::from_le_bytes(b) as f32),
            Dtype::U64 => self.elements(|b| u64::from_le_bytes(b) as f32),
        }
    }

    /// Hands the elements as float32 to `reader`, where they lie if they lie as float32.
    ///
    /// # Errors
    /// [`Bytes::check_unchanged`].
    pub fn read<T>(&self, reader: impl FnOnce(&[f32]) -> T) -> Result<T> {
        self.bytes.check_unchanged()?;
        let in_place = self.dtype == Dtype::F32 && cfg!(target_endian = "little");
        let read = match bytemuck::try_cast_slice(&self.bytes) {
            Ok(values) if in_place => reader(values),
            _ => reader(&self.to_f32()),
        };
        self.bytes.check_unchanged()?;
        Ok(read)
    }

    /// The elements as int64; None where they are floats or too large.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self.dtype {
            Dtype::Bool => self.elements(|[b]: [u8; 1]| i64::from(b != 0)),
            Dtype::U8 => self.elements(|[b]: [u8; 1]| i64::from(b)),
            Dtype::I8 => self.elements(|b| i64::from(i8::from_le_bytes(b))),
            Dtype::I16 => self.elements(|b| i64::from(i16::from_le_bytes(b))),
            Dtype::U16 => self.elements(|b| i64::from(u16::from_le_bytes(b))),
            Dtype::I32 => self.elements(|b| i64::from(i32::from_le_bytes(b))),
            Dtype::U32 => self.elements(|b| i64::from(u32::from_le_bytes(b))),
            Dtype::I64 => self.elements(i64::from_le_bytes),
            Dtype::U64 => {
                let all = self.elements(u64::from_le_bytes);
                all.into_iter().map(|v| i64::try_from(v).ok()).collect::<Option<Vec<_>>>()?
            }
            Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64 => return None,
        })
    }

    /// A candle tensor of the same values on `device`. Types that candle lacks become the next
    /// wider one it has: bool -> u8, i8 -> i16, u16 -> u32, u64 -> i64.
    ///
    /// # Errors
    /// Where the device refuses, or a u64 doesn't fit.
    pub fn to_candle(&self, device: &Device) -> Result<Tensor> {
        let shape = self.shape.as_slice();
        let native = match self.dtype {
            Dtype::U8 => DType::U8,
            Dtype::I16 => DType::I16,
            Dtype::I32 => DType::I32,
            Dtype::U32 => DType::U32,
            Dtype::I64 => DType::I64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::Bool => {
                let bits = self.elements(|[b]: [u8; 1]| u8::from(b != 0));
                return Ok(Tensor::from_vec(bits, shape, device)?);
            }
            Dtype::I8 => {
                let wider = self.elements(|b| i16::from(i8::from_le_bytes(b)));
                return Ok(Tensor::from_vec(wider, shape, device)?);
            }
            Dtype::U16 => {
                let wider = self.elements(|b| u32::from(u16::from_le_bytes(b)));
                return Ok(Tensor::from_vec(wider, shape, device)?);
            }
            Dtype::U64 => {
                let wider = self.to_i64();
                let wider = wider.ok_or_else(|| Error::invalid("a uint64 value above 2^63 - 1"))?;
                return Ok(Tensor::from_vec(wider, shape, device)?);
            }
        };
        if self.is_empty() {
            return Ok(Tensor::zeros(shape, native, device)?);
        }
        self.bytes.check_unchanged()?;
        let tensor = Tensor::from_raw_buffer(&self.bytes, native, shape, device)?;
        self.bytes.check_unchanged()?;
        Ok(tensor)
    }

    /// Every element through `convert`.
    fn elements<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        debug_assert_eq!(N, self.dtype.size());
        self.bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)).collect()
    }
}

/// Bytes of a contiguous tensor.
///
/// # Errors
/// Where the product is larger than the address space.
pub(crate) fn byte_count(dtype: Dtype, shape: &[usize]) -> Result<usize, String> {
    // Zero-sized tensors have zero bytes whatever their other dimensions say.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(dtype.size(), |bytes, &n| bytes.checked_mul(n))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(|| format!("a tensor of shape {shape:?} is larger than any memory"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;

    fn tensor(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> RawTensor {
        RawTensor::new(dtype, shape.to_vec(), Bytes::from(bytes.to_vec())).unwrap()
    }

    #[test]
    fn every_type_becomes_the_float_it_means() {
        let cases: &[(Dtype, &[u8], f32)] = &[
            (Dtype::Bool, &[2], 1.0),
            (Dtype::U8, &[200], 200.0),
            (Dtype::I8, &[0xff], -1.0),
            (Dtype::I16, &(-3i16).to_le_bytes(), -3.0),
            (Dtype::U16, &65535u16.to_le_bytes(), 65535.0),
            (Dtype::I32, &(-70000i32).to_le_bytes(), -70000.0),
            (Dtype::U32, &u32::MAX.to_le_bytes(), 4294967296.0),
            (Dtype::I64, &(-5i64).to_le_bytes(), -5.0),
            (Dtype::U64, &5u64.to_le_bytes(), 5.0),
            (Dtype::F16, &f16::from_f32(0.5).to_le_bytes(), 0.5),
            (Dtype::BF16, &bf16::from_f32(-2.0).to_le_bytes(), -2.0),
            (Dtype::F32, &1.25f32.to_le_bytes(), 1.25),
            (Dtype::F64, &1e-3f64.to_le_bytes(), 1e-3),
        ];
        for (dtype, bytes, value) in cases {
            let raw = tensor(*dtype, &[1], bytes);
            assert_eq!(raw.to_f32(), [*value], "{dtype:?}");
            let candle = raw.to_candle(&Device::Cpu).unwrap();
            let candle = candle.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(candle, [*value], "{dtype:?} through candle");
        }
    }

    #[test]
    fn unaligned_and_empty_slices_become_candle_tensors() {
        let mut bytes = vec![0u8];
        bytes.extend([1.0f32, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()));
        let slice = Bytes::from(bytes).slice(1..13).unwrap();
        let raw = RawTensor::new(Dtype::F32, vec![3, 1], slice).unwrap();
        let candle = raw.to_candle(&Device::Cpu).unwrap();
        assert_eq!(candle.to_vec2::<f32>().unwrap(), [[1.0], [2.0], [3.0]]);
        let empty = tensor(Dtype::F32, &[0, 3], &[]);
        assert_eq!(empty.to_candle(&Device::Cpu).unwrap().dims(), [0, 3]);
    }

    #[test]
    fn elements_are_read_where_they_lie_or_converted() {
        let bytes =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let aligned = tensor(Dtype::F32, &[2], &bytes(&[1.5, -2.0]));
        let place = aligned.read(|values| (values.to_vec(), values.as_ptr() as usize)).unwrap();
        assert_eq!(place, (vec![1.5, -2.0], aligned.bytes().as_ptr() as usize));
        let odd = [&[0u8][..], &bytes(&[1.5, -2.0])].concat();
        let odd = Bytes::from(odd).slice(1..9).unwrap();
        let odd = RawTensor::new(Dtype::F32, vec![2], odd).unwrap();
        assert_eq!(odd.read(<[f32]>::to_vec).unwrap(), [1.5, -2.0]);
        // As many bytes as floats need, but no floats.
        let whole = tensor(Dtype::I32, &[2], &[7, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(whole.read(<[f32]>::to_vec).unwrap(), [7.0, 9.0]);
        assert_eq!(whole.reshape(&[1, 2, 1]).unwrap().shape(), [1, 2, 1]);
        assert!(whole.reshape(&[3]).is_err());
    }

    #[test]
    fn a_file_that_is_written_to_is_named_and_one_that_is_replaced_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        let old = SystemTime::now() - std::time::Duration::from_secs(9);
        let write = |path: &Path, value: f32| {
            std::fs::write(path, value.to_le_bytes()).unwrap();
        };
        write(&path, 1.0);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let raw = RawTensor::new(Dtype::F32, vec![1], Bytes::map(&path).unwrap()).unwrap();
        write(&dir.path().join("new"), 2.0);
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(raw.read(<[f32]>::to_vec).unwrap(), [1.0]);

        let raw = RawTensor::new(Dtype::F32, vec![1], Bytes::map(&path).unwrap()).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        for error in [raw.read(|_| ()).err(), raw.to_candle(&Device::Cpu).err()] {
            let text = error.unwrap().to_string();
            assert!(text.contains("weights: it was written to while it was in use"), "{text}");
        }
    }

    #[test]
    fn shape_and_bytes_must_agree() {
        assert!(RawTensor::new(Dtype::F32, vec![2], Bytes::from(vec![0; 7])).is_err());
        assert!(byte_count(Dtype::F32, &[usize::MAX, 2]).is_err());
        assert_eq!(byte_count(Dtype::F32, &[usize::MAX, 0]), Ok(0));
        assert!(Bytes::from(vec![0; 4]).slice(3..5).is_none());
    }
}
