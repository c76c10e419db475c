//! Owns attention as commands.

use super::emit::{Emitter, Map, int};
use super::program::{Arg, Gemm, Matrix, Place, Work};
use crate::engine::device::Precision;
use crate::error::Result;

impl Emitter<'_> {
    /// One head of attention over all pixels of queries, keys and values, which stand side by side
    /// in `from`: `[images, pixels, 3, channels]` to `[images, pixels, channels]`.
    ///
    /// Products are of the usual number of images, whatever the others hold: cuBLAS chooses by the
    /// size of a batch, and so chooses the same. A batch of one costs a tenth of a millisecond more.
    pub(super) fn attend(&mut self, name: &str, from: Map) -> Result<Map> {
        self.layer = name.to_owned();
        self.widen(from);
        let element = self.weights.precision();
        let (pixels, channels) = (from.pixels(), from.channels / 3);
        let part = |index: usize| Matrix {
            place: from.place,
            offset: index * channels,
            row: from.channels,
            step: from.elements(),
            element,
        };
        let square = |place: Place, element: Precision| Matrix {
            place,
            offset: 0,
            row: pixels,
            step: pixels * pixels,
            element,
        };
        let (usual, area) = (self.usual, self.usual * pixels * pixels);
        let scores = self.acquire(area * 4);
        self.push(Work::Gemm(Gemm {
            a: part(0),
            b: part(1),
            b_transposed: true,
            c: square(scores, Precision::F32),
            rows: pixels,
            columns: pixels,
            inner: channels,
            batch: usual,
            alpha: (1.0 / (channels as f64).sqrt()) as f32,
        }));
        let weights = self.acquire(area * element.bytes());
        let args = vec![Arg::At(scores, 0), Arg::At(weights, 0), int(pixels)];
        self.launch("softmax_rows", [self.images * pixels, 1, 1], 64, args);
        self.release(scores);
        let to = self.map(from.height, from.width, channels)?;
        self.widen(to);
        self.push(Work::Gemm(Gemm {
            a: square(weights, element),
            b: part(2),
            b_transposed: false,
            c: Matrix { place: to.place, offset: 0, row: channels, step: to.elements(), element },
            rows: pixels,
            columns: channels,
            inner: pixels,
            batch: usual,
            alpha: 1.0,
        }));
        self.release(weights);
        Ok(to)
    }
}
