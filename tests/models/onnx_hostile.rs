//! Holds that ONNX files which are damaged, lie, or ask for more than they may are refused in one line
//! before any library sees them, and that what isn't said is asked for by name. Needs no ONNX Runtime.

use std::path::{Path, PathBuf};

use crate::support::Job;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx").join(name)
}

/// A field of a protobuf message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&varint(u64::from(number) << 3 | 2)[..], &varint(bytes.len() as u64), bytes].concat()
}

/// One that holds a number.
fn number(field: u8, value: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = value >> 7 > 0;
        bytes.push(value as u8 & 0x7f | if more { 0x80 } else { 0 });
        value >>= 7;
        if !more {
            return bytes;
        }
    }
}

/// A model: `graph` in the place of a whole one's fields.
fn model(graph: &[u8]) -> Vec<u8> {
    [number(1, 8), field(7, graph), field(8, &number(2, 17))].concat()
}

/// An input or output: its name, its type and its sides.
fn value(name: &str, element: u64, sides: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = sides.iter().flat_map(|&side| field(1, &number(1, side))).collect();
    let tensor = [number(1, element), field(2, &dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// A graph with pixels, tokens and whatever else.
fn graph(more: &[u8]) -> Vec<u8> {
    let input = field(11, &value("pixels", 1, &[4, 3, 16, 16]));
    [more, &input, &field(12, &value("tokens", 7, &[4, 4, 4]))].concat()
}

fn node(kind: &str, domain: &str) -> Vec<u8> {
    field(1, &[field(4, kind.as_bytes()), field(7, domain.as_bytes())].concat())
}

/// Weights that lie in another file.
fn external(location: &str, length: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
    };
    let tensor = [
        number(1, 4),
        number(2, 1),
        field(8, b"w"),
        entry("location", location),
        entry("length", length),
        number(14, 1),
    ];
    field(5, &tensor.concat())
}

const SAID: &str = "inspect x.onnx --codes 8 --mean 0 --std 1";

/// What is said of a model that is refused.
fn refused(job: &Job, bytes: &[u8], words: &[&str]) {
    std::fs::write(job.path("x.onnx"), bytes).unwrap();
    job.expect(2, SAID).assert_one_line(words);
}

#[test]
fn files_that_are_cut_or_lie_are_refused_in_one_line() {
    let job = Job::new(0);
    std::fs::write(job.path("x.onnx"), model(&graph(&[]))).unwrap();
    job.expect(0, SAID);
    let whole = std::fs::read(data("dynamic/encoder.onnx")).unwrap();
    for cut in (0..whole.len()).step_by(41).chain([1, 2, whole.len() - 1]) {
        refused(&job, &whole[..cut], &["x.onnx: "]);
    }
    refused(&job, b"<!doctype html>", &["a page of a web site"]);
    refused(&job, &model(&field(1, &[0xff; 40])), &["not a whole ONNX model"]);
    // 2^40 floats of which none is there, and sides whose product has no number.
    let huge = [number(1, 1 << 40), number(2, 1), field(8, b"w"), field(9, &[0; 4])].concat();
    refused(&job, &model(&graph(&field(5, &huge))), &["its weights 'w'"]);
    let endless = [number(1, 1 << 40), number(1, 1 << 40), number(2, 1)].concat();
    refused(&job, &model(&graph(&field(5, &endless))), &["its weights ''"]);
    let short = [number(1, 4), number(2, 1), field(8, b"w"), field(9, &[0; 12])].concat();
    refused(&job, &model(&graph(&field(5, &short))), &["16 bytes, 12 of which are there"]);
    // The same where it hides in a node.
    let constant = field(1, &[field(4, b"Constant"), field(5, &field(5, &short))].concat());
    refused(&job, &model(&graph(&constant)), &["16 bytes, 12 of which are there"]);
}

#[test]
fn files_that_ask_for_what_is_not_theirs_are_refused() {
    let job = Job::new(0);
    refused(&job, &model(&graph(&node("Mine", "my.domain"))), &["Mine of my.domain", "custom"]);
    refused(&job, &model(&graph(&node("Loop", ""))), &["Loop", "steps written out"]);
    let mut deep = node("Relu", "");
    for _ in 0..12 {
        deep = field(1, &[field(4, b"If"), field(5, &field(6, &deep))].concat());
    }
    refused(&job, &model(&graph(&deep)), &["nested more than 8 deep"]);

    std::fs::write(job.path("secret"), [0; 16]).unwrap();
    std::fs::create_dir(job.path("m")).unwrap();
    let at = |location: &str, length: &str, words: &[&str]| {
        std::fs::write(job.path("m/x.onnx"), model(&graph(&external(location, length)))).unwrap();
        let line = "inspect m/x.onnx --codes 8 --mean 0 --std 1";
        match words {
            [] => drop(job.expect(0, line)),
            words => job.expect(2, line).assert_one_line(words),
        }
    };
    let absolute = job.path("secret").display().to_string();
    for outside in ["../secret", "a/../../secret", &absolute, ""] {
        at(outside, "16", &["outside its folder"]);
    }
    // What older runtimes take for weights in memory, at the address that is said.
    std::fs::create_dir_all(job.path("m/*/_ORT_MEM_ADDR_")).unwrap();
    std::fs::write(job.path("m/*/_ORT_MEM_ADDR_/*"), [0; 16]).unwrap();
    at("*/_ORT_MEM_ADDR_/*", "16", &["outside its folder"]);
    at("nothing", "16", &["isn't beside it"]);
    std::os::unix::fs::symlink(job.path("secret"), job.path("m/link")).unwrap();
    at("link", "16", &["outside its folder"]);
    std::fs::write(job.path("m/weights"), [0; 15]).unwrap();
    at("weights", "16", &["15 bytes where 16"]);
    std::fs::write(job.path("m/weights"), [0; 16]).unwrap();
    at("weights", "16", &[]);
    at("./weights", "16", &[]);
    at("weights", "12", &["16 bytes, 12 of which"]);
}

#[test]
fn a_graph_that_draws_or_grows_without_end_is_refused() {
    let job = Job::new(0);
    for kind in ["RandomNormalLike", "RandomUniform", "Bernoulli"] {
        refused(&job, &model(&graph(&node(kind, ""))), &[kind, "at random", "eval()"]);
    }
    // Each function calls the next twice: 2^26 operators of 26 lines.
    let function = |place: usize| {
        let calls = node(&format!("f{}", place + 1), "mine").repeat(2);
        // In functions, nodes are field 7.
        let calls: Vec<u8> =
            calls.chunks(calls.len() / 2).flat_map(|call| field(7, &call[2..])).collect();
        let body = [field(1, format!("f{place}").as_bytes()), field(10, b"mine"), calls].concat();
        [varint(25 << 3 | 2), varint(body.len() as u64), body].concat()
    };
    let of = |count: usize, graph: &[u8]| {
        [model(graph), (0..count).flat_map(function).collect()].concat()
    };
    std::fs::write(job.path("x.onnx"), of(10, &graph(&node("f0", "mine")))).unwrap();
    job.expect(0, SAID);
    refused(&job, &of(26, &graph(&node("f0", "mine"))), &["more than 1048576 operators"]);
}

/// A node with an attribute that holds a graph of some nodes.
fn repeating(kind: &str, nodes: &[u8]) -> Vec<u8> {
    field(1, &[field(4, kind.as_bytes()), field(5, &field(6, nodes))].concat())
}

#[test]
fn steps_are_repeated_once_and_not_within_repeated_steps() {
    let job = Job::new(0);
    let one = repeating("Scan", &node("Relu", ""));
    std::fs::write(job.path("x.onnx"), model(&graph(&[&one[..], &one].concat()))).unwrap();
    job.expect(0, SAID);
    for (outer, inner) in [("Scan", "Scan"), ("SequenceMap", "Scan"), ("Scan", "SequenceMap")] {
        let nested = repeating(outer, &repeating(inner, &node("Relu", "")));
        refused(&job, &model(&graph(&nested)), &[inner, "within steps that are repeated"]);
    }
    let branch = repeating("Scan", &repeating("If", &one));
    refused(&job, &model(&graph(&branch)), &["Scan", "within steps that are repeated"]);
    // Through a function, whose nodes are field 7.
    let body = [field(1, b"f"), field(10, b"mine"), field(7, &one[2..])].concat();
    let function = [varint(25 << 3 | 2), varint(body.len() as u64), body].concat();
    let of = |nodes: &[u8]| [model(&graph(nodes)), function.clone()].concat();
    std::fs::write(job.path("x.onnx"), of(&node("f", "mine"))).unwrap();
    job.expect(0, SAID);
    let called = repeating("Scan", &node("f", "mine"));
    refused(&job, &of(&called), &["operator f", "within steps that are repeated"]);
}

#[test]
fn texts_are_refused_wherever_they_come_from() {
    let job = Job::new(0);
    let words = &["computes with texts"];
    let text = [number(1, 1), number(2, 8), field(8, b"w"), field(6, b"a")].concat();
    refused(&job, &model(&graph(&field(5, &text))), words);
    let attribute = |kind: &str, attribute: &[u8]| {
        model(&graph(&field(1, &[field(4, kind.as_bytes()), field(5, attribute)].concat())))
    };
    let named = |name: &str, more: &[u8]| [&field(1, name.as_bytes()), more].concat();
    refused(&job, &attribute("Constant", &named("value", &field(5, &text))), words);
    refused(&job, &attribute("Constant", &named("value_string", &field(4, b"a"))), words);
    refused(&job, &attribute("Constant", &named("value_strings", &field(9, b"a"))), words);
    refused(&job, &attribute("LabelEncoder", &named("values_strings", &field(9, b"a"))), words);
    refused(&job, &attribute("Cast", &named("to", &number(3, 8))), words);
    std::fs::write(job.path("x.onnx"), attribute("Cast", &named("to", &number(3, 7)))).unwrap();
    job.expect(0, SAID);
}

#[test]
fn codes_that_the_type_of_an_output_has_no_room_for_are_refused() {
    let job = Job::new(0);
    for (element, most) in [(2, 256), (3, 128), (4, 65536), (5, 32768)] {
        let faces = [
            field(11, &value("pixels", 1, &[4, 3, 16, 16])),
            field(12, &value("tokens", element, &[4, 4, 4])),
        ];
        std::fs::write(job.path("x.onnx"), model(&faces.concat())).unwrap();
        let line = |codes: u64| format!("inspect x.onnx --codes {codes} --mean 0 --std 1");
        job.expect(0, &line(most));
        let more = most + 1;
        job.expect(2, &line(more))
            .assert_one_line(&["x.onnx: its 'tokens' is of ", &format!("{more} codes don't fit")]);
    }
}

#[test]
fn a_decoders_inputs_are_paired_with_levels_by_their_names_or_as_is_said() {
    let job = Job::new(0);
    std::fs::create_dir(job.path("m")).unwrap();
    let tokens = |number: u8, names: &[&str]| -> Vec<u8> {
        names.iter().flat_map(|name| field(number, &value(name, 7, &[1, 4, 4]))).collect()
    };
    let pixels = |number: u8| field(number, &value("pixels", 1, &[1, 3, 16, 16]));
    let check = |[out, into]: [&[&str]; 2], more: &str, words: &[&str]| {
        let encoder = model(&[pixels(11), tokens(12, out)].concat());
        let decoder = model(&[tokens(11, into), pixels(12)].concat());
        std::fs::write(job.path("m/encoder.onnx"), encoder).unwrap();
        std::fs::write(job.path("m/decoder.onnx"), decoder).unwrap();
        let sides = r#""input": {"mean": 0, "std": 1}, "output": {"mean": 0, "std": 1}"#;
        let settings = format!(r#"{{"codes": 8, {sides}{more}}}"#);
        std::fs::write(job.path("m/tokenizer.json"), settings).unwrap();
        match words {
            [] => job.expect(0, "inspect m").stdout,
            words => {
                job.expect(2, "inspect m").assert_one_line(words);
                String::new()
            }
        }
    };
    let two = ["a", "b"];
    let said = check([&two, &["b", "a"]], "", &[]);
    assert!(said.contains("a i64[1, 4, 4], b i64[1, 4, 4] to pixels"), "{said}");
    let unsaid = ["which of its inputs takes which level", "write `decoder_tokens`"];
    for into in [["b", "x"], ["y", "x"]] {
        check([&two, &into], "", &unsaid);
        let names = format!(r#", "decoder_tokens": ["{}", "{}"]"#, into[1], into[0]);
        check([&two, &into], &names, &[]);
        check([&two, &into], r#", "decoder_tokens": ["b", "z"]"#, &unsaid);
    }
    // One level: whatever it is called, but for the name of what is none.
    check([&["a"], &["x"]], "", &[]);
    check([&two, &["a"]], r#", "tokens": "b""#, &unsaid);
    check([&two, &["a"]], r#", "tokens": "b", "decoder_tokens": "a""#, &[]);
}

#[test]
fn weights_that_are_not_numbers_are_refused_wherever_they_lie() {
    let job = Job::new(0);
    let weights = |values: &[f32]| {
        let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        field(
            5,
            &[number(1, values.len() as u64), number(2, 1), field(8, b"w"), field(9, &raw)]
                .concat(),
        )
    };
    let multiplied = field(1, &[field(1, b"pixels"), field(1, b"w"), field(4, b"Conv")].concat());
    let of = |values: &[f32], node: &[u8]| model(&graph(&[&weights(values), node].concat()));
    std::fs::write(job.path("x.onnx"), of(&[1.0, f32::NEG_INFINITY], &[])).unwrap();
    job.expect(0, SAID);
    refused(&job, &of(&[1.0, f32::NAN], &[]), &["x.onnx", "its weights 'w' hold NaN"]);
    let infinite = of(&[1.0, f32::INFINITY], &multiplied);
    refused(&job, &infinite, &["its weights 'w' hold infinite values"]);
    let constant = |number: u8, name: &str, value: f32| {
        let float = [&[number << 3 | 5][..], &value.to_le_bytes()].concat();
        let attribute = [field(1, name.as_bytes()), float].concat();
        model(&graph(&field(1, &[field(4, b"Constant"), field(5, &attribute)].concat())))
    };
    for (number, name) in [(2, "value_float"), (7, "value_floats")] {
        refused(&job, &constant(number, name, f32::NAN), &["x.onnx", "constant", "is NaN"]);
        std::fs::write(job.path("x.onnx"), constant(number, name, 1.0)).unwrap();
        job.expect(0, SAID);
    }
    std::fs::write(job.path("w"), [1.0_f32, 2.0, 3.0, f32::NAN].map(f32::to_le_bytes).concat())
        .unwrap();
    refused(&job, &model(&graph(&external("w", "16"))), &["its weights 'w' hold NaN"]);
}

#[test]
fn an_encoder_and_a_decoder_of_two_models_are_refused() {
    let job = Job::new(0);
    let encoder = |channels| {
        let faces = [
            field(11, &value("pixels", 1, &[1, channels, 16, 16])),
            field(12, &value("tokens", 7, &[1, 4, 4])),
        ];
        model(&faces.concat())
    };
    let decoder = |channels, side| {
        let faces = [
            field(11, &value("tokens", 7, &[1, 4, 4])),
            field(12, &value("pixels", 1, &[1, channels, side, 16])),
        ];
        model(&faces.concat())
    };
    std::fs::create_dir(job.path("m")).unwrap();
    std::fs::write(
        job.path("m/tokenizer.json"),
        r#"{"codes": 8, "input": {"mean": 0, "std": 1}, "output": {"mean": 0, "std": 1}}"#,
    )
    .unwrap();
    for (into, out, side, words) in [
        (3, 3, 16, &[][..]),
        (1, 3, 16, &["takes pictures of 1 channels", "ones of 3"]),
        (3, 1, 16, &["takes pictures of 3 channels", "ones of 1"]),
        (3, 3, 15, &["takes pictures of 16x16 pixels", "ones of 16x15"]),
    ] {
        std::fs::write(job.path("m/encoder.onnx"), encoder(into)).unwrap();
        std::fs::write(job.path("m/decoder.onnx"), decoder(out, side)).unwrap();
        match words {
            [] => drop(job.expect(0, "inspect m")),
            words => job.expect(2, "inspect m").assert_one_line(words),
        }
    }
}

#[test]
fn weights_beside_a_graph_are_found_through_a_cache_of_links() {
    let job = Job::new(0);
    for folder in ["blobs", "snapshots", "snapshots/1"] {
        std::fs::create_dir(job.path(folder)).unwrap();
    }
    std::fs::write(job.path("blobs/a"), model(&graph(&external("x.onnx_data", "16")))).unwrap();
    std::fs::write(job.path("blobs/b"), [0; 16]).unwrap();
    std::fs::write(job.path("secret"), [0; 16]).unwrap();
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, job.path(to)).unwrap();
    link("../../blobs/a", "snapshots/1/x.onnx");
    link("../../blobs/b", "snapshots/1/x.onnx_data");
    let line = "inspect snapshots/1/x.onnx --codes 8 --mean 0 --std 1";
    job.expect(0, line);
    std::fs::remove_file(job.path("snapshots/1/x.onnx_data")).unwrap();
    link("../../secret", "snapshots/1/x.onnx_data");
    job.expect(2, line).assert_one_line(&["outside its folder"]);
}

#[test]
fn what_is_not_said_is_asked_for_by_name() {
    let job = Job::new(0);
    let graph_of =
        |input: Vec<u8>, output: Vec<u8>| model(&[field(11, &input), field(12, &output)].concat());
    let good = |sides: &[u64]| graph_of(value("pixels", 1, sides), value("tokens", 7, &[1, 4, 4]));
    std::fs::write(job.path("x.onnx"), good(&[1, 3, 16, 16])).unwrap();
    let says = |line: &str, words: &[&str]| job.expect(2, line).assert_one_line(words);
    says("inspect x.onnx --mean 0 --std 1", &["`codes`", "--codes", "tokenizer.json"]);
    says("inspect x.onnx --codes 8", &["`input.mean` and `input.std`", "--mean and --std"]);
    says(
        "inspect x.onnx --codes 8 --mean 0",
        &["`input.mean` is said without `input.std`", "--std"],
    );
    says("inspect x.onnx --codes 8 --mean 0 --std 1,2", &["2 numbers for 3 channels"]);
    says("inspect x.onnx --codes 8 --mean 0 --std 1 --layout nhwc", &["16 channels as Nhwc"]);
    says("inspect x.onnx --codes 8 --weights ema", &["--weights", "ONNX files"]);
    for (bytes, words) in [
        (good(&[0, 0, 0, 0]), &["`input.layout`", "--layout"][..]),
        (good(&[1, 3, 3, 3]), &["`input.layout`", "--layout"]),
        (good(&[1, 3, 16]), &["holds no pictures"]),
        (
            graph_of(value("pixels", 1, &[1, 3, 16, 16]), value("z", 1, &[1, 4, 4])),
            &["none of its outputs (z) is of integers"],
        ),
        (
            graph_of(value("pixels", 11, &[1, 3, 16, 16]), value("t", 7, &[1, 4])),
            &["'pixels' is of float64, where pictures are of float32"],
        ),
    ] {
        refused(&job, &bytes, words);
    }
    std::fs::write(job.path("x.onnx"), good(&[1, 3, 16, 16])).unwrap();
    std::fs::write(job.path("tokenizer.json"), "{\"codes\": 8, \"tokens\": \"other\"}").unwrap();
    says(SAID, &["no output 'other': there is tokens"]);
    std::fs::write(job.path("tokenizer.json"), "{}").unwrap();
    // Sides that vary are written as 0: three channels lie last, or first.
    for (sides, said, found) in [([0, 3, 0, 0], "Nhwc", "Nchw"), ([0, 0, 0, 3], "Nchw", "Nhwc")] {
        std::fs::write(job.path("x.onnx"), good(&sides)).unwrap();
        let line = format!("inspect x.onnx --codes 8 --mean 0 --std 1 --layout {said}");
        says(&line, &[&format!("where {found} has them"), "`input.layout` in tokenizer.json"]);
    }
    let twice = [value("tokens", 7, &[1, 4, 4]), value("tokens", 7, &[1, 4, 4])];
    for field_number in [11, 12] {
        let declared = twice.clone().map(|info| field(field_number, &info)).concat();
        refused(&job, &model(&graph(&declared)), &["declares its", "'tokens' twice"]);
    }
}

#[test]
fn settings_that_are_wrong_are_told_by_their_names() {
    let job = Job::new(0);
    std::fs::write(job.path("x.onnx"), model(&graph(&[]))).unwrap();
    let says = |line: &str, words: &[&str]| job.expect(2, line).assert_one_line(words);
    for (written, words) in [
        (r#"{"codes": "many"}"#, &["tokenizer.json: `codes` is \"many\""][..]),
        (r#"{"codes": 8, "codes": 9}"#, &["tokenizer.json: ", "`codes` is said twice"]),
        (r#"{"codes": 8, "reszie": "lanczos"}"#, &["`reszie` is no setting: is `resize` meant?"]),
        (r#"{"codes": 8, "input": {"men": 1}}"#, &["`input.men`", "`input.mean` meant?"]),
        (r#"{"codes": [8, 8]}"#, &["`codes` are of 2 levels where it has 1"]),
        (r#"{"codes": 8, "tokens": []}"#, &["`tokens` names no output"]),
        (r#"{"codes": 8, "tokens": ["tokens", "tokens"]}"#, &["names 'tokens' twice"]),
    ] {
        std::fs::write(job.path("tokenizer.json"), written).unwrap();
        says(SAID, words);
    }
}

#[test]
fn what_is_said_of_onnx_files_is_refused_for_others_and_so_are_devices() {
    let job = Job::new(1).trained();
    for (flags, name) in [
        ("--codes 8", "--codes"),
        ("--layout NCHW", "--layout"),
        ("--mean 1", "--mean"),
        ("--std 1", "--std"),
        ("--onnxruntime x", "--onnxruntime"),
    ] {
        let line = format!("tokenize images --model model --out out {flags}");
        job.expect(2, &line).assert_one_line(&[name, "ONNX files"]);
    }
    let line = "tokenize images --model model --out out --device tensorrt";
    job.expect(2, line).assert_one_line(&["--device tensorrt: for models in ONNX files alone"]);
    let model = data("dynamic").display().to_string();
    let line = format!("tokenize images --model {model} --out out");
    let nowhere = job.expect(2, &format!("{line} --onnxruntime nowhere"));
    nowhere.assert_one_line(&["--onnxruntime nowhere: there is no library"]);
    let bf16 = job.expect(2, &format!("{line} --precision bf16"));
    bf16.assert_one_line(&["--precision bf16: an ONNX model"]);
    assert!(!job.path("out").exists());
}
