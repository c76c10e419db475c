//! Holds `sizes` against what it promises.

use super::*;
use crate::engine::candle::CandleEngine;
use crate::engine::cpu::CpuEngine;
use crate::engine::cpu::tests::{Maker, model, vqgan};
use crate::kernels::Isa;
use crate::model::Model;
use candle_core::Device;

/// What both engines say of a model whose weights are those of a sound one.
fn refused(change: impl FnOnce(&mut ModelConfig)) -> String {
    let (mut config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    change(&mut config);
    let ours = CpuEngine::new(config.clone(), weights.clone(), Isa::Portable).err();
    let candles = Model::load(config, weights, &Device::Cpu).map(CandleEngine::new).err();
    let [ours, candles] = [ours, candles].map(|error| error.expect("an error").to_string());
    assert_eq!(ours, candles);
    assert!(!ours.contains('\n'), "{ours}");
    ours
}

fn of_vqgan(change: impl FnOnce(&mut VqganConfig)) -> String {
    refused(|config| match &mut config.architecture {
        Architecture::Vqgan(c) => change(c),
        _ => unreachable!("a VQGAN"),
    })
}

#[test]
fn sizes_that_no_network_has_are_refused_by_both_engines() {
    for (said, words) in [
        (of_vqgan(|c| c.widths.clear()), "widths are []"),
        (of_vqgan(|c| c.widths = vec![16; 99]), "1 to 16"),
        (of_vqgan(|c| c.widths[1] = 0), "widths are [16, 0]"),
        (of_vqgan(|c| c.ch = 0), "`ch`"),
        (of_vqgan(|c| c.z_channels = 0), "`z_channels`"),
        (of_vqgan(|c| c.res_blocks = 0), "without residual blocks"),
        (of_vqgan(|c| c.norm_groups = 0), "in 0 groups"),
        (of_vqgan(|c| c.norm_groups = 5), "in 5 groups"),
        (of_vqgan(|c| c.attention.truncate(1)), "attention is said of 1 levels"),
        (
            of_vqgan(|c| {
                c.decoder = Some(VqganDecoderConfig {
                    widths: vec![8],
                    blocks: 2,
                    attention: vec![false],
                    mid_attention: true,
                    blocks_by_level: vec![],
                    spatial_norm: None,
                })
            }),
            "2 levels and the decoder 1",
        ),
        (refused(|c| c.pixels.channels = 4), "4 channels"),
        (refused(|c| c.preprocess.size = Some(0)), "`preprocess.size` is 0"),
        (refused(|c| c.quantizer.codes = 0), "`codes`"),
        (refused(|c| c.quantizer.dim = 0), "`dim`"),
        (refused(|c| c.quantizer.codes = 1 << 25), "searched"),
        (
            refused(|c| c.quantizer = QuantizerConfig::new(QuantizerRule::Sign, 1 << 8, 40)),
            "256 codes of 40 bits",
        ),
        (
            refused(|c| c.quantizer = QuantizerConfig::new(QuantizerRule::SignHigh, 2, 257)),
            "2 codes of 257 bits: tokens have 256 bits at most",
        ),
        (
            refused(|c| c.quantizer = QuantizerConfig::new(QuantizerRule::SignHigh, 2, 32)),
            "2 codes of 32 bits",
        ),
    ] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn variants_that_no_network_has_are_refused_by_both_engines() {
    let frames = |halvings| Some(FramesConfig { halvings, encoder_blocks: 0, decoder_blocks: 0 });
    for (said, words) in [
        (of_vqgan(|c| c.variant.blocks = vec![1]), "blocks are [1] for 2 levels"),
        (of_vqgan(|c| c.variant.blocks = vec![1, 0]), "blocks are [1, 0]"),
        (of_vqgan(|c| c.variant.patch = Some(3)), "`patch` is 3"),
        (of_vqgan(|c| c.variant.patch = Some(16)), "a power of two up to 8"),
        (of_vqgan(|c| c.variant.pad = Some(0)), "`pad` is 0"),
        (of_vqgan(|c| c.variant.pad = Some(1)), "less than a token's 2 pixels"),
        (of_vqgan(|c| c.variant.halvings = Some(2)), "fewer than 2 halvings"),
        (of_vqgan(|c| c.variant.frames = frames(1)), "layers over frames take both"),
        (
            of_vqgan(|c| {
                c.decoder = Some(VqganDecoderConfig { spatial_norm: Some(0), ..c.decoder() });
            }),
            "0 groups",
        ),
        (
            of_vqgan(|c| {
                c.decoder = Some(VqganDecoderConfig { blocks_by_level: vec![3], ..c.decoder() });
            }),
            "the decoder's blocks are [3]",
        ),
    ] {
        assert!(said.contains(words), "{said}");
    }
    let (mut config, _) = model(vqgan(&[16, 24], 8, 8), QuantizerRule::L2, 50, 8);
    let Architecture::Vqgan(network) = &mut config.architecture else { unreachable!() };
    for (halvings, fits) in [(0, false), (1, true), (3, true), (4, false)] {
        network.variant.frames = frames(halvings);
        assert_eq!(super::check_vqgan(network).is_ok(), fits, "{halvings}");
    }
}

#[test]
fn networks_whose_inner_layers_would_have_no_channel_are_refused() {
    let (config, _) = model(vqgan(&[16], 8, 5), QuantizerRule::L2, 50, 8);
    for (architecture, words) in [
        (
            r#"{"kind": "vqvae", "hidden": 1, "downsamples": 2, "res_blocks": 0, "res_hidden": 1}"#,
            "`hidden`",
        ),
        (
            r#"{"kind": "vqvae", "hidden": 8, "downsamples": 0, "res_blocks": 0, "res_hidden": 1}"#,
            "`downsamples` is 0",
        ),
        (
            r#"{"kind": "vqvae", "hidden": 8, "downsamples": 99, "res_blocks": 0, "res_hidden": 1}"#,
            "`downsamples` is 99",
        ),
        (
            r#"{"kind": "vqvae", "hidden": 8, "downsamples": 1, "res_blocks": 1, "res_hidden": 0}"#,
            "`res_hidden`",
        ),
        (r#"{"kind": "vqvae2", "channels": 1, "res_blocks": 0, "res_channels": 0}"#, "`channels`"),
        (r#"{"kind": "dalle", "hidden": 3, "init": 8, "blocks": 1}"#, "`hidden`"),
        (r#"{"kind": "dalle", "hidden": 4, "init": 8, "blocks": 0}"#, "`blocks`"),
        (
            r#"{"kind": "maskgit", "ch": 8, "widths": [], "res_blocks": 1, "norm_groups": 1, "norm_eps": 1e-6}"#,
            "widths are []",
        ),
        (
            r#"{"kind": "open-magvit2", "ch": 8, "widths": [8, 9], "res_blocks": 0, "norm_groups": 1, "norm_eps": 1e-6}"#,
            "without residual blocks",
        ),
    ] {
        let architecture = serde_json::from_str(architecture).expect("an architecture");
        let config = ModelConfig { architecture, ..config.clone() };
        let said = crate::model::build(&config, Maker::default().builder()).err();
        let said = said.expect("an error").to_string();
        assert!(said.contains(words), "{said}");
    }
}
