//! Owns encoding a sample of an output again, by other arithmetic: which tokens change, and how near
//! to changing they were. Must not know: how engines compute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::codes::Codes;
use super::events::{Event, Observer};
use super::sampled::{Sample, SampledRow, Unusable};
use super::tokenizer::Tokenizer;
use crate::checkpoint::recognise::detect;
use crate::data::prepare::Pixels;
use crate::engine::reference::{Latents, Reference};
use crate::engine::{self, DeviceChoice, PixelBatch, Precision};
use crate::error::{Error, Reject, Result, Stage};
use crate::findings::{Margins, NotCompared, PrecisionFindings, TokenPair};
use crate::model::config::{Architecture, QuantizerRule};
use crate::util::settings::PRECISION_AUDIT;
use crate::util::text;

/// What computes tokens again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EngineChoice {
    /// vqtok's own engine on the processor, which tokenizes by default: float32.
    Cpu,
    /// The reference that it is tested against, on the processor: float32, sums in another order.
    Reference,
    /// An NVIDIA GPU.
    Cuda(Precision),
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineChoice::Cpu => f.write_str("cpu f32"),
            EngineChoice::Reference => f.write_str("reference f32"),
            EngineChoice::Cuda(precision) => write!(f, "cuda {precision}"),
        }
    }
}

impl EngineChoice {
    /// # Errors
    /// Where it isn't there.
    pub(super) fn require(self) -> Result<()> {
        match self {
            EngineChoice::Cuda(precision) => engine::require(DeviceChoice::Cuda(0), precision)
                .map_err(|error| {
                    Error::setting(PRECISION_AUDIT, format!("{self} can't be computed: {error}"))
                }),
            _ => Ok(()),
        }
    }
}

/// Multiplications that margins of tokens in general may take.
const COST_MAX: u64 = 1 << 34;
/// Changed tokens of a pair whose margins are looked at.
const CHANGED_MAX: usize = 1 << 14;
/// Rows that are named.
const NAMED: usize = 100;

/// The work of an audit of precision.
struct Work<'a> {
    engines: Vec<(EngineChoice, Option<Tokenizer>)>,
    reference: Reference,
    tokenizer: &'a mut Tokenizer,
    found: PrecisionFindings,
    /// By pair, margins of what changed.
    changed: Vec<Vec<f32>>,
    /// Of every so many-th token.
    margins: Option<Vec<f32>>,
    stride: usize,
    /// Tokens so far.
    seen: usize,
}

/// What is stored of an image, and behind it what each engine computed.
struct Row {
    codes: Vec<Codes>,
    /// Its place in the reference's batch.
    at: usize,
}

/// Encodes the sample by each of `engines`.
///
/// # Errors
/// An engine that isn't there; a model without encoder; an interrupt.
pub(super) fn audit(
    sample: &Sample,
    engines: &[EngineChoice],
    tokenizer: &mut Tokenizer,
    observer: &mut dyn Observer,
) -> Result<PrecisionFindings> {
    tokenizer.require_encoder()?;
    let stage = "precision";
    observer.event(&Event::Begin { stage, images: sample.rows.len() as u64 });
    let together = tokenizer.images_together(&sample.preparation);
    let mut work = Work::new(sample, engines, tokenizer)?;
    for rows in sample.rows.chunks(together) {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let mut sizes: BTreeMap<(usize, usize), (Vec<&SampledRow>, Vec<Pixels>)> = BTreeMap::new();
        for (row, pixels) in rows.iter().zip(sample.pixels(rows)?) {
            observer.event(&Event::Audited);
            match pixels {
                Ok(pixels) => {
                    let of = sizes.entry((pixels.height, pixels.width)).or_default();
                    of.0.push(row);
                    of.1.push(pixels);
                }
                Err(why) => work.pass_over(&row.key, why.in_words()),
            }
        }
        for (rows, pixels) in sizes.into_values() {
            work.take(&rows, pixels, sample.preparation.channels)?;
        }
    }
    Ok(work.finish())
}

/// What is stored with each engine, then the first engine with each other.
fn pairs(names: impl Iterator<Item = String> + Clone) -> Vec<TokenPair> {
    let pair = |a: &str, b| {
        let (a, changed, changed_images, margins) = (a.to_string(), 0, 0, None);
        TokenPair { a, b, changed, changed_images, margins }
    };
    let first = names.clone().next().unwrap_or_default();
    let with_stored = names.clone().map(|name| pair("stored", name));
    with_stored.chain(names.skip(1).map(|name| pair(&first, name))).collect()
}

impl<'a> Work<'a> {
    fn new(
        sample: &Sample,
        engines: &[EngineChoice],
        tokenizer: &'a mut Tokenizer,
    ) -> Result<Work<'a>> {
        let options = tokenizer.options.clone();
        if matches!(tokenizer.config().architecture, Architecture::Onnx(_)) {
            return Err(Error::setting(
                PRECISION_AUDIT,
                format!(
                    "{} is a model in ONNX files, which run on ONNX Runtime alone; give the checkpoint \
                     that they were made of",
                    text::path(&tokenizer.path)
                ),
            ));
        }
        let opened = options.detect(|options| detect::begin(&tokenizer.path, options))?;
        let reference = Reference::open(opened)?;
        let engines: BTreeSet<EngineChoice> = engines.iter().copied().collect();
        let open = |engine| match engine {
            EngineChoice::Cuda(precision) => {
                let options = options.clone().device(DeviceChoice::Cuda(0)).precision(precision);
                Ok((engine, Some(options.open(&tokenizer.model)?)))
            }
            _ => Ok((engine, None)),
        };
        let engines: Vec<_> = engines.into_iter().map(open).collect::<Result<_>>()?;
        let mut found = PrecisionFindings {
            stored_by: sample.made_by.as_ref().map(|[device, how]| format!("{device} {how}")),
            ..PrecisionFindings::default()
        };
        found.pairs = pairs(engines.iter().map(|(engine, _)| engine.to_string()));
        let quantizer = &reference.config().quantizer;
        let values = quantizer.values();
        let tokens = |row: &SampledRow| -> u64 {
            row.codes.levels.iter().map(|level| (level.codes.len() / values) as u64).sum()
        };
        // Signs are looked at by themselves.
        let signs = matches!(quantizer.rule, QuantizerRule::Sign | QuantizerRule::SignHigh);
        let codes = if signs { 1 } else { quantizer.codes as u64 };
        let cost =
            sample.rows.iter().map(tokens).sum::<u64>() * (codes * quantizer.dim as u64).max(1);
        let changed = found.pairs.iter().map(|_| Vec::new()).collect();
        Ok(Work {
            engines,
            reference,
            tokenizer,
            found,
            changed,
            margins: Some(Vec::new()),
            stride: cost.div_ceil(COST_MAX).max(1) as usize,
            seen: 0,
        })
    }

    fn pass_over(&mut self, key: &str, reason: String) {
        self.found.not_compared += 1;
        if self.found.reasons.len() < NAMED {
            self.found.reasons.push(NotCompared { key: key.to_string(), reason });
        }
    }

    /// Takes images of one size.
    fn take(&mut self, rows: &[&SampledRow], pixels: Vec<Pixels>, channels: usize) -> Result<()> {
        let size = pixels.first().map_or((0, 0), |pixels| (pixels.height, pixels.width));
        if let Err(why) = self.tokenizer.engine.grid(size.0, size.1) {
            rows.iter().for_each(|row| self.pass_over(&row.key, why.clone()));
            return Ok(());
        }
        let batch = PixelBatch {
            pixels: pixels.iter().flat_map(|pixels| pixels.bytes.iter().copied()).collect(),
            count: pixels.len(),
            height: size.0,
            width: size.1,
            channels,
        };
        let (encoded, latents) = self.reference.encode(&batch)?;
        let pixels: Vec<_> = pixels.into_iter().map(Ok).collect();
        let mut outcomes: Vec<Vec<Result<Codes, Reject>>> = Vec::new();
        for (engine, opened) in &mut self.engines {
            outcomes.push(match (engine, opened) {
                (EngineChoice::Reference, _) => {
                    let failed: BTreeMap<_, _> = encoded.failed.iter().cloned().collect();
                    let of = |at| match failed.get(&at) {
                        Some(reason) => Err(Reject::new(Stage::Encode, reason.clone())),
                        None => Ok(Codes::of(&encoded, at)),
                    };
                    (0..encoded.count).map(of).collect()
                }
                (_, Some(opened)) => opened.encode_prepared(&pixels, channels)?,
                (_, None) => self.tokenizer.encode_prepared(&pixels, channels)?,
            });
        }
        let mut usable = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let stored = std::iter::once(Ok(row.codes.clone()));
            let codes = stored.chain(outcomes.iter().map(|of| of[at].clone()));
            match codes.collect::<Result<Vec<Codes>, Reject>>() {
                Ok(codes) if codes.iter().all(|other| other.shape() == codes[0].shape()) => {
                    usable.push(Row { codes, at });
                }
                Ok(_) => self.pass_over(&row.key, "stored with grids of other sizes".into()),
                Err(reject) => self.pass_over(&row.key, Unusable::Failed(reject).in_words()),
            }
        }
        self.count(&usable, &latents)
    }

    /// Counts what differs, and looks at margins.
    fn count(&mut self, rows: &[Row], latents: &Latents) -> Result<()> {
        let engines = self.engines.len();
        let with_stored = (1..=engines).map(|engine| (0, engine));
        let pairs: Vec<_> = with_stored.chain((2..=engines).map(|engine| (1, engine))).collect();
        let levels = rows.first().map_or(0, |row| row.codes[0].levels.len());
        // A token may be a list of bits.
        let values = self.reference.config().quantizer.values();
        let mut general = vec![Vec::new(); levels];
        for row in rows {
            self.found.images += 1;
            for (general, level) in general.iter_mut().zip(&row.codes[0].levels) {
                let tokens = level.codes.len() / values;
                let every =
                    (0..tokens).filter(|token| (self.seen + token).is_multiple_of(self.stride));
                general.extend(every.map(|token| row.at * tokens + token));
                self.found.tokens += tokens as u64;
                self.seen += tokens;
            }
        }
        let mut changed = Vec::new();
        for (at, &(a, b)) in pairs.iter().enumerate() {
            let mut of_pair = vec![Vec::new(); levels];
            for row in rows {
                let before: usize = of_pair.iter().map(Vec::len).sum();
                let grids = row.codes[a].levels.iter().zip(&row.codes[b].levels);
                for (of_level, (a, b)) in of_pair.iter_mut().zip(grids) {
                    let first = row.at * a.codes.len() / values;
                    let codes = a.codes.chunks(values).zip(b.codes.chunks(values)).enumerate();
                    of_level.extend(codes.filter(|(_, (a, b))| a != b).map(|(at, _)| first + at));
                }
                let after: usize = of_pair.iter().map(Vec::len).sum();
                self.found.pairs[at].changed += (after - before) as u64;
                self.found.pairs[at].changed_images += u64::from(after > before);
            }
            let room = CHANGED_MAX.saturating_sub(self.changed[at].len()) / levels.max(1);
            of_pair.iter_mut().for_each(|of_level| of_level.truncate(room));
            changed.push(of_pair);
        }
        self.look(latents, &general, &changed)
    }

    /// Takes the margins of tokens in general, and by pair of those that changed.
    fn look(
        &mut self,
        latents: &Latents,
        general: &[Vec<usize>],
        changed: &[Vec<Vec<usize>>],
    ) -> Result<()> {
        let wanted = |level: usize| -> Vec<usize> {
            let changed = changed.iter().flat_map(|of_pair| &of_pair[level]);
            let all: BTreeSet<usize> = general[level].iter().chain(changed).copied().collect();
            all.into_iter().collect()
        };
        let wanted: Vec<Vec<usize>> = (0..general.len()).map(wanted).collect();
        let Some(margins) = self.reference.margins(latents, &wanted)? else {
            self.margins = None;
            return Ok(());
        };
        let of = |tokens: &[Vec<usize>]| -> Vec<f32> {
            let mut found = Vec::new();
            for ((tokens, wanted), margins) in tokens.iter().zip(&wanted).zip(&margins) {
                // All of them are among those that were wanted.
                let at = tokens.iter().filter_map(|token| wanted.binary_search(token).ok());
                found.extend(at.map(|at| margins[at]));
            }
            found
        };
        if let Some(all) = &mut self.margins {
            all.extend(of(general));
        }
        self.changed.iter_mut().zip(changed).for_each(|(all, tokens)| all.extend(of(tokens)));
        Ok(())
    }

    fn finish(self) -> PrecisionFindings {
        let mut found = self.found;
        match self.margins {
            Some(margins) => {
                found.margins = Margins::of(margins);
                for (pair, changed) in found.pairs.iter_mut().zip(self.changed) {
                    pair.margins = Margins::of(changed);
                }
            }
            None => {
                let rule = self.reference.config().quantizer.rule;
                found.no_margins = Some(match self.reference.config().levels() {
                    2.. if self.reference.config().quantizer.depth == 1 => {
                        "grids of two codebooks: margins aren't told".into()
                    }
                    _ => format!("the quantizer's rule, {rule}, has no distances between codes"),
                });
            }
        }
        found
    }
}
