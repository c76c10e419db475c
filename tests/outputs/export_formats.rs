//! Drives `export` to the formats of files by the row, of one array, of views in one row and the like:
//! where each code is found again, and what is refused.

use crate::support::outputs;
use crate::support::*;

use serde_json::Value;

/// Four images of two classes and their tokens as `out`; with two views each as `views`.
fn job() -> Job {
    let job = Job::new(6).trained();
    std::fs::remove_file(job.path("images/0000.png")).unwrap();
    std::fs::remove_file(job.path("images/0003.qoi")).unwrap();
    job.expect(0, "tokenize images --model model --out out --shard-rows 2");
    job.expect(0, "tokenize images --model model --out views --views flips");
    job
}

/// The codes of all rows, as JSON lines have them.
fn codes(job: &Job, out: &str) -> Vec<Vec<i64>> {
    job.expect(0, &format!("export {out} --to jsonl --out lines-{out}"));
    let lines = std::fs::read_to_string(job.path(&format!("lines-{out}/tokens.jsonl"))).unwrap();
    let row = |line: &str| -> Vec<i64> {
        let line: Value = serde_json::from_str(line).unwrap();
        serde_json::from_value(line["tokens"].clone()).unwrap()
    };
    lines.lines().map(row).collect()
}

fn int64s(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|number| i64::from_le_bytes(*number)).collect()
}

fn names(job: &Job, folder: &str) -> Vec<String> {
    job.files(folder).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn llamagen_has_two_files_an_image_and_views_as_an_axis() {
    let job = job();
    let done = job.expect(0, "export out --to llamagen --out plain");
    assert!(done.stdout.contains("4 rows in 8 files"), "{}", done.stdout);
    let expected = codes(&job, "out");
    for (i, row) in expected.iter().enumerate() {
        let read = |kind: &str| {
            npy(&std::fs::read(job.path(&format!("plain/imagenet16_{kind}/{i}.npy"))).unwrap())
        };
        let (codes, label) = (read("codes"), read("labels"));
        assert_eq!((codes.dtype.as_str(), codes.shape), ("<i8", vec![1, 1, 16]));
        assert_eq!((&int64s(&codes.data), int64s(&label.data)), (row, vec![[0, 0, 1, 1][i]]));
    }
    let record: Value =
        serde_json::from_slice(&std::fs::read(job.path("plain/export.json")).unwrap()).unwrap();
    let file = &record["splits"][0]["parts"][0]["files"][0];
    assert_eq!(file["path"], "imagenet16_codes/{0..3}.npy");
    assert_eq!((&file["count"], &file["bytes"]), (&4.into(), &(4 * 256).into()));
    // A file that is gone comes back.
    let whole = job.files("plain");
    std::fs::remove_file(job.path("plain/imagenet16_labels/2.npy")).unwrap();
    job.expect(0, "export out --to llamagen --out plain");
    assert!(job.files("plain") == whole);

    job.expect(2, "export views --to llamagen --out two").assert_one_line(&["2 views", "'flip'"]);
    for order in ["plan", "shuffle=5"] {
        let out = format!("flip-{order}");
        job.expect(0, &format!("export views --to llamagen --out {out} --order {order}"));
        let mut found = Vec::new();
        for i in 0..4 {
            let path = job.path(&format!("{out}/imagenet16_codes/{i}.npy"));
            let array = npy(&std::fs::read(path).unwrap());
            assert_eq!(array.shape, [1, 2, 16]);
            found.push(int64s(&array.data));
        }
        let mut expected: Vec<Vec<i64>> =
            codes(&job, "views").chunks(2).map(|c| c.concat()).collect();
        if order != "plan" {
            assert_ne!(found, expected);
            found.sort();
            expected.sort();
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn four_m_has_a_tar_a_modality_and_emu3_and_open_muse_a_tensor_a_row() {
    let job = job();
    job.expect(0, "export views --to 4m --out four --split train=1");
    let expected = [
        "export.json",
        "labels.json",
        "train/crop_settings/shard-00000.tar",
        "train/tok_rgb@16/shard-00000.tar",
    ];
    assert_eq!(names(&job, "four"), expected);
    let tar = std::fs::read(job.path("four/train/tok_rgb@16/shard-00000.tar")).unwrap();
    let first = npy(&tar[512..512 + 128 + 64]);
    assert_eq!((first.dtype.as_str(), first.shape), ("<i2", vec![2, 16]));
    let crops = std::fs::read(job.path("four/train/crop_settings/shard-00000.tar")).unwrap();
    let crops = npy(&crops[512..512 + 128 + 80]);
    let sides = int64s(&crops.data);
    assert_eq!((crops.shape, sides[4], sides[9]), (vec![2, 5], 0, 1));
    assert_eq!(sides[..4], sides[5..9]);

    job.expect(0, "export out --to emu3 --out emu3");
    let list: Value =
        serde_json::from_slice(&std::fs::read(job.path("emu3/list/train.json")).unwrap()).unwrap();
    let paths = ["000000.pth", "000001.pth", "000002.pth", "000003.pth"];
    assert_eq!(list, serde_json::json!({"prefix": "feature", "path_list": paths}));
    let tensor: Vec<u8> = codes(&job, "out")[3].iter().flat_map(|c| c.to_le_bytes()).collect();
    let pth = std::fs::read(job.path("emu3/feature/000003.pth")).unwrap();
    assert!(pth.windows(128).any(|window| window == tensor));

    job.expect(0, "export out --to open-muse --out muse --fields tokens:me.vq");
    let tar = std::fs::read(job.path("muse/tokens-00000.tar")).unwrap();
    assert!(tar[1024..].starts_with(b"000000000.me.vq.pth\0"));
    job.expect(2, "export out --to open-muse --out no --fields tokens,key")
        .assert_one_line(&["--fields", "tokens:NAME"]);
}

#[test]
fn arrays_streams_and_headers_count_their_rows() {
    let job = job();
    let expected = codes(&job, "out");
    job.expect(0, "export out --to npy --out array");
    let array = npy(&std::fs::read(job.path("array/tokens.npy")).unwrap());
    assert_eq!((array.dtype.as_str(), array.shape), ("|u1", vec![4, 4, 4]));
    assert_eq!(array.data.iter().map(|c| i64::from(*c)).collect::<Vec<_>>(), expected.concat());
    let labels = npy(&std::fs::read(job.path("array/labels.npy")).unwrap());
    assert_eq!(int64s(&labels.data), [0, 0, 1, 1]);
    let lines = std::fs::read_to_string(job.path("array/rows.jsonl")).unwrap();
    assert!(lines.starts_with("{\"key\": \"cat/0001.bmp\", \"label\": \"cat\"}\n"), "{lines}");

    job.expect(0, "export out --to hf --out hf --shard-rows 3 --split train=0.5,val=0.5");
    let dict = std::fs::read_to_string(job.path("hf/dataset_dict.json")).unwrap();
    assert_eq!(dict, r#"{"splits":["train","val"]}"#);
    job.expect(0, "export out --to hf --out one --shard-rows 3");
    let expected = [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
        "dataset_info.json",
        "export.json",
        "labels.json",
        "state.json",
    ];
    assert_eq!(names(&job, "one"), expected);
    job.expect(0, "export out --to tfrecord --out records --shard-rows 3");
    assert!(job.path("records/tokens-00001-of-00002.tfrecord").exists());

    job.expect(0, "export out --to bin --out ids --header llmc --eos 99");
    let ids = std::fs::read(job.path("ids/tokens.bin")).unwrap();
    let head = [20_240_520_u32, 1, 4 * 17].map(u32::to_le_bytes).concat();
    assert!(ids.starts_with(&head) && ids.len() == 1024 + 2 * 4 * 17);
    job.expect(2, "export out --to bin --out no --header llmc --eos 70000").assert_one_line(&[
        "--header llmc",
        "16 bits",
        "70000",
    ]);
    job.expect(2, "export out --to jsonl --out no --header llmc")
        .assert_one_line(&["--header", "bin"]);
}

#[test]
fn levels_one_behind_the_other_have_codes_of_their_own() {
    let job = Job::new(3);
    let recipe = TINY_RECIPE.replace("dim = 4\n", "dim = 4\ndepth = 3\n");
    std::fs::write(job.path("tiny.toml"), recipe).unwrap();
    let job = job.trained();
    job.expect(0, "tokenize images --model model --out out");
    job.expect(2, "export out --to megatron --out no")
        .assert_one_line(&["--levels", "3 levels", "first", "all"]);
    job.expect(2, "export out --to npy --out no --levels all")
        .assert_one_line(&["--levels", "npy"]);
    job.expect(0, "export out --to npy --out first --levels first");
    let line = "--levels all --fields tokens,key";
    job.expect(0, &format!("export out --to jsonl --out all {line}"));
    let lines = std::fs::read_to_string(job.path("all/tokens.jsonl")).unwrap();
    let first = npy(&std::fs::read(job.path("first/tokens.npy")).unwrap());
    for (row, line) in lines.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let ids: Vec<u64> = serde_json::from_value(line["tokens"].clone()).unwrap();
        assert_eq!(ids.len(), 3 * 16);
        for (level, ids) in ids.chunks(16).enumerate() {
            let codes = 16 * level as u64..16 * (level as u64 + 1);
            assert!(ids.iter().all(|id| codes.contains(id)), "{level}: {ids:?}");
        }
        let codes: Vec<u64> = first.data[16 * row..][..16].iter().map(|c| u64::from(*c)).collect();
        assert_eq!(ids[..16], codes);
    }
    job.expect(0, "export out --to bin --out counted --levels all --header llmc");
    let bytes = std::fs::read(job.path("counted/tokens.bin")).unwrap();
    assert_eq!(bytes.len(), 1024 + 2 * 3 * 48);
}

#[test]
fn grids_of_several_shapes_are_refused_where_all_are_alike() {
    let job = Job::new(6).trained();
    job.expect(0, "tokenize images --model model --out out --buckets 16x16,24x16,16x24");
    for format in ["llamagen", "npy", "4m", "open-muse", "bin --header llmc"] {
        let labels = if format == "llamagen" { "2 rows have no label" } else { "several shapes" };
        let name = format.split(' ').next().unwrap();
        job.expect(2, &format!("export out --to {format} --out no"))
            .assert_one_line(&[labels, name]);
        assert!(!job.path("no").exists());
    }
    for format in ["webdataset", "hf", "tfrecord", "emu3", "mds", "datatrove"] {
        job.expect(0, &format!("export out --to {format} --out {format}"));
    }
    job.expect(2, "export out --to bin --out no-end").assert_one_line(&["--eos"]);
    job.expect(0, "export out --to bin --out bin --eos 16");
}

#[test]
fn places_that_are_not_for_exports_are_refused() {
    let job = Job::new(2).trained();
    job.expect(0, "tokenize images --model model --out out");
    std::fs::create_dir(job.path("out/empty")).unwrap();
    for (out, told) in [
        ("out", "an output of vqtok"),
        ("out/tars", "an output of vqtok"),
        ("out/empty", "an output of vqtok"),
        ("out/tokens", "an output of vqtok"),
        ("s3://bucket/tars", "local place"),
        ("images", "new or empty"),
    ] {
        let line = format!("export out --to webdataset --out {out}");
        job.expect(2, &line).assert_one_line(&[told]);
    }
    std::fs::remove_dir(job.path("out/empty")).unwrap();
    job.expect(0, "verify out");
}

#[test]
fn a_source_that_has_changed_is_told() {
    let job = Job::new(4).trained();
    job.expect(0, "tokenize images --model model --out out");
    job.expect(0, "export out --to hf --out hf");
    // Another picture of just as many bytes in the same place, and so the same plan.
    let path = job.path("images/cat/0001.bmp");
    let mut picture = std::fs::read(&path).unwrap();
    picture[60..].iter_mut().for_each(|byte| *byte ^= 0xff);
    std::fs::write(&path, picture).unwrap();
    std::fs::remove_dir_all(job.path("out")).unwrap();
    job.expect(0, "tokenize images --model model --out out");
    job.expect(2, "export out --to hf --out hf")
        .assert_one_line(&["hf/export.json", "before they changed"]);
}

#[test]
fn stopped_at_any_time_it_goes_on_to_the_same_bytes() {
    let job = Job::new(1);
    outputs::job(&job.path("out"), 3000, 500).unwrap();
    for (format, last) in
        [("llamagen", "imagenet16_codes/"), ("webdataset --shard-rows 500", ".tar")]
    {
        let line = |out: &str| format!("export out --to {format} --order shuffle=2 --out {out}");
        job.expect(0, &line("whole"));
        let whole = bytes(&job.path("whole"));
        let (mut stopped, mut begun) = (0, 0);
        for round in 0..20_u32 {
            let out = format!("stopped{}", round / 4);
            let mut child = job.command(&line(&out)).spawn().unwrap();
            // By what is written, since the time it takes depends on what else the machine does.
            let written = whole * u64::from(round) / 24;
            while bytes(&job.path(&out)) < written && child.try_wait().unwrap().is_none() {
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            let signal = if round % 2 == 0 { libc::SIGTERM } else { libc::SIGKILL };
            if child.try_wait().unwrap().is_none() {
                // SAFETY: a child of ours that nobody has waited for.
                unsafe { libc::kill(child.id() as i32, signal) };
            }
            let status = child.wait().unwrap();
            stopped += usize::from(status.code() == Some(143));
            begun += usize::from(!status.success() && has(&job, &out, last));
            if round % 4 == 3 {
                job.expect(0, &line(&out));
                job.assert_same("whole", &out);
                std::fs::remove_dir_all(job.path(&out)).unwrap();
            }
        }
        assert!(stopped > 0 && begun > 0, "{format}: {stopped} stopped, {begun} with files");
        std::fs::remove_dir_all(job.path("whole")).unwrap();
    }
}

/// Bytes in a folder that somebody may be writing to.
fn bytes(folder: &std::path::Path) -> u64 {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(|file| file.is_file());
    files.map(|file| file.len()).sum()
}

/// Whether files of an export have their names.
fn has(job: &Job, out: &str, part: &str) -> bool {
    let there = job.path(out).exists();
    there && names(job, out).iter().any(|name| name.contains(part) && !name.contains(".tmp"))
}
