//! Owns the settings of quantizers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::scales::{ScalesConfig, sequence};

/// Residual levels of codes at most.
pub const DEPTH_MAX: usize = 16;

/// Bits of a code at most that has a number: those of more are lists of bits.
pub const NUMBERED_BITS_MAX: usize = 32;

/// How a latent becomes a code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizerConfig {
    /// The rule.
    pub rule: QuantizerRule,
    /// K, the number of codes; 2 where a token is a [list of bits](QuantizerConfig::values).
    pub codes: usize,
    /// D, the length of a code.
    pub dim: usize,
    /// Codes are normalised to length one before decoding although the rule is not
    /// `l2-normalised` (Janus as Hugging Face has it).
    #[serde(default)]
    pub decode_normalised: bool,
    /// Levels of each channel, for rule `fsq` only: their number is D, their product K.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<usize>,
    /// Residual levels, for rule `l2`: each has a codebook of its own and quantizes what the levels
    /// before it left over; the decoder gets the sum. Written only where there is more than one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub depth: usize,
    /// Books side by side, for rule `l2-normalised`: each has K codes of length D / books for its own
    /// part of a latent. Written only where there is more than one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub books: usize,
    /// The scales at which an image is coded, for rules `l2` and `sign-high`; None where each latent
    /// has its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scales: Option<ScalesConfig>,
}

/// The depth of a quantizer that says none.
pub(crate) fn one() -> usize {
    1
}

/// Whether a depth goes without saying.
pub(crate) fn is_one(depth: &usize) -> bool {
    *depth == 1
}

impl QuantizerConfig {
    /// K codes of length D, decoded as they are; no levels.
    pub fn new(rule: QuantizerRule, codes: usize, dim: usize) -> QuantizerConfig {
        let (decode_normalised, levels) = (false, Vec::new());
        QuantizerConfig {
            rule,
            codes,
            dim,
            decode_normalised,
            levels,
            depth: 1,
            books: 1,
            scales: None,
        }
    }

    /// Codes of all levels or books together: the rows of the codebook.
    pub fn all_codes(&self) -> usize {
        self.depth * self.books * self.codes
    }

    /// Values that a token has among the codes: 1, or D where a token is a list of bits, since its
    /// number is beyond 32 bits. K is that of a value then: 2.
    pub fn values(&self) -> usize {
        match self.rule {
            QuantizerRule::Sign | QuantizerRule::SignHigh if self.dim > NUMBERED_BITS_MAX => {
                self.dim
            }
            _ => 1,
        }
    }

    /// The length of a row of the codebook.
    pub fn code_length(&self) -> usize {
        self.dim / self.books.max(1)
    }

    /// K, or `<depth> x <K>`; `2^D` of lists of bits.
    pub fn codes_in_words(&self) -> String {
        match self.depth * self.books {
            _ if self.values() > 1 => format!("2^{}", self.dim),
            1 => self.codes.to_string(),
            depth => format!("{depth} x {}", self.codes),
        }
    }

    /// The quantizer of each level, book or scale on its own.
    pub fn of_level(&self) -> QuantizerConfig {
        let dim = self.code_length();
        QuantizerConfig { dim, depth: 1, books: 1, scales: None, ..self.clone() }
    }

    /// The grid of codes of latents of this size.
    ///
    /// # Errors
    /// In one line, a size that has no scales.
    pub fn grid_of(&self, latents: (usize, usize)) -> Result<(usize, usize), String> {
        match &self.scales {
            Some(scales) => scales.of_latents(latents).map(sequence),
            None => Ok(latents),
        }
    }

    /// The size of the latents whose codes make this grid.
    ///
    /// # Errors
    /// In one line, a grid that no scales make.
    pub fn latents_of(&self, grid: (usize, usize)) -> Result<(usize, usize), String> {
        let Some(scales) = &self.scales else { return Ok(grid) };
        let last = scales.of_sequence(grid)?.last().copied();
        last.map(|[height, width]| (height, width)).ok_or_else(|| "no scale".to_owned())
    }

    /// Refuses, in one line, a depth or scales that can't be. Vectors of length one leave no residuals of
    /// length one, and rules without a codebook leave none that their codes could hold.
    ///
    /// # Errors
    /// A depth outside 1 to [`DEPTH_MAX`]; more than one level with another rule than `l2`, or with
    /// `decode_normalised`; scales with another rule than `l2` or `sign-high`, or with levels.
    pub fn check_depth(&self) -> Result<(), String> {
        if let Some(scales) = &self.scales {
            scales.check()?;
            let known = matches!(self.rule, QuantizerRule::L2 | QuantizerRule::SignHigh);
            if !known || self.depth != 1 || self.decode_normalised {
                return Err(format!(
                    "scales take the quantizer rule \"l2\" or \"sign-high\" and a depth of 1, not \"{}\" and {}",
                    self.rule, self.depth
                ));
            }
        }
        if self.books != 1 {
            let fits = (1..=DEPTH_MAX).contains(&self.books) && self.dim.is_multiple_of(self.books);
            let alone = self.depth == 1 && self.scales.is_none() && !self.decode_normalised;
            if !fits || !alone || self.rule != QuantizerRule::L2Normalised {
                return Err(format!(
                    "{} books of codes of length {} in all, rule \"{}\": there are 1 to {DEPTH_MAX} of equal \
                     length, without levels or scales, of rule \"l2-normalised\"",
                    self.books, self.dim, self.rule
                ));
            }
        }
        if !(1..=DEPTH_MAX).contains(&self.depth) {
            return Err(format!("the depth is {}; it must be 1 to {DEPTH_MAX}", self.depth));
        }
        if self.depth > 1 && (self.rule != QuantizerRule::L2 || self.decode_normalised) {
            let rule = self.rule;
            let normalised = if self.decode_normalised { " with decode_normalised" } else { "" };
            return Err(format!(
                "residual levels (depth {}) take the quantizer rule \"l2\", not \"{rule}\"{normalised}",
                self.depth
            ));
        }
        Ok(())
    }

    /// Whether decoding looks up normalised codes.
    pub fn normalises_lookup(&self) -> bool {
        self.decode_normalised || self.rule == QuantizerRule::L2Normalised
    }
}

/// The arg-min or arg-max that picks a code; ties go to the lower index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuantizerRule {
    /// Smallest |z|^2 + |e|^2 - 2 z.e.
    L2,
    /// The same after normalising both z and the codes to length one.
    L2Normalised,
    /// Largest z.e (IBQ).
    Dot,
    /// Largest row of a 1x1 projection of z (gumbel).
    Projection,
    /// Largest channel of the encoder's output itself (DALL-E dVAE).
    Logits,
    /// Sign bits of z, channel 0 the low bit (LFQ).
    Sign,
    /// The same, channel 0 the high bit (Show-o).
    SignHigh,
    /// Each channel bounded and rounded, channel 0 the low digit (FSQ).
    Fsq,
    /// Whatever the network does: its codes come out of it.
    #[serde(skip_deserializing)]
    Exported,
}

impl fmt::Display for QuantizerRule {
    /// The word in configurations and recipes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
