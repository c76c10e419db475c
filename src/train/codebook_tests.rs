//! Tests of the codebook against the reference and of its promises.

use super::*;
use crate::train::golden::Case;

const AVERAGES: Averages = Averages { decay: 0.99, epsilon: 1e-5 };

fn as_i64(indices: &[u32]) -> Vec<i64> {
    indices.iter().map(|i| i64::from(*i)).collect()
}

#[test]
fn golden_moving_averages() {
    let Some(case) = Case::open("vq_ema") else { return };
    let mut book = Codebook {
        dim: 8,
        embedding: case.f32("codebook"),
        count: case.f32("ema_count"),
        sum: case.f32("ema_sum"),
        idle: vec![0; 16],
        averages: AVERAGES,
    };
    for step in 0..3 {
        let rows = to_rows(&case.f32(&format!("z{step}")), 8, 16);
        let (indices, _) = nearest(&rows, &book.embedding, 8);
        if step == 0 {
            assert_eq!(as_i64(&indices), case.i64("indices"));
            case.check("quantized", &lookup(&book.embedding, 8, &indices, 16));
        }
        assert_eq!(as_i64(&indices), case.i64(&format!("indices_update{}", step + 1)));
        book.update(&rows, &indices);
        if step != 1 {
            let tag = format!("after{}", step + 1);
            case.check(&format!("{tag}_ema_count"), &book.count);
            case.check(&format!("{tag}_ema_sum"), &book.sum);
            case.check(&format!("{tag}_codebook"), &book.embedding);
        }
    }
    assert_eq!(book.idle[15], 3, "code 15 is never used");
}

#[test]
fn golden_kmeans() {
    let Some(case) = Case::open("kmeans") else { return };
    let points = case.f32("points");
    let mut centres = case.f32("start");
    let (mut assignments, mut inertia) = (vec![], vec![]);
    for step in 0..10 {
        let (indices, sum) = lloyd(&points, &mut centres, 8);
        assignments.extend(as_i64(&indices));
        inertia.push(sum);
        if step == 0 {
            case.check("centres_after1", &centres);
        }
    }
    assert_eq!(assignments, case.i64("assignments"));
    case.check_scalars("inertia_before_update", &inertia);
    case.check("centres_after10", &centres);
}

fn cloud(rows: usize, dim: usize) -> Vec<f32> {
    let mut draws = Draws::new(3, "cloud", 0);
    (0..rows * dim).map(|_| draws.below(2000) as f32 / 1000.0 - 1.0).collect()
}

#[test]
fn the_nearest_code_is_that_of_the_plain_loop_and_ties_go_down() {
    let (rows, mut codes) = (cloud(150, 5), cloud(40, 5));
    let copy = codes[..5].to_vec();
    codes[35..40].copy_from_slice(&copy); // Code 7 equals code 0.
    let (indices, distances) = nearest(&rows, &codes, 5);
    for (i, row) in rows.chunks(5).enumerate() {
        let d = |k: usize| -> f64 {
            codes[k * 5..][..5].iter().zip(row).map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        let best = (0..40).map(d).fold(f64::INFINITY, f64::min);
        assert!(d(indices[i] as usize) <= best + 1e-5);
        assert!((f64::from(distances[i]) - best).abs() < 1e-5);
        assert_ne!(indices[i], 7);
    }
    let (_, distances) = nearest(&[f32::NAN; 5], &codes, 5);
    assert!(distances[0].is_nan());
}

#[test]
fn a_start_is_consistent_and_leaves_no_code_empty() {
    let rows = cloud(400, 4);
    let mut book = Codebook::new(64, 4, AVERAGES);
    book.start(&rows, 100, 10, &mut Draws::new(1, "k-means", 0));
    for k in 0..64 {
        assert!(book.count[k] >= 1.0);
        for d in 0..4 {
            assert_eq!(book.sum[k * 4 + d], book.embedding[k * 4 + d] * book.count[k]);
        }
    }
    let mut again = Codebook::new(64, 4, AVERAGES);
    again.start(&rows, 100, 10, &mut Draws::new(1, "k-means", 0));
    assert_eq!(book, again);
    // Fewer rows than codes: every code still gets a place.
    let mut few = Codebook::new(64, 4, AVERAGES);
    few.start(&rows[..40], 10, 3, &mut Draws::new(1, "k-means", 0));
    assert!(few.embedding.chunks(4).all(|e| e.iter().any(|v| *v != 0.0)));
}

#[test]
fn a_collapsed_codebook_revives_and_keeps_its_places() {
    let rows = cloud(512, 4);
    let mut book = Codebook::new(64, 4, AVERAGES);
    for k in 0..64 {
        let far = if k == 0 { 0.1 } else { 100.0 };
        book.place(k, &[far; 4], 1.0);
    }
    for _ in 0..20 {
        let (indices, _) = nearest(&rows, &book.embedding, 4);
        book.update(&rows, &indices);
    }
    assert_eq!(book.recent_usage(20), 1.0 / 64.0);
    assert_eq!(book.revive(&rows, 20, &mut Draws::new(1, "revival", 20)), 63);
    // Count and sum were reset too: the next update doesn't throw the codes back.
    let before = book.embedding.clone();
    book.update(&rows, &nearest(&rows, &before, 4).0);
    let (indices, _) = nearest(&rows, &book.embedding, 4);
    let mut used = indices.clone();
    used.sort_unstable();
    used.dedup();
    assert!(used.len() >= 60, "{} of 64 codes used", used.len());
}

#[test]
fn the_schedule_doubles_ends_and_is_re_armed() {
    let rule = RevivalRule { every: 20, until: 800, rearm: 0.5 };
    let steps = |rule: RevivalRule, usage: &dyn Fn(u64) -> f64| -> Vec<u64> {
        let mut schedule = RevivalSchedule::new(rule, 100);
        (101..1000).filter(|s| schedule.due(rule, *s, usage(*s))).collect()
    };
    // All alive: doubling, and nothing in the last part.
    assert_eq!(steps(rule, &|_| 1.0), [120, 160, 240, 400, 720]);
    // Some die from 300 on: the next revival finds them and starts again.
    let found = steps(rule, &|s| if (300..=450).contains(&s) { 0.9 } else { 1.0 });
    assert_eq!(found, [120, 160, 240, 400, 420, 440, 460, 500, 580, 740]);
    // A collapse is met at once, even in the last part.
    let collapse = steps(rule, &|s| if (850..860).contains(&s) { 0.1 } else { 1.0 });
    assert_eq!(collapse, [120, 160, 240, 400, 720]);
    let collapse = steps(rule, &|s| if (850..900).contains(&s) { 0.1 } else { 1.0 });
    assert_eq!(collapse, [120, 160, 240, 400, 720, 870, 890]);
    assert!(steps(RevivalRule { every: 0, ..rule }, &|_| 0.0).is_empty());
}
