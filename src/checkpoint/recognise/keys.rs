//! Owns the maps from published names of weights to canonical ones, per layout.

use std::collections::{BTreeMap, BTreeSet};

use super::recent_keys as recent;

/// A way of naming weights; several families can share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyLayout {
    /// taming's names, which are ours.
    Canonical,
    /// Hugging Face Janus: canonical, but `decoder.up` counts from the lowest resolution.
    CanonicalReversedUp,
    /// diffusers' VQModel.
    Diffusers,
    /// LlamaGen and Janus.
    LlamaGen,
    /// MaskGIT-VQ of open-muse.
    Maskgit,
    /// Open-MAGVIT2.
    OpenMagvit2,
    /// ViT-VQGAN.
    Vit,
    /// One half of DALL-E's dVAE: images to logits.
    DalleEncoder,
    /// The other half: codes to images.
    DalleDecoder,
    /// Both halves, each under its side's name.
    DallePair,
    /// rosinality's VQ-VAE-2.
    Vqvae2,
    /// Show-o's MAGVITv2: canonical, the 1x1 around the bits inside both halves.
    ShowO,
    /// MaskBit's VQGAN+, its decoder's levels counted either way.
    MaskBit,
    /// MoVQGAN: canonical, norms modulated by codes in the decoder.
    Movq,
    /// The same by diffusers' VQModel.
    DiffusersSpatial,
    /// RQ-VAE: canonical, a codebook for each depth.
    Rqvae,
    /// Cosmos-Tokenizer's modules: canonical between wavelets, levels of its digits.
    Cosmos,
    /// Emu3's vision tokenizer: MoVQGAN with layers over frames.
    Emu3,
    /// The same as transformers has it.
    Emu3Hf,
    /// TiTok, MaskGIT-VQ's decoder under a name of its own.
    Titok,
    /// UniTok.
    Unitok,
    /// VAR: canonical, attention in one layer, convolutions over scales.
    Var,
    /// Infinity: canonical, every layer in a wrapper.
    Infinity,
}

/// Names that exist in every file of a layout, and the layouts they can belong to. The first part
/// of a published name, before such an anchor, is a prefix to strip.
pub(crate) const ANCHORS: &[&str] = &[
    "encoder.conv_in.weight",
    "decoder.conv_in.weight",
    "encoder.conv_in.conv.weight",
    "decoder.conv_in.conv.weight",
    "encoder.to_patch_embedding.0.weight",
    "decoder.to_pixel.1.weight",
    "encoder.patch_embed.weight",
    "encoder.patch_embed.backbone.stem.conv1.weight",
    "decoder.up_conv1.conv.weight",
    "decoder.decoder_embed.weight",
    "blocks.input.w",
    "encoder.blocks.input.w",
    "decoder.blocks.input.w",
    "enc_b.blocks.0.weight",
];

/// LitEma's moving averages, which lie beside the live weights under names without dots.
pub(crate) const AVERAGES: &str = "model_ema";

impl KeyLayout {
    /// The layout of stripped names; None where no anchor is known.
    pub(crate) fn of(shapes: &BTreeMap<String, Vec<usize>>) -> Option<KeyLayout> {
        let any = |prefix: &str| {
            shapes.range(prefix.to_owned()..).next().is_some_and(|(n, _)| n.starts_with(prefix))
        };
        if let Some(input) = shapes.get("blocks.input.w") {
            // The encoder sees an image through 7x7, the decoder one-hot codes through 1x1.
            let encoder = input.last().is_some_and(|&kernel| kernel > 1);
            return Some(if encoder { KeyLayout::DalleEncoder } else { KeyLayout::DalleDecoder });
        }
        if let Some(layout) = recent::layout_of(shapes) {
            return Some(layout);
        }
        Some(if any("encoder.blocks.input.") || any("decoder.blocks.input.") {
            KeyLayout::DallePair
        } else if any("enc_b.blocks.") {
            KeyLayout::Vqvae2
        } else if any("encoder.to_patch_embedding.") || any("decoder.to_pixel.") {
            KeyLayout::Vit
        } else if any("encoder.down_blocks.") || any("decoder.up_blocks.") {
            KeyLayout::Diffusers
        } else if any("encoder.conv_blocks.") || any("decoder.conv_blocks.") {
            KeyLayout::LlamaGen
        } else if any("encoder.mid_block.0.") || any("decoder.mid_block.0.") {
            KeyLayout::OpenMagvit2
        } else if any("encoder.mid.0.") || any("decoder.mid.0.") {
            KeyLayout::Maskgit
        } else if any("decoder.up.0.upsample.") {
            KeyLayout::CanonicalReversedUp
        } else if any("encoder.conv_in.") || any("decoder.conv_in.") {
            KeyLayout::Canonical
        } else {
            return None;
        })
    }

    /// Whether its files hold a codebook under a canonical name.
    pub(crate) fn has_codebook(self) -> bool {
        !matches!(
            self,
            KeyLayout::OpenMagvit2
                | KeyLayout::DalleEncoder
                | KeyLayout::DalleDecoder
                | KeyLayout::DallePair
                | KeyLayout::Vqvae2
                | KeyLayout::ShowO
                | KeyLayout::MaskBit
                | KeyLayout::Rqvae
                | KeyLayout::Cosmos
                | KeyLayout::Infinity
                | KeyLayout::Unitok
        )
    }

    /// The canonical name of every stripped name. A name that no rule knows maps to itself, so that
    /// the loader, which insists on a place for every weight, names it.
    pub(crate) fn canonical_names<'a>(
        self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> BTreeMap<String, String> {
        let levels = self.decoder_levels(names.clone());
        names.map(|name| (name.to_owned(), self.canonical(name, levels))).collect()
    }

    /// How many levels the decoder has, where its levels are counted the other way round.
    fn decoder_levels<'a>(self, names: impl Iterator<Item = &'a str> + Clone) -> usize {
        let stem = match self {
            KeyLayout::Diffusers | KeyLayout::DiffusersSpatial => "decoder.up_blocks.",
            // The highest resolution doubles nothing: without this the levels count from there.
            KeyLayout::MaskBit
                if names.clone().any(|name| name == "decoder.up.0.upsample_conv.weight") =>
            {
                "decoder.up."
            }
            KeyLayout::LlamaGen => "decoder.conv_blocks.",
            KeyLayout::CanonicalReversedUp => "decoder.up.",
            _ => return 0,
        };
        let index = |name: &str| name.strip_prefix(stem)?.split('.').next()?.parse::<usize>().ok();
        names.filter_map(index).collect::<BTreeSet<_>>().len()
    }

    fn canonical(self, name: &str, levels: usize) -> String {
        if is_codebook(name) {
            return "quantize.embedding.weight".to_owned();
        }
        let parts: Vec<&str> = name.split('.').collect();
        let mapped = match self {
            KeyLayout::Canonical
            | KeyLayout::Maskgit
            | KeyLayout::OpenMagvit2
            | KeyLayout::Vit
            | KeyLayout::Vqvae2
            | KeyLayout::Movq
            | KeyLayout::Rqvae
            | KeyLayout::Cosmos
            | KeyLayout::Unitok
            | KeyLayout::DallePair => None,
            KeyLayout::CanonicalReversedUp => reversed_up(&parts, levels),
            KeyLayout::Diffusers | KeyLayout::DiffusersSpatial => diffusers(&parts, levels),
            KeyLayout::ShowO => recent::show_o(&parts),
            KeyLayout::MaskBit => recent::maskbit(&parts, levels),
            KeyLayout::Emu3 => recent::emu3(&parts),
            KeyLayout::Emu3Hf => recent::emu3_hf(&parts),
            KeyLayout::Titok => recent::titok(&parts),
            KeyLayout::Var => recent::var(&parts),
            KeyLayout::Infinity => recent::infinity(&parts),
            KeyLayout::LlamaGen => llamagen(&parts, levels),
            KeyLayout::DalleEncoder => Some(format!("encoder.{name}")),
            KeyLayout::DalleDecoder => Some(format!("decoder.{name}")),
        };
        mapped.unwrap_or_else(|| name.to_owned())
    }
}

/// Whether the name is one that codebooks have across layouts.
fn is_codebook(name: &str) -> bool {
    const OWNERS: [&str; 5] = ["quantize", "quantizer", "vq", "vector_quantizer", "codebook"];
    const ENDS: [&str; 3] = ["embedding.weight", "embed.weight", "codebook.weight"];
    let split = name.split_once('.');
    split.is_some_and(|(owner, end)| OWNERS.contains(&owner) && ENDS.contains(&end))
        || name == "codebook.weight"
}

/// Level k counted from the lowest resolution, as the canonical index.
pub(super) fn mirrored(index: &str, levels: usize) -> Option<usize> {
    levels.checked_sub(1 + index.parse::<usize>().ok()?)
}

fn reversed_up(parts: &[&str], levels: usize) -> Option<String> {
    match parts {
        ["decoder", "up", k, rest @ ..] => {
            Some(format!("decoder.up.{}.{}", mirrored(k, levels)?, rest.join(".")))
        }
        _ => None,
    }
}

fn diffusers(parts: &[&str], levels: usize) -> Option<String> {
    let (side, rest) = parts.split_first()?;
    let (level, rest) = match rest {
        ["down_blocks", i, rest @ ..] => (format!("{side}.down.{i}"), rest),
        ["up_blocks", k, rest @ ..] => (format!("{side}.up.{}", mirrored(k, levels)?), rest),
        ["mid_block", "resnets", j, rest @ ..] => {
            let block = j.parse::<usize>().ok()? + 1;
            return Some(format!("{side}.mid.block_{block}.{}", shortcut(rest)));
        }
        ["mid_block", "attentions", "0", rest @ ..] => {
            return Some(format!("{side}.mid.attn_1.{}", attention(rest)?));
        }
        ["conv_norm_out", rest @ ..] => return Some(format!("{side}.norm_out.{}", rest.join("."))),
        _ => return None,
    };
    Some(match rest {
        ["resnets", j, rest @ ..] => format!("{level}.block.{j}.{}", shortcut(rest)),
        ["attentions", j, rest @ ..] => format!("{level}.attn.{j}.{}", attention(rest)?),
        ["downsamplers", "0", rest @ ..] => format!("{level}.downsample.{}", rest.join(".")),
        ["upsamplers", "0", rest @ ..] => format!("{level}.upsample.{}", rest.join(".")),
        _ => return None,
    })
}

fn shortcut(rest: &[&str]) -> String {
    rest.join(".").replace("conv_shortcut", "nin_shortcut")
}

/// diffusers' attention, with the names of today and those before 0.14.
fn attention(rest: &[&str]) -> Option<String> {
    let (module, leaf) = match rest {
        ["to_out", "0", leaf] => ("proj_out", leaf),
        ["spatial_norm", part, leaf] => return Some(format!("norm.{part}.{leaf}")),
        [module, leaf] => (*module, leaf),
        _ => return None,
    };
    let module = match module {
        "group_norm" => "norm",
        "to_q" | "query" => "q",
        "to_k" | "key" => "k",
        "to_v" | "value" => "v",
        "proj_out" | "proj_attn" => "proj_out",
        _ => return None,
    };
    Some(format!("{module}.{leaf}"))
}

fn llamagen(parts: &[&str], levels: usize) -> Option<String> {
    let (side, rest) = parts.split_first()?;
    let (level, rest) = match (*side, rest) {
        ("encoder", ["conv_blocks", i, rest @ ..]) => (format!("encoder.down.{i}"), rest),
        ("decoder", ["conv_blocks", k, rest @ ..]) => {
            (format!("decoder.up.{}", mirrored(k, levels)?), rest)
        }
        (_, ["mid", place, rest @ ..]) => {
            let module = ["block_1", "attn_1", "block_2"].get(place.parse::<usize>().ok()?)?;
            return Some(format!("{side}.mid.{module}.{}", rest.join(".")));
        }
        _ => return None,
    };
    Some(match rest {
        ["res", rest @ ..] => format!("{level}.block.{}", rest.join(".")),
        _ => format!("{level}.{}", rest.join(".")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(layout: KeyLayout, names: &[&str]) -> Vec<String> {
        let map = layout.canonical_names(names.iter().copied());
        names.iter().map(|name| map[*name].clone()).collect()
    }

    #[test]
    fn diffusers_names_of_both_ages() {
        let names = [
            "decoder.up_blocks.0.resnets.1.conv_shortcut.weight",
            "decoder.up_blocks.2.attentions.0.to_out.0.bias",
            "decoder.up_blocks.1.upsamplers.0.conv.weight",
            "encoder.down_blocks.1.attentions.0.query.weight",
            "encoder.down_blocks.0.downsamplers.0.conv.bias",
            "encoder.mid_block.resnets.1.norm1.weight",
            "encoder.mid_block.attentions.0.group_norm.weight",
            "encoder.conv_norm_out.weight",
            "quant_conv.weight",
        ];
        assert_eq!(
            map(KeyLayout::Diffusers, &names),
            [
                "decoder.up.2.block.1.nin_shortcut.weight",
                "decoder.up.0.attn.0.proj_out.bias",
                "decoder.up.1.upsample.conv.weight",
                "encoder.down.1.attn.0.q.weight",
                "encoder.down.0.downsample.conv.bias",
                "encoder.mid.block_2.norm1.weight",
                "encoder.mid.attn_1.norm.weight",
                "encoder.norm_out.weight",
                "quant_conv.weight",
            ]
        );
    }

    #[test]
    fn llamagen_decoder_levels_run_backwards() {
        let names = [
            "encoder.conv_blocks.1.res.0.conv1.weight",
            "encoder.conv_blocks.0.downsample.conv.weight",
            "encoder.mid.1.proj_out.weight",
            "decoder.conv_blocks.0.attn.2.q.weight",
            "decoder.conv_blocks.1.res.0.nin_shortcut.weight",
            "decoder.conv_blocks.0.upsample.conv.weight",
        ];
        assert_eq!(
            map(KeyLayout::LlamaGen, &names),
            [
                "encoder.down.1.block.0.conv1.weight",
                "encoder.down.0.downsample.conv.weight",
                "encoder.mid.attn_1.proj_out.weight",
                "decoder.up.1.attn.2.q.weight",
                "decoder.up.0.block.0.nin_shortcut.weight",
                "decoder.up.1.upsample.conv.weight",
            ]
        );
    }

    #[test]
    fn hugging_face_janus_counts_up_from_the_lowest_resolution() {
        let names = [
            "decoder.up.0.upsample.conv.weight",
            "decoder.up.1.block.0.conv1.weight",
            "encoder.conv_in.bias",
        ];
        let shapes = names.iter().map(|n| ((*n).to_owned(), vec![1])).collect();
        assert_eq!(KeyLayout::of(&shapes), Some(KeyLayout::CanonicalReversedUp));
        assert_eq!(
            map(KeyLayout::CanonicalReversedUp, &names),
            [
                "decoder.up.1.upsample.conv.weight",
                "decoder.up.0.block.0.conv1.weight",
                "encoder.conv_in.bias"
            ]
        );
    }

    #[test]
    fn codebooks_go_by_several_names() {
        for name in [
            "quantize.embed.weight",
            "quantizer.embedding.weight",
            "quantizer.codebook.weight",
            "vq.embedding.weight",
            "codebook.weight",
        ] {
            assert_eq!(map(KeyLayout::Canonical, &[name]), ["quantize.embedding.weight"]);
        }
        assert_eq!(map(KeyLayout::Canonical, &["quantize.proj.weight"]), ["quantize.proj.weight"]);
    }

    #[test]
    fn an_unknown_name_stays_itself() {
        assert_eq!(
            map(KeyLayout::Diffusers, &["encoder.surprise.weight"]),
            ["encoder.surprise.weight"]
        );
    }
}
