//! Owns the table `[train.codebook]`: how the codes of a codebook begin and learn.

use serde::{Deserialize, Serialize};

use crate::model::config::QuantizerRule;

/// Batches whose latents k-means sees, at most.
pub(crate) const KMEANS_BATCHES: usize = 16;

/// The `[train.codebook]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodebookSettings {
    /// How the codes learn, for the rules `l2` and `l2-normalised`.
    pub method: CodebookMethod,
    /// Where the codes begin.
    pub start: CodebookStart,
    /// Steps without quantization, before the codes are started. At most a tenth of the steps is
    /// taken. Rules without codebook (`fsq`, `sign`) quantize from the first step on.
    pub start_after: usize,
    /// Steps of Lloyd's algorithm.
    pub kmeans_steps: usize,
    /// Latents a code for k-means (within 16 batches).
    pub kmeans_rows_per_code: usize,
    /// CodebookMethod `ema`: g of the moving averages.
    pub decay: f64,
    /// CodebookMethod `ema`: smoothing of the counts.
    pub epsilon: f64,
    /// Methods `gradient` and `simvq`: weight of mean((q - sg(z))^2), which pulls the codes.
    pub code_weight: f64,
    /// Rule `sign`: weight of the entropy of each latent's codes less that of all together; 0 =
    /// neither is computed.
    pub entropy_weight: f64,
    /// Rule `sign`: where latents lie before their signs are taken. None = on the sphere; free where only a
    /// temperature is said, as recipes did before there was a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents: Option<SignLatents>,
    /// Rule `sign`: tau of the probabilities of codes. None = 1 on the sphere, 0.01 for free latents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy_temperature: Option<f64>,
    /// First interval between revivals, which doubles while hardly any code is dead; 0 = none. A
    /// code is dead that was not used for as many steps, or for longer where a batch has few
    /// latents for many codes.
    pub revive_every: usize,
    /// Share of the steps after which there is no scheduled revival.
    pub revive_until: f64,
    /// Recent usage under which codes are revived behind `revive_until` too.
    pub rearm_usage: f64,
}

impl Default for CodebookSettings {
    fn default() -> Self {
        CodebookSettings {
            method: CodebookMethod::Ema,
            start: CodebookStart::Kmeans,
            start_after: 100,
            kmeans_steps: 10,
            kmeans_rows_per_code: 32,
            decay: 0.99,
            epsilon: 1e-5,
            code_weight: 1.0,
            entropy_weight: 0.1,
            latents: None,
            entropy_temperature: None,
            revive_every: 20,
            revive_until: 0.8,
            rearm_usage: 0.5,
        }
    }
}

/// Tau of free latents, as MAGVIT-v2 has it; recipes of older versions, with every setting filled in, say it
/// whatever their rule.
const FREE_TEMPERATURE: f64 = 0.01;

impl CodebookSettings {
    /// Where latents of the rule `sign` lie, and tau.
    pub(crate) fn signs(&self) -> (SignLatents, f64) {
        let latents = match (self.latents, self.entropy_temperature) {
            (Some(latents), _) => latents,
            (None, None) => SignLatents::Sphere,
            (None, Some(_)) => SignLatents::Free,
        };
        let usual = match latents {
            SignLatents::Sphere => 1.0,
            SignLatents::Free => FREE_TEMPERATURE,
        };
        (latents, self.entropy_temperature.unwrap_or(usual))
    }

    /// Whether another tau is said than the usual one of the latents that are said.
    pub(super) fn unusual_temperature(&self) -> bool {
        let usual = CodebookSettings { entropy_temperature: None, ..self.clone() };
        let latents = Some(self.signs().0);
        self.signs() != CodebookSettings { latents, ..usual }.signs()
    }

    /// Says what goes without saying, so that a recipe means the same when that changes; forgets what older
    /// versions filled in for rules that have no use for it.
    pub(crate) fn fill_in(&mut self, rule: QuantizerRule) {
        if rule == QuantizerRule::Sign {
            let (latents, temperature) = self.signs();
            (self.latents, self.entropy_temperature) = (Some(latents), Some(temperature));
        } else if self.latents.is_none() && self.entropy_temperature == Some(FREE_TEMPERATURE) {
            self.entropy_temperature = None;
        }
    }
}

/// Where the latents of the rule `sign` lie before their signs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignLatents {
    /// On the sphere through the codes (BSQ, Zhao et al. 2024).
    Sphere,
    /// Wherever the encoder puts them (LFQ, Yu et al. 2024).
    Free,
}

/// How the codes of a codebook learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodebookMethod {
    /// Moving averages of the latents that chose them.
    Ema,
    /// Gradients of their distance to these latents.
    Gradient,
    /// Gradients, through a linear map of a frozen random table (SimVQ).
    Simvq,
}

/// Where the codes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodebookStart {
    /// Among the latents: on centres of k-means; with `simvq`, by the latents' mean and covariance.
    Kmeans,
    /// Anywhere: uniform in +-1/K, as the first VQ-VAE; with `simvq`, as any linear layer.
    Random,
}

/// The way of the decoder's gradient to the encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// z + sg(q - z): the gradient passes unchanged.
    #[default]
    StraightThrough,
    /// The rotation trick (Fifty et al. 2024): the gradient turns with the rotation from z to q.
    Rotation,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> CodebookSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn signs_are_taken_on_the_sphere_unless_an_older_recipe_says_a_temperature() {
        for (text, latents, temperature) in [
            ("", SignLatents::Sphere, 1.0),
            ("entropy_weight = 0.2", SignLatents::Sphere, 1.0),
            ("latents = 'sphere'\nentropy_temperature = 0.5", SignLatents::Sphere, 0.5),
            ("latents = 'free'", SignLatents::Free, 0.01),
            ("entropy_temperature = 0.01", SignLatents::Free, 0.01),
            ("entropy_temperature = 2.0", SignLatents::Free, 2.0),
        ] {
            let mut settings = read(text);
            settings.fill_in(QuantizerRule::Sign);
            assert_eq!(settings.latents, Some(latents), "{text}");
            assert_eq!(settings.entropy_temperature, Some(temperature), "{text}");
            let written = toml::to_string(&settings).unwrap();
            assert_eq!(
                (read(&written), settings.signs()),
                (settings.clone(), (latents, temperature))
            );
        }
    }

    #[test]
    fn what_older_versions_filled_in_for_other_rules_is_no_wish() {
        for (text, left) in [
            ("entropy_temperature = 0.01", None),
            ("entropy_temperature = 0.02", Some(0.02)),
            ("latents = 'free'\nentropy_temperature = 0.01", Some(0.01)),
        ] {
            let mut settings = read(text);
            settings.fill_in(QuantizerRule::L2);
            assert_eq!(settings.entropy_temperature, left, "{text}");
        }
    }
}
