//! Owns from which similarity two images count as one: estimated from the similarities of images that
//! are two, of which there are ever fewer the higher it is. Must not know: which images they are.

/// Similarity from which pairs are counted.
pub(super) const COUNTED: f32 = 0.6;
/// Pairs of different images above the threshold, as a share of all above it, that are put up with.
const PUT_UP_WITH: f64 = 0.0125;
/// And their number that is put up with in any case.
const AT_LEAST: f64 = 0.03;
/// The threshold is at most this, whatever the data say.
pub(super) const HIGHEST: f64 = 0.97;
/// And at least this where copies are looked for within a set.
const OF_COPIES: f64 = 0.77;
/// Or this in a set of so few images that hardly a pair of strangers is seen.
const OF_COPIES_AMONG_FEW: (f64, f64) = (0.80, 1000.0);
/// And this where an image of one set accuses another set.
const OF_LEAKS: f64 = 0.80;
/// How fast pairs get fewer with [`depth`], where the data don't say it.
const USUAL_RATE: f64 = 9.0;
/// How many times as many pairs there are as a tenth of a unit of depth on, at least, where most are of
/// different images; by the usual rate it is 2.5 times.
const FALL: f64 = 1.3;
/// Pairs that the usual rate counts for.
const USUAL: f64 = 16.0;
/// Share of all pairs of images above [`COUNTED`], where the data don't say it.
const USUAL_SHARE: f64 = 3e-5;
/// Pairs that the rate is measured on.
const MEASURED: u64 = 2000;
/// Bins of a unit of depth, and depths that are told apart.
const BINS: f64 = 100.0;
const DEEPEST: f64 = 8.0;

/// How many pairs are how alike.
#[derive(Debug, Clone)]
pub(super) struct Similarities {
    counts: Vec<u64>,
}

/// From which similarity two images count as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Threshold {
    pub value: f64,
    /// Pairs of different images above it.
    pub false_pairs: f64,
}

/// The lowest threshold within a set of so many images.
pub(super) fn lowest(images: f64) -> f64 {
    if images < OF_COPIES_AMONG_FEW.1 { OF_COPIES_AMONG_FEW.0 } else { OF_COPIES }
}

/// A measure of similarity of which there are exponentially fewer pairs: so it is of any two directions
/// in a space of many dimensions, the faster the more there are.
pub(super) fn depth(score: f64) -> f64 {
    -(1.0 - score * score).ln()
}

/// The similarity of that depth.
pub(super) fn similarity(depth: f64) -> f64 {
    (1.0 - (-depth).exp()).max(0.0).sqrt()
}

impl Similarities {
    pub(super) fn new() -> Similarities {
        Similarities { counts: vec![0; (BINS * DEEPEST) as usize] }
    }

    pub(super) fn add(&mut self, score: f32) {
        let bin = depth(f64::from(score.clamp(0.0, 0.9999))) * BINS;
        let bin = (bin as usize).min(self.counts.len() - 1);
        self.counts[bin] += 1;
    }

    fn between(&self, from: f64, to: f64) -> u64 {
        let bin = |depth: f64| ((depth * BINS).round() as usize).min(self.counts.len());
        self.counts[bin(from)..bin(to).max(bin(from))].iter().sum()
    }

    /// The threshold for `pairs` pairs of images: `given`, or estimated and at least `lowest`.
    pub(super) fn threshold(&self, pairs: f64, given: Option<f64>, lowest: f64) -> Threshold {
        let tail = Tail::of(self, pairs);
        self.above(|value| tail.beyond(depth(value)), given, lowest)
    }

    /// The same for `pairs` pairs across two sets, whose strangers are alike as those within one set are:
    /// of `within`, among so many pairs. Two small sets have too few to tell by themselves.
    pub(super) fn threshold_across(
        &self,
        pairs: f64,
        (within, pairs_within): (&Similarities, f64),
        given: Option<f64>,
    ) -> Threshold {
        let all = pairs + pairs_within;
        let counts = self.counts.iter().zip(&within.counts).map(|(a, b)| a + b).collect();
        let tail = Tail::of(&Similarities { counts }, all);
        let share = if all > 0.0 { pairs / all } else { 0.0 };
        self.above(|value| share * tail.beyond(depth(value)), given, OF_LEAKS)
    }

    /// The threshold: `given`, or the lowest above `lowest` at which few enough of what is found is false.
    fn above(
        &self,
        false_pairs: impl Fn(f64) -> f64,
        given: Option<f64>,
        lowest: f64,
    ) -> Threshold {
        if let Some(value) = given {
            return Threshold { value, false_pairs: false_pairs(value) };
        }
        let enough = |value: &f64| {
            let found = self.between(depth(*value), DEEPEST) as f64;
            false_pairs(*value) <= (PUT_UP_WITH * found).max(AT_LEAST)
        };
        let steps = ((HIGHEST - lowest) * 1000.0).round() as u32;
        let value = |step: u32| ((lowest * 1000.0).round() + f64::from(step)) / 1000.0;
        let value = (0..=steps).map(value).find(enough).unwrap_or(HIGHEST);
        Threshold { value, false_pairs: false_pairs(value) }
    }
}

/// How the number of pairs of different images falls.
#[derive(Debug)]
struct Tail {
    from: f64,
    /// Pairs beyond `from`.
    pairs: f64,
    rate: f64,
}

impl Tail {
    fn of(seen: &Similarities, pairs: f64) -> Tail {
        let lowest = depth(f64::from(COUNTED));
        // Where pairs are as rare as where most are one image indeed, these are no longer few among them.
        let rare = 2.0 * seen.between(1.4, 2.4) as f64;
        let width = 0.1;
        let number = |from: f64| seen.between(from, from + width) as f64;
        // Where they don't get fewer, most are copies.
        let strangers = |from: &f64| {
            number(*from) / width > rare.max(20.0) && number(*from) >= FALL * number(from + width)
        };
        let steps = (0..10).map(|step| lowest + width * f64::from(step));
        let to = steps.take_while(strangers).last().map_or(lowest, |from| from + width);
        let mut from = to;
        while from - width > lowest - 1e-9 && seen.between(from, to) < MEASURED {
            from -= width;
        }
        let measured = seen.between(from, to) as f64;
        let usual = (pairs * USUAL_SHARE).min(USUAL);
        if measured <= usual {
            return Tail { from: lowest, pairs: usual, rate: USUAL_RATE };
        }
        let rate = rate(seen, from, to);
        let beyond = measured / (1.0 - (-rate * (to - from)).exp());
        Tail { from, pairs: beyond, rate }
    }

    fn beyond(&self, depth: f64) -> f64 {
        self.pairs * (-self.rate * (depth - self.from)).exp()
    }
}

/// The rate of an exponential distribution that is only seen from `from` to `to`, the likeliest one.
fn rate(seen: &Similarities, from: f64, to: f64) -> f64 {
    let (first, last) = ((from * BINS).round() as usize, (to * BINS).round() as usize);
    let width = to - from;
    let (mut number, mut sum) = (0.0, 0.0);
    for bin in first..last.min(seen.counts.len()) {
        number += seen.counts[bin] as f64;
        sum += seen.counts[bin] as f64 * ((bin - first) as f64 + 0.5) / BINS;
    }
    let mean = (sum + USUAL * mean_within(USUAL_RATE, width)) / (number + USUAL);
    // The mean falls as the rate rises.
    let (mut low, mut high) = (1.0, 60.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if mean_within(middle, width) > mean { low = middle } else { high = middle }
    }
    low
}

/// The mean of an exponential distribution below `width`.
fn mean_within(rate: f64, width: f64) -> f64 {
    1.0 / rate - width / ((rate * width).exp() - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of strangers, so many above [`COUNTED`], fewer by the usual rate; and some copies.
    fn similarities(strangers: u32, copies: u32) -> Similarities {
        let mut seen = Similarities::new();
        for at in 0..strangers {
            let share = (f64::from(at) + 0.5) / f64::from(strangers);
            let depth = depth(f64::from(COUNTED)) - share.ln() / USUAL_RATE;
            seen.add((1.0 - (-depth).exp()).sqrt() as f32);
        }
        (0..copies).for_each(|at| seen.add(0.86 + 0.13 * at as f32 / copies as f32));
        seen
    }

    fn estimated(strangers: u32, copies: u32, pairs: f64) -> Threshold {
        similarities(strangers, copies).threshold(pairs, None, OF_COPIES)
    }

    #[test]
    fn it_rises_with_the_number_of_strangers_and_says_how_many_are_left() {
        let [few, many, most] =
            [1_000, 20_000, 400_000].map(|strangers| estimated(strangers, 2_000, 1e9));
        assert!(few.value < many.value && many.value < most.value, "{few:?} {many:?} {most:?}");
        for (threshold, strangers) in [(many, 20_000.0), (most, 400_000.0)] {
            let fall = -USUAL_RATE * (depth(threshold.value) - depth(f64::from(COUNTED)));
            let left = strangers * fall.exp();
            assert!((threshold.false_pairs / left - 1.0).abs() < 0.3, "{threshold:?} {left}");
            assert!(threshold.false_pairs <= PUT_UP_WITH * 2_100.0);
        }
    }

    #[test]
    fn copies_that_are_only_somewhat_alike_arent_taken_for_strangers() {
        let mut seen = similarities(100, 0);
        (0..2_000).for_each(|at| seen.add(0.62 + 0.36 * at as f32 / 2_000.0));
        let threshold = seen.threshold(1e8, None, OF_COPIES);
        assert!(threshold.value < 0.8, "{threshold:?}");
    }

    #[test]
    fn without_copies_hardly_a_stranger_may_be_above_it() {
        let clean = estimated(2_000, 0, 1e7);
        assert!(clean.false_pairs <= AT_LEAST && clean.value > 0.85, "{clean:?}");
        let copies = estimated(2_000, 500, 1e7);
        assert!(copies.value < clean.value, "{copies:?} {clean:?}");
    }

    #[test]
    fn few_images_have_the_lowest_and_what_is_given_is_taken() {
        for pairs in [0.0, 1.0, 1e4] {
            assert_eq!(estimated(0, 0, pairs).value, OF_COPIES);
        }
        let given = similarities(20_000, 0).threshold(1e8, Some(0.7), OF_COPIES);
        assert_eq!(given.value, 0.7);
        assert!((given.false_pairs / 2_600.0 - 1.0).abs() < 0.3, "{given:?}");
    }
}
