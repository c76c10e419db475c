//! Tests of what whole trainings leave to be looked at: lines, events, the page.

use std::collections::BTreeMap;

use super::*;
use crate::train::report::tensorboard::{self, Content, What};

/// What a training left for TensorBoard.
#[derive(Default)]
struct Shown {
    /// Steps and values by tag.
    scalars: BTreeMap<String, Vec<(u64, f32)>>,
    /// Steps of pictures.
    pictures: Vec<i64>,
    /// Steps of histograms, and how many values are in each.
    histograms: Vec<(i64, f64)>,
}

fn shown(folder: &Path) -> Shown {
    let bytes = std::fs::read(folder.join("tensorboard/events.out.tfevents.vqtok")).unwrap();
    let mut shown = Shown::default();
    for event in tensorboard::read(&bytes).unwrap() {
        let Some(What::Summary(values)) = event.what else { continue };
        for value in values.values {
            match value.content.unwrap() {
                Content::Scalar(v) => {
                    shown.scalars.entry(value.tag).or_default().push((event.step as u64, v));
                }
                Content::Image(_) => shown.pictures.push(event.step),
                Content::Histogram(h) => {
                    shown.histograms.push((event.step, h.bucket.iter().sum::<f64>()));
                }
            }
        }
    }
    shown
}

#[test]
fn the_record_has_each_step_once_in_lines_events_and_on_the_page() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("m");
    // A kill after step 13 leaves lines and events that no checkpoint (step 7) knows.
    assert!(train(&folder, false, &mut StopAt(7, 0)).is_err());
    let checkpoint = std::fs::read(folder.join("state/checkpoint.safetensors")).unwrap();
    assert!(train(&folder, true, &mut StopAt(13, 0)).is_err());
    std::fs::write(folder.join("state/checkpoint.safetensors"), checkpoint).unwrap();
    let summary = train(&folder, true, &mut ()).unwrap();

    let text = std::fs::read_to_string(folder.join("training.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps = |with: &str| -> Vec<u64> {
        lines
            .iter()
            .filter(|l| l.get(with).is_some())
            .map(|l| l["step"].as_u64().unwrap())
            .collect()
    };
    let logged = [4, 8, 12, 16, 20, 24, 28, 30];
    assert_eq!((steps("loss"), steps("picture")), (logged.to_vec(), logged.to_vec()));

    let Shown { scalars, pictures, histograms } = shown(&folder);
    for (tag, values) in scalars.iter().filter(|(tag, _)| !tag.starts_with("summary/")) {
        let expected: Vec<(u64, f32)> = lines
            .iter()
            .filter_map(|line| {
                let value = match &line[tag] {
                    serde_json::Value::Bool(yes) => f64::from(u8::from(*yes)),
                    value => value.as_f64()?,
                };
                Some((line["step"].as_u64()?, value as f32))
            })
            .collect();
        assert_eq!(values, &expected, "{tag}");
    }
    for tag in ["loss", "psnr", "usage", "learning_rate", "gradient_norm", "pictures_psnr"] {
        assert!(scalars.contains_key(tag), "{tag}");
    }
    let psnr = scalars["summary/evaluation/psnr"].as_slice();
    assert_eq!(psnr, [(30, summary.evaluation.psnr as f32)]);
    assert_eq!(pictures, logged.map(|s| s as i64));
    // Two histograms a line that speaks of usage: of all tokens (6 images with 16 each a step), and
    // of the 16 codes.
    let of_usage =
        lines.iter().filter(|l| l["usage"].is_number()).filter_map(|l| l["step"].as_i64());
    assert!(histograms.iter().map(|h| h.0).eq(of_usage.flat_map(|step| [step, step])));
    assert!(!histograms.is_empty());
    for pair in histograms.chunks(2) {
        assert!(pair[0].1 > 0.0 && pair[0].1 % 96.0 == 0.0 && pair[1].1 == 16.0, "{pair:?}");
    }

    assert_page(&folder);
}

fn assert_page(folder: &Path) {
    let page = std::fs::read_to_string(folder.join("training.html")).unwrap();
    assert!(!page.contains("<script") && !page.contains("http"));
    for words in
        ["Reconstructions over time", "step 30", "PSNR, dB", "Perplexity", "What codes look"]
    {
        assert!(page.contains(words), "{words}");
    }
    // Eight images in nine rows, and the codes.
    assert_eq!(page.matches("<img").count(), 8 * 9 + 1);
}

#[test]
fn warnings_are_in_the_record_and_on_the_page() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("m");
    let settings = TrainSettings { perceptual: Some(Default::default()), ..small_settings() };
    let mut settings = TrainSettings { steps: 12, ..settings };
    settings.watch = MonitorSettings { dead_usage: 1.0, ..settings.watch };
    settings.codebook.revive_every = 0;
    settings.batch_size = 16;
    settings.log_every = 2;
    let mut said = Warnings::default();
    run(&small_model(), &settings, &DATA, &folder, false, &mut said).unwrap();
    assert!(said.0.iter().any(|text| text.contains("dead codes")), "{:?}", said.0);
    let text = std::fs::read_to_string(folder.join("training.jsonl")).unwrap();
    let warned = text.lines().filter(|line| line.contains("\"warning\":")).count();
    assert_eq!(warned, said.0.len() - 1, "all but the one before the first step");
    let page = std::fs::read_to_string(folder.join("training.html")).unwrap();
    assert!(page.contains("dead codes"));
}
