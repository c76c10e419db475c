//! Drives the GPU engine as a user does, on stand-ins for the driver, cuBLAS and cuDNN that compute on
//! the host: tokens, memory that runs out, faults of the device, threads, sizes that vary. What the
//! stand-ins refuse and count is in `tests/support/cuda`.

#[allow(dead_code)]
#[path = "../benches/common/encoder.rs"]
mod drawn;
#[path = "support/stand_ins.rs"]
mod stand_ins;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use image::RgbImage;
use stand_ins::{Counts, StandIns, compile, stand_ins, stand_ins_with_nvrtc};
use support::{Done, Job, npz, picture, shared};
use vqtok::internals::audit::TokenFile;
use vqtok::internals::checkpoint::folder::save;
use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin};
use vqtok::internals::engine::{
    DeviceChoice, Encoded, Engine, PixelBatch, Precision, Submitted, open,
};
use vqtok::internals::model::config::{
    Architecture, Parts, QuantizerConfig, QuantizerRule, VqganConfig,
};

/// A VQGAN of two levels with attention in the smaller one, as `model`.
fn with_model(job: Job) -> Job {
    with_parts(job, Parts::Encoder)
}

fn with_parts(job: Job, parts: Parts) -> Job {
    let network = VqganConfig {
        ch: 16,
        widths: vec![16, 24],
        res_blocks: 1,
        attention: vec![false, true],
        mid_attention: true,
        z_channels: 8,
        norm_groups: 8,
        norm_eps: 1e-6,
        parts,
        decoder: None,
        variant: Default::default(),
    };
    let quantizer = QuantizerConfig::new(QuantizerRule::L2, 64, 8);
    let (config, weights) = drawn::random_model(Architecture::Vqgan(network), quantizer);
    save(&job.path("model"), &config, &weights).unwrap();
    job
}

/// Pictures of these sizes as `images`.
fn with_pictures(sizes: &[(u32, u32)]) -> Job {
    let job = Job::new(0);
    std::fs::create_dir(job.path("images")).unwrap();
    for (index, (width, height)) in sizes.iter().enumerate() {
        let path = job.path("images").join(format!("{index:03}.png"));
        let drawn = picture(index as u32);
        let at = |x, y| *drawn.get_pixel(x % drawn.width(), y % drawn.height());
        RgbImage::from_fn(*width, *height, at).save(path).unwrap();
    }
    job
}

/// A run on the stand-ins for an element type, under a name.
struct Run<'a> {
    job: &'a Job,
    stand_ins: &'a StandIns,
    element: &'a str,
}

impl Run<'_> {
    /// `vqtok tokenize images --out NAME` with more options and an environment.
    fn tokenize(&self, name: &str, options: &str, with: &[(&str, &str)]) -> (Done, Counts) {
        let line = format!(
            "tokenize images --model model --out {name} --device cuda --precision {} {options}",
            self.element
        );
        let mut command = self.job.command(&line);
        let report = self.job.path(&format!("{name}.json"));
        self.stand_ins.serve(&mut command, &report);
        command.envs(with.iter().copied());
        let done = Done::of(command.output().unwrap());
        (done, Counts::read(&report))
    }

    /// The tokens of such a run, which ends well and leaves nothing on the device.
    fn tokens(&self, name: &str, options: &str, with: &[(&str, &str)]) -> (Vec<Tokens>, Counts) {
        let (done, counts) = self.tokenize(name, options, with);
        assert_eq!(done.code, 0, "{}", done.stderr);
        counts.assert_clean();
        (tokens(&self.job.path(name)), counts)
    }
}

/// Codes of one picture.
#[derive(Debug, Clone, PartialEq)]
struct Tokens {
    key: String,
    codes: Vec<u32>,
}

fn tokens(out: &Path) -> Vec<Tokens> {
    let mut rows: Vec<Tokens> = TokenFile::open(out)
        .unwrap()
        .map(|row| {
            let row = row.unwrap();
            let level = &row.levels[0];
            Tokens { key: row.key, codes: level.codes.clone() }
        })
        .collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

fn differing(a: &[Tokens], b: &[Tokens]) -> usize {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).flat_map(|(a, b)| a.codes.iter().zip(&b.codes));
    pairs.filter(|(a, b)| a != b).count()
}

/// The pictures of a golden case as `images`, and the tokens of its `golden.npz`.
fn golden(case: &str) -> Option<(Job, PathBuf, Vec<u32>)> {
    let folder = shared(&format!("golden/{case}"))?;
    let arrays = npz(folder.join("golden.npz"));
    let images = &arrays["images_u8"];
    let [_, height, width, 3] = images.shape[..] else { panic!("{:?}", images.shape) };
    let job = Job::new(0);
    std::fs::create_dir(job.path("images")).unwrap();
    for (index, pixels) in images.u8().chunks_exact(height * width * 3).enumerate() {
        let picture = RgbImage::from_raw(width as u32, height as u32, pixels.to_vec()).unwrap();
        picture.save(job.path("images").join(format!("{index:03}.png"))).unwrap();
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "ckpt"));
    files.sort();
    let tokens = arrays["tokens"].i64().into_iter().map(|token| token as u32).collect();
    Some((job, files.remove(0), tokens))
}

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
const SIZES: [(u32, u32); 7] =
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

#[test]
fn where_memory_lacks_runs_are_smaller_and_tokens_the_same() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(with_pictures(&[(40, 32); 6]));
        let run = Run { job: &job, stand_ins: &stand_ins, element };
        let (whole, counts) = run.tokens("whole", "", &[]);
        // Room for some, not for all at a time; what the programs of that took is the most.
        let memory = counts.of("peak") * 6 / 10;
        let (less, counts) = run.tokens("less", "", &[("FAKE_CUDA_MEMORY", &memory.to_string())]);
        assert!(less == whole, "{element}");
        assert!(counts.of("peak") <= memory);
        let (done, counts) = run.tokenize("none", "", &[("FAKE_CUDA_MEMORY", "300000")]);
        assert_eq!(done.code, 2, "{}", done.stderr);
        done.assert_one_line(&["memory", "use a smaller"]);
        counts.assert_clean();
    }
}

#[test]
fn a_device_that_faults_is_one_line_wherever_it_does() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(with_pictures(&[(24, 20), (36, 16)]));
        let run = Run { job: &job, stand_ins: &stand_ins, element };
        let (_, counts) = run.tokens("whole", "", &[]);
        let kinds = ["launches", "products", "convolutions", "copies"];
        let work: i64 = kinds.iter().map(|kind| counts.of(kind)).sum();
        // The first, some in the midst of a run, and the last, a copy of results.
        for at in [1, work / 2, work * 2 / 3, work * 2 / 3 + 1, work * 2 / 3 + 2, work] {
            let with = [("FAKE_CUDA_FAULT", at.to_string())];
            let with = with.each_ref().map(|(name, at)| (*name, at.as_str()));
            let (done, counts) = run.tokenize(&format!("at{at}"), "", &with);
            assert_eq!(done.code, 2, "{element}, work {at} of {work}: {}", done.stderr);
            done.assert_one_line(&["--device cuda"]);
            counts.assert_clean();
        }
    }
}

#[test]
fn a_fault_that_is_heard_of_later_says_how_to_find_it() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    let job = with_model(with_pictures(&[(24, 20)]));
    let run = Run { job: &job, stand_ins: &stand_ins, element: "f32" };
    let (_, counts) = run.tokens("whole", "", &[]);
    // The last launch is followed by copies of the results alone, codes and distances, all heard of
    // where somebody waits for them.
    let work = ["launches", "products", "copies"].iter().map(|kind| counts.of(kind)).sum::<i64>();
    let (done, _) = run.tokenize("late", "", &[("FAKE_CUDA_FAULT", &(work - 2).to_string())]);
    done.assert_one_line(&["CUDA: a run", "CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_LAUNCH_BLOCKING=1"]);
}

#[test]
fn libraries_that_are_too_old_or_incomplete_are_named() {
    let Some(stand_ins) = stand_ins("bf16") else { return };
    let job = with_model(with_pictures(&[(24, 20)]));
    let run = Run { job: &job, stand_ins: &stand_ins, element: "bf16" };
    for (name, version, said) in [
        ("FAKE_CUBLAS_VERSION", "120400", "version 12 of libcublas first where 13"),
        ("FAKE_CUDNN_VERSION", "8907", "version 0 of libcudnn first where 9"),
    ] {
        let (done, counts) = run.tokenize(name, "", &[(name, version)]);
        assert_eq!(done.code, 2);
        done.assert_one_line(&["--device cuda", said, "LD_LIBRARY_PATH"]);
        counts.assert_clean();
    }
    // A cuDNN that needs a library which isn't there.
    let (folder, source) = (job.path("broken"), job.path("nothing.c"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&source, "int vqtok_nothing(void) { return 0; }\n").unwrap();
    let lacking = folder.join("libvqtok_lacking.so");
    compile(&source, &lacking, &[]).unwrap();
    let beside = format!("-L{}", folder.display());
    let needs = ["-Wl,--no-as-needed", &beside, "-lvqtok_lacking"];
    compile(&source, &folder.join("libcudnn.so.9"), &needs).unwrap();
    std::fs::remove_file(lacking).unwrap();
    let line = "tokenize images --model model --out out --device cuda --precision bf16";
    let mut command = job.command(line);
    stand_ins.serve(&mut command, &job.path("broken.json"));
    let path = command.get_envs().find(|(name, _)| *name == "LD_LIBRARY_PATH").unwrap().1.unwrap();
    let folders = std::iter::once(folder.clone()).chain(std::env::split_paths(path));
    let path = std::env::join_paths(folders).unwrap();
    let done = Done::of(command.env("LD_LIBRARY_PATH", path).output().unwrap());
    assert_eq!(done.code, 2, "{}", done.stderr);
    done.assert_one_line(&["no usable libcudnn.so.9", "libvqtok_lacking.so"]);
}

/// Runs [`inside`] on the stand-ins.
fn run_inside(job: &Job, stand_ins: &StandIns, what: &str, with: &[(&str, &str)]) -> Counts {
    let report = job.path(&format!("{what}.json"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["inside", "--exact", "--ignored", "--nocapture"]);
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
