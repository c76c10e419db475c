//! Holds the whole job for codes that are too many to be counted: numbers of 26 bits and lists of 40, as
//! Infinity's larger tokenizers give them. Must not know: other quantizers (`quantizers.rs`).

use crate::support::weights;

use std::collections::BTreeSet;

use crate::decode;
use crate::support::Job;
use serde_json::{Value, json};
use vqtok::internals::audit::TokenFile;
use vqtok::{Codes, Grid, Tokenizer};

/// Tokens of an image: scales of 1, 4 and 64.
const TOKENS: usize = 69;
const SCALES: &str = "--scales 1x1,2x2,8x8";

/// A job with nine images, a model of so many bits as `model`, and its tokens in `out`.
fn begun(bits: usize) -> Job {
    let job = Job::new(9);
    let model = weights::safetensors(&weights::infinity(bits, 7));
    std::fs::write(job.path("model.safetensors"), model).unwrap();
    job.expect(0, &format!("tokenize images {MODEL} {SCALES} --size 16 --shard-rows 4 --out out"));
    job
}

const MODEL: &str = "--model model.safetensors";

fn json_of(job: &Job, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(job.path(file)).unwrap()).unwrap()
}

fn grids(job: &Job, path: &str) -> Vec<Grid> {
    let rows = TokenFile::open(&job.path(path)).unwrap();
    let levels = rows.map(|row| row.unwrap().levels.remove(0));
    let grids = levels.map(|grid| {
        let distances = Vec::new();
        Grid { codes: grid.codes, distances, height: grid.height, width: grid.width }
    });
    grids.collect()
}

/// The bits of every token, the first that statistics count first.
fn tokens(grids: &[Grid], bits: usize) -> Vec<Vec<u32>> {
    let codes = grids.iter().flat_map(|grid| &grid.codes).copied();
    if bits > 32 {
        return codes.collect::<Vec<_>>().chunks(bits).map(<[u32]>::to_vec).collect();
    }
    codes.map(|code| (0..bits).map(|bit| code >> bit & 1).collect()).collect()
}

/// Tokens in which each bit is 1.
fn ones(tokens: &[Vec<u32>]) -> Vec<u64> {
    let bits = 0..tokens[0].len();
    bits.map(|bit| tokens.iter().map(|token| u64::from(token[bit])).sum()).collect()
}

fn entropy_sum(ones: &[u64], tokens: u64) -> f64 {
    let term = |count: u64| match count as f64 / tokens as f64 {
        0.0 => 0.0,
        p => -p * p.log2(),
    };
    ones.iter().map(|&count| term(count) + term(tokens - count)).sum()
}

#[test]
fn bits_are_counted_shown_and_proven() {
    for bits in [26, 40] {
        let (job, list) = (begun(bits), bits > 32);
        let tokens = tokens(&grids(&job, "out"), bits);
        let (ones, all) = (ones(&tokens), tokens.len() as u64);
        assert_eq!(all, 9 * TOKENS as u64);
        let varying = ones.iter().filter(|&&ones| ones > 0 && ones < all).count();
        let entropy = entropy_sum(&ones, all);

        let dataset = json_of(&job, "out/dataset.json");
        let codes = if list { 2 } else { 1_u64 << bits };
        let level = &dataset["identity"]["levels"][0];
        assert_eq!((&level["codes"], &level["bits"]), (&json!(codes), &json!(bits)));
        assert_eq!(dataset["totals"]["tokens"], all);
        let summed = (entropy * 1e6).round() / 1e6;
        let due = json!({"codes": codes, "tokens": all, "bits": bits, "bits_varying": varying,
            "bits_entropy_sum": summed});
        assert_eq!(dataset["codebook"]["levels"], json!([due]));

        job.expect(0, "verify out");
        let said = job.expect(0, "inspect out").stdout;
        let line = format!("codebook: {varying} of {bits} bits vary, {entropy:.1} bits of entropy");
        assert!(said.contains(&line), "{said}");
        let report = job.expect(0, "report out --out page.html --json").events("report");
        let told = &report[0]["report"]["bits"][0];
        assert_eq!((&told["ones"], &told["list"]), (&json!(ones), &json!(list)));
        assert_eq!(report[0]["report"]["levels"], json!([]));
        let page = std::fs::read_to_string(job.path("page.html")).unwrap();
        assert!(page.contains("Bits of <code>tokens</code>") && !page.contains("codes used"));

        let audit = "audit out --html page.html --json found.json --fail-on failures";
        job.expect(0, &format!("{audit} {MODEL} {SCALES}"));
        let found = json_of(&job, "found.json");
        assert_eq!(found["bits"][0]["ones"], json!(ones));
        assert_eq!((&found["codebook"], &found["images"]), (&json!([]), &json!(9)));
        let pictures = job.run(&format!("{audit} {MODEL} {SCALES} --code-pictures codes.png"));
        assert_eq!(pictures.code, 2);
        pictures.assert_one_line(&["--code-pictures", "too many to be counted"]);

        let same = job.expect(0, "diff out out");
        assert!(same.stdout.contains(&format!("all of {all} tokens are equal")), "{}", same.stdout);
    }
}

/// Counts that aren't the shards' are found, and made again.
#[test]
fn what_is_counted_wrongly_is_found_and_repaired() {
    for bits in [26, 40] {
        let job = begun(bits);
        let whole = job.files("out");
        let codebook = "out/codebook.parquet";
        let part = whole.iter().find(|(name, _)| name.starts_with("codebook/part-00001")).unwrap();
        std::fs::copy(job.path("out").join(&part.0), job.path(codebook)).unwrap();
        let said = job.expect(1, "verify out");
        assert!(said.stdout.contains("codebook.parquet"), "{}", said.stdout);
        std::fs::write(job.path("out/tokens/part-00001.parquet"), b"lost").unwrap();
        job.expect(0, &format!("repair out {MODEL} {SCALES}"));
        assert!(whole == job.files("out"), "{bits} bits aren't repaired");
        job.expect(0, "verify out");
    }
}

#[test]
fn both_engines_give_the_same_bits_and_their_pictures_come_back() {
    for bits in [26, 40] {
        let job = begun(bits);
        let again = "--sample 9 --precision-audit reference --fail-on failures --json found.json";
        job.expect(0, &format!("audit out {MODEL} {SCALES} --source images {again}"));
        let found = &json_of(&job, "found.json")["precision"];
        assert_eq!(
            (&found["images"], &found["tokens"]),
            (&json!(9), &json!(9 * TOKENS)),
            "{found}"
        );
        let changed: Vec<_> =
            found["pairs"].as_array().unwrap().iter().map(|p| &p["changed"]).collect();
        assert_eq!(changed, [0], "{found}");

        job.expect(0, &format!("decode out {MODEL} {SCALES} --out pictures"));
        let mut options = vqtok::TokenizerOptions::new();
        options = options.scales(vec![[1, 1], [2, 2], [8, 8]]);
        let mut tokenizer: Tokenizer = options.open(job.path("model.safetensors")).unwrap();
        assert_eq!(tokenizer.bits(), (bits > 32).then_some(bits));
        let codes = grids(&job, "out").into_iter().map(|grid| Codes { levels: vec![grid] });
        let codes: Vec<_> = codes.collect();
        let made = tokenizer.decode(&codes).unwrap();
        let mut names: Vec<_> = job.files("pictures").into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        assert_eq!(names.len(), made.len());
        let pictures: BTreeSet<Vec<u8>> = made.into_iter().map(|made| made.into_raw()).collect();
        assert_eq!(pictures.len(), 9, "pictures differ");
        for name in names {
            let picture = image::open(job.path("pictures").join(&name)).unwrap().to_rgb8();
            assert!(pictures.contains(picture.as_raw()), "{name}");
        }
        // One bit less.
        let mut short = codes[0].clone();
        short.levels[0].codes.pop();
        let said = tokenizer.decode(&[short]).unwrap_err().to_string();
        let what = if bits > 32 { "2759 bits" } else { "68 tokens" };
        assert!(said.contains(what), "{said}");
    }
}

#[test]
fn models_of_other_bits_are_other_models() {
    let (job, other) = (begun(40), begun(48));
    job.expect(2, &format!("decode {} {MODEL} {SCALES} --out no", other.path("out").display()));
    let forced =
        format!("decode {} {MODEL} {SCALES} --force --out no", other.path("out").display());
    let forced = job.run(&forced);
    assert_eq!(forced.code, 1, "{}", forced.stderr);
    assert!(
        forced.stderr.contains("3312 bits for a grid of 1 x 69 tokens of 40 bits"),
        "{}",
        forced.stderr
    );
    let said = job.expect(1, &format!("diff out {}", other.path("out").display())).stdout;
    assert!(said.contains("the codebooks have 2^40 and 2^48 codes"), "{said}");
    // Numbers end at 32 bits, and bits at 256.
    for (bits, codes) in [(32, "4294967296 codes"), (33, "2^33 codes"), (256, "2^256 codes")] {
        let model = weights::safetensors(&weights::infinity(bits, 7));
        std::fs::write(job.path("wide.safetensors"), model).unwrap();
        let said = job.expect(0, "inspect wide.safetensors").stdout;
        assert!(said.contains(codes), "{said}");
        let line =
            format!("tokenize images --model wide.safetensors {SCALES} --size 16 --out o{bits}");
        job.expect(0, &line);
        job.expect(0, &format!("verify o{bits}"));
    }
    let model = weights::safetensors(&weights::infinity(257, 7));
    std::fs::write(job.path("wide.safetensors"), model).unwrap();
    job.run("inspect wide.safetensors").assert_one_line(&["257 bits", "256 bits at most"]);
    let onnx = job.run("convert model.safetensors --to onnx --out onnx");
    assert_eq!(onnx.code, 2);
}

/// What the shards say of scales and the model doesn't have is said with what to pass, and never taken for
/// pictures without anything in them.
#[test]
fn scales_that_the_model_does_not_have_are_asked_for() {
    let job = begun(26);
    let advice = ["its tokens are of the scales 1x1,2x2,8x8", SCALES];
    for command in ["decode out --out no", "audit out", "audit out --against out"] {
        let said = job.run(&format!("{command} {MODEL}"));
        assert_eq!(said.code, 2, "{command}: {}", said.stderr);
        said.assert_one_line(&advice);
    }
    let whole = job.files("out");
    std::fs::write(job.path("out/tokens/part-00001.parquet"), b"lost").unwrap();
    let said = job.run(&format!("repair out {MODEL}"));
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(advice.iter().all(|words| said.stderr.contains(words)), "{}", said.stderr);
    job.expect(0, &format!("repair out {MODEL} {SCALES}"));
    assert!(whole == job.files("out"));
    // What a transformer generated says nothing of scales: the model knows them.
    let rows = TokenFile::open(&job.path("out")).unwrap();
    let tokens = |code: &u32| Some(i64::from(*code));
    let rows: Vec<_> =
        rows.map(|row| Some(row.unwrap().levels[0].codes.iter().map(tokens).collect())).collect();
    decode::write(&job.path("made.parquet"), vec![("tokens", decode::lists(&rows))]);
    let said = job.expect(0, &format!("decode made.parquet {MODEL} {SCALES} --out made"));
    assert_eq!(job.files("made").len(), 9, "{}", said.stdout);
}

#[test]
fn exports_hold_bits_or_say_that_they_cannot() {
    let job = begun(40);
    let bits: Vec<u8> =
        grids(&job, "out").iter().flat_map(|g| &g.codes).map(|&b| b as u8).collect();
    for to in ["npy", "hf", "webdataset"] {
        let said = job.expect(0, &format!("export out --to {to} --out {to} --json"));
        assert_eq!(said.events("exported")[0]["tokens"], 9 * TOKENS, "{to}");
    }
    let array = std::fs::read(job.path("npy/tokens.npy")).unwrap();
    let text = String::from_utf8_lossy(&array[..128]).into_owned();
    assert!(text.contains("'descr': '|u1'") && text.contains("'shape': (9, 1, 69, 40)"), "{text}");
    assert!(array.ends_with(&bits));
    let others = "megatron jsonl bin datatrove litdata mds tfrecord llamagen emu3 4m open-muse";
    for to in others.split(' ') {
        let refused = job.run(&format!("export out --to {to} --out x-{to}"));
        assert_eq!(refused.code, 2, "{to}: {}", refused.stderr);
        refused.assert_one_line(&["--to", to, "a list of 40 bits", "webdataset, hf, npy"]);
    }
    let shifted = job.run("export out --to hf --vocab-offset 8 --out x");
    shifted.assert_one_line(&["list of 40 bits"]);

    // Numbers go wherever there is room for them.
    let job = begun(26);
    for to in
        ["npy", "hf", "webdataset", "megatron", "bin", "litdata", "mds", "tfrecord", "emu3", "4m"]
    {
        job.expect(0, &format!("export out --to {to} --out {to}"));
    }
    let job = begun(32);
    for to in ["npy", "hf", "bin", "emu3"] {
        job.expect(0, &format!("export out --to {to} --out {to}"));
    }
    for to in ["4m", "litdata", "megatron"] {
        let refused = job.run(&format!("export out --to {to} --out x-{to}"));
        assert_eq!(refused.code, 2, "{to}: {}", refused.stderr);
        refused.assert_one_line(&["--to", "codes go up to 4,294,967,295", "another format"]);
        assert!(!job.path(&format!("x-{to}")).exists(), "{to}");
    }
}
