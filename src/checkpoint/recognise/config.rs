//! Owns the configuration of a recognised model: what its weights show, what its published
//! configuration says, and the conventions of its family where neither does.

use super::families::Family;
use super::geometry::Geometry;
use super::provenance::{Provenance, word};
use super::published::Published;
use crate::error::{Error, Result};
use crate::model::config::{
    FORMAT, ModelConfig, PixelConfig, PreprocessConfig, QuantizerConfig, QuantizerRule,
};

/// The model's configuration, with everything assumed in `provenance`; `how` the family was found.
///
/// # Errors
/// Where a setting can't be meant.
pub(super) fn configure(
    family: &Family,
    geometry: Geometry,
    published: &Published,
    how: &str,
) -> Result<ModelConfig> {
    let Geometry { architecture, channels, codes, dim, depth, scales, levels, .. } = geometry;
    let Geometry { books, normalised, side, optional, .. } = geometry;
    if channels != 1 && channels != 3 {
        return Err(Error::invalid(format!("images of {channels} channels; vqtok reads 1 or 3")));
    }
    let mut facts = Provenance::new(family.word, how);
    facts.assumed("input range", word(&family.input));
    facts.assumed("output range", word(&family.output));
    let normalised = normalises(family, published, normalised, &mut facts)?;
    let rule = if normalised { family.rule } else { QuantizerRule::L2 };
    for setting in optional {
        let found = published.usize(setting.keys)?;
        let found = found.map(|(number, source)| (number.to_string(), source));
        facts.setting(setting.name, found, Some(setting.default));
    }
    let stated = if family.sized { published.side(family.size_keys)? } else { None };
    let size = match family.sized {
        true => side.or_else(|| facts.setting("size", stated, family.size)),
        false => None,
    };
    facts.assumed("resize", family.resize);
    Ok(ModelConfig {
        format: FORMAT.to_owned(),
        family: family.word.to_owned(),
        architecture,
        quantizer: QuantizerConfig {
            decode_normalised: family.decode_normalised,
            depth,
            levels,
            books,
            scales,
            ..QuantizerConfig::new(rule, codes, dim)
        },
        pixels: PixelConfig { channels, input: family.input, output: family.output },
        preprocess: PreprocessConfig::new(family.resize, size),
        provenance: facts.into_facts(),
    })
}

/// Whether codes are normalised as the family's rule says, or its configuration turns that off.
fn normalises(
    family: &Family,
    published: &Published,
    usual: bool,
    facts: &mut Provenance,
) -> Result<bool> {
    let Some(switch) = family.l2_switch else { return Ok(true) };
    let found = published.bool(switch.key)?;
    let on = found.map_or(usual, |(on, _)| on);
    if !on || switch.noted_when_on {
        let found = found.map(|(on, source)| (on.to_string(), source));
        let word = if usual { "on" } else { "off" };
        facts.setting("l2 normalisation", found, Some(word.to_owned()));
    }
    Ok(on)
}
