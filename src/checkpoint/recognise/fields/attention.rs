//! Owns where a published configuration says that attention is, which the weights must show.

use serde_json::Value;

use crate::checkpoint::recognise::families::Family;
use crate::checkpoint::recognise::published::Published;
use crate::error::Result;
use crate::model::config::VqganConfig;

/// Where attention is: the reference's loaders pass over weights that the configuration has no
/// place for, so that both must say the same.
///
/// # Errors
/// A configuration that says otherwise.
pub(super) fn check(c: &VqganConfig, published: &Published) -> Result<()> {
    let found = |on: bool| if on { "attention in the middle" } else { "none in the middle" };
    for (key, with) in [("mid_block_add_attention", true), ("no_attn_mid_block", false)] {
        if let Some((on, _)) = published.bool(key)?
            && (on == with) != c.mid_attention
            && let Some(setting) = published.find(&[key])?
        {
            return setting.other_checkpoint(found(c.mid_attention));
        }
    }
    let kind = published.find(&["attn_type"])?;
    if let Some(setting) = kind
        && (setting.value != "none") != c.mid_attention
    {
        return setting.other_checkpoint(found(c.mid_attention));
    }
    let with = |block: &Value| block.as_str().is_some_and(|word| word.starts_with("Attn"));
    if let Some(setting) = published.find(&["down_block_types"])?
        && c.parts.encoder()
        && setting.blocks()?.iter().map(with).ne(c.attention.iter().copied())
    {
        return setting.other_checkpoint(&levels(&c.attention));
    }
    if let Some(setting) = published.find(&["up_block_types"])?
        && c.parts.decoder()
    {
        let own = c.decoder().attention;
        // The decoder goes up: its first block is that of the last level.
        if setting.blocks()?.iter().rev().map(with).ne(own.iter().copied()) {
            return setting.other_checkpoint(&levels(&own));
        }
    }
    Ok(())
}

/// The levels with attention, as `attn_resolutions` says them.
///
/// # Errors
/// Other levels.
pub(super) fn check_levels(c: &VqganConfig, family: &Family, published: &Published) -> Result<()> {
    let kind = published.find(&["attn_type"])?;
    let none = kind.is_some_and(|setting| setting.value == "none");
    let stated = published.list(&["attn_resolutions"])?;
    let resolution = published.usize(&["resolution"])?;
    let (Some((places, setting)), Some((resolution, _))) = (stated, resolution) else {
        return Ok(());
    };
    // The weights are there although a lone one isn't run.
    let attention = match family.skips_lone_attention {
        true => c.decoder().attention,
        false => c.attention.clone(),
    };
    // Of wavelets, and halved by the levels before it, where those do.
    let first = resolution / c.variant.patch.unwrap_or(1).max(1);
    let halvings = c.halvings_of(attention.len()).min(63);
    let here = |level: usize| !none && places.contains(&(first >> level.min(halvings)));
    if (0..attention.len()).any(|level| here(level) != attention[level]) {
        let text = format!("{} (`resolution` is {resolution})", levels(&attention));
        return setting.other_checkpoint(&text);
    }
    Ok(())
}

/// Which levels have attention, in words.
fn levels(attention: &[bool]) -> String {
    let with: Vec<usize> = (0..attention.len()).filter(|&level| attention[level]).collect();
    match &with[..] {
        [] => format!("attention in none of the {} levels", attention.len()),
        with => format!("attention in levels {with:?} of {}", attention.len()),
    }
}
