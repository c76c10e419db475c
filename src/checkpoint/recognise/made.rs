//! Owns weights that are made of published ones: codebooks joined, frames and wavelets taken into
//! convolutions. Must not know: which families there are, how networks compute.

use std::collections::BTreeMap;

use super::keys::KeyLayout;
use super::placement::Placement;
use super::{frames, wavelets};
use crate::error::{Error, Result};
use crate::model::config::DEPTH_MAX;
use crate::util::text::{printable, quoted};
use crate::weights::tensor::{Dtype, RawTensor};

/// What is made of published weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// The same values.
    AsItIs,
    /// The rows of a book, and of others after it, each without its last, which is padding.
    Books(Vec<String>),
    /// The rows of a book, and of others after it.
    BooksBeside(Vec<String>),
    /// The last tap along the frames.
    LastTap,
    /// A convolution of stride 2 along the frames: the `index`-th of `of`, which make one of 2^of
    /// equal frames.
    Frames {
        /// From 0.
        index: usize,
        /// How many there are.
        of: usize,
    },
    /// Its bias, for each frame.
    FrameBias {
        /// As for [`Made::Frames`].
        index: usize,
        /// As for [`Made::Frames`].
        of: usize,
    },
    /// A BatchNorm's weight and bias, of which one is asked for, its running mean and variance.
    BatchNorm {
        /// Weight, bias, mean, variance.
        parts: [String; 4],
        /// Whether the bias is what is made.
        bias: bool,
    },
    /// Rows of the queries, keys or values, by their place, of a layer that makes all three.
    Third(usize),
    /// A convolution of Haar coefficients, as one of the pixels under them.
    HaarIn(String),
    /// A convolution to Haar coefficients, as one to pixels, which `depth_to_space` spreads.
    HaarOut(String),
}

impl Made {
    /// Names beside the first source.
    pub(super) fn others(&self) -> &[String] {
        match self {
            Made::Books(others) | Made::BooksBeside(others) => others,
            Made::HaarIn(wavelets) | Made::HaarOut(wavelets) => std::slice::from_ref(wavelets),
            // The weight is the source of both; the bias has a place of its own.
            Made::BatchNorm { parts, bias: false } => &parts[2..],
            _ => &[],
        }
    }
}

/// Numbers of joined codebooks, at most: eight times the largest that are published.
const BOOK_VALUES_MAX: usize = 1 << 28;

/// The epsilon of PyTorch's BatchNorm.
const BATCH_NORM_EPS: f64 = 1e-5;

/// Says of placements that are weights of a layout what is made of them, with the shapes that come
/// of it; how many codebooks were joined.
///
/// # Errors
/// Shapes that can't be made so.
pub(super) fn combine(
    layout: KeyLayout,
    placements: &mut BTreeMap<String, Placement>,
) -> Result<usize> {
    match layout {
        KeyLayout::Rqvae => return join_books(placements),
        KeyLayout::Unitok => return join_books_beside(placements),
        KeyLayout::Emu3 | KeyLayout::Emu3Hf => frames::combine(placements)?,
        KeyLayout::Cosmos => wavelets::combine(placements)?,
        KeyLayout::Var => split_attention(placements)?,
        _ => {}
    }
    Ok(1)
}

/// `{attention}.qkv`, `[3C, C, 1, 1]` with a bias, to `q`, `k` and `v`.
fn split_attention(placements: &mut BTreeMap<String, Placement>) -> Result<()> {
    let joined = |name: &String| name.ends_with(".qkv.weight") || name.ends_with(".qkv.bias");
    let names: Vec<String> = placements.keys().filter(|name| joined(name)).cloned().collect();
    for name in names {
        let Some(placement) = placements.remove(&name) else { continue };
        let rows = placement.shape.first().filter(|&&rows| rows > 0 && rows % 3 == 0);
        let Some(rows) = rows.map(|rows| rows / 3) else {
            return Err(unexpected(&placement, "queries, keys and values of as many channels"));
        };
        for (place, part) in ["q", "k", "v"].into_iter().enumerate() {
            let mut shape = placement.shape.clone();
            shape[0] = rows;
            let part = name.replace(".qkv.", &format!(".{part}."));
            let made = Made::Third(place);
            placements.insert(part, Placement { shape, made, ..placement.clone() });
        }
    }
    Ok(())
}

/// `quantizer.codebooks.{k}.weight`, `[codes + 1, dim]` each, to one `[depth * codes, dim]`.
fn join_books(placements: &mut BTreeMap<String, Placement>) -> Result<usize> {
    let mut books = Vec::new();
    while let Some(book) = placements.remove(&format!("quantizer.codebooks.{}.weight", books.len()))
    {
        books.push(book);
    }
    let Some((first, others)) = books.split_first() else { return Ok(1) };
    let (rows, dim) = match first.shape[..] {
        [rows, dim] if rows > 1 => (rows, dim),
        _ => return Err(unexpected(first, "a codebook with a row of padding")),
    };
    if books.len() > DEPTH_MAX {
        return Err(Error::invalid(format!(
            "{} codebooks, more than {DEPTH_MAX} levels of codes",
            books.len()
        )));
    }
    if let Some(other) = others.iter().find(|book| book.shape != first.shape) {
        return Err(Error::invalid(format!(
            "`{}` has shape {:?} and `{}` {:?}: vqtok takes as many codes at each depth",
            printable(&first.source),
            first.shape,
            printable(&other.source),
            other.shape
        )));
    }
    let depth = books.len();
    // Books can be one storage under many names, which each get a copy of it here.
    let values = (rows - 1).checked_mul(dim).and_then(|values| values.checked_mul(depth));
    if values.is_none_or(|values| values > BOOK_VALUES_MAX) {
        return Err(unexpected(first, &format!("one of {depth} codebooks that memory holds")));
    }
    let joined = Placement {
        source: first.source.clone(),
        shape: vec![depth * (rows - 1), dim],
        made: Made::Books(others.iter().map(|book| book.source.clone()).collect()),
    };
    placements.insert("quantize.embedding.weight".to_owned(), joined);
    Ok(depth)
}

/// `quantizer.codebooks.{k}.codebook.weight`, `[codes, length]` each, to one `[books * codes, length]`;
/// how many there are.
fn join_books_beside(placements: &mut BTreeMap<String, Placement>) -> Result<usize> {
    let name = |k: usize| format!("quantizer.codebooks.{k}.codebook.weight");
    let mut books = Vec::new();
    while let Some(book) = placements.remove(&name(books.len())) {
        books.push(book);
    }
    let Some((first, others)) = books.split_first() else {
        return Err(Error::invalid(format!("the checkpoint has no tensor `{}`", name(0))));
    };
    let &[rows, length] = &first.shape[..] else { return Err(unexpected(first, "a codebook")) };
    if books.len() > DEPTH_MAX {
        return Err(Error::invalid(format!("{} codebooks, more than {DEPTH_MAX}", books.len())));
    }
    if let Some(other) = others.iter().find(|book| book.shape != first.shape) {
        return Err(unexpected(other, "a codebook as large as the first"));
    }
    let joined = Placement {
        source: first.source.clone(),
        shape: vec![books.len().saturating_mul(rows), length],
        made: Made::BooksBeside(others.iter().map(|book| book.source.clone()).collect()),
    };
    placements.insert("quantize.embedding.weight".to_owned(), joined);
    Ok(books.len())
}

/// The error for a shape that nothing can be made of.
pub(super) fn unexpected(placement: &Placement, wanted: &str) -> Error {
    Error::invalid(format!(
        "`{}` has shape {:?}, not that of {wanted}",
        printable(&placement.source),
        placement.shape
    ))
}

/// A third of the rows of a layer.
fn third(joined: &RawTensor, place: usize) -> Vec<f32> {
    let values = joined.to_f32();
    let third = values.len() / 3;
    values[place * third..(place + 1) * third].to_vec()
}

/// The rows of books, `[codes + 1, dim]` each, without their last.
fn without_padding(books: Vec<&RawTensor>) -> Result<Vec<f32>, String> {
    let mut all = Vec::new();
    for book in books {
        let &[rows, dim] = book.shape() else { return Err("no codebook".into()) };
        all.extend(&book.to_f32()[..rows.saturating_sub(1) * dim]);
    }
    Ok(all)
}

/// The tensor of a place.
///
/// # Errors
/// In one line, a source that is missing or has another size.
pub(super) fn tensor(
    placement: &Placement,
    tensors: &BTreeMap<String, RawTensor>,
) -> Result<RawTensor, String> {
    let find = |name: &str| {
        tensors.get(name).ok_or_else(|| format!("the checkpoint has no tensor {}", quoted(name)))
    };
    let (source, shape) = (find(&placement.source)?, &placement.shape[..]);
    let floats = |values: Vec<f32>| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        RawTensor::new(Dtype::F32, shape.to_vec(), bytes.into())
    };
    if !source.dtype().is_float() {
        // Refused with its name where values are looked at.
        return source.reshape(source.shape());
    }
    match &placement.made {
        Made::AsItIs => source.reshape(shape),
        Made::Books(others) => {
            let names = std::iter::once(&placement.source).chain(others);
            floats(without_padding(names.map(|name| find(name)).collect::<Result<_, _>>()?)?)
        }
        Made::BooksBeside(others) => {
            let names = std::iter::once(&placement.source).chain(others);
            let books: Vec<&RawTensor> = names.map(|name| find(name)).collect::<Result<_, _>>()?;
            floats(books.into_iter().flat_map(RawTensor::to_f32).collect())
        }
        Made::Third(place) => floats(third(source, *place)),
        Made::LastTap => floats(frames::last_tap(source)?),
        Made::Frames { index, of } => floats(frames::unrolled(source, *index, *of)?),
        Made::FrameBias { index, of } => {
            let bias = source.to_f32();
            floats(bias.repeat(frames::outputs(*index, *of)))
        }
        Made::BatchNorm { parts, bias } => {
            let [weight, shift, mean, variance] = parts.each_ref();
            let [weight, shift, mean, variance] =
                [find(weight)?, find(shift)?, find(mean)?, find(variance)?].map(RawTensor::to_f32);
            let scale = weight.iter().zip(&variance);
            let scale: Vec<f64> = scale
                .map(|(w, v)| f64::from(*w) / (f64::from(*v) + BATCH_NORM_EPS).sqrt())
                .collect();
            let shifts = scale.iter().zip(&shift).zip(&mean);
            floats(match bias {
                false => scale.iter().map(|&scale| scale as f32).collect(),
                true => {
                    shifts.map(|((s, b), m)| (f64::from(*b) - s * f64::from(*m)) as f32).collect()
                }
            })
        }
        Made::HaarIn(wavelets) => floats(wavelets::of_pixels(source, find(wavelets)?, shape)?),
        Made::HaarOut(wavelets) => floats(wavelets::to_pixels(source, find(wavelets)?)?),
    }
}

#[cfg(test)]
mod tests;
