//! Owns the tests of names: pickles put together by hand, read with storages of 0, 7, 14, ...

use crate::checkpoint::container::torch;
use crate::checkpoint::raw::Contents;
use crate::weights::tensor::Bytes;

/// A float32 tensor of `count` elements at the start of storage "0".
fn tensor(count: u8) -> Vec<u8> {
    storage_of("FloatStorage", count)
}

fn storage_of(class: &str, count: u8) -> Vec<u8> {
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\n".to_vec();
    out.extend([class.as_bytes(), b"\nU\x010U\x03cpuK", &[count], b"tQK\x00K", &[count]].concat());
    out.extend(b"\x85K\x01\x85\x89NtR");
    out
}

/// A short string.
fn text(s: &str) -> Vec<u8> {
    [&[b'U', s.len() as u8], s.as_bytes()].concat()
}

/// `{key: value, ...}`
fn dict(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let inner: Vec<u8> = entries.iter().flat_map(|(k, v)| [&text(k), *v].concat()).collect();
    [b"}(", &inner[..], b"u"].concat()
}

fn read(value: &[u8]) -> Result<Contents, String> {
    let pickle = [b"\x80\x02", value, b"."].concat();
    let storage: Vec<u8> = (0..64u16).flat_map(|i| f32::from(i * 7).to_le_bytes()).collect();
    torch::read_pickle(&pickle.into(), &Bytes::from(storage))
}

fn names(value: &[u8]) -> Vec<String> {
    read(value).unwrap().tensors.into_keys().collect()
}

#[test]
fn nesting_becomes_dots() {
    let t = tensor(2);
    let list = [b"](", &t[..], &dict(&[("x", &t)]), b"e"].concat();
    let all = dict(&[("a.b", &t), ("n", &dict(&[("m", &t), ("none", b"N")])), ("l", &list)]);
    assert_eq!(names(&all), ["a.b", "l.0", "l.1.x", "n.m"]);
    assert_eq!(names(&t), ["tensor"]);
    assert_eq!(read(&t).unwrap().tensors["tensor"].to_f32(), [0.0, 7.0]);
}

#[test]
fn ordered_dicts_of_python_2() {
    let pairs = [b"](", &text("a")[..], &tensor(1), b"\x86", &text("b"), &tensor(2), b"\x86e"];
    let all = [b"ccollections\nOrderedDict\n", &pairs.concat()[..], b"\x85R"].concat();
    assert_eq!(names(&all), ["a", "b"]);
}

#[test]
fn the_last_of_equal_keys_counts_and_equal_names_are_an_error() {
    let (one, two) = (tensor(1), tensor(2));
    let twice = read(&dict(&[("a", &one), ("a", &two)])).unwrap();
    assert_eq!(twice.tensors["a"].shape(), [2]);
    let clash = dict(&[("a.b", &one), ("a", &dict(&[("b", &two)]))]);
    assert!(read(&clash).unwrap_err().contains("two tensors are called \"a.b\""));
    let clash = [b"}(K\x00", &one[..], &text("0"), &two, b"u"].concat();
    assert!(read(&clash).unwrap_err().contains("two tensors are called \"0\""));
}

#[test]
fn cycles_end() {
    let all = [b"]q\x00h\x00a", &tensor(1)[..], b"a"].concat();
    assert_eq!(names(&all), ["1"]);
}

/// An object of a class `m.C` with these attributes.
fn object(state: &[u8]) -> Vec<u8> {
    [b"cm\nC\n)\x81", state, b"b"].concat()
}

#[test]
fn modules_give_what_their_state_dict_would() {
    let t = tensor(1);
    let set = [b"c__builtin__\nset\n](", &text("scratch")[..], b"e\x85R"].concat();
    let parts =
        |weights: &[(&str, &[u8])], buffers: &[(&str, &[u8])], modules: &[(&str, &[u8])]| {
            object(&dict(&[
                ("training", b"\x88"),
                ("width", b"K\x05"),
                ("_parameters", &dict(weights)),
                ("_buffers", &dict(buffers)),
                ("_non_persistent_buffers_set", &set),
                ("_modules", &dict(modules)),
            ]))
        };
    let inner = parts(&[("weight", &t), ("bias", b"N")], &[("scratch", &t), ("mean", &t)], &[]);
    let outer = parts(&[], &[], &[("0", &inner), ("1", b"N")]);
    let contents = read(&outer).unwrap();
    assert_eq!(contents.tensors.keys().collect::<Vec<_>>(), ["0.mean", "0.weight"]);
    assert_eq!(contents.hparams, Some(serde_json::json!({"width": 5})));
    assert!(contents.notes.is_empty(), "{:?}", contents.notes);
}

#[test]
fn unknown_objects_are_named_and_their_tensors_kept() {
    let t = tensor(1);
    let all = dict(&[("x", &object(&dict(&[("shadow", &t), ("decay", b"K\x01")]))), ("y", &t)]);
    let contents = read(&all).unwrap();
    assert_eq!(contents.tensors.keys().collect::<Vec<_>>(), ["x.shadow", "y"]);
    assert_eq!(contents.notes, ["objects left alone: \"m.C\" (1)"]);
}

#[test]
fn tensors_of_other_kinds_are_named() {
    let complex = storage_of("ComplexFloatStorage", 1);
    let contents = read(&dict(&[("c", &complex), ("y", &tensor(1))])).unwrap();
    assert_eq!(contents.tensors.len(), 1);
    assert_eq!(contents.notes, ["tensor \"c\" left out: \"complex64\""]);
    let alone = read(&dict(&[("c", &complex)])).unwrap_err();
    assert!(alone.contains("\"c\" (complex64)"), "{alone}");
    assert!(read(&storage_of("OddStorage", 1)).unwrap_err().contains("unknown class"));
}

#[test]
fn numpy_arrays_of_either_order() {
    // shape (2, 2), big-endian int16, in Fortran order: columns first
    let array = |data: &[u8]| {
        let start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K\x02K\x02\x86";
        let dtype = b"cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb";
        let data = [b"\x88C".as_slice(), &[data.len() as u8], data, b"tb"].concat();
        dict(&[("a", &[&start[..], dtype, &data].concat())])
    };
    let contents = read(&array(&[0, 1, 0, 2, 0, 3, 0, 4])).unwrap();
    assert_eq!(contents.tensors["a"].shape(), [2, 2]);
    assert_eq!(contents.tensors["a"].to_i64().unwrap(), [1, 3, 2, 4]);
    assert!(read(&array(&[0, 1, 0, 2, 0, 3])).unwrap_err().contains("beyond its storage"));
}
