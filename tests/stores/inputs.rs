//! Drives the binary with data sets in an object store and behind web addresses: what comes of them
//! is what comes of the same files on the disk. Needs moto's server: `VQTOK_MOTO` names it.

use crate::support::containers;
use crate::support::photos;
use crate::support::said;
use crate::support::stores;
use crate::support::*;
use containers::{Layout, compressed, members, samples, table, tar, zip};
use photos::{line, take_photos};
use said::{Said, rows_of};
use stores::{Cloud, Faults, Page, Web};

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

const FLAGS: &str = "--model model --shard-rows 10 --batch-size 4";

/// What a local output says.
fn rows(cloud: &Cloud, out: &str) -> BTreeMap<String, Said> {
    rows_of(&cloud.job.files(&format!("{out}/tokens")))
}

/// Tokenizes what lies in the bucket, and gives what came of it.
fn tokenized(cloud: &Cloud, input: &str, out: &str) -> BTreeMap<String, Said> {
    cloud.expect(0, &format!("tokenize {input} --out {out} {FLAGS}"));
    cloud.expect(0, &format!("verify {out}"));
    rows(cloud, out)
}

/// Asserts that `local` gives what `remote` gives; `@/` stands for the bucket.
fn assert_equal(cloud: &Cloud, local: &str, remote: &str) -> BTreeMap<String, Said> {
    let name = local.replace(['/', ' '], "-");
    let ours = tokenized(cloud, local, &format!("local-{name}"));
    let theirs = tokenized(cloud, remote, &format!("remote-{name}"));
    assert!(!ours.is_empty());
    assert_eq!(ours, theirs, "{local} and {remote}");
    ours
}

/// A folder with all that may stand beside images.
fn furnish(job: &Job) {
    let write = |name: &str, text: &str| {
        let path = job.path(&format!("images/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("0000.txt", "the first one");
    write("cat/0001.json", r#"{"caption": "a cat", "score": 3}"#);
    write("cat/0004.caption", "another cat");
    write("dog/metadata.csv", "file_name,text\n0002.ppm,a dog\n");
    write("dog/0005.txt", "");
    write("notes.md", "none");
    write("empty", "");
    for hidden in [".hidden.png", "cat/.thumbs/0.png", "@eaDir/0.png"] {
        let path = job.path(&format!("images/{hidden}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture(90).save(path).unwrap();
    }
    // A name with blanks and other signs, and an image without an extension.
    picture(91).save(job.path("images/a b+c %41 ü.png")).unwrap();
    fs::copy(job.path("images/0000.png"), job.path("images/plain")).unwrap();
}

#[test]
fn a_prefix_is_a_folder() {
    let Some(cloud) = Cloud::of(Job::new(30).trained()) else { return };
    furnish(&cloud.job);
    cloud.upload("images", "photos");
    // The mark of a folder, as some tools leave it.
    cloud.put("photos/", b"");
    cloud.put("photos/cat/", b"");
    let said = assert_equal(&cloud, "images", "@/photos");
    assert_eq!(said.len(), 32);
    assert_eq!(said["0000.png"].caption.as_deref(), Some("the first one"));
    assert_eq!(said["dog/0002.ppm"].caption.as_deref(), Some("a dog"));
    assert_eq!(said["cat/0001.bmp"].label.as_deref(), Some("cat"));
    // With a slash, hidden ones, and the whole bucket, whose first folder is the label.
    assert_eq!(tokenized(&cloud, "@/photos/", "slash"), said);
    let all = assert_equal(&cloud, "images --hidden", "@/photos --hidden");
    assert_eq!(all.len(), 35);
    let bucket = cloud.at("").trim_end_matches('/').to_string();
    let whole = tokenized(&cloud, &bucket, "whole");
    assert_eq!(whole.len(), 32);
    assert_eq!(whole["photos/cat/0001.bmp"].label.as_deref(), Some("photos"));
    // The uris are addresses.
    let plan = cloud.expect(0, "plan @/photos --json").stdout;
    assert!(plan.contains(&cloud.at("photos/0000.png")), "{plan}");
    assert_eq!(cloud.left(), [] as [&str; 0]);
}

#[test]
fn an_object_may_be_called_as_a_prefix_is() {
    let Some(cloud) = Cloud::of(Job::new(8).trained()) else { return };
    let images = cloud.job.files("images");
    let picture = |index: usize| images[index].1.as_slice();
    cloud.put("photos/x", picture(0));
    cloud.put("photos/x/y.png", picture(1));
    cloud.put("photos/x/y.png/z.png", picture(2));
    let said = tokenized(&cloud, "@/photos", "out");
    assert_eq!(said.keys().collect::<Vec<_>>(), ["x", "x/y.png", "x/y.png/z.png"]);
    // Named, it is the object; with a slash, what lies below.
    assert_eq!(tokenized(&cloud, "@/photos/x", "one").keys().collect::<Vec<_>>(), ["x"]);
    let below = tokenized(&cloud, "@/photos/x/", "below");
    assert_eq!(below.keys().collect::<Vec<_>>(), ["y.png", "y.png/z.png"]);
}

/// What comes of the images of a folder, wherever they lie: the lines beside those of `sources`.
#[test]
fn every_source_of_photos_gives_the_tokens_of_the_folder_from_a_store_too() {
    let Some(cloud) = Cloud::of(Job::new(50).trained()) else { return };
    let job = &cloud.job;
    let images = take_photos(job).unwrap_or(50);
    let samples = samples(job.files("images"));
    let folder = tokenized(&cloud, "images", "of-folder");
    assert_eq!(folder.len(), images);
    line("folder", &folder);
    cloud.upload("images", "photos");
    cloud.put("all.tar", &tar(&members(&samples)));
    cloud.put("all.zip", &zip(&job.files("images")));
    table(&job.path("all.parquet"), &samples, Layout::Struct, 7);
    cloud.put("all.parquet", &fs::read(job.path("all.parquet")).unwrap());
    let addresses = job.files("images").into_iter().map(|(name, _)| {
        let address = cloud.at(&format!("photos/{name}"));
        format!("{address}\n")
    });
    cloud.put("list.txt", addresses.collect::<String>().as_bytes());
    for (what, input) in [
        ("prefix", "@/photos"),
        ("tar in a store", "@/all.tar"),
        ("Parquet in a store", "@/all.parquet"),
        ("list of addresses", "@/list.txt"),
        ("zip in a store", "@/all.zip"),
    ] {
        let said = tokenized(&cloud, input, &format!("out-{}", what.replace(' ', "-")));
        // Keys are of each source's own kind; all of them keep the folder's order.
        let keys: Vec<String> = match what {
            "tar in a store" | "Parquet in a store" => {
                samples.iter().map(|sample| sample.key.clone()).collect()
            }
            "list of addresses" => {
                folder.keys().map(|name| cloud.at(&format!("photos/{name}"))).collect()
            }
            _ => folder.keys().cloned().collect(),
        };
        let tokens = keys.iter().map(|key| &said[key].tokens);
        assert!(tokens.eq(folder.values().map(|said| &said.tokens)), "{what}: other tokens");
        line(what, &said);
    }
}

#[test]
fn odd_names_cost_themselves_alone() {
    let Some(cloud) = Cloud::of(Job::new(8).trained()) else { return };
    let images = cloud.job.files("images");
    let names = ["a.png", "b/c.png", "b/d.png", "e/f.png", "z.png"];
    for (name, (_, bytes)) in names.iter().zip(&images) {
        cloud.put(&format!("photos/{name}"), bytes);
    }
    let odd = ["/double.png", "/twice/x.png", "b/../up.png", "b//x.png", "b/./here.png", "e/"];
    for name in odd {
        cloud.put(&format!("photos/{name}"), &images[7].1);
    }
    let done = cloud.expect(1, &format!("tokenize @/photos --out odd {FLAGS}"));
    assert!(done.stdout.contains("5 written, 0 failed"), "{}\n{}", done.stdout, done.stderr);
    assert_eq!(rows(&cloud, "odd").keys().collect::<Vec<_>>(), names);
    // `//` is one name of its folder, however much lies below it.
    assert!(done.stderr.contains("5 name that can't be asked for"), "{}", done.stderr);
    assert!(done.stderr.contains("'/' (a name with an empty part"), "{}", done.stderr);
    let plan = cloud.expect(0, "plan @/photos --json").stdout;
    for name in ["/", "b/../", "b/./", "b//", "e/"] {
        assert!(plan.contains(&format!("\"{name}\"")), "{name}: {plan}");
    }
}

#[test]
fn containers_in_a_bucket_are_containers() {
    let Some(cloud) = Cloud::of(Job::new(30).trained()) else { return };
    let job = &cloud.job;
    let samples = samples(job.files("images"));
    let archive = tar(&members(&samples));
    fs::create_dir(job.path("sets")).unwrap();
    fs::write(job.path("all.tar"), &archive).unwrap();
    fs::write(job.path("all.tar.zst"), compressed("zst", &archive)).unwrap();
    fs::write(job.path("all.tar.gz"), compressed("gz", &archive)).unwrap();
    fs::write(job.path("all.zip"), zip(&job.files("images"))).unwrap();
    table(&job.path("all.parquet"), &samples, Layout::Struct, 7);
    fs::write(job.path("sets/s-000.tar"), tar(&members(&samples[..13]))).unwrap();
    fs::write(job.path("sets/s-001.tar"), tar(&members(&samples[13..]))).unwrap();
    cloud.upload("sets", "sets");
    for name in ["all.tar", "all.tar.zst", "all.tar.gz", "all.zip", "all.parquet"] {
        cloud.put(name, &fs::read(job.path(name)).unwrap());
        let said = assert_equal(&cloud, name, &format!("@/{name}"));
        assert_eq!(said.len(), 30, "{name}");
    }
    let said = assert_equal(&cloud, "sets", "@/sets");
    assert_eq!(said[&samples[0].key].caption.as_deref(), Some(&*samples[0].caption));
    assert_eq!(tokenized(&cloud, "@/sets/s-{000..001}.tar", "pattern"), said);
    assert_eq!(tokenized(&cloud, "@/sets/s-{000,001}.tar", "words"), said);
    // Beside images a container is passed over.
    cloud.upload("images", "sets");
    let done = cloud.expect(0, &format!("tokenize @/sets --out beside {FLAGS}"));
    assert!(done.stderr.contains("2 tar, Parquet or zip beside images"), "{}", done.stderr);
    assert_eq!(cloud.left(), [] as [&str; 0]);
}

#[test]
fn planning_reads_no_pixels_and_tokenizing_reads_each_once() {
    let Some(cloud) = Cloud::of(Job::new(24).trained()) else { return };
    cloud.upload("images", "photos");
    // Members of 3 MiB: a picture, and what no decoder looks at behind it.
    let large = |(name, mut bytes): (String, Vec<u8>)| {
        bytes.resize(3 << 20, 0);
        (name.replace('/', "_"), bytes)
    };
    let files = cloud.job.files("images").into_iter().take(6).map(large).collect::<Vec<_>>();
    cloud.put("large.tar", &tar(&files));
    cloud.proxy.take_seen();
    cloud.expect(0, "plan @/large.tar");
    let bytes: usize = cloud.proxy.take_seen().iter().map(|seen| seen.bytes).sum();
    assert!(bytes < 8 << 20, "{bytes} of 18 MiB were read to plan");
    cloud.expect(0, &format!("tokenize @/photos --out out {FLAGS}"));
    let seen = cloud.proxy.take_seen();
    let images = seen.iter().filter(|seen| {
        let image = seen.target.contains("/photos/") && seen.method == "GET";
        image && seen.range.is_none()
    });
    let mut targets: Vec<_> = images.map(|seen| seen.target.clone()).collect();
    targets.sort();
    let count = targets.len();
    targets.dedup();
    assert_eq!((count, targets.len()), (24, 24), "each image is asked for once");
    // What is finished is looked at, and its images aren't.
    let again = cloud.expect(0, &format!("tokenize @/photos --out out {FLAGS}"));
    assert!(again.took < Duration::from_secs(10), "{:?}", again.took);
    let reads = |seen: &stores::Seen| seen.range.is_none() && seen.target.contains("/photos/");
    let seen = cloud.proxy.take_seen();
    assert_eq!(seen.iter().filter(|seen| seen.method == "GET" && reads(seen)).count(), 0);
    assert!(seen.len() < 40, "{} requests to find that nothing is to be done", seen.len());
}

#[test]
fn models_train_on_a_bucket_and_reconstruct_from_it() {
    let Some(cloud) = Cloud::of(Job::new(12)) else { return };
    let samples = samples(cloud.job.files("images"));
    cloud.upload("images", "photos");
    cloud.put("all.tar", &tar(&members(&samples)));
    for (input, model) in [("images", "m0"), ("@/photos", "m1"), ("@/all.tar", "m2")] {
        cloud.expect(0, &format!("train {input} --model {model} --recipe tiny.toml"));
        cloud.expect(0, &format!("reconstruct {input} --model {model} --out {model}.png"));
    }
    let read = |name: String| fs::read(cloud.job.path(&name)).unwrap();
    let weights = |model: &str| read(format!("{model}/model.safetensors"));
    assert!(weights("m0") == weights("m1"));
    assert!(read("m0.png".into()) == read("m1.png".into()));
}

/// Web pages of all kinds, and the rows of a list that names them: path and whether it's an image.
fn pages(images: &[(String, Vec<u8>)]) -> (BTreeMap<String, Page>, Vec<(&'static str, bool)>) {
    let bytes = |index: usize| images[index].1.clone();
    let slow = Page::Slow(bytes(3)[..64].to_vec(), Duration::from_millis(10));
    let pages: Vec<(&'static str, Page, bool)> = vec![
        ("/file.png", Page::File(bytes(0)), true),
        ("/whole.png", Page::Whole(bytes(1)), true),
        ("/unmeasured", Page::Unmeasured(bytes(2)), true),
        ("/moved.png", Page::Redirect("/file.png".into()), true),
        ("/twice.png", Page::Redirect("/moved.png".into()), true),
        ("/busy.png", Page::BusyAtFirst(Mutex::new(3), bytes(4)), true),
        ("/round.png", Page::Redirect("/round.png".into()), false),
        ("/lost.png", Page::Status(404), false),
        ("/gone.png", Page::Status(410), false),
        ("/secret.png", Page::Status(403), false),
        ("/page.html", Page::File(b"<html>no image</html>".to_vec()), false),
        ("/endless.png", Page::Endless, false),
        ("/slow.png", slow, false),
    ];
    let names = pages.iter().map(|(name, _, good)| (*name, *good)).collect();
    (pages.into_iter().map(|(name, page, _)| (name.to_string(), page)).collect(), names)
}

#[test]
fn lists_name_images_wherever_they_lie() {
    let Some(cloud) = Cloud::of(Job::new(12).trained()) else { return };
    let images = cloud.job.files("images");
    cloud.upload("images", "lists/images");
    let (pages, names) = pages(&images);
    let web = Web::serve(pages);
    let mut csv = String::from("image_path,caption\n");
    let mut good = 0;
    for (name, _) in &images {
        csv += &format!("images/{name},of a path\n");
        csv += &format!("{},of a bucket\n", cloud.at(&format!("lists/images/{name}")));
        good += 2;
    }
    for (name, is_image) in &names {
        csv += &format!("{},of the web\n", web.url(&format!("{name}?X-Amz-Signature=0123abcd")));
        good += usize::from(*is_image);
    }
    csv += "http://127.0.0.1:9/nobody.png,dead\n";
    csv += "http://nobody.invalid/a.png,dead\n";
    csv += &format!("{},lost\n", cloud.at("lists/images/lost.png"));
    csv += "s3://no-such-bucket-here/a.png,lost\n";
    cloud.put("lists/all.csv", csv.as_bytes());
    fs::write(cloud.job.path("all.csv"), &csv).unwrap();
    for (input, out) in [("@/lists/all.csv", "remote"), ("all.csv", "local")] {
        let done = cloud.expect(1, &format!("tokenize {input} --out {out} {FLAGS} --json"));
        assert!(done.took < Duration::from_secs(75), "{:?}", done.took);
        cloud.expect(0, &format!("verify {out}"));
        let said = rows(&cloud, out);
        assert_eq!(said.len(), good, "{}", done.stderr);
        assert!(!done.stderr.contains("Signature"), "{}", done.stderr);
        assert_eq!(said["images/0000.png"].caption.as_deref(), Some("of a path"));
        let bucket = &said[&cloud.at("lists/images/0000.png")];
        assert_eq!(bucket.caption.as_deref(), Some("of a bucket"));
        assert_eq!(bucket.tokens, said["images/0000.png"].tokens);
    }
    assert_eq!(rows(&cloud, "remote"), rows(&cloud, "local"));
    let web_alone = format!("tokenize {} --out one {FLAGS}", web.url("/file.png"));
    cloud.expect(0, &web_alone);
    assert_eq!(rows(&cloud, "one").keys().collect::<Vec<_>>(), ["file.png"]);
}

#[test]
fn a_body_that_drips_costs_its_image_and_not_the_run() {
    let Some(cloud) = Cloud::of(Job::new(3).trained()).map(Cloud::impatient) else { return };
    let images = cloud.job.files("images");
    let mut drip = images[0].1.clone();
    drip.resize(30_000, 0);
    let web = Web::serve(BTreeMap::from([
        ("/drip.png".to_string(), Page::Slow(drip, Duration::from_millis(5))),
        ("/good.png".to_string(), Page::File(images[1].1.clone())),
    ]));
    let list = format!("{}\n{}\n", web.url("/drip.png"), web.url("/good.png"));
    fs::write(cloud.job.path("l.txt"), list).unwrap();
    let done = cloud.expect(1, &format!("tokenize l.txt --out out {FLAGS}"));
    assert!(done.took < Duration::from_secs(20), "{:?}", done.took);
    assert!(done.stdout.contains("1 written, 1 failed"), "{}", done.stdout);
    assert!(done.stderr.contains("less than 65536 bytes in 6 s"), "{}", done.stderr);
}

#[test]
fn nothing_is_looked_for_below_a_file_of_the_web() {
    let Some(cloud) = Cloud::of(Job::new(12).trained()) else { return };
    let archive = tar(&members(&samples(cloud.job.files("images"))));
    let web = Web::serve(BTreeMap::from([("/all.tar".to_string(), Page::File(archive))]));
    cloud.expect(0, &format!("tokenize {} --out out {FLAGS}", web.url("/all.tar")));
    assert_eq!(rows(&cloud, "out").len(), 12);
    let mut seen = web.take_seen();
    seen.dedup();
    assert_eq!(seen, ["GET /all.tar"]);
}

/// How fast small images are read from a store 30 ms away; run by hand, with `--ignored --nocapture`.
#[test]
#[ignore = "measures; nothing to fail"]
fn speed_of_a_store_that_is_far_away() {
    let Some(cloud) = Cloud::of(Job::new(500).trained()) else { return };
    let (job, files) = (&cloud.job, cloud.job.files("images"));
    cloud.upload("images", "photos");
    cloud.upload("images", "told");
    for (name, _) in &files {
        let stem = name.rsplit_once('.').unwrap().0;
        cloud.put(&format!("told/{stem}.txt"), format!("of {name}").as_bytes());
    }
    cloud.put("all.tar", &tar(&members(&samples(files))));
    for input in ["images", "@/photos", "@/told", "@/all.tar"] {
        for (out, delay) in [("warm", 0), ("far", 30)] {
            let delay = Duration::from_millis(delay);
            cloud.proxy.set(Faults { remember: true, delay, ..Faults::default() });
            cloud.proxy.take_seen();
            let plan = cloud.expect(0, &format!("plan {input}"));
            let done = cloud.expect(0, &format!("tokenize {input} --out {out} --model model"));
            let requests = cloud.proxy.take_seen().len();
            let rate = done.stderr.lines().find(|line| line.contains("images/s")).unwrap();
            println!(
                "{input:10} {out}: plan {:?}, all {:?}, {rate}, {requests} requests",
                plan.took, done.took
            );
            fs::remove_dir_all(job.path(out)).unwrap();
        }
    }
}
