//! Owns writing a model as ONNX files: an encoder with its quantizer and a decoder, bytes in and bytes
//! out, which any runtime of ONNX runs. Must not know: what runs them.
//!
//! `proto` writes messages, `graph` collects nodes and constants, `layers` is one more [`Emit`] of
//! `model::topology`, `quantizer` and `pixels` are what stands around the networks.
//!
//! [`Emit`]: crate::model::topology::Emit

mod graph;
mod layers;
mod pixels;
mod proto;
mod quantizer;
mod vqvae2;

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use graph::{Graph, Name};
use proto::Kind;

use super::{files, outline};
use crate::checkpoint::convert;
use crate::checkpoint::recognise::detect::{self, DetectOptions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::config::{Architecture, ModelConfig, QuantizerRule};
use crate::model::topology::{self, Io};
use crate::util::atomic_file::AtomicFile;
use crate::util::{portable_fs, text};
use crate::weights::store::Weights;

/// What layers compute in; quantizers and norms are in float32 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Floats {
    /// The reference's tokens.
    #[default]
    F32,
    /// Half the size, and some tokens are others.
    F16,
}

impl std::str::FromStr for Floats {
    type Err = String;

    fn from_str(word: &str) -> Result<Floats, String> {
        match word {
            "f32" => Ok(Floats::F32),
            "f16" => Ok(Floats::F16),
            _ => Err("choose f32 or f16".to_owned()),
        }
    }
}

/// Writes the model at `path` into the folder `out`: `encoder.onnx` and `decoder.onnx`, as far as it has
/// them, and a `tokenizer.json`. Equal models give equal bytes.
///
/// # Errors
/// Those of opening it; a family that isn't of convolutions alone; files that are there already.
pub fn write(path: &Path, options: &DetectOptions, out: &Path, floats: Floats) -> Result<()> {
    let names = super::FILES.map(|name| out.join(name));
    convert::refuse_model(out)?;
    let (config, weights) = detect::open(path, options)?;
    Model::check(&config, &weights).map_err(Error::about(path))?;
    let kind = match floats {
        Floats::F32 => Kind::F32,
        Floats::F16 => Kind::F16,
    };
    supported(&config)
        .map_err(|reason| Error::invalid(format!("{}: {reason}", text::path(path))))?;
    let parts = config.parts();
    let encoder = parts.encoder().then(|| encoder(&config, &weights, kind)).transpose()?.flatten();
    let decoder = parts.decoder().then(|| decoder(&config, &weights, kind)).transpose()?;
    for model in [&encoder, &decoder].into_iter().flatten() {
        if model.len() > files::BYTES_MAX {
            return Err(Error::invalid("its weights are more than the 2 GB of an ONNX file"));
        }
        outline::Outline::read(model).map_err(|why| Error::internal(format!("{why:?}")))?;
    }
    std::fs::create_dir_all(out).map_err(Error::io(out))?;
    let mut settings = serde_json::to_vec_pretty(&settings(&config)).unwrap_or_default();
    settings.push(b'\n');
    for (file, bytes) in names.iter().zip([encoder, decoder, Some(settings)]) {
        let Some(bytes) = bytes else { continue };
        let hidden = format!(
            ".{}.tmp-{}",
            file.file_name().unwrap_or_default().display(),
            std::process::id()
        );
        let atomic = AtomicFile::new(file, &hidden);
        atomic.write(|out| out.write_all(&bytes).map_err(Error::io(file)))?;
        atomic.commit()?;
    }
    portable_fs::sync_folder(out).map_err(Error::io(out))
}

fn supported(config: &ModelConfig) -> Result<(), String> {
    let family = text::shorten(&config.family);
    if config.quantizer.scales.is_some() {
        return Err(format!("codes of several scales don't become ONNX, as those of {family} are"));
    }
    if let bits @ 2.. = config.quantizer.values() {
        return Err(format!("tokens that are lists of {bits} bits don't become ONNX: numbers do"));
    }
    match &config.architecture {
        Architecture::VitVqgan(_) | Architecture::Titok(_) | Architecture::Unitok(_) => Err(
            format!("only networks of convolutional layers become ONNX, and family {family} isn't"),
        ),
        _ => Ok(()),
    }
}

/// Sides of a grid of codes; the top's of VQ-VAE-2 has others than the bottom's.
const GRIDS: [[Result<usize, &str>; 3]; 2] = [
    [Err("n"), Err("grid_height"), Err("grid_width")],
    [Err("n"), Err("top_height"), Err("top_width")],
];

/// The name of each level's codes, and the sides of its grid.
fn levels(config: &ModelConfig) -> Vec<(String, [Result<usize, &'static str>; 3])> {
    let has_top = matches!(config.architecture, Architecture::Vqvae2(_));
    let level = |level: usize| match level {
        0 => ("tokens".to_owned(), GRIDS[0]),
        1 if has_top => ("tokens_top".to_owned(), GRIDS[1]),
        level => (format!("tokens_residual_{level}"), GRIDS[0]),
    };
    (0..config.levels()).map(level).collect()
}

/// None where the network doesn't give what the quantizer takes: such a checkpoint decodes only.
fn encoder(config: &ModelConfig, weights: &Weights, kind: Kind) -> Result<Option<Vec<u8>>> {
    let (mut graph, io, q) = (Graph::new(weights, kind), Io::from(config), &config.quantizer);
    let planes = pixels::enter(&mut graph, config);
    graph.begin(planes, io.channels);
    let found = match &config.architecture {
        Architecture::Vqvae2(c) => vqvae2::encode(&mut graph, (c, q, io))?,
        architecture => {
            topology::encoder(&mut graph, architecture, io)?;
            if graph.channels != quantizer::channels(&graph, q)? {
                return Ok(None);
            }
            let latents = graph.last.clone();
            quantizer::encode(&mut graph, q, &latents, quantizer::BOOK)?
        }
    };
    for (codes, (name, sides)) in found.iter().zip(levels(config)) {
        graph.output(codes, &name, Kind::I64, &sides);
    }
    graph.finish().map(Some)
}

fn decoder(config: &ModelConfig, weights: &Weights, kind: Kind) -> Result<Vec<u8>> {
    let (mut graph, io, q) = (Graph::new(weights, kind), Io::from(config), &config.quantizer);
    let named = levels(config);
    let codes: Vec<Name> =
        named.iter().map(|(name, sides)| graph.input(name, Kind::I64, sides)).collect();
    if let Architecture::Vqvae2(c) = &config.architecture {
        vqvae2::decode(&mut graph, (c, q, io), &codes)?;
    } else {
        let vectors = match q.rule {
            QuantizerRule::Logits => one_hot(&mut graph, &codes[0])?,
            _ => quantizer::decode(&mut graph, q, &codes, quantizer::BOOK)?,
        };
        graph.begin(vectors, topology::decoder_input(&config.architecture, io));
        topology::decoder(&mut graph, &config.architecture, io)?;
    }
    pixels::leave(&mut graph, config);
    graph.finish()
}

/// DALL-E's first layer, a 1x1 convolution of one-hot codes: a row of its weights each.
fn one_hot(graph: &mut Graph, codes: &str) -> Result<Name> {
    let (dims, columns) = graph.values("decoder.blocks.input.w")?;
    let [init, count] = [dims[0], dims[1]];
    let rows: Vec<f32> = (0..count)
        .flat_map(|k| (0..init).map(move |c| c * count + k))
        .map(|at| columns[at])
        .collect();
    let rows = graph.floats(&[count, init], &rows, Kind::F32);
    let bias = graph.weight_as("decoder.blocks.input.b", Kind::F32)?;
    let picked = graph.op("Gather", &[&rows, codes], &[]);
    let shifted = graph.op("Add", &[&picked, &bias], &[]);
    let planes = graph.permuted(&shifted, &[0, 3, 1, 2]);
    Ok(graph.narrow(&planes))
}

/// The settings file: what the graphs don't say.
fn settings(config: &ModelConfig) -> Value {
    let preprocess = &config.preprocess;
    let tokens: Vec<String> = levels(config).into_iter().map(|(name, _)| name).collect();
    let mut settings = json!({
        "codes": config.quantizer.codes,
        "tokens": tokens,
        "factor": config.factor(),
        "input": {"name": pixels::NAME, "layout": "NHWC"},
        "output": {"name": pixels::NAME, "layout": "NHWC"},
        "resize": preprocess.resize,
    });
    let optional = [
        ("size", json!(preprocess.size)),
        ("alpha", json!(preprocess.alpha)),
        ("orientation", json!(preprocess.orientation)),
        ("pillow", json!(preprocess.pillow)),
    ];
    for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
        settings[name] = value;
    }
    settings
}
