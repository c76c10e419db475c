//! Drives `verify`, `repair`, `finalize` and `tokenize` over damage that nothing but the output as a whole
//! tells: no command records what is damaged as if it were right, and one repair brings back what several
//! damages took of each other.

use crate::lost_pieces::{REPAIR, SPARE, appended, expect, flip, named, names, put, remove};
use crate::support::*;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

fn write(job: &Job, name: &str, bytes: &[u8]) {
    fs::write(job.path("out").join(name), bytes).unwrap();
}

fn bytes(job: &Job, name: &str) -> Vec<u8> {
    fs::read(job.path("out").join(name)).unwrap()
}

fn assert_mended(job: &Job, whole: &[(String, Vec<u8>)], what: &str) {
    let done = job.run(REPAIR);
    assert_eq!(done.code, 0, "{what}: {}{}", done.stdout, done.stderr);
    assert!(job.files("out") == whole, "{what}");
    job.expect(0, "verify out");
}

/// Puts a plan in its own place twice: its rows can be read, and are those that were planned.
fn double(job: &Job, name: &str) {
    let twice = [bytes(job, name), bytes(job, name)].concat();
    write(job, name, &twice);
}

#[test]
fn a_damaged_plan_is_not_recorded_as_the_output_s() {
    let job = appended("10000:1000");
    let whole = job.files("out");
    for name in ["plan.parquet", "plan-00001.parquet"] {
        double(&job, name);
        let before = job.files("out");
        for line in ["finalize out", SPARE] {
            job.expect(2, line).assert_one_line(&[name, "isn't as it was written", "vqtok repair"]);
            assert!(job.files("out") == before, "{line}");
        }
        job.expect(1, "verify out");
        assert_mended(&job, &whole, name);
        double(&job, name);
        remove(&job, &["dataset.json"]);
        let seen = job.expect(1, "verify out --partial").stdout;
        assert!(seen.contains(&format!("{name}: it isn't as it was written")), "{seen}");
        job.expect(2, "finalize out").assert_one_line(&[name, "isn't as it was written"]);
        assert!(!job.path("out/dataset.json").exists());
        assert_mended(&job, &whole, name);
    }
}

#[test]
fn a_plan_with_a_flipped_bit_is_not_recorded_with_sums_that_are_made_anew() {
    let job = appended("10000:1000");
    let whole = job.files("out");
    let good = bytes(&job, "plan.parquet");
    // The first whose flipping leaves the rows as they are.
    let readable = (4..64).find(|&byte| {
        let mut bad = good.clone();
        bad[byte] ^= 2;
        write(&job, "plan.parquet", &bad);
        job.run("verify out").stdout.contains("plan.parquet: its sha256 is not the one in")
    });
    assert!(readable.is_some());
    remove(&job, &["codebook.parquet"]);
    job.expect(2, "finalize out").assert_one_line(&["plan.parquet", "vqtok repair"]);
    assert_mended(&job, &whole, "with sums");
}

#[test]
fn a_damaged_plan_comes_back_before_anything_is_made_of_it() {
    let job = appended("10000:1000");
    fs::remove_dir_all(job.path("out")).unwrap();
    job.expect(0, &format!("{SPARE} --plan-only"));
    let planned = job.files("out").into_iter().find(|(name, _)| name == "plan.parquet");
    double(&job, "plan.parquet");
    job.expect(1, "verify out --partial");
    job.expect(0, REPAIR);
    assert!(job.files("out").contains(&planned.unwrap()));
    job.expect(0, "verify out");
}

#[test]
fn the_root_of_a_large_plan_is_held_against_itself() {
    let job = appended("1:2");
    let whole = job.files("out");
    for name in ["plan.parquet", "plan-00002.parquet"] {
        let good = bytes(&job, name);
        let by = good.windows(6).rposition(|bytes| bytes == b"vqtok ").unwrap();
        remove(&job, &["dataset.json"]);
        for byte in (0..good.len()).step_by(41).filter(|byte| !(by..by + 11).contains(byte)) {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            write(&job, name, &bad);
            job.expect(1, "verify out --partial");
        }
        let mut bad = good.clone();
        bad[9] ^= 2;
        write(&job, name, &bad);
        job.expect(2, "finalize out");
        let done = expect(&job, "1:2", 0, REPAIR);
        assert!(job.files("out") == whole, "{name}: {}", done.stdout);
    }
}

#[test]
fn a_shard_that_has_changed_gives_its_plan_back_and_comes_back_itself() {
    let job = appended("10000:1000");
    let whole = job.files("out");
    for lost in ["failures/part-00000-", "codebook/part-00000-", "both"] {
        let files = match lost {
            "both" => {
                vec![named(&job, "failures/part-00000-"), named(&job, "codebook/part-00000-")]
            }
            one => vec![named(&job, one)],
        };
        files.iter().for_each(|name| remove(&job, &[name]));
        remove(&job, &["plan.parquet"]);
        flip(job.path("out/tokens/part-00000.parquet"));
        let seen = job.expect(1, "verify out").stdout;
        assert!(seen.contains("part-00000.parquet: its sha256 is not the one in"), "{seen}");
        assert_mended(&job, &whole, lost);
    }
}

#[test]
fn what_is_no_file_is_repaired_as_what_is_damaged() {
    let job = appended("10000:1000");
    let whole = job.files("out");
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let kinds: [(&str, &dyn Fn(&Path)); 3] = [
        ("a link to nothing", &|path| symlink("/nonexistent", path).unwrap()),
        ("a link to itself", &|path| symlink(path.file_name().unwrap(), path).unwrap()),
        ("a pipe", &pipe),
    ];
    let names = ["tokens/part-00001.parquet", "plan.parquet", "codebook.parquet", "dataset.json"];
    for (kind, make) in kinds {
        for name in names {
            let path = job.path("out").join(name);
            fs::remove_file(&path).unwrap();
            make(&path);
            if name != "plan.parquet" {
                remove(&job, &["tokens/part-00003.parquet"]);
            }
            job.expect(1, "verify out");
            assert_mended(&job, &whole, &format!("{kind} as {name}"));
        }
    }
}

#[test]
fn one_repair_goes_on_to_what_its_own_results_make_possible() {
    let job = appended("10000:1000");
    let whole = job.files("out");
    put(&job, "later", "images", &names(&job, "later"));
    // That there were more is seen once the first is back.
    remove(&job, &["plan.parquet", "plan-00001.parquet", "plan-00002.parquet", "dataset.json"]);
    assert_mended(&job, &whole, "all plans");
    // The stray is told with what to do, once the plan is back.
    fs::rename(job.path("out/plan-00002.parquet"), job.path("out/plan-00003.parquet")).unwrap();
    let words = ["plan-00003.parquet", "no shard is of it: remove it"];
    job.expect(2, REPAIR).assert_one_line(&words);
    remove(&job, &["plan-00003.parquet"]);
    job.expect(0, "verify out");
    assert!(job.files("out") == whole);
}

#[test]
fn a_copy_of_a_plan_is_called_a_stray_by_all() {
    let job = appended("10000:1000");
    let whole = job.files("out");
    fs::copy(job.path("out/plan-00002.parquet"), job.path("out/plan-00003.parquet")).unwrap();
    let words = ["plan-00003.parquet", "wasn't appended to the plan", "remove it"];
    for line in [REPAIR, "finalize out", &format!("{SPARE} --append")] {
        job.expect(2, line).assert_one_line(&words);
    }
    for (code, line) in [(1, "verify out"), (0, "audit out"), (0, "export out --to hf --out hf")] {
        let done = job.expect(code, line);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(words.iter().all(|word| said.contains(word)), "{line}: {said}");
    }
    remove(&job, &["plan-00003.parquet"]);
    assert!(job.files("out") == whole);
}

#[test]
fn files_beside_lost_shards_tell_that_a_plan_was_lost() {
    let job = appended("10000:1000");
    let whole = job.files("out");
    remove(&job, &["plan-00002.parquet", "dataset.json"]);
    for (name, _) in job.files("out").into_iter().filter(|(name, _)| {
        ["6", "7", "8"].iter().any(|number| *name == format!("tokens/part-0000{number}.parquet"))
    }) {
        remove(&job, &[&name]);
    }
    let left = job.files("out");
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains("plan-00002.parquet is missing: codebook/part-00006-"), "{seen}");
    assert!(!seen.contains("leftover") && !seen.contains("codebook.parquet:"), "{seen}");
    for line in [REPAIR, "finalize out"] {
        job.expect(2, line).assert_one_line(&["plan-00002.parquet", "it "]);
        assert!(job.files("out") == left, "{line}");
    }
    put(&job, "later", "images", &names(&job, "later"));
    job.expect(0, &format!("{SPARE} --append"));
    assert!(job.files("out") == whole);
}

#[test]
fn a_lost_plan_hides_no_damage_of_what_sums_up() {
    let job = appended("1:2");
    let whole = job.files("out");
    let [shards, codebook] =
        ["dataset/shards-00000", "dataset/codebook-00000"].map(|start| named(&job, start));
    let piece = named(&job, "plan/00000-");
    flip(job.path("out").join(&shards));
    remove(&job, &[&codebook, &piece]);
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains(&shards) && seen.contains(&codebook), "{seen}");
    let done = expect(&job, "1:2", 0, REPAIR);
    assert!(job.files("out") == whole, "{}", done.stdout);
}
