//! Owns columns of keys and other texts, whatever type they were written as. Must not know: what they
//! name.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

/// Keys, or other texts, of any plain type.
pub(super) enum Keys {
    Bytes(ArrayRef),
    Texts(ArrayRef),
}

impl Keys {
    /// Errors in a few words, for lists and structs.
    pub(super) fn of(column: &ArrayRef) -> Result<Keys, String> {
        match column.data_type() {
            DataType::Binary => Ok(Keys::Bytes(column.clone())),
            DataType::FixedSizeBinary(_) => {
                cast(column, &DataType::Binary).map(Keys::Bytes).map_err(|e| e.to_string())
            }
            _ => cast(column, &DataType::Utf8).map(Keys::Texts).map_err(|e| e.to_string()),
        }
    }

    /// Text `i` as it is stored.
    pub(super) fn bytes(&self, i: usize) -> Option<&[u8]> {
        match self {
            Keys::Bytes(keys) => {
                let keys = keys.as_binary::<i32>();
                keys.is_valid(i).then(|| keys.value(i))
            }
            Keys::Texts(keys) => {
                let keys = keys.as_string::<i32>();
                keys.is_valid(i).then(|| keys.value(i).as_bytes())
            }
        }
    }

    /// Text `i`, None where it is missing. Bytes that are no UTF-8 become `%XX`, as in the keys of
    /// file names.
    pub(super) fn get(&self, i: usize) -> Option<String> {
        match self {
            Keys::Bytes(keys) => {
                let keys = keys.as_binary::<i32>();
                keys.is_valid(i).then(|| readable(keys.value(i)))
            }
            Keys::Texts(keys) => {
                let keys = keys.as_string::<i32>();
                keys.is_valid(i).then(|| keys.value(i).to_string())
            }
        }
    }
}

fn readable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
    }
    out
}
