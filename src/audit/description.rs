//! Owns holding a file's columns against their published description in `schemas/`.

use arrow::datatypes::DataType;
use serde_json::Value;

use super::levels::Level;
use crate::audit::parquet_file::ParquetFile;
use crate::util::text;

/// The published description of a shard's columns, where it has no ids of classes.
pub(super) const TOKENS_V1: &str = include_str!("../../schemas/tokens.v1.json");
/// The same where it has ids.
pub(super) const TOKENS_V2: &str = include_str!("../../schemas/tokens.v2.json");
/// The same of failures.
pub(super) const FAILURES: &str = include_str!("../../schemas/failures.v1.json");

/// The columns that a published description gives a file of these levels, and their names.
fn described<'a>(description: &'a Value, levels: &[&Level]) -> Vec<(String, &'a Value)> {
    let residual = levels.iter().filter(|level| level.residual).count();
    let books = levels.iter().filter(|level| level.book).count();
    let top = levels.len().saturating_sub(residual + books + 1);
    let columns = description["columns"].as_array().map_or(&[][..], Vec::as_slice);
    let mut described = Vec::new();
    for group in columns.chunk_by(|a, b| a["only_with"] == b["only_with"]) {
        let numbers = match group[0]["only_with"].as_str() {
            None => 0..1,
            Some("a top level") => 0..top,
            Some("further books") => 1..books + 1,
            Some(_) => 1..residual + 1,
        };
        for n in numbers {
            let name = |column: &Value| {
                column["name"].as_str().unwrap_or_default().replace("<n>", &n.to_string())
            };
            described.extend(group.iter().map(|column| (name(column), column)));
        }
    }
    described
}

/// Names, types and nullability of a file's columns against a published description.
pub(super) fn check_columns(
    sheet: &ParquetFile,
    description: &str,
    levels: &[&Level],
) -> Result<(), String> {
    let description: Value = serde_json::from_str(description).map_err(|e| e.to_string())?;
    let mut fields = sheet.schema().fields().iter();
    for (name, column) in described(&description, levels) {
        let field = fields.next().ok_or_else(|| format!("its column {name} is missing"))?;
        let kind = match field.data_type() {
            DataType::Utf8 => "utf8".to_string(),
            DataType::Boolean => "bool".to_string(),
            DataType::FixedSizeList(..) | DataType::List(_) => "tokens".to_string(),
            DataType::FixedSizeBinary(size) => format!("fixed_size_binary[{size}]"),
            other => other.to_string().to_lowercase(),
        };
        let fits = *field.name() == name
            && column["type"] == kind.as_str()
            && column["nullable"] == field.is_nullable();
        if !fits {
            return Err(format!("its column '{}' is not what {name} is", field.name()));
        }
    }
    match fields.next() {
        Some(field) => Err(format!("it has a column more: '{}'", text::printable(field.name()))),
        None => Ok(()),
    }
}
