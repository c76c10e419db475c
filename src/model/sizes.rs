//! Owns refusing, in one line, sizes of a model that no network has: a `config.json` is written by
//! hand too.

#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use super::config::*;

/// Levels of halving at most: beyond any picture.
const LEVELS_MAX: usize = 16;

/// Codes at most, where they are searched or numbered by digits.
const CODES_MAX: usize = 1 << 24;

/// Bits of a code at most.
const BITS_MAX: usize = 256;

/// Pixels along the side of a patch at most: kernels take windows of three.
const PATCH_MAX: usize = 8;

/// The same of what pictures are padded to multiples of.
const PAD_MAX: usize = 1 << 10;

/// Halvings of the number of frames at most.
const FRAME_HALVINGS_MAX: usize = 3;

/// Errors where a count or a width is zero or another list's length is wrong, so that the network
/// could not be built, or not be run.
pub(super) fn check(config: &ModelConfig) -> Result<(), String> {
    if !matches!(config.pixels.channels, 1 | 3) {
        let channels = config.pixels.channels;
        return Err(format!("the model takes pictures of {channels} channels: 1 or 3 are known"));
    }
    if config.preprocess.size == Some(0) {
        return Err("the model's `preprocess.size` is 0: an image has pixels".into());
    }
    check_quantizer(&config.quantizer)?;
    match &config.architecture {
        Architecture::Onnx(_) => Err("a model in ONNX files runs in ONNX Runtime alone".into()),
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
            check_vqgan(c)?;
            check_frames(c, config.quantizer.dim)?;
            check_around(c, config.quantizer.dim)
        }
        Architecture::Maskgit(c) | Architecture::VqganPlus(c) => {
            widths("widths", &c.widths, c.res_blocks, c.ch)
        }
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
            [&c.encoder, &c.decoder].into_iter().try_for_each(transformer)
        }
        Architecture::Titok(c) => check_titok(c, &config.quantizer),
        Architecture::Unitok(c) => check_unitok(c, &config.quantizer),
    }
}

fn transformer(t: &TransformerConfig) -> Result<(), String> {
    let names = ["dim", "heads", "head_dim", "mlp_dim"];
    let sizes = [t.dim, t.heads, t.head_dim, t.mlp_dim];
    positive(&names.into_iter().zip(sizes).collect::<Vec<_>>())
}

fn check_unitok(c: &UnitokConfig, q: &QuantizerConfig) -> Result<(), String> {
    levels("stages", c.stages.len())?;
    positive(&[
        ("stem", c.stem),
        ("quant_hidden", c.quant_hidden),
        ("post_quant_hidden", c.post_quant_hidden),
    ])?;
    for stage in &c.stages {
        let blocks = stage.encoder_blocks.min(stage.decoder_blocks);
        positive(&[("width", stage.width), ("hidden", stage.hidden), ("blocks", blocks)])?;
    }
    for t in [&c.encoder, &c.decoder] {
        transformer(t)?;
        if t.heads.checked_mul(t.head_dim) != Some(t.dim) || t.dim <= q.dim || t.dim % q.dim != 0 {
            return Err(format!(
                "{} heads of width {} in a transformer of width {}, and codes of {}: it is as wide as \
                 its heads together, and several times as wide as the codes",
                t.heads, t.head_dim, t.dim, q.dim
            ));
        }
    }
    Ok(())
}

fn check_titok(c: &TitokConfig, q: &QuantizerConfig) -> Result<(), String> {
    let [[ph, pw], [gh, gw]] = [c.patch, c.grid];
    positive(&[("patch", ph.min(pw)), ("grid", gh.min(gw)), ("latents", c.latents)])?;
    for t in [&c.encoder, &c.decoder] {
        transformer(t)?;
        if t.heads.checked_mul(t.head_dim) != Some(t.dim) {
            return Err(format!(
                "{} heads of width {} in a transformer of width {}",
                t.heads, t.head_dim, t.dim
            ));
        }
    }
    if q.depth > 1 || q.scales.is_some() {
        return Err("a row of latent tokens has one level of codes".into());
    }
    let Some(pixels) = c.pixels.as_ref().filter(|_| c.parts.decoder()) else { return Ok(()) };
    positive(&[("hidden", pixels.hidden), ("codes", pixels.codes), ("dim", pixels.dim)])?;
    let resnets = &pixels.resnets;
    widths("the widths of `pixels`", &resnets.widths, resnets.res_blocks, resnets.ch)?;
    // It doubles the patches as often as they have pixels to fill.
    let side = 1usize << (resnets.widths.len() - 1);
    match [ph, pw] == [side; 2] {
        true => Ok(()),
        false => Err(format!("patches of {ph}x{pw} pixels and a decoder of {side}x{side}")),
    }
}

fn check_vqgan(c: &VqganConfig) -> Result<(), String> {
    positive(&[("ch", c.ch), ("z_channels", c.z_channels)])?;
    let own = c.decoder();
    widths("widths", &c.widths, c.res_blocks.max(usize::from(!c.parts.encoder())), c.ch)?;
    same_length(&c.widths, &c.attention)?;
    check_variant(c)?;
    let first = own.widths.last().copied().unwrap_or(0);
    if !c.parts.decoder() {
        return Ok(());
    }
    widths("the decoder's widths", &own.widths, own.blocks, first)?;
    same_length(&own.widths, &own.attention)?;
    blocks("the decoder's blocks", &own.blocks_by_level, own.widths.len())?;
    if own.spatial_norm == Some(0) {
        return Err("the decoder's `spatial_norm` has 0 groups".into());
    }
    match c.parts == Parts::Both && own.widths.len() != c.widths.len() {
        true => Err(format!(
            "the encoder has {} levels and the decoder {}: they must be as many",
            c.widths.len(),
            own.widths.len()
        )),
        false => Ok(()),
    }
}

/// The layers over frames of a decoder take codes, and latents made of them.
fn check_frames(c: &VqganConfig, dim: usize) -> Result<(), String> {
    match c.variant.frames.is_some() && c.z_channels != dim {
        true => Err(format!(
            "codes of length {dim} and latents of {} channels: layers over frames take both",
            c.z_channels
        )),
        false => Ok(()),
    }
}

/// Without convolutions around the quantizer, latents are what it takes and gives.
fn check_around(c: &VqganConfig, dim: usize) -> Result<(), String> {
    match c.variant.around == Some(0) && (c.z_channels != dim || c.variant.frames.is_some()) {
        true => Err(format!(
            "codes of length {dim} and latents of {} channels, and no convolution between them",
            c.z_channels
        )),
        false => Ok(()),
    }
}

/// What a family does otherwise than taming.
fn check_variant(c: &VqganConfig) -> Result<(), String> {
    let VqganVariant { patch, halvings, pad, around, frames, .. } = c.variant;
    blocks("the encoder's blocks", &c.variant.blocks, c.widths.len())?;
    for (name, side, most) in [("patch", patch, PATCH_MAX), ("pad", pad, PAD_MAX)] {
        if let Some(side) = side.filter(|side| !side.is_power_of_two() || *side > most) {
            return Err(format!(
                "the model's `{name}` is {side}; it must be a power of two up to {most}"
            ));
        }
    }
    if around.is_some_and(|side| !matches!(side, 0 | 1 | 3)) {
        return Err(
            "the convolutions around the quantizer have windows of 1 or 3 pixels a side".into()
        );
    }
    let levels = if c.parts.encoder() { c.widths.len() } else { c.decoder().widths.len() };
    if halvings.is_some_and(|halvings| halvings >= levels) {
        return Err(format!("{levels} levels have room for fewer than {levels} halvings"));
    }
    if pad.is_some_and(|pad| pad < c.factor()) {
        return Err(format!("pictures padded to less than a token's {} pixels", c.factor()));
    }
    match frames {
        Some(FramesConfig { halvings, .. }) if !(1..=FRAME_HALVINGS_MAX).contains(&halvings) => {
            Err(format!(
                "{halvings} halvings of the number of frames: there must be 1 to \
                 {FRAME_HALVINGS_MAX}"
            ))
        }
        _ => Ok(()),
    }
}

/// Residual blocks by level, where they are said so.
fn blocks(name: &str, blocks: &[usize], levels: usize) -> Result<(), String> {
    match blocks.is_empty() || (blocks.len() == levels && !blocks.contains(&0)) {
        true => Ok(()),
        false => Err(format!("{name} are {blocks:?} for {levels} levels, each of which has one")),
    }
}

fn check_quantizer(q: &QuantizerConfig) -> Result<(), String> {
    positive(&[("codes", q.codes), ("dim", q.dim)])?;
    match q.rule {
        QuantizerRule::Sign | QuantizerRule::SignHigh
            if q.dim > BITS_MAX || q.codes != if q.values() > 1 { 2 } else { 1 << q.dim } =>
        {
            Err(format!(
                "{} codes of {} bits: tokens have {BITS_MAX} bits at most, numbered up to \
                 {NUMBERED_BITS_MAX} of them and listed beyond",
                q.codes, q.dim
            ))
        }
        QuantizerRule::Sign | QuantizerRule::SignHigh => Ok(()),
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
mod tests;
