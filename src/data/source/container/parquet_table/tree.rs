//! Owns a column's shape: structs, lists and leaves with their levels, as the Parquet schema tells
//! them. Must not know: values, which column is taken for what.

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::Type;

/// A column, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Definition levels below this one say that it is null, or that what holds it is.
    pub(super) def: i16,
    pub(super) kind: Kind,
    /// Its leaves, by their numbers in the file.
    pub(super) leaves: Range<usize>,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf(Leaf),
    Struct(Vec<Column>),
    List {
        element: Box<Column>,
        /// Definition levels below this one say that there is no element.
        def: i16,
        /// The repetition level of its elements but the first.
        rep: i16,
    },
    /// What nothing here reads, in a word: `maps`.
    Other(&'static str),
}

/// What a leaf's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Bool,
    Int,
    Unsigned,
    /// 32-bit unsigned, which stands in 32 signed bits.
    Unsigned32,
    Float,
    Half,
    Text,
    Bytes,
    Date,
    /// Since 1970, in the unit.
    Time(Unit),
    /// What nothing here reads, in a word: `decimals`.
    Other(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milli,
    Micro,
    Nano,
}

impl Column {
    /// A part of a struct.
    pub(super) fn child(&self, name: &str) -> Option<&Column> {
        match &self.kind {
            Kind::Struct(children) => children.iter().find(|child| child.name == name),
            _ => None,
        }
    }

    pub(super) fn leaf(&self) -> Option<Leaf> {
        match self.kind {
            Kind::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }

    /// Whether its leaf holds bytes of no text.
    pub(super) fn is_bytes(&self) -> bool {
        self.leaf() == Some(Leaf::Bytes)
    }

    pub(super) fn is_text(&self) -> bool {
        self.leaf() == Some(Leaf::Text)
    }

    pub(super) fn is_whole_number(&self) -> bool {
        matches!(self.leaf(), Some(Leaf::Int | Leaf::Unsigned | Leaf::Unsigned32))
    }

    /// What it holds, in words.
    pub(super) fn words(&self) -> String {
        match &self.kind {
            Kind::Leaf(leaf) => leaf.words().into(),
            Kind::Struct(children) => {
                let names: Vec<String> =
                    children.iter().take(4).map(|c| format!("{}: {}", c.name, c.words())).collect();
                format!("structs ({})", names.join(", "))
            }
            Kind::List { element, .. } => format!("lists of {}", element.words()),
            Kind::Other(what) => (*what).into(),
        }
    }

    /// What in it has no form in JSON, in words; None where all of it has.
    pub(super) fn not_json(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Leaf(Leaf::Bytes) => Some("bytes"),
            Kind::Leaf(Leaf::Other(what)) | Kind::Other(what) => Some(what),
            Kind::Leaf(_) => None,
            Kind::Struct(children) => children.iter().find_map(Column::not_json),
            Kind::List { element, .. } => element.not_json(),
        }
    }
}

impl Leaf {
    fn words(self) -> &'static str {
        match self {
            Leaf::Bool => "true or false",
            Leaf::Int | Leaf::Unsigned | Leaf::Unsigned32 => "whole numbers",
            Leaf::Float | Leaf::Half => "numbers",
            Leaf::Text => "text",
            Leaf::Bytes => "bytes",
            Leaf::Date => "dates",
            Leaf::Time(_) => "times",
            Leaf::Other(what) => what,
        }
    }
}

/// The columns of a file.
pub(super) fn columns_of(schema: &Type) -> Vec<Column> {
    let mut leaf = 0;
    schema.get_fields().iter().map(|field| column(field, 0, 0, &mut leaf)).collect()
}

/// A column within definition and repetition levels; `leaf` is the number of the next leaf.
fn column(field: &Type, def: i16, rep: i16, leaf: &mut usize) -> Column {
    let first = *leaf;
    if repetition(field) == Repetition::REPEATED {
        // A list that isn't called one: its elements are never null, nor is it.
        let element = present(field, def + 1, rep + 1, leaf);
        let kind = Kind::List { element: Box::new(element), def: def + 1, rep: rep + 1 };
        return Column { name: field.name().into(), def, kind, leaves: first..*leaf };
    }
    let def = def + i16::from(repetition(field) == Repetition::OPTIONAL);
    present(field, def, rep, leaf)
}

/// A column whose own repetition is counted in `def` and `rep`.
fn present(field: &Type, def: i16, rep: i16, leaf: &mut usize) -> Column {
    let first = *leaf;
    let kind = if field.is_primitive() {
        *leaf += 1;
        Kind::Leaf(leaf_of(field))
    } else if let Some(repeated) = repeated_of(field) {
        let (def, rep) = (def + 1, rep + 1);
        let element = match element_of(repeated) {
            Some(element) => column(element, def, rep, leaf),
            None => present(repeated, def, rep, leaf),
        };
        Kind::List { element: Box::new(element), def, rep }
    } else {
        let children: Vec<Column> =
            field.get_fields().iter().map(|child| column(child, def, rep, leaf)).collect();
        match first == *leaf {
            true => Kind::Other("empty structs"),
            false
                if is(field, ConvertedType::MAP, LogicalType::Map)
                    || is(field, ConvertedType::MAP_KEY_VALUE, LogicalType::Map) =>
            {
                Kind::Other("maps")
            }
            false => Kind::Struct(children),
        }
    };
    Column { name: field.name().into(), def, kind, leaves: first..*leaf }
}

fn repetition(field: &Type) -> Repetition {
    let info = field.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

fn is(field: &Type, converted: ConvertedType, logical: LogicalType) -> bool {
    let info = field.get_basic_info();
    info.converted_type() == converted || info.logical_type_ref() == Some(&logical)
}

/// What is repeated in a column called a list.
fn repeated_of(field: &Type) -> Option<&Type> {
    let [repeated] = field.get_fields() else { return None };
    let is_list = is(field, ConvertedType::LIST, LogicalType::List);
    (is_list && repetition(repeated) == Repetition::REPEATED).then_some(repeated.as_ref())
}

/// The element inside what is repeated; None where that is the element itself, as old writers have
/// it: LogicalTypes.md, "backward-compatibility rules".
fn element_of(repeated: &Type) -> Option<&Type> {
    if repeated.is_primitive() {
        return None;
    }
    let [only] = repeated.get_fields() else { return None };
    let name = repeated.name();
    (name != "array" && !name.ends_with("_tuple")).then_some(only.as_ref())
}

fn leaf_of(field: &Type) -> Leaf {
    let info = field.get_basic_info();
    match field.get_physical_type() {
        Physical::BOOLEAN => Leaf::Bool,
        Physical::FLOAT | Physical::DOUBLE => Leaf::Float,
        Physical::INT96 => Leaf::Other("96-bit times"),
        Physical::INT32 | Physical::INT64 => number(field),
        Physical::BYTE_ARRAY => match info.converted_type() {
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Leaf::Text,
            ConvertedType::NONE => match info.logical_type_ref() {
                Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => Leaf::Text,
                _ => Leaf::Bytes,
            },
            ConvertedType::DECIMAL => Leaf::Other("decimals"),
            _ => Leaf::Bytes,
        },
        Physical::FIXED_LEN_BYTE_ARRAY => match (info.converted_type(), info.logical_type_ref()) {
            (_, Some(LogicalType::Float16)) => Leaf::Half,
            (ConvertedType::DECIMAL, _) => Leaf::Other("decimals"),
            (ConvertedType::INTERVAL, _) => Leaf::Other("intervals"),
            _ => Leaf::Bytes,
        },
    }
}

/// What a leaf of 32 or 64 bits means.
fn number(field: &Type) -> Leaf {
    let info = field.get_basic_info();
    let wide = field.get_physical_type() == Physical::INT64;
    if let Some(LogicalType::Timestamp(time)) = info.logical_type_ref() {
        return Leaf::Time(match time.unit {
            TimeUnit::MILLIS => Unit::Milli,
            TimeUnit::MICROS => Unit::Micro,
            TimeUnit::NANOS => Unit::Nano,
        });
    }
    match info.converted_type() {
        ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 => Leaf::Unsigned32,
        ConvertedType::UINT_64 if wide => Leaf::Unsigned,
        ConvertedType::DATE => Leaf::Date,
        ConvertedType::TIMESTAMP_MILLIS => Leaf::Time(Unit::Milli),
        ConvertedType::TIMESTAMP_MICROS => Leaf::Time(Unit::Micro),
        ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS => Leaf::Other("times of day"),
        ConvertedType::DECIMAL => Leaf::Other("decimals"),
        _ if matches!(info.logical_type_ref(), Some(LogicalType::Time(_))) => {
            Leaf::Other("times of day")
        }
        _ => Leaf::Int,
    }
}
