//! Holds which cards are taken, several at once, and decoding on one.

use vqtok::internals::model::config::Parts;

use crate::scene::*;
use crate::stand_ins::*;
use crate::support::*;
use crate::tokens::SIZES;

#[test]
fn a_card_that_is_there_is_taken_and_named() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    let job = with_model(with_pictures(&[(24, 20); 3]));
    let run = |name: &str, options: &str, cards: &str| {
        let mut command =
            job.command(&format!("tokenize images --model model --out {name} {options}"));
        let report = job.path(&format!("{name}.json"));
        stand_ins.serve(&mut command, &report);
        let done = Done::of(command.env("FAKE_CUDA_DEVICES", cards).output().unwrap());
        (done, report)
    };
    // Where the driver isn't asked at all there is no report.
    let counted = |name: &str, options: &str, cards: &str| {
        let (done, report) = run(name, options, cards);
        (done, Counts::read(&report))
    };
    let (done, counts) = counted("auto", "", "1");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("encoding on an emulated card (cuda:0, f32)"), "{}", done.stderr);
    assert!(counts.of("launches") > 0);
    counts.assert_clean();
    let (done, counts) = counted("none", "", "0");
    assert_eq!((done.code, counts.of("launches")), (0, 0), "{}", done.stderr);
    assert!(done.stderr.contains("encoding on the CPU: no NVIDIA GPU is there"), "{}", done.stderr);
    assert_eq!(differing(&tokens(&job.path("auto")), &tokens(&job.path("none"))), 0);
    // An output that was begun on the CPU goes on there.
    let (done, counts) = counted("none", "--append", "1");
    assert_eq!((done.code, counts.of("launches")), (0, 0), "{}", done.stderr);
    // A device that was asked for is nothing to say.
    let (done, report) = run("asked", "--device cpu", "1");
    assert!(!report.exists());
    assert!(done.code == 0 && !done.stderr.contains("encoding on"), "{}", done.stderr);
    let (done, counts) = counted("second", "--device cuda:1", "2");
    assert_eq!((done.code, counts.of("launches0")), (0, 0), "{}", done.stderr);
    assert!(counts.of("launches1") > 0);
    counts.assert_clean();
    assert_eq!(run("missing", "--device cuda:1", "1").0.code, 2);
}

#[test]
fn all_cards_of_a_machine_make_the_shards_of_one() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    let job = with_model(with_pictures(&[(24, 20); 7]));
    // Of seven shards.
    std::fs::write(job.path("images/004.png"), "broken").unwrap();
    let run = |name: &str, device: &str, with: &[(&str, &str)]| {
        let line = format!(
            "tokenize images --model model --out {name} --shard-rows 1 --device {device} --json"
        );
        let mut command = job.command(&line);
        let report = job.path(&format!("{name}.json"));
        stand_ins.serve(&mut command, &report);
        let done = Done::of(command.envs(with.iter().copied()).output().unwrap());
        (done, Counts::read(&report))
    };
    let (done, one) = run("one", "cuda", &[("FAKE_CUDA_DEVICES", "3")]);
    assert_eq!((done.code, one.of("launches1")), (1, 0), "{}", done.stderr);
    let (done, all) = run("all", "cuda:all", &[("FAKE_CUDA_DEVICES", "2")]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(all.of("launches0") > 0 && all.of("launches1") > 0);
    all.assert_clean();
    assert_eq!(done.events("partition").len(), 7);
    assert_eq!(done.events("failure").len(), 1);
    let said = &done.events("device")[0]["name"];
    assert_eq!(said, "2 cards, the first of which is an emulated card (cuda:0, f32)");
    let files = |name: &str| {
        let mut files = job.files(name);
        files.retain(|(path, _)| path.ends_with(".parquet"));
        files
    };
    assert!(files("one").len() >= 7 && files("one") == files("all"));
    // A fault of one card ends the run in one line.
    let with = [("FAKE_CUDA_DEVICES", "2"), ("FAKE_CUDA_FAULT", "60")];
    let (done, counts) = run("fault", "cuda:all", &with);
    assert_eq!(done.code, 2, "{}", done.stderr);
    counts.assert_clean();
}

#[test]
fn codes_are_decoded_on_the_card_as_on_the_cpu() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_parts(with_pictures(&SIZES), Parts::Both);
        job.expect(0, "tokenize images --model model --out tokens --device cpu");
        job.expect(0, "decode tokens --model model --out cpu --device cpu");
        let line =
            format!("decode tokens --model model --out card --device cuda --precision {element}");
        let mut command = job.command(&line);
        let report = job.path("decode.json");
        stand_ins.serve(&mut command, &report);
        let done = Done::of(command.output().unwrap());
        assert_eq!(done.code, 0, "{}", done.stderr);
        let counts = Counts::read(&report);
        counts.assert_clean();
        assert!(counts.of("launches") > 50, "it ran there");
        for index in 0..SIZES.len() {
            let open = |folder: &str| {
                let path = job.path(folder).join(format!("{index:03}.png"));
                image::open(path).unwrap().to_rgb8()
            };
            let (cpu, card) = (open("cpu"), open("card"));
            assert_eq!(cpu.dimensions(), card.dimensions());
            let off = cpu.iter().zip(card.iter()).map(|(a, b)| a.abs_diff(*b));
            let most = if element == "f32" { 1 } else { 24 };
            assert!(off.max().unwrap() <= most, "{element}");
        }
    }
}
