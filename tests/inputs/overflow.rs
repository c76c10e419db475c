//! Drives the binary with models whose weights are finite and whose results are not: each image or row
//! is a failure with its reason, never token 0 or a black picture.

use crate::support::*;

use candle_core::{Device, Tensor};
use vqtok::internals::checkpoint::folder;

/// A copy of the trained model as `name`, with every value of some tensors replaced.
fn filled(job: &Job, name: &str, changed: &[&str], value: f32) {
    let (config, weights) = folder::load(&job.path("model")).unwrap();
    let mut tensors = weights.tensors().unwrap();
    for tensor in changed {
        let shape = tensors[*tensor].shape().clone();
        tensors.insert((*tensor).to_owned(), Tensor::full(value, shape, &Device::Cpu).unwrap());
    }
    folder::save(&job.path(name), &config, &tensors).unwrap();
}

/// Nine pictures and three of one grey, which is about 0 to the model.
fn scene() -> Job {
    let job = Job::new(9).trained();
    for index in 0..3 {
        let grey = image::RgbImage::from_pixel(20, 20, image::Rgb([127; 3]));
        grey.save(job.path(&format!("images/grey{index}.png"))).unwrap();
    }
    job
}

#[test]
fn images_that_overflow_the_encoder_are_failures_beside_the_tokens_of_the_others() {
    let job = scene();
    filled(&job, "large", &["enc.conv1.weight"], 3e38);
    let line = "tokenize images --model large --shard-rows 100 --json --out";
    let done = job.expect(1, &format!("{line} out --batch-size 16"));
    let dataset = &done.events("dataset")[0];
    assert_eq!([&dataset["written"], &dataset["failed"]], [3, 9]);
    let failures = done.events("failure");
    assert_eq!(failures.len(), 9);
    for failure in failures {
        let text = failure.to_string();
        assert!(text.contains("encode") && text.contains("latents are not finite"), "{text}");
        assert!(!text.contains("grey"), "{text}");
    }
    job.expect(0, "verify out");
    for batch in [1, 5] {
        job.expect(1, &format!("{line} again{batch} --batch-size {batch}"));
        let shards = |out: &str| {
            let all = job.files(out).into_iter();
            all.filter(|(name, _)| name.ends_with(".parquet")).collect::<Vec<_>>()
        };
        assert!(shards("out") == shards(&format!("again{batch}")), "batches of {batch}");
    }
    let done = job.expect(2, "tokenize images --model large --out stopped --on-error stop");
    done.assert_one_line(&["latents are not finite", "--on-error stop"]);

    let done = job.expect(1, "reconstruct images --model large --out sheet.png --count 12 --json");
    assert_eq!(done.events("failure").len(), 9);
    assert_eq!(done.events("reconstructed")[0]["failed"], 9);
    std::fs::remove_dir_all(job.path("images/cat")).unwrap();
    let done = job.expect(2, "reconstruct images/dog --model large --out none.png");
    done.assert_one_line(&["3 images", "reconstructed"]);
    assert!(!job.path("none.png").exists());
}

#[test]
fn rows_that_overflow_the_decoder_are_failures_without_pictures() {
    let job = scene();
    job.expect(0, "tokenize images --model model --out out");
    filled(&job, "large", &["dec.up1.bias", "dec.up2.weight"], 1e30);
    let line = "decode out/tokens/part-00000.parquet --model large --out pictures --json";
    // The tokens are another model's by its digest, where that is looked at.
    let done = job.run(&format!("{line} --force"));
    let done = if done.code == 2 { job.run(line) } else { done };
    assert_eq!(done.code, 1, "{}\n{}", done.stdout, done.stderr);
    let failures = done.events("failure");
    assert_eq!(failures.len(), 12, "{}", done.stdout);
    let text = failures[0].to_string();
    assert!(text.contains("not finite: the decoder overflows float32"), "{text}");
    assert_eq!(done.events("decoded")[0]["decoded"], 0);
    assert!(!job.path("pictures").exists());
    let done = job.expect(2, "reconstruct images --model large --out none.png");
    done.assert_one_line(&["12 images", "reconstructed"]);
}
