//! Drives the binary on devices that aren't there: with the CUDA engine and without.

use crate::support::*;

/// A model would be trained here first: nothing may be, for a device that can't be had.
const LINE: &str = "tokenize images --out out --model model --recipe tiny.toml --device cuda";

#[cfg(not(feature = "cuda"))]
#[test]
fn without_the_engine_one_line_says_how_to_build_it() {
    let job = Job::new(2);
    for device in ["", ":1"] {
        let done = job.expect(2, &format!("{LINE}{device}"));
        done.assert_one_line(&[
            "--device cuda",
            "built without",
            "cargo build --release --features cuda",
        ]);
    }
    assert!(!job.path("model").exists() && !job.path("out").exists(), "work was done before");
}

#[cfg(feature = "cuda")]
#[test]
fn without_its_libraries_one_line_names_each_that_is_missing() {
    use vqtok::internals::engine::{Precision, cuda::libraries::Library};
    let job = Job::new(2);
    for precision in [Precision::F32, Precision::Bf16] {
        let missing: Vec<_> =
            Library::needed(precision).iter().filter(|library| !library.is_present()).collect();
        if missing.is_empty() {
            eprintln!("skipped: every library that {precision} needs is here");
            continue;
        }
        let done = job.expect(2, &format!("{LINE} --precision {precision}"));
        let files: Vec<_> = missing.iter().map(|library| library.file()).collect();
        done.assert_one_line(&files);
        done.assert_one_line(&["--device cuda", "LD_LIBRARY_PATH", "--device cpu"]);
        assert!(!job.path("model").exists() && !job.path("out").exists(), "work was done before");
    }
}

#[cfg(not(feature = "candle-cuda"))]
#[test]
fn without_candles_cuda_one_line_says_how_to_build_it() {
    let job = Job::new(2);
    let train = "train images --model model --recipe tiny.toml --device cuda";
    let referee =
        "tokenize images --out out --model model --recipe tiny.toml --engine candle --device cuda";
    for line in [train.to_string(), format!("{train}:1"), referee.to_string()] {
        job.expect(2, &line).assert_one_line(&[
            "--device cuda",
            "without candle's CUDA side",
            "the feature candle-cuda",
            "--device cpu",
        ]);
    }
    for (device, word) in [("cuda:all", "one GPU"), ("tensorrt", "one GPU"), ("tpu", "choose auto")]
    {
        let line = format!("train images --model model --recipe tiny.toml --device {device}");
        job.expect(2, &line).assert_one_line(&["--device", device, word]);
    }
    let line = "tokenize images --out out --model model --recipe tiny.toml --engine candle --precision bf16";
    job.expect(2, line).assert_one_line(&["--precision bf16", "--engine candle"]);
    assert!(!job.path("model").exists() && !job.path("out").exists(), "work was done before");
}

#[test]
fn the_cpu_trains_in_float32() {
    let job = Job::new(2);
    for precision in ["bf16", "tf32"] {
        let line = "train images --model model --recipe tiny.toml --device cpu";
        job.expect(2, &format!("{line} --precision {precision}")).assert_one_line(&[
            &format!("--precision {precision}"),
            "needs --device cuda",
            "the CPU trains in f32",
        ]);
    }
    assert!(!job.path("model").exists(), "work was done before");
}

#[test]
fn the_reference_engine_gives_the_same_tokens() {
    let job = Job::new(5).trained();
    job.expect(0, "tokenize images --out own --model model --device cpu");
    job.expect(0, "tokenize images --out reference --model model --engine candle --device cpu");
    job.expect(0, "diff own reference");
}

#[test]
fn the_precision_is_part_of_what_an_output_is() {
    let job = Job::new(3).trained();
    job.expect(0, "tokenize images --out out --model model --device cpu --precision f32");
    let text = std::fs::read_to_string(job.path("out/dataset.json")).unwrap();
    let dataset: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&dataset["identity"]["precision"], &dataset["identity"]["device"]),
        (&"f32".into(), &"cpu".into()),
        "{text}"
    );
}
