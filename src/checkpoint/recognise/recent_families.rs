//! Owns the rows of the families from 2024 on.

use super::families::{ANY, Family, L2Switch, NamedBy, TAMING};
use super::keys::KeyLayout;
use crate::model::config::{InputRange, OutputRange, QuantizerRule};

/// Show-o's MAGVITv2 (showlab).
pub(super) const SHOW_O: Family = Family {
    word: "showo",
    named_by: &[NamedBy::ClassName("MAGVITv2")],
    layouts: &[KeyLayout::ShowO],
    rule: QuantizerRule::SignHigh,
    input: InputRange::Symmetric,
    resize: "bicubic",
    fits: ANY,
    ..TAMING
};

/// MoVQGAN (ai-forever), whose encoder alone has taming's names.
pub(super) const MOVQGAN: Family = Family {
    word: "movqgan",
    layouts: &[KeyLayout::Movq, KeyLayout::Canonical],
    input: InputRange::Symmetric,
    output: OutputRange::SymmetricRound,
    resize: "movq",
    fits: |s| s.spatial_norm || (!s.decoder && !s.gumbel),
    proposed: |s| s.spatial_norm,
    ..TAMING
};

/// The same as diffusers has it (Kandinsky 2).
pub(super) const MOVQ: Family = Family {
    word: "movq",
    // The class of diffusers' own VQModel; its names tell.
    named_by: &[NamedBy::ClassName("VQModel")],
    layouts: &[KeyLayout::DiffusersSpatial],
    norm_types: &["spatial"],
    fits: ANY,
    ..MOVQGAN
};

/// Emu3's vision tokenizer (baaivision).
pub(super) const EMU3: Family = Family {
    word: "emu3",
    named_by: &[NamedBy::ModelType("Emu3VisionVQ")],
    layouts: &[KeyLayout::Emu3],
    input: InputRange::Symmetric,
    resize: "emu3",
    size: None,
    sized: false,
    fits: ANY,
    ..TAMING
};

/// The same as transformers has it.
pub(super) const EMU3_HF: Family = Family {
    word: "emu3-hf",
    named_by: &[NamedBy::ModelType("emu3"), NamedBy::ModelType("emu3_vqgan")],
    layouts: &[KeyLayout::Emu3Hf],
    only: &[("num_attention_heads", 1)],
    ..EMU3
};

/// Cosmos-Tokenizer's discrete image models (NVIDIA), published as TorchScript.
pub(super) const COSMOS: Family = Family {
    word: "cosmos",
    layouts: &[KeyLayout::Cosmos],
    rule: QuantizerRule::Fsq,
    output: OutputRange::SymmetricSaveImage,
    resize: "none",
    size: None,
    sized: false,
    fits: ANY,
    ..TAMING
};

/// Emu3.5's IBQ (baaivision): taming's names, no moving averages.
pub(super) const EMU35: Family = Family {
    word: "emu35",
    rule: QuantizerRule::Dot,
    resize: "emu35",
    size: None,
    sized: false,
    ..TAMING
};

/// RQ-VAE (kakaobrain).
pub(super) const RQVAE: Family = Family {
    word: "rqvae",
    layouts: &[KeyLayout::Rqvae],
    input: InputRange::Symmetric,
    resize: "bilinear",
    fits: ANY,
    ..TAMING
};

/// MaskBit's tokenizer: VQGAN+ with bits.
pub(super) const MASKBIT: Family = Family {
    word: "maskbit",
    layouts: &[KeyLayout::MaskBit],
    rule: QuantizerRule::Sign,
    input: InputRange::Unit,
    output: OutputRange::UnitTruncate,
    resize: "bilinear",
    fits: |s| s.bits_to_indices,
    ..TAMING
};

/// VQGAN+ (MaskBit's repository) with a codebook.
pub(super) const VQGAN_PLUS: Family =
    Family { word: "vqgan-plus", rule: QuantizerRule::L2, fits: |s| !s.bits_to_indices, ..MASKBIT };

/// TiTok (ByteDance's 1d-tokenizer).
pub(super) const TITOK: Family = Family {
    word: "titok",
    l2_switch: Some(L2Switch { key: "use_l2_norm", noted_when_on: true }),
    passed_over: &["use_l2_norm"],
    layouts: &[KeyLayout::Titok],
    rule: QuantizerRule::L2Normalised,
    input: InputRange::Unit,
    output: OutputRange::UnitTruncate,
    resize: "bicubic",
    fits: ANY,
    ..TAMING
};

/// UniTok (FoundationVision).
pub(super) const UNITOK: Family = Family {
    word: "unitok",
    size_keys: &["img_size"],
    // It is that of text and pictures together.
    passed_over: &["embed_dim"],
    layouts: &[KeyLayout::Unitok],
    rule: QuantizerRule::L2Normalised,
    input: InputRange::Symmetric,
    output: OutputRange::SymmetricHalfEven,
    resize: "unitok",
    fits: ANY,
    ..TAMING
};

/// VAR's tokenizer (FoundationVision), which others took over.
pub(super) const VAR: Family = Family {
    word: "var",
    layouts: &[KeyLayout::Var],
    input: InputRange::Symmetric,
    resize: "var",
    fits: ANY,
    ..TAMING
};

/// Infinity's tokenizer (FoundationVision): bits.
pub(super) const INFINITY: Family = Family {
    word: "infinity",
    layouts: &[KeyLayout::Infinity],
    rule: QuantizerRule::SignHigh,
    input: InputRange::Symmetric,
    resize: "infinity",
    fits: ANY,
    ..TAMING
};
