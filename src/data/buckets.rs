//! Owns aspect buckets: the sizes that images are brought to by their aspect ratios, as users write
//! them and as a model takes them, and which of them is nearest to an image. Must not know: models,
//! how an image is resized.
//!
//! A pixel budget becomes sizes as kohya's sd-scripts (`make_bucket_resolutions`) and NovelAI's
//! aspect ratio bucketing do it: sides in steps, for each the largest other side within the area.
//! Their step is 64 pixels at 1024; here it is the smallest multiple of the model's factor that is
//! at least a sixteenth of the side, which is the same there.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::util::settings::BUCKETS;

/// Buckets at most: each has shards of its own, and a file is open for each while plans are compared.
const COUNT_MAX: usize = 128;
/// The longest side, in pixels, and the largest number in a ratio.
const SIDE_MAX: u32 = 1 << 16;
/// A budget's steps to its side at least.
const STEPS: u32 = 16;

/// Aspect buckets as a user writes them: `512x512,640x384` (width and height of each),
/// `256:4:3` (as many pixels as a square of 256 has, at about that ratio) or `256` (the same, of all
/// ratios from 1:2 to 2:1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    /// Width and height.
    Size(u32, u32),
    /// Side of a square of as many pixels, and a ratio.
    Ratio(u32, u32, u32),
    /// Side of a square of as many pixels.
    Budget(u32),
}

/// The sizes of aspect buckets, at least one, no two of one aspect ratio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSizes {
    /// Width and height of each, in pixels.
    sizes: Vec<(u32, u32)>,
}

impl Buckets {
    /// The sizes for a model whose tokens stand for `factor` pixels, vertical and horizontal.
    ///
    /// # Errors
    /// A size that is no multiple of the factor, two of one aspect ratio, too many.
    pub(crate) fn sizes(&self, factor: [usize; 2]) -> Result<BucketSizes> {
        let [down, across] = factor.map(|side| u32::try_from(side).unwrap_or(u32::MAX).max(1));
        let mut sizes = Vec::new();
        for item in &self.items {
            match *item {
                Item::Size(width, height) => sizes.push((width, height)),
                Item::Ratio(side, width, height) => {
                    let long =
                        |a: u32, b: u32| f64::from(side) * (f64::from(a) / f64::from(b)).sqrt();
                    let whole = |side: f64, factor: u32| {
                        ((side / f64::from(factor)).round() as u32).max(1).saturating_mul(factor)
                    };
                    sizes.push((
                        whole(long(width, height), across),
                        whole(long(height, width), down),
                    ));
                }
                Item::Budget(side) => sizes.extend(of_budget(side, across, down)?),
            }
        }
        let odd = |&&(width, height): &&(u32, u32)| width % across != 0 || height % down != 0;
        if let Some(&(width, height)) = sizes.iter().find(odd) {
            let (w, h) = (nearest_multiple(width, across), nearest_multiple(height, down));
            let factor =
                if across == down { across.to_string() } else { format!("{across}x{down}") };
            return Err(Error::setting(
                BUCKETS,
                format!(
                    "{width}x{height}: sides are multiples of the model's factor, {factor}; the \
                     nearest are {w}x{h}"
                ),
            ));
        }
        BucketSizes { sizes }.checked()
    }
}

/// The sizes of about `side` times `side` pixels from 1:2 to 2:1, the narrowest first.
fn of_budget(side: u32, across: u32, down: u32) -> Result<Vec<(u32, u32)>> {
    let step = |factor: u32| side.div_ceil(STEPS).div_ceil(factor).saturating_mul(factor);
    let (across, down, area) = (step(across), step(down), u64::from(side) * u64::from(side));
    let square = (side / across * across, side / down * down);
    if square.0 == 0 || square.1 == 0 {
        let text = format!("{side}: that is less than the model's factor, {}", across.max(down));
        return Err(Error::setting(BUCKETS, text));
    }
    let within = |long: u32, step: u32| (area / u64::from(long)) as u32 / step * step;
    let wide = (1..).map(|n| square.0 + n * across).map(|w| (w, within(w, down)));
    let high = (1..).map(|n| square.1 + n * down).map(|h| (within(h, across), h));
    let mut sizes: Vec<_> = high.take_while(|&(w, h)| h <= 2 * w).collect();
    sizes.reverse();
    sizes.push(square);
    sizes.extend(wide.take_while(|&(w, h)| w <= 2 * h));
    Ok(sizes)
}

fn nearest_multiple(side: u32, factor: u32) -> u32 {
    ((side + factor / 2) / factor).max(1) * factor
}

impl BucketSizes {
    /// As an output records them.
    ///
    /// # Errors
    /// A text that no output holds.
    pub(crate) fn recorded(text: &str) -> Result<BucketSizes> {
        text.parse::<Buckets>()?.sizes([1, 1])
    }

    fn checked(self) -> Result<BucketSizes> {
        let refuse = |text: String| Err(Error::setting(BUCKETS, text));
        let count = self.sizes.len();
        if count > COUNT_MAX {
            return refuse(format!("{count} sizes, where there can be {COUNT_MAX} at most"));
        }
        for (index, a) in self.sizes.iter().enumerate() {
            for b in &self.sizes[..index] {
                if a == b {
                    return refuse(format!("{}x{} comes twice; leave one of them out", a.0, a.1));
                }
                if distance(*a, *b).0 == distance(*a, *b).1 {
                    return refuse(format!(
                        "{}x{} and {}x{} have one aspect ratio, so that no image would go into the \
                         second; leave one of them out",
                        b.0, b.1, a.0, a.1
                    ));
                }
            }
        }
        Ok(self)
    }

    /// Width and height of each, in pixels.
    pub(crate) fn all(&self) -> &[(u32, u32)] {
        &self.sizes
    }

    /// The one whose aspect ratio is nearest to that of an image of this width and height, by the
    /// distance of their logarithms; of two as near the first. Exact: nothing is rounded.
    pub(crate) fn nearest(&self, image: (u32, u32)) -> (u32, u32) {
        let image = (image.0.max(1), image.1.max(1));
        let mut best = self.sizes[0];
        for &size in &self.sizes[1..] {
            let ((a, b), (c, d)) = (distance(image, size), distance(image, best));
            if u128::from(a) * u128::from(d) < u128::from(c) * u128::from(b) {
                best = size;
            }
        }
        best
    }

    /// The side of a square of as many pixels as the largest has.
    pub(crate) fn largest_side(&self) -> u32 {
        let pixels = self.sizes.iter().map(|&(w, h)| u64::from(w) * u64::from(h)).max();
        pixels.unwrap_or(1).isqrt() as u32
    }

    /// The one for images whose size isn't known.
    pub(crate) fn squarest(&self) -> (u32, u32) {
        self.nearest((1, 1))
    }
}

/// How many times one aspect ratio is the other, as a fraction of at least 1: its logarithm is the
/// distance of their logarithms.
fn distance(a: (u32, u32), b: (u32, u32)) -> (u64, u64) {
    let (x, y) = (u64::from(a.0) * u64::from(b.1), u64::from(a.1) * u64::from(b.0));
    (x.max(y), x.min(y))
}

impl FromStr for Buckets {
    type Err = Error;

    fn from_str(text: &str) -> Result<Buckets> {
        let item = |word: &str| {
            let number =
                |text: &str| text.parse().ok().filter(|side: &u32| (1..=SIDE_MAX).contains(side));
            let sides = |text: &str, between| {
                text.split_once(between).and_then(|(a, b)| Some((number(a)?, number(b)?)))
            };
            let found = match word.split_once(':') {
                Some((side, ratio)) => {
                    let ratio = sides(ratio, ':');
                    ratio.and_then(|(w, h)| Some(Item::Ratio(number(side)?, w, h)))
                }
                None if word.contains('x') => sides(word, 'x').map(|(w, h)| Item::Size(w, h)),
                None => number(word).map(Item::Budget),
            };
            found.ok_or_else(|| {
                Error::invalid(format!(
                    "no bucket {word:?}: use sizes (512x512,640x384), as many pixels as a square \
                     of a side at a ratio (256:1:1,256:4:3) or at all from 1:2 to 2:1 (256); \
                     numbers are 1 to {SIDE_MAX}"
                ))
            })
        };
        let items = text.split(',').map(|word| item(word.trim())).collect::<Result<_>>()?;
        Ok(Buckets { items })
    }
}

impl fmt::Display for BucketSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.sizes.iter().map(|(w, h)| format!("{w}x{h}")).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::settings::plain;
    use proptest::prelude::*;

    fn sizes(text: &str, factor: usize) -> Result<BucketSizes> {
        text.parse::<Buckets>()?.sizes([factor, factor])
    }

    #[test]
    fn sizes_are_what_is_written() {
        let text = |words: &str, factor| sizes(words, factor).unwrap().to_string();
        assert_eq!(text("512x512, 640x384,384x640", 16), "512x512,640x384,384x640");
        assert_eq!(text("256:1:1,256:4:3,256:16:9", 16), "256x256,288x224,336x192");
        assert_eq!(text("64", 16), "48x80,64x64,80x48");
        assert_eq!(
            text("256", 16),
            "176x352,192x336,192x320,208x304,224x288,240x272,256x256,272x240,288x224,304x208,\
             320x192,336x192,352x176"
        );
        // Steps of 64 at 1024, as SDXL's: kohya's rule, within its ratios.
        let sdxl = text("1024", 8);
        for known in ["1024x1024", "1088x960", "1152x896", "1216x832", "1280x768", "1344x768"] {
            assert!(sdxl.contains(known), "{sdxl}");
        }
        let again = BucketSizes::recorded(&sdxl).unwrap();
        assert_eq!(again.to_string(), sdxl);
    }

    #[test]
    fn what_no_image_could_go_into_is_refused() {
        for (words, reason) in [
            (
                "500x512",
                "buckets 500x512: sides are multiples of the model's factor, 16; the nearest are 496x512",
            ),
            ("32x32,32x32", "buckets 32x32 comes twice; leave one of them out"),
            ("32x16,64x32", "buckets 32x16 and 64x32 have one aspect ratio"),
            ("8", "buckets 8: that is less than the model's factor, 16"),
            ("32x", "no bucket \"32x\""),
            ("", "no bucket \"\""),
            ("32:1", "no bucket \"32:1\""),
            ("0x16", "no bucket \"0x16\""),
            ("65552x16", "no bucket \"65552x16\""),
        ] {
            let error = plain(&sizes(words, 16).unwrap_err().message());
            assert!(error.starts_with(reason), "{words}: {error}");
        }
        let many: Vec<_> = (1..=129).map(|n| format!("{}x16", 16 * n)).collect();
        let error = plain(&sizes(&many.join(","), 16).unwrap_err().message());
        assert_eq!(error, "buckets 129 sizes, where there can be 128 at most");
        sizes(&many[..128].join(","), 16).unwrap();
    }

    #[test]
    fn of_two_as_near_the_first_is_taken() {
        let both = ["64x32,32x64", "32x64,64x32"].map(|words| sizes(words, 16).unwrap());
        assert_eq!(both.map(|sizes| sizes.squarest()), [(64, 32), (32, 64)]);
        let one = sizes("64x32", 16).unwrap();
        assert_eq!(one.nearest((1, 900)), (64, 32));
    }

    proptest! {
        #[test]
        fn no_other_bucket_is_nearer(
            width in 1..20_000u32, height in 1..20_000u32, side in 32..2048u32, turned: bool,
        ) {
            let words = if turned { "64x16,16x16,16x64,48x32".into() } else { side.to_string() };
            let sizes = sizes(&words, 16).unwrap();
            let log = |(w, h): (u32, u32)| (f64::from(w) / f64::from(h)).ln();
            let far = |size| (log((width, height)) - log(size)).abs();
            let found = sizes.nearest((width, height));
            let least = sizes.all().iter().map(|&size| far(size)).fold(f64::INFINITY, f64::min);
            prop_assert!(far(found) <= least + 1e-12, "{:?} for {}x{}", found, width, height);
            prop_assert!(sizes.all().iter().all(|(w, h)| w % 16 == 0 && h % 16 == 0));
            if !turned {
                let area = u64::from(side) * u64::from(side);
                let fits = |&(w, h): &(u32, u32)| {
                    u64::from(w) * u64::from(h) <= area && w <= 2 * h && h <= 2 * w
                };
                prop_assert!(sizes.all().iter().all(fits));
            }
        }
    }
}
