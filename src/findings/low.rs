//! Owns which images show hardly anything, and what they lack. Must not know: how features come about.

use super::features::Features;
use super::images::Images;
use super::look::Look;
use super::result::LowInformation;

/// Lightness below which a picture counts as dark, and a quarter of that as black.
const DARK: f32 = 30.0;
const BLACK: f32 = 8.0;
/// Lightness above which it counts as overexposed.
const LIGHT: f32 = 225.0;
/// Lightness of a page that is white, or black.
const PAGE: [f32; 2] = [20.0, 235.0];
/// How far the colours of blocks reach where there is one colour, by how surely the codes say so.
const REACH: [f32; 3] = [20.0, 40.0, 100.0];
/// The word for one colour.
const CONSTANT: &str = "constant";
/// How far the blocks of a picture of one colour reach, and its codes, whatever the set is like.
const ONE_COLOUR: (f32, f32) = (8.0, 2.0);
/// Tokens below which nothing is said of their number.
const TOKENS_MIN: f32 = 16.0;

/// What is usual in a set, by which blur is judged and few codes are told from what all have.
#[derive(Debug, Clone, Copy)]
struct Usual {
    unique_codes: f32,
    quantization_error: f32,
    darkest: f32,
    lightest: f32,
    page_luma: f32,
}

impl Usual {
    /// Whether most images of the set are like that: drawings on paper, stars, single digits.
    fn is(self, reason: &str) -> bool {
        match reason {
            "dark" => self.lightest <= 2.0 * DARK,
            "overexposed" => self.darkest >= 2.0 * LIGHT - 255.0,
            "letterbox" => is_empty(self.page_luma),
            _ => false,
        }
    }
}

/// Whether an image shows nothing that tells it from others alike: one colour, darkness, glare. Says so
/// by itself, so that it means the same in every set.
pub(super) fn blank(look: &Look) -> bool {
    let few = look.features.tokens.sqrt();
    flat(&look.features, few).is_some()
}

/// What an image of one lightness or colour lacks, and how sure that is; `few` codes are what such an
/// image has at most.
fn flat(seen: &Features, few: f32) -> Option<(&'static str, f32)> {
    let codes = seen.unique_codes;
    let known = seen.tokens >= TOKENS_MIN;
    if !seen.is_seen() {
        let sure = 1.0 - (codes - 1.0) / few.max(1.0);
        return (known && codes <= few / 2.0).then_some((CONSTANT, sure));
    }
    if seen.lightest <= BLACK {
        return Some((CONSTANT, 1.0));
    }
    if seen.lightest <= DARK {
        return Some(("dark", 1.0 - seen.lightest / (2.0 * DARK)));
    }
    if seen.darkest >= LIGHT && (!known || codes <= seen.tokens.sqrt()) {
        return Some(("overexposed", 1.0 - (255.0 - seen.darkest) / (2.0 * (255.0 - LIGHT))));
    }
    if !known {
        return (seen.reach <= REACH[0]).then_some((CONSTANT, 1.0 - seen.reach / 255.0));
    }
    let sure = 1.0 - seen.reach / 255.0;
    if page(seen).is_some() {
        None
    } else if codes <= few / 2.0 && seen.reach <= REACH[0] {
        Some((CONSTANT, sure))
    } else if (codes <= few && seen.reach <= REACH[1])
        || (codes <= 0.75 * few && seen.reach <= REACH[2])
    {
        Some(("near-constant", sure))
    } else {
        None
    }
}

/// How sure it is that an image is a small thing on an empty page.
fn page(seen: &Features) -> Option<f32> {
    let small = seen.far_share > 0.0 && seen.far_share <= 0.12 && seen.far_box <= 0.16;
    let codes = seen.unique_codes <= 2.0 * seen.tokens.sqrt();
    (is_empty(seen.page_luma) && small && codes && seen.page_share >= 0.8)
        .then_some(seen.page_share)
}

fn is_empty(page_luma: f32) -> bool {
    page_luma <= PAGE[0] || page_luma >= PAGE[1]
}

/// What an image lacks, and how sure that is.
fn judge(seen: &Features, error: f32, usual: Usual) -> Option<(&'static str, f32)> {
    // What is usual says nothing where one colour is.
    if seen.is_seen() && seen.reach <= ONE_COLOUR.0 && seen.unique_codes <= ONE_COLOUR.1 {
        return Some((CONSTANT, 1.0 - seen.reach / 255.0));
    }
    let few = seen.tokens.sqrt().min((usual.unique_codes / 2.0).max(2.0));
    let found = flat(seen, few).or_else(|| Some(("letterbox", page(seen)?)));
    if let Some(found) = found.filter(|(reason, _)| !usual.is(reason)) {
        return Some(found);
    }
    if !seen.is_seen() {
        return None;
    }
    if seen.bars >= 0.25 {
        return Some(("letterbox", 0.5 + seen.bars / 2.0));
    }
    if seen.slope >= 0.93 && (seen.tokens < TOKENS_MIN || seen.unique_codes <= 2.0 * few) {
        return Some(("gradient", seen.slope));
    }
    // Blur alone would name skies and fogs: it must be quantized better than others, with fewer codes.
    let smooth =
        error <= 0.4 * usual.quantization_error && seen.unique_codes <= 0.75 * usual.unique_codes;
    (seen.sharpness <= 0.2 && smooth).then_some(("blurred", 1.0 - 2.0 * seen.sharpness))
}

/// All images that show hardly anything, with their places, in their order.
pub(super) fn find(images: &Images) -> Vec<(usize, LowInformation)> {
    let feature =
        |of: fn(&Features) -> f32| middle(images.looks.iter().map(|look| of(&look.features)));
    let usual = Usual {
        unique_codes: feature(|seen| seen.unique_codes),
        darkest: feature(|seen| seen.darkest),
        lightest: feature(|seen| seen.lightest),
        page_luma: feature(|seen| seen.page_luma),
        quantization_error: middle(images.sizes.iter().map(|size| size.quantization_error)),
    };
    let found = images.looks.iter().zip(images.sizes.iter()).enumerate();
    let found = found.filter_map(|(at, (look, size))| {
        let (reason, score) = judge(&look.features, size.quantization_error, usual)?;
        let (key, score) = (images.keys.get(at).to_string(), f64::from(score.clamp(0.0, 1.0)));
        Some((at, LowInformation { key, reason, score }))
    });
    found.collect()
}

/// The middle of what is known, from a sample of many; NaN of none.
fn middle(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let step = values.len() / 1_000_000 + 1;
    let mut known: Vec<f32> = values.step_by(step).filter(|value| value.is_finite()).collect();
    let at = known.len() / 2;
    match known.is_empty() {
        true => f32::NAN,
        false => *known.select_nth_unstable_by(at, f32::total_cmp).1,
    }
}

#[cfg(test)]
mod tests;
