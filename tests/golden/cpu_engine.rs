//! Holds the engine with our own kernels against the reference data, as `golden` does the candle
//! engine, at every instruction set this machine has.

use crate::support::cases;

use std::path::Path;

use crate::support::{NpzArray, npz};
use cases::{Case, cases, family_word, largest_difference, pixel_batch};
use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, open};
use vqtok::internals::engine::cpu::{CpuEngine, kernels::Isa};
use vqtok::internals::engine::{Encoded, Engine};

fn engine(case: &Case, file: &Path, isa: Isa) -> CpuEngine {
    let options = DetectOptions {
        family: Some(family_word(&case.json)),
        config: case.config(),
        ..DetectOptions::default()
    };
    let (config, weights) =
        open(file, &options).unwrap_or_else(|e| panic!("{} {}: {e}", case.name, file.display()));
    CpuEngine::new(config, weights, isa).unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// `[N][pixels, C]` as `[N, C, pixels]`, the golden files' order.
fn planes(images: &[Vec<f32>], channels: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for image in images {
        for c in 0..channels {
            all.extend(image.iter().skip(c).step_by(channels));
        }
    }
    all
}

fn differing_codes(codes: &[u32], tokens: &[i64]) -> usize {
    assert_eq!(codes.len(), tokens.len(), "number of tokens");
    codes.iter().zip(tokens).filter(|(a, b)| i64::from(**a) != **b).count()
}

#[test]
fn golden_cpu_tokens_of_every_family_are_equal() {
    let mut differing = 0;
    println!("{:<24} {:<9} {:>6} {:>6} {:>9}", "case", "level", "tokens", "differ", "|dz|");
    for case in cases("golden") {
        let golden = npz(case.folder.join("golden.npz"));
        let batch = pixel_batch(&golden["images_u8"]);
        for isa in Isa::available() {
            let mut engine = engine(&case, &case.checkpoints()[0], isa);
            let encoded = engine.encode(&batch).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let tokens = golden["tokens"].i64();
            let codes = &encoded.levels[0].codes;
            assert_eq!(codes.len(), tokens.len(), "{}: number of tokens", case.name);
            let mut wrong = differing_codes(codes, &tokens);
            if let Some(top) = encoded.levels.get(1) {
                wrong += differing_codes(&top.codes, &golden["tokens_top"].i64());
            }
            let dz = engine.latents(&batch).expect("latents").map_or(0.0, |latents| {
                let channels = golden["z"].shape[1];
                largest_difference(&planes(&latents, channels), &golden["z"].f32())
            });
            println!(
                "{:<24} {:<9} {:>6} {wrong:>6} {dz:>9.2e}",
                case.name,
                isa.name(),
                tokens.len()
            );
            differing += wrong;
        }
    }
    assert_eq!(differing, 0, "tokens differ from the reference");
}

#[test]
fn golden_cpu_decoder_images_of_every_family_are_within_bounds() {
    let mut failures = Vec::new();
    for case in cases("golden_decoder") {
        for isa in Isa::available() {
            let mut engine = engine(&case, &case.checkpoints()[0], isa);
            for (array, golden, codes) in case.decoded(engine.config().factor()) {
                let decoded = &golden["decoded"];
                let (dx, off) = differences(&mut engine, &codes, decoded, &golden["decoded_u8"]);
                println!("{:<24} {:<9} {array:<22} {dx:>9.2e} {off}", case.name, isa.name());
                if dx > 2e-4 || off > 1 {
                    failures.push(format!("{} {} {array}: {dx}", case.name, isa.name()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// The largest difference in floats and in bytes.
fn differences(
    engine: &mut CpuEngine,
    codes: &Encoded,
    decoded: &NpzArray,
    bytes: &NpzArray,
) -> (f32, u8) {
    let floats = engine.decode_floats(codes).expect("floats");
    let dx = largest_difference(&planes(&floats, decoded.shape[1]), &decoded.f32());
    let pixels = engine.decode(codes).expect("pixels").pictures;
    assert_eq!([pixels.count, pixels.height, pixels.width, pixels.channels], bytes.shape[..]);
    let off = pixels.pixels.iter().zip(bytes.u8()).map(|(a, b)| a.abs_diff(b)).max();
    (dx, off.unwrap_or(0))
}
