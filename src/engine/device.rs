//! Owns the choice of a device and of a precision, and their words.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::util::settings::{DEVICE, PRECISION};
use crate::util::text;

/// Where an engine computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first NVIDIA GPU where there is one that runs the model, and its libraries; else the
    /// processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of that number, or an error.
    Cuda(usize),
    /// All NVIDIA GPUs of the machine where many shards are made, else the first; or an error.
    CudaAll,
    /// The same through TensorRT, for models in ONNX files.
    TensorRt(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(word: &str) -> Result<DeviceChoice> {
        let wrong = || {
            let shown = text::shorten(word);
            Error::setting(
                DEVICE,
                format!(
                    "{shown}: choose auto, cpu, cuda, cuda:N or cuda:all, tensorrt or tensorrt:N"
                ),
            )
        };
        match word.split_once(':') {
            None => match word {
                "auto" => Ok(DeviceChoice::Auto),
                "cpu" => Ok(DeviceChoice::Cpu),
                "cuda" => Ok(DeviceChoice::Cuda(0)),
                "tensorrt" => Ok(DeviceChoice::TensorRt(0)),
                _ => Err(wrong()),
            },
            Some(("cuda", "all")) => Ok(DeviceChoice::CudaAll),
            Some(("cuda", number)) => number.parse().map(DeviceChoice::Cuda).map_err(|_| wrong()),
            Some(("tensorrt", number)) => {
                number.parse().map(DeviceChoice::TensorRt).map_err(|_| wrong())
            }
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    /// As it is chosen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(0) => f.write_str("cuda"),
            DeviceChoice::Cuda(number) => write!(f, "cuda:{number}"),
            DeviceChoice::CudaAll => f.write_str("cuda:all"),
            DeviceChoice::TensorRt(0) => f.write_str("tensorrt"),
            DeviceChoice::TensorRt(number) => write!(f, "tensorrt:{number}"),
        }
    }
}

/// What maps and weights are held in; sums are float32 in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// float32, no TF32: the reference's tokens.
    #[default]
    F32,
    /// bfloat16: a share of the tokens differs from float32's.
    Bf16,
}

impl Precision {
    /// The word, as written to shards.
    pub const fn as_str(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(word: &str) -> Result<Precision> {
        [Precision::F32, Precision::Bf16]
            .into_iter()
            .find(|precision| precision.as_str() == word)
            .ok_or_else(|| {
                let shown = text::shorten(word);
                Error::setting(PRECISION, format!("{shown}: choose f32 or bf16"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_devices_and_precisions() {
        let device = |word: &str| word.parse::<DeviceChoice>();
        assert_eq!(device("auto").unwrap(), DeviceChoice::Auto);
        assert_eq!(device("cuda").unwrap(), DeviceChoice::Cuda(0));
        assert_eq!(device("cuda:3").unwrap(), DeviceChoice::Cuda(3));
        assert_eq!(device("tensorrt").unwrap(), DeviceChoice::TensorRt(0));
        for word in ["auto", "cpu", "cuda", "cuda:2", "cuda:all", "tensorrt", "tensorrt:1"] {
            assert_eq!(device(word).unwrap().to_string(), word);
        }
        for wrong in ["cuda:", "cuda:x", "cpu:1", "gpu", ""] {
            let text = device(wrong).unwrap_err().to_string();
            assert!(text.contains("choose auto, cpu, cuda, cuda:N or cuda:all"), "{text}");
        }
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        }
        assert!("f16".parse::<Precision>().is_err());
    }
}
