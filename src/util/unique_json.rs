//! Owns reading JSON whose objects name nothing twice: readers keep the last of two, and whoever wrote
//! the first isn't told.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::text::shorten;

/// The value that a text holds.
///
/// # Errors
/// What is no JSON; an object with two values of one name.
pub(crate) fn from_slice(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).map(|Unique(value)| value)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(Values).map(Unique)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if all.contains_key(&name) {
                return Err(Error::custom(format!("`{}` is said twice", shorten(&name))));
            }
            let Unique(value) = entries.next_value()?;
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_serde_json_makes_of_them() {
        let text = r#"{"a": [1, -2, 2.5, 18446744073709551615, null, true], "b": {"a": "x\n\u00e9"}, "c": {}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(from_slice(text.as_bytes()).unwrap(), expected);
        for damaged in ["", "{", "{\"a\": 1,}", "[1] 2", "nul"] {
            assert!(from_slice(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_told_at_any_depth() {
        for text in [r#"{"a": 1, "b": 2, "a": 1}"#, r#"[{"b": {"a": 1, "\u0061": 2}}]"#] {
            let said = from_slice(text.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("`a` is said twice"), "{said}");
        }
    }
}
