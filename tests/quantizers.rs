//! Holds the whole job for each kind of quantizer, as a user does it: train by a recipe, tokenize,
//! verify, decode, inspect.

mod support;
use support::*;

/// The tiny recipe with another `[model]` and `[train.codebook]`.
fn recipe(codes: usize, dim: usize, quantizer: &str, codebook: &str) -> String {
    let text = TINY_RECIPE
        .replace("codes = 16", &format!("codes = {codes}"))
        .replace("dim = 4\n", &format!("dim = {dim}\nquantizer = {quantizer}\n"));
    format!("{text}{codebook}\n")
}

#[test]
fn every_kind_trains_tokenizes_verifies_and_decodes() {
    let job = Job::new(9);
    let l2 = "{ rule = \"l2\" }";
    let sphere = "{ rule = \"l2-normalised\" }";
    let fsq = "{ rule = \"fsq\", levels = [4, 3, 3] }";
    for (name, text, rule) in [
        ("ema", recipe(16, 4, l2, "method = \"ema\""), "l2"),
        ("gradient", recipe(16, 4, sphere, "method = \"gradient\""), "l2-normalised"),
        ("simvq", recipe(16, 4, l2, "method = \"simvq\""), "l2"),
        ("fsq", recipe(36, 3, fsq, ""), "fsq [4, 3, 3]"),
        ("lfq", recipe(16, 4, "{ rule = \"sign\" }", "entropy_weight = 0.2"), "sign"),
    ] {
        std::fs::write(job.path(&format!("{name}.toml")), text).unwrap();
        job.expect(0, &format!("train images --model {name} --recipe {name}.toml"));
        let card = job.expect(0, &format!("inspect {name}"));
        let line = card.stdout.lines().find(|l| l.starts_with("quantizer")).unwrap();
        assert!(line.ends_with(rule), "{line}");
        let out = format!("out-{name}");
        let done = job.expect(0, &format!("tokenize images --model {name} --out {out} --json"));
        assert_eq!(done.events("dataset")[0]["written"], 9, "{name}");
        job.expect(0, &format!("verify {out}"));
        job.expect(
            0,
            &format!("decode {out}/tokens/part-00000.parquet --model {name} --out pictures-{name}"),
        );
        assert_eq!(job.files(&format!("pictures-{name}")).len(), 9, "{name}");
    }
}

#[test]
fn a_recipe_whose_levels_and_codes_differ_is_one_line() {
    let job = Job::new(3);
    let text = recipe(16, 3, "{ rule = \"fsq\", levels = [4, 3, 3] }", "");
    std::fs::write(job.path("bad.toml"), text).unwrap();
    let done = job.expect(2, "train images --model m --recipe bad.toml");
    done.assert_one_line(&["bad.toml", "model.codes is 16", "36"]);
    assert!(!job.path("m").exists());
}
