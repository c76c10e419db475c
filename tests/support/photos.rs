//! Owns the photos that tests of sources read where there are some, and the lines of their table.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;

use super::said::Said;
use crate::support::{Job, shared};

/// Puts 500 photos in the place of the drawn images, where there are some; says how many.
pub fn take_photos(job: &Job) -> Option<usize> {
    let photos = shared("images/photos")?;
    fs::remove_dir_all(job.path("images")).unwrap();
    let mut number = 0;
    let mut folders: Vec<_> = fs::read_dir(photos).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| {
            file.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e == "JPEG")
        }) {
            let of = job.path(["images", "images/cat", "images/dog"][number % 3]);
            fs::create_dir_all(&of).unwrap();
            fs::copy(file, of.join(format!("{number:04}.jpg"))).unwrap();
            number += 1;
        }
    }
    Some(number)
}

/// A line of the table that a run with `--nocapture` prints.
pub fn line(what: &str, said: &BTreeMap<String, Said>) {
    let count = |some: &dyn Fn(&Said) -> bool| said.values().filter(|said| some(said)).count();
    let captions = count(&|said| said.caption.is_some());
    let labels = count(&|said| said.label.is_some());
    println!(
        "{what:20}{:>4} images, equal tokens,{captions:>3} captions,{labels:>3} labels",
        said.len()
    );
}
