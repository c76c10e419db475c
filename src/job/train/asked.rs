//! Owns which recipe a training has: the one that is named, or that its folder holds, with what is given on
//! top. Must not know: images, training.

use super::*;

impl Train {
    /// The recipe named, or the one that the folder holds, with everything given on top.
    pub(super) fn asked(&self, stored: Option<&Recipe>) -> Result<Recipe> {
        let mut recipe = match (&self.recipe, stored) {
            (None, Some(stored)) => stored.clone(),
            (None, None) if self.resume && train::begun(&self.model) => {
                return Err(Error::setting(
                    RECIPE,
                    format!(
                        ": {} is missing, which says how the training was begun: name its recipe",
                        text::path(self.model.join(RECIPE_FILE))
                    ),
                ));
            }
            (choice, _) => chosen(choice.as_ref())?,
        };
        self.overrule(&mut recipe)?;
        let mut recipe = self.pixels.over(recipe)?;
        match stored {
            Some(stored) if self.is_begun() => {
                if self.budget.is_some() {
                    recipe.train.steps = stored.train.steps;
                }
                self.resumed(stored, recipe)
            }
            _ => Ok(recipe),
        }
    }

    /// Whether there is a training to go on with.
    pub(super) fn is_begun(&self) -> bool {
        train::begun(&self.model) || train::finished_steps(&self.model).is_some()
    }

    pub(in crate::job) fn resumed(&self, stored: &Recipe, asked: Recipe) -> Result<Recipe> {
        let named = self.recipe.as_ref().map(RecipeChoice::name);
        resume::resumed(&self.model, stored, asked, named, &self.given())
    }

    /// Whether a model that was trained for `done` steps is what is asked for. A folder of an older
    /// version holds no recipe (`has_recipe`): then only what was said counts.
    pub(super) fn is_done(&self, done: usize, recipe: &Recipe, has_recipe: bool) -> Result<bool> {
        if has_recipe {
            return Ok(recipe.train.steps == done);
        }
        if let Some(choice) = &self.recipe {
            resume::refuse_another(&self.model, recipe, choice.name())?;
        }
        Ok(self.steps.is_none_or(|steps| steps == done))
    }

    /// Names of the settings that are given and stand above the recipe.
    fn given(&self) -> Vec<Setting> {
        let pixels = &self.pixels;
        let given = [
            (STEPS, self.steps.is_some()),
            (BATCH_SIZE, self.batch_size.is_some()),
            (MICRO_BATCH, self.micro_batch.is_some()),
            (SEED, self.seed.is_some()),
            (INIT_FROM, self.init.is_some()),
            (PERCEPTUAL_WEIGHTS, self.perceptual_weights.is_some()),
            (SIZE, pixels.size.is_some()),
            (RESIZE, pixels.resize.is_some()),
            (ALPHA, pixels.alpha.is_some()),
            (ORIENTATION, pixels.orientation.is_some()),
            (PILLOW, pixels.pillow.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }

    /// Puts everything given but the pixels above the recipe.
    fn overrule(&self, recipe: &mut Recipe) -> Result<()> {
        recipe.expected = None;
        let train = &mut recipe.train;
        if let (Some(_), Some(steps)) = (self.budget, self.steps) {
            let text = format!(": it says how many steps there are, and so does {STEPS} {steps}");
            return Err(Error::setting(BUDGET, text));
        }
        if let Some(steps) = self.steps {
            train.steps = steps;
        }
        if let Some(batch_size) = self.batch_size {
            train.batch_size = batch_size;
            // What the recipe has for its own batch is the whole of a smaller one.
            if train.micro_batch > batch_size {
                train.micro_batch = 0;
            }
        }
        if let Some(micro_batch) = self.micro_batch {
            if micro_batch > train.batch_size {
                return Err(Error::setting(
                    MICRO_BATCH,
                    format!(
                        "{micro_batch}: a batch has {} only",
                        counted(train.batch_size, "image")
                    ),
                ));
            }
            train.micro_batch = micro_batch;
        }
        train.recompute |= self.recompute;
        if let Some(weights) = self.perceptual_weights.clone() {
            let perceptual = train.perceptual.get_or_insert_default();
            if perceptual.weight == 0.0 {
                return Err(Error::setting(
                    PERCEPTUAL_WEIGHTS,
                    ": the recipe's train.perceptual.weight is 0, so that LPIPS has no part in the \
                     loss",
                ));
            }
            perceptual.weights = weights;
        }
        if let Some(seed) = self.seed {
            train.seed = seed;
        }
        if let Some(InitFrom { path, family, weights }) = self.init.clone() {
            refuse_unfinished(Path::new(&path))?;
            (train.init.from, train.init.family, train.init.weights) = (path, family, weights);
        }
        Ok(())
    }
}
