//! Owns choosing some images of a stream of unknown length, evenly and in order.

use crate::error::Result;

/// `count` of the stream's images at even distances, in order, or all where there are fewer.
/// Memory: at most twice `count` entries.
///
/// # Errors
/// The stream's first.
pub fn evenly<T>(stream: impl Iterator<Item = Result<T>>, count: usize) -> Result<Vec<T>> {
    let count = count.max(1);
    // Keeps every stride-th image; whenever that is too many, every second of them and twice the
    // stride.
    let (mut kept, mut stride) = (Vec::new(), 1);
    for (index, found) in stream.enumerate() {
        let found = found?;
        if index % stride == 0 {
            kept.push(found);
        }
        // Half of them, since twice the count may be more than a number holds.
        if kept.len() / 2 >= count {
            kept = kept.into_iter().step_by(2).collect();
            stride *= 2;
        }
    }
    let total = kept.len();
    let wanted = count.min(total);
    // The i-th of `total` is taken where i * wanted / total moves on: `wanted` times, evenly.
    let whole = |i: usize| i as u128 * wanted as u128 / total as u128;
    let taken = |i: usize| whole(i) != whole(i + 1);
    Ok(kept.into_iter().enumerate().filter(|&(i, _)| taken(i)).map(|(_, found)| found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(length: usize) -> impl Iterator<Item = Result<String>> {
        (0..length).map(|i| Ok(format!("{i:04}")))
    }

    #[test]
    fn takes_what_is_asked_for_in_order_over_the_whole_stream() {
        for length in [0, 1, 2, 7, 16, 31, 32, 33, 100, 1000] {
            for count in [1, 2, 3, 16, 50, usize::MAX / 2, 1 << (usize::BITS - 1), usize::MAX] {
                let keys = evenly(stream(length), count).unwrap();
                assert_eq!(keys.len(), count.min(length), "{count} of {length}");
                assert!(keys.is_sorted());
                if count >= 16 && length >= 100 {
                    let last: usize = keys[keys.len() - 1].parse().unwrap();
                    assert!(last * 4 >= length * 3, "{last} of {length}: the end is missing");
                }
            }
        }
    }
}
