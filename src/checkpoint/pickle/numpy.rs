//! Owns numpy values inside a pickle: arrays and scalars.

use serde_json::Value as Json;

use super::graph::Pickle;
use super::storage::{Made, View};
use super::value::{Id, Node, Object};
use crate::checkpoint::budget::Budget;
use crate::weights::tensor::{Bytes, Dtype, RawTensor};

/// Whether a module is the one that makes arrays and scalars, before or after numpy 2.
fn is_multiarray(module: &str) -> bool {
    matches!(module, "numpy.core.multiarray" | "numpy._core.multiarray")
}

/// Whether the call makes an array, and its content was saved.
pub(crate) fn is_array(pickle: &Pickle, object: &Object) -> bool {
    let makes = pickle.global(object.callable);
    makes.is_some_and(|(module, name)| is_multiarray(module) && name == "_reconstruct")
        && object.state.is_some()
}

/// The array of `_reconstruct(...)` with the state (version, shape, dtype, Fortran order, bytes).
///
/// # Errors
/// Where its size is not what its shape says.
pub(crate) fn array(pickle: &Pickle, object: &Object, budget: &mut Budget) -> Result<Made, String> {
    let state = object.state.and_then(|s| pickle.sequence(s)).unwrap_or_default();
    let &[_version, shape, dtype, fortran, data] = state else {
        return Err("a numpy array whose state is none".into());
    };
    let Some((dtype, big_endian)) = dtype_of(pickle, dtype) else {
        return Ok(Made::Unread("a numpy array of strings or objects".into()));
    };
    let sizes = pickle.sequence(shape).ok_or("a shape that is no tuple")?;
    let size = |&id: &Id| pickle.int(id).and_then(|i| usize::try_from(i).ok());
    let shape = sizes.iter().map(size).collect::<Option<Vec<usize>>>();
    let shape = shape.filter(|s| s.len() <= 16).ok_or("a shape that is none")?;
    let data = bytes(pickle, data, budget)?.ok_or("a numpy array without its bytes")?;

    let step = |size: &mut usize, n: &usize| {
        let stride = *size;
        *size = size.saturating_mul(*n);
        Some(stride)
    };
    let strides: Vec<usize> = match pickle.node(fortran) {
        Node::Bool(true) | Node::Int(1) => shape.iter().scan(1, step).collect(),
        _ => {
            let mut strides: Vec<usize> = shape.iter().rev().scan(1, step).collect();
            strides.reverse();
            strides
        }
    };
    let view = View { dtype, offset: 0, shape, strides };
    view.of(&data, big_endian, budget).map(Made::Tensor)
}

/// The value of `scalar(dtype, bytes)`; None where the object is another.
pub(crate) fn scalar(pickle: &Pickle, object: &Object) -> Option<Json> {
    let (module, name) = pickle.global(object.callable)?;
    if !is_multiarray(module) || name != "scalar" {
        return None;
    }
    let &[dtype, data] = pickle.sequence(object.args)? else { return None };
    let (dtype, big_endian) = dtype_of(pickle, dtype)?;
    let mut budget = Budget(64);
    let data = bytes(pickle, data, &mut budget).ok()??;
    let view = View { dtype, offset: 0, shape: Vec::new(), strides: Vec::new() };
    let value: RawTensor = view.of(&data, big_endian, &mut budget).ok()?;
    match value.to_i64() {
        Some(values) if dtype == Dtype::Bool => Some((*values.first()? != 0).into()),
        Some(values) => Some((*values.first()?).into()),
        None if dtype == Dtype::F64 => {
            let value = f64::from_le_bytes(*value.bytes().first_chunk()?);
            Some(float(value))
        }
        None => Some(float((*value.to_f32().first()?).into())),
    }
}

/// A float; JSON has no word for those that aren't finite.
pub(crate) fn float(value: f64) -> Json {
    serde_json::Number::from_f64(value).map_or(Json::from(value.to_string()), Json::Number)
}

/// Type and byte order of `dtype('f4', False, True)` with the state (version, order, ...).
fn dtype_of(pickle: &Pickle, id: Id) -> Option<(Dtype, bool)> {
    let object = pickle.object(id)?;
    if pickle.global(object.callable)? != ("numpy", "dtype") {
        return None;
    }
    let word = pickle.text(*pickle.sequence(object.args)?.first()?)?;
    let dtype = match word.trim_start_matches(['<', '>', '|', '=']) {
        "f8" => Dtype::F64,
        "f4" => Dtype::F32,
        "f2" => Dtype::F16,
        "i8" => Dtype::I64,
        "i4" => Dtype::I32,
        "i2" => Dtype::I16,
        "i1" => Dtype::I8,
        "u8" => Dtype::U64,
        "u4" => Dtype::U32,
        "u2" => Dtype::U16,
        "u1" => Dtype::U8,
        "b1" => Dtype::Bool,
        _ => return None,
    };
    let order = object.state.and_then(|s| pickle.sequence(s)).and_then(|s| s.get(1));
    let order = order.and_then(|&o| pickle.text(o));
    Some((dtype, order == Some(">") || word.starts_with('>')))
}

/// A byte string, also as protocol 2 writes it: `_codecs.encode(text, 'latin1')`.
fn bytes(pickle: &Pickle, id: Id, budget: &mut Budget) -> Result<Option<Bytes>, String> {
    match pickle.node(id) {
        Node::Bytes(span) | Node::Text(span) => Ok(Some(pickle.shared_bytes_of(*span))),
        Node::Object(object) if pickle.global(object.callable) == Some(("_codecs", "encode")) => {
            let args = pickle.sequence(object.args).unwrap_or_default();
            let &[text, coding] = args else { return Ok(None) };
            let (Node::Text(span), Some("latin1")) = (pickle.node(text), pickle.text(coding))
            else {
                return Ok(None);
            };
            budget.take(pickle.bytes_of(*span).len())?;
            let text = pickle.text_of(*span).ok_or("a string that is no UTF-8")?;
            let mut decoded = Vec::with_capacity(text.len());
            for c in text.chars() {
                decoded.push(u8::try_from(c).map_err(|_| "bytes that are none")?);
            }
            Ok(Some(decoded.into()))
        }
        _ => Ok(None),
    }
}
