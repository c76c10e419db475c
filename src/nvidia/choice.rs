//! Owns which of cuDNN's configurations computes a graph: an engine's number and its knobs, which can
//! be asked for again. Must not know: what the graph computes.
//!
//! Of the configurations that the heuristics name, none is taken that sums in an order that changes
//! from run to run or in less than float32, and one that is compiled on the spot only where there is
//! no other: its plan takes seconds, and its sums may change with the compiler.

use std::fmt;

use cudarc::cudnn::sys;
use serde::{Deserialize, Serialize};
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendBehaviorNote_t as Behavior;
use sys::cudnnBackendDescriptorType_t as Kind;
use sys::cudnnBackendNumericalNote_t as Numerical;

use super::descriptor::Descriptor;
use crate::error::{Error, Result};

/// Configurations asked of each heuristic: more than cuDNN 9.19 names for any of our graphs.
const CONFIGURATIONS: usize = 64;
/// Knobs of a configuration: more than cuDNN has kinds of.
const KNOBS_MAX: usize = 64;

/// What plans are made for.
pub(crate) enum Target {
    /// The GPU of a handle.
    Handle(sys::cudnnHandle_t),
    /// A GPU that is described, and isn't there: the tests'.
    #[cfg(test)]
    Described(Descriptor),
}

impl Target {
    /// An H200, in the words of cuDNN 9.8 and later.
    #[cfg(test)]
    pub(crate) fn h200() -> Target {
        const H200: &str = r#"{"deviceVer":900,"multiProcessorCount":132,"warpSize":32,
            "maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,
            "reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,
            "maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"regsPerBlock":65536,
            "totalGlobalMem":150000000000,"smClockRateKHz":1980000,"l2CacheSize":62914560,
            "maxBlockSize":[1024,1024,64],"memClockRateKHz":3201000,
            "maxGridSize":[2147483647,65535,65535],"supportCoopLaunch":1,"pciDeviceId":0,
            "isTccDriver":0,"cudaDeviceId":0,"driverVer":13000,"deviceName":"NVIDIA H200"}"#;
        let properties = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR).unwrap();
        let name = Attribute::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION;
        properties.set(name, Type::CUDNN_TYPE_CHAR, H200.as_bytes()).unwrap();
        Target::Described(properties.finalize().unwrap())
    }

    /// Says so to a heuristic or a plan, which name it differently.
    pub(crate) fn tell(&self, to: &Descriptor, names: [Option<Attribute>; 2]) -> Result<()> {
        match (self, names) {
            (Target::Handle(handle), [Some(name), _]) => {
                to.set(name, Type::CUDNN_TYPE_HANDLE, &[*handle]).map(|_| ())
            }
            #[cfg(test)]
            (Target::Described(properties), [_, Some(name)]) => {
                to.link(name, properties).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

/// A configuration in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Choice {
    engine: i64,
    /// Kind and value.
    knobs: Vec<(u32, i64)>,
    /// As numbers: a later cuDNN may have notes that these bindings don't know.
    numerical: Vec<u32>,
    behavior: Vec<u32>,
}

impl fmt::Display for Choice {
    /// In one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine {}, knobs", self.engine)?;
        for (kind, value) in &self.knobs {
            write!(f, " {kind}={value}")?;
        }
        write!(f, ", notes {:?}, {:?}", self.numerical, self.behavior)
    }
}

impl Choice {
    #[cfg(test)]
    pub(crate) fn new(engine: i64, knobs: Vec<(u32, i64)>) -> Choice {
        Choice { engine, knobs, numerical: Vec::new(), behavior: Vec::new() }
    }

    /// What a configuration is.
    pub(crate) fn of(configuration: &Descriptor) -> Result<Choice> {
        let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
        let descriptor = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        let name = Attribute::CUDNN_ATTR_ENGINECFG_ENGINE;
        configuration.get(name, descriptor, &mut [engine.0])?;
        let mut index = [0i64];
        let name = Attribute::CUDNN_ATTR_ENGINE_GLOBAL_INDEX;
        engine.get(name, Type::CUDNN_TYPE_INT64, &mut index)?;
        let notes = |name, kind| -> Result<Vec<u32>> {
            let mut notes = [0u32; 32];
            let count = engine.get(name, kind, &mut notes)?;
            Ok(notes[..count].to_vec())
        };
        let numerical =
            notes(Attribute::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE)?;
        let behavior =
            notes(Attribute::CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, Type::CUDNN_TYPE_BEHAVIOR_NOTE)?;

        let places = (0..KNOBS_MAX)
            .map(|_| Descriptor::new(Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR))
            .collect::<Result<Vec<_>>>()?;
        let mut raw: Vec<_> = places.iter().map(|place| place.0).collect();
        let name = Attribute::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES;
        let count = configuration.get(name, descriptor, &mut raw)?;
        let knobs = places[..count].iter().map(|knob| {
            let (mut kind, mut value) = ([0u32], [0i64]);
            let name = Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE;
            knob.get(name, Type::CUDNN_TYPE_KNOB_TYPE, &mut kind)?;
            let name = Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE;
            knob.get(name, Type::CUDNN_TYPE_INT64, &mut value)?;
            Ok((kind[0], value[0]))
        });
        Ok(Choice { engine: index[0], knobs: knobs.collect::<Result<_>>()?, numerical, behavior })
    }

    /// Whether it sums in one order and in float32, on tensor cores only where they may be.
    fn is_sound(&self, tensor_cores: bool) -> bool {
        let refused = [
            Numerical::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
            Numerical::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
            Numerical::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
        ];
        let has = |note: Numerical| self.numerical.contains(&(note as u32));
        (tensor_cores || !has(Numerical::CUDNN_NUMERICAL_NOTE_TENSOR_CORE))
            && !refused.map(has).contains(&true)
    }

    /// Whether its kernel is compiled when it is planned.
    fn is_compiled_on_the_spot(&self) -> bool {
        let note = Behavior::CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        self.behavior.contains(&(note as u32))
    }

    /// The same for another graph of the same operations; None where it doesn't suit.
    pub(crate) fn configuration(
        &self,
        target: &Target,
        graph: &Descriptor,
    ) -> Result<Option<Descriptor>> {
        let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
        engine
            .link(Attribute::CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph)?
            .sizes(Attribute::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &[self.engine])?;
        target.tell(&engine, [None, Some(Attribute::CUDNN_ATTR_ENGINE_DEVICEPROP)])?;
        let Ok(engine) = engine.finalize() else { return Ok(None) };
        let mut knobs = Vec::with_capacity(self.knobs.len());
        for (kind, value) in &self.knobs {
            let knob = Descriptor::new(Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)?;
            let name = Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE;
            knob.set(name, Type::CUDNN_TYPE_KNOB_TYPE, &[*kind])?
                .sizes(Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &[*value])?;
            knobs.push(knob.finalize()?);
        }
        let raw: Vec<_> = knobs.iter().map(|knob| knob.0).collect();
        let configuration = Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?;
        configuration.link(Attribute::CUDNN_ATTR_ENGINECFG_ENGINE, &engine)?;
        if !raw.is_empty() {
            let name = Attribute::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES;
            configuration.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &raw)?;
        }
        Ok(configuration.finalize().ok())
    }
}

/// What a heuristic suggests for a graph, best first.
fn suggested(
    target: &Target,
    graph: &Descriptor,
    mode: sys::cudnnBackendHeurMode_t,
) -> Result<Vec<Descriptor>> {
    let heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
    heuristic.link(Attribute::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)?.set(
        Attribute::CUDNN_ATTR_ENGINEHEUR_MODE,
        Type::CUDNN_TYPE_HEUR_MODE,
        &[mode],
    )?;
    target.tell(&heuristic, [None, Some(Attribute::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)])?;
    let heuristic = heuristic.finalize()?;
    let mut found = Vec::with_capacity(CONFIGURATIONS);
    for _ in 0..CONFIGURATIONS {
        found.push(Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?);
    }
    let mut raw: Vec<_> = found.iter().map(|configuration| configuration.0).collect();
    let name = Attribute::CUDNN_ATTR_ENGINEHEUR_RESULTS;
    let count = heuristic.get(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &mut raw)?;
    found.truncate(count);
    Ok(found)
}

/// The plan of a configuration; None where it doesn't suit the device.
pub(crate) fn finalized(target: &Target, configuration: &Descriptor) -> Result<Option<Descriptor>> {
    let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
    plan.link(Attribute::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration)?;
    let handle = Attribute::CUDNN_ATTR_EXECUTION_PLAN_HANDLE;
    let properties = Attribute::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP;
    target.tell(&plan, [Some(handle), Some(properties)])?;
    match plan.finalize() {
        Ok(plan) => Ok(Some(plan)),
        Err(error @ Error::OutOfMemory(_)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Offers the sound configurations for a graph with their plans, in cuDNN's order, until one is taken; of
/// those that are compiled on the spot the first, and that only where there is no other. Tensor cores round
/// factors of float32 to TF32.
///
/// # Errors
/// What `take` says; no memory; a graph that the library refuses.
pub(crate) fn offer(
    target: &Target,
    graph: &Descriptor,
    tensor_cores: bool,
    mut take: impl FnMut(Choice, Descriptor) -> Result<bool>,
) -> Result<()> {
    use sys::cudnnBackendHeurMode_t::{CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    let (mut offered, mut compiled) = (Vec::new(), Vec::new());
    for mode in [CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK] {
        for configuration in suggested(target, graph, mode)? {
            let choice = Choice::of(&configuration)?;
            if !choice.is_sound(tensor_cores) || offered.contains(&choice) {
                continue;
            }
            if choice.is_compiled_on_the_spot() {
                compiled.push((configuration, choice));
            } else if let Some(plan) = finalized(target, &configuration)? {
                offered.push(choice.clone());
                if take(choice, plan)? {
                    return Ok(());
                }
            }
        }
    }
    if !offered.is_empty() {
        return Ok(());
    }
    for (configuration, choice) in compiled {
        if let Some(plan) = finalized(target, &configuration)? {
            return take(choice, plan).map(|_| ());
        }
    }
    Ok(())
}
