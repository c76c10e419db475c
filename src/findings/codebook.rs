//! Owns how well a codebook is used: how evenly, where, beside what, by which labels and shards. Must
//! not know: how codes are counted, how findings are shown.

use serde::Serialize;

use super::bits::BitUse;
use super::chance::{divergence, entropy};
use super::drift::{Drift, Whole};
use super::result::Remark;
use crate::audit::patterns::{GROUPS, Patterns};
use crate::audit::report::{LevelReport, Uses};

/// Deviations from which another set's codes are told to be others', and how far they must be apart.
const DEVIATIONS: f64 = 5.0;
const APART: f64 = 0.005;

/// The use of one level's codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Codebook {
    /// Uses, entropy, ranks.
    #[serde(flatten)]
    pub level: LevelReport,
    /// Codes that no row uses.
    pub dead: u64,
    /// How steeply uses fall with ranks: uses are about rank to the power of minus this; None where few
    /// codes are used.
    pub zipf_exponent: Option<f64>,
    /// Whether there are more codes than counters for what follows: some codes share one, and numbers
    /// are at most what they would be.
    pub shared_counters: bool,
    /// Use by place in the grid.
    pub places: Places,
    /// Bits that a token's left or upper neighbour tells of it; None of grids of one token.
    pub neighbour_bits: Option<f64>,
    /// Labels whose codes differ most from the others'.
    pub labels: Vec<Drift>,
    /// Shards, or stretches of them, against all others.
    pub shards: Vec<Drift>,
    /// The other output against this one, where there is one.
    pub against: Option<Drift>,
}

/// The use of codes by place in the grid, row by row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Places {
    /// Rows of places: those of the grid, at most 16.
    pub height: usize,
    /// Places of a row.
    pub width: usize,
    /// Entropy of the codes at each place, in bits.
    pub entropy_bits: Vec<f64>,
    /// How far the codes at each place are from those at all others: Jensen-Shannon divergence in bits.
    pub divergence: Vec<f64>,
}

/// Every level's use, and the other output's beside it.
pub(super) fn of(levels: &[LevelReport], uses: &Uses, other: Option<&Uses>) -> Vec<Codebook> {
    let level = |(at, (level, patterns)): (usize, (&LevelReport, &Patterns))| {
        let whole = Whole::of(patterns);
        let against = other.and_then(|other| whole.other(&Whole::of(other.patterns.get(at)?)));
        Codebook {
            dead: level.codes.saturating_sub(level.used),
            zipf_exponent: zipf(&level.rank_frequency),
            shared_counters: level.codes > GROUPS as u64,
            places: places(patterns),
            neighbour_bits: patterns.neighbour_bits(),
            labels: whole.labels(),
            shards: whole.between(&patterns.stretches),
            against,
            level: level.clone(),
        }
    };
    levels.iter().zip(&uses.patterns).enumerate().map(level).collect()
}

/// What is to be said of shards and of the other output.
pub(super) fn remarks((codebook, bits): (&[Codebook], &[BitUse]), uses: &Uses) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = (uses.others.iter())
        .map(|(differs, (files, first))| Remark {
            about: "settings",
            finding: true,
            text: format!(
                "{first}{}: made with other settings than the first shard: {}",
                if *files > 1 { format!(" and {} more", files - 1) } else { String::new() },
                differs.join(", ")
            ),
        })
        .collect();
    let of_codes = codebook.first().map(|level| (&level.shards, &level.against));
    let of_bits = bits.first().map(|level| (&level.shards, &level.against));
    let Some((shards, against)) = of_codes.or(of_bits) else { return remarks };
    let differs =
        |drift: &&Drift| drift.z.is_some_and(|z| z >= DEVIATIONS) && drift.divergence >= APART;
    let odd: Vec<&Drift> = shards.iter().filter(differs).collect();
    if let Some(most) = odd.iter().max_by(|a, b| a.divergence.total_cmp(&b.divergence)) {
        let (mut of, more) = (most.of.clone(), odd.len() - 1);
        // A stretch of one shard has it at both ends.
        of.dedup();
        let of = of.join(" to ");
        remarks.push(Remark {
            about: "drift",
            finding: false,
            text: format!(
                "{of}{} other codes than the other shards{}: divergence {:.3} bits, {:.0} deviations \
                 above chance",
                if more > 0 { format!(" and {more} more use") } else { " uses".into() },
                if most.by_label { " do for the same labels" } else { "" },
                most.divergence,
                most.z.unwrap_or_default()
            ),
        });
    }
    remarks.extend(against.as_ref().map(|drift| other(drift, differs(&drift))));
    remarks
}

/// What the other output's codes say of how it was made.
fn other(drift: &Drift, differs: bool) -> Remark {
    let numbers = match drift.z {
        Some(z) => format!(
            "divergence {:.3} bits, {z:.1} deviations {} chance",
            drift.divergence,
            if z < 0.0 { "from" } else { "above" }
        ),
        None => {
            format!("divergence {:.3} bits, of too few images to tell chance", drift.divergence)
        }
    };
    let apart = drift.z.is_some_and(|z| z >= DEVIATIONS);
    let text = match differs {
        _ if drift.z.is_none() => {
            format!("whether the other output uses codes alike can't be told: {numbers}")
        }
        false if apart => format!(
            "the other output uses codes a little otherwise: {numbers}; less than other colours or \
             sizes do"
        ),
        true => format!(
            "the other output's codes are used otherwise: {numbers}; look for other colours, sizes or \
             a resize that was done before"
        ),
        false => format!("the other output uses codes alike: {numbers}"),
    };
    Remark { about: "against", finding: differs, text }
}

/// The slope of uses over ranks, both as logarithms.
fn zipf(ranks: &[(u64, u64)]) -> Option<f64> {
    if ranks.len() < 10 {
        return None;
    }
    let points: Vec<[f64; 2]> =
        ranks.iter().map(|&(rank, uses)| [(rank as f64).ln(), (uses as f64).ln()]).collect();
    let mean = [0, 1].map(|i| points.iter().map(|p| p[i]).sum::<f64>() / points.len() as f64);
    let sum = |f: fn(f64, f64) -> f64| {
        points.iter().map(|p| f(p[0] - mean[0], p[1] - mean[1])).sum::<f64>()
    };
    Some(-sum(|x, y| x * y) / sum(|x, _| x * x) + 0.0)
}

pub(super) fn places(patterns: &Patterns) -> Places {
    let mut all = Vec::new();
    for place in patterns.places() {
        all.resize(place.len(), 0.0);
        all.iter_mut().zip(place).for_each(|(sum, &uses)| *sum += f64::from(uses));
    }
    let (height, width) = patterns.frame;
    let of = |place: &[u32]| -> (f64, f64) {
        let own: Vec<f64> = place.iter().map(|&uses| f64::from(uses)).collect();
        let rest: Vec<f64> = all.iter().zip(&own).map(|(all, own)| all - own).collect();
        (entropy(&own), divergence(&own, &rest).unwrap_or(0.0))
    };
    let (entropy_bits, divergence) = patterns.places().map(of).unzip();
    Places { height, width, entropy_bits, divergence }
}

#[cfg(test)]
mod tests;
