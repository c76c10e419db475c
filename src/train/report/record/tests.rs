//! Tests of the record by itself; `run_tests` has those of whole trainings.

use super::super::tensorboard::{Content, Event as Shown, What, read};
use super::*;

fn events(folder: &Path) -> Vec<Shown> {
    read(&std::fs::read(folder.join(EVENTS).join(EVENT_FILE)).unwrap()).unwrap()
}

/// (step, tag, number) of all scalars.
fn numbers(folder: &Path) -> Vec<(i64, String, f32)> {
    let mut found = Vec::new();
    for event in events(folder) {
        let Some(What::Summary(summary)) = event.what else { continue };
        for value in summary.values {
            if let Some(Content::Scalar(number)) = value.content {
                found.push((event.step, value.tag, number));
            }
        }
    }
    found
}

#[test]
fn every_number_of_a_line_becomes_a_scalar() {
    let temp = tempfile::tempdir().unwrap();
    let mut record = Record::open(temp.path(), Lengths::default()).unwrap();
    let line = json!({"step": 7, "loss": 0.5, "skipped": true, "usage": null, "word": "x",
                      "d": {"real": 1, "step": 3}, "bad": f64::NAN});
    record.line(7, &line).unwrap();
    record.warning(7, "slow").unwrap();
    record.summary(7, &json!({"steps": 7, "evaluation": {"psnr": 20.25}})).unwrap();
    let expected = [
        ("loss", 0.5),
        ("skipped", 1.0),
        ("d/real", 1.0),
        ("d/step", 3.0),
        ("summary/steps", 7.0),
        ("summary/evaluation/psnr", 20.25),
    ];
    let expected = expected.map(|(tag, value)| (7, tag.to_string(), value));
    assert_eq!(numbers(temp.path()), expected);
    let text = std::fs::read_to_string(temp.path().join(LINES)).unwrap();
    // Fields keep their order; what is not finite is null.
    assert!(text.starts_with("{\"step\":7,\"loss\":0.5,\"skipped\":true,\"usage\":null"), "{text}");
    assert_eq!(record.read_lines().unwrap()[1], json!({"step": 7, "warning": "slow"}));
    assert_eq!(record.lengths().lines, text.len() as u64);
}

#[test]
fn a_picture_is_on_the_disk_in_the_events_and_named_by_a_line() {
    let temp = tempfile::tempdir().unwrap();
    let mut record = Record::open(temp.path(), Lengths::default()).unwrap();
    let picture = RgbImage::from_fn(5, 4, |x, y| image::Rgb([x as u8, y as u8, 9]));
    record.picture(20, &picture, 21.5).unwrap();
    let lines = record.read_lines().unwrap();
    assert_eq!(record.read_pictures(&lines), [(20, picture)]);
    let file = std::fs::read(temp.path().join("samples/step-000020.png")).unwrap();
    let shown = events(temp.path()).into_iter().find_map(|event| match event.what {
        Some(What::Summary(summary)) => match summary.values.into_iter().next()?.content {
            Some(Content::Image(image)) => Some(image),
            _ => None,
        },
        _ => None,
    });
    let shown = shown.unwrap();
    assert_eq!((shown.width, shown.height, shown.colorspace), (5, 4, 3));
    assert_eq!(shown.png, file);
    assert_eq!(numbers(temp.path()), [(20, "pictures_psnr".to_string(), 21.5)]);
}

#[test]
fn what_no_checkpoint_knows_is_cut_and_what_is_not_ours_stays() {
    let temp = tempfile::tempdir().unwrap();
    let mut record = Record::open(temp.path(), Lengths::default()).unwrap();
    record.line(1, &json!({"step": 1, "a": 1.0})).unwrap();
    let keep = record.lengths();
    record.line(2, &json!({"step": 2, "a": 2.0})).unwrap();
    record.codes(2, &[1, 0, 5]).unwrap();
    drop(record);
    let record = Record::open(temp.path(), keep).unwrap();
    assert_eq!(record.lengths(), keep);
    assert_eq!(record.read_lines().unwrap(), [json!({"step": 1, "a": 1.0})]);
    assert_eq!(events(temp.path()).len(), 2);
    drop(record);
    std::fs::create_dir(temp.path().join(SAMPLES)).unwrap();
    for name in ["step-000001.png", "holiday.png"] {
        std::fs::write(temp.path().join(SAMPLES).join(name), b"x").unwrap();
    }
    remove(temp.path());
    assert!(temp.path().join("samples/holiday.png").exists());
    assert!(!temp.path().join("samples/step-000001.png").exists());
    assert!(!temp.path().join(EVENTS).exists() && !temp.path().join(LINES).exists());
}
