//! Holds the engine as a library uses it, in a process that finds the stand-ins.

use std::path::Path;
use std::process::Command;

use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin};
use vqtok::internals::engine::{
    DeviceChoice, Encoded, Engine, PixelBatch, Precision, Submitted, open,
};

use crate::scene::*;
use crate::stand_ins::*;
use crate::support::*;

/// Runs [`inside`] on the stand-ins.
pub fn run_inside(job: &Job, stand_ins: &StandIns, what: &str, with: &[(&str, &str)]) -> Counts {
    run_test("inside::inside", job, stand_ins, what, with)
}

/// Runs an ignored test of this program on the stand-ins.
pub fn run_test(
    name: &str,
    job: &Job,
    stand_ins: &StandIns,
    what: &str,
    with: &[(&str, &str)],
) -> Counts {
    let report = job.path(&format!("{what}.json"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--ignored", "--nocapture"]);
    command.env("VQTOK_TEST_INSIDE", what).envs(with.iter().copied());
    command.current_dir(job.dir.path());
    stand_ins.serve(&mut command, &report);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let counts = Counts::read(&report);
    counts.assert_clean();
    counts
}

#[test]
fn an_engine_may_be_used_and_dropped_by_other_threads() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(Job::new(0));
        run_inside(&job, &stand_ins, &format!("{element} threads"), &[]);
    }
}

#[test]
fn three_programs_stay_loaded() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    let job = with_model(Job::new(0));
    let taken =
        |sizes: &str| run_inside(&job, &stand_ins, &format!("f32 {sizes}"), &[]).of("taken");
    let once = taken("abc");
    assert_eq!(taken("abcabcba"), once);
    // The fourth takes the place of the one that wasn't used for longest, which is loaded again.
    assert!(taken("abcad") < taken("abcadb"), "b was given up");
    assert_eq!(taken("abcad"), taken("abcada"), "a was kept");
}

/// Images of the size that a letter stands for.
fn batch(letter: u8, count: usize) -> PixelBatch {
    let (height, width) = (16 + 4 * usize::from(letter - b'a'), 20);
    let pixels = (0..count * height * width * 3).map(|i| (i * 7 % 251) as u8).collect();
    PixelBatch { pixels, count, height, width, channels: 3 }
}

/// Not a test of its own: what others run in a process that finds the stand-ins.
#[test]
#[ignore = "run by other tests, on the stand-ins"]
fn inside() {
    let Ok(what) = std::env::var("VQTOK_TEST_INSIDE") else { return };
    let (precision, what) = what.split_once(' ').unwrap();
    let precision: Precision = precision.parse().unwrap();
    let model = begin(Path::new("model"), &DetectOptions::default()).unwrap();
    let mut engine = open(model, DeviceChoice::Cuda(0), precision).unwrap();
    match what {
        "threads" => on_threads(engine),
        "batches" => in_batches(&mut *engine),
        "flights" => in_flight(&mut *engine),
        sizes => sizes.bytes().for_each(|size| drop(engine.encode(&batch(size, 1)).unwrap())),
    }
}

/// An image's codes and distances are the same bits alone and in batches that go in several runs.
fn in_batches(engine: &mut dyn Engine) {
    let whole = batch(b'a', 20);
    let want = engine.encode(&whole).unwrap();
    let tokens = want.levels[0].codes.len() / whole.count;
    let bits = |encoded: &Encoded| -> Vec<u32> {
        encoded.levels[0].distances.iter().map(|d| d.to_bits()).collect()
    };
    for (start, count) in [(0, 1), (16, 3), (9, 6), (4, 16)] {
        let image = whole.pixels.len() / whole.count;
        let pixels = whole.pixels[start * image..][..count * image].to_vec();
        let part = engine.encode(&PixelBatch { pixels, count, ..whole }).unwrap();
        let range = start * tokens..(start + count) * tokens;
        assert_eq!(part.levels[0].codes, want.levels[0].codes[range.clone()], "{count}");
        assert!(bits(&part) == bits(&want)[range], "{count} images give other bits");
    }
}

/// Batches of several sizes, more than stay loaded, submitted before any of them is collected, and of
/// which some never are.
fn in_flight(engine: &mut dyn Engine) {
    let batches: Vec<PixelBatch> =
        [(b'a', 3), (b'b', 7), (b'c', 1), (b'd', 2), (b'a', 5)].map(|(l, n)| batch(l, n)).into();
    let want: Vec<Encoded> = batches.iter().map(|b| engine.encode(b).unwrap()).collect();
    let submit = |engine: &mut dyn Engine| -> Vec<Submitted> {
        batches.iter().map(|b| engine.submit(&b.images()).unwrap()).collect()
    };
    let submitted = submit(engine);
    let got: Vec<Encoded> = submitted.into_iter().map(|s| engine.collect(s).unwrap()).collect();
    assert_eq!(got, want);
    // The images may be gone when the codes are asked for.
    let gone = engine.submit(&batch(b'b', 7).images()).unwrap();
    assert_eq!(engine.collect(gone).unwrap(), want[1]);
    let mut submitted = submit(engine);
    let (last, fourth) = (submitted.pop().unwrap(), submitted.pop().unwrap());
    assert_eq!(engine.collect(fourth).unwrap(), want[3]);
    assert_eq!(engine.collect(last).unwrap(), want[4]);
    assert!(engine.collect(submitted.remove(0)).is_err(), "it was given up");
    let two = batch(b'a', 2);
    let mut odd = two.images();
    odd.each[1] = &[0; 5];
    assert!(engine.submit(&odd).is_err());
    assert_eq!(engine.encode(&batches[0]).unwrap(), want[0]);
    drop(submit(engine));
}

fn on_threads(mut engine: Box<dyn Engine>) {
    // Each thread finds another size loaded by the one before it, and none has a context of its own.
    let first = engine.encode(&batch(b'a', 3)).unwrap();
    for letters in ["bcd", "eab", "a"] {
        let (returned, last) = std::thread::spawn(move || {
            let last = letters.bytes().map(|letter| engine.encode(&batch(letter, 3)).unwrap());
            let last = last.last().unwrap();
            (engine, last)
        })
        .join()
        .unwrap();
        engine = returned;
        if letters.ends_with('a') {
            assert_eq!(last.levels[0].codes, first.levels[0].codes);
        }
    }
    std::thread::spawn(move || drop(engine)).join().unwrap();
}
