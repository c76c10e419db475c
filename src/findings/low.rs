//! Owns which images show hardly anything, and what they lack. Must not know: how features come about.

use super::features::{FAR_BOX, Features};
use super::images::{ImageSize, Images};
use super::look::Look;
use super::result::LowInformation;

/// Lightness below which a picture counts as dark, and a quarter of that as black.
const DARK: f32 = 30.0;
const BLACK: f32 = 8.0;
/// Lightness above which it counts as overexposed.
const LIGHT: f32 = 225.0;
/// Lightness of a page that is white, or black.
const PAGE: [f32; 2] = [20.0, 235.0];
/// How far the colours of blocks reach where there is one colour, by how surely the codes say so, and
/// how even the codes are then.
const REACH: [f32; 3] = [20.0, 40.0, 100.0];
const EVEN: [f32; 3] = [0.8, 0.6, 0.75];
/// The word for one colour.
const CONSTANT: &str = "constant";
/// Tokens of a side that waver where there is one colour.
const WAVERING: f32 = 0.8;
/// How even the codes of a set of skies are, in which only wholly even ones tell one colour.
const SMOOTH: f32 = 0.6;
/// The least share of a set by which it is called smooth.
const SHARE: usize = 10;
/// How even a grey page is around the small thing on it.
const PAGE_EVEN: f32 = 0.85;
/// Slopes that say so alone, and those that do where the codes change in one direction.
const SLOPE: [f32; 2] = [0.93, 0.8];
const STRIPY: f32 = 0.75;
/// Share of a side that bars take at least.
const BARS: f32 = 0.2;
/// Tokens below which nothing is said of their number.
const TOKENS_MIN: f32 = 16.0;

/// The images of a set that show hardly anything.
#[derive(Debug, Default)]
pub(super) struct Low {
    /// With their places, in their order.
    pub found: Vec<(usize, LowInformation)>,
    /// Places of those whose codes are of one colour, in their order. None in a set of skies: there an
    /// even sky has the same codes, and copies of it are copies.
    plain: Vec<usize>,
}

impl Low {
    /// Whether an image is named here and its codes say that it is of one colour: many of these are
    /// one finding, and no copies of each other.
    pub(super) fn is_plain(&self, at: usize) -> bool {
        self.plain.binary_search(&at).is_ok()
    }
}

/// What is usual among the images of a set that aren't of one colour: by it blur is judged, and few
/// codes are told from what all have.
#[derive(Debug, Clone, Copy)]
struct Usual {
    /// Whether most are nearly as even as one colour.
    smooth: bool,
    unique_codes: f32,
    quantization_error: f32,
    darkest: f32,
    lightest: f32,
    page_luma: f32,
    page_even: f32,
}

impl Usual {
    fn of(images: &Images) -> Usual {
        let looks = || images.looks.iter().map(|look| &look.features);
        let even = |seen: &Features| if is_even(seen) { f32::NAN } else { seen.even };
        let others = looks().filter(|seen| !is_even(seen)).count();
        let smooth = others * SHARE >= images.looks.len() && middle(looks().map(even)) >= SMOOTH;
        let of = |value: fn(&Features) -> f32| {
            let other = |seen: &Features| if plain(seen, smooth) { f32::NAN } else { value(seen) };
            middle(looks().map(other))
        };
        let error = |(seen, size): (&Features, &ImageSize)| match plain(seen, smooth) {
            true => f32::NAN,
            false => size.quantization_error,
        };
        Usual {
            smooth,
            unique_codes: of(|seen| seen.unique_codes),
            quantization_error: middle(looks().zip(images.sizes.iter()).map(error)),
            darkest: of(|seen| seen.darkest),
            lightest: of(|seen| seen.lightest),
            page_luma: of(|seen| seen.page_luma),
            page_even: of(|seen| seen.page_even),
        }
    }

    /// Whether most images of the set are like that: drawings on paper, stars, single digits.
    fn is(self, reason: &str) -> bool {
        match reason {
            "dark" => self.lightest <= 2.0 * DARK,
            "overexposed" => self.darkest >= 2.0 * LIGHT - 255.0,
            "letterbox" => is_empty(self.page_luma) || self.page_even >= PAGE_EVEN,
            _ => false,
        }
    }
}

/// Whether an image shows nothing that tells it from others alike: one colour, darkness, glare. Says so
/// by itself, so that it means the same in every set.
pub(super) fn blank(look: &Look) -> bool {
    let seen = &look.features;
    is_even(seen) || lightness(seen).is_some() || flat(seen, seen.tokens.sqrt()).is_some()
}

/// Whether its codes are so few or so even that an equal grid says nothing of equal images. A picture
/// has no say, so that it is the same with and without one.
pub(super) fn few_codes(look: &Look) -> bool {
    let seen = &look.features;
    let few = seen.unique_codes <= seen.tokens.sqrt() / 2.0;
    is_even(seen) || (few && seen.tokens >= TOKENS_MIN)
}

/// Whether the codes are those of one colour but for a few that waver.
fn is_even(seen: &Features) -> bool {
    seen.tokens >= TOKENS_MIN && seen.even >= 1.0 - WAVERING / seen.tokens.sqrt()
}

/// The same in a set.
fn plain(seen: &Features, smooth: bool) -> bool {
    is_even(seen) && (!smooth || seen.even >= 1.0)
}

/// Whether a picture is black, dark or overexposed, and how sure that is.
fn lightness(seen: &Features) -> Option<(&'static str, f32)> {
    let few = seen.tokens < TOKENS_MIN || seen.unique_codes <= seen.tokens.sqrt();
    if seen.lightest <= BLACK {
        Some((CONSTANT, 1.0))
    } else if seen.lightest <= DARK {
        Some(("dark", 1.0 - seen.lightest / (2.0 * DARK)))
    } else if seen.darkest >= LIGHT && few {
        Some(("overexposed", 1.0 - (255.0 - seen.darkest) / (2.0 * (255.0 - LIGHT))))
    } else {
        None
    }
}

/// Whether an image is of one colour or nearly so, and how sure that is; `few` codes are what such an
/// image has at most.
fn flat(seen: &Features, few: f32) -> Option<(&'static str, f32)> {
    let codes = seen.unique_codes;
    let known = seen.tokens >= TOKENS_MIN;
    if !seen.is_seen() {
        let sure = 1.0 - (codes - 1.0) / few.max(1.0);
        return (known && codes <= few / 2.0).then_some((CONSTANT, sure));
    }
    let sure = 1.0 - seen.reach / 255.0;
    if !known {
        return (seen.reach <= REACH[0]).then_some((CONSTANT, sure));
    }
    // Stripes and textures blur into one colour, but codes tell most of them.
    let even = EVEN.map(|least| seen.even.is_nan() || seen.even >= least);
    if page(seen).is_some() {
        None
    } else if codes <= few / 2.0 && seen.reach <= REACH[0] {
        Some((if even[0] { CONSTANT } else { "near-constant" }, sure))
    } else if (codes <= few && seen.reach <= REACH[1] && even[1])
        || (codes <= 0.75 * few && seen.reach <= REACH[2] && even[2])
    {
        Some(("near-constant", sure))
    } else {
        None
    }
}

/// How sure it is that an image is a small thing on an empty page: white, black, or of one grey.
fn page(seen: &Features) -> Option<f32> {
    let small = seen.far_share > 0.0 && seen.far_share <= 0.12 && seen.far_box <= FAR_BOX;
    let codes = seen.unique_codes <= 2.0 * seen.tokens.sqrt();
    let empty = is_empty(seen.page_luma) || seen.page_even >= PAGE_EVEN;
    (empty && small && codes && seen.page_share >= 0.8).then_some(seen.page_share)
}

fn is_empty(page_luma: f32) -> bool {
    page_luma <= PAGE[0] || page_luma >= PAGE[1]
}

/// What an image lacks, and how sure that is.
fn judge(seen: &Features, error: f32, usual: Usual) -> Option<(&'static str, f32)> {
    let few = seen.tokens.sqrt().min((usual.unique_codes / 2.0).max(2.0));
    let unusual = |found: &(&'static str, f32)| !usual.is(found.0);
    let small = page(seen).map(|sure| ("letterbox", sure)).filter(unusual);
    let one = plain(seen, usual.smooth) && (seen.even >= 1.0 || small.is_none());
    let sure = if seen.is_seen() { 1.0 - seen.reach / 255.0 } else { seen.even };
    lightness(seen)
        .filter(unusual)
        // What is usual says nothing where one colour is.
        .or_else(|| one.then_some((CONSTANT, sure)))
        // Of skies and fogs nearly one colour is usual.
        .or_else(|| flat(seen, few).filter(|_| !usual.smooth))
        .or(small)
        .or_else(|| smooth(seen, error, few, usual))
}

/// Whether a picture lies between bars, is a gradient or blurred, and how sure that is.
fn smooth(seen: &Features, error: f32, few: f32, usual: Usual) -> Option<(&'static str, f32)> {
    if !seen.is_seen() {
        return None;
    }
    if seen.bars >= BARS {
        return Some(("letterbox", 0.5 + seen.bars / 2.0));
    }
    let few_codes = seen.tokens < TOKENS_MIN || seen.unique_codes <= 2.0 * few;
    if (seen.slope >= SLOPE[0] && few_codes) || (seen.slope >= SLOPE[1] && seen.stripy >= STRIPY) {
        return Some(("gradient", seen.slope));
    }
    // Blur alone would name skies and fogs: it must be quantized better than others, with fewer codes.
    let smooth =
        error <= 0.4 * usual.quantization_error && seen.unique_codes <= 0.75 * usual.unique_codes;
    (seen.sharpness <= 0.2 && smooth).then_some(("blurred", 1.0 - 2.0 * seen.sharpness))
}

/// All images that show hardly anything.
pub(super) fn find(images: &Images) -> Low {
    let usual = Usual::of(images);
    let mut low = Low::default();
    for (at, (look, size)) in images.looks.iter().zip(images.sizes.iter()).enumerate() {
        let seen = &look.features;
        let Some((reason, score)) = judge(seen, size.quantization_error, usual) else { continue };
        if is_even(seen) && !usual.smooth && reason != "letterbox" {
            low.plain.push(at);
        }
        let (key, score) = (images.keys.get(at).to_string(), f64::from(score.clamp(0.0, 1.0)));
        low.found.push((at, LowInformation { key, reason, score }));
    }
    low
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
