//! Owns the step from a published checkpoint to a vqtok model: which family, which sizes, which
//! weight goes where, what was assumed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::config::configure;
use super::geometry::{self, Shapes};
use super::keys::KeyLayout;
use super::placement::{Detected, Placing};
use super::published::Published;
use super::sets::{self, Chosen};
use super::setting_names::SettingNames;
use super::{choice, fields, made, provenance, validate};
use crate::checkpoint::folder;
use crate::checkpoint::onnx::{self, OnnxSettings};
use crate::checkpoint::open::open as open_raw;
use crate::checkpoint::raw::RawCheckpoint;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::opened::Opened;
use crate::util::settings::{CODES, LAYOUT, MEAN, MODEL_CONFIG, SCALES, STD, Setting};
use crate::util::text;
use crate::weights::digests::Pending;
use crate::weights::store::Weights;

/// What the user says about a checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct DetectOptions<'a> {
    /// The name of its family.
    pub family: Option<&'a str>,
    /// The published configuration, where it doesn't lie beside the checkpoint.
    pub config: Option<&'a Value>,
    /// Which of several sets of weights in one file: the start of their names.
    pub weights: Option<&'a str>,
    /// The scales (h, w) of a family that has several.
    pub scales: Option<&'a [[usize; 2]]>,
    /// What is said about ONNX files.
    pub onnx: Option<&'a OnnxSettings>,
    /// What a front end calls these.
    pub settings: SettingNames,
}

impl DetectOptions<'_> {
    /// Errors where something is said of a model folder of ours, which says everything itself.
    pub(crate) fn refuse_for_own(&self, dir: &Path, config: &ModelConfig) -> Result<()> {
        let setting = match self {
            DetectOptions { weights: Some(_), settings, .. } => settings.weights,
            DetectOptions { config: Some(_), .. } => MODEL_CONFIG,
            DetectOptions { scales: Some(_), .. } => SCALES,
            DetectOptions { family: Some(word), settings, .. } if *word != config.family => {
                settings.family
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(format!(
            "{setting} is for published checkpoints; {} is a model folder of vqtok, whose config.json \
             says what it is (family {}); leave {setting} out",
            text::path(dir),
            text::shorten(&config.family)
        )))
    }
}

impl DetectOptions<'_> {
    /// Errors where something is said of an ONNX model that is for checkpoints of weights.
    pub(crate) fn refuse_for_onnx(&self, family: &str) -> Result<()> {
        let setting = match self {
            DetectOptions { weights: Some(_), settings, .. } => settings.weights,
            DetectOptions { scales: Some(_), .. } => SCALES,
            DetectOptions { family: Some(word), settings, .. } if *word != family => {
                settings.family
            }
            _ => return Ok(()),
        };
        Err(Error::setting(
            setting,
            "is for checkpoints of weights, and the model is in ONNX files",
        ))
    }

    /// Errors where something is said of a checkpoint that is for ONNX files.
    pub(crate) fn refuse_onnx(&self) -> Result<()> {
        match self.onnx.and_then(said) {
            None => Ok(()),
            Some(setting) => Err(Error::setting(setting, "is for models in ONNX files alone")),
        }
    }
}

/// The first setting that is said.
fn said(onnx: &OnnxSettings) -> Option<Setting> {
    let OnnxSettings { codes, layout, mean, std } = onnx;
    let all = [
        (codes.is_some(), CODES),
        (layout.is_some(), LAYOUT),
        (mean.is_some(), MEAN),
        (std.is_some(), STD),
    ];
    all.into_iter().find_map(|(is_said, setting)| is_said.then_some(setting))
}

/// Opens a checkpoint, published or our own, as a configuration and weights under canonical names,
/// on the CPU.
///
/// # Errors
/// Where it can't be read or is damaged, or its family isn't clear: the error lists what fits.
pub fn open(path: &Path, options: &DetectOptions) -> Result<(ModelConfig, Weights)> {
    let Opened { config, weights, digests } = begin(path, options)?;
    if config.family == onnx::FAMILY {
        let path = text::path(path);
        return Err(Error::invalid(format!("{path}: an ONNX model, whose weights aren't read")));
    }
    digests.get()?;
    Ok((config, weights))
}

/// The same without waiting for the hash.
///
/// # Errors
/// As [`open`], but for weights that aren't those that were written.
pub fn begin(path: &Path, options: &DetectOptions) -> Result<Opened> {
    if let Some(own) = folder::own(path) {
        options.refuse_onnx()?;
        let (config, weights, noted) = folder::open(own)?;
        options.refuse_for_own(own, &config)?;
        let digests = Pending::checked(&weights, move |digests| noted.check(digests));
        return Ok(Opened { config, weights, digests });
    }
    if let Some(opened) = onnx::begin(path, options)? {
        return Ok(opened);
    }
    let (_, detected, weights) = read(path, options)?;
    let digests = Pending::of(&weights);
    Ok(Opened { config: detected.config, weights, digests })
}

/// Reads a published checkpoint, recognises it and puts its weights under canonical names. Errors name
/// it.
///
/// # Errors
/// As [`open_raw`] and [`detect_raw`].
pub(crate) fn read(
    path: &Path,
    options: &DetectOptions,
) -> Result<(RawCheckpoint, Detected, Weights)> {
    options.refuse_onnx()?;
    let raw = open_raw(path)?;
    let placed = || -> Result<(Detected, Weights)> {
        let detected = detect_raw(&raw, options)?;
        let weights = detected.place(&raw)?;
        Ok((detected, weights))
    };
    let (detected, weights) = placed().map_err(Error::about(path))?;
    Ok((raw, detected, weights))
}

/// Recognises a checkpoint that was read.
///
/// # Errors
/// Where no family, or more than one, fits; several sets of weights are in it; a weight is of a
/// type that isn't read; or its configuration asks for what isn't computed.
pub fn detect_raw(raw: &RawCheckpoint, options: &DetectOptions) -> Result<Detected> {
    let mut shapes: BTreeMap<String, Vec<usize>> =
        raw.tensors.iter().map(|(name, t)| (name.clone(), t.shape().to_vec())).collect();
    // Known by name only, so that they are missed where they are needed.
    shapes.extend(raw.unread.keys().map(|name| (name.clone(), Vec::new())));
    let same = |a: &str, b: &str| match (raw.tensors.get(a), raw.tensors.get(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    };
    let chosen = sets::choose(&shapes, options.weights, options.settings, same)?;
    validate::refuse_unread(&chosen, &raw.unread)?;
    let mut published = Published::new(options.config, &raw.configs, raw.hparams.as_ref());
    published.settings = options.settings;
    published.scales = options.scales.map(<[_]>::to_vec);
    published.add_levels(&raw.tensors)?;
    detect(&shapes, &published, options.family, chosen)
}

/// Recognises the chosen weights by names and shapes; `published` are the configurations with them.
fn detect(
    shapes: &BTreeMap<String, Vec<usize>>,
    published: &Published,
    asked: Option<&str>,
    chosen: Chosen,
) -> Result<Detected> {
    validate::refuse_taken_apart(&chosen)?;
    let (prefix, why) = (chosen.prefix.clone(), chosen.why.clone());
    let mut placing = Placing::of(shapes, chosen, published.settings.weights)?;
    let layout = KeyLayout::of(&placing.own).ok_or_else(sets::unknown_names)?;
    let names = layout.canonical_names(placing.own.keys().map(String::as_str));
    if layout.has_codebook() && !names.values().any(|name| name == "quantize.embedding.weight") {
        return Err(Error::invalid(
            "the checkpoint has no codebook (`quantize.embedding.weight`): an autoencoder without codes, \
             such as a KL one, is no tokenizer",
        ));
    }
    let signs = choice::signs(&placing.own, &names, &prefix, layout);
    let (family, how) = choice::choose(layout, &signs, published, asked)?;
    fields::refuse_unbuilt(family, published)?;
    placing.leave_out(layout);
    placing.place(names, family.ema && published.bool("use_ema")?.is_none_or(|(on, _)| on))?;

    let depth = made::combine(layout, &mut placing.placements)?;
    let shapes = placing.canonical_shapes();
    let mut geometry = geometry::infer(layout, &Shapes(&shapes), published)?;
    // Of books side by side each has its own part of a latent.
    match layout {
        KeyLayout::Unitok => {
            let (codes, dim) = (geometry.codes / depth, geometry.dim * depth);
            (geometry.codes, geometry.dim, geometry.books) = (codes, dim, depth);
        }
        _ => (geometry.codes, geometry.depth) = (geometry.codes / depth, depth),
    }
    let mut config = configure(family, geometry, published, how)?;
    fields::check(&config, family, published)?;
    if published.scales.is_some() && config.quantizer.scales.is_none() {
        let reason = format!("is for families that code several scales, not {}", family.word);
        return Err(Error::setting(SCALES, reason));
    }
    let mut note = |name: &str, parts: Vec<String>, between: &str| {
        if !parts.is_empty() {
            config.provenance.insert(name.to_owned(), parts.join(between));
        }
    };
    note("unknown settings", fields::unknown(published), ", ");
    let averages = placing.averages_use.in_words(family.word);
    note("weights", why.into_iter().chain(averages).collect(), "; ");
    let Placing { placements, ignored, .. } = placing;
    let mut detected = Detected { config, placements, ignored };
    if family.skips_lone_attention {
        detected.drop_lone_attention();
    }
    if let Some(ignored) = provenance::ignored_in_words(&detected.ignored) {
        detected.config.provenance.insert("ignored tensors".to_owned(), ignored);
    }
    Ok(detected)
}

#[cfg(test)]
mod tests;
