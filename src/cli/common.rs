//! Owns what several commands share: threads, signals, device, opening an engine, recipes with
//! flags on top. Must not know: what a command does with them.

use super::flags;
use crate::checkpoint::find::configs;
use crate::checkpoint::recognise::detect::DetectOptions;
use crate::config::{BATCH_SIZE_MAX, Recipe};
use crate::data::decode::Alpha;
use crate::data::orientation::Orientation;
use crate::data::prepare::Preparation;
use crate::data::resize::pillow::PillowVersion;
use crate::data::resize::rules::ResizeRule;
use crate::engine::{self, DeviceChoice, Engine, Precision};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train;
use crate::util::error_text;
use crate::util::text;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Flags of every command that works.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Where images are encoded: auto is the CPU; decoding and training run there anyway
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    pub device: String,
    /// What a GPU computes in: f32 for the reference's tokens, bf16 for speed
    #[arg(long, value_name = "f32|bf16", default_value = "f32", value_parser = precision_of)]
    pub precision: Precision,
    /// Worker threads [default: RAYON_NUM_THREADS, else every core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Events for machines on stdout, one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Flags that say what an image becomes; each overrides the recipe and the model.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PixelFlags {
    /// Side of the square crop, in pixels [default: the model's; in training, the recipe's]
    #[arg(long, value_name = "N", value_parser = size_of)]
    pub size: Option<u32>,
    /// Resize rule: bicubic, bilinear, lanczos, box, taming, llamagen, chameleon, dalle, maskgit,
    /// muse, vit, vqvae2, stretch, pad or none [default: the model's; in training, the recipe's]
    #[arg(long, value_name = "RULE")]
    pub resize: Option<ResizeRule>,
    /// What shows through transparent pixels: white, black or drop [default: white; in training,
    /// the recipe's]
    #[arg(long, value_name = "COLOUR")]
    pub alpha: Option<Alpha>,
    /// What becomes of EXIF orientation: apply turns pictures upright; ignore takes them as stored,
    /// as many published extraction scripts do [default: the model's or recipe's, else apply]
    #[arg(long, value_name = "apply|ignore")]
    pub orientation: Option<Orientation>,
    /// Pillow whose resampling is followed, bit for bit: 12 for every version up to it, 13 for those
    /// that resize tall pictures vertically first [default: the model's or recipe's, else 12]
    #[arg(long, value_name = "12|13")]
    pub pillow: Option<PillowVersion>,
}

impl PixelFlags {
    /// Those that were given.
    pub fn given(&self) -> Vec<&'static str> {
        let given = [
            ("--size", self.size.is_some()),
            ("--resize", self.resize.is_some()),
            ("--alpha", self.alpha.is_some()),
            ("--orientation", self.orientation.is_some()),
            ("--pillow", self.pillow.is_some()),
        ];
        given.into_iter().filter(|g| g.1).map(|g| g.0).collect()
    }
}

/// Beyond any machine that images are tokenized on.
const THREADS_MAX: usize = 1 << 10;

/// Flags that say what a published checkpoint doesn't.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CheckpointFlags {
    /// Family of the checkpoint, where its names can't tell [default: what its names tell]
    #[arg(long, value_name = "NAME")]
    pub family: Option<String>,
    /// Published configuration of the checkpoint (JSON or YAML), where it doesn't lie beside it
    /// [default: the one beside it]
    #[arg(long, value_name = "FILE")]
    pub model_config: Option<PathBuf>,
    /// Which of several sets of weights in one file: the start of their names, such as ema, teacher,
    /// state_dict.student; model_ema for LitEma's averages, . for names without a prefix [default: the only one, or that of
    /// the family's rule]
    #[arg(long, value_name = "PREFIX")]
    pub weights: Option<String>,
}

impl CheckpointFlags {
    /// Opens something with them.
    ///
    /// # Errors
    /// Those of `open`; a configuration that can't be read.
    pub fn with<T>(&self, open: impl FnOnce(&DetectOptions) -> Result<T>) -> Result<T> {
        let config = self.model_config.as_deref().map(configs::read).transpose()?;
        open(&DetectOptions {
            family: self.family.as_deref(),
            config: config.as_ref(),
            weights: self.weights.as_deref(),
            ..DetectOptions::default()
        })
    }
}

impl Common {
    /// Sets the size of the thread pool. Call once, before any work.
    pub fn start_threads(&self) -> Result<()> {
        let mut pool =
            rayon::ThreadPoolBuilder::new().thread_name(|index| format!("vqtok-worker-{index}"));
        if let Some(threads) = self.threads {
            if !(1..=THREADS_MAX).contains(&threads) {
                let text = format!("--threads is 1 to {THREADS_MAX}, not {threads}");
                return Err(Error::invalid(text));
            }
            pool = pool.num_threads(threads);
        }
        pool.build_global().map_err(|e| Error::invalid(format!("thread pool: {e}")))
    }

    /// Training runs on the CPU, in f32; refuses what was asked otherwise.
    pub fn device_for_training(&self) -> Result<()> {
        if self.precision != Precision::F32 {
            let text = format!("--precision {}: vqtok trains in f32 only", self.precision);
            return Err(Error::invalid(text));
        }
        match self.device.parse()? {
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(()),
            DeviceChoice::Cuda(_) => {
                Err(Error::invalid("--device cuda: vqtok trains on the CPU only; use --device cpu"))
            }
        }
    }

    /// Refuses a device or precision that no model could be opened on, before any work.
    pub fn require_device(&self) -> Result<()> {
        engine::require(self.device.parse()?, self.precision)
    }

    /// Opens `model` (a folder or file) on the device asked for.
    pub fn open_engine(&self, model: &Path, told: &CheckpointFlags) -> Result<Box<dyn Engine>> {
        let device = self.device.parse()?;
        refuse_unfinished(model)?;
        told.with(|options| engine::open(model, options, device, self.precision))
    }
}

/// A `--precision`.
fn precision_of(word: &str) -> std::result::Result<Precision, String> {
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

/// Refuses the folder of a training that has no model yet, before it is taken for a checkpoint.
pub fn refuse_unfinished(model: &Path) -> Result<()> {
    if !train::unfinished(model) {
        return Ok(());
    }
    Err(train::failed(model).unwrap_or_else(|| {
        Error::invalid(format!(
            "{0}: its training isn't finished, so there is no model yet; go on with `vqtok train \
             INPUT --model {0} --resume`",
            text::path(model)
        ))
    }))
}

/// Refuses a `--batch-size` that is none.
pub fn check_batch_size(images: Option<usize>) -> Result<()> {
    match images {
        Some(images) if !(1..=BATCH_SIZE_MAX).contains(&images) => {
            Err(Error::invalid(format!("--batch-size is 1 to {BATCH_SIZE_MAX}, not {images}")))
        }
        _ => Ok(()),
    }
}

/// Refuses a folder that couldn't be made or written into; nothing is made.
pub fn writable_folder(flag: &str, folder: &Path) -> Result<()> {
    let shown = text::path(folder);
    let whole = std::path::absolute(folder).map_err(Error::io(folder))?;
    let Some(there) = whole.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    if !there.is_dir() {
        let text = format!("{flag} {shown}: {} is no folder", text::path(there));
        return Err(Error::invalid(text));
    }
    may_write(there).map_err(|error| {
        let (there, reason) = (text::path(there), error_text::reason(&error));
        Error::invalid(format!("{flag} {shown}: {there} can't be written: {reason}"))
    })
}

/// Whether files can be made in a folder, as far as the system tells without trying.
fn may_write(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: `path` is a string that ends in NUL and outlives the call.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A flag that SIGINT and SIGTERM raise; the second signal ends the process at once, which the
/// commit protocol survives.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let exit = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
        let raise = signal_hook::flag::register(signal, Arc::clone(&stop));
        exit.and(raise).map_err(Error::io("signal handler"))?;
    }
    Ok(stop)
}

/// The recipe by name or file, or the default one, with the pixel flags on top.
pub fn recipe(name_or_file: Option<&str>, flags: &PixelFlags) -> Result<Recipe> {
    with_pixels(Recipe::load(name_or_file.unwrap_or(Recipe::DEFAULT))?, flags)
}

/// A recipe with the pixel flags on top.
pub fn with_pixels(mut recipe: Recipe, flags: &PixelFlags) -> Result<Recipe> {
    if let Some(size) = flags.size {
        recipe.data.size = size;
    }
    if let Some(resize) = flags.resize {
        recipe.data.resize = resize;
    }
    if let Some(alpha) = flags.alpha {
        recipe.data.alpha = alpha;
    }
    if let Some(orientation) = flags.orientation {
        recipe.data.orientation = orientation;
    }
    if let Some(pillow) = flags.pillow {
        recipe.data.pillow = pillow;
    }
    recipe.check()?;
    Ok(recipe)
}

/// A setting by its word, where a file has one.
pub fn told<T: FromStr<Err = Error> + Default>(word: Option<&str>) -> Result<T> {
    word.map_or_else(|| Ok(T::default()), str::parse)
}

/// What a model that stands is fed: its own preprocessing with the flags on top.
pub fn preparation(model: &ModelConfig, flags: &PixelFlags) -> Result<Preparation> {
    let own = &model.preprocess;
    let rule = match flags.resize {
        Some(rule) => rule,
        None => own.resize.parse()?,
    };
    if let (Some(size), ResizeRule::None) = (flags.size, rule) {
        return Err(Error::invalid(format!(
            "--size {size}: images keep their sizes under the resize rule none; leave one of both \
             away"
        )));
    }
    let size = match (flags.size.or(own.size), rule) {
        (_, ResizeRule::None) => None,
        (Some(size), _) => Some(size),
        (None, _) => {
            return Err(Error::invalid(format!(
                "the model doesn't say which image size it was trained for: pass --size N, a \
                 multiple of its factor (rule {rule})"
            )));
        }
    };
    let mut pillow = own.pillow.map(PillowVersion::try_from).transpose()?.unwrap_or_default();
    if flags.resize.is_some() && rule.check(pillow).is_err() {
        // The model's version was for its own rule; Pillow has no part in the one asked for.
        pillow = PillowVersion::default();
    }
    let pillow = flags.pillow.unwrap_or(pillow);
    rule.check(pillow)?;
    Ok(Preparation {
        limits: Default::default(),
        alpha: flags.alpha.map_or_else(|| told(own.alpha.as_deref()), Ok)?,
        orientation: flags.orientation.map_or_else(|| told(own.orientation.as_deref()), Ok)?,
        pillow,
        rule,
        size,
        channels: model.pixels.channels,
    })
}
