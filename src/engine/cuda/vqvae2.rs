//! Owns VQ-VAE-2 as commands: its parts, and the two searches and look-ups between them.

use super::emit::{Emitter, Map};
use super::maps::Codes;
use super::network::{Latents, Network};
use super::program::{Level, Place};
use super::search::Rule;
use crate::error::Result;
use crate::model::config::Vqvae2Config;
use crate::model::topology::{Io, vqvae2 as topology};

/// A map of pixels to the latents of the bottom and the codes of both levels, bottom first.
pub(super) fn encoder(
    e: &mut Emitter<'_>,
    config: &Vqvae2Config,
    io: Io,
    pixels: Map,
) -> Result<(Latents, Vec<Level>)> {
    let mut network = Network::new(e, pixels, io.channels);
    topology::bottom_features(&mut network, config)?;
    let features = network.hold();
    topology::top_latents(&mut network, config, io)?;
    let latents = network.finish()?;
    let top = search(e, latents, "quantize_t.embed")?;
    e.release(latents.place);

    let (height, width) = latents.grid;
    let codes = Codes { place: top.codes, first: 0, step: height * width };
    let book = e.weights.book_of_columns("quantize_t.embed")?;
    let vectors = e.looked_up(codes, book, [height, width])?;
    let mut network = Network::new(e, vectors, io.dim);
    topology::decoded_top(&mut network, config, io)?;
    let (decoded, channels) = network.picture();
    let joined = e.joined([(decoded, channels), (features, config.channels)])?;
    e.release(decoded.place);
    e.release(features.place);
    let mut network = Network::new(e, joined, channels + config.channels);
    topology::bottom_latents(&mut network, io)?;
    let latents = network.finish()?;
    let bottom = search(e, latents, "quantize_b.embed")?;
    Ok((latents, vec![bottom, top]))
}

/// Codes of both levels, those of the top before those of the bottom in each image, to a map of pictures and its channels;
/// `size` is the bottom's. Where the codes go, too.
pub(super) fn decoder(
    e: &mut Emitter<'_>,
    config: &Vqvae2Config,
    io: Io,
    size: [usize; 2],
) -> Result<(Place, (Map, usize))> {
    let of_top = size.map(|side| side / 2);
    let [area, top] = [size, of_top].map(|[height, width]| height * width);
    let step = area + top;
    let place = e.acquire(e.images * step * 4);
    let book = e.weights.book_of_columns("quantize_t.embed")?;
    let vectors = e.looked_up(Codes { place, first: 0, step }, book, of_top)?;
    let mut network = Network::new(e, vectors, io.dim);
    topology::upsampled_top(&mut network, io)?;
    let (upsampled, channels) = network.picture();
    let book = e.weights.book_of_columns("quantize_b.embed")?;
    let own = e.looked_up(Codes { place, first: top, step }, book, size)?;
    let joined = e.joined([(upsampled, channels), (own, io.dim)])?;
    e.release(upsampled.place);
    e.release(own.place);
    let mut network = Network::new(e, joined, channels + io.dim);
    topology::decoder(&mut network, config, io)?;
    Ok((place, network.picture()))
}

fn search(e: &mut Emitter<'_>, latents: Latents, codebook: &str) -> Result<Level> {
    let rows = e.images * latents.grid.0 * latents.grid.1;
    let book = e.weights.book_of_columns(codebook)?;
    latents.require(book.dim)?;
    let [codes, distances] = e.search(latents.place, rows, book, Rule::NEAREST);
    Ok(Level { codes, distances, grid: latents.grid })
}
