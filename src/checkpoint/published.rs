//! Owns the reading of published configurations (taming's YAML, diffusers' and transformers' JSON,
//! Lightning's hyper-parameters): only what names and shapes can't tell. Must not know: tensors.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// All configurations found beside or inside a checkpoint, the decisive one first.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Where each comes from, for messages, and its content.
    sources: Vec<(String, Value)>,
}

impl Published {
    /// `explicit` was given by the user and comes first; then the files beside the checkpoint, then
    /// what the pickle carries.
    pub fn new(
        explicit: Option<&Value>,
        files: &[(PathBuf, Value)],
        hparams: Option<&Value>,
    ) -> Published {
        let mut sources = Vec::new();
        let mut add = |name: String, value: &Value| {
            sources.extend(focus(value).into_iter().map(|value| (name.clone(), value.clone())));
        };
        if let Some(value) = explicit {
            add("the given configuration".to_owned(), value);
        }
        for (path, value) in files {
            add(
                path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
                value,
            );
        }
        if let Some(value) = hparams {
            add("the checkpoint's hyper-parameters".to_owned(), value);
        }
        Published { sources }
    }

    /// The first value of any of `keys` in any scope, with the name of its source.
    pub fn find(&self, keys: &[&str]) -> Option<(&Value, &str)> {
        self.sources.iter().find_map(|(source, value)| {
            let scopes = scopes(value);
            let hit = keys.iter().find_map(|key| scopes.iter().find_map(|scope| scope.get(*key)));
            hit.filter(|value| !value.is_null()).map(|value| (value, source.as_str()))
        })
    }

    /// A non-negative integer under any of `keys`.
    pub fn usize(&self, keys: &[&str]) -> Option<(usize, &str)> {
        self.find(keys).and_then(|(value, source)| Some((value.as_u64()? as usize, source)))
    }

    /// One integer, or a pair (height, width).
    pub fn pair(&self, keys: &[&str]) -> Option<([usize; 2], &str)> {
        let (value, source) = self.find(keys)?;
        let int = |v: &Value| v.as_u64().map(|v| v as usize);
        let pair = match value {
            Value::Array(items) if items.len() == 2 => [int(&items[0])?, int(&items[1])?],
            value => [int(value)?; 2],
        };
        Some((pair, source))
    }

    /// A boolean under `key`.
    pub fn bool(&self, key: &str) -> Option<(bool, &str)> {
        self.find(&[key]).and_then(|(value, source)| Some((value.as_bool()?, source)))
    }

    /// A word under any of `keys`.
    pub fn word(&self, keys: &[&str]) -> Option<(&str, &str)> {
        self.find(keys).and_then(|(value, source)| Some((value.as_str()?, source)))
    }

    /// Errors where a stated number contradicts the weights.
    pub fn check(&self, keys: &[&str], found: usize, what: &str) -> Result<()> {
        match self.usize(keys) {
            Some((stated, source)) if stated != found => Err(Error::invalid(format!(
                "{source} says `{}` = {stated}, but the weights have {found} {what}: it belongs to another checkpoint",
                keys[0]
            ))),
            _ => Ok(()),
        }
    }

    /// Errors where an option is on whose mathematics isn't built.
    pub fn refuse_unbuilt(&self) -> Result<()> {
        let refuse = |key: &str, source: &str| {
            Err(Error::invalid(format!(
                "{source} sets `{key}`, which vqtok doesn't compute; nothing was guessed"
            )))
        };
        for key in ["double_z", "double_latent", "tanh_out"] {
            if let Some((true, source)) = self.bool(key) {
                return refuse(key, source);
            }
        }
        if let Some((_, source)) = self.find(&["remap"]) {
            return refuse("remap", source);
        }
        for (key, known) in [
            ("norm_type", &["group"][..]),
            ("act_fn", &["silu", "swish"]),
            ("attn_type", &["vanilla", "none", "vanilla-xformers"]),
        ] {
            if let Some((word, source)) =
                self.word(&[key]).filter(|(word, _)| !known.contains(word))
            {
                return refuse(&format!("{key}: {word}"), source);
            }
        }
        Ok(())
    }

    /// Families that the configurations name; empty where they say nothing.
    pub fn families(&self) -> Vec<&'static str> {
        if let Some(("VQModel", _)) = self.word(&["_class_name"]) {
            let amused = matches!(self.bool("lookup_from_codebook"), Some((true, _)));
            return vec![if amused { "amused" } else { "diffusers" }];
        }
        match self.word(&["_class_name"]) {
            Some(("MaskGitVQGAN", _)) => return vec!["maskgit"],
            Some(("VQGANModel", _)) => return vec!["open-muse"],
            _ => {}
        }
        match self.word(&["model_type"]).map_or("", |(word, _)| word) {
            "chameleon" | "chameleon_vqgan" | "chameleon_vqvae" => return vec!["chameleon-hf"],
            "janus" | "janus_vqgan" => return vec!["janus-hf"],
            _ => {}
        }
        // Lightning's YAML: the dotted name of the class.
        match self.word(&["target", "class_path"]).map_or("", |(word, _)| word) {
            t if t.ends_with(".GumbelVQ") => vec!["taming-gumbel"],
            // Chameleon's published YAML names taming's class.
            t if t.starts_with("taming.") => vec!["taming", "chameleon"],
            t if t.starts_with("ldm.") => vec!["latent-diffusion"],
            t if t.contains("IBQ") || t.contains("IndexBackprop") => vec!["ibq"],
            t if t.contains("Open_MAGVIT2") || t.contains("lfqgan") => vec!["open-magvit2"],
            t if t.starts_with("enhancing.") => vec!["vit-vqgan"],
            _ => vec![],
        }
    }
}

/// The part of a larger model's configuration that speaks of its tokenizer, before the whole.
fn focus(root: &Value) -> Vec<&Value> {
    // A latent-diffusion model's own `image_size` is that of its latents.
    for path in
        ["/model/params/first_stage_config", "/params/first_stage_config", "/first_stage_config"]
    {
        if let Some(inner) = root.pointer(path) {
            return vec![inner];
        }
    }
    root.get("vq_config").into_iter().chain([root]).collect()
}

/// The maps of a configuration in which settings are looked up: the root and the known nestings.
fn scopes(root: &Value) -> Vec<&Map<String, Value>> {
    const NESTINGS: &[&str] =
        &["model", "params", "init_args", "ddconfig", "encoder", "decoder", "quantizer"];
    let mut scopes: Vec<&Map<String, Value>> = root.as_object().into_iter().collect();
    let mut next = 0;
    // Breadth first, so that an outer setting wins over an inner one of the same name; bounded,
    // since a configuration is a few levels deep.
    while next < scopes.len() && scopes.len() < 64 {
        let scope = scopes[next];
        let inner = NESTINGS.iter().filter_map(|key| scope.get(*key)?.as_object());
        scopes.extend(inner);
        next += 1;
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn published(value: Value) -> Published {
        Published::new(Some(&value), &[], None)
    }

    #[test]
    fn settings_are_found_in_their_published_nestings() {
        let yaml = published(json!({"model": {"target": "taming.models.vqgan.GumbelVQ",
            "params": {"n_embed": 8192, "ddconfig": {"resolution": 256, "attn_resolutions": [32]}}}}));
        assert_eq!(yaml.usize(&["resolution"]).map(|x| x.0), Some(256));
        assert_eq!(yaml.usize(&["num_embeddings", "n_embed"]).map(|x| x.0), Some(8192));
        assert_eq!(yaml.families(), ["taming-gumbel"]);
        let full = published(json!({"model_type": "chameleon", "vq_config": {"resolution": 512}}));
        assert_eq!(full.families(), ["chameleon-hf"]);
        assert_eq!(full.usize(&["resolution"]).map(|x| x.0), Some(512));
        let ldm = published(
            json!({"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": {
            "image_size": 64, "first_stage_config": {"target": "ldm.models.autoencoder.VQModelInterface",
                "params": {"n_embed": 8192, "ddconfig": {"resolution": 256}}}}}}),
        );
        assert_eq!(ldm.families(), ["latent-diffusion"]);
        assert_eq!(ldm.usize(&["resolution"]).map(|x| x.0), Some(256));
        assert_eq!(ldm.pair(&["image_size"]), None);
        let amused = published(json!({"_class_name": "VQModel", "lookup_from_codebook": true}));
        assert_eq!(amused.families(), ["amused"]);
    }

    #[test]
    fn a_contradiction_and_an_unbuilt_option_are_refused() {
        let config = published(json!({"n_embed": 1024}));
        let error = config.check(&["n_embed"], 512, "codes").unwrap_err().to_string();
        assert!(error.contains("1024") && error.contains("512"), "{error}");
        for value in [
            json!({"norm_type": "spatial"}),
            json!({"ddconfig": {"tanh_out": true}}),
            json!({"params": {"remap": "x.npy"}}),
            json!({"attn_type": "linear"}),
        ] {
            assert!(published(value.clone()).refuse_unbuilt().is_err(), "{value}");
        }
        published(json!({"attn_type": "none", "norm_type": "group", "double_z": false}))
            .refuse_unbuilt()
            .unwrap();
    }
}
