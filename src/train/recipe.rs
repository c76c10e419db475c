//! Owns what a resumed training must share with the one it goes on with.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::input::split::Split;
use crate::train::settings::TrainSettings;
use crate::train::trainer::state::{State, through_text};
use crate::util::settings::RECIPE;
use crate::util::{json_diff, text};

/// Everything that a resumed run must share with the one it goes on with.
pub(super) fn recipe(
    model: &ModelConfig,
    settings: &TrainSettings,
    split: &Split,
    perceptual_sha256: &str,
) -> Result<Value> {
    let json = |e: serde_json::Error| Error::invalid(format!("the recipe is no JSON: {e}"));
    let mut train = serde_json::to_value(settings).map_err(json)?;
    if let Some(train) = train.as_object_mut() {
        // How often a run is saved, and whether blocks run twice, has no influence on what it
        // computes; where LPIPS lies neither, but what it is.
        train.remove("checkpoint_every");
        train.remove("recompute");
        if let Some(perceptual) = train.get_mut("perceptual").and_then(|p| p.as_object_mut()) {
            perceptual.insert("weights".into(), perceptual_sha256.into());
        }
    }
    let mut model = serde_json::to_value(model).map_err(json)?;
    in_full(&mut model);
    let images = split.train.len() + split.held_out.len();
    let value = serde_json::json!({
        "model": model,
        "train": train,
        "data": {"images": images, "keys_sha256": split.digest},
    });
    Ok(through_text(&value))
}

/// Says what a model's configuration leaves unsaid, so that what isn't there is known to be old.
fn in_full(model: &mut Value) {
    let Some(preprocess) = model["preprocess"].as_object_mut() else { return };
    let usual: [(&str, Value); 3] =
        [("alpha", "white".into()), ("orientation", "apply".into()), ("pillow", 12.into())];
    for (name, usual) in usual {
        preprocess.entry(name).or_insert(usual);
    }
}

/// Errors unless the training to resume, begun by recipe `then`, is that of `now`, or a longer one.
///
/// # Errors
/// The first difference.
pub(super) fn same_recipe(then: &Value, now: &Value, folder: &Path) -> Result<()> {
    let mut then = then.clone();
    let steps = |recipe: &Value| recipe["train"]["steps"].as_u64();
    if steps(now) > steps(&then) {
        then["train"]["steps"] = now["train"]["steps"].clone();
    }
    // What older versions didn't write was what it is by default, or is compared elsewhere.
    let late = [("model", "preprocess"), ("train", "init")];
    for (table, name) in late {
        let (Some(then), Some(now)) =
            (then[table][name].as_object_mut(), now[table][name].as_object())
        else {
            continue;
        };
        for (field, value) in now {
            let relative = |was: &Value| match (was.as_str(), value.as_str()) {
                (Some(was), Some(is)) => !was.is_empty() && Path::new(is).ends_with(was),
                _ => false,
            };
            if then.get(field).is_none_or(|was| name == "init" && relative(was)) {
                then.insert(field.clone(), value.clone());
            }
        }
    }
    match json_diff::in_words(&then, now, "") {
        None => Ok(()),
        Some(difference) => Err(Error::mismatch(format!(
            "{}: the training to resume is another one: {difference}; give its recipe with \
             {RECIPE}, and its images, or another path",
            text::path(folder)
        ))),
    }
}

/// Where a training resumed from `state` goes on, in words.
pub(super) fn going_on(state: &State, steps: usize) -> String {
    let step = state.counters.step;
    let then = state.counters.recipe["train"]["steps"].as_u64().unwrap_or(steps as u64);
    if (then as usize) < steps {
        format!(
            "resuming after step {step}, to {steps} instead of {then}: from here on the learning \
             rate and all that depends on the number of steps follow a training of {steps}"
        )
    } else {
        format!("resuming after step {step} of {steps}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_longer_training_and_settings_that_an_older_version_did_not_write_are_the_same() {
        let recipe = |steps: u64, preprocess: Value, from: &str| {
            json!({"model": {"preprocess": preprocess},
                   "train": {"steps": steps, "seed": 1, "init": {"from": from}}})
        };
        let then = recipe(100, json!({"size": 8}), "other/model");
        let same = |now: &Value| same_recipe(&then, now, Path::new("m"));
        same(&then).unwrap();
        same(&recipe(200, json!({"size": 8, "alpha": "black"}), "/data/other/model")).unwrap();
        let said = |now: &Value| same(now).unwrap_err().to_string();
        assert!(
            said(&recipe(50, json!({"size": 8}), "other/model")).contains("train.steps was 100")
        );
        assert!(said(&recipe(100, json!({"size": 9}), "other/model")).contains("size was 8"));
        assert!(said(&recipe(100, json!({"size": 8}), "/model")).contains("init.from"));
    }
}
