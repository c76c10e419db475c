//! Owns small pictures, by which images are compared: how one is made of a picture of any size. Must
//! not know: other images.

use bytemuck::Zeroable;

use super::picture::Picture;

/// Points a side of a thumbnail's brightness.
pub(super) const SIDE: usize = 16;
/// Points a side of each of its two colour planes.
pub(super) const COLOUR_SIDE: usize = 8;

/// A small picture: brightness, then two planes of colour, which are 128 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Thumbnail {
    pub luma: [u8; SIDE * SIDE],
    pub colour: [[u8; COLOUR_SIDE * COLOUR_SIDE]; 2],
}

impl Thumbnail {
    /// Of a picture of any size; its points are means of what they cover.
    pub(super) fn of(picture: &Picture) -> Thumbnail {
        let across = Shares::of(picture.width);
        let down = Shares::of(picture.height);
        let mut sums = [[0.0f32; SIDE * SIDE]; 3];
        for (y, line) in picture.rgb.chunks_exact(3 * picture.width.max(1)).enumerate() {
            let mut means = [[0.0f32; SIDE]; 3];
            for (x, (range, weights)) in across.each() {
                for (pixel, weight) in line[3 * range.start..].chunks_exact(3).zip(weights) {
                    for (means, &value) in means.iter_mut().zip(pixel) {
                        means[x] += weight * f32::from(value);
                    }
                }
            }
            for (to, weight) in down.that_cover(y) {
                for (sums, means) in sums.iter_mut().zip(&means) {
                    let sums = &mut sums[to * SIDE..(to + 1) * SIDE];
                    sums.iter_mut().zip(means).for_each(|(sum, mean)| *sum += weight * mean);
                }
            }
        }
        Thumbnail::of_means(&sums)
    }

    fn of_means([red, green, blue]: &[[f32; SIDE * SIDE]; 3]) -> Thumbnail {
        let mut thumbnail = Thumbnail::zeroed();
        let luma = |at: usize| 0.299 * red[at] + 0.587 * green[at] + 0.114 * blue[at];
        for (at, point) in thumbnail.luma.iter_mut().enumerate() {
            *point = luma(at).round() as u8;
        }
        for at in 0..COLOUR_SIDE * COLOUR_SIDE {
            let first = at / COLOUR_SIDE * 2 * SIDE + at % COLOUR_SIDE * 2;
            let four = [first, first + 1, first + SIDE, first + SIDE + 1];
            let mean = |of: &dyn Fn(usize) -> f32| four.iter().map(|&at| of(at)).sum::<f32>() / 4.0;
            let bright = mean(&luma);
            let colours =
                [0.564 * (mean(&|at| blue[at]) - bright), 0.713 * (mean(&|at| red[at]) - bright)];
            for (plane, colour) in thumbnail.colour.iter_mut().zip(colours) {
                plane[at] = (128.0 + colour).round() as u8;
            }
        }
        thumbnail
    }

    /// The mean squared distance of its points' brightness to their mean.
    pub(super) fn contrast(&self) -> f32 {
        let points = self.luma.map(f32::from);
        let mean = points.iter().sum::<f32>() / points.len() as f32;
        points.iter().map(|point| (point - mean).powi(2)).sum::<f32>() / points.len() as f32
    }
}

/// For each of [`SIDE`] points on a line of pixels, the share that each pixel has in it.
struct Shares(Vec<(std::ops::Range<usize>, Vec<f32>)>);

impl Shares {
    fn of(pixels: usize) -> Shares {
        let each = pixels as f32 / SIDE as f32;
        let point = |at: usize| {
            let (from, to) = (at as f32 * each, (at + 1) as f32 * each);
            let range = from as usize..(to.ceil() as usize).min(pixels);
            let share = |pixel| (to.min(pixel as f32 + 1.0) - from.max(pixel as f32)) / each;
            let weights = range.clone().map(share).collect();
            (range, weights)
        };
        Shares((0..SIDE).map(point).collect())
    }

    fn each(&self) -> impl Iterator<Item = (usize, &(std::ops::Range<usize>, Vec<f32>))> {
        self.0.iter().enumerate()
    }

    fn that_cover(&self, pixel: usize) -> impl Iterator<Item = (usize, f32)> {
        let covering = self.each().filter(move |(_, (range, _))| range.contains(&pixel));
        covering.map(move |(to, (range, weights))| (to, weights[pixel - range.start]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::testing::picture;

    #[test]
    fn points_are_means_of_what_they_cover_at_any_size() {
        let halves = |width: usize, height: usize| {
            let grey = move |x: u8, _| if usize::from(x) < width / 2 { [40; 3] } else { [200; 3] };
            Thumbnail::of(&picture(width, height, grey))
        };
        for (width, height) in [(16, 16), (2, 1), (64, 8), (250, 33), (48, 200)] {
            let small = halves(width, height);
            let line = |at: usize| [small.luma[at * SIDE + 7], small.luma[at * SIDE + 8]];
            assert_eq!([line(0), line(15)], [[40, 200]; 2], "{width} x {height}");
            assert_eq!(small.colour, [[128; 64]; 2], "{width} x {height}");
        }
        // Point 7 covers pixels from 7.44 to 8.5.
        assert_eq!(halves(17, 17).luma[6..9], [40, 115, 200]);
    }

    #[test]
    fn colours_are_told_apart_and_nothing_has_no_contrast() {
        let red = Thumbnail::of(&picture(8, 8, |_, _| [255, 0, 0]));
        assert_eq!((red.luma[0], red.colour[0][0], red.colour[1][0]), (76, 85, 255));
        assert_eq!(red.contrast(), 0.0);
        let stripes =
            Thumbnail::of(&picture(16, 16, |x, _| [if x % 2 == 0 { 90 } else { 110 }; 3]));
        assert_eq!(stripes.contrast(), 100.0);
        assert_eq!(Thumbnail::of(&Picture::default()).contrast(), 0.0);
    }
}
