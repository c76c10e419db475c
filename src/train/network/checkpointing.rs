//! Owns the way forward through a stack of blocks and the way back: either everything in between
//! is kept, or only the borders of the blocks are, and each block is run again when its turn comes
//! in the backward pass (Chen et al. 2016). Must not know: what blocks compute.
//!
//! Both give the same bits: a block's gradients are the same sums in the same order.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Layout, Storage, Tensor, Var};

use super::parameters::Tensors;
use super::reductions::sum_by_rows;
use crate::error::{Error, Result};

pub(crate) use crate::model::sequential::Block;

/// Asked between the blocks of a network: whether to give up. Blocks of large images take seconds.
pub(crate) type Stop<'a> = &'a dyn Fn() -> bool;

/// The same blocks, each of which fails where `stop` says so before its turn, on the way forward and
/// on the way back; see [`stopped`].
pub(crate) fn stoppable<'a>(blocks: Vec<Block<'a>>, stop: Stop<'a>) -> Vec<Block<'a>> {
    let checked = |block: Block<'a>| -> Block<'a> {
        Box::new(move |x| match stop() {
            true => Err(candle_core::Error::Msg("stopped".into())),
            false => block(x),
        })
    };
    blocks.into_iter().map(checked).collect()
}

/// What the failure of [`stoppable`] blocks means.
pub(crate) fn stopped(stop: Stop<'_>) -> impl Fn(Error) -> Error {
    move |error| if stop() { Error::Interrupted } else { error }
}

/// What is kept for the way back.
enum Kept {
    /// The first input and the output with the whole graph between them.
    Graph(Tensor, Tensor),
    /// The input of each block.
    Borders(Vec<Tensor>),
}

/// A forward pass that can be walked back once.
pub(crate) struct Tape<'a> {
    blocks: Vec<Block<'a>>,
    kept: Kept,
    output: Tensor,
    /// Whether the first input wants its gradient.
    input_gradient: bool,
}

/// A detached tensor as the beginning of a graph, a variable where its gradient is wanted.
fn leaf(x: &Tensor, gradient: bool) -> Result<Tensor> {
    Ok(if gradient { Var::from_tensor(&x.detach())?.into_inner() } else { x.detach() })
}

impl<'a> Tape<'a> {
    /// Runs `blocks` one after another on `x`. With `recompute`, nothing inside a block is kept.
    pub(crate) fn record(
        blocks: Vec<Block<'a>>,
        x: &Tensor,
        input_gradient: bool,
        recompute: bool,
    ) -> Result<Tape<'a>> {
        if recompute {
            let (mut borders, mut h) = (Vec::with_capacity(blocks.len()), x.detach());
            for block in &blocks {
                borders.push(h.clone());
                h = block(&h)?.detach();
            }
            return Ok(Tape { blocks, kept: Kept::Borders(borders), output: h, input_gradient });
        }
        let first = leaf(x, input_gradient)?;
        let mut h = first.clone();
        for block in &blocks {
            h = block(&h)?;
        }
        let output = h.detach();
        Ok(Tape { blocks, kept: Kept::Graph(first, h), output, input_gradient })
    }

    /// What came out, detached.
    pub(crate) fn output(&self) -> &Tensor {
        &self.output
    }

    /// Bytes that the tape holds until its way back, and the most that one block needs beyond
    /// them on the way.
    pub(crate) fn bytes(&self) -> Result<(u64, u64)> {
        match &self.kept {
            Kept::Graph(_, output) => Ok((graph_bytes(output), 0)),
            Kept::Borders(borders) => {
                let held = borders.iter().map(tensor_bytes).sum();
                let mut largest = 0;
                for (block, border) in self.blocks.iter().zip(borders) {
                    largest = largest.max(graph_bytes(&block(&leaf(border, true)?)?));
                }
                Ok((held, largest))
            }
        }
    }

    /// Walks back from the gradient `upstream` of the output: adds the gradients of all weights to
    /// `sums` and returns that of the input where it was wanted.
    pub(crate) fn backward(self, upstream: Tensor, sums: &mut Sums<'_>) -> Result<Option<Tensor>> {
        let wants = self.input_gradient;
        match self.kept {
            Kept::Graph(first, output) => {
                let gradient = through(&first, output, &upstream, sums)?;
                if wants { gradient.map(Some).ok_or_else(cut) } else { Ok(None) }
            }
            Kept::Borders(mut borders) => {
                let (mut upstream, mut blocks) = (upstream, self.blocks);
                while let (Some(border), Some(block)) = (borders.pop(), blocks.pop()) {
                    let last = borders.is_empty();
                    let first = leaf(&border, !last || wants)?;
                    drop(border);
                    let output = block(&first)?;
                    let gradient = through(&first, output, &upstream, sums)?;
                    if last {
                        return if wants { gradient.map(Some).ok_or_else(cut) } else { Ok(None) };
                    }
                    upstream = gradient.ok_or_else(cut)?;
                }
                Ok(wants.then_some(upstream))
            }
        }
    }
}

fn cut() -> Error {
    Error::invalid("a block of the network passes no gradient to its input")
}

/// One backward pass from `output` (consumed: its graph is freed after it) under `upstream`.
fn through(
    first: &Tensor,
    output: Tensor,
    upstream: &Tensor,
    sums: &mut Sums<'_>,
) -> Result<Option<Tensor>> {
    let mut store = sum_by_rows(&(&output * upstream)?)?.backward()?;
    drop(output);
    sums.take(&mut store)?;
    Ok(store.remove(first).map(|g| g.detach()))
}

/// The runs of blocks without a graph, for judging: nothing is kept.
pub(crate) fn run(blocks: &[Block<'_>], x: &Tensor) -> Result<Tensor> {
    let mut h = x.detach();
    for block in blocks {
        h = block(&h)?.detach();
    }
    Ok(h)
}

/// Gradients of a set of weights, summed over several backward passes in the order of the calls.
pub(crate) struct Sums<'a> {
    vars: &'a BTreeMap<String, Var>,
    /// The sums so far; a weight that had no part in any loss is missing.
    pub named: Tensors,
}

impl<'a> Sums<'a> {
    /// Nothing yet.
    pub(crate) fn new(vars: &'a BTreeMap<String, Var>) -> Sums<'a> {
        Sums { vars, named: Tensors::new() }
    }

    /// Adds what `store` has for the weights.
    pub(crate) fn take(&mut self, store: &mut GradStore) -> Result<()> {
        for (name, var) in self.vars {
            let Some(gradient) = store.remove(var) else { continue };
            let gradient = gradient.detach();
            let sum = match self.named.remove(name) {
                Some(sum) => (sum + gradient)?,
                None => gradient.contiguous()?,
            };
            self.named.insert(name.clone(), sum);
        }
        Ok(())
    }
}

/// Bytes of a tensor's elements.
pub(crate) fn tensor_bytes(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}

/// Bytes of everything that `output`'s graph keeps alive, the weights left out; storage that is
/// shared (a reshaped tensor) counts once.
pub(crate) fn graph_bytes(output: &Tensor) -> u64 {
    let mut held: HashMap<usize, u64> = HashMap::new();
    for node in output.sorted_nodes() {
        if node.is_variable() {
            continue;
        }
        let (storage, layout) = node.storage_and_layout();
        let elements = match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => values.len(),
            // Of other devices, what its views reach.
            _ => reached(layout),
        };
        let bytes = (elements * node.dtype().size_in_bytes()) as u64;
        let known = held.entry(std::ptr::from_ref(&*storage) as usize).or_default();
        *known = bytes.max(*known);
    }
    held.values().sum()
}

/// Elements of a storage up to the last one that a view of it reaches.
fn reached(layout: &Layout) -> usize {
    let sides = layout.dims().iter().zip(layout.stride());
    let last: usize = sides.map(|(side, stride)| (side.max(&1) - 1) * stride).sum();
    layout.start_offset() + last + 1
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::model::config::Architecture;
    use crate::model::topology::Io;
    use crate::train::golden::vqgan;
    use crate::train::network::autoencoder::Autoencoder;
    use crate::train::network::parameters::{Parameters, flat, to_host};
    use crate::train::network::random::unit;

    fn network() -> (Parameters, Autoencoder) {
        let config = Architecture::Vqgan(vqgan(8, 4, 4));
        let parameters = Parameters::new(&Device::Cpu);
        let vb = parameters.builder(DType::F32);
        let network = Autoencoder::load(vb, &config, Io { channels: 3, dim: 3 }).unwrap();
        parameters.initialize(3).unwrap();
        (parameters, network)
    }

    fn noise(key: u64, shape: (usize, usize, usize, usize)) -> Tensor {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let values: Vec<f32> = (0..count).map(|i| unit(key, i as u64)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn running_blocks_again_changes_no_bit_and_keeps_less() {
        let (parameters, network) = network();
        let vars = parameters.vars();
        let (x, up) = (noise(1, (2, 3, 16, 24)), noise(2, (2, 3, 8, 12)));
        let (z, up_image) = (noise(3, (2, 3, 8, 12)), noise(4, (2, 8, 16, 24)));
        let mut all = vec![];
        for recompute in [false, true] {
            let mut sums = Sums::new(&vars);
            let encoder = network.encoder_blocks().unwrap();
            let tape = Tape::record(encoder, &x, false, recompute).unwrap();
            let latents = flat(tape.output()).unwrap();
            let bytes = tape.bytes().unwrap();
            assert!(tape.backward(up.clone(), &mut sums).unwrap().is_none());
            let decoder = network.decoder_blocks().unwrap();
            let tape = Tape::record(decoder, &z, true, recompute).unwrap();
            let gradient = tape.backward(up_image.clone(), &mut sums).unwrap().unwrap();
            all.push((latents, flat(&gradient).unwrap(), to_host(&sums.named).unwrap(), bytes));
        }
        let (kept, again) = (&all[0], &all[1]);
        assert!(kept.0 == again.0 && kept.1 == again.1, "outputs or input gradients differ");
        assert!(kept.2 == again.2, "gradients of weights differ");
        let unused = ["decoder.conv_out.bias", "decoder.conv_out.weight"];
        assert_eq!(kept.2.len() + unused.len(), vars.len());
        assert!(again.3.0 + again.3.1 < kept.3.0 / 2, "{:?} {:?}", again.3, kept.3);
        // The blocks are the network.
        let whole = network.encode(&x).unwrap();
        assert_eq!(flat(&whole).unwrap(), kept.0);
        let activation = run(&network.decoder_blocks().unwrap(), &z).unwrap();
        let image = network.last_layer().unwrap().forward(&activation).unwrap();
        assert_eq!(flat(&image).unwrap(), flat(&network.decode(&z).unwrap()).unwrap());
    }

    #[test]
    fn gradients_of_several_passes_are_added() {
        let w = Var::new(&[2f32, 3.0], &Device::Cpu).unwrap();
        let vars = BTreeMap::from([("w".to_string(), w.clone())]);
        let mut sums = Sums::new(&vars);
        for scale in [1.0, 10.0] {
            let loss = (w.sqr().unwrap() * scale).unwrap().sum_all().unwrap();
            sums.take(&mut loss.backward().unwrap()).unwrap();
        }
        assert_eq!(flat(&sums.named["w"]).unwrap(), [44.0, 66.0]);
    }

    #[test]
    fn a_graph_is_as_large_as_what_it_keeps_whatever_looks_at_it() {
        let x = Var::zeros((4, 8), DType::F32, &Device::Cpu).unwrap();
        // 32 numbers; views and repetitions of them are none of their own; 32 more; one.
        let y = (x.as_tensor() * 2.0).unwrap();
        let view = y.t().unwrap().unsqueeze(0).unwrap().broadcast_as((5, 8, 4)).unwrap();
        let part = view.narrow(0, 1, 1).unwrap();
        let loss = (part.sqr().unwrap()).sum_all().unwrap();
        assert_eq!(graph_bytes(&loss), 4 * (32 + 32 + 1));
        let (_, layout) = part.storage_and_layout();
        assert_eq!(reached(layout), 32);
    }
}
