//! Owns how codes are used: at each place of the grid, beside each other, by label, in random parts of
//! the rows, in stretches of shards. Must not know: files, what is concluded.
//!
//! Tables have a column for each code below [`GROUPS`]; codes above share those, so that any codebook
//! fits, and what is measured of them is at most what is there.

use std::collections::BTreeMap;
use std::mem::take;

use super::rows::Grid;

/// Columns of a table at most.
pub(crate) const GROUPS: usize = 1024;
/// Places a side of a table of places at most.
const SIDE_MAX: usize = 16;
/// Labels of a table at most.
pub(super) const LABELS_MAX: usize = 1024;
/// Random parts that rows fall into.
pub(crate) const PARTS: usize = 32;
/// Stretches of shards at most.
const STRETCHES_MAX: usize = 256;
/// Tokens of sampled rows, of which more than the codes is counted, about; and those rows at least.
const SAMPLED: u64 = 1 << 23;
const SAMPLED_ROWS: u64 = 1 << 12;

/// The column of a code.
pub(crate) fn group(code: u32) -> usize {
    match (code as usize) < GROUPS {
        true => code as usize,
        // A multiplier after Knuth, whose upper bits depend on all bits of the code.
        false => (code.wrapping_mul(0x9E37_79B1) >> 22) as usize,
    }
}

/// Of how many rows one is sampled, where there are so many of so many tokens.
pub(super) fn stride(rows: u64, tokens: u64) -> u64 {
    let stride = rows.saturating_mul(tokens).div_ceil(SAMPLED);
    stride.min(rows / SAMPLED_ROWS).max(1)
}

/// How the codes of one level are used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patterns {
    /// Columns of the tables: at least one more than the largest column used.
    groups: usize,
    /// Height and width of the table of places.
    pub frame: (usize, usize),
    /// By column.
    uses: Vec<u64>,
    /// Of sampled rows, as all tables that follow: by place, then column.
    places: Vec<u32>,
    /// By column of a token's left or upper neighbour, then its own.
    pairs: Vec<u32>,
    /// By label, then column.
    labels: Vec<(String, Vec<u32>)>,
    /// By part, then column.
    parts: Vec<u32>,
    /// Rows of each part.
    pub part_rows: Vec<u64>,
    /// In the order of the shards.
    pub stretches: Vec<Stretch>,
    /// Shards of a stretch, but for the last.
    together: usize,
    /// Where a cell of a grid of this size lies in the table of places, by cell.
    cells: ((usize, usize), Vec<u32>),
}

/// Shards that follow each other, as one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stretch {
    /// Names of the first and the last.
    pub names: [String; 2],
    /// Shards.
    pub shards: usize,
    /// Rows.
    pub rows: u64,
    /// By column.
    pub uses: Vec<u64>,
    /// Rows by place of the label in the table of labels.
    pub labels: BTreeMap<String, u64>,
}

impl Patterns {
    /// For codes below `codes`, with a table of places for grids of this size; of levels behind the
    /// first neighbours and labels aren't counted, since there can be many.
    pub(crate) fn new(codes: Option<u64>, grid: (usize, usize), first: bool) -> Patterns {
        let groups = codes.map_or(GROUPS, |codes| codes.clamp(1, GROUPS as u64) as usize);
        let frame = (grid.0.clamp(1, SIDE_MAX), grid.1.clamp(1, SIDE_MAX));
        Patterns {
            groups,
            frame,
            uses: vec![0; groups],
            places: vec![0; frame.0 * frame.1 * groups],
            pairs: vec![0; if first { groups * groups } else { 0 }],
            parts: vec![0; PARTS * groups],
            part_rows: vec![0; PARTS],
            together: 1,
            ..Patterns::default()
        }
    }

    /// For the file behind the one that these are of, whose tables it goes on with: to make and to add up
    /// those of every file takes longer than to count a small one.
    pub(crate) fn next(&mut self) -> Patterns {
        Patterns {
            groups: self.groups,
            frame: self.frame,
            uses: vec![0; self.groups],
            places: take(&mut self.places),
            pairs: take(&mut self.pairs),
            parts: take(&mut self.parts),
            part_rows: take(&mut self.part_rows),
            together: 1,
            cells: take(&mut self.cells),
            ..Patterns::default()
        }
    }

    /// Counts a sampled row, whose codes are all below what the tables are for. `label` is the place of
    /// its label among those of its file; `part` is where it falls.
    pub(crate) fn add(
        &mut self,
        codes: &[u32],
        grid: (usize, usize),
        label: Option<usize>,
        part: usize,
    ) {
        if self.cells.0 != grid {
            self.cells = (grid, self.cells_of(grid));
        }
        let plain = self.groups < GROUPS || codes.iter().all(|&code| (code as usize) < GROUPS);
        let grouped: Vec<u32>;
        let codes = match plain {
            true => codes,
            false => {
                grouped = codes.iter().map(|&code| group(code) as u32).collect();
                &grouped
            }
        };
        for (&code, &cell) in codes.iter().zip(&self.cells.1) {
            self.places[cell as usize + code as usize] += 1;
        }
        if let Some((_, uses)) = label.and_then(|label| self.labels.get_mut(label)) {
            codes.iter().for_each(|&code| uses[code as usize] += 1);
        }
        self.part_rows[part] += 1;
        let uses = &mut self.parts[part * self.groups..][..self.groups];
        codes.iter().for_each(|&code| uses[code as usize] += 1);
        if !self.pairs.is_empty() {
            self.add_pairs(codes, grid.1);
        }
    }

    fn add_pairs(&mut self, codes: &[u32], width: usize) {
        let mut pair = |before: u32, code: u32| {
            self.pairs[before as usize * self.groups + code as usize] += 1;
        };
        for row in codes.chunks_exact(width) {
            row.windows(2).for_each(|two| pair(two[0], two[1]));
        }
        codes.iter().zip(&codes[width..]).for_each(|(above, code)| pair(*above, *code));
    }

    /// Takes the label that came next in its file, where there is room.
    pub(crate) fn take_label(&mut self, label: &str) {
        if self.labels.len() < LABELS_MAX && !self.pairs.is_empty() {
            self.labels.push((label.to_string(), vec![0; self.groups]));
        }
    }

    fn cells_of(&self, (height, width): (usize, usize)) -> Vec<u32> {
        let (rows, columns) = self.frame;
        let cell = |y: usize, x: usize| (y * rows / height) * columns + x * columns / width;
        let cells = (0..height).flat_map(|y| (0..width).map(move |x| cell(y, x)));
        cells.map(|cell| (cell * self.groups) as u32).collect()
    }

    /// Ends a file of so many rows, which uses codes so often: makes one stretch of it.
    pub(crate) fn close(
        &mut self,
        name: String,
        rows: u64,
        labels: BTreeMap<String, u64>,
        uses: &[u64],
    ) {
        for (code, uses) in (0..).zip(uses).filter(|(_, uses)| **uses > 0) {
            self.uses[group(code)] += uses;
        }
        let (uses, shards) = (self.uses.clone(), 1);
        self.stretches = vec![Stretch { names: [name.clone(), name], shards, rows, uses, labels }];
    }

    /// Adds the patterns of the files behind these.
    pub(crate) fn merge(&mut self, other: Patterns) {
        if self.groups == 0 {
            *self = other;
            return;
        }
        self.uses.iter_mut().zip(&other.uses).for_each(|(sum, uses)| *sum += uses);
        add(&mut self.places, other.places);
        add(&mut self.pairs, other.pairs);
        add(&mut self.parts, other.parts);
        match self.part_rows.is_empty() {
            true => self.part_rows = other.part_rows,
            false => self.part_rows.iter_mut().zip(other.part_rows).for_each(|(sum, n)| *sum += n),
        }
        let known: BTreeMap<String, usize> =
            self.labels.iter().enumerate().map(|(at, (label, _))| (label.clone(), at)).collect();
        for (label, uses) in other.labels {
            match known.get(&label) {
                Some(&at) => add(&mut self.labels[at].1, uses),
                None if self.labels.len() < LABELS_MAX => self.labels.push((label, uses)),
                None => {}
            }
        }
        other.stretches.into_iter().for_each(|stretch| self.append(stretch));
    }

    fn append(&mut self, next: Stretch) {
        match self.stretches.last_mut().filter(|last| last.shards < self.together) {
            Some(last) => last.append(next),
            None => self.stretches.push(next),
        }
        if self.stretches.len() > STRETCHES_MAX {
            self.together *= 2;
            let mut single = std::mem::take(&mut self.stretches).into_iter();
            while let Some(mut stretch) = single.next() {
                single.next().into_iter().for_each(|next| stretch.append(next));
                self.stretches.push(stretch);
            }
        }
    }

    /// Uses by column.
    pub(crate) fn uses(&self) -> &[u64] {
        &self.uses
    }

    /// Uses by column of sampled rows at each place, row by row of the frame.
    pub(crate) fn places(&self) -> impl Iterator<Item = &[u32]> {
        self.places.chunks_exact(self.groups.max(1))
    }

    /// Uses by column of a label's sampled rows.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &[u32])> {
        self.labels.iter().map(|(label, uses)| (label.as_str(), uses.as_slice()))
    }

    /// Uses by column of the sampled rows of each part.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u32]> {
        self.parts.chunks_exact(self.groups.max(1))
    }

    /// How often a column's codes were beside another's, by the first.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = &[u32]> {
        self.pairs.chunks_exact(self.groups.max(1))
    }

    /// The mutual information of neighbours, less what chance gives (Miller and Madow).
    pub(crate) fn neighbour_bits(&self) -> Option<f64> {
        let mut below = Vec::new();
        let (mut above_sum, mut pair_sum, mut pairs, mut cells) = (0.0, 0.0, 0.0, [0.0; 2]);
        for row in self.pairs() {
            let row: Vec<f64> = row.iter().map(|&pairs| f64::from(pairs)).collect();
            below.resize(row.len(), 0.0);
            let sum: f64 = row.iter().sum();
            below.iter_mut().zip(&row).for_each(|(sum, pairs): (&mut f64, _)| *sum += pairs);
            let weight = |count: f64| if count > 0.0 { count * count.log2() } else { 0.0 };
            pair_sum += row.iter().map(|&pairs| weight(pairs)).sum::<f64>();
            above_sum += weight(sum);
            pairs += sum;
            cells[0] += row.iter().filter(|&&pairs| pairs > 0.0).count() as f64;
            cells[1] += f64::from(u8::from(sum > 0.0));
        }
        if pairs == 0.0 {
            return None;
        }
        let weight = |count: &f64| if *count > 0.0 { count * count.log2() } else { 0.0 };
        let below_sum: f64 = below.iter().map(weight).sum();
        let bits = (pair_sum - above_sum - below_sum) / pairs + pairs.log2();
        let columns = below.iter().filter(|&&count| count > 0.0).count() as f64;
        let chance = (cells[0] - cells[1] - columns + 1.0) / (2.0 * pairs * std::f64::consts::LN_2);
        Some((bits - chance).max(0.0))
    }
}

impl Stretch {
    fn append(&mut self, next: Stretch) {
        self.names[1] = next.names[1].clone();
        self.shards += next.shards;
        self.rows += next.rows;
        self.uses.iter_mut().zip(next.uses).for_each(|(sum, uses)| *sum += uses);
        for (label, rows) in next.labels {
            *self.labels.entry(label).or_default() += rows;
        }
    }
}

/// Either may have been [taken along](Patterns::next).
fn add(sums: &mut Vec<u32>, more: Vec<u32>) {
    match sums.is_empty() {
        true => *sums = more,
        false => sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more)),
    }
}

/// How common codes are in a set, by themselves and behind their neighbours.
#[derive(Debug)]
pub(crate) struct CommonCodes {
    groups: usize,
    /// Bits by column.
    alone: Vec<f32>,
    /// Bits by column of the neighbour, then the own.
    beside: Vec<f32>,
}

impl CommonCodes {
    /// As counted.
    pub(crate) fn of(patterns: &Patterns) -> CommonCodes {
        let uses: Vec<f64> = patterns.uses().iter().map(|&uses| uses as f64 + 1.0).collect();
        let all: f64 = uses.iter().sum();
        let alone = uses.iter().map(|uses| -(uses / all).log2() as f32).collect();
        let mut beside = Vec::with_capacity(patterns.pairs.len());
        for row in patterns.pairs() {
            let pairs = row.iter().map(|&pairs| f64::from(pairs)).sum::<f64>() + 1.0;
            beside.extend(row.iter().zip(&uses).map(|(&pair, uses)| {
                // One pair more, spread as the codes are by themselves.
                -((f64::from(pair) + uses / all) / pairs).log2() as f32
            }));
        }
        CommonCodes { groups: patterns.groups, alone, beside }
    }

    /// Mean bits of a grid's tokens, and of those that have a left or upper neighbour behind it.
    pub(crate) fn bits(&self, grid: &Grid) -> [f32; 2] {
        let column = |code: u32| group(code).min(self.groups - 1);
        let columns: Vec<usize> = grid.codes.iter().map(|&code| column(code)).collect();
        let alone: f32 = columns.iter().map(|&column| self.alone[column]).sum();
        let (mut sum, mut pairs) = (0.0, 0_usize);
        let mut take = |before: usize, own: usize| {
            sum += self.beside[before * self.groups + own];
            pairs += 1;
        };
        if grid.width > 0 {
            let rows = columns.chunks_exact(grid.width);
            rows.for_each(|row| row.windows(2).for_each(|two| take(two[0], two[1])));
            let below = columns.get(grid.width..).unwrap_or_default();
            columns.iter().zip(below).for_each(|(above, own)| take(*above, *own));
        }
        [alone / columns.len().max(1) as f32, sum / pairs.max(1) as f32]
    }
}

#[cfg(test)]
mod tests;
