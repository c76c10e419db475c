//! Drives every command over an output that is laid out as one of more than 10,000 partitions is: its
//! plan in several files, its shards in folders, `dataset.json` in parts. `VQTOK_SCALE` makes a few
//! images such an output. What is in it is what an output in one folder has.

use crate::support::appends;
use crate::support::containers;
use crate::support::*;
use appends::{append, appended};

use std::fs;
use std::path::Path;
use std::process::Command;

use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::RowAccessor;
use serde_json::Value;

/// Three partitions to a file of the plan, two to a folder.
const SCALE: &str = "3:2";
const LINE: &str = "tokenize images --model model --shard-rows 4 --batch-size 2 --threads 1";

fn large(job: &Job, line: &str) -> Command {
    let mut command = job.command(line);
    command.env("VQTOK_SCALE", SCALE);
    command
}

fn run(job: &Job, line: &str) -> Done {
    Done::of(large(job, line).output().unwrap())
}

fn expect(job: &Job, code: i32, line: &str) -> Done {
    let done = run(job, line);
    assert_eq!(done.code, code, "vqtok {line}\n{}\n{}", done.stdout, done.stderr);
    done
}

/// 40 pictures and a broken one, `out` of them as a large output, and `flat` as one in one folder.
fn scene() -> Job {
    let job = Job::new(40).trained();
    fs::write(job.path("images/dog/broken.png"), b"\x89PNG").unwrap();
    expect(&job, 1, &format!("{LINE} --out out"));
    job.expect(1, &format!("{LINE} --out flat"));
    job
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn names(job: &Job, folder: &str) -> Vec<String> {
    job.files(folder).into_iter().map(|(name, _)| name).collect()
}

/// The shards of an output with the bytes, by partition.
fn shards(job: &Job, out: &str) -> Vec<(String, Vec<u8>)> {
    let name = |path: &str| path.rsplit('/').next().unwrap().to_string();
    let mut all: Vec<_> =
        job.files(&format!("{out}/tokens")).into_iter().map(|(path, b)| (name(&path), b)).collect();
    all.sort();
    all
}

#[test]
fn shards_lie_in_folders_and_are_those_of_one_folder() {
    let job = scene();
    let tokens = names(&job, "out/tokens");
    assert_eq!(tokens.len(), 11);
    assert_eq!(tokens[0], "00000/part-00000.parquet");
    assert_eq!(tokens[10], "00005/part-00010.parquet");
    assert_eq!(names(&job, "out/plan").len(), 4);
    assert_eq!(names(&job, "out/dataset").len(), 12);
    assert!(shards(&job, "out") == shards(&job, "flat"), "a shard differs");
    let (out, flat) = (json(&job.path("out/dataset.json")), json(&job.path("flat/dataset.json")));
    assert_eq!((&out["schema"], &flat["schema"]), (&"dataset.v3".into(), &"dataset.v1".into()));
    assert_eq!((&out["totals"], &out["classes"]), (&flat["totals"], &flat["classes"]));
    assert_eq!(out["plan"]["digest"], flat["plan"]["digest"]);
    assert_eq!(out["codebook"]["levels"], flat["codebook"]["levels"]);
    let part = json(&job.path("out").join(out["parts"][1]["shards"]["path"].as_str().unwrap()));
    let without_paths = |shard: &Value| {
        let mut shard = shard.clone();
        for kind in ["tokens", "failures", "codebook"] {
            shard[kind]["path"] = Value::Null;
        }
        shard
    };
    for (at, shard) in part["shards"].as_array().unwrap().iter().enumerate() {
        assert_eq!(without_paths(shard), without_paths(&flat["shards"][2 + at]));
    }
}

/// Every name of a value stands in its schema, and what must be there is.
fn must_be_described(value: &Value, rule: &Value, all: &Value, at: &str) {
    if let Some(place) = rule["$ref"].as_str() {
        return must_be_described(value, all.pointer(&place[1..]).unwrap(), all, at);
    }
    for name in rule["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{at} has no {name}");
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        if let Some(rules) = rule.get("properties") {
            assert!(rules.get(name).is_some(), "{at}/{name} isn't described");
            must_be_described(inner, &rules[name], all, &format!("{at}/{name}"));
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        must_be_described(inner, &rule["items"], all, at);
    }
}

#[test]
fn what_is_written_is_as_its_schemas_say() {
    let job = scene();
    let schema = |word: &str| {
        json(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{word}.json")))
    };
    let dataset = json(&job.path("out/dataset.json"));
    must_be_described(&dataset, &schema("dataset.v3"), &schema("dataset.v3"), "dataset.json");
    let parts = dataset["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 6);
    for part in parts {
        let name = part["shards"]["path"].as_str().unwrap();
        let list = json(&job.path("out").join(name));
        assert_eq!(list["schema"], "shards.v1");
        must_be_described(&list, &schema("shards.v1"), &schema("shards.v1"), name);
    }
    let file = fs::File::open(job.path("out/plan.parquet")).unwrap();
    let root = SerializedFileReader::new(file).unwrap();
    let footer = root.metadata().file_metadata();
    assert_eq!(footer.num_rows(), 11);
    let described = schema("plan.v4");
    let keys: Vec<&str> = described["metadata"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["key"].as_str())
        .collect();
    let written = footer.key_value_metadata().unwrap().iter().map(|entry| entry.key.as_str());
    let unknown: Vec<_> =
        written.filter(|key| *key != "ARROW:schema" && !keys.contains(key)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let rows: Vec<i64> =
        root.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(0).unwrap()).collect();
    assert_eq!(rows, [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1]);
}

#[test]
fn a_worker_that_comes_late_leaves_a_finished_output_alone() {
    let job = scene();
    let whole = job.files("out");
    let plan = vqtok::internals::tokens::Plan::open(&job.path("out")).unwrap();
    let mode = vqtok::internals::tokens::CommitMode::New;
    let mut writer = vqtok::internals::tokens::PartitionWriter::create(&plan, 3, mode).unwrap();
    for row in plan.partition(3).unwrap() {
        let (ordinal, key, uri) = (row.ordinal, row.key, row.uri);
        let (stage, error) = ("process".into(), "given up".into());
        let failed = vqtok::internals::tokens::FailureRow { ordinal, key, uri, stage, error };
        writer.push(vqtok::internals::tokens::Outcome::Failed(failed)).unwrap();
    }
    let receipt = writer.close().unwrap();
    assert!(format!("{:?}", receipt.commit).starts_with("Lost"), "{receipt:?}");
    assert!(job.files("out") == whole);
    job.expect(0, "verify out");
}

#[test]
fn every_reader_follows() {
    let job = scene();
    // A copy of the shards alone is read as well.
    for (name, bytes) in job.files("out/tokens") {
        let path = job.path("copy").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(appends::codes(&job, "copy"), appends::codes(&job, "flat"));
    assert_eq!(appends::codes(&job, "out/tokens"), appends::codes(&job, "flat"));
    job.expect(0, "verify out");
    job.expect(0, "inspect out");
    job.expect(1, "finalize out");
    job.expect(0, "diff out flat");
    for out in ["out", "flat"] {
        job.expect(0, &format!("report {out} --out {out}.html"));
        let done = job.run(&format!("audit {out} --json"));
        assert!(!done.stdout.contains("passed over"), "{}", done.stdout);
        fs::write(job.path(&format!("{out}.json")), done.stdout.replace(out, "")).unwrap();
    }
    let [out, flat] = ["out.json", "flat.json"].map(|name| fs::read(job.path(name)).unwrap());
    assert_eq!(out.len(), flat.len(), "{}", String::from_utf8_lossy(&out));
    for (to, more) in [("jsonl", " --fields tokens,key"), ("webdataset", "")] {
        for out in ["out", "flat"] {
            job.expect(0, &format!("export {out} --to {to} --out {to}-{out}{more}"));
        }
        let rows = |out: &str| {
            let files = job.files(&format!("{to}-{out}")).into_iter();
            files.filter(|(name, _)| !name.ends_with("json")).collect::<Vec<_>>()
        };
        assert!(rows("out") == rows("flat"), "{to}");
    }
    job.expect(0, "decode out --model model --out pictures-out");
    job.expect(0, "decode flat --model model --out pictures-flat");
    job.assert_same("pictures-out", "pictures-flat");
    // What is written says how it lies: the usual program goes on with it.
    let before = job.files("out");
    job.expect(1, &format!("{LINE} --out out"));
    job.expect(1, &format!("{LINE} --out out --retry-failed"));
    assert!(job.files("out") == before);
    job.expect(0, "plan images --diff out");
    job.expect(2, "tokenize out --model model --out nested");
}

#[test]
fn damage_is_found_and_repaired() {
    let job = scene();
    let whole = job.files("out");
    let victims: Vec<String> = names(&job, "out")
        .into_iter()
        .filter(|name| !name.ends_with(".lock"))
        .filter(|name| {
            ["plan", "dataset", "codebook.parquet"].iter().any(|at| name.starts_with(at))
                || name.contains("part-00004")
                || name.contains("part-00010")
        })
        .collect();
    assert!(victims.len() > 20, "{victims:?}");
    for name in victims {
        let path = job.path("out").join(&name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
        assert_eq!(job.run("verify out").code, 1, "{name} is changed and nobody says so");
        let done = run(&job, "repair out --model model");
        assert!([0, 1].contains(&done.code), "{name}\n{}{}", done.stdout, done.stderr);
        assert!(job.files("out") == whole, "{name} isn't repaired");
        fs::remove_file(&path).unwrap();
        assert_eq!(job.run("verify out").code, 1, "{name} is gone and nobody says so");
        let done = run(&job, "repair out --model model");
        assert!([0, 1].contains(&done.code), "{name}\n{}{}", done.stdout, done.stderr);
        assert!(job.files("out") == whole, "{name} isn't there again");
    }
    fs::write(job.path("out/tokens/00001/copy.parquet"), b"x").unwrap();
    fs::write(job.path("out/dataset/notes.txt"), b"x").unwrap();
    let seen = job.run("verify out");
    assert!(seen.stdout.contains("tokens/00001/copy.parquet"), "{}", seen.stdout);
    assert!(seen.stdout.contains("dataset/notes.txt"), "{}", seen.stdout);
}

#[test]
fn a_kill_at_any_file_operation_costs_nothing() {
    let job = Job::new(17).trained();
    expect(&job, 0, &format!("{LINE} --out whole"));
    assert!(names(&job, "whole/plan").len() == 2 && names(&job, "whole/dataset").len() == 6);
    for nth in 1.. {
        let mut command = large(&job, &format!("{LINE} --out cut"));
        let killed = command.env("VQTOK_FAILPOINT", format!("any:{nth}")).output().unwrap();
        if killed.status.success() {
            assert!(nth > 100, "only {nth} operations were met");
            break;
        }
        if job.path("cut/plan.parquet").exists() {
            let seen = job.run("verify cut --partial");
            assert_eq!(seen.code, 0, "any:{nth}: {}{}", seen.stdout, seen.stderr);
        }
        expect(&job, 0, &format!("{LINE} --out cut"));
        job.assert_same("whole", "cut");
        fs::remove_dir_all(job.path("cut")).unwrap();
    }
}

#[test]
fn several_workers_make_the_same_output_and_fold_their_shares() {
    let job = scene();
    expect(&job, 0, &format!("{LINE} --out shared --plan-only"));
    for share in ["0/2", "1/2"] {
        let line = format!("{LINE} --out shared --partition {share}");
        assert!([0, 1].contains(&run(&job, &line).code));
    }
    job.assert_same("out", "shared");
    // Folds of workers, of what is whole: byte for byte those of who finishes.
    fs::remove_file(job.path("shared/dataset.json")).unwrap();
    fs::remove_file(job.path("shared/codebook.parquet")).unwrap();
    fs::remove_dir_all(job.path("shared/dataset")).unwrap();
    fs::remove_file(job.path("shared/tokens/00001/part-00003.parquet")).unwrap();
    for (share, folded, of) in [("0/2", 3, 3), ("1/2", 2, 3)] {
        let done = job.expect(0, &format!("finalize shared --partition {share} --json"));
        let event = &done.events("folded")[0];
        assert_eq!((&event["folded"], &event["folders"]), (&folded.into(), &of.into()));
    }
    assert!(!job.path("shared/dataset.json").exists());
    assert_eq!(names(&job, "shared/dataset").len(), 10);
    job.expect(0, "verify shared --partial");
    // A partition that is made again takes the fold with it that it was in.
    fs::remove_file(job.path("shared/tokens/00002/part-00004.parquet")).unwrap();
    expect(&job, 1, &format!("{LINE} --out shared"));
    job.assert_same("out", "shared");
}

#[test]
fn images_are_appended_into_folders_of_their_own() {
    let job = Job::new(18).trained();
    fs::create_dir(job.path("later")).unwrap();
    for (index, name) in appends::names(&job).iter().enumerate().skip(10) {
        fs::rename(job.path("images").join(name), job.path(&format!("later/{index}"))).unwrap();
    }
    // Three partitions lie together; what is appended goes beyond.
    expect(&job, 0, &format!("{LINE} --out out"));
    assert_eq!(names(&job, "out/tokens")[0], "part-00000.parquet");
    let before = job.files("out");
    for (range, partitions) in [(10..14, 4), (14..18, 5)] {
        appends::arrive(&job, range);
        assert_eq!(appended(&expect(&job, 0, &append("images", "out")))[0], 4);
        assert_eq!(names(&job, "out/tokens").len(), partitions);
        job.expect(0, "verify out");
        job.expect(0, "inspect out");
    }
    let tokens = names(&job, "out/tokens");
    assert!(tokens.contains(&"00001/part-00003.parquet".to_string()), "{tokens:?}");
    assert!(tokens.contains(&"00002/part-00004.parquet".to_string()), "{tokens:?}");
    let now = job.files("out");
    let kept = |name: &str| ["tokens/part", "plan.parquet"].iter().any(|at| name.starts_with(at));
    for file in before.iter().filter(|(name, _)| kept(name)) {
        assert!(now.contains(file), "{} has changed", file.0);
    }
    job.expect(0, &format!("{LINE} --out fresh"));
    assert_eq!(appends::codes(&job, "out"), appends::codes(&job, "fresh"));
    expect(&job, 0, &append("images", "out"));
    assert!(job.files("out") == now);
}

#[test]
fn a_lost_plan_comes_back_as_its_shards_lie() {
    let job = scene();
    for out in ["out", "flat"] {
        let whole = job.files(out);
        fs::remove_file(job.path(out).join("plan.parquet")).unwrap();
        expect(&job, 1, &format!("{LINE} --out {out}"));
        assert!(job.files(out) == whole, "{out}");
    }
}

/// Five tars of four pictures each, in `tars`; one is compressed, one is cut.
fn tars() -> Job {
    let job = Job::new(24).trained();
    fs::create_dir(job.path("tars")).unwrap();
    for (number, name) in ["a.tar", "b.tar", "c.tar.gz", "d.tar", "e.tar"].iter().enumerate() {
        let mut files: Vec<_> = job.files("images").into_iter().skip(number * 4).take(4).collect();
        files.push((format!("notes-{number}.log"), b"beside no image".to_vec()));
        let bytes = match *name {
            "c.tar.gz" => containers::compressed("gz", &containers::tar(&files)),
            "d.tar" => containers::tar(&files[..1])[..1000].to_vec(),
            _ => containers::tar(&files),
        };
        fs::write(job.path("tars").join(name), bytes).unwrap();
    }
    // A file that was written just now may be written again unseen.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    job
}

const TARS: &str = "tokenize tars --model model --shard-rows 3 --batch-size 2 --threads 1 --json";

#[test]
fn workers_list_an_input_in_shares_and_the_plan_is_the_same() {
    let job = tars();
    let plain = run(&job, &format!("{TARS} --out plain --plan-only"));
    for (share, ours, listed) in [("0/2", 3, 3), ("1/2", 2, 1)] {
        let done = expect(&job, 0, &format!("{TARS} --out out --list-only --partition {share}"));
        let event = &done.events("listed")[0];
        assert_eq!((&event["ours"], &event["listed"]), (&ours.into(), &listed.into()));
        assert_eq!(event["files"], 5);
    }
    assert_eq!(names(&job, "out/listed").len(), 8);
    // What was listed isn't opened again: who takes it doesn't see what is in a file now.
    let a = job.path("tars/a.tar");
    let (bytes, written) = (fs::read(&a).unwrap(), fs::metadata(&a).unwrap().modified().unwrap());
    fs::write(&a, vec![0; bytes.len()]).unwrap();
    fs::File::options().write(true).open(&a).unwrap().set_modified(written).unwrap();
    let out = run(&job, &format!("{TARS} --out out --plan-only"));
    assert_eq!((plain.code, out.code), (0, 0), "{}{}", plain.stderr, out.stderr);
    assert_eq!(out.events("plan"), plain.events("plan"));
    job.assert_same("plain", "out");
}

#[test]
fn a_list_with_a_damaged_bit_is_none_and_is_made_anew() {
    let job = tars();
    let plain = expect(&job, 0, &format!("{TARS} --out plain --plan-only"));
    expect(&job, 0, &format!("{TARS} --out list --list-only"));
    let lists = names(&job, "list/listed");
    let list = lists.iter().find(|name| name.ends_with(".parquet")).unwrap();
    let length = fs::read(job.path("list/listed").join(list)).unwrap().len();
    for at in (0..length).step_by(length / 40) {
        expect(&job, 0, &format!("{TARS} --out out{at} --list-only"));
        let path = job.path(&format!("out{at}/listed")).join(list);
        let mut bad = fs::read(&path).unwrap();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        if at % 2 == 0 {
            // Whoever lists makes it anew.
            expect(&job, 0, &format!("{TARS} --out out{at} --list-only"));
            assert_ne!(fs::read(&path).unwrap(), bad, "byte {at}");
        }
        let out = expect(&job, 0, &format!("{TARS} --out out{at} --plan-only"));
        assert_eq!(out.events("plan"), plain.events("plan"), "byte {at}");
    }
}

#[test]
fn a_file_that_was_written_since_it_was_listed_is_opened() {
    let job = tars();
    expect(&job, 0, &format!("{TARS} --out out --list-only"));
    let a = job.path("tars/a.tar");
    let length = fs::metadata(&a).unwrap().len() as usize;
    fs::write(&a, vec![0; length]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let out = expect(&job, 0, &format!("{TARS} --out out --plan-only"));
    expect(&job, 0, &format!("{TARS} --out fresh --plan-only"));
    assert_eq!(
        fs::read(job.path("out/plan.parquet")).ok(),
        fs::read(job.path("fresh/plan.parquet")).ok()
    );
    assert_eq!(out.events("plan")[0]["images"], 14);
    // What nobody took goes when the output is finished.
    assert_eq!(names(&job, "out/listed").len(), 2);
    run(&job, &format!("{TARS} --out out"));
    assert!(!job.path("out/listed").exists());
    job.expect(0, "verify out");
}

#[test]
fn a_kill_at_any_file_operation_of_listing_costs_nothing() {
    let job = tars();
    expect(&job, 0, &format!("{TARS} --out whole --plan-only"));
    for nth in 1.. {
        let mut command = large(&job, &format!("{TARS} --out cut --list-only"));
        let killed = command.env("VQTOK_FAILPOINT", format!("any:{nth}")).output().unwrap();
        expect(&job, 0, &format!("{TARS} --out cut --plan-only"));
        let plans =
            ["cut", "whole"].map(|out| fs::read(job.path(out).join("plan.parquet")).unwrap());
        assert!(plans[0] == plans[1], "any:{nth}");
        fs::remove_dir_all(job.path("cut")).unwrap();
        if killed.status.success() {
            assert!(nth > 30, "only {nth} operations were met");
            break;
        }
    }
}
