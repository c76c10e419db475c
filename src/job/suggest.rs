//! Owns the proposal of a recipe for some images on this machine, with what it takes. Must not
//! know: who reads it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::data_look::DataLook;
use super::events::{Event, Observer, Relay};
use super::inputs::Inputs;
use super::places;
use crate::config::Recipe;
use crate::engine::memory;
use crate::error::{Error, Result};
use crate::train::input::images::Images;
use crate::train::{self, Pace};
use crate::util::settings::{BUDGET, OUT, RECIPE};
use crate::util::{atomic_file, numbers, text};

/// The time that a training may take where nobody says it.
const BUDGET_DEFAULT: Duration = Duration::from_secs(12 * 3600);
/// Steps of each recipe are timed for so long.
const TIMED: Duration = Duration::from_secs(2);
/// Shorter sides up to which pictures are small, and middling.
const SMALL: u32 = 48;
const MIDDLING: u32 = 160;
/// Share of grey pictures from which on all are taken for such: a model of one channel loses the colours of
/// any other.
const GREY: f64 = 1.0;
/// Said with such a model.
const ONE_CHANNEL: &str = "one channel, since all pictures that were looked at are grey: of one in colour \
                           the colours would be lost";
/// [`DataLook::coarse_psnr`] under which there is much detail.
const DETAILED: f64 = 22.0;
/// Less than this share of a recipe's steps is another recipe.
const STEPS_SHARE_MIN: f64 = 0.1;

/// The question which recipe suits some images.
#[derive(Debug, Clone)]
pub struct Suggest {
    inputs: Inputs,
    budget: Option<Duration>,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Suggestion {
    /// What the images are like.
    pub look: DataLook,
    /// What to train.
    pub recipe: Recipe,
    /// Whether it is one that comes with vqtok, as it stands.
    pub as_it_stands: bool,
    /// Why this one, and what of it was changed, in words.
    pub reasons: Vec<String>,
    /// Tokens of an image.
    pub tokens: usize,
    /// Trainable scalars.
    pub parameters: usize,
    /// Until the end of the training.
    pub time: Duration,
    /// Of one step.
    pub step: Duration,
    /// Most memory that a step needs, in bytes.
    pub memory_bytes: u64,
    /// Threads that were timed.
    pub threads: usize,
}

impl Suggestion {
    /// Writes the recipe as a TOML file.
    ///
    /// # Errors
    /// A file of something else at `path`; what the system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        Suggestion::check_place(path)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        atomic_file::write(path, self.recipe.to_toml()?.as_bytes())
    }

    /// That a recipe can be written to a place, before one is looked for.
    ///
    /// # Errors
    /// A place in a store; a file that is there, or stands where a folder belongs.
    pub fn check_place(path: &Path) -> Result<()> {
        places::refuse_remote(OUT, path)?;
        if path.exists() {
            let text = format!("{}: that is there already; give another name", text::path(path));
            return Err(Error::setting(OUT, text));
        }
        match path.ancestors().skip(1).find(|above| above.exists()) {
            Some(above) if !above.is_dir() => {
                let text = format!("{}: {} is no folder", text::path(path), text::path(above));
                Err(Error::setting(OUT, text))
            }
            _ => Ok(()),
        }
    }
}

impl Suggest {
    /// For the images under `inputs` (folders and files).
    pub fn new<P: Into<PathBuf>>(inputs: impl IntoIterator<Item = P>) -> Suggest {
        Suggest::of(Inputs::new(inputs))
    }

    pub(crate) fn of(inputs: Inputs) -> Suggest {
        Suggest { inputs, budget: None }
    }

    /// The time that the training may take; by default 12 hours.
    pub fn budget(mut self, time: impl Into<Option<Duration>>) -> Suggest {
        self.budget = time.into();
        self
    }

    /// Looks at some of the images, times a few steps of the recipes that may suit them, and
    /// proposes the first that this machine ends in time and holds in its memory.
    ///
    /// # Errors
    /// No image that can be read; no recipe that ends in time;
    /// [`Error::Interrupted`] where the observer says so.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Suggestion> {
        let budget = self.budget.unwrap_or(BUDGET_DEFAULT);
        let start = Recipe::load(Recipe::DEFAULT)?;
        let look = DataLook::at(&self.inputs, &start.preparation())?;
        let mut reasons = Vec::new();
        let candidates = candidates(&look);
        for (at, name) in candidates.iter().enumerate() {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let text = format!("timing {name}");
            observer.event(&Event::Training(&train::Event::Notice(&text)));
            let mut recipe = Recipe::load(name)?;
            if recipe.model.channels == 1 {
                reasons.push(ONE_CHANNEL.into());
            }
            let mut changes = fit_to(&look, &mut recipe);
            let pace = self.pace(&recipe, observer)?;
            let last = at + 1 == candidates.len();
            match judged(&pace, &mut recipe, budget, last, &mut changes) {
                Err(reason) => reasons.push(format!("{name} {reason}")),
                Ok(time) => return Ok(suggestion(look, recipe, (reasons, changes), &pace, time)),
            }
        }
        Err(Error::setting(
            BUDGET,
            format!(
                "{}: no {RECIPE} ends on this machine in that time: {}",
                numbers::seconds(budget.as_secs_f64()),
                reasons.join("; ")
            ),
        ))
    }

    fn pace(&self, recipe: &Recipe, observer: &mut dyn Observer) -> Result<Pace> {
        let stream = self.inputs.images(self.inputs.take(), false)?;
        let images = Images::of(stream, recipe.preparation())?
            .augmented(recipe.train.augment, recipe.train.seed);
        let model = recipe.model_config();
        train::pace(&model, &recipe.train, &images, (TIMED, false), &Relay(observer))
    }
}

/// What there is to say of the recipe that was chosen.
fn suggestion(
    look: DataLook,
    mut recipe: Recipe,
    (mut reasons, changes): (Vec<String>, Vec<String>),
    pace: &Pace,
    time: Duration,
) -> Suggestion {
    let as_it_stands = changes.is_empty();
    reasons.extend(changes);
    if !as_it_stands {
        recipe.name += "-suggested";
        recipe.expected = None;
    }
    let [factor, _] = recipe.model_config().factor();
    Suggestion {
        tokens: (recipe.data.size as usize / factor).pow(2) * recipe.model.depth,
        look,
        recipe,
        as_it_stands,
        reasons,
        parameters: pace.parameters,
        time,
        step: pace.timing.step + pace.timing.search,
        memory_bytes: pace.memory_bytes,
        threads: rayon::current_num_threads(),
    }
}

/// Recipes for such images, the best first.
fn candidates(look: &DataLook) -> &'static [&'static str] {
    let [small, median, _] = look.short_sides;
    if median <= SMALL {
        return if look.grey >= GREY { &["mnist-vqvae"] } else { &["cifar10-vqvae"] };
    }
    if small.max(median / 2) <= MIDDLING {
        return &["photos-vqgan-64", "photos-vqvae-64"];
    }
    match look.coarse_psnr < DETAILED {
        true => &["vqgan-f8-256", "photos-vqgan-64", "photos-vqvae-64"],
        false => &["vqgan-f16-256", "photos-vqgan-64", "photos-vqvae-64"],
    }
}

/// Changes a recipe as the images ask for it, and says what in words.
fn fit_to(look: &DataLook, recipe: &mut Recipe) -> Vec<String> {
    let mut changes = Vec::new();
    let grey = look.grey >= GREY;
    if grey && recipe.model.channels == 3 {
        recipe.model.channels = 1;
        if recipe.model.codes == 512 {
            recipe.model.codes = 256;
        }
        changes.push(ONE_CHANNEL.into());
    }
    let small = matches!(recipe.data.size, 32 | 64) && recipe.train.adversarial.is_none();
    if !grey && small && look.coarse_psnr < DETAILED && recipe.model.codes < 1024 {
        recipe.model.codes = 1024;
        changes.push("1,024 codes, since there is much detail".into());
    }
    changes
}

/// The time of the training by `recipe`, whose steps are cut where it is the `last` resort and
/// would take too long.
///
/// # Errors
/// In words, why it doesn't do.
fn judged(
    pace: &Pace,
    recipe: &mut Recipe,
    budget: Duration,
    last: bool,
    changes: &mut Vec<String>,
) -> Result<Duration, String> {
    if let Some(there) = memory::available()
        && pace.memory_bytes > there
    {
        let needs = numbers::bytes(pace.memory_bytes);
        return Err(format!("needs {needs} of memory, of {} free", numbers::bytes(there)));
    }
    let time = |recipe: &Recipe| pace.opening + pace.timing.remaining(&recipe.train, 0, false);
    let whole = time(recipe);
    if whole <= budget {
        return Ok(whole);
    }
    let left = budget.saturating_sub(pace.opening);
    let steps = pace.timing.steps_within(&recipe.train, left);
    if !last || (steps as f64) < STEPS_SHARE_MIN * recipe.train.steps as f64 {
        return Err(format!("would take {}", numbers::seconds(whole.as_secs_f64())));
    }
    changes.push(format!(
        "{} steps instead of {}, to end in time",
        numbers::count(steps),
        numbers::count(recipe.train.steps)
    ));
    recipe.train.steps = steps;
    Ok(time(recipe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Timing;

    fn look(short_sides: [u32; 3], grey: f64, coarse_psnr: f64) -> DataLook {
        DataLook { images: 9, looked_at: 9, unreadable: 0, short_sides, grey, coarse_psnr }
    }

    #[test]
    fn sizes_colours_and_detail_say_which_recipe() {
        let first = |sides, grey, psnr| candidates(&look(sides, grey, psnr))[0];
        assert_eq!(first([28, 28, 28], 1.0, 20.0), "mnist-vqvae");
        assert_eq!(first([32, 32, 32], 0.2, 20.0), "cifar10-vqvae");
        assert_eq!(first([90, 100, 400], 0.0, 20.0), "photos-vqgan-64");
        assert_eq!(first([200, 400, 900], 0.0, 30.0), "vqgan-f16-256");
        assert_eq!(first([200, 400, 900], 0.0, 20.0), "vqgan-f8-256");
        for name in candidates(&look([200, 400, 900], 0.0, 30.0)) {
            let mut recipe = Recipe::load(name).unwrap();
            for look in [look([9, 9, 9], 1.0, 30.0), look([9, 9, 9], 0.0, 20.0)] {
                fit_to(&look, &mut recipe);
                Recipe::parse(&recipe.to_toml().unwrap(), "fitted").unwrap();
            }
        }
        let mut recipe = Recipe::load("cifar10-vqvae").unwrap();
        assert_eq!(fit_to(&look([32, 32, 32], 0.0, 30.0), &mut recipe), [""; 0]);
        assert_eq!(fit_to(&look([32, 32, 32], 0.0, 20.0), &mut recipe).len(), 1);
        assert_eq!(recipe.model.codes, 1024);
    }

    #[test]
    fn the_last_resort_is_cut_to_the_time_and_others_are_not() {
        let ms = Duration::from_millis;
        let timing = Timing {
            step: ms(100),
            search: ms(0),
            adversarial: ms(0),
            start: ms(0),
            image: ms(0),
            judged: 0,
            probed: 0,
        };
        let pace = Pace { timing, memory_bytes: 1, opening: ms(0), parameters: 1 };
        let mut recipe = Recipe::load("cifar10-vqvae").unwrap();
        let mut judge = |seconds: u64, last| {
            let mut changes = Vec::new();
            let time = judged(&pace, &mut recipe, ms(1000 * seconds), last, &mut changes);
            (time, changes.len(), recipe.train.steps)
        };
        assert_eq!(judge(100, false), (Ok(ms(100_000)), 0, 1000));
        assert_eq!(judge(99, false).0, Err("would take 1 min 40 s".into()));
        assert_eq!(judge(9, true).0, Err("would take 1 min 40 s".into()));
        assert_eq!(judge(50, true), (Ok(ms(50_000)), 1, 500));
    }
}
