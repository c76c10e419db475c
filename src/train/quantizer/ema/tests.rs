//! Tests of the moving averages against the reference and of their promises.

use super::*;
use crate::train::golden::Case;
use crate::train::quantizer::layout::{lookup, to_rows};
use crate::train::quantizer::nearest::nearest;

const AVERAGES: Averages = Averages { decay: 0.99, epsilon: 1e-5 };

fn as_i64(indices: &[u32]) -> Vec<i64> {
    indices.iter().map(|i| i64::from(*i)).collect()
}

#[test]
fn golden_moving_averages() {
    let Some(case) = Case::open("vq_ema") else { return };
    let mut book = EmaCodebook {
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
fn a_start_is_consistent_and_leaves_no_code_empty() {
    let mut draws = Draws::new(3, "cloud", 0);
    let rows: Vec<f32> = (0..400 * 4).map(|_| draws.below(2000) as f32 / 1000.0 - 1.0).collect();
    let means = |rows: &[f32]| {
        KMeans::of(&Device::Cpu, rows, 64, 4, 10, &mut Draws::new(1, "k-means", 0), &mut |_, _| {
            Ok(())
        })
        .unwrap()
    };
    let mut book = EmaCodebook::new(64, 4, AVERAGES);
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
