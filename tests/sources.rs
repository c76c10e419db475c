//! Drives the binary with data sets where they lie: tars, Parquet files, zips, lists, files with
//! texts beside them. Must not know: how any of it is read.

mod support;
#[path = "support/containers.rs"]
mod containers;
use containers::{Layout, Sample, compressed, members, table, tar, zip};
use support::*;

use std::collections::BTreeMap;
use std::fs;

use arrow::array::{Array, AsArray, FixedSizeListArray};
use arrow::datatypes::UInt16Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const FLAGS: &str = "--model model --shard-rows 10 --batch-size 4";

/// What an output says of an image.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    tokens: Vec<u16>,
    label: Option<String>,
    caption: Option<String>,
    member: Option<String>,
    meta: Option<String>,
}

/// Every row of an output, by its key.
fn rows(job: &Job, out: &str) -> BTreeMap<String, Said> {
    let mut rows = BTreeMap::new();
    let shards = job.files(&format!("{out}/tokens"));
    for (name, _) in shards {
        let file = fs::File::open(job.path(&format!("{out}/tokens/{name}"))).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            let tokens: FixedSizeListArray =
                batch.column_by_name("tokens").unwrap().as_fixed_size_list().clone();
            let columns = ["key", "label", "caption", "member", "meta_json"].map(text);
            for i in 0..batch.num_rows() {
                let cell = |c: usize| columns[c].is_valid(i).then(|| columns[c].value(i).to_string());
                let said = Said {
                    tokens: tokens.value(i).as_primitive::<UInt16Type>().values().to_vec(),
                    label: cell(1),
                    caption: cell(2),
                    member: cell(3),
                    meta: cell(4),
                };
                assert!(rows.insert(cell(0).unwrap(), said).is_none(), "a key twice");
            }
        }
    }
    rows
}

/// The images of a job as samples in the order of their files' names.
fn samples(job: &Job) -> Vec<Sample> {
    let sample = |(index, (name, bytes)): (usize, (String, Vec<u8>))| {
        let (stem, extension) = name.rsplit_once('.').unwrap();
        Sample {
            key: stem.replace('/', "_"),
            extension: extension.to_string(),
            bytes,
            label: ["cat", "dog"][index % 2].to_string(),
            caption: format!("picture {index}, 猫"),
        }
    };
    job.files("images").into_iter().enumerate().map(sample).collect()
}

/// Tokenizes `input` and gives what came of it.
fn tokenized(job: &Job, input: &str, out: &str) -> BTreeMap<String, Said> {
    job.expect(0, &format!("tokenize {input} --out {out} {FLAGS}"));
    job.expect(0, &format!("verify {out}"));
    rows(job, out)
}

#[test]
fn the_same_images_are_the_same_tokens_from_every_source() {
    let job = Job::new(50).trained();
    let samples = samples(&job);
    let folder = tokenized(&job, "images", "of-folder");
    let tokens: Vec<&Vec<u16>> = folder.values().map(|said| &said.tokens).collect();
    assert_eq!(tokens.len(), 50);
    let archive = tar(&members(&samples));
    let halves = [tar(&members(&samples[..21])), tar(&members(&samples[21..]))];
    fs::create_dir(job.path("tars")).unwrap();
    fs::write(job.path("tars/s-000.tar"), &halves[0]).unwrap();
    fs::write(job.path("tars/s-001.tar"), &halves[1]).unwrap();
    fs::write(job.path("all.tar"), &archive).unwrap();
    let mut inputs: Vec<(String, String)> = vec![
        ("tar".into(), "all.tar".into()),
        ("folder of tars".into(), "tars".into()),
        ("tars by pattern".into(), "tars/s-{000..001}.tar".into()),
    ];
    for extension in ["gz", "bz2", "xz", "zst"] {
        let name = format!("all.tar.{extension}");
        fs::write(job.path(&name), compressed(extension, &archive)).unwrap();
        inputs.push((name.clone(), name));
    }
    for (name, layout) in [
        ("struct", Layout::Struct),
        ("binary", Layout::Binary),
        ("large_binary", Layout::LargeBinary),
    ] {
        table(&job.path(&format!("{name}.parquet")), &samples, layout, 7);
        inputs.push((format!("Parquet, {name}"), format!("{name}.parquet")));
    }
    println!("{:24}{:>8}{:>8}{:>10}{:>8}", "source", "images", "tokens", "captions", "labels");
    let line = |name: &str, said: &BTreeMap<String, Said>| {
        let count = |some: &dyn Fn(&Said) -> bool| said.values().filter(|s| some(s)).count();
        println!(
            "{name:24}{:>8}{:>8}{:>10}{:>8}",
            said.len(),
            "equal",
            count(&|s| s.caption.is_some()),
            count(&|s| s.label.is_some())
        );
    };
    line("folder", &folder);
    for (number, (name, input)) in inputs.iter().enumerate() {
        let out = format!("out-{number}");
        let said = tokenized(&job, input, &out);
        let in_order: Vec<&Vec<u16>> = samples.iter().map(|s| &said[&s.key].tokens).collect();
        assert!(in_order == tokens, "{name}: other tokens");
        for sample in &samples {
            let of = &said[&sample.key];
            assert_eq!(of.caption.as_deref(), Some(&*sample.caption), "{name}");
            assert_eq!(of.label.as_deref(), Some(&*sample.label), "{name}");
            assert!(of.member.is_some(), "{name}");
        }
        line(name, &said);
        // Once more it is the same, and made again the same bytes.
        job.expect(0, &format!("tokenize {input} --out {out} {FLAGS}"));
        job.expect(0, &format!("tokenize {input} --out again-{number} {FLAGS} --threads 1"));
        job.assert_same(&out, &format!("again-{number}"));
    }
    // A list of one image a row is called by the file and the row's number.
    table(&job.path("list.parquet"), &samples, Layout::List, 50);
    let said = tokenized(&job, "list.parquet", "out-list");
    let in_order: Vec<&Vec<u16>> =
        samples.iter().map(|s| &said[&format!("{}/0", s.key)].tokens).collect();
    assert!(in_order == tokens);
    line("Parquet, list", &said);
    // Members of a zip and rows of a list are called as files are.
    fs::write(job.path("all.zip"), zip(&job.files("images"))).unwrap();
    let said = tokenized(&job, "all.zip", "out-zip");
    let plain = |said: &BTreeMap<String, Said>| -> Vec<(String, Vec<u16>)> {
        said.iter().map(|(key, said)| (key.clone(), said.tokens.clone())).collect()
    };
    assert_eq!(plain(&said), plain(&folder));
    line("zip", &said);
    let mut csv = String::from("image_path,caption,label\n");
    for ((name, _), sample) in job.files("images").iter().zip(&samples) {
        csv += &format!("images/{name},\"{}\",{}\n", sample.caption, sample.label);
    }
    fs::write(job.path("all.csv"), csv).unwrap();
    let said = tokenized(&job, "all.csv", "out-csv");
    let keys = |said: &BTreeMap<String, Said>| -> Vec<String> { said.keys().cloned().collect() };
    let below: Vec<String> = folder.keys().map(|key| format!("images/{key}")).collect();
    assert_eq!(keys(&said), below);
    assert!(said.values().map(|said| &said.tokens).eq(folder.values().map(|said| &said.tokens)));
    line("CSV", &said);
    // Files with texts beside them.
    for ((name, _), sample) in job.files("images").iter().zip(&samples) {
        let path = job.path(&format!("images/{name}")).with_extension("txt");
        fs::write(path, &sample.caption).unwrap();
    }
    let said = tokenized(&job, "images", "out-texts");
    assert_eq!(plain(&said), plain(&folder));
    let captions: Vec<&str> = samples.iter().map(|s| &*s.caption).collect();
    assert!(said.values().map(|said| said.caption.as_deref().unwrap()).eq(captions));
    line("folder with texts", &said);
    // The output that was begun without them stays as it is, and says so.
    let told = job.expect(0, &format!("tokenize images --out of-folder {FLAGS}")).stderr;
    assert!(told.contains("50 images with captions, labels or metadata beside them"), "{told}");
}

#[test]
fn facts_are_taken_from_the_columns_that_are_named() {
    let job = Job::new(4).trained();
    table(&job.path("t.parquet"), &samples(&job), Layout::Struct, 2);
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
    let samples = samples(&job);
    let whole = tar(&members(&samples));
    fs::write(job.path("whole.tar"), &whole).unwrap();
    let all = tokenized(&job, "whole.tar", "whole");
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 2);
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
    let samples = samples(&job);
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
    let samples = samples(&job);
    for (index, some) in samples.chunks(15).enumerate() {
        let packed = compressed("zst", &tar(&members(some)));
        fs::write(job.path(&format!("{index}.tar.zst")), packed).unwrap();
    }
    let line = format!("tokenize 0.tar.zst 1.tar.zst 2.tar.zst {FLAGS} --shard-rows 4");
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
    let samples = samples(&job);
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
    let archive = tar(&members(&samples(&job)));
    fs::write(job.path("a.tar"), &archive).unwrap();
    fs::write(job.path("b.tar"), &archive).unwrap();
    let done = job.expect(2, &format!("tokenize a.tar b.tar --out out {FLAGS}"));
    done.assert_one_line(&["'0000.png' in file://", "a.tar", "b.tar", "keys must differ"]);
    assert!(!job.path("out/plan.parquet").exists());
}

#[test]
fn containers_beside_images_are_passed_over_with_a_word() {
    let job = Job::new(6).trained();
    fs::write(job.path("images/copy.tar"), tar(&members(&samples(&job)))).unwrap();
    let done = job.expect(0, &format!("tokenize images --out out {FLAGS}"));
    assert!(done.stderr.contains("1 tar, Parquet or zip beside images"), "{}", done.stderr);
    assert_eq!(rows(&job, "out").len(), 6);
    job.expect(0, &format!("tokenize images/copy.tar --out tar {FLAGS}"));
    let shard = "out/tokens/part-00000.parquet";
    let done = job.expect(2, &format!("tokenize {shard} --out no {FLAGS}"));
    done.assert_one_line(&["written by vqtok"]);
}
