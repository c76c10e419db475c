//! Owns the model card: what a model is, where each fact is from, what was left out.

use super::open::open;
use super::{folder, onnx};
use crate::checkpoint::recognise::detect;
use crate::checkpoint::recognise::detect::DetectOptions;
use crate::checkpoint::recognise::families::Family;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::config::{Architecture, ModelConfig, QuantizerConfig, QuantizerRule};
use crate::util::hex::sha256_hex;
use crate::util::settings::{RESIZE, SIZE};
use crate::util::{numbers, text};
use crate::weights::digests::Digests;
use crate::weights::store::Weights;
use crate::weights::tensor::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is known of a model without running it.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    /// Family, network, quantizer, pixels, preprocessing, provenance.
    pub config: ModelConfig,
    /// Of the weights, whatever their container.
    pub digests: Digests,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// The files the weights came from, with their sha256 in hex.
    pub files: Vec<(PathBuf, String)>,
    /// `safetensors`, `pickle (zip)`, ...
    pub container: String,
    /// Tensors that were left out, with the reason.
    pub ignored: BTreeMap<String, String>,
    /// What was tolerated.
    pub notes: Vec<String>,
}

/// Reads the card of a model folder or checkpoint file.
///
/// # Errors
/// As opening the model: unreadable, unknown, or of several possible families.
pub(crate) fn read(path: &Path, options: &DetectOptions) -> Result<Card> {
    if folder::own(path).is_none()
        && let Some(found) = onnx::read(path, options)?
    {
        return of_onnx(found);
    }
    options.refuse_onnx()?;
    let (raw, config, weights, ignored) = if let Some(own) = folder::own(path) {
        let raw = open(path)?;
        // Already held against its configuration, in whose names it is.
        let config = folder::load_config(own)?;
        options.refuse_for_own(own, &config)?;
        let weights = Weights::from(raw.tensors.clone());
        let file = own.join(folder::WEIGHTS_FILE);
        (raw, config, weights.read_from(&file, BTreeMap::new()), BTreeMap::new())
    } else {
        let (raw, detected, weights) = detect::read(path, options)?;
        (raw, detected.config, weights, detected.ignored)
    };
    // A tensor that is missing or misshapen is reported now, not when the model is first used.
    Model::check(&config, &weights).map_err(Error::about(path))?;
    Ok(Card {
        config,
        digests: Digests::of(&weights)?,
        parameters: weights.iter().map(|(_, weight)| weight.len() as u64).sum(),
        files: raw.files.into_iter().map(|(file, b)| (file, sha256_hex(&b[..]))).collect(),
        container: raw.container,
        ignored,
        notes: raw.notes,
    })
}

/// The card of ONNX files, which are not run for it.
fn of_onnx(found: onnx::Read) -> Result<Card> {
    let (config, parameters) = (found.config.clone(), found.parameters);
    let hashed = |file: &PathBuf| -> Result<(PathBuf, String)> {
        Ok((file.clone(), sha256_hex(&Bytes::map(file)?[..])))
    };
    let files = found.files.iter().map(hashed).collect::<Result<_>>()?;
    Ok(Card {
        config,
        digests: found.digest()()?,
        parameters,
        files,
        container: "onnx".to_owned(),
        ignored: BTreeMap::new(),
        notes: Vec::new(),
    })
}

/// What a configuration says, or what goes without saying.
fn word_or(said: &Option<String>, otherwise: &str) -> String {
    text::printable(said.as_deref().unwrap_or(otherwise)).into_owned()
}

impl Card {
    /// Name and value of every fact, for people.
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let ModelConfig { family, architecture, quantizer, pixels, preprocess, .. } = &self.config;
        let sized = Family::named(family).is_none_or(|family| family.sized);
        let size = match preprocess.size {
            Some(size) => format!("{size} px"),
            None if sized => format!("not said: pass {SIZE}"),
            None => "each picture's own".to_owned(),
        };
        let resize = match preprocess.resize.as_str() {
            "" => format!("not said: pass {RESIZE}"),
            rule => text::printable(rule).into_owned(),
        };
        let mut lines: Vec<(String, String)> = [
            ("family", format!("{}, {}", text::printable(family), kind(architecture))),
            ("factor", factor(&self.config)),
            ("codebook", codebook(quantizer)),
            ("quantizer", rule(quantizer)),
            ("channels", pixels.channels.to_string()),
            ("input range", word(&json!(pixels.input))),
            ("output range", word(&json!(pixels.output))),
            ("resize rule", resize),
            ("size", size),
            ("alpha", word_or(&preprocess.alpha, "white")),
            ("orientation", word_or(&preprocess.orientation, "apply")),
            ("pillow", preprocess.pillow.unwrap_or(12).to_string()),
            ("parameters", numbers::count(self.parameters)),
            ("weights sha256", self.digests.weights_sha256.clone()),
            ("codebook sha256", self.digests.codebook_sha256.clone()),
            ("container", self.container.clone()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into();
        for (file, sha256) in &self.files {
            lines.push(("file".into(), format!("{} sha256 {sha256}", text::path(file))));
        }
        for (name, value) in &self.config.provenance {
            let [name, value] = [name, value].map(|text| text::printable(text));
            lines.push((format!("from: {name}"), value.into_owned()));
        }
        for (reason, names) in self.ignored_by_reason() {
            let examples = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 3 { ", ..." } else { "" };
            lines.push(("ignored".into(), format!("{} ({reason}): {examples}{more}", names.len())));
        }
        lines.extend(self.notes.iter().map(|note| ("note".into(), note.clone())));
        lines
    }

    fn ignored_by_reason(&self) -> BTreeMap<&str, Vec<String>> {
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, reason) in &self.ignored {
            reasons.entry(reason).or_default().push(text::printable(name).into_owned());
        }
        reasons
    }

    /// The same for machines, complete.
    pub(crate) fn to_json(&self) -> Value {
        let files: Vec<_> =
            self.files.iter().map(|(path, sha256)| (text::lossy(path), sha256)).collect();
        json!({
            "config": self.config, "factor": self.config.factor()[0], "parameters": self.parameters,
            "weights_sha256": self.digests.weights_sha256,
            "codebook_sha256": self.digests.codebook_sha256,
            "container": self.container, "files": files, "ignored": self.ignored,
            "notes": self.notes,
        })
    }
}

/// Pixels to a token; those of ONNX files show when they run, where nobody has said them.
fn factor(config: &ModelConfig) -> String {
    match (&config.architecture, config.factor()) {
        (Architecture::Onnx(_), [1, 1]) => "as the network shows when it runs".to_owned(),
        (_, [factor, _]) => format!("{factor} pixels a token"),
    }
}

fn codebook(quantizer: &QuantizerConfig) -> String {
    match (quantizer.rule, quantizer.codes_in_words()) {
        (QuantizerRule::Exported, codes) => format!("{codes} codes"),
        (_, codes) => format!("{codes} codes of length {}", quantizer.dim),
    }
}

/// The rule, with its levels where it has them.
fn rule(quantizer: &QuantizerConfig) -> String {
    let rule = word(&json!(quantizer.rule));
    match &quantizer.levels[..] {
        [] => rule,
        levels => format!("{rule} {levels:?}"),
    }
}

/// The architecture's `kind`.
fn kind(architecture: &Architecture) -> String {
    word(&json!(architecture)["kind"])
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}
