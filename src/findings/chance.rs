//! Owns how far two sets of counts are apart, and how far they would be by chance if their rows came
//! from one set. Must not know: what is counted.

/// Rows of a part on average below which chance isn't known.
const ROWS_MIN: u64 = 8;

/// The Jensen-Shannon divergence of two sets of counts, in bits: 0 for equal shares, 1 for nothing in
/// common; None where one is empty.
pub(super) fn divergence(a: &[f64], b: &[f64]) -> Option<f64> {
    let (all_a, all_b): (f64, f64) = (a.iter().sum(), b.iter().sum());
    if all_a <= 0.0 || all_b <= 0.0 {
        return None;
    }
    let at = |counts: &[f64], i: usize| counts.get(i).copied().unwrap_or(0.0);
    let part = |p: f64, middle: f64| if p > 0.0 { p * (p / middle).log2() } else { 0.0 };
    let sum = (0..a.len().max(b.len())).map(|i| {
        let (p, q) = (at(a, i) / all_a, at(b, i) / all_b);
        part(p, (p + q) / 2.0) + part(q, (p + q) / 2.0)
    });
    Some((sum.sum::<f64>() / 2.0).max(0.0))
}

/// Entropy in bits; 0 of nothing.
pub(super) fn entropy(counts: &[f64]) -> f64 {
    let all: f64 = counts.iter().sum();
    let shares = counts.iter().filter(|&&count| count > 0.0).map(|count| count / all);
    shares.map(|share| -share * share.log2()).sum::<f64>() + 0.0
}

/// How far random parts of a set are from its rest.
#[derive(Debug)]
pub(super) struct Chance {
    /// (logarithm of the rows that tell, logarithm of the mean divergence), fewest rows first.
    points: Vec<(f64, f64)>,
    /// The divergences' deviation, in units of their mean.
    deviation: f64,
}

impl Chance {
    /// From the counts of random parts and their rows; None where those are too few.
    pub(super) fn of(parts: &[Vec<f64>], rows: &[u64]) -> Option<Chance> {
        let enough = rows.iter().sum::<u64>() >= ROWS_MIN * rows.len() as u64;
        if parts.len() < 8 || !enough || rows.contains(&0) {
            return None;
        }
        let (mut points, mut deviation) = (Vec::new(), 0.0);
        let mut together = 1;
        while parts.len() / together >= 4 {
            let found = apart(parts, rows, together);
            let count = found.len() as f64;
            let mean = found.iter().map(|(_, apart)| apart).sum::<f64>() / count;
            let squares = found.iter().map(|(_, apart)| (apart - mean).powi(2)).sum::<f64>();
            if mean <= 0.0 {
                return None;
            }
            if together == 1 {
                deviation = (squares / (count - 1.0)).sqrt() / mean;
            }
            let rows = found.iter().map(|(rows, _)| rows).sum::<f64>() / count;
            points.push((rows.ln(), mean.ln()));
            together *= 2;
        }
        Some(Chance { points, deviation: deviation.max(0.01) })
    }

    /// How many deviations a divergence of sets of so many rows is above what chance gives.
    pub(super) fn deviations(&self, divergence: f64, rows: [u64; 2]) -> f64 {
        let mean = self.expected(rows);
        (divergence - mean) / (self.deviation * mean)
    }

    /// The divergence of two random sets of so many rows.
    pub(super) fn expected(&self, rows: [u64; 2]) -> f64 {
        let rows = telling(rows).ln();
        let (first, last) = (self.points[0], self.points[self.points.len() - 1]);
        // Beyond what was measured it falls as rows grow: what many more rows give, exactly so.
        let inside = self.points.windows(2).find(|two| rows >= two[0].0 && rows <= two[1].0);
        let expected = match inside {
            Some(two) => {
                let share = (rows - two[0].0) / (two[1].0 - two[0].0);
                two[0].1 + share * (two[1].1 - two[0].1)
            }
            None if rows < first.0 => first.1 + first.0 - rows,
            None => last.1 + last.0 - rows,
        };
        expected.exp()
    }
}

/// The rows by which chance falls: of two sets, mostly those of the smaller one.
fn telling(rows: [u64; 2]) -> f64 {
    1.0 / rows.map(|rows| 1.0 / rows.max(1) as f64).iter().sum::<f64>()
}

/// Of every so many parts together the rows that tell, and how far they are from all others.
fn apart(parts: &[Vec<f64>], rows: &[u64], together: usize) -> Vec<(f64, f64)> {
    let mut whole = vec![0.0; parts[0].len()];
    parts.iter().for_each(|part| sum(&mut whole, part));
    let all: u64 = rows.iter().sum();
    let some = parts.chunks_exact(together).zip(rows.chunks_exact(together));
    let some = some.filter_map(|(parts, rows)| {
        let mut own = vec![0.0; whole.len()];
        parts.iter().for_each(|part| sum(&mut own, part));
        let rest: Vec<f64> = whole.iter().zip(&own).map(|(whole, own)| whole - own).collect();
        let own_rows: u64 = rows.iter().sum();
        Some((telling([own_rows, all - own_rows]), divergence(&own, &rest)?))
    });
    some.collect()
}

fn sum(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::random::SplitMix64;

    /// Counts of `rows` rows, each of 16 tokens of one of 20 kinds of row.
    fn drawn(random: &mut SplitMix64, rows: u64, odd: u64) -> Vec<f64> {
        let mut counts = vec![0.0; 100];
        for _ in 0..rows {
            let kind = random.next() % 20;
            for _ in 0..16 {
                let code = kind * 4 + random.next() % 8 + u64::from(random.next() % 100 < odd) * 7;
                counts[code as usize] += 1.0;
            }
        }
        counts
    }

    #[test]
    fn equal_shares_are_not_apart_and_others_wholly() {
        assert_eq!(divergence(&[1.0, 2.0], &[10.0, 20.0, 0.0]), Some(0.0));
        assert!((divergence(&[1.0, 0.0], &[0.0, 5.0]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(divergence(&[1.0], &[0.0]), None);
        assert_eq!((entropy(&[3.0, 3.0, 0.0, 3.0, 3.0]), entropy(&[])), (2.0, 0.0));
    }

    #[test]
    fn sets_of_one_kind_are_apart_by_chance_alone() {
        let mut random = SplitMix64(1);
        let parts: Vec<Vec<f64>> = (0..32).map(|_| drawn(&mut random, 50, 0)).collect();
        let chance = Chance::of(&parts, &[50; 32]).unwrap();
        let mut whole = vec![0.0; 100];
        parts.iter().for_each(|part| sum(&mut whole, part));
        for rows in [10, 100, 400, 3000] {
            let alike = drawn(&mut random, rows, 0);
            let z =
                |other: &[f64]| chance.deviations(divergence(&whole, other).unwrap(), [1600, rows]);
            assert!(z(&alike).abs() < 4.0, "{rows} rows: {}", z(&alike));
            let other = drawn(&mut random, rows, 90);
            assert!(rows < 400 || z(&other) > 5.0, "{rows} rows: {}", z(&other));
        }
        assert!(Chance::of(&parts, &[7; 32]).is_none());
        assert!(Chance::of(&parts[..4], &[50; 4]).is_none());
    }
}
