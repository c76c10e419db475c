//! Owns the first difference of two JSON values.

use serde_json::Value;

/// In which order the names of objects are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// As they stand: those of the first object, then those that only the second has.
    Declared,
    Sorted,
}

/// The dotted name of the first place where two values differ, and both values there; what is
/// missing is null. Lists are compared whole.
pub(crate) fn first<'a>(
    a: &'a Value,
    b: &'a Value,
    names: Names,
) -> Option<(String, &'a Value, &'a Value)> {
    below("", a, b, names)
}

fn below<'a>(
    at: &str,
    a: &'a Value,
    b: &'a Value,
    order: Names,
) -> Option<(String, &'a Value, &'a Value)> {
    let (Value::Object(inner_a), Value::Object(inner_b)) = (a, b) else {
        return (a != b).then(|| (at.to_owned(), a, b));
    };
    let mut names: Vec<&String> = inner_a.keys().chain(inner_b.keys()).collect();
    if order == Names::Sorted {
        names.sort();
    }
    names.into_iter().find_map(|name| {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        below(&at, inner_a.get(name).unwrap_or(&NULL), inner_b.get(name).unwrap_or(&NULL), order)
    })
}

static NULL: Value = Value::Null;

/// The first difference of what stands at `at`, names sorted, in words: `train.steps was 3 and is 4`.
pub(crate) fn in_words(then: &Value, now: &Value, at: &str) -> Option<String> {
    let word = |value: &Value| match value.is_null() {
        true => "not set".to_owned(),
        false => value.to_string(),
    };
    let (name, then, now) = below(at, then, now, Names::Sorted)?;
    Some(format!("{name} was {} and is {}", word(then), word(now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named_in_either_order() {
        let [a, b] = [json!({"b": 1, "a": {"c": [1]}}), json!({"b": 2, "a": {"c": [2]}})];
        let named = |names| first(&a, &b, names).map(|(name, ..)| name);
        assert_eq!(named(Names::Declared).as_deref(), Some("b"));
        assert_eq!(named(Names::Sorted).as_deref(), Some("a.c"));
        assert_eq!(first(&a, &a, Names::Declared), None);
    }

    #[test]
    fn differences_are_named() {
        let a = json!({"train": {"steps": 3, "seed": 1}, "model": 1});
        let b = json!({"train": {"steps": 4, "seed": 1}, "model": 1});
        assert_eq!(in_words(&a, &b, ""), Some("train.steps was 3 and is 4".into()));
        assert_eq!(in_words(&a, &a, ""), None);
        let [c, d] = [json!({"train": {}}), json!({"train": {"steps": 3}})];
        let said = |then, now| in_words(then, now, "").unwrap();
        assert_eq!(said(&d, &c), "train.steps was 3 and is not set");
        assert_eq!(said(&c, &d), "train.steps was not set and is 3");
    }
}
