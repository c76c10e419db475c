//! Owns from which similarity two images count as one: estimated from the similarities of images that
//! are two, of which there are ever fewer the higher it is. Must not know: which images they are.

/// Similarity from which pairs are counted.
pub(crate) const COUNTED: f32 = 0.6;
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
/// And this where two images of a set stand under different labels: those of strangers mostly differ,
/// those of copies hardly ever.
pub(super) const OF_CONFLICTS: f64 = 0.80;
/// And this where an image of one set accuses another set: a collection of photographs has one subject
/// several times, and those are about as alike as badly cropped copies.
const OF_LEAKS: f64 = 0.83;
/// How fast pairs of different images get fewer with [`depth`], where the data don't say it, and the
/// pairs that this counts for: many, since few photographs of one thing make a good part of a small set's
/// pairs.
pub(super) const USUAL_RATE: f64 = 9.0;
const USUAL: f64 = 60.0;
/// Depth over which pairs are looked at, and how many of different images beyond its begin are enough: of
/// more, only the likest are looked at, since they don't get fewer everywhere alike.
const WINDOW: f64 = 1.15;
const MEASURED: f64 = 2000.0;
/// Times that the window is moved, at most.
const MOVES: usize = 6;
/// Rounds of telling different images from copies, and depths of the window from where on there may be
/// more copies than before.
const ROUNDS: usize = 200;
const STEPS: usize = 4;
/// The least rate, and the one where more images than this share resemble many others: elsewhere pairs
/// that get fewer as slowly are copies of all degrees.
const LEAST_RATE: f64 = 6.0;
const LEAST_RATE_OF_CROWDS: f64 = 1.0;
const CROWDED: f64 = 0.1;
/// Bins of a unit of depth, and depths that are told apart.
const BINS: f64 = 100.0;
const DEEPEST: f64 = 8.0;

/// Share of pairs below which no conclusion is drawn from those that are seen.
const SEEN: f64 = 0.01;

/// Of how many images the others are known down to which depth: an image that resembles many others has
/// only the likest of them.
pub(super) struct Ends {
    /// By bin, the share of images of which no others of that depth are known.
    hidden: Vec<f64>,
}

impl Ends {
    /// Of so many images, by the similarity to the last that is known: 0 where all are known.
    pub(super) fn of(ends: impl Iterator<Item = f32>, images: f64) -> Ends {
        let mut hidden = vec![0.0; (BINS * DEEPEST) as usize];
        ends.filter(|&end| end > 0.0).for_each(|end| hidden[bin(end)] += 1.0 / images);
        let mut further = 0.0;
        for hidden in hidden.iter_mut().rev() {
            (further, *hidden) = (further + *hidden, further);
        }
        Ends { hidden }
    }
}

/// How many pairs are how alike.
#[derive(Debug, Clone)]
pub(super) struct Similarities {
    counts: Vec<u64>,
    /// By bin, the share of all pairs that could be seen.
    seen: Vec<f64>,
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

fn bin(score: f32) -> usize {
    let bin = depth(f64::from(score.clamp(0.0, 0.9999))) * BINS;
    (bin as usize).min((BINS * DEEPEST) as usize - 1)
}

impl Similarities {
    /// Of pairs of which either image knew the other.
    pub(super) fn of(scores: impl Iterator<Item = f32>, ends: [&Ends; 2]) -> Similarities {
        let mut counts = vec![0; (BINS * DEEPEST) as usize];
        scores.for_each(|score| counts[bin(score)] += 1);
        let hidden = ends[0].hidden.iter().zip(&ends[1].hidden);
        let seen = hidden.map(|(a, b)| (1.0 - a * b).max(SEEN)).collect();
        Similarities { counts, seen }
    }

    fn least_rate(&self) -> f64 {
        // A pair is hidden where it is in both of its images' crowds.
        let hidden = 1.0 - self.seen[bin(COUNTED)];
        if hidden.sqrt() > CROWDED { LEAST_RATE_OF_CROWDS } else { LEAST_RATE }
    }

    /// All pairs by bin, those that couldn't be seen among them.
    fn all(&self) -> impl Iterator<Item = f64> + '_ {
        self.counts.iter().zip(&self.seen).map(|(&count, seen)| count as f64 / seen)
    }

    fn between(&self, from: f64, to: f64) -> u64 {
        let bin = |depth: f64| ((depth * BINS).round() as usize).min(self.counts.len());
        self.counts[bin(from)..bin(to).max(bin(from))].iter().sum()
    }

    /// The threshold within a set: `given`, or estimated and at least `lowest`.
    pub(super) fn threshold(&self, given: Option<f64>, lowest: f64) -> Threshold {
        let tail = Tail::of(&self.all().collect::<Vec<_>>(), self.least_rate());
        self.above(|value| tail.beyond(depth(value)), given, lowest)
    }

    /// The same for `pairs` pairs of images across two sets, whose strangers are alike as those within one
    /// set are: of `within`, among so many pairs. Two small sets have too few to tell by themselves. Never
    /// below `lowest`, from where on images of the first set count as one.
    pub(super) fn threshold_across(
        &self,
        pairs: f64,
        (within, pairs_within): (&Similarities, f64),
        given: Option<f64>,
        lowest: f64,
    ) -> Threshold {
        let all = pairs + pairs_within;
        let counts: Vec<f64> = self.all().zip(within.all()).map(|(a, b)| a + b).collect();
        let tail = Tail::of(&counts, self.least_rate().min(within.least_rate()));
        let share = if all > 0.0 { pairs / all } else { 0.0 };
        self.above(|value| share * tail.beyond(depth(value)), given, lowest.max(OF_LEAKS))
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
    /// Of pairs by bin.
    fn of(counts: &[f64], least_rate: f64) -> Tail {
        let window = (WINDOW * BINS).round() as usize;
        let last = counts.len() - window;
        let within = |first| Tail::within(&counts[first..first + window], first, least_rate);
        let mut first = (depth(f64::from(COUNTED)) * BINS).round() as usize;
        let mut tail: Tail = within(first);
        for _ in 0..MOVES {
            let further = (tail.pairs / MEASURED).ln() / tail.rate * BINS;
            if first == last || further < 1.0 {
                break;
            }
            first = (first + (further as usize).min(window)).min(last);
            // The likest get fewer at least as fast; where they don't, they are copies.
            match within(first) {
                next if next.rate >= tail.rate => tail = next,
                _ => break,
            }
        }
        tail
    }

    /// Of the pairs in bins from the `first` on, by expectation and maximization: those of different
    /// images get exponentially fewer, those of copies don't get fewer, but may get more in steps.
    fn within(counts: &[f64], first: usize, least_rate: f64) -> Tail {
        let (from, width) = (first as f64 / BINS, counts.len() as f64 / BINS);
        let total = counts.iter().sum::<f64>();
        if total == 0.0 {
            return Tail { from, pairs: 0.0, rate: USUAL_RATE };
        }
        let usual = USUAL * mean_within(USUAL_RATE, width);
        let (mut strangers, mut copies, mut rate) = (0.6, [0.4 / STEPS as f64; STEPS], USUAL_RATE);
        for _ in 0..ROUNDS {
            let (mut pairs, mut beyond, mut others) = (0.0, 0.0, [0.0; STEPS]);
            for (bin, &count) in counts.iter().enumerate() {
                let depth = (bin as f64 + 0.5) / BINS;
                let stranger =
                    strangers * rate * (-rate * depth).exp() / (1.0 - (-rate * width).exp());
                let copy: [f64; STEPS] = std::array::from_fn(|step| {
                    let begin = width * step as f64 / STEPS as f64;
                    if depth < begin { 0.0 } else { copies[step] / (width - begin) }
                });
                let all = stranger + copy.iter().sum::<f64>();
                let each = count / all.max(f64::MIN_POSITIVE);
                pairs += each * stranger;
                beyond += each * stranger * depth;
                others.iter_mut().zip(copy).for_each(|(sum, copy)| *sum += each * copy);
            }
            strangers = pairs / total;
            copies = others.map(|pairs| pairs / total);
            rate = rate_of((beyond + usual) / (pairs + USUAL), width).max(least_rate);
        }
        Tail { from, pairs: strangers * total / (1.0 - (-rate * width).exp()), rate }
    }

    fn beyond(&self, depth: f64) -> f64 {
        self.pairs * (-self.rate * (depth - self.from)).exp()
    }
}

/// The rate of an exponential distribution of which what is below `width` has that mean.
fn rate_of(mean: f64, width: f64) -> f64 {
    // The mean falls as the rate rises.
    let (mut low, mut high) = (LEAST_RATE_OF_CROWDS, 60.0);
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

    /// The similarity of a depth.
    fn similarity(depth: f64) -> f64 {
        (1.0 - (-depth).exp()).max(0.0).sqrt()
    }

    fn of(scores: impl Iterator<Item = f32>) -> Similarities {
        let all_known = Ends::of([].into_iter(), 1.0);
        Similarities::of(scores, [&all_known, &all_known])
    }

    /// How alike strangers are, so many above [`COUNTED`], fewer by the usual rate.
    fn strangers(number: u32) -> impl Iterator<Item = f32> {
        (0..number).map(move |at| {
            let share = (f64::from(at) + 0.5) / f64::from(number);
            similarity(depth(f64::from(COUNTED)) - share.ln() / USUAL_RATE) as f32
        })
    }

    /// Those, and some copies.
    fn similarities(number: u32, copies: u32) -> Similarities {
        of(strangers(number).chain((0..copies).map(|at| 0.86 + 0.13 * at as f32 / copies as f32)))
    }

    fn estimated(strangers: u32, copies: u32) -> Threshold {
        similarities(strangers, copies).threshold(None, OF_COPIES)
    }

    #[test]
    fn it_rises_with_the_number_of_strangers_and_says_how_many_are_left() {
        let [few, many, most] =
            [1_000, 20_000, 400_000].map(|strangers| estimated(strangers, 2_000));
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
        let copies = (0..2_000).map(|at| 0.62 + 0.36 * at as f32 / 2_000.0);
        let threshold = of(strangers(100).chain(copies)).threshold(None, OF_COPIES);
        assert!(threshold.value < 0.81, "{threshold:?}");
    }

    #[test]
    fn many_copies_that_are_alike_by_the_same_arent_taken_for_strangers() {
        for (score, below) in [(0.87, 0.82), (0.9, 0.83), (0.95, 0.83)] {
            let copies = (0..3_000).map(|at| score + 0.03 * (at as f32 / 1_500.0 - 1.0));
            let threshold = of(strangers(20_000).chain(copies)).threshold(None, OF_COPIES);
            assert!(threshold.value < below, "{score}: {threshold:?}");
        }
    }

    #[test]
    fn few_strangers_let_it_sink_to_what_copies_and_leaks_are() {
        let (copies, within) = (similarities(10, 2_000), similarities(10, 2_000));
        assert_eq!(copies.threshold(None, OF_COPIES).value, OF_COPIES);
        let across = |given, lowest| copies.threshold_across(1e6, (&within, 1e6), given, lowest);
        assert_eq!(across(None, 0.8).value, OF_LEAKS);
        assert_eq!(across(None, 0.9).value, 0.9);
        let given = across(Some(0.7), 0.9);
        assert_eq!(given.value, 0.7);
    }

    #[test]
    fn without_copies_hardly_a_stranger_may_be_above_it() {
        let clean = estimated(2_000, 0);
        assert!(clean.false_pairs <= AT_LEAST && clean.value > 0.85, "{clean:?}");
        let copies = estimated(2_000, 500);
        assert!(copies.value < clean.value, "{copies:?} {clean:?}");
    }

    #[test]
    fn few_images_have_the_lowest_and_what_is_given_is_taken() {
        for copies in [0, 1, 40] {
            assert_eq!(estimated(0, copies).value, OF_COPIES);
        }
        let given = similarities(20_000, 0).threshold(Some(0.7), OF_COPIES);
        assert_eq!(given.value, 0.7);
        assert!((given.false_pairs / 2_600.0 - 1.0).abs() < 0.3, "{given:?}");
    }

    #[test]
    fn strangers_that_crowds_hide_are_counted_too() {
        // Of every second image only others from .75 on are known.
        let hiding = |share: usize| {
            let ends = Ends::of((0..100).map(|at| if at < share { 0.75 } else { 0.0 }), 100.0);
            let seen = |(at, score): (usize, f32)| {
                let hidden = score < 0.75 && (at * 37 % 10_000) < share * share;
                (!hidden).then_some(score)
            };
            Similarities::of(strangers(20_000).enumerate().filter_map(seen), [&ends, &ends])
        };
        let all = hiding(0).threshold(Some(0.8), OF_COPIES).false_pairs;
        for share in [50, 90] {
            let part = hiding(share).threshold(Some(0.8), OF_COPIES).false_pairs;
            assert!((part / all - 1.0).abs() < 0.05, "{share}: {part} {all}");
        }
    }
}
