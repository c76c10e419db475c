//! Owns which images models do worst on. Must not know: where they come from, how they are shown.

use super::compare::Likeness;
use super::figures::{ImageFigures, WorstImage};
use super::rows::Row;
use crate::data::SourceImage;

/// The worst images so far, the worst first; of equally bad ones those that came first.
pub(crate) struct Worst {
    wanted: usize,
    kept: Vec<(f64, WorstImage)>,
}

impl Worst {
    pub(crate) fn new(wanted: usize) -> Worst {
        Worst { wanted, kept: Vec::new() }
    }

    /// Takes the next image: a row a model. One that no model could reconstruct isn't bad, but missing.
    pub(crate) fn take(&mut self, source: &SourceImage, rows: &[&Row]) {
        let found: Vec<Option<&Likeness>> =
            rows.iter().map(|row| row.found.as_ref().ok().map(|found| &found.likeness)).collect();
        let Some(score) = badness(&found) else { return };
        let at = self.kept.partition_point(|(other, _)| *other >= score);
        if at < self.wanted {
            let image = WorstImage {
                key: source.key.clone(),
                label: rows.first().and_then(|row| row.label.clone()),
                models: found.into_iter().map(|one| one.map(ImageFigures::from)).collect(),
                source: source.clone(),
            };
            self.kept.insert(at, (score, image));
            self.kept.truncate(self.wanted);
        }
    }

    pub(crate) fn finish(self) -> Vec<WorstImage> {
        self.kept.into_iter().map(|(_, image)| image).collect()
    }
}

/// The mean over models of LPIPS where all have it, else of the logarithm of the error. An image that
/// has LPIPS counts as worse than one without: that is too small for the network.
fn badness(found: &[Option<&Likeness>]) -> Option<f64> {
    let there: Vec<&Likeness> = found.iter().flatten().copied().collect();
    if there.is_empty() {
        return None;
    }
    let mean = |of: &dyn Fn(&Likeness) -> f64| {
        there.iter().map(|likeness| of(likeness)).sum::<f64>() / there.len() as f64
    };
    Some(match there.iter().all(|likeness| likeness.lpips.is_some()) {
        // Errors end far below.
        true => LPIPS + mean(&|likeness| likeness.lpips.unwrap_or_default()),
        false => mean(&|likeness| likeness.mse.max(f64::MIN_POSITIVE).ln()),
    })
}

/// Above the logarithm of every error.
const LPIPS: f64 = 1e3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::rows::Found;

    fn rows(likenesses: &[Option<(f64, Option<f64>)>]) -> Vec<Row> {
        let row = |likeness: &Option<(f64, Option<f64>)>| {
            let found = likeness.map(|(mse, lpips)| Found {
                likeness: Likeness { mse, lpips, ..Likeness::default() },
                ..Found::default()
            });
            let found = found.ok_or_else(|| "no".to_string());
            Row { key: String::new(), label: None, image: [1, 1], found }
        };
        likenesses.iter().map(row).collect()
    }

    #[test]
    fn the_worst_come_first_and_the_first_of_equals() {
        let mut worst = Worst::new(3);
        let images = [
            ("same", vec![Some((0.0, None))]),
            ("small", vec![Some((4.0, None)), Some((4.0, None))]),
            ("also", vec![Some((2.0, None)), Some((8.0, None))]),
            ("seen", vec![Some((1.0, Some(0.1)))]),
            ("none", vec![None, None]),
            ("half", vec![None, Some((5.0, None))]),
        ];
        for (key, likenesses) in images {
            let source = SourceImage { key: key.into(), ..SourceImage::default() };
            let rows = rows(&likenesses);
            worst.take(&source, &rows.iter().collect::<Vec<_>>());
        }
        let found = worst.finish();
        let keys: Vec<&str> = found.iter().map(|image| image.key.as_str()).collect();
        assert_eq!(keys, ["seen", "half", "small"]);
        assert_eq!(found[1].models[0], None);
        assert!(found[1].models[1].as_ref().unwrap().psnr_db.is_some());
    }
}
