//! Holds the whole job for each kind of quantizer, as a user does it: train by a recipe, tokenize,
//! verify, decode, inspect.

use crate::support::*;

use vqtok::internals::audit::TokenFile;
use vqtok::internals::data::contact_sheet::SheetLayout;

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

/// The picture of the reconstruction at `index` of `count` on the sheet, 16 pixels a side.
fn reconstruction(sheet: &image::RgbImage, index: usize, count: usize) -> image::RgbImage {
    let layout = SheetLayout::new(count, 16, 16);
    layout.picture(sheet, layout.places(index)[1], (16, 16)).unwrap()
}

#[test]
fn residual_levels_go_the_whole_way_and_come_back_as_the_same_pixels() {
    let job = Job::new(9);
    let text = TINY_RECIPE
        .replace("dim = 4\n", "dim = 4\ndepth = 3\n")
        .replace("steps = 4\n", "steps = 30\n");
    for (name, codebook) in [("ema", "method = \"ema\""), ("gradient", "method = \"gradient\"")] {
        std::fs::write(job.path("deep.toml"), format!("{text}{codebook}\n")).unwrap();
        let trained = job.expect(0, &format!("train images --model {name} --recipe deep.toml"));
        let said = format!("{}{}", trained.stdout, trained.stderr);
        assert!(said.contains("of 3 x 16 codes used") && said.contains("(mean of "), "{said}");
        assert!(job.expect(0, &format!("inspect {name}")).stdout.contains("3 x 16 codes"));

        let out = format!("out-{name}");
        let done = job.expect(0, &format!("tokenize images --model {name} --out {out} --json"));
        assert_eq!(done.events("dataset")[0]["tokens"], 9 * 3 * 16);
        job.expect(0, &format!("verify {out}"));
        job.expect(0, &format!("report {out} --out page.html"));
        let page = std::fs::read_to_string(job.path("page.html")).unwrap();
        assert!(page.contains("tokens_residual_2") && !page.contains("tokens_top"));
        // A shard that is lost is made again, byte for byte.
        let whole = job.files(&out);
        std::fs::write(job.path(&format!("{out}/tokens/part-00000.parquet")), b"lost").unwrap();
        job.expect(1, &format!("verify {out}"));
        job.expect(0, &format!("repair {out} --model {name}"));
        assert!(whole == job.files(&out), "{name} is not repaired");

        job.expect(0, &format!("decode {out} --model {name} --out pictures-{name}"));
        job.expect(0, &format!("reconstruct images --model {name} --out sheet.png --count 9"));
        let sheet = image::open(job.path("sheet.png")).unwrap().into_rgb8();
        let rows = TokenFile::open(&job.path(&out)).unwrap().map(Result::unwrap);
        let rows: Vec<_> = rows.collect();
        assert!(rows.len() == 9 && rows.iter().all(|row| row.levels.len() == 3));
        for (i, key) in rows.iter().map(|row| &row.key).enumerate() {
            let picture = format!("pictures-{name}/{}.png", key.rsplit_once('.').unwrap().0);
            let decoded = image::open(job.path(&picture)).unwrap().into_rgb8();
            assert!(decoded == reconstruction(&sheet, i, 9), "{name}: {key}");
        }
    }
    // Another model's tokens have too few levels, or too many: a failure a row, told as that.
    job.expect(0, "train images --model flat --recipe tiny.toml");
    job.expect(0, "tokenize images --model flat --out out-flat");
    let done = job.expect(1, "decode out-flat --model ema --out none --force");
    assert!(
        done.stderr.contains("1 levels of tokens where the model decodes 3"),
        "{}",
        done.stderr
    );
}

#[test]
fn residual_levels_are_refused_where_they_have_no_meaning() {
    let job = Job::new(3);
    for (dim, words) in [
        ("dim = 4\ndepth = 2\nquantizer = { rule = \"l2-normalised\" }\n", "\"l2-normalised\""),
        ("dim = 4\ndepth = 2\nquantizer = { rule = \"sign\" }\n", "depth 2"),
        ("dim = 4\ndepth = 0\n", "1 to 16"),
        ("dim = 4\ndepth = 99\n", "model.depth is 99"),
    ] {
        std::fs::write(job.path("bad.toml"), TINY_RECIPE.replace("dim = 4\n", dim)).unwrap();
        let done = job.expect(2, "train images --model m --recipe bad.toml");
        done.assert_one_line(&["bad.toml", words]);
    }
    let simvq = TINY_RECIPE.replace("dim = 4\n", "dim = 4\ndepth = 2\n") + "method = \"simvq\"\n";
    std::fs::write(job.path("bad.toml"), simvq).unwrap();
    let done = job.expect(2, "train images --model m --recipe bad.toml");
    done.assert_one_line(&["bad.toml", "model.depth", "simvq"]);
    assert!(!job.path("m").exists());
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
