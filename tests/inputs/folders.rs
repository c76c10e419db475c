//! Drives the binary with inputs as users have them: with hidden and system folders, vqtok's own
//! folders among them, moved, changed, in splits. Must not know: how any of it is done.

use crate::support::*;

use std::os::unix::fs::symlink;
use std::path::Path;

use arrow::array::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const TOKENIZE: &str = "tokenize images --model model --shard-rows 10";

/// A string column of a shard, nulls as "".
fn column(job: &Job, file: &str, name: &str) -> Vec<String> {
    let file = std::fs::File::open(job.path(file)).unwrap();
    let mut values = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let strings = batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        values.extend(strings.iter().map(|text| text.unwrap_or("").to_string()));
    }
    values
}

fn put(job: &Job, name: &str) {
    let path = job.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture(name.len() as u32).save(path).unwrap();
}

/// A model outside of what is tokenized, and `images` pictures.
fn trained(images: usize) -> Job {
    Job::new(images).trained()
}

#[test]
fn hidden_and_system_files_are_passed_over_and_counted_by_reason() {
    let job = trained(6);
    std::fs::remove_dir_all(job.path("images")).unwrap();
    for name in ["cat/0.png", "cat/.1.png", ".trash/2.png", "@eaDir/3.png", "__MACOSX/4.png"] {
        put(&job, &format!("images/{name}"));
    }
    let plan = job.expect(0, &format!("{TOKENIZE} --out out --json")).events("plan")[0].clone();
    assert_eq!((&plan["images"], &plan["skipped"]), (&1.into(), &4.into()));
    assert_eq!(plan["skipped_by_reason"]["hidden"], 2);
    assert_eq!(plan["skipped_by_reason"]["of a system"], 2);
    let told = job.expect(0, &format!("{TOKENIZE} --out out")).stderr;
    assert!(told.contains("(2 hidden, 2 of a system)") && told.contains("--hidden"), "{told}");
    let all = job.expect(0, &format!("{TOKENIZE} --out all --hidden --json"));
    assert_eq!(all.events("plan")[0]["images"], 5);
    // An output of a version that took them: what is missing is said, and the flag goes on.
    let lacking = job.expect(2, &format!("{TOKENIZE} --out all"));
    lacking.assert_one_line(&["0 new, 4 gone", "'.trash/2.png'", "--hidden goes on with them"]);
    let more = job.expect(2, &format!("{TOKENIZE} --out out --hidden"));
    more.assert_one_line(&["4 new", "leave --hidden out"]);
    // So in the other commands that walk inputs.
    let trained = job.expect(0, "train images --model second --recipe tiny.toml");
    assert!(trained.stderr.contains("4 skipped (2 hidden, 2 of a system)"), "{}", trained.stderr);
    let line = "reconstruct images --model model --out sheet.png --json";
    let sheet = job.expect(0, line);
    assert_eq!(sheet.events("reconstructed")[0]["images"].as_array().unwrap().len(), 1);
    assert_eq!(sheet.events("skipped")[0]["skipped"], 4);
    let sheet = job.expect(0, &format!("{line} --hidden"));
    assert_eq!(sheet.events("reconstructed")[0]["images"].as_array().unwrap().len(), 5);
    // What the user names is taken.
    let named = "tokenize images/.trash images/cat/.1.png --model model --out named --json";
    assert_eq!(job.expect(0, named).events("plan")[0]["images"], 2);
    std::fs::remove_dir_all(job.path("images/cat")).unwrap();
    let none = job.expect(2, "tokenize images --model model --out none");
    none.assert_one_line(&["no image under images", "1 hidden, 2 of a system", "--hidden"]);
}

#[test]
fn the_folder_of_a_network_drive_holds_one_image() {
    let Some(folder) = shared("reports/hidden") else { return };
    let job = trained(3);
    let line = format!("tokenize {} --model model --out out --json", folder.display());
    let plan = job.expect(0, &line).events("plan")[0].clone();
    assert_eq!(
        (&plan["images"], &plan["skipped_by_reason"]["of a system"]),
        (&1.into(), &4.into())
    );
}

#[test]
fn folders_of_vqtok_inside_an_input_are_passed_over_from_the_first_moment_on() {
    let job = Job::new(20);
    let pictures = job.files("images").len();
    let line = "tokenize images --model images/model --out images/out --recipe tiny.toml \
                --shard-rows 10 --json";
    let first = job.expect(0, line);
    assert_eq!(first.events("plan")[0]["images"], pictures);
    assert_eq!(first.events("plan")[0]["skipped_by_reason"]["written by vqtok"], 1);
    assert!(job.path("images/model/samples").read_dir().unwrap().next().is_some());
    let whole = job.files("images/out");
    let again = job.expect(0, line);
    assert_eq!(again.events("plan")[0]["skipped_by_reason"]["written by vqtok"], 2);
    assert!(whole == job.files("images/out"));
    symlink(job.path("images/model"), job.path("link")).unwrap();
    std::fs::create_dir(job.path("more")).unwrap();
    symlink(job.path("images/model/samples"), job.path("more/samples")).unwrap();
    put(&job, "more/x.png");
    let more = job.expect(0, "tokenize more --model link --out second --json");
    assert_eq!(more.events("plan")[0]["images"], 1);
    for (input, what) in [("images/model", "model folder"), ("images/out", "output folder")] {
        let line = format!("tokenize {input} --model images/model --out third");
        job.expect(2, &line).assert_one_line(&[input, what, "no input"]);
    }
    assert!(!job.path("third").exists());
}

#[test]
fn pictures_that_vqtok_drew_are_no_inputs_of_what_they_were_drawn_from() {
    let job = trained(12);
    let line = format!("{TOKENIZE} --out out --json");
    job.expect(0, &line);
    job.expect(0, "decode out --model model --out images/decoded");
    let again = job.expect(0, &line);
    assert_eq!(again.events("plan")[0]["skipped_by_reason"]["written by vqtok"], 12);
    // Named, they are what is meant.
    let own = job.expect(0, "tokenize images/decoded --model model --out third --json");
    assert_eq!(own.events("plan")[0]["images"], 12);
}

#[test]
fn a_training_among_its_own_images_is_interrupted_and_resumed() {
    let job = Job::new(24);
    let recipe = TINY_RECIPE.replace("steps = 4", "steps = 4000");
    std::fs::write(job.path("long.toml"), recipe).unwrap();
    let line = "train images --model images/model --recipe long.toml";
    let mut child = job.command(line).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let samples = job.path("images/model/samples");
    while !samples.read_dir().is_ok_and(|mut pictures| pictures.next().is_some()) {
        assert!(std::time::Instant::now() < deadline, "no picture within a minute");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    // SAFETY: kill(2) with the id of a child of ours that hasn't been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    job.expect(0, &format!("{line} --resume"));
}

#[test]
fn an_output_that_is_an_input_or_holds_one_is_refused_before_any_work() {
    let job = Job::new(4);
    symlink(job.path("images"), job.path("same")).unwrap();
    let rest = "--model new --recipe tiny.toml";
    for out in ["images", "images/", "same", "cat/../images", "."] {
        std::fs::create_dir_all(job.path("cat")).unwrap();
        let refused = job.expect(2, &format!("tokenize images {rest} --out {out}"));
        refused.assert_one_line(&["--out", "a folder of its own"]);
    }
    assert!(!job.path("new").exists(), "a training for nothing");
    let job = job.trained();
    let picture = job.files("images")[0].0.clone();
    for out in ["images/sheet.png", "same/new/sheet.png", &format!("images/{picture}")] {
        let line = format!("reconstruct images --model model --overwrite --out {out}");
        job.expect(2, &line).assert_one_line(&["--out", "the INPUT"]);
    }
    let line =
        format!("reconstruct images/{picture} --model model --overwrite --out images/{picture}");
    job.expect(2, &line).assert_one_line(&["that is the INPUT"]);
    job.expect(0, "tokenize images --model model --out images/sub/out");
    job.expect(0, "tokenize images --model model --out images/sub/out");
}

#[test]
fn changes_of_the_input_are_counted_with_examples_and_what_to_do() {
    let job = trained(30);
    job.expect(0, &format!("{TOKENIZE} --out out"));
    for index in 0..10 {
        put(&job, &format!("images/new/{index}\n.png"));
    }
    for index in [1, 4, 7] {
        let name = job.files("images/cat")[index].0.clone();
        let path = job.path("images/cat").join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    }
    let refused = job.expect(2, &format!("{TOKENIZE} --out out"));
    let words = ["10 new ('new/0\\n.png', 'new/1\\n.png', ", ", ...), 0 gone, 3 changed ('cat/"];
    refused.assert_one_line(&words);
    refused.assert_one_line(&["bytes and now has", "another --out", "restore the input"]);
    std::fs::remove_dir_all(job.path("images/new")).unwrap();
    std::fs::rename(job.path("images/dog"), job.path("images/wolf")).unwrap();
    let refused = job.expect(2, &format!("{TOKENIZE} --out out"));
    refused.assert_one_line(&["10 new ('wolf/", "10 gone ('dog/", "3 changed"]);
    std::fs::create_dir(job.path("other")).unwrap();
    put(&job, "other/x.png");
    let two = "tokenize images other --model model --out two";
    job.expect(0, two);
    job.expect(0, two);
    let swapped = job.expect(2, "tokenize other images --model model --out two");
    swapped.assert_one_line(&["the same images in another order"]);
    let added = job.expect(2, &format!("{TOKENIZE} --out two --shard-rows 4096"));
    assert_eq!(added.code, 2);
}

/// What the shards of a finished output are, whatever lies around them.
fn shards(job: &Job, out: &str) -> Vec<(String, Vec<u8>)> {
    job.files(out).into_iter().filter(|(name, _)| name != ".lock").collect()
}

#[test]
fn a_moved_data_folder_resumes_to_the_same_bytes() {
    let job = trained(35);
    std::fs::write(job.path("images/broken.png"), b"\x89PNG").unwrap();
    job.expect(1, &format!("{TOKENIZE} --out whole"));
    job.expect(1, &format!("{TOKENIZE} --out out --partition 1/3"));
    std::fs::create_dir_all(job.path("else/where")).unwrap();
    std::fs::rename(job.path("images"), job.path("else/where/photos")).unwrap();
    let line = "tokenize else/where/photos --model model --shard-rows 10";
    let moved = job.expect(1, &format!("{line} --out out --json"));
    let told = &moved.events("plan")[0]["moved"];
    assert!(told["from"].as_str().unwrap().ends_with("/images/"), "{told}");
    assert!(told["to"].as_str().unwrap().ends_with("/else/where/photos/"), "{told}");
    assert!(shards(&job, "out") == shards(&job, "whole"), "a move changed what is written");
    job.expect(0, "verify out");
    let human = job.expect(1, &format!("{line} --out out")).stderr;
    assert!(human.contains("moved since they were planned"), "{human}");
    // Other words for a place are no other place.
    let same = "tokenize else/../else/where/photos --model model --out same --json";
    job.expect(1, "tokenize else/where/photos --model model --out same");
    assert!(job.expect(1, same).events("plan")[0]["moved"].is_null());

    // Bad shards and a lost plan are made again from there as well, once that is said; never as
    // failures.
    let finished = shards(&job, "out");
    let shard = job.path("out/tokens/part-00002.parquet");
    std::fs::write(&shard, b"PAR1").unwrap();
    let lost = job.expect(2, "repair out --model model");
    lost.assert_one_line(&["shard 2", "aren't at their place", "/images/", "pass --moved with"]);
    assert_eq!(std::fs::read(&shard).unwrap(), b"PAR1");
    job.expect(2, "repair out --model model --moved nowhere=else");
    job.expect(1, "repair out --model model --moved images=else/where/photos");
    assert!(finished == shards(&job, "out"));
    std::fs::remove_file(job.path("out/plan.parquet")).unwrap();
    job.expect(1, "repair out --model model --moved images/=else/where/photos/");
    assert!(finished == shards(&job, "out"));

    // Failures are retried at the new place.
    picture(3).save(job.path("else/where/photos/broken.png")).unwrap();
    job.expect(0, &format!("{line} --out out --retry-failed"));
    job.expect(0, "verify out");
    assert!(column(&job, "out/tokens/part-00001.parquet", "key").contains(&"broken.png".into()));
}

#[test]
fn another_folder_with_the_same_names_and_sizes_is_no_moved_one() {
    let job = trained(12);
    job.expect(0, &format!("{TOKENIZE} --out out --partition 0/2"));
    for (name, bytes) in job.files("images") {
        let path = job.path("others").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = bytes.clone();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let other = job.expect(2, "tokenize others --model model --shard-rows 10 --out out");
    other.assert_one_line(&["isn't the file that was tokenized", "/others/"]);
    job.expect(0, &format!("{TOKENIZE} --out out"));
}

fn labels(job: &Job, out: &str) -> (Vec<String>, Vec<String>) {
    let file = format!("{out}/tokens/part-00000.parquet");
    (column(job, &file, "label"), column(job, &file, "meta_json"))
}

#[test]
fn labels_are_classes_below_splits_and_the_split_is_told() {
    let job = trained(3);
    std::fs::remove_dir_all(job.path("images")).unwrap();
    for name in ["train/cat/0.png", "train/dog/1.png", "val/cat/2.png", "val/3.png", "4.png"] {
        put(&job, &format!("images/{name}"));
    }
    let line = "tokenize images --model model";
    let done = job.expect(0, &format!("{line} --out out --json"));
    let plan = &done.events("plan")[0];
    assert_eq!(plan["label_level"], "1");
    assert_eq!(plan["splits"], serde_json::json!(["train", "val"]));
    let told = job.expect(0, &format!("{line} --out told")).stderr;
    assert!(told.contains("splits train, val: labels are the folders below them"), "{told}");
    let splits = ["", "train", "train", "val", "val"].map(|split| match split {
        "" => String::new(),
        split => format!("{{\"split\":\"{split}\"}}"),
    });
    let classes = ["", "cat", "dog", "", "cat"].map(str::to_string);
    assert_eq!(labels(&job, "out"), (classes.to_vec(), splits.to_vec()));
    job.expect(0, "verify out");
    job.expect(0, &format!("{line} --out out"));
    let refused = job.expect(2, &format!("{line} --out out --label-level 0"));
    refused.assert_one_line(&["label_level = 1", "0"]);
    // As before, by the flag; an output made so is continued without it.
    job.expect(0, &format!("{line} --out first --label-level 0"));
    let first = ["", "train", "train", "val", "val"].map(str::to_string).to_vec();
    assert_eq!(labels(&job, "first"), (first, vec![String::new(); 5]));
    job.expect(0, &format!("{line} --out first"));
    job.expect(0, &format!("{line} --out none --label-level none"));
    assert_eq!(labels(&job, "none").0, vec![String::new(); 5]);
    let wrong = job.expect(2, &format!("{line} --out wrong --label-level second"));
    assert!(wrong.stderr.contains("or none"), "{}", wrong.stderr);
    // Where not every first folder is a split, nothing is guessed, and that is said.
    put(&job, "images/extra/cat/5.png");
    let mixed = job.expect(0, &format!("{line} --out mixed"));
    assert!(mixed.stderr.contains("'extra' doesn't"), "{}", mixed.stderr);
    assert_eq!(labels(&job, "mixed").0[1], "extra");
}

#[test]
fn trees_that_are_odd_but_sound_give_each_image_once() {
    let job = trained(3);
    let odd = job.path("odd");
    let names = ["a/ü\n.png", "a/B.PNG", "a/b.png", "empty/.keep", "日本/x.png", "Thumbs/y.png"];
    for name in names.iter().filter(|name| name.ends_with("png") || name.ends_with("PNG")) {
        put(&job, &format!("odd/{name}"));
    }
    std::fs::create_dir_all(odd.join("empty")).unwrap();
    symlink(&odd, odd.join("loop")).unwrap();
    symlink("nowhere.png", odd.join("gone.png")).unwrap();
    let done = job.expect(1, "tokenize odd --model model --out odd/out --json");
    let plan = &done.events("plan")[0];
    assert_eq!((&plan["images"], &done.events("dataset")[0]["failed"]), (&6.into(), &1.into()));
    job.expect(1, "tokenize odd --model model --out odd/out");
    job.expect(0, "verify odd/out");
    read_only(&odd, true);
    let again = job.run("tokenize odd --model model --out elsewhere");
    read_only(&odd, false);
    assert_eq!(again.code, 1, "{}", again.stderr);
}

fn read_only(folder: &Path, yes: bool) {
    use std::os::unix::fs::PermissionsExt;
    let mode = if yes { 0o555 } else { 0o755 };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_looked_into_is_named_and_is_no_clean_end() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let job = trained(4);
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    put(&job, "images/locked/inside.png");
    mode(job.dir.path(), 0o777);
    // Root may look into everything: somebody else runs a copy that lies where they may reach it.
    let copy = job.path("vqtok");
    std::fs::copy(env!("CARGO_BIN_EXE_vqtok"), &copy).unwrap();
    let run = |line: &str| {
        let mut command = std::process::Command::new(&copy);
        command.args(line.split(' ')).current_dir(job.dir.path());
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } == 0 {
            command.uid(65534).gid(65534);
        }
        command.output().unwrap()
    };
    mode(&job.path("images/locked"), 0);
    let line = "tokenize images --model model --out out";
    for again in [false, true] {
        let done = run(line);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{told}");
        if !again {
            let words = "couldn't be looked at: 'locked' (Permission denied)";
            assert!(told.contains(words), "{told}");
        }
    }
    let verified = run("verify out");
    assert_eq!(verified.status.code(), Some(0));
    mode(&job.path("images/locked"), 0o755);
    let done = run(line);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{told}");
    assert!(told.contains("1 new ('locked/inside.png')"), "{told}");
}

#[test]
fn a_finished_output_that_lost_a_shard_is_folded_again() {
    let job = trained(9);
    let line = "tokenize images --model model --out out --shard-rows 3";
    job.expect(0, line);
    let whole = job.files("out");
    std::fs::remove_file(job.path("out/tokens/part-00001.parquet")).unwrap();
    job.expect(0, line);
    assert!(job.files("out") == whole, "made anew, byte for byte");
    // Its image has other pixels by now, in as many bytes.
    let name = column(&job, "out/tokens/part-00001.parquet", "key").remove(0);
    let path = job.path(&format!("images/{name}"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(job.path("out/tokens/part-00001.parquet")).unwrap();
    let done = job.run(line);
    assert!(done.code == 0 || done.code == 1, "{}", done.stderr);
    job.expect(0, "verify out");
}
