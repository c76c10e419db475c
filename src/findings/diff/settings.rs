//! Owns the settings of two outputs side by side. Must not know: what a setting does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::result::SettingDifference;

/// What every output has of its own: how far it got, its digests.
const OWN: [&str; 13] = [
    "vqtok.partition",
    "vqtok.partitions",
    "vqtok.first_ordinal",
    "vqtok.planned",
    "vqtok.written",
    "vqtok.failed",
    "vqtok.rows",
    "vqtok.plan_sha256",
    "vqtok.failures_sha256",
    "vqtok.codebook_part_sha256",
    "vqtok.identity",
    "vqtok.grid",
    "vqtok.grid_top",
];

/// What isn't the same in the metadata of two outputs' shards; by their identities where both have
/// one, which say the most.
pub(super) fn differing(
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
) -> Vec<SettingDifference> {
    let (a, b) = match (identity(a), identity(b)) {
        (Some(mut left), Some(mut right)) => {
            // The schema of the shards is no part of an identity.
            for (flat, entries) in [(&mut left, a), (&mut right, b)] {
                let schema = entries.get("vqtok.schema");
                flat.extend(schema.map(|schema| ("schema".into(), schema.clone().into())));
            }
            (left, right)
        }
        _ => (plain(a), plain(b)),
    };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    let value = |of: &BTreeMap<String, Value>, name: &String| of.get(name).cloned();
    differing
        .map(|name| SettingDifference {
            name: name.clone(),
            a: value(&a, name).unwrap_or_default(),
            b: value(&b, name).unwrap_or_default(),
        })
        .collect()
}

/// The names and values of an identity, those of objects and lists within dotted.
fn identity(entries: &BTreeMap<String, String>) -> Option<BTreeMap<String, Value>> {
    let identity: Value = serde_json::from_str(entries.get("vqtok.identity")?).ok()?;
    let mut flat = BTreeMap::new();
    flatten("", &identity, &mut flat);
    (!flat.is_empty()).then_some(flat)
}

fn flatten(at: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
    let below = |name: &str| if at.is_empty() { name.into() } else { format!("{at}.{name}") };
    match value {
        Value::Object(inner) => {
            inner.iter().for_each(|(name, value)| flatten(&below(name), value, flat));
        }
        Value::Array(inner) if inner.iter().any(|value| value.is_object() || value.is_array()) => {
            let numbered = inner.iter().enumerate();
            numbered.for_each(|(i, value)| flatten(&below(&i.to_string()), value, flat));
        }
        _ => {
            flat.insert(at.into(), value.clone());
        }
    }
}

/// What the metadata says itself, without the prefix of vqtok's names.
fn plain(entries: &BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let ours = entries.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    let named = ours.filter_map(|(name, value)| {
        Some((name.strip_prefix("vqtok.")?.to_string(), value.clone().into()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(a: &[(&str, &str)], b: &[(&str, &str)]) -> Vec<(String, Value, Value)> {
        let map = |entries: &[(&str, &str)]| {
            entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        let found = differing(&map(a), &map(b));
        found.into_iter().map(|found| (found.name, found.a, found.b)).collect()
    }

    #[test]
    fn identities_are_compared_leaf_by_leaf() {
        let a =
            r#"{"levels":[{"codes":8,"grid":[2,2]}],"preprocessing":{"size":32},"device":"cpu"}"#;
        let b = r#"{"levels":[{"codes":8,"grid":[4,4]}],"preprocessing":{"size":64,"pillow":13},"device":"cpu"}"#;
        let common = [("vqtok.schema", "tokens.v2"), ("vqtok.rows", "3")];
        let [a, b] = [a, b].map(|identity| ("vqtok.identity", identity));
        assert_eq!(
            said(&[a, common[0]], &[b, common[0], common[1]]),
            [
                ("levels.0.grid".into(), json!([2, 2]), json!([4, 4])),
                ("preprocessing.pillow".into(), Value::Null, json!(13)),
                ("preprocessing.size".into(), json!(32), json!(64)),
            ]
        );
    }

    #[test]
    fn without_an_identity_the_metadata_speaks() {
        let ours = [("vqtok.identity", "{}"), ("vqtok.codes", "8"), ("vqtok.rows", "3")];
        assert_eq!(said(&ours, &[]), [("codes".into(), json!("8"), Value::Null)]);
        assert!(said(&[("pandas", "{}")], &[]).is_empty());
    }
}
