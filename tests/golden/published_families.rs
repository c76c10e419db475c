//! Holds every published family against its reference code: the tokens of ../shared/golden, the
//! images of ../shared/golden_decoder, the tables of the input ranges. Walks the folders, so that
//! a case that is added is tested.

use crate::support::cases;

use std::collections::BTreeMap;
use std::path::Path;

use cases::{Case, cases, family_word, largest_difference, pixel_batch};

use crate::support::{NpzArray, npz, shared};
use candle_core::{Device, Tensor};
use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin, detect_raw, open};
use vqtok::internals::engine::candle::CandleEngine;
use vqtok::internals::engine::{CodeGrid, Encoded, Engine, PixelBatch};
use vqtok::internals::model::Model;
use vqtok::internals::model::config::{InputRange, OutputRange};
use vqtok::internals::weights::store::Weights;

impl Case {
    fn engine(&self, file: &Path) -> CandleEngine {
        let options = DetectOptions {
            family: Some(family_word(&self.json)),
            config: self.config(),
            ..DetectOptions::default()
        };
        let (config, weights) = open(file, &options)
            .unwrap_or_else(|e| panic!("{} {}: {e}", self.name, file.display()));
        let model = Model::load(config, weights, &Device::Cpu)
            .unwrap_or_else(|e| panic!("{} {}: {e}", self.name, file.display()));
        CandleEngine::new(model)
    }
}

/// z of one level over all images, in the golden file's layout: (N,D,h,w), or (N,T,D) of ViT.
fn latents(engine: &CandleEngine, batch: &PixelBatch, level: usize, golden: &NpzArray) -> Vec<f32> {
    let mut all = Vec::new();
    for image in engine.latents(batch).expect("latents") {
        let z = &image[level];
        let z = if golden.shape.len() == 3 {
            z.permute((0, 2, 3, 1)).expect("rows")
        } else {
            z.clone()
        };
        all.extend(z.flatten_all().and_then(|z| z.to_vec1::<f32>()).expect("floats"));
    }
    all
}

struct Row {
    line: String,
    differing: usize,
}

/// The largest |dz| of a position as a share of its margin (on the unit sphere for the cosine
/// families, where |z| isn't divided out): how near the nearest token came to changing.
fn margin_share(z: &[f32], golden: &NpzArray, margin: &[f64]) -> f64 {
    let want = golden.f32();
    let (channels, area) = match golden.shape[..] {
        [_, channels, height, width] => (channels, height * width),
        _ => (1, 1),
    };
    let position = |t: usize| {
        let squares = (0..channels).map(|c| {
            let at = if golden.shape.len() == 4 {
                (t / area * channels + c) * area + t % area
            } else {
                t
            };
            f64::from(z[at] - want[at]).powi(2)
        });
        squares.sum::<f64>().sqrt()
    };
    if golden.shape.len() != 4 {
        return f64::NAN;
    }
    margin
        .iter()
        .enumerate()
        .filter(|(_, m)| **m > 0.0)
        .map(|(t, m)| position(t) / m)
        .fold(0.0, f64::max)
}

/// Compares one level's codes with the golden tokens.
fn compare(
    name: &str,
    file: &Path,
    codes: &[u32],
    (golden, array): (&BTreeMap<String, NpzArray>, &str),
    z: &[f32],
) -> Row {
    let tokens = golden[array].i64();
    assert_eq!(codes.len(), tokens.len(), "{name}: number of tokens");
    let z_name = array.replace("tokens", "z");
    let dz = largest_difference(z, &golden[&z_name].f32());
    let share =
        margin_share(z, &golden[&z_name], &golden[&array.replace("tokens", "margin")].f64());
    let differing = codes.iter().zip(&tokens).filter(|(a, b)| i64::from(**a) != **b).count();
    let file = file.file_name().expect("a name").to_string_lossy().into_owned();
    let line = format!(
        "{:<28} {file:<42} {array:<12} {:>6} {differing:>6} {dz:>9.2e} {share:>9.2e}",
        name,
        tokens.len()
    );
    Row { line, differing }
}

#[test]
fn golden_tokens_of_every_family_are_equal() {
    let mut rows = Vec::new();
    for case in cases("golden") {
        let golden = npz(case.folder.join("golden.npz"));
        let batch = pixel_batch(&golden["images_u8"]);
        for file in case.checkpoints() {
            let mut engine = case.engine(&file);
            let table = engine.config().pixels.input.table();
            check_input(&case.name, &table, &batch, &golden["input"].f32());
            let encoded = engine.encode(&batch).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            for (level, array) in ["tokens", "tokens_top"].into_iter().enumerate() {
                if level >= encoded.levels.len() {
                    continue;
                }
                let z_name = array.replace("tokens", "z");
                let z = latents(&engine, &batch, level, &golden[&z_name]);
                let codes = &encoded.levels[level].codes;
                rows.push(compare(&case.name, &file, codes, (&golden, array), &z));
            }
        }
    }
    println!(
        "{:<28} {:<42} {:<12} {:>6} {:>6} {:>9} {:>9}",
        "case", "file", "level", "tokens", "differ", "max |dz|", "of margin"
    );
    rows.iter().for_each(|row| println!("{}", row.line));
    let differing: usize = rows.iter().map(|row| row.differing).sum();
    assert_eq!(differing, 0, "tokens differ from the reference");
}

/// The floats that go into the network, bit for bit.
fn check_input(name: &str, table: &[f32; 256], batch: &PixelBatch, golden: &[f32]) {
    let plane = batch.height * batch.width;
    for (i, want) in golden.iter().enumerate() {
        let (pixel, channel) = (i % plane, i / plane % batch.channels);
        let image = i / plane / batch.channels;
        let byte = batch.pixels[(image * plane + pixel) * batch.channels + channel];
        let got = table[usize::from(byte)];
        assert_eq!(got.to_bits(), want.to_bits(), "{name}: byte {byte} became {got}, not {want}");
    }
}

#[test]
fn golden_decoder_images_of_every_family_are_within_bounds() {
    let mut failures = Vec::new();
    println!("{:<28} {:<42} {:<22} {:>9} {:>8}", "case", "file", "golden", "max |dx|", "u8 off");
    for case in cases("golden_decoder") {
        for file in case.checkpoints() {
            let mut engine = case.engine(&file);
            for (array, golden, codes) in case.decoded(engine.config().factor()) {
                let decoded = &golden["decoded"];
                let images =
                    engine.decode_floats(&codes).unwrap_or_else(|e| panic!("{}: {e}", case.name));
                let floats: Vec<f32> = images
                    .iter()
                    .flat_map(|image| {
                        image.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("floats")
                    })
                    .collect();
                let dx = largest_difference(&floats, &decoded.f32());
                let rule = engine.config().pixels.output;
                check_bytes(&case.name, rule, decoded, &golden["decoded_u8"].u8());
                let own = engine.decode(&codes).expect("pixels").pictures.pixels;
                let off =
                    own.iter().zip(golden["decoded_u8"].u8()).map(|(a, b)| a.abs_diff(b)).max();
                let name = file.file_name().expect("a name").to_string_lossy();
                println!(
                    "{:<28} {name:<42} {array:<22} {dx:>9.2e} {:>8}",
                    case.name,
                    off.unwrap_or(0)
                );
                if dx > 2e-4 || off.is_none_or(|off| off > 1) {
                    failures.push(format!("{} {name} {array}: {dx}", case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// The reference's floats become the reference's bytes, all of them.
fn check_bytes(name: &str, rule: OutputRange, decoded: &NpzArray, want: &[u8]) {
    let channels = decoded.shape[1];
    let image = channels * decoded.shape[2] * decoded.shape[3];
    let got: Vec<u8> =
        decoded.f32().chunks(image).flat_map(|floats| rule.to_bytes(floats, channels)).collect();
    let differing = got.iter().zip(want).filter(|(a, b)| a != b).count();
    assert_eq!((got.len(), differing), (want.len(), 0), "{name}: bytes of {rule:?}");
}

#[test]
fn golden_tables_of_the_input_ranges_are_equal() {
    let Some(path) = shared("golden/preproc/norm_luts.npz") else { return };
    let luts = npz(path);
    let ranges = BTreeMap::from([
        ("taming_f64", InputRange::Taming),
        ("chameleon_f64", InputRange::Chameleon),
        ("tv_01", InputRange::Unit),
        ("tv_pm1", InputRange::Symmetric),
        ("dalle", InputRange::Dalle),
        ("hf_vae_pm1", InputRange::Diffusers),
        ("hf_chameleon", InputRange::ChameleonHf),
    ]);
    for (name, array) in &luts {
        let range =
            ranges.get(name.as_str()).unwrap_or_else(|| panic!("no range for table {name}"));
        let bits = |table: &[f32]| table.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&range.table()), bits(&array.f32()), "{name}");
    }
}

/// One image gives the same codes, distances and pixels alone, in a batch, and on one thread.
#[test]
fn golden_batch_and_threads_change_nothing() {
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    for case in cases("golden") {
        let golden = npz(case.folder.join("golden.npz"));
        let batch = pixel_batch(&golden["images_u8"]);
        let mut engine = case.engine(&case.checkpoints()[0]);
        let together = engine.encode(&batch).expect("codes");
        let alone_on_one = one_thread.install(|| engine.encode(&batch)).expect("codes");
        let bits = |grid: &CodeGrid| grid.distances.iter().map(|d| d.to_bits()).collect::<Vec<_>>();
        for (a, b) in together.levels.iter().zip(&alone_on_one.levels) {
            assert_eq!((&a.codes, bits(a)), (&b.codes, bits(b)), "{}: threads", case.name);
        }
        let image = batch.height * batch.width * batch.channels;
        for i in 0..batch.count {
            let pixels = batch.pixels[i * image..(i + 1) * image].to_vec();
            let single = engine.encode(&PixelBatch { pixels, count: 1, ..batch }).expect("codes");
            for (a, b) in together.levels.iter().zip(&single.levels) {
                let area = b.codes.len();
                assert_eq!(a.codes[i * area..(i + 1) * area], b.codes, "{}: image {i}", case.name);
                assert_eq!(bits(a)[i * area..(i + 1) * area], bits(b), "{}: image {i}", case.name);
            }
        }
        if engine.config().parts().decoder() {
            let whole = engine.decode(&together).expect("pixels").pictures;
            let first = Encoded {
                count: 1,
                levels: together
                    .levels
                    .iter()
                    .map(|l| {
                        let area = l.height * l.width;
                        CodeGrid {
                            codes: l.codes[..area].to_vec(),
                            distances: l.distances[..area].to_vec(),
                            ..*l
                        }
                    })
                    .collect(),
                failed: Vec::new(),
            };
            let single = engine.decode(&first).expect("pixels").pictures;
            assert_eq!(
                whole.pixels[..single.pixels.len()],
                single.pixels,
                "{}: decoding",
                case.name
            );
        }
    }
}

/// Without a configuration and without --family, either the same architecture is found or the
/// error says what to do.
#[test]
fn golden_detection_agrees_or_asks() {
    for case in cases("golden").into_iter().chain(cases("golden_decoder")) {
        for file in case.checkpoints() {
            let mut raw =
                vqtok::internals::checkpoint::open(&file).unwrap_or_else(|e| panic!("{e}"));
            let told = DetectOptions {
                family: Some(family_word(&case.json)),
                config: case.config(),
                ..DetectOptions::default()
            };
            let told = detect_raw(&raw, &told).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            raw.configs.clear();
            raw.hparams = None;
            match detect_raw(&raw, &DetectOptions::default()) {
                Ok(found) => {
                    assert_eq!(found.config.family, told.config.family, "{}", case.name);
                    assert_eq!(found.placements, told.placements, "{}", case.name);
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        text.contains("say which with family") || text.contains("config.yaml"),
                        "{}: {text}",
                        case.name
                    );
                    assert!(!text.contains('\n'), "{}: {text}", case.name);
                }
            }
        }
    }
}

/// Every tensor of every file has a place or a reason to be left out, and the loader finds out
/// where one has neither.
#[test]
fn golden_every_tensor_is_used_or_named_and_a_wrong_map_is_caught() {
    for case in cases("golden") {
        let file = &case.checkpoints()[0];
        let raw = vqtok::internals::checkpoint::open(file).unwrap_or_else(|e| panic!("{e}"));
        let options = DetectOptions {
            family: Some(family_word(&case.json)),
            config: case.config(),
            ..DetectOptions::default()
        };
        let detected = detect_raw(&raw, &options).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut accounted: Vec<&String> =
            detected.placements.values().flat_map(|p| p.sources()).collect();
        accounted.extend(detected.ignored.keys());
        accounted.sort();
        assert_eq!(accounted, raw.tensors.keys().collect::<Vec<_>>(), "{}", case.name);

        let weights = detected.place(&raw).and_then(|w| w.tensors()).expect("weights");
        // A tensor under a name that the network doesn't read.
        let mut renamed = weights.clone();
        let name = renamed.keys().next().expect("a weight").clone();
        let tensor = renamed.remove(&name).expect("it");
        renamed.insert(format!("{name}.lost"), tensor.clone());
        // With the weights themselves, and by their names and shapes alone.
        let refusals = |weights: BTreeMap<String, Tensor>| {
            let weights = Weights::from(weights);
            let checked = Model::check(&detected.config, &weights).err();
            let loaded = Model::load(detected.config.clone(), weights, &Device::Cpu).err();
            [checked, loaded].map(|error| {
                error.unwrap_or_else(|| panic!("{}: went unnoticed", case.name)).to_string()
            })
        };
        for missing in refusals(renamed) {
            assert!(missing.contains(&name), "{}: {missing}", case.name);
        }
        // A tensor too many.
        let mut added = weights.clone();
        added.insert("encoder.surprise.weight".to_owned(), tensor);
        for surplus in refusals(added) {
            assert!(surplus.contains("encoder.surprise.weight"), "{}: {surplus}", case.name);
        }
    }
}

/// vqtok's own folder gives the same tokens as the file it was made from.
#[test]
fn golden_own_folder_gives_equal_tokens() {
    for case in cases("golden") {
        let file = &case.checkpoints()[0];
        let options = DetectOptions {
            family: Some(family_word(&case.json)),
            config: case.config(),
            ..DetectOptions::default()
        };
        let (config, weights) =
            open(file, &options).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let dir = tempfile::tempdir().expect("a folder");
        let weights = weights.tensors().expect("tensors");
        vqtok::internals::checkpoint::folder::save(dir.path(), &config, &weights).expect("saved");
        let golden = npz(case.folder.join("golden.npz"));
        let batch = pixel_batch(&golden["images_u8"]);
        let weights_file = dir.path().join(vqtok::internals::checkpoint::folder::WEIGHTS_FILE);
        for path in [dir.path(), weights_file.as_path()] {
            let mut engine = begin(path, &DetectOptions::default())
                .and_then(|opened| CandleEngine::open(opened, &Device::Cpu))
                .unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let encoded = engine.encode(&batch).expect("codes");
            let codes: Vec<i64> = encoded.levels[0].codes.iter().map(|&c| i64::from(c)).collect();
            assert_eq!(codes, golden["tokens"].i64(), "{}", case.name);
        }
    }
}

/// Sizes that are odd, not square, or too small: the grid is what was said, or a one-line error.
#[test]
fn golden_odd_sizes_work_or_are_refused() {
    for case in cases("golden") {
        let mut engine = case.engine(&case.checkpoints()[0]);
        for (height, width) in [(37, 50), (64, 33), (40, 72), (3, 3)] {
            let channels = engine.config().pixels.channels;
            let pixels = (0..height * width * channels).map(|i| (i * 37 % 251) as u8).collect();
            let batch = PixelBatch { pixels, count: 1, height, width, channels };
            match (engine.grid(height, width), engine.encode(&batch)) {
                (Ok(grids), Ok(encoded)) => {
                    let sizes = encoded.levels.iter().map(|l| (l.height, l.width, l.codes.len()));
                    let said = grids.into_iter().map(|(h, w)| (h, w, h * w));
                    assert_eq!(
                        sizes.collect::<Vec<_>>(),
                        said.collect::<Vec<_>>(),
                        "{}",
                        case.name
                    );
                }
                (Err(said), Err(error)) => {
                    assert_eq!(error.to_string(), said, "{}", case.name);
                    assert!(!said.contains('\n'), "{}: {said}", case.name);
                }
                (grid, encoded) => panic!("{} {height}x{width}: {grid:?}, {encoded:?}", case.name),
            }
        }
    }
}

/// The dVAE is published as two files; a folder with both is one model.
#[test]
fn golden_halves_of_the_dvae_are_found_together() {
    let (Some(encoder), Some(decoder)) =
        (shared("golden/dalle_dvae/encoder.pkl"), shared("golden_decoder/dalle_dvae/decoder.pkl"))
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::copy(encoder, dir.path().join("encoder.pkl")).expect("copied");
    std::fs::copy(decoder, dir.path().join("decoder.pkl")).expect("copied");
    let (config, weights) = open(dir.path(), &DetectOptions::default()).expect("detected");
    assert_eq!(config.family, "dalle");
    assert!(config.parts().encoder() && config.parts().decoder());
    // These two halves have codebooks of different sizes, which is noticed.
    let error = Model::load(config, weights, &Device::Cpu).err().expect("a mismatch").to_string();
    assert!(
        error.contains("decoder.blocks.input.w") && error.contains("[16, 128, 1, 1]"),
        "{error}"
    );
}

/// A file of diffusers names itself in config.json: no flag is needed.
#[test]
fn golden_diffusers_needs_no_family() {
    for case in cases("golden").into_iter().chain(cases("golden_decoder")) {
        if !case.folder.join("config.json").exists()
            || !["amused", "diffusers"].contains(&family_word(&case.json))
        {
            continue;
        }
        let (config, _) =
            open(&case.checkpoints()[0], &DetectOptions::default()).expect("detected");
        assert_eq!(config.family, family_word(&case.json), "{}", case.name);
    }
}

/// What a checkpoint alone doesn't tell, `--model-config` does, wherever the file lies.
#[test]
fn golden_model_config_comes_by_flag() {
    let Some(case) = cases("golden").into_iter().find(|case| case.name == "vitvqgan") else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let inspect = |config: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_vqtok"))
            .arg("inspect")
            .args(case.checkpoints())
            .args(["--json", "--model-config", config])
            .current_dir(scratch.path())
            .output()
            .expect("the binary starts")
    };
    let published = case.config().expect("it is in case.json alone").to_string();
    std::fs::write(scratch.path().join("told.json"), published).expect("a file");
    let told = inspect("told.json");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && text.contains(r#""heads":2"#), "{text}");
    std::fs::write(scratch.path().join("told.json"), "{}").expect("a file");
    for (file, reason) in [("told.json", "pass it with --model-config"), ("none.json", "none.json")]
    {
        let error = inspect(file);
        let text = String::from_utf8_lossy(&error.stderr);
        assert_eq!((error.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}
