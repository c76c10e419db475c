//! Owns the families that `--family` names: which names each uses, and the conventions of its
//! published scripts that no weight shows. Must not know: tensors, files.

use super::keys::Layout;
use crate::model::config::{InputRange, OutputRange, QuantizerRule};

/// What the names of a checkpoint show beyond their layout.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signs {
    /// `quantize.proj` exists.
    pub gumbel: bool,
    /// The middle block has attention.
    pub mid_attention: bool,
    /// Some level has attention.
    pub level_attention: bool,
    /// There is a decoder.
    pub decoder: bool,
    /// The decoder's levels count from the lowest resolution.
    pub reversed_up: bool,
    /// The prefix is Janus's.
    pub gen_vision_model: bool,
    /// LlamaGen's usage counter exists.
    pub codebook_used: bool,
}

/// A published family.
#[derive(Debug)]
pub struct Family {
    /// The word of `--family`.
    pub word: &'static str,
    /// The layouts its files come in.
    pub layouts: &'static [Layout],
    /// How latents become codes, unless its configuration says otherwise.
    pub rule: QuantizerRule,
    /// Codes are normalised before decoding although the rule doesn't.
    pub decode_normalised: bool,
    /// Bytes to floats.
    pub input: InputRange,
    /// Floats to bytes.
    pub output: OutputRange,
    /// Name of the resize rule of its scripts.
    pub resize: &'static str,
    /// Pixels a side, where its configuration doesn't say; None where there is no convention.
    pub size: Option<u32>,
    /// Its checkpoints are meant to be used with their moving averages.
    pub ema: bool,
    /// Whether these signs fit it.
    fits: fn(&Signs) -> bool,
    /// Whether, without a configuration, names alone may propose it.
    proposed: fn(&Signs) -> bool,
}

impl Family {
    /// The family of a word.
    pub fn named(word: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.word == word)
    }

    /// Whether a checkpoint of this layout with these signs can be of this family.
    pub fn fits(&self, layout: Layout, signs: &Signs) -> bool {
        self.layouts.contains(&layout) && (self.fits)(signs)
    }

    /// Whether names alone make it a candidate.
    pub fn proposed(&self, layout: Layout, signs: &Signs) -> bool {
        self.fits(layout, signs) && (self.proposed)(signs)
    }
}

const ANY: fn(&Signs) -> bool = |_| true;
const L2_WITH_MID: fn(&Signs) -> bool = |s| !s.gumbel && s.mid_attention;

/// taming's conventions, which several families took over.
const TAMING: Family = Family {
    word: "taming",
    layouts: &[Layout::Canonical],
    rule: QuantizerRule::L2,
    decode_normalised: false,
    input: InputRange::Taming,
    output: OutputRange::SymmetricTruncate,
    resize: "taming",
    size: Some(256),
    ema: false,
    fits: L2_WITH_MID,
    proposed: ANY,
};

/// Every family, in the order of the documentation.
pub const FAMILIES: &[Family] = &[
    TAMING,
    Family { word: "taming-gumbel", rule: QuantizerRule::Projection, fits: |s| s.gumbel, ..TAMING },
    Family { word: "latent-diffusion", fits: |s| !s.gumbel, ..TAMING },
    Family {
        word: "diffusers",
        layouts: &[Layout::Diffusers],
        input: InputRange::Diffusers,
        output: OutputRange::SymmetricRound,
        resize: "lanczos",
        // `sample_size` in its config.json is a default that nothing reads.
        size: None,
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "amused",
        layouts: &[Layout::Diffusers],
        input: InputRange::Unit,
        output: OutputRange::UnitRound,
        resize: "muse",
        fits: ANY,
        ..TAMING
    },
    LLAMAGEN,
    Family {
        word: "janus",
        output: OutputRange::SymmetricTruncate,
        size: Some(384),
        proposed: |s| !s.codebook_used,
        ..LLAMAGEN
    },
    Family {
        word: "janus-hf",
        layouts: &[Layout::CanonicalReversedUp, Layout::Canonical],
        decode_normalised: true,
        input: InputRange::Symmetric,
        resize: "llamagen",
        size: Some(384),
        // Without its reversed decoder its names say nothing.
        fits: |s| s.reversed_up || !s.decoder,
        proposed: |s| s.reversed_up,
        ..TAMING
    },
    Family {
        word: "chameleon",
        input: InputRange::Chameleon,
        resize: "chameleon",
        size: Some(512),
        fits: |s| !s.gumbel,
        // Its class takes attention at any level and none in the middle; what is published has it
        // in the middle only.
        proposed: |s| s.mid_attention && !s.level_attention,
        ..TAMING
    },
    Family {
        word: "chameleon-hf",
        input: InputRange::ChameleonHf,
        resize: "chameleon",
        size: Some(512),
        fits: |s| !s.gumbel,
        proposed: |s| !s.decoder && s.mid_attention && !s.level_attention,
        ..TAMING
    },
    Family { word: "ibq", rule: QuantizerRule::Dot, ema: true, ..TAMING },
    Family {
        word: "open-muse",
        input: InputRange::Unit,
        output: OutputRange::UnitMuse,
        resize: "muse",
        fits: |s| !s.gumbel,
        // Its published checkpoints have none in the middle; one that does is named by its config.
        proposed: |s| !s.mid_attention,
        ..TAMING
    },
    Family {
        word: "maskgit",
        layouts: &[Layout::Maskgit],
        input: InputRange::Unit,
        output: OutputRange::UnitMuse,
        resize: "maskgit",
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "open-magvit2",
        layouts: &[Layout::OpenMagvit2],
        rule: QuantizerRule::Sign,
        ema: true,
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "vit-vqgan",
        layouts: &[Layout::Vit],
        rule: QuantizerRule::L2Normalised,
        input: InputRange::Unit,
        output: OutputRange::UnitTruncate,
        resize: "vit",
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "dalle",
        layouts: &[Layout::DalleEncoder, Layout::DalleDecoder, Layout::DallePair],
        rule: QuantizerRule::Logits,
        input: InputRange::Dalle,
        output: OutputRange::Dalle,
        resize: "dalle",
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "vqvae2",
        layouts: &[Layout::Vqvae2],
        input: InputRange::Symmetric,
        output: OutputRange::SymmetricSaveImage,
        resize: "vqvae2",
        fits: ANY,
        ..TAMING
    },
];

const LLAMAGEN: Family = Family {
    word: "llamagen",
    layouts: &[Layout::LlamaGen],
    rule: QuantizerRule::L2Normalised,
    input: InputRange::Symmetric,
    output: OutputRange::SymmetricHalfUp,
    resize: "llamagen",
    fits: ANY,
    proposed: |s| !s.gen_vision_model,
    ..TAMING
};
