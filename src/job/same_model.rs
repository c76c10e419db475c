//! Owns telling whether tokens are of the model that is to decode them.

use std::path::Path;

use super::events::{Event, ModelIdentity, Observer, OtherModel};
use super::tokenizer::Tokenizer;
use crate::audit::{MadeBy, TokenFile};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tokens::Scales;
use crate::util::settings::{FORCE, SCALES};
use crate::util::text;
use crate::weights::digests::Digests;

/// Refuses token files that say they were made by another model; those that say nothing (what a
/// transformer generated) are anybody's. With `force`, says so and goes on.
///
/// # Errors
/// Another model, by its family and digests; weights that can't be read.
pub(super) fn require(
    tokens: &TokenFile,
    tokenizer: &Tokenizer,
    force: bool,
    observer: &mut dyn Observer,
) -> Result<()> {
    let engine = tokenizer.engine.as_ref();
    let mut others = Vec::new();
    for table in tokens.tables() {
        if let Some(made_by) = &table.made_by
            && !is_by(made_by, engine, engine.digests()?)
        {
            others.push((table, made_by));
        }
    }
    let Some((table, made_by)) = others.first() else { return require_scales(tokens, engine) };
    let ours = engine.digests()?;
    let identity = |family: &str, weights: &str, codebook: &str| ModelIdentity {
        family: family.into(),
        weights_sha256: weights.into(),
        codebook_sha256: codebook.into(),
    };
    let other = OtherModel {
        file: table.path.to_path_buf(),
        files: others.len(),
        made_by: identity(&made_by.family, &made_by.weights_sha256, &made_by.codebook_sha256),
        model: tokenizer.path.clone(),
        decoder: identity(&engine.config().family, &ours.weights_sha256, &ours.codebook_sha256),
    };
    if !force {
        return Err(Error::mismatch(format!(
            "{other}: decode them with the model that made them, or pass {FORCE}"
        )));
    }
    observer.event(&Event::OtherModel(&other));
    require_scales(tokens, engine)
}

/// Refuses rows of several scales that the model doesn't have: those of as many codes would become
/// other pictures without a word, the others none.
fn require_scales(tokens: &TokenFile, engine: &dyn Engine) -> Result<()> {
    for table in tokens.tables() {
        if let Some(made_by) = &table.made_by {
            require_each(&made_by.scales, engine, &table.path)?;
        }
    }
    Ok(())
}

/// Refuses scales, those that the rows at `path` are said to have, where the model has other ones.
///
/// # Errors
/// The first of them, with what to pass.
pub(super) fn require_each(theirs: &Scales, engine: &dyn Engine, path: &Path) -> Result<()> {
    let Some(config) = &engine.config().quantizer.scales else { return Ok(()) };
    let ours = config.by_sequence();
    let shown = |scales: &Vec<[usize; 2]>| {
        let each: Vec<String> = scales.iter().map(|[h, w]| format!("{h}x{w}")).collect();
        each.join(",")
    };
    let other = theirs.iter().find(|(sequence, theirs)| ours.get(*sequence) != Some(theirs));
    let Some((sequence, first)) = other else { return Ok(()) };
    let first = shown(first);
    let advice = match theirs.len() {
        1 => format!("pass {SCALES} {first}"),
        // Several can't be passed: they are the published ones, or those of a configuration.
        _ => format!("pass no {SCALES}"),
    };
    Err(Error::mismatch(format!(
        "{}: its tokens are of the scales {first}, and the model's are {}: {advice}",
        text::path(path),
        ours.get(sequence).map_or("others".to_owned(), shown),
    )))
}

fn is_by(made_by: &MadeBy, engine: &dyn Engine, ours: &Digests) -> bool {
    if made_by.weights_sha256 == ours.weights_sha256 {
        return true;
    }
    // A decoder published apart from its encoder has other weights; the codebook ties the two, and
    // where the family has none, all that is left is the family and its number of codes.
    let config = engine.config();
    let same_codes = made_by.codes.is_none_or(|codes| codes == config.quantizer.codes as u64);
    let same_codes = same_codes && made_by.bits.is_none_or(|d| d == config.quantizer.dim as u64);
    !config.parts().encoder()
        && made_by.codebook_sha256 == ours.codebook_sha256
        && made_by.family == config.family
        && same_codes
}
