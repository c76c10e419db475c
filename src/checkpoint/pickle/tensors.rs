//! Owns tensors inside a pickle: which calls would have made one, of which storage, with which
//! strides.

use std::collections::HashMap;

use super::graph::Pickle;
use super::numpy;
use super::storage::{Made, Storages, View};
use super::value::{Id, Node};
use crate::checkpoint::budget::Budget;
use crate::util::text::quoted;
use crate::weights::tensor::{Bytes, Dtype};

/// Most dimensions of a tensor.
const RANK_MAX: usize = 16;

/// Wrappers (a parameter of a subclass of a tensor ...) around a tensor, at most.
const WRAPPERS_MAX: usize = 8;

/// Rebuilds the tensors of one pickle; one that is shared is rebuilt once.
pub(crate) struct Rebuild<'a> {
    pickle: &'a Pickle,
    storages: &'a mut dyn Storages,
    held: HashMap<String, Bytes>,
    made: HashMap<Id, Made>,
    budget: Budget,
    big_endian: bool,
}

/// A storage as the pickle refers to it.
#[derive(Debug)]
pub(crate) struct StorageRef {
    /// Its name in the file.
    pub key: String,
    /// Bytes of an element, of complex and quantized ones too.
    pub element_bytes: usize,
    /// None where vqtok has no such type, or the storage has none.
    dtype: Option<Dtype>,
    /// Elements in it.
    count: usize,
    /// The elements that a view of old files sees: first, count.
    view: Option<(usize, usize)>,
    class: String,
}

/// Whether the value is the result of a call that makes tensors (or numpy arrays).
pub(crate) fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    let Some(object) = pickle.object(id) else { return false };
    match pickle.global(object.callable) {
        Some(("torch._utils" | "torch._tensor" | "torch.tensor", name)) => {
            name.starts_with("_rebuild_")
        }
        Some(_) => numpy::is_array(pickle, object),
        None => false,
    }
}

impl<'a> Rebuild<'a> {
    /// Over the tensors of `pickle`.
    pub(crate) fn new(
        pickle: &'a Pickle,
        storages: &'a mut dyn Storages,
        budget: Budget,
        big_endian: bool,
    ) -> Rebuild<'a> {
        let (held, made) = (HashMap::new(), HashMap::new());
        Rebuild { pickle, storages, held, made, budget, big_endian }
    }

    /// The tensor that [`is_tensor`] has recognised.
    ///
    /// # Errors
    /// Where its arguments are none, or reach beyond its storage.
    pub(crate) fn tensor(&mut self, id: Id) -> Result<Made, String> {
        if let Some(made) = self.made.get(&id) {
            return Ok(made.clone());
        }
        let made = self.make(id)?;
        self.made.insert(id, made.clone());
        Ok(made)
    }

    fn make(&mut self, mut id: Id) -> Result<Made, String> {
        let pickle = self.pickle;
        for _ in 0..WRAPPERS_MAX {
            let object = pickle.object(id).ok_or("not a tensor")?;
            let args = pickle.sequence(object.args).ok_or("no tuple of arguments")?;
            let (module, name) = pickle.global(object.callable).ok_or("not a tensor")?;
            match name {
                "_rebuild_tensor" | "_rebuild_tensor_v2" => return self.strided(args, None),
                "_rebuild_tensor_v3" => {
                    let dtype = *args.get(6).ok_or("too few arguments")?;
                    return self.strided(args, Some(dtype));
                }
                "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
                    id = *args.first().ok_or("too few arguments")?;
                }
                // A subclass: the function that makes its data, the class, the arguments.
                "_rebuild_from_type" | "_rebuild_from_type_v2" => {
                    let &[function, _, inner, ..] = args else {
                        return Err("too few arguments".into());
                    };
                    let inner = pickle.sequence(inner).ok_or("no tuple of arguments")?;
                    return match pickle.global(function) {
                        Some((_, "_rebuild_tensor_v2")) => self.strided(inner, None),
                        _ => Ok(Made::Unread("of a class of its own".into())),
                    };
                }
                "_reconstruct" => return numpy::array(pickle, object, &mut self.budget),
                _ => return Ok(Made::Unread(kind(module, name))),
            }
        }
        Err("a tensor wrapped too deep".into())
    }

    /// storage, offset, shape, strides; version 3 has a type too.
    fn strided(&mut self, args: &[Id], dtype: Option<Id>) -> Result<Made, String> {
        let pickle = self.pickle;
        let &[storage, offset, shape, strides, ..] = args else {
            return Err("too few arguments".into());
        };
        let Node::Persistent(storage) = pickle.node(storage) else {
            return Err("no storage".into());
        };
        let storage = StorageRef::read(pickle, *storage)?;
        let (dtype, word) = match dtype {
            Some(dtype) => {
                let word = pickle.global(dtype).ok_or("no type")?.1;
                (dtype_called(word), word.to_string())
            }
            None => (storage.dtype, element_word(&storage.class)),
        };
        let Some(dtype) = dtype else { return Ok(Made::Unread(word)) };
        let offset = count(pickle, offset)?;
        let (shape, strides) = (counts(pickle, shape)?, counts(pickle, strides)?);

        let bytes = self.storage(&storage)?;
        let view = View { dtype, offset, shape, strides };
        view.of(&bytes, self.big_endian, &mut self.budget).map(Made::Tensor)
    }

    /// The part of a storage that its reference sees.
    fn storage(&mut self, storage: &StorageRef) -> Result<Bytes, String> {
        let whole = match self.held.get(&storage.key) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = self.storages.bytes(&storage.key, &mut self.budget)?;
                self.held.insert(storage.key.clone(), bytes.clone());
                bytes
            }
        };
        let (first, count) = storage.view.unwrap_or((0, storage.count));
        let start = first.checked_mul(storage.element_bytes);
        let length = count.checked_mul(storage.element_bytes);
        let range = start.zip(length).and_then(|(s, l)| Some(s..s.checked_add(l)?));
        range.and_then(|range| whole.slice(range)).ok_or_else(|| {
            let key = quoted(&storage.key);
            format!("storage {key} has {} bytes, fewer than it should", whole.len())
        })
    }
}

impl StorageRef {
    /// Reads `('storage', class, key, location, count[, view])`.
    ///
    /// # Errors
    /// Where the reference is none.
    pub(crate) fn read(pickle: &Pickle, id: Id) -> Result<StorageRef, String> {
        let items = pickle.sequence(id).unwrap_or_default();
        let &[kind, class, key, _location, numel, ..] = items else {
            return Err("no reference to a storage".into());
        };
        if pickle.text(kind) != Some("storage") {
            return Err("no reference to a storage".into());
        }
        let (_, class) = pickle.global(class).ok_or("a storage without a class")?;
        let (element_bytes, dtype) = element(class)
            .ok_or_else(|| format!("a storage of the unknown class {}", quoted(class)))?;
        let key = match (pickle.text(key), pickle.int(key)) {
            (Some(text), _) => text.to_string(),
            (_, Some(number)) => number.to_string(),
            _ => return Err("a storage without a key".into()),
        };
        let view = match items.get(5).map(|&view| (view, pickle.node(view))) {
            None | Some((_, Node::None)) => None,
            Some((view, _)) => match pickle.sequence(view).unwrap_or_default() {
                &[_, first, length] => Some((count(pickle, first)?, count(pickle, length)?)),
                _ => return Err("a view of a storage that is none".into()),
            },
        };
        let (count, class) = (count(pickle, numel)?, class.to_string());
        Ok(StorageRef { key, element_bytes, dtype, count, view, class })
    }
}

/// The word for a tensor that only a function of PyTorch's own makes.
fn kind(module: &str, name: &str) -> String {
    let word = match name {
        "_rebuild_qtensor" => "quantized",
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => "sparse",
        "_rebuild_nested_tensor" => "nested",
        "_rebuild_meta_tensor_no_storage" => "a meta tensor, without values",
        "_rebuild_wrapper_subclass" => "of a class of its own",
        _ => return format!("{module}.{name}"),
    };
    word.into()
}

/// The word for the elements of a storage class that has no type of ours.
fn element_word(class: &str) -> String {
    match class.strip_suffix("Storage").unwrap_or(class) {
        "ComplexFloat" => "complex64".into(),
        "ComplexDouble" => "complex128".into(),
        other => other.to_lowercase(),
    }
}

/// Bytes of an element of a storage class, and its type.
fn element(class: &str) -> Option<(usize, Option<Dtype>)> {
    let dtype = match class.strip_suffix("Storage")? {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::Bool,
        "Untyped" | "QInt8" | "QUInt8" | "QUInt4x2" | "QUInt2x4" => return Some((1, None)),
        "QInt32" => return Some((4, None)),
        "ComplexFloat" => return Some((8, None)),
        "ComplexDouble" => return Some((16, None)),
        _ => return None,
    };
    Some((dtype.size(), Some(dtype)))
}

/// `torch.float32` and so on, without the module.
fn dtype_called(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}

/// A number that is no less than zero.
fn count(pickle: &Pickle, id: Id) -> Result<usize, String> {
    let value = pickle.int(id).ok_or("a size that is no integer")?;
    usize::try_from(value).map_err(|_| format!("a size of {value}"))
}

/// A tuple of them, also as `torch.Size`.
fn counts(pickle: &Pickle, id: Id) -> Result<Vec<usize>, String> {
    let id = match pickle.object(id) {
        Some(object) => *pickle.sequence(object.args).and_then(|a| a.first()).unwrap_or(&id),
        None => id,
    };
    let items = pickle.sequence(id).ok_or("sizes that are no tuple")?;
    if items.len() > RANK_MAX {
        return Err(format!("a tensor of {} dimensions", items.len()));
    }
    items.iter().map(|&item| count(pickle, item)).collect()
}
