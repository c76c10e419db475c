//! Holds the families from 2024 on against their reference code, on both engines of the CPU: every
//! case of ../shared/golden_families, by the rule of its README. Walks the folders, so that a case
//! that is added is tested.

use crate::support::cases;
use crate::support::recent;

use crate::support::{NpzArray, npz};
use candle_core::Device;
use cases::{Case, family_word, largest_difference, pixel_batch};
use recent::{cropped, encoded, family_cases, latents, levels};
use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, detect_raw, open};
use vqtok::internals::engine::candle::CandleEngine;
use vqtok::internals::engine::cpu::{CpuEngine, kernels::Isa};
use vqtok::internals::engine::{Encoded, Engine, PixelBatch};
use vqtok::internals::model::Model;
use vqtok::internals::model::config::ModelConfig;
use vqtok::internals::weights::store::Weights;

/// Largest |dz| and |dx| that the README allows.
const DZ_MAX: f32 = 3e-4;
const DX_MAX: f32 = 2e-4;

/// One engine of a case, whichever it is.
enum Either {
    Candle(Box<CandleEngine>),
    Cpu(Box<CpuEngine>),
}

impl Either {
    fn engine(&mut self) -> &mut dyn Engine {
        match self {
            Either::Candle(engine) => engine.as_mut(),
            Either::Cpu(engine) => engine.as_mut(),
        }
    }

    /// Latents of all images, `[N, D, h, w]`.
    fn latents(&mut self, batch: &PixelBatch) -> Vec<f32> {
        match self {
            Either::Candle(engine) => {
                let images = engine.latents(batch).expect("latents");
                let flat = |level: &candle_core::Tensor| {
                    level.flatten_all().and_then(|z| z.to_vec1::<f32>()).expect("floats")
                };
                images.iter().flat_map(|levels| flat(&levels[0])).collect()
            }
            Either::Cpu(engine) => {
                let dim = engine.config().quantizer.dim;
                planes(&engine.latents(batch).expect("latents").expect("own kernels"), dim)
            }
        }
    }

    /// Decoded images before they become bytes, `[N, C, H, W]`.
    fn decoded(&mut self, codes: &Encoded) -> Vec<f32> {
        match self {
            Either::Candle(engine) => {
                let images = engine.decode_floats(codes).expect("floats");
                let flat = |image: &candle_core::Tensor| {
                    image.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("floats")
                };
                images.iter().flat_map(flat).collect()
            }
            Either::Cpu(engine) => {
                let channels = engine.config().pixels.channels;
                let images = engine.decode_floats(codes).expect("floats");
                planes(&images, channels)
            }
        }
    }
}

/// `[N][pixels, C]` as `[N, C, pixels]`.
fn planes(images: &[Vec<f32>], channels: usize) -> Vec<f32> {
    let plane = |image: &Vec<f32>| -> Vec<f32> {
        (0..channels).flat_map(|c| image.iter().skip(c).step_by(channels).copied()).collect()
    };
    images.iter().flat_map(plane).collect()
}

fn model(case: &Case) -> (ModelConfig, Weights) {
    let options = DetectOptions {
        family: Some(family_word(&case.json)),
        config: case.config(),
        ..DetectOptions::default()
    };
    let file = &case.checkpoints()[0];
    open(file, &options).unwrap_or_else(|e| panic!("{} {}: {e}", case.name, file.display()))
}

/// Candle's engine, and ours with every instruction set of this machine, by name.
fn engines(case: &Case) -> Vec<(&'static str, Either)> {
    let (config, weights) = model(case);
    let broken = |e| panic!("{}: {e}", case.name);
    let candle = Model::load(config.clone(), weights.clone(), &Device::Cpu).unwrap_or_else(broken);
    let mut engines = vec![("candle", Either::Candle(Box::new(CandleEngine::new(candle))))];
    for isa in Isa::available() {
        let broken = |e| panic!("{}: {e}", case.name);
        let cpu = CpuEngine::new(config.clone(), weights.clone(), isa).unwrap_or_else(broken);
        engines.push((isa.name(), Either::Cpu(Box::new(cpu))));
    }
    engines
}

#[test]
fn golden_families_tokens_are_equal() {
    let mut failures = Vec::new();
    println!("{:<28} {:<9} {:>6} {:>6} {:>9}", "case", "engine", "tokens", "differ", "max |dz|");
    for case in family_cases() {
        let golden = npz(case.folder.join("golden.npz"));
        let batch = pixel_batch(&golden["images_u8"]);
        let tokens = levels(&case, &golden["tokens"]);
        for (name, mut engine) in engines(&case) {
            let encoded = engine.engine().encode(&batch).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(encoded.levels.len(), tokens.len(), "{}: levels", case.name);
            let (mut count, mut differing) = (0, 0);
            for (level, want) in encoded.levels.iter().zip(&tokens) {
                assert_eq!(level.codes.len(), want.len(), "{}: number of tokens", case.name);
                count += want.len();
                let pairs = level.codes.iter().zip(want);
                differing += pairs.filter(|(got, want)| i64::from(**got) != **want).count();
            }
            let dz = largest_difference(&engine.latents(&batch), &latents(&case, &golden["z"]));
            println!("{:<28} {name:<9} {count:>6} {differing:>6} {dz:>9.2e}", case.name);
            if differing > 0 || dz > DZ_MAX {
                failures.push(format!("{} {name}: {differing} tokens, |dz| {dz}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The reference's floats as the reference's bytes: how many of ours differ.
fn bytes_of_the_reference(case: &Case, config: &ModelConfig, decoded: &NpzArray) -> Vec<u8> {
    let [count, channels, height, width] = decoded.shape[..] else { panic!("[N, C, H, W]") };
    let floats = decoded.f32();
    let images = floats.chunks(channels * height * width);
    let pixels = images.flat_map(|image| config.pixels.output.to_bytes(image, channels)).collect();
    cropped(case, &PixelBatch { pixels, count, height, width, channels })
}

#[test]
fn golden_families_decoded_images_are_within_bounds() {
    let mut failures = Vec::new();
    println!("{:<28} {:<9} {:>9} {:>8}", "case", "engine", "max |dx|", "u8 off");
    for case in family_cases() {
        let golden = npz(case.folder.join("golden.npz"));
        let codes = encoded(&case, &golden["tokens"]);
        let want = golden["decoded_u8"].u8();
        for (name, mut engine) in engines(&case) {
            let config = engine.engine().config().clone();
            let exact = bytes_of_the_reference(&case, &config, &golden["decoded"]);
            assert!(exact == want, "{}: bytes of {:?}", case.name, config.pixels.output);
            let dx = largest_difference(&engine.decoded(&codes), &golden["decoded"].f32());
            let pictures = engine.engine().decode(&codes).expect("pixels").pictures;
            let own = cropped(&case, &pictures);
            assert_eq!(own.len(), want.len(), "{}", case.name);
            let off = own.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            println!("{:<28} {name:<9} {dx:>9.2e} {off:>8}", case.name);
            if dx > DX_MAX || off > 1 {
                failures.push(format!("{} {name}: |dx| {dx}, bytes off by {off}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The floats that go into the network, bit for bit, where no padding is among them.
#[test]
fn golden_families_input_tables_are_equal() {
    for case in family_cases() {
        let golden = npz(case.folder.join("golden.npz"));
        let batch = pixel_batch(&golden["images_u8"]);
        if golden["input"].shape[2..] != [batch.height, batch.width] {
            continue;
        }
        let table = model(&case).0.pixels.input.table();
        let plane = batch.height * batch.width;
        for (i, want) in golden["input"].f32().iter().enumerate() {
            let (pixel, channel) = (i % plane, i / plane % batch.channels);
            let image = i / plane / batch.channels;
            let byte = batch.pixels[(image * plane + pixel) * batch.channels + channel];
            let got = table[usize::from(byte)];
            assert_eq!(got.to_bits(), want.to_bits(), "{}: byte {byte}", case.name);
        }
    }
}

/// Without a configuration and without a word for the family, either the same model is found or the
/// error says what to do; every tensor has a place or a reason to be left out.
#[test]
fn golden_families_are_recognised_and_every_tensor_is_accounted_for() {
    for case in family_cases() {
        let mut raw = vqtok::internals::checkpoint::open(&case.checkpoints()[0])
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let told = DetectOptions {
            family: Some(family_word(&case.json)),
            config: case.config(),
            ..DetectOptions::default()
        };
        let told = detect_raw(&raw, &told).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut accounted: Vec<&String> =
            told.placements.values().flat_map(|p| p.sources()).chain(told.ignored.keys()).collect();
        accounted.sort();
        accounted.dedup();
        assert_eq!(accounted, raw.tensors.keys().collect::<Vec<_>>(), "{}", case.name);
        raw.configs.clear();
        raw.hparams = None;
        match detect_raw(&raw, &DetectOptions::default()) {
            Ok(found) => {
                assert_eq!(found.config.family, told.config.family, "{}", case.name);
                assert_eq!(found.placements, told.placements, "{}", case.name);
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("say which with family"), "{}: {text}", case.name);
                assert_eq!(told.config.family, "emu35", "others have names of their own: {text}");
            }
        }
    }
}

/// vqtok's own folder gives the same tokens and pictures as the file it was made from.
#[test]
fn golden_families_own_folders_give_equal_tokens() {
    for case in family_cases() {
        let (config, weights) = model(&case);
        let dir = tempfile::tempdir().expect("a folder");
        let tensors = weights.tensors().expect("tensors");
        vqtok::internals::checkpoint::folder::save(dir.path(), &config, &tensors).expect("saved");
        let (again, weights) =
            open(dir.path(), &DetectOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let golden = npz(case.folder.join("golden.npz"));
        let isa = Isa::available()[0];
        let mut engine = CpuEngine::new(again, weights, isa).expect("an engine");
        let encoded = engine.encode(&pixel_batch(&golden["images_u8"])).expect("codes");
        for (level, want) in encoded.levels.iter().zip(levels(&case, &golden["tokens"])) {
            assert!(level.codes.iter().map(|&code| i64::from(code)).eq(want), "{}", case.name);
        }
    }
}

/// Sizes that are odd, not square or too small: both engines give the grid that was said and the
/// same tokens and pictures, or the same error of one line.
#[test]
fn golden_families_odd_sizes_are_the_same_on_both_engines_or_refused() {
    for case in family_cases() {
        let mut engines = engines(&case);
        for (height, width) in [(37, 50), (64, 33), (40, 72), (3, 3), (17, 16)] {
            let pixels = (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect();
            let batch = PixelBatch { pixels, count: 1, height, width, channels: 3 };
            let mut first: Option<Result<Encoded, String>> = None;
            for (name, engine) in &mut engines {
                let engine = engine.engine();
                let said = engine.grid(height, width);
                let encoded = engine.encode(&batch).map_err(|e| e.to_string());
                match (&said, &encoded) {
                    (Ok(grids), Ok(encoded)) => {
                        let sizes = encoded.levels.iter().map(|l| (l.height, l.width));
                        assert!(sizes.eq(grids.iter().copied()), "{} {name}", case.name);
                        engine.decode(encoded).expect("pictures");
                    }
                    (Err(said), Err(error)) => assert_eq!(said, error),
                    _ => panic!("{} {name} {height}x{width}: {said:?}, {encoded:?}", case.name),
                }
                let codes = |e: &Result<Encoded, String>| {
                    e.clone().map(|e| e.levels.into_iter().map(|l| l.codes).collect::<Vec<_>>())
                };
                let first = first.get_or_insert_with(|| encoded.clone());
                assert_eq!(codes(first), codes(&encoded), "{} {name} {height}x{width}", case.name);
            }
        }
    }
}
