//! Tests of the kernels against libjpeg's own loops, word for word.

use super::color::convert_pixel;
use super::*;

/// jidctint.c, word for word in 64 bits.
fn reference(coefficients: &[i16; 64], quant: &[u16; 64]) -> [[u8; 8]; 8] {
    let mut work: Vec<i64> =
        coefficients.iter().zip(quant).map(|(&c, &q)| i64::from(c) * i64::from(q)).collect();
    for column in 0..8 {
        let out = one(std::array::from_fn(|i| work[i * 8 + column]), 11);
        (0..8).for_each(|i| work[i * 8 + column] = out[i]);
    }
    let mut samples = [[0; 8]; 8];
    for (row, samples) in samples.iter_mut().enumerate() {
        let out = one(std::array::from_fn(|i| work[row * 8 + i]), 18);
        *samples = out.map(|value| (value + 128).clamp(0, 255) as u8);
    }
    samples
}

fn one(i: [i64; 8], shift: u32) -> [i64; 8] {
    let z1 = (i[2] + i[6]) * 4433;
    let (t2, t3) = (z1 - i[6] * 15137, z1 + i[2] * 6270);
    let (t0, t1) = ((i[0] + i[4]) << 13, (i[0] - i[4]) << 13);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
    let (z1, z2, z3, z4) = (i[7] + i[1], i[5] + i[3], i[7] + i[3], i[5] + i[1]);
    let z5 = (z3 + z4) * 9633;
    let (z1, z2, z3, z4) = (z1 * -7373, z2 * -20995, z3 * -16069 + z5, z4 * -3196 + z5);
    let odd = [
        i[1] * 12299 + z1 + z4,
        i[3] * 25172 + z2 + z3,
        i[5] * 16819 + z2 + z4,
        i[7] * 2446 + z1 + z3,
    ];
    let round = 1 << (shift - 1);
    std::array::from_fn(|k| match k {
        0..4 => (even[k] + odd[k] + round) >> shift,
        _ => (even[7 - k] - odd[7 - k] + round) >> shift,
    })
}

fn numbers(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32
    }
}

#[test]
fn the_transform_equals_jidctint() {
    if !std::is_x86_feature_detected!("avx2") {
        return;
    }
    let mut next = numbers(7);
    for round in 0..20_000 {
        // No larger than an encoder makes them out of 8-bit samples.
        let quant: [u16; 64] = std::array::from_fn(|_| 1 + (next() % 10) as u16);
        let keep = 1 + next() % 64;
        let coefficients: [i16; 64] = std::array::from_fn(|k| match k as u32 {
            0 => (next() % 200) as i16 - 100,
            k if k < keep => (next() % 41) as i16 - 20,
            _ => 0,
        });
        let expected = reference(&coefficients, &quant);
        // SAFETY: AVX2 was checked for.
        assert_eq!(unsafe { block(&coefficients, &quant) }, expected, "round {round}");
    }
}

/// jidctint-avx2.asm in plain numbers: 16 bits that wrap on the way in and in the sums of two
/// inputs, and saturate on the way out.
fn in_sixteen_bits(coefficients: &[i16; 64], quant: &[u16; 64]) -> [[u8; 8]; 8] {
    let pass = |i: [i16; 8], shift: u32| -> [i16; 8] {
        let (z3, z4) = (i[7].wrapping_add(i[3]), i[5].wrapping_add(i[1]));
        let (t0, t1) = (i[0].wrapping_add(i[4]), i[0].wrapping_sub(i[4]));
        let w = |value: i16| i32::from(value);
        let (t0, t1) = (w(t0) << 13, w(t1) << 13);
        let t3 = w(i[2]) * 10703 + w(i[6]) * 4433;
        let t2 = w(i[2]) * 4433 - w(i[6]) * 10704;
        let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
        let (z3, z4) = (w(z4) * 9633 - w(z3) * 6436, w(z3) * 9633 + w(z4) * 6437);
        let odd = [
            (w(i[1]) * 4926 - w(i[7]) * 7373).wrapping_add(z4),
            (w(i[3]) * 4177 - w(i[5]) * 20995).wrapping_add(z3),
            (-w(i[5]) * 4176 - w(i[3]) * 20995).wrapping_add(z4),
            (-w(i[7]) * 4927 - w(i[1]) * 7373).wrapping_add(z3),
        ];
        std::array::from_fn(|k| {
            let sum = match k {
                0..4 => even[k].wrapping_add(odd[k]),
                _ => even[7 - k].wrapping_sub(odd[7 - k]),
            };
            let down = sum.wrapping_add(1 << (shift - 1)) >> shift;
            down.clamp(i16::MIN.into(), i16::MAX.into()) as i16
        })
    };
    let mut work: Vec<i16> =
        coefficients.iter().zip(quant).map(|(&c, &q)| c.wrapping_mul(q as i16)).collect();
    let flat = coefficients[8..].iter().all(|&value| value == 0);
    for column in 0..8 {
        let out = match flat {
            true => [work[column].wrapping_mul(4); 8],
            false => pass(std::array::from_fn(|i| work[i * 8 + column]), 11),
        };
        (0..8).for_each(|i| work[i * 8 + column] = out[i]);
    }
    std::array::from_fn(|row| {
        let out = pass(std::array::from_fn(|i| work[row * 8 + i]), 18);
        out.map(|value| (value.clamp(-128, 127) + 128) as u8)
    })
}

#[test]
fn coefficients_of_any_size_clamp_as_in_libjpeg_turbo() {
    if !std::is_x86_feature_detected!("avx2") {
        return;
    }
    let mut next = numbers(13);
    for round in 0..60_000 {
        let bits = next() % 17;
        let mut value = || ((next() << 1 ^ next()) as u16 as i16) >> (16 - bits).min(15);
        let mut coefficients: [i16; 64] = std::array::from_fn(|_| value());
        let quant: [u16; 64] = std::array::from_fn(|_| value() as u16);
        let keep = 1 + next() as usize % 64;
        coefficients[keep..].fill(0);
        let expected = in_sixteen_bits(&coefficients, &quant);
        // SAFETY: AVX2 was checked for.
        assert_eq!(unsafe { block(&coefficients, &quant) }, expected, "round {round}");
    }
}

#[test]
fn upsampling_equals_jdsample() {
    if !std::is_x86_feature_detected!("avx2") {
        return;
    }
    let mut next = numbers(11);
    for width in [3usize, 4, 5, 31, 63, 64, 65, 66, 127, 128, 129, 500] {
        let near: Vec<u8> = (0..width).map(|_| next() as u8).collect();
        let far: Vec<u8> = (0..width).map(|_| next() as u8).collect();
        let sum = |at: usize| i32::from(near[at]) * 3 + i32::from(far[at]);
        let mut expected = vec![0; width * 2];
        for at in 0..width {
            let (left, right) = (sum(at.saturating_sub(1)), sum((at + 1).min(width - 1)));
            expected[at * 2] = ((sum(at) * 3 + left + 8) >> 4) as u8;
            expected[at * 2 + 1] = ((sum(at) * 3 + right + 7) >> 4) as u8;
        }
        let mut out = vec![0; width * 2];
        // SAFETY: AVX2 was checked for.
        unsafe { upsample_row(&near, &far, &mut out) };
        assert_eq!(out, expected, "width {width}");
    }
}

#[test]
fn the_conversion_equals_jdcolor_on_every_colour() {
    if !std::is_x86_feature_detected!("avx2") {
        return;
    }
    let all: Vec<u8> = (0..=255).collect();
    for width in [1usize, 7, 8, 9, 10, 15, 16, 17, 255, 256] {
        for cb in 0..=255u8 {
            let cbs = vec![cb; width];
            let crs: Vec<u8> = (0..width).map(|x| (x as u8).wrapping_mul(37)).collect();
            let mut out = vec![0; width * 3];
            // SAFETY: AVX2 was checked for.
            unsafe { convert_row(&all[..width], &cbs, &crs, &mut out) };
            for x in 0..width {
                assert_eq!(out[x * 3..x * 3 + 3], convert_pixel(all[x], cb, crs[x]));
            }
        }
    }
}
