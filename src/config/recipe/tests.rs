//! Holds reading of recipes: numbers without end are refused, and what is wrong is told in words.

use toml::Value;

use super::*;

/// Paths of all floats below `value`.
fn floats(value: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    let below = |name: String| [path, &[name]].concat();
    match value {
        Value::Float(_) => found.push(path.to_vec()),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                floats(item, &below(i.to_string()), found);
            }
        }
        Value::Table(table) => {
            for (name, item) in table {
                floats(item, &below(name.clone()), found);
            }
        }
        _ => {}
    }
}

fn set(value: &mut Value, path: &[String], number: f64) {
    match (value, path) {
        (value, []) => *value = Value::Float(number),
        (Value::Array(items), [i, rest @ ..]) => {
            set(&mut items[i.parse::<usize>().unwrap()], rest, number);
        }
        (Value::Table(table), [name, rest @ ..]) => set(&mut table[name], rest, number),
        _ => unreachable!(),
    }
}

#[test]
fn no_number_may_be_without_end_or_none_at_all() {
    let mut tried = 0;
    for (name, _) in RECIPES {
        let full = Recipe::load(name).unwrap().to_toml().unwrap();
        let full: Value = full.parse::<toml::Table>().unwrap().into();
        let mut paths = Vec::new();
        floats(&full, &[], &mut paths);
        for path in paths {
            for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut wrong = full.clone();
                set(&mut wrong, &path, number);
                let text = toml::to_string(&wrong).unwrap();
                let error = Recipe::parse(&text, name).expect_err(&path.join(".")).to_string();
                let setting = path.iter().rfind(|p| p.parse::<usize>().is_err()).unwrap();
                assert!(error.contains(setting.as_str()), "{path:?} = {number}: {error}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

/// Paths of all whole numbers below `value`.
fn integers(value: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    let below = |name: String| [path, &[name]].concat();
    match value {
        Value::Integer(_) => found.push(path.to_vec()),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                integers(item, &below(i.to_string()), found);
            }
        }
        Value::Table(table) => {
            for (name, item) in table {
                integers(item, &below(name.clone()), found);
            }
        }
        _ => {}
    }
}

/// A recipe with every table and every whole number written out.
fn in_full(name: &str) -> Value {
    let mut recipe = Recipe::load(name).unwrap();
    recipe.tokenize.batch_size = Some(1);
    let mut full: Value = recipe.to_toml().unwrap().parse::<toml::Table>().unwrap().into();
    full["model"].as_table_mut().unwrap().insert("depth".into(), Value::Integer(1));
    full
}

#[test]
fn no_count_may_be_without_bound() {
    let mut tried = std::collections::BTreeSet::new();
    for (name, _) in RECIPES {
        let full = in_full(name);
        Recipe::parse(&toml::to_string(&full).unwrap(), name).unwrap();
        let mut paths = Vec::new();
        integers(&full, &[], &mut paths);
        // Any number is a seed.
        paths.retain(|path| path.join(".") != "train.seed");
        for path in paths {
            for number in [1_i64 << 31, i64::MAX] {
                let mut wrong = full.clone();
                let place = path.iter().fold(&mut wrong, |value, name| match value {
                    Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
                    value => &mut value[name.as_str()],
                });
                *place = Value::Integer(number);
                let text = toml::to_string(&wrong).unwrap();
                let error = Recipe::parse(&text, name).expect_err(&path.join(".")).to_string();
                let setting = path.iter().rfind(|p| p.parse::<usize>().is_err()).unwrap();
                assert!(error.contains(setting.as_str()), "{path:?} = {number}: {error}");
            }
            tried.insert(path);
        }
    }
    assert!(tried.len() > 20, "{tried:?}");
}

#[test]
fn a_decoder_of_no_level_or_of_too_many_is_refused() {
    let mut recipe = Recipe::load("vqgan-f8-256").unwrap();
    for levels in [0, 10, 100] {
        let Architecture::Vqgan(c) = &mut recipe.model.architecture else { unreachable!() };
        let mut decoder = c.decoder();
        (decoder.widths, decoder.attention) = (vec![32; levels], vec![false; levels]);
        (c.decoder, c.parts) = (Some(decoder), crate::model::config::Parts::Decoder);
        let error = recipe.check().unwrap_err().to_string();
        assert!(error.contains("decoder.widths needs 1 to 9 levels"), "{error}");
    }
    let Architecture::Vqgan(c) = &mut recipe.model.architecture else { unreachable!() };
    (c.decoder, c.res_blocks) = (None, usize::MAX);
    assert!(recipe.check().unwrap_err().to_string().contains("res_blocks"));
}

const TINY: &str = "name = \"tiny\"\ndescription = \"\"\n[model]\nchannels = 3\ncodes = 16\n\
    dim = 4\narchitecture = { kind = \"vqvae\", hidden = 8, downsamples = 2, res_blocks = 1, \
    res_hidden = 4 }\n[data]\nsize = 16\n[train]\nsteps = 4\nbatch_size = 4\n";

/// Settings of [`TINY`], what is wrong instead, and how the words for it begin.
const WRONG: [(&str, &str, &str); 15] = [
    (
        "steps = 4",
        "steps = -1",
        "line 11, steps: the number -1 where a whole number (0 or more) belongs",
    ),
    (
        "steps = 4",
        "steps = 1.5",
        "line 11, steps: the number 1.5 where a whole number (0 or more) belongs",
    ),
    (
        "hidden = 8",
        "hidden = \"8\"",
        "line 7, architecture: the text \"8\" where a whole number (0 or more) belongs",
    ),
    ("steps = 4", "step = 4", "line 11: there is no setting `step`; use "),
    ("\"vqvae\"", "\"vae\"", "line 7, kind: there is no `vae`; use `vqvae`, "),
    ("name = \"tiny\"", "", "line 1: the setting `name` is missing"),
    ("size = 16", "size = 18", "data.size is 18; it must be a multiple of 4, "),
    ("size = 16", "size = 0", "data.size is 0; it must be at least 1"),
    ("codes = 16", "codes = 1", "model.codes is 1 and model.dim 4; they must be at least 2 and 1"),
    ("channels = 3", "channels = 2", "model.channels is 2: 1 (grey) or 3 (RGB)"),
    (
        "steps = 4",
        "steps = 4\nlearning_rate = 1e300",
        "train.learning_rate is 1e300; it must be above 0 and at most 1000",
    ),
    (
        "steps = 4",
        "steps = 4\nclip_norm = -1e-300",
        "train.clip_norm is -1e-300; it must be 0 or more",
    ),
    (
        "steps = 4",
        "steps = 4\nlearning_rate = nan",
        "train.learning_rate is not a number; it must be ",
    ),
    (
        "steps = 4",
        "steps = 4\nbetas = [0.5]",
        "line 12, betas: a list of 1 where one of 2 values belongs",
    ),
    (
        "steps = 4",
        "steps = 4\nbetas = [0.5, 0.9, 0.95]",
        "line 12, betas: a list of 3 where one of 2 values belongs",
    ),
];

#[test]
fn what_is_wrong_is_told_in_words_and_by_the_users_names() {
    Recipe::parse(TINY, "tiny").unwrap();
    let tiny = "recipe tiny: ";
    for (setting, wrong, said) in WRONG {
        let text = TINY.replacen(setting, wrong, 1);
        assert_ne!(text, TINY);
        let error = Recipe::parse(&text, "tiny").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{tiny}{said}")), "{wrong}: {error}");
    }
}
