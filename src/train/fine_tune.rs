//! Owns the beginning of a fine-tuning: which weights of a checkpoint a new training takes over, and
//! which begin again. Must not know: how weights are learned.
//!
//! The network must be the checkpoint's, weight by weight: nothing is left out or made up silently.
//! Only a codebook of another size or length begins again, and with another length the layers that
//! lead into it and out of it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;

use crate::checkpoint::recognise::detect;
use crate::checkpoint::recognise::detect::DetectOptions;
use crate::checkpoint::recognise::setting_names::SettingNames;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, QuantizerRule};
use crate::train::input::pixels::limits;
use crate::train::network::parameters::{CODEBOOK_NAME, flat};
use crate::train::settings::codebook::CodebookMethod;
use crate::train::settings::training::InitSettings;
use crate::train::trainer::Trainer;
use crate::util::json_diff;
use crate::util::numbers::counted;

/// A checkpoint whose network is the one to be trained.
#[derive(Debug)]
pub(super) struct Init {
    from: String,
    config: ModelConfig,
    weights: BTreeMap<String, Tensor>,
}

impl Init {
    /// Reads the checkpoint; None where there is none to begin with.
    ///
    /// # Errors
    /// Where it can't be read, or its network is another one than `model`'s: the first difference
    /// is named.
    pub(super) fn read(settings: &InitSettings, model: &ModelConfig) -> Result<Option<Init>> {
        if settings.from.is_empty() {
            return Ok(None);
        }
        let family = (!settings.family.is_empty()).then_some(settings.family.as_str());
        let weights = (!settings.weights.is_empty()).then_some(settings.weights.as_str());
        let options = DetectOptions {
            family,
            weights,
            settings: SettingNames::OF_INIT,
            ..DetectOptions::default()
        };
        let (config, weights) = detect::open(Path::new(&settings.from), &options)?;
        let init = Init { from: settings.from.clone(), config, weights: weights.tensors()? };
        init.check(model)?;
        Ok(Some(init))
    }

    fn refuse<T>(&self, reason: String) -> Result<T> {
        Err(Error::mismatch(format!(
            "{}: can't begin with this checkpoint: {reason}; `vqtok inspect` shows what it is",
            self.from
        )))
    }

    fn check(&self, model: &ModelConfig) -> Result<()> {
        let json = |a: &Architecture| {
            serde_json::to_value(a).map_err(|e| Error::invalid(format!("an architecture: {e}")))
        };
        let (theirs, ours) = (json(&self.config.architecture)?, json(&model.architecture)?);
        let kind = |a: &serde_json::Value| a["kind"].as_str().unwrap_or_default().to_owned();
        let (one, other) = (kind(&theirs), kind(&ours));
        if one != other {
            return self.refuse(format!(
                "its network is of the kind {one}, the recipe's of the kind {other}"
            ));
        }
        if let Some(difference) = json_diff::in_words(&theirs, &ours, "model.architecture") {
            return self.refuse(format!("{difference} in the recipe"));
        }
        let (theirs, ours) = (&self.config.pixels, &model.pixels);
        if theirs.channels != ours.channels {
            return self.refuse(format!(
                "model.channels was {} and is {} in the recipe",
                theirs.channels, ours.channels
            ));
        }
        if limits(theirs.input) != limits(ours.input) {
            let [theirs, ours] = [theirs.input, ours.input].map(|input| {
                let (black, white) = limits(input);
                format!("from {black} to {white}")
            });
            return self
                .refuse(format!("it sees pixels {theirs}, the recipe's network pixels {ours}"));
        }
        Ok(())
    }

    /// The codebook, where the one to be trained is of the same kind and size and its codes have
    /// places of their own.
    fn codebook(&self, model: &ModelConfig, method: CodebookMethod) -> Result<Option<Vec<f32>>> {
        let (theirs, ours) = (&self.config.quantizer, &model.quantizer);
        let placed = matches!(ours.rule, QuantizerRule::L2 | QuantizerRule::L2Normalised)
            && method != CodebookMethod::Simvq;
        match self.weights.get(CODEBOOK_NAME) {
            Some(codes) if placed && theirs == ours => Ok(Some(flat(codes)?)),
            _ => Ok(None),
        }
    }

    /// Puts the weights into a fresh trainer. Returns what was taken over, in words.
    ///
    /// # Errors
    /// Where a weight is missing, is too much, or has another shape.
    pub(super) fn apply(&self, model: &ModelConfig, trainer: &mut Trainer) -> Result<String> {
        let other_length = self.config.quantizer.dim != model.quantizer.dim;
        let mut values = trainer.weights()?;
        let mut shapes = trainer.shapes();
        shapes.remove(CODEBOOK_NAME);
        let mut fresh = Vec::new();
        for (name, shape) in &shapes {
            match self.weights.get(name) {
                Some(tensor) if tensor.dims() == shape.as_slice() => {
                    values.insert(name.clone(), flat(tensor)?);
                }
                _ if other_length && touches_codes(name) => fresh.push(name.as_str()),
                Some(tensor) => {
                    let was = tensor.dims();
                    return self.refuse(format!("{name} was {was:?} and is {shape:?}"));
                }
                None => return self.refuse(format!("it has no weight {name}")),
            }
        }
        let of_quantizer = |name: &str| name.starts_with("quantize.");
        let extra = self.weights.keys().find(|n| !shapes.contains_key(*n) && !of_quantizer(n));
        if let Some(extra) = extra {
            return self.refuse(format!("its weight {extra} has no place"));
        }
        let codebook = self.codebook(model, trainer.method())?;
        let text = self.taken_over(model, shapes.len() - fresh.len(), codebook.is_some(), &fresh);
        trainer.begin_with(&values)?;
        if let Some(codes) = codebook {
            trainer.place_codes(&codes)?;
        }
        Ok(text)
    }

    /// What a training of `model` begins with, in words: so many weights, the codebook or not, and
    /// which weights begin again.
    fn taken_over(
        &self,
        model: &ModelConfig,
        taken: usize,
        codebook: bool,
        fresh: &[&str],
    ) -> String {
        let (theirs, ours) = (&self.config.quantizer, &model.quantizer);
        let mut text =
            format!("beginning with {} of {}", counted(taken, "weight tensor"), self.from);
        let ruled = matches!(ours.rule, QuantizerRule::Fsq | QuantizerRule::Sign);
        text += &match codebook {
            false if ruled && theirs == ours => format!(" and its {} codes by rule", ours.codes),
            true => format!(" and its codebook of {} codes", ours.codes_in_words()),
            false => format!(
                "; a new codebook of {} codes of length {} instead of its {} of length {} (rule {})",
                ours.codes_in_words(),
                ours.dim,
                theirs.codes_in_words(),
                theirs.dim,
                theirs.rule
            ),
        };
        if !fresh.is_empty() {
            text += &format!("; {} start afresh with it", fresh.join(", "));
        }
        text
    }
}

/// Whether the shape of a weight depends on the length of a code.
fn touches_codes(name: &str) -> bool {
    ["quant_conv.", "post_quant_conv.", "enc.proj.", "dec.conv."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::folder;
    use crate::train::fixtures::{DATA, small_model, small_settings};
    use crate::train::{Event, Observer, TrainSettings, TrainSummary, run};

    /// Keeps the notices.
    #[derive(Default)]
    struct Notices(Vec<String>);

    impl Observer for Notices {
        fn event(&mut self, event: &Event<'_>) {
            if let Event::Notice(text) = event {
                self.0.push((*text).to_string());
            }
        }
    }

    fn settings(from: &Path, steps: usize) -> TrainSettings {
        let from = from.to_string_lossy().into_owned();
        TrainSettings {
            steps,
            init: InitSettings { from, ..InitSettings::default() },
            ..small_settings()
        }
    }

    fn train(
        model: &ModelConfig,
        settings: &TrainSettings,
        folder: &Path,
    ) -> Result<(TrainSummary, Vec<String>)> {
        let mut notices = Notices::default();
        let summary = run(model, settings, &DATA, folder, false, &mut notices)?;
        Ok((summary, notices.0))
    }

    #[test]
    fn fine_tuning_goes_on_where_the_checkpoint_stands() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("first"), temp.path().join("second"));
        let (before, _) = train(&small_model(), &small_settings(), &first).unwrap();
        // One update at a vanishing learning rate: the same weights, codes and figures.
        let mut again = settings(&first, 1);
        again.learning_rate = 1e-30;
        again.weight_average = 0.0;
        again.codebook.decay = 0.999_999_9;
        let (after, said) = train(&small_model(), &again, &second).unwrap();
        assert!(said[0].contains("and its codebook of 16 codes"), "{said:?}");
        let [a, b] = [first, second].map(|dir| folder::load(&dir).unwrap().1.tensors().unwrap());
        for (name, old) in &a {
            if name == CODEBOOK_NAME {
                continue;
            }
            assert!(flat(old).unwrap() == flat(&b[name]).unwrap(), "{name} differs");
        }
        let off = (before.evaluation.psnr - after.evaluation.psnr).abs();
        assert!(off < 0.05, "{:?} {:?}", before.evaluation, after.evaluation);
    }

    #[test]
    fn another_codebook_starts_afresh_on_the_old_network() {
        let temp = tempfile::tempdir().unwrap();
        let first = temp.path().join("first");
        train(&small_model(), &small_settings(), &first).unwrap();
        let mut more = small_model();
        more.quantizer.codes = 24;
        let folder = temp.path().join("more");
        let (_, said) = train(&more, &settings(&first, 12), &folder).unwrap();
        assert!(said[0].contains("24 codes of length 4 instead of its 16 of length 4"), "{said:?}");
        assert!(!said[0].contains("start afresh"), "{said:?}");
        let mut longer = small_model();
        longer.quantizer.dim = 6;
        let folder = temp.path().join("longer");
        let (_, said) = train(&longer, &settings(&first, 12), &folder).unwrap();
        assert!(said[0].contains("dec.conv.weight, enc.proj.bias, enc.proj.weight start afresh"));
        let (_, weights) = folder::load(&folder).unwrap();
        assert_eq!(weights.get(CODEBOOK_NAME).unwrap().dims(), [16, 6]);
    }

    #[test]
    fn another_network_is_refused_by_the_first_difference() {
        let temp = tempfile::tempdir().unwrap();
        let first = temp.path().join("first");
        train(&small_model(), &small_settings(), &first).unwrap();
        let said = |model: &ModelConfig| {
            let folder = temp.path().join("other");
            let error = train(model, &settings(&first, 4), &folder).unwrap_err();
            assert!(!folder.exists());
            error.to_string()
        };
        let mut wider = small_model();
        if let Architecture::Vqvae(c) = &mut wider.architecture {
            c.hidden = 16;
        }
        let text = said(&wider);
        assert!(text.contains("model.architecture.hidden was 8 and is 16"), "{text}");
        let mut symmetric = small_model();
        symmetric.pixels.input = crate::model::config::InputRange::Symmetric;
        let text = said(&symmetric);
        let ranges = "it sees pixels from -0.5 to 0.5, the recipe's network pixels from -1 to 1; ";
        assert!(text.contains(ranges), "{text}");
        let mut other = small_model();
        other.architecture = serde_json::from_value(serde_json::json!({"kind": "vqgan", "ch": 8,
            "widths": [8, 8, 8], "res_blocks": 1, "attention": [false, false, false],
            "mid_attention": false, "z_channels": 4, "norm_groups": 4, "norm_eps": 1e-6}))
        .unwrap();
        let text = said(&other);
        assert!(
            text.contains("its network is of the kind vqvae, the recipe's of the kind vqgan; ")
        );
    }

    #[test]
    fn a_published_checkpoint_is_fine_tuned() {
        let Some(root) = crate::testing::shared("golden/taming_vq/model_pl10.ckpt") else { return };
        let options = DetectOptions::default();
        let (config, weights) = detect::open(&root, &options).unwrap();
        let weights = weights.tensors().unwrap();
        let mut model = config.clone();
        model.pixels.input = crate::model::config::InputRange::Symmetric;
        model.preprocess.size = Some(32);
        let from = root.to_string_lossy().into_owned();
        let init = InitSettings { from, ..InitSettings::default() };
        let read = Init::read(&init, &model).unwrap().unwrap();
        let settings = TrainSettings { batch_size: 1, ..small_settings() };
        let mut trainer = Trainer::new(&model, &settings, 1.0).unwrap();
        let text = read.apply(&model, &mut trainer).unwrap();
        assert!(text.contains("and its codebook"), "{text}");
        assert!(!trainer.wants_codebook());
        let codes = trainer.codebook().unwrap().unwrap();
        assert!(codes == flat(&weights[CODEBOOK_NAME]).unwrap());
        for (name, values) in trainer.weights().unwrap() {
            assert!(values == flat(&weights[&name]).unwrap(), "{name}");
        }
    }
}
