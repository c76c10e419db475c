//! Tests of the codebook against the reference and of its promises.

use super::*;
use crate::error::Error;
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
    let means = |rows: &[f32]| {
        KMeans::of(rows, 64, 4, 10, &mut Draws::new(1, "k-means", 0), &mut |_, _| Ok(())).unwrap()
    };
    let mut book = Codebook::new(64, 4, AVERAGES);
    book.start(&means(&rows), 100);
    for k in 0..64 {
        assert!(book.count[k] >= 1.0);
        for d in 0..4 {
            assert_eq!(book.sum[k * 4 + d], book.embedding[k * 4 + d] * book.count[k]);
        }
    }
    assert_eq!(means(&rows), means(&rows));
    assert_eq!(means(&rows).members.iter().sum::<u32>(), 400);
    // Fewer rows than codes: every code still gets a place.
    let few = means(&rows[..40]);
    assert!(few.centres.chunks(4).all(|e| e.iter().any(|v| *v != 0.0)));
}

/// Reads whether work stops where `follow` says so, and what it was told.
#[test]
fn k_means_tells_how_far_it_is_and_stops_when_told_so() {
    let rows = Draws::new(3, "rows", 0).uniform(90_000 * 4, 1.0);
    let run = |stop_at: usize| {
        let mut told = Vec::new();
        let mut follow = |done, total| {
            told.push((done, total));
            if done >= stop_at { Err(Error::Interrupted) } else { Ok(()) }
        };
        let found = KMeans::of(&rows, 16, 4, 3, &mut Draws::new(1, "k-means", 0), &mut follow);
        (found, told)
    };
    let (whole, told) = run(usize::MAX);
    assert_eq!(told.last(), Some(&(360_000, 360_000)));
    assert!(told.is_sorted());
    let (stopped, told) = run(100_000);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert!((100_000..200_000).contains(&told.last().unwrap().0), "{told:?}");
    // As one search over all rows would find it.
    let mut draws = Draws::new(1, "k-means", 0);
    let mut centres: Vec<f32> =
        draws.distinct(16, 90_000).into_iter().flat_map(|r| rows[r * 4..][..4].to_vec()).collect();
    (0..3).for_each(|_| drop(lloyd(&rows, &mut centres, 4)));
    assert!(whole.unwrap().centres == centres);
}

#[test]
fn k_means_ends_where_no_centre_moves_any_more() {
    // As many codes as rows: each is its own centre from the start.
    let rows = Draws::new(3, "rows", 0).uniform(500 * 4, 1.0);
    let mut calls = 0;
    let mut follow = |_, _| {
        calls += 1;
        Ok(())
    };
    let found =
        KMeans::of(&rows, 600, 4, 1000, &mut Draws::new(1, "k-means", 0), &mut follow).unwrap();
    assert!(calls < 4, "{calls}");
    assert_eq!(found.members.iter().filter(|n| **n == 1).count(), 500);
    assert!(found.centres.chunks(4).all(|c| rows.chunks(4).any(|row| row == c)));
}
