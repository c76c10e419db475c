//! Owns telling whether tokens are of the model that is to decode them. Must not know: how either
//! is read.

use std::path::Path;

use serde_json::json;

use crate::audit::{MadeBy, TokenFile};
use crate::cli::progress::Reporter;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::util::numbers::counted;
use crate::util::text;
use crate::weights::digests::Digests;

/// Refuses token files that say they were made by another model; those that say nothing (what a
/// transformer generated) are anybody's. With `force`, says so and goes on.
///
/// # Errors
/// Another model, by its family and digests; weights that can't be read.
pub(super) fn require(
    tokens: &TokenFile,
    engine: &dyn Engine,
    model: &Path,
    force: bool,
    reporter: &Reporter,
) -> Result<()> {
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
    let more = match others.len() {
        1 => String::new(),
        count => format!(" (and those of {} more)", counted(count - 1, "file")),
    };
    let text = format!(
        "the tokens of {}{more} are of another model, {}, than {}, {}",
        text::path(&*table.path),
        in_words(&made_by.family, &made_by.weights_sha256, &made_by.codebook_sha256),
        text::path(model),
        in_words(&engine.config().family, &ours.weights_sha256, &ours.codebook_sha256),
    );
    if !force {
        return Err(Error::Mismatch(format!(
            "{text}: decode them with the model that made them, or pass --force"
        )));
    }
    let fields = json!({
        "file": &*table.path, "files": others.len(), "model": text::lossy(model),
        "made_by": {"family": made_by.family, "weights_sha256": made_by.weights_sha256,
                    "codebook_sha256": made_by.codebook_sha256},
        "decoder": {"family": engine.config().family, "weights_sha256": ours.weights_sha256,
                    "codebook_sha256": ours.codebook_sha256},
    });
    reporter.say("other-model", &format!("warning: {text}; going on (--force)"), fields);
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

fn in_words(family: &str, weights: &str, codebook: &str) -> String {
    let start =
        |digest: &str| text::printable(&digest.chars().take(12).collect::<String>()).into_owned();
    let codebook = match codebook {
        "" => "no codebook".to_string(),
        digest => format!("codebook {}", start(digest)),
    };
    format!("{} with weights {} and {codebook}", text::shorten(family), start(weights))
}
