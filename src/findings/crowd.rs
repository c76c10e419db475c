//! Owns telling whether images resemble many others: digits, forms, logos, of which any two are as alike
//! as copies of other pictures are. Must not know: how images are compared.

use super::columns::Scratch;
use super::near::Pair;
use super::threshold::Ends;
use crate::error::Result;

/// Others that an image of a crowd resembles; copies of one image are seldom so many.
const MANY: usize = 8;
/// Images of a set below which nothing is said of it as a whole.
const SET: f64 = 16.0;

/// How alike each image is to the others that it resembles most.
pub(super) struct Crowd {
    /// The likest first, 0 where there are no more.
    best: Scratch<[f32; MANY]>,
}

impl Crowd {
    /// Of so many images; `which` says which images of a pair are meant.
    ///
    /// # Errors
    /// A file system that is full.
    pub(super) fn of(
        images: usize,
        pairs: &[Pair],
        which: impl Fn(&Pair) -> [Option<u32>; 2],
    ) -> Result<Crowd> {
        let mut best = Scratch::<[f32; MANY]>::zeroed(images)?;
        for pair in pairs {
            for image in which(pair).into_iter().flatten() {
                let best = &mut best[image as usize];
                let place = best.partition_point(|&score| score >= pair.score);
                if place < MANY {
                    best[place..].rotate_right(1);
                    best[place] = pair.score;
                }
            }
        }
        Ok(Crowd { best })
    }

    /// Down to where the others of `compared` images are known.
    pub(super) fn ends(&self, compared: f64) -> Ends {
        Ends::of(self.best.iter().map(|best| best[MANY - 1]), compared)
    }

    /// How many images resemble many others as much as copies do.
    pub(super) fn crowded(&self, threshold: f64) -> u64 {
        self.best.iter().filter(|best| f64::from(best[MANY - 1]) >= threshold).count() as u64
    }

    /// That number, where it is more than half of the `compared` images: then copies can't be told.
    pub(super) fn is_everyone(&self, compared: f64, threshold: f64) -> Option<u64> {
        let crowded = self.crowded(threshold);
        (compared >= SET && crowded as f64 > compared / 2.0).then_some(crowded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likest_of_many_are_known_in_whatever_order_they_come() {
        let scores = [0.8, 0.81, 0.82, 0.79, 0.84, 0.83, 0.85, 0.86, 0.7, 0.6];
        let pair = |(at, &score): (usize, &f32)| Pair::of(0, at as u32 + 1, score);
        let pairs: Vec<Pair> = scores.iter().enumerate().map(pair).collect();
        let both = |pair: &Pair| [Some(pair.first), Some(pair.second)];
        let crowd = Crowd::of(40, &pairs, both).unwrap();
        assert_eq!(crowd.best[0], [0.86, 0.85, 0.84, 0.83, 0.82, 0.81, 0.8, 0.79]);
        assert_eq!(crowd.best[3], [0.82, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!((crowd.crowded(0.79), crowd.crowded(0.8)), (1, 0));
    }

    #[test]
    fn where_everyone_is_in_the_crowd_that_is_said() {
        let everyone: Vec<Pair> =
            (0..40).flat_map(|a| (a + 1..40).map(move |b| Pair::of(a, b, 0.85))).collect();
        let both = |pair: &Pair| [Some(pair.first), Some(pair.second)];
        let crowd = Crowd::of(40, &everyone, both).unwrap();
        assert_eq!(crowd.is_everyone(40.0, 0.8), Some(40));
        assert_eq!((crowd.is_everyone(40.0, 0.9), crowd.is_everyone(90.0, 0.8)), (None, None));
        assert_eq!(Crowd::of(40, &[], both).unwrap().is_everyone(40.0, 0.8), None);
    }
}
