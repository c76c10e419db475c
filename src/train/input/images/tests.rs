//! Tests of the pixels that training sees: variation by key and epoch alone, held-out images plain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::data::Take;
use crate::data::resize::rules::ResizeRule;
use crate::data::synthetic;
use crate::train::fixtures::{small_model, small_settings};
use crate::train::input::loader::{Loader, prefetched};
use crate::train::input::split::Split;
use crate::train::settings::TrainSettings;

const CROP: CropSettings = CropSettings { scale: (0.3, 0.9), ratio: (0.75, 1.34) };

fn preparation(rule: ResizeRule, channels: usize) -> Preparation {
    Preparation {
        limits: Default::default(),
        alpha: Default::default(),
        orientation: Default::default(),
        pillow: Default::default(),
        rule,
        size: Some(16),
        channels,
        views: None,
        buckets: None,
    }
}

fn images(inputs: &[PathBuf], augment: AugmentSettings, seed: u64) -> Images {
    Images::list(inputs, Take::default(), preparation(ResizeRule::Bicubic, 3))
        .unwrap()
        .augmented(augment, seed)
}

/// Two inputs with different pictures.
fn folders(root: &Path) -> [PathBuf; 2] {
    ["a", "b"].map(|name| {
        let folder = root.join(name);
        synthetic::draw(&folder, if name == "a" { 2 } else { 3 }, 40, 7).unwrap();
        // Keys must differ between the two.
        for motif in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            let to = folder.join(format!("{name}-{}", motif.file_name().unwrap().display()));
            std::fs::rename(&motif, to).unwrap();
        }
        folder
    })
}

fn views(images: &Images, epoch: u64) -> BTreeMap<String, Vec<u8>> {
    (0..images.len()).map(|i| (images.key(i), images.example(i, epoch).unwrap())).collect()
}

#[test]
fn a_view_depends_on_seed_key_and_epoch_alone() {
    let root = tempfile::tempdir().unwrap();
    let [a, b] = folders(root.path());
    let both = AugmentSettings { flip: 0.5, crop: Some(CROP) };
    let one_way = images(&[a.clone(), b.clone()], both, 5);
    let other_way = images(&[b.clone(), a.clone()], both, 5);
    assert_eq!(one_way.len(), 40);
    assert_ne!(one_way.key(0), other_way.key(0));
    for epoch in [0, 1, 9] {
        assert_eq!(views(&one_way, epoch), views(&other_way, epoch));
    }
    // The folder alone: its images look the same without the others.
    let alone = views(&images(&[b], both, 5), 3);
    let all = views(&one_way, 3);
    assert!(alone.iter().all(|(key, pixels)| all[key] == *pixels));
    // By epoch and by seed every view is another one.
    let differ = |x: &BTreeMap<_, Vec<u8>>, y: &BTreeMap<_, Vec<u8>>| {
        x.iter().zip(y).filter(|(x, y)| x != y).count()
    };
    assert!(differ(&views(&one_way, 0), &views(&one_way, 1)) >= 38);
    assert!(differ(&all, &views(&one_way.augmented(both, 6), 3)) >= 38);
}

#[test]
fn threads_and_a_late_start_change_no_byte_of_a_batch() {
    let root = tempfile::tempdir().unwrap();
    let inputs = folders(root.path());
    let batches = |threads: usize, from: usize| {
        let images = images(&inputs, AugmentSettings { flip: 0.5, crop: Some(CROP) }, 1);
        let settings = TrainSettings { batch_size: 12, held_out_share: 0.0, ..small_settings() };
        let loader = Loader::new(&images, &small_model(), &settings).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            prefetched(&loader, from, 8, |batches| {
                batches.iter().map(|batch| batch.map(|b| b.pixels)).collect::<Result<Vec<_>>>()
            })
        })
        .unwrap()
    };
    let expected = batches(1, 0);
    assert_eq!(expected.len(), 8);
    assert!(expected == batches(5, 0));
    assert!(expected[6..] == batches(2, 6));
}

#[test]
fn held_out_images_stay_plain_and_keep_their_side() {
    let root = tempfile::tempdir().unwrap();
    let [a, b] = folders(root.path());
    let varied =
        images(&[a.clone(), b.clone()], AugmentSettings { flip: 1.0, crop: Some(CROP) }, 1);
    let plain = images(&[b, a], AugmentSettings::default(), 1);
    let side = |images: &Images, side: &[u32]| -> BTreeMap<String, Vec<u8>> {
        side.iter().map(|i| (images.key(*i as usize), images.plain(*i as usize).unwrap())).collect()
    };
    let (one, other) = (Split::new(&varied, 0.3).unwrap(), Split::new(&plain, 0.3).unwrap());
    assert!(one.held_out.len() > 4 && one.train.len() > 4);
    assert_ne!(one.held_out, other.held_out);
    assert_eq!(side(&varied, &one.held_out), side(&plain, &other.held_out));
    assert_eq!(side(&varied, &one.train), side(&plain, &other.train));
    // Without settings, what is trained on is plain too.
    assert_eq!(views(&plain, 4), views(&plain, 5));
    assert_eq!(plain.example(0, 4).unwrap(), plain.plain(0).unwrap());
}

#[test]
fn a_flip_alone_mirrors_the_plain_pixels() {
    let root = tempfile::tempdir().unwrap();
    let inputs = folders(root.path());
    for channels in [1, 3] {
        let images =
            Images::list(&inputs, Take::default(), preparation(ResizeRule::Taming, channels))
                .unwrap();
        let images = images.augmented(AugmentSettings { flip: 1.0, crop: None }, 2);
        let mut pixels = images.example(7, 0).unwrap();
        assert_ne!(pixels, images.plain(7).unwrap());
        mirror(&mut pixels, 16, channels);
        assert_eq!(pixels, images.plain(7).unwrap());
    }
}

#[test]
fn the_whole_image_as_crop_is_the_stretched_image_of_each_rule() {
    let root = tempfile::tempdir().unwrap();
    let inputs = folders(root.path());
    let whole = CropSettings { scale: (1.0, 1.0), ratio: (1.0, 1.0) };
    // The pictures are square: nothing is cut by the rules that crop either, but for two that cut
    // from larger ones; one takes several steps.
    use ResizeRule::{Movq, Pad, Unitok, Var};
    let several = |rule: &ResizeRule| matches!(rule, Movq | Pad | Unitok | Var);
    for rule in ResizeRule::all().filter(|rule| !several(rule) && !rule.varies()) {
        let images = Images::list(&inputs, Take::default(), preparation(rule, 3)).unwrap();
        let images = images.augmented(AugmentSettings { flip: 0.0, crop: Some(whole) }, 2);
        assert_eq!(images.example(3, 0).unwrap(), images.plain(3).unwrap(), "{rule}");
    }
}

#[test]
fn crops_that_are_kept_on_the_disk_are_those_that_were_decoded() {
    let root = tempfile::tempdir().unwrap();
    let inputs = folders(root.path());
    let flip = AugmentSettings { flip: 0.5, crop: None };
    let plain = images(&inputs, flip, 5);
    let mut kept = images(&inputs, flip, 5);
    let told = kept.cached_in(root.path(), 1 << 30).unwrap();
    assert!(told.contains("fit into memory"), "{told}");
    // As where they don't fit; there is a place for all but ten.
    kept.cache = Vec::new();
    let told = kept.cached_in(root.path(), 16 * 16 * 3 * 30).unwrap();
    assert!(told.contains("30 of 40 images"), "{told}");
    for epoch in [0, 0, 1] {
        assert_eq!(views(&kept, epoch), views(&plain, epoch));
    }
    // Decoded once: the files themselves aren't asked again.
    inputs.iter().for_each(|folder| std::fs::remove_dir_all(folder).unwrap());
    let still: Vec<_> = (0..40).filter(|index| kept.plain(*index).is_ok()).collect();
    assert_eq!(still, (0..30).collect::<Vec<_>>());
    let digests = |of: &Images| (0..40).map(|i| of.read_digest(i)).collect::<Vec<_>>();
    assert_eq!(digests(&kept), digests(&plain));
    let mut cut = plain;
    cut.augment.crop = Some(CROP);
    assert!(cut.cached_in(root.path(), 1 << 30).unwrap().contains("train.augment.crop"));
}
