//! Tests the library as another program uses it: what it makes is what the command line makes, and
//! what stopped goes on.

use crate::support::*;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::{AsArray, FixedSizeListArray};
use arrow::datatypes::UInt16Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rayon::prelude::*;
use vqtok::{
    Codes, Decode, Error, Event, Grid, Observer, PipelineEvent, PixelSettings, Recipe, Reconstruct,
    Repair, RgbImage, Share, Tokenize, Tokenizer, TokenizerOptions, Train,
};

/// The column of an output's only shard, by key.
fn column<T>(
    job: &Job,
    name: &str,
    value: impl Fn(&FixedSizeListArray, usize) -> T,
) -> BTreeMap<String, T> {
    let file = std::fs::File::open(job.path("out/tokens/part-00000.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut found = BTreeMap::new();
    for batch in reader.map(Result::unwrap) {
        let keys = batch.column_by_name("key").unwrap().as_string::<i32>();
        let lists = batch.column_by_name(name).unwrap().as_fixed_size_list();
        found.extend((0..batch.num_rows()).map(|i| (keys.value(i).to_string(), value(lists, i))));
    }
    found
}

fn pictures(job: &Job, keys: impl Iterator<Item = String>) -> Vec<RgbImage> {
    keys.map(|key| image::open(job.path("images").join(key)).unwrap().to_rgb8()).collect()
}

#[test]
fn codes_in_memory_are_those_of_shards_and_decode_to_the_same_pictures() {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --out out --model model");
    job.expect(0, "decode out --model model --out decoded");
    let tokens = column(&job, "tokens", |lists, row| -> Vec<u32> {
        let values = lists.value(row);
        values.as_primitive::<UInt16Type>().values().iter().map(|&code| code.into()).collect()
    });
    let images = pictures(&job, tokens.keys().cloned());
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    assert_eq!((tokenizer.codes(), tokenizer.levels(), tokenizer.factor()), (16, 1, [4, 4]));
    assert_eq!(tokenizer.size().unwrap(), Some(16));

    let codes = tokenizer.encode(&images).unwrap();
    assert_eq!(codes.len(), 9);
    for ((key, expected), codes) in tokens.iter().zip(&codes) {
        assert_eq!((codes.levels[0].height, codes.levels[0].width), (4, 4), "{key}");
        assert_eq!(&codes.levels[0].codes, expected, "{key}");
    }
    let decoded = tokenizer.decode(&codes).unwrap();
    for (key, picture) in tokens.keys().zip(&decoded) {
        let png = job.path("decoded").join(key).with_extension("png");
        assert!(&image::open(png).unwrap().to_rgb8() == picture, "{key}");
    }
}

#[test]
fn a_picture_or_codes_that_no_model_takes_cost_themselves() {
    let job = Job::new(8).trained();
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    let images = [picture(1), RgbImage::new(0, 5), picture(2)];
    let each = tokenizer.encode_each(&images).unwrap();
    let reject = each[1].as_ref().unwrap_err();
    assert!(reject.message.contains("has no pixels"), "{reject}");
    let error = tokenizer.encode(&images).unwrap_err().to_string();
    assert!(error.starts_with("image 1: "), "{error}");

    let mut codes: Vec<_> = each.into_iter().flatten().collect();
    let alone = tokenizer.encode(&images[2..]).unwrap();
    assert_eq!(codes[1], alone[0], "codes depend on the other pictures of a call");
    codes[0].levels[0].codes[3] = 16;
    let each = tokenizer.decode_each(&codes).unwrap();
    let reject = each[0].as_ref().unwrap_err();
    assert!(reject.message.contains("token 16 is beyond the model's 16 codes"), "{reject}");
    assert!(each[1].is_ok());
    codes[0].levels[0].codes.pop();
    let error = tokenizer.decode(&codes).unwrap_err().to_string();
    assert!(error.starts_with("codes of image 0: "), "{error}");
}

/// Stops after so many images.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Tokenizing(PipelineEvent::Image { .. }) = event {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn interrupted(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn a_job_that_was_stopped_goes_on_to_the_shards_of_the_command() {
    let job = Job::new(40).trained();
    job.expect(0, "tokenize images --out out --model model --shard-rows 7");
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    let tokenize = Tokenize::new([job.path("images")], job.path("again")).shard_rows(7);
    let stopped = tokenize.clone().batch_size(1);
    let stopped = stopped.run(&mut tokenizer, &mut StopAfter(10));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert!(!job.path("again/dataset.json").exists());

    // Two workers share what is left.
    let half = |index| tokenize.clone().share(Share::new(index, 2).unwrap());
    let first = half(0).run(&mut tokenizer, &mut ()).unwrap();
    assert!(first.missing > 0 && first.dataset.is_none());
    let second = half(1).run(&mut tokenizer, &mut ()).unwrap();
    assert!(second.is_clean() && second.written < 40, "{second:?}");
    let totals = second.dataset.unwrap().totals;
    assert_eq!((totals.planned, totals.written, totals.failed), (40, 40, 0));
    job.assert_same("out", "again");
    assert!(vqtok::verify(job.path("again")).unwrap().complete());
}

#[test]
fn a_training_is_the_same_bits_whoever_starts_it() {
    let job = Job::new(8).trained();
    let recipe = job.path("tiny.toml").to_string_lossy().into_owned();
    let train = Train::new([job.path("images")], job.path("ours")).recipe(recipe);
    let summary = train.run(&mut ()).unwrap();
    assert_eq!(summary.steps, 4);
    let weights = |model: &str| std::fs::read(job.path(model).join("model.safetensors")).unwrap();
    assert!(weights("model") == weights("ours"));
    // Trained further, and refused where it can't be.
    let longer = train.clone().steps(6).resume(true).run(&mut ()).unwrap();
    assert_eq!(longer.steps, 6);
    let error = train.seed(9).resume(true).run(&mut ()).unwrap_err().to_string();
    assert!(error.starts_with("seed: train.seed is 9"), "{error}");
}

#[test]
fn decode_reconstruct_and_repair_do_what_the_commands_do() {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --out out --model model --shard-rows 5");
    job.expect(0, "decode out --model model --out decoded --sheet decoded.png");
    job.expect(0, "reconstruct images --model model --out sheet.png --count 4");
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    let bytes = |name: &str| std::fs::read(job.path(name)).unwrap();

    let decode = Decode::new(job.path("out")).out(job.path("ours")).sheet(job.path("ours.png"));
    let summary = decode.run(&mut tokenizer, &mut ()).unwrap();
    assert_eq!((summary.rows, summary.decoded, summary.on_sheet), (9, 9, 9));
    job.assert_same("decoded", "ours");
    assert!(bytes("decoded.png") == bytes("ours.png"));

    let reconstruct = Reconstruct::new([job.path("images")], job.path("ours-sheet.png")).count(4);
    let summary = reconstruct.run(&mut tokenizer, &mut ()).unwrap();
    assert_eq!((summary.images.len(), summary.failed), (4, 0));
    assert!(bytes("sheet.png") == bytes("ours-sheet.png"));

    let before = job.files("out");
    std::fs::remove_file(job.path("out/tokens/part-00001.parquet")).unwrap();
    let error = Repair::new(job.path("out")).run(&mut ()).unwrap_err().to_string();
    assert!(error.contains("pass model with the tokenizer"), "{error}");
    let repair = Repair::new(job.path("out")).model(job.path("model"), TokenizerOptions::new());
    let summary = repair.run(&mut ()).unwrap();
    assert!(summary.is_clean() && summary.tokenized.written == 4, "{summary:?}");
    assert!(job.files("out") == before);
}

#[test]
fn settings_are_refused_by_their_names_before_any_work() {
    let job = Job::new(4).trained();
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    let tokenize = Tokenize::new([job.path("images")], job.path("out"));
    let mut refused = |tokenize: Tokenize| match tokenize.run(&mut tokenizer, &mut ()) {
        Err(Error::Setting { name, reason }) => format!("{name} {reason}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(tokenize.clone().shard_rows(0)), "shard_rows is 1 to 16777216, not 0");
    assert_eq!(refused(tokenize.clone().batch_size(0)), "batch_size is 1 to 65536, not 0");
    assert!(!job.path("out").exists());
    let odd = TokenizerOptions::new().pixels(PixelSettings::default().size(2));
    let mut tokenizer = odd.open(job.path("model")).unwrap();
    let error = tokenize.run(&mut tokenizer, &mut ()).unwrap_err();
    assert!(matches!(error, Error::Setting { name: "size", .. }), "{error:?}");
    assert!(error.to_string().starts_with("size 2 doesn't suit the model"), "{error}");
    let own = Tokenize::new([job.path("images")], job.path("images"));
    let error = own.run(&mut tokenizer, &mut ()).unwrap_err();
    assert!(matches!(error, Error::Setting { name: "out", .. }), "{error:?}");
    let again = Train::new([job.path("images")], job.path("model"));
    let Err(Error::Mismatch(message)) =
        again.recipe(job.path("tiny.toml").to_str().unwrap()).run(&mut ())
    else {
        panic!("a model that stands is not trained again");
    };
    assert!(
        message.to_string().ends_with("train it further with resume and more steps"),
        "{message}"
    );
    assert!(!format!("{message:?}").contains('\\'), "{message:?}");
    let missing: PathBuf = job.path("missing");
    assert!(Tokenizer::open(missing).is_err());
}

#[test]
fn codes_that_are_no_grid_of_the_model_are_errors_in_words() {
    let job = Job::new(4).trained();
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    let grid = |height, width, codes| {
        let distances = Vec::new();
        Codes { levels: vec![Grid { height, width, codes, distances }] }
    };
    // Its places, counted in a usize, are none.
    let codes = grid(1 << (usize::BITS - 1), 2, vec![]);
    let error = tokenizer.decode(&[codes]).unwrap_err().to_string();
    assert!(error.contains("0 tokens for a grid of 9223372036854775808 x 2"), "{error}");
    for codes in [
        grid(0, 0, vec![]),
        grid(2, 2, vec![0; 3]),
        grid(1, 1, vec![u32::MAX]),
        Codes { levels: vec![] },
    ] {
        let error = tokenizer.decode(&[codes]).unwrap_err().to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
    assert_eq!(tokenizer.decode(&[]).unwrap().len(), 0);

    let large = TokenizerOptions::new().pixels(PixelSettings::new().size(1 << 20));
    let mut tokenizer = large.open(job.path("model")).unwrap();
    let error = tokenizer.encode(&[RgbImage::new(9, 9)]).unwrap_err().to_string();
    assert!(error.starts_with("size 1048576 gives"), "{error}");
    job.expect(2, "reconstruct images --model model --out s.png --size 1048576")
        .assert_one_line(&["--size 1048576 gives"]);
}

#[test]
fn a_recipe_made_by_a_program_is_trained_as_its_file_is() {
    let job = Job::new(4).trained();
    let recipe = Recipe::of_model(&job.path("model")).unwrap().unwrap();
    let train = Train::new([job.path("images")], job.path("ours")).recipe(recipe.clone());
    train.run(&mut ()).unwrap();
    let weights = |model: &str| std::fs::read(job.path(model).join("model.safetensors")).unwrap();
    assert!(weights("model") == weights("ours"));

    let mut impossible = recipe;
    impossible.train.batch_size = 0;
    let train = Train::new([job.path("images")], job.path("none")).recipe(impossible);
    assert!(train.run(&mut ()).is_err());
    assert!(!job.path("none").exists());
}

#[test]
fn jobs_called_from_every_thread_of_a_pool_end() {
    let job = Job::new(9).trained();
    let (sender, done) = std::sync::mpsc::channel();
    let (images, model, out) = (job.path("images"), job.path("model"), job.path("outs"));
    std::thread::spawn(move || {
        // The global pool, which the jobs' own threads compute in as well.
        let written = |n: usize| {
            let mut tokenizer = Tokenizer::open(&model).unwrap();
            let tokenize = Tokenize::new([&images], out.join(n.to_string()));
            tokenize.run(&mut tokenizer, &mut ()).unwrap().written
        };
        let jobs = 0..3 * rayon::current_num_threads();
        sender.send(jobs.into_par_iter().with_max_len(1).map(written).collect()).unwrap();
    });
    let all: Vec<u64> = done.recv_timeout(Duration::from_secs(120)).expect("jobs that end");
    assert!(all.iter().all(|&written| written == 9), "{all:?}");
    for n in 1..all.len() {
        job.assert_same("outs/0/tokens", &format!("outs/{n}/tokens"));
    }
}

/// Runs this file's test `name` again in a process of its own, with a variable set, where it finds
/// `VQTOK_DOOR_AGAIN`.
fn again(name: &str, variable: (&str, &str)) {
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    test.args([&format!("door::{name}"), "--exact", "--nocapture"]).env(variable.0, variable.1);
    let output = test.env("VQTOK_DOOR_AGAIN", "1").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{told}");
}

#[test]
fn threads_of_the_environment_beyond_any_machine_are_refused_at_every_door() {
    const NAME: &str = "threads_of_the_environment_beyond_any_machine_are_refused_at_every_door";
    if std::env::var_os("VQTOK_DOOR_AGAIN").is_none() {
        return again(NAME, ("RAYON_NUM_THREADS", "1025"));
    }
    let job = Job::new(3).trained();
    job.expect(0, "tokenize images --out out --model model");
    let refused = |error: Error| {
        assert_eq!(error.to_string(), "RAYON_NUM_THREADS=1025: choose 1 to 1024");
    };
    refused(vqtok::set_threads(None).unwrap_err());
    refused(Tokenizer::open(job.path("model")).unwrap_err());
    refused(Train::new([job.path("images")], job.path("ours")).run(&mut ()).unwrap_err());
    refused(Repair::new(job.path("out")).run(&mut ()).unwrap_err());
    refused(vqtok::verify(job.path("out")).unwrap_err());
    refused(vqtok::finalize(job.path("out")).unwrap_err());
    // What the program itself says stands above the environment.
    vqtok::set_threads(Some(2)).unwrap();
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    assert_eq!(tokenizer.encode(&[picture(1)]).unwrap().len(), 1);
    assert!(vqtok::verify(job.path("out")).unwrap().complete());
    let late = vqtok::set_threads(Some(3)).unwrap_err().to_string();
    assert!(late.ends_with("once, before any work and before anything else uses rayon"), "{late}");
}

#[test]
fn numbers_beyond_everything_are_refused_or_mean_everything() {
    let job = Job::new(5).trained();
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    for count in [5, 1 << (usize::BITS - 1), usize::MAX] {
        let sheet = job.path(&format!("{count}.png"));
        let reconstruct = Reconstruct::new([job.path("images")], sheet).count(count);
        assert_eq!(reconstruct.run(&mut tokenizer, &mut ()).unwrap().images.len(), 5);
    }
    for size in [1 << 20, u32::MAX] {
        let large = TokenizerOptions::new().pixels(PixelSettings::new().size(size));
        let mut tokenizer = large.open(job.path("model")).unwrap();
        let tokenize = Tokenize::new([job.path("images")], job.path("large"));
        let error = tokenize.run(&mut tokenizer, &mut ()).unwrap_err().to_string();
        assert!(error.contains("doesn't fit into a row"), "{error}");
        assert!(error.ends_with("take a smaller size"), "{error}");
    }
}
