//! Owns getting the codes of one row after the other out of a column of lists that anybody wrote:
//! integers of any width (whole floats too), nested or not. Must not know: files, models.
//!
//! A row that can't be used is told by itself; the others of its batch stay.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};

use crate::util::settings::COLUMN;

/// Whole numbers of any width, taken one at a time.
pub(super) enum Whole {
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
}

impl Whole {
    /// Of a column that [`is_whole`].
    pub(super) fn of(values: &ArrayRef) -> Result<Whole, String> {
        let to = |kind: DataType| cast(values, &kind).map_err(|e| e.to_string());
        use DataType::*;
        match values.data_type() {
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => {
                Ok(Whole::Signed(to(Int64)?.as_primitive().clone()))
            }
            UInt64 => Ok(Whole::Unsigned(values.as_primitive().clone())),
            kind if is_whole(kind) => Ok(Whole::Float(to(Float64)?.as_primitive().clone())),
            kind => Err(format!("is {}, not an integer", named(kind))),
        }
    }

    /// Value `i`: None where it is missing, a text where it is no whole number.
    pub(super) fn get(&self, i: usize) -> Option<Result<i64, String>> {
        let (null, value) = match self {
            Whole::Signed(values) => (values.is_null(i), Ok(values.value(i))),
            Whole::Unsigned(values) => {
                let value = values.value(i);
                (values.is_null(i), value.try_into().map_err(|_| value.to_string()))
            }
            Whole::Float(values) => {
                let value = values.value(i);
                let whole = value.fract() == 0.0 && value.abs() < (1_u64 << 53) as f64;
                let told = || {
                    if value.is_finite() && value.abs() >= 1e15 {
                        format!("{value:e}")
                    } else {
                        value.to_string()
                    }
                };
                (values.is_null(i), if whole { Ok(value as i64) } else { Err(told()) })
            }
        };
        (!null).then_some(value)
    }
}

/// Whether values of this type can be whole numbers.
pub(super) fn is_whole(kind: &DataType) -> bool {
    kind.is_integer() || kind.is_floating() || kind.is_decimal()
}

/// A type in words.
pub(super) fn named(kind: &DataType) -> String {
    use DataType::*;
    match kind {
        Utf8 | LargeUtf8 | Utf8View => "text".into(),
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => "text or bytes".into(),
        Boolean => "true or false".into(),
        Struct(_) => "a struct".into(),
        Map(..) => "a map".into(),
        List(_) | LargeList(_) | FixedSizeList(..) => "a list".into(),
        Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) => "a time".into(),
        Null => "nothing but null".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// Finds a column by its name, or by the dotted names of structs and their fields; gives the names
/// on the way. Errors in a few words.
pub(super) fn place(schema: &Schema, name: &str) -> Result<Option<Vec<String>>, String> {
    if schema.column_with_name(name).is_some() {
        return Ok(Some(vec![name.to_string()]));
    }
    let mut fields = schema.fields();
    let (mut rest, mut path) = (name, Vec::new());
    loop {
        let fits = |field: &str| {
            rest == field || rest.strip_prefix(field).is_some_and(|r| r.starts_with('.'))
        };
        let Some(field) = fields.iter().find(|field| fits(field.name())) else { return Ok(None) };
        path.push(field.name().clone());
        if rest == field.name() {
            return Ok(Some(path));
        }
        rest = &rest[field.name().len() + 1..];
        let DataType::Struct(inner) = field.data_type() else { return Ok(None) };
        fields = inner;
    }
}

/// Whether a column at `path` can hold codes. Errors in a few words.
/// `choosable`: whether another column can be named.
pub(super) fn check_lists(schema: &Schema, path: &[String], choosable: bool) -> Result<(), String> {
    let mut kind = None;
    let mut fields = schema.fields();
    for name in path {
        let field = fields.iter().find(|field| field.name() == name);
        kind = field.map(|field| field.data_type());
        if let Some(DataType::Struct(inner)) = kind {
            fields = inner;
        }
    }
    let Some(outer) = kind else { return Err("isn't there".into()) };
    let (mut kind, mut depth) = (outer, 0);
    while let DataType::List(field)
    | DataType::LargeList(field)
    | DataType::FixedSizeList(field, _) = kind
    {
        (kind, depth) = (field.data_type(), depth + 1);
    }
    if let (DataType::Struct(inner), 0) = (kind, depth) {
        let names: Vec<_> =
            inner.iter().map(|field| format!("{}.{}", path.join("."), field.name())).collect();
        let names = names.join(", ");
        return Err(match choosable {
            true => format!("is a struct: name one of its fields with {COLUMN} ({names})"),
            false => format!("is a struct ({names}), not a list of integers"),
        });
    }
    match (depth, is_whole(kind)) {
        (0, _) => Err(format!("is {}, not a list of integers", named(kind))),
        (_, false) => Err(format!("holds {}, not integers", named(kind))),
        _ => Ok(()),
    }
}

/// Lists inside lists, down to whole numbers.
pub(super) struct Nested {
    /// Where the structs around it are missing.
    around: Vec<NullBuffer>,
    depths: Vec<Depth>,
    values: Whole,
}

/// The lists of one depth: list `i` is `ends[i]..ends[i + 1]` of the next depth.
struct Depth {
    ends: Vec<usize>,
    missing: Option<NullBuffer>,
}

/// The codes of a row and how they are nested: `[256]`, or `[16, 16]`.
pub(super) struct Codes {
    pub codes: Vec<u32>,
    pub sides: Vec<usize>,
}

impl Nested {
    /// Of a column that [`check_lists`] found fit, reached through `path` from its batch.
    pub(super) fn of(root: &ArrayRef, path: &[String]) -> Result<Nested, String> {
        let (mut column, mut around) = (root.clone(), Vec::new());
        for name in &path[1..] {
            let outer = column.as_struct_opt().ok_or("is no struct")?;
            around.extend(outer.nulls().cloned());
            let inner = outer.column_by_name(name).ok_or("lacks a field")?.clone();
            column = inner;
        }
        let mut depths = Vec::new();
        loop {
            let missing = column.nulls().cloned();
            let (ends, values): (Vec<usize>, ArrayRef) = match column.data_type() {
                DataType::List(_) => {
                    let list = column.as_list::<i32>();
                    (
                        list.value_offsets().iter().map(|&o| o as usize).collect(),
                        list.values().clone(),
                    )
                }
                DataType::LargeList(_) => {
                    let list = column.as_list::<i64>();
                    (
                        list.value_offsets().iter().map(|&o| o as usize).collect(),
                        list.values().clone(),
                    )
                }
                DataType::FixedSizeList(_, size) => {
                    let list = column.as_fixed_size_list();
                    let ends = (0..=list.len()).map(|i| i * *size as usize).collect();
                    (ends, list.values().clone())
                }
                _ => break,
            };
            depths.push(Depth { ends, missing });
            column = values;
        }
        if depths.is_empty() {
            return Err(format!("is {}, not a list of integers", named(column.data_type())));
        }
        Ok(Nested { around, depths, values: Whole::of(&column)? })
    }

    /// The codes of row `row`, or why it has none.
    pub(super) fn get(&self, row: usize) -> Result<Codes, String> {
        let absent = |nulls: &NullBuffer| nulls.is_null(row);
        if self.around.iter().any(absent) || self.depths[0].missing.as_ref().is_some_and(absent) {
            return Err("has no tokens (null)".into());
        }
        let of = |depth: &Depth, i: usize| depth.ends[i]..depth.ends[i + 1];
        let mut range = of(&self.depths[0], row);
        let mut sides = vec![range.len()];
        for depth in &self.depths[1..] {
            sides.push(side(depth, &range)?);
            if range.is_empty() {
                break;
            }
            range = depth.ends[range.start]..depth.ends[range.end];
        }
        if sides.contains(&0) {
            return Err("has no tokens (an empty list)".into());
        }
        let codes = range.map(|i| self.code(i)).collect::<Result<_, _>>()?;
        Ok(Codes { codes, sides })
    }

    fn code(&self, i: usize) -> Result<u32, String> {
        let told = |value: String| format!("holds {value}, which is no code");
        match self.values.get(i) {
            None => Err("has missing tokens (null)".into()),
            Some(Err(value)) => Err(told(value)),
            Some(Ok(value)) => value.try_into().map_err(|_| told(value.to_string())),
        }
    }
}

/// The one length of the lists `range` of a depth.
fn side(depth: &Depth, range: &Range<usize>) -> Result<usize, String> {
    if range.clone().any(|i| depth.missing.as_ref().is_some_and(|nulls| nulls.is_null(i))) {
        return Err("has a missing list (null) among its lists".into());
    }
    let mut lengths = range.clone().map(|i| depth.ends[i + 1] - depth.ends[i]);
    let first = lengths.next().unwrap_or(0);
    match lengths.find(|&length| length != first) {
        Some(other) => Err(format!("has lists of {first} and of {other} tokens, which is no grid")),
        None => Ok(first),
    }
}
