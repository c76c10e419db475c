//! Holds that settings are named by marks which nobody forges, and that nothing below the command
//! line says how it calls them.

use std::path::Path;

use super::*;

#[test]
fn settings_are_named_as_the_reader_calls_them() {
    let message = format!("size.png: use a smaller {SIZE} or {DEVICE} cpu");
    assert_eq!(plain(&message), "size.png: use a smaller size or device cpu");
    let flags = named(&message, |name| format!("--{name}"));
    assert_eq!(flags, "size.png: use a smaller --size or --device cpu");
    assert_eq!(printable(&message), message);
    let hostile = format!("a\n\u{2}size\u{1b}\u{3} {SIZE}\u{2}none\u{3}\u{2}");
    assert_eq!(
        plain(&printable(&hostile)),
        "a\\n\\u{2}size\\u{1b}\\u{3} size\\u{2}none\\u{3}\\u{2}"
    );
    for cut in ["", "no setting", "cut \u{2}size"] {
        assert_eq!(plain(cut), cut);
    }
}

/// What looks like a flag and is another program's, or a part of what is written: (file, literal).
const NOT_OURS: [(&str, &str); 4] = [
    ("engine/open.rs", "--release --features cuda"),
    ("engine/cuda/compile.rs", "--gpu-architecture="),
    // The words for these two in `provenance` of `config.json`, a part of the format.
    ("checkpoint/recognise/provenance.rs", "--family"),
    ("checkpoint/recognise/provenance.rs", "--weights"),
];

#[test]
fn nothing_below_the_command_line_names_a_flag() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut read, mut found) = (0, Vec::new());
    for entry in walkdir::WalkDir::new(&sources) {
        let path = entry.unwrap().into_path();
        let name = path.strip_prefix(&sources).unwrap().to_string_lossy().into_owned();
        let tests = name.contains("/tests/") || name.ends_with("tests.rs");
        if !name.ends_with(".rs") || name.starts_with("cli/") || tests {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        read += 1;
        for literal in literals(source) {
            let ours = !NOT_OURS.iter().any(|(file, its)| *file == name && literal.contains(its));
            if ours && names_a_flag(&literal) {
                found.push(format!("{name}: {literal}"));
            }
        }
    }
    assert!(read > 300, "{read}");
    assert!(found.is_empty(), "name a setting of `util::settings`:\n{}", found.join("\n"));
}

/// Whether a text has a word that begins with two dashes, or the word for such words.
fn names_a_flag(text: &str) -> bool {
    let dashed = |word: &str| {
        let name = word.trim_start_matches(['`', '(', '\'', '"']).strip_prefix("--");
        // `--k:` is a property of a style sheet.
        name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
            && !word.contains(':')
    };
    let called =
        |word: &str| matches!(word.trim_matches(|c: char| !c.is_alphabetic()), "flag" | "flags");
    text.split_whitespace().any(|word| dashed(word) || called(word))
}

/// The strings of a source, as they are written.
fn literals(source: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), source);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, here) = (&rest[..at], &rest[at..]);
        rest = if here.starts_with("//") {
            here.split_once('\n').map_or("", |(_, next)| next)
        } else if here.starts_with("'\"'") || here.starts_with("'\\") {
            &here[3..]
        } else if !here.starts_with('"') {
            &here[1..]
        } else {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let raw = before.trim_end_matches('#').ends_with('r');
            let end = if raw { raw_end(&here[1..], hashes) } else { plain_end(&here[1..]) };
            found.push(here[1..1 + end].to_owned());
            here.get(end + 2..).unwrap_or("")
        };
    }
    found
}

fn raw_end(text: &str, hashes: usize) -> usize {
    text.find(&format!("\"{}", "#".repeat(hashes))).unwrap_or(text.len())
}

fn plain_end(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(text.len())
}

#[test]
fn flags_are_found_in_strings_alone() {
    let source = "// \"--a\"\nlet c = '\"'; let d = '\\''; f(\"pass \\\"--b\\\" N\", r#\"x\"y\"#); /* ' */ g(\"--c\")";
    assert_eq!(literals(source), ["pass \\\"--b\\\" N", "x\"y", "--c"]);
    for text in ["pass --size N", "(--size)", "`vqtok x --size`", "--size", "leave the flag out"] {
        assert!(names_a_flag(text), "{text}");
    }
    for text in ["a - b", "--k:{colour}", "var(--c0)", "--", "flagged", "a--b"] {
        assert!(!names_a_flag(text), "{text}");
    }
}
