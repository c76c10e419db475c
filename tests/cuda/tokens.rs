//! Holds tokens: those of the reference and of the CPU, in any batch, of any size, in float32 and bfloat16.

use crate::inside::run_inside;
use crate::scene::*;
use crate::stand_ins::*;
use crate::support::*;

#[test]
fn golden_tokens_come_out_of_the_whole_job() {
    // bfloat16's are those that the kernels' emulation gives in `src/engine/cuda/tests.rs`.
    let kept = std::fs::read_to_string("tests/data/cuda/bf16_tokens.json").unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    for (case, element) in [
        ("taming_vq", "f32"),
        ("taming_vq", "bf16"),
        ("ldm_vq_noattn", "f32"),
        ("ldm_vq_noattn", "bf16"),
    ] {
        let Some(stand_ins) = stand_ins_with_nvrtc(element) else { return };
        let Some((job, model, want)) = golden(case) else { return };
        let run = Run { job: &job, stand_ins: &stand_ins, element };
        let options = format!("--model {} --resize none", model.display());
        let report = job.path("report.json");
        let line =
            format!("tokenize images --out out --device cuda --precision {element} {options}");
        let mut command = run.job.command(&line);
        stand_ins.serve(&mut command, &report);
        let done = Done::of(command.output().unwrap());
        assert_eq!(done.code, 0, "{case} {element}: {}", done.stderr);
        Counts::read(&report).assert_clean();
        let got: Vec<u32> = tokens(&job.path("out")).into_iter().flat_map(|t| t.codes).collect();
        let want = match element {
            "f32" => want,
            _ => serde_json::from_value(kept[case].clone()).unwrap(),
        };
        let wrong = got.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert_eq!((got.len(), wrong), (want.len(), 0), "{case} {element}");
    }
}

/// Runs of four and of one; two of another size.
pub const SIZES: [(u32, u32); 7] =
    [(24, 20), (24, 20), (36, 16), (24, 20), (24, 20), (36, 16), (24, 20)];

#[test]
fn pictures_of_several_sizes_get_the_cpus_tokens() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(with_pictures(&SIZES));
        let run = Run { job: &job, stand_ins: &stand_ins, element };
        let (whole, counts) = run.tokens("whole", "", &[]);
        assert_eq!(counts.of("convolutions") > 20, element == "bf16");
        job.expect(0, "tokenize images --model model --out cpu --device cpu");
        let all: usize = whole.iter().map(|t| t.codes.len()).sum();
        let flipped = differing(&whole, &tokens(&job.path("cpu")));
        let most = if element == "f32" { 0 } else { all / 10 };
        assert!(flipped <= most, "{element}: {flipped} of {all} differ");
        let (parts, _) = run.tokens("alone", "--batch-size 1", &[]);
        assert!(parts == whole, "{element}: batches of one give other tokens");
    }
}

#[test]
fn no_batch_changes_a_bit_of_an_image() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(Job::new(0));
        run_inside(&job, &stand_ins, &format!("{element} batches"), &[]);
    }
    // The engine that was chosen can't do with less than four images: those come in padded runs.
    let Some(stand_ins) = stand_ins("bf16") else { return };
    let job = with_model(Job::new(0));
    run_inside(&job, &stand_ins, "bf16 batches", &[("FAKE_CUDNN_FEWEST", "4")]);
}

#[test]
fn kernels_that_are_compiled_on_the_spot_are_taken_where_there_is_no_other() {
    let Some(stand_ins) = stand_ins("bf16") else { return };
    let job = with_model(with_pictures(&SIZES));
    let run = Run { job: &job, stand_ins: &stand_ins, element: "bf16" };
    let (usual, _) = run.tokens("usual", "", &[]);
    let (compiled, _) = run.tokens("compiled", "", &[("FAKE_CUDNN_COMPILED", "1")]);
    // It sums the other way round.
    let all: usize = usual.iter().map(|t| t.codes.len()).sum();
    assert!(differing(&usual, &compiled) * 10 < all);
}
