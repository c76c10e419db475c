//! Owns telling what is no number: latents, distances and pixels that are not finite. Codes and
//! bytes that come of them look like any others, so their image fails instead.

use super::config::{Architecture, ModelConfig, QuantizerRule};

/// Whether no value is NaN or infinite.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    // A fold of a chunk is vectorised where a search that ends early isn't.
    values.chunks(1024).all(|some| some.iter().fold(true, |all, v| all & v.is_finite()))
}

/// Why latents, `[T, stride]`, can't become codes, in one line; None where all are finite.
pub(crate) fn latents(latents: &[f32], stride: usize) -> Option<String> {
    told(latents, stride, "latents are not finite: the encoder overflows float32 on this image")
}

/// The same for the distances of latents to their codes. Rules that measure none give NaN for
/// each, which says nothing.
pub(crate) fn distances(rule: QuantizerRule, distances: &[f32]) -> Option<String> {
    use QuantizerRule::{Dot, Fsq, L2, L2Normalised};
    if !matches!(rule, L2 | L2Normalised | Dot | Fsq) {
        return None;
    }
    told(distances, 1, "latents are too far from every code for float32")
}

/// Why a decoder's floats, `[pixels, C]` or `[C, pixels]` of a grid of that size, are no picture.
pub(crate) fn pixels(config: &ModelConfig, grid: (usize, usize), floats: &[f32]) -> Option<String> {
    if all_finite(floats) {
        return None;
    }
    if matches!(config.architecture, Architecture::OpenMagvit2(_)) && grid == (1, 1) {
        let text = "a grid of 1x1 tokens has no variance, by which this decoder scales: take a \
                    larger picture";
        return Some(text.to_owned());
    }
    let channels = config.pixels.channels;
    let count = floats.iter().filter(|v| !v.is_finite()).count();
    let all = floats.len();
    Some(format!(
        "{count} of the {all} values of {} pixels are not finite: the decoder overflows float32 on \
         these tokens",
        all / channels.max(1)
    ))
}

/// How many rows of `[T, stride]` hold a value that isn't finite, and what that means.
pub(crate) fn told(values: &[f32], stride: usize, meaning: &str) -> Option<String> {
    if all_finite(values) {
        return None;
    }
    let rows = values.chunks(stride.max(1));
    let (all, bad) = (rows.len(), rows.filter(|row| !all_finite(row)).count());
    Some(format!("{bad} of {all} {meaning}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_that_is_no_number_is_found_wherever_it_is() {
        for count in [1, 5, 1023, 1024, 1025, 3000] {
            for at in [0, count / 2, count - 1] {
                let mut values = vec![f32::MAX; count];
                assert!(all_finite(&values));
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    values[at] = bad;
                    assert!(!all_finite(&values), "{bad} at {at} of {count}");
                }
            }
        }
        assert!(all_finite(&[]));
    }

    #[test]
    fn rows_are_counted() {
        let values = [1.0, f32::NAN, f32::INFINITY, 0.0, 2.0, 3.0];
        let said = latents(&values, 2).unwrap();
        assert!(said.starts_with("2 of 3 latents are not finite"), "{said}");
        assert_eq!(latents(&values[3..5], 2), None);
    }

    #[test]
    fn only_rules_that_measure_are_held_to_their_distances() {
        use QuantizerRule::*;
        for (rule, measures) in [
            (L2, true),
            (L2Normalised, true),
            (Dot, true),
            (Fsq, true),
            (Projection, false),
            (Logits, false),
            (Sign, false),
        ] {
            assert_eq!(distances(rule, &[1.0, f32::NAN]).is_some(), measures, "{rule:?}");
            assert_eq!(distances(rule, &[1.0, 2.0]), None);
        }
    }
}
