//! Holds the imports of `src/` to two rules: between rooms they run downward only, and inside a room
//! no file imports what the face above it defines while that face imports the file.
//! It also holds training to one device: what may name the processor is listed here. Code of tests is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The rooms, from the ground up. A room imports from the lines below its own.
const FLOORS: &[&[&str]] = &[
    &["error", "util"],
    &["kernels", "nvidia", "storage"],
    &["weights", "metrics"],
    &["model"],
    &["checkpoint"],
    &["data", "engine", "tokens"],
    &["audit", "pipeline", "train"],
    &["config", "evaluate", "export", "findings"],
    &["job"],
    &["cli"],
    &["internals"],
];

/// Rooms that know less of those below than their floor allows, as the front page says.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    ("audit", &["checkpoint", "data", "engine", "model", "tokens", "weights"]),
    ("data", &["engine", "model", "weights"]),
    ("engine", &["checkpoint", "storage"]),
    ("evaluate", &["engine", "model", "pipeline", "storage", "tokens"]),
    ("export", &["checkpoint", "data", "engine", "model", "pipeline", "train", "weights"]),
    (
        "findings",
        &["checkpoint", "data", "engine", "model", "pipeline", "tokens", "train", "weights"],
    ),
    ("metrics", &["storage"]),
    ("model", &["storage"]),
    ("pipeline", &["checkpoint", "weights"]),
    ("tokens", &["checkpoint", "model", "weights"]),
    ("train", &["engine", "tokens"]),
];

/// Where the trainer and the networks may name the processor, whatever a training computes on, how often,
/// and why. Anything else makes its tensors where those are that it is given, and has one path of operations
/// for every device.
const HOST_PLACES: &[(&str, usize, &str)] = &[
    ("model::compute_device", 3, "what a device is"),
    ("model::layers::conv", 1, "candle's convolutions on a GPU have a largest size"),
    ("model::reference", 1, "names and shapes are checked without values"),
    (
        "train::losses::lpips_weights",
        1,
        "weights are checked and hashed before they go to a device",
    ),
    ("train::run", 1, "what is written into the model folder"),
    ("train::trainer::cost", 1, "memory is the host's or a GPU's"),
];

type ModulePath = Vec<String>;

/// A module's file, as far as imports go.
#[derive(Default)]
struct Module {
    /// Absolute paths of what it names, with the names of items at their ends.
    paths: BTreeSet<ModulePath>,
    /// Items it defines itself.
    items: BTreeSet<String>,
    children: BTreeSet<String>,
    /// How often it says `Device::Cpu` or asks `is_cpu()`.
    host_places: usize,
}

#[test]
fn imports_between_rooms_run_downward() {
    let found = upward_between_rooms(&modules());
    assert!(found.is_empty(), "imports that run upward:\n{}", found.join("\n"));
}

#[test]
fn no_file_imports_from_the_face_that_imports_it() {
    let found = upward_inside_rooms(&modules());
    assert!(found.is_empty(), "imports from the face above:\n{}", found.join("\n"));
}

#[test]
fn training_computes_on_its_device_alone() {
    let modules = modules();
    let rooms = ["model", "train"].map(|room| vec![room.to_string()]);
    let inside = modules.iter().filter(|(path, _)| rooms.iter().any(|room| path.starts_with(room)));
    let found = inside.filter(|(_, module)| module.host_places > 0);
    let found: Vec<_> = found.map(|(path, m)| (path.join("::"), m.host_places)).collect();
    let listed: Vec<_> = HOST_PLACES.iter().map(|(path, n, _)| (path.to_string(), *n)).collect();
    assert_eq!(found, listed);
}

#[test]
fn imports_are_read_as_written() {
    let source = "//! use crate::cli;\nuse crate::a::{self, b::C, d::*};\nuse std::fs;\n\
                  #[cfg(test)]\nmod tests;\nmod child;\npub(crate) const K: &str = \"crate::x\";\n\
                  fn f<'a>(x: &'a str) -> char { super::g(crate::a::h()); child::y(); '\"' }\n\
                  fn g() { at(&Device::Cpu); if x.is_cpu() {} }\n\
                  #[cfg(test)]\nmod more {\n    use crate::cli;\n}\n";
    let mut skipped = BTreeSet::new();
    let module = read(source, &["m".to_string(), "n".to_string()], &mut skipped);
    let paths: Vec<String> = module.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["a", "a::b::C", "a::d::*", "a::h", "m::g", "m::n::child::y"]);
    assert_eq!(module.items.into_iter().collect::<Vec<_>>(), ["K", "f", "g"]);
    assert_eq!(module.host_places, 2);
    assert_eq!(skipped.len(), 1);
}

fn upward_between_rooms(modules: &BTreeMap<ModulePath, Module>) -> Vec<String> {
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut found = Vec::new();
    for (path, module) in modules.iter().filter(|(path, _)| !path.is_empty()) {
        let room = path[0].as_str();
        let Some(own) = floor(room) else {
            found.push(format!("{room} has no floor: add it to FLOORS"));
            continue;
        };
        for other in &module.paths {
            let into = other.first().map_or("", String::as_str);
            if into == room {
                continue;
            }
            let unknown = MUST_NOT_KNOW.iter().any(|(r, not)| *r == room && not.contains(&into));
            let below = floor(into).is_some_and(|floor| floor < own || floor == 0);
            if !below || unknown {
                found.push(format!("{} imports {}", path.join("::"), other.join("::")));
            }
        }
    }
    found
}

fn upward_inside_rooms(modules: &BTreeMap<ModulePath, Module>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, module) in modules {
        for depth in 1..path.len() {
            let (face, below) = path.split_at(depth);
            let Some(above) = modules.get(face) else { continue };
            let inner = [face, &below[..1]].concat();
            if !above.paths.iter().any(|other| other.starts_with(&inner)) {
                continue;
            }
            for other in module.paths.iter().filter(|other| other.starts_with(face)) {
                let item = other.get(depth).map_or("", String::as_str);
                if above.items.contains(item) || item == "*" {
                    found.push(format!(
                        "{} imports {item} of {}",
                        path.join("::"),
                        face.join("::")
                    ));
                }
            }
        }
    }
    found
}

/// Every module of the crate that isn't for tests, by its path.
fn modules() -> BTreeMap<ModulePath, Module> {
    let mut modules = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    add(&root, &root.join("lib.rs"), Vec::new(), &mut modules);
    assert!(modules.len() > 100, "{} modules", modules.len());
    modules
}

/// Adds the module of a file and those below it, whose files lie in `folder`.
fn add(folder: &Path, file: &Path, path: ModulePath, into: &mut BTreeMap<ModulePath, Module>) {
    let source = std::fs::read_to_string(file).unwrap();
    let module = read(&source, &path, &mut BTreeSet::new());
    for child in &module.children {
        let inner = folder.join(child);
        let candidates = [folder.join(format!("{child}.rs")), inner.join("mod.rs")];
        let file = candidates.iter().find(|file| file.is_file());
        let file = file.unwrap_or_else(|| panic!("no file of {child} in {}", folder.display()));
        add(&inner, file, [&path[..], std::slice::from_ref(child)].concat(), into);
    }
    into.insert(path, module);
}

/// Reads a module's source; names of child modules for tests go to `skipped`.
fn read(source: &str, path: &[String], skipped: &mut BTreeSet<String>) -> Module {
    let tokens = without_tests(tokens(source), skipped);
    let names_host = |at: usize| match tokens[at].as_str() {
        "Cpu" => at >= 2 && tokens[at - 2] == "Device",
        word => word == "is_cpu",
    };
    let mut module = Module {
        host_places: (0..tokens.len()).filter(|at| names_host(*at)).count(),
        ..Module::default()
    };
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        let name = || tokens.get(at + 1).cloned().unwrap_or_default();
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ if depth > 0 => {}
            "mod" if tokens.get(at + 2).is_some_and(|next| next == ";") => {
                module.children.insert(name());
            }
            "fn" | "struct" | "enum" | "trait" | "const" | "static" | "type" => {
                module.items.insert(name());
            }
            _ => {}
        }
    }
    let mut at = 0;
    while at < tokens.len() {
        let begins = at == 0 || tokens[at - 1] != "::";
        let is_path = tokens.get(at + 1).is_some_and(|next| next == "::");
        if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<") {
            let end = at + tokens[at..].iter().position(|token| token == ";").unwrap();
            let mut trees = Vec::new();
            tree(&tokens[at + 1..end], &mut 0, Vec::new(), &mut trees);
            module.paths.extend(trees.iter().filter_map(|p| absolute(p, path, &module.children)));
            at = end;
        } else if begins && is_path {
            let mut named = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|t| t == "::")
                && tokens.get(at + 2).is_some_and(|t| is_word(t))
            {
                named.push(tokens[at + 2].clone());
                at += 2;
            }
            module.paths.extend(absolute(&named, path, &module.children));
        }
        at += 1;
    }
    module
}

/// The paths of a `use` tree.
fn tree(tokens: &[String], at: &mut usize, prefix: ModulePath, into: &mut Vec<ModulePath>) {
    let mut path = prefix.clone();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        match token.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(*at).is_some_and(|token| token != "}") {
                    tree(tokens, at, path.clone(), into);
                }
                *at += 1;
                path.clear();
            }
            "," => break,
            "}" => {
                *at -= 1;
                break;
            }
            "as" => *at += 1,
            "self" if !path.is_empty() => {}
            word => path.push(word.to_string()),
        }
    }
    if !path.is_empty() {
        into.push(path);
    }
}

/// A path as from the crate's root; None for other crates' and local names.
fn absolute(path: &[String], module: &[String], children: &BTreeSet<String>) -> Option<ModulePath> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (base, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|word| word == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        child if children.contains(child) => {}
        _ => return None,
    }
    base.extend_from_slice(rest);
    Some(base)
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Leaves out items marked `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>, skipped: &mut BTreeSet<String>) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest: Vec<&str> = tokens[at..].iter().take(8).map(String::as_str).collect();
        let marked = matches!(rest[..], ["#", "[", "cfg", "(", "test", ")", "]", ..])
            || matches!(rest[..], ["#", "[", "cfg", "(", "all", "(", "test", ..]);
        if !marked {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += tokens[at..].iter().position(|token| token == "]").unwrap() + 1;
        let is_use = tokens[at..].iter().find(|t| ["use", "mod", "fn"].contains(&t.as_str()));
        let is_use = is_use.is_some_and(|token| token == "use");
        let mut depth = 0;
        let begin = at;
        while at < tokens.len() {
            match tokens[at].as_str() {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 && !is_use {
                        break;
                    }
                }
                ";" if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        if let Some(place) = tokens[begin..at].iter().position(|token| token == "mod")
            && tokens.get(at).is_some_and(|token| token == ";")
        {
            skipped.insert(tokens[begin + place + 1].clone());
        }
        at += 1;
    }
    out
}

/// Words, `::` and single signs; comments, texts, characters and lifetimes left out.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        match chars[at] {
            '/' if next == '/' => at += chars[at..].iter().take_while(|c| **c != '\n').count(),
            '/' if next == '*' => {
                let end = chars[at + 2..].windows(2).position(|pair| pair == ['*', '/']);
                at += end.map_or(chars.len(), |end| end + 4);
            }
            'r' if next == '"' || (next == '#' && chars.get(at + 2) == Some(&'"')) => {
                let hash = next == '#';
                at += if hash { 3 } else { 2 };
                while chars[at] != '"' || (hash && chars.get(at + 1) != Some(&'#')) {
                    at += 1;
                }
                at += if hash { 2 } else { 1 };
            }
            '"' => {
                at += 1;
                while chars[at] != '"' {
                    at += if chars[at] == '\\' { 2 } else { 1 };
                }
                at += 1;
            }
            '\'' if next == '\\' => {
                at += 3 + chars[at + 3..].iter().position(|c| *c == '\'').unwrap() + 1;
            }
            '\'' if chars.get(at + 2) == Some(&'\'') => at += 3,
            '\'' => at += 1 + chars[at + 1..].iter().take_while(|c| c.is_alphanumeric()).count(),
            ':' if next == ':' => {
                tokens.push("::".into());
                at += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let length =
                    chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                tokens.push(chars[at..at + length].iter().collect());
                at += length;
            }
            c if c.is_whitespace() => at += 1,
            c => {
                tokens.push(c.into());
                at += 1;
            }
        }
    }
    tokens
}
