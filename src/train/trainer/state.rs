//! Owns the checkpoint of a training: one file with everything a resumed run needs to give the
//! same bits as an uninterrupted one. Must not know: how a step works.
//!
//! A safetensors file whose metadata holds the counters and the sha256 of all tensors; written
//! in whole or not at all, see `checkpoints`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::container::safetensors::{Source, write};
use crate::error::{Error, Result};
use crate::train::losses::adversarial::AdversaryCounters;
use crate::train::network::parameters::Named;
use crate::train::quantizer::revival::RevivalSchedule;
use crate::train::trainer::monitor::MonitorState;
use crate::util::float_bits::Bits;
use crate::util::hex::hex;

/// The format word of a checkpoint.
pub(crate) const FORMAT: &str = "vqtok.training.v1";

/// Everything but tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Always [`FORMAT`].
    pub format: String,
    /// Model, settings and data of the run, as JSON.
    pub recipe: serde_json::Value,
    /// Steps done; also the position in the data.
    pub step: usize,
    /// Updates of the optimizer, fewer where steps were skipped.
    pub updates: u64,
    /// Updates of the weight average.
    pub average_updates: u64,
    /// Steps skipped since a loss or gradient was not finite.
    pub skipped: u64,
    /// Which of the last steps were skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_skips: Vec<u64>,
    /// Codes revived.
    pub revived: u64,
    /// Variance of the data, in the units of the network.
    #[serde(rename = "variance_bits")]
    pub variance: Bits,
    /// When codes are revived next; None before the codebook starts.
    pub revival: Option<RevivalSchedule>,
    /// The discriminator's; None without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversary: Option<AdversaryCounters>,
    /// What the monitor remembers.
    #[serde(rename = "watch", default)]
    pub monitor: MonitorState,
    /// Those of the snapshot to roll back to, whose tensors are named `snapshot.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Box<Counters>>,
    /// How much of the training record belongs to these steps.
    pub record: Lengths,
}

/// What the names of a snapshot's tensors begin with in a checkpoint.
pub(crate) const SNAPSHOT: &str = "snapshot.";

/// How much of the record belongs to a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengths {
    /// Bytes of the lines.
    pub lines: u64,
    /// Bytes of the events.
    pub events: u64,
}

/// The whole state of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Counters and recipe.
    pub counters: Counters,
    /// Flat float32 tensors: `weights.*`, `average.*`, `moment1.*`, `moment2.*`, `codebook.*`,
    /// `adversary.*`.
    pub floats: Named,
    /// Flat integers: `codebook.idle`, `codebook.window`, `codebook.window_steps`.
    pub integers: BTreeMap<String, Vec<i64>>,
}

/// One flat tensor for the writer, which takes its bytes from where the values lie.
struct Flat<'a> {
    dtype: Dtype,
    length: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Flat<'a> {
    fn of<T: bytemuck::Pod, const N: usize>(
        values: &'a [T],
        dtype: Dtype,
        little_endian: impl Fn(&T) -> [u8; N],
    ) -> Flat<'a> {
        let bytes = if cfg!(target_endian = "little") {
            Cow::Borrowed(bytemuck::cast_slice(values))
        } else {
            Cow::Owned(values.iter().flat_map(little_endian).collect())
        };
        Flat { dtype, length: values.len(), bytes }
    }
}

impl Source for Flat<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> Vec<usize> {
        vec![self.length]
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.bytes))
    }
}

/// sha256 over the counters and, by sorted name, each tensor's name, length and bytes.
fn digest<'a>(counters: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut sha = Sha256::new();
    sha.update(counters.as_bytes());
    for (name, bytes) in tensors {
        sha.update((name.len() as u64).to_le_bytes());
        sha.update(name.as_bytes());
        sha.update((bytes.len() as u64).to_le_bytes());
        sha.update(bytes);
    }
    hex(sha.finalize())
}

/// What the metadata's one entry holds (one, since several would be written in random order).
#[derive(Serialize, Deserialize)]
struct Envelope {
    counters: String,
    sha256: String,
}

const ENTRY: &str = "vqtok";

impl State {
    /// Writes it tensor by tensor: a network's state is large, and no second copy of it is made.
    /// Equal states give equal bytes. `path` is for messages.
    ///
    /// # Errors
    /// What `out` refuses.
    pub(crate) fn write(&self, out: &mut impl Write, path: &Path) -> Result<()> {
        let mut tensors: BTreeMap<&str, Flat> = BTreeMap::new();
        for (name, values) in &self.floats {
            tensors.insert(name, Flat::of(values, Dtype::F32, |v| v.to_le_bytes()));
        }
        for (name, values) in &self.integers {
            tensors.insert(name, Flat::of(values, Dtype::I64, |v| v.to_le_bytes()));
        }
        let failed = |e: &dyn std::fmt::Display| {
            Error::invalid(format!("the training's state can't be written: {e}"))
        };
        let counters = serde_json::to_string(&self.counters).map_err(|e| failed(&e))?;
        let sha256 = digest(&counters, tensors.iter().map(|(n, t)| (*n, &*t.bytes)));
        let envelope =
            serde_json::to_string(&Envelope { counters, sha256 }).map_err(|e| failed(&e))?;
        write(&tensors, (ENTRY, &envelope), out, |e| Error::io(path)(e))
    }

    /// Reads what [`State::write`] wrote, checking the digest.
    ///
    /// # Errors
    /// Why the bytes are no such file, in words.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<State, String> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let entry = metadata.metadata().as_ref().and_then(|m| m.get(ENTRY));
        let entry = entry.ok_or("not written by vqtok")?;
        let envelope: Envelope = serde_json::from_str(entry).map_err(|e| e.to_string())?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let mut views: BTreeMap<String, _> = tensors.tensors().into_iter().collect();
        let sha256 = digest(&envelope.counters, views.iter().map(|(n, t)| (n.as_str(), t.data())));
        if sha256 != envelope.sha256 {
            return Err("its sha256 differs: the file is damaged".into());
        }
        let counters: Counters =
            serde_json::from_str(&envelope.counters).map_err(|e| e.to_string())?;
        if counters.format != FORMAT {
            return Err(format!("format {}, this program has {FORMAT}", counters.format));
        }
        let (mut floats, mut integers) = (Named::new(), BTreeMap::new());
        while let Some((name, view)) = views.pop_first() {
            match view.dtype() {
                Dtype::F32 => {
                    let values =
                        view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
                    floats.insert(name, values.collect());
                }
                _ => {
                    let values =
                        view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b));
                    integers.insert(name, values.collect());
                }
            }
        }
        Ok(State { counters, floats, integers })
    }

    /// Takes in another state's tensors under names that begin with `prefix`.
    pub fn nest(&mut self, prefix: &str, other: &State) {
        let longer = |name: &String| format!("{prefix}{name}");
        self.floats.extend(other.floats.iter().map(|(n, v)| (longer(n), v.clone())));
        self.integers.extend(other.integers.iter().map(|(n, v)| (longer(n), v.clone())));
    }

    /// What [`State::nest`] took in.
    pub fn nested(&self, prefix: &str) -> (Named, BTreeMap<String, Vec<i64>>) {
        (behind(&self.floats, prefix), behind(&self.integers, prefix))
    }

    /// The tensors whose names begin with `prefix`, without it.
    pub fn part(&self, prefix: &str) -> Named {
        behind(&self.floats, prefix)
    }
}

/// The entries whose names begin with `prefix`, without it.
fn behind<T: Clone>(map: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    map.iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_string(), value.clone())))
        .collect()
}

/// A value as it comes back from a file, so that it equals one that did.
pub(crate) fn through_text(value: &serde_json::Value) -> serde_json::Value {
    serde_json::from_str(&value.to_string()).unwrap_or(serde_json::Value::Null)
}

#[cfg(test)]
pub(crate) mod tests;
