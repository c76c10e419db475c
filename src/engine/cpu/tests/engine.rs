//! Holds the engine against candle and itself: whatever the batch, the threads, the sizes seen before.

use super::*;

#[test]
fn codes_and_pixels_depend_on_nothing_but_the_image() {
    let (config, weights) = model(vqgan(&[32, 64], 32, 16), QuantizerRule::L2, 300, 8);
    let isa = Isa::available()[0];
    let mut engine = CpuEngine::new(config.clone(), weights.clone(), isa).unwrap();
    let mut reference = CandleEngine::new(Model::load(config, weights, &Device::Cpu).unwrap());
    let batch = images(2, 5, 68, 28);
    let whole = engine.encode(&batch).unwrap();
    assert_eq!(whole.levels[0].codes, reference.encode(&batch).unwrap().levels[0].codes);
    let decoded = engine.decode(&whole).unwrap();
    // Images on one thread each, some of them so and the last on all, each on all.
    for threads in [1, 2, 3, 12] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| engine.encode(&batch).unwrap()) == whole);
        assert!(pool.install(|| engine.decode(&whole).unwrap()) == decoded);
    }
    // Another size in between leaves nothing behind in the reused memory.
    engine.encode(&images(3, 2, 44, 36)).unwrap();
    let area = 34 * 14;
    for i in 0..5 {
        let one = PixelBatch { pixels: batch.image(i).to_vec(), count: 1, ..batch };
        let alone = engine.encode(&one).unwrap();
        let range = i * area..(i + 1) * area;
        assert_eq!(alone.levels[0].codes, whole.levels[0].codes[range.clone()]);
        assert_eq!(alone.levels[0].distances, whole.levels[0].distances[range]);
        assert_eq!(engine.decode(&alone).unwrap().pictures.pixels, decoded.pictures.image(i));
    }
}

#[test]
fn every_rule_gives_the_reference_codes_and_distances() {
    use QuantizerRule::{Dot, Fsq, L2, L2Normalised, Sign};
    for (rule, codes) in [(L2, 200), (L2Normalised, 200), (Dot, 200), (Sign, 64), (Fsq, 2880)] {
        let (mut config, mut weights) = model(vqgan(&[16, 32], 16, 8), rule, codes, 6);
        if matches!(rule, Sign | Fsq) {
            weights.remove("quantize.embedding.weight");
        }
        if rule == Fsq {
            config.quantizer.levels = vec![8, 5, 4, 3, 2, 3];
        }
        let batch = images(4, 2, 18, 22);
        for isa in Isa::available() {
            let mut engine = CpuEngine::new(config.clone(), weights.clone(), isa).unwrap();
            let model = Model::load(config.clone(), weights.clone(), &Device::Cpu).unwrap();
            let mut reference = CandleEngine::new(model);
            let want: Encoded = reference.encode(&batch).unwrap();
            let got = engine.encode(&batch).unwrap();
            assert_eq!(got.levels[0].codes, want.levels[0].codes, "{rule:?}");
            for (a, b) in got.levels[0].distances.iter().zip(&want.levels[0].distances) {
                let close = (a - b).abs() <= 1e-4 * (1.0 + b.abs());
                assert!(close || (rule == Sign && a.is_nan() && b.is_nan()), "{rule:?}: {a} {b}");
            }
            // Codes come back as the same pixels, but for the last bit of a float.
            let off = off_by(&engine.decode(&got).unwrap(), &reference.decode(&want).unwrap());
            assert!(off <= 1, "{rule:?}: {off}");
        }
    }
}

#[test]
fn residual_levels_are_the_references() {
    let (mut config, mut weights) = model(vqgan(&[16, 32], 16, 8), QuantizerRule::L2, 120, 6);
    // The same codes as three levels of forty, the later ones smaller.
    config.quantizer = QuantizerConfig { depth: 3, codes: 40, ..config.quantizer };
    let name = "quantize.embedding.weight";
    let mut rows: Vec<f32> = weights[name].flatten_all().unwrap().to_vec1().unwrap();
    let scaled = rows.iter_mut().enumerate();
    scaled.for_each(|(i, v)| *v *= [1.0, 0.5, 0.25][i / 240]);
    weights.insert(name.into(), Tensor::from_vec(rows, (120, 6), &Device::Cpu).unwrap());
    let batch = images(4, 2, 18, 22);
    let mut reference =
        CandleEngine::new(Model::load(config.clone(), weights.clone(), &Device::Cpu).unwrap());
    let want = reference.encode(&batch).unwrap();
    assert_eq!(want.levels.len(), 3);
    for isa in Isa::available() {
        let mut engine = CpuEngine::new(config.clone(), weights.clone(), isa).unwrap();
        let got = engine.encode(&batch).unwrap();
        for (a, b) in got.levels.iter().zip(&want.levels) {
            assert_eq!((a.height, a.width, &a.codes), (b.height, b.width, &b.codes));
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * (1.0 + b.abs());
            assert!(a.distances.iter().zip(&b.distances).all(close));
        }
        let off = off_by(&engine.decode(&got).unwrap(), &reference.decode(&want).unwrap());
        assert!(off <= 1, "{off}");
        let fewer = Encoded { levels: got.levels[..2].to_vec(), ..got };
        for engine in [&mut engine as &mut dyn Engine, &mut reference] {
            let said = engine.decode(&fewer).unwrap_err().to_string();
            assert!(said.contains("2 levels of codes where the model has 3"), "{said}");
        }
    }
}

/// Holds by the order of every sum; only a machine with both can show it.
#[test]
fn fused_levels_agree_bit_for_bit() {
    let fused: Vec<Isa> =
        Isa::available().into_iter().filter(|&isa| isa != Isa::Portable).collect();
    let (config, weights) = model(vqgan(&[32, 48], 32, 16), QuantizerRule::L2, 64, 8);
    let batch = images(5, 1, 36, 28);
    let bits = |isa: Isa| -> Vec<u32> {
        let mut engine = CpuEngine::new(config.clone(), weights.clone(), isa).unwrap();
        let latents = engine.latents(&batch).unwrap().unwrap();
        latents[0].iter().map(|v| v.to_bits()).collect()
    };
    for pair in fused.windows(2) {
        assert_eq!(bits(pair[0]), bits(pair[1]), "{pair:?}");
    }
}
