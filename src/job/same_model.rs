//! Owns telling whether tokens are of the model that is to decode them.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::events::{Event, Observer};
use super::tokenizer::Tokenizer;
use crate::audit::{MadeBy, TokenFile};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::util::numbers::counted;
use crate::util::settings::FORCE;
use crate::util::text;
use crate::weights::digests::Digests;

/// Tokens that were made by another model than the one that decodes them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OtherModel {
    /// The first file of such tokens.
    pub file: PathBuf,
    /// How many files have such tokens.
    pub files: usize,
    /// What they were made by.
    pub made_by: ModelIdentity,
    /// Where the model lies that decodes them.
    pub model: PathBuf,
    /// What it is.
    pub decoder: ModelIdentity,
}

/// What identifies a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelIdentity {
    /// Its family.
    pub family: String,
    /// Hex sha256 of all its weights.
    pub weights_sha256: String,
    /// Hex sha256 of its codebook; empty where it has none.
    pub codebook_sha256: String,
}

impl fmt::Display for ModelIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = |digest: &str| {
            text::printable(&digest.chars().take(12).collect::<String>()).into_owned()
        };
        let codebook = match &*self.codebook_sha256 {
            "" => "no codebook".to_string(),
            digest => format!("codebook {}", start(digest)),
        };
        let (family, weights) = (text::shorten(&self.family), start(&self.weights_sha256));
        write!(f, "{family} with weights {weights} and {codebook}")
    }
}

impl fmt::Display for OtherModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = match self.files {
            1 => String::new(),
            count => format!(" (and those of {} more)", counted(count - 1, "file")),
        };
        write!(
            f,
            "the tokens of {}{more} are of another model, {}, than {}, {}",
            text::path(&self.file),
            self.made_by,
            text::path(&self.model),
            self.decoder,
        )
    }
}

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
    let Some((table, made_by)) = others.first() else { return Ok(()) };
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
        return Err(Error::Mismatch(format!(
            "{other}: decode them with the model that made them, or pass {FORCE}"
        )));
    }
    observer.event(&Event::OtherModel(&other));
    Ok(())
}

fn is_by(made_by: &MadeBy, engine: &dyn Engine, ours: &Digests) -> bool {
    if made_by.weights_sha256 == ours.weights_sha256 {
        return true;
    }
    // A decoder published apart from its encoder has other weights; the codebook ties the two, and
    // where the family has none, all that is left is the family and its number of codes.
    let config = engine.config();
    let same_codes = made_by.codes.is_none_or(|codes| codes == config.quantizer.codes as u64);
    !config.parts().encoder()
        && made_by.codebook_sha256 == ours.codebook_sha256
        && made_by.family == config.family
        && same_codes
}
