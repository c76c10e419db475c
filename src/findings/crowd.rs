//! Owns telling whether images resemble many others: digits, forms, logos, of which any two are as alike
//! as copies of other pictures are. Must not know: how images are compared.

use super::columns::Scratch;
use super::near::Pair;
use super::threshold::{Ends, HIGHEST, USUAL_RATE, depth};
use crate::error::Result;

/// Others that an image of a crowd resembles; copies of one image are seldom so many.
const MANY: usize = 8;
/// Images of a set below which nothing is said of it as a whole.
const SET: f64 = 16.0;
/// Strangers that may be expected to be as like an image of a crowd as its copy is.
const STRANGERS: f64 = 0.02;

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

    /// Whether what is so like an image of a crowd may as well be one more of them: the others get fewer the
    /// liker they are (Hill's estimate of how fast, the pair itself left out), and by that at least one in
    /// fifty such images has a stranger as like it. Nothing is said of an image that resembles fewer, and
    /// from [`HIGHEST`] on images are one whatever the others are.
    pub(super) fn hides(&self, image: u32, score: f32) -> bool {
        let best = &self.best[image as usize];
        let [last, score] = [best[MANY - 1], score].map(f64::from);
        if last == 0.0 || score >= HIGHEST {
            return false;
        }
        let beyond = |score: f64| depth(score) - depth(last);
        let all: f64 = best.iter().map(|&other| beyond(f64::from(other))).sum();
        // Of the seven others, or of all eight where the pair is none of the likest.
        let (others, of) = match score >= last {
            true => (all - beyond(score), MANY - 1),
            false => (all, MANY),
        };
        let mean = (others / of as f64).max(1.0 / USUAL_RATE);
        MANY as f64 * (-beyond(score) / mean).exp() > STRANGERS
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

    /// A crowd of one image: eight others that are so like it.
    fn crowd_of(scores: [f32; MANY]) -> Crowd {
        let pair = |(at, &score): (usize, &f32)| Pair::of(0, at as u32 + 1, score);
        let pairs: Vec<Pair> = scores.iter().enumerate().map(pair).collect();
        Crowd::of(20, &pairs, |pair| [Some(pair.first), None]).unwrap()
    }

    #[test]
    fn one_of_a_crowd_is_told_from_a_copy_that_stands_out() {
        // A digit among many of its kind, and a photograph with one copy.
        let digit = crowd_of([0.95, 0.94, 0.93, 0.93, 0.93, 0.92, 0.9, 0.9]);
        assert!([0.95, 0.93, 0.9, 0.85].iter().all(|&score| digit.hides(0, score)));
        assert!(!digit.hides(0, 0.98), "surely one");
        let sky = crowd_of([0.93, 0.7, 0.69, 0.68, 0.67, 0.66, 0.65, 0.64]);
        assert!(!sky.hides(0, 0.93));
        assert!(sky.hides(0, 0.7));
        // Seven others are no crowd, and an image that resembles none isn't in one.
        let few = crowd_of([0.95, 0.94, 0.93, 0.93, 0.93, 0.92, 0.9, 0.0]);
        assert!(!few.hides(0, 0.95) && !digit.hides(7, 0.9));
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
