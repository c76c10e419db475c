//! Owns the step from what ONNX files say of themselves, and what is said of them, to a model's
//! configuration; what neither says is asked for by name.

use super::files::Graph;
use super::outline::ValueInfo;
use super::settings::{Port, SETTINGS_FILE, Stated};
use crate::model::config::{
    OnnxElement, OnnxNetwork, OnnxPixels, OnnxTensor, PixelLayout, PixelScale,
};
use crate::util::settings::{CODES, LAYOUT, MEAN, STD};
use crate::util::text::shorten;

/// An input or output of a type that pixels or codes can be of.
fn known(info: &ValueInfo) -> Option<OnnxTensor> {
    use OnnxElement::*;
    let element = match info.element {
        1 => F32,
        2 => U8,
        3 => I8,
        4 => U16,
        5 => I16,
        6 => I32,
        7 => I64,
        10 => F16,
        12 => U32,
        13 => U64,
        _ => return None,
    };
    Some(OnnxTensor { name: info.name.clone(), element, dims: info.dims.clone() })
}

/// Whether it may hold pictures.
fn pictures(tensor: &OnnxTensor) -> bool {
    use OnnxElement::{F16, F32, U8};
    let sides = tensor.dims.as_ref().is_none_or(|dims| dims.len() == 4);
    sides && matches!(tensor.element, F16 | F32 | U8)
}

/// Whether a graph is an encoder: none of its inputs are codes.
pub(super) fn takes_pictures(graph: &Graph) -> bool {
    let inputs = graph.outline.inputs.iter().filter_map(known);
    !inputs.into_iter().any(|input| input.element.is_integer() && !pictures(&input))
}

/// Pixels to codes.
///
/// # Errors
/// No pictures go in, no integers come out, or a name that isn't there.
pub(super) fn encoder(graph: &Graph, stated: &Stated) -> Result<OnnxNetwork, String> {
    let inputs = tensors(&graph.outline.inputs, "input")?;
    let tensor = match (&stated.input.name, &inputs[..]) {
        (Some(name), _) => named(&inputs, name, "input")?,
        (None, [one]) => one.clone(),
        (None, _) => return Err(not_one("input", "input.name", &inputs)),
    };
    if let Some(other) = inputs.iter().find(|input| input.name != tensor.name) {
        return Err(format!("it takes an input '{}' beside its pictures", shorten(&other.name)));
    }
    let pixels = pixels(tensor, &stated.input, "input")?;
    if pixels.tensor.element != OnnxElement::U8 && pixels.scale.is_none() {
        return Err(unsaid_scale("input"));
    }
    let outputs = tensors(&graph.outline.outputs, "output")?;
    let tokens: Vec<OnnxTensor> = match &stated.tokens[..] {
        [] => outputs.into_iter().filter(|output| output.element.is_integer()).collect(),
        names => {
            names.iter().map(|name| named(&outputs, name, "output")).collect::<Result<_, _>>()?
        }
    };
    check_tokens(&tokens, "outputs", &graph.outline.outputs)?;
    let (file, precision) = (graph.path.clone(), graph.outline.precision());
    Ok(OnnxNetwork { file, precision, pixels, tokens })
}

/// Codes to pixels; the codes in the order of the encoder's, where names tell it.
///
/// # Errors
/// No integers go in, no pictures come out, or a name that isn't there.
pub(super) fn decoder(
    graph: &Graph,
    stated: &Stated,
    encoder: Option<(&Graph, &OnnxNetwork)>,
) -> Result<OnnxNetwork, String> {
    let mut tokens = tensors(&graph.outline.inputs, "input")?;
    check_tokens(&tokens, "inputs", &graph.outline.inputs)?;
    pair(&mut tokens, stated, encoder)?;
    let outputs = tensors(&graph.outline.outputs, "output")?;
    let some: Vec<OnnxTensor> = outputs.iter().filter(|output| pictures(output)).cloned().collect();
    let tensor = match (&stated.output.name, &some[..]) {
        (Some(name), _) => named(&outputs, name, "output")?,
        (None, [one]) => one.clone(),
        (None, _) => return Err(not_one("output", "output.name", &outputs)),
    };
    Ok(OnnxNetwork {
        file: graph.path.clone(),
        precision: graph.outline.precision(),
        pixels: pixels(tensor, &stated.output, "output")?,
        tokens,
    })
}

/// Brings a decoder's inputs of codes into the order of the levels.
///
/// # Errors
/// What doesn't tell which of them takes which level.
fn pair(
    tokens: &mut [OnnxTensor],
    stated: &Stated,
    encoder: Option<(&Graph, &OnnxNetwork)>,
) -> Result<(), String> {
    let of_encoder = encoder.map(|(_, network)| {
        network.tokens.iter().map(|token| token.name.clone()).collect::<Vec<_>>()
    });
    let levels = match (&stated.decoder_tokens[..], &of_encoder) {
        ([], Some(names)) => names,
        ([], None) => &stated.tokens,
        _ => &stated.decoder_tokens,
    };
    let order = |token: &OnnxTensor| levels.iter().position(|name| *name == token.name);
    if tokens.iter().all(|token| order(token).is_some()) {
        tokens.sort_by_key(|token| order(token));
        return Ok(());
    }
    let is_other = |token: &OnnxTensor| {
        let outputs = encoder.map_or(&[][..], |(graph, _)| &graph.outline.outputs);
        outputs.iter().any(|output| output.name == token.name)
    };
    match (&stated.decoder_tokens[..], &tokens[..], levels.is_empty()) {
        ([], _, true) => Ok(()),
        ([], [one], false) if !is_other(one) => Ok(()),
        _ => {
            let names: Vec<String> = tokens.iter().map(|token| shorten(&token.name)).collect();
            Err(format!(
                "which of its inputs takes which level of codes isn't said (there is {}): write \
                 `decoder_tokens`, their names in the order of the encoder's, into {SETTINGS_FILE}",
                names.join(", ")
            ))
        }
    }
}

/// That the type of what is to hold codes has room for as many.
///
/// # Errors
/// One that is too narrow.
pub(super) fn holds_codes(network: &OnnxNetwork, codes: usize) -> Result<(), String> {
    let room = |element: OnnxElement| match element {
        OnnxElement::I8 => 1 << 7,
        OnnxElement::U8 => 1 << 8,
        OnnxElement::I16 => 1 << 15,
        OnnxElement::U16 => 1 << 16,
        _ => usize::MAX,
    };
    match network.tokens.iter().find(|token| codes > room(token.element)) {
        None => Ok(()),
        Some(token) => Err(format!(
            "its '{}' is of {}, which {codes} codes don't fit into: export it with wider integers, or correct \
             `codes` in {SETTINGS_FILE} or {CODES}",
            shorten(&token.name),
            format!("{:?}", token.element).to_lowercase()
        )),
    }
}

/// That what comes out of a decoder can be what went into the encoder.
///
/// # Errors
/// Pictures of other channels or of another fixed size.
pub(super) fn agree(encoder: &OnnxNetwork, decoder: &OnnxNetwork) -> Result<(), String> {
    let [into, out] = [encoder, decoder].map(|network| network.pixels.channels);
    if into != out {
        return Err(format!(
            "its encoder takes pictures of {into} channels, its decoder gives ones of {out}: they are of \
             two models"
        ));
    }
    let [into, out] = [encoder, decoder].map(|network| network.pixels.sides());
    let odd = |(a, b): (Option<usize>, Option<usize>)| a.zip(b).is_some_and(|(a, b)| a != b);
    if into.into_iter().zip(out).any(odd) {
        let size = |[h, w]: [Option<usize>; 2]| {
            let side = |side: Option<usize>| side.map_or("any".to_owned(), |n| n.to_string());
            format!("{}x{}", side(w), side(h))
        };
        return Err(format!(
            "its encoder takes pictures of {} pixels, its decoder gives ones of {}: they are of two \
             models",
            size(into),
            size(out)
        ));
    }
    Ok(())
}

/// All of them, of types that are known.
fn tensors(infos: &[ValueInfo], kind: &str) -> Result<Vec<OnnxTensor>, String> {
    let known: Vec<OnnxTensor> = infos.iter().filter_map(known).collect();
    match infos.iter().find(|info| kind == "input" && !known.iter().any(|k| k.name == info.name)) {
        Some(info) => Err(format!(
            "its {kind} '{}' is of {}, where pictures are of float32, float16 or uint8 and codes of integers",
            shorten(&info.name),
            type_word(info.element)
        )),
        None => Ok(known),
    }
}

/// What ONNX calls the types that neither pixels nor codes are of.
fn type_word(element: i64) -> String {
    match element {
        0 => "no tensor".to_owned(),
        8 => "texts".to_owned(),
        9 => "bool".to_owned(),
        11 => "float64".to_owned(),
        16 => "bfloat16".to_owned(),
        other => format!("type {other}"),
    }
}

fn named(tensors: &[OnnxTensor], name: &str, kind: &str) -> Result<OnnxTensor, String> {
    let found = tensors.iter().find(|tensor| tensor.name == name).cloned();
    found.ok_or_else(|| {
        let names: Vec<String> = tensors.iter().map(|t| shorten(&t.name)).collect();
        format!("it has no {kind} '{}': there is {}", shorten(name), names.join(", "))
    })
}

fn not_one(kind: &str, setting: &str, there: &[OnnxTensor]) -> String {
    let names: Vec<String> = there.iter().take(8).map(|t| shorten(&t.name)).collect();
    format!(
        "which {kind} is the picture isn't said (there is {}): write `{setting}` into {SETTINGS_FILE}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    )
}

fn check_tokens(tokens: &[OnnxTensor], kind: &str, all: &[ValueInfo]) -> Result<(), String> {
    if let Some(other) = tokens.iter().find(|token| !token.element.is_integer()) {
        let name = shorten(&other.name);
        return Err(format!("codes are integers, and its '{name}' isn't"));
    }
    match tokens.is_empty() {
        true => {
            let names: Vec<String> = all.iter().take(8).map(|info| shorten(&info.name)).collect();
            Err(format!(
                "none of its {kind} ({}) is of integers, as codes are; export it with its quantizer",
                names.join(", ")
            ))
        }
        false => Ok(()),
    }
}

fn unsaid_scale(of: &str) -> String {
    format!(
        "what its pixels are scaled by isn't said: write `{of}.mean` and `{of}.std` into \
         {SETTINGS_FILE} (of pixels of 0 to 255), or pass {MEAN} and {STD}"
    )
}

fn pixels(tensor: OnnxTensor, port: &Port, of: &str) -> Result<OnnxPixels, String> {
    let name = shorten(&tensor.name);
    if !pictures(&tensor) {
        return Err(format!(
            "its {of} '{name}' holds no pictures, which have four sides of float32, float16 or uint8"
        ));
    }
    let channels = |layout: PixelLayout| tensor.side(layout.places()[0]);
    let is_colour = |side: Option<usize>| matches!(side, Some(1 | 3));
    let both = [PixelLayout::Nchw, PixelLayout::Nhwc];
    let layout = match (port.layout, both.map(|layout| is_colour(channels(layout)))) {
        (Some(layout), _) => layout,
        (None, [true, false]) => PixelLayout::Nchw,
        (None, [false, true]) => PixelLayout::Nhwc,
        (None, _) => {
            return Err(format!(
                "the order of the sides of its {of} '{name}' isn't said: write `{of}.layout` (NCHW or \
                 NHWC) into {SETTINGS_FILE}, or pass {LAYOUT}"
            ));
        }
    };
    let elsewhere = both.into_iter().find(|other| is_colour(channels(*other)));
    if let (None, Some(other)) = (channels(layout), elsewhere) {
        return Err(format!(
            "its {of} '{name}' has its channels where {other:?} has them and not where {layout:?} has, as \
             `{of}.layout` in {SETTINGS_FILE} or {LAYOUT} says"
        ));
    }
    let channels = channels(layout).unwrap_or(3);
    if !matches!(channels, 1 | 3) {
        return Err(format!(
            "its {of} '{name}' has {channels} channels as {layout:?}: pictures have 1 or 3"
        ));
    }
    let scale = port.scale(of, channels)?;
    let plain = |scale: &PixelScale| {
        scale.mean.iter().all(|m| *m == 0.0) && scale.std.iter().all(|s| *s == 1.0)
    };
    if tensor.element == OnnxElement::U8 && scale.as_ref().is_some_and(|scale| !plain(scale)) {
        return Err(format!(
            "its {of} '{name}' is of bytes, which `{of}.mean` and `{of}.std` aren't for"
        ));
    }
    let scale = scale.filter(|_| tensor.element != OnnxElement::U8);
    Ok(OnnxPixels { tensor, layout, channels, scale })
}
