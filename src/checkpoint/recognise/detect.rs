//! Owns the step from a published checkpoint to a vqtok model: which family, which sizes, which
//! weight goes where, what was assumed. Must not know: how files are read, devices.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::families::{FAMILIES, Family, Signs};
use super::flags::Flags;
use super::geometry::{self, Shapes};
use super::keys::Layout;
use super::published::Published;
use super::sets::{self, AVERAGES, Chosen};
use super::{conventions, fields, sound};
use crate::checkpoint::folder;
use crate::checkpoint::open::open as open_raw;
use crate::checkpoint::raw::RawCheckpoint;
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;
use crate::model::opened::Opened;
use crate::util::text;
use crate::util::text::printable;
use crate::weights::digests::Pending;
use crate::weights::store::Weights;

/// What the user says about a checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct DetectOptions<'a> {
    /// The word of `--family`.
    pub family: Option<&'a str>,
    /// The published configuration, where it doesn't lie beside the checkpoint (`--model-config`).
    pub config: Option<&'a Value>,
    /// Which of several sets of weights in one file (`--weights`): the start of their names.
    pub weights: Option<&'a str>,
    /// What the command calls these.
    pub flags: Flags,
}

impl DetectOptions<'_> {
    /// Errors where something is said of a model folder of ours, which says everything itself.
    pub(crate) fn refuse_for_own(&self, dir: &Path, config: &ModelConfig) -> Result<()> {
        let flag = match self {
            DetectOptions { weights: Some(_), flags, .. } => flags.weights,
            DetectOptions { config: Some(_), .. } => "--model-config",
            DetectOptions { family: Some(word), flags, .. } if *word != config.family => {
                flags.family
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(format!(
            "{flag} is for published checkpoints; {} is a model folder of vqtok, whose config.json \
             says what it is (family {}); leave the flag out",
            text::path(dir),
            config.family
        )))
    }
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
        options.refuse_for_own(own, &config)?;
        let digests = Pending::checked(&weights, move |digests| noted.check(digests));
        return Ok(Opened { config, weights, digests });
    }
    let raw = open_raw(path)?;
    let detected = detect_raw(&raw, options)?;
    let weights = detected.place(&raw)?;
    let digests = Pending::of(&weights);
    Ok(Opened { config: detected.config, weights, digests })
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
    let chosen = sets::choose(&shapes, options.weights, &options.flags, same)?;
    sound::refuse_unread(&chosen, &raw.unread)?;
    let mut published = Published::new(options.config, &raw.configs, raw.hparams.as_ref());
    published.flags = options.flags;
    detect(&shapes, &published, options.family, chosen)
}

/// Recognises the chosen weights by names and shapes; `published` are the configurations with them.
fn detect(
    shapes: &BTreeMap<String, Vec<usize>>,
    published: &Published,
    family: Option<&str>,
    chosen: Chosen,
) -> Result<Detected> {
    sound::refuse_taken_apart(&chosen)?;
    let Chosen { prefix, names: published_names, others, averages: asked, why } = chosen;
    let mut ignored = others;
    let mut stripped = BTreeMap::new();
    for (own, name) in &published_names {
        match sound::reason_to_ignore(own) {
            Some(reason) => drop(ignored.insert(name.clone(), reason.to_owned())),
            None => drop(stripped.insert(own.clone(), shapes[name].clone())),
        }
    }
    let prefix_of_averages = format!("{AVERAGES}.");
    // LitEma's names have no dots; wrappers left their parts in them.
    let averages: BTreeMap<String, &String> = published_names
        .iter()
        .filter_map(|(own, name)| Some((own.strip_prefix(&prefix_of_averages)?, name)))
        .map(|(own, name)| (own.replace("_orig_mod", ""), name))
        .collect();
    if asked == Some(true) && averages.is_empty() {
        return Err(Error::invalid(format!(
            "{} {AVERAGES}: there are no moving averages under `{prefix}{AVERAGES}.`",
            published.flags.weights
        )));
    }
    let layout = Layout::of(&stripped).ok_or_else(sets::unknown_names)?;
    let names = layout.canonical_names(stripped.keys().map(String::as_str));
    if layout.has_codebook() && !names.values().any(|name| name == "quantize.embedding.weight") {
        return Err(Error::invalid(
            "the checkpoint has no codebook (`quantize.embedding.weight`): an autoencoder without codes, \
             such as a KL one, is no tokenizer",
        ));
    }
    let signs = signs(&stripped, &names, &prefix, layout);
    let (family, how) = choose(layout, &signs, published, family)?;
    fields::refuse_unbuilt(family, published)?;
    leave_out(layout, &stripped, &published_names, &mut ignored);

    let rule = family.ema && published.bool("use_ema")?.is_none_or(|(on, _)| on);
    let averaged = asked.unwrap_or(rule);
    let mut placements = BTreeMap::new();
    let (mut live, mut averages_used) = (0, 0);
    for (name, canonical) in names {
        let full = &published_names[&name];
        if ignored.contains_key(full) {
            continue;
        }
        let average = averages.get(&name.replace('.', "")).filter(|_| averaged);
        if let Some(average) = average.filter(|average| shapes[**average] != stripped[&name]) {
            return Err(Error::invalid(format!(
                "the moving average `{}` has shape {:?} where `{}` has {:?}; the checkpoint is damaged",
                printable(average),
                shapes[*average],
                printable(full),
                stripped[&name]
            )));
        }
        if let Some(average) = average {
            ignored.remove(*average);
            ignored.insert(full.clone(), format!("`{average}` is used in its place"));
            averages_used += 1;
        } else {
            live += 1;
        }
        let source = average.map_or(full, |average| average).clone();
        let shape = model_shape(&canonical, &stripped[&name]);
        if let Some(other) = placements.insert(canonical.clone(), Placement { source, shape }) {
            return Err(Error::invalid(format!(
                "`{}` and `{}` both mean `{}`",
                printable(&name),
                printable(&other.source),
                printable(&canonical)
            )));
        }
    }
    let canonical_shapes =
        placements.iter().map(|(name, p)| (name.clone(), p.shape.clone())).collect();
    let shapes = Shapes(&canonical_shapes);
    let geometry = geometry::infer(layout, &shapes, published)?;
    let mut config = conventions::configure(family, geometry, published, &how)?;
    fields::check(&config, published)?;
    let unknown = fields::unknown(published);
    if !unknown.is_empty() {
        config.provenance.insert("unknown settings".to_owned(), unknown.join(", "));
    }
    let mut detected = Detected { config, placements, ignored };
    let of_averages = match (averages_used, averages.len()) {
        (0, 0) => None,
        (0, there) => Some(format!(
            "the live ones; {there} moving averages ({AVERAGES}) aren't used{}",
            if asked == Some(false) {
                ": from --weights".to_owned()
            } else {
                format!(" by {}; --weights {AVERAGES} takes them", family.word)
            }
        )),
        (used, _) => Some(format!(
            "{used} of {} weights are moving averages ({AVERAGES}): {}",
            used + live,
            if asked == Some(true) {
                "from --weights".to_owned()
            } else {
                format!("the rule of {}; --weights . takes the live ones", family.word)
            }
        )),
    };
    let texts: Vec<String> = why.into_iter().chain(of_averages).collect();
    if !texts.is_empty() {
        detected.config.provenance.insert("weights".to_owned(), texts.join("; "));
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
    /// A tensor that is missing or doesn't have the model's number of values; a codebook of one
    /// code many times.
    pub fn place(&self, raw: &RawCheckpoint) -> Result<Weights> {
        let mut placed = BTreeMap::new();
        let mut published = BTreeMap::new();
        for (name, placement) in &self.placements {
            let tensor = raw.tensors.get(&placement.source).ok_or_else(|| {
                let source = printable(&placement.source);
                Error::invalid(format!("the checkpoint has no tensor `{source}`"))
            })?;
            let tensor = tensor.reshape(&placement.shape).map_err(|reason| {
                Error::invalid(format!("`{}`: {reason}", printable(&placement.source)))
            })?;
            sound::refuse_values(name, &placement.source, &tensor)?;
            if *name != placement.source {
                published.insert(name.clone(), placement.source.clone());
            }
            placed.insert(name.clone(), tensor);
        }
        // Of several files, the folder that they lie in.
        let place = match &raw.files[..] {
            [(file, _)] => file.as_path(),
            files => files.first().and_then(|(file, _)| file.parent()).unwrap_or(Path::new("")),
        };
        Ok(Weights::from(placed).read_from(place, published))
    }
}

/// Weights of a family that take no part in its mathematics.
fn leave_out(
    layout: Layout,
    stripped: &BTreeMap<String, Vec<usize>>,
    published_names: &BTreeMap<String, String>,
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
        ignored.insert(published_names[name].clone(), reason.to_owned());
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
    let flag = published.flags.family;
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
                "the names of the checkpoint aren't those of {flag} {word}; what fits: {}",
                list(&fitting)
            )));
        }
        return Ok((family, "--family".to_owned()));
    }
    let named: Vec<&Family> = published.families()?.into_iter().filter_map(Family::named).collect();
    let (candidates, how): (Vec<&Family>, &str) = if named.is_empty() {
        let proposed = |family: &&Family| family.proposed(layout, signs);
        (FAMILIES.iter().filter(proposed).collect(), "the names and shapes of the weights")
    } else {
        let words = list(&named);
        // Of several that share a class, those whose published models look so.
        let usual = |f: &&Family| f.fits(layout, signs) && f.proposed(layout, signs);
        let agreeing: Vec<&Family> = match &named[..] {
            [one] => [*one].into_iter().filter(|f| f.fits(layout, signs)).collect(),
            several => several.iter().copied().filter(usual).collect(),
        };
        if agreeing.is_empty() {
            return Err(Error::invalid(format!(
                "the configuration names {words}, but the names of the weights fit {}: say which with {flag}",
                list(&fitting)
            )));
        }
        (agreeing, "the configuration with it")
    };
    match candidates.as_slice() {
        [family] => Ok((family, how.to_owned())),
        [] => Err(Error::invalid(format!(
            "the names of the weights decide no family; what fits: {}; say which with {flag}",
            list(&fitting)
        ))),
        several => Err(Error::invalid(format!(
            "the checkpoint can be of several families, whose tokens or pixels differ: {}; say which with {flag}",
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
mod tests;
