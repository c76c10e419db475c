//! Owns VQ-VAE-2 as nodes of a graph: a top level of codes, and a bottom level that depends on the
//! decoded top.

use super::graph::{Graph, Name};
use super::proto::Attribute;
use super::quantizer;
use crate::error::Result;
use crate::model::config::{QuantizerConfig, Vqvae2Config};
use crate::model::topology::{Io, vqvae2};

/// The codebooks, which lie transposed, `[D, K]`.
const BOOKS: [&str; 2] = ["quantize_b.embed", "quantize_t.embed"];

/// Maps side by side.
fn joined(graph: &mut Graph, maps: [(&str, usize); 2]) {
    let [(a, first), (b, second)] = maps;
    let map = graph.op("Concat", &[a, b], &[Attribute::Int("axis", 1)]);
    graph.begin(map, first + second);
}

/// From the map that the graph has begun with to the codes of the bottom and of the top.
///
/// # Errors
/// A weight that is missing.
pub(super) fn encode(
    graph: &mut Graph,
    (c, q, io): (&Vqvae2Config, &QuantizerConfig, Io),
) -> Result<Vec<Name>> {
    let [bottom, top] = BOOKS;
    vqvae2::bottom_features(graph, c)?;
    let (features, width) = (graph.last.clone(), graph.channels);
    vqvae2::top_latents(graph, c, io)?;
    let latents = graph.last.clone();
    let of_top = quantizer::encode(graph, q, &latents, top)?;
    let vectors = quantizer::decode(graph, q, &of_top, top)?;
    graph.begin(vectors, io.dim);
    vqvae2::decoded_top(graph, c, io)?;
    let decoded = graph.last.clone();
    joined(graph, [(&decoded, io.dim), (&features, width)]);
    vqvae2::bottom_latents(graph, io)?;
    let latents = graph.last.clone();
    let of_bottom = quantizer::encode(graph, q, &latents, bottom)?;
    Ok(of_bottom.into_iter().chain(of_top).collect())
}

/// From the codes of the bottom and of the top to pictures, which the graph ends with.
///
/// # Errors
/// A weight that is missing.
pub(super) fn decode(
    graph: &mut Graph,
    (c, q, io): (&Vqvae2Config, &QuantizerConfig, Io),
    codes: &[Name],
) -> Result<()> {
    let vectors = quantizer::decode(graph, q, &codes[1..2], BOOKS[1])?;
    graph.begin(vectors, io.dim);
    vqvae2::upsampled_top(graph, io)?;
    let of_top = graph.last.clone();
    let of_bottom = quantizer::decode(graph, q, &codes[..1], BOOKS[0])?;
    joined(graph, [(&of_top, io.dim), (&of_bottom, io.dim)]);
    vqvae2::decoder(graph, c, io)
}
