//! Owns putting a row's values together: structs, lists and leaves as JSON. Must not know: which
//! column is taken for what.

use arrow::array::temporal_conversions::{
    date32_to_datetime, timestamp_ms_to_datetime, timestamp_ns_to_datetime,
    timestamp_us_to_datetime,
};
use half::f16;
use serde_json::{Map, Number, Value};

use super::leaf::{Cells, Stored};
use super::tree::{Column, Kind, Leaf, Unit};
use crate::data::source::names::FACT_BYTES_MAX;
use crate::data::source::uri;

/// The longest text that is made of a row's values.
pub(super) const TEXT_MAX: usize = FACT_BYTES_MAX;

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoValue {
    /// It would be longer than [`TEXT_MAX`].
    TooLong,
    /// Its parts contradict each other, or it is of a kind that isn't read.
    Damaged,
}

/// The value of a column in one row, whose leaves' `cells` are in their order.
///
/// # Errors
/// See [`NoValue`].
pub(super) fn value(column: &Column, cells: &[Cells<'_>]) -> Result<Value, NoValue> {
    // An entry takes a character at least, and a comma.
    if cells.iter().any(|cells| cells.defs.len() > TEXT_MAX / 2 + 1) {
        return Err(NoValue::TooLong);
    }
    let leaves = cells.iter().map(|cells| Place { cells: *cells, level: 0, value: 0 }).collect();
    let mut row = Row { leaves, first: column.leaves.start, left: TEXT_MAX };
    let value = row.value(column)?;
    let whole = row.leaves.iter().all(|leaf| leaf.level == leaf.cells.defs.len());
    if whole { Ok(value) } else { Err(NoValue::Damaged) }
}

/// A leaf's row, and how much of it has been taken.
struct Place<'a> {
    cells: Cells<'a>,
    level: usize,
    value: usize,
}

struct Row<'a> {
    leaves: Vec<Place<'a>>,
    /// The number of the first leaf.
    first: usize,
    /// Characters that may still be made.
    left: usize,
}

impl Row<'_> {
    fn value(&mut self, column: &Column) -> Result<Value, NoValue> {
        if self.def(column)? < column.def {
            return self.null(column);
        }
        match &column.kind {
            Kind::Leaf(leaf) => self.leaf(column, *leaf),
            Kind::Struct(children) => {
                let mut object = Map::new();
                for child in children {
                    self.take(child.name.len())?;
                    object.insert(child.name.clone(), self.value(child)?);
                }
                Ok(Value::Object(object))
            }
            Kind::List { element, def, rep } => self.list(column, element, *def, *rep),
            Kind::Other(_) => Err(NoValue::Damaged),
        }
    }

    fn list(
        &mut self,
        column: &Column,
        element: &Column,
        def: i16,
        rep: i16,
    ) -> Result<Value, NoValue> {
        let mut list = Vec::new();
        if self.def(column)? < def {
            self.null(column)?;
            return Ok(Value::Array(list));
        }
        loop {
            list.push(self.value(element)?);
            let first = &self.leaves[column.leaves.start - self.first];
            if first.cells.reps.get(first.level).is_none_or(|next| *next < rep) {
                return Ok(Value::Array(list));
            }
        }
    }

    /// The definition level of what comes next.
    fn def(&self, column: &Column) -> Result<i16, NoValue> {
        let first = &self.leaves[column.leaves.start - self.first];
        first.cells.defs.get(first.level).copied().ok_or(NoValue::Damaged)
    }

    /// Passes over what is null, which has one entry in every leaf.
    fn null(&mut self, column: &Column) -> Result<Value, NoValue> {
        self.take(1)?;
        for leaf in column.leaves.clone() {
            let leaf = &mut self.leaves[leaf - self.first];
            let def = leaf.cells.defs.get(leaf.level).ok_or(NoValue::Damaged)?;
            if *def == leaf.cells.max_def {
                return Err(NoValue::Damaged);
            }
            leaf.level += 1;
        }
        Ok(Value::Null)
    }

    fn leaf(&mut self, column: &Column, leaf: Leaf) -> Result<Value, NoValue> {
        let place = &mut self.leaves[column.leaves.start - self.first];
        let stored = place.cells.values.get(place.value).ok_or(NoValue::Damaged)?;
        place.level += 1;
        place.value += 1;
        let length = match stored {
            Stored::Bytes(bytes) => bytes.len(),
            _ => 1,
        };
        if length > self.left {
            return Err(NoValue::TooLong);
        }
        let value = meant(stored, leaf).ok_or(NoValue::Damaged)?;
        self.take(length)?;
        Ok(value)
    }

    fn take(&mut self, characters: usize) -> Result<(), NoValue> {
        self.left = self.left.checked_sub(characters).ok_or(NoValue::TooLong)?;
        Ok(())
    }
}

/// What a stored value means; None where it isn't of its leaf's kind.
fn meant(stored: &Stored, leaf: Leaf) -> Option<Value> {
    let value = match (leaf, stored) {
        (Leaf::Bool, Stored::Bool(value)) => Value::Bool(*value),
        (Leaf::Int, Stored::Int(value)) => Value::from(*value),
        (Leaf::Unsigned, Stored::Int(value)) => Value::from(*value as u64),
        (Leaf::Unsigned32, Stored::Int(value)) => Value::from(*value as u32),
        (Leaf::Float, Stored::Float(value)) => single(*value),
        // JSON has no infinities.
        (Leaf::Float, Stored::Double(value)) => Number::from_f64(*value).into(),
        (Leaf::Half, Stored::Bytes(bytes)) => {
            single(f16::from_le_bytes(bytes.data().try_into().ok()?).to_f32())
        }
        (Leaf::Text, Stored::Bytes(bytes)) => Value::String(uri::readable(bytes.data())),
        (Leaf::Date, Stored::Int(days)) => {
            let date = date32_to_datetime(i32::try_from(*days).ok()?)?;
            Value::String(date.to_string().split(' ').next()?.into())
        }
        (Leaf::Time(unit), Stored::Int(since)) => {
            let time = match unit {
                Unit::Milli => timestamp_ms_to_datetime(*since),
                Unit::Micro => timestamp_us_to_datetime(*since),
                Unit::Nano => timestamp_ns_to_datetime(*since),
            };
            Value::String(time?.to_string())
        }
        _ => return None,
    };
    Some(value)
}

/// The shortest number that is this one in 32 bits: 0.1 stays 0.1.
fn single(value: f32) -> Value {
    let wide = value.to_string().parse().ok();
    wide.and_then(Number::from_f64).into()
}
