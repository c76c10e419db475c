//! Owns drawing the weights of little networks under published names, and writing them. Must not know:
//! what they are for.

#![allow(dead_code)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::random::Random;

/// A tensor to be written: type, shape, bytes.
#[derive(Clone)]
pub struct Tensor(pub &'static str, pub Vec<usize>, pub Vec<u8>);

/// By name.
pub type Weights = BTreeMap<String, Tensor>;

pub fn floats(shape: &[usize], values: impl Iterator<Item = f32>) -> Tensor {
    let count = shape.iter().product();
    Tensor("F32", shape.to_vec(), values.take(count).flat_map(f32::to_le_bytes).collect())
}

/// A network's weights, drawn in the order of its layers.
pub struct Network {
    pub random: Random,
    pub weights: Weights,
    /// Whether there is attention in the middle.
    pub attention: bool,
}

impl Network {
    pub fn conv(&mut self, name: &str, out: usize, input: usize, kernel: usize) {
        let value = || (self.random.next() % 2001) as f32 / 10_000.0 - 0.1;
        let weight = floats(&[out, input, kernel, kernel], std::iter::repeat_with(value));
        self.weights.insert(format!("{name}.weight"), weight);
        self.weights.insert(format!("{name}.bias"), floats(&[out], std::iter::repeat(0.01)));
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.weights.insert(format!("{name}.weight"), floats(&[width], std::iter::repeat(1.0)));
        self.weights.insert(format!("{name}.bias"), floats(&[width], std::iter::repeat(0.0)));
    }

    fn block(&mut self, name: &str, input: usize, out: usize) {
        self.norm(&format!("{name}.norm1"), input);
        self.conv(&format!("{name}.conv1"), out, input, 3);
        self.norm(&format!("{name}.norm2"), out);
        self.conv(&format!("{name}.conv2"), out, out, 3);
        if input != out {
            self.conv(&format!("{name}.nin_shortcut"), out, input, 1);
        }
    }

    /// The encoder or the decoder; channels before and behind its first and its last convolution.
    pub fn side(&mut self, side: &str, first: [usize; 2], last: [usize; 2]) {
        self.conv(&format!("{side}.conv_in"), first[1], first[0], 3);
        if side == "encoder" {
            self.block("encoder.down.0.block.0", 32, 32);
            self.block("encoder.down.1.block.0", 32, 64);
        } else {
            self.block("decoder.up.1.block.0", 64, 64);
            self.block("decoder.up.1.block.1", 64, 64);
            self.block("decoder.up.0.block.0", 64, 32);
            self.block("decoder.up.0.block.1", 32, 32);
        }
        for name in ["block_1", "block_2"] {
            self.block(&format!("{side}.mid.{name}"), 64, 64);
        }
        if self.attention {
            self.norm(&format!("{side}.mid.attn_1.norm"), 64);
            for name in ["q", "k", "v", "proj_out"] {
                self.conv(&format!("{side}.mid.attn_1.{name}"), 64, 64, 1);
            }
        }
        self.norm(&format!("{side}.norm_out"), last[0]);
        self.conv(&format!("{side}.conv_out"), last[1], last[0], 3);
    }
}

/// Infinity's tokenizer of so many bits: two levels of 32 and 64 channels, two pixels a token.
pub fn infinity(bits: usize, seed: u64) -> Weights {
    let (random, weights) = (Random(seed), Weights::new());
    let mut network = Network { random, weights, attention: false };
    network.side("encoder", [3, 32], [64, bits]);
    network.side("decoder", [bits, 64], [32, 3]);
    network.conv("encoder.down.0.downsample.conv", 32, 32, 3);
    network.conv("decoder.up.1.upsample.conv", 64, 64, 3);
    let wrapped = |(name, tensor): (String, Tensor)| {
        let (layer, value) = name.rsplit_once('.').unwrap_or_default();
        let kind = if layer.contains("norm") { "norm" } else { "conv" };
        (format!("{layer}.{kind}.{value}"), tensor)
    };
    network.weights.into_iter().map(wrapped).collect()
}

pub fn safetensors(weights: &Weights) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, Tensor(dtype, shape, bytes)) in weights {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}
