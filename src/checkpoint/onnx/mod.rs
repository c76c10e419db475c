//! Owns tokenizers in ONNX files: which files they are, that they are sound, and what model they make.
//! Must not know: what runs them.
//!
//! `wire` reads protobuf, `tensors`, `floats`, `calls` and `outline` what a file says of itself, `files` finds what belongs
//! together, `settings` is what is said about it, `configure` the model that comes of all that. Files
//! are untrusted: nothing is handed to a library that doesn't hold what it says it does, reads files of
//! others or asks for operators that aren't ONNX Runtime's.

mod calls;
mod configure;
mod files;
mod floats;
mod operators;
mod outline;
mod setting_names;
mod settings;
mod tensors;
mod wire;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use files::{Graph, Place};
pub use settings::OnnxSettings;
pub(crate) use settings::SETTINGS_FILE;
use settings::Stated;

use crate::checkpoint::recognise::detect::DetectOptions;
use crate::error::{Error, Result};
use crate::model::config::{
    Architecture, FORMAT, InputRange, ModelConfig, OnnxConfig, OnnxNetwork, OnnxTensor,
    OutputRange, PixelConfig, PreprocessConfig, QuantizerConfig, QuantizerRule,
};
use crate::model::opened::Opened;
use crate::util::hex::sha256_hex;
use crate::util::settings::{CODES, MODEL_CONFIG};
use crate::util::text;
use crate::weights::digests::{Digests, Pending};
use crate::weights::store::Weights;
use crate::weights::tensor::RawTensor;

/// The family's word.
pub(crate) const FAMILY: &str = "onnx";

/// Whether `path` means a tokenizer in ONNX files.
pub(crate) fn is_onnx(path: &Path) -> bool {
    files::place(path).is_some()
}

/// What is known of ONNX files without running them.
pub(crate) struct Read {
    /// The model.
    pub(crate) config: ModelConfig,
    /// Numbers in all weights.
    pub(crate) parameters: u64,
    /// Its files.
    pub(crate) files: Vec<PathBuf>,
    graphs: Vec<Graph>,
}

/// The files of a folder of ONNX: pixels to codes, back, and what they don't say.
pub(super) const FILES: [&str; 3] = [files::ENCODER_FILE, files::DECODER_FILE, SETTINGS_FILE];

/// Reads the files at `path`, if they are ONNX; None for what is something else.
///
/// # Errors
/// Files that are damaged or hostile; what is neither in them nor said.
pub(crate) fn read(path: &Path, options: &DetectOptions) -> Result<Option<Read>> {
    let Some(place) = files::place(path) else { return Ok(None) };
    options.refuse_for_onnx(FAMILY)?;
    let (encoder, decoder, beside) = match place {
        Place::Folder { encoder, decoder, settings } => (encoder, decoder, settings),
        Place::File { graph, settings } => {
            match configure::takes_pictures(&files::graph(&graph)?) {
                true => (Some(graph), None, settings),
                false => (None, Some(graph), settings),
            }
        }
    };
    let found = match options.config {
        Some(_) => None,
        None => files::settings(&beside)?,
    };
    let said = options.onnx.cloned().unwrap_or_default();
    let stated = Stated::read(options.config.or(found.as_ref()), &said);
    let stated = stated.map_err(|reason| match options.config {
        Some(_) => Error::setting(MODEL_CONFIG, format!(": {reason}")),
        None => Error::corrupt(&beside, reason),
    })?;
    let graph = |file: Option<PathBuf>| file.map(|file| files::graph(&file)).transpose();
    let (encoder, decoder) = (graph(encoder)?, graph(decoder)?);
    let (config, graphs) = configured(encoder, decoder, &stated).map_err(Error::about(path))?;
    Ok(Some(Read {
        config,
        parameters: graphs.iter().map(|graph| graph.outline.parameters).sum(),
        files: graphs.iter().flat_map(Graph::paths).collect(),
        graphs,
    }))
}

/// What is found of a graph, or why it can't be, with its file.
fn about<T>(graph: &Graph, found: Result<T, String>) -> Result<T> {
    found.map_err(|reason| Error::invalid(format!("{}: {reason}", text::path(&graph.path))))
}

/// The model that the graphs make, and the graphs.
fn configured(
    encoder: Option<Graph>,
    decoder: Option<Graph>,
    stated: &Stated,
) -> Result<(ModelConfig, Vec<Graph>)> {
    let encoding = encoder.as_ref().map(|graph| about(graph, configure::encoder(graph, stated)));
    let encoding = encoding.transpose()?;
    let decoding = decoder.as_ref().map(|graph| {
        about(graph, configure::decoder(graph, stated, encoder.as_ref().zip(encoding.as_ref())))
    });
    let decoding = decoding.transpose()?;
    let levels = [&encoding, &decoding].map(|network| network.as_ref().map(|n| n.tokens.len()));
    if let [Some(out), Some(into)] = levels
        && out != into
    {
        let text = format!("its encoder gives {out} levels of codes, its decoder takes {into}");
        return Err(Error::invalid(text));
    }
    if let (Some(encoder), Some(decoder)) = (&encoding, &decoding) {
        configure::agree(encoder, decoder).map_err(Error::invalid)?;
    }
    let levels = levels.into_iter().flatten().next().unwrap_or(1);
    if let Some(said) = stated.levels.filter(|said| *said != levels) {
        let text = format!("{SETTINGS_FILE}: `codes` are of {said} levels where it has {levels}");
        return Err(Error::invalid(text));
    }
    let Some(codes) = stated.codes else {
        return Err(Error::invalid(format!(
            "the number of its codes isn't said: write `codes` into {SETTINGS_FILE} beside it, or pass \
             {CODES}"
        )));
    };
    for (graph, network) in [(&encoder, &encoding), (&decoder, &decoding)] {
        if let (Some(graph), Some(network)) = (graph, network) {
            about(graph, configure::holds_codes(network, codes))?;
        }
    }
    let graphs: Vec<Graph> = encoder.into_iter().chain(decoder).collect();
    let network = OnnxConfig {
        encoder: encoding,
        decoder: decoding,
        grid: stated.grid,
        factors: vec![stated.factor.unwrap_or([1, 1]); levels],
    };
    let mut facts = provenance(&graphs, stated);
    facts.extend(faces(&network));
    Ok((model(network, codes, stated, facts), graphs))
}

fn model(
    network: OnnxConfig,
    codes: usize,
    stated: &Stated,
    provenance: BTreeMap<String, String>,
) -> ModelConfig {
    let of_encoder = network.encoder.as_ref();
    let channels = of_encoder.or(network.decoder.as_ref()).map_or(3, |n| n.pixels.channels);
    let fixed = match of_encoder.map(|network| network.pixels.sides()) {
        Some([Some(height), Some(width)]) if height == width => u32::try_from(height).ok(),
        _ => None,
    };
    let depth = network.levels();
    ModelConfig {
        format: FORMAT.to_owned(),
        family: FAMILY.to_owned(),
        architecture: Architecture::Onnx(Box::new(network)),
        quantizer: QuantizerConfig {
            depth,
            ..QuantizerConfig::new(QuantizerRule::Exported, codes, 0)
        },
        pixels: PixelConfig { channels, input: InputRange::Stated, output: OutputRange::Stated },
        preprocess: PreprocessConfig {
            resize: stated.resize.clone().unwrap_or_default(),
            size: stated.size.or(fixed),
            alpha: stated.alpha.clone(),
            orientation: stated.orientation.clone(),
            pillow: stated.pillow,
        },
        provenance,
    }
}

/// What goes into a graph and comes out of it, for people.
fn faces(network: &OnnxConfig) -> BTreeMap<String, String> {
    let shown = |tensor: &OnnxTensor| {
        let element = format!("{:?}", tensor.element).to_lowercase();
        let side = |side: &Option<usize>| side.map_or("?".to_owned(), |side| side.to_string());
        let sides = tensor.dims.as_ref().map(|dims| dims.iter().map(side).collect::<Vec<_>>());
        let sides = sides.map_or_else(String::new, |sides| format!("[{}]", sides.join(", ")));
        format!("{} {element}{sides}", tensor.name)
    };
    let tokens = |n: &OnnxNetwork| n.tokens.iter().map(shown).collect::<Vec<_>>().join(", ");
    let pixels = |n: &OnnxNetwork| format!("{} {:?}", shown(&n.pixels.tensor), n.pixels.layout);
    let encoder = network.encoder.as_ref().map(|n| format!("{} to {}", pixels(n), tokens(n)));
    let decoder = network.decoder.as_ref().map(|n| format!("{} to {}", tokens(n), pixels(n)));
    let named = [("encoder", encoder), ("decoder", decoder)];
    named.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?))).collect()
}

fn provenance(graphs: &[Graph], stated: &Stated) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for graph in graphs {
        let name = graph.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (producer, opset) = (&graph.outline.producer, graph.outline.opset);
        let producer = if producer.is_empty() { "an unnamed program" } else { producer };
        facts.insert(name, format!("written by {producer}, operators of ONNX {opset}"));
    }
    if !stated.unknown.is_empty() {
        facts.insert("unknown settings".to_owned(), stated.unknown.join(", "));
    }
    facts
}

impl Graph {
    /// That its weights are numbers.
    fn check_floats(&self) -> Result<()> {
        let beside = |name: &str| {
            let found = self.beside.iter().find(|(there, ..)| there == name);
            found.map(|(.., bytes)| &bytes[..])
        };
        let mut odd = self.outline.floats.iter().map(|held| held.check(&self.bytes, beside));
        odd.find_map(Result::err).map_or(Ok(()), |reason| Err(Error::corrupt(&self.path, reason)))
    }

    /// The file, and those beside it that it reads.
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let beside = self.beside.iter().map(|(_, path, _)| path.clone());
        [self.path.clone()].into_iter().chain(beside)
    }
}

impl Read {
    /// What the model is called by: the bytes of all files, and what is said of pixels and codes.
    pub(crate) fn digest(self) -> impl FnOnce() -> Result<Digests> + Send + 'static {
        let networks = match self.config.architecture {
            Architecture::Onnx(network) => [network.encoder, network.decoder],
            _ => [None, None],
        };
        let graphs = self.graphs;
        move || {
            let mut all = format!("{FAMILY}\n");
            for (graph, network) in graphs.iter().zip(networks.into_iter().flatten()) {
                graph.check_floats()?;
                all += &format!("graph {}\n", sha256_hex(&graph.bytes[..]));
                for (name, _, bytes) in &graph.beside {
                    all += &format!("weights {name:?} {}\n", sha256_hex(&bytes[..]));
                }
                let tokens: Vec<&str> = network.tokens.iter().map(|t| t.name.as_str()).collect();
                let (pixels, layout) = (&network.pixels, network.pixels.layout);
                all +=
                    &format!("{:?} {layout:?} {:?} {tokens:?}\n", pixels.tensor.name, pixels.scale);
            }
            Ok(Digests { weights_sha256: sha256_hex(all), codebook_sha256: String::new() })
        }
    }
}

/// Opens the files at `path` as a model, if they are ONNX.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn begin(path: &Path, options: &DetectOptions) -> Result<Option<Opened>> {
    let Some(read) = read(path, options)? else { return Ok(None) };
    let config = read.config.clone();
    let digests = Pending::computing(read.digest());
    Ok(Some(Opened {
        config,
        weights: Weights::from(BTreeMap::<String, RawTensor>::new()),
        digests,
    }))
}
