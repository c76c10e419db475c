//! Owns the search for codes as commands.

use super::books::PackedCodebook;
use super::emit::{BLOCK, Emitter, int};
use super::program::{Arg, Gemm, Matrix, Place, Work};
use crate::engine::device::Precision;

/// Bytes of the products that the search for codes reads at a time: they stay in an H100's or H200's
/// cache of 50 or 60 MB.
const PRODUCTS_BYTES: usize = 32 << 20;

impl Emitter<'_> {
    /// Divides each latent by its length, in place.
    pub(super) fn normalise(&mut self, latents: Place, rows: usize, dim: usize) {
        self.layer = "quantize".to_owned();
        let args = vec![Arg::At(latents, 0), int(dim)];
        self.launch("normalise_rows", [rows, 1, 1], 32, args);
    }

    /// Codes and distances of float32 latents `[rows, book.dim]`; see `nearest` in `kernels.cu`.
    pub(super) fn search(
        &mut self,
        latents: Place,
        rows: usize,
        book: PackedCodebook,
        rule: Rule,
    ) -> [Place; 2] {
        self.layer = "quantize".to_owned();
        let PackedCodebook { codes: count, dim, .. } = book;
        let element = self.weights.precision();
        let factor = match element {
            Precision::F32 => latents,
            Precision::Bf16 => {
                let narrowed = self.acquire(rows * dim * 2);
                let args = vec![Arg::At(latents, 0), Arg::At(narrowed, 0), int(rows * dim)];
                self.launch("narrow_all", [(rows * dim).div_ceil(BLOCK), 1, 1], BLOCK, args);
                narrowed
            }
        };
        let at_once = (PRODUCTS_BYTES / (count * 4)).clamp(1, rows);
        let products = self.acquire(at_once * count * 4);
        let codes = self.acquire(rows * 4);
        let distances = self.acquire(rows * 4);
        for start in (0..rows).step_by(at_once) {
            let some = Rows { start, count: at_once.min(rows - start) };
            self.products(factor, some, book, products);
            self.nearest([products, latents], some, (book, rule), [codes, distances]);
        }
        self.release(products);
        if factor != latents {
            self.release(factor);
        }
        [codes, distances]
    }

    /// What a level of codes leaves over of latents, in place.
    pub(super) fn subtract(
        &mut self,
        latents: Place,
        codes: Place,
        rows: usize,
        book: PackedCodebook,
    ) {
        let count = rows * book.dim;
        let mut args = [latents, codes, book.f32].map(|place| Arg::At(place, 0)).to_vec();
        args.extend([count, book.dim].map(int));
        self.launch("subtract_codes", [count.div_ceil(BLOCK), 1, 1], BLOCK, args);
    }

    /// The place of the largest of each row of float32 logits, and what tells whether all are finite;
    /// see `largest_logit` in `kernels.cu`.
    pub(super) fn largest_logit(&mut self, logits: Place, rows: usize, count: usize) -> [Place; 2] {
        self.layer = "quantize".to_owned();
        let found = [self.acquire(rows * 4), self.acquire(rows * 4)];
        let mut args = vec![Arg::At(logits, 0)];
        args.extend(found.map(|place| Arg::At(place, 0)));
        args.push(int(count));
        self.launch("largest_logit", [rows, 1, 1], 128, args);
        found
    }

    /// The products of some rows with every code.
    fn products(&mut self, factor: Place, some: Rows, book: PackedCodebook, products: Place) {
        let PackedCodebook { codes: count, dim, .. } = book;
        let element = self.weights.precision();
        let matrix = |place: Place, offset: usize, row: usize, element: Precision| Matrix {
            place,
            offset,
            row,
            step: 0,
            element,
        };
        self.push(Work::Gemm(Gemm {
            a: matrix(factor, some.start * dim, dim, element),
            b: matrix(book.reduced, 0, dim, element),
            b_transposed: true,
            c: matrix(products, 0, count, Precision::F32),
            rows: some.count,
            columns: count,
            inner: dim,
            batch: 1,
            alpha: 1.0,
        }));
    }

    /// The best code of some rows, by their products.
    fn nearest(
        &mut self,
        [products, latents]: [Place; 2],
        some: Rows,
        (book, rule): (PackedCodebook, Rule),
        [codes, distances]: [Place; 2],
    ) {
        let slack = rule.slack(self.weights.precision(), book);
        let args = vec![
            Arg::At(products, 0),
            Arg::At(latents, some.start * book.dim * 4),
            Arg::At(book.f32, 0),
            Arg::At(book.offsets, 0),
            Arg::At(codes, some.start * 4),
            Arg::At(distances, some.start * 4),
            int(book.codes),
            int(book.dim),
            Arg::Float(rule.factor),
            int(usize::from(rule.squared_base)),
            Arg::Float(slack[0]),
            Arg::Float(slack[1]),
            int(usize::from(rule.measured)),
        ];
        self.launch("nearest", [some.count, 1, 1], 128, args);
    }
}

/// Rows of the latents that are searched together.
#[derive(Debug, Clone, Copy)]
struct Rows {
    start: usize,
    count: usize,
}

/// A search of the smallest `base + offset[k] + factor * z.e[k]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rule {
    /// Of the product.
    pub factor: f32,
    /// Whether base is |z|^2 or 0.
    pub squared_base: bool,
    /// Whether the distance to the code means something.
    pub measured: bool,
}

impl Rule {
    /// |z|^2 + |e|^2 - 2 z.e
    pub(super) const NEAREST: Rule = Rule { factor: -2.0, squared_base: true, measured: true };
    /// z.e
    pub(super) const LARGEST: Rule = Rule { factor: -1.0, squared_base: false, measured: true };
    /// z.e + bias, of a projection
    pub(super) const PROJECTION: Rule = Rule { measured: false, ..Rule::LARGEST };

    /// Twice what two scores of the same code can differ by: what of it grows with |z|, and the
    /// rest. Rounding both factors to bfloat16 (2^-9 each) moves a product by 2^-8 |z||e|
    /// (Cauchy-Schwarz), a float32 sum of `dim` terms by dim 2^-24 |z||e|, in the library's order
    /// and in ours; adding the offset rounds at its own magnitude.
    fn slack(&self, element: Precision, book: PackedCodebook) -> [f32; 2] {
        let sums = 2.0 * book.dim as f32 * f32::EPSILON;
        let rounding = match element {
            Precision::F32 => 0.0,
            Precision::Bf16 => 1.0 / 256.0 + 1.0 / 65536.0,
        };
        let product = self.factor.abs() * (sums + rounding) * book.length_max;
        [2.0 * product, 8.0 * f32::EPSILON * book.offset_max]
    }
}
