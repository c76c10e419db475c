//! Owns the signs and the maps of names of the families from 2024 on.

use std::collections::BTreeMap;

use super::keys::{KeyLayout, mirrored};

/// The layout of stripped names that are those of one of these families.
pub(super) fn layout_of(shapes: &BTreeMap<String, Vec<usize>>) -> Option<KeyLayout> {
    let has = |name: &str| shapes.contains_key(name);
    let any = |prefix: &str| {
        shapes.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    };
    Some(if any("encoder.down_block.") || any("decoder.up_block.") {
        KeyLayout::Emu3Hf
    } else if any("encoder.time_conv.") || any("decoder.time_conv.") {
        KeyLayout::Emu3
    } else if any("encoder.patcher.") || any("decoder.unpatcher.") {
        KeyLayout::Cosmos
    } else if any("encoder.down.0.res_blocks.") || any("decoder.up.0.res_blocks.") {
        KeyLayout::MaskBit
    } else if has("encoder.quant_conv.weight") || has("decoder.post_quant_conv.weight") {
        KeyLayout::ShowO
    } else if has("latent_tokens") || has("decoder.decoder_embed.weight") {
        KeyLayout::Titok
    } else if any("encoder.patch_embed.backbone.") || any("decoder.up_conv1.") {
        KeyLayout::Unitok
    } else if any("quantize.quant_resi.") {
        KeyLayout::Var
    } else if has("encoder.conv_in.conv.weight") || has("decoder.conv_in.conv.weight") {
        KeyLayout::Infinity
    } else if has("quantizer.codebooks.0.weight") {
        KeyLayout::Rqvae
    } else if has("decoder.conv_norm_out.norm_layer.weight") {
        KeyLayout::DiffusersSpatial
    } else if has("decoder.norm_out.norm_layer.weight") {
        KeyLayout::Movq
    } else {
        return None;
    })
}

pub(super) fn show_o(parts: &[&str]) -> Option<String> {
    match parts {
        ["encoder", "quant_conv", rest @ ..] => Some(format!("quant_conv.{}", rest.join("."))),
        ["decoder", "post_quant_conv", rest @ ..] => {
            Some(format!("post_quant_conv.{}", rest.join(".")))
        }
        _ => None,
    }
}

/// `levels` is 0 where the decoder's count from the highest resolution, as ours do.
pub(super) fn maskbit(parts: &[&str], levels: usize) -> Option<String> {
    let level = |k: &str| match levels {
        0 => Some(k.parse::<usize>().ok()?),
        levels => mirrored(k, levels),
    };
    let (stem, rest) = match parts {
        [side, "mid", "res_blocks", rest @ ..] => (format!("{side}.mid"), rest.join(".")),
        ["encoder", "down", i, "res_blocks", rest @ ..] => {
            (format!("encoder.down.{i}.block"), rest.join("."))
        }
        ["decoder", "up", k, "res_blocks", rest @ ..] => {
            (format!("decoder.up.{}.block", level(k)?), rest.join("."))
        }
        ["decoder", "up", k, rest @ ..] => (format!("decoder.up.{}", level(k)?), rest.join(".")),
        _ => return None,
    };
    Some(format!("{stem}.{rest}"))
}

/// Its second decoder, which is MaskGIT-VQ's.
pub(super) fn titok(parts: &[&str]) -> Option<String> {
    match parts {
        ["pixel_decoder", rest @ ..] => Some(format!("pixel.decoder.{}", rest.join("."))),
        _ => None,
    }
}

/// Its convolutions over scales: one, several that the scales share, or one each.
pub(super) fn var(parts: &[&str]) -> Option<String> {
    match parts {
        ["quantize", "quant_resi", "qresi", leaf] => Some(format!("quantize.phi.0.{leaf}")),
        ["quantize", "quant_resi", "qresi_ls", k, leaf] | ["quantize", "quant_resi", k, leaf] => {
            Some(format!("quantize.phi.{k}.{leaf}"))
        }
        _ => None,
    }
}

/// Its layers wrap others.
pub(super) fn infinity(parts: &[&str]) -> Option<String> {
    match parts {
        [stem @ .., "conv" | "norm", leaf] => Some(format!("{}.{leaf}", stem.join("."))),
        _ => None,
    }
}

/// Its convolutions over frames wrap others.
pub(super) fn emu3(parts: &[&str]) -> Option<String> {
    let (stem, leaf) = match parts {
        [side, "time_conv", i, "conv", "conv", leaf] => (format!("{side}.time_conv.{i}"), leaf),
        [side, "time_res_stack", j, conv, "conv", leaf] => {
            (format!("{side}.time_res_stack.{j}.{conv}"), leaf)
        }
        [conv @ ("quant_conv" | "post_quant_conv"), "conv", leaf] => ((*conv).to_owned(), leaf),
        _ => return None,
    };
    Some(format!("{stem}.{leaf}"))
}

pub(super) fn emu3_hf(parts: &[&str]) -> Option<String> {
    let (level, rest) = match parts {
        ["encoder", "down_block", "down", i, rest @ ..] => (format!("encoder.down.{i}"), rest),
        ["decoder", "up_block", "up", i, rest @ ..] => (format!("decoder.up.{i}"), rest),
        [side, "middle_block", rest @ ..] => (format!("{side}.mid"), rest),
        parts => return emu3(parts),
    };
    Some(match rest {
        ["attn_norms", j, rest @ ..] => format!("{level}.attn.{j}.norm.{}", rest.join(".")),
        ["attn_norm", rest @ ..] => format!("{level}.attn_1.norm.{}", rest.join(".")),
        ["attn", j, rest @ ..] => format!("{level}.attn.{j}.{}", projection(rest)),
        ["attn_1", rest @ ..] => format!("{level}.attn_1.{}", projection(rest)),
        rest => format!("{level}.{}", rest.join(".")),
    })
}

/// transformers' names of the layers of attention.
fn projection(rest: &[&str]) -> String {
    let [layer, rest @ ..] = rest else { return String::new() };
    let layer = match *layer {
        "q_proj" => "q",
        "k_proj" => "k",
        "v_proj" => "v",
        "out_proj" => "proj_out",
        other => other,
    };
    [&[layer], rest].concat().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(layout: KeyLayout, names: &[&str]) -> Vec<String> {
        let map = layout.canonical_names(names.iter().copied());
        names.iter().map(|name| map[*name].clone()).collect()
    }

    #[test]
    fn maskbit_counts_its_levels_from_where_nothing_is_doubled() {
        let old = ["decoder.up.0.res_blocks.0.conv1.weight", "decoder.up.1.upsample_conv.weight"];
        assert_eq!(
            map(KeyLayout::MaskBit, &old),
            ["decoder.up.0.block.0.conv1.weight", "decoder.up.1.upsample_conv.weight"]
        );
        let new = [
            "decoder.up.0.upsample_conv.weight",
            "decoder.up.2.res_blocks.1.nin_shortcut.weight",
            "decoder.up.1.res_blocks.0.norm1.bias",
            "encoder.mid.res_blocks.1.conv2.weight",
            "encoder.down.1.down_conv.bias",
        ];
        assert_eq!(
            map(KeyLayout::MaskBit, &new),
            [
                "decoder.up.2.upsample_conv.weight",
                "decoder.up.0.block.1.nin_shortcut.weight",
                "decoder.up.1.block.0.norm1.bias",
                "encoder.mid.1.conv2.weight",
                "encoder.down.1.down_conv.bias",
            ]
        );
    }

    #[test]
    fn wrappers_of_infinity_and_convolutions_of_var() {
        assert_eq!(
            map(
                KeyLayout::Infinity,
                &[
                    "encoder.down.0.downsample.conv.conv.weight",
                    "decoder.mid.block_1.norm2.norm.bias",
                    "encoder.conv_out.conv.bias",
                ]
            ),
            [
                "encoder.down.0.downsample.conv.weight",
                "decoder.mid.block_1.norm2.bias",
                "encoder.conv_out.bias",
            ]
        );
        assert_eq!(
            map(
                KeyLayout::Var,
                &[
                    "quantize.quant_resi.qresi_ls.3.weight",
                    "quantize.quant_resi.qresi.bias",
                    "quantize.quant_resi.9.weight",
                    "post_quant_conv.weight",
                ]
            ),
            [
                "quantize.phi.3.weight",
                "quantize.phi.0.bias",
                "quantize.phi.9.weight",
                "post_quant_conv.weight",
            ]
        );
    }

    #[test]
    fn both_names_of_emu3_mean_the_same() {
        let names = [
            ("encoder.time_conv.1.conv.conv.weight", "encoder.time_conv.1.weight"),
            ("decoder.time_res_stack.0.conv2.conv.bias", "decoder.time_res_stack.0.conv2.bias"),
            ("decoder.time_res_stack.0.norm2.weight", "decoder.time_res_stack.0.norm2.weight"),
            ("quant_conv.conv.weight", "quant_conv.weight"),
        ];
        for (name, canonical) in names {
            assert_eq!(map(KeyLayout::Emu3, &[name]), [canonical]);
            assert_eq!(map(KeyLayout::Emu3Hf, &[name]), [canonical]);
        }
        let names = [
            (
                "encoder.down_block.down.1.attn.0.out_proj.bias",
                "encoder.down.1.attn.0.proj_out.bias",
            ),
            (
                "decoder.up_block.up.1.attn_norms.0.conv_y.bias",
                "decoder.up.1.attn.0.norm.conv_y.bias",
            ),
            ("decoder.up_block.up.1.upsample.conv.bias", "decoder.up.1.upsample.conv.bias"),
            ("decoder.middle_block.attn_1.k_proj.bias", "decoder.mid.attn_1.k.bias"),
            (
                "decoder.middle_block.attn_norm.norm_layer.bias",
                "decoder.mid.attn_1.norm.norm_layer.bias",
            ),
            ("encoder.middle_block.block_2.conv1.bias", "encoder.mid.block_2.conv1.bias"),
            ("encoder.conv_in.bias", "encoder.conv_in.bias"),
        ];
        for (name, canonical) in names {
            assert_eq!(map(KeyLayout::Emu3Hf, &[name]), [canonical]);
        }
    }

    #[test]
    fn the_norms_of_movq_have_one_name() {
        let names = [
            "decoder.up_blocks.0.attentions.1.spatial_norm.conv_b.weight",
            "decoder.up_blocks.1.resnets.0.norm1.norm_layer.weight",
            "decoder.conv_norm_out.conv_y.bias",
        ];
        assert_eq!(
            map(KeyLayout::DiffusersSpatial, &names),
            [
                "decoder.up.1.attn.1.norm.conv_b.weight",
                "decoder.up.0.block.0.norm1.norm_layer.weight",
                "decoder.norm_out.conv_y.bias",
            ]
        );
    }
}
