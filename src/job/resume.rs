//! Owns which recipe a training follows where several have a say: settings, a recipe, and the
//! recipe that the model folder holds.

use crate::checkpoint::folder::CONFIG_FILE;
use crate::checkpoint::model_card;
use crate::checkpoint::recognise::detect::DetectOptions;
use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::train::{self, TrainSummary};
use crate::util::settings::{
    ALPHA, BATCH_SIZE, INIT_FROM, MICRO_BATCH, MODEL, ORIENTATION, PERCEPTUAL_WEIGHTS, PILLOW,
    RECIPE, RESIZE, SEED, SIZE, STEPS, Setting,
};
use crate::util::text;
use serde_json::Value;
use std::path::Path;

/// Settings that stand above a recipe: each with what it sets.
const SETTINGS: [(Setting, &str); 11] = [
    (STEPS, "train.steps"),
    (BATCH_SIZE, "train.batch_size"),
    (MICRO_BATCH, "train.micro_batch"),
    (SEED, "train.seed"),
    (INIT_FROM, "train.init"),
    (PERCEPTUAL_WEIGHTS, "train.perceptual"),
    (SIZE, "data.size"),
    (RESIZE, "data.resize"),
    (ALPHA, "data.alpha"),
    (ORIENTATION, "data.orientation"),
    (PILLOW, "data.pillow"),
];

/// What a training that goes on may do otherwise than it was begun: nothing that changes what it
/// computes. Where LPIPS lies doesn't matter; what it is, the checkpoint knows.
const FREE: [&str; 6] = [
    "description",
    "expected",
    "tokenize",
    "train.checkpoint_every",
    "train.recompute",
    "train.perceptual.weights",
];

/// A place at which two recipes differ.
#[derive(Debug, PartialEq)]
struct Difference {
    path: String,
    was: Value,
    is: Value,
}

/// All differences of two values, by their paths.
fn differences(was: &Value, is: &Value, path: &str, found: &mut Vec<Difference>) {
    if let (Value::Object(a), Value::Object(b)) = (was, is) {
        let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let (a, b) = (a.get(name), b.get(name));
            differences(a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null), &below, found);
        }
    } else if was != is {
        found.push(Difference { path: path.to_string(), was: was.clone(), is: is.clone() });
    }
}

/// What counts of the differences of two recipes.
fn compared(was: &Recipe, is: &Recipe) -> Vec<Difference> {
    let value = |recipe: &Recipe| serde_json::to_value(recipe).unwrap_or_default();
    let mut found = Vec::new();
    differences(&value(was), &value(is), "", &mut found);
    let free = |path: &str| {
        FREE.iter().any(|f| {
            path.strip_prefix(f).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    found.retain(|difference| !free(&difference.path));
    found
}

/// The recipe of a training that goes on in `folder`, which was begun by `stored`: `asked`, where it
/// is the same or a longer one. `recipe` and `given` are the settings that `asked` comes from.
///
/// # Errors
/// Something that a training can't change on its way: named by its setting.
pub(super) fn resumed(
    folder: &Path,
    stored: &Recipe,
    asked: Recipe,
    recipe: Option<&str>,
    given: &[Setting],
) -> Result<Recipe> {
    let asked = with_absolute_paths(asked);
    for Difference { path, was, is } in compared(stored, &asked) {
        let sets = |(s, sets): &&(Setting, &str)| path.starts_with(sets) && given.contains(s);
        let setting = match (SETTINGS.iter().find(sets), recipe) {
            (Some((setting, _)), _) => setting.to_string(),
            (None, Some(recipe)) => format!("{RECIPE} {recipe}"),
            (None, None) => continue,
        };
        if path == "train.steps" {
            if is.as_u64() > was.as_u64() {
                continue;
            }
            return Err(Error::invalid(format!(
                "{setting}: the training in {} is one of {was} steps; it can be made longer than \
                 that, not {is}",
                text::path(folder)
            )));
        }
        return Err(Error::invalid(format!(
            "{setting}: {path} is {is}, and {was} in the training to resume in {}; what is trained \
             can't change on the way: leave {setting} away, or give another {MODEL}",
            text::path(folder)
        )));
    }
    Ok(asked)
}

/// Refuses a recipe beside a model that stands and wasn't trained by it; nothing of it but its
/// `[tokenize]` table could have any effect.
///
/// # Errors
/// The first difference.
pub(super) fn refuse_another(model: &Path, recipe: &Recipe, name: &str) -> Result<()> {
    let refuse = |reason: String| {
        Err(Error::setting(
            RECIPE,
            format!(
                "{name}: the model {} is there already and {reason}; leave {RECIPE} away, or \
             give another {MODEL} to train one",
                text::path(model)
            ),
        ))
    };
    if let Some(stored) = Recipe::of_model(model)? {
        return match compared(&stored, &with_absolute_paths(recipe.clone())).first() {
            None => Ok(()),
            Some(Difference { path, was, is }) => {
                refuse(format!("was trained with {path} = {was}, not {is}"))
            }
        };
    }
    // Folders of older versions hold no recipe, but its name and the model that it describes.
    let Ok(config) = crate::checkpoint::folder::load_config(model) else {
        return refuse("isn't trained by a recipe".into());
    };
    let ours = recipe.model_config();
    let same = config.provenance.get("recipe") == ours.provenance.get("recipe")
        && config.architecture == ours.architecture
        && config.quantizer == ours.quantizer
        && config.pixels == ours.pixels
        && (&config.preprocess.resize, config.preprocess.size)
            == (&ours.preprocess.resize, ours.preprocess.size);
    match same {
        true => Ok(()),
        false => refuse("was not trained by it".into()),
    }
}

/// Makes the paths in a recipe those of any working directory.
pub(super) fn with_absolute_paths(mut recipe: Recipe) -> Recipe {
    let absolute = |path: &mut String| {
        if !path.is_empty()
            && let Ok(whole) = std::path::absolute(&*path)
            && let Some(whole) = whole.to_str()
        {
            *path = whole.to_string();
        }
    };
    absolute(&mut recipe.train.init.from);
    if let Some(perceptual) = &mut recipe.train.perceptual {
        absolute(&mut perceptual.weights);
    }
    recipe
}

/// The figures of a model folder whose training has nothing left to do, whatever recipe is named
/// today.
///
/// # Errors
/// A model that isn't whole any more.
pub(super) fn finished(folder: &Path) -> Result<TrainSummary> {
    let summary = train::last_summary(folder)?;
    if let Err(error) = model_card::read(folder, &DetectOptions::default()) {
        let advice = match train::begun(folder) {
            true => format!(
                "its training was finished: remove {}, and this command writes the model again",
                text::path(folder.join(CONFIG_FILE))
            ),
            false => {
                "its training was finished, and nothing is left to write the model from".into()
            }
        };
        return Err(Error::invalid(format!("{}; {advice}", error.message())));
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(change: impl Fn(&mut Recipe)) -> Recipe {
        let mut recipe = Recipe::load("quickstart").unwrap();
        change(&mut recipe);
        recipe
    }

    #[test]
    fn a_training_goes_on_as_it_was_begun_or_longer() {
        let stored = recipe(|_| ());
        let go_on = |asked, named, given: &[Setting]| {
            resumed(Path::new("m"), &stored, asked, named, given).map_err(|e| e.to_string())
        };
        go_on(stored.clone(), None, &[]).unwrap();
        let longer = go_on(recipe(|r| r.train.steps = 800), None, &[STEPS]).unwrap();
        assert_eq!(longer.train.steps, 800);
        let free = recipe(|r| {
            r.train.checkpoint_every = 7;
            r.train.recompute = true;
            r.tokenize.shard_rows = 9;
            r.description = "mine".into();
        });
        assert_eq!(go_on(free.clone(), Some("mine.toml"), &[]).unwrap(), free);
        let shorter = go_on(recipe(|r| r.train.steps = 5), None, &[STEPS]).unwrap_err();
        assert!(shorter.starts_with("steps: ") && shorter.contains("of 400 steps"), "{shorter}");
        for (asked, given, words) in [
            (recipe(|r| r.train.seed = 7), SEED, "train.seed is 7, and 1 in"),
            (recipe(|r| r.train.batch_size = 7), BATCH_SIZE, "train.batch_size is 7"),
            (recipe(|r| r.data.size = 32), SIZE, "data.size is 32"),
        ] {
            let text = go_on(asked.clone(), None, &[given]).unwrap_err();
            assert!(text.starts_with(&format!("{}: ", given.0)) && text.contains(words), "{text}");
            let text = go_on(asked, Some("other.toml"), &[]).unwrap_err();
            assert!(text.starts_with("recipe other.toml: ") && text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_path_is_the_same_from_wherever_it_is_given() {
        let from = |path: &str| recipe(|r| r.train.init.from = path.into());
        let stored = with_absolute_paths(from("base/model"));
        resumed(Path::new("m"), &stored, from("base/model"), None, &[INIT_FROM]).unwrap();
        let other = resumed(Path::new("m"), &stored, from("base/other"), None, &[INIT_FROM]);
        assert!(other.unwrap_err().to_string().starts_with("init_from: train.init.from is"));
    }

    #[test]
    fn a_prefix_of_a_name_is_another_name() {
        let (a, b) = (recipe(|_| ()), recipe(|r| r.train.codebook.epsilon = 0.5));
        assert_eq!(compared(&a, &b)[0].path, "train.codebook.epsilon");
        let paths = with_absolute_paths(recipe(|r| r.train.init.from = "here".into()));
        assert!(Path::new(&paths.train.init.from).is_absolute());
    }
}
