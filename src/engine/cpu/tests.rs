//! Holds graphs against candle, block by block and whole, and the engine against itself: whatever
//! the batch, the threads, the sizes seen before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::CpuEngine;
use super::graph::builder::{self, Builder};
use super::kernels::Isa;
use super::layer::ConvLayer;
use crate::checkpoint::folder;
use crate::checkpoint::recognise::detect::{DetectOptions, begin};
use crate::engine::candle::CandleEngine;
use crate::engine::cpu::graph::{Arena, Graph};
use crate::engine::cpu::schedule::Threads;
use crate::engine::{CodeGrid, Decoded, Encoded, Engine, PixelBatch};
use crate::model::Model;
use crate::model::autoencoder::Autoencoder;
use crate::model::config::*;
use crate::model::sequential;
use crate::model::topology::{
    BottleneckSpec, ConvGeometry, Emit, Io, NormSpec, Resample, ResnetSpec, Shortcut,
};
pub(crate) use crate::util::random::units as random;
use crate::weights::store::Weights;

/// A weight source that makes up each tensor it is asked for and remembers it.
#[derive(Clone, Default)]
pub(crate) struct Maker {
    seed: u64,
    made: Arc<Mutex<BTreeMap<String, Tensor>>>,
}

impl Maker {
    /// Other tensors for every seed.
    pub(crate) fn seeded(seed: u64) -> Maker {
        Maker { seed, ..Maker::default() }
    }

    pub(crate) fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, Device::Cpu)
    }

    pub(crate) fn weights(&self) -> BTreeMap<String, Tensor> {
        self.made.lock().unwrap().clone()
    }
}

impl SimpleBackend for Maker {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        _: DType,
        _: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut weights = self.made.lock().unwrap();
        if let Some(tensor) = weights.get(name) {
            return Ok(tensor.clone());
        }
        let seed = name
            .bytes()
            .fold(7u64 ^ self.seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let fan_in: usize = shape.dims().iter().skip(1).product::<usize>().max(1);
        let (scale, offset) = match shape.dims().len() {
            1 if name.contains("norm") && name.ends_with("weight") => (0.5, 1.0),
            1 => (0.2, 0.0),
            _ => ((3.0 / fan_in as f32).sqrt(), 0.0),
        };
        let values = random(seed, shape.elem_count()).into_iter().map(|v| v * scale + offset);
        let tensor = Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu)?;
        weights.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        match self.made.lock().unwrap().get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => candle_core::bail!("no shape for {name}"),
        }
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

pub(crate) fn vqgan(widths: &[usize], ch: usize, z_channels: usize) -> VqganConfig {
    VqganConfig {
        ch,
        widths: widths.to_vec(),
        res_blocks: 2,
        attention: (0..widths.len()).map(|i| i % 2 == 1).collect(),
        mid_attention: true,
        z_channels,
        norm_groups: 4,
        norm_eps: 1e-6,
        parts: Parts::Both,
        decoder: None,
    }
}

pub(crate) fn model(
    config: VqganConfig,
    rule: QuantizerRule,
    codes: usize,
    dim: usize,
) -> (ModelConfig, BTreeMap<String, Tensor>) {
    let config = ModelConfig {
        format: FORMAT.to_owned(),
        family: "taming".to_owned(),
        architecture: Architecture::Vqgan(config),
        quantizer: QuantizerConfig::new(rule, codes, dim),
        pixels: PixelConfig {
            channels: 3,
            input: InputRange::Taming,
            output: OutputRange::SymmetricTruncate,
        },
        preprocess: PreprocessConfig::new("none", None),
        provenance: BTreeMap::new(),
    };
    let maker = Maker::default();
    Autoencoder::load(maker.builder(), &config.architecture, Io::from(&config)).unwrap();
    maker.builder().pp("quantize").get((codes, dim), "embedding.weight").unwrap();
    (config, maker.weights())
}

pub(crate) fn images(seed: u64, count: usize, height: usize, width: usize) -> PixelBatch {
    let pixels = random(seed, count * height * width * 3);
    let pixels = pixels.into_iter().map(|v| ((v + 1.0) * 127.9) as u8).collect();
    PixelBatch { pixels, count, height, width, channels: 3 }
}

fn run_graph(graph: &Graph, x: &Tensor, height: usize, width: usize) -> Tensor {
    run_graph_in(&mut Arena::default(), graph, x, height, width)
}

fn run_graph_in(
    arena: &mut Arena,
    graph: &Graph,
    x: &Tensor,
    height: usize,
    width: usize,
) -> Tensor {
    let bound = graph.bind(height, width);
    arena.fit(&bound).unwrap();
    let rows = x.permute((1, 2, 0)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let shape = bound.output;
    let [data, on_all] = [Threads::One, Threads::All].map(|threads| {
        arena.put(graph, &bound, &rows);
        graph.run(&bound, arena, threads).unwrap();
        arena.output(graph).0[..shape.len()].to_vec()
    });
    assert_eq!(data, on_all, "on one thread and on all");
    Tensor::from_vec(data, (shape.height, shape.width, shape.stride), &Device::Cpu)
        .and_then(|t| t.narrow(2, 0, shape.channels)?.permute((2, 0, 1))?.contiguous())
        .unwrap()
}

/// The largest difference of two engines' pictures, which both are some.
pub(crate) fn off_by(a: &Decoded, b: &Decoded) -> u8 {
    assert!(a.failed.is_empty() && b.failed.is_empty(), "{:?} {:?}", a.failed, b.failed);
    let (a, b) = (&a.pictures.pixels, &b.pictures.pixels);
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

/// Largest difference over the largest magnitude.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (a.flatten_all().unwrap(), b.flatten_all().unwrap());
    let (a, b) = (a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap());
    let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

/// Emits a layer for both, behind a 1x1 with the unit matrix, which brings the input into a map
/// with moments; gives what ours and candle's make of the same map.
macro_rules! both {
    ($isa:expr, $x:expr, $emit:expr) => {{
        let (isa, x) = ($isa, $x);
        let (channels, height, width) = x.dims3().unwrap();
        let maker = Maker::default();
        let unit = Tensor::eye(channels, DType::F32, &Device::Cpu).unwrap();
        let unit = unit.reshape((channels, channels, 1, 1)).unwrap();
        maker.made.lock().unwrap().insert("unit.weight".into(), unit);
        let mut theirs = sequential::Builder::new(maker.builder(), channels);
        theirs.conv("unit", channels, ConvGeometry::POINT.unbiased()).unwrap();
        $emit(&mut theirs).unwrap();
        let want = theirs.finish().forward(&x.unsqueeze(0).unwrap()).unwrap();
        let weights = Weights::from(maker.weights());
        let mut ours = Builder::new(isa, &weights, channels);
        ours.conv("unit", channels, ConvGeometry::POINT.unbiased()).unwrap();
        $emit(&mut ours).unwrap();
        let got = run_graph(&ours.finish(None), x, height, width);
        (got, want.squeeze(0).unwrap())
    }};
}

#[test]
fn every_layer_equals_candle() {
    let norm = NormSpec { groups: 4, eps: 1e-6 };
    let block = |bias, shortcut| ResnetSpec { norm, bias, shortcut };
    let bottleneck = |kernels| BottleneckSpec { kernels, gain: 0.25, parameters: ["w", "b"] };
    let sizes = [(1, 1), (2, 3), (5, 4), (8, 8), (13, 17), (16, 16), (31, 6)];
    for isa in Isa::available() {
        for (i, (height, width)) in sizes.into_iter().enumerate() {
            let (c_in, c_out) = [(8, 8), (16, 32), (36, 12), (64, 64)][i % 4];
            let x = random(i as u64, c_in * height * width);
            let x = &Tensor::from_vec(x, (c_in, height, width), &Device::Cpu).unwrap();
            let check = |what: &str, (got, want): (Tensor, Tensor)| {
                let off = difference(&got, &want);
                // The tiles of Winograd cost about a digit against the plain sum.
                assert!(off < 1e-5, "{what} {c_in}->{c_out} {height}x{width}: {off:.2e}");
            };
            for (bias, shortcut) in [(true, Shortcut::Input), (false, Shortcut::Output)] {
                let spec = block(bias, shortcut);
                check("resnet", both!(isa, x, |e| Emit::resnet(e, "r", c_out, spec)));
            }
            check("attention", both!(isa, x, |e| Emit::attention(e, "a", norm)));
            check("upsample", both!(isa, x, |e| Emit::upsample(e, "u")));
            check("transposed", both!(isa, x, |e| Emit::transposed(e, "t", c_out)));
            check("residual", both!(isa, x, |e| Emit::plain_residual(e, ["c", "d"], 12)));
            let spec = bottleneck([3, 3, 3, 1]);
            check("bottleneck", both!(isa, x, |e| Emit::bottleneck(e, "b", c_out, spec)));
            check("depth to space", both!(isa, x, |e| Emit::depth_to_space(e)));
            check("double", both!(isa, x, |e| Emit::resample(e, Resample::Double)));
            if height > 1 && width > 1 {
                let halve = ConvGeometry::HALVE_3;
                check("downsample", both!(isa, x, |e| Emit::conv(e, "d", c_in, halve)));
                check("mean", both!(isa, x, |e| Emit::resample(e, Resample::Mean)));
                check("largest", both!(isa, x, |e| Emit::resample(e, Resample::Largest)));
            }
        }
    }
}

#[test]
fn whole_networks_equal_candle_at_any_size() {
    for (widths, ch, z, dim) in [(vec![32, 32, 64], 32, 16, 8), (vec![16, 48], 8, 3, 3)] {
        let config = vqgan(&widths, ch, z);
        let (settings, weights) = model(config.clone(), QuantizerRule::L2, 50, dim);
        let reference = CandleEngine::new(
            Model::load(settings.clone(), weights.clone(), &Device::Cpu).unwrap(),
        );
        let weights = Weights::from(weights);
        for isa in Isa::available() {
            let encoder =
                builder::encoder(isa, &weights, &settings.architecture, Io::from(&settings))
                    .unwrap();
            for (height, width) in [(16, 16), (24, 40), (17, 29), (64, 36), (150, 18)] {
                let batch = images(1, 1, height, width);
                let want = reference.latents(&batch).unwrap()[0][0].squeeze(0).unwrap();
                let table = settings.pixels.input.table();
                let pixels: Vec<f32> = batch.pixels.iter().map(|&b| table[b as usize]).collect();
                let x = Tensor::from_vec(pixels, (height, width, 3), &Device::Cpu)
                    .and_then(|x| x.permute((2, 0, 1)))
                    .unwrap();
                let off = difference(&run_graph(&encoder, &x, height, width), &want);
                assert!(off < 2e-5, "encoder {height}x{width}: {off:.2e}");
            }
        }
    }
}

#[test]
fn an_arena_serves_plans_of_any_widths_and_slots_in_turn() {
    let config = vqgan(&[64, 64], 32, 8);
    let (settings, weights) = model(config, QuantizerRule::L2, 50, 8);
    let (isa, weights) = (Isa::available()[0], Weights::from(weights));
    let io = Io::from(&settings);
    let wide = builder::encoder(isa, &weights, &settings.architecture, io).unwrap();
    let mut b = Builder::new(isa, &weights, 3);
    b.conv("encoder.conv_in", 32, ConvGeometry::SAME_3).unwrap();
    for _ in 0..20 {
        let eye = Tensor::ones((8, 32, 1, 1), DType::F32, &Device::Cpu).unwrap();
        b.branch(ConvLayer::new("branch", eye, None, ConvGeometry::POINT).unwrap());
    }
    let many = b.finish(None);
    let x = Tensor::from_vec(random(1, 3 * 12 * 12), (3, 12, 12), &Device::Cpu).unwrap();
    let mut arena = Arena::default();
    let first = run_graph_in(&mut arena, &wide, &x, 12, 12);
    run_graph_in(&mut arena, &many, &x, 12, 12);
    let again = run_graph_in(&mut arena, &wide, &x, 12, 12);
    assert_eq!(difference(&again, &first), 0.0);
}

#[test]
#[cfg(target_os = "linux")]
fn an_image_beyond_all_memory_is_told() {
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    let (weights, io) = (Weights::from(weights), Io::from(&config));
    let graph = builder::encoder(Isa::Portable, &weights, &config.architecture, io).unwrap();
    let error = Arena::default().fit(&graph.bind(400_000, 300_000)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, crate::error::Error::OutOfMemory(_)), "{text}");
    assert!(text.contains("the maps of one input of 300000x400000 take"), "{text}");
}

#[test]
fn a_vq_vae_equals_candle() {
    for (hidden, downsamples, res_hidden) in [(24, 1, 8), (32, 2, 16), (40, 3, 20)] {
        let config = VqvaeConfig { hidden, downsamples, res_blocks: 2, res_hidden };
        let (network, io) = (Architecture::Vqvae(config), Io { channels: 3, dim: 12 });
        let maker = Maker::default();
        let net = Autoencoder::load(maker.builder(), &network, io).unwrap();
        let weights = Weights::from(maker.weights());
        let factor = 1 << downsamples;
        for isa in Isa::available() {
            let encoder = builder::encoder(isa, &weights, &network, io).unwrap();
            let decoder = builder::decoder(isa, &weights, &network, io).unwrap();
            for (h, w) in [(1, 1), (4, 4), (5, 7)] {
                let (height, width) = (h * factor, w * factor);
                let x = random(1, 3 * height * width);
                let x = Tensor::from_vec(x, (3, height, width), &Device::Cpu).unwrap();
                let want = net.encode(&x.unsqueeze(0).unwrap()).unwrap().squeeze(0).unwrap();
                let off = difference(&run_graph(&encoder, &x, height, width), &want);
                assert!(off < 1e-5, "encoder {height}x{width}: {off:.2e}");
                let z = random(2, 12 * h * w);
                let z = Tensor::from_vec(z, (12, h, w), &Device::Cpu).unwrap();
                let want = net.decode(&z.unsqueeze(0).unwrap()).unwrap().squeeze(0).unwrap();
                let off = difference(&run_graph(&decoder, &z, h, w), &want);
                assert!(off < 1e-5, "decoder {height}x{width}: {off:.2e}");
            }
        }
    }
}

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

#[test]
fn nothing_comes_of_damaged_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    folder::save(dir.path(), &config, &weights).unwrap();
    let path = dir.path().join(folder::WEIGHTS_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // It opens, since the file is being checked meanwhile, and then gives neither name nor codes.
    let mut engine =
        CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).unwrap();
    engine.prepare(16, 16);
    let said = |error: Option<crate::error::Error>| error.unwrap().to_string();
    let codes = CodeGrid { codes: vec![0; 64], distances: vec![], height: 8, width: 8 };
    let codes = Encoded { count: 1, levels: vec![codes], failed: Vec::new() };
    for text in [
        said(engine.digests().err()),
        said(engine.encode(&images(1, 1, 16, 16)).err()),
        said(engine.decode(&codes).err()),
    ] {
        assert!(text.contains("model.safetensors: not the weights that config.json"), "{text}");
    }
    // Damage that leaves no network is told as damage too.
    let text = std::fs::read(&path).unwrap();
    let at = text.windows(8).position(|w| w == b"conv_out").unwrap();
    let mut bytes = text.clone();
    bytes[at] = b'C';
    // As whoever writes checkpoints does it: the first engine may still be packing from the old file.
    let other = dir.path().join("other");
    std::fs::write(&other, bytes).unwrap();
    std::fs::rename(other, path).unwrap();
    let error = CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).err();
    assert!(said(error).contains("not the weights that config.json"));
}

#[test]
fn weights_that_change_under_a_running_engine_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    folder::save(dir.path(), &config, &weights).unwrap();
    let mut engine =
        CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).unwrap();
    let first = engine.encode(&images(1, 1, 16, 16)).unwrap();
    // Of another size: other weights have to be packed, from a file that was written to.
    let path = dir.path().join(folder::WEIGHTS_FILE);
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"more").unwrap();
    let text = engine.encode(&images(1, 1, 64, 64)).unwrap_err().to_string();
    assert!(text.contains("model.safetensors: it was written to while it was in use"), "{text}");
    // What is packed is still what it was.
    assert_eq!(engine.encode(&images(1, 1, 16, 16)).unwrap(), first);
}

#[test]
fn weights_that_nothing_reads_or_that_are_missing_are_refused() {
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    let refused = |weights: BTreeMap<String, Tensor>| {
        CpuEngine::new(config.clone(), weights, Isa::Portable).err().unwrap().to_string()
    };
    let mut more = weights.clone();
    more.insert("decoder.surprise.weight".into(), weights["quant_conv.bias"].clone());
    let text = refused(more);
    assert!(text.contains("decoder.surprise.weight"), "{text}");
    let mut fewer = weights.clone();
    fewer.remove("decoder.conv_out.bias").unwrap();
    let text = refused(fewer);
    assert!(text.contains("no tensor `decoder.conv_out.bias`"), "{text}");
    let mut other = weights;
    other.insert("decoder.conv_out.bias".into(), other["quant_conv.bias"].clone());
    let text = refused(other);
    assert!(text.contains("`decoder.conv_out.bias` has shape [8]"), "{text}");
}

#[test]
fn weights_of_any_type_are_their_values_as_float32() {
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    let batch = images(3, 1, 24, 16);
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let kept: BTreeMap<String, Tensor> =
            weights.iter().map(|(name, w)| (name.clone(), w.to_dtype(dtype).unwrap())).collect();
        let rounded = kept.iter().map(|(n, w)| (n.clone(), w.to_dtype(DType::F32).unwrap()));
        let [of_kept, of_rounded] = [kept.clone(), rounded.collect()].map(|weights| {
            let dir = tempfile::tempdir().unwrap();
            folder::save(dir.path(), &config, &weights).unwrap();
            let mut engine =
                CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).unwrap();
            let codes = engine.encode(&batch).unwrap();
            (engine.digests().unwrap().clone(), engine.decode(&codes).unwrap(), codes)
        });
        assert_eq!(of_kept, of_rounded, "{dtype:?}");
    }
}
