//! Drives `tokenize --append` where it can't be done as it was asked, or on outputs that are not as they
//! were left. Must not know: how any of it is done.

use crate::support::appends;
use crate::support::containers;
use crate::support::*;
use appends::*;
use containers::{Layout, members, samples, table, tar};

use std::fs;

#[test]
fn other_settings_are_refused_and_files_of_others_are_kept() {
    let job = begun();
    arrive(&job, 10..18);
    let line = append("images", "out");
    job.expect(2, &format!("{line} --alpha black"))
        .assert_one_line(&["--alpha white", "out was made"]);
    let rows = line.replace("--shard-rows 4", "--shard-rows 5");
    job.expect(2, &rows).assert_one_line(&["--shard-rows 4, this run has 5"]);
    job.expect(0, "train images --model other --recipe tiny.toml --seed 7");
    let other = line.replace("--model model", "--model other");
    job.expect(2, &other).assert_one_line(&["another model"]);
    fs::copy(job.path("out/tokens/part-00000.parquet"), job.path("out/tokens/part-00004.parquet"))
        .unwrap();
    job.expect(2, &line).assert_one_line(&["part-00004.parquet exists and isn't of this job"]);
    fs::remove_file(job.path("out/tokens/part-00004.parquet")).unwrap();
    fs::create_dir(job.path("empty")).unwrap();
    job.expect(2, &append("empty", "out")).assert_one_line(&["no image under empty"]);
    job.expect(0, &line);
}

#[test]
fn images_that_are_planned_under_another_key_are_refused() {
    let job = begun();
    let before = job.files("out");
    let cats = names_of(10).iter().filter(|name| name.starts_with("cat/")).count();
    let refused = job.expect(2, &append("images/cat", "out"));
    refused.assert_one_line(&[
        &format!(
            "{cats} images of these INPUTs are planned already under other keys: '0001.bmp' at"
        ),
        "as 'cat/0001.bmp'",
        "give the one that was given then",
    ]);
    assert!(job.files("out") == before);
    // New ones beside them don't make them new.
    arrive(&job, 10..18);
    job.expect(2, &append("images/cat", "out")).assert_one_line(&["under other keys"]);
    job.expect(0, &append("images", "out"));
    // Who names keys has named them.
    let list = format!("file,id\n{},mine\n", job.path("images/cat/0001.bmp").display());
    fs::write(job.path("list.csv"), list).unwrap();
    let named = format!("{} --key-column id", append("list.csv", "out"));
    assert_eq!(appended(&job.expect(0, &named)), [1, 0, 0]);
}

#[test]
fn what_is_gone_and_where_labels_stand_is_told() {
    let job = begun();
    arrive(&job, 10..14);
    fs::remove_file(job.path("images/0000.png")).unwrap();
    let done = job.expect(0, &append("images", "out"));
    assert_eq!(done.events("gone")[0]["images"], 1);
    assert_eq!(done.events("plan")[0]["appended"]["gone"], 1);
    let told = job.expect(0, &append("images", "out").replace("--json", "")).stderr;
    let line =
        "not among these INPUTs, their rows stay: 1 image of the output; `vqtok plan --diff`";
    assert!(told.contains(line), "{told}");
    // New ones alone leave out the others.
    for (index, name) in ["train/cat/a.png", "val/cat/b.png"].into_iter().enumerate() {
        fs::create_dir_all(job.path("more").join(name).parent().unwrap()).unwrap();
        fs::rename(job.path(&format!("later/{}", 14 + index)), job.path("more").join(name))
            .unwrap();
    }
    let done = job.expect(0, &append("more", "out"));
    assert_eq!((appended(&done), done.events("gone").len()), ([2, 0, 0], 0));
    let labels = &done.events("labels")[0];
    assert_eq!((&labels["level"], &labels["of_inputs"]), (&"0".into(), &"1".into()));
    assert_eq!(job.expect(0, &append("more", "out")).events("labels").len(), 0);
}

#[test]
fn a_plan_of_another_output_is_told_before_anything_is_written() {
    let job = begun();
    job.expect(0, &format!("tokenize later --out other {FLAGS}"));
    fs::copy(job.path("other/plan.parquet"), job.path("out/plan.parquet")).unwrap();
    let before = job.files("out");
    arrive(&job, 10..18);
    let refused = job.expect(2, &append("images", "out"));
    refused.assert_one_line(&["part-00000.parquet", "it belongs to another output"]);
    assert!(job.files("out") == before);
}

#[test]
fn an_append_beside_one_that_runs_is_to_be_tried_again() {
    let job = begun();
    job.expect(0, &format!("{} --partition 1/2", append("later", "out")));
    let other = fs::read(job.path("later/10")).unwrap();
    fs::create_dir(job.path("another")).unwrap();
    fs::write(job.path("another/x.png"), other).unwrap();
    let running = fs::File::open(job.path("out")).unwrap();
    running.lock_shared().unwrap();
    let busy = job.expect(75, &append("another", "out"));
    busy.assert_one_line(&["another job is at work on this output; try again when it is done"]);
    drop(running);
    let refused = job.expect(2, &append("another", "out"));
    refused.assert_one_line(&["plan-00001.parquet isn't finished"]);
}

#[test]
fn an_older_finished_state_is_mended_by_the_next_run() {
    let job = begun();
    let older = ["dataset.json", "codebook.parquet"]
        .map(|name| (name, fs::read(job.path("out").join(name)).unwrap()));
    arrive(&job, 10..18);
    job.expect(0, &append("images", "out"));
    let newer = job.files("out");
    // As a job leaves it that summed up before the other one appended, and was slower.
    for (name, bytes) in &older {
        fs::write(job.path("out").join(name), bytes).unwrap();
    }
    assert!(job.files("out") != newer);
    job.expect(0, &format!("tokenize images --out out {FLAGS}"));
    assert!(job.files("out") == newer);
    job.expect(0, "verify out");
}

#[test]
fn a_plan_that_nothing_stands_upon_is_a_stray_and_a_lost_one_is_not() {
    let job = begun();
    job.expect(0, &format!("tokenize later --out other {FLAGS}"));
    let foreign = job.path("out/plan-00002.parquet");
    fs::copy(job.path("other/plan.parquet"), &foreign).unwrap();
    let verified = job.expect(1, "verify out --json");
    assert_eq!(verified.events("finding").len(), 0);
    assert_eq!(verified.events("stray")[0]["path"], "plan-00002.parquet");
    assert_eq!(verified.events("verified")[0]["finished"], true);
    fs::remove_file(&foreign).unwrap();
    arrive(&job, 10..14);
    job.expect(0, &append("images", "out"));
    arrive(&job, 14..18);
    job.expect(0, &append("images", "out"));
    // In the midst of others, whether or not `dataset.json` tells how many there are.
    fs::remove_file(job.path("out/plan-00001.parquet")).unwrap();
    for _ in 0..2 {
        let verified = job.expect(1, "verify out --json");
        let said = verified.events("finding");
        assert!(said.iter().any(|f| f["problem"] == "plan-00001.parquet is missing"), "{said:?}");
        let _ = fs::remove_file(job.path("out/dataset.json"));
    }
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    let lost = job.expect(2, "plan images --diff out --json");
    lost.assert_one_line(&["plan.parquet: it is missing from an output that has shards"]);
    let verified = job.expect(1, "verify out").stdout;
    assert!(
        verified.contains("rebuilds the damaged parts or says how to get a plan back"),
        "{verified}"
    );
}

/// Three tars, of which the second and third were appended.
fn tars() -> Job {
    let job = Job::new(18).trained();
    let files = samples(job.files("images"));
    for (name, some) in ["a", "b", "c"].iter().zip(files.chunks(6)) {
        fs::write(job.path(&format!("{name}.tar")), tar(&members(some))).unwrap();
        job.expect(0, &append(&format!("{name}.tar"), "out"));
    }
    job
}

#[test]
fn a_lost_plan_of_containers_comes_back_where_it_can() {
    let job = tars();
    let whole = job.files("out");
    // The first: from its own INPUT, whatever was appended.
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    job.expect(2, "repair out --model model").assert_one_line(&["run the same `vqtok tokenize`"]);
    job.expect(2, &format!("tokenize b.tar --out out {FLAGS}")).assert_one_line(&["another plan"]);
    job.expect(0, &format!("tokenize a.tar --out out {FLAGS}"));
    assert!(job.files("out") == whole);
    // The last one: by appending again.
    fs::remove_file(job.path("out/plan-00002.parquet")).unwrap();
    job.expect(2, "repair out --model model").assert_one_line(&["again with --append"]);
    job.expect(0, &append("c.tar", "out"));
    assert!(job.files("out") == whole);
    // One in the midst can't, which is said by all.
    fs::remove_file(job.path("out/plan-00001.parquet")).unwrap();
    job.expect(2, "repair out --model model").assert_one_line(&["later plans stand upon it"]);
    job.expect(2, &append("b.tar", "out"))
        .assert_one_line(&["missing among the plans", "rebuilds it, or says what to do"]);
    job.expect(0, "export out --to jsonl --out rows --partial");
}

#[test]
fn captions_that_came_later_are_told() {
    let job = begun();
    for name in names_of(10).iter().take(3) {
        let caption = job.path("images").join(name).with_extension("txt");
        fs::write(caption, "a caption").unwrap();
    }
    let words =
        "3 images with captions, labels or metadata beside them, which this output was begun";
    let diff = job.expect(0, "plan images --diff out").stdout;
    assert!(diff.contains("nothing has changed") && diff.contains(words), "{diff}");
    arrive(&job, 10..12);
    let line = append("images", "out");
    assert!(job.expect(0, &line.replace(" --json", "")).stderr.contains(words));
    assert_eq!(job.expect(0, &line).events("plan")[0]["unplanned_facts"], 3);
}

#[test]
fn rows_of_a_changed_table_are_never_taken_for_the_planned_ones() {
    let job = Job::new(18).trained();
    let mut rows = samples(job.files("images"));
    rows.truncate(4);
    let good = rows.clone();
    for row in &mut rows[..2] {
        row.bytes = b"no image".to_vec();
    }
    let file = job.path("rows.parquet");
    table(&file, &rows, Layout::Struct, 2);
    let line = format!("tokenize rows.parquet --out out {FLAGS}").replace("rows 4", "rows 2");
    job.expect(1, &line);
    let before = codes(&job, "out");
    assert_eq!(before.len(), 2);
    let mended: Vec<_> = [1, 0, 2, 3].iter().map(|&at: &usize| good[at].clone()).collect();
    table(&file, &mended, Layout::Struct, 2);
    job.expect(1, &format!("{line} --append --retry-failed"));
    assert_eq!(codes(&job, "out"), before, "no row has another one's tokens");
}
