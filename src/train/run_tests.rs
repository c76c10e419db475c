//! Tests of whole trainings: resumption bit for bit, threads, refusals, learning.

use std::path::Path;

use super::*;
use crate::error::Reject;
use crate::model::config::{
    Architecture, FORMAT, InputRange, OutputRange, PixelConfig, PreprocessConfig, QuantizerConfig,
    QuantizerRule, VqvaeConfig,
};

/// Pictures of discs on gradients, drawn from their index.
pub struct Discs {
    pub count: usize,
    pub side: usize,
}

impl TrainData for Discs {
    fn len(&self) -> usize {
        self.count
    }

    fn example(&self, index: usize, _: u64) -> Result<Vec<u8>, Reject> {
        let mut draws = random::Draws::new(5, "discs", index as u64);
        let mut draw = |n: usize| draws.below(n as u64) as i64;
        let side = self.side as i64;
        let (x0, y0, r) = (draw(self.side), draw(self.side), 2 + draw(self.side / 2));
        let colours: Vec<i64> = (0..6).map(|_| draw(256)).collect();
        let mut pixels = Vec::with_capacity(self.side * self.side * 3);
        for y in 0..side {
            for x in 0..side {
                let inside = (x - x0).pow(2) + (y - y0).pow(2) < r * r;
                for c in 0..3 {
                    let back = colours[c] * x / side;
                    pixels.push(if inside { colours[3 + c] } else { back } as u8);
                }
            }
        }
        Ok(pixels)
    }
}

pub fn small_model() -> ModelConfig {
    ModelConfig {
        format: FORMAT.into(),
        family: "vqtok".into(),
        architecture: Architecture::Vqvae(VqvaeConfig {
            hidden: 8,
            downsamples: 2,
            res_blocks: 1,
            res_hidden: 8,
        }),
        quantizer: QuantizerConfig {
            rule: QuantizerRule::L2,
            codes: 16,
            dim: 4,
            decode_normalised: false,
        },
        pixels: PixelConfig {
            channels: 3,
            input: InputRange::Centered,
            output: OutputRange::CenteredRound,
        },
        preprocess: PreprocessConfig { resize: "bicubic".into(), size: Some(16) },
        provenance: BTreeMap::new(),
    }
}

pub fn small_settings() -> TrainSettings {
    TrainSettings {
        steps: 30,
        batch_size: 6,
        held_out_share: 0.2,
        log_every: 4,
        checkpoint_every: 7,
        codebook: CodebookSettings {
            start_after: 3,
            revive_every: 4,
            ..CodebookSettings::default()
        },
        ..TrainSettings::default()
    }
}

const DATA: Discs = Discs { count: 50, side: 16 };

/// Interrupts before the step with this number (from 0).
struct StopAt(usize, usize);

impl Observer for StopAt {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { report, .. } = event {
            self.1 = report.step;
        }
    }

    fn interrupted(&self) -> bool {
        self.1 >= self.0
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect()
}

fn train(folder: &Path, resume: bool, observer: &mut dyn Observer) -> Result<TrainSummary> {
    run(&small_model(), &small_settings(), &DATA, folder, resume, observer)
}

#[test]
fn a_resumed_training_ends_with_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, parts) = (temp.path().join("whole"), temp.path().join("parts"));
    let expected = train(&whole, false, &mut ()).unwrap();
    let stops = [0, 2, 3, 5, 8, 9, 20, 29];
    for (i, stop) in stops.into_iter().enumerate() {
        let error = train(&parts, i > 0, &mut StopAt(stop, 0)).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert!(!parts.join("config.json").exists());
    }
    let summary = train(&parts, true, &mut ()).unwrap();
    assert_eq!(summary, expected);
    let files_whole = files(&whole);
    assert_eq!(
        files_whole.keys().collect::<Vec<_>>(),
        ["config.json", "model.safetensors", "training.jsonl"]
    );
    assert!(files_whole == files(&parts), "the folders differ");
    // A finished training that is resumed says what it was and changes nothing.
    assert_eq!(train(&parts, true, &mut ()).unwrap(), expected);
    assert!(files_whole == files(&parts));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let temp = tempfile::tempdir().unwrap();
    let mut all = vec![];
    for threads in [1, 2, 5] {
        let folder = temp.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(&folder, false, &mut ())).unwrap();
        all.push(files(&folder));
    }
    assert!(all[0] == all[1] && all[0] == all[2]);
}

#[test]
fn folders_of_others_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let said = |result: Result<TrainSummary>| result.unwrap_err().to_string();
    let foreign = temp.path().join("photos");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("a.jpg"), b"x").unwrap();
    assert!(said(train(&foreign, false, &mut ())).contains("a.jpg"));

    let folder = temp.path().join("model");
    assert!(train(&folder, false, &mut StopAt(8, 0)).is_err());
    assert!(said(train(&folder, false, &mut ())).contains("--resume"));
    let other = TrainSettings { seed: 7, ..small_settings() };
    let text = said(run(&small_model(), &other, &DATA, &folder, true, &mut ()));
    assert!(text.contains("train.seed was 1 and is 7"), "{text}");
    let more = Discs { count: 51, side: 16 };
    let text = said(run(&small_model(), &small_settings(), &more, &folder, true, &mut ()));
    assert!(text.contains("data.images was 50 and is 51"), "{text}");

    let (workspace, _) = Workspace::open(&folder, true).unwrap();
    assert!(matches!(train(&folder, true, &mut ()), Err(Error::Busy(_))));
    drop(workspace);
    train(&folder, true, &mut ()).unwrap();
    assert!(said(train(&folder, false, &mut ())).contains("already holds a model"));

    let checkpoint = temp.path().join("broken");
    assert!(train(&checkpoint, false, &mut StopAt(8, 0)).is_err());
    let path = checkpoint.join("state/checkpoint.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(said(train(&checkpoint, true, &mut ())).contains("damaged"));
}

/// Images none of which can be read.
struct Unreadable;

impl TrainData for Unreadable {
    fn len(&self) -> usize {
        9
    }

    fn example(&self, _: usize, _: u64) -> Result<Vec<u8>, Reject> {
        Err(Reject::new(crate::error::Stage::Decode, "broken"))
    }
}

#[test]
fn a_training_that_never_began_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("m");
    let run = |data: &dyn TrainData| {
        run(&small_model(), &small_settings(), data, &folder, false, &mut ())
    };
    let error = run(&Unreadable).unwrap_err().to_string();
    assert!(error.contains("can't be read") && error.contains("broken"), "{error}");
    assert!(!folder.exists());
    assert!(run(&Discs { count: 0, side: 16 }).unwrap_err().to_string().contains("no image"));
    assert!(!folder.exists());
    // Images of another size than the model's.
    assert!(run(&Discs { count: 20, side: 8 }).unwrap_err().to_string().contains("bytes"));
    assert!(!folder.exists());
}

#[test]
fn impossible_settings_are_refused_before_any_work() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("m");
    let good = small_settings;
    let refused = [
        (TrainSettings { steps: 0, ..good() }, "train.steps"),
        (TrainSettings { learning_rate: f64::NAN, ..good() }, "train.learning_rate"),
        (TrainSettings { held_out_share: 0.9, ..good() }, "train.held_out_share"),
    ];
    for (settings, word) in refused {
        let error = run(&small_model(), &settings, &DATA, &folder, false, &mut ()).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    let mut model = small_model();
    model.preprocess.size = Some(18);
    let error = run(&model, &good(), &DATA, &folder, false, &mut ()).unwrap_err();
    assert!(error.to_string().contains("multiple of 4"), "{error}");
    assert!(!folder.exists());
}

#[test]
fn it_learns_and_uses_its_codes() {
    let temp = tempfile::tempdir().unwrap();
    let settings = TrainSettings {
        steps: 300,
        batch_size: 16,
        held_out_share: 0.2,
        codebook: CodebookSettings { start_after: 30, ..CodebookSettings::default() },
        ..TrainSettings::default()
    };
    let data = Discs { count: 200, side: 16 };
    let summary =
        run(&small_model(), &settings, &data, &temp.path().join("m"), false, &mut ()).unwrap();
    let e = &summary.evaluation;
    assert!(summary.held_out && e.images > 20 && summary.skipped_steps == 0);
    assert!(e.psnr > 13.5, "{e:?}");
    assert!(e.usage > 0.8 && e.perplexity > 8.0, "{e:?}");
    let (config, weights, _) = crate::checkpoint::folder::load(&temp.path().join("m")).unwrap();
    assert_eq!(weights[CODEBOOK_NAME].dims(), [16, 4]);
    assert_eq!(weights["dec.up2.weight"].dims(), [4, 3, 4, 4]);
    assert_eq!(config.provenance["training_steps"], "300");
}
