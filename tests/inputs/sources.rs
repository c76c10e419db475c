//! Drives the binary with data sets where they lie: tars, Parquet files, zips, lists, files with
//! texts beside them. Must not know: how any of it is read.

use crate::support::containers;
use crate::support::photos;
use crate::support::said;
use crate::support::*;
use containers::{Layout, Sample, compressed, members, samples, table, tar, zip};
use photos::{line, take_photos};
use said::{Said, rows_of};

use std::collections::BTreeMap;
use std::fs;

const FLAGS: &str = "--model model --shard-rows 10 --batch-size 4";
/// The same in shards of four rows.
const SMALL: &str = "--model model --shard-rows 4 --batch-size 4";

/// Every row of an output, by its key.
fn rows(job: &Job, out: &str) -> BTreeMap<String, Said> {
    rows_of(&job.files(&format!("{out}/tokens")))
}

/// Tokenizes `input` and gives what came of it.
fn tokenized(job: &Job, input: &str, out: &str) -> BTreeMap<String, Said> {
    job.expect(0, &format!("tokenize {input} --out {out} {FLAGS}"));
    job.expect(0, &format!("verify {out}"));
    rows(job, out)
}

/// A job, its images as samples, and what comes of them as a folder.
struct Scene {
    job: Job,
    samples: Vec<Sample>,
    folder: BTreeMap<String, Said>,
}

impl Scene {
    fn new() -> Scene {
        let job = Job::new(50).trained();
        let images = take_photos(&job).unwrap_or(50);
        let samples = samples(job.files("images"));
        let folder = tokenized(&job, "images", "of-folder");
        assert_eq!(folder.len(), images);
        Scene { job, samples, folder }
    }

    /// Tokens in the order of the images' names.
    fn tokens(&self) -> Vec<&Vec<u16>> {
        self.folder.values().map(|said| &said.tokens).collect()
    }

    /// Tokenizes what holds the samples under their keys, and holds it against the folder.
    fn must_be_equal(&self, what: &str, input: &str) {
        let out = format!("out-{}", input.replace('/', "-"));
        let said = tokenized(&self.job, input, &out);
        let in_order: Vec<&Vec<u16>> = self.samples.iter().map(|s| &said[&s.key].tokens).collect();
        assert!(in_order == self.tokens(), "{what}: other tokens");
        for sample in &self.samples {
            let of = &said[&sample.key];
            assert_eq!(of.caption.as_deref(), Some(&*sample.caption), "{what}");
            assert_eq!(of.label.as_deref(), Some(&*sample.label), "{what}");
            assert!(of.member.is_some(), "{what}");
        }
        line(what, &said);
        // Once more it is the same, and made again the same bytes.
        self.job.expect(0, &format!("tokenize {input} --out {out} {FLAGS}"));
        self.job.expect(0, &format!("tokenize {input} --out again-{out} {FLAGS} --threads 1"));
        self.job.assert_same(&out, &format!("again-{out}"));
    }
}

/// Keys and tokens.
fn plain(said: &BTreeMap<String, Said>) -> Vec<(String, Vec<u16>)> {
    said.iter().map(|(key, said)| (key.clone(), said.tokens.clone())).collect()
}

#[test]
fn tars_give_the_tokens_of_the_folder() {
    let scene = Scene::new();
    line("folder", &scene.folder);
    let (job, samples) = (&scene.job, &scene.samples);
    let archive = tar(&members(samples));
    fs::create_dir(job.path("tars")).unwrap();
    fs::write(job.path("tars/s-000.tar"), tar(&members(&samples[..21]))).unwrap();
    fs::write(job.path("tars/s-001.tar"), tar(&members(&samples[21..]))).unwrap();
    fs::write(job.path("all.tar"), &archive).unwrap();
    scene.must_be_equal("tar", "all.tar");
    scene.must_be_equal("folder of tars", "tars");
    scene.must_be_equal("tars by pattern", "tars/s-{000..001}.tar");
    for extension in ["gz", "bz2", "xz", "zst"] {
        let name = format!("all.tar.{extension}");
        fs::write(job.path(&name), compressed(extension, &archive)).unwrap();
        scene.must_be_equal(&name, &name);
    }
}

#[test]
fn tables_give_the_tokens_of_the_folder() {
    let scene = Scene::new();
    let (job, samples, folder) = (&scene.job, &scene.samples, &scene.folder);
    for (name, layout) in [
        ("struct", Layout::Struct),
        ("binary", Layout::Binary),
        ("large_binary", Layout::LargeBinary),
    ] {
        table(&job.path(&format!("{name}.parquet")), samples, layout, 7);
        scene.must_be_equal(&format!("Parquet, {name}"), &format!("{name}.parquet"));
    }
    // Where there is no column of classes, no folder of a made-up key is one.
    table(&job.path("tars-of.parquet"), samples, Layout::Binary, 7);
    let flags = "--key-column caption --label-column width --caption-column label";
    let said = tokenized(job, &format!("tars-of.parquet {flags}"), "out-flags");
    assert!(said.values().all(|said| said.label.as_deref() == Some("7")));
    fs::create_dir(job.path("lists")).unwrap();
    let list: String =
        job.files("images").iter().map(|(n, _)| format!("../images/{n}\n")).collect();
    fs::write(job.path("lists/of.txt"), list).unwrap();
    let said = tokenized(job, "lists/of.txt", "out-list-of");
    assert!(said.len() == folder.len() && said.values().all(|said| said.label.is_none()));
    // A list of one image a row has the row's key and a number.
    table(&job.path("list.parquet"), samples, Layout::List, 50);
    let said = tokenized(job, "list.parquet", "out-list");
    let of = |s: &Sample| said[&format!("{}/0", s.key)].tokens.clone();
    assert!(samples.iter().map(of).eq(scene.tokens().into_iter().cloned()));
    line("Parquet, list", &said);
}

#[test]
fn zips_and_lists_give_the_tokens_and_the_keys_of_the_folder() {
    let scene = Scene::new();
    let (job, samples, folder) = (&scene.job, &scene.samples, &scene.folder);
    fs::write(job.path("all.zip"), zip(&job.files("images"))).unwrap();
    let said = tokenized(job, "all.zip", "out-zip");
    assert_eq!(plain(&said), plain(folder));
    line("zip", &said);
    let mut csv = String::from("image_path,caption,label\n");
    for ((name, _), sample) in job.files("images").iter().zip(samples) {
        csv += &format!("images/{name},\"{}\",{}\n", sample.caption, sample.label);
    }
    fs::write(job.path("all.csv"), csv).unwrap();
    let said = tokenized(job, "all.csv", "out-csv");
    let below = |(key, tokens): (String, Vec<u16>)| (format!("images/{key}"), tokens);
    assert_eq!(plain(&said), plain(folder).into_iter().map(below).collect::<Vec<_>>());
    line("CSV", &said);
}

#[test]
fn texts_beside_images_are_their_captions() {
    let scene = Scene::new();
    let (job, samples, folder) = (&scene.job, &scene.samples, &scene.folder);
    for ((name, _), sample) in job.files("images").iter().zip(samples) {
        let path = job.path(&format!("images/{name}")).with_extension("txt");
        fs::write(path, &sample.caption).unwrap();
    }
    let said = tokenized(job, "images", "out-texts");
    assert_eq!(plain(&said), plain(folder));
    let captions: Vec<&str> = samples.iter().map(|s| &*s.caption).collect();
    assert!(said.values().map(|said| said.caption.as_deref().unwrap()).eq(captions));
    line("folder with texts", &said);
    // The output that was begun without them stays as it is, and says so.
    let told = job.expect(0, &format!("tokenize images --out of-folder {FLAGS}")).stderr;
    let counted =
        format!("{} images with captions, labels or metadata beside", scene.samples.len());
    assert!(told.contains(&counted), "{told}");
}

#[test]
fn facts_are_taken_from_the_columns_that_are_named() {
    let job = Job::new(4).trained();
    table(&job.path("t.parquet"), &samples(job.files("images")), Layout::Struct, 2);
    let flags = "--key-column caption --label-column __key__ --caption-column label --pass width";
    let said = tokenized(&job, &format!("t.parquet {flags}"), "out");
    let first = &said["picture 0, 猫"];
    assert_eq!(first.label.as_deref(), Some("0000"));
    assert_eq!(first.caption.as_deref(), Some("cat"));
    assert_eq!(first.meta.as_deref(), Some(r#"{"width":7}"#));
    let unknown = job.expect(2, &format!("tokenize t.parquet --out no --image-column x {FLAGS}"));
    unknown.assert_one_line(&["t.parquet", "\"x\""]);
    // Another choice is another plan.
    let other = job.expect(2, &format!("tokenize t.parquet --out out {FLAGS}"));
    other.assert_one_line(&["has changed"]);
}

#[test]
fn a_damaged_tar_costs_what_is_damaged_and_says_so() {
    let job = Job::new(12).trained();
    let samples = samples(job.files("images"));
    let whole = tar(&members(&samples));
    fs::write(job.path("whole.tar"), &whole).unwrap();
    let all = tokenized(&job, "whole.tar", "whole");
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 2 + 100); // in the midst of a block
    fs::write(job.path("cut.tar"), &cut).unwrap();
    let done = job.expect(1, &format!("tokenize cut.tar --out cut {FLAGS}"));
    assert!(done.stderr.contains("what follows is lost"), "{}", done.stderr);
    job.expect(0, "verify cut");
    let kept = rows(&job, "cut");
    assert!(!kept.is_empty() && kept.len() < all.len());
    for (key, said) in &kept {
        assert_eq!(said.tokens, all[key].tokens);
    }
    // A tar that changes under a plan fails by name, and a retry takes it once it is back.
    fs::write(job.path("late.tar"), &whole).unwrap();
    job.expect(0, &format!("tokenize late.tar --out late {FLAGS} --partition 0/2"));
    let mut other = samples.clone();
    other.rotate_left(1);
    fs::write(job.path("late.tar"), tar(&members(&other))).unwrap();
    let done = job.expect(2, &format!("tokenize late.tar --out late {FLAGS}"));
    done.assert_one_line(&["the input of late has changed"]);
    fs::write(job.path("late.tar"), &whole).unwrap();
    job.expect(0, &format!("tokenize late.tar --out late {FLAGS}"));
    assert_eq!(rows(&job, "late"), all);
}

#[test]
fn shards_of_containers_are_repaired_byte_for_byte() {
    let job = Job::new(40).trained();
    let samples = samples(job.files("images"));
    fs::write(job.path("a.tar"), tar(&members(&samples[..15]))).unwrap();
    let packed = compressed("gz", &tar(&members(&samples[15..30])));
    fs::write(job.path("b.tar.gz"), packed).unwrap();
    table(&job.path("c.parquet"), &samples[30..], Layout::Struct, 3);
    let line = format!("tokenize a.tar b.tar.gz c.parquet --out out {FLAGS}");
    job.expect(0, &line);
    let shards: Vec<String> = job.files("out/tokens").into_iter().map(|(name, _)| name).collect();
    assert_eq!(shards.len(), 5, "10 + 5 of the tar, 10 + 5 of the compressed one, 10 rows");
    fs::create_dir(job.path("kept")).unwrap();
    for (name, bytes) in job.files("out") {
        let path = job.path(&format!("kept/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    for shard in &shards {
        let path = job.path(&format!("out/tokens/{shard}"));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        job.expect(1, "verify out");
        job.expect(0, "repair out --model model");
        job.assert_same("kept", "out");
    }
    // A lost plan is made again by the same command.
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    job.expect(0, &line);
    job.assert_same("kept", "out");
    // Containers that moved are found where they are.
    fs::create_dir(job.path("moved")).unwrap();
    for name in ["a.tar", "b.tar.gz", "c.parquet"] {
        fs::rename(job.path(name), job.path(&format!("moved/{name}"))).unwrap();
    }
    fs::remove_file(job.path(&format!("out/tokens/{}", shards[3]))).unwrap();
    let moved = "moved/a.tar moved/b.tar.gz moved/c.parquet";
    job.expect(0, &format!("tokenize {moved} --out out {FLAGS}"));
    job.assert_same("kept", "out");
}

#[test]
fn a_compressed_tar_is_one_workers() {
    let job = Job::new(45).trained();
    let samples = samples(job.files("images"));
    for (index, some) in samples.chunks(15).enumerate() {
        let packed = compressed("zst", &tar(&members(some)));
        fs::write(job.path(&format!("{index}.tar.zst")), packed).unwrap();
    }
    let line = format!("tokenize 0.tar.zst 1.tar.zst 2.tar.zst {SMALL}");
    job.expect(0, &format!("{line} --out alone"));
    assert_eq!(job.files("alone/tokens").len(), 12);
    job.expect(0, &format!("{line} --out shared --partition 1/3"));
    // Partitions 4 to 7 are those of the second tar; 4 mod 3 is 1.
    let names = |out: &str| -> Vec<String> {
        job.files(&format!("{out}/tokens")).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names("shared"), (4..8).map(|n| format!("part-{n:05}.parquet")).collect::<Vec<_>>());
    job.expect(0, &format!("{line} --out shared --partition 0/3"));
    job.expect(0, &format!("{line} --out shared --partition 2/3"));
    job.assert_same("alone", "shared");
}

#[test]
fn models_train_on_containers_and_reconstruct_from_them() {
    let job = Job::new(12);
    let samples = samples(job.files("images"));
    let archive = tar(&members(&samples));
    fs::write(job.path("a.tar"), &archive).unwrap();
    fs::write(job.path("a.tar.gz"), compressed("gz", &archive)).unwrap();
    table(&job.path("a.parquet"), &samples, Layout::Struct, 5);
    for (input, model) in [("a.tar", "m1"), ("a.tar.gz", "m2"), ("a.parquet", "m3")] {
        job.expect(0, &format!("train {input} --model {model} --recipe tiny.toml"));
        job.expect(0, &format!("reconstruct {input} --model {model} --out {model}.png"));
    }
    // The same images under the same keys in the same order are the same training.
    let weights = |model: &str| fs::read(job.path(&format!("{model}/model.safetensors"))).unwrap();
    assert!(weights("m1") == weights("m2") && weights("m1") == weights("m3"));
    let sheet = |model: &str| fs::read(job.path(&format!("{model}.png"))).unwrap();
    assert!(sheet("m1") == sheet("m2") && sheet("m1") == sheet("m3"));
}

#[test]
fn keys_that_come_twice_are_refused_with_both_places() {
    let job = Job::new(3).trained();
    let archive = tar(&members(&samples(job.files("images"))));
    fs::write(job.path("a.tar"), &archive).unwrap();
    fs::write(job.path("b.tar"), &archive).unwrap();
    let done = job.expect(2, &format!("tokenize a.tar b.tar --out out {FLAGS}"));
    done.assert_one_line(&["'0000.png' (at 0) in file://", "a.tar", "b.tar", "keys must differ"]);
    assert!(!job.path("out/plan.parquet").exists());
}

#[test]
fn containers_beside_images_are_passed_over_with_a_word() {
    let job = Job::new(6).trained();
    fs::write(job.path("images/copy.tar"), tar(&members(&samples(job.files("images"))))).unwrap();
    let done = job.expect(0, &format!("tokenize images --out out {FLAGS}"));
    assert!(done.stderr.contains("1 tar, Parquet or zip beside images"), "{}", done.stderr);
    assert_eq!(rows(&job, "out").len(), 6);
    job.expect(0, &format!("tokenize images/copy.tar --out tar {FLAGS}"));
    let shard = "out/tokens/part-00000.parquet";
    let done = job.expect(2, &format!("tokenize {shard} --out no {FLAGS}"));
    done.assert_one_line(&["written by vqtok"]);
}
