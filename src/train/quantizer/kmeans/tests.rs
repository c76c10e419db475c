//! Tests of k-means against the reference, of who follows it, and of its end.

use super::*;
use crate::error::Error;
use crate::train::golden::Case;

fn as_i64(indices: &[u32]) -> Vec<i64> {
    indices.iter().map(|i| i64::from(*i)).collect()
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
        let found = KMeans::of(
            &Device::Cpu,
            &rows,
            16,
            4,
            3,
            &mut Draws::new(1, "k-means", 0),
            &mut follow,
        );
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
    let found = KMeans::of(
        &Device::Cpu,
        &rows,
        600,
        4,
        1000,
        &mut Draws::new(1, "k-means", 0),
        &mut follow,
    )
    .unwrap();
    assert!(calls < 4, "{calls}");
    assert_eq!(found.members.iter().filter(|n| **n == 1).count(), 500);
    assert!(found.centres.chunks(4).all(|c| rows.chunks(4).any(|row| row == c)));
}
