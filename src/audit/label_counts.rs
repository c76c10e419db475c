//! Owns counting rows by label. Must not know: files.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

/// Labels that are counted one by one; the images of further ones are summed up.
pub const LABELS_MAX: usize = 20_000;

/// The rows of one label.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LabelReport {
    /// Rows.
    pub rows: u64,
    /// Mean of their quantization errors, None where none has one.
    pub mean_error: Option<f64>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LabelSums {
    pub rows: u64,
    measured: u64,
    error: f64,
}

impl LabelSums {
    /// A row, with its error where it has one.
    fn add(&mut self, error: Option<f64>) {
        self.rows += 1;
        self.measured += u64::from(error.is_some());
        self.error += error.unwrap_or(0.0);
    }

    fn merge(&mut self, other: &LabelSums) {
        self.rows += other.rows;
        self.measured += other.measured;
        self.error += other.error;
    }

    pub(super) fn report(&self) -> LabelReport {
        let mean = (self.measured > 0).then(|| self.error / self.measured as f64);
        LabelReport { rows: self.rows, mean_error: mean }
    }
}

/// Rows by label.
#[derive(Debug, Default)]
pub(super) struct LabelCounts {
    pub labels: BTreeMap<String, LabelSums>,
    pub further: u64,
}

impl LabelCounts {
    pub(super) fn merge(&mut self, other: LabelCounts) {
        self.further += other.further;
        other.labels.iter().for_each(|(label, sums)| self.add(label, sums));
    }

    fn add(&mut self, label: &str, sums: &LabelSums) {
        if let Some(known) = self.labels.get_mut(label) {
            known.merge(sums);
        } else if self.labels.len() < LABELS_MAX {
            self.labels.insert(label.to_string(), *sums);
        } else {
            self.further += sums.rows;
        }
    }
}

/// The labels of one file in the order in which they come up; rows of one label often stand together.
#[derive(Default)]
pub(super) struct FileLabels {
    places: HashMap<Vec<u8>, usize>,
    labels: Vec<(String, LabelSums)>,
    last: Option<(Vec<u8>, usize)>,
    further: u64,
}

impl FileLabels {
    /// Counts a row whose label is `bytes`; gives the label's place, and its text where it is new.
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        text: impl FnOnce() -> String,
        error: Option<f64>,
    ) -> Option<(usize, Option<&str>)> {
        let last = self.last.as_ref().filter(|(last, _)| last == bytes).map(|(_, place)| *place);
        let place = last.or_else(|| self.places.get(bytes).copied());
        let new = place.is_none();
        let place = match place {
            Some(place) => place,
            None if self.labels.len() < LABELS_MAX => {
                self.places.insert(bytes.to_vec(), self.labels.len());
                self.labels.push((text(), LabelSums::default()));
                self.labels.len() - 1
            }
            None => {
                self.further += 1;
                return None;
            }
        };
        if last.is_none() {
            self.last = Some((bytes.to_vec(), place));
        }
        let (label, sums) = &mut self.labels[place];
        sums.add(error);
        Some((place, new.then_some(label)))
    }

    /// The rows of the first labels that came up, at most so many of those.
    pub(super) fn first(&self, labels: usize) -> BTreeMap<String, u64> {
        let first = self.labels.iter().take(labels);
        first.map(|(label, sums)| (label.clone(), sums.rows)).collect()
    }

    pub(super) fn finish(self) -> LabelCounts {
        let mut counts = LabelCounts { labels: BTreeMap::new(), further: self.further };
        self.labels.iter().for_each(|(label, sums)| counts.add(label, sums));
        counts
    }
}
