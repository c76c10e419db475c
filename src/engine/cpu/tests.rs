//! Holds graphs against candle, block by block and whole, and the engine against itself: whatever
//! the batch, the threads, the sizes seen before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::CpuEngine;
use super::graph::builder::{self, Builder};
use super::layer::ConvLayer;
use crate::checkpoint::folder;
use crate::checkpoint::recognise::detect::{DetectOptions, begin};
use crate::engine::candle::CandleEngine;
use crate::engine::cpu::graph::{Arena, Graph};
use crate::engine::cpu::schedule::Threads;
use crate::engine::interface::{CodeGrid, Decoded, Encoded, Engine, PixelBatch};
use crate::kernels::Isa;
use crate::model::autoencoder::Autoencoder;
use crate::model::config::*;
use crate::model::topology::{
    BottleneckSpec, ConvGeometry, Emit, InvertedSide, InvertedSpec, Io, MlpSpec, Nonlinearity,
    NormSpec, Resample, ResnetSpec, RowMap, Shortcut, TokenRow, TransformerSpec,
};
use crate::model::{Model, sequential};
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
        variant: VqganVariant::default(),
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

mod engine;
mod graphs;
mod weights;
