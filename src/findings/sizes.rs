//! Owns images of odd sizes, shapes and colour modes, and those that were enlarged for the model. Must
//! not know: what they show.

use std::collections::BTreeMap;

use serde::Serialize;

use super::images::{ImageSize, Images, MODES};

/// Images of one kind that are listed.
const LISTED: usize = 1000;
/// Octaves that a side, or a ratio of sides, is from the usual where it is odd, at least.
const ODD_SIDE: f32 = 2.0;
const ODD_RATIO: f32 = 1.585;
/// The same in units of what is usual: the distance of the quartiles.
const QUARTILES: f32 = 3.0;
/// By how much an image was enlarged, at least.
const ENLARGED: f32 = 1.1;
/// Share of the images that a mode has which few have, and that another has then.
const FEW: f64 = 0.01;
const MOST: f64 = 0.9;

/// What sizes and modes tell.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Sizes {
    /// Images whose size is known.
    pub known: u64,
    /// Those of odd size or shape.
    pub odd: Listed,
    /// Those that are smaller than the model's pictures, so that they were enlarged; the score is by how
    /// much.
    pub upscaled: Listed,
    /// Images by colour mode, as Pillow calls it; `other` for further ones.
    pub modes: BTreeMap<String, u64>,
    /// Those of modes that few have, where nearly all have another.
    pub few_modes: Listed,
}

/// Images of one kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Listed {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub list: Vec<OddImage>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OddImage {
    /// Its key.
    pub key: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `small`, `large`, `wide`, `tall`, `upscaled`, or its colour mode.
    pub reason: &'static str,
    /// How far it is from what is usual, in octaves; by how much it was enlarged; 1 for modes.
    pub score: f64,
}

impl Sizes {
    /// Whether there is an image to look into.
    pub(crate) fn any(&self) -> bool {
        self.odd.count + self.upscaled.count + self.few_modes.count > 0
    }
}

impl Listed {
    fn take(&mut self, images: &Images, at: usize, reason: &'static str, score: f32) {
        self.count += 1;
        if self.list.len() < LISTED {
            let ImageSize { width, height, .. } = images.sizes[at];
            let (key, score) = (images.keys.get(at).to_string(), f64::from(score));
            self.list.push(OddImage { key, width, height, reason, score });
        }
    }
}

/// Looks at all images; `model` is the side of the model's pictures, where it has one.
pub(super) fn find(images: &Images, model: Option<u32>) -> Sizes {
    let mut found = Sizes::default();
    let usual = [side, ratio].map(|of| Usual::of(&images.sizes, of));
    let mut modes = [0_u64; MODES.len() + 1];
    for (at, size) in images.sizes.iter().enumerate() {
        modes[(size.mode as usize).min(MODES.len())] += 1;
        if !size.is_known() {
            continue;
        }
        found.known += 1;
        if let Some((reason, score)) = odd(size, usual) {
            found.odd.take(images, at, reason, score);
        }
        let shown = size.shown_height.min(size.shown_width);
        if let Some(model) = model.filter(|_| shown > 0) {
            let factor = model as f32 / shown as f32;
            if factor >= ENLARGED {
                found.upscaled.take(images, at, "upscaled", factor);
            }
        }
    }
    let told: u64 = modes[..MODES.len()].iter().sum();
    let few = |mode: usize| (modes[mode] as f64) <= FEW * told as f64;
    if told > 0 && modes[..MODES.len()].iter().any(|&images| images as f64 >= MOST * told as f64) {
        let rare = images
            .sizes
            .iter()
            .enumerate()
            .filter(|(_, size)| (size.mode as usize) < MODES.len() && few(size.mode as usize));
        rare.for_each(|(at, size)| {
            found.few_modes.take(images, at, MODES[size.mode as usize], 1.0);
        });
    }
    if told > 0 {
        let name = |mode: usize| MODES.get(mode).copied().unwrap_or("other").to_string();
        let there = modes.iter().enumerate().filter(|(_, images)| **images > 0);
        found.modes = there.map(|(mode, images)| (name(mode), *images)).collect();
    }
    found
}

/// What is odd about a size, and by how many octaves.
fn odd(size: &ImageSize, [sides, ratios]: [Usual; 2]) -> Option<(&'static str, f32)> {
    let off = side(size) - sides.middle;
    if off.abs() > ODD_SIDE.max(QUARTILES * sides.quartiles) {
        return Some((if off < 0.0 { "small" } else { "large" }, off.abs()));
    }
    let off = ratio(size) - ratios.middle;
    let odd = off.abs() > ODD_RATIO.max(QUARTILES * ratios.quartiles);
    odd.then_some((if off < 0.0 { "tall" } else { "wide" }, off.abs()))
}

/// Octaves of the side of a square of the same area.
fn side(size: &ImageSize) -> f32 {
    (size.width as f32 * size.height as f32).sqrt().log2()
}

/// Octaves of width over height.
fn ratio(size: &ImageSize) -> f32 {
    (size.width as f32 / size.height as f32).log2()
}

/// What is usual.
#[derive(Debug, Clone, Copy)]
struct Usual {
    middle: f32,
    /// How far the quartiles are from each other.
    quartiles: f32,
}

impl Usual {
    fn of(sizes: &[ImageSize], value: fn(&ImageSize) -> f32) -> Usual {
        let step = sizes.len() / 1_000_000 + 1;
        let known = sizes.iter().step_by(step).filter(|size| size.is_known());
        let mut values: Vec<f32> = known.map(value).collect();
        values.sort_unstable_by(f32::total_cmp);
        let at = |quarter: usize| values.get(values.len() * quarter / 4).copied().unwrap_or(0.0);
        Usual { middle: at(2), quartiles: at(3) - at(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> ImageSize {
        ImageSize { width, height, ..ImageSize::default() }
    }

    #[test]
    fn sizes_and_shapes_are_odd_by_what_is_usual() {
        let reason = |usual: &[ImageSize], odd: ImageSize| {
            let usual = [side, ratio].map(|of| Usual::of(usual, of));
            super::odd(&odd, usual).map(|(reason, _)| reason)
        };
        let even = vec![size(500, 375); 50];
        let cases = [
            (size(500, 375), None),
            (size(375, 500), None),
            (size(140, 140), None),
            (size(60, 60), Some("small")),
            (size(4000, 3000), Some("large")),
            (size(1200, 200), Some("wide")),
            (size(100, 800), Some("tall")),
        ];
        for (odd, due) in cases {
            assert_eq!(reason(&even, odd), due, "{odd:?}");
        }
        // Where sizes are of all kinds, none is odd.
        let motley: Vec<ImageSize> = (0..64).map(|i| size(32 << (i % 8), 32 << (i / 8))).collect();
        assert_eq!(reason(&motley, size(40, 40)), None);
        assert_eq!(reason(&motley, size(4000, 40)), None);
    }
}
