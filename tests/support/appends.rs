//! An output that images are appended to, for tests.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;

use vqtok::internals::audit::TokenFile;

use crate::support::*;

pub const FLAGS: &str = "--model model --shard-rows 4 --batch-size 2 --threads 1 --json";

/// The line that appends `inputs` to `out`.
pub fn append(inputs: &str, out: &str) -> String {
    format!("tokenize {inputs} --out {out} --append {FLAGS}")
}

/// 18 pictures, of which those from the 10th on are kept for later, and `out` of the others.
pub fn begun() -> Job {
    let job = Job::new(18).trained();
    fs::create_dir(job.path("later")).unwrap();
    for (index, name) in names(&job).iter().enumerate().skip(10) {
        fs::rename(job.path("images").join(name), job.path(&format!("later/{index}"))).unwrap();
    }
    job.expect(0, &format!("tokenize images --out out {FLAGS}"));
    job
}

/// The names of the first pictures, in the order in which they are made.
pub fn names_of(count: usize) -> Vec<String> {
    let name = |index: usize| {
        let extension = ["png", "bmp", "ppm", "qoi"][index % 4];
        format!("{}{index:04}.{extension}", ["", "cat/", "dog/"][index % 3])
    };
    (0..count).map(name).collect()
}

pub fn names(job: &Job) -> Vec<String> {
    let names = names_of(18);
    assert!(names.iter().all(|name| job.path("images").join(name).exists()));
    names
}

/// Pictures that were kept for later come in.
pub fn arrive(job: &Job, which: std::ops::Range<usize>) {
    for index in which {
        let to = job.path("images").join(&names_of(18)[index]);
        fs::rename(job.path(&format!("later/{index}")), to).unwrap();
    }
}

/// How many images were new, there already, and changed.
pub fn appended(done: &Done) -> [u64; 3] {
    let last = &done.events("appended")[0];
    let planned = &done.events("plan")[0]["appended"];
    ["new", "known", "changed"].map(|name| {
        assert_eq!(last[name], planned[name]);
        last[name].as_u64().unwrap()
    })
}

/// The codes of every image, by its key.
pub fn codes(job: &Job, out: &str) -> BTreeMap<String, Vec<i64>> {
    let rows = TokenFile::open(&job.path(out)).unwrap().map(Result::unwrap);
    let rows = rows.map(|row| {
        let codes = row.levels[0].codes.iter().map(|&code| i64::from(code)).collect();
        (row.key, codes)
    });
    let mut all = BTreeMap::new();
    rows.for_each(|(key, codes)| assert!(all.insert(key, codes).is_none(), "a key comes twice"));
    all
}

pub fn dataset(job: &Job, out: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(job.path(out).join("dataset.json")).unwrap()).unwrap()
}

/// Files of `before` other than the two that are folded anew, which `out` must hold as they were.
pub fn must_stay(job: &Job, out: &str, before: &[(String, Vec<u8>)]) {
    let now: BTreeMap<String, Vec<u8>> = job.files(out).into_iter().collect();
    for (name, bytes) in before {
        let folded = ["dataset.json", "codebook.parquet"].contains(&name.as_str());
        assert!(folded || now.get(name) == Some(bytes), "{name} has changed");
    }
}

pub fn copy(job: &Job, from: &str, to: &str) {
    for (name, bytes) in job.files(from) {
        let path = job.path(to).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
