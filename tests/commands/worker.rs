//! Drives `vqtok worker` as an engine does: partitions asked for in any order, bad lines, kills, the
//! end of whoever started it, a partition that ends every worker. What comes of it is byte for byte
//! what one job leaves.

use crate::support::random::{Random, rounds};
use crate::support::*;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::RowAccessor;
use serde_json::{Value, json};

const TOKENIZE: &str = "tokenize images --model model --shard-rows 4";
const WORKER: &str = "worker --model model --threads 1 --out";
/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker, and what it says.
struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Receiver<Value>,
}

impl Worker {
    fn start(job: &Job, out: &str) -> Worker {
        Worker::of(job.command(&format!("{WORKER} {out}")))
    }

    fn of(mut command: Command) -> Worker {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = pipes.spawn().unwrap();
        let (to, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A line can be cut by a kill, and nobody may be listening any more.
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = to.send(event);
                }
            }
        });
        Worker { stdin: child.stdin.take(), child, events }
    }

    /// One that has said that it is ready.
    fn ready(job: &Job, out: &str) -> Worker {
        let worker = Worker::start(job, out);
        assert_eq!(worker.next().unwrap()["event"], "ready");
        worker
    }

    fn say(&mut self, line: &str) {
        // One that was killed doesn't listen.
        let _ = writeln!(self.stdin.as_mut().unwrap(), "{line}");
    }

    /// What it says next; None at its end.
    fn next(&self) -> Option<Value> {
        match self.events.recv_timeout(PATIENCE) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the worker says nothing"),
        }
    }

    /// The answer to a partition.
    fn answer(&mut self, request: Value) -> Value {
        self.say(&request.to_string());
        self.next_but_heartbeats().unwrap()
    }

    fn next_but_heartbeats(&self) -> Option<Value> {
        std::iter::from_fn(|| self.next()).find(|event| event["event"] != "heartbeat")
    }

    /// Its exit code, once stdin is at its end.
    fn end(mut self) -> Option<i32> {
        self.stdin = None;
        self.child.wait().unwrap().code()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that wasn't waited for yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }
}

/// Pictures, the output of one job, and a plan in `out` of which nothing is made.
fn scene(images: usize, broken: bool) -> Job {
    let job = Job::new(images).trained();
    if broken {
        std::fs::write(job.path("images/dog/broken.png"), b"\x89PNG").unwrap();
    }
    job.expect(broken.into(), &format!("{TOKENIZE} --out whole"));
    job.expect(0, &format!("{TOKENIZE} --out out --plan-only"));
    job
}

/// One partition that takes many seconds: a large picture under many names.
fn slow(job: &Job) {
    std::fs::create_dir(job.path("large")).unwrap();
    let large = image::RgbImage::from_fn(3000, 3000, |x, y| {
        image::Rgb([(x * y / 7) as u8, (x / 3) as u8, (y * 5 / 3) as u8])
    });
    large.save(job.path("large/000.png")).unwrap();
    for copy in 1..200 {
        std::fs::hard_link(job.path("large/000.png"), job.path(&format!("large/{copy:03}.png")))
            .unwrap();
    }
    job.expect(0, "tokenize large --model model --batch-size 1 --out slow --plan-only");
}

fn shards(job: &Job, out: &str) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(job.path(out).join("tokens")) else { return Vec::new() };
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The first heartbeat of the slow partition, which is then in work.
fn in_work(worker: &mut Worker) {
    worker.say("{\"partition\": 0}");
    let beat = worker.next().unwrap();
    assert_eq!((&beat["event"], &beat["partition"]), (&json!("heartbeat"), &json!(0)));
    assert_eq!(beat["images"], 200);
    assert!(beat["done"].as_u64().unwrap() < 200, "{beat}");
}

#[test]
fn partitions_in_any_order_are_those_of_one_job() {
    let job = scene(63, true);
    let todo = job.expect(0, &format!("{TOKENIZE} --out out --plan-only --json")).events("todo");
    assert_eq!(todo.len(), 16);
    assert_eq!(todo.iter().map(|e| e["images"].as_u64().unwrap()).sum::<u64>(), 64);
    let mut worker = Worker::start(&job, "out");
    let ready = worker.next().unwrap();
    assert_eq!((&ready["event"], &ready["out"]), (&json!("ready"), &json!("out")));
    assert_eq!(ready["partitions"], 16);
    let mut failed = 0;
    for partition in (0..16).rev() {
        let receipt = worker.answer(json!({"partition": partition}));
        assert_eq!(
            (&receipt["event"], &receipt["commit"]),
            (&json!("receipt"), &json!("committed"))
        );
        assert_eq!((&receipt["partition"], &receipt["images"]), (&json!(partition), &json!(4)));
        failed += receipt["failed"].as_u64().unwrap();
    }
    assert_eq!(failed, 1);
    let again = worker.answer(json!({"partition": 3, "deaths": 7}));
    assert_eq!((&again["event"], &again["commit"]), (&json!("receipt"), &json!("already")));
    assert_eq!(worker.end(), Some(1));
    job.expect(1, "finalize out");
    job.assert_same("whole", "out");
    let done = job.expect(0, &format!("{TOKENIZE} --out out --plan-only --json"));
    assert_eq!(done.events("written-plan")[0]["missing"], 0);
}

#[test]
fn a_bad_line_is_one_answer_and_the_worker_lives_on() {
    let job = scene(6, false);
    let mut worker = Worker::ready(&job, "out");
    let long = " ".repeat(9000);
    let bad =
        ["3", "{\"partition\":", "{\"partition\": -1}", "{\"partition\": 0, \"x\": 1}", &long];
    for (index, line) in bad.iter().enumerate() {
        worker.say(line);
        let told = worker.next().unwrap();
        assert_eq!((&told["event"], &told["line"]), (&json!("refused"), &json!(index + 1)));
        assert!(!told["message"].as_str().unwrap().contains('\n'), "{told}");
    }
    worker.say("");
    let beyond = worker.answer(json!({"partition": 2}));
    assert_eq!((&beyond["event"], &beyond["exit_code"]), (&json!("error"), &json!(2)));
    assert!(beyond["message"].as_str().unwrap().contains("has 2, from 0"), "{beyond}");
    assert_eq!(worker.answer(json!({"partition": 1}))["event"], "receipt");
    assert_eq!(worker.end(), Some(1));
    let clean = Worker::ready(&job, "out");
    assert_eq!(clean.end(), Some(0));
}

#[test]
fn what_was_asked_for_is_made_at_the_end_of_stdin() {
    let job = scene(12, false);
    let mut worker = Worker::ready(&job, "out");
    (0..3).for_each(|partition| worker.say(&format!("{{\"partition\": {partition}}}")));
    assert_eq!(worker.end(), Some(0));
    job.expect(0, "finalize out");
    job.assert_same("whole", "out");
}

#[test]
fn a_worker_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let kills = rounds(50);
    let job = Job::new(kills + 13).trained();
    let line = "tokenize images --model model --shard-rows 1";
    job.expect(0, &format!("{line} --out whole"));
    job.expect(0, &format!("{line} --out out --plan-only"));
    let mut random = Random(0x19);
    let started = Instant::now();
    assert_eq!(Worker::ready(&job, "out").end(), Some(0));
    // From the start of a process to its first commits, and a little beyond.
    let life = started.elapsed().mul_f64(1.5);
    let mut told = 0;
    for _ in 0..kills {
        let mut worker = Worker::start(&job, "out");
        let there = shards(&job, "out");
        let missing = |p: &usize| !there.contains(&format!("part-{p:05}.parquet"));
        let next = (0..kills + 13).find(missing).unwrap();
        worker.say(&json!({"partition": next}).to_string());
        std::thread::sleep(life.mul_f64(random.below(1000) as f64 / 1000.0));
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
        while let Some(event) = worker.next_but_heartbeats() {
            if event["event"] == "receipt" {
                told += 1;
                let name = format!("part-{next:05}.parquet");
                assert!(shards(&job, "out").contains(&name), "a receipt without {name}");
            }
        }
    }
    let there = shards(&job, "out").iter().filter(|name| name.starts_with("part-")).count();
    assert!(told <= there && there <= kills, "{told} receipts, {there} shards");
    job.expect(0, "verify out --partial");
    let mut worker = Worker::ready(&job, "out");
    for partition in 0..kills + 13 {
        assert_eq!(worker.answer(json!({"partition": partition}))["event"], "receipt");
    }
    assert_eq!(worker.end(), Some(0));
    job.expect(0, "finalize out");
    job.assert_same("whole", "out");
    println!("{kills} kills: {there} shards were there, {told} of them told");
}

#[test]
fn sigterm_drops_the_partition_within_ten_seconds() {
    let job = scene(4, false);
    slow(&job);
    let mut worker = Worker::ready(&job, "slow");
    in_work(&mut worker);
    worker.signal(libc::SIGTERM);
    let started = Instant::now();
    let told = worker.next_but_heartbeats().unwrap();
    assert_eq!((&told["event"], &told["exit_code"]), (&json!("error"), &json!(75)));
    assert!(told["message"].as_str().unwrap().contains("partition 0 is dropped"), "{told}");
    assert_eq!(worker.child.wait().unwrap().code(), Some(75));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(shards(&job, "slow"), Vec::<String>::new());
    // One that has nothing to do ends as well.
    let mut idle = Worker::ready(&job, "out");
    idle.signal(libc::SIGTERM);
    assert_eq!(idle.child.wait().unwrap().code(), Some(75));
}

#[test]
fn the_death_of_the_process_that_started_it_ends_a_worker_at_work() {
    let job = scene(4, false);
    slow(&job);
    // The shell is the parent; stdin and stdout stay open here when it dies.
    let mut shell = Command::new("sh");
    let worker = format!("{WORKER} slow");
    let line = "exec 3<&0; \"$0\" \"$@\" <&3 & wait";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_vqtok")]).args(worker.split(' '));
    shell.current_dir(job.dir.path());
    let mut worker = Worker::of(shell);
    assert_eq!(worker.next().unwrap()["event"], "ready");
    in_work(&mut worker);
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    let started = Instant::now();
    let told = worker.next_but_heartbeats().unwrap();
    assert!(told["message"].as_str().unwrap().contains("is gone; partition 0"), "{told}");
    assert_eq!(worker.next(), None, "it still holds its stdout");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(shards(&job, "slow"), Vec::<String>::new());
}

/// Stage and reason of each row of a partition's failures.
fn failures(job: &Job, out: &str, partition: usize) -> Vec<(String, String)> {
    let start = format!("part-{partition:05}-");
    let mut names = std::fs::read_dir(job.path(out).join("failures")).unwrap();
    let entry = names.find_map(|entry| {
        let entry = entry.unwrap();
        entry.file_name().to_str().unwrap().starts_with(&start).then_some(entry)
    });
    let file = std::fs::File::open(entry.unwrap().path()).unwrap();
    let rows = SerializedFileReader::new(file).unwrap();
    let text = |row: &parquet::record::Row, at: usize| row.get_string(at).unwrap().clone();
    let rows = rows.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| (text(&row, 3), text(&row, 4))).collect()
}

#[test]
fn a_partition_that_ends_three_workers_becomes_failures() {
    let job = scene(14, false);
    let poisoned = || {
        let mut command = job.command(&format!("{WORKER} out"));
        command.env("VQTOK_FAILPOINT", "decode:1:panic");
        Worker::of(command)
    };
    for deaths in 0..3 {
        let mut worker = poisoned();
        assert_eq!(worker.next().unwrap()["event"], "ready");
        let told = worker.answer(json!({"partition": 1, "deaths": deaths}));
        assert_eq!(told["event"], "error", "{told}");
        assert_eq!(worker.child.wait().unwrap().code(), Some(70));
        assert_eq!(shards(&job, "out").len(), 0);
    }
    let mut worker = poisoned();
    assert_eq!(worker.next().unwrap()["event"], "ready");
    let receipt = worker.answer(json!({"partition": 1, "deaths": 3}));
    assert_eq!((&receipt["event"], &receipt["commit"]), (&json!("receipt"), &json!("committed")));
    assert_eq!((&receipt["written"], &receipt["failed"]), (&json!(0), &json!(4)));
    assert_eq!(worker.end(), Some(1));
    let reason = ("process".to_string(), "its partition ended 3 workers: given up".to_string());
    assert_eq!(failures(&job, "out", 1), vec![reason; 4]);
    let mut worker = Worker::ready(&job, "out");
    for partition in [0, 2, 3] {
        assert_eq!(worker.answer(json!({"partition": partition}))["failed"], 0);
    }
    assert_eq!(worker.end(), Some(0));
    job.expect(1, "finalize out");
    job.expect(0, "verify out");
    job.expect(0, &format!("{TOKENIZE} --out out --retry-failed"));
    job.assert_same("whole", "out");
}

#[test]
fn a_shard_lost_of_a_finished_output_is_made_once_the_plan_is_looked_at() {
    let job = scene(8, false);
    job.expect(0, &format!("{TOKENIZE} --out out"));
    std::fs::remove_file(job.path("out/tokens/part-00001.parquet")).unwrap();
    let mut worker = Worker::ready(&job, "out");
    let told = worker.answer(json!({"partition": 1}));
    assert_eq!((&told["event"], &told["exit_code"]), (&json!("error"), &json!(2)));
    assert!(told["message"].as_str().unwrap().contains("--plan-only"), "{told}");
    assert_eq!(worker.end(), Some(1));
    job.expect(0, &format!("{TOKENIZE} --out out --plan-only"));
    assert!(!job.path("out/dataset.json").exists());
    let mut worker = Worker::ready(&job, "out");
    assert_eq!(worker.answer(json!({"partition": 1}))["commit"], "committed");
    assert_eq!(worker.end(), Some(0));
    job.expect(0, "finalize out");
    job.assert_same("whole", "out");
}

#[test]
fn a_worker_is_of_the_plans_model_and_settings() {
    let job = scene(6, false);
    let five = TINY_RECIPE.replace("steps = 4", "steps = 5");
    std::fs::write(job.path("five.toml"), five).unwrap();
    job.expect(0, "train images --model other --recipe five.toml --seed 9");
    job.expect(2, "worker --model other --out out").assert_one_line(&["another model", "worker"]);
    job.expect(2, "worker --model nowhere --out out").assert_one_line(&["nowhere"]);
    // What images become, and where labels stand, is as planned.
    let line = "tokenize images --model model --size 32 --views flips --label-level none";
    job.expect(0, &format!("{line} --out planned --plan-only"));
    job.expect(0, &format!("{line} --out made"));
    let mut worker = Worker::ready(&job, "planned");
    let receipt = worker.answer(json!({"partition": 0}));
    assert_eq!((&receipt["written"], &receipt["rows"]), (&json!(6), &json!(12)));
    assert_eq!(worker.end(), Some(0));
    job.expect(0, "finalize planned");
    job.assert_same("made", "planned");
    // A plan may come after the worker.
    let mut early = Worker::start(&job, "later");
    let ready = early.next().unwrap();
    assert_eq!((&ready["event"], &ready["partitions"]), (&json!("ready"), &Value::Null));
    let told = early.answer(json!({"partition": 0}));
    assert!(told["message"].as_str().unwrap().contains("there is no plan"), "{told}");
    job.expect(0, "tokenize images --model model --out later --plan-only");
    assert_eq!(early.answer(json!({"partition": 0}))["commit"], "committed");
    assert_eq!(early.end(), Some(1));
}

#[test]
fn a_bad_image_costs_its_partition_where_it_shall() {
    let job = scene(6, true);
    let worker = job.command(&format!("{WORKER} out --on-error stop"));
    let mut worker = Worker::of(worker);
    assert_eq!(worker.next().unwrap()["event"], "ready");
    let told: Vec<Value> = (0..2).map(|p| worker.answer(json!({"partition": p}))).collect();
    let errors: Vec<_> = told.iter().filter(|event| event["event"] == "error").collect();
    assert_eq!(errors.len(), 1, "{told:?}");
    assert!(errors[0]["message"].as_str().unwrap().contains("broken.png"), "{told:?}");
    assert_eq!(worker.end(), Some(1));
}
