//! Owns the way from a PyTorch file to named tensors: which container, which pickle inside, where
//! its storages lie.

use crate::checkpoint::budget::Budget;
use crate::checkpoint::container::zip::Archive;
use crate::checkpoint::container::{foreign, torch_legacy, zip};
use crate::checkpoint::pickle::graph::Pickle;
use crate::checkpoint::pickle::state_dict::flatten_state_dict;
use crate::checkpoint::pickle::storage::Storages;
use crate::checkpoint::pickle::tensors::Rebuild;
use crate::checkpoint::pickle::value::Node;
use crate::checkpoint::pickle::{metadata, objects};
use crate::checkpoint::raw::Contents;
use crate::util::text::quoted;
use crate::weights::tensor::Bytes;

/// Bytes that the copies of a reading (inflated entries, strided views) may take, at least.
const COPIES_BYTES_MIN: usize = 64 << 20;

/// The same for large files, as a multiple of the file: a whole one deflated, or channels-last.
const COPIES_PER_BYTE: usize = 4;

/// Reads a file written by `torch.save`, or a plain pickle of numpy arrays.
///
/// # Errors
/// Where it is none, or broken, hostile or without tensors.
pub(crate) fn read(bytes: &Bytes) -> Result<Contents, String> {
    let budget = Budget(COPIES_BYTES_MIN.max(bytes.len().saturating_mul(COPIES_PER_BYTE)));
    if zip::looks_like(bytes) {
        return read_zip(bytes, budget);
    }
    if torch_legacy::looks_like(bytes) {
        let torch_legacy::Stream { pickle, mut storages, big_endian } = torch_legacy::read(bytes)?;
        return contents(&pickle, &mut storages, budget, big_endian, "pickle (legacy)");
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Err("written by a PyTorch before 0.1.10; load and save it with a later one".into());
    }
    if bytes.first() == Some(&0x80) {
        let pickle = Pickle::read(bytes)?;
        return contents(&pickle, &mut Nowhere, budget, false, "pickle (plain)");
    }
    Err(foreign::describe(bytes).unwrap_or_else(|| {
        "neither safetensors nor a PyTorch checkpoint; it may be cut or damaged".into()
    }))
}

/// Reads a bare pickle whose storages all are `storage`: what the fuzz target drives, since it
/// gets past the sums of an archive.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_pickle(pickle: &Bytes, storage: &Bytes) -> Result<Contents, String> {
    let pickle = Pickle::read(pickle)?;
    contents(&pickle, &mut One(storage.clone()), Budget(COPIES_BYTES_MIN), false, "pickle (bare)")
}

/// Since PyTorch 1.6: `NAME/data.pkl`, `NAME/data/KEY`, `NAME/byteorder`.
fn read_zip(bytes: &Bytes, mut budget: Budget) -> Result<Contents, String> {
    let archive = Archive::open(bytes.clone())?;
    let is_main = |n: &&str| *n == "data.pkl" || n.ends_with("/data.pkl");
    let pickles: Vec<String> = archive.names().filter(is_main).map(String::from).collect();
    let main = match &pickles[..] {
        [main] => main,
        [] if archive.names().any(|name| name.ends_with(".npy")) => {
            return Err("an archive of NumPy arrays (.npz), not a PyTorch checkpoint".into());
        }
        [] => return Err("a zip archive without data.pkl, so not a PyTorch checkpoint".into()),
        several => return Err(format!("{} files called data.pkl inside", several.len())),
    };
    let prefix = main.strip_suffix("data.pkl").unwrap_or_default().to_string();
    let pickle = Pickle::read(&archive.read(main, &mut budget)?)?;
    let order = format!("{prefix}byteorder");
    let big_endian = match archive.names().any(|n| n == order) {
        false => false,
        true => match &*archive.read(&order, &mut budget)? {
            b"little" => false,
            b"big" => true,
            _ => return Err("its byteorder is neither little nor big".into()),
        },
    };
    let mut storages = Zip { archive, prefix };
    contents(&pickle, &mut storages, budget, big_endian, "pickle (zip)")
}

/// From the graph to tensors, plain data and notes.
fn contents(
    pickle: &Pickle,
    storages: &mut dyn Storages,
    budget: Budget,
    big_endian: bool,
    container: &str,
) -> Result<Contents, String> {
    let mut rebuild = Rebuild::new(pickle, storages, budget, big_endian);
    let found = flatten_state_dict(pickle, &mut rebuild)?;
    let left_out = |(name, kind): (&String, &String)| {
        format!("tensor {} left out: {}", quoted(name), quoted(kind))
    };
    let mut contents = Contents {
        notes: found.unread.iter().map(left_out).collect(),
        tensors: found.tensors,
        unread: found.unread,
        container: container.into(),
        hparams: None,
    };
    contents.refuse_empty(format!("no tensor inside: it holds {}", describe(pickle)))?;
    contents.notes.extend(metadata::opaque(pickle));
    contents.hparams = metadata::beside_tensors(pickle, &found.reaches_tensor, &mut contents.notes);
    Ok(contents)
}

/// What a pickle without tensors holds, for the error.
fn describe(pickle: &Pickle) -> String {
    const KEYS_MAX: usize = 8;
    match pickle.node(pickle.root) {
        Node::Dict(entries) => {
            let keys = entries.iter().take(KEYS_MAX);
            let keys: Vec<String> =
                keys.map(|&(key, _)| quoted(&objects::label(pickle, key))).collect();
            match entries.len() {
                0 => "an empty dict".into(),
                count => format!("a dict of {count}: {}", keys.join(", ")),
            }
        }
        Node::Object(_) => {
            let class = objects::class_name(pickle, pickle.root);
            format!("an object of {} (nothing was called)", quoted(&class))
        }
        Node::List(items) | Node::Set(items) => format!("a list of {}", items.len()),
        Node::Tuple(span) => format!("a tuple of {}", pickle.tuple_items(*span).len()),
        Node::Text(_) | Node::Bytes(_) => "a string".into(),
        Node::Global(..) => "a class".into(),
        Node::Persistent(_) => "a storage alone".into(),
        Node::None => "None".into(),
        Node::Bool(_) | Node::Int(_) | Node::Long(_) | Node::Float(_) => "a number".into(),
    }
}

/// Storages of an archive.
struct Zip {
    archive: Archive,
    prefix: String,
}

impl Storages for Zip {
    fn bytes(&mut self, key: &str, budget: &mut Budget) -> Result<Bytes, String> {
        // An entry is looked up in the directory, never on the disk; still, no honest file has
        // such a key.
        if key.contains(['/', '\\', '\0']) {
            return Err(format!("a storage called {}", quoted(key)));
        }
        self.archive.read(&format!("{}data/{key}", self.prefix), budget)
    }
}

/// A plain pickle has no place for storages.
struct Nowhere;

impl Storages for Nowhere {
    fn bytes(&mut self, _: &str, _: &mut Budget) -> Result<Bytes, String> {
        Err("a plain pickle with tensors outside of it; write it with torch.save".into())
    }
}

/// The same bytes for every key.
struct One(Bytes);

impl Storages for One {
    fn bytes(&mut self, _: &str, _: &mut Budget) -> Result<Bytes, String> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::container::zip::tests::zip;

    /// `{name: float32 tensor of shape (2,) at storage "0", ...}`, protocol 2.
    fn pickle_of(names: &[&str]) -> Vec<u8> {
        let mut out = b"\x80\x02}(".to_vec();
        for name in names {
            out.extend(b"X");
            out.extend((name.len() as u32).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend(
                b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89NtR",
            );
        }
        out.extend(b"u.");
        out
    }

    fn floats(values: [f32; 2]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn archives_with_any_prefix_and_byte_order() {
        let (pickle, data) = (pickle_of(&["a", "b"]), floats([1.0, -2.0]));
        let swapped: Vec<u8> = data.chunks(4).flat_map(|c| c.iter().rev().copied()).collect();
        let cases: &[(&str, &[u8], &[u8], bool)] = &[
            ("", b"little", &data, false),
            ("archive/", b"little", &data, true),
            ("a/b/", b"big", &swapped, false),
        ];
        for (prefix, order, data, deflated) in cases {
            let [main, byteorder, storage] =
                ["data.pkl", "byteorder", "data/0"].map(|n| format!("{prefix}{n}"));
            let bytes = zip(&[
                (&main, &pickle, *deflated),
                (&byteorder, order, false),
                (&storage, data, *deflated),
            ]);
            let contents = read(&bytes.into()).unwrap();
            assert_eq!(contents.tensors.keys().collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(contents.tensors["b"].to_f32(), [1.0, -2.0], "{prefix}");
            assert_eq!(contents.container, "pickle (zip)");
        }
    }

    #[test]
    fn modules_of_torchscript_are_read_by_their_attributes_and_their_code_is_not() {
        let mut pickle = b"\x80\x02c__torch__.net\nNet\n)\x81}(X\x07\0\0\0encoder".to_vec();
        pickle.extend(b"c__torch__.torch.nn.conv.___torch_mangle_1\nConv2d\n)\x81}(");
        pickle.extend(&pickle_of(&["weight"])[4..]);
        // Instead of the end of a dict: another attribute, both states, the end.
        pickle.truncate(pickle.len() - 2);
        pickle.extend(b"X\x08\0\0\0training\x89ubX\x08\0\0\0training\x89ub.");
        let data = floats([1.0, -2.0]);
        let file = zip(&[
            ("net/data.pkl", &pickle, false),
            ("net/data/0", &data, false),
            ("net/code/__torch__/net.py", b"def forward(self): boom", false),
            ("net/constants.pkl", b"\x80\x02cos\nsystem\n)R.", false),
        ]);
        let contents = read(&file.into()).unwrap();
        assert_eq!(contents.tensors.keys().collect::<Vec<_>>(), ["encoder.weight"]);
        assert_eq!(contents.tensors["encoder.weight"].to_f32(), [1.0, -2.0]);
    }

    #[test]
    fn a_file_without_tensors_says_what_it_holds() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x80\x02}X\x05\0\0\0epochK\x01s.", "a dict of 1: \"epoch\""),
            (b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.", "an object of \"os.system\""),
            (b"\x80\x02}.", "an empty dict"),
            (b"\x80\x02]K\x01a.", "a list of 1"),
            (b"\x80\x02N.", "holds None"),
        ];
        for (pickle, expected) in cases {
            let error = read(&zip(&[("data.pkl", pickle, false)]).into()).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(read(&Bytes::from(pickle.to_vec())).unwrap_err().contains(expected));
        }
    }

    #[test]
    fn other_files_are_errors() {
        for bytes in [&b""[..], b"PK\x03\x04", b"\x80", b"<html>", b"{}", &[0; 600]] {
            assert!(read(&Bytes::from(bytes.to_vec())).is_err());
        }
        assert!(read(&zip(&[("x", b"", false)]).into()).unwrap_err().contains("data.pkl"));
        let two = zip(&[("a/data.pkl", b"N.", false), ("b/data.pkl", b"N.", false)]);
        assert!(read(&two.into()).unwrap_err().contains("2 files"));
        let missing = zip(&[("data.pkl", &pickle_of(&["a"]), false)]);
        let error = read(&missing.into()).unwrap_err();
        assert!(error.contains("tensor \"a\": entry \"data/0\" is missing"), "{error}");
    }
}
