//! Drives `vqtok audit` with a model and the source: reconstructions from stored tokens, tokens
//! computed again, pictures of codes.

use crate::support::*;

use serde_json::{Value, json};

/// An audit's findings.
fn audited(job: &Job, line: &str) -> Value {
    job.expect(0, &format!("audit {line} --fail-on none --json found.json --overwrite"));
    serde_json::from_slice(&std::fs::read(job.path("found.json")).unwrap()).unwrap()
}

#[test]
fn stored_tokens_are_decoded_beside_their_images() {
    let job = Job::new(12).trained();
    job.expect(0, "tokenize images --model model --out out --shard-rows 5");
    let found = audited(&job, "out --model model --source images");
    let found = &found["reconstructions"];
    let line = "reconstruct images --model model --out sheet.png --count 12 --json";
    let sheet = &job.expect(0, line).events("reconstructed")[0];
    assert_eq!((&found["images"], &found["not_compared"]), (&json!(12), &json!(0)));
    for mean in ["psnr_db", "ssim"] {
        let [a, b] = [found, sheet].map(|of| of[mean].as_f64().unwrap());
        assert!((a - b).abs() < 1e-9, "{mean}: {a} and {b}");
    }
    let psnr = |kind: &str, at: usize| found[kind][at]["psnr_db"].as_f64().unwrap();
    assert!(psnr("best", 0) >= psnr("best", 7) && psnr("worst", 7) >= psnr("worst", 0));
    assert!(psnr("best", 7) >= psnr("worst", 3));
    assert_eq!(found["best"].as_array().unwrap().len(), 8);

    picture(50).save(job.path("images/0000.png")).unwrap();
    std::fs::remove_file(job.path("images/cat/0001.bmp")).unwrap();
    let found = audited(&job, "out --model model --source images");
    let found = &found["reconstructions"];
    assert_eq!((&found["images"], &found["not_compared"]), (&json!(10), &json!(2)));
    let reasons = json!([{"key": "0000.png", "reason": "changed"},
                         {"key": "cat/0001.bmp", "reason": "not in the source"}]);
    assert_eq!(found["reasons"], reasons);
    let found = audited(&job, "out --model model --source images --sample 4");
    let found = &found["reconstructions"];
    let all = found["images"].as_u64().unwrap() + found["not_compared"].as_u64().unwrap();
    assert_eq!(all, 4);
    assert_eq!(audited(&job, "out --model model")["reconstructions"], Value::Null);
}

#[test]
fn images_are_prepared_as_the_output_says() {
    let job = Job::new(6).trained();
    for (name, flags, rows) in [
        ("plain", "", 6),
        ("box", "--resize box --size 24", 6),
        ("flips", "--views flips", 12),
        ("ten", "--views ten-crop=1.25", 60),
        ("random", "--views random-crops=3", 18),
        ("buckets", "--buckets 16x16,24x16,16x24", 6),
    ] {
        job.expect(0, &format!("tokenize images --model model --out {name} {flags}"));
        let line = format!("{name} --model model --source images --precision-audit cpu");
        let found = audited(&job, &line);
        let (precision, alike) = (&found["precision"], &found["reconstructions"]);
        assert_eq!(
            (&precision["images"], &alike["images"]),
            (&json!(rows), &json!(rows)),
            "{name}"
        );
        assert_eq!(precision["pairs"][0]["changed"], 0, "{name}");
        assert_eq!(precision["stored_by"], "cpu f32");
    }
    // Views of one image stand apart.
    let found = audited(&job, "flips --model model --source images --sample 3");
    assert_eq!(found["reconstructions"]["images"], 3);
}

#[test]
fn tokens_are_computed_again_by_each_engine() {
    let job = Job::new(9);
    let deep = TINY_RECIPE.replace("dim = 4\n", "dim = 4\ndepth = 2\n");
    let fsq = TINY_RECIPE
        .replace("codes = 16", "codes = 36")
        .replace("dim = 4\n", "dim = 3\nquantizer = { rule = \"fsq\", levels = [4, 3, 3] }\n");
    for (name, recipe, tokens) in
        [("flat", TINY_RECIPE, 144), ("deep", &deep, 288), ("fsq", &fsq, 144)]
    {
        std::fs::write(job.path("recipe.toml"), recipe).unwrap();
        job.expect(0, &format!("train images --model {name} --recipe recipe.toml"));
        job.expect(0, &format!("tokenize images --model {name} --out out-{name}"));
        let line = format!("out-{name} --model {name} --source images");
        let found =
            audited(&job, &format!("{line} --precision-audit cpu --precision-audit reference"));
        let found = &found["precision"];
        assert_eq!((&found["images"], &found["tokens"]), (&json!(9), &json!(tokens)), "{name}");
        let pairs: Vec<_> =
            (0..3).map(|at| [&found["pairs"][at]["a"], &found["pairs"][at]["b"]]).collect();
        assert_eq!(
            pairs,
            [["stored", "cpu f32"], ["stored", "reference f32"], ["cpu f32", "reference f32"]]
        );
        assert_eq!(
            (&found["pairs"][0]["changed"], &found["pairs"][0]["margins"]),
            (&json!(0), &Value::Null)
        );
        if name == "fsq" {
            assert!(found["no_margins"].as_str().unwrap().contains("fsq"), "{found}");
            assert_eq!(found["margins"], Value::Null);
        } else {
            assert_eq!(found["margins"]["tokens"], tokens);
            let at = |name: &str| found["margins"][name].as_f64().unwrap();
            assert!(
                at("least") <= at("median") && at("median") <= at("most") && at("least") >= 0.0
            );
        }
    }
    let line = "audit out-flat --model flat --source images --precision-audit cpu --fail-on none";
    let done = job.expect(0, line);
    let said = done.stdout + &done.stderr;
    assert!(said.contains("stored and cpu f32: every token the same"), "{said}");
}

#[test]
fn another_models_tokens_change_with_margins() {
    let job = Job::new(9).trained();
    std::fs::write(job.path("more.toml"), TINY_RECIPE.replace("steps = 4", "steps = 9")).unwrap();
    job.expect(0, "train images --model other --recipe more.toml --seed 9");
    job.expect(0, "tokenize images --model model --out out");
    let line = "out --model other --force --source images --precision-audit reference";
    let found = audited(&job, line);
    let pair = &found["precision"]["pairs"][0];
    assert!(pair["changed"].as_u64().unwrap() > 0 && pair["changed_images"].as_u64().unwrap() > 0);
    assert_eq!(pair["margins"]["tokens"], pair["changed"]);
}

#[test]
fn every_code_has_its_picture_on_the_sheet() {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --model model --out out");
    let found = audited(&job, "out --model model --code-pictures codes.png");
    let codes = found["code_pictures"]["codes"].as_array().unwrap();
    let uses: Vec<u64> = codes.iter().map(|code| code["uses"].as_u64().unwrap()).collect();
    assert_eq!((codes.len(), uses.iter().sum::<u64>()), (16, 144));
    assert!(uses.windows(2).all(|pair| pair[0] >= pair[1]), "{uses:?}");
    let around = codes[0]["neighbourhood"].as_array().unwrap();
    assert_eq!((around.len(), &around[4]), (9, &codes[0]["code"]));
    let sheet = image::open(job.path("codes.png")).unwrap();
    // Four columns and rows of pairs of squares.
    assert_eq!((sheet.width(), sheet.height()), (4 * 100 + 3, 4 * 51 + 3));
    assert_eq!(audited(&job, "out --model model")["code_pictures"], Value::Null);
    let done = job.run("audit out --model model --code-pictures codes.jpg");
    done.assert_one_line(&["--code-pictures", "codes.jpg"]);
}

#[test]
fn what_needs_a_model_or_a_source_says_so() {
    let job = Job::new(3).trained();
    job.expect(0, "tokenize images --model model --out out");
    for (flags, words) in [
        ("--model model --precision-audit cpu", &["--precision-audit", "--source"][..]),
        ("--source images --precision-audit cpu", &["--precision-audit", "--model"]),
        ("--code-pictures codes.png", &["--code-pictures", "--model"]),
        #[cfg(not(feature = "cuda"))]
        (
            "--model model --source images --precision-audit cuda",
            &["--precision-audit", "cuda f32", "--features cuda"],
        ),
        ("--model model --source images --sample 0", &["--sample", "at least one"]),
        ("--model model --source nowhere", &["nowhere"]),
    ] {
        let done = job.run(&format!("audit out {flags}"));
        assert_eq!(done.code, 2, "{flags}");
        done.assert_one_line(words);
    }
}
