//! Owns what is assumed of a checkpoint where neither its weights nor its configuration say it, and
//! the record of where each fact is from. Must not know: tensors, files.

use std::collections::BTreeMap;

use super::families::Family;
use super::geometry;
use super::published::Published;
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;

/// The word a setting has in `config.json`.
fn word(setting: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(setting).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The model's configuration, with everything assumed in `provenance`; `how` the family was found.
///
/// # Errors
/// Where a setting can't be meant.
pub fn configure(
    family: &Family,
    geometry: geometry::Geometry,
    published: &Published,
    how: &str,
) -> Result<ModelConfig> {
    let geometry::Geometry { architecture, channels, codes, dim } = geometry;
    if channels != 1 && channels != 3 {
        return Err(Error::invalid(format!("images of {channels} channels; vqtok reads 1 or 3")));
    }
    let mut rule = family.rule;
    let mut provenance =
        BTreeMap::from([("family".to_owned(), format!("{}: from {how}", family.word))]);
    let mut note = |name: &str, text: String| provenance.insert(name.to_owned(), text);
    let assumed = |what: &str| format!("{what}: assumed, the convention of {}", family.word);
    note("input range", assumed(&word(&family.input)));
    note("output range", assumed(&word(&family.output)));
    if rule == QuantizerRule::L2Normalised && family.word != "vit-vqgan" {
        match published.bool("codebook_l2_norm")? {
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
    if family.word == "vit-vqgan"
        && let Some((false, source)) = published.bool("use_norm")?
    {
        note("l2 normalisation", format!("false: from {source}"));
        rule = QuantizerRule::L2;
    }
    match &architecture {
        Architecture::Vqgan(_) | Architecture::Maskgit(_) | Architecture::OpenMagvit2(_) => {
            match published.usize(&["norm_num_groups"])? {
                Some((groups, source)) => note("norm groups", format!("{groups}: from {source}")),
                None => note("norm groups", assumed("32")),
            };
        }
        Architecture::VitVqgan(config) => {
            match published.usize(&["heads"])? {
                Some((heads, source)) => note("attention heads", format!("{heads}: from {source}")),
                None => note(
                    "attention heads",
                    assumed(&format!("{} of width 64", config.encoder.heads)),
                ),
            };
            if published.pair(&["image_size"])?.is_none() {
                note("grid", assumed("square"));
            }
        }
        _ => {}
    }
    let size = match (&architecture, published.side(&["resolution"])?) {
        (Architecture::VitVqgan(c), _) => Some((c.grid[0] * c.patch[0]) as u32),
        (_, Some((side, source))) => {
            note("size", format!("{side}: from {source}"));
            Some(side)
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
