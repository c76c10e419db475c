//! Drives the binary over models whose codes make no grid: those of several scales one after another
//! (VAR, Infinity) and latent tokens in a row (TiTok). Golden images in, the reference's tokens in the
//! shards, the reference's pictures back out.

use crate::support::cases;

use std::collections::BTreeMap;

use crate::support::{Job, npz, shared};
use cases::{Case, in_folder, pixel_batch};
use image::RgbImage;
use vqtok::internals::audit::TokenFile;

/// A case with its images in `images/`; the flags that a checkpoint takes.
fn begun(family: &str) -> Vec<(Job, Case, String)> {
    let Some(folder) = shared(&format!("golden_families/{family}")) else { return vec![] };
    let begin = |case: Case| {
        let job = Job { dir: tempfile::tempdir().unwrap() };
        let batch = pixel_batch(&npz(case.folder.join("golden.npz"))["images_u8"]);
        std::fs::create_dir(job.path("images")).unwrap();
        for i in 0..batch.count {
            let (width, height) = (batch.width as u32, batch.height as u32);
            let image = RgbImage::from_raw(width, height, batch.image(i).to_vec()).unwrap();
            image.save(job.path(&format!("images/{i:03}.png"))).unwrap();
        }
        let flags = format!("--model {}", case.checkpoints()[0].display());
        (job, case, flags)
    };
    in_folder(&folder).into_iter().map(begin).collect()
}

/// Grid and codes of each row, by key.
fn rows(job: &Job, out: &str) -> BTreeMap<String, ((usize, usize), Vec<i64>)> {
    let mut all = BTreeMap::new();
    for row in TokenFile::open(&job.path(out)).unwrap() {
        let row = row.unwrap();
        let level = &row.levels[0];
        let codes = level.codes.iter().map(|&code| i64::from(code)).collect();
        all.insert(row.key, ((level.height, level.width), codes));
    }
    all
}

fn metadata(job: &Job, out: &str) -> serde_json::Value {
    let dataset = std::fs::read(job.path(out).join("dataset.json")).unwrap();
    serde_json::from_slice(&dataset).unwrap()
}

/// Pictures that `decode` makes of `out`, against the reference's.
fn decoded_right(job: &Job, case: &Case, flags: &str) {
    job.expect(0, &format!("decode out {flags} --out pictures"));
    let wanted = pixel_batch(&npz(case.folder.join("golden.npz"))["decoded_u8"]);
    for i in 0..wanted.count {
        let made = image::open(job.path(&format!("pictures/{i:03}.png"))).unwrap().to_rgb8();
        let far = made.as_raw().iter().zip(wanted.image(i)).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far <= Some(1), "{} {i}: {far:?}", case.name);
        assert_eq!(made.as_raw().len(), wanted.image(i).len());
    }
}

#[test]
fn golden_scales_are_one_sequence_from_image_to_picture() {
    for (job, case, flags) in begun("var").into_iter().chain(begun("infinity")) {
        let flags = &format!("{flags} --resize none");
        job.expect(0, &format!("tokenize images {flags} --out out"));
        let golden = npz(case.folder.join("golden.npz"));
        let tokens = golden["tokens"].i64();
        let length = golden["tokens"].shape[1];
        for (i, (key, (grid, codes))) in rows(&job, "out").into_iter().enumerate() {
            assert_eq!((key, grid), (format!("{i:03}.png"), (1, length)), "{}", case.name);
            assert_eq!(codes, tokens[i * length..][..length], "{} {i}", case.name);
        }
        let scales: Vec<Vec<i64>> = golden["scales"].i64().chunks(2).map(<[i64]>::to_vec).collect();
        let level = &metadata(&job, "out")["identity"]["levels"][0];
        assert_eq!(level["scales"][format!("1x{length}")], serde_json::json!(scales));
        let checkpoint = flags.replace(" --resize none", "");
        decoded_right(&job, &case, &checkpoint);
        job.expect(0, "verify out");
        // Statistics and pictures of an audit, whatever it finds.
        let code = job.run(&format!("audit out {checkpoint} --html page.html")).code;
        assert!([0, 1].contains(&code), "{code}");
        job.expect(0, "export out --to npy --out npy");
    }
}

#[test]
fn golden_scales_can_be_said() {
    for (job, case, flags) in begun("var") {
        let flags = &format!("{flags} --resize none");
        job.expect(0, &format!("tokenize images {flags} --scales 1x1,3x3,16x16 --out few"));
        let (grid, codes) = &rows(&job, "few")["000.png"];
        assert_eq!((*grid, codes.len()), ((1, 266), 266), "{}", case.name);
        job.expect(0, &format!("tokenize images {flags} --out out"));
        // The first scale sees the same, the others something else.
        assert_eq!(codes[0], rows(&job, "out")["000.png"].1[0]);
        let other = job.run(&format!("tokenize images {flags} --scales 1x1,16x16 --out few"));
        assert_ne!(other.code, 0, "another sequence in the same output");
        other.assert_one_line(&["scales"]);
        let none = job.run(&format!("tokenize images {flags} --scales 1x1,8x8 --out none"));
        assert_eq!(none.code, 1, "{}", none.stderr);
        for (scales, word) in [("2x2,1x1", "1x1"), ("0x1", "4x4"), ("1", "4x4")] {
            let bad = job.run(&format!("tokenize images {flags} --scales {scales} --out bad"));
            assert_eq!(bad.code, 2, "{scales}: {}", bad.stderr);
            assert!(bad.stderr.contains(word), "{scales}: {}", bad.stderr);
        }
        let wrong = format!("decode out {flags} --scales 1x1,16x16 --out pictures");
        assert_ne!(job.run(&wrong.replace(" --resize none", "")).code, 0);
        // Others of as many codes would give other pictures.
        let flags = flags.replace(" --resize none", "");
        for line in ["decode few --out pictures", "audit few --html page.html"] {
            let other = job.run(&format!("{line} {flags} --scales 1x1,1x9,16x16"));
            assert_eq!(other.code, 2, "{line}: {}", other.stderr);
            other.assert_one_line(&["few", "--scales 1x1,3x3,16x16"]);
        }
        job.expect(0, &format!("decode few {flags} --scales 1x1,3x3,16x16 --out pictures"));
    }
}

#[test]
fn golden_latent_tokens_are_one_row_from_image_to_picture() {
    for (job, case, flags) in begun("titok") {
        job.expect(0, &format!("tokenize images {flags} --out out"));
        let golden = npz(case.folder.join("golden.npz"));
        let (tokens, length) = (golden["tokens"].i64(), golden["tokens"].shape[2]);
        for (i, (_, (grid, codes))) in rows(&job, "out").into_iter().enumerate() {
            assert_eq!(grid, (1, length), "{}", case.name);
            assert_eq!(codes, tokens[i * length..][..length], "{} {i}", case.name);
        }
        assert_eq!(metadata(&job, "out")["identity"]["levels"][0].get("scales"), None);
        decoded_right(&job, &case, &flags);
        let code = job.run(&format!("audit out {flags} --html page.html")).code;
        assert!([0, 1].contains(&code), "{code}");
    }
}

#[test]
fn golden_books_are_columns_from_image_to_picture() {
    for (job, case, flags) in begun("unitok") {
        let flags = &format!("{flags} --resize none");
        job.expect(0, &format!("tokenize images {flags} --out out"));
        let golden = npz(case.folder.join("golden.npz"));
        let (tokens, shape) = (golden["tokens"].i64(), golden["tokens"].shape.clone());
        let [_, books, length] = shape[..] else { panic!("tokens are [N, books, L]") };
        let names = metadata(&job, "out")["identity"]["levels"].as_array().unwrap().len();
        assert_eq!(names, books, "{}", case.name);
        for (i, row) in TokenFile::open(&job.path("out")).unwrap().enumerate() {
            let row = row.unwrap();
            for (book, level) in row.levels.iter().enumerate() {
                let wanted = &tokens[(i * books + book) * length..][..length];
                assert!(level.codes.iter().map(|&c| i64::from(c)).eq(wanted.iter().copied()));
            }
        }
        decoded_right(&job, &case, &flags.replace(" --resize none", ""));
        job.expect(0, "verify out");
        job.expect(0, "export out --to npy --out npy --levels first");
        // The size that its arguments say, by its own rule.
        let own = flags.replace(" --resize none", "");
        job.expect(0, &format!("tokenize images {own} --out own"));
        let side = case.json["config"]["img_size"].to_string();
        assert_eq!(metadata(&job, "own")["identity"]["preprocessing"]["size"].to_string(), side);
    }
}
