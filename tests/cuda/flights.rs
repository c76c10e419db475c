//! Holds batches in flight and the kept choice of convolutions.

use crate::inside::run_inside;
use crate::scene::*;
use crate::stand_ins::*;
use crate::support::*;
use crate::tokens::SIZES;

#[test]
fn a_batch_is_uploaded_while_the_one_before_it_computes() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(with_pictures(&SIZES));
        let run = Run { job: &job, stand_ins: &stand_ins, element };
        // Five batches: a size that differs ends one.
        let (late, counts) = run.tokens("late", "--batch-size 2", &[]);
        assert!(counts.of("overlapped") >= 3, "{element}: {}", counts.of("overlapped"));
        assert_eq!(counts.of("unfinished"), 0);
        // Streams that don't wait for each other by events would meet in another order.
        let (early, counts) =
            run.tokens("early", "--batch-size 2", &[("FAKE_CUDA_ORDER", "early")]);
        assert!(early == late, "{element}");
        assert!(counts.of("overlapped") >= 3);
        job.expect(0, "tokenize images --model model --out cpu --device cpu");
        let all: usize = late.iter().map(|t| t.codes.len()).sum();
        let most = if element == "f32" { 0 } else { all / 10 };
        assert!(differing(&late, &tokens(&job.path("cpu"))) <= most);
    }
}

#[test]
fn batches_in_flight_keep_their_order_their_failures_and_their_images() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(Job::new(0));
        run_inside(&job, &stand_ins, &format!("{element} flights"), &[]);
    }
}

#[test]
fn convolutions_run_by_what_was_fastest_and_is_kept() {
    let Some(stand_ins) = stand_ins("bf16") else { return };
    let job = with_model(with_pictures(&[(24, 20)]));
    let run = Run { job: &job, stand_ins: &stand_ins, element: "bf16" };
    let cache = |name: &str| job.path(&format!("{name}.cache"));
    let table = |name: &str| {
        let folder = cache(name).join("vqtok/cudnn");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let expected = "9-19-0-an-emulated-card.json";
        assert_eq!(files[0].file_name().unwrap(), expected);
        files[0].clone()
    };
    let (first, counts) = run.tokens("first", "", &[]);
    let timed = counts.of("timed");
    assert!(timed >= 12 && timed % 12 == 0, "two engines, six runs of each shape: {timed}");
    assert!(std::fs::read_to_string(table("first")).unwrap().contains("\"engine\": 41"));
    // The other engine is the fastest, and sums the other way round.
    let (other, counts) = run.tokens("other", "", &[("FAKE_CUDNN_FASTEST", "10")]);
    assert_eq!(counts.of("timed"), timed);
    let text = std::fs::read_to_string(table("other")).unwrap();
    assert!(text.contains("\"engine\": 10") && !text.contains("\"engine\": 41"));
    // What is kept holds, whatever is the fastest by now, and nothing is timed.
    let kept = |name: &str, from: &str| {
        let folder = cache(name).join("vqtok/cudnn");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(table(from), folder.join("9-19-0-an-emulated-card.json")).unwrap();
        folder.join("9-19-0-an-emulated-card.json")
    };
    kept("kept", "other");
    let (again, counts) = run.tokens("kept", "", &[]);
    assert_eq!(counts.of("timed"), 0);
    assert!(again == other);
    // A damaged table, and one of another version, are as none.
    let damaged = kept("damaged", "other");
    std::fs::write(&damaged, text.replacen("\"engine\": 10", "\"engine\": 41", 1)).unwrap();
    let (anew, counts) = run.tokens("damaged", "", &[]);
    assert_eq!(counts.of("timed"), timed);
    assert!(anew == first && std::fs::read_to_string(damaged).unwrap().contains("\"engine\": 41"));
    // A folder that can't be written to costs nothing but the timing.
    std::fs::write(cache("closed"), "no folder").unwrap();
    let (closed, counts) = run.tokens("closed", "", &[]);
    assert!(closed == first && counts.of("timed") == timed);
}
