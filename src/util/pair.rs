//! Owns reading a pair from a list: one of three is refused, where serde takes the first two of it.

use serde::de::{Deserialize, Deserializer, Error};

/// Two numbers from a list of two.
///
/// # Errors
/// A list of another length; what isn't a list of numbers.
pub(crate) fn pair<'de, D: Deserializer<'de>>(from: D) -> Result<(f64, f64), D::Error> {
    let values = Vec::<f64>::deserialize(from)?;
    match values[..] {
        [one, other] => Ok((one, other)),
        _ => Err(D::Error::custom(format!(
            "a list of {} where one of 2 values belongs",
            values.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Table {
        #[serde(deserialize_with = "pair")]
        pair: (f64, f64),
    }

    #[test]
    fn a_pair_has_two_values() {
        let read = |line: &str| toml::from_str::<Table>(line).map(|table| table.pair);
        assert_eq!(read("pair = [0.9, 1]").unwrap(), (0.9, 1.0));
        for (line, words) in [
            ("pair = []", "a list of 0 where one of 2"),
            ("pair = [0.9]", "a list of 1 where one of 2"),
            ("pair = [0.9, 0.95, 0.5]", "a list of 3 where one of 2"),
            ("pair = 0.9", "expected a sequence"),
        ] {
            let said = read(line).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
