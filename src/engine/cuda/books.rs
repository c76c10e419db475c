//! Owns codebooks in the form that the search for codes wants: rows, what is added to their products, bounds
//! of both.

use candle_core::Tensor;

use super::program::Place;
use super::weights::{DeviceWeights, encode};
use crate::engine::device::Precision;
use crate::error::Result;
use crate::model::quantizer::normalise_rows;

/// A codebook as the search for codes wants it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PackedCodebook {
    /// float32 `[codes, dim]`.
    pub f32: Place,
    /// The same in the weights' elements: the product's factor.
    pub reduced: Place,
    /// float32 `[codes]`.
    pub offsets: Place,
    /// K.
    pub codes: usize,
    /// Length of a row.
    pub dim: usize,
    /// Largest length |e| of a row.
    pub length_max: f32,
    /// Largest magnitude of an offset.
    pub offset_max: f32,
}

/// Which search a codebook is packed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// Smallest |z|^2 + |e|^2 - 2 z.e.
    Nearest,
    /// The same over rows of length one.
    NearestNormalised,
    /// Largest z.e.
    Largest,
    /// Largest z.e + bias, `quantize.proj`.
    Projection,
}

impl DeviceWeights {
    /// The codebook of a level, or the projection that takes its place: as many rows as there are codes.
    pub(crate) fn book(
        &mut self,
        search: Search,
        level: usize,
        codes: usize,
    ) -> Result<PackedCodebook> {
        let name = match search {
            Search::Projection => "quantize.proj.weight",
            _ => "quantize.embedding.weight",
        };
        let key = format!("{name} {level}");
        if let Some(book) = self.books.get(&key) {
            return Ok(*book);
        }
        let rows = self.tensor(name)?.narrow(0, level * codes, codes)?;
        self.pack_book(key, search, &rows)
    }

    /// The codebook that is stored as `[dim, codes]`, for the nearest of its rows.
    pub(crate) fn book_of_columns(&mut self, name: &str) -> Result<PackedCodebook> {
        if let Some(book) = self.books.get(name) {
            return Ok(*book);
        }
        let rows = self.tensor(name)?.t()?.contiguous()?;
        self.pack_book(name.to_owned(), Search::Nearest, &rows)
    }

    fn pack_book(&mut self, key: String, search: Search, rows: &Tensor) -> Result<PackedCodebook> {
        let codes = rows.dim(0)?;
        let mut rows = rows.flatten_all()?.to_vec1::<f32>()?;
        let dim = rows.len() / codes.max(1);
        if search == Search::NearestNormalised {
            normalise_rows(&mut rows, dim);
        }
        let squares: Vec<f32> = rows.chunks_exact(dim).map(|e| reference_dot(e, e)).collect();
        let offsets = match search {
            Search::Nearest | Search::NearestNormalised => squares.clone(),
            Search::Largest => vec![0.0; codes],
            Search::Projection => {
                let bias = self.tensor("quantize.proj.bias")?.to_vec1::<f32>()?;
                bias.into_iter().map(|b| -b).collect()
            }
        };
        let largest = |values: &[f32]| values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let (length_max, offset_max) = (largest(&squares).sqrt(), largest(&offsets));
        let f32 = self.push(encode(&rows, Precision::F32));
        let reduced = match self.precision {
            Precision::F32 => f32,
            Precision::Bf16 => self.push(encode(&rows, Precision::Bf16)),
        };
        let offsets = self.push(encode(&offsets, Precision::F32));
        let book = PackedCodebook { f32, reduced, offsets, codes, dim, length_max, offset_max };
        self.books.insert(key, book);
        Ok(book)
    }
}

/// z.e in the order of `model::quantizer`: chunks of 64.
fn reference_dot(a: &[f32], b: &[f32]) -> f32 {
    let chunk = |(a, b): (&[f32], &[f32])| a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b);
    a.chunks(64).zip(b.chunks(64)).map(chunk).fold(0.0, |total, sum: f32| total + sum)
}

#[cfg(test)]
mod tests {
    use super::super::weights::tests::{floats, weights};
    use super::*;

    #[test]
    fn a_book_has_its_squares_and_bounds() {
        let mut weights = weights(Precision::Bf16);
        let book = weights.book(Search::Nearest, 0, 5).unwrap();
        assert_eq!((book.codes, book.dim), (5, 2));
        let last = 8.0f32 / 7.0 * (8.0 / 7.0) + 9.0 / 7.0 * (9.0 / 7.0);
        assert_eq!(floats(&weights, book.offsets)[4], last);
        assert_eq!((book.offset_max, book.length_max), (last, last.sqrt()));
        assert_ne!(book.f32, book.reduced);
    }
}
