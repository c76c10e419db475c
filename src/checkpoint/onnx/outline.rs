//! Owns what an ONNX file says of itself, read before any library sees it: inputs, outputs, where its
//! weights lie, and whether it asks for what isn't given. Must not know: what its operators compute.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use super::calls::{Calls, FunctionName};
use super::floats::{FloatKind, Held};
use super::operators;
use super::tensors::{Tensor, tensor};
use super::wire::{Fields, Value, message, numbers, text};
use crate::util::text::shorten;

/// Graphs within graphs at most (branches and loops).
const NESTED_MAX: usize = 8;

const SPARSE: &str = "it holds sparse weights, which aren't read";

/// What a file says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outline {
    /// Who wrote it.
    pub producer: String,
    /// Version of ONNX's own operators.
    pub opset: i64,
    /// Inputs that have no value in the file.
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    pub outputs: Vec<ValueInfo>,
    /// Numbers in its weights.
    pub parameters: u64,
    /// Files beside it that hold weights, with the bytes that are read of each.
    pub external: BTreeMap<String, u64>,
    /// Its weights that are floats.
    pub(super) floats: Vec<Held>,
    /// How many numbers are of each type of floats.
    kinds: BTreeMap<FloatKind, u64>,
}

impl Outline {
    /// What most of its weights that are floats are held in: the word that shards say as precision.
    pub(super) fn precision(&self) -> &'static str {
        let most = self.kinds.iter().max_by_key(|(_, numbers)| **numbers);
        most.map_or("f32", |(kind, _)| kind.as_str())
    }
}

/// An input or output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ValueInfo {
    /// Its name.
    pub name: String,
    /// ONNX's number of the type of its elements; 0 where it is no tensor.
    pub element: i64,
    /// Its sides, None each where they vary; None altogether where nothing is said.
    pub dims: Option<Vec<Option<usize>>>,
}

/// Why a file can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It isn't whole, or says what can't be.
    Damaged(String),
    /// It asks for what isn't given.
    Refused(String),
}

impl From<String> for Unusable {
    fn from(reason: String) -> Unusable {
        Unusable::Damaged(reason)
    }
}

impl From<&str> for Unusable {
    fn from(reason: &str) -> Unusable {
        Unusable::Damaged(reason.to_owned())
    }
}

/// The files' structure while it is read.
struct Reading<'a> {
    file: &'a [u8],
    outline: Outline,
    /// Domains of functions that the file itself defines.
    own: BTreeSet<String>,
    initializers: BTreeSet<&'a [u8]>,
    /// Tensors that layers multiply by.
    factors: BTreeSet<&'a [u8]>,
    /// What the graph or function that is being read calls.
    called: Vec<FunctionName>,
    /// What is called within operators that repeat it.
    repeated: BTreeSet<FunctionName>,
    /// How many of these what is being read is in.
    repeats: usize,
}

impl Outline {
    /// Of a file's bytes.
    ///
    /// # Errors
    /// Bytes that are no whole model; operators that ONNX Runtime doesn't have; a tensor that says it
    /// holds more than is there.
    pub(crate) fn read(bytes: &[u8]) -> Result<Outline, Unusable> {
        let mut graph = None;
        let mut functions = Vec::new();
        let mut reading = Reading {
            file: bytes,
            outline: Outline::default(),
            own: BTreeSet::new(),
            initializers: BTreeSet::new(),
            factors: BTreeSet::new(),
            called: Vec::new(),
            repeated: BTreeSet::new(),
            repeats: 0,
        };
        for field in Fields::of(bytes) {
            match field? {
                (2, value) => reading.outline.producer = text(value),
                (7, value) => graph = Some(message(value)?),
                (8, value) => reading.opset(message(value)?)?,
                (25, value) => functions.push(message(value)?),
                _ => {}
            }
        }
        let Some(graph) = graph else { return Err("there is no graph in it".into()) };
        if reading.outline.opset == 0 {
            return Err("it doesn't say which operators it uses (opset_import)".into());
        }
        for function in &functions {
            for field in Fields::of(function) {
                if let (10, value) = field? {
                    reading.own.insert(text(value));
                }
            }
        }
        let mut calls = Calls::default();
        for function in functions {
            reading.nodes(function, 7, 0)?;
            calls.define(function_name(function)?, take(&mut reading.called));
        }
        reading.graph(graph, 0)?;
        calls.check(&reading.called, &reading.repeated).map_err(Unusable::Refused)?;
        reading.faces(graph)?;
        for held in &mut reading.outline.floats {
            held.is_factor = reading.factors.contains(held.name.as_bytes());
        }
        Ok(reading.outline)
    }
}

/// What a function is called by.
fn function_name(function: &[u8]) -> Result<FunctionName, String> {
    let mut called = FunctionName::default();
    for field in Fields::of(function) {
        match field? {
            (1, value) => called.name = text(value),
            (10, value) => called.domain = text(value),
            _ => {}
        }
    }
    Ok(called)
}

impl<'a> Reading<'a> {
    fn opset(&mut self, message: &[u8]) -> Result<(), String> {
        let (mut domain, mut version) = (String::new(), 0);
        for field in Fields::of(message) {
            match field? {
                (1, value) => domain = text(value),
                (2, Value::Number(number)) => version = number as i64,
                _ => {}
            }
        }
        if domain.is_empty() || domain == "ai.onnx" {
            self.outline.opset = version;
        }
        Ok(())
    }

    /// Nodes and weights of a graph, and of those within it.
    fn graph(&mut self, graph: &'a [u8], depth: usize) -> Result<(), Unusable> {
        if depth > NESTED_MAX {
            let text = format!("graphs are nested more than {NESTED_MAX} deep");
            return Err(Unusable::Refused(text));
        }
        for field in Fields::of(graph) {
            match field? {
                (5, value) => {
                    let found = tensor(message(value)?)?;
                    if depth == 0 {
                        self.initializers.insert(found.name);
                    }
                    self.add(&found)?;
                }
                (15, _) => return Err(Unusable::Refused(SPARSE.to_owned())),
                _ => {}
            }
        }
        self.nodes(graph, 1, depth)
    }

    fn add(&mut self, tensor: &Tensor) -> Result<(), Unusable> {
        if tensor.is_text {
            return Err(Unusable::Refused(operators::TEXTS.to_owned()));
        }
        self.outline.parameters = self.outline.parameters.saturating_add(tensor.elements);
        self.outline.floats.extend(tensor.held(self.file));
        if let Some(kind) = tensor.float_kind() {
            let numbers = self.outline.kinds.entry(kind).or_default();
            *numbers = numbers.saturating_add(tensor.elements);
        }
        if let Some(external) = &tensor.external {
            let end = external.end()?;
            let read = self.outline.external.entry(external.location.clone()).or_default();
            *read = end.max(*read);
        }
        Ok(())
    }

    /// The nodes in the field `number` of a graph or function.
    fn nodes(&mut self, graph: &'a [u8], number: u64, depth: usize) -> Result<(), Unusable> {
        for field in Fields::of(graph) {
            if let (field, value) = field?
                && field == number
            {
                self.node(message(value)?, depth)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &'a [u8], depth: usize) -> Result<(), Unusable> {
        let (mut kind, mut domain) = (String::new(), String::new());
        let (mut attributes, mut inputs) = (Vec::new(), Vec::new());
        for field in Fields::of(node) {
            match field? {
                (1, value) => inputs.push(message(value)?),
                (4, value) => kind = text(value),
                (7, value) => domain = text(value),
                (5, value) => attributes.push(message(value)?),
                _ => {}
            }
        }
        operators::check(&kind, &domain, &self.own).map_err(Unusable::Refused)?;
        if operators::is_layer(&kind) {
            self.factors.extend(inputs);
        }
        let name = FunctionName { domain, name: kind };
        if self.repeats > 0 {
            self.repeated.insert(name.clone());
        }
        let repeats = usize::from(operators::repeats(&name.name, &name.domain));
        self.repeats += repeats;
        for attribute in attributes {
            self.attribute(attribute, &name.name, depth)?;
        }
        self.repeats -= repeats;
        self.called.push(name);
        Ok(())
    }

    /// An attribute of an operator of a kind.
    fn attribute(&mut self, attribute: &'a [u8], kind: &str, depth: usize) -> Result<(), Unusable> {
        let (mut name, mut number, mut floats) = (String::new(), None, Vec::new());
        for field in Fields::of(attribute) {
            match field? {
                (1, value) => name = text(value),
                (3, Value::Number(value)) => number = Some(value as i64),
                (2 | 7, Value::Bytes(values)) => floats.extend(values.chunks_exact(4)),
                (5 | 10, value) => {
                    let found = tensor(message(value)?)?;
                    self.add(&found)?;
                }
                (6 | 11, value) => self.graph(message(value)?, depth + 1)?,
                (22 | 23, _) => return Err(Unusable::Refused(SPARSE.to_owned())),
                _ => {}
            }
        }
        if operators::makes_texts(kind, &name, number) {
            return Err(Unusable::Refused(operators::TEXTS.to_owned()));
        }
        let is_nan = |value: &&[u8]| FloatKind::F32.value(value).is_nan();
        match name.starts_with("value_float") && floats.iter().any(is_nan) {
            true => {
                let text = "a constant of its graph is NaN: the export or the training broke";
                Err(Unusable::Refused(text.to_owned()))
            }
            false => Ok(()),
        }
    }

    /// Inputs and outputs of the graph itself.
    fn faces(&mut self, graph: &'a [u8]) -> Result<(), String> {
        for field in Fields::of(graph) {
            match field? {
                (11, value) => {
                    let found = value_info(message(value)?)?;
                    // Files of old list their weights among the inputs.
                    if !self.initializers.contains(found.name.as_bytes()) {
                        self.outline.inputs.push(found);
                    }
                }
                (12, value) => self.outline.outputs.push(value_info(message(value)?)?),
                _ => {}
            }
        }
        once("input", &self.outline.inputs)?;
        once("output", &self.outline.outputs)
    }
}

/// Runtimes take a name that is declared twice for two tensors, or for one.
fn once(kind: &str, infos: &[ValueInfo]) -> Result<(), String> {
    let mut names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map_or(Ok(()), |pair| Err(format!("it declares its {kind} '{}' twice", shorten(pair[0]))))
}

fn value_info(bytes: &[u8]) -> Result<ValueInfo, String> {
    let mut info = ValueInfo::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, value) => info.name = text(value),
            (2, value) => {
                for field in Fields::of(message(value)?) {
                    if let (1, value) = field? {
                        tensor_type(message(value)?, &mut info)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn tensor_type(bytes: &[u8], info: &mut ValueInfo) -> Result<(), String> {
    for field in Fields::of(bytes) {
        match field? {
            (1, value) => info.element = numbers(value)?.last().copied().unwrap_or(0),
            (2, value) => {
                let dims = Fields::of(message(value)?).filter_map(|field| match field {
                    Ok((1, value)) => Some(message(value).and_then(dim)),
                    Ok(_) => None,
                    Err(reason) => Some(Err(reason)),
                });
                info.dims = Some(dims.collect::<Result<_, _>>()?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A side; exporters write -1 and 0 too where it varies.
fn dim(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut side = None;
    for field in Fields::of(bytes) {
        if let (1, Value::Number(number)) = field? {
            side = Some(number as i64);
        }
    }
    match side {
        Some(side) if side > i64::from(u32::MAX) => Err(format!("a side of {side}")),
        side => Ok(side.filter(|side| *side > 0).map(|side| side as usize)),
    }
}
