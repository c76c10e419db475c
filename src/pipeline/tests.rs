//! Owns the tests of the pipeline: a device that runs out of memory, files that change under it,
//! decoders that hang. Must not know: real models.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::encode::{InFlight, arrive};
use super::planned::Task;
use super::*;
use crate::config::Recipe;
use crate::data::SourceFile;
use crate::data::prepare::Prepared;
use crate::data::source::fetch::Fetched;
use crate::data::source::walk::walk;
use crate::engine::{CodeGrid, Decoded, Encoded, Engine, Images, PixelBatch, Submitted};
use crate::error::{Error, Reject, Result, Stage};
use crate::model::config::ModelConfig;
use crate::tokens::{CommitMode, Plan, PlanRow, finalize};
use crate::util::worker_pool::{Timer, WorkerPool};
use crate::weights::digests::Digests;

/// Gives codes that depend on an image's pixels, for at most `fits` images at once.
struct Fake {
    config: ModelConfig,
    digests: Digests,
    fits: usize,
    /// Batches in flight.
    flights: usize,
    /// What was submitted and not collected, by its number, and the most that there ever was of it.
    pending: BTreeMap<u64, Encoded>,
    most: usize,
}

impl Engine for Fake {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn digests(&self) -> Result<&Digests> {
        Ok(&self.digests)
    }

    fn device_kind(&self) -> &'static str {
        "cpu"
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        Ok(vec![(height / 16, width / 16)])
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        if batch.count > self.fits {
            return Err(Error::out_of_memory(format!("{} images", batch.count)));
        }
        let image = batch.pixels.len() / batch.count;
        let sum = |bytes: &[u8]| bytes.iter().map(|&b| u32::from(b)).sum::<u32>() % 256;
        let tokens = (batch.height / 16) * (batch.width / 16);
        let codes = batch.pixels.chunks(image / tokens).map(sum).collect::<Vec<_>>();
        let distances = codes.iter().map(|&code| code as f32).collect();
        let (height, width) = (batch.height / 16, batch.width / 16);
        Ok(Encoded {
            count: batch.count,
            levels: vec![CodeGrid { codes, distances, height, width }],
            failed: Vec::new(),
        })
    }

    fn batches_in_flight(&self) -> usize {
        self.flights
    }

    fn submit(&mut self, images: &Images<'_>) -> Result<Submitted> {
        let encoded = self.encode(&images.together())?;
        if self.flights == 1 {
            return Ok(Submitted::Encoded(encoded));
        }
        let number = self.pending.last_key_value().map_or(0, |(last, _)| last + 1);
        self.pending.insert(number, encoded);
        self.most = self.most.max(self.pending.len());
        Ok(Submitted::Queued(number))
    }

    fn collect(&mut self, submitted: Submitted) -> Result<Encoded> {
        match submitted {
            Submitted::Encoded(encoded) => Ok(encoded),
            Submitted::Queued(number) => {
                assert_eq!(self.pending.first_key_value().map(|(first, _)| *first), Some(number));
                self.pending.remove(&number).ok_or_else(|| Error::invalid("collected twice"))
            }
        }
    }

    fn decode(&mut self, _: &Encoded) -> Result<Decoded> {
        Err(Error::invalid("not for the test"))
    }
}

#[derive(Default)]
struct Heard {
    failures: Vec<String>,
    kept: Vec<String>,
    halved: Vec<usize>,
}

impl Observer for Heard {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Image { failure: Some(f) } => {
                self.failures.push(format!("{} {}: {}", f.key, f.stage, f.error));
            }
            Event::Kept { partition, reason } => self.kept.push(format!("{partition}: {reason}")),
            Event::BatchHalved { images } => self.halved.push(*images),
            Event::Image { failure: None } | Event::Partition(_) => {}
        }
    }
}

/// A folder of pictures, and outputs beside it.
struct Scene {
    dir: tempfile::TempDir,
    recipe: Recipe,
}

impl Scene {
    fn new(images: usize) -> Scene {
        let scene = Scene {
            dir: tempfile::tempdir().unwrap(),
            recipe: Recipe::load("quickstart").unwrap(),
        };
        std::fs::create_dir(scene.path("in")).unwrap();
        (0..images).for_each(|index| scene.draw(index, index as u8));
        scene
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn image(&self, index: usize) -> std::path::PathBuf {
        self.path(&format!("in/{index:02}.ppm"))
    }

    fn draw(&self, index: usize, shade: u8) {
        image::RgbImage::from_pixel(64, 64, image::Rgb([shade, 3, 9]))
            .save(self.image(index))
            .unwrap();
    }

    fn engine(&self, fits: usize) -> Fake {
        let digest = || "ab".repeat(32);
        let digests = Digests { weights_sha256: digest(), codebook_sha256: digest() };
        let (config, pending) = (self.recipe.model_config(), BTreeMap::new());
        Fake { config, digests, fits, flights: 1, pending, most: 0 }
    }

    fn settings(&self) -> Settings {
        Settings {
            preparation: self.recipe.preparation(),
            batch_size: 8,
            on_error: OnError::Record,
            mode: CommitMode::New,
            sizes: Sizes::Planned,
            decode_time_max: DECODE_TIME_MAX,
        }
    }

    /// Plans what lies there, ten images to a partition.
    fn plan(&self, out: &str) -> Plan {
        let identity = identity(&self.engine(1), &self.recipe.preparation(), 10).unwrap();
        let rows = walk(&[self.path("in")]).unwrap().zip(0..).map(|(found, ordinal)| {
            let SourceFile { key, uri, bytes, .. } = found?;
            Ok(PlanRow { ordinal, key, uri, bytes: bytes as i64, ..PlanRow::default() })
        });
        Plan::create_or_open(&self.path(out), &identity, rows, 10).unwrap()
    }

    fn run(&self, settings: &Settings, plan: &Plan, fits: usize) -> (Summary, Heard) {
        let mut heard = Heard::default();
        let partitions: Vec<usize> = (0..plan.partitions()).collect();
        let mut engine = self.engine(fits);
        let summary = run(settings, plan, &partitions, &mut engine, &mut heard).unwrap();
        (summary, heard)
    }
}

fn tree(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    crate::tokens::testing::tree(dir)
}

#[test]
fn a_device_out_of_memory_halves_the_batch_once_and_loses_nothing() {
    let scene = Scene::new(25);
    let (roomy, tight) = (scene.plan("roomy"), scene.plan("tight"));
    let (summary, heard) = scene.run(&scene.settings(), &roomy, 100);
    assert_eq!((summary.written, heard.halved), (25, vec![]));
    let (summary, heard) = scene.run(&scene.settings(), &tight, 3);
    assert_eq!((summary.written, summary.partitions), (25, 3));
    // What another worker had committed first is not of this run.
    let (summary, _) = scene.run(&scene.settings(), &tight, 100);
    assert_eq!((summary.already, summary.written, summary.partitions), (3, 0, 0));
    // From 8 to 4 to 2, said once; the batches after it begin there.
    assert_eq!(heard.halved, [2]);
    assert!(tree(roomy.dir()) == tree(tight.dir()), "tokens depend on the device's memory");

    let plan = scene.plan("none");
    let (mut engine, mut heard) = (scene.engine(0), Heard::default());
    let error = run(&scene.settings(), &plan, &[0], &mut engine, &mut heard).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
}

#[test]
fn batches_in_flight_change_no_output() {
    let scene = Scene::new(45);
    for broken in [3, 17, 18, 44] {
        std::fs::write(scene.image(broken), b"P6 broken").unwrap();
    }
    // A batch of another size between others.
    image::RgbImage::new(64, 96).save(scene.image(20)).unwrap();
    let one = scene.plan("one");
    let (summary, _) = scene.run(&scene.settings(), &one, 100);
    assert_eq!((summary.written, summary.failed), (41, 4));
    // With room for three a batch is several in flight itself.
    for (name, fits, most) in [("two", 100, 2), ("tight", 3, 8)] {
        let plan = scene.plan(name);
        let partitions: Vec<usize> = (0..plan.partitions()).collect();
        let (mut engine, mut heard) = (scene.engine(fits), Heard::default());
        engine.flights = 2;
        let settings = scene.settings();
        let summary = run(&settings, &plan, &partitions, &mut engine, &mut heard).unwrap();
        assert_eq!((summary.written, summary.failed, heard.failures.len()), (41, 4, 4));
        assert_eq!((engine.most, engine.pending.len()), (most, 0), "{name}");
        assert!(tree(one.dir()) == tree(plan.dir()), "{name}");
    }
}

#[test]
fn files_that_change_or_vanish_after_the_plan_are_failures_that_a_retry_takes() {
    let scene = Scene::new(12);
    let plan = scene.plan("out");
    let good = std::fs::read(scene.image(3)).unwrap();
    let longer = [&good[..], b"x"].concat();
    std::fs::write(scene.image(3), &longer).unwrap();
    std::fs::remove_file(scene.image(7)).unwrap();
    let (summary, heard) = scene.run(&scene.settings(), &plan, 100);
    assert_eq!((summary.written, summary.failed), (10, 2));
    let changed = format!(
        "03.ppm read: the file has changed since it was planned: it had {} bytes and now has {}; \
         retrying failed images takes it as it is",
        good.len(),
        longer.len()
    );
    let gone = "07.ppm read: No such file or directory".to_string();
    assert_eq!(heard.failures, [changed, gone]);

    scene.draw(7, 200);
    let again = Settings { mode: CommitMode::Replace, sizes: Sizes::Present, ..scene.settings() };
    let (summary, heard) = scene.run(&again, &plan, 100);
    assert_eq!((summary.written, summary.failed, summary.kept), (12, 0, 0));
    assert!(heard.failures.is_empty());
    finalize(plan.dir()).unwrap();
    assert!(crate::job::verify(plan.dir()).unwrap().clean());
}

#[test]
fn a_retry_never_costs_an_image_its_tokens() {
    let scene = Scene::new(25);
    std::fs::write(scene.image(4), b"P6 broken").unwrap();
    std::fs::write(scene.image(14), b"P6 broken").unwrap();
    let plan = scene.plan("out");
    let (summary, _) = scene.run(&scene.settings(), &plan, 100);
    assert_eq!((summary.written, summary.failed), (23, 2));
    let before = tree(plan.dir());
    // Mended, but beside one that vanished and one that is another picture of the same size.
    scene.draw(4, 4);
    scene.draw(14, 14);
    std::fs::remove_file(scene.image(6)).unwrap();
    scene.draw(12, 99);
    let again = Settings { mode: CommitMode::Replace, sizes: Sizes::Present, ..scene.settings() };
    let (summary, heard) = scene.run(&again, &plan, 100);
    assert_eq!((summary.partitions, summary.kept), (1, 2));
    assert_eq!(
        heard.kept,
        [
            "0: '06.ppm' has tokens, and now fails (read: No such file or directory)",
            "1: '12.ppm' has changed since it was tokenized"
        ]
    );
    assert!(tree(plan.dir()) == before, "a shard was touched");
    scene.draw(6, 6);
    scene.draw(12, 12);
    let (summary, _) = scene.run(&again, &plan, 100);
    assert_eq!((summary.written, summary.failed, summary.kept), (25, 0, 0));
}

#[test]
fn a_decoder_that_hangs_costs_its_image() {
    let scene = Scene::new(1);
    let row =
        PlanRow { ordinal: 0, key: "k".into(), uri: "u".into(), bytes: 1, ..PlanRow::default() };
    let limit = Duration::from_millis(30);
    let work = move |_: Task, timer: &Timer| -> Result<Vec<Prepared>, Reject> {
        timer.start();
        std::thread::sleep(Duration::from_secs(2));
        Err(Reject::new(Stage::Decode, "too late"))
    };
    let pool = WorkerPool::new(1, 1, limit, work).unwrap();
    let image = crate::data::SourceImage::default();
    let awaited = InFlight {
        partition: 0,
        plan: row.clone(),
        prepared: pool.submit((image, Fetched::File, None)),
    };
    let settings = Settings { decode_time_max: limit, ..scene.settings() };
    let item = arrive(&settings, awaited, &AtomicBool::new(false)).unwrap().unwrap();
    let reject = item.prepared.unwrap_err();
    assert_eq!(reject.to_string(), "decode: not decoded after 0.03 s: given up");
}
