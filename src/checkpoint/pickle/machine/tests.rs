//! Owns the tests of the pickle machine.

use crate::checkpoint::pickle::graph::Pickle;
use crate::checkpoint::pickle::value::*;
use crate::weights::tensor::Bytes;

fn read(bytes: &[u8]) -> Result<Pickle, String> {
    Pickle::read(&Bytes::from(bytes.to_vec()))
}

/// A small notation for tests: `[1, "a"]`, `{k: v}`, calls as `module.name(args)`.
fn show(p: &Pickle, id: Id) -> String {
    let all = |ids: &[Id]| ids.iter().map(|&i| show(p, i)).collect::<Vec<_>>().join(", ");
    let entries = |e: &[(Id, Id)]| {
        let show = |&(k, v): &(Id, Id)| format!("{}: {}", show(p, k), show(p, v));
        e.iter().map(show).collect::<Vec<_>>().join(", ")
    };
    match p.node(id) {
        Node::None => "None".into(),
        Node::Bool(b) => b.to_string(),
        Node::Int(i) => i.to_string(),
        Node::Long(s) => format!("long{:?}", p.bytes_of(*s)),
        Node::Float(f) => format!("{f:?}"),
        Node::Text(s) => format!("{:?}", p.text_of(*s).unwrap()),
        Node::Bytes(s) => format!("b{:?}", p.bytes_of(*s)),
        Node::Tuple(s) => format!("({})", all(p.tuple_items(*s))),
        Node::List(items) => format!("[{}]", all(items)),
        Node::Set(items) => format!("{{{}}}", all(items)),
        Node::Dict(e) => format!("{{{}}}", entries(e)),
        Node::Global(..) => {
            let (module, name) = p.global(id).unwrap();
            format!("{module}.{name}")
        }
        Node::Persistent(id) => format!("<{}>", show(p, *id)),
        Node::Object(o) => {
            let mut text = format!("{}{}", show(p, o.callable), show(p, o.args));
            if let Some(state) = o.state {
                text += &format!(".build({})", show(p, state));
            }
            if !o.items.is_empty() {
                text += &format!("+[{}]", all(&o.items));
            }
            if !o.entries.is_empty() {
                text += &format!("+{{{}}}", entries(&o.entries));
            }
            text
        }
    }
}

/// Pickles that have every opcode, and what Python makes of them.
#[rustfmt::skip]
const OPCODES: &[(&[u8], &str)] = &[
    (b"N.", "None"),
    (b"\x80\x05\x95\0\0\0\0\0\0\0\0\x88.", "true"),
    (b"I01\n.", "true"),
    (b"I-12\n.", "-12"),
    (b"L-12L\n.", "-12"),
    (b"F1.5\n.", "1.5"),
    (b"G\x3f\xf8\0\0\0\0\0\0.", "1.5"),
    (b"K\xff.", "255"),
    (b"M\x01\x01.", "257"),
    (b"J\xff\xff\xff\xff.", "-1"),
    (b"\x8a\x00.", "0"),
    (b"\x8a\x01\xff.", "-1"),
    (b"\x8a\x02\xff\x00.", "255"),
    (b"\x8a\x08\0\0\0\0\0\0\0\x80.", "-9223372036854775808"),
    (b"\x8b\x09\0\0\0\0\0\0\0\0\0\0\0\x01.", "long[0, 0, 0, 0, 0, 0, 0, 0, 1]"),
    (b"X\x02\0\0\0ab.", "\"ab\""),
    (b"\x8c\x02ab.", "\"ab\""),
    (b"\x8d\x02\0\0\0\0\0\0\0ab.", "\"ab\""),
    (b"T\x02\0\0\0ab.", "\"ab\""),
    (b"U\x02ab.", "\"ab\""),
    (b"S'ab'\n.", "\"ab\""),
    (b"Vab\n.", "\"ab\""),
    (b"C\x01a.", "b[97]"),
    (b"B\x01\0\0\0a.", "b[97]"),
    (b"\x8e\x01\0\0\0\0\0\0\0a.", "b[97]"),
    (b"\x96\x01\0\0\0\0\0\0\0a\x98.", "b[97]"),
    (b"(K\x01K\x02tK\x03\x85K\x04K\x05\x86\x87.", "((1, 2), (3), (4, 5))"),
    (b"(K\x01K\x02l.", "[1, 2]"),
    (b"](K\x01K\x02eK\x03a.", "[1, 2, 3]"),
    (b"\x8f(K\x01\x90.", "{1}"),
    (b"(K\x01\x91.", "{1}"),
    (b"(K\x01K\x02d.", "{1: 2}"),
    (b"}(K\x01K\x02uK\x03K\x04s.", "{1: 2, 3: 4}"),
    (b"]q\x00h\x00r\x01\x02\0\0j\x01\x02\0\0p7\ng7\n\x94K\x01a0000K\x01.", "1"),
    (b"K\x012\x86.", "(1, 1)"),
    (b"K\x01(K\x02K\x031.", "1"),
    (b"K\x01(0.", "1"),
    (b"cos\nsystem\nX\x04\0\0\0true\x85R.", "os.system(\"true\")"),
    (b"\x8c\x01m\x8c\x01n\x93)\x81.", "m.n()"),
    (b"cm\nn\n)}\x92.", "m.n()"),
    (b"(K\x01im\nn\n.", "m.n(1)"),
    (b"(cm\nn\nK\x01o.", "m.n(1)"),
    (b"cm\nn\n)R}b(K\x01e(K\x02K\x03u.", "m.n().build({})+[1]+{2: 3}"),
    (b"K\x01Q.", "<1>"),
    (b"P1\n.", "<\"1\">"),
];

#[test]
fn every_opcode_means_what_python_says() {
    for (bytes, expected) in OPCODES {
        let pickle = read(bytes).unwrap_or_else(|e| panic!("{expected}: {e}"));
        assert_eq!(show(&pickle, pickle.root), *expected);
        assert_eq!(pickle.consumed, bytes.len());
    }
}

#[test]
fn a_value_memoised_while_empty_is_shared() {
    let pickle = read(b"(]q\x00h\x00K\x01at.").unwrap();
    assert_eq!(show(&pickle, pickle.root), "([1], [1])");
    let items = pickle.sequence(pickle.root).unwrap();
    assert_eq!(items[0], items[1]);
}

#[test]
fn malformed_pickles_are_errors() {
    #[rustfmt::skip]
    let cases: &[&[u8]] = &[
        b"", b".", b"N", b"(.", b"K", b"a.", b"]a.", b"NNa.", b"NNs.", b"}K\x01s.", b"}(K\x01u.",
        b"t.", b"e.", b"u.", b"h\x00.", b"j\0\0\0\0.", b"\x85.", b"N\x86.", b"(\x85.", b"N(0a.",
        b"X\xff\xff\xff\xffa.", b"T\xff\xff\xff\xffa.", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
        b"\x8a\xff.", b"\x8b\xff\xff\xff\xff.", b"\x80\x06N.", b"\x82\x01.", b"\x97.", b"\xff.",
        b"Ix\n.", b"Fx\n.", b"S'a\n.", b"S'\n.", b"S'\\n'\n.", b"cm\n", b"o.", b"(o.", b"NNb.",
        b"R.", b"NN\x93.", b"g1\n.", b"p1\n.", b"gx\n.", b"I99999999999999999999\n.",
    ];
    for bytes in cases {
        assert!(read(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn nothing_grows_beyond_the_budget() {
    for unit in [&b"N"[..], b"(", b"]", b"N\x85", b"2", b")Nb", b"}"] {
        let mut bytes = b"\x80\x02N".to_vec();
        for _ in 0..(40 << 20) / unit.len() {
            bytes.extend_from_slice(unit);
        }
        bytes.push(b'.');
        assert!(read(&bytes).is_err(), "{unit:?}");
    }
    // Memo slots far apart take no memory for the gaps.
    assert!(read(b"Nr\xff\xff\xff\xff.").is_ok());
}
