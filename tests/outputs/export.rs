//! Drives `export` as a user does: what is written, that a killed or repeated run comes to the same
//! bytes, and what is refused.

use crate::support::*;

use std::collections::BTreeMap;

/// Six images and their tokens as `out`, two rows a shard.
fn job() -> Job {
    let job = Job::new(6).trained();
    job.expect(0, "tokenize images --model model --out out --shard-rows 2");
    job
}

/// The members of a tar, in order.
fn members(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut at, mut members) = (0, Vec::new());
    while tar[at] != 0 {
        let name = tar[at..at + 100].split(|byte| *byte == 0).next().unwrap();
        let size = std::str::from_utf8(&tar[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        let content = tar[at + 512..at + 512 + size].to_vec();
        members.push((String::from_utf8(name.to_vec()).unwrap(), content));
        at += 512 + size.next_multiple_of(512);
    }
    members
}

/// Samples of all tars of a folder: key, class, codes.
fn samples(job: &Job, folder: &str) -> Vec<(String, i64, Vec<u8>)> {
    let mut samples: BTreeMap<String, (String, i64, Vec<u8>)> = BTreeMap::new();
    for (name, tar) in job.files(folder).into_iter().filter(|(name, _)| name.ends_with(".tar")) {
        for (member, content) in members(&tar) {
            let (number, field) = member.split_once('.').unwrap();
            let sample = samples.entry(number.to_string()).or_default();
            match field {
                "cls" => sample.1 = std::str::from_utf8(&content).unwrap().parse().unwrap(),
                "tokens.npy" => {
                    let array = npy(&content);
                    assert_eq!((array.shape, &*array.dtype), (vec![4, 4], "|u1"), "{name}");
                    sample.2 = array.data;
                }
                "json" => {
                    let about: serde_json::Value = serde_json::from_slice(&content).unwrap();
                    sample.0 = about["key"].as_str().unwrap().to_string();
                }
                other => panic!("{name}: {other}"),
            }
        }
    }
    samples.into_values().collect()
}

#[test]
fn tars_hold_every_row_in_order_with_its_class() {
    let job = job();
    let done = job.expect(0, "export out --to webdataset --out tars --shard-rows 4 --json");
    let exported = &done.events("exported")[0];
    assert_eq!(
        (&exported["rows"], &exported["files"], &exported["tokens"]),
        (&6.into(), &2.into(), &96.into())
    );
    let names: Vec<String> = job.files("tars").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["export.json", "labels.json", "tokens-000000.tar", "tokens-000001.tar"]);
    let found: Vec<(String, i64)> =
        samples(&job, "tars").into_iter().map(|(key, class, _)| (key, class)).collect();
    let expected = [
        ("0000.png", -1),
        ("0003.qoi", -1),
        ("cat/0001.bmp", 0),
        ("cat/0004.png", 0),
        ("dog/0002.ppm", 1),
        ("dog/0005.bmp", 1),
    ];
    assert_eq!(found, expected.map(|(key, class)| (key.to_string(), class)));
    assert_eq!(
        std::fs::read_to_string(job.path("tars/labels.json")).unwrap(),
        "{\n  \"cat\": 0,\n  \"dog\": 1\n}\n"
    );
    // Once more there is nothing to do, and threads make no difference.
    let again = job.expect(0, "export out --to webdataset --out tars --shard-rows 4");
    assert!(again.stdout.contains("all of it was there"), "{}", again.stdout);
    job.expect(0, "export out --to webdataset --out one --shard-rows 4 --threads 1");
    job.assert_same("tars", "one");
}

#[test]
fn an_export_goes_on_to_the_same_bytes_and_keeps_foreign_files() {
    let job = job();
    let line = |out: &str| {
        format!("export out --to webdataset --out {out} --shard-rows 1 --order shuffle=3")
    };
    job.expect(0, &line("whole"));
    // Killed at each operation on a file in turn.
    let mut nth = 1;
    loop {
        let out = format!("killed{nth}");
        let mut command = job.command(&line(&out));
        let killed = command.env("VQTOK_FAILPOINT", format!("any:{nth}")).output().unwrap();
        job.expect(0, &line(&out));
        job.assert_same("whole", &out);
        if killed.status.success() {
            break;
        }
        nth += 1;
    }
    assert!(nth > 30, "{nth} operations");
    // A file that is gone comes back; one of other bytes in its place stays.
    std::fs::remove_file(job.path("whole/tokens-000004.tar")).unwrap();
    job.expect(0, &line("whole"));
    job.assert_same("whole", "killed1");
    std::fs::write(job.path("whole/tokens-000004.tar"), b"theirs").unwrap();
    job.expect(2, &line("whole")).assert_one_line(&["tokens-000004.tar", "isn't this export's"]);
    assert_eq!(std::fs::read(job.path("whole/tokens-000004.tar")).unwrap(), b"theirs");
    job.expect(2, "export out --to megatron --out images")
        .assert_one_line(&["images/", "new or empty"]);
    job.expect(2, "export out --to webdataset --out killed1 --shard-rows 1").assert_one_line(&[
        "killed1/export.json",
        "order \"shuffle=3\"",
        "another folder",
    ]);
}

#[test]
fn splits_and_shuffles_hold_every_row_once() {
    let job = job();
    job.expect(0, "export out --to webdataset --out plain");
    job.expect(0, "export out --to webdataset --out shuffled --order shuffle=1");
    job.expect(0, "export out --to webdataset --out split --split train=0.5,val=0.5");
    let sorted = |folder: &str| {
        let mut rows = samples(&job, folder);
        rows.sort();
        rows
    };
    let (plain, shuffled) = (samples(&job, "plain"), samples(&job, "shuffled"));
    assert_ne!(plain, shuffled);
    assert_eq!(sorted("plain"), sorted("shuffled"));
    let (train, val) = (samples(&job, "split/train"), samples(&job, "split/val"));
    assert!(!train.is_empty() && !val.is_empty(), "{} and {}", train.len(), val.len());
    let mut both = [train, val].concat();
    both.sort();
    assert_eq!(both, sorted("plain"));
}

#[test]
fn megatron_has_offsets_classes_and_special_ids() {
    let job = job();
    job.expect(2, "export out --to megatron --out ids --class-tokens 20")
        .assert_one_line(&["2 rows have no label, the first: '0000.png'", "--class-tokens"]);
    let line = "export out --to megatron --out ids --vocab-offset 1000 --bos 1 --eos 2";
    job.expect(0, line);
    job.expect(0, "export out --to webdataset --out tars");
    let ids = std::fs::read(job.path("ids/tokens.bin")).unwrap();
    let ids: Vec<u16> = ids.as_chunks::<2>().0.iter().map(|id| u16::from_le_bytes(*id)).collect();
    let mut expected = Vec::new();
    for (_, _, codes) in samples(&job, "tars") {
        expected.push(1);
        expected.extend(codes.iter().map(|code| 1000 + u16::from(*code)));
        expected.push(2);
    }
    assert_eq!(ids, expected);
    assert_eq!(std::fs::read(job.path("ids/tokens.idx")).unwrap().len(), 34 + 12 * 6 + 8 * 7);
    job.expect(2, "export out --to webdataset --out no --vocab-offset 5")
        .assert_one_line(&["--vocab-offset", "webdataset"]);
    job.expect(2, "export out --to megatron --out no --eos 3")
        .assert_one_line(&["--eos 3", "0 to 15"]);
    assert!(!job.path("no").exists());
}

#[test]
fn classes_stand_before_the_codes_by_a_map_of_labels() {
    let job = Job::new(6).trained();
    std::fs::remove_file(job.path("images/0000.png")).unwrap();
    std::fs::remove_file(job.path("images/0003.qoi")).unwrap();
    job.expect(0, "tokenize images --model model --out out");
    std::fs::write(job.path("map.json"), r#"{"dog": 5, "cat": 3}"#).unwrap();
    let line = "export out --to megatron --out ids --class-tokens 20 --label-map map.json";
    job.expect(0, line);
    let ids = std::fs::read(job.path("ids/tokens.bin")).unwrap();
    let starts: Vec<u8> = ids.chunks(34).map(|row| row[0]).collect();
    assert_eq!(starts, [23, 23, 25, 25]);
    let labels = std::fs::read_to_string(job.path("ids/labels.json")).unwrap();
    assert_eq!(labels, "{\n  \"cat\": 3,\n  \"dog\": 5\n}\n");
    // Another map is another export.
    std::fs::write(job.path("map.json"), r#"{"dog": 4, "cat": 3}"#).unwrap();
    job.expect(2, line).assert_one_line(&["ids/export.json", "labels"]);
}

#[test]
fn a_source_that_is_not_whole_is_refused_unless_it_may_be_partial() {
    let job = job();
    let shard = job.path("out/tokens/part-00001.parquet");
    std::fs::remove_file(&shard).unwrap();
    job.expect(2, "export out --to webdataset --out tars").assert_one_line(&[
        "part-00001.parquet",
        "vqtok repair",
        "--partial",
    ]);
    assert!(!job.path("tars").exists());
    let done = job.expect(1, "export out --to webdataset --out tars --partial");
    assert!(done.stdout.contains("4 rows in 1 file"), "{}", done.stdout);
    assert_eq!(samples(&job, "tars").len(), 4);
}

#[test]
fn a_shard_that_lost_a_bit_is_never_exported() {
    let job = job();
    let shard = job.path("out/tokens/part-00001.parquet");
    let whole = std::fs::read(&shard).unwrap();
    for at in (10..whole.len()).step_by(whole.len() / 7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&shard, &bytes).unwrap();
        let refused = job.expect(2, "export out --to npy --out never");
        refused.assert_one_line(&["part-00001.parquet", "`vqtok verify` tells what is wrong"]);
        assert!(!job.path("never").exists());
    }
    // Without its end nothing of it can be read: that is told, and is no success.
    std::fs::write(&shard, &whole[..whole.len() - 9]).unwrap();
    let done =
        job.expect(1, "export out --to jsonl --fields key,tokens --out part --partial --json");
    assert!(done.events("exported")[0]["left_out"].as_u64().unwrap() > 0);
    job.expect(0, "repair out --model model");
    job.expect(0, "export out --to npy --out never");
}

#[test]
fn classes_keep_their_names_where_all_images_of_one_failed() {
    let job = Job::new(6).trained();
    for (class, image) in [("1", "0000.png"), ("2", "none"), ("3", "0000.png")] {
        std::fs::create_dir_all(job.path(&format!("few/{class}"))).unwrap();
        let bytes = std::fs::read(job.path("images").join(image)).unwrap_or_default();
        std::fs::write(job.path(&format!("few/{class}/a.png")), bytes).unwrap();
    }
    job.expect(1, "tokenize few --model model --out few-out");
    job.expect(0, "export few-out --to hf --out hf --split train=0.98,val=0.02");
    let info = std::fs::read(job.path("hf/train/dataset_info.json")).unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info["features"]["label"]["names"], serde_json::json!(["1", "2", "3"]));
    // A split that no image fell into isn't promised.
    let splits = std::fs::read_to_string(job.path("hf/dataset_dict.json")).unwrap();
    assert_eq!(splits, "{\"splits\":[\"train\"]}");
    std::fs::write(job.path("map"), "{\"1\": 0, \"3\": 2000000000}").unwrap();
    let many = job.expect(2, "export few-out --to hf --out many --label-map map");
    many.assert_one_line(&["--label-map", "its largest id is 2000000000"]);
    job.expect(1, "tokenize few/2 --model model --out none");
    job.expect(2, "export none --to hf --out nothing").assert_one_line(&["holds no row to export"]);
}

#[test]
fn several_views_are_rows_with_keys_of_their_own() {
    let job = Job::new(2).trained();
    job.expect(0, "tokenize images --model model --out out --views flips");
    job.expect(0, "export out --to webdataset --out tars");
    let keys: Vec<String> = samples(&job, "tars").into_iter().map(|(key, _, _)| key).collect();
    assert_eq!(keys, ["0000.png/v0", "0000.png/v1", "cat/0001.bmp/v0", "cat/0001.bmp/v1"]);
}

#[test]
fn every_format_comes_to_the_same_bytes_whatever_the_threads_and_kills() {
    let job = job();
    let formats = [
        "webdataset",
        "megatron",
        "jsonl --fields tokens,key",
        "bin",
        "datatrove",
        "litdata",
        "mds",
        "hf",
        "tfrecord",
        "npy",
        "emu3",
        "4m",
        "open-muse",
        "bin --header llmc",
    ];
    for (index, format) in formats.into_iter().enumerate() {
        let line = |out: &str| {
            format!("export out --to {format} --out {out} --order shuffle=1 --split a=0.5,b=0.5")
        };
        let (whole, other) = (format!("whole{index}"), format!("other{index}"));
        let done = job.expect(0, &line(&whole));
        assert!(done.stdout.contains(": 6 rows in "), "{}", done.stdout);
        for nth in [5, 12, 20, 25] {
            let mut command = job.command(&line(&other));
            command.env("VQTOK_FAILPOINT", format!("any:{nth}")).output().unwrap();
        }
        job.expect(0, &(line(&other) + " --threads 1"));
        job.assert_same(&whole, &other);
    }
    let index = std::fs::read(job.path("whole6/a/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let names = serde_json::json!(["key", "label", "label_id", "tokens"]);
    assert_eq!(index["shards"][0]["column_names"], names);
    let lines = std::fs::read_to_string(job.path("whole2/a/tokens.jsonl")).unwrap();
    assert!(lines.starts_with("{\"tokens\": ["), "{lines}");
    job.expect(2, "export out --to jsonl --out none").assert_one_line(&[
        "2 rows have no label",
        "--fields",
        "class_id",
    ]);
}
