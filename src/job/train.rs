//! Owns training a tokenizer on images: its settings, which recipe counts, what goes on.

mod asked;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::events::{Event, Observer, Relay};
use super::inputs::Inputs;
use super::pixels::PixelSettings;
use super::tokenizer_options::refuse_unfinished;
use super::train_choices::{InitFrom, RecipeChoice, TrainPrecision};
use super::{places, resume};
use crate::config::Recipe;
use crate::engine::DeviceChoice;
use crate::error::{Error, Result};
use crate::model::compute_device::ComputeDevice;
use crate::storage;
use crate::train::input::images::Images;
use crate::train::{self, RECIPE_FILE, TrainSummary};
use crate::util::numbers::counted;
use crate::util::settings::{
    ALPHA, BATCH_SIZE, BUDGET, DEVICE, INIT_FROM, MICRO_BATCH, MODEL, ORIENTATION,
    PERCEPTUAL_WEIGHTS, PILLOW, PRECISION, RECIPE, RESIZE, RESUME, SEED, SIZE, STEPS, Setting,
};
use crate::util::{compute_pool, text};

/// The training of a model on images; each setting stands above the recipe's own.
#[derive(Debug, Clone)]
pub struct Train {
    inputs: Inputs,
    pub(super) model: PathBuf,
    pub(super) recipe: Option<RecipeChoice>,
    steps: Option<usize>,
    batch_size: Option<usize>,
    micro_batch: Option<usize>,
    recompute: bool,
    perceptual_weights: Option<String>,
    init: Option<InitFrom>,
    seed: Option<u64>,
    resume: bool,
    budget: Option<Duration>,
    cache_crops: Option<u64>,
    device: DeviceChoice,
    precision: TrainPrecision,
    pub(super) pixels: PixelSettings,
}

impl Train {
    /// On the images under `inputs` (folders and files); the model is left in the folder `model`.
    pub fn new<P: Into<PathBuf>>(
        inputs: impl IntoIterator<Item = P>,
        model: impl Into<PathBuf>,
    ) -> Train {
        Train::of(Inputs::new(inputs), model.into())
    }

    pub(crate) fn of(inputs: Inputs, model: PathBuf) -> Train {
        Train {
            inputs,
            model,
            recipe: None,
            steps: None,
            batch_size: None,
            micro_batch: None,
            recompute: false,
            perceptual_weights: None,
            init: None,
            seed: None,
            resume: false,
            budget: None,
            cache_crops: None,
            device: DeviceChoice::Cpu,
            precision: TrainPrecision::F32,
            pixels: PixelSettings::default(),
        }
    }

    /// The column of tables and lists, or the extension of tars' members, that is the image; found
    /// by type and name where it isn't given.
    pub fn image_column(mut self, name: impl Into<Option<String>>) -> Train {
        self.inputs.fields.image = name.into();
        self
    }

    /// Takes hidden and system files and folders too.
    pub fn hidden(mut self, hidden: bool) -> Train {
        self.inputs.hidden = hidden;
        self
    }

    /// What to train: the name of a recipe that comes with vqtok, a TOML file, or a [`Recipe`]. By
    /// default [`Recipe::DEFAULT`].
    pub fn recipe(mut self, recipe: impl Into<RecipeChoice>) -> Train {
        self.recipe = Some(recipe.into());
        self
    }

    /// Where it computes; by default the CPU. It is no part of the recipe, and a training that goes on
    /// elsewhere ends with other last bits.
    pub fn device(mut self, device: DeviceChoice) -> Train {
        self.device = device;
        self
    }

    /// What convolutions make of their factors; other than float32 on a GPU alone.
    pub fn precision(mut self, precision: TrainPrecision) -> Train {
        self.precision = precision;
        self
    }

    /// Updates.
    pub fn steps(mut self, steps: impl Into<Option<usize>>) -> Train {
        self.steps = steps.into();
        self
    }

    /// The time that the training may take, counted from its beginning: a few of its steps are
    /// timed, and it gets as many as fit. One that goes on keeps the steps that it was begun with.
    pub fn budget(mut self, time: impl Into<Option<Duration>>) -> Train {
        self.budget = time.into();
        self
    }

    /// Keeps decoded images on the disk, in at most so many bytes of a file beside the model's
    /// folder that nobody sees and that is gone with the process, where they don't fit into memory: they are decoded once and
    /// not in each epoch. The result is the same.
    pub fn cache_crops(mut self, bytes: impl Into<Option<u64>>) -> Train {
        self.cache_crops = bytes.into();
        self
    }

    /// Images per update.
    pub fn batch_size(mut self, images: impl Into<Option<usize>>) -> Train {
        self.batch_size = images.into();
        self
    }

    /// Images that go through the network at once; fewer take less memory.
    pub fn micro_batch(mut self, images: impl Into<Option<usize>>) -> Train {
        self.micro_batch = images.into();
        self
    }

    /// Runs each block of the network again in the backward pass instead of keeping what it
    /// computed: much less memory, a third more time, the same result.
    pub fn recompute(mut self, recompute: bool) -> Train {
        self.recompute = recompute;
        self
    }

    /// File or folder with the weights of LPIPS.
    pub fn perceptual_weights(mut self, path: impl Into<String>) -> Train {
        self.perceptual_weights = Some(path.into());
        self
    }

    /// The checkpoint to begin with, instead of random weights.
    pub fn init_from(mut self, checkpoint: impl Into<Option<InitFrom>>) -> Train {
        self.init = checkpoint.into();
        self
    }

    /// Seed of everything random.
    pub fn seed(mut self, seed: impl Into<Option<u64>>) -> Train {
        self.seed = seed.into();
        self
    }

    /// Goes on with the training in the folder, by the recipe that lies there.
    pub fn resume(mut self, resume: bool) -> Train {
        self.resume = resume;
        self
    }

    /// What an image becomes before the model sees it.
    pub fn pixels(mut self, pixels: PixelSettings) -> Train {
        self.pixels = pixels;
        self
    }

    /// Runs the job. The figures of a training that was finished before are those of its folder.
    ///
    /// # Errors
    /// Settings that can't work, before any work; a training of another recipe or other images in
    /// the folder; [`Error::Interrupted`] where the observer says so.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<TrainSummary> {
        storage::opening(|| self.run_now(observer))
    }

    /// The device, where it trains in the precision that was asked for.
    fn compute_device(&self) -> Result<ComputeDevice> {
        let device = self.device.for_candle()?;
        if device.is_cpu() && self.precision != TrainPrecision::F32 {
            let text = format!("{}: needs {DEVICE} cuda: the CPU trains in f32", self.precision);
            return Err(Error::setting(PRECISION, text));
        }
        if self.precision == TrainPrecision::Tf32 && !device.has_cudnn()? {
            let text = "tf32: needs cuDNN 9, and a vqtok that was built with the features cuda and \
                        candle-cuda; or use";
            return Err(Error::setting(PRECISION, format!("{text} {PRECISION} f32")));
        }
        Ok(device)
    }

    fn run_now(&self, observer: &mut dyn Observer) -> Result<TrainSummary> {
        compute_pool::check_environment()?;
        self.compute_device()?;
        let model = &self.model;
        places::check_new(MODEL, model)?;
        if let Some(error) = train::failed(model) {
            return Err(error);
        }
        let stored = if self.resume { Recipe::of_model(model)? } else { None };
        let recipe = self.asked(stored.as_ref())?;
        if let Some(steps) = train::finished_steps(model).filter(|_| self.resume)
            && self.is_done(steps, &recipe, stored.is_some())?
        {
            let summary = resume::finished(model)?;
            let evaluation = &summary.evaluation;
            observer.event(&Event::AlreadyTrained { model, steps, evaluation });
            return Ok(summary);
        }
        if self.resume && !train::begun(model) && !model.join("config.json").exists() {
            if self.recipe.is_none() && stored.is_none() {
                return Err(Error::setting(
                    RESUME,
                    format!(
                        ": there is no training in {}; to begin one, name its {RECIPE} or \
                     leave {RESUME} away",
                        text::path(model)
                    ),
                ));
            }
            observer.event(&Event::NothingToResume { model, recipe: &recipe });
        }
        self.train(&recipe, self.resume, observer)
    }

    /// Trains `recipe` and leaves the model in the folder.
    pub(super) fn train(
        &self,
        recipe: &Recipe,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<TrainSummary> {
        let folder = &self.model;
        places::writable_folder(MODEL, folder)?;
        let mut recipe = resume::with_absolute_paths(recipe.clone());
        recipe.train.device = self.compute_device()?;
        recipe.train.narrow = self.precision == TrainPrecision::Bf16;
        recipe.train.tf32 = self.precision == TrainPrecision::Tf32;
        if !recipe.train.device.is_cpu() {
            let name = recipe.train.device.name();
            let by = if recipe.train.device.has_cudnn()? { "cuDNN" } else { "vqtok's own kernels" };
            let precision = self.precision;
            let text = format!(
                "training on {DEVICE} {name}, {PRECISION} {precision}, convolutions by {by}"
            );
            observer.event(&Event::Training(&train::Event::Notice(&text)));
        }
        keep_freed_memory();
        let mut images =
            Images::of(self.inputs.images(self.inputs.take(), false)?, recipe.preparation())?
                .augmented(recipe.train.augment, recipe.train.seed);
        observer.event(&Event::Listed(images.skipped()));
        if let Some(bytes) = self.cache_crops {
            let beside = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            let there = beside.ancestors().skip(1).find(|place| place.is_dir());
            let text = images.cached_in(there.unwrap_or(Path::new(".")), bytes)?;
            observer.event(&Event::Training(&train::Event::Notice(&text)));
        }
        self.fit(&mut recipe, &images, observer)?;
        let recipe = &recipe;
        observer.event(&Event::BeginTraining { model: folder, recipe });
        let text = recipe.to_toml()?;
        let start = train::Start { resume, recipe: Some(&text) };
        let model = recipe.model_config();
        let relay = &mut Relay(observer);
        let summary = train::run(&model, &recipe.train, &images, folder, start, relay);
        let summary = summary.map_err(|error| self.told_what_is_kept(error))?;
        observer.event(&Event::Trained { model: folder, recipe, summary: &summary });
        Ok(summary)
    }

    /// A full disk's error, with what is there and how to go on.
    fn told_what_is_kept(&self, error: Error) -> Error {
        match &error {
            Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
                let kept = match train::begun(&self.model) {
                    true => format!(
                        "the training is kept as of its last checkpoint: make room, then go on with {RESUME}"
                    ),
                    false => "nothing is kept of it yet: make room, then train again".to_owned(),
                };
                Error::invalid(format!("{}; {kept}", error.message()))
            }
            _ => error,
        }
    }

    /// Gives the recipe the steps that the budget is enough for, where there is one; a training that has
    /// begun keeps its own, which is said.
    fn fit(&self, recipe: &mut Recipe, images: &Images, observer: &mut dyn Observer) -> Result<()> {
        let Some(budget) = self.budget else { return Ok(()) };
        let text = match self.is_begun() {
            true => format!(
                "the training has begun with {}, and keeps them whatever the {BUDGET}",
                counted(recipe.train.steps, "step")
            ),
            false => {
                let (settings, model) = (&recipe.train, recipe.model_config());
                let (steps, text) =
                    train::fitted(&model, settings, images, budget, &Relay(&mut *observer))?;
                recipe.train.steps = steps;
                text
            }
        };
        observer.event(&Event::Training(&train::Event::Notice(&text)));
        Ok(())
    }
}

/// The recipe that was asked for, or the default one.
pub(super) fn chosen(choice: Option<&RecipeChoice>) -> Result<Recipe> {
    choice.map_or_else(|| Recipe::load(Recipe::DEFAULT), RecipeChoice::load)
}

/// Tells the allocator to keep what is freed. Each step allocates the same large tensors again, and
/// fresh pages from the system would cost a third of the time (glibc gives large ones back at once).
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt sets a number of the allocator's under its own lock; no pointer is involved.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
