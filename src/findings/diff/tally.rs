//! Owns counting how the rows that two outputs share differ. Must not know: where rows come from.

use std::collections::BTreeMap;

use super::result::{ByShare, Images, LevelDifference, Place, Sharing, Worst};
use super::side::Compared;
use crate::audit::Grid;

/// Sizes of grids of which places are counted.
const SIZES_MAX: usize = 16;
/// Rows named as those that differ most.
const WORST_MAX: usize = 20;
/// Images that are listed.
const LISTED_MAX: usize = 10_000;
/// The ends of the ranges by which rows are counted.
const SHARES: [f64; 8] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0];

/// The rows compared so far.
pub(super) struct Tally {
    /// By level, whether its tokens are of one number of codes in both.
    comparable: Vec<bool>,
    sharing: Sharing,
    by_share: [u64; SHARES.len()],
    levels: Vec<Level>,
    pub(super) changed: Images,
    pub(super) relabelled: Images,
    /// Whether a row of either had no digest of its file.
    pub(super) without_digests: bool,
}

#[derive(Default)]
struct Level {
    tokens: u64,
    equal: u64,
    /// By size, rows and the differing ones of each place.
    places: BTreeMap<(usize, usize), (u64, Vec<u64>)>,
}

impl Images {
    /// Counts one more, and lists it where the list isn't full.
    pub(super) fn take(&mut self, key: &str) {
        self.count += 1;
        if self.keys.len() < LISTED_MAX {
            self.keys.push(key.to_string());
        }
    }
}

impl Tally {
    /// `codes`: by level, the number of codes in each output where it is known.
    pub(super) fn new(codes: &[[Option<String>; 2]]) -> Tally {
        let comparable = |[a, b]: &[Option<String>; 2]| a.is_none() || b.is_none() || a == b;
        Tally {
            comparable: codes.iter().map(comparable).collect(),
            sharing: Sharing::default(),
            by_share: [0; SHARES.len()],
            levels: Vec::new(),
            changed: Images::default(),
            relabelled: Images::default(),
            without_digests: false,
        }
    }

    /// Counts a row that both have.
    pub(super) fn compare(&mut self, a: &Compared<'_>, b: &Compared<'_>) {
        self.sharing.rows += 1;
        let known = a.file != [0; 16] && b.file != [0; 16];
        let file_changed = known && a.file != b.file;
        self.without_digests |= !known;
        // Of several views of an image, the first counts it.
        if a.view.unwrap_or(0) == 0 {
            if file_changed {
                self.changed.take(a.key);
            }
            if a.label != b.label {
                self.relabelled.take(a.key);
            }
        }
        let sizes = |grids: &[Grid]| -> Vec<_> {
            grids.iter().map(|grid| (grid.height, grid.width, grid.values())).collect()
        };
        if sizes(a.levels) != sizes(b.levels) {
            self.sharing.other_grid_rows += 1;
            return;
        }
        if self.comparable.contains(&false) {
            return;
        }
        self.count(a, b, file_changed, known);
    }

    fn count(&mut self, a: &Compared<'_>, b: &Compared<'_>, file_changed: bool, known: bool) {
        let (mut tokens, mut equal) = (0, 0);
        if self.levels.len() < a.levels.len() {
            self.levels.resize_with(a.levels.len(), Level::default);
        }
        for (level, (a, b)) in self.levels.iter_mut().zip(a.levels.iter().zip(b.levels)) {
            let same = level.take(a, b);
            tokens += (a.codes.len() / a.values()) as u64;
            equal += same;
        }
        self.sharing.tokens += tokens;
        self.sharing.equal_tokens += equal;
        let differing = (tokens - equal) as f64 / tokens.max(1) as f64;
        let range = SHARES.iter().position(|&to| differing <= to).unwrap_or(SHARES.len() - 1);
        self.by_share[range] += 1;
        if tokens == equal {
            self.sharing.equal_rows += 1;
            return;
        }
        self.sharing.differing_of_same_file += u64::from(known && !file_changed);
        self.keep_worst(a, differing, file_changed);
    }

    fn keep_worst(&mut self, row: &Compared<'_>, differing: f64, file_changed: bool) {
        let worst = &mut self.sharing.worst;
        // Of equally bad ones, those that came first stay.
        let at = worst.partition_point(|other| other.differing >= differing);
        if at < WORST_MAX {
            let view = row.view.filter(|&view| view != 0);
            worst.insert(at, Worst { key: row.key.to_string(), view, differing, file_changed });
            worst.truncate(WORST_MAX);
        }
    }

    /// What was counted; the images that changed, and those that have another label.
    pub(super) fn finish(self) -> (Sharing, [Images; 2]) {
        let Tally { mut sharing, by_share, levels, changed, relabelled, .. } = self;
        let ranges = SHARES.iter().enumerate().map(|(i, &to)| ByShare {
            above: if i == 0 { 0.0 } else { SHARES[i - 1] },
            to,
            rows: by_share[i],
        });
        sharing.by_share = ranges.collect();
        sharing.levels = (levels.into_iter().enumerate()).map(|(at, l)| l.finish(at)).collect();
        (sharing, [changed, relabelled])
    }
}

impl Level {
    /// Compares grids of one size, and gives how many tokens are equal.
    fn take(&mut self, a: &Grid, b: &Grid) -> u64 {
        // A token may be a list of bits.
        let (values, tokens) = (a.values(), a.codes.len() / a.values());
        let pairs = || a.codes.chunks(values).zip(b.codes.chunks(values));
        let same = pairs().filter(|(a, b)| a == b).count() as u64;
        self.tokens += tokens as u64;
        self.equal += same;
        let size = (a.height, a.width);
        if self.places.len() < SIZES_MAX || self.places.contains_key(&size) {
            let (rows, differing) = self.places.entry(size).or_insert_with(|| (0, vec![0; tokens]));
            *rows += 1;
            if same < tokens as u64 {
                for (count, (a, b)) in differing.iter_mut().zip(pairs()) {
                    *count += u64::from(a != b);
                }
            }
        }
        same
    }

    fn finish(self, level: usize) -> LevelDifference {
        let place = |((height, width), (rows, differing))| Place { height, width, rows, differing };
        let mut places: Vec<Place> = self.places.into_iter().map(place).collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.rows));
        LevelDifference { level, tokens: self.tokens, equal_tokens: self.equal, places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(codes: &[u32], height: usize) -> Grid {
        Grid { codes: codes.to_vec(), height, width: codes.len() / height }
    }

    fn row<'a>(key: &'a str, file: u8, levels: &'a [Grid]) -> Compared<'a> {
        Compared { key, view: None, file: [file; 16], label: "", levels }
    }

    #[test]
    fn tokens_are_compared_by_place_and_rows_by_their_share() {
        let mut tally = Tally::new(&[[9, 9].map(|codes: u64| Some(codes.to_string()))]);
        let (a, b) = (grid(&[1, 2, 3, 4], 2), grid(&[1, 2, 3, 5], 2));
        let other = grid(&[1, 2, 3, 4], 1);
        for (key, files, grids) in [
            ("same", [1, 1], [&a, &a]),
            ("one", [1, 1], [&a, &b]),
            ("one changed", [1, 2], [&a, &b]),
            ("shape", [1, 1], [&a, &other]),
            ("unknown", [0, 2], [&a, &a]),
        ] {
            let [a, b] = grids.map(std::slice::from_ref);
            let label = if key == "unknown" { "cat" } else { "" };
            tally.compare(&row(key, files[0], a), &Compared { label, ..row(key, files[1], b) });
        }
        assert!(tally.without_digests);
        let (sharing, [changed, relabelled]) = tally.finish();
        assert_eq!((sharing.rows, sharing.equal_rows, sharing.other_grid_rows), (5, 2, 1));
        assert_eq!((sharing.tokens, sharing.equal_tokens), (16, 14));
        assert_eq!((sharing.differing_of_same_file, changed.keys), (1, vec!["one changed".into()]));
        assert_eq!(relabelled.keys, ["unknown"]);
        let counts: Vec<u64> = sharing.by_share.iter().map(|range| range.rows).collect();
        assert_eq!(counts, [2, 0, 0, 0, 2, 0, 0, 0]);
        let place = &sharing.levels[0].places[0];
        assert_eq!((place.rows, &place.differing[..]), (4, &[0, 0, 0, 2][..]));
        let worst: Vec<_> = sharing.worst.iter().map(|w| (w.key.as_str(), w.differing)).collect();
        assert_eq!(worst, [("one", 0.25), ("one changed", 0.25)]);
    }

    #[test]
    fn other_numbers_of_codes_are_never_compared() {
        let mut tally = Tally::new(&[[9, 8].map(|codes: u64| Some(codes.to_string()))]);
        let grids = [grid(&[1], 1)];
        tally.compare(&row("a", 1, &grids), &row("a", 2, &grids));
        let (sharing, [changed, relabelled]) = tally.finish();
        assert_eq!((sharing.rows, sharing.tokens, changed.count), (1, 0, 1));
        assert_eq!(relabelled.count, 0);
    }
}
