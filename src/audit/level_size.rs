//! Owns how many codes a level has, and whether these or their bits are counted, as metadata and plans
//! say it. Must not know: the writer, columns.

use std::borrow::Cow;

use serde_json::Value;

use super::levels::Level;
use crate::util::random::splitmix64;

/// The codes of a level whose bits are counted are more than these.
pub(super) const CODES_MAX: u64 = 1 << 24;
/// Bits of a token at most.
const BITS_MAX: u64 = 256;

/// The codes of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LevelSize {
    /// K; 2 where a token is a list of bits.
    pub codes: u64,
    /// D where bits are counted.
    pub bits: Option<usize>,
}

impl LevelSize {
    fn new(codes: Option<u64>, bits: Option<u64>) -> Option<LevelSize> {
        let codes = codes?;
        let bits = match bits {
            None => None,
            Some(bits @ 33..=BITS_MAX) if codes == 2 => Some(bits),
            Some(bits @ 25..=32) if codes == 1 << bits => Some(bits),
            // Of a later version, or made up.
            Some(_) => return None,
        };
        Some(LevelSize { codes, bits: bits.map(|bits| bits as usize) })
    }

    /// As a file's metadata says, by name without the prefix `vqtok.`; None where it says none that can
    /// be.
    pub(super) fn of<'a>(
        level: &Level,
        entry: impl Fn(&str) -> Option<&'a str>,
    ) -> Option<LevelSize> {
        let bits = match entry(&level.bits) {
            None => None,
            Some(text) => Some(text.parse().ok()?),
        };
        LevelSize::new(entry(&level.codes)?.parse().ok(), bits)
    }

    /// Those of the levels that a plan's identity announces.
    pub(super) fn announced(identity: &Value) -> Vec<LevelSize> {
        let levels = identity["levels"].as_array().into_iter().flatten();
        let size = |level: &Value| LevelSize::new(level["codes"].as_u64(), level["bits"].as_u64());
        levels.filter_map(size).collect()
    }

    /// Values of a token: 1, or D where it is a list of bits.
    pub(super) fn values(&self) -> usize {
        self.bits.filter(|_| self.codes == 2).unwrap_or(1)
    }

    /// Counters that take it: one a code, or two a bit.
    pub(super) fn counters(&self) -> u64 {
        self.bits.map_or(self.codes, |bits| 2 * bits as u64)
    }
}

/// Tokens of so many values each as numbers: lists of bits as a digest of 32 bits of each, which is as
/// good where equal ones are looked for.
pub(super) fn numbers(codes: &[u32], values: usize) -> Cow<'_, [u32]> {
    match values {
        0 | 1 => Cow::Borrowed(codes),
        _ => Cow::Owned(codes.chunks(values).map(digest).collect()),
    }
}

fn digest(list: &[u32]) -> u32 {
    let packed = |bits: &[u32]| bits.iter().fold(1, |packed, &bit| packed << 1 | u64::from(bit));
    let mixed = |sum, bits| splitmix64(sum, packed(bits));
    (list.chunks(63).fold(0, mixed) >> 32) as u32
}

/// Counts the bits of a token, a number or a list of them: `count` gets the places of counters, of which
/// those of 0 and 1 of bit 0 come first. None where a list holds what is no bit.
pub(super) fn each_bit(token: &[u32], bits: usize, mut count: impl FnMut(usize)) -> Option<()> {
    match token {
        &[code] => (0..bits).for_each(|bit| count(2 * bit + (code >> bit & 1) as usize)),
        list => {
            for (bit, &value) in list.iter().enumerate() {
                count(2 * bit + (value < 2).then_some(value as usize)?);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::levels;
    use crate::tokens::LevelLayout;
    use crate::tokens::testing::deep_identity;

    #[test]
    fn sizes_are_the_writers() {
        let mut identity = deep_identity(10);
        for (layout, values, counters) in [
            (LevelLayout::new(1 << 24, None), 1, 1 << 24),
            (LevelLayout::new(1 << 26, None), 1, 52),
            (LevelLayout::new(1 << 32, None), 1, 64),
            (LevelLayout::of_bits(40, None), 40, 80),
        ] {
            identity.levels = vec![layout.clone()];
            let size = LevelSize::announced(&identity.sorted());
            let told = [("codes", layout.codes), ("bits", layout.bits.unwrap_or(0))];
            let told = told.map(|(name, number)| (name, number.to_string()));
            let entry = |name: &str| {
                let (_, text) = told.iter().find(|(known, _)| *known == name)?;
                Some(text.as_str()).filter(|&text| text != "0")
            };
            assert_eq!(LevelSize::of(&levels::all()[0], entry), Some(size[0]));
            assert_eq!((size[0].values(), layout.values()), (values, values));
            assert_eq!(size[0].counters(), counters);
        }
    }

    #[test]
    fn equal_lists_are_equal_numbers_and_others_are_not() {
        assert!(matches!(numbers(&[7, 9], 1), Cow::Borrowed([7, 9])));
        let one = |at: usize| (0..80).map(move |bit| u32::from(bit == at));
        let lists: Vec<u32> = (0..80).chain([3, 80]).flat_map(one).collect();
        let numbers = numbers(&lists, 80);
        assert_eq!((numbers.len(), numbers[80]), (82, numbers[3]));
        let different: std::collections::BTreeSet<&u32> = numbers.iter().collect();
        assert_eq!(different.len(), 81);
    }

    #[test]
    fn sizes_that_cannot_be_are_none() {
        for (codes, bits) in [(2, 24), (2, 32), (2, 257), (1 << 26, 25), (8, 40), (8, 0)] {
            assert_eq!(LevelSize::new(Some(codes), Some(bits)), None, "{codes} {bits}");
        }
        let entry = |name: &str| Some(if name == "codes" { "8" } else { "x" });
        assert_eq!(LevelSize::of(&levels::all()[0], entry), None);
    }

    #[test]
    fn bits_of_numbers_count_from_the_lowest_and_of_lists_from_the_first() {
        let counted = |token: &[u32], bits| {
            let mut places = Vec::new();
            each_bit(token, bits, |place| places.push(place)).map(|()| places)
        };
        assert_eq!(counted(&[0b110], 3).unwrap(), [0, 3, 5]);
        assert_eq!(counted(&[0, 1, 1], 3).unwrap(), [0, 3, 5]);
        assert_eq!(counted(&[0, 2, 1], 3), None);
    }
}
