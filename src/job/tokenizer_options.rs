//! Owns how a tokenizer is opened, and what is refused before it is.

use std::path::{Path, PathBuf};

use super::model_copy::of_a_copy;
use super::pixels::PixelSettings;
use super::tokenizer::Tokenizer;
use crate::checkpoint::find::configs;
use crate::checkpoint::onnx::{self, OnnxSettings};
use crate::checkpoint::recognise::detect::{self, DetectOptions};
use crate::data::resize::rules::ResizeRule;
use crate::engine::{self, DeviceChoice, Engine, EngineKind, OnnxEngine, Precision};
use crate::error::{Error, Result};
use crate::model::config::Architecture;
use crate::model::opened::Opened;
use crate::storage;
use crate::tokens::Plan;
use crate::train;
use crate::util::settings::{ENGINE, MODEL, ONNXRUNTIME, RESUME};
use crate::util::{compute_pool, text};

/// How a tokenizer is opened: what a published checkpoint doesn't say of itself, where it computes,
/// and what images become before it sees them.
#[derive(Debug, Clone, Default)]
pub struct TokenizerOptions {
    device: DeviceChoice,
    engine: EngineKind,
    precision: Precision,
    pub(super) family: Option<String>,
    pub(super) model_config: Option<PathBuf>,
    pub(super) weights: Option<String>,
    pub(super) scales: Option<Vec<[usize; 2]>>,
    pub(super) onnx: OnnxSettings,
    pub(super) onnxruntime: Option<PathBuf>,
    pub(super) pixels: PixelSettings,
}

impl TokenizerOptions {
    /// Everything as the model says.
    pub fn new() -> TokenizerOptions {
        TokenizerOptions::default()
    }

    /// Where images are encoded; decoding runs on the CPU in any case.
    pub fn device(mut self, device: DeviceChoice) -> TokenizerOptions {
        self.device = device;
        self
    }

    /// Whose arithmetic encodes them.
    pub fn engine(mut self, engine: EngineKind) -> TokenizerOptions {
        self.engine = engine;
        self
    }

    /// Where no device was asked for: the CPU, if the output at `out` was begun on it. A card would make
    /// another output.
    pub(crate) fn following(self, out: &Path) -> TokenizerOptions {
        let begun_on_cpu = || {
            let plan = storage::opening(|| Plan::open(out));
            plan.is_ok_and(|plan| plan.identity().device == "cpu")
        };
        match self.device {
            DeviceChoice::Auto if engine::cards() > 0 && begun_on_cpu() => {
                self.device(DeviceChoice::Cpu)
            }
            _ => self,
        }
    }

    /// The device that was asked for.
    pub(crate) fn chosen_device(&self) -> DeviceChoice {
        self.device
    }

    /// What a GPU computes in.
    pub fn precision(mut self, precision: Precision) -> TokenizerOptions {
        self.precision = precision;
        self
    }

    /// Family of the checkpoint, where the names of its weights can't tell.
    pub fn family(mut self, name: impl Into<String>) -> TokenizerOptions {
        self.family = Some(name.into());
        self
    }

    /// Published configuration (JSON or YAML), where it doesn't lie beside the checkpoint.
    pub fn model_config(mut self, file: impl Into<PathBuf>) -> TokenizerOptions {
        self.model_config = Some(file.into());
        self
    }

    /// Which of several sets of weights in one file: the start of their names, such as `ema`.
    pub fn weights(mut self, prefix: impl Into<String>) -> TokenizerOptions {
        self.weights = Some(prefix.into());
        self
    }

    /// The scales (height, width), in codes, of a family that codes several: the coarsest first, the
    /// last that of the latents. By default those that the family is published with.
    pub fn scales(mut self, scales: impl Into<Vec<[usize; 2]>>) -> TokenizerOptions {
        self.scales = Some(scales.into());
        self
    }

    /// What an ONNX file and the settings beside it don't say.
    pub fn onnx(mut self, settings: OnnxSettings) -> TokenizerOptions {
        self.onnx = settings;
        self
    }

    /// The library of ONNX Runtime that runs ONNX models, or a folder with it; by default the one that
    /// is found.
    pub fn onnxruntime(mut self, library: impl Into<PathBuf>) -> TokenizerOptions {
        self.onnxruntime = Some(library.into());
        self
    }

    /// What an image becomes before the model sees it.
    pub fn pixels(mut self, pixels: PixelSettings) -> TokenizerOptions {
        self.pixels = pixels;
        self
    }

    /// Refuses a device or precision that no model could be opened on, before any work.
    ///
    /// # Errors
    /// That.
    pub fn check_device(&self) -> Result<()> {
        match self.engine {
            EngineKind::Own => engine::require(self.device, self.precision),
            EngineKind::Candle => engine::require_reference(self.device, self.precision),
        }
    }

    /// The same for the model at a path, which may be one that ONNX Runtime runs.
    ///
    /// # Errors
    /// That; no library that runs it.
    pub fn check_device_for(&self, model: impl AsRef<Path>) -> Result<()> {
        let model = model.as_ref();
        match onnx::is_onnx(model) {
            true if self.engine == EngineKind::Candle => Err(Error::setting(
                ENGINE,
                "candle: models in ONNX files run in ONNX Runtime alone",
            )),
            true => {
                let library = self.onnxruntime.as_deref();
                engine::onnx::require(self.device, self.precision, library).map(|_| ())
            }
            false if self.onnxruntime.is_some() => {
                Err(Error::setting(ONNXRUNTIME, "is for models in ONNX files alone"))
            }
            false => self.check_device(),
        }
    }

    /// Opens a model folder or a checkpoint file.
    ///
    /// # Errors
    /// A model that can't be read, whose family isn't clear, whose training isn't finished, or that
    /// asks for a device that isn't there or a precision that the device doesn't have.
    pub fn open(&self, model: impl AsRef<Path>) -> Result<Tokenizer> {
        let model = model.as_ref();
        let path = &storage::opening(|| storage::local_copy(model).map_err(Error::io(model)))?;
        compute_pool::check_environment()?;
        self.pixels.check()?;
        refuse_unfinished(path)?;
        self.check_device_for(path)?;
        let opened = self.detect(|options| detect::begin(path, options));
        let engine = opened.and_then(|opened| self.open_engine(opened).map_err(Error::about(path)));
        let engine = engine.map_err(|error| of_a_copy(error, model))?;
        let (path, model, pixels) = (path.to_path_buf(), model.to_path_buf(), self.pixels);
        let options = self.clone();
        Ok(Tokenizer { engine, path, model, pixels, options, images_max: usize::MAX })
    }

    fn open_engine(&self, opened: Opened) -> Result<Box<dyn Engine>> {
        if !matches!(opened.config.architecture, Architecture::Onnx(_)) {
            return match self.engine {
                EngineKind::Own => engine::open(opened, self.device, self.precision),
                EngineKind::Candle => engine::open_reference(opened, self.device, self.precision),
            };
        }
        let library = self.onnxruntime.as_deref();
        // Where pictures keep their sizes, the model's own says nothing of them.
        let varies = self.pixels.resize.is_some_and(ResizeRule::varies);
        let side = self.pixels.size.or(opened.config.preprocess.size).filter(|_| !varies);
        Ok(Box::new(OnnxEngine::open(opened, self.device, library, side)?))
    }

    /// Reads a checkpoint with what is said about it.
    ///
    /// # Errors
    /// Those of `read`; a configuration that can't be read.
    pub(crate) fn detect<T>(&self, read: impl FnOnce(&DetectOptions) -> Result<T>) -> Result<T> {
        let config = self.model_config.as_deref().map(configs::read).transpose()?;
        read(&DetectOptions {
            family: self.family.as_deref(),
            config: config.as_ref(),
            weights: self.weights.as_deref(),
            scales: self.scales.as_deref(),
            onnx: Some(&self.onnx),
            ..DetectOptions::default()
        })
    }
}

/// Refuses the folder of a training that has no model yet, before it is taken for a checkpoint.
pub(crate) fn refuse_unfinished(model: &Path) -> Result<()> {
    if !train::unfinished(model) {
        return Ok(());
    }
    Err(train::failed(model).unwrap_or_else(|| {
        Error::invalid(format!(
            "{0}: its training isn't finished, so there is no model yet; train into this {MODEL} \
             again with {RESUME}",
            text::path(model)
        ))
    }))
}
