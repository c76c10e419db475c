//! Drives planning an output of aspect buckets in shares: workers look at the headers of the images in
//! their tars, Parquet files and zips, and who writes the plan looks at none of these.

use crate::support::containers;
use crate::support::*;

use std::fs;
use std::process::Stdio;

const LINE: &str =
    "tokenize tars one.png --model model --shard-rows 3 --batch-size 2 --threads 1 --json";
const BUCKETS: &str = "--buckets 16x16,32x16,16x32";

/// Four tars of five pictures each in `tars`, one compressed, and a picture beside them.
fn tars() -> Job {
    let job = Job::new(21).trained();
    fs::create_dir(job.path("tars")).unwrap();
    let files = job.files("images");
    for (number, name) in ["a.tar", "b.tar", "c.tar.gz", "d.tar"].iter().enumerate() {
        let files: Vec<_> = files[number * 5..][..5].to_vec();
        let tar = containers::tar(&files);
        let bytes = if *name == "c.tar.gz" { containers::compressed("gz", &tar) } else { tar };
        fs::write(job.path("tars").join(name), bytes).unwrap();
    }
    fs::write(job.path("one.png"), &files[20].1).unwrap();
    // A file that was written just now may be written again unseen.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    job
}

#[test]
fn headers_are_read_in_shares_and_the_plan_is_the_same() {
    let job = tars();
    let line = format!("{LINE} {BUCKETS}");
    job.expect(0, &format!("{line} --out plain --plan-only"));
    for share in ["0/2", "1/2"] {
        let done = job.expect(0, &format!("{line} --out out --list-only --partition {share}"));
        assert_eq!(done.events("listed")[0]["listed"], 2);
    }
    assert_eq!(job.files("out/listed").len(), 12);
    // Lists of other buckets, or of none, are others: nothing of these is taken for that plan.
    job.expect(0, &format!("{LINE} --out out --list-only"));
    job.expect(0, &format!("{LINE} --buckets 16x16,16x32 --out out --list-only"));
    assert_eq!(job.files("out/listed").len(), 12 + 8 + 12);
    let one = job.files("out/listed").into_iter().find(|(name, _)| name.ends_with("buckets"));
    assert_eq!(one.unwrap().1.len(), 5);
    // What was listed isn't opened again.
    for name in ["a.tar", "b.tar", "c.tar.gz", "d.tar"] {
        let path = job.path("tars").join(name);
        let (length, written) =
            (fs::metadata(&path).unwrap().len(), fs::metadata(&path).unwrap().modified().unwrap());
        fs::write(&path, vec![0; length as usize]).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    }
    job.expect(0, &format!("{line} --out out --plan-only"));
    let plans = ["plain", "out"].map(|out| fs::read(job.path(out).join("plan.parquet")).unwrap());
    assert!(plans[0] == plans[1]);
}

#[test]
fn a_damaged_list_of_buckets_is_none() {
    let job = tars();
    let line = format!("{LINE} {BUCKETS}");
    job.expect(0, &format!("{line} --out plain --plan-only"));
    job.expect(0, &format!("{line} --out out --list-only"));
    for (name, bytes) in job.files("out/listed") {
        if name.ends_with("buckets") {
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
            fs::write(job.path("out/listed").join(name), bytes).unwrap();
        }
    }
    job.expect(0, &format!("{line} --out out --plan-only"));
    let plans = ["plain", "out"].map(|out| fs::read(job.path(out).join("plan.parquet")).unwrap());
    assert!(plans[0] == plans[1]);
    job.expect(0, &format!("{line} --out out"));
    job.expect(0, "verify out");
    assert!(!job.path("out/listed").exists());
}

/// Who plans takes the lists away that the others may be about to.
#[test]
fn workers_that_begin_together_over_lists_all_end_well() {
    let job = tars();
    let line = format!("{LINE} {BUCKETS}");
    job.expect(0, &format!("{line} --out plain"));
    for _ in 0..3 {
        job.expect(0, &format!("{line} --out out --list-only"));
        let worker = |share| job.command(&format!("{line} --out out --partition {share}/4"));
        let begin = |share| worker(share).stdout(Stdio::null()).spawn().unwrap();
        let workers: Vec<_> = (0..4).map(begin).collect();
        for mut worker in workers {
            assert_eq!(worker.wait().unwrap().code(), Some(0));
        }
        assert!(!job.path("out/listed").exists());
        job.assert_same("plain/tokens", "out/tokens");
        fs::remove_dir_all(job.path("out")).unwrap();
    }
}
