//! Tests of whole trainings: resumption bit for bit, threads, refusals, learning.

mod quantizers;
mod record;

use std::path::Path;

use super::*;
use crate::error::Reject;
use crate::train::fixtures::{DATA, Discs, StopAt, Warnings, files, small_model, small_settings};
use crate::train::network::parameters::CODEBOOK_NAME;
use crate::train::settings::adversarial::AdversarialSettings;
use crate::train::settings::codebook::CodebookSettings;
use crate::train::settings::monitor::MonitorSettings;
use crate::train::settings::perceptual::PerceptualSettings;
use crate::train::workspace::{failed, unfinished};

/// [`super::run`], whose time of waiting no two runs share.
fn run<'a>(
    model: &ModelConfig,
    settings: &TrainSettings,
    data: &dyn TrainData,
    folder: &Path,
    start: impl Into<Start<'a>>,
    observer: &mut dyn Observer,
) -> Result<TrainSummary> {
    let summary = super::run(model, settings, data, folder, start, observer)?;
    Ok(TrainSummary { waited_share: None, ..summary })
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
    let pictures = [4, 8, 12, 16, 20, 24, 28, 30].map(|step| format!("samples/step-{step:06}.png"));
    let mut names = ["config.json", "model.safetensors"].map(String::from).to_vec();
    names.extend(pictures);
    names.extend(
        [
            "state/checkpoint.safetensors",
            "state/lock",
            "tensorboard/events.out.tfevents.vqtok",
            "training.html",
            "training.jsonl",
        ]
        .map(String::from),
    );
    assert!(files_whole.keys().eq(&names), "{:?}", files_whole.keys());
    for (name, bytes) in files(&parts) {
        assert!(files_whole.get(&name) == Some(&bytes), "{name} differs");
    }
    assert_eq!(files_whole.len(), files(&parts).len());
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
    assert!(said(train(&folder, false, &mut ())).contains("go on with resume"));
    let other = TrainSettings { seed: 7, ..small_settings() };
    let text = said(run(&small_model(), &other, &DATA, &folder, true, &mut ()));
    assert!(text.contains("train.seed was 1 and is 7"), "{text}");
    let more = Discs { count: 51, side: 16 };
    let text = said(run(&small_model(), &small_settings(), &more, &folder, true, &mut ()));
    assert!(text.contains("data.images was 50 and is 51"), "{text}");

    let (workspace, _) = Workspace::open(&folder, true, 30).unwrap();
    assert!(matches!(train(&folder, true, &mut ()), Err(Error::Busy(_))));
    drop(workspace);
    train(&folder, true, &mut ()).unwrap();
    assert!(said(train(&folder, false, &mut ())).contains("already holds a model"));

    let checkpoint = temp.path().join("broken");
    assert!(train(&checkpoint, false, &mut StopAt(8, 0)).is_err());
    for name in ["checkpoint", "checkpoint.before"] {
        let path = checkpoint.join(format!("state/{name}.safetensors"));
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(said(train(&checkpoint, true, &mut ())).contains("damaged"));
}

#[test]
fn a_training_of_steps_that_are_not_finite_stops_for_good_and_leaves_no_model() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("m");
    let settings =
        TrainSettings { learning_rate: 1e3, steps: 60, clip_norm: 0.0, ..small_settings() };
    let train = |resume, observer: &mut dyn Observer| {
        run(&small_model(), &settings, &DATA, &folder, resume, observer)
    };
    let mut said = Warnings::default();
    let text = train(false, &mut said).unwrap_err().to_string();
    assert!(text.contains("leaves no model") && text.contains("learning_rate"), "{text}");
    assert!(text.contains("of the last ") && text.contains(" steps, up to step "), "{text}");
    let told = said.0.iter().filter(|text| text.contains("not finite")).count();
    assert_eq!(told, 1, "{:?}", said.0);
    assert!(!folder.join("config.json").exists() && unfinished(&folder));
    assert!(failed(&folder).is_some());
    // No later run tries the same again.
    let before = files(&folder);
    for resume in [true, false] {
        let mut steps = StopAt(usize::MAX, 0);
        let text = train(resume, &mut steps).unwrap_err().to_string();
        assert!(text.contains("stopped for good") && text.contains("Remove"), "{text}");
        assert_eq!(steps.1, 0);
    }
    assert!(before == files(&folder));
}

#[test]
fn a_finished_training_is_made_longer_and_stays_a_model_meanwhile() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, parts) = (temp.path().join("whole"), temp.path().join("parts"));
    let train = |folder: &Path, steps, observer: &mut dyn Observer| {
        let settings = TrainSettings { steps, ..small_settings() };
        run(&small_model(), &settings, &DATA, folder, folder.exists(), observer)
    };
    for folder in [&whole, &parts] {
        train(folder, 30, &mut ()).unwrap();
    }
    let before = std::fs::read(parts.join("config.json")).unwrap();
    let expected = train(&whole, 40, &mut ()).unwrap();
    assert_eq!((expected.steps, finished_steps(&whole)), (40, Some(40)));
    for stop in [30, 31, 36] {
        assert!(matches!(train(&parts, 40, &mut StopAt(stop, 0)), Err(Error::Interrupted)));
        assert_eq!(std::fs::read(parts.join("config.json")).unwrap(), before);
        crate::checkpoint::folder::load(&parts).unwrap();
    }
    assert_eq!(train(&parts, 40, &mut ()).unwrap(), expected);
    let (whole_files, parts_files) = (files(&whole), files(&parts));
    assert!(whole_files.keys().eq(parts_files.keys()));
    for (name, bytes) in &whole_files {
        assert!(parts_files[name] == *bytes, "{name} differs");
    }
    let refused = |steps| train(&parts, steps, &mut ()).unwrap_err().to_string();
    assert!(refused(20).contains("not shorter"), "{}", refused(20));
    // Without its state it is as good a model, and no more.
    std::fs::remove_dir_all(parts.join("state")).unwrap();
    assert_eq!(train(&parts, 40, &mut ()).unwrap(), expected);
    assert!(refused(50).contains("is gone") && refused(50).contains("by init_from"));
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
    let (config, weights) = crate::checkpoint::folder::load(&temp.path().join("m")).unwrap();
    assert_eq!(weights.get(CODEBOOK_NAME).unwrap().dims(), [16, 4]);
    assert_eq!(weights.get("dec.up2.weight").unwrap().dims(), [4, 3, 4, 4]);
    assert_eq!(config.provenance["training_steps"], "300");
}

/// The small settings with a discriminator from the middle on.
fn adversarial_settings() -> TrainSettings {
    TrainSettings {
        held_out_share: 0.2,
        micro_batch: 4,
        adversarial: Some(AdversarialSettings {
            start: 0.5,
            alone_share: 0.1,
            ramp_share: 0.1,
            filters: 4,
            layers: 1,
            learning_rate: 1e-3,
            ..AdversarialSettings::default()
        }),
        watch: MonitorSettings { every_share: 0.1, images: 4, ..MonitorSettings::default() },
        ..small_settings()
    }
}

#[test]
fn a_resumed_adversarial_training_ends_with_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    // Snapshots are part of what is resumed; trust where PSNR falls by a hair's breadth.
    let mut settings = adversarial_settings();
    settings.watch.fall_db = 0.01;
    settings.learning_rate = 1e-2;
    let adversarial = settings.adversarial.as_mut().unwrap();
    (adversarial.adaptive, adversarial.weight) = (false, 1e4);
    let train = |folder: &str, resume: bool, observer: &mut dyn Observer| {
        run(&small_model(), &settings, &DATA, &temp.path().join(folder), resume, observer)
    };
    let mut said = Warnings::default();
    let expected = train("whole", false, &mut said).unwrap();
    assert_eq!(expected.skipped_discriminator_steps, 0, "{expected:?}");
    let fell = said.0.iter().filter(|w| w.contains("adversarial weight halved")).count();
    assert_eq!(fell as u64, expected.rollbacks);
    // Before, at and after its start, in its time alone, in the ramp, after a rollback.
    for (i, stop) in [4, 14, 15, 16, 18, 20, 21, 22, 25, 29].into_iter().enumerate() {
        let error = train("parts", i > 0, &mut StopAt(stop, 0)).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
    }
    assert_eq!(train("parts", true, &mut ()).unwrap(), expected);
    let files = |folder: &str| files(&temp.path().join(folder));
    assert!(files("whole") == files("parts"), "the folders differ");
    let record = String::from_utf8(files("whole")["training.jsonl"].clone()).unwrap();
    assert!(record.contains("\"adversarial\":{") && record.contains("\"rollbacks\":"), "{record}");
}

#[test]
fn without_its_weights_lpips_is_left_out_aloud() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = small_settings();
    settings.steps = 2;
    settings.perceptual = Some(PerceptualSettings::default());
    let mut said = Warnings::default();
    let folder = temp.path().join("m");
    run(&small_model(), &settings, &DATA, &folder, false, &mut said).unwrap();
    assert!(said.0[0].contains("training without LPIPS"), "{:?}", said.0);
    settings.perceptual = Some(PerceptualSettings { weights: "nowhere".into(), weight: 1.0 });
    let other = temp.path().join("n");
    let error = run(&small_model(), &settings, &DATA, &other, false, &mut ()).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(!other.exists());
}
