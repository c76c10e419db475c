//! Owns saying what differs between two JSON values, in words. Must not know: what they are of.

use serde_json::Value;

use crate::util::numbers::counted;
use crate::util::text;

/// The first value of `a` that isn't as in `b`, in words; both lie at `place`, a JSON pointer.
pub(super) fn difference(place: &str, a: &Value, b: &Value) -> Option<String> {
    if a == b {
        return None;
    }
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let null = Value::Null;
            names
                .filter_map(|name| {
                    let (a, b) = (a.get(name).unwrap_or(&null), b.get(name).unwrap_or(&null));
                    difference(&format!("{place}/{name}"), a, b)
                })
                .next()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.filter_map(|(i, (a, b))| difference(&format!("{place}/{i}"), a, b)).next()
        }
        // Logarithms differ in their last bit between systems; the rest is exact.
        (Value::Number(a), Value::Number(b))
            if a.is_f64()
                && b.is_f64()
                && a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= 2e-6) =>
        {
            None
        }
        _ => Some(format!("{} says {}, the output has {}", named(place), told(a), told(b))),
    }
}

/// A place in JSON as words: `parts[3].totals.rows`.
fn named(place: &str) -> String {
    let mut words = String::new();
    for name in place.split('/').skip(1) {
        match name.parse::<u64>() {
            Ok(number) => words += &format!("[{number}]"),
            Err(_) if words.is_empty() => words += name,
            Err(_) => words += &format!(".{name}"),
        }
    }
    if words.is_empty() { "it".to_string() } else { words }
}

/// A value in a few words.
fn told(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_string(),
        Value::Array(list) => counted(list.len(), "entry"),
        Value::Object(_) => "a table".to_string(),
        other => text::shorten(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_told_in_words() {
        let value = json!({"plans": ["a", "b"], "parts": [{"rows": 3}], "x": 0.5});
        for (other, words) in [
            (
                json!({"plans": ["a"], "parts": [{"rows": 3}], "x": 0.5}),
                "plans says 2 entries, the output has 1 entry",
            ),
            (
                json!({"plans": ["a", "c"], "parts": [{"rows": 3}], "x": 0.5}),
                "plans[1] says \"b\", the output has \"c\"",
            ),
            (
                json!({"plans": ["a", "b"], "parts": [{"rows": 4}], "x": 0.5}),
                "parts[0].rows says 3, the output has 4",
            ),
            (
                json!({"plans": ["a", "b"], "parts": [{}], "x": 0.5}),
                "parts[0].rows says 3, the output has nothing",
            ),
            (
                json!({"plans": ["a", "b"], "parts": {}, "x": 0.5}),
                "parts says 1 entry, the output has a table",
            ),
            (json!([]), "it says a table, the output has 0 entries"),
        ] {
            assert_eq!(difference("", &value, &other).as_deref(), Some(words));
        }
        let close = json!({"plans": ["a", "b"], "parts": [{"rows": 3}], "x": 0.500001});
        assert_eq!(difference("", &value, &close), None);
    }
}
