//! Owns the step from a published checkpoint to a vqtok model: which family, which sizes, which
//! weight goes where, what was assumed. Must not know: how files are read, devices.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::RawCheckpoint;
use super::families::{FAMILIES, Family, Signs};
use super::folder;
use super::geometry::{self, Shapes};
use super::keys::{ANCHORS, Layout};
use super::published::Published;
use crate::error::{Error, Result};
use crate::model::config::*;
use crate::model::digests::Pending;
use crate::model::weights::Weights;

/// What the user says about a checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct DetectOptions<'a> {
    /// The word of `--family`.
    pub family: Option<&'a str>,
    /// The published configuration, where it doesn't lie beside the checkpoint (`--model-config`).
    pub config: Option<&'a Value>,
}

/// Where a published weight goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The published name whose values are taken.
    pub source: String,
    /// Shape in the model, which differs from the published one where a 1x1 convolution was
    /// published as a linear layer.
    pub shape: Vec<usize>,
}

/// A checkpoint understood.
#[derive(Debug, Clone)]
pub struct Detected {
    /// Configuration, with everything assumed in `provenance`.
    pub config: ModelConfig,
    /// By canonical name.
    pub placements: BTreeMap<String, Placement>,
    /// Published names that are left out, with the reason.
    pub ignored: BTreeMap<String, String>,
}

/// A checkpoint that is being hashed, and our own checked, while it is put to use.
pub struct Opened {
    /// What it is.
    pub config: ModelConfig,
    /// Under canonical names, on the CPU.
    pub weights: Weights,
    /// To be waited for before anything that comes of the weights is used: an error where they
    /// aren't those that were written.
    pub digests: Pending,
}

/// Opens a checkpoint, published or our own, as a configuration and weights under canonical names,
/// on the CPU.
///
/// # Errors
/// Where it can't be read or is damaged, or its family can't be told: the error lists what fits.
pub fn open(path: &Path, options: &DetectOptions) -> Result<(ModelConfig, Weights)> {
    let Opened { config, weights, digests } = begin(path, options)?;
    digests.get()?;
    Ok((config, weights))
}

/// The same without waiting for the hash.
///
/// # Errors
/// As [`open`], but for weights that aren't those that were written.
pub fn begin(path: &Path, options: &DetectOptions) -> Result<Opened> {
    if let Some(own) = folder::own(path) {
        let (config, weights, noted) = folder::open(own)?;
        let digests = Pending::checked(&weights, move |digests| noted.check(digests));
        return Ok(Opened { config, weights, digests });
    }
    let raw = super::open(path)?;
    let detected = detect_raw(&raw, options)?;
    let weights = detected.place(&raw)?;
    let digests = Pending::of(&weights);
    Ok(Opened { config: detected.config, weights, digests })
}

/// Recognises a checkpoint that was read.
pub fn detect_raw(raw: &RawCheckpoint, options: &DetectOptions) -> Result<Detected> {
    let shapes = raw.tensors.iter().map(|(name, t)| (name.clone(), t.shape().to_vec())).collect();
    let published = Published::new(options.config, &raw.configs, raw.hparams.as_ref());
    detect(&shapes, &published, options.family)
}

/// Recognises a checkpoint by its names and shapes; `published` are the configurations with it.
pub fn detect(
    shapes: &BTreeMap<String, Vec<usize>>,
    published: &Published,
    family: Option<&str>,
) -> Result<Detected> {
    let prefix = find_prefix(shapes)?;
    let mut ignored = BTreeMap::new();
    let stripped = strip(shapes, &prefix, &mut ignored);
    let layout = Layout::of(&stripped).ok_or_else(unknown_names)?;
    let names = layout.canonical_names(stripped.keys().map(String::as_str));
    if layout.has_codebook() && !names.values().any(|name| name == "quantize.embedding.weight") {
        return Err(Error::invalid(
            "the checkpoint has no codebook (`quantize.embedding.weight`): an autoencoder without codes, \
             such as a KL one, is no tokenizer",
        ));
    }
    let signs = signs(&stripped, &names, &prefix, layout);
    let (family, how) = choose(layout, &signs, published, family)?;
    published.refuse_unbuilt()?;
    leave_out(layout, &stripped, &prefix, &mut ignored);

    let averaged = family.ema && published.bool("use_ema").is_none_or(|(on, _)| on);
    let mut placements = BTreeMap::new();
    let (mut live, mut averages) = (0, 0);
    for (name, canonical) in names {
        let full = format!("{prefix}{name}");
        if ignored.contains_key(&full) {
            continue;
        }
        let average = format!("{prefix}model_ema.{}", name.replace('.', ""));
        let has_average = averaged && shapes.get(&average) == stripped.get(&name);
        if has_average {
            ignored.remove(&average);
            ignored.insert(full.clone(), format!("`{average}` is used in its place"));
        }
        *(if has_average { &mut averages } else { &mut live }) += 1;
        let source = if has_average { average } else { full };
        let shape = model_shape(&canonical, &stripped[&name]);
        if let Some(other) = placements.insert(canonical.clone(), Placement { source, shape }) {
            return Err(Error::invalid(format!(
                "`{name}` and `{}` both mean `{canonical}`",
                other.source
            )));
        }
    }
    let canonical_shapes =
        placements.iter().map(|(name, p)| (name.clone(), p.shape.clone())).collect();
    let shapes = Shapes(&canonical_shapes);
    let geometry = geometry::infer(layout, &shapes, published)?;
    let mut detected =
        Detected { config: configure(family, geometry, published, &how)?, placements, ignored };
    if averages > 0 {
        let text =
            format!("{averages} of {} weights are moving averages (model_ema)", averages + live);
        detected.config.provenance.insert("weights".to_owned(), text);
    }
    if family.word == "open-muse" {
        drop_lone_attention(&mut detected);
    }
    note_ignored(&mut detected);
    Ok(detected)
}

impl Detected {
    /// Moves published tensors to their canonical places.
    ///
    /// # Errors
    /// A tensor that is missing or doesn't have the model's number of values.
    pub fn place(&self, raw: &RawCheckpoint) -> Result<Weights> {
        let mut placed = BTreeMap::new();
        for (name, placement) in &self.placements {
            let tensor = raw.tensors.get(&placement.source).ok_or_else(|| {
                Error::invalid(format!("the checkpoint has no tensor `{}`", placement.source))
            })?;
            let tensor = tensor
                .reshape(&placement.shape)
                .map_err(|reason| Error::invalid(format!("`{}`: {reason}", placement.source)))?;
            placed.insert(name.clone(), tensor);
        }
        Ok(placed.into())
    }
}

fn unknown_names() -> Error {
    Error::invalid(format!(
        "no tokenizer was recognised in the checkpoint: none of {} is among its names",
        ANCHORS.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    ))
}

/// What stands before the tokenizer's names (`first_stage_model.`, `state_dict.`, ...).
fn find_prefix(shapes: &BTreeMap<String, Vec<usize>>) -> Result<String> {
    const KNOWN: &[&str] = &[
        "state_dict",
        "model",
        "module",
        "first_stage_model",
        "vqvae",
        "vqmodel",
        "gen_vision_model",
    ];
    let mut prefixes: Vec<&str> = shapes
        .keys()
        .flat_map(|name| ANCHORS.iter().filter_map(move |anchor| name.strip_suffix(anchor)))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .collect();
    // A set of moving averages beside the live weights comes last; then unknown prefixes.
    let rank = |prefix: &str| {
        let parts: Vec<&str> = prefix.split('.').filter(|part| !part.is_empty()).collect();
        let averages = parts.iter().any(|part| part.contains("ema"));
        let unknown = parts.iter().filter(|part| !KNOWN.contains(part)).count();
        (averages, unknown, parts.len())
    };
    prefixes.sort_by_key(|prefix| (rank(prefix), prefix.to_string()));
    prefixes.first().map(|prefix| prefix.to_string()).ok_or_else(unknown_names)
}

/// The tokenizer's own names without the prefix; everything else is left out, with the reason.
fn strip(
    shapes: &BTreeMap<String, Vec<usize>>,
    prefix: &str,
    ignored: &mut BTreeMap<String, String>,
) -> BTreeMap<String, Vec<usize>> {
    let mut stripped = BTreeMap::new();
    for (name, shape) in shapes {
        match name.strip_prefix(prefix).map(|rest| (rest, reason_to_ignore(rest))) {
            None => {
                ignored.insert(name.clone(), format!("not under `{prefix}`"));
            }
            Some((_, Some(reason))) => {
                ignored.insert(name.clone(), reason.to_owned());
            }
            Some((rest, None)) => {
                stripped.insert(rest.to_owned(), shape.clone());
            }
        }
    }
    stripped
}

/// Why a name that stands beside a tokenizer's weights is none of them.
fn reason_to_ignore(name: &str) -> Option<&'static str> {
    let first = name.split('.').next().unwrap_or(name);
    Some(match first {
        "loss" => "part of the training loss",
        "model_ema" => "moving averages that the reference code doesn't use",
        "ema" => "a second set of weights",
        "colorize" => "a palette for segmentation maps",
        "optimizer" | "optimizer_states" | "lr_schedulers" | "callbacks" | "loops" => {
            "training state"
        }
        _ if name.ends_with("num_batches_tracked") => "a counter",
        _ if name.starts_with("quantize.codebook_used") => "a usage counter",
        _ if name.ends_with(".cluster_size") || name.ends_with(".embed_avg") => {
            "training state of the codebook"
        }
        _ => return None,
    })
}

/// Weights of a family that take no part in its mathematics.
fn leave_out(
    layout: Layout,
    stripped: &BTreeMap<String, Vec<usize>>,
    prefix: &str,
    ignored: &mut BTreeMap<String, String>,
) {
    let any = |stem: &str| stripped.keys().any(|name| name.starts_with(stem));
    let (encoder, decoder) = (any("encoder."), any("decoder."));
    for name in stripped.keys() {
        let reason = match name.as_str() {
            n if n.starts_with("post_quant") && !decoder => {
                "it belongs to a decoder, which isn't here"
            }
            n if n.starts_with("quant_conv.") && !encoder => {
                "it belongs to an encoder, which isn't here"
            }
            n if n.starts_with("pre_quant.") && !encoder => {
                "it belongs to an encoder, which isn't here"
            }
            n if n.starts_with("quantize.proj.") && !encoder => {
                "it belongs to an encoder, which isn't here"
            }
            n if layout == Layout::OpenMagvit2 && n.starts_with("quantize.") => {
                "constants of the bits"
            }
            _ => continue,
        };
        ignored.insert(format!("{prefix}{name}"), reason.to_owned());
    }
}

fn signs(
    stripped: &BTreeMap<String, Vec<usize>>,
    names: &BTreeMap<String, String>,
    prefix: &str,
    layout: Layout,
) -> Signs {
    let any = |stem: &str| names.values().any(|name| name.starts_with(stem));
    let level = |name: &String| {
        (name.starts_with("encoder.down.") || name.starts_with("decoder.up."))
            && name.contains(".attn.")
    };
    Signs {
        gumbel: stripped.contains_key("quantize.proj.weight"),
        mid_attention: any("encoder.mid.attn_1.") || any("decoder.mid.attn_1."),
        level_attention: names.values().any(level),
        decoder: any("decoder."),
        reversed_up: layout == Layout::CanonicalReversedUp,
        gen_vision_model: prefix.contains("gen_vision_model."),
        codebook_used: stripped.contains_key("quantize.codebook_used"),
    }
}

/// The family and how it was found; an error that lists the candidates where several fit.
fn choose(
    layout: Layout,
    signs: &Signs,
    published: &Published,
    asked: Option<&str>,
) -> Result<(&'static Family, String)> {
    let list = |families: &[&Family]| {
        families.iter().map(|family| family.word).collect::<Vec<_>>().join(", ")
    };
    let fitting: Vec<&Family> =
        FAMILIES.iter().filter(|family| family.fits(layout, signs)).collect();
    if let Some(word) = asked {
        let all: Vec<&Family> = FAMILIES.iter().collect();
        let Some(family) = Family::named(word) else {
            return Err(Error::invalid(format!(
                "there is no family `{word}`; vqtok knows {}",
                list(&all)
            )));
        };
        if !family.fits(layout, signs) {
            return Err(Error::invalid(format!(
                "the names of the checkpoint aren't those of --family {word}; what fits: {}",
                list(&fitting)
            )));
        }
        return Ok((family, "--family".to_owned()));
    }
    let named: Vec<&Family> = published.families().into_iter().filter_map(Family::named).collect();
    let (candidates, how): (Vec<&Family>, &str) = if named.is_empty() {
        let proposed = |family: &&Family| family.proposed(layout, signs);
        (FAMILIES.iter().filter(proposed).collect(), "the names and shapes of the weights")
    } else {
        let words = list(&named);
        let agreeing: Vec<&Family> = named.into_iter().filter(|f| f.fits(layout, signs)).collect();
        if agreeing.is_empty() {
            return Err(Error::invalid(format!(
                "the configuration names {words}, but the names of the weights fit {}: say which with --family",
                list(&fitting)
            )));
        }
        (agreeing, "the configuration with it")
    };
    match candidates.as_slice() {
        [family] => Ok((family, how.to_owned())),
        [] => Err(Error::invalid(format!(
            "the names of the weights decide no family; what fits: {}; say which with --family",
            list(&fitting)
        ))),
        several => Err(Error::invalid(format!(
            "the checkpoint can be of several families, whose tokens or pixels differ: {}; say which with --family",
            list(several)
        ))),
    }
}

/// 1x1 convolutions that were published as linear layers get their kernel's axes back.
fn model_shape(canonical: &str, shape: &[usize]) -> Vec<usize> {
    let projection = ["q.weight", "k.weight", "v.weight", "proj_out.weight"];
    let attention = canonical.contains(".attn.") || canonical.contains(".mid.attn_1.");
    let leaf = |name: &str| canonical.ends_with(&format!(".{name}"));
    match shape {
        [out, input] if attention && projection.iter().any(|name| leaf(name)) => {
            vec![*out, *input, 1, 1]
        }
        _ => shape.to_vec(),
    }
}

/// The word a setting has in `config.json`.
fn word(setting: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(setting).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn configure(
    family: &Family,
    geometry: geometry::Geometry,
    published: &Published,
    how: &str,
) -> Result<ModelConfig> {
    let geometry::Geometry { architecture, channels, codes, dim } = geometry;
    if channels != 1 && channels != 3 {
        return Err(Error::invalid(format!("images of {channels} channels; vqtok reads 1 or 3")));
    }
    published.check(
        &["n_embed", "num_vq_embeddings", "num_embeddings", "codebook_size"],
        codes,
        "codes",
    )?;
    let mut rule = family.rule;
    let mut provenance =
        BTreeMap::from([("family".to_owned(), format!("{}: from {how}", family.word))]);
    let mut note = |name: &str, text: String| provenance.insert(name.to_owned(), text);
    let assumed = |what: &str| format!("{what}: assumed, the convention of {}", family.word);
    note("input range", assumed(&word(&family.input)));
    note("output range", assumed(&word(&family.output)));
    if rule == QuantizerRule::L2Normalised && family.word != "vit-vqgan" {
        match published.bool("codebook_l2_norm") {
            Some((on, source)) => {
                note("l2 normalisation", format!("{on}: from {source}"));
                if !on {
                    rule = QuantizerRule::L2;
                }
            }
            None => {
                note("l2 normalisation", assumed("on"));
            }
        }
    }
    match &architecture {
        Architecture::Vqgan(_) | Architecture::Maskgit(_) | Architecture::OpenMagvit2(_) => {
            match published.usize(&["norm_num_groups"]) {
                Some((groups, source)) => note("norm groups", format!("{groups}: from {source}")),
                None => note("norm groups", assumed("32")),
            };
        }
        Architecture::VitVqgan(config) => {
            match published.usize(&["heads"]) {
                Some((heads, source)) => note("attention heads", format!("{heads}: from {source}")),
                None => note(
                    "attention heads",
                    assumed(&format!("{} of width 64", config.encoder.heads)),
                ),
            };
            if published.pair(&["image_size"]).is_none() {
                note("grid", assumed("square"));
            }
        }
        _ => {}
    }
    let size = match (&architecture, published.usize(&["resolution"])) {
        (Architecture::VitVqgan(c), _) => Some((c.grid[0] * c.patch[0]) as u32),
        (_, Some((side, source))) => {
            note("size", format!("{side}: from {source}"));
            Some(side as u32)
        }
        (_, None) => {
            let text = match family.size {
                Some(side) => assumed(&side.to_string()),
                None => "not said by the checkpoint".to_owned(),
            };
            note("size", text);
            family.size
        }
    };
    note("resize", assumed(family.resize));
    Ok(ModelConfig {
        format: FORMAT.to_owned(),
        family: family.word.to_owned(),
        architecture,
        quantizer: QuantizerConfig {
            decode_normalised: family.decode_normalised,
            ..QuantizerConfig::new(rule, codes, dim)
        },
        pixels: PixelConfig { channels, input: family.input, output: family.output },
        preprocess: PreprocessConfig::new(family.resize, size),
        provenance,
    })
}

/// open-muse's encoder runs a level's attention only where the level has more than one.
fn drop_lone_attention(detected: &mut Detected) {
    let Architecture::Vqgan(config) = &mut detected.config.architecture else { return };
    if config.res_blocks != 1 || !config.parts.encoder() {
        return;
    }
    let own = config.decoder();
    config.attention.iter_mut().for_each(|attention| *attention = false);
    config.decoder = config.parts.decoder().then_some(own);
    let lone = |name: &str| name.starts_with("encoder.down.") && name.contains(".attn.");
    let names: Vec<String> = detected.placements.keys().filter(|n| lone(n)).cloned().collect();
    for name in names {
        if let Some(placement) = detected.placements.remove(&name) {
            let reason = "open-muse doesn't run a level's only attention";
            detected.ignored.insert(placement.source, reason.to_owned());
        }
    }
}

/// One line of the identity card: how many tensors were left out, and why.
fn note_ignored(detected: &mut Detected) {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in detected.ignored.values() {
        let group = if reason.ends_with("is used in its place") {
            "replaced by their moving averages"
        } else {
            reason
        };
        *reasons.entry(group).or_default() += 1;
    }
    if !reasons.is_empty() {
        let parts: Vec<String> =
            reasons.iter().map(|(reason, n)| format!("{n} ({reason})")).collect();
        detected.config.provenance.insert("ignored tensors".to_owned(), parts.join(", "));
    }
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
