//! Owns the choice of a device and of a precision, and their words.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::compute_device::ComputeDevice;
use crate::util::settings::{DEVICE, ENGINE, PRECISION};
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

impl DeviceChoice {
    /// The device for what candle computes: trainings and the reference engine.
    ///
    /// # Errors
    /// A device that it doesn't have, or several; a build without its CUDA side; a GPU that isn't there.
    pub(crate) fn for_candle(self) -> Result<ComputeDevice> {
        match self {
            DeviceChoice::Cpu => Ok(ComputeDevice::default()),
            DeviceChoice::Auto => Ok(ComputeDevice::cuda_or_cpu()),
            DeviceChoice::Cuda(number) => ComputeDevice::cuda(number),
            DeviceChoice::CudaAll | DeviceChoice::TensorRt(_) => {
                let text =
                    "trainings and the reference engine run on cpu or on one GPU, cuda or cuda:N";
                Err(Error::setting(DEVICE, format!("{self}: {text}")))
            }
        }
    }
}

/// Whose arithmetic encodes images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// vqtok's own kernels.
    #[default]
    Own,
    /// The reference that these are tested against, through candle: slow.
    Candle,
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(word: &str) -> Result<EngineKind> {
        match word {
            "vqtok" => Ok(EngineKind::Own),
            "candle" => Ok(EngineKind::Candle),
            _ => {
                let shown = text::shorten(word);
                Err(Error::setting(ENGINE, format!("{shown}: choose vqtok or candle")))
            }
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
    fn candle_has_the_processor_and_single_cards() {
        assert!(DeviceChoice::Cpu.for_candle().unwrap().is_cpu());
        for several in [DeviceChoice::CudaAll, DeviceChoice::TensorRt(1)] {
            let text = several.for_candle().unwrap_err().to_string();
            assert!(text.contains(&several.to_string()) && text.contains("one GPU"), "{text}");
        }
        let engine = |word: &str| word.parse::<EngineKind>();
        assert_eq!(engine("vqtok").unwrap(), EngineKind::default());
        assert_eq!(engine("candle").unwrap(), EngineKind::Candle);
        assert!(engine("Candle").unwrap_err().to_string().contains("vqtok or candle"));
    }

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
