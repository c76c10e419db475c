//! Owns the table of families: what each is called, by which names its weights go, and the
//! conventions of its published scripts that no weight shows. Must not know: tensors, files.
//!
//! # Adding a family
//!
//! 1. A row in [`FAMILIES`]. Whatever code asks about a family is a field of the row; nothing
//!    compares its name.
//! 2. Where its files name their weights in a new way: a [`KeyLayout`] in `keys.rs`, with an anchor by
//!    which it is recognised and the map from its names to ours.
//! 3. Where its network is a new one: an `Architecture` in `model::config` with its topology in
//!    `model`, an arm in `geometry.rs` that reads its sizes from shapes, and an arm in `fields.rs`
//!    for the settings that must agree with them.
//! 4. Settings of its class that nothing here computes yet: the tables of `fields.rs`.

use super::keys::KeyLayout;
use super::recent_families as recent;
use crate::model::config::{InputRange, OutputRange, QuantizerRule};

/// What the names of a checkpoint show beyond their layout.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signs {
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
    /// Norms that codes modulate.
    pub spatial_norm: bool,
    /// MaskBit's weights of the bits exist.
    pub bits_to_indices: bool,
}

/// What a published configuration calls a family by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// The `_class_name` of diffusers.
    ClassName(&'static str),
    /// The `model_type` of transformers.
    ModelType(&'static str),
    /// The end of Lightning's dotted class.
    TargetEnd(&'static str),
    /// The start of it.
    TargetStart(&'static str),
    /// Any part of it.
    TargetPart(&'static str),
}

/// The setting by which a family's configurations turn the normalisation of codes off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct L2Switch {
    /// Its key.
    pub key: &'static str,
    /// Whether provenance says so too where it is on.
    pub noted_when_on: bool,
}

/// A published family.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name, as the user gives it.
    pub word: &'static str,
    /// The layouts its files come in.
    pub layouts: &'static [KeyLayout],
    /// What its configurations call it.
    pub named_by: &'static [NamedBy],
    /// The setting, off unless said, whose value tells it from a family of the same class.
    pub told_by: Option<(&'static str, bool)>,
    /// How latents become codes, unless its configuration says otherwise.
    pub rule: QuantizerRule,
    /// What turns [`QuantizerRule::L2Normalised`] into [`QuantizerRule::L2`].
    pub l2_switch: Option<L2Switch>,
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
    /// Settings that other classes honour and its own passes over.
    pub passed_over: &'static [&'static str],
    /// The kinds of norms (`norm_type`) that are computed.
    pub norm_types: &'static [&'static str],
    /// Whether `resolution` says the size of pictures, and not just that of its training.
    pub sized: bool,
    /// The settings that say its side.
    pub size_keys: &'static [&'static str],
    /// Settings of which only one value is computed.
    pub only: &'static [(&'static str, u64)],
    /// Its encoder runs a level's attention only where the level has more than one.
    pub skips_lone_attention: bool,
    /// Whether these signs fit it.
    pub(super) fits: fn(&Signs) -> bool,
    /// Whether, without a configuration, names alone may propose it.
    pub(super) proposed: fn(&Signs) -> bool,
}

impl Family {
    /// The family of a word.
    pub(crate) fn named(word: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.word == word)
    }

    /// Whether a checkpoint of this layout with these signs can be of this family.
    pub(crate) fn fits(&self, layout: KeyLayout, signs: &Signs) -> bool {
        self.layouts.contains(&layout) && (self.fits)(signs)
    }

    /// Whether names alone make it a candidate.
    pub(crate) fn proposed(&self, layout: KeyLayout, signs: &Signs) -> bool {
        self.fits(layout, signs) && (self.proposed)(signs)
    }
}

/// Classes whose quantizers aren't built: a part of the dotted name, and its end.
pub(crate) const UNBUILT: [(&str, &str); 2] = [("IBQ", ".VQModel"), ("enhancing.", "Gumbel")];

/// Whatever the signs are.
pub(super) const ANY: fn(&Signs) -> bool = |_| true;
const L2_WITH_MID: fn(&Signs) -> bool = |s| !s.gumbel && s.mid_attention;

/// taming's conventions, which several families took over: what a row says where it says nothing
/// else.
pub(super) const TAMING: Family = Family {
    word: "taming",
    layouts: &[KeyLayout::Canonical],
    named_by: &[],
    told_by: None,
    rule: QuantizerRule::L2,
    l2_switch: None,
    decode_normalised: false,
    input: InputRange::Taming,
    output: OutputRange::SymmetricTruncate,
    resize: "taming",
    size: Some(256),
    ema: false,
    passed_over: &[],
    norm_types: &["group"],
    sized: true,
    size_keys: &["resolution"],
    only: &[],
    skips_lone_attention: false,
    fits: L2_WITH_MID,
    proposed: ANY,
};

/// Every family, in the order of the documentation.
pub(crate) const FAMILIES: &[Family] = &[
    Family { named_by: &[NamedBy::TargetStart("taming.")], ..TAMING },
    Family {
        word: "taming-gumbel",
        named_by: &[NamedBy::TargetEnd(".GumbelVQ")],
        rule: QuantizerRule::Projection,
        fits: |s| s.gumbel,
        ..TAMING
    },
    Family {
        word: "latent-diffusion",
        named_by: &[NamedBy::TargetStart("ldm.")],
        fits: |s| !s.gumbel,
        ..TAMING
    },
    Family {
        word: "diffusers",
        named_by: &[NamedBy::ClassName("VQModel")],
        told_by: Some(("lookup_from_codebook", false)),
        layouts: &[KeyLayout::Diffusers],
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
        named_by: &[NamedBy::ClassName("VQModel")],
        told_by: Some(("lookup_from_codebook", true)),
        layouts: &[KeyLayout::Diffusers],
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
        named_by: &[NamedBy::ModelType("janus"), NamedBy::ModelType("janus_vqgan")],
        layouts: &[KeyLayout::CanonicalReversedUp, KeyLayout::Canonical],
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
        // Its published YAML names taming's class.
        named_by: &[NamedBy::TargetStart("taming.")],
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
        named_by: &[
            NamedBy::ModelType("chameleon"),
            NamedBy::ModelType("chameleon_vqgan"),
            NamedBy::ModelType("chameleon_vqvae"),
        ],
        input: InputRange::ChameleonHf,
        resize: "chameleon",
        size: Some(512),
        fits: |s| !s.gumbel,
        proposed: |s| !s.decoder && s.mid_attention && !s.level_attention,
        ..TAMING
    },
    Family {
        word: "ibq",
        named_by: &[NamedBy::TargetPart("IBQ"), NamedBy::TargetPart("IndexBackprop")],
        rule: QuantizerRule::Dot,
        ema: true,
        ..TAMING
    },
    Family {
        word: "open-muse",
        named_by: &[NamedBy::ClassName("VQGANModel")],
        skips_lone_attention: true,
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
        named_by: &[NamedBy::ClassName("MaskGitVQGAN")],
        // It halves its maps without one.
        passed_over: &["resample_with_conv"],
        layouts: &[KeyLayout::Maskgit],
        input: InputRange::Unit,
        output: OutputRange::UnitMuse,
        resize: "maskgit",
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "open-magvit2",
        named_by: &[NamedBy::TargetPart("Open_MAGVIT2"), NamedBy::TargetPart("lfqgan")],
        layouts: &[KeyLayout::OpenMagvit2],
        rule: QuantizerRule::Sign,
        ema: true,
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "vit-vqgan",
        named_by: &[NamedBy::TargetStart("enhancing.")],
        l2_switch: Some(L2Switch { key: "use_norm", noted_when_on: false }),
        layouts: &[KeyLayout::Vit],
        rule: QuantizerRule::L2Normalised,
        input: InputRange::Unit,
        output: OutputRange::UnitTruncate,
        resize: "vit",
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "dalle",
        only: &[("group_count", 4)],
        layouts: &[KeyLayout::DalleEncoder, KeyLayout::DalleDecoder, KeyLayout::DallePair],
        rule: QuantizerRule::Logits,
        input: InputRange::Dalle,
        output: OutputRange::Dalle,
        resize: "dalle",
        fits: ANY,
        ..TAMING
    },
    Family {
        word: "vqvae2",
        layouts: &[KeyLayout::Vqvae2],
        input: InputRange::Symmetric,
        output: OutputRange::SymmetricSaveImage,
        resize: "vqvae2",
        fits: ANY,
        ..TAMING
    },
    recent::SHOW_O,
    recent::MOVQGAN,
    recent::MOVQ,
    recent::EMU3,
    recent::EMU3_HF,
    recent::COSMOS,
    recent::EMU35,
    recent::RQVAE,
    recent::MASKBIT,
    recent::VQGAN_PLUS,
    recent::TITOK,
    recent::UNITOK,
    recent::VAR,
    recent::INFINITY,
];

const LLAMAGEN: Family = Family {
    word: "llamagen",
    l2_switch: Some(L2Switch { key: "codebook_l2_norm", noted_when_on: true }),
    layouts: &[KeyLayout::LlamaGen],
    rule: QuantizerRule::L2Normalised,
    input: InputRange::Symmetric,
    output: OutputRange::SymmetricHalfUp,
    resize: "llamagen",
    fits: ANY,
    proposed: |s| !s.gen_vision_model,
    ..TAMING
};
