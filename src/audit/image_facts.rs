//! Owns the columns that say what a row's image is: its file's digest, its size and mode, how well it
//! was quantized. Must not know: what that is for.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Schema};

use super::nested::Whole;

const SIDES: [&str; 2] = ["image_width", "image_height"];
const MODE: &str = "color_mode";
const DIGEST: &str = "content_sha256";
const ERROR: &str = "quantization_error";

/// All of them; a file needn't have any.
pub(super) const COLUMNS: [&str; 5] = [SIDES[0], SIDES[1], MODE, DIGEST, ERROR];

/// What a row says of its image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFacts {
    /// In pixels; 0 where it isn't said.
    pub width: u32,
    /// In pixels; 0 where it isn't said.
    pub height: u32,
    /// Pillow's name for its mode; empty where it isn't said.
    pub color_mode: String,
    /// The first half of its file's sha256.
    pub content_sha256: Option<[u8; 16]>,
    /// Mean squared distance of its latents to their codes; NaN where it isn't said.
    pub quantization_error: f32,
}

/// Those columns in a batch.
pub(super) struct Facts {
    sides: [Option<Whole>; 2],
    modes: Option<ArrayRef>,
    digests: Option<ArrayRef>,
    errors: Option<Float32Array>,
}

/// Those that a file has, in a form that can be read.
pub(super) fn in_schema(schema: &Schema) -> impl Iterator<Item = &'static str> {
    let plain = |name: &&str| {
        schema.field_with_name(name).is_ok_and(|field| !field.data_type().is_nested())
    };
    COLUMNS.into_iter().filter(plain)
}

impl Facts {
    pub(super) fn of(batch: &RecordBatch) -> Facts {
        let as_kind = |name: &str, kind: &DataType| cast(batch.column_by_name(name)?, kind).ok();
        let side = |name: &str| Whole::of(batch.column_by_name(name)?).ok();
        Facts {
            sides: SIDES.map(side),
            modes: as_kind(MODE, &DataType::Utf8),
            digests: as_kind(DIGEST, &DataType::Binary),
            errors: as_kind(ERROR, &DataType::Float32)
                .map(|errors| errors.as_primitive::<Float32Type>().clone()),
        }
    }

    pub(super) fn get(&self, i: usize) -> ImageFacts {
        let side = |side: &Option<Whole>| {
            side.as_ref().and_then(|side| u32::try_from(side.get(i)?.ok()?).ok()).unwrap_or(0)
        };
        let there = |column: &&ArrayRef| column.is_valid(i);
        let mode = self.modes.as_ref().filter(there);
        let digest = self.digests.as_ref().filter(there);
        let digest = digest.map(|digests| digests.as_binary::<i32>().value(i));
        let error = self.errors.as_ref().filter(|errors| errors.is_valid(i));
        ImageFacts {
            width: side(&self.sides[0]),
            height: side(&self.sides[1]),
            color_mode: mode
                .map_or(String::new(), |modes| modes.as_string::<i32>().value(i).into()),
            // Of another length it is some other digest, and says nothing.
            content_sha256: digest
                .filter(|digest| digest.len() == 32)
                .and_then(|digest| digest[..16].try_into().ok()),
            quantization_error: error.map_or(f32::NAN, |errors| errors.value(i)),
        }
    }
}
