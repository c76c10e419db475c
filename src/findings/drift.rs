//! Owns how the use of codes differs between the shards of an output, its labels, and another output.
//! Must not know: how codes are counted, how findings are shown.

use std::collections::BTreeMap;

use serde::Serialize;

use super::chance::{Chance, divergence};
use crate::audit::patterns::{Patterns, Stretch};

/// Labels and stretches that are listed.
const LISTED: usize = 50;
/// Share of the rows of its labels from which on a shard has no others to be compared with.
const ALONE: f64 = 0.5;
/// Share of rows whose labels both sides know, from which they are compared label by label.
const SHARED: f64 = 0.9;

/// How far some rows are from others in their use of codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// What rows: a label, or the first and the last of the shards.
    pub of: Vec<String>,
    /// How many.
    pub rows: u64,
    /// Jensen-Shannon divergence of their codes from those of the others, in bits: from 0 to 1.
    pub divergence: f64,
    /// By how many deviations that is more than between random rows; None where they are too few, or
    /// no others have their labels.
    pub z: Option<f64>,
    /// Whether the others were weighted to have the same labels.
    pub by_label: bool,
}

/// What an output's rows are compared with.
pub(super) struct Whole<'a> {
    uses: Vec<f64>,
    rows: u64,
    /// Of sampled rows, as the labels' counts are, and which share of all that is.
    sampled: Vec<f64>,
    share: f64,
    labels: BTreeMap<&'a str, Vec<f64>>,
    label_rows: BTreeMap<&'a str, u64>,
    chance: Option<Chance>,
}

impl<'a> Whole<'a> {
    pub(super) fn of(patterns: &'a Patterns) -> Whole<'a> {
        let labels: BTreeMap<&str, Vec<f64>> =
            patterns.labels().map(|(label, uses)| (label, floats(uses))).collect();
        let mut label_rows: BTreeMap<&str, u64> = BTreeMap::new();
        for (label, rows) in patterns.stretches.iter().flat_map(|stretch| &stretch.labels) {
            if labels.contains_key(label.as_str()) {
                *label_rows.entry(label).or_default() += rows;
            }
        }
        let parts: Vec<Vec<f64>> = patterns.parts().map(floats).collect();
        let mut sampled = vec![0.0; patterns.uses().len()];
        parts
            .iter()
            .flat_map(|part| part.iter().enumerate())
            .for_each(|(at, uses)| sampled[at] += uses);
        let rows: u64 = patterns.stretches.iter().map(|stretch| stretch.rows).sum();
        Whole {
            sampled,
            share: patterns.part_rows.iter().sum::<u64>() as f64 / rows.max(1) as f64,
            rows,
            uses: patterns.uses().iter().map(|&uses| uses as f64).collect(),
            labels,
            label_rows,
            chance: Chance::of(&parts, &patterns.part_rows),
        }
    }

    /// How many of so many rows were sampled, about.
    fn of_those(&self, rows: u64) -> u64 {
        (rows as f64 * self.share) as u64
    }

    /// Rows that have a label of their own counts.
    fn labelled(&self) -> u64 {
        self.label_rows.values().sum()
    }

    /// The stretches of its own shards against all others, in their order. Where rows have labels, the
    /// others are weighted by those: sorted inputs have a few labels a shard.
    pub(super) fn between(&self, stretches: &[Stretch]) -> Vec<Drift> {
        if stretches.len() < 2 {
            return Vec::new();
        }
        let labelled = self.labelled() as f64 >= SHARED * self.rows as f64;
        let drift = |stretch: &Stretch| {
            let own: Vec<f64> = stretch.uses.iter().map(|&uses| uses as f64).collect();
            let rows = [stretch.rows, self.rows - stretch.rows];
            let of = stretch.names.to_vec();
            if !labelled {
                let others: Vec<f64> =
                    self.uses.iter().zip(&own).map(|(all, own)| all - own).collect();
                return self.drift(of, &own, &others, rows, false);
            }
            let rows = [rows[0], self.of_those(rows[1])];
            let found = self.drift(of, &own, &self.weighted(&stretch.labels), rows, true)?;
            // All rows with its labels are partly its own, which brings the two nearer.
            let alone = self.share_of(stretch);
            let divergence = found.divergence / (1.0 - alone.min(ALONE)).powi(2);
            let chance = self.chance.as_ref().filter(|_| alone < ALONE);
            let z = chance.map(|chance| chance.deviations(divergence, rows));
            Some(Drift { divergence, z, ..found })
        };
        stretches.iter().filter_map(drift).collect()
    }

    /// Which share of the rows with its labels is a stretch's own.
    fn share_of(&self, stretch: &Stretch) -> f64 {
        let (mut own, mut shares) = (0.0, 0.0);
        for (label, &rows) in &stretch.labels {
            let all = self.label_rows.get(label.as_str()).copied().unwrap_or(rows).max(1);
            own += rows as f64;
            shares += rows as f64 * (rows as f64 / all as f64);
        }
        shares / f64::max(own, 1.0)
    }

    /// Each label against all rows, those that differ most first.
    pub(super) fn labels(&self) -> Vec<Drift> {
        let skew = |(label, uses): (&&str, &Vec<f64>)| {
            let rows = self.label_rows.get(label).copied().unwrap_or(0);
            let rest: Vec<f64> =
                self.sampled.iter().zip(uses).map(|(all, own)| all - own).collect();
            let of = vec![label.to_string()];
            let told = [rows, self.rows - rows.min(self.rows)].map(|rows| self.of_those(rows));
            let drift = self.drift(of, uses, &rest, told, false)?;
            Some(Drift { rows, ..drift })
        };
        let mut found: Vec<Drift> = self.labels.iter().filter_map(skew).collect();
        found.sort_by(|a, b| b.divergence.total_cmp(&a.divergence).then_with(|| a.of.cmp(&b.of)));
        found.truncate(LISTED);
        found
    }

    /// Another output's rows against these.
    pub(super) fn other(&self, other: &Whole) -> Option<Drift> {
        let shared = |label: &&str| self.labels.contains_key(*label);
        let known: BTreeMap<String, u64> = (other.label_rows.iter())
            .filter(|(label, _)| shared(label))
            .map(|(label, rows)| (label.to_string(), *rows))
            .collect();
        let rows: u64 = known.values().sum();
        let by_label = rows > 0 && rows as f64 >= SHARED * other.rows as f64;
        if !by_label {
            return self.drift(Vec::new(), &other.uses, &self.uses, [other.rows, self.rows], false);
        }
        let mut own = vec![0.0; other.uses.len()];
        for label in known.keys() {
            own.iter_mut().zip(&other.labels[label.as_str()]).for_each(|(sum, uses)| *sum += uses);
        }
        let told = [other.of_those(rows), self.of_those(self.rows)];
        let drift = self.drift(Vec::new(), &own, &self.weighted(&known), told, true)?;
        Some(Drift { rows, ..drift })
    }

    /// The use of codes by rows of these labels, as all rows with them use codes.
    fn weighted(&self, labels: &BTreeMap<String, u64>) -> Vec<f64> {
        let mut uses = vec![0.0; self.uses.len()];
        for (label, rows) in labels {
            let key = label.as_str();
            let (Some(own), Some(all)) = (self.labels.get(key), self.label_rows.get(key)) else {
                continue;
            };
            let weight = *rows as f64 / (*all).max(1) as f64;
            uses.iter_mut().zip(own).for_each(|(sum, uses)| *sum += weight * uses);
        }
        uses
    }

    fn drift(
        &self,
        of: Vec<String>,
        own: &[f64],
        others: &[f64],
        rows: [u64; 2],
        by_label: bool,
    ) -> Option<Drift> {
        let divergence = divergence(own, others)?;
        let chance = self.chance.as_ref().filter(|_| rows.iter().all(|&rows| rows > 1));
        let z = chance.map(|chance| chance.deviations(divergence, rows));
        Some(Drift { of, rows: rows[0], divergence, z, by_label })
    }
}

fn floats(uses: &[u32]) -> Vec<f64> {
    uses.iter().map(|&uses| f64::from(uses)).collect()
}
