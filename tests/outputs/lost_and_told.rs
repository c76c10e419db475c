//! Drives the commands over outputs that have lost a file or have something in the place of one: what sums
//! up is made again by who finishes, what can't be is told in a line with its place and what to do.

use crate::lost_pieces::{
    REPAIR, SPARE, appended, expect, in_the_way, named, names, put, remove, restore,
};
use crate::support::*;

use std::fs;

#[test]
fn who_finishes_again_notices_what_is_lost() {
    let job = Job::new(18).trained();
    let flat = SPARE.replace("--out out", "--out flat");
    expect(&job, "3:2", 0, SPARE);
    job.expect(0, &flat);
    for (out, tokenize) in [("out", SPARE), ("flat", &*flat)] {
        let whole = job.files(out);
        let find = |start: &str| whole.iter().find(|(name, _)| name.starts_with(start));
        let name = |start: &str| find(start).map(|(name, _)| name.clone());
        let finalize = format!("finalize {out}");
        let starts = ["codebook.parquet", "dataset/shards-00001", "dataset/codebook-00001"];
        for sums in starts.into_iter().filter_map(name) {
            for line in [&*finalize, tokenize] {
                let path = job.path(out).join(&sums);
                fs::remove_file(&path).unwrap();
                job.expect(0, line);
                fs::write(&path, b"short").unwrap();
                job.expect(0, line);
                assert!(job.files(out) == whole, "{line}: {sums}");
            }
        }
        let of = |kind: &str| {
            name(&format!("{kind}/00001/part-00003")).or(name(&format!("{kind}/part-00003")))
        };
        let plan = name("plan/00000-00001-");
        for lost in ["failures", "codebook"].into_iter().filter_map(of).chain(plan) {
            let path = job.path(out).join(&lost);
            for (bytes, words) in
                [(None, "it is missing"), (Some(b"short"), "it has 5 bytes, where ")]
            {
                match bytes {
                    None => fs::remove_file(&path).unwrap(),
                    Some(bytes) => fs::write(&path, bytes).unwrap(),
                }
                let before = job.files(out);
                for line in [&*finalize, tokenize] {
                    // Who plans reads the plan before.
                    let words = if lost.starts_with("plan") { "" } else { words };
                    let words = [&*format!("vqtok: {out}/{lost}: {words}"), "vqtok repair"];
                    job.expect(2, line).assert_one_line(&words);
                    assert!(job.files(out) == before, "{line}: {lost}");
                }
                job.expect(0, &format!("repair {out} --model model"));
                assert!(job.files(out) == whole, "{lost}");
            }
        }
    }
}

#[test]
fn sums_over_other_shards_are_not_taken_for_lost_ones() {
    let job = Job::new(18).trained();
    expect(&job, "3:2", 0, SPARE);
    // As many bytes of another picture.
    let pictures = names(&job, "images");
    let name = pictures[4..8]
        .iter()
        .find(|name| name.ends_with(".bmp") || name.ends_with(".ppm"))
        .unwrap();
    let mut bytes = fs::read(job.path("images").join(name)).unwrap();
    bytes.iter_mut().rev().take(30).for_each(|byte| *byte = !*byte);
    fs::write(job.path("images").join(name), bytes).unwrap();
    expect(&job, "3:2", 0, &SPARE.replace("--out out", "--out other"));
    for start in ["dataset/shards-00001", "dataset/codebook-00001"] {
        let name = named(&job, start);
        fs::copy(job.path("other").join(&name), job.path("out").join(&name)).unwrap();
    }
    remove(&job, &["codebook.parquet"]);
    let words =
        ["out/dataset/shards-00001-2.json: it isn't as dataset.json has it", "vqtok repair"];
    job.expect(2, "finalize out").assert_one_line(&words);
}

#[test]
fn a_lost_file_of_a_plan_comes_back_whichever_it_is() {
    let job = appended("1:2");
    let whole = job.files("out");
    put(&job, "later", "images", &names(&job, "later"));
    let parts: Vec<String> = whole
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| name.starts_with("plan/"))
        .collect();
    assert_eq!(parts.len(), 5 + 3);
    for part in &parts {
        remove(&job, &[part]);
        job.expect(0, REPAIR);
        assert!(job.files("out") == whole, "{part}");
        // A link that leads nowhere is in nobody's way.
        remove(&job, &[part]);
        std::os::unix::fs::symlink("nowhere", job.path("out").join(part)).unwrap();
        job.expect(1, "verify out");
        job.expect(0, REPAIR);
        assert!(job.files("out") == whole, "{part}");
    }
    // With all that tells how the rows were cut, but for the last of them.
    remove(&job, &["plan.parquet", "dataset.json", &parts[0], &parts[2]]);
    job.expect(0, REPAIR);
    assert!(job.files("out") == whole);
    // What stood in it alone.
    fs::rename(job.path("images"), job.path("away")).unwrap();
    remove(&job, &[&parts[0]]);
    let before = job.files("out");
    let words = [
        &*format!("vqtok: out/{}: it is missing, and can't be rebuilt: the size of '", parts[0]),
        "is not known; restore it",
    ];
    job.expect(2, REPAIR).assert_one_line(&words);
    assert!(job.files("out") == before);
}

#[test]
fn how_a_plan_was_cut_is_known_by_what_is_left_of_it() {
    let job = Job::new(16).trained();
    expect(&job, "3:2", 0, SPARE);
    let whole = job.files("out");
    let [a, b, c] = ["00000-00000", "00000-00001", "00000-00002"]
        .map(|start| named(&job, &format!("plan/{start}")));
    let root = "plan.parquet".to_string();
    for lost in [&[&a][..], &[&a, &b], &[&a, &c], &[&root, &a, &b], &[&root, &b]] {
        lost.iter().for_each(|name| remove(&job, &[name.as_str()]));
        remove(&job, &["dataset.json"]);
        job.expect(0, REPAIR);
        assert!(job.files("out") == whole, "{lost:?}");
    }
}

#[test]
fn what_is_in_the_way_is_told_by_every_command() {
    let job = Job::new(18).trained();
    expect(&job, "3:2", 0, SPARE);
    let whole = job.files("out");
    let victims = ["dataset.json", "plan.parquet", "plan/00000-00001-", "tokens/00001/part-00003"];
    for victim in
        victims.map(|start| named(&job, start)).iter().map(String::as_str).chain(["dataset"])
    {
        in_the_way(&job, victim);
        let before = job.files("out");
        for line in ["finalize out", SPARE, REPAIR] {
            let words =
                [&*format!("vqtok: out/{victim}: it is a f"), "move it away", "vqtok repair"];
            job.expect(2, line).assert_one_line(&words);
        }
        let seen = job.expect(1, "verify out").stdout;
        if victim != "dataset" {
            assert!(
                seen.contains("it is a folder, where a file of the output belongs; move it"),
                "{seen}"
            );
            assert!(seen.contains("once what is in the way was moved away"), "{seen}");
        }
        assert!(job.files("out") == before);
        restore(&job, &whole);
    }
    job.expect(0, "verify out");
}

#[test]
fn what_is_lost_is_told_by_every_command() {
    let job = appended("1:2");
    let whole = job.files("out");
    let [line, npy] = [&*format!("{SPARE} --append"), "export out --to npy --out npy"];
    // Images that nobody planned yet would come in the place of a lost plan's.
    remove(&job, &["plan-00002.parquet"]);
    picture(99).save(job.path("images/new.png")).unwrap();
    let words = [
        "out/plan-00002.parquet: it is missing: out/tokens/",
        "vqtok repair",
        "--append",
        "move it away",
    ];
    job.expect(2, line).assert_one_line(&words);
    fs::remove_file(job.path("images/new.png")).unwrap();
    restore(&job, &whole);
    let list = named(&job, "dataset/shards-00001");
    remove(&job, &[&list]);
    let words = [&*format!("out/{list}: it is missing"), "vqtok repair"];
    job.expect(2, npy).assert_one_line(&words);
    restore(&job, &whole);
    fs::write(job.path("out/dataset.json"), b"\xff\xfe").unwrap();
    for line in ["finalize out", SPARE, npy, "inspect out"] {
        let words = ["out/dataset.json: it is not text (UTF-8)", "vqtok repair"];
        job.expect(2, line).assert_one_line(&words);
    }
    restore(&job, &whole);
    // The plan that is another output's is named, not the one that was appended to it.
    put(&job, "later", "images", &names(&job, "later"));
    expect(&job, "1:2", 0, &SPARE.replace("--out out", "--out other"));
    fs::copy(job.path("other/plan.parquet"), job.path("out/plan.parquet")).unwrap();
    let words = [
        "vqtok: out/plan.parquet: it is another output's, or was made anew: plan-00001.parquet was",
        "vqtok repair",
    ];
    for line in ["finalize out", line] {
        job.expect(2, line).assert_one_line(&words);
    }
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains("bad: plan.parquet is another output's, or was made anew"), "{seen}");
    job.expect(0, REPAIR);
    assert!(job.files("out") == whole);
    // An input that was only listed.
    fs::create_dir_all(job.path("listed/listed/ab")).unwrap();
    for line in
        ["verify listed", "repair listed --model model", "finalize listed", "inspect listed"]
    {
        job.expect(2, line).assert_one_line(&["listed: no output yet", "without --list-only"]);
    }
}
