//! Owns which operators of an ONNX file are run, and what of their attributes isn't. Must not know: how a
//! file is read.

use std::collections::BTreeSet;

use crate::util::text::shorten;

/// Domains whose operators ONNX Runtime brings with it.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Operators that begin a number of steps which no one bounds.
const UNBOUNDED: [&str; 1] = ["Loop"];

/// Operators that repeat a graph for each of the elements of a tensor or sequence: within one another they
/// take as many steps as the product of all.
const REPEATING: [&str; 2] = ["Scan", "SequenceMap"];

/// Operators that draw at random: with them an image has other tokens every time.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Operators that multiply by some of their inputs.
const LAYERS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// ONNX's number of the type of texts.
pub(super) const TEXT: i64 = 8;

pub(super) const TEXTS: &str = "it computes with texts, whose memory ONNX Runtime doesn't bound, and which no \
                                picture needs; export the model without them";

/// Whether an operator may be run; `own` are the domains of functions that the file itself defines.
///
/// # Errors
/// Why not.
pub(super) fn check(kind: &str, domain: &str, own: &BTreeSet<String>) -> Result<(), String> {
    if !DOMAINS.contains(&domain) && !own.contains(domain) {
        let (kind, domain) = (shorten(kind), shorten(domain));
        return Err(format!(
            "its operator {kind} of {domain} is a custom one, which ONNX Runtime doesn't have; \
             export the model without it"
        ));
    }
    if UNBOUNDED.contains(&kind) {
        return Err(format!(
            "its operator {kind} repeats itself as often as it likes; export the model with its \
             steps written out"
        ));
    }
    match RANDOM.contains(&kind) {
        false => Ok(()),
        true => Err(format!(
            "its operator {kind} draws at random, so that no image would have the same tokens \
             twice; export the model for inference (`model.eval()`), without sampling"
        )),
    }
}

/// Whether an operator multiplies by its inputs.
pub(super) fn is_layer(kind: &str) -> bool {
    LAYERS.contains(&kind)
}

/// Whether an operator runs the graph within it many times.
pub(super) fn repeats(kind: &str, domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx") && REPEATING.contains(&kind)
}

/// Whether an attribute makes texts: of a constant, of a table, or as what something is cast to.
pub(super) fn makes_texts(kind: &str, attribute: &str, number: Option<i64>) -> bool {
    let named = ["value_string", "default_string"].contains(&attribute)
        || attribute.ends_with("_strings") && attribute != "keys_strings";
    named || kind == "Cast" && attribute == "to" && number == Some(TEXT)
}
