//! Tests of the use of codebooks on made numbers.

use super::*;

#[test]
fn slopes_and_neighbours_are_those_of_made_numbers() {
    let ranks: Vec<(u64, u64)> = (1..=40).map(|rank| (rank, 1_000_000 / (rank * rank))).collect();
    assert!((zipf(&ranks).unwrap() - 2.0).abs() < 0.01);
    assert_eq!(zipf(&ranks[..9]), None);
    // A checkerboard of two codes: a neighbour says all of one bit; noise says nothing.
    let count = |code: fn(u32) -> u32| {
        let mut patterns = Patterns::new(Some(2), (8, 8), true);
        for row in 0..200 {
            let codes: Vec<u32> = (0..64).map(|at| code(at + row)).collect();
            patterns.add(&codes, (8, 8), None, 0);
        }
        patterns
    };
    let checks = count(|at| (at + at / 8) % 2);
    assert!(checks.neighbour_bits().unwrap() > 0.5);
    let noise = count(|at| at.wrapping_mul(0x9E37_79B1) >> 31);
    assert!(noise.neighbour_bits().unwrap() < 0.6);
    assert_eq!(Patterns::new(Some(2), (1, 1), true).neighbour_bits(), None);
    let places = places(&checks);
    assert_eq!((places.height, places.width, places.entropy_bits.len()), (8, 8, 64));
    assert!(places.entropy_bits.iter().all(|bits| *bits <= 1.0));
}
