//! Drives the binary with outputs in an object store: what lies there in the end is byte for byte what
//! lies on the disk after an undisturbed job, whoever raced, died or didn't answer meanwhile. Needs
//! moto's server: `VQTOK_MOTO` names it.
//!
//! A usual run makes a few kills. The long one:
//! `VQTOK_FAULT_ROUNDS=100 cargo test --release --features stores --test stores outputs -- --nocapture`.

use crate::support::containers;
use crate::support::random::{Random, rounds};
use crate::support::stores;
use crate::support::*;
use containers::{members, samples, tar};
use stores::{Cloud, Faults, Seen};

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Many shards in little time.
const LINE: &str = "tokenize images --model model --shard-rows 4 --batch-size 2 --threads 1";
const SHARDS: usize = 10;

/// Pictures, one of them broken, the output `whole` of an undisturbed job, and how long it takes into
/// the store.
fn scene() -> Option<(Cloud, Duration)> {
    let job = Job::new(39).trained();
    std::fs::write(job.path("images/dog/broken.png"), b"\x89PNG").unwrap();
    let cloud = Cloud::of(job)?;
    cloud.expect(1, &format!("{LINE} --out whole"));
    let ended = cloud.expect(1, &format!("{LINE} --out @/calm"));
    cloud.assert_same("whole", "calm");
    assert!(!cloud.job.path("tmp/vqtok-to-stores").exists(), "an empty folder is left");
    Some((cloud, ended.took))
}

fn start(cloud: &Cloud, line: &str) -> Child {
    let mut command = cloud.command(line);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Workers at once on the lines, each of which ends with one of the codes.
fn race(cloud: &Cloud, lines: impl Iterator<Item = String>, codes: &[i32]) {
    let start = |line: String| {
        let mut command = cloud.command(&line);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let workers: Vec<Child> = lines.map(start).collect();
    for worker in workers {
        let ended = worker.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        let code = ended.status.code().unwrap_or(-1);
        assert!(codes.contains(&code), "{code}: {said}");
    }
}

/// Every shard was made visible once, and nothing was written over.
fn assert_no_double(seen: &[Seen]) {
    let made = seen.iter().filter(|seen| seen.method == "PUT" && seen.status == 200);
    let mut shards: Vec<_> =
        made.map(|seen| &seen.target).filter(|target| target.contains("/tokens/")).collect();
    shards.sort();
    let count = shards.len();
    shards.dedup();
    assert_eq!((count, shards.len()), (SHARDS, SHARDS), "{shards:?}");
}

#[test]
fn six_workers_race_into_one_bucket() {
    let Some((cloud, _)) = scene() else { return };
    cloud.proxy.take_seen();
    race(&cloud, (0..6).map(|_| format!("{LINE} --out @/race")), &[1]);
    cloud.assert_same("whole", "race");
    assert_no_double(&cloud.proxy.take_seen());
    // By shares, each does its own.
    let share = |rank| format!("{LINE} --out @/shares --partition {rank}/6");
    race(&cloud, (0..6).map(share), &[0, 1]);
    cloud.assert_same("whole", "shares");
    assert_no_double(&cloud.proxy.take_seen());
    cloud.expect(0, "verify @/race");
    assert_eq!(cloud.left(), [] as [&str; 0]);
}

#[test]
fn a_store_that_is_busy_or_loses_answers_gets_the_same_bytes() {
    let Some((cloud, _)) = scene() else { return };
    let faults = [
        Faults { busy_every: 3, ..Faults::default() },
        Faults { lose_every: 4, ..Faults::default() },
        Faults { cut_every: 3, ..Faults::default() },
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        cloud.proxy.set(fault);
        let out = format!("bad-{index}");
        let line = format!("{LINE} --out @/{out}");
        let mut workers = [start(&cloud, &line), start(&cloud, &line)];
        let codes = workers.each_mut().map(|worker| worker.wait().unwrap().code());
        assert_eq!(codes, [Some(1), Some(1)], "{out}");
        cloud.assert_same("whole", &out);
    }
    cloud.proxy.set(Faults::default());
    assert_eq!(cloud.left(), [] as [&str; 0]);
}

#[test]
fn a_store_that_is_away_for_ten_seconds_gets_the_same_bytes() {
    let Some((cloud, _)) = scene() else { return };
    let line = format!("{LINE} --out @/away");
    cloud.proxy.set(Faults { delay: Duration::from_millis(50), ..Faults::default() });
    let mut workers = [start(&cloud, &line), start(&cloud, &line)];
    wait_until(|| !cloud.moto.keys(&cloud.bucket, "away/tokens/").is_empty());
    cloud.proxy.stop();
    std::thread::sleep(Duration::from_secs(10));
    cloud.proxy.set(Faults::default());
    cloud.proxy.again();
    let codes = workers.each_mut().map(|worker| worker.wait().unwrap().code());
    assert_eq!(codes, [Some(1), Some(1)]);
    cloud.assert_same("whole", "away");
}

fn wait_until(mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "it doesn't come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_outage_that_lasts_ends_the_run_and_the_next_goes_on() {
    let Some((cloud, _)) = scene() else { return };
    let cloud = cloud.impatient();
    let line = format!("{LINE} --out @/gone");
    cloud.proxy.set(Faults { delay: Duration::from_millis(50), ..Faults::default() });
    let mut worker = cloud.command(&line);
    let worker = worker.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| !cloud.moto.keys(&cloud.bucket, "gone/tokens/").is_empty());
    cloud.proxy.stop();
    let output = worker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("run the same command again to go on"), "{said}");
    cloud.proxy.set(Faults::default());
    cloud.proxy.again();
    cloud.expect(1, &line);
    cloud.assert_same("whole", "gone");
}

#[test]
fn a_store_that_gives_names_twice_is_refused_before_any_work() {
    let Some((cloud, _)) = scene() else { return };
    let cloud = cloud.impatient();
    cloud.proxy.set(Faults { ignore_if_none_match: true, ..Faults::default() });
    let ended = cloud.expect(2, &format!("{LINE} --out @/twice"));
    ended.assert_one_line(&["/twice", "ignores If-None-Match"]);
    assert_eq!(cloud.moto.keys(&cloud.bucket, "twice"), [] as [&str; 0]);
    cloud.proxy.set(Faults { deny: true, ..Faults::default() });
    let ended = cloud.expect(2, &format!("{LINE} --out @/denied"));
    ended.assert_one_line(&["/denied", "HTTP 403"]);
    cloud.proxy.set(Faults::default());
    cloud.expect(2, &format!("{LINE} --out s3://no-such-bucket-of-ours/x"));
    cloud.proxy.stop();
    let ended = cloud.expect(2, &format!("{LINE} --out @/nowhere"));
    ended.assert_one_line(&["/nowhere", "Connection refused"]);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

/// What is read, what it is called in a store's bucket, and whether the output lies there too.
const KILLED: [(&str, &str, bool); 3] =
    [("images", "images", true), ("tar", "@/all.tar", true), ("tar", "@/all.tar", false)];

/// One kill: of the one worker, or of the first of two. Returns whether it hit, and whether it hit in
/// the midst: when the first shard was there and the last one wasn't.
fn one_kill(cloud: &Cloud, line: &str, out: &str, two: bool, after: Duration) -> (bool, bool) {
    let mut workers = vec![start(cloud, line)];
    workers.extend(two.then(|| start(cloud, line)));
    std::thread::sleep(after);
    workers[0].kill().unwrap();
    let died = workers[0].wait().unwrap().code().is_none();
    let names = cloud.names(out);
    let shards = names.iter().filter(|name| name.contains("tokens/part-")).count();
    for survivor in &mut workers[1..] {
        assert_eq!(survivor.wait().unwrap().code(), Some(1), "{out}: the survivor");
    }
    if cloud.names(out).iter().any(|name| name == "plan.parquet") {
        cloud.expect(0, &format!("verify {out} --partial"));
    }
    (died, died && (1..SHARDS).contains(&shards))
}

#[test]
fn a_kill_at_a_random_moment_costs_nothing() {
    let Some((cloud, _)) = scene() else { return };
    cloud.put("all.tar", &tar(&members(&samples(cloud.job.files("images")))));
    cloud.expect(1, &format!("{} --out whole-tar", LINE.replace("images", "@/all.tar")));
    // How long each takes undisturbed, so that the kills fall into all of it.
    let took = KILLED.map(|(_, input, remote)| {
        let out = format!("{}timed-{}", if remote { "@/" } else { "" }, input.len());
        cloud.expect(1, &format!("{} --out {out}", LINE.replace("images", input))).took
    });
    let mut random = Random(0x57035);
    let (mut kills, mut midst, mut round) = ([0; KILLED.len()], [0; KILLED.len()], 0);
    while kills.iter().sum::<usize>() < rounds(6) {
        let case = round % KILLED.len();
        let (of, input, remote) = KILLED[case];
        let out = format!("{}cut{round}", if remote { "@/" } else { "" });
        let line = format!("{} --out {out}", LINE.replace("images", input));
        let after = took[case].mul_f64(random.below(1000) as f64 / 1000.0);
        let (died, in_midst) = one_kill(&cloud, &line, &out, round / KILLED.len() % 2 == 1, after);
        kills[case] += usize::from(died);
        midst[case] += usize::from(in_midst);
        cloud.expect(1, &line);
        let reference = if of == "tar" { "whole-tar" } else { "whole" };
        match remote {
            true => cloud.assert_same(reference, &out["@/".len()..]),
            false => cloud.job.assert_same(reference, &out),
        }
        assert_eq!(cloud.left(), [] as [&str; 0], "round {round}");
        round += 1;
    }
    println!("{kills:?} kills, {midst:?} of them in the midst, in {round} rounds of {KILLED:?}:");
    println!("every output is the same afterwards");
}

#[test]
fn a_death_at_each_kind_of_operation_costs_nothing() {
    let Some((cloud, _)) = scene() else { return };
    let places = ["create:1", "write:2", "sync:3", "link:1", "link:4", "link:9", "rename:1"];
    for place in places {
        let out = place.replace(':', "-");
        let line = format!("{LINE} --out @/{out}");
        let mut command = cloud.command(&line);
        command.env("VQTOK_FAILPOINT", place).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().unwrap();
        assert!(status.code().is_none() || place == "rename:1", "{place}: {status}");
        cloud.expect(1, &line);
        cloud.assert_same("whole", &out);
        assert_eq!(cloud.left(), [] as [&str; 0], "{place}");
    }
}

#[test]
fn what_lies_in_a_store_is_verified_and_repaired_there() {
    let Some((cloud, _)) = scene() else { return };
    let whole = cloud.job.files("whole");
    cloud.expect(0, "verify @/calm");
    for name in ["tokens/part-00003.parquet", "codebook.parquet", "plan.parquet", "dataset.json"] {
        let (_, bytes) = whole.iter().find(|(other, _)| other == name).unwrap();
        let mut bad = bytes.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        cloud.put(&format!("calm/{name}"), &bad);
        cloud.expect(1, "verify @/calm");
        cloud.expect(1, "repair @/calm --model model");
        cloud.assert_same("whole", "calm");
    }
    cloud.moto.remove(&format!("{}/calm/tokens/part-00005.parquet", cloud.bucket));
    cloud.expect(1, "verify @/calm");
    cloud.expect(1, &format!("{LINE} --out @/calm"));
    cloud.assert_same("whole", "calm");
    cloud.put("calm/tokens/part-00099.parquet", b"somebody else's");
    cloud.expect(1, "verify @/calm");
}

/// Runs a command while the store is away from its `requests`-th request on: it can be run again.
fn ends(cloud: &Cloud, line: &str, requests: usize) {
    let busy_after = cloud.proxy.requests() + requests;
    cloud.proxy.set(Faults { busy_after, ..Faults::default() });
    let ended = cloud.expect(75, line);
    ended.assert_one_line(&["/calm", "HTTP ", "run the same command again to go on"]);
    cloud.proxy.set(Faults::default());
}

#[test]
fn an_outage_is_no_damage_to_verify_or_repair() {
    let Some((cloud, _)) = scene() else { return };
    let cloud = cloud.impatient();
    for requests in [1, 6, 14] {
        ends(&cloud, "verify @/calm", requests);
        ends(&cloud, "repair @/calm --model model", requests);
    }
    cloud.assert_same("whole", "calm");
    cloud.expect(0, "verify @/calm");
}

#[test]
fn an_outage_costs_no_row_that_is_decoded_or_reported() {
    let Some((cloud, _)) = scene() else { return };
    let cloud = cloud.impatient();
    for requests in [1, 9] {
        ends(&cloud, "decode @/calm --model model --out pictures", requests);
        ends(&cloud, "report @/calm --out page.html", requests);
    }
}

#[test]
fn an_outage_ends_finalize_and_append_as_it_ends_a_run() {
    let Some((cloud, _)) = scene() else { return };
    let cloud = cloud.impatient();
    cloud.moto.remove(&format!("{}/calm/dataset.json", cloud.bucket));
    for requests in [1, 6, 14] {
        ends(&cloud, "finalize @/calm", requests);
    }
    cloud.expect(1, "finalize @/calm");
    cloud.assert_same("whole", "calm");
    // Behind the probe, which refuses a store that isn't there before any work, and its list.
    let append = format!("{LINE} --out @/calm --append");
    cloud.proxy.take_seen();
    cloud.expect(1, &append);
    let seen = cloud.proxy.take_seen();
    let probe = seen.iter().rposition(|seen| seen.target.contains("vqtok-probe")).unwrap() + 2;
    assert!(seen.len() > probe + 3, "{seen:?}");
    for requests in [probe + 1, probe + 3] {
        ends(&cloud, &append, requests);
    }
    cloud.assert_same("whole", "calm");
}

#[test]
fn a_store_that_is_busy_from_the_start_is_tried_again_another_time() {
    let Some((cloud, _)) = scene() else { return };
    cloud.upload("images", "calm-images");
    cloud.upload("model", "calm-model");
    let cloud = cloud.impatient();
    for line in [
        "tokenize images --model model --out @/calm",
        "tokenize images --model model --out @/calm --append",
        "tokenize @/calm-images --model model --out fresh",
        "tokenize images --model @/calm-model --out fresh",
        "plan @/calm-images",
        "plan images --diff @/calm",
        "inspect @/calm",
        "export @/calm --to jsonl --out lines",
        "reconstruct @/calm-images --model model --out pairs.png",
        "train @/calm-images --model new --recipe tiny.toml",
    ] {
        for requests in [0, 1] {
            ends(&cloud, line, requests);
        }
    }
}

#[test]
fn the_other_commands_read_what_lies_in_a_store() {
    let Some((cloud, _)) = scene() else { return };
    cloud.upload("model", "model");
    let same = |a: &str, b: &str| {
        assert!(cloud.job.files(a) == cloud.job.files(b), "{a} and {b}");
    };
    cloud.expect(1, &format!("{} --out @/modelled", LINE.replace("model model", "model @/model")));
    cloud.assert_same("whole", "modelled");
    cloud.expect(0, "decode whole --model model --out here");
    cloud.expect(0, "decode @/calm --model @/model --out there");
    same("here", "there");
    cloud.expect(0, "report @/calm --out page.html");
    let inspected = cloud.expect(0, "inspect @/calm").stdout;
    assert!(inspected.contains("256") || inspected.contains("16"), "{inspected}");
    // The last worker hasn't folded: finalize does.
    cloud.moto.remove(&format!("{}/calm/dataset.json", cloud.bucket));
    cloud.moto.remove(&format!("{}/calm/codebook.parquet", cloud.bucket));
    cloud.expect(1, "finalize @/calm");
    cloud.assert_same("whole", "calm");
    // The broken image is mended, and retried in both places.
    picture(7).save(cloud.job.path("images/dog/broken.png")).unwrap();
    cloud.expect(0, &format!("{LINE} --out whole --retry-failed"));
    let retried = cloud.expect(0, &format!("{LINE} --out @/calm --retry-failed"));
    assert!(retried.stderr.contains("stores have no locks"), "{}", retried.stderr);
    cloud.assert_same("whole", "calm");
    // What is finished is found so at once.
    let again = cloud.expect(0, &format!("{LINE} --out @/calm"));
    assert!(again.took < Duration::from_secs(10), "{:?}", again.took);
    assert_eq!(cloud.left(), [] as [&str; 0]);
}

/// Each listing is one request for a thousand shards; what is looked at in each shard is three.
#[test]
fn finishing_an_output_again_asks_little() {
    let Some((cloud, _)) = scene() else { return };
    cloud.proxy.take_seen();
    cloud.expect(1, "finalize @/calm");
    let seen = cloud.proxy.take_seen();
    let lists = |of: &str| {
        let prefix = format!("prefix=calm%2F{of}%2F");
        seen.iter().filter(|seen| seen.target.contains(&prefix)).count()
    };
    assert_eq!(["tokens", "failures", "codebook"].map(lists), [2, 1, 1]);
    let of_shards = seen.iter().filter(|seen| seen.target.contains("/tokens/part-")).count();
    let all = seen.len();
    assert!(of_shards <= 3 * SHARDS && all <= of_shards + 16, "{all}, {of_shards} of shards");
    // What was lost since is found by its name.
    let lost = cloud.names("@/calm").into_iter().find(|name| name.starts_with("failures/"));
    let lost = lost.unwrap();
    cloud.moto.remove(&format!("{}/calm/{lost}", cloud.bucket));
    let refused = cloud.expect(2, "finalize @/calm").stderr;
    assert!(refused.contains(&format!("/calm/{lost}: it is missing")), "{refused}");
    cloud.moto.remove(&format!("{}/calm/codebook.parquet", cloud.bucket));
    cloud.expect(1, "repair @/calm --model model");
    cloud.assert_same("whole", "calm");
    cloud.moto.remove(&format!("{}/calm/codebook.parquet", cloud.bucket));
    cloud.expect(1, "finalize @/calm");
    cloud.assert_same("whole", "calm");
}
