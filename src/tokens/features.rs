//! Owns what a shard says of its columns to Hugging Face's `datasets`, in that library's own words.
//! Must not know: values.

use arrow::datatypes::{DataType, Schema};
use serde_json::{Value, json};

use super::classes::Classes;

/// The name under which `datasets` looks for it in a schema's metadata.
pub(super) const KEY: &str = "huggingface";

/// The features of every column, in order. Lists are a `Sequence`, which every version reads: `List`
/// is unknown before 4.0.
pub(super) fn features(schema: &Schema, classes: &Classes) -> String {
    let fields = schema.fields().iter();
    let features: serde_json::Map<String, Value> = fields
        .map(|field| {
            let feature = match classes.names() {
                // Without names there is no class, which `datasets` refuses.
                Some(names) if field.name() == "label_id" && !names.is_empty() => {
                    json!({"names": names, "_type": "ClassLabel"})
                }
                _ => feature(field.data_type()),
            };
            (field.name().clone(), feature)
        })
        .collect();
    json!({"info": {"features": features}}).to_string()
}

fn feature(kind: &DataType) -> Value {
    let list = |item: &DataType, length: i32| json!({"feature": feature(item), "length": length, "_type": "Sequence"});
    match kind {
        DataType::FixedSizeList(item, length) => list(item.data_type(), *length),
        DataType::List(item) => list(item.data_type(), -1),
        other => json!({"dtype": dtype(other), "_type": "Value"}),
    }
}

/// What `datasets` calls a type.
fn dtype(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 => "string".into(),
        DataType::Boolean => "bool".into(),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::classes::ClassCollector;
    use crate::tokens::level_layout::LevelLayout;
    use crate::tokens::schema;

    #[test]
    fn every_column_has_a_feature_in_its_place() {
        let levels = [LevelLayout::new(512, Some([2, 3])), LevelLayout::new(1 << 18, None)];
        let schema = schema::tokens(&levels, schema::TOKENS);
        let mut collector = ClassCollector::new(&Classes::none_yet());
        ["owl", "c\"at"].iter().for_each(|label| collector.take(label));
        let text = features(&schema, &collector.finish());
        let start = concat!(
            r#"{"info":{"features":{"key":{"dtype":"string","_type":"Value"},"#,
            r#""uri":{"dtype":"string","_type":"Value"},"member":{"dtype":"string","_type":"Value"},"#,
            r#""ordinal":{"dtype":"int64","_type":"Value"},"#,
            r#""tokens":{"feature":{"dtype":"uint16","_type":"Value"},"length":6,"_type":"Sequence"},"#,
            r#""grid_height":{"dtype":"int32","_type":"Value"},"#,
            r#""grid_width":{"dtype":"int32","_type":"Value"},"#,
            r#""tokens_top":{"feature":{"dtype":"uint32","_type":"Value"},"length":-1,"_type":"Sequence"},"#,
        );
        assert!(text.starts_with(start), "{text}");
        for part in [
            r#""label_id":{"names":["c\"at","owl"],"_type":"ClassLabel"},"caption":"#,
            r#""flip":{"dtype":"bool","_type":"Value"}"#,
            r#""content_sha256":{"dtype":"binary","_type":"Value"}"#,
            r#""quantization_error":{"dtype":"float32","_type":"Value"}"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let names: Vec<_> = parsed["info"]["features"].as_object().unwrap().keys().collect();
        assert_eq!(names, schema.fields().iter().map(|field| field.name()).collect::<Vec<_>>());
        for none in [Classes::none_yet(), Classes::parse("null").unwrap()] {
            let plain = r#""label_id":{"dtype":"int64","_type":"Value"}"#;
            assert!(features(&schema, &none).contains(plain));
        }
    }
}
