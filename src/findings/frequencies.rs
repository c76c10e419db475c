//! Owns the low frequencies of thumbnails, of their windows, and of both turned. Must not know: how
//! frequencies are weighed, other images.

use super::thumbnail::{COLOUR_SIDE, SIDE, Thumbnail};

/// Frequencies a side that are kept of brightness.
const KEPT: usize = 12;
/// Numbers of an image: frequencies of brightness, then of both colour planes.
pub(super) const LEN: usize = KEPT * KEPT + 2 * COLOUR_SIDE * COLOUR_SIDE;

/// Frequencies of a thumbnail, row by row of each plane, the constant ones 0.
pub(super) type Frequencies = [f32; LEN];

/// Where each plane's frequencies begin, and how many a side there are.
const PLANES: [(usize, usize); 3] =
    [(0, KEPT), (KEPT * KEPT, COLOUR_SIDE), (KEPT * KEPT + COLOUR_SIDE * COLOUR_SIDE, COLOUR_SIDE)];

/// How an image is turned before it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Turn {
    None,
    Mirrored,
    Half,
    Left,
    Right,
}

impl Turn {
    pub(super) const ALL: [Turn; 5] =
        [Turn::None, Turn::Mirrored, Turn::Half, Turn::Left, Turn::Right];

    /// What undoes it.
    pub(super) fn back(self) -> Turn {
        match self {
            Turn::Left => Turn::Right,
            Turn::Right => Turn::Left,
            same => same,
        }
    }

    /// Turns frequencies: a mirror changes the sign of odd columns, a quarter turn swaps rows with
    /// columns and changes one's signs.
    pub(super) fn of<T: Copy + std::ops::Neg<Output = T>>(self, from: &[T; LEN]) -> [T; LEN] {
        let mut to = *from;
        for (start, side) in PLANES {
            for y in 0..side {
                for x in 0..side {
                    let (across, down) = (x % 2 == 1, y % 2 == 1);
                    let (negative, swapped) = match self {
                        Turn::None => (false, false),
                        Turn::Mirrored => (across, false),
                        Turn::Half => (across != down, false),
                        Turn::Left => (down, true),
                        Turn::Right => (across, true),
                    };
                    let at = if swapped { x * side + y } else { y * side + x };
                    let value = from[start + at];
                    to[start + y * side + x] = if negative { -value } else { value };
                }
            }
        }
        to
    }
}

/// Makes frequencies of what a window of a thumbnail shows: a matrix for each side of each plane.
#[derive(Debug, Clone)]
pub(super) struct Window {
    luma: Matrix<SIDE, KEPT>,
    colour: Matrix<COLOUR_SIDE, COLOUR_SIDE>,
}

/// Takes N points to K frequencies; both ways round, so that both sides can be summed in a row.
#[derive(Debug, Clone)]
struct Matrix<const N: usize, const K: usize> {
    down: [[f32; N]; K],
    across: [[f32; K]; N],
}

impl Window {
    /// From and to which part of a side it reaches; beyond the picture its border goes on.
    pub(super) fn new(from: f32, to: f32) -> Window {
        Window { luma: transform(from, to), colour: transform(from, to) }
    }
}

/// Takes N points of a side to the first K frequencies of those in its window.
fn transform<const N: usize, const K: usize>(from: f32, to: f32) -> Matrix<N, K> {
    let mut down = [[0.0; N]; K];
    for point in 0..N {
        let at = (from + (to - from) * (point as f32 + 0.5) / N as f32) * N as f32 - 0.5;
        let at = at.clamp(0.0, N as f32 - 1.0);
        let (below, part) = (at as usize, at.fract());
        for (frequency, row) in down.iter_mut().enumerate() {
            let angle = std::f32::consts::PI * frequency as f32 * (point as f32 + 0.5) / N as f32;
            let wave = angle.cos() * (2.0 / N as f32).sqrt();
            row[below] += wave * (1.0 - part);
            if part > 0.0 {
                row[below + 1] += wave * part;
            }
        }
    }
    let across = std::array::from_fn(|point| std::array::from_fn(|at| down[at][point]));
    Matrix { down, across }
}

/// What a window down each plane shows of a thumbnail: frequencies down, points across.
pub(super) struct Lines {
    luma: [[f32; SIDE]; KEPT],
    colour: [[[f32; COLOUR_SIDE]; COLOUR_SIDE]; 2],
}

/// Halfway to frequencies; several windows across can share it.
pub(super) fn lines(thumbnail: &Thumbnail, down: &Window) -> Lines {
    let [first, second] = &thumbnail.colour;
    Lines {
        luma: down_points(&thumbnail.luma, &down.luma.down),
        colour: [first, second].map(|plane| down_points(plane, &down.colour.down)),
    }
}

/// The frequencies of what a window across lines shows.
pub(super) fn frequencies_of_lines(lines: &Lines, across: &Window) -> Frequencies {
    let mut to = [0.0; LEN];
    let (luma, colours) = to.split_at_mut(KEPT * KEPT);
    across_lines(&lines.luma, &across.luma.across, luma);
    for (lines, to) in lines.colour.iter().zip(colours.chunks_exact_mut(COLOUR_SIDE.pow(2))) {
        across_lines(lines, &across.colour.across, to);
    }
    to
}

/// The frequencies of the part of a thumbnail that two windows show.
pub(super) fn frequencies(thumbnail: &Thumbnail, across: &Window, down: &Window) -> Frequencies {
    frequencies_of_lines(&lines(thumbnail, down), across)
}

fn down_points<const N: usize, const K: usize>(
    points: &[u8],
    down: &[[f32; N]; K],
) -> [[f32; N]; K] {
    let mut lines = [[0.0f32; N]; K];
    for (line, weights) in lines.iter_mut().zip(down) {
        for (points, &weight) in points.chunks_exact(N).zip(weights) {
            line.iter_mut().zip(points).for_each(|(sum, &point)| *sum += weight * f32::from(point));
        }
    }
    lines
}

/// Without the constant part.
fn across_lines<const N: usize, const K: usize>(
    lines: &[[f32; N]; K],
    across: &[[f32; K]; N],
    to: &mut [f32],
) {
    for (line, to) in lines.iter().zip(to.chunks_exact_mut(K)) {
        for (value, weights) in line.iter().zip(across) {
            to.iter_mut().zip(weights).for_each(|(to, weight)| *to += value * weight);
        }
    }
    to[0] = 0.0;
}

/// What spread is expected of each frequency where too few images were seen: that of photographs.
pub(super) fn usual_spread() -> Frequencies {
    let mut spread = [0.0; LEN];
    for (plane, (start, side)) in PLANES.into_iter().enumerate() {
        let (first, slope) = if plane == 0 { (704.0, -1.51) } else { (96.0, -2.2) };
        for at in 1..side * side {
            let distance = ((at / side) as f32).hypot((at % side) as f32);
            spread[start + at] = first * distance.powf(slope);
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::picture::Picture;
    use crate::findings::testing::picture;

    fn seen(picture: &Picture) -> Frequencies {
        let whole = Window::new(0.0, 1.0);
        frequencies(&Thumbnail::of(picture), &whole, &whole)
    }

    fn near(a: &Frequencies, b: &Frequencies) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2.0)
    }

    fn drawn(at: impl Fn(u8, u8) -> (u8, u8)) -> Picture {
        picture(32, 32, |x, y| {
            let (x, y) = at(x, y);
            [x.wrapping_mul(x), y * 8, if x < 9 && y < 20 { 200 } else { x + y }]
        })
    }

    #[test]
    fn turning_frequencies_is_turning_the_picture() {
        let upright = seen(&drawn(|x, y| (x, y)));
        let turns: [(Turn, Picture); 4] = [
            (Turn::Mirrored, drawn(|x, y| (31 - x, y))),
            (Turn::Half, drawn(|x, y| (31 - x, 31 - y))),
            (Turn::Left, drawn(|x, y| (31 - y, x))),
            (Turn::Right, drawn(|x, y| (y, 31 - x))),
        ];
        for (turn, picture) in turns {
            let turned = seen(&picture);
            assert!(!near(&turned, &upright), "{turn:?} changes nothing");
            assert!(near(&turn.of(&upright), &turned), "{turn:?}");
            assert!(near(&turn.back().of(&turned), &upright), "{turn:?} back");
        }
    }

    #[test]
    fn brightness_has_no_part_in_frequencies() {
        let grey = |level: u8| seen(&picture(20, 40, move |_, _| [level; 3]));
        assert!(grey(0).iter().chain(&grey(200)).all(|value| value.abs() < 0.01));
    }

    #[test]
    fn a_window_shows_what_a_crop_shows() {
        let whole = drawn(|x, y| (x, y));
        let crop = picture(16, 16, |x, y| {
            let at = 3 * (usize::from(y + 16) * 32 + usize::from(x));
            [whole.rgb[at], whole.rgb[at + 1], whole.rgb[at + 2]]
        });
        let (across, down) = (Window::new(0.0, 0.5), Window::new(0.5, 1.0));
        let window = frequencies(&Thumbnail::of(&whole), &across, &down);
        let (crop, mut alike) = (seen(&crop), 0.0);
        let norm = |of: &Frequencies| of.iter().map(|value| value * value).sum::<f32>().sqrt();
        alike += window.iter().zip(&crop).map(|(a, b)| a * b).sum::<f32>();
        assert!(alike / norm(&window) / norm(&crop) > 0.95, "{alike}");
    }
}
