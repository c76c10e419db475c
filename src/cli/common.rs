//! Owns the flags that several commands share.

use super::flags;
use crate::data::resize::rules::ResizeRule;
use crate::data::{Alpha, Orientation, PillowVersion};
use crate::engine::{DeviceChoice, Precision};
use crate::error::{Error, Result};
use crate::job::{PixelSettings, TokenizerOptions, TrainPrecision, set_threads};
use crate::util::settings::PRECISION;
use std::path::PathBuf;

/// Flags of every command that works.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub machine: MachineFlags,
    /// Print events as JSON on stdout, one object per line
    #[arg(long)]
    pub json: bool,
}

/// Flags that say what computes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct MachineFlags {
    /// Where images are encoded: auto is an NVIDIA GPU where there is one that runs the model, else the
    /// CPU; cuda:all makes shards on every GPU of the machine. Models in ONNX files run on one; tensorrt
    /// is for them alone. Training runs on the CPU, or on one GPU in a build with the feature candle-cuda
    #[arg(long, value_name = "auto|cpu|cuda[:N|:all]|tensorrt[:N]", default_value = "auto")]
    pub device: String,
    /// What a GPU computes in: f32 for the reference's tokens, bf16 for speed; trainings also in tf32
    #[arg(long, value_name = "f32|tf32|bf16", default_value = "f32", value_parser = precision_of)]
    pub precision: TrainPrecision,
    /// Worker threads [default: RAYON_NUM_THREADS, else every core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Flags that say what an image becomes; each overrides the recipe and the model.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PixelFlags {
    /// Side of the square crop, in pixels [default: the model's; in training, the recipe's]
    #[arg(long, value_name = "N", value_parser = size_of)]
    pub size: Option<u32>,
    /// Resize rule: bicubic, bilinear, lanczos, box, taming, llamagen, chameleon, dalle, maskgit,
    /// muse, vit, vqvae2, var, unitok, infinity, movq, emu3, emu35, stretch, pad or none
    /// [default: the model's; in training, the recipe's]
    #[arg(long, value_name = "RULE")]
    pub resize: Option<ResizeRule>,
    /// Background of transparent pixels: white, black or drop [default: white; in training,
    /// the recipe's]
    #[arg(long, value_name = "COLOUR")]
    pub alpha: Option<Alpha>,
    /// Whether EXIF orientation is applied: apply turns images upright; ignore takes them as
    /// stored, as many published extraction scripts do [default: the model's or recipe's, else
    /// apply]
    #[arg(long, value_name = "apply|ignore")]
    pub orientation: Option<Orientation>,
    /// Pillow version whose resampling is matched bit for bit: 12 for every version up to 12, 13
    /// for those that resize tall images vertically first [default: the model's or recipe's, else
    /// 12]
    #[arg(long, value_name = "12|13")]
    pub pillow: Option<PillowVersion>,
}

impl From<&PixelFlags> for PixelSettings {
    fn from(flags: &PixelFlags) -> PixelSettings {
        let PixelFlags { size, resize, alpha, orientation, pillow } = *flags;
        PixelSettings { size, resize, alpha, orientation, pillow }
    }
}

/// Flags that say what a published checkpoint doesn't.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CheckpointFlags {
    /// Family of the checkpoint, where the names of its weights are ambiguous [default: detected]
    #[arg(long, value_name = "NAME")]
    pub family: Option<String>,
    /// Published configuration of the checkpoint (JSON or YAML), where it isn't beside it [default:
    /// the one beside it]
    #[arg(long, value_name = "FILE")]
    pub model_config: Option<PathBuf>,
    /// Which of several sets of weights in one file: the start of their names, such as ema, teacher,
    /// state_dict.student; model_ema for LitEma's averages, . for names without a prefix [default: the only one, or that of
    /// the family's rule]
    #[arg(long, value_name = "PREFIX")]
    pub weights: Option<String>,
    /// For families that code an image at several scales (var, infinity): the height and width of each
    /// in codes, the last that of the latents [default: those that the family is published with]
    #[arg(long, value_name = "HxW,HxW,...", value_delimiter = ',', value_parser = scale_of)]
    pub scales: Option<Vec<[usize; 2]>>,
}

/// One of `--scales`.
fn scale_of(text: &str) -> std::result::Result<[usize; 2], String> {
    let sides = text.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
    match sides {
        Some(sides) if !sides.contains(&0) => Ok(sides),
        _ => Err("a scale is its height and width in codes, as 4x4".into()),
    }
}

impl CheckpointFlags {
    /// How a tokenizer is opened with them.
    pub(super) fn options(&self) -> TokenizerOptions {
        let mut options = TokenizerOptions::new();
        if let Some(family) = &self.family {
            options = options.family(family);
        }
        if let Some(config) = &self.model_config {
            options = options.model_config(config);
        }
        if let Some(weights) = &self.weights {
            options = options.weights(weights);
        }
        if let Some(scales) = &self.scales {
            options = options.scales(scales.clone());
        }
        options
    }
}

impl Common {
    /// See [`MachineFlags::start_threads`].
    pub(super) fn start_threads(&self) -> Result<()> {
        self.machine.start_threads()
    }

    /// See [`MachineFlags::options`].
    pub(super) fn options(
        &self,
        checkpoint: &CheckpointFlags,
        pixels: &PixelFlags,
    ) -> Result<TokenizerOptions> {
        self.machine.options(checkpoint, pixels)
    }

    /// See [`MachineFlags::device_for_training`].
    pub(super) fn device_for_training(&self) -> Result<DeviceChoice> {
        self.machine.device_for_training()
    }
}

impl MachineFlags {
    /// Sets the size of the thread pool. Call once, before any work.
    pub(super) fn start_threads(&self) -> Result<()> {
        set_threads(self.threads)
    }

    /// The device of a training.
    pub(super) fn device_for_training(&self) -> Result<DeviceChoice> {
        self.device.parse()
    }

    /// How a tokenizer is opened, all flags together.
    pub(super) fn options(
        &self,
        checkpoint: &CheckpointFlags,
        pixels: &PixelFlags,
    ) -> Result<TokenizerOptions> {
        let options = checkpoint.options().device(self.device.parse()?);
        let precision = match self.precision {
            TrainPrecision::F32 => Precision::F32,
            TrainPrecision::Bf16 => Precision::Bf16,
            TrainPrecision::Tf32 => {
                let text = "tf32: trainings alone multiply in it; choose f32 or bf16";
                return Err(Error::setting(PRECISION, text.to_string()));
            }
        };
        Ok(options.precision(precision).pixels(pixels.into()))
    }
}

/// A `--precision`.
fn precision_of(word: &str) -> std::result::Result<TrainPrecision, String> {
    word.parse().map_err(|error| flags::message(&error))
}

/// A `--size`, in pixels.
fn size_of(text: &str) -> std::result::Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("a picture has at least one pixel".into()),
        Ok(size) => Ok(size),
        Err(error) => Err(format!("{error}")),
    }
}
