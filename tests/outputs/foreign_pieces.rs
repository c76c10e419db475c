//! Drives commands over outputs in which files were moved, or taken from other outputs: what is found says
//! which file it is and what to do, and nothing good is made again or removed.

use crate::support::*;

use std::fs;
use std::path::Path;

const LINE: &str = "tokenize images --model model --shard-rows 4 --batch-size 2 --threads 1";
const REPAIR: &str = "repair out --model model";

fn run(job: &Job, scale: &str, line: &str) -> Done {
    Done::of(job.command(line).env("VQTOK_SCALE", scale).output().unwrap())
}

fn rename(job: &Job, from: &str, to: &str) {
    let to = job.path("out").join(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(job.path("out").join(from), to).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

/// Every command says of a shard where it lies and where it belongs, and changes nothing.
fn must_say(job: &Job, from: &str, to: &str) {
    let before = job.files("out");
    let words = [&*format!("vqtok: out/{from}: it is shard "), &*format!("move it to out/{to}")];
    for line in [&*format!("{LINE} --out out"), REPAIR, "repair out"] {
        job.expect(2, line).assert_one_line(&words);
        assert!(job.files("out") == before, "{line}");
    }
    let seen = job.expect(1, "verify out --partial").stdout;
    let words = format!("bad: {from} is the shard that belongs at {to}: move it there");
    assert!(seen.contains(&words) && !seen.contains("remove it"), "{seen}");
}

#[test]
fn shards_that_were_moved_are_named_with_their_places() {
    let job = Job::new(24).trained();
    assert_eq!(run(&job, "3:2", &format!("{LINE} --out out")).code, 0);
    let whole = job.files("out");
    let shard = |folder: &str, index: usize| format!("tokens/{folder}part-{index:05}.parquet");
    for finished in [true, false] {
        if !finished {
            fs::remove_file(job.path("out/dataset.json")).unwrap();
        }
        for (from, to) in
            [(shard("00001/", 3), shard("", 3)), (shard("00000/", 1), shard("00002/", 1))]
        {
            rename(&job, &from, &to);
            must_say(&job, &to, &from);
            if !finished {
                job.expect(2, "finalize out").assert_one_line(&[&to, &from]);
            }
            rename(&job, &to, &from);
        }
        // All of them.
        for index in 0..6 {
            rename(&job, &shard(&format!("{:05}/", index / 2), index), &shard("", index));
        }
        must_say(&job, &shard("", 0), &shard("00000/", 0));
        for index in 0..6 {
            rename(&job, &shard("", index), &shard(&format!("{:05}/", index / 2), index));
        }
        job.expect(0, "verify out --partial");
    }
    job.expect(0, "finalize out");
    assert!(job.files("out") == whole);
    // Of an output in one folder.
    job.expect(0, &format!("{LINE} --out flat"));
    fs::rename(job.path("out"), job.path("large")).unwrap();
    fs::rename(job.path("flat"), job.path("out")).unwrap();
    rename(&job, &shard("", 2), &shard("00000/", 2));
    must_say(&job, &shard("00000/", 2), &shard("", 2));
}

/// `out` of 24 pictures, and `other` of 10 of them with two more plans.
fn two() -> Job {
    let job = Job::new(24).trained();
    job.expect(0, &format!("{LINE} --out out"));
    let names: Vec<_> = job.files("images").into_iter().map(|(name, _)| name).collect();
    for (count, append) in [(10, ""), (14, " --append"), (20, " --append")] {
        for name in &names[..count] {
            copy(&job.path("images").join(name), &job.path("some").join(name));
        }
        job.expect(0, &format!("{} --out other{append}", LINE.replace("images", "some")));
    }
    job
}

#[test]
fn the_summary_of_another_output_is_not_believed() {
    let job = two();
    let whole = job.files("out");
    copy(&job.path("other/dataset.json"), &job.path("out/dataset.json"));
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains("bad: dataset.json is another output's: tokens/part-00000"), "{seen}");
    assert!(!seen.contains("plan-0000") && !seen.contains("remove it"), "{seen}");
    let export = "export out --to jsonl --fields tokens,key --out rows";
    let words = ["vqtok: out/dataset.json: it is another output's", "vqtok repair"];
    job.expect(2, export).assert_one_line(&words);
    let done = job.expect(0, "repair out");
    assert!(!done.stderr.contains("made again, but"), "{}", done.stderr);
    assert!(job.files("out") == whole);
    // A damaged one: a class would have another name.
    let text = fs::read_to_string(job.path("out/dataset.json")).unwrap();
    fs::write(job.path("out/dataset.json"), text.replacen("\"cat\"", "\"rat\"", 1)).unwrap();
    let words = ["vqtok: out/dataset.json: its digest of itself is wrong; run `vqtok verify`"];
    job.expect(2, export).assert_one_line(&words);
    assert!(!job.path("rows").exists());
    job.expect(0, "repair out");
    assert!(job.files("out") == whole);
    // With more that is damaged.
    copy(&job.path("other/dataset.json"), &job.path("out/dataset.json"));
    fs::write(job.path("out/plan.parquet"), b"damaged").unwrap();
    fs::write(job.path("out/tokens/part-00002.parquet"), b"damaged").unwrap();
    let refused = job.expect(2, REPAIR);
    refused.assert_one_line(&["out/plan.parquet: it can't be rebuilt: the rows of partition 2"]);
    copy(&job.path("other/tokens/part-00002.parquet"), &job.path("out/tokens/part-00002.parquet"));
    for (name, bytes) in &whole {
        if name == "plan.parquet" {
            fs::write(job.path("out").join(name), bytes).unwrap();
        }
    }
    let done = job.expect(0, REPAIR);
    assert!(!done.stderr.contains("made again, but"), "{}", done.stderr);
    assert!(job.files("out") == whole);
    // The other way round: one that is this output's says that the plan isn't.
    copy(&job.path("other/plan.parquet"), &job.path("out/plan.parquet"));
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains("bad: plan.parquet") && !seen.contains("bad: dataset.json is"), "{seen}");
    job.expect(0, REPAIR);
    assert!(job.files("out") == whole);
}

#[test]
fn an_exchanged_plan_of_an_unfinished_output_is_told_by_all() {
    let job = two();
    let whole = job.files("out");
    assert_eq!(run(&job, "3:2", &format!("{LINE} --out large")).code, 0);
    fs::remove_file(job.path("out/dataset.json")).unwrap();
    // Of other images, and of the same ones in another layout.
    for source in ["other", "large"] {
        copy(&job.path(source).join("plan.parquet"), &job.path("out/plan.parquet"));
        let before = job.files("out");
        for line in [
            "export out --to jsonl --fields tokens,key --out rows --partial",
            "export out --to jsonl --fields tokens,key --out rows",
            "decode out --model model --out pictures",
            "audit out",
            "inspect out",
            "report out --out page.html",
            "finalize out",
            &format!("{LINE} --out out"),
        ] {
            let done = job.expect(2, line);
            done.assert_one_line(&["vqtok repair"]);
            let named = [
                "vqtok: out/plan.parquet: ",
                "vqtok: out/tokens/part-00000.parquet: it belongs to another",
            ];
            let commands = ["finalize", "tokenize"].iter().any(|command| line.starts_with(command));
            assert!(
                done.stderr.contains(named[0]) || (commands && done.stderr.contains(named[1])),
                "{line}: {}",
                done.stderr
            );
        }
        let seen = job.expect(1, "verify out --partial").stdout;
        assert!(seen.contains("bad: ") && seen.contains("plan.parquet"), "{seen}");
        assert!(job.files("out") == before);
        job.expect(0, REPAIR);
        assert!(job.files("out") == whole, "{source}");
        fs::remove_file(job.path("out/dataset.json")).unwrap();
    }
}

/// Flips one bit of a file.
fn flip(path: &Path, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_plan_that_is_damaged_or_in_part_anothers_is_not_built_upon() {
    let job = Job::new(12).trained();
    fs::rename(job.path("images/cat"), job.path("other")).unwrap();
    let other = LINE.replace("images", "other");
    job.expect(0, &format!("{LINE} --out out"));
    let (plan, append) = (job.path("out/plan.parquet"), format!("{other} --out out --append"));
    let whole = fs::read(&plan).unwrap();
    let before = job.files("out");
    let (mut refused, step) = (0, whole.len() * 8 / 60);
    for bit in (3..whole.len() * 8).step_by(step) {
        flip(&plan, bit);
        let done = Done::of(job.command(&append).output().unwrap());
        assert!([0, 2].contains(&done.code), "bit {bit}: {} {}", done.code, done.stderr);
        fs::write(&plan, &whole).unwrap();
        if done.code == 2 {
            done.assert_one_line(&["vqtok: "]);
            assert!(job.files("out") == before, "bit {bit}");
            refused += 1;
        } else {
            // Nothing of it was of the rows.
            fs::remove_dir_all(job.path("out")).unwrap();
            job.expect(0, &format!("{LINE} --out out"));
        }
    }
    assert!(refused > 20, "{refused} of 60");
    // A part of another output's plan.
    let one = |line: &str| line.replace("--shard-rows 4", "--shard-rows 1");
    for (line, out) in [(one(LINE), "own"), (one(&other), "theirs")] {
        assert_eq!(run(&job, "2:1", &format!("{line} --out {out}")).code, 0);
    }
    let first = |out: &str| {
        let parts = fs::read_dir(job.path(out).join("plan")).unwrap();
        let mut parts: Vec<_> = parts.map(|part| part.unwrap().path()).collect();
        parts.sort();
        parts.remove(0)
    };
    copy(&first("theirs"), &first("own"));
    let before = job.files("own");
    for line in [one(LINE), one(&other)] {
        let done = run(&job, "2:1", &format!("{line} --out own --append"));
        assert_eq!(done.code, 2, "{}", done.stderr);
        done.assert_one_line(&["own/plan", "`vqtok repair`"]);
        assert!(job.files("own") == before);
    }
}

#[test]
fn a_shard_that_changed_is_made_again_though_the_files_beside_it_alone_say_so() {
    let job = Job::new(6).trained();
    job.expect(0, &format!("{LINE} --out out"));
    let (whole, shard) = (job.files("out"), job.path("out/tokens/part-00000.parquet"));
    let bytes = fs::read(&shard).unwrap().len();
    // Of the footer, much of which no row depends on.
    for byte in (bytes - 2000..bytes - 8).step_by(160) {
        fs::remove_file(job.path("out/dataset.json")).unwrap();
        flip(&shard, 8 * byte + 4);
        let done = Done::of(job.command(REPAIR).output().unwrap());
        assert!([0, 1].contains(&done.code), "byte {byte}: {}", done.stderr);
        assert!(job.files("out") == whole, "byte {byte}: {}", done.stderr);
    }
}
