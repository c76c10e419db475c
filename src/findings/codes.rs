//! Owns pictures of codes: each alone, and in its commonest neighbourhood. Must not know: how tokens
//! are drawn, where pictures are shown.

use std::path::Path;

use serde::Serialize;

use super::picture::{Draw, Picture};
use super::run::{Event, Observer};
use crate::audit::report::LevelReport;
use crate::audit::{Grid, TokenFile};
use crate::error::{Error, Result};
use crate::storage;

/// Codes of which there are pictures at most.
pub(crate) const PICTURES_MAX: usize = 1 << 14;
/// Codes that a page shows.
pub(crate) const ON_PAGE: usize = 64;
/// Codes whose neighbourhoods are counted at most.
const COUNTED_MAX: u64 = 1 << 20;
/// Neighbourhoods of a code that are counted at a time.
const CANDIDATES: usize = 4;
/// Pictures that are drawn together.
const TOGETHER: usize = 32;
/// Side of the grid that a code is drawn in, in tokens: its neighbours, and what these need to look
/// like themselves.
const SIDE: usize = 5;

/// Pictures of the codes of the first level.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct CodePictures {
    /// The most used first, of equally used ones the lower.
    pub codes: Vec<CodePicture>,
}

/// What a code looks like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodePicture {
    /// The code.
    pub code: u32,
    /// Tokens that are it.
    pub uses: u64,
    /// The 3 x 3 tokens around it, row-major, as often as any other, as far as that is counted; None
    /// where it is never used.
    pub neighbourhood: Option<[u32; 9]>,
    /// Times that these were seen, at least.
    pub neighbourhood_uses: u64,
    /// One token of a grid of nothing else, as the decoder draws it.
    #[serde(skip)]
    pub(crate) alone: Option<Picture>,
    /// The neighbourhood.
    #[serde(skip)]
    pub(crate) around: Option<Picture>,
}

/// A neighbourhood that is counted: by Space-Saving (Metwally et al. 2005), a new one takes the place
/// of the rarest, and its count as what it may have been seen too often.
#[derive(Debug, Clone, Copy, Default)]
struct Candidate {
    around: [u32; 9],
    count: u32,
    over: u32,
}

/// Uses and neighbourhoods of all codes of the first level, the uses of the others.
struct Counts {
    uses: Vec<Vec<u64>>,
    candidates: Vec<[Candidate; CANDIDATES]>,
    /// The grids of the first row.
    shape: Vec<(usize, usize)>,
}

/// Pictures of the `wanted` most used codes of an output, whose levels are described.
///
/// # Errors
/// An output that can't be read; an interrupt; those of `draw`.
pub(crate) fn code_pictures(
    input: &Path,
    levels: &[LevelReport],
    wanted: usize,
    draw: &mut dyn Draw,
    observer: &mut dyn Observer,
) -> Result<CodePictures> {
    let counts = storage::complete(input, || Counts::read(input, levels, observer))?;
    let uses = counts.uses.first().map_or(&[][..], Vec::as_slice);
    let mut order: Vec<u32> = (0..uses.len() as u32).collect();
    order.sort_by_key(|&code| (std::cmp::Reverse(uses[code as usize]), code));
    order.truncate(wanted.min(PICTURES_MAX));
    observer.event(&Event::Begin { stage: "codes", rows: order.len() as u64 });
    let mut shape = counts.drawn_in();
    let mut pictures = CodePictures::default();
    for codes in order.chunks(TOGETHER) {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let mut drawn = counts.draw(codes, &shape, draw)?;
        if pictures.codes.is_empty() && drawn.iter().all(|code| code.alone.is_none()) {
            // A model that takes grids of one size alone.
            shape = counts.shape.clone();
            drawn = counts.draw(codes, &shape, draw)?;
        }
        codes.iter().for_each(|_| observer.event(&Event::Row));
        pictures.codes.extend(drawn);
    }
    Ok(pictures)
}

impl Counts {
    fn read(input: &Path, levels: &[LevelReport], observer: &mut dyn Observer) -> Result<Counts> {
        let mut rows = TokenFile::open(input)?;
        let codes = levels.first().map_or(0, |level| level.codes);
        let counted = if codes <= COUNTED_MAX { codes as usize } else { 0 };
        let mut counts = Counts {
            uses: levels.iter().map(|level| vec![0; level.codes as usize]).collect(),
            candidates: vec![Default::default(); counted],
            shape: Vec::new(),
        };
        while let Some(row) = rows.next_row() {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            // What can't be used was told when the rows were looked at.
            let Ok(row) = row else { continue };
            if counts.shape.is_empty() {
                counts.shape = row.levels.iter().map(|grid| (grid.height, grid.width)).collect();
            }
            for (uses, grid) in counts.uses.iter_mut().zip(&row.levels) {
                for &code in &grid.codes {
                    uses.get_mut(code as usize).into_iter().for_each(|uses| *uses += 1);
                }
            }
            row.levels.first().into_iter().for_each(|grid| counts.look_around(grid));
        }
        Ok(counts)
    }

    /// Counts the neighbourhoods of a grid: those that lie within it, where it has any.
    fn look_around(&mut self, grid: &Grid) {
        let (height, width) = (grid.height, grid.width);
        let within = |side: usize| if side < 3 { 0..side } else { 1..side - 1 };
        for y in within(height) {
            for x in within(width) {
                let code = grid.codes[y * width + x] as usize;
                let Some(candidates) = self.candidates.get_mut(code) else { continue };
                let around = std::array::from_fn(|at| {
                    let y = (y + at / 3).saturating_sub(1).min(height - 1);
                    let x = (x + at % 3).saturating_sub(1).min(width - 1);
                    grid.codes[y * width + x]
                });
                take(candidates, around);
            }
        }
    }

    /// The sizes of the grids that codes are drawn in.
    fn drawn_in(&self) -> Vec<(usize, usize)> {
        // Levels of several sizes have to suit each other.
        match self.shape.first() {
            Some(first) if self.shape.iter().all(|other| other == first) => {
                vec![(SIDE, SIDE); self.shape.len()]
            }
            _ => self.shape.clone(),
        }
    }

    /// The pictures of some codes, beside which further levels have their commonest codes.
    fn draw(
        &self,
        codes: &[u32],
        shape: &[(usize, usize)],
        draw: &mut dyn Draw,
    ) -> Result<Vec<CodePicture>> {
        let Some(&first) = shape.first() else { return Ok(Vec::new()) };
        let further: Vec<Grid> = (self.uses.iter().zip(shape).skip(1))
            .map(|(uses, &size)| filled(size, |_, _| commonest(uses)))
            .collect();
        let neighbourhoods: Vec<Option<Candidate>> =
            codes.iter().map(|&code| self.neighbourhood(code)).collect();
        let mut rows: Vec<Vec<Grid>> = Vec::new();
        let with_further = |grid| std::iter::once(grid).chain(further.iter().cloned()).collect();
        for (&code, neighbourhood) in codes.iter().zip(&neighbourhoods) {
            rows.push(with_further(filled(first, |_, _| code)));
            if let Some(Candidate { around, .. }) = neighbourhood {
                rows.push(with_further(filled(first, |y, x| around[3 * y + x])));
            }
        }
        let rows: Vec<&[Grid]> = rows.iter().map(Vec::as_slice).collect();
        let mut drawn = draw.draw(&rows)?.into_iter();
        let mut picture = |tokens| Some(cut(drawn.next()??, first, tokens));
        let pictures = codes.iter().zip(neighbourhoods).map(|(&code, neighbourhood)| {
            let alone = picture(1);
            CodePicture {
                code,
                uses: self.uses[0][code as usize],
                neighbourhood: neighbourhood.map(|candidate| candidate.around),
                neighbourhood_uses: neighbourhood.map_or(0, |c| u64::from(c.count - c.over)),
                alone,
                around: neighbourhood.and_then(|_| picture(3)),
            }
        });
        Ok(pictures.collect())
    }

    /// The one that was surely seen most often.
    fn neighbourhood(&self, code: u32) -> Option<Candidate> {
        let candidates = self.candidates.get(code as usize)?;
        let seen = candidates.iter().filter(|candidate| candidate.count > 0);
        seen.max_by_key(|c| (c.count - c.over, std::cmp::Reverse(c.around))).copied()
    }
}

fn take(candidates: &mut [Candidate; CANDIDATES], around: [u32; 9]) {
    let known = candidates.iter().position(|c| c.count > 0 && c.around == around);
    let rarest = || (0..CANDIDATES).min_by_key(|&at| candidates[at].count).unwrap_or(0);
    let at = known.unwrap_or_else(rarest);
    let candidate = &mut candidates[at];
    if known.is_none() {
        *candidate = Candidate { around, count: candidate.count, over: candidate.count };
    }
    candidate.count = candidate.count.saturating_add(1);
}

fn commonest(uses: &[u64]) -> u32 {
    (0..).zip(uses).max_by_key(|&(code, uses)| (uses, std::cmp::Reverse(code))).map_or(0, |c| c.0)
}

/// The place of the middle token.
fn middle((height, width): (usize, usize)) -> (usize, usize) {
    (height / 2, width / 2)
}

/// A grid whose middle 3 x 3 tokens are given by row and column, each below 3, and whose others are as
/// the nearest of these.
fn filled(size: (usize, usize), code: impl Fn(usize, usize) -> u32) -> Grid {
    let (height, width) = size;
    let (y, x) = middle(size);
    let near = |at: usize, middle: usize| (at + 1).saturating_sub(middle).min(2);
    let codes = (0..height * width).map(|at| code(near(at / width, y), near(at % width, x)));
    Grid { codes: codes.collect(), height, width }
}

/// The middle `tokens` x `tokens` tokens of a picture of a grid, or as many as it has.
fn cut(picture: Picture, size: (usize, usize), tokens: usize) -> Picture {
    let (y, x) = middle(size);
    let range = |middle: usize, side: usize, pixels: usize| {
        let token = pixels / side.max(1);
        let first = middle.saturating_sub(tokens / 2);
        (first * token, (middle + tokens / 2 + 1).min(side) * token)
    };
    let (top, bottom) = range(y, size.0, picture.height);
    let (left, right) = range(x, size.1, picture.width);
    let rows = picture.rgb.chunks_exact(3 * picture.width.max(1)).take(bottom).skip(top);
    let rgb = rows.flat_map(|row| row[3 * left..3 * right].iter().copied()).collect();
    Picture { width: right - left, height: bottom - top, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(codes: &[u32], width: usize) -> Grid {
        Grid { codes: codes.to_vec(), height: codes.len() / width, width }
    }

    /// Two pixels a token, grey by the code.
    struct Grey;

    impl Draw for Grey {
        fn codes(&self) -> u64 {
            256
        }

        fn draw(&mut self, rows: &[&[Grid]]) -> Result<Vec<Option<Picture>>> {
            let picture = |levels: &&[Grid]| {
                let Grid { codes, height, width } = &levels[0];
                let code = |at: usize| codes[at / (2 * width) / 2 * width + at % (2 * width) / 2];
                let rgb = (0..4 * height * width).flat_map(|at| [code(at) as u8; 3]).collect();
                Some(Picture { width: 2 * width, height: 2 * height, rgb })
            };
            Ok(rows.iter().map(picture).collect())
        }
    }

    #[test]
    fn neighbourhoods_are_counted_and_drawn_around_their_code() {
        let mut counts = Counts {
            uses: vec![vec![0; 10]],
            candidates: vec![Default::default(); 10],
            shape: vec![(3, 3)],
        };
        let (often, once) = ([1, 2, 3, 4, 9, 5, 6, 7, 8], [0, 0, 0, 0, 9, 0, 0, 0, 0]);
        for around in [once, often, often] {
            counts.look_around(&grid(&around, 3));
        }
        let drawn = counts.draw(&[9, 2], &[(5, 5)], &mut Grey).unwrap();
        assert_eq!((drawn[0].neighbourhood, drawn[0].neighbourhood_uses), (Some(often), 2));
        assert_eq!(drawn[0].alone, Some(Picture { width: 2, height: 2, rgb: vec![9; 12] }));
        let around = drawn[0].around.as_ref().unwrap();
        assert_eq!((around.width, around.height), (6, 6));
        let corner = |y: usize, x: usize| around.rgb[3 * (y * 6 + x)];
        assert_eq!([corner(0, 0), corner(1, 2), corner(3, 3), corner(5, 5)], [1, 2, 9, 8]);
        assert_eq!((drawn[1].neighbourhood, &drawn[1].around), (None, &None));
    }

    #[test]
    fn the_commonest_stays_among_few_candidates() {
        let mut candidates = [Candidate::default(); CANDIDATES];
        for n in 0..1000 {
            take(&mut candidates, [if n % 3 == 0 { 7 } else { 1000 + n }; 9]);
        }
        let most = candidates.iter().max_by_key(|c| c.count - c.over).unwrap();
        assert_eq!(most.around, [7; 9]);
        assert!(most.count - most.over <= 334 && most.count - most.over > 300, "{most:?}");
    }

    #[test]
    fn grids_under_three_tokens_have_neighbours_too() {
        let mut counts = Counts {
            uses: vec![vec![0; 4]],
            candidates: vec![Default::default(); 4],
            shape: vec![(1, 2)],
        };
        counts.look_around(&grid(&[1, 3], 2));
        assert_eq!(counts.neighbourhood(1).unwrap().around, [1, 1, 3, 1, 1, 3, 1, 1, 3]);
        let drawn = counts.draw(&[1], &[(1, 2)], &mut Grey).unwrap();
        assert_eq!(drawn[0].around.as_ref().map(|p| (p.width, p.height)), Some((4, 2)));
    }
}
