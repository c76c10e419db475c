//! Owns bytes to what a network sees and back, as nodes of a graph, by the family's own rules.

use super::graph::{Graph, Name};
use super::proto::{Attribute, Kind};
use crate::model::config::{ModelConfig, OutputRange};

/// The name of pictures, in and out.
pub(super) const NAME: &str = "pixels";

/// Bytes `[N, H, W, C]` by the family's table to planes, in what layers compute in.
pub(super) fn enter(graph: &mut Graph, config: &ModelConfig) -> Name {
    let sides = [Err("n"), Err("height"), Err("width"), Ok(config.pixels.channels)];
    let bytes = graph.input(NAME, Kind::U8, &sides);
    let places = graph.cast(&bytes, Kind::I32);
    let places = match config.pad() {
        Some(multiple) => padded(graph, &places, multiple),
        None => places,
    };
    // The order of rounding is part of a rule, which a table keeps.
    let table = graph.floats(&[256], &config.pixels.input.table(), Kind::F32);
    let floats = graph.op("Gather", &[&table, &places], &[]);
    let planes = graph.permuted(&floats, &[0, 3, 1, 2]);
    graph.narrow(&planes)
}

/// Pictures `[N, H, W, C]` with black around them, up to multiples of so many pixels; of an odd
/// number of rows or columns the last is below and on the right.
fn padded(graph: &mut Graph, pixels: &str, multiple: usize) -> Name {
    let shape = graph.map("Shape", pixels);
    let zeros = graph.integers(&[4], &[0; 4]);
    let less = graph.op("Sub", &[&zeros, &shape], &[]);
    // Of integers, `Mod` has the divisor's sign: what is missing to the next multiple.
    let multiple = multiple as i64;
    let multiples = graph.integers(&[4], &[1, multiple, multiple, 1]);
    let missing = graph.op("Mod", &[&less, &multiples], &[]);
    let two = graph.integers(&[], &[2]);
    let before = graph.op("Div", &[&missing, &two], &[]);
    let after = graph.op("Sub", &[&missing, &before], &[]);
    let pads = graph.op("Concat", &[&before, &after], &[Attribute::Int("axis", 0)]);
    graph.op("Pad", &[pixels, &pads], &[])
}

/// What the decoder gives to bytes `[N, H, W, C]`, the graph's output.
pub(super) fn leave(graph: &mut Graph, config: &ModelConfig) {
    let planes = graph.last.clone();
    let floats = graph.wide(&planes);
    let floats = graph.permuted(&floats, &[0, 2, 3, 1]);
    let bytes = to_bytes(graph, &floats, config.pixels.output);
    let bytes = graph.cast(&bytes, Kind::U8);
    let sides = [Err("n"), Err("height"), Err("width"), Ok(config.pixels.channels)];
    graph.output(&bytes, NAME, Kind::U8, &sides);
}

/// Floats to whole numbers of 0 to 255, step by step as [`OutputRange::to_byte`].
fn to_bytes(graph: &mut Graph, x: &str, rule: OutputRange) -> Name {
    use OutputRange::*;
    const SYMMETRIC: [(&str, f32); 5] =
        [("Max", -1.0), ("Min", 1.0), ("Add", 1.0), ("Div", 2.0), ("Mul", 255.0)];
    const UNIT: [(&str, f32); 3] = [("Max", 0.0), ("Min", 1.0), ("Mul", 255.0)];
    let (before, then): (&[(&str, f32)], &[(&str, f32)]) = match rule {
        SymmetricTruncate => (&SYMMETRIC, &[]),
        SymmetricSaveImage => (&SYMMETRIC, &[("Add", 0.5)]),
        SymmetricHalfEven => (&[("Max", -1.0), ("Min", 1.0), ("Add", 1.0), ("Mul", 127.5)], &[]),
        SymmetricHalfUp => (&[("Mul", 127.5), ("Add", 128.0)], &[]),
        SymmetricRound => (&[("Div", 2.0), ("Add", 0.5)], &UNIT),
        CenteredRound => (&[("Add", 0.5)], &UNIT),
        UnitRound | UnitTruncate => (&[], &UNIT),
        UnitMuse => (&[("Mul", 2.0), ("Sub", 1.0)], &SYMMETRIC),
        Dalle => (&[("Sub", 0.1), ("Div", 0.8)], &UNIT),
        Stated => (&[], &[]),
    };
    let mut value = match rule {
        Dalle => graph.map("Sigmoid", x),
        _ => x.to_owned(),
    };
    for (kind, number) in before.iter().chain(then) {
        value = graph.with(kind, &value, *number);
    }
    let whole = match rule {
        SymmetricRound | SymmetricHalfEven | CenteredRound | UnitRound | Stated => {
            graph.map("Round", &value)
        }
        _ => graph.map("Floor", &value),
    };
    let low = graph.with("Max", &whole, 0.0);
    graph.with("Min", &low, 255.0)
}
