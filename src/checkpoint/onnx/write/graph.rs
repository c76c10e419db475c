//! Owns a graph under construction: nodes, constants, and the map that the last layer gave.

use std::collections::BTreeSet;

use candle_core::Device;
use candle_nn::var_builder::VarBuilder;
use half::f16;

use super::proto::{self, Attribute, Kind};
use crate::error::{Error, Result};
use crate::util::settings::PRECISION;
use crate::util::text;
use crate::weights::store::Weights;

/// The name of a tensor in the graph.
pub(super) type Name = String;

/// A graph under construction.
pub(super) struct Graph {
    vb: VarBuilder<'static>,
    nodes: Vec<u8>,
    initializers: Vec<u8>,
    faces: Vec<u8>,
    known: BTreeSet<Name>,
    count: usize,
    /// The first weight that what it is held in doesn't reach.
    overflow: Option<String>,
    /// What layers compute in.
    pub(super) float: Kind,
    /// What the last layer gave.
    pub(super) last: Name,
    /// Its channels.
    pub(super) channels: usize,
    /// What the network began with, and its channels.
    pub(super) input: (Name, usize),
}

impl Graph {
    pub(super) fn new(weights: &Weights, float: Kind) -> Graph {
        Graph {
            vb: weights.reader().var_builder(&Device::Cpu),
            nodes: Vec::new(),
            initializers: Vec::new(),
            faces: Vec::new(),
            known: BTreeSet::new(),
            count: 0,
            overflow: None,
            float,
            last: String::new(),
            channels: 0,
            input: (String::new(), 0),
        }
    }

    /// Begins a network with a map of so many channels.
    pub(super) fn begin(&mut self, map: Name, channels: usize) {
        (self.last, self.channels) = (map.clone(), channels);
        self.input = (map, channels);
    }

    /// A node, by the name of its output.
    pub(super) fn op(&mut self, kind: &str, inputs: &[&str], attributes: &[Attribute]) -> Name {
        self.count += 1;
        let output = format!("v{}", self.count);
        proto::bytes(&mut self.nodes, 1, &proto::node(kind, inputs, &output, attributes));
        output
    }

    /// A node of one input.
    pub(super) fn map(&mut self, kind: &str, input: &str) -> Name {
        self.op(kind, &[input], &[])
    }

    /// A node whose last input is a number, in float32.
    pub(super) fn with(&mut self, kind: &str, input: &str, number: f32) -> Name {
        let constant = self.floats(&[], &[number], Kind::F32);
        self.op(kind, &[input, &constant], &[])
    }

    /// Gives a tensor its name as an output.
    pub(super) fn output(
        &mut self,
        tensor: &str,
        name: &str,
        kind: Kind,
        sides: &[Result<usize, &str>],
    ) {
        proto::bytes(&mut self.nodes, 1, &proto::node("Identity", &[tensor], name, &[]));
        proto::bytes(&mut self.faces, 12, &proto::value_info(name, kind, sides));
    }

    /// An input.
    pub(super) fn input(&mut self, name: &str, kind: Kind, sides: &[Result<usize, &str>]) -> Name {
        proto::bytes(&mut self.faces, 11, &proto::value_info(name, kind, sides));
        name.to_owned()
    }

    fn constant(&mut self, name: Name, kind: Kind, dims: &[usize], raw: &[u8]) -> Name {
        if self.known.insert(name.clone()) {
            proto::bytes(&mut self.initializers, 5, &proto::tensor(&name, kind, dims, raw));
        }
        name
    }

    fn next(&mut self) -> Name {
        self.count += 1;
        format!("c{}", self.count)
    }

    /// Constant floats, held as `kind`.
    pub(super) fn floats(&mut self, dims: &[usize], values: &[f32], kind: Kind) -> Name {
        let name = self.next();
        self.named_floats(name, dims, values, kind)
    }

    fn named_floats(&mut self, name: Name, dims: &[usize], values: &[f32], kind: Kind) -> Name {
        let beyond = |x: &&f32| x.is_finite() && f16::from_f32(**x).is_infinite();
        if kind == Kind::F16
            && self.overflow.is_none()
            && let Some(value) = values.iter().find(beyond)
        {
            self.overflow = Some(format!("{} holds {value}", text::shorten(&name)));
        }
        let raw: Vec<u8> = match kind {
            Kind::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            Kind::F64 => values.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        self.constant(name, kind, dims, &raw)
    }

    /// Constant doubles.
    pub(super) fn doubles(&mut self, dims: &[usize], values: &[f64]) -> Name {
        let name = self.next();
        let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(name, Kind::F64, dims, &raw)
    }

    /// Constant integers.
    pub(super) fn integers(&mut self, dims: &[usize], values: &[i64]) -> Name {
        let name = self.next();
        let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(name, Kind::I64, dims, &raw)
    }

    /// A weight's shape and values; a matrix called `embed` is turned, as VQ-VAE-2 has its codebooks.
    pub(super) fn values(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let mut tensor = self.vb.get_unchecked(name)?;
        if name.ends_with(".embed") {
            tensor = tensor.t()?;
        }
        Ok((tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1()?))
    }

    /// A weight as it is, in what layers compute in.
    pub(super) fn weight(&mut self, name: &str) -> Result<Name> {
        self.weight_as(name, self.float)
    }

    /// A weight as it is.
    pub(super) fn weight_as(&mut self, name: &str, kind: Kind) -> Result<Name> {
        let (dims, values) = self.values(name)?;
        Ok(self.named_floats(name.to_owned(), &dims, &values, kind))
    }

    /// A weight of one number a channel, against a map.
    pub(super) fn by_channel(&mut self, name: &str) -> Result<Name> {
        let (_, values) = self.values(name)?;
        Ok(self.named_floats(name.to_owned(), &[values.len(), 1, 1], &values, Kind::F32))
    }

    /// Another type; the same where it is that already.
    pub(super) fn cast(&mut self, tensor: &str, kind: Kind) -> Name {
        self.op("Cast", &[tensor], &[Attribute::Int("to", kind as i64)])
    }

    /// From what layers compute in to float32.
    pub(super) fn wide(&mut self, tensor: &str) -> Name {
        match self.float {
            Kind::F32 => tensor.to_owned(),
            _ => self.cast(tensor, Kind::F32),
        }
    }

    /// From float32 to what layers compute in.
    pub(super) fn narrow(&mut self, tensor: &str) -> Name {
        match self.float {
            Kind::F32 => tensor.to_owned(),
            float => self.cast(tensor, float),
        }
    }

    /// Sides in another order.
    pub(super) fn permuted(&mut self, tensor: &str, order: &[i64]) -> Name {
        self.op("Transpose", &[tensor], &[Attribute::Ints("perm", order)])
    }

    /// The model's bytes.
    ///
    /// # Errors
    /// A weight beyond the largest number that float16 has.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        if let Some(weight) = self.overflow {
            let most = f16::MAX;
            let text = format!("its weight {weight}, and f16 ends at {most}: write it as f32");
            return Err(Error::setting(PRECISION, format!(": {text}")));
        }
        let mut graph = self.nodes;
        proto::bytes(&mut graph, 2, b"tokenizer");
        graph.extend(self.initializers);
        graph.extend(self.faces);
        Ok(proto::model(&graph))
    }
}
