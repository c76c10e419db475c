//! Holds `quantizer` against what it promises.

use super::*;
use crate::util::random::units as values;

fn config(rule: QuantizerRule, codes: usize, dim: usize) -> QuantizerConfig {
    QuantizerConfig::new(rule, codes, dim)
}

#[test]
fn messages_call_rules_as_configurations_do() {
    use QuantizerRule::*;
    let words = ["l2", "l2-normalised", "dot", "projection", "logits", "sign", "fsq"];
    assert_eq!(
        [L2, L2Normalised, Dot, Projection, Logits, Sign, Fsq].map(|r| r.to_string()),
        words
    );
    let error = VectorQuantizer::new(&config(L2Normalised, 4, 2), None, None).unwrap_err();
    assert_eq!(error.to_string(), "the quantizer rule l2-normalised needs a codebook");
}

#[test]
fn nearest_agrees_with_a_plain_search_in_double_precision() {
    for (codes, dim, count) in [(1, 1, 3), (17, 5, 9), (130, 67, 300), (512, 200, 33)] {
        let (table, z) = (values(1, codes * dim), values(2, count * dim));
        let found = SearchTable::nearest(&table, dim).search(&z);
        for (z, &k) in z.chunks(dim).zip(&found) {
            let distance = |e: &[f32]| -> f64 {
                z.iter().zip(e).map(|(a, b)| (*a as f64 - *b as f64).powi(2)).sum()
            };
            let lowest = table.chunks(dim).map(distance).fold(f64::INFINITY, f64::min);
            let chosen = distance(&table[k as usize * dim..][..dim]);
            assert!(chosen - lowest <= 1e-6 * (1.0 + lowest), "{codes} {dim}: {chosen} {lowest}");
        }
    }
}

#[test]
fn equal_codes_tie_and_the_lower_index_wins_whatever_its_lane() {
    let dim = 19;
    let mut table = values(3, 64 * dim);
    for (from, to) in [(3, 40), (3, 63), (17, 18), (31, 32)] {
        table.copy_within(from * dim..(from + 1) * dim, to * dim);
    }
    let quantizer =
        VectorQuantizer::new(&config(QuantizerRule::L2, 64, dim), Some(table.clone()), None)
            .unwrap();
    let z: Vec<f32> = [40, 63, 18, 32]
        .iter()
        .flat_map(|&k| table[k * dim..(k + 1) * dim].iter().map(|x| x * 1.01))
        .collect();
    assert_eq!(quantizer.quantize(z, dim).unwrap().0, [3, 3, 17, 31]);
}

#[test]
fn a_row_gets_the_same_code_and_distance_in_any_batch() {
    let (codes, dim, count) = (100, 33, 70);
    let quantizer = VectorQuantizer::new(
        &config(QuantizerRule::L2, codes, dim),
        Some(values(4, codes * dim)),
        None,
    )
    .unwrap();
    let z = values(5, count * dim);
    let (together, distances) = quantizer.quantize(z.clone(), dim).unwrap();
    for (i, row) in z.chunks(dim).enumerate() {
        let (alone, distance) = quantizer.quantize(row.to_vec(), dim).unwrap();
        assert_eq!((alone[0], distance[0].to_bits()), (together[i], distances[i].to_bits()));
    }
}

/// Two latents of 33 channels: beyond 32 bits a token is the list of its channels' signs.
#[test]
fn more_bits_than_a_number_has_are_a_list_in_the_order_of_channels() {
    for rule in [QuantizerRule::Sign, QuantizerRule::SignHigh] {
        let quantizer = VectorQuantizer::new(&config(rule, 2, 33), None, None).unwrap();
        let mut z = vec![-0.5; 66];
        (z[0], z[2], z[32], z[33]) = (0.25, 0.0, 7.0, f32::MIN_POSITIVE);
        let (codes, distances) = quantizer.quantize(z, 33).unwrap();
        let set: Vec<usize> = (0..66).filter(|&at| codes[at] == 1).collect();
        assert_eq!((set, codes.len()), (vec![0, 32, 33], 66), "{rule}");
        assert!(distances.len() == 2 && distances.iter().all(|d| d.is_nan()));
        let vectors = quantizer.lookup(&codes).unwrap();
        let signs = codes.iter().map(|&bit| if bit == 1 { 1.0 } else { -1.0 });
        assert_eq!(vectors, signs.collect::<Vec<f32>>());
        assert!(quantizer.lookup(&[2; 33]).is_err());
    }
}

#[test]
fn sign_bits_count_from_channel_zero_and_zero_is_no_bit() {
    let quantizer = VectorQuantizer::new(&config(QuantizerRule::Sign, 8, 3), None, None).unwrap();
    let (codes, distances) = quantizer.quantize(vec![0.5, -1.0, 0.0, -0.1, 0.2, 3.0], 3).unwrap();
    assert_eq!(codes, [1, 6]);
    assert!(distances.iter().all(|d| d.is_nan()));
    assert_eq!(quantizer.lookup(&[6, 1]).unwrap(), [-1.0, 1.0, 1.0, 1.0, -1.0, -1.0]);
    assert!(quantizer.lookup(&[8]).is_err());
}

#[test]
fn normalised_rule_ignores_lengths_and_looks_up_unit_vectors() {
    let table = vec![10.0, 0.0, 0.0, 0.1];
    let quantizer =
        VectorQuantizer::new(&config(QuantizerRule::L2Normalised, 2, 2), Some(table), None)
            .unwrap();
    assert_eq!(quantizer.quantize(vec![0.3, 0.4, 4.0, 3.0], 2).unwrap().0, [1, 0]);
    assert_eq!(quantizer.lookup(&[0, 1]).unwrap(), [1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn projection_and_dot_take_the_first_largest() {
    let dot =
        VectorQuantizer::new(&config(QuantizerRule::Dot, 3, 1), Some(vec![1.0, 5.0, 5.0]), None)
            .unwrap();
    assert_eq!(dot.quantize(vec![2.0, -2.0], 1).unwrap().0, [1, 0]);
    let weights = (vec![1.0, 1.0], vec![0.0, 0.5]);
    let projection = VectorQuantizer::new(
        &config(QuantizerRule::Projection, 2, 4),
        Some(vec![0.0; 8]),
        Some(weights),
    )
    .unwrap();
    assert_eq!(projection.quantize(vec![1.0], 1).unwrap().0, [1]);
}
