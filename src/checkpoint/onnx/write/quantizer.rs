//! Owns quantizers as nodes of a graph, in float32 whatever layers compute in: latents to codes, and
//! codes to what a decoder begins with.

use super::graph::{Graph, Name};
use super::proto::{Attribute, Kind};
use crate::error::{Error, Result};
use crate::model::config::{QuantizerConfig, QuantizerRule};
use crate::model::fsq::Fsq;
use crate::model::quantizer::normalise_rows;

/// The codebook under canonical names; VQ-VAE-2 has two.
pub(super) const BOOK: &str = "quantize.embedding.weight";

/// The largest score's or the smallest distance's place, the first of equal ones.
fn first_of(graph: &mut Graph, kind: &str, scores: &str) -> Name {
    graph.op(kind, &[scores], &[Attribute::Int("axis", -1), Attribute::Int("keepdims", 0)])
}

/// Vectors, `[..., D]`, divided by their lengths.
fn unit_length(graph: &mut Graph, z: &str) -> Name {
    let length = graph.op("ReduceL2", &[z], &[Attribute::Ints("axes", &[-1])]);
    let length = graph.with("Max", &length, 1e-12);
    graph.op("Div", &[z, &length], &[])
}

/// The nearest code of each latent: the smallest |z|^2 + |e|^2 - 2 z.e.
fn nearest(graph: &mut Graph, z: &str, book: &[f32], dim: usize) -> Name {
    let codes = book.len() / dim;
    let squares: Vec<f32> = book.chunks_exact(dim).map(|e| e.iter().map(|x| x * x).sum()).collect();
    let length = graph.op("ReduceSumSquare", &[z], &[Attribute::Ints("axes", &[-1])]);
    let squares = graph.floats(&[codes], &squares, Kind::F32);
    let base = graph.op("Add", &[&length, &squares], &[]);
    let dots = products(graph, z, book, dim);
    let twice = graph.with("Mul", &dots, 2.0);
    let distances = graph.op("Sub", &[&base, &twice], &[]);
    first_of(graph, "ArgMin", &distances)
}

fn products(graph: &mut Graph, z: &str, rows: &[f32], dim: usize) -> Name {
    let count = rows.len() / dim;
    let columns: Vec<f32> =
        (0..dim).flat_map(|d| (0..count).map(move |k| rows[k * dim + d])).collect();
    let columns = graph.floats(&[dim, count], &columns, Kind::F32);
    graph.op("MatMul", &[z, &columns], &[])
}

/// Two digits a channel, and their places by the rule's order.
fn bits(q: &QuantizerConfig) -> (Vec<usize>, Vec<i64>) {
    let levels = vec![2; q.dim];
    let mut places = places(&levels);
    if q.rule == QuantizerRule::SignHigh {
        places.reverse();
    }
    (levels, places)
}

/// The digits' places: 1, and the product of the levels before.
fn places(levels: &[usize]) -> Vec<i64> {
    let mut place = 1;
    let step = |level: &usize| {
        let this = place;
        place *= *level as i64;
        this
    };
    levels.iter().map(step).collect()
}

/// The sum of digits, `[..., D]`, at their places.
fn number(graph: &mut Graph, digits: &str, places: &[i64]) -> Name {
    let places = graph.integers(&[places.len()], places);
    let placed = graph.op("Mul", &[digits, &places], &[]);
    let axis = graph.integers(&[1], &[-1]);
    graph.op("ReduceSum", &[&placed, &axis], &[Attribute::Int("keepdims", 0)])
}

/// Channels of the latents that a quantizer takes.
///
/// # Errors
/// A weight that is missing.
pub(super) fn channels(graph: &Graph, q: &QuantizerConfig) -> Result<usize> {
    Ok(match q.rule {
        QuantizerRule::Logits => q.codes,
        QuantizerRule::Projection => graph.values("quantize.proj.weight")?.1.len() / q.codes.max(1),
        _ => q.dim,
    })
}

/// Codes of each level for latents, `[N, D, h, w]` in what layers compute in.
///
/// # Errors
/// A weight that is missing.
pub(super) fn encode(
    graph: &mut Graph,
    q: &QuantizerConfig,
    latents: &str,
    book: &str,
) -> Result<Vec<Name>> {
    let wide = graph.wide(latents);
    let mut z = graph.permuted(&wide, &[0, 2, 3, 1]);
    let one = match q.rule {
        QuantizerRule::L2 => {
            let (_, values) = graph.values(book)?;
            let mut found = Vec::new();
            for (level, some) in values.chunks_exact(q.codes * q.dim).enumerate() {
                let codes = nearest(graph, &z, some, q.dim);
                if level + 1 < q.depth {
                    let rows = graph.floats(&[q.codes, q.dim], some, Kind::F32);
                    let vectors = graph.op("Gather", &[&rows, &codes], &[]);
                    z = graph.op("Sub", &[&z, &vectors], &[]);
                }
                found.push(codes);
            }
            return Ok(found);
        }
        QuantizerRule::L2Normalised => {
            let (_, mut values) = graph.values(book)?;
            normalise_rows(&mut values, q.dim);
            let z = unit_length(graph, &z);
            nearest(graph, &z, &values, q.dim)
        }
        QuantizerRule::Dot => {
            let (_, values) = graph.values(book)?;
            let scores = products(graph, &z, &values, q.dim);
            first_of(graph, "ArgMax", &scores)
        }
        QuantizerRule::Projection => {
            let (_, weight) = graph.values("quantize.proj.weight")?;
            let bias = graph.weight_as("quantize.proj.bias", Kind::F32)?;
            let scores = products(graph, &z, &weight, weight.len() / q.codes);
            let scores = graph.op("Add", &[&scores, &bias], &[]);
            first_of(graph, "ArgMax", &scores)
        }
        QuantizerRule::Logits => first_of(graph, "ArgMax", &z),
        QuantizerRule::Sign | QuantizerRule::SignHigh => {
            let zero = graph.floats(&[], &[0.0], Kind::F32);
            let set = graph.op("Greater", &[&z, &zero], &[]);
            let bits = graph.cast(&set, Kind::I64);
            number(graph, &bits, &self::bits(q).1)
        }
        QuantizerRule::Fsq => rounded(graph, &z, &q.levels)?,
        QuantizerRule::Exported => return Err(Error::internal("codes of an ONNX file")),
    };
    Ok(vec![one])
}

/// Rule `fsq`, in float64 as the reference engine.
fn rounded(graph: &mut Graph, z: &str, levels: &[usize]) -> Result<Name> {
    let channels = Fsq::new(levels)?.channels;
    let of = |value: fn(&crate::model::fsq::Channel) -> f64| {
        channels.iter().map(value).collect::<Vec<f64>>()
    };
    let dims = [levels.len()];
    let [shift, half, offset, middle] =
        [of(|c| c.shift), of(|c| c.half), of(|c| c.offset), of(|c| c.middle() as f64)]
            .map(|values| graph.doubles(&dims, &values));
    let z = graph.cast(z, Kind::F64);
    let shifted = graph.op("Add", &[&z, &shift], &[]);
    let bounded = graph.map("Tanh", &shifted);
    let spread = graph.op("Mul", &[&bounded, &half], &[]);
    let centred = graph.op("Sub", &[&spread, &offset], &[]);
    let whole = graph.map("Round", &centred);
    let digits = graph.op("Add", &[&whole, &middle], &[]);
    let digits = graph.cast(&digits, Kind::I64);
    Ok(number(graph, &digits, &places(levels)))
}

/// What a decoder begins with for codes of each level, `[N, h, w]`: `[N, D, h, w]`, in what layers
/// compute in.
///
/// # Errors
/// A weight that is missing.
pub(super) fn decode(
    graph: &mut Graph,
    q: &QuantizerConfig,
    codes: &[Name],
    book: &str,
) -> Result<Name> {
    let middle = |level: &usize| (level / 2) as f32;
    let vectors = match q.rule {
        // Bits are -1 and 1.
        QuantizerRule::Sign | QuantizerRule::SignHigh => {
            let (levels, places) = bits(q);
            vectors_of_digits(graph, &codes[0], (&levels, &places), &vec![0.5; q.dim])
        }
        QuantizerRule::Fsq => {
            let middles: Vec<f32> = q.levels.iter().map(middle).collect();
            vectors_of_digits(graph, &codes[0], (&q.levels, &places(&q.levels)), &middles)
        }
        _ => {
            let (_, mut values) = graph.values(book)?;
            if q.normalises_lookup() {
                normalise_rows(&mut values, q.dim);
            }
            let mut sum: Option<Name> = None;
            for (some, codes) in values.chunks_exact(q.codes * q.dim).zip(codes) {
                let rows = graph.floats(&[q.codes, q.dim], some, Kind::F32);
                let vectors = graph.op("Gather", &[&rows, codes], &[]);
                sum = Some(match sum {
                    None => vectors,
                    Some(sum) => graph.op("Add", &[&sum, &vectors], &[]),
                });
            }
            sum.ok_or_else(|| Error::internal("no level of codes"))?
        }
    };
    let planes = graph.permuted(&vectors, &[0, 3, 1, 2]);
    Ok(graph.narrow(&planes))
}

/// Digits as the decoder takes them: (digit - middle) / middle.
fn vectors_of_digits(
    graph: &mut Graph,
    codes: &str,
    (levels, places): (&[usize], &[i64]),
    middles: &[f32],
) -> Name {
    let dims = [levels.len()];
    let counts: Vec<i64> = levels.iter().map(|&level| level as i64).collect();
    let (places, counts) = (graph.integers(&dims, places), graph.integers(&dims, &counts));
    let axis = graph.integers(&[1], &[-1]);
    let spread = graph.op("Unsqueeze", &[codes, &axis], &[]);
    let above = graph.op("Div", &[&spread, &places], &[]);
    let digits = graph.op("Mod", &[&above, &counts], &[]);
    let digits = graph.cast(&digits, Kind::F32);
    let middles = graph.floats(&dims, middles, Kind::F32);
    let centred = graph.op("Sub", &[&digits, &middles], &[]);
    graph.op("Div", &[&centred, &middles], &[])
}
