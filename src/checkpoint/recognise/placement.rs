//! Owns where each published weight goes: its place in the model, or the reason why it has none.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys::{AVERAGES, KeyLayout};
use super::made::Made;
use super::provenance::AveragesUse;
use super::sets::Chosen;
use super::{made, validate};
use crate::checkpoint::raw::RawCheckpoint;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig};
use crate::util::settings::Setting;
use crate::util::text::printable;
use crate::weights::store::Weights;

/// Where a published weight goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The published name whose values are taken.
    pub source: String,
    /// Shape in the model, which differs from the published one where a 1x1 convolution was
    /// published as a linear layer.
    pub shape: Vec<usize>,
    /// What is made of them.
    pub made: Made,
}

impl Placement {
    /// Every published name whose values are taken.
    pub fn sources(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.source).chain(self.made.others())
    }
}

/// A checkpoint understood.
#[derive(Debug, Clone)]
pub struct Detected {
    /// Configuration, with everything assumed in `provenance`.
    pub config: ModelConfig,
    /// By canonical name.
    pub placements: BTreeMap<String, Placement>,
    /// Published names that are left out, with the reason.
    pub ignored: BTreeMap<String, String>,
}

impl Detected {
    /// Moves published tensors to their canonical places.
    ///
    /// # Errors
    /// A tensor that is missing or doesn't have the model's number of values; a codebook of one
    /// code many times.
    pub fn place(&self, raw: &RawCheckpoint) -> Result<Weights> {
        let mut placed = BTreeMap::new();
        let mut published = BTreeMap::new();
        for (name, placement) in &self.placements {
            let tensor = made::tensor(placement, &raw.tensors).map_err(|reason| {
                Error::invalid(format!("`{}`: {reason}", printable(&placement.source)))
            })?;
            validate::refuse_values(name, &placement.source, &tensor)?;
            if *name != placement.source {
                published.insert(name.clone(), placement.source.clone());
            }
            placed.insert(name.clone(), tensor);
        }
        // Of several files, the folder that they lie in.
        let place = match &raw.files[..] {
            [(file, _)] => file.as_path(),
            files => files.first().and_then(|(file, _)| file.parent()).unwrap_or(Path::new("")),
        };
        Ok(Weights::from(placed).read_from(place, published))
    }

    /// Takes out of the encoder the attention that open-muse has weights for and doesn't run: that
    /// of levels which have only one.
    pub(super) fn drop_lone_attention(&mut self) {
        let Architecture::Vqgan(config) = &mut self.config.architecture else { return };
        if config.res_blocks != 1 || !config.parts.encoder() {
            return;
        }
        let own = config.decoder();
        config.attention.iter_mut().for_each(|attention| *attention = false);
        config.decoder = config.parts.decoder().then_some(own);
        let lone = |name: &str| name.starts_with("encoder.down.") && name.contains(".attn.");
        let names: Vec<String> = self.placements.keys().filter(|n| lone(n)).cloned().collect();
        for name in names {
            if let Some(placement) = self.placements.remove(&name) {
                let reason = "open-muse doesn't run a level's only attention";
                self.ignored.insert(placement.source, reason.to_owned());
            }
        }
    }
}

/// The chosen weights of a checkpoint on the way to their places.
pub(super) struct Placing<'a> {
    /// Of every tensor of the file, by its name there.
    shapes: &'a BTreeMap<String, Vec<usize>>,
    /// Own names (without prefix and wrappers) to those in the file.
    published: BTreeMap<String, String>,
    /// Shapes of the model's weights by their own names.
    pub own: BTreeMap<String, Vec<usize>>,
    /// LitEma's averages: own names without dots to those in the file.
    averages: BTreeMap<String, String>,
    /// What was placed until now.
    pub averages_use: AveragesUse,
    /// By canonical name.
    pub placements: BTreeMap<String, Placement>,
    /// Names in the file that are left out, with the reason.
    pub ignored: BTreeMap<String, String>,
}

impl<'a> Placing<'a> {
    /// Of a chosen set among `shapes`; `setting` is what chose it.
    ///
    /// # Errors
    /// Where averages were asked for and aren't there.
    pub(super) fn of(
        shapes: &'a BTreeMap<String, Vec<usize>>,
        chosen: Chosen,
        setting: Setting,
    ) -> Result<Placing<'a>> {
        let Chosen { prefix, names: published, others: mut ignored, averages: asked, .. } = chosen;
        let mut own = BTreeMap::new();
        for (name, full) in &published {
            match validate::reason_to_ignore(name) {
                Some(reason) => drop(ignored.insert(full.clone(), reason.to_owned())),
                None => drop(own.insert(name.clone(), shapes[full].clone())),
            }
        }
        let prefix_of_averages = format!("{AVERAGES}.");
        // LitEma's names have no dots; wrappers left their parts in them.
        let averages: BTreeMap<String, String> = published
            .iter()
            .filter_map(|(name, full)| Some((name.strip_prefix(&prefix_of_averages)?, full)))
            .map(|(name, full)| (name.replace("_orig_mod", ""), full.clone()))
            .collect();
        if asked == Some(true) && averages.is_empty() {
            return Err(Error::invalid(format!(
                "{setting} {AVERAGES}: there are no moving averages under `{prefix}{AVERAGES}.`"
            )));
        }
        let averages_use = AveragesUse { there: averages.len(), asked, ..AveragesUse::default() };
        let placements = BTreeMap::new();
        Ok(Placing { shapes, published, own, averages, averages_use, placements, ignored })
    }

    /// Leaves out weights of a family that take no part in its mathematics.
    pub(super) fn leave_out(&mut self, layout: KeyLayout) {
        let any = |stem: &str| self.own.keys().any(|name| name.starts_with(stem));
        let (encoder, decoder) = (any("encoder."), any("decoder."));
        let of_encoder = ["quant_conv.", "pre_quant.", "quantize.proj."];
        for name in self.own.keys() {
            let starts = |stem: &&str| name.starts_with(stem);
            let reason = if starts(&"post_quant") && !decoder {
                "it belongs to a decoder, which isn't here"
            } else if of_encoder.iter().any(&starts) && !encoder {
                "it belongs to an encoder, which isn't here"
            } else if constants(layout, name) {
                "constants of the codes"
            } else {
                continue;
            };
            self.ignored.insert(self.published[name].clone(), reason.to_owned());
        }
    }

    /// Places every weight that isn't left out under its name in `canonical`, by own names;
    /// `averaged` says whether moving averages replace the live weights, unless the user did.
    ///
    /// # Errors
    /// Where an average has another shape than its weight, or two weights have one place.
    pub(super) fn place(
        &mut self,
        canonical: BTreeMap<String, String>,
        averaged: bool,
    ) -> Result<()> {
        let averaged = self.averages_use.asked.unwrap_or(averaged);
        for (name, canonical) in canonical {
            let full = self.published[&name].clone();
            if self.ignored.contains_key(&full) {
                continue;
            }
            let source = match self.averages.get(&name.replace('.', "")).filter(|_| averaged) {
                Some(average) => {
                    let average = average.clone();
                    self.check_average(&full, &average, &self.own[&name])?;
                    self.ignored.remove(&average);
                    self.ignored.insert(full, format!("`{average}` is used in its place"));
                    self.averages_use.used += 1;
                    average
                }
                None => {
                    self.averages_use.live += 1;
                    full
                }
            };
            let shape = model_shape(&canonical, &self.own[&name]);
            let placement = Placement { source, shape, made: Made::AsItIs };
            if let Some(other) = self.placements.insert(canonical.clone(), placement) {
                return Err(Error::invalid(format!(
                    "`{}` and `{}` both mean `{}`",
                    printable(&name),
                    printable(&other.source),
                    printable(&canonical)
                )));
            }
        }
        Ok(())
    }

    /// Errors where an average can't replace its weight.
    fn check_average(&self, live: &str, average: &str, shape: &[usize]) -> Result<()> {
        match &self.shapes[average] {
            same if same == shape => Ok(()),
            other => Err(Error::invalid(format!(
                "the moving average `{}` has shape {other:?} where `{}` has {shape:?}; the \
                 checkpoint is damaged",
                printable(average),
                printable(live),
            ))),
        }
    }

    /// Shapes in the model by canonical name.
    pub(super) fn canonical_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.placements.iter().map(|(name, p)| (name.clone(), p.shape.clone())).collect()
    }
}

/// Whether a name is that of what follows from the rule of the codes, or of their levels, which are
/// read as settings.
fn constants(layout: KeyLayout, name: &str) -> bool {
    match layout {
        KeyLayout::OpenMagvit2 | KeyLayout::ShowO => name.starts_with("quantize."),
        KeyLayout::Infinity => name.starts_with("quantizer.") || name.starts_with("quantize."),
        KeyLayout::MaskBit => matches!(name, "quantize.codebook" | "quantize.bits_to_indices"),
        KeyLayout::Cosmos => {
            name.starts_with("quantizer.")
                || name.starts_with("inv_quant.quantizer.")
                || name.ends_with("patcher._arange")
        }
        _ => false,
    }
}

/// 1x1 convolutions that were published as linear layers get their kernel's axes back.
fn model_shape(canonical: &str, shape: &[usize]) -> Vec<usize> {
    let projection = ["q.weight", "k.weight", "v.weight", "proj_out.weight"];
    let attention = canonical.contains(".attn.") || canonical.contains(".mid.attn_1.");
    let leaf = |name: &str| canonical.ends_with(&format!(".{name}"));
    match shape {
        [out, input] if attention && projection.iter().any(|name| leaf(name)) => {
            vec![*out, *input, 1, 1]
        }
        _ => shape.to_vec(),
    }
}
