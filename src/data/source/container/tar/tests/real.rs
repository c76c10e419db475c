//! Owns the tests on tars that other programs made.
use super::*;
use crate::testing::shared;

#[test]
fn dump() {
    let Some(folder) = shared("sources/webdataset") else { return };
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().contains(".tar"))
        .collect();
    names.sort();
    for path in names {
        let tar = std::fs::read(&path).unwrap();
        let (images, remarks) = listed(&tar, &Fields::default());
        println!(
            "== {} without {} other {}",
            path.file_name().unwrap().display(),
            remarks.without_image,
            remarks.other
        );
        for image in &images {
            let m = image.part.as_ref().map(|p| (p.offset, p.member.clone()));
            println!(
                "   {:?} {} {:?} {:?} {:?}",
                image.key, image.bytes, m, image.facts, image.fault
            );
        }
        for read in contents(&tar, &images) {
            println!("     {:?}", read.map(|r| r.len()));
        }
        for odd in &remarks.odd {
            println!("   odd {odd}");
        }
    }
}
