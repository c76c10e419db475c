//! Owns refusing, in one line, sizes of a model that no network has: a `config.json` is written by
//! hand too. Must not know: weights; what a family's published files say.

#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use super::config::*;

/// Levels of halving at most: beyond any picture.
const LEVELS_MAX: usize = 16;

/// Codes at most, where they are searched or numbered by digits.
const CODES_MAX: usize = 1 << 24;

/// Bits of a code at most.
const BITS_MAX: usize = 31;

/// Errors where a count or a width is zero or another list's length is wrong, so that the network
/// could not be built, or not be run.
pub fn check(config: &ModelConfig) -> Result<(), String> {
    if !matches!(config.pixels.channels, 1 | 3) {
        let channels = config.pixels.channels;
        return Err(format!("the model takes pictures of {channels} channels: 1 or 3 are known"));
    }
    if config.preprocess.size == Some(0) {
        return Err("the model's `preprocess.size` is 0: an image has pixels".into());
    }
    check_quantizer(&config.quantizer)?;
    match &config.architecture {
        Architecture::Vqvae(c) => {
            levels("downsamples", c.downsamples)?;
            positive(&[("hidden", c.hidden / if c.downsamples > 1 { 2 } else { 1 })])?;
            block("res_hidden", c.res_hidden, c.res_blocks)
        }
        Architecture::Vqvae2(c) => {
            positive(&[("channels", c.channels / 2)])?;
            block("res_channels", c.res_channels, c.res_blocks)
        }
        Architecture::Vqgan(c) => {
            positive(&[("ch", c.ch), ("z_channels", c.z_channels)])?;
            let own = c.decoder();
            widths("widths", &c.widths, c.res_blocks.max(usize::from(!c.parts.encoder())), c.ch)?;
            same_length(&c.widths, &c.attention)?;
            let first = own.widths.last().copied().unwrap_or(0);
            if !c.parts.decoder() {
                return Ok(());
            }
            widths("the decoder's widths", &own.widths, own.blocks, first)?;
            same_length(&own.widths, &own.attention)?;
            match c.parts == Parts::Both && own.widths.len() != c.widths.len() {
                true => Err(format!(
                    "the encoder has {} levels and the decoder {}: they must be as many",
                    c.widths.len(),
                    own.widths.len()
                )),
                false => Ok(()),
            }
        }
        Architecture::Maskgit(c) => widths("widths", &c.widths, c.res_blocks, c.ch),
        Architecture::OpenMagvit2(c) => widths("widths", &c.widths, c.res_blocks, c.ch),
        Architecture::Dalle(c) => {
            // The blocks' inner width is a quarter.
            positive(&[("hidden", c.hidden / 4), ("blocks", c.blocks)])?;
            match c.parts.decoder() {
                true => positive(&[("init", c.init)]),
                false => Ok(()),
            }
        }
        Architecture::VitVqgan(c) => {
            let [[ph, pw], [gh, gw]] = [c.patch, c.grid];
            positive(&[("patch", ph.min(pw)), ("grid", gh.min(gw))])?;
            for t in [&c.encoder, &c.decoder] {
                let sizes = [t.dim, t.heads, t.head_dim, t.mlp_dim];
                positive(
                    &["dim", "heads", "head_dim", "mlp_dim"]
                        .iter()
                        .copied()
                        .zip(sizes)
                        .collect::<Vec<_>>(),
                )?;
            }
            Ok(())
        }
    }
}

fn check_quantizer(q: &QuantizerConfig) -> Result<(), String> {
    positive(&[("codes", q.codes), ("dim", q.dim)])?;
    match q.rule {
        QuantizerRule::Sign if q.dim > BITS_MAX || q.codes != 1 << q.dim => Err(format!(
            "{} codes of {} bits: at most {BITS_MAX} bits, two to their power codes",
            q.codes, q.dim
        )),
        QuantizerRule::Sign => Ok(()),
        _ if q.codes > CODES_MAX => {
            Err(format!("{} codes are more than the {CODES_MAX} that can be searched", q.codes))
        }
        _ => Ok(()),
    }
}

fn positive(sizes: &[(&str, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((name, _)) => Err(format!("the model's `{name}` is too small")),
        None => Ok(()),
    }
}

fn levels(name: &str, count: usize) -> Result<(), String> {
    match (1..=LEVELS_MAX).contains(&count) {
        true => Ok(()),
        false => Err(format!("the model's `{name}` is {count}; it must be 1 to {LEVELS_MAX}")),
    }
}

fn block(name: &str, width: usize, blocks: usize) -> Result<(), String> {
    if blocks > 0 { positive(&[(name, width)]) } else { Ok(()) }
}

/// Widths of levels, which residual blocks change: without any, all of them are `first`.
fn widths(name: &str, widths: &[usize], blocks: usize, first: usize) -> Result<(), String> {
    if !(1..=LEVELS_MAX).contains(&widths.len()) || widths.contains(&0) || first == 0 {
        return Err(format!(
            "{name} are {widths:?}; there must be 1 to {LEVELS_MAX}, none of them 0"
        ));
    }
    if blocks == 0 && widths.iter().any(|&width| width != first) {
        return Err(format!(
            "{name} are {widths:?} without residual blocks, which change the width"
        ));
    }
    Ok(())
}

fn same_length(widths: &[usize], attention: &[bool]) -> Result<(), String> {
    match widths.len() == attention.len() {
        true => Ok(()),
        false => Err(format!(
            "attention is said of {} levels where there are {}",
            attention.len(),
            widths.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::candle::CandleEngine;
    use crate::engine::cpu::tests::{Maker, model, vqgan};
    use crate::engine::cpu::{CpuEngine, kernels::Isa};
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
                "40 bits",
            ),
        ] {
            assert!(said.contains(words), "{said}");
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
            (
                r#"{"kind": "vqvae2", "channels": 1, "res_blocks": 0, "res_channels": 0}"#,
                "`channels`",
            ),
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
}
